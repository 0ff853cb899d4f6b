//! librdkafka over its own mock cluster: what only this transport does.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::config::{Overflow, Transport};
use crate::queue::Queue;
use crate::severity::Severity;

const LONG: Duration = Duration::from_secs(30);
const TOPIC: &str = "records";

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster
}

fn client(servers: &str, change: impl FnOnce(&mut Config)) -> AsyncClient {
    let mut config = Config::new(servers, TOPIC);
    change(&mut config);
    let health = Arc::new(Health::new(Transport::Async, name()));
    AsyncClient::new(&config, &health, &no_call()).unwrap()
}

fn no_call() -> Call {
    Arc::new(|| {})
}

fn meta() -> Meta {
    Meta { severity: Severity::Info, timestamp_ms: 1, called: Moment::now(), number: 0, tracked: None }
}

fn submit(client: &mut AsyncClient, numbers: std::ops::Range<u32>) {
    let queue = Queue::new(1_000_000, 1 << 30, Overflow::DropNewest, Arc::default());
    for n in numbers {
        queue.push(n.to_string().as_bytes(), meta()).unwrap();
    }
    let mut batch = queue.take().unwrap();
    client.submit(&mut batch);
    assert!(batch.is_empty());
}

/// The outcomes of so many records.
fn outcomes(client: &mut AsyncClient, expected: usize) -> Vec<Outcome> {
    let deadline = Instant::now() + LONG;
    let mut outcomes = Vec::<Outcome>::new();
    loop {
        let records: usize = outcomes.iter().map(|outcome| outcome.records).sum();
        if records >= expected {
            assert_eq!(records, expected);
            return outcomes;
        }
        assert!(Instant::now() < deadline, "{records} of {expected} outcomes; {:?}", client.health.read());
        client.poll(&mut outcomes);
        std::thread::sleep(client.patience());
    }
}

/// Makes librdkafka fail for good, by the function it has for tests of this.
fn fail_for_good(client: &AsyncClient) {
    let producer = client.producer.client().native_ptr();
    // SAFETY: the producer lives, and the reason is a C string.
    #[allow(unsafe_code)] // No safe binding has it.
    unsafe {
        rdkafka::bindings::rd_kafka_test_fatal_error(
            producer,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            c"as scripted".as_ptr(),
        );
    }
}

fn values(servers: &str, expected: usize) -> Vec<String> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message;
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "test").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let deadline = Instant::now() + LONG;
    let mut values = Vec::new();
    while values.len() < expected && Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8(message.unwrap().payload().unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[test]
fn a_producer_that_has_lost_its_servers_is_given_them_again() {
    let cluster = cluster();
    let mut client = client(&cluster.bootstrap_servers(), |_| {});
    // What librdkafka comes to when it has removed all servers: one that was never given any.
    client.client_config.remove("metadata.broker.list");
    client.producer = producer(&client.client_config, &client.health, &client.access).unwrap();
    submit(&mut client, 0..10);
    assert!(outcomes(&mut client, 10).iter().all(|outcome| outcome.result.is_ok()));
    assert!(client.health.read().last_error.unwrap().contains("bootstrap servers again"));
}

#[test]
fn a_producer_that_fails_for_good_is_replaced_and_its_records_go_on_in_order() {
    let cluster = cluster();
    let mut client = client(&cluster.bootstrap_servers(), |_| {});
    submit(&mut client, 0..10);
    outcomes(&mut client, 10);

    // The broker is down, so that the next ones are still with the producer when it fails.
    cluster.broker_down(1).unwrap();
    submit(&mut client, 10..20);
    client.poll(&mut Vec::new());
    fail_for_good(&client);
    let failed = client.producer.client().native_ptr();
    let deadline = Instant::now() + LONG;
    while client.producer.client().native_ptr() == failed {
        assert!(Instant::now() < deadline, "not replaced: {:?}", client.health.read());
        let mut none = Vec::new();
        client.poll(&mut none);
        assert!(none.is_empty(), "a fatal error is no outcome of a record");
    }

    cluster.broker_up(1).unwrap();
    submit(&mut client, 20..30);
    assert!(outcomes(&mut client, 20).iter().all(|outcome| outcome.result.is_ok()));
    let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    assert_eq!(values(&cluster.bootstrap_servers(), 30), expected);
}

#[test]
fn a_sequence_that_the_broker_refuses_costs_no_record() {
    let cluster = cluster();
    let mut client = client(&cluster.bootstrap_servers(), |_| {});
    submit(&mut client, 0..10);
    outcomes(&mut client, 10);
    let first = client.producer.client().native_ptr();
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    submit(&mut client, 10..20);
    let outcomes = outcomes(&mut client, 10);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
    assert_ne!(client.producer.client().native_ptr(), first, "the producer was not replaced: nothing was tested");
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(values(&cluster.bootstrap_servers(), 20), expected);
}

#[test]
fn producers_that_fail_at_once_are_not_made_in_a_whirl() {
    let cluster = cluster();
    let mut client = client(&cluster.bootstrap_servers(), |config| {
        config.delivery.delivery_timeout = Duration::from_millis(1_500);
    });
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 1_000],
    );
    submit(&mut client, 0..3);
    let mut producers = std::collections::HashSet::new();
    let mut outcomes = Vec::new();
    let deadline = Instant::now() + LONG;
    while outcomes.len() < 3 {
        assert!(Instant::now() < deadline, "{:?}", client.health.read());
        client.poll(&mut outcomes);
        producers.insert(client.producer.client().native_ptr());
        std::thread::sleep(SHORTEST_PATIENCE);
    }
    assert!(outcomes.iter().all(|outcome| outcome.result.is_err()), "they time out like any others");
    assert!((2..30).contains(&producers.len()), "{} producers were made", producers.len());
    assert_eq!(client.health.read().state, crate::State::Down);
}

#[test]
fn a_record_that_times_out_says_what_was_heard_last() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut client = client(&free, |config| config.delivery.delivery_timeout = Duration::from_millis(1_500));
    submit(&mut client, 0..3);
    for outcome in outcomes(&mut client, 3) {
        let cause = outcome.result.unwrap_err().cause;
        assert!(cause.contains("1500 ms passed") && cause.contains(&free), "{cause}");
    }
    assert_eq!(client.health.read().state, crate::State::Down);
}

/// Hands over what there is room for, and collects outcomes, until `done`.
fn work(
    client: &mut AsyncClient,
    batches: &mut Vec<Batch>,
    done: impl Fn(&AsyncClient, usize) -> bool,
) -> Vec<Outcome> {
    let deadline = Instant::now() + LONG;
    let mut outcomes = Vec::<Outcome>::new();
    while !done(client, outcomes.iter().map(|outcome| outcome.records).sum()) {
        assert!(Instant::now() < deadline, "{} held; {:?}", client.held.len(), client.health.read());
        while client.has_room()
            && let Some(batch) = batches.first_mut()
        {
            client.submit(batch);
            if batch.is_empty() {
                batches.remove(0);
            }
        }
        client.poll(&mut outcomes);
        std::thread::sleep(client.patience());
    }
    outcomes
}

fn batches(records: usize) -> Vec<Batch> {
    let queue = Queue::new(1_000_000, 1 << 30, Overflow::DropNewest, Arc::default());
    for n in 0..records {
        queue.push(n.to_string().as_bytes(), meta()).unwrap();
    }
    std::iter::from_fn(|| queue.take()).collect()
}

#[test]
fn without_a_broker_it_has_few_records_and_the_others_time_out_by_their_calls_all_the_same() {
    const RECORDS: usize = 3 * WINDOW;
    let timeout = Duration::from_secs(2);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut client = client(&free, |config| config.delivery.delivery_timeout = timeout);
    let mut batches = batches(RECORDS);
    let called = Instant::now();
    work(&mut client, &mut batches, |client, _| client.held.len() == WINDOW);
    assert!(!client.has_room() && batches.iter().map(Batch::len).sum::<usize>() == RECORDS - WINDOW);
    let early = work(&mut client, &mut batches, |_, _| called.elapsed() > timeout / 2);
    assert!(early.is_empty(), "{} outcomes before their time", early.len());
    let outcomes = work(&mut client, &mut batches, |_, records| records == RECORDS);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_err()));
    // Ten times what it takes; librdkafka's own timeout would run from a later hand-over.
    assert!(called.elapsed() < timeout + timeout * 3 / 4, "{:?}", called.elapsed());
}

#[test]
fn what_has_waited_for_long_stays_where_its_timeout_is_kept() {
    let timeout = Duration::from_secs(2);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut client = client(&free, |config| config.delivery.delivery_timeout = timeout);
    let mut batches = batches(3);
    let called = Instant::now();
    work(&mut client, &mut Vec::new(), |_, _| called.elapsed() > timeout / FRESH + Duration::from_millis(200));
    client.submit(&mut batches[0]);
    assert!(batches[0].len() == 3 && client.held.is_empty() && !client.has_room());
    let outcomes = work(&mut client, &mut batches, |_, records| records == 3);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_err()) && called.elapsed() >= timeout);
}

#[test]
fn what_has_waited_for_a_broker_is_sent_once_there_is_one() {
    const RECORDS: usize = 2 * WINDOW;
    let cluster = cluster();
    cluster.broker_down(1).unwrap();
    let mut client = client(&cluster.bootstrap_servers(), |config| {
        config.delivery.delivery_timeout = Duration::from_secs(16);
    });
    let mut batches = batches(RECORDS);
    let called = Instant::now();
    let outcomes = work(&mut client, &mut batches, |_, _| called.elapsed() > Duration::from_secs(3));
    assert!(outcomes.is_empty() && client.held.len() == WINDOW && !client.has_room());
    cluster.broker_up(1).unwrap();
    let outcomes = work(&mut client, &mut batches, |_, records| records == RECORDS);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
}

#[test]
fn the_state_follows_the_connection_without_a_record() {
    let cluster = cluster();
    let mut client = client(&cluster.bootstrap_servers(), |_| {});
    let deadline = Instant::now() + LONG;
    for (change, state) in [(true, crate::State::Up), (false, crate::State::Down), (true, crate::State::Up)] {
        if change {
            cluster.broker_up(1).unwrap()
        } else {
            cluster.broker_down(1).unwrap()
        }
        while client.health.read().state != state {
            assert!(Instant::now() < deadline, "{state:?} expected: {:?}", client.health.read());
            client.poll(&mut Vec::new());
            std::thread::sleep(SHORTEST_PATIENCE);
        }
    }
}

#[test]
fn a_denial_is_kept_by_its_kind_and_no_text_has_what_we_showed() {
    use rdkafka::client::ClientContext as _;

    const ALERT: &str = "Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42";
    for (code, reason, kind) in [
        (RDKafkaErrorCode::Authentication, "user u, password hunter2", Some(StartupErrorKind::Authentication)),
        (RDKafkaErrorCode::SSL, "verify that ssl.ca.location is correctly configured", Some(StartupErrorKind::Tls)),
        (RDKafkaErrorCode::BrokerTransportFailure, ALERT, Some(StartupErrorKind::Tls)),
        (RDKafkaErrorCode::BrokerTransportFailure, "hunter2 hung up", None),
        (RDKafkaErrorCode::Fail, "hunter2 failed", None),
    ] {
        let health = Arc::new(Health::new(Transport::Async, name()));
        let access = Access { secrets: Arc::new(["hunter2".to_owned()]), ..Access::default() };
        let context = Context::new(Arc::clone(&health), access);
        context.error(KafkaError::Global(code), reason);
        assert_eq!(context.denied().map(|denied| denied.kind), kind, "{reason}");
        let shown = health.read().last_error.unwrap();
        assert!(!shown.contains("hunter2") && !shown.contains("ssl.ca.location"), "{shown}");
        assert!(context.denied().is_none_or(|denied| denied.words == shown));
        context.log(rdkafka::config::RDKafkaLogLevel::Error, "FAIL", reason);
        assert!(!health.read().last_error.unwrap().contains("hunter2"));
    }
}
