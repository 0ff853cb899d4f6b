//! A logger under test, and all that it says of its records.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{env, fs, thread};

use kafka_log::{
    Compression, Config, Delivered, Delivery, DeliveryError, DeliveryErrorKind, DropReason, KafkaLogger, LoggerError,
    Overflow, Spool, SpoolMode, Stats, Transport,
};
use parking_lot::Mutex;

use crate::load;
use crate::support::cluster::Cluster;
use crate::support::random::Random;
use crate::support::{topic, wait};

/// Shorter than some of the outages, so that records expire in them.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const QUEUE_RECORDS: usize = 5_000;
pub(crate) const QUEUE_BYTES: usize = 4 << 20;

const PARTITIONS: usize = 3;

/// Which record: the thread that logged it, and the how-many-th of that thread it is.
pub(crate) type Id = (u64, u64);

pub(crate) struct Subject {
    pub(crate) seed: u64,
    pub(crate) transport: Transport,
    /// Whether it tells of each record; of the others there are only counts.
    pub(crate) told: bool,
    pub(crate) topic: String,
    pub(crate) settings: String,
    config: Config,
    loggers: Mutex<Loggers>,
    pub(crate) spool: Option<SpoolDirectory>,
    /// How many each thread has logged.
    pub(crate) logged: Mutex<BTreeMap<u64, u64>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// What is awaited goes to a thread that does.
    pub(crate) awaited: Sender<(Id, Awaited)>,
    pub(crate) outcomes: thread::JoinHandle<Vec<(Id, Outcome)>>,
    pub(crate) losses: Mutex<Receiver<(Vec<u8>, Loss)>>,
}

/// One after the other: with a spool there are ends and new starts.
struct Loggers {
    now: KafkaLogger,
    past: Vec<KafkaLogger>,
}

/// Where records wait on the disk; it goes with the subject.
pub(crate) struct SpoolDirectory(PathBuf);

impl Drop for SpoolDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) type Outcome = Result<Delivery, Loss>;

pub(crate) enum Awaited {
    Still(Delivered),
    Known(Outcome),
}

impl Awaited {
    fn outcome(self) -> Outcome {
        match self {
            Awaited::Still(delivered) => futures_executor::block_on(delivered).map_err(|error| Loss::of(&error)),
            Awaited::Known(outcome) => outcome,
        }
    }
}

/// What is told of a record that did not arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    pub(crate) kind: DeliveryErrorKind,
    pub(crate) possibly_delivered: bool,
}

/// What was looked at while it ran.
#[derive(Default)]
pub(crate) struct Seen {
    /// The texts of `last_error`, without their numbers, and how often each was new.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) clients: BTreeSet<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) flushes: (u64, u64),
    pub(crate) longest_call: Duration,
}

impl Subject {
    pub(crate) fn start(seed: u64, cluster: &Cluster, servers: &str, transport: Transport, told: bool) -> Subject {
        let topic = topic::unique("soak");
        let mut random = Random::of(seed, 10 * (transport as u64) + u64::from(told));
        let (config, mut settings) = config(&mut random, servers, &topic, transport);
        let spool = choose_spool(&mut Random::of(seed, 100 + 10 * (transport as u64) + u64::from(told)));
        let (config, spool) = match spool {
            Some((mode, max_bytes)) => {
                settings.push_str(&format!(", a spool: {mode:?}, {} MiB", max_bytes >> 20));
                let directory = SpoolDirectory(Path::new(env!("CARGO_TARGET_TMPDIR")).join(&topic));
                (config.spool(Spool::new(&directory.0).mode(mode).max_bytes(max_bytes)), Some(directory))
            }
            None => (config, None),
        };
        // What is taken back to the disk may go to another partition later, past what it was before.
        cluster.create_topic(&topic, if spool.is_some() { 1 } else { PARTITIONS });
        let (lost, losses) = channel();
        let config = if told {
            config.on_delivery_error(move |error| {
                // Taken apart later: a slow callback would miss some. Nobody listens once it is over.
                lost.send((error.payload().to_vec(), Loss::of(error))).ok();
            })
        } else {
            config
        };
        let now = config.clone().build().unwrap_or_else(|error| panic!("{error}"));
        let (awaited, to_await) = channel::<(Id, Awaited)>();
        let outcomes =
            thread::spawn(move || to_await.into_iter().map(|(id, awaited)| (id, awaited.outcome())).collect());
        let (logged, seen) = (Mutex::default(), Arc::default());
        Subject {
            seed,
            transport,
            told,
            topic,
            settings,
            config,
            loggers: Mutex::new(Loggers { now, past: Vec::new() }),
            spool,
            logged,
            seen,
            awaited,
            outcomes,
            losses: Mutex::new(losses),
        }
    }

    pub(crate) fn logger(&self) -> KafkaLogger {
        self.loggers.lock().now.clone()
    }

    /// The same, with its number.
    pub(crate) fn numbered_logger(&self) -> (usize, KafkaLogger) {
        let loggers = self.loggers.lock();
        (loggers.past.len(), loggers.now.clone())
    }

    /// Those that have been shut down. Some calls may have come to them after that.
    pub(crate) fn past(&self) -> Vec<Stats> {
        self.loggers.lock().past.iter().map(KafkaLogger::stats).collect()
    }

    /// Ends the logger as a process does that ends in good order, and starts the next one. What goes on to log meanwhile
    /// is told that it cannot.
    pub(crate) fn restart(&self, timeout: Duration) {
        /// One that hangs may keep its directory for a moment.
        const FREE: Duration = Duration::from_secs(10);
        let report = self.logger().shutdown(timeout);
        let mut built = Err(None::<LoggerError>);
        wait::holds_within(FREE, || {
            built = self.config.clone().build().map_err(Some);
            built.is_ok()
        });
        let next = built.unwrap_or_else(|error| panic!("no logger after another: {error:?}"));
        let stats = next.stats();
        let mut wrong = Vec::new();
        // What was delivered out of turn is on the disk still.
        if stats.recovered < report.spooled || report.spooled < report.stats.pending {
            wrong.push(format!("{} were recovered after {report:?}", stats.recovered));
        }
        if report.unsent != report.stats.dropped.shutdown {
            wrong.push(format!("lost at the end: {report:?}"));
        }
        self.seen.lock().wrong.extend(wrong);
        let mut loggers = self.loggers.lock();
        let before = std::mem::replace(&mut loggers.now, next);
        loggers.past.push(before);
    }

    /// Has the outcome of a record noted, when there is one.
    pub(crate) fn awaits(&self, id: Id, delivered: Delivered) {
        self.note(id, Awaited::Still(delivered));
    }

    pub(crate) fn outcome(&self, id: Id, outcome: Result<Delivery, DeliveryError>) {
        self.note(id, Awaited::Known(outcome.map_err(|error| Loss::of(&error))));
    }

    fn note(&self, id: Id, awaited: Awaited) {
        self.awaited.send((id, awaited)).expect("the thread that awaits has ended early");
    }

    pub(crate) fn name(&self) -> String {
        let told = if self.told { "told" } else { "counted" };
        format!("{:?}, {told}", self.transport).to_lowercase()
    }
}

impl Loss {
    fn of(error: &DeliveryError) -> Loss {
        Loss { kind: error.kind(), possibly_delivered: error.possibly_delivered() }
    }

    pub(crate) fn is_by_shutdown(&self) -> bool {
        self.kind == DeliveryErrorKind::Dropped(DropReason::Shutdown)
    }
}

/// Everything that a logger is configured with here, and what of it was chosen, in words.
fn config(random: &mut Random, servers: &str, topic: &str, transport: Transport) -> (Config, String) {
    let overflow = *random.one_of(&[
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::DropBelow(log::Level::Warn),
        Overflow::BlockFor(Duration::from_millis(2)),
    ]);
    let compression = *random.one_of(&[Compression::Lz4, Compression::None, Compression::Gzip, Compression::Snappy]);
    let batch_bytes = *random.one_of(&[1_000_000, 16_384]);
    let config = Config::new(servers, topic)
        .transport(transport)
        .logger_name(load::LOGGER)
        .queue_records(QUEUE_RECORDS)
        .queue_bytes(QUEUE_BYTES)
        .overflow(overflow)
        .compression(compression)
        .batch_bytes(batch_bytes)
        .connect_timeout(Duration::from_millis(1_500))
        .request_timeout(Duration::from_secs(3))
        .delivery_timeout(DELIVERY_TIMEOUT);
    (config, format!("{overflow:?}, {compression:?}, batches of {batch_bytes}"))
}

/// Whether there is a spool: as `KAFKA_LOG_SOAK_SPOOL` says, or as it comes. How it is, and what it may take.
fn choose_spool(random: &mut Random) -> Option<(SpoolMode, u64)> {
    const LARGE: u64 = 1 << 30;
    /// Full at times.
    const SMALL: u64 = 2 << 20;
    let any = [Some(SpoolMode::Overflow), Some(SpoolMode::WriteAhead), None, None];
    let mode = match env::var("KAFKA_LOG_SOAK_SPOOL").as_deref() {
        Ok("none") => None,
        Ok("overflow") => any[0],
        Ok("write-ahead") => any[1],
        Ok(other) => panic!("KAFKA_LOG_SOAK_SPOOL is to be none, overflow or write-ahead: {other}"),
        Err(_) if cfg!(feature = "spool") => *random.one_of(&any),
        Err(_) => None,
    };
    mode.map(|mode| (mode, *random.one_of(&[LARGE, SMALL])))
}
