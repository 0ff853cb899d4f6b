//! What the suite runs over: a client and a broker.

use std::sync::OnceLock;
use std::time::Duration;

use kafka_log::{Config, SyncProducer, Transport};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::support::kafka::{self, Broker, Version};
use crate::support::reader::{self, ReadRecord};
use crate::support::topic;
use crate::support::wait;
use crate::{
    Case, awaited, cluster, exit, faults, options, overflow, parity, readers, records, restarts, secrets, security,
    spool, startup, topics,
};

/// Long enough for anything that works, on a machine that does something else beside.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// What carries the records: a transport, and for `sync` the producer that it is told to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Async,
    /// The `kafka` crate.
    Kafka,
    Wire,
}

/// Those that this build has.
fn clients() -> Vec<Client> {
    let mut clients = Vec::new();
    if cfg!(feature = "async") {
        clients.push(Client::Async);
    }
    if cfg!(feature = "sync") {
        clients.extend([Client::Kafka, Client::Wire]);
    }
    clients
}

impl Client {
    pub(crate) fn transport(self) -> Transport {
        match self {
            Client::Async => Transport::Async,
            Client::Kafka | Client::Wire => Transport::Sync,
        }
    }

    /// Has the logger use this client and no other.
    pub(crate) fn chosen(self, config: Config) -> Config {
        self.chosen_of_sync(config.transport(self.transport()))
    }

    /// The same where the transport is chosen already.
    pub(crate) fn chosen_of_sync(self, config: Config) -> Config {
        match self {
            Client::Async => config,
            Client::Kafka => config.sync_producer(SyncProducer::Kafka),
            Client::Wire => config.sync_producer(SyncProducer::Wire),
        }
    }

    /// Whether this is what a logger's status calls it.
    pub(crate) fn is_called(self, client: &str) -> bool {
        match self {
            Client::Async => client.starts_with("librdkafka "),
            Client::Kafka => client.starts_with("kafka "),
            Client::Wire => !client.starts_with("librdkafka ") && !client.starts_with("kafka "),
        }
    }

    /// The one with this `Debug`.
    pub(crate) fn named(name: &str) -> Client {
        let all = [Client::Async, Client::Kafka, Client::Wire];
        let found = all.into_iter().find(|client| format!("{client:?}") == name);
        found.unwrap_or_else(|| panic!("there is no client {name}"))
    }
}

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) kafka: Option<Version>,
}

/// Every pair that this build can run.
pub(crate) fn all() -> Vec<Target> {
    let mut all = Vec::new();
    for client in clients() {
        // It speaks none of the protocol's versions that the `kafka` crate does.
        if client != Client::Kafka {
            all.push(Target { client, kafka: None });
        }
        all.extend(Version::ALL.map(|version| Target { client, kafka: Some(version) }));
    }
    all
}

/// The cases for librdkafka's mock cluster, which is quick and knows neither limits nor restarts with data.
pub(crate) fn embedded_cases() -> Vec<Case> {
    vec![
        ("a_hundred_thousand_records_arrive_exactly_as_sent", records::a_hundred_thousand),
        ("the_check_passes_where_records_can_be_delivered", startup::check_passes),
        ("faults::errors_that_pass_cost_no_record", faults::errors_that_pass),
        ("faults::errors_that_stay_cost_one_record_and_no_more", faults::errors_that_stay),
    ]
}

impl Target {
    pub(crate) fn name(&self) -> String {
        let broker = self.kafka.map_or("embedded".into(), |version| format!("kafka_{}", version.as_str()));
        let client = match self.client {
            Client::Async => "async",
            Client::Kafka => "sync_kafka",
            Client::Wire => "sync_wire",
        };
        format!("{client}::{broker}")
    }

    pub(crate) fn is_real(&self) -> bool {
        self.kafka.is_some()
    }

    /// The cases for a real broker.
    pub(crate) fn cases(&self) -> Vec<Case> {
        if !self.is_served() {
            return vec![
                ("the_check_names_a_broker_that_cannot_be_served", startup::check_names_kip_896),
                ("in_the_background_the_state_is_down_and_says_why", startup::background_names_kip_896),
            ];
        }
        let mut cases: Vec<Case> = vec![
            ("the_check_passes_where_records_can_be_delivered", startup::check_passes),
            ("the_check_names_a_topic_that_does_not_exist", startup::check_names_the_topic),
            ("a_hundred_thousand_records_arrive_exactly_as_sent", records::a_hundred_thousand),
            ("records_arrive_with_all_acks_and_compressions", options::acks_and_compressions),
            ("text_lines_and_strange_payloads_arrive", records::strange_payloads),
            ("the_quickstart_runs_on_this_broker", records::quickstart),
            ("a_topic_that_appears_later_gets_its_records", topics::appears_later),
            ("a_record_over_the_topics_limit_fails_alone", topics::over_the_limit),
            ("a_record_that_is_cut_to_the_topics_limit_arrives", topics::cut_to_the_limit),
            (
                "an_outage_that_outlasts_the_delivery_timeout_goes_to_the_fallback",
                topics::outlasts_the_delivery_timeout,
            ),
            ("an_awaited_delivery_is_where_it_says", awaited::resolves_to_where_the_record_is),
            ("without_acknowledgements_there_is_no_offset", awaited::without_acknowledgements_there_is_no_offset),
            (
                "a_refused_record_is_told_with_its_payload",
                awaited::a_record_the_broker_refuses_is_told_with_its_payload,
            ),
            (
                "a_frozen_broker_resolves_what_is_awaited_at_the_shutdown",
                awaited::a_frozen_broker_resolves_them_at_the_shutdown,
            ),
            ("drop_newest_is_exact", overflow::drop_newest),
            ("drop_oldest_is_exact", overflow::drop_oldest),
            ("drop_below_is_exact", overflow::drop_below),
            ("block_loses_nothing", overflow::block),
            ("block_for_is_exact", overflow::block_for),
            ("a_return_from_main_without_a_guard_delivers_all", exit::return_from_main),
            ("process_exit_delivers_all", exit::process_exit),
            ("each_other_ending_keeps_what_the_readme_says", exit::each_ending),
            ("a_broker_that_freezes_loses_nothing", restarts::frozen),
            ("a_broker_that_is_away_for_five_seconds_loses_nothing", restarts::stopped),
            ("client_id_is_on_every_request", options::client_id_is_on_every_request),
            ("acks_are_asked_for", options::acks_are_asked_for),
            ("compression_is_on_the_batches", options::compression_is_on_the_batches),
            ("linger_gathers_records", options::linger_gathers_records),
            ("batch_bytes_bounds_the_batches", options::batch_bytes_bounds_the_batches),
            ("request_timeout_is_given_to_the_broker", options::request_timeout_is_given_to_the_broker),
        ];
        if self.is_idempotent() {
            cases.push(("idempotence_numbers_the_batches", options::idempotence_numbers_the_batches));
        }
        if self.has_record_times() {
            cases.push(("a_record_has_the_time_of_its_call", options::a_record_has_the_time_of_its_call));
        }
        if self.client == Client::Async {
            cases.push(("client_option_reaches_librdkafka", options::client_option_reaches_librdkafka));
        }
        // These have no broker, so one version is enough.
        if self.kafka == Some(Version::V3_9_1) {
            cases.extend::<[Case; 3]>([
                ("delivery_timeout_fails_a_record_then", options::delivery_timeout_fails_a_record_then),
                ("connect_timeout_ends_an_attempt_then", options::connect_timeout_ends_an_attempt_then),
                ("retry_backoff_is_between_attempts", options::retry_backoff_is_between_attempts),
            ]);
        }
        cases
    }

    /// The cases with a broker behind a proxy of their own.
    pub(crate) fn fault_cases(&self) -> Vec<Case> {
        let of_connections: [Case; 2] = [
            ("faults::half_a_request_loses_nothing", faults::half_requests),
            ("faults::connections_that_are_reset_lose_nothing", faults::resets),
        ];
        match (self.client, self.kafka) {
            (Client::Kafka, Some(Version::V3_9_1)) => of_connections.into(),
            (Client::Kafka, _) => Vec::new(),
            _ => [
                &of_connections[..],
                &[
                    ("faults::a_broker_with_an_empty_disk_gets_all_that_is_new", faults::an_empty_disk),
                    ("faults::a_slow_network_loses_nothing", faults::a_slow_network),
                    ("faults::requests_that_nobody_answers_lose_nothing", faults::swallowed),
                    ("faults::a_peer_that_is_silent_from_the_start_loses_nothing", faults::silent_from_the_start),
                    ("faults::an_idle_connection_costs_the_next_record_nothing", faults::idle),
                    ("faults::a_broker_that_is_killed_loses_nothing", faults::killed),
                    (
                        "faults::each_record_that_outlives_its_timeout_is_told_once",
                        faults::longer_than_the_delivery_timeout,
                    ),
                    ("faults::a_client_that_is_throttled_loses_nothing", faults::throttled),
                ],
            ]
            .concat(),
        }
    }

    /// The cases with records on the disk.
    pub(crate) fn spool_cases(&self) -> Vec<Case> {
        if !cfg!(feature = "spool") || self.client == Client::Kafka {
            return Vec::new();
        }
        vec![
            ("spool::more_than_memory_holds_waits_on_the_disk_and_arrives_in_order", spool::more_than_memory_holds),
            ("spool::what_an_end_leaves_is_replayed_by_the_next_logger", spool::left_at_the_end),
            (
                "spool::a_process_that_is_killed_loses_no_record_whose_call_had_returned",
                spool::killed_while_it_writes_ahead,
            ),
            (
                "spool::an_outage_that_outlasts_the_delivery_timeout_fails_no_record",
                spool::longer_than_the_delivery_timeout,
            ),
        ]
    }

    /// The cases for a broker that asks for encryption and credentials.
    pub(crate) fn secure_cases(&self) -> Vec<Case> {
        if !cfg!(feature = "tls") || self.client == Client::Kafka {
            return Vec::new();
        }
        let mut cases: Vec<Case> = vec![
            ("secure::a_trusted_certificate_delivers", security::trusted_certificate),
            ("secure::a_certificate_that_is_not_trusted_is_refused", security::untrusted_certificates),
            ("secure::a_certificate_of_another_name_or_time_is_refused", security::wrong_certificates),
            ("secure::a_client_certificate_is_shown_to_a_broker_that_wants_one", security::client_certificates),
            ("secure::encryption_on_one_side_only_ends_in_time", security::encryption_on_one_side),
            ("secure::each_mechanism_delivers", security::mechanisms),
            ("secure::a_password_comes_from_its_file", security::password_files),
            ("secure::wrong_credentials_are_refused_and_not_shown", security::wrong_credentials),
            ("secure::in_the_background_wrong_credentials_are_not_shown", security::wrong_in_the_background),
            ("secure::a_token_that_cannot_be_had_is_told", security::no_token),
            ("secure::a_secret_is_not_sent_unencrypted_unasked", security::secrets_stay),
            ("secure::a_session_is_renewed_on_its_connection", security::sessions),
            ("secure::a_session_is_renewed_with_another_token", security::tokens),
            ("secure::a_topic_without_rights_is_refused_until_they_are_given", security::no_rights),
            (
                "secure::a_topic_that_may_only_be_seen_refuses_records_until_more_is_allowed",
                security::no_right_to_write,
            ),
        ];
        // What is said does not depend on the broker's version.
        if self.kafka == Some(Version::V4_4_0) {
            cases.push(("secure::no_secret_is_in_any_text", secrets::in_no_text));
        }
        cases
    }

    /// The cases for a cluster of three.
    pub(crate) fn cluster_cases(&self) -> Vec<Case> {
        if !self.is_served() {
            return Vec::new();
        }
        let mut cases: Vec<Case> = vec![
            ("cluster::a_leader_that_is_killed_loses_nothing", cluster::a_leader_that_is_killed),
            ("cluster::a_rolled_cluster_loses_nothing", cluster::rolled),
        ];
        if self.client != Client::Kafka {
            cases.push(("cluster::a_leader_with_too_few_replicas_loses_nothing", faults::too_few_replicas));
        }
        cases
    }

    /// The cases with Python: beside its sink, and read by its clients.
    pub(crate) fn parity_cases(&self) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        if self.is_served() {
            cases.push(("the_payload_is_the_python_sinks", parity::same_payload));
            cases.push(("what_differs_from_the_python_sink_is_what_is_documented", parity::documented_differences));
        }
        if self.client == Client::Wire {
            cases.push(("every_client_reads_each_compression", readers::all_read_each_compression));
        }
        if self.client == Client::Async {
            cases.push(("the_payload_is_the_python_sinks_by_its_sync_client", parity::same_payload_from_sync_python));
        }
        cases
    }

    pub(crate) fn bootstrap(&self) -> String {
        match self.kafka {
            Some(_) => self.broker().bootstrap(),
            None => embedded(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.kafka.expect("this case is for real brokers")
    }

    /// The real broker, shared by all trials of this version.
    pub(crate) fn broker(&self) -> &'static Broker {
        kafka::shared(self.version())
    }

    /// Whether the client can write to the broker at all.
    pub(crate) fn is_served(&self) -> bool {
        self.client != Client::Kafka || self.kafka != Some(Version::V4_4_0)
    }

    /// Whether a record that was sent again is in the log once all the same.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.client != Client::Kafka
    }

    /// Whether records have the time of their calls: the oldest form of them has none.
    pub(crate) fn has_record_times(&self) -> bool {
        self.client != Client::Kafka
    }

    /// Whether batches can be compressed with lz4, and are by default.
    pub(crate) fn has_lz4(&self) -> bool {
        self.client != Client::Kafka
    }

    /// A configuration for a topic of its own.
    pub(crate) fn config(&self, topic: &str) -> Config {
        self.config_at(&self.bootstrap(), topic)
    }

    /// The same, on other brokers than the shared one.
    pub(crate) fn config_at(&self, bootstrap: &str, topic: &str) -> Config {
        self.client.chosen(Config::new(bootstrap, topic))
    }

    pub(crate) fn create_topic(&self, prefix: &str, partitions: usize, configs: &[(&str, &str)]) -> String {
        let name = topic::unique(prefix);
        // The mock cluster has no admin requests; it creates topics when they are asked about.
        if self.is_real() {
            topic::create(&self.bootstrap(), &name, partitions, configs);
        }
        name
    }

    /// Reads the topic with a client other than the one that wrote it.
    pub(crate) fn read(&self, topic: &str, expected: usize) -> Vec<ReadRecord> {
        self.read_at(&self.bootstrap(), topic, expected)
    }

    /// The same, on other brokers than the shared one.
    pub(crate) fn read_at(&self, bootstrap: &str, topic: &str, expected: usize) -> Vec<ReadRecord> {
        match (self.client, self.kafka) {
            // The writer was librdkafka, so Apache Kafka's own consumer reads.
            (Client::Async, Some(version)) => reader::java_console(version, bootstrap, topic, expected, LONG),
            // Nothing but librdkafka itself reads from its mock cluster here.
            _ => {
                // It reads what is there at the call; without acknowledgements the last records may be on their way yet.
                let mut records = Vec::new();
                wait::holds_within(Duration::from_secs(10), || {
                    records = reader::librdkafka(bootstrap, topic, LONG);
                    records.len() >= expected
                });
                records
            }
        }
    }
}

/// The embedded broker, which lives as long as the process.
fn embedded() -> String {
    static SERVERS: OnceLock<String> = OnceLock::new();
    SERVERS
        .get_or_init(|| {
            let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).expect("no mock cluster");
            let servers = cluster.bootstrap_servers();
            std::mem::forget(cluster);
            servers
        })
        .clone()
}
