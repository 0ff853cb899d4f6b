//! Three brokers, any one of which may go away.

use std::thread;
use std::time::Duration;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use rdkafka::consumer::Consumer;
use rdkafka::metadata::{Metadata, MetadataPartition};

use super::client;
use super::kafka::{self, Broker, Version};
use super::proxy::Proxy;
use super::topic;
use super::wait;

/// Leaders move after a session timeout of 3 s, and perhaps the election of another controller.
const CHANGE: Duration = Duration::from_secs(60);

const NODES: usize = 3;

/// Each of the brokers is a controller too, so that two are a majority, whichever one is away.
///
/// Topics have all brokers as replicas and take records while two are in sync (`min.insync.replicas`), so that
/// an acknowledged record survives any one of them. The methods panic when the cluster does not do as told.
pub struct Cluster {
    version: Version,
    brokers: Vec<Broker>,
}

/// The cluster of this version, whole, for as long as the guard is kept.
///
/// It stays until a cluster of another version is asked for: two at a time are much for a small machine.
pub fn shared(version: Version) -> MappedMutexGuard<'static, Cluster> {
    static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);
    let mut shared = SHARED.lock();
    if shared.as_ref().is_none_or(|cluster| cluster.version != version) {
        // The old one ends first.
        *shared = None;
        let cluster =
            Cluster::start(version).unwrap_or_else(|error| panic!("no cluster of Kafka {}: {error}", version.as_str()));
        *shared = Some(cluster);
    }
    let cluster = MutexGuard::map(shared, |shared| shared.as_mut().expect("it was started above"));
    cluster.make_whole();
    cluster
}

impl Cluster {
    pub fn start(version: Version) -> Result<Cluster, String> {
        let brokers = kafka::start_nodes(version, NODES, &[], |_| Ok(()))?;
        Ok(Cluster { version, brokers })
    }

    /// Starts a cluster whose brokers clients reach through proxies, each through its own, in the order of their ids.
    /// The brokers themselves, and tests by `bootstrap`, go past the proxies.
    pub fn start_behind_proxies(version: Version, extra: &[(&str, &str)]) -> Result<(Cluster, Vec<Proxy>), String> {
        let proxies: Vec<Proxy> = (0..NODES).map(|_| Proxy::start(String::new())).collect();
        // A try that failed has begun with the first of them.
        let mut next = proxies.iter().cycle();
        let brokers = kafka::start_nodes(version, NODES, &[], |properties| {
            extra.iter().for_each(|(name, value)| properties.set(name, *value));
            match next.next() {
                Some(proxy) => kafka::lead_through(proxy, properties),
                None => Ok(()),
            }
        })?;
        Ok((Cluster { version, brokers }, proxies))
    }

    /// The addresses of all brokers, of which some may be away.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(Broker::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// The broker with this id, from 1 on.
    pub fn node(&self, id: i32) -> &Broker {
        usize::try_from(id - 1)
            .ok()
            .and_then(|index| self.brokers.get(index))
            .unwrap_or_else(|| panic!("there is no broker {id}"))
    }

    pub fn ids(&self) -> impl Iterator<Item = i32> {
        1..=NODES as i32
    }

    /// Creates a topic that each broker has a replica of, and waits until all of them are in sync.
    pub fn create_topic(&self, name: &str, partitions: usize) {
        topic::create_replicated(&self.bootstrap(), name, partitions, NODES as i32, &[]);
        self.wait_until_in_sync(name);
    }

    /// The id of the broker that leads this partition, once there is one.
    pub fn leader_of(&self, topic: &str, partition: i32) -> i32 {
        let mut leader = -1;
        self.wait_for(&format!("partition {partition} of {topic} to have a leader"), topic, |partitions| {
            leader = partitions.iter().find(|found| found.id() == partition).map_or(-1, MetadataPartition::leader);
            leader >= 0
        });
        leader
    }

    /// The ids of the brokers that have this partition. The first of them that is in sync will lead it next.
    pub fn replicas_of(&self, topic: &str, partition: i32) -> Vec<i32> {
        let mut replicas = Vec::new();
        self.wait_for(&format!("partition {partition} of {topic} to have replicas"), topic, |partitions| {
            let found = partitions.iter().find(|found| found.id() == partition);
            replicas = found.map(|found| found.replicas().to_vec()).unwrap_or_default();
            !replicas.is_empty()
        });
        replicas
    }

    /// Waits until no partition of the topic is led by this broker.
    pub fn wait_until_led_by_others(&self, topic: &str, id: i32) {
        self.wait_for(&format!("others than broker {id} to lead all of {topic}"), topic, |partitions| {
            partitions.iter().all(|partition| partition.leader() >= 0 && partition.leader() != id)
        });
    }

    /// Waits until each broker has all of the topic.
    pub fn wait_until_in_sync(&self, topic: &str) {
        self.wait_until_so_many_in_sync(topic, NODES);
    }

    /// Waits until so many brokers have all of each of the topic's partitions.
    pub fn wait_until_so_many_in_sync(&self, topic: &str, replicas: usize) {
        self.wait_for(&format!("{replicas} replicas of {topic} to be in sync"), topic, |partitions| {
            partitions.iter().all(|partition| partition.isr().len() == replicas)
        });
    }

    /// Starts all that do not run, at the same time: one alone is no majority, and is not ready without one.
    pub fn start_all_again(&self) {
        thread::scope(|scope| {
            for broker in self.brokers.iter().filter(|broker| !broker.runs()) {
                scope.spawn(|| broker.start_again());
            }
        });
    }

    /// Thaws and starts whatever is away, as an earlier test may have left it.
    pub fn make_whole(&self) {
        self.brokers.iter().filter(|broker| broker.runs()).for_each(Broker::thaw);
        self.start_all_again();
        let consumer = client::consumer(&self.bootstrap());
        wait::until("all brokers to be known", CHANGE, || {
            consumer.fetch_metadata(None, client::REQUEST).is_ok_and(|metadata| metadata.brokers().len() == NODES)
        });
    }

    #[track_caller]
    fn wait_for(&self, what: &str, topic: &str, mut condition: impl FnMut(&[MetadataPartition]) -> bool) {
        let consumer = client::consumer(&self.bootstrap());
        wait::until(what, CHANGE, || {
            let metadata = consumer.fetch_metadata(Some(topic), client::REQUEST);
            metadata.is_ok_and(|metadata| {
                let partitions = partitions(&metadata, topic);
                !partitions.is_empty() && condition(partitions)
            })
        });
    }
}

fn partitions<'a>(metadata: &'a Metadata, topic: &str) -> &'a [MetadataPartition] {
    metadata.topics().iter().find(|found| found.name() == topic).map_or(&[], |found| found.partitions())
}
