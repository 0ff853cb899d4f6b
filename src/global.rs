//! The logger that `init` installs, and the functions that act on it.

use std::fmt;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;

use crate::config::Config;
use crate::delivery::{Delivered, DeliveryError, FlushError, ShutdownReport, Stats};
use crate::error::LoggerError;
use crate::exit;
use crate::logger::{KafkaLogger, LAST_FLUSH};
use crate::severity::Severity;
use crate::status::Status;

static GLOBAL: OnceCell<KafkaLogger> = OnceCell::new();

/// Builds a logger, installs it as `log`'s global one, and sets `log`'s maximum level after that.
///
/// Returns without waiting for a broker, unless [`Startup::Check`](crate::Startup::Check) asks for that. Keeping
/// the [`Guard`] is optional: at a normal return from `main` and at `process::exit`, an exit hook flushes up to 5 s.
///
/// ```no_run
/// # fn main() -> Result<(), kafka_log::LoggerError> {
/// kafka_log::init(kafka_log::Config::new("localhost:9092", "app.logs"))?;
/// log::info!(user_id = "u_19"; "user authenticated");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Config::build`], and [`LoggerError::AlreadyInitialized`] when a global logger is there already, ours
/// or another crate's. Then nothing has changed and no thread is left behind, but one that is inside a call of the
/// `kafka` crate and ends with it.
pub fn init(config: Config) -> Result<Guard, LoggerError> {
    let mut installed = false;
    let logger = GLOBAL.get_or_try_init(|| {
        let logger = config.build()?;
        log::set_boxed_logger(Box::new(logger.clone())).map_err(|_| LoggerError::AlreadyInitialized)?;
        installed = true;
        Ok(logger)
    });
    let logger = match logger {
        Ok(logger) if installed => logger,
        Ok(_) => return Err(LoggerError::AlreadyInitialized),
        Err(error) => return Err(error),
    };
    log::set_max_level(logger.level());
    // The client exists by now, so this hook runs before those that its libraries have registered.
    exit::at_exit(last_flush);
    Ok(Guard { logger: logger.clone() })
}

/// As [`init`], with the configuration of [`Config::from_env`].
///
/// # Errors
///
/// Those of [`Config::from_env`] and of [`init`].
pub fn init_from_env() -> Result<Guard, LoggerError> {
    init(Config::from_env()?)
}

/// Waits until every record logged before has its outcome, `timeout` at most; `Ok` before [`init`].
///
/// # Errors
///
/// As [`KafkaLogger::flush_timeout`].
pub fn flush(timeout: Duration) -> Result<(), FlushError> {
    GLOBAL.get().map_or(Ok(()), |logger| logger.flush_timeout(timeout))
}

/// Ends the pipeline of the logger that [`init`] installed; an empty report before that.
///
/// The logger stays installed: later records are counted in `dropped.closed`. See [`KafkaLogger::shutdown`].
pub fn shutdown(timeout: Duration) -> ShutdownReport {
    GLOBAL.get().map_or_else(ShutdownReport::default, |logger| logger.shutdown(timeout))
}

/// The counts of the logger that [`init`] installed; zeros before that. Never blocks.
pub fn stats() -> Stats {
    GLOBAL.get().map_or_else(Stats::default, KafkaLogger::stats)
}

/// What [`ainfo!`](crate::ainfo) and its siblings expand to.
#[doc(hidden)]
pub fn awaited(
    severity: Severity,
    target: &str,
    message: fmt::Arguments<'_>,
    fields: &dyn log::kv::Source,
) -> Delivered {
    match GLOBAL.get() {
        Some(logger) => logger.awaited(severity, Some(target), message, fields),
        None => Delivered::failed(DeliveryError::nothing(severity.level(), Some(target))),
    }
}

/// A handle on the logger that [`init`] installed.
///
/// Dropping it flushes up to 5 s, and never stops the pipeline: other threads may go on logging. Bound to `_guard`
/// in `main` it is dropped at the end of `main`; bound to `_` it is dropped at once, which does no harm: while nothing
/// has been logged yet it does not wait, not even for what a spool has kept from an earlier process.
#[derive(Debug)]
#[non_exhaustive]
pub struct Guard {
    logger: KafkaLogger,
}

impl Guard {
    /// As [`KafkaLogger::flush_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.logger.flush_timeout(timeout)
    }

    /// As [`KafkaLogger::shutdown`].
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.logger.shutdown(timeout)
    }

    /// As [`KafkaLogger::stats`].
    pub fn stats(&self) -> Stats {
        self.logger.stats()
    }

    /// As [`KafkaLogger::status`].
    pub fn status(&self) -> Status {
        self.logger.status()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let stats = self.logger.stats();
        // As in `init(config)?;`: what a process before this one left on the disk is not waited for.
        if stats.submitted == stats.recovered {
            return;
        }
        if self.logger.flush_timeout(LAST_FLUSH).is_err() {
            *GAVE_UP.lock() = Some(Instant::now());
        }
    }
}

/// When the drop of a guard last gave up its flush.
static GAVE_UP: Mutex<Option<Instant>> = Mutex::new(None);

/// The flush at the end of the process. Right after a guard's that was in vain there is no use in another wait: the
/// end takes 5 s in all.
fn last_flush() {
    let just_gave_up = GAVE_UP.lock().is_some_and(|at| at.elapsed() < LAST_FLUSH / 5);
    // How it went is in the counts, for whoever still looks.
    if let Some(logger) = GLOBAL.get() {
        logger.at_exit(if just_gave_up { Duration::ZERO } else { LAST_FLUSH });
    }
}
