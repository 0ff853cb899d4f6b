//! The six severities of the payload: `log`'s five levels and Python's CRITICAL.

use log::Level;

/// How severe a record is, as the payload spells it.
#[doc(hidden)]
#[allow(missing_docs)] // Public for what macros expand to, and no part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Severity {
    /// In the order of the variants.
    pub(crate) const ALL: [Severity; 6] =
        [Severity::Trace, Severity::Debug, Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];

    /// The spelling in the payload, which is the Python sink's.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Severity::Trace => "trace",
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }

    /// The level that filters it: `log` knows nothing above ERROR.
    pub(crate) fn level(self) -> Level {
        match self {
            Severity::Trace => Level::Trace,
            Severity::Debug => Level::Debug,
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warn,
            Severity::Error | Severity::Critical => Level::Error,
        }
    }
}

impl From<Level> for Severity {
    fn from(level: Level) -> Severity {
        match level {
            Level::Trace => Severity::Trace,
            Level::Debug => Severity::Debug,
            Level::Info => Severity::Info,
            Level::Warn => Severity::Warning,
            Level::Error => Severity::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_filters_as_error_and_is_spelled_critical() {
        assert_eq!(Severity::Critical.level(), Level::Error);
        assert_eq!(Severity::Critical.as_str(), "critical");
    }

    #[test]
    fn every_level_comes_back_from_its_severity() {
        for level in Level::iter() {
            assert_eq!(Severity::from(level).level(), level);
        }
    }
}
