//! The whole producer against brokers that do as they are told.

mod broker;
mod failures;
mod fall_back;
mod hostile;
pub(super) mod log;
mod mock_cluster;
mod sending;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::broker::Cluster;
use super::WireClient;
use crate::config::{Compression, Config, Transport};
use crate::delivery::{DeliveryErrorKind, Tracked};
use crate::queue::{Batch, Meta};
use crate::severity::Severity;
use crate::status::Health;
use crate::transport::{Ack, Call, Client, Outcome};

const TOPIC: &str = "records";

/// How long a test waits for anything.
const LONG: Duration = Duration::from_secs(20);

const MS: Duration = Duration::from_millis(1);

/// A client, and what it has told.
struct Bench {
    client: Box<dyn Client>,
    health: Arc<Health>,
    called: Arc<(Mutex<bool>, Condvar)>,
    outcomes: Vec<Outcome>,
}

impl Bench {
    fn new(servers: &str, change: impl FnOnce(&mut Config)) -> Bench {
        Bench::with(servers, change, |config, health, call| Box::new(WireClient::new(config, health, call).unwrap()))
    }

    fn of(cluster: &Cluster, change: impl FnOnce(&mut Config)) -> Bench {
        Bench::new(&cluster.address(1), change)
    }

    fn with(
        servers: &str,
        change: impl FnOnce(&mut Config),
        create: impl FnOnce(&Config, &Arc<Health>, &Call) -> Box<dyn Client>,
    ) -> Bench {
        let mut config = Config::new(servers, TOPIC);
        config.delivery.compression = Some(Compression::None);
        config.delivery.linger = Duration::ZERO;
        config.delivery.delivery_timeout = LONG;
        config.delivery.connect_timeout = 500 * MS;
        config.delivery.request_timeout = 500 * MS;
        config.delivery.retry_backoff = (2 * MS, 20 * MS);
        change(&mut config);
        let health = Arc::new(Health::new(Transport::Sync, super::name()));
        let called = Arc::new((Mutex::new(false), Condvar::new()));
        let call: Call = {
            let called = Arc::clone(&called);
            Arc::new(move || {
                *called.0.lock() = true;
                called.1.notify_all();
            })
        };
        Bench { client: create(&config, &health, &call), health, called, outcomes: Vec::new() }
    }

    /// Hands over records as one batch of the queue's.
    fn submit<T: ToString>(&mut self, values: impl IntoIterator<Item = T>) {
        self.submit_batch(batch(values, false));
    }

    fn submit_batch(&mut self, mut batch: Batch) {
        self.client.submit(&mut batch);
        assert!(batch.is_empty());
    }

    /// Waits until so many records have had their outcome, by the client's calls alone.
    fn wait(&mut self, records: usize) {
        let deadline = Instant::now() + LONG;
        self.wait_by(deadline, |bench| bench.settled() >= records);
        assert_eq!(self.settled(), records, "{:?}", self.outcomes);
    }

    fn wait_by(&mut self, deadline: Instant, mut reached: impl FnMut(&mut Bench) -> bool) {
        loop {
            *self.called.0.lock() = false;
            self.client.poll(&mut self.outcomes);
            if reached(self) {
                return;
            }
            let mut called = self.called.0.lock();
            while !*called {
                let timed_out = self.called.1.wait_until(&mut called, deadline).timed_out();
                assert!(!timed_out, "waited in vain: {:?}; {:?}", self.outcomes, self.health.read());
            }
        }
    }

    fn settled(&self) -> usize {
        self.outcomes.iter().map(|outcome| outcome.records).sum()
    }

    fn delivered(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.result.is_ok()).map(|outcome| outcome.records).sum()
    }

    /// Where the records are, one for each outcome.
    fn acks(&self) -> Vec<Ack> {
        self.outcomes.iter().map(|outcome| *outcome.result.as_ref().unwrap()).collect()
    }

    fn last_error(&self) -> String {
        self.health.read().last_error.unwrap_or_default()
    }

    /// Waits for the status to be so.
    fn wait_status(&self, what: &str, reached: impl Fn(&crate::Status) -> bool) {
        let deadline = Instant::now() + LONG;
        while !reached(&self.health.read()) {
            assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", self.health.read());
            std::thread::sleep(MS);
        }
    }
}

fn meta(called: Instant, tracked: bool) -> Meta {
    let tracked = tracked.then(|| Arc::new(Tracked::new(None, true)));
    Meta { severity: Severity::Info, timestamp_ms: 1_760_000_000_000, called: called.into(), number: 0, tracked }
}

fn batch<T: ToString>(values: impl IntoIterator<Item = T>, tracked: bool) -> Batch {
    let mut batch = Batch::default();
    let now = Instant::now();
    values.into_iter().for_each(|value| batch.push(value.to_string().as_bytes(), meta(now, tracked)));
    batch
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Time for something that must not happen.
fn a_while() {
    std::thread::sleep(60 * MS);
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort_by_key(|value| value.parse::<usize>().unwrap_or(usize::MAX));
    values
}

#[test]
fn the_end_of_the_producers_thread_is_seen_as_soon_as_the_worker_is_called() {
    let config = Config::new("127.0.0.1:1", TOPIC);
    let health = Arc::new(Health::new(Transport::Sync, super::name()));
    let call: Call = Arc::new(|| {});
    let mut client = WireClient::new(&config, &health, &call).unwrap();
    client.stop();
    // It has called, and is on its way out: what it still does there takes its time.
    let shared = Arc::clone(&client.shared);
    let (sender, receiver) = std::sync::mpsc::channel();
    client.thread = Some(std::thread::spawn(move || {
        let _late = Late;
        let called: Call = Arc::new(move || sender.send(()).unwrap());
        let _ended = super::Ended(shared, called);
        std::panic::resume_unwind(Box::new("as scripted"));
    }));
    receiver.recv_timeout(LONG).unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.poll(&mut Vec::new()))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"as scripted"));
}

struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        a_while();
    }
}
