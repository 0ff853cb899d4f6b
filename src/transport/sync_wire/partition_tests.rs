//! A partition's loads through everything that a broker, a connection and the clock do to them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::load::limit;
use super::super::records::Encoder;
use super::super::tests::log::{Log, SentBatch};
use super::*;
use crate::config::Compression;
use crate::delivery::{DeliveryErrorKind, Tracked};
use crate::queue::{Batch, Meta};
use crate::severity::Severity;
use crate::transport::{Failure, Outcome};

const HOUR: Duration = Duration::from_secs(3600);
const CONNECTION: usize = 7;

/// A partition and what is around it; the clock goes by records: each is one second younger than the one before.
struct Bench {
    partition: Partition,
    encoder: Encoder,
    epoch: i16,
    /// The first record's time.
    start: Instant,
    logged: usize,
    next_id: u64,
    outcomes: Vec<Outcome>,
}

impl Bench {
    fn new() -> Bench {
        let mut partition = Partition::new(4, (Duration::from_millis(1), Duration::from_millis(1)));
        partition.leader = Some(1);
        let mut bench = Bench {
            partition,
            encoder: Encoder::default(),
            epoch: 0,
            start: Instant::now(),
            logged: 0,
            next_id: 0,
            outcomes: Vec::new(),
        };
        bench.adopt();
        bench.partition.confirmed = true;
        bench
    }

    /// The session as it is; its epoch is raised where the partition asks for that.
    fn adopt(&mut self) {
        let session = |epoch| Producer { id: 1, epoch, base_sequence: 0 };
        if self.partition.wants_epoch(session(self.epoch)) {
            self.epoch += 1;
        }
        self.partition.adopt(session(self.epoch));
    }

    /// A new load; each record's payload is its number.
    fn add(&mut self, records: usize, tracked: bool) -> u64 {
        let mut batch = Batch::default();
        batch.start(self.logged as u64);
        for _ in 0..records {
            batch.push(self.logged.to_string().as_bytes(), self.meta(tracked));
            self.logged += 1;
        }
        let mut waiting = VecDeque::from([batch]);
        self.next_id += 1;
        self.partition.add(Load::gather(self.next_id, &mut waiting, usize::MAX, 0).unwrap());
        self.next_id
    }

    fn meta(&self, tracked: bool) -> Meta {
        let called = self.start + Duration::from_secs(self.logged as u64);
        let tracked = tracked.then(|| Arc::new(Tracked::new(None, true)));
        Meta { severity: Severity::Info, timestamp_ms: 0, called: called.into(), number: 0, tracked }
    }

    /// Loads of so many records, all under way.
    fn under_way(records: &[usize]) -> (Bench, Vec<u64>) {
        let mut bench = Bench::new();
        let ids = records.iter().map(|records| bench.add(*records, true)).collect();
        bench.send(CONNECTION);
        (bench, ids)
    }

    /// Sends what can be sent, and says under which numbers, with how many records.
    fn send(&mut self, connection: usize) -> Vec<(u64, i32, usize)> {
        let mut sent = Vec::new();
        while let Some((id, batch)) = self.send_one(connection, usize::MAX) {
            sent.push((id, batch.base_sequence, batch.values.len()));
        }
        sent
    }

    fn send_one(&mut self, connection: usize, most: usize) -> Option<(u64, SentBatch)> {
        self.adopt();
        let producer = self.partition.producer();
        // Pauses are over by then.
        let load = self.partition.next_to_send(connection, most, self.start + 1_000_000 * HOUR)?;
        let encoded = load.encode(&mut self.encoder, Compression::None, producer, None).unwrap();
        load.way = Way::UnderWay { connection, sequence: load.sequence };
        Some((load.id, read(&encoded)))
    }

    fn answer(&mut self, id: u64, error: ErrorCode) -> Option<Verdict> {
        let next_id = &mut self.next_id;
        self.partition.conclude(id, error, || {
            *next_id += 1;
            *next_id
        })
    }

    /// The clock is so far that the first records are past their time.
    fn expire(&mut self, records: usize) {
        let limit = limit(self.start + Duration::from_secs(records as u64) + HOUR, HOUR).unwrap();
        // The record with this very number is not over yet.
        let limit = limit - Duration::from_millis(1);
        let outcomes = &mut self.outcomes;
        self.partition.expire(|load| {
            let failure = failure(DeliveryErrorKind::TimedOut, load.maybe_there || load.way != Way::Waits);
            load.expire(limit, &failure, outcomes);
        });
    }

    fn delivered(&mut self, load: Load, offset: i64) {
        load.delivered(4, Some(offset), &mut self.outcomes, &mut Vec::new());
    }

    fn offsets(&self) -> Vec<Option<i64>> {
        self.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()).map(|ack| ack.offset).collect()
    }

    /// Numbers, lengths: as they stand.
    fn sequences(&self) -> Vec<(i32, usize)> {
        self.partition.loads().map(|load| (load.sequence, load.len())).collect()
    }

    /// Each load's numbers follow on those of the one before.
    fn assert_in_sequence(&self) {
        assert!(self.gaps().iter().all(|gap| *gap == 0), "{:?}", self.sequences());
    }

    /// How many numbers are left out after each load.
    fn gaps(&self) -> Vec<i64> {
        let ends = self.partition.loads().map(|load| {
            // One that is under way as something else has its numbers from its next attempt on.
            sequence_after(load.sequence, if load.is_renumbered() { load.left() } else { load.len() })
        });
        let begins = self.partition.loads().skip(1).map(|load| load.sequence);
        let half = 1 << 30;
        ends.zip(begins.chain([self.partition.next_sequence]))
            .map(|(end, begin)| (begin.wrapping_sub(end) & i32::MAX) as i64)
            .map(|gap| if gap < half { gap } else { gap - 2 * half })
            .collect()
    }

    fn may_be_there(&self, records: &[bool]) {
        let told: Vec<bool> =
            self.outcomes.iter().map(|outcome| outcome.result.as_ref().unwrap_err().possibly_delivered).collect();
        assert_eq!(told, records);
    }
}

fn failure(kind: DeliveryErrorKind, possibly_delivered: bool) -> Failure {
    Failure { kind, possibly_delivered, cause: "as scripted".into(), payload: Vec::new(), wanted: false }
}

fn read(encoded: &[u8]) -> SentBatch {
    use bytes::Bytes;
    use kafka_protocol::records::RecordBatchDecoder;
    let base_sequence = i32::from_be_bytes(encoded[53..57].try_into().unwrap());
    let set = RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(encoded)).unwrap();
    let first = set.records.first().expect("a batch without records");
    let producer = (first.producer_id, first.producer_epoch);
    let value = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
    SentBatch {
        producer,
        base_sequence,
        values: set.records.iter().map(|r| value(r.value.as_ref().unwrap())).collect(),
    }
}

fn assert_again(verdict: Option<Verdict>) {
    assert!(matches!(verdict, Some(Verdict::Again)), "{verdict:?}");
}

fn refused(verdict: Option<Verdict>) -> Load {
    let Some(Verdict::Refused(load)) = verdict else { panic!("{verdict:?}") };
    load
}

#[test]
fn loads_are_numbered_one_after_the_other_and_again_from_zero_after_the_last_number() {
    let mut bench = Bench::new();
    bench.partition.next_sequence = i32::MAX - 4;
    for records in [3, 4, 2] {
        bench.add(records, false);
    }
    let sent: Vec<_> = bench.send(CONNECTION).into_iter().map(|(_, sequence, records)| (sequence, records)).collect();
    // The second takes the last two numbers and the first two.
    assert_eq!(sent, [(i32::MAX - 4, 3), (i32::MAX - 1, 4), (2, 2)]);
    assert_eq!(bench.partition.next_sequence, 4);
    assert_eq!(sequence_after(i32::MAX, 1), 0);
}

#[test]
fn what_was_under_way_on_a_lost_connection_goes_again_in_its_order_and_under_its_numbers() {
    let (mut bench, ids) = Bench::under_way(&[3, 1, 2]);
    assert_eq!(bench.send(CONNECTION), []);
    bench.partition.lose(CONNECTION + 1);
    assert!(!bench.partition.has_waiting());
    bench.partition.lose(CONNECTION);
    assert_eq!(bench.send(9), [(ids[0], 0, 3), (ids[1], 3, 1), (ids[2], 4, 2)]);
}

#[test]
fn a_load_waits_for_an_elder_that_is_under_way_on_another_connection() {
    let (mut bench, ids) = Bench::under_way(&[1, 1]);
    assert_again(bench.answer(ids[1], ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert_eq!(bench.send(9), [], "the first may still be answered");
    bench.partition.lose(CONNECTION);
    assert_eq!(bench.send(9), [(ids[0], 0, 1), (ids[1], 1, 1)]);
}

#[test]
fn a_new_load_waits_while_an_elder_is_to_be_sent_again() {
    let (mut bench, ids) = Bench::under_way(&[1, 1]);
    assert!(bench.partition.takes_new(5) && !bench.partition.takes_new(2));
    assert_again(bench.answer(ids[0], ErrorCode::NOT_ENOUGH_REPLICAS));
    assert!(!bench.partition.takes_new(5));
    bench.partition.leader = None;
    bench.send(CONNECTION);
    assert!(!bench.partition.takes_new(5), "without a leader");
}

#[test]
fn a_load_that_fails_takes_those_behind_it_along() {
    let (mut bench, ids) = Bench::under_way(&[2, 3, 4]);
    assert_again(bench.answer(ids[0], ErrorCode::NOT_ENOUGH_REPLICAS));
    // Behind a load that is sent again this was to be expected, and is no reason for another session.
    assert_again(bench.answer(ids[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_again(bench.answer(ids[2], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(bench.send(CONNECTION), [(ids[0], 0, 2), (ids[1], 2, 3), (ids[2], 5, 4)]);
}

#[test]
fn at_the_front_an_unknown_sequence_is_the_end_of_the_session() {
    for error in [
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::PRODUCER_FENCED,
        ErrorCode::INVALID_PRODUCER_ID_MAPPING,
    ] {
        let (mut bench, ids) = Bench::under_way(&[2, 3]);
        let first = bench.answer(ids[0], ErrorCode::NONE);
        assert!(matches!(first, Some(Verdict::Delivered(_))));
        let verdict = bench.answer(ids[1], error);
        assert!(matches!(verdict, Some(Verdict::StartOver)), "{error}: {verdict:?}");
        assert!(!bench.partition.takes_new(5));
        assert_eq!(bench.send(CONNECTION), [(ids[1], 0, 3)]);
        assert_eq!(bench.partition.producer().epoch, 1);
        bench.assert_in_sequence();
    }
}

#[test]
fn what_the_broker_has_already_is_delivered_without_an_offset_to_go_by() {
    let (mut bench, ids) = Bench::under_way(&[2]);
    let verdict = bench.answer(ids[0], ErrorCode::DUPLICATE_SEQUENCE_NUMBER);
    assert!(matches!(verdict, Some(Verdict::Delivered(_))), "{verdict:?}");
    assert!(bench.partition.is_idle());
}

#[test]
fn an_answer_for_what_is_not_under_way_means_nothing() {
    let (mut bench, ids) = Bench::under_way(&[2]);
    assert!(bench.answer(99, ErrorCode::NONE).is_none());
    bench.partition.lose(CONNECTION);
    assert!(bench.answer(ids[0], ErrorCode::NONE).is_none());
    assert_eq!(bench.send(CONNECTION), [(ids[0], 0, 2)]);
}

#[test]
fn the_numbers_of_a_refused_load_go_to_the_next() {
    let (mut bench, ids) = Bench::under_way(&[2, 3, 4]);
    let load = refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
    assert_eq!((load.id, load.maybe_there), (ids[0], false));
    // Under way with numbers that they no longer have.
    assert_again(bench.answer(ids[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_again(bench.answer(ids[2], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(bench.send(CONNECTION), [(ids[1], 0, 3), (ids[2], 3, 4)]);
    bench.add(1, false);
    bench.assert_in_sequence();
}

#[test]
fn a_load_that_is_taken_under_a_number_that_it_lost_ends_the_sequence() {
    let (mut bench, ids) = Bench::under_way(&[1, 1]);
    refused(bench.answer(ids[0], ErrorCode::MESSAGE_TOO_LARGE));
    assert!(!bench.partition.ended);
    let verdict = bench.answer(ids[1], ErrorCode::NONE);
    assert!(matches!(verdict, Some(Verdict::Delivered(_))), "{verdict:?}");
    assert!(bench.partition.ended);
    bench.adopt();
    let id = bench.add(1, false);
    assert_eq!((bench.send(CONNECTION), bench.partition.producer().epoch), (vec![(id, 0, 1)], 1));
}

#[test]
fn refusals_say_whether_an_earlier_attempt_may_have_succeeded() {
    for (attempt, in_doubt) in [
        (ErrorCode::NOT_ENOUGH_REPLICAS, false),
        (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, true),
        (ErrorCode::REQUEST_TIMED_OUT, true),
        // It may have ceased to lead while it waited for its followers.
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, true),
        (ErrorCode::KAFKA_STORAGE_ERROR, true),
    ] {
        let (mut bench, ids) = Bench::under_way(&[2]);
        assert_again(bench.answer(ids[0], attempt));
        bench.send(CONNECTION);
        let load = refused(bench.answer(ids[0], ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        // Of which nobody knows whether it has its numbers.
        assert_eq!((load.maybe_there, bench.partition.ended), (in_doubt, in_doubt), "{attempt}");
    }
    let (mut bench, ids) = Bench::under_way(&[2]);
    assert!(refused(bench.answer(ids[0], ErrorCode::UNKNOWN_SERVER_ERROR)).maybe_there);
}

#[test]
fn a_load_that_is_too_large_is_halved_down_to_the_record() {
    let (mut bench, ids) = Bench::under_way(&[8, 2]);
    let mut id = ids[0];
    for left in [4, 2, 1] {
        assert_again(bench.answer(id, ErrorCode::MESSAGE_TOO_LARGE));
        // The first half keeps its id, and both stand where the whole stood.
        let sent = bench.send(CONNECTION);
        assert_eq!((sent[0].0, sent[0].1, sent[0].2), (id, 0, left));
        assert_eq!((sent[1].1, sent[1].2), (left as i32, left));
        bench.assert_in_sequence();
        assert_eq!(bench.sequences().last(), Some(&(8, 2)), "its neighbour is unharmed");
        id = sent[0].0;
    }
    let giant = refused(bench.answer(id, ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!((giant.len(), giant.bytes()), (1, 1));
    assert_eq!(bench.sequences(), [(0, 1), (1, 2), (3, 4), (7, 2)]);
    bench.assert_in_sequence();
    giant.failed(&failure(DeliveryErrorKind::Rejected, false), &mut bench.outcomes);
    assert_eq!(bench.outcomes[0].result.as_ref().unwrap_err().payload, b"0");
}

#[test]
fn halving_does_not_mind_where_the_batches_of_a_load_end() {
    for sizes in [&[1, 1, 1][..], &[5, 1], &[1, 5], &[2, 2], &[1, 1], &[3, 3, 3, 1], &[1, 7, 1]] {
        let mut waiting: VecDeque<Batch> = VecDeque::new();
        let mut bench = Bench::new();
        for size in sizes {
            let mut batch = Batch::default();
            for _ in 0..*size {
                batch.push(bench.logged.to_string().as_bytes(), bench.meta(true));
                bench.logged += 1;
            }
            waiting.push_back(batch);
        }
        let load = Load::gather(1, &mut waiting, usize::MAX, 0).unwrap();
        let total = sizes.iter().sum::<usize>();
        let (first, second) = load.halves(2).unwrap();
        assert_eq!((first.len(), second.len()), (total / 2, total - total / 2), "{sizes:?}");
        bench.delivered(first, 0);
        bench.delivered(second, total as i64 / 2);
        assert_eq!(bench.offsets(), (0..total as i64).map(Some).collect::<Vec<_>>());
    }
}

#[test]
fn records_that_expire_before_an_attempt_leave_no_trace() {
    let mut bench = Bench::new();
    let ids = [bench.add(2, true), bench.add(3, true)];
    bench.expire(3);
    bench.may_be_there(&[false; 3]);
    // Two are left, and they begin the sequence.
    assert_eq!(bench.send(CONNECTION), [(ids[1], 0, 2)]);
    bench.assert_in_sequence();
}

#[test]
fn records_that_expire_after_a_refused_attempt_leave_no_trace_either() {
    let (mut bench, ids) = Bench::under_way(&[4]);
    assert_again(bench.answer(ids[0], ErrorCode::NOT_ENOUGH_REPLICAS));
    bench.expire(2);
    bench.may_be_there(&[false; 2]);
    let (_, batch) = bench.send_one(CONNECTION, 5).unwrap();
    assert_eq!((batch.base_sequence, batch.values), (0, vec!["2".to_owned(), "3".to_owned()]));
    let Some(Verdict::Delivered(load)) = bench.answer(ids[0], ErrorCode::NONE) else { panic!() };
    bench.delivered(load, 100);
    assert_eq!(bench.offsets(), [Some(100), Some(101)]);
}

#[test]
fn records_that_expire_under_way_are_possibly_there_and_count_in_the_offsets() {
    let (mut bench, ids) = Bench::under_way(&[4, 2]);
    bench.expire(3);
    bench.may_be_there(&[true; 3]);
    let Some(Verdict::Delivered(load)) = bench.answer(ids[0], ErrorCode::NONE) else { panic!() };
    bench.delivered(load, 100);
    assert_eq!(bench.offsets(), [Some(103)]);
}

#[test]
fn an_attempt_without_an_answer_goes_again_whole_whatever_expired_meanwhile() {
    // Other bytes under the same number would be another batch.
    let (mut bench, ids) = Bench::under_way(&[4]);
    bench.partition.lose(CONNECTION);
    bench.expire(3);
    bench.may_be_there(&[true; 3]);
    assert_eq!(bench.send(CONNECTION), [(ids[0], 0, 4)]);
    let Some(Verdict::Delivered(load)) = bench.answer(ids[0], ErrorCode::NONE) else { panic!() };
    bench.delivered(load, 100);
    assert_eq!(bench.offsets(), [Some(103)]);
}

#[test]
fn a_load_that_is_laid_out_anew_without_what_expired_has_the_right_offsets() {
    let (mut bench, ids) = Bench::under_way(&[2, 4]);
    bench.partition.lose(CONNECTION);
    bench.expire(5);
    // The first has ended without a word: the next number stays, and the broker says whether it is the right one.
    assert_eq!(bench.send(CONNECTION), [(ids[1], 2, 4)]);
    let verdict = bench.answer(ids[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert!(matches!(verdict, Some(Verdict::StartOver)), "{verdict:?}");
    assert_eq!(bench.send(CONNECTION), [(ids[1], 0, 1)]);
    let Some(Verdict::Delivered(load)) = bench.answer(ids[1], ErrorCode::NONE) else { panic!() };
    bench.delivered(load, 50);
    assert_eq!(bench.offsets(), [Some(50)]);

    // Halved: the half that had given up records goes without them.
    let (mut bench, ids) = Bench::under_way(&[4]);
    bench.expire(1);
    assert_again(bench.answer(ids[0], ErrorCode::MESSAGE_TOO_LARGE));
    let (_, batch) = bench.send_one(CONNECTION, 5).unwrap();
    assert_eq!(batch.values, ["1"]);
    let Some(Verdict::Delivered(load)) = bench.answer(ids[0], ErrorCode::NONE) else { panic!() };
    bench.delivered(load, 70);
    assert_eq!(bench.offsets(), [Some(70)]);
}

#[test]
fn a_load_that_ends_in_doubt_keeps_its_numbers_and_one_that_ends_under_way_waits_for_its_answer() {
    let (mut bench, ids) = Bench::under_way(&[2, 2]);
    bench.expire(2);
    assert_eq!(bench.sequences(), [(0, 2), (2, 2)], "an answer may come");
    bench.partition.lose(CONNECTION);
    bench.expire(2);
    bench.may_be_there(&[true; 2]);
    assert_eq!(bench.send(CONNECTION), [(ids[1], 2, 2)]);
}

#[test]
fn nothing_is_sent_of_a_load_that_has_no_record_left() {
    for error in [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::REQUEST_TIMED_OUT, ErrorCode::MESSAGE_TOO_LARGE] {
        let (mut bench, ids) = Bench::under_way(&[2, 2]);
        bench.expire(2);
        assert_again(bench.answer(ids[0], error));
        let verdict = bench.answer(ids[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert!(matches!(verdict, Some(Verdict::Again | Verdict::StartOver)), "{error}: {verdict:?}");
        let sent = bench.send(CONNECTION);
        assert_eq!(sent.iter().map(|sent| (sent.0, sent.2)).collect::<Vec<_>>(), [(ids[1], 2)], "{error}");
    }
    // Under way under numbers that it has no more.
    let (mut bench, ids) = Bench::under_way(&[2, 2, 2]);
    refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
    bench.expire(4);
    assert_again(bench.answer(ids[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_again(bench.answer(ids[2], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(bench.send(CONNECTION), [(ids[2], 0, 2)]);
}

#[test]
fn records_that_expire_under_numbers_that_have_moved_count_in_the_offsets() {
    for first in [true, false] {
        let (mut bench, ids) = Bench::under_way(&[2, 4]);
        if first {
            bench.expire(3);
        }
        refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
        bench.expire(3);
        let Some(Verdict::Delivered(load)) = bench.answer(ids[1], ErrorCode::NONE) else { panic!() };
        bench.delivered(load, 100);
        assert_eq!(bench.offsets(), [Some(101), Some(102), Some(103)]);
    }
}

#[test]
fn numbers_that_moved_up_wait_for_those_that_are_under_way_under_them() {
    let (mut bench, ids) = Bench::under_way(&[2, 2]);
    refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
    // It has the numbers under which the second is still on its way.
    let new = bench.add(2, false);
    assert_eq!(bench.send(CONNECTION), []);
    assert_again(bench.answer(ids[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    assert_eq!(bench.send(CONNECTION), [(ids[1], 0, 2), (new, 2, 2)]);
}

#[test]
fn numbers_that_moved_up_are_of_no_use_where_an_earlier_attempt_may_still_arrive() {
    // It is lost after its number has moved, or before.
    for first in [true, false] {
        let (mut bench, ids) = Bench::under_way(&[2, 2]);
        if first {
            assert_again(bench.answer(ids[0], ErrorCode::NOT_ENOUGH_REPLICAS));
            bench.partition.lose(CONNECTION);
            assert_eq!(bench.send_one(9, 5).unwrap().0, ids[0]);
            refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
        } else {
            refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
            bench.partition.lose(CONNECTION);
        }
        assert!(bench.partition.ended);
        assert_eq!((bench.send(9), bench.partition.producer().epoch), (vec![(ids[1], 0, 2)], 1));
    }
    // Nobody knows whether it was taken under the number that it had.
    let (mut bench, ids) = Bench::under_way(&[2, 2]);
    refused(bench.answer(ids[0], ErrorCode::INVALID_RECORD));
    assert_again(bench.answer(ids[1], ErrorCode::REQUEST_TIMED_OUT));
    assert!(bench.partition.ended);
}

#[test]
fn a_load_that_may_still_arrive_whole_is_halved_under_another_epoch() {
    for expired in [0, 1] {
        let (mut bench, _) = Bench::under_way(&[2]);
        bench.partition.lose(CONNECTION);
        let (id, _) = bench.send_one(9, 5).unwrap();
        bench.expire(expired);
        assert_again(bench.answer(id, ErrorCode::MESSAGE_TOO_LARGE));
        bench.send(9);
        assert_eq!((bench.partition.producer().epoch, bench.sequences()[0]), (1, (0, 1)));
    }
}

#[test]
fn a_load_that_may_still_arrive_keeps_its_numbers_within_an_epoch() {
    let (mut bench, ids) = Bench::under_way(&[2, 2]);
    assert_again(bench.answer(ids[0], ErrorCode::NOT_ENOUGH_REPLICAS));
    bench.partition.lose(CONNECTION);
    bench.send_one(9, 5).unwrap();
    assert_again(bench.answer(ids[0], ErrorCode::MESSAGE_TOO_LARGE));
    assert!(!bench.partition.ended, "the halves have the numbers of the whole");
    bench.expire(3);
    assert!(bench.partition.ended, "the halves have left theirs to it");
    assert_eq!((bench.send(9), bench.partition.producer().epoch), (vec![(ids[1], 0, 1)], 1));
}

#[test]
fn a_load_that_is_taken_before_one_that_is_certainly_not_there_ends_the_sequence() {
    let (certain, open) = (ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::REQUEST_TIMED_OUT);
    for (error, again, ends) in
        [(certain, false, true), (certain, true, true), (open, false, false), (open, true, false)]
    {
        let (mut bench, ids) = Bench::under_way(&[2, 2]);
        assert_again(bench.answer(ids[0], error));
        if again {
            assert_eq!(bench.send(CONNECTION), [(ids[0], 0, 2)]);
        }
        assert!(matches!(bench.answer(ids[1], ErrorCode::NONE), Some(Verdict::Delivered(_))));
        assert_eq!(bench.partition.ended, ends, "{error}");
    }
}

#[test]
fn only_one_load_is_under_way_until_the_first_is_taken() {
    let mut bench = Bench::new();
    bench.partition.confirmed = false;
    assert!(bench.partition.takes_new(5));
    let ids = [bench.add(2, true), bench.add(1, true)];
    assert!(!bench.partition.takes_new(5));
    assert_eq!(bench.send(CONNECTION), [(ids[0], 0, 2)]);
    bench.answer(ids[0], ErrorCode::NONE);
    assert_eq!(bench.send(CONNECTION), [(ids[1], 2, 1)]);
    assert!(bench.partition.takes_new(5));
}

#[test]
fn a_session_is_gone_over_to_with_nothing_under_way_alone() {
    let (mut bench, ids) = Bench::under_way(&[2, 1]);
    bench.epoch = 3;
    bench.adopt();
    assert_eq!((bench.partition.producer().epoch, bench.sequences()), (0, vec![(0, 2), (2, 1)]));
    bench.answer(ids[0], ErrorCode::NONE);
    assert!(matches!(bench.answer(ids[1], ErrorCode::NONE), Some(Verdict::Delivered(_))));
    let id = bench.add(2, false);
    bench.adopt();
    assert_eq!(bench.partition.producer().epoch, 0, "a load is added in the sequence as it stands");
    assert_eq!(bench.send(CONNECTION), [(id, 3, 2)]);
    bench.answer(id, ErrorCode::NONE);
    bench.adopt();
    assert_eq!((bench.partition.producer().epoch, bench.partition.next_sequence), (3, 0));
}

#[test]
fn a_sequence_that_has_ended_waits_for_what_is_under_way() {
    let (mut bench, ids) = Bench::under_way(&[2, 3]);
    assert!(matches!(bench.answer(ids[0], ErrorCode::UNKNOWN_PRODUCER_ID), Some(Verdict::StartOver)));
    assert_eq!(bench.send(CONNECTION), []);
    assert_eq!((bench.partition.producer().epoch, bench.sequences()), (0, vec![(0, 2), (2, 3)]));
    // Only the first ends it.
    assert_again(bench.answer(ids[1], ErrorCode::UNKNOWN_PRODUCER_ID));
    assert_eq!(bench.send(CONNECTION), [(ids[0], 0, 2)]);
    bench.answer(ids[0], ErrorCode::NONE);
    assert_eq!((bench.send(CONNECTION), bench.partition.producer().epoch), (vec![(ids[1], 2, 3)], 1));
}

#[test]
fn tracked_records_have_an_outcome_each_and_others_share_one() {
    let mut batch = Batch::default();
    batch.start(3);
    let bench = Bench::new();
    for tracked in [false, true, false, false] {
        batch.push(b"xyz", bench.meta(tracked));
    }
    let mut outcomes = Vec::new();
    let load = Load::gather(1, &mut VecDeque::from([batch]), usize::MAX, 0).unwrap();
    load.failed(&failure(DeliveryErrorKind::Rejected, false), &mut outcomes);
    let told: Vec<_> = outcomes.iter().map(|o| (o.records, o.bytes, o.meta.is_some(), o.generation)).collect();
    assert_eq!(told, [(1, 3, true, 3), (3, 9, false, 3)]);
    let payloads: Vec<_> =
        outcomes.iter().map(|outcome| outcome.result.as_ref().unwrap_err().payload.clone()).collect();
    assert_eq!(payloads, [&b"xyz"[..], b""]);

    let mut batch = Batch::roomy();
    (0..3).for_each(|_| batch.push(b"ab", bench.meta(false)));
    let load = Load::gather(1, &mut VecDeque::from([batch]), usize::MAX, 0).unwrap();
    let (mut outcomes, mut spares) = (Vec::new(), Vec::new());
    load.delivered(4, Some(i64::MAX), &mut outcomes, &mut spares);
    assert_eq!((outcomes.len(), outcomes[0].records, outcomes[0].bytes), (1, 3, 6));
    assert_eq!((spares.len(), spares[0].len(), spares[0].bytes()), (1, 0, 0));
}

#[test]
fn a_load_gathers_whole_batches_within_its_bytes_and_one_record_at_least() {
    let bench = Bench::new();
    let batch = |sizes: &[usize]| {
        let mut batch = Batch::default();
        sizes.iter().for_each(|size| batch.push(&vec![b'x'; *size], bench.meta(false)));
        batch
    };
    let mut waiting = VecDeque::from([batch(&[100, 100]), batch(&[100]), batch(&[5_000]), batch(&[100; 50])]);
    let mut gathered = Vec::new();
    while let Some(load) = Load::gather(0, &mut waiting, 1_000, 0) {
        gathered.push((load.len(), load.bytes()));
    }
    // Two batches; the large one alone; the last in pieces.
    assert_eq!(gathered[..2], [(3, 300), (1, 5_000)]);
    assert!(gathered[2..].iter().all(|(records, _)| (1..=9).contains(records)), "{gathered:?}");
    assert_eq!(gathered.iter().map(|(records, _)| records).sum::<usize>(), 54);
    assert!(waiting.is_empty());
}

// ---- anything in any order -----------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Event {
    Log {
        records: usize,
        tracked: bool,
    },
    /// Sends what can be sent.
    Send,
    /// The broker takes the oldest request as Kafka does, and answers.
    Take,
    /// It answers the oldest with this error; or takes it all the same, and does.
    Fail(ErrorCode, bool),
    /// The connection is lost, after the broker took so many of its requests; the others may arrive late.
    Lose(usize, bool),
    /// Such a request arrives, and nobody hears of the answer.
    Late,
    /// Another partition has raised the session's epoch.
    Raise,
    /// Time passes, for so many records that are left.
    Expire(usize),
    /// The broker forgets all producers.
    Forget,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let error = prop::sample::select(vec![
        (ErrorCode::NOT_ENOUGH_REPLICAS, false),
        (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, true),
        (ErrorCode::REQUEST_TIMED_OUT, true),
        (ErrorCode::REQUEST_TIMED_OUT, false),
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, false),
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, true),
        (ErrorCode::MESSAGE_TOO_LARGE, false),
        (ErrorCode::INVALID_RECORD, false),
        (ErrorCode::UNKNOWN_SERVER_ERROR, true),
    ]);
    let event = prop_oneof![
        4 => (1..6_usize, any::<bool>()).prop_map(|(records, tracked)| Event::Log { records, tracked }),
        4 => Just(Event::Send),
        6 => Just(Event::Take),
        3 => error.prop_map(|(error, taken)| Event::Fail(error, taken)),
        1 => (0..4_usize, any::<bool>()).prop_map(|(taken, late)| Event::Lose(taken, late)),
        1 => Just(Event::Late),
        1 => Just(Event::Raise),
        1 => (1..8_usize).prop_map(Event::Expire),
        1 => Just(Event::Forget),
    ];
    vec(event, 0..60)
}

/// The partition, a broker, and what is on its way to it.
struct World {
    bench: Bench,
    connection: usize,
    log: Log,
    /// Under which producer each record there was appended.
    appended: Vec<(i64, i16)>,
    pipe: VecDeque<(u64, SentBatch)>,
    late: VecDeque<SentBatch>,
    bytes: usize,
    expired: usize,
}

impl World {
    fn happens(&mut self, event: &Event) {
        match event {
            Event::Log { records, tracked } => {
                self.bench.adopt();
                if self.bench.partition.takes_new(5) {
                    let before = self.bench.logged;
                    self.bench.add(*records, *tracked);
                    self.bytes += (before..self.bench.logged).map(|n| n.to_string().len()).sum::<usize>();
                    self.send();
                }
            }
            Event::Send => self.send(),
            Event::Take => {
                if let Some((id, batch)) = self.pipe.pop_front() {
                    let (error, offset) = match self.append(&batch) {
                        Ok(offset) => (ErrorCode::NONE, offset),
                        Err(error) => (ErrorCode(error), -1),
                    };
                    self.answered(id, error, offset);
                }
            }
            Event::Fail(error, taken) => {
                if let Some((id, batch)) = self.pipe.pop_front() {
                    // Kafka's own error comes first.
                    match taken.then(|| self.append(&batch)) {
                        Some(Err(error)) => self.answered(id, ErrorCode(error), -1),
                        _ => self.answered(id, *error, -1),
                    }
                }
            }
            Event::Lose(taken, late) => {
                for (place, (_, batch)) in std::mem::take(&mut self.pipe).into_iter().enumerate() {
                    if place < *taken {
                        let _ = self.append(&batch);
                    } else if *late {
                        self.late.push_back(batch);
                    }
                }
                self.bench.partition.lose(self.connection);
                self.connection += 1;
            }
            Event::Late => {
                if let Some(batch) = self.late.pop_front() {
                    let _ = self.append(&batch);
                }
            }
            Event::Raise => self.bench.epoch += 1,
            Event::Expire(more) => {
                self.expired = (self.expired + more).min(self.bench.logged);
                self.bench.expire(self.expired);
            }
            Event::Forget => self.log.forget_producers(),
        }
        // Of those between, some may be delivered; but no two have the same number.
        let partition = &self.bench.partition;
        assert!(
            partition.ended || self.bench.gaps().iter().all(|gap| *gap >= 0),
            "{event:?}: {:?}",
            self.bench.sequences()
        );
        assert!(partition.loads().all(|load| load.left() > 0 || load.way != Way::Waits), "{event:?}: {partition:?}");
    }

    fn append(&mut self, batch: &SentBatch) -> Result<i64, i16> {
        let result = self.log.append(batch);
        self.appended.resize(self.log.values.len(), batch.producer);
        result
    }

    fn send(&mut self) {
        while self.pipe.len() < 5 {
            let Some(sent) = self.bench.send_one(self.connection, 5) else { return };
            self.pipe.push_back(sent);
        }
    }

    fn answered(&mut self, id: u64, error: ErrorCode, offset: i64) {
        match self.bench.answer(id, error) {
            Some(Verdict::Delivered(load)) => self.bench.delivered(load, offset),
            Some(Verdict::Refused(load)) => {
                let failure = failure(DeliveryErrorKind::Rejected, load.maybe_there);
                load.failed(&failure, &mut self.bench.outcomes);
            }
            Some(Verdict::StartOver | Verdict::Again) | None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_record_has_one_outcome_and_it_is_true(
        first in prop::sample::select(vec![0, i32::MAX - 9, i32::MAX]),
        events in events(),
    ) {
        let mut world = World {
            bench: Bench::new(),
            connection: CONNECTION,
            log: Log::default(),
            appended: Vec::new(),
            pipe: VecDeque::new(),
            late: VecDeque::new(),
            bytes: 0,
            expired: 0,
        };
        // Nothing is known of the producer yet.
        world.bench.partition.confirmed = false;
        world.bench.partition.next_sequence = first;
        events.iter().for_each(|event| world.happens(event));
        // All is well from here on.
        for _ in 0..500 {
            world.happens(&Event::Send);
            world.happens(&Event::Take);
        }
        prop_assert!(world.bench.partition.is_idle(), "{:?}", world.bench.partition);

        let outcomes = &world.bench.outcomes;
        prop_assert_eq!(outcomes.iter().map(|outcome| outcome.records).sum::<usize>(), world.bench.logged);
        prop_assert_eq!(outcomes.iter().map(|outcome| outcome.bytes).sum::<usize>(), world.bytes);
        let mut there: HashMap<usize, usize> = HashMap::new();
        for value in &world.log.values {
            *there.entry(value.parse().unwrap()).or_default() += 1;
        }
        // A broker that forgets a producer between two attempts cannot tell the second.
        if !events.iter().any(|event| matches!(event, Event::Forget)) {
            let mut seen = HashSet::new();
            let is_first = |value: &&String| seen.insert(value.parse::<usize>().unwrap());
            let firsts: Vec<usize> = world.log.values.iter().filter(is_first).map(|v| v.parse().unwrap()).collect();
            prop_assert!(firsts.is_sorted(), "out of order: {:?}", world.log.values);
            let within: HashSet<_> = world.log.values.iter().zip(&world.appended).collect();
            prop_assert_eq!(within.len(), world.log.values.len(), "twice within an epoch: {:?}", world.log.values);
        }
        // A generation is one load's worth here, so what shares an outcome is known by that.
        let mut certain: HashMap<u64, usize> = HashMap::new();
        let mut lost: HashMap<u64, usize> = HashMap::new();
        let mut known = HashSet::new();
        for outcome in outcomes {
            let generation = outcome.generation;
            match &outcome.result {
                Ok(ack) => {
                    *certain.entry(generation).or_default() += outcome.records;
                    // Where it says that records are, such records are.
                    if let Some(offset) = ack.offset {
                        let value: usize = world.log.values[offset as usize].parse().unwrap();
                        prop_assert!((generation as usize..generation as usize + 6).contains(&value), "{outcome:?}");
                        if outcome.meta.is_some() {
                            prop_assert!(known.insert(value), "{value} has two outcomes");
                        }
                    }
                }
                Err(failure) => {
                    if outcome.meta.is_some() {
                        let value: usize = std::str::from_utf8(&failure.payload).unwrap().parse().unwrap();
                        prop_assert!(known.insert(value), "{value} has two outcomes");
                        prop_assert!(failure.possibly_delivered || !there.contains_key(&value), "{value} is there");
                    }
                    if !failure.possibly_delivered {
                        *lost.entry(generation).or_default() += outcome.records;
                    }
                }
            }
        }
        let logged = |generation: u64| {
            let next = outcomes.iter().map(|o| o.generation).filter(|other| *other > generation).min();
            generation as usize..next.map_or(world.bench.logged, |next| next as usize)
        };
        for generation in outcomes.iter().map(|outcome| outcome.generation) {
            let present = logged(generation).filter(|value| there.contains_key(value)).count();
            let (certain, lost) = (certain.get(&generation).copied(), lost.get(&generation).copied());
            prop_assert!(present >= certain.unwrap_or(0), "of {generation} {certain:?} are said to be there, {present} are");
            let absent = logged(generation).count() - present;
            prop_assert!(absent >= lost.unwrap_or(0), "of {generation} {lost:?} are said to be lost, {absent} are");
        }
    }
}
