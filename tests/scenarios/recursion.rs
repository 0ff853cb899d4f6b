//! With everything on, at Trace: what the application's threads emit arrives, other Kafka clients' lines included;
//! what the logger's own threads emit does not, and nothing goes round in a circle.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kafka_log::{KafkaLogger, Startup, State, Stats, Transport};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::Value;

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config, say, servers, topic};
use crate::scenarios;
use crate::support::wait;

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        at_trace_another_kafka_client_is_logged_in_full_and_our_own_not_at_all => beside_another_client;
        at_trace_nothing_goes_round_in_a_circle => at_trace_with_a_broker_that_hangs_up;
    }
}

/// The application's own logger: it notes what each thread emits and passes all of it on.
struct Tee {
    logger: OnceLock<KafkaLogger>,
    noted: Mutex<Vec<Noted>>,
}

/// A record as the tee saw it.
struct Noted {
    ours: bool,
    level: Level,
    target: String,
    message: String,
}

static TEE: Tee = Tee { logger: OnceLock::new(), noted: Mutex::new(Vec::new()) };

thread_local! {
    /// While it builds a logger, the application's thread works for that.
    static BUILDING: Cell<bool> = const { Cell::new(false) };
}

impl Tee {
    /// Becomes the global logger, with everything on, in front of `logger`.
    fn install(logger: KafkaLogger) -> KafkaLogger {
        log::set_logger(&TEE).unwrap();
        log::set_max_level(LevelFilter::Trace);
        TEE.logger.get_or_init(|| logger).clone()
    }

    fn counts(&self) -> Counts {
        let noted = self.noted.lock();
        let ours = noted.iter().filter(|noted| noted.ours).count() as u64;
        Counts { ours, theirs: noted.len() as u64 - ours }
    }
}

impl Log for Tee {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let ours = BUILDING.get() || thread::current().name().is_some_and(|name| name.starts_with("kafka_log"));
        let (target, message) = (record.target().to_owned(), record.args().to_string());
        self.noted.lock().push(Noted { ours, level: record.level(), target, message });
        if let Some(logger) = self.logger.get() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

/// How many records the logger's own threads have emitted, and how many the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    ours: u64,
    theirs: u64,
}

impl Counts {
    fn of(stats: Stats) -> Counts {
        Counts { ours: stats.dropped.recursive, theirs: stats.submitted - stats.dropped.recursive }
    }
}

/// Whatever still came after the activity has ended would come from the logger itself.
fn stays_quiet(logger: &KafkaLogger) {
    let before = Counts::of(logger.stats());
    let moved = wait::holds_within(Duration::from_secs(3), || Counts::of(logger.stats()).theirs != before.theirs);
    assert!(!moved, "{before:?} became {:?} with nobody at work", Counts::of(logger.stats()));
}

// ---- beside another client ----------------------------------------------------------------------------------------

const PRODUCED: usize = 10;

fn beside_another_client(transport: Transport) {
    let logger = Tee::install(config(transport).level(LevelFilter::Trace).build().unwrap());
    wait::until("the logger is up", SURELY, || {
        log::info!("is anybody there?");
        logger.status().state == State::Up
    });

    thread::Builder::new().name("application".into()).spawn(produce).unwrap().join().unwrap();
    a_second_logger_comes_and_goes(transport);

    logger.flush_timeout(SURELY).unwrap();
    stays_quiet(&logger);

    logger.flush_timeout(SURELY).unwrap();
    let stats = logger.stats();
    assert_eq!(Counts::of(stats), TEE.counts());
    assert_eq!((stats.pending, stats.delivered), (0, stats.submitted - stats.dropped.recursive), "{stats:?}");
    // The producer of `sync` has nothing to say, whatever happens.
    assert_eq!(stats.dropped.recursive > 0, transport == Transport::Async, "{stats:?}");
    for noted in TEE.noted.lock().iter().filter(|noted| !noted.ours) {
        say("emitted", serde_json::json!([spelled(noted.level), noted.target, noted.message]));
    }
    say("delivered", stats.delivered);
}

/// The application's own Kafka client, as talkative as it can be, on a thread that polls it.
fn produce() {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers())
        .set("debug", "all")
        .set_log_level(RDKafkaLogLevel::Debug)
        .create_with_context(DefaultProducerContext)
        .unwrap();
    let other = format!("{}-other", topic());
    for n in 0..PRODUCED {
        let payload = format!("payload {n}");
        producer.send(BaseRecord::<(), str>::to(&other).payload(&payload)).map_err(|(error, _)| error).unwrap();
    }
    wait::until("the application's own records are delivered", SURELY, || {
        producer.poll(Duration::from_millis(10));
        producer.in_flight_count() == 0
    });
}

/// librdkafka logs when it is made, asked for metadata and destroyed: on the builder's thread, and on its own.
fn a_second_logger_comes_and_goes(transport: Transport) {
    BUILDING.set(true);
    let second = config(transport).startup(Startup::Check(SURELY)).build().unwrap();
    BUILDING.set(false);
    let before = TEE.counts().ours;
    drop(second);
    if transport == Transport::Sync {
        return;
    }
    wait::until("the second logger's thread has destroyed its client", SURELY, || TEE.counts().ours > before);
    // The last line of a client's end is that it is destroyed.
    wait::until("it is destroyed", SURELY, || {
        let noted = TEE.noted.lock();
        let ours = |word: &str| noted.iter().filter(|noted| noted.ours && noted.message.starts_with(word)).count();
        ours("Destroying") == ours("Destroyed")
    });
}

fn at_trace_another_kafka_client_is_logged_in_full_and_our_own_not_at_all(child: Child) {
    let broker = Broker::with_partitions(4);
    let ended = broker.serves(child).succeeds();
    let arrived = broker.records();
    assert_eq!(ended.said::<usize>("delivered"), arrived.len());

    let emitted = counted(ended.all("emitted"));
    let arrived =
        counted(arrived.iter().map(|record| serde_json::json!([record["level"], record["logger"], record["message"]])));
    assert!(emitted.keys().any(|key| key.contains(r#","librdkafka","#)), "the other client said nothing");
    assert!(emitted.keys().any(|key| key.contains(r#","rdkafka::"#)), "its crate said nothing");
    assert_eq!(arrived, emitted);
}

/// A level as the payload spells it.
fn spelled(level: Level) -> String {
    match level {
        Level::Warn => "warning".into(),
        level => level.as_str().to_lowercase(),
    }
}

fn counted(records: impl IntoIterator<Item = Value>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    records.into_iter().for_each(|record| *counted.entry(record.to_string()).or_default() += 1);
    counted
}

// ---- a broker that hangs up ---------------------------------------------------------------------------------------

fn at_trace_with_a_broker_that_hangs_up(transport: Transport) {
    let logger = Tee::install(config(transport).level(LevelFilter::Trace).build().unwrap());
    log::info!("in the dark");
    // The client is at work, again and again, and may say so: on our threads, or nowhere.
    wait::until("the state is Down", SURELY, || logger.status().state == State::Down);
    stays_quiet(&logger);

    assert_eq!(TEE.counts().theirs, 1);
    assert_eq!(logger.stats().pending, 1);
    let report = logger.shutdown(Duration::from_millis(100));
    assert_eq!((Counts::of(report.stats).theirs, report.unsent), (1, 1));
}

/// A broker old enough for every client, which answers what versions it speaks and hangs up on all else.
///
/// So far the `kafka` crate must come to say something of its own; without a listener its turn never comes.
fn at_trace_nothing_goes_round_in_a_circle(child: Child) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let ended = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let connections = listener.incoming().take_while(|_| !ended.load(Ordering::SeqCst));
            connections.flatten().filter_map(|stream| answer_versions(stream).ok()).count()
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            child.on(&address.to_string(), "logs").succeeds();
        }));
        // Wakes the thread above, whatever became of the child.
        ended.store(true, Ordering::SeqCst);
        TcpStream::connect(address).ok();
        let asked = asked.join().unwrap();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        asked
    });
    assert!(asked > 1, "it connected {asked} times");
}

/// One request, and an answer of version 0, as a broker gives it to every version that it does not know.
fn answer_versions(mut stream: TcpStream) -> io::Result<()> {
    const UNSUPPORTED_VERSION: i16 = 35;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut request = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap_or(0).min(1 << 16)];
    stream.read_exact(&mut request)?;
    let Some(&[_, _, v0, v1, c0, c1, c2, c3]) = request.first_chunk() else { return Ok(()) };
    let error = if [v0, v1] == [0, 0] { 0 } else { UNSUPPORTED_VERSION };
    // Produce, Fetch, Metadata and ApiVersions, with the first and the last version of each.
    let apis: [[i16; 3]; 4] = [[0, 0, 2], [1, 0, 2], [3, 0, 1], [18, 0, 0]];
    let mut answer = vec![c0, c1, c2, c3];
    answer.extend(error.to_be_bytes());
    answer.extend((apis.len() as i32).to_be_bytes());
    answer.extend(apis.as_flattened().iter().flat_map(|number| number.to_be_bytes()));
    stream.write_all(&(answer.len() as i32).to_be_bytes())?;
    stream.write_all(&answer)
}
