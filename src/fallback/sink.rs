//! What the lines are written to.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{Log, Record};
use serde::Deserialize;

use super::Shape;
use super::lines::Lines;
use super::notices::TARGET;
use crate::config::Fallback;
use crate::deadline;
use crate::error::LoggerConfigError;
use crate::format::Format;

/// A pipe that does not block is waited for so long, and asked so often.
const MOST_WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) enum Sink {
    Stderr { is_torn: bool },
    File { path: PathBuf, file: Option<File>, is_torn: bool },
    Logger(Arc<dyn Log>),
}

impl Sink {
    /// Opens what the option names.
    pub(crate) fn open(fallback: &Fallback) -> Result<Option<Sink>, LoggerConfigError> {
        Ok(match fallback {
            Fallback::Off => None,
            Fallback::Stderr => Some(Sink::Stderr { is_torn: false }),
            Fallback::File(path) => {
                let file = append_to(path).map_err(|error| {
                    let problem = format!("cannot append to the file \"{}\": {error}", path.display());
                    LoggerConfigError::new("fallback", problem)
                })?;
                Some(Sink::File { path: path.clone(), file: Some(file), is_torn: false })
            }
            Fallback::Logger(logger) => Some(Sink::Logger(Arc::clone(logger))),
        })
    }

    /// How many of the lines were written, and what went wrong.
    pub(super) fn write(&mut self, lines: &Lines, shape: &Shape) -> (usize, Option<String>) {
        match self {
            Sink::Stderr { is_torn } => {
                let (written, error) = match stderr() {
                    Ok(mut stderr) => {
                        // Between the lines that the application writes itself.
                        let _alone = io::stderr().lock();
                        write_lines(&mut stderr, lines, 0, is_torn)
                    }
                    Err(error) => (0, Some(error)),
                };
                (written, error.map(|error| format!("standard error: {error}")))
            }
            Sink::File { path, file, is_torn } => {
                let mut from = 0;
                // Another attempt with the file opened anew.
                for is_second in [false, true] {
                    let error = match file.take().map_or_else(|| append_to(path), Ok) {
                        Ok(mut open) => {
                            let (count, error) = write_lines(&mut open, lines, from, is_torn);
                            from = count;
                            let Some(error) = error else {
                                *file = Some(open);
                                return (from, None);
                            };
                            error
                        }
                        Err(error) => error,
                    };
                    if is_second {
                        return (from, Some(format!("file \"{}\": {error}", path.display())));
                    }
                }
                (from, None)
            }
            Sink::Logger(logger) => {
                let taken = lines.iter().filter(|(line, level)| {
                    let text = String::from_utf8_lossy(line);
                    let target = target(&text, shape);
                    let pass = || {
                        let args = format_args!("{text}");
                        logger.log(&Record::builder().level(*level).target(&target).args(args).build());
                    };
                    catch_unwind(AssertUnwindSafe(pass)).is_ok()
                });
                let taken = taken.count();
                (taken, (taken < lines.len()).then(|| "the logger of the fallback panicked".into()))
            }
        }
    }

    /// Has a logger do what it does at the end.
    pub(super) fn flush(&self) {
        if let Sink::Logger(logger) = self {
            let _ = catch_unwind(AssertUnwindSafe(|| logger.flush()));
        }
    }
}

/// Standard error as it is now. The standard library's own handle takes a closed one for a success.
#[cfg(unix)]
fn stderr() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn stderr() -> io::Result<io::Stderr> {
    Ok(io::stderr())
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    // A named pipe that nobody reads is an error, and no wait.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Writes all lines but the first `from`; how many are written then, those included. What comes after a piece of a line
/// begins on a line of its own.
fn write_lines(to: &mut impl Write, lines: &Lines, from: usize, is_torn: &mut bool) -> (usize, Option<io::Error>) {
    let start = lines.end_of(from);
    if *is_torn {
        match write_bytes(to, b"\n") {
            (1, _) => *is_torn = false,
            (_, error) => return (from, error),
        }
    }
    let (bytes, error) = write_bytes(to, &lines.bytes()[start..]);
    let (count, end) = lines.whole_in(start + bytes);
    *is_torn = start + bytes > end;
    (count, error)
}

fn write_bytes(to: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    let give_up = deadline::after(MOST_WAIT);
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && std::time::Instant::now() < give_up => {
                thread::sleep(PAUSE);
            }
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// What the record of a payload was logged with.
fn target<'a>(payload: &'a str, shape: &Shape) -> Cow<'a, str> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        logger: Cow<'a, str>,
        #[serde(borrow)]
        target: Option<Cow<'a, str>>,
    }

    match shape.format {
        Format::Json => {
            serde_json::from_str::<Head<'_>>(payload).map_or(TARGET.into(), |head| head.target.unwrap_or(head.logger))
        }
        Format::Text => target_of_line(payload, shape.logger_name.as_deref()).unwrap_or(TARGET).into(),
    }
}

/// Of `time level logger target: message`, or `time level target: message` without a logger's name.
fn target_of_line<'a>(line: &'a str, logger_name: Option<&str>) -> Option<&'a str> {
    let (_, rest) = line.split_once(' ')?;
    let (_, rest) = rest.split_once(' ')?;
    let after_name = logger_name.and_then(|name| rest.strip_prefix(name)?.strip_prefix(' '));
    after_name.unwrap_or(rest).split_once(": ").map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(format: Format, name: Option<&str>) -> Shape {
        Shape { format, logger_name: name.map(String::from), limit: 1_000 }
    }

    #[test]
    fn the_target_of_a_payload_is_read_from_it() {
        for (format, name, payload, expected) in [
            (Format::Json, None, r#"{"timestamp":1.5,"logger":"app::d\"b","message":"m"}"#, "app::d\"b"),
            (Format::Json, Some("api"), r#"{"logger":"api","target":"app","message":"m","x":[{}]}"#, "app"),
            (Format::Json, Some("api"), r#"{"logger":"api","message":"m"}"#, "api"),
            (Format::Json, None, "no JSON", TARGET),
            (Format::Text, None, "2026-11-23T00:00:00.000000Z info app::db: a: b", "app::db"),
            (Format::Text, Some("my api"), "2026-11-23T00:00:00.000000Z info my api app::db: m", "app::db"),
            (Format::Text, Some("api"), "2026-11-23T00:00:00.000000Z info api: m", "api"),
            (Format::Text, None, "no line", TARGET),
        ] {
            assert_eq!(target(payload, &shape(format, name)), expected, "{payload}");
        }
    }

    /// Takes so many bytes, then fails once.
    struct Narrow {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_torn_is_not_counted_and_is_written_again_on_a_line_of_its_own() {
        let mut lines = Lines::default();
        ["one", "two", "three"].iter().for_each(|line| lines.push(line.as_bytes(), log::Level::Info));
        for (room, written, then) in [
            (0, 0, "one\ntwo\nthree\n"),
            (4, 1, "one\ntwo\nthree\n"),
            (6, 1, "one\ntw\ntwo\nthree\n"),
            (13, 2, "one\ntwo\nthree\nthree\n"),
        ] {
            let mut to = Narrow { room, bytes: Vec::new() };
            let mut is_torn = false;
            let (count, error) = write_lines(&mut to, &lines, 0, &mut is_torn);
            assert_eq!((count, error.is_some()), (written, true), "with room for {room}");
            let (count, error) = write_lines(&mut to, &lines, count, &mut is_torn);
            assert!(count == 3 && error.is_none() && !is_torn);
            assert_eq!(String::from_utf8(to.bytes).unwrap(), then);
        }
    }
}
