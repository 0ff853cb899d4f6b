//! A logger under test, and all that it says of its records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use kafka_log::{
    Compression, Config, Delivered, Delivery, DeliveryError, DeliveryErrorKind, KafkaLogger, Overflow, Transport,
};
use parking_lot::Mutex;

use crate::load;
use crate::support::cluster::Cluster;
use crate::support::random::Random;
use crate::support::topic;

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
    pub(crate) logger: KafkaLogger,
    pub(crate) settings: String,
    /// How many each thread has logged.
    pub(crate) logged: Mutex<BTreeMap<u64, u64>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// What is awaited goes to a thread that does.
    pub(crate) awaited: Sender<(Id, Awaited)>,
    pub(crate) outcomes: thread::JoinHandle<Vec<(Id, Outcome)>>,
    pub(crate) losses: Mutex<Receiver<(Vec<u8>, Loss)>>,
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
        cluster.create_topic(&topic, PARTITIONS);
        let mut random = Random::of(seed, 10 * (transport as u64) + u64::from(told));
        let (config, settings) = config(&mut random, servers, &topic, transport);
        let (lost, losses) = channel();
        let config = if told {
            config.on_delivery_error(move |error| {
                // Taken apart later: a slow callback would miss some. Nobody listens once it is over.
                lost.send((error.payload().to_vec(), Loss::of(error))).ok();
            })
        } else {
            config
        };
        let logger = config.build().unwrap_or_else(|error| panic!("{error}"));
        let (awaited, to_await) = channel::<(Id, Awaited)>();
        let outcomes =
            thread::spawn(move || to_await.into_iter().map(|(id, awaited)| (id, awaited.outcome())).collect());
        let (logged, seen) = (Mutex::default(), Arc::default());
        Subject {
            seed,
            transport,
            told,
            topic,
            logger,
            settings,
            logged,
            seen,
            awaited,
            outcomes,
            losses: Mutex::new(losses),
        }
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
