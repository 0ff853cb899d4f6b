//! What `init` and `build` can say.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::Transport;

/// Why a logger could not be set up.
///
/// Nothing is left behind when one is returned: no global logger, no connection, and no thread but one that may still
/// be inside a call of the `kafka` crate and ends with it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoggerError {
    /// The transport asked for, or what an option needs, is not compiled into this build.
    Dependency(LoggerDependencyError),
    /// An option, or a combination of options, that cannot work.
    Config(LoggerConfigError),
    /// `init` succeeded earlier in this process, or another crate has installed its logger.
    AlreadyInitialized,
    /// [`Startup::Check`](crate::Startup::Check) found that records cannot be delivered.
    Startup(StartupError),
    /// The directory of the [`Spool`](crate::Spool) cannot be used.
    Spool(SpoolError),
}

impl fmt::Display for LoggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoggerError::Dependency(error) => error.fmt(f),
            LoggerError::Config(error) => error.fmt(f),
            LoggerError::AlreadyInitialized => f.write_str(
                "a global logger is already installed: `init` works once a process, and not beside another crate's \
                 logger; use `Config::build` to nest this one in it",
            ),
            LoggerError::Startup(error) => error.fmt(f),
            LoggerError::Spool(error) => error.fmt(f),
        }
    }
}

// The members print themselves above, so none of them is a `source` too: no report prints a text twice.
impl Error for LoggerError {}

impl From<LoggerDependencyError> for LoggerError {
    fn from(error: LoggerDependencyError) -> LoggerError {
        LoggerError::Dependency(error)
    }
}

impl From<LoggerConfigError> for LoggerError {
    fn from(error: LoggerConfigError) -> LoggerError {
        LoggerError::Config(error)
    }
}

impl From<StartupError> for LoggerError {
    fn from(error: StartupError) -> LoggerError {
        LoggerError::Startup(error)
    }
}

impl From<SpoolError> for LoggerError {
    fn from(error: SpoolError) -> LoggerError {
        LoggerError::Spool(error)
    }
}

/// A transport, or what an option needs, that was asked for and is not compiled in.
///
/// Its text names the missing Cargo feature and the line of Cargo.toml that brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggerDependencyError {
    wanted: Missing,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Async,
    Sync,
    AnyTransport,
    /// What an option needs, with the transport in use.
    Tls(Needs, Transport),
    Zstd(Transport),
    Spool(Transport),
}

/// What needs encryption to be compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Tls,
    /// A mechanism that librdkafka has from OpenSSL.
    Mechanism(&'static str),
}

impl LoggerDependencyError {
    pub(crate) fn new(wanted: Missing) -> LoggerDependencyError {
        LoggerDependencyError { wanted }
    }

    /// The Cargo feature to switch on. Without any transport it is `"async"`, the default one.
    pub fn feature(&self) -> &'static str {
        match self.wanted {
            Missing::Async | Missing::AnyTransport => "async",
            Missing::Sync => "sync",
            Missing::Tls(..) => "tls",
            Missing::Zstd(_) => "zstd",
            Missing::Spool(_) => "spool",
        }
    }
}

impl fmt::Display for LoggerDependencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        let line = |transport, more: &str| match transport {
            Transport::Sync => format!(
                "kafka_log = {{ version = \"{VERSION}\", default-features = false, features = [\"sync\"{more}] }}"
            ),
            _ => format!("kafka_log = {{ version = \"{VERSION}\", features = [\"async\"{more}] }}"),
        };
        let (async_line, sync_line) = (line(Transport::Async, ""), line(Transport::Sync, ""));
        match self.wanted {
            Missing::Async => write!(
                f,
                "the async transport is not compiled in: enable the feature `async` (librdkafka) in Cargo.toml: {async_line}"
            ),
            Missing::Sync => write!(
                f,
                "the sync transport is not compiled in: enable the feature `sync` (pure Rust) in Cargo.toml: {sync_line}"
            ),
            Missing::AnyTransport => write!(
                f,
                "no transport is compiled in: enable the feature `async` (librdkafka) in Cargo.toml: {async_line} \
                 or the feature `sync` (pure Rust, no C compiler): {sync_line}"
            ),
            Missing::Tls(needs, transport) => {
                match needs {
                    Needs::Tls => f.write_str("the option `tls` needs what is not compiled in")?,
                    Needs::Mechanism(name) => {
                        write!(f, "the option `sasl` needs for {name} what is not compiled in")?;
                    }
                }
                let library = if transport == Transport::Sync { "rustls" } else { "OpenSSL" };
                write!(f, ": enable the feature `tls` ({library}) in Cargo.toml: {}", line(transport, ", \"tls\""))
            }
            Missing::Zstd(transport) => write!(
                f,
                "the option `compression` needs for Zstd what is not compiled in: enable the feature `zstd` in \
                 Cargo.toml: {}",
                line(transport, ", \"zstd\"")
            ),
            Missing::Spool(transport) => write!(
                f,
                "the option `spool` needs what is not compiled in: enable the feature `spool` in Cargo.toml: {}",
                line(transport, ", \"spool\"")
            ),
        }
    }
}

impl Error for LoggerDependencyError {}

/// An option that cannot work as it was set.
///
/// Its text names the option, what was wrong and what would be right; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggerConfigError {
    option: Cow<'static, str>,
    /// Where the option stands, if not in the program.
    place: Option<String>,
    problem: String,
}

impl LoggerConfigError {
    pub(crate) fn new(option: &'static str, problem: impl Into<String>) -> LoggerConfigError {
        LoggerConfigError { option: option.into(), place: None, problem: problem.into() }
    }

    /// A problem of a file, or of a line in it.
    pub(crate) fn in_file(place: String, problem: impl Into<String>) -> LoggerConfigError {
        LoggerConfigError { option: "from_path".into(), place: Some(place), problem: problem.into() }
    }

    /// A problem of an environment variable.
    pub(crate) fn in_variable(name: String, problem: impl Into<String>) -> LoggerConfigError {
        let place = Some(format!("environment variable `{name}`"));
        LoggerConfigError { option: name.into(), place, problem: problem.into() }
    }

    /// The option's name, as its setter is called; the variable's name for one of the environment, and `from_path` for
    /// what is wrong with a file.
    pub fn option(&self) -> &str {
        &self.option
    }
}

impl fmt::Display for LoggerConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.problem),
            None => write!(f, "option `{}`: {}", self.option, self.problem),
        }
    }
}

impl Error for LoggerConfigError {}

/// What [`Startup::Check`](crate::Startup::Check) found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartupError {
    kind: StartupErrorKind,
    detail: String,
}

/// The classes of [`StartupError`], for programs that decide by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartupErrorKind {
    /// No broker answered in the time given.
    Unreachable,
    /// A broker answered that the topic does not exist, and it does not create topics by itself.
    UnknownTopic,
    /// A broker answered, and does not speak the protocol of the client in use.
    UnsupportedBroker,
    /// A broker answered and refused, for want of rights.
    Refused,
    /// The credentials or the token were refused, or could not be had; or the broker failed to prove that it knows them.
    Authentication,
    /// No connection could be encrypted with a certificate that is trusted and has the broker's name; or the broker wants
    /// one of us.
    Tls,
    /// The system refused something the logger needs, a thread say.
    System,
}

impl StartupError {
    pub(crate) fn new(kind: StartupErrorKind, detail: impl Into<String>) -> StartupError {
        StartupError { kind, detail: detail.into() }
    }

    /// The class of the error.
    pub fn kind(&self) -> StartupErrorKind {
        self.kind
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the start-up check failed: {}", self.detail)
    }
}

impl Error for StartupError {}

/// Why the directory of a [`Spool`](crate::Spool) cannot be used.
///
/// Its text names the directory, what is wrong with it and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolError {
    kind: SpoolErrorKind,
    directory: PathBuf,
    problem: String,
}

/// The classes of [`SpoolError`], for programs that decide by them.
///
/// Damaged files are none: what is whole in them is used, and the rest is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpoolErrorKind {
    /// Another process, or another logger of this one, uses the directory.
    Locked,
    /// There is something that is no directory, or the directory in which it is to be made is not there.
    NotADirectory,
    /// This process may not read and write there, or the file system is read-only.
    NotWritable,
    /// The operating system failed otherwise, a full disk included.
    Io,
}

impl SpoolError {
    pub(crate) fn new(kind: SpoolErrorKind, directory: &Path, problem: impl Into<String>) -> SpoolError {
        SpoolError { kind, directory: directory.to_owned(), problem: problem.into() }
    }

    /// The class of the error.
    pub fn kind(&self) -> SpoolErrorKind {
        self.kind
    }

    /// The directory that was asked for.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option `spool`: the directory \"{}\" {}", self.directory.display(), self.problem)
    }
}

impl Error for SpoolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_sync_names_its_feature_and_the_line_of_the_contract() {
        let text = LoggerDependencyError::new(Missing::Sync).to_string();
        assert!(
            text.contains(r#"kafka_log = { version = "0.1", default-features = false, features = ["sync"] }"#),
            "{text}"
        );
    }

    #[test]
    fn a_config_error_begins_with_the_option() {
        let error = LoggerError::from(LoggerConfigError::new("topic", "must not be empty"));
        assert_eq!(error.to_string(), "option `topic`: must not be empty");
    }
}
