//! A last word for the end that no exit hook sees: a panic that aborts the process.

use std::panic;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::global::flush;
use crate::recursion;

/// Has every panic of the application flush the logger that [`init`](crate::init) installed, up to `timeout`, before it
/// unwinds or aborts.
///
/// It chains what is there: the panic hook that was set so far runs first, and what it logs is flushed too. A hook that
/// is set later takes its place, unless that one calls it. So call this once, after the hooks of your own are set;
/// before or after `init` is the same.
///
/// It is for programs whose panics abort: with `panic = "abort"`, with a hook that aborts, or where a destructor panics
/// while another panic unwinds. Where a panic unwinds out of `main`, the process ends by returning from it, and the
/// exit hook flushes without this.
///
/// # What it costs
///
/// No hook can know whether its panic will be caught, so each one waits, on the thread that panicked, until what was
/// logged before is settled: as a rule some milliseconds, without a broker all of `timeout`. After a wait in vain the
/// panics of the next ten times `timeout` wait a tenth of it at most, so that a server that catches panics goes on
/// serving while the brokers are away. A panic on a thread of the logger's own, or in the child of a bare `fork`, waits
/// for nothing.
///
/// On a thread that is panicking, where no hook can be set, this does nothing.
///
/// ```no_run
/// # fn main() -> Result<(), kafka_log::LoggerError> {
/// use std::time::Duration;
///
/// kafka_log::init(kafka_log::Config::new("localhost:9092", "app.logs"))?;
/// std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
/// kafka_log::flush_on_panic(Duration::from_secs(2));
/// # Ok(())
/// # }
/// ```
pub fn flush_on_panic(timeout: Duration) {
    if thread::panicking() {
        return;
    }
    let process = process::id();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        // Our own threads' panics are caught, and a child of `fork` has none of our threads to wait for.
        if !recursion::on_our_thread() && process == process::id() {
            flush_for(timeout);
        }
    }));
}

/// When a panic last waited in vain.
static IN_VAIN: Mutex<Option<Instant>> = Mutex::new(None);

fn flush_for(timeout: Duration) {
    let patience = patience(timeout, IN_VAIN.lock().map(|at| at.elapsed()));
    if flush(patience).is_err() {
        *IN_VAIN.lock() = Some(Instant::now());
    }
}

/// How long to wait, so long after a wait in vain.
fn patience(timeout: Duration, since_in_vain: Option<Duration>) -> Duration {
    match since_in_vain {
        Some(since) if since < timeout.saturating_mul(10) => timeout / 10,
        _ => timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_wait_in_vain_the_next_ones_are_short() {
        const SECOND: Duration = Duration::from_secs(1);
        assert_eq!(patience(SECOND, None), SECOND);
        assert_eq!(patience(SECOND, Some(SECOND * 9)), SECOND / 10);
        assert_eq!(patience(SECOND, Some(SECOND * 10)), SECOND);
        assert_eq!(patience(Duration::ZERO, Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(patience(Duration::MAX, Some(SECOND)), Duration::MAX / 10);
    }
}
