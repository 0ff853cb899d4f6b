//! Why a connection ended, in our words.

use crate::error::StartupErrorKind;

#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) words: String,
    /// The class it has for a start-up check, where it is more than an unreachable broker.
    pub(super) kind: Option<StartupErrorKind>,
    /// The broker is older than the wire producer's protocol.
    pub(super) too_old: bool,
    /// Nothing was under way, so nothing is wrong.
    pub(super) idle: bool,
}

impl Trouble {
    pub(super) fn new(words: impl Into<String>) -> Trouble {
        Trouble { words: words.into(), kind: None, too_old: false, idle: false }
    }

    pub(super) fn of_kind(kind: StartupErrorKind, words: impl Into<String>) -> Trouble {
        Trouble { kind: Some(kind), ..Trouble::new(words) }
    }

    pub(super) fn idle() -> Trouble {
        Trouble { idle: true, ..Trouble::new("an idle connection was closed") }
    }
}

/// A peer's words for a text of ours: no line of their own, and an end.
pub(super) fn said(words: &str) -> String {
    const LONGEST: usize = 500;
    words.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}
