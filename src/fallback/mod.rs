//! Where records go that did not arrive: to standard error, a file or another logger, on a thread of its own.
//!
//! The hand-over is bounded by bytes. Whoever gives up a record copies its payload under a lock that nobody holds for
//! long, or counts it where there is no room; in a storm of drops that is asked without the lock.

mod lines;
mod notices;
mod sink;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::{Condvar, Mutex};

use self::lines::Lines;
use self::notices::{Notices, Pace};
pub(crate) use self::sink::Sink;
use crate::deadline;
use crate::delivery::Counters;
use crate::format::Format;
use crate::recursion;
use crate::status::Health;

/// How long the end of a logger, of a flush and of the process waits for what is to be written.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// So many bytes of records that were dropped at the call may wait. Those that had been taken may wait up to
/// `queue_bytes`: they had that room before.
const MOST_DROPPED: usize = 8 * 1024 * 1024;

/// Written lines' buffers that are kept.
const MOST_SPARES: usize = 4;

/// The end of the hand-over that records come in by. When it is dropped, what waits is written and the thread ends.
#[derive(Debug)]
pub(crate) struct Fallback {
    shared: Arc<Shared>,
}

/// Whether a record had its place in the queue before it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    Taken,
    Refused,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The thread sleeps here.
    work: Condvar,
    /// Who waits for the last line to be written sleeps here.
    written: Condvar,
    /// There is no room for records that were dropped at the call.
    full: AtomicBool,
    most_dropped: usize,
    most_taken: usize,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    /// Takes the next line; `sealed` ones are full and older.
    open: Lines,
    sealed: VecDeque<Lines>,
    spares: Vec<Lines>,
    /// Of all that waits.
    size: usize,
    asleep: bool,
    writing: bool,
    /// How many are about to hand over what has been counted already.
    telling: usize,
    /// Records were lost that no line will tell of.
    news: bool,
    /// Somebody waits for a word on what has not been told yet.
    last_words: bool,
    closed: bool,
}

/// How the lines are made that are no records, and how those of records were.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) format: Format,
    pub(crate) logger_name: Option<String>,
    /// The largest payload.
    pub(crate) limit: usize,
}

impl Fallback {
    pub(crate) fn start(
        sink: Sink,
        shape: Shape,
        queue_bytes: usize,
        counters: Arc<Counters>,
        health: Arc<Health>,
    ) -> io::Result<Fallback> {
        Fallback::start_with(sink, shape, (MOST_DROPPED, queue_bytes), Pace::default(), counters, health)
    }

    fn start_with(
        sink: Sink,
        shape: Shape,
        (most_dropped, most_taken): (usize, usize),
        pace: Pace,
        counters: Arc<Counters>,
        health: Arc<Health>,
    ) -> io::Result<Fallback> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            full: AtomicBool::new(false),
            most_dropped,
            most_taken: most_taken.max(most_dropped),
            counters,
        });
        let writer = Writer { shared: Arc::clone(&shared), sink, shape, notices: Notices::new(pace), health };
        thread::Builder::new().name("kafka_log-lost".into()).spawn(move || writer.run())?;
        Ok(Fallback { shared })
    }

    /// Takes a copy of a payload, or counts that there was no room. Without one the record is counted too.
    pub(crate) fn put(&self, payload: &[u8], level: Level, was: Was) {
        let shared = &*self.shared;
        if payload.is_empty() {
            return self.missed(1);
        }
        let most = match was {
            Was::Taken => shared.most_taken,
            Was::Refused if shared.full.load(Ordering::Relaxed) => return shared.counters.fallback_missed(1),
            Was::Refused => shared.most_dropped,
        };
        let size = Lines::size_of(payload);
        let mut state = shared.state.lock();
        if state.size > 0 && state.size + size > most {
            if was == Was::Refused {
                shared.full.store(true, Ordering::Relaxed);
            }
            drop(state);
            return shared.counters.fallback_missed(1);
        }
        state.size += size;
        if !state.open.takes(size) {
            state.seal();
        }
        state.open.push(payload, level);
        shared.wake(state);
    }

    /// So many records are lost to it.
    pub(crate) fn missed(&self, records: usize) {
        self.shared.counters.fallback_missed(records as u64);
        let mut state = self.shared.state.lock();
        state.news = true;
        self.shared.wake(state);
    }

    /// Records are about to come that have been counted already: who waits, waits for those too.
    pub(crate) fn telling(&self) -> Telling<'_> {
        self.shared.state.lock().telling += 1;
        Telling(&self.shared)
    }

    /// Waits until all that has come is written; false if the deadline came first.
    pub(crate) fn wait_written(&self, deadline: Instant) -> bool {
        self.shared.wait(deadline, |_| ())
    }

    /// The same, with a word on what no notice has told of yet.
    pub(crate) fn last_words(&self, deadline: Instant) -> bool {
        self.shared.wait(deadline, |state| state.last_words = true)
    }
}

impl Drop for Fallback {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        self.shared.wake(state);
    }
}

/// Until it is dropped, records are on their way that have been counted already.
pub(crate) struct Telling<'a>(&'a Shared);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.telling -= 1;
        drop(state);
        self.0.written.notify_all();
    }
}

impl Shared {
    fn wake(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.work.notify_one();
        }
    }

    fn wait(&self, deadline: Instant, ask: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state.lock();
        // Those on their way are told of first, so that the last words have them.
        while state.telling > 0 {
            if self.written.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        ask(&mut state);
        state.asleep = false;
        self.work.notify_one();
        while state.size > 0 || state.writing || state.last_words {
            if self.written.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }
}

impl State {
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let next = self.spares.pop().unwrap_or_default();
            let full = std::mem::replace(&mut self.open, next);
            self.sealed.push_back(full);
        }
    }

    fn take(&mut self) -> Option<Lines> {
        if self.sealed.is_empty() {
            self.seal();
        }
        let lines = self.sealed.pop_front()?;
        self.size -= lines.size();
        Some(lines)
    }
}

/// The thread.
struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    shape: Shape,
    notices: Notices,
    health: Arc<Health>,
}

/// What there is to do.
enum Task {
    Write(Lines),
    /// Look whether a notice is due.
    Look,
    /// The same, and whatever is untold is due.
    LastWords,
    End,
}

impl Writer {
    fn run(mut self) {
        let _ours = recursion::enter();
        loop {
            let task = self.next();
            let is_last = matches!(task, Task::LastWords | Task::End);
            self.give_notice(is_last);
            match task {
                Task::Write(lines) => self.write(lines),
                Task::Look => {}
                Task::LastWords => {
                    self.sink.flush();
                    self.shared.state.lock().last_words = false;
                }
                Task::End => return self.sink.flush(),
            }
        }
    }

    fn next(&mut self) -> Task {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        state.writing = false;
        loop {
            if let Some(lines) = state.take() {
                state.writing = true;
                shared.full.store(false, Ordering::Relaxed);
                return Task::Write(lines);
            }
            if state.last_words {
                return Task::LastWords;
            }
            if state.closed {
                return Task::End;
            }
            if std::mem::take(&mut state.news) {
                return Task::Look;
            }
            shared.written.notify_all();
            state.asleep = true;
            let slept = shared.work.wait_until(&mut state, deadline::after(self.notices.patience(Instant::now())));
            state.asleep = false;
            if slept.timed_out() {
                return Task::Look;
            }
        }
    }

    fn give_notice(&mut self, is_last: bool) {
        let Some(notice) = self.notices.look(Instant::now(), &self.shared.counters.read(), is_last) else { return };
        let mut line = Lines::default();
        line.push(&notice.payload(&self.shape), Level::Warn);
        if let (_, Some(error)) = self.carry(&line) {
            self.health.fallback(error);
        }
    }

    fn write(&mut self, mut lines: Lines) {
        let (written, error) = self.carry(&lines);
        let counters = &*self.shared.counters;
        counters.fallback_written(written as u64);
        let missed = lines.len().saturating_sub(written);
        if missed > 0 {
            counters.fallback_missed(missed as u64);
        }
        if let Some(error) = error {
            self.health.fallback(error);
        }
        if lines.empty() {
            let mut state = self.shared.state.lock();
            if state.spares.len() < MOST_SPARES {
                state.spares.push(lines);
            }
        }
    }

    /// How many of the lines were written, and what went wrong. Nothing that a sink does ends the thread.
    fn carry(&mut self, lines: &Lines) -> (usize, Option<String>) {
        let (sink, shape) = (&mut self.sink, &self.shape);
        catch_unwind(AssertUnwindSafe(|| sink.write(lines, shape)))
            .unwrap_or_else(|_| (0, Some("the fallback panicked".into())))
    }
}

#[cfg(test)]
mod tests;
