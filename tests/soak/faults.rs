//! The faults: of brokers, of the network, and what an administrator does, side by side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::rest;
use crate::support::cluster::Cluster;
use crate::support::proxy::{Mode, Proxy};
use crate::support::random::Random;
use crate::support::{topic, wait};

/// How often each fault was made.
pub(crate) type Injected = BTreeMap<&'static str, u64>;

const MOST_PARTITIONS: usize = 8;

pub(crate) struct Faults<'a> {
    cluster: &'a Cluster,
    proxies: &'a [Proxy],
    topics: Vec<&'a str>,
    injected: Mutex<Injected>,
    stop: AtomicBool,
}

impl Faults<'_> {
    pub(crate) fn new<'a>(cluster: &'a Cluster, proxies: &'a [Proxy], topics: Vec<&'a str>) -> Faults<'a> {
        Faults { cluster, proxies, topics, injected: Mutex::default(), stop: AtomicBool::new(false) }
    }

    /// Makes faults until then, and then makes all well again.
    pub(crate) fn inject(&self, seed: u64, until: Instant) -> Injected {
        thread::scope(|scope| {
            scope.spawn(|| self.of_brokers(Random::of(seed, 1)));
            scope.spawn(|| self.of_the_network(Random::of(seed, 2)));
            scope.spawn(|| self.of_topics(Random::of(seed, 3)));
            while Instant::now() < until {
                rest(until.saturating_duration_since(Instant::now()), &self.stop);
            }
            self.stop.store(true, Ordering::Relaxed);
        });
        self.proxies.iter().for_each(Proxy::heal);
        self.cluster.make_whole();
        self.injected.lock().clone()
    }

    fn of_brokers(&self, mut random: Random) {
        while self.goes_on(random.millis(300..2_500)) {
            let broker = self.cluster.node(random.within(1..4) as i32);
            let away = random.millis(100..5_000);
            match random.within(0..10) {
                0..3 => {
                    self.count("a broker frozen");
                    broker.freeze();
                    self.goes_on(away);
                    broker.thaw();
                }
                3..6 => {
                    self.count("a broker killed");
                    broker.kill();
                    self.goes_on(away);
                    broker.start_again();
                }
                6..8 => {
                    self.count("a broker stopped");
                    broker.stop();
                    self.goes_on(away);
                    broker.start_again();
                }
                8 => {
                    self.count("all brokers frozen");
                    self.cluster.ids().for_each(|id| self.cluster.node(id).freeze());
                    self.goes_on(away);
                    self.cluster.ids().for_each(|id| self.cluster.node(id).thaw());
                }
                _ => {
                    self.count("all brokers killed");
                    self.cluster.ids().for_each(|id| self.cluster.node(id).kill());
                    self.goes_on(away);
                    self.cluster.start_all_again();
                }
            }
        }
    }

    fn of_the_network(&self, mut random: Random) {
        while self.goes_on(random.millis(200..2_500)) {
            // A part of the ways to the brokers, or all of them.
            let first = random.within(0..3) as usize;
            let ways = *random.one_of(&[1, 1, 2, 3]);
            let ways: Vec<&Proxy> = self.proxies.iter().cycle().skip(first).take(ways).collect();
            let lasts = random.millis(100..5_000);
            let all = |what: &dyn Fn(&Proxy)| ways.iter().for_each(|way| what(way));
            match random.within(0..8) {
                0 => {
                    let delay = random.millis(5..400);
                    self.count("the network slow to answer");
                    all(&|way| way.delay(delay));
                }
                1 => {
                    let bandwidth = random.within(8_000..200_000) as usize;
                    self.count("little bandwidth");
                    all(&|way| way.limit(Some(bandwidth)));
                }
                2 => {
                    self.count("a black hole that held things back");
                    all(&|way| way.set(Mode::Blackhole));
                }
                3 => {
                    self.count("a black hole that swallowed things");
                    all(&|way| way.set(Mode::Swallow));
                }
                4 => {
                    self.count("connections refused");
                    all(&|way| way.set(Mode::Refuse));
                }
                5 => {
                    self.count("connections ended");
                    all(&|way| way.set(Mode::Cut));
                }
                6 => {
                    self.count("connections reset");
                    all(&|way| way.set(Mode::Reset));
                }
                _ => {
                    let after = random.within(100..3_000) as usize;
                    let before: usize = ways.iter().map(|way| way.halved()).sum();
                    all(&|way| way.halve(after));
                    self.goes_on(lasts);
                    let halved: usize = ways.iter().map(|way| way.halved()).sum();
                    *self.injected.lock().entry("half a request").or_default() += (halved - before) as u64;
                }
            }
            if !matches!(self.proxies[first].mode(), Mode::Cut | Mode::Reset) {
                self.goes_on(lasts);
            }
            all(&|way| way.heal());
        }
    }

    fn of_topics(&self, mut random: Random) {
        let mut partitions: BTreeMap<&str, usize> = BTreeMap::new();
        while !self.topics.is_empty() && self.goes_on(random.millis(8_000..16_000)) {
            let topic = *random.one_of(&self.topics);
            let known = *partitions.entry(topic).or_insert_with(|| topic::partitions(&self.cluster.bootstrap(), topic));
            if known == 0 || known >= MOST_PARTITIONS {
                partitions.remove(topic);
                continue;
            }
            // Refused while no majority of the brokers is there: then there is simply none.
            if topic::try_add_partitions(&self.cluster.bootstrap(), topic, known + 1) {
                self.count("a partition added");
                partitions.insert(topic, known + 1);
            } else {
                partitions.remove(topic);
            }
        }
    }

    /// Waits so long; whether there is to be anything after it.
    fn goes_on(&self, pause: Duration) -> bool {
        !wait::holds_within(pause, || self.stop.load(Ordering::Relaxed))
    }

    fn count(&self, fault: &'static str) {
        *self.injected.lock().entry(fault).or_default() += 1;
    }
}
