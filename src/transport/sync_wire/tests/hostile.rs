//! Bytes that are no answer, at each stage: the producer survives them, says so, and delivers once there is an answer.

use kafka_protocol::messages::ApiKey;

use super::broker::Act;
use super::*;
use crate::State;

const STAGES: [ApiKey; 4] = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce];

/// Numbers that look random and are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }
}

/// A frame as long as it says, with anything in it.
fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

fn bench(cluster: &Cluster) -> Bench {
    Bench::of(cluster, |config| {
        config.delivery.request_timeout = 20 * MS;
        config.delivery.connect_timeout = 100 * MS;
        config.delivery.retry_backoff = (MS / 2, MS);
    })
}

/// The first `count` requests at a stage get this; then all is well.
fn first(cluster: &Cluster, stage: ApiKey, count: usize, mut act: impl FnMut(usize) -> Act + Send + 'static) {
    let mut seen = 0;
    cluster.script(move |request| {
        if request.api != stage || seen == count {
            return Act::Answer;
        }
        seen += 1;
        act(seen)
    });
}

#[test]
fn random_bytes_for_an_answer_cost_no_record() {
    for stage in STAGES {
        let cluster = Cluster::new(1, 1);
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15 ^ stage as u64);
        first(&cluster, stage, 100, move |_| {
            let body = noise.bytes(60);
            Act::Bytes(match noise.below(4) {
                // A length of its own choice, which is mostly absurd.
                0 => body,
                _ => frame(&body),
            })
        });
        let mut bench = bench(&cluster);
        bench.submit(0..3);
        bench.wait(3);
        assert_eq!(bench.delivered(), 3, "{stage:?}: {:?}", bench.outcomes);
        assert_eq!(cluster.values(0), numbers(0..3), "{stage:?}");
        assert!(bench.last_error().contains(&cluster.address(1)), "{stage:?}: {}", bench.last_error());
        assert!(cluster.count(stage) > 100);
    }
}

#[test]
fn answers_with_some_bytes_changed_leave_each_record_one_outcome() {
    for stage in STAGES {
        for seed in 1..4 {
            let cluster = Cluster::new(2, 3);
            let mut noise = Noise((seed * 0x2545_f491_4f6c_dd1d) ^ stage as u64);
            first(&cluster, stage, 60, move |_| Act::Mangled(noise.next()));
            let mut bench = Bench::of(&cluster, |config| {
                config.delivery.batch_bytes = 1;
                config.delivery.request_timeout = 20 * MS;
                config.delivery.connect_timeout = 100 * MS;
                config.delivery.retry_backoff = (MS / 2, MS);
                config.delivery.delivery_timeout = 3_000 * MS;
            });
            for n in 0..100 {
                bench.submit_batch(batch([n], true));
            }
            // A lie can be believed: that it may not be written, that there is no leader. But each has one outcome.
            bench.wait(100);
            assert_eq!(bench.outcomes.len(), 100);
            cluster.behave();
            // A lie about a quota would be kept to for a minute, on its connection.
            cluster.close_connections(1);
            cluster.close_connections(2);
            // Partitions, leaders and ports that are none may be on its mind yet.
            let mut next = 100;
            while bench.delivered() == 0 || bench.outcomes.last().unwrap().result.is_err() {
                assert!(next < 110, "{stage:?} {seed}: {:?}", bench.health.read());
                bench.submit([next]);
                next += 1;
                bench.wait(next);
            }
        }
    }
}

#[test]
fn absurd_lengths_and_counts_cost_a_connection_and_no_memory() {
    for stage in STAGES {
        let cluster = Cluster::new(1, 1);
        first(&cluster, stage, 6, |nth| {
            Act::Bytes(match nth {
                1 => vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
                2 => vec![0xff; 64],
                3 => vec![0; 4],
                4 => frame(&[0, 0]),
                // The right number, and then a count that goes on and on.
                5 => frame(&[&[0, 0, 0, 1][..], &[0; 6], &[0x7f, 0xff, 0xff, 0xff]].concat()),
                _ => frame(&[&[0, 0, 0, 1][..], &[0xff; 400]].concat()),
            })
        });
        let mut bench = bench(&cluster);
        bench.submit(0..3);
        bench.wait(3);
        assert_eq!(bench.delivered(), 3, "{stage:?}");
        assert_eq!(cluster.values(0), numbers(0..3), "{stage:?}");
    }
}

#[test]
fn a_server_that_speaks_another_protocol_is_told_of_in_words() {
    let cluster = Cluster::new(1, 1);
    cluster.script(|_| Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let mut bench = bench(&cluster);
    let error = bench.client.check(200 * MS).unwrap_err();
    assert!(error.to_string().contains(&cluster.address(1)), "{error}");
    assert!(error.to_string().contains("length"), "{error}");
    assert_eq!(bench.health.read().state, State::Down);

    cluster.script(|_| Act::HangUp);
    bench.wait_status("a word on TLS", |status| status.last_error.as_ref().is_some_and(|error| error.contains("TLS")));
    cluster.behave();
    bench.client.check(LONG).unwrap();
}

#[test]
fn an_answer_to_no_question_is_none() {
    let cluster = Cluster::new(1, 1);
    let mut bench = bench(&cluster);
    bench.submit(["first"]);
    bench.wait(1);
    first(&cluster, ApiKey::Produce, 1, |_| Act::AndMore(frame(&[0; 40])));
    bench.submit(["second"]);
    bench.wait(2);
    bench.wait_status("the word", |status| status.last_error.as_ref().is_some_and(|error| error.contains("not asked")));
    bench.submit(["third"]);
    bench.wait(3);
    assert_eq!(cluster.values(0), ["first", "second", "third"]);
}

#[test]
fn more_partitions_than_any_topic_has_take_no_minutes() {
    let cluster = Cluster::new(1, 1);
    let mut bench = bench(&cluster);
    bench.submit(["first"]);
    bench.wait(1);
    cluster.change(|state| state.add_partitions(50_000));
    let begun = Instant::now();
    for _ in 0..2 {
        cluster.close_connections(1);
        let metadata = cluster.count(ApiKey::Metadata);
        cluster.wait_count(ApiKey::Metadata, metadata + 1);
        let settled = bench.settled();
        bench.submit(["more"]);
        bench.wait(settled + 1);
    }
    assert!(begun.elapsed() < 8_000 * MS, "{:?}", begun.elapsed());
}
