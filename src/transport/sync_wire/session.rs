//! The idempotent producer's session: the id and epoch under which batches are numbered.

use super::records::Producer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// Batches are not numbered.
    Off,
    /// One is to be asked for, once nothing is under way. The current id lets the broker raise its epoch, which shuts out
    /// what may still be on its way under the old one.
    Wanted { current: Option<(i64, i16)> },
    Asked { connection: usize, current: Option<(i64, i16)> },
    Open { id: i64, epoch: i16 },
}

impl Session {
    /// Under which batches go out now; none while there is no session yet.
    pub(super) fn producer(&self) -> Option<Producer> {
        match *self {
            Session::Off => Some(Producer::NONE),
            Session::Open { id, epoch } => Some(Producer { id, epoch, base_sequence: 0 }),
            Session::Wanted { .. } | Session::Asked { .. } => None,
        }
    }

    /// The sequence of some partition cannot be gone on with.
    pub(super) fn start_over(&mut self) {
        if let Session::Open { id, epoch } = *self {
            *self = Session::Wanted { current: Some((id, epoch)) };
        }
    }

    /// The connection that was asked is no more.
    pub(super) fn lose(&mut self, lost: usize) {
        if let Session::Asked { connection, current } = *self
            && connection == lost
        {
            *self = Session::Wanted { current };
        }
    }
}
