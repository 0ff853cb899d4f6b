//! `sync`: a Kafka producer of our own, in pure Rust, for every broker since Kafka 0.11.
//!
//! One thread ([`engine`]) owns all connections and waits for their readiness, so that none can stall another. It forms
//! loads from the queue's batches, straight from their bytes; it knows the leaders, the producer's session and what
//! is under way. The worker's side, here, hands batches over and takes outcomes back.

mod address;
mod auth;
mod compression;
mod connection;
mod engine;
mod load;
mod murmur2;
mod partition;
mod protocol;
mod records;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod trouble;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;
use parking_lot::{Condvar, Mutex};

use self::engine::Engine;
use self::settings::Settings;
use super::tokens::Tokens;
use super::{Batch, Call, Client, Outcome};
use crate::config::Config;
use crate::deadline;
use crate::error::{LoggerError, StartupError, StartupErrorKind};
use crate::recursion;
use crate::route::Route;
use crate::status::Health;

/// How much waits here to be sent, in full loads; more waits in the queue.
const MOST_WAITING: usize = 4;

/// Emptied batches that go back to the queue with the next full ones.
const MOST_SPARES: usize = 16;

/// How long the worker may sleep: the thread calls it when there is news.
const LONG: Duration = Duration::from_secs(60);

pub(super) fn name() -> String {
    format!("wire {}", env!("CARGO_PKG_VERSION"))
}

/// The worker's end of the producer.
pub(super) struct WireClient {
    shared: Arc<Shared>,
    health: Arc<Health>,
    servers: String,
    /// None once its end has been seen.
    thread: Option<JoinHandle<()>>,
}

/// What the worker and the producer's thread have between them.
struct Shared {
    inbox: Mutex<Inbox>,
    /// Wakes the thread.
    waker: Waker,
    outcomes: Mutex<Vec<Outcome>>,
    /// Emptied batches.
    spares: Mutex<Vec<Batch>>,
    /// Bytes that were handed over and are in no request yet, and how many there may be.
    waiting: AtomicUsize,
    most_waiting: usize,
    /// The thread has come to its end, or will within moments.
    ended: AtomicBool,
    standing: Mutex<Standing>,
    /// Who checks sleeps here.
    news: Condvar,
}

#[derive(Default)]
struct Inbox {
    batches: VecDeque<Batch>,
    stop: bool,
    /// Set to have back what waits.
    give_back: bool,
}

/// What a start-up check wants to know.
#[derive(Clone, Debug, Default)]
enum Standing {
    #[default]
    Unknown,
    /// A broker knows the topic, and at least one partition has a leader.
    Good,
    /// Why not, where it is more than an unreachable broker.
    Bad(StartupErrorKind, String),
    /// The brokers are older than the wire producer's protocol.
    TooOld(String),
}

impl WireClient {
    pub(super) fn new(config: &Config, health: &Arc<Health>, call: &Call) -> Result<WireClient, LoggerError> {
        WireClient::on(&Route::new(&config.topic), config, health, call)
    }

    fn on(route: &Route, config: &Config, health: &Arc<Health>, call: &Call) -> Result<WireClient, LoggerError> {
        let mut settings = Settings::new(config, route)?;
        let system = |error: io::Error| {
            let words = format!("the wire producer could not be set up: {error}");
            LoggerError::Startup(StartupError::new(StartupErrorKind::System, words))
        };
        let poll = mio::Poll::new().map_err(system)?;
        let waker = Waker::new(poll.registry(), engine::WAKER).map_err(system)?;
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            waker,
            outcomes: Mutex::default(),
            spares: Mutex::default(),
            waiting: AtomicUsize::new(0),
            most_waiting: settings.batch_bytes.saturating_mul(MOST_WAITING).max(1024 * 1024),
            ended: AtomicBool::new(false),
            standing: Mutex::default(),
            news: Condvar::new(),
        });
        if let Some(callback) = config.delivery.sasl.as_ref().and_then(|sasl| sasl.mechanism.token_callback()) {
            let shared = Arc::clone(&shared);
            let wake: Call = Arc::new(move || {
                let _ = shared.waker.wake();
            });
            settings.tokens = Some(Tokens::new(callback, &wake));
        }
        let engine = {
            let (shared, health, call) = (Arc::clone(&shared), Arc::clone(health), Arc::clone(call));
            move || {
                let _ours = recursion::enter();
                // The worker hears of the end, however it comes.
                let _ended = Ended(Arc::clone(&shared), Arc::clone(&call));
                Engine::new(settings, shared, health, call, poll).run();
            }
        };
        let thread = thread::Builder::new().name("kafka_log-wire".into()).spawn(engine).map_err(system)?;
        Ok(WireClient {
            shared,
            health: Arc::clone(health),
            servers: config.bootstrap_servers.join(","),
            thread: Some(thread),
        })
    }

    /// Why the brokers are too old for this producer, if they are.
    pub(super) fn too_old(&self) -> Option<String> {
        match &*self.shared.standing.lock() {
            Standing::TooOld(words) => Some(words.clone()),
            _ => None,
        }
    }

    /// Ends the producer, and gives back the records that have no outcome, and the outcomes that have not been taken.
    pub(super) fn end(&mut self) -> (Vec<Batch>, Vec<Outcome>) {
        self.shared.inbox.lock().give_back = true;
        self.stop();
        let batches = std::mem::take(&mut self.shared.inbox.lock().batches);
        let outcomes = std::mem::take(&mut *self.shared.outcomes.lock());
        (batches.into(), outcomes)
    }

    /// Ends the thread and waits for that: it waits for nothing itself.
    fn stop(&mut self) {
        self.shared.inbox.lock().stop = true;
        let _ = self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic on it has been told by then, or nobody listens any more.
            let _ = thread.join();
        }
    }
}

impl Client for WireClient {
    fn check(&mut self, timeout: Duration) -> Result<(), StartupError> {
        let deadline = deadline::after(timeout);
        let mut standing = self.shared.standing.lock();
        loop {
            match &*standing {
                Standing::Good => return Ok(()),
                Standing::TooOld(words) => {
                    return Err(StartupError::new(StartupErrorKind::UnsupportedBroker, words.clone()));
                }
                Standing::Bad(StartupErrorKind::UnknownTopic, _) | Standing::Unknown => {}
                Standing::Bad(kind, words) => return Err(StartupError::new(*kind, words.clone())),
            }
            if self.shared.news.wait_until(&mut standing, deadline).timed_out() {
                return Err(match &*standing {
                    Standing::Bad(kind, words) => StartupError::new(*kind, words.clone()),
                    _ => super::unreachable(&self.servers, timeout, self.health.last_heard().as_deref()),
                });
            }
        }
    }

    fn has_room(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) < self.shared.most_waiting
    }

    fn submit(&mut self, batch: &mut Batch) {
        let spare = self.shared.spares.lock().pop().unwrap_or_default();
        let taken = batch.take_all(spare);
        self.shared.waiting.fetch_add(taken.bytes(), Ordering::Relaxed);
        self.shared.inbox.lock().batches.push_back(taken);
        // A wake-up that fails leaves the batch for the thread's next turn.
        let _ = self.shared.waker.wake();
    }

    fn poll(&mut self, outcomes: &mut Vec<Outcome>) {
        // Asked first: what it said before its end is taken all the same.
        let ended = self.shared.ended.load(Ordering::Acquire);
        outcomes.append(&mut self.shared.outcomes.lock());
        if ended
            && let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            // The worker counts what it had as failed and makes another.
            std::panic::resume_unwind(panic);
        }
    }

    fn patience(&self) -> Duration {
        LONG
    }

    fn give_back(&mut self, _: Instant) -> Vec<Outcome> {
        let (batches, mut outcomes) = self.end();
        outcomes.extend(batches.into_iter().flat_map(super::sync::given_back));
        outcomes
    }
}

impl Drop for WireClient {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Bytes have left for a request, or have had their outcome; whether the worker may hand over more now, and could
    /// not before.
    fn left(&self, bytes: usize) -> bool {
        let before = self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        before >= self.most_waiting && before - bytes < self.most_waiting
    }

    fn stands(&self, now: Standing) {
        *self.standing.lock() = now;
        self.news.notify_all();
    }

    /// Keeps the buffers of emptied batches for the queue.
    fn recycle(&self, emptied: &mut Vec<Batch>) {
        let mut spares = self.spares.lock();
        let room = MOST_SPARES.saturating_sub(spares.len()).min(emptied.len());
        spares.extend(emptied.drain(..room));
        drop(spares);
        emptied.clear();
    }
}

/// Tells the worker of the end of its thread.
struct Ended(Arc<Shared>, Call);

impl Drop for Ended {
    fn drop(&mut self) {
        // The thread itself is not finished before this has returned: the worker would find it alive, and sleep.
        self.0.ended.store(true, Ordering::Release);
        (self.1)();
    }
}
