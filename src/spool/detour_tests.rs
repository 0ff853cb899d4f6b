//! The detour by itself: order, and what is known of its records.

use tempfile::TempDir;

use super::*;
use crate::config::{Fsync, Overflow, Transport};
use crate::severity::Severity;
use crate::spool::COMPILED;

/// A directory that goes with the test, and what a detour stands between.
struct Bench {
    directory: Arc<TempDir>,
    queue: Queue,
    counters: Arc<Counters>,
}

impl Bench {
    fn new() -> Bench {
        Bench::at(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn at(directory: Arc<TempDir>) -> Bench {
        let counters = Arc::new(Counters::default());
        let queue = Queue::new(100_000, 64 << 20, Overflow::DropNewest, Arc::clone(&counters));
        Bench { directory, queue, counters }
    }

    /// As another process comes to the same directory.
    fn again(&self) -> Bench {
        Bench::at(Arc::clone(&self.directory))
    }

    fn spool(&self) -> Spool {
        Spool::new(self.directory.path())
    }

    fn open(&self, mode: SpoolMode) -> Detour {
        self.open_with(self.spool().mode(mode))
    }

    fn open_with(&self, spool: Spool) -> Detour {
        let losses = Arc::new(Losses::new("logs", None, None, Arc::clone(&self.counters)).unwrap());
        let health = Arc::new(Health::new(Transport::Async, "fake".into()));
        Detour::open(&spool.fsync(Fsync::Never), &self.queue, losses, Arc::clone(&self.counters), health).unwrap()
    }

    /// A batch of these, as the queue gives it out.
    fn batch(&self, texts: Range<u32>) -> Batch {
        // Each seems to have been logged before the one before it: a clock that was set.
        let now = Instant::now();
        for text in texts {
            let called = now.checked_sub(Duration::from_secs(text.into())).unwrap_or(now);
            self.queue.push(text.to_string().as_bytes(), meta(called)).unwrap();
        }
        self.queue.take().unwrap()
    }

    /// The same, given back by a client in another order.
    fn given_back(&self, texts: Range<u32>) -> Vec<(Part, Meta, Vec<u8>)> {
        let mut batch = self.batch(texts);
        let generation = batch.generation();
        let mut all = Vec::new();
        while let Some((payload, meta)) = batch.pop() {
            all.push((Part { generation, records: 1, bytes: payload.len() }, meta, payload.to_vec()));
        }
        all
    }

    fn keep_late(&self, detour: &Detour, given_back: Vec<(Part, Meta, Vec<u8>)>) {
        assert_eq!(detour.keep_late(&given_back), given_back.len());
        given_back.iter().for_each(|(part, ..)| self.queue.divert(*part));
    }
}

fn meta(called: Instant) -> Meta {
    Meta { severity: Severity::Info, timestamp_ms: 0, called: called.into(), number: 0, tracked: None }
}

/// What comes back, in order.
fn texts(detour: &mut Detour, queue: &Queue) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(batch) = detour.take(queue) {
        all.extend(batch.records().map(|(payload, _)| std::str::from_utf8(payload).unwrap().parse::<u32>().unwrap()));
    }
    all
}

#[test]
fn order_is_the_queues_whatever_the_clocks_say_and_goes_on_in_the_next_process() {
    if !COMPILED {
        return;
    }
    let bench = Bench::new();
    let mut detour = bench.open(SpoolMode::Overflow);
    // What a client has had for longest comes to the disk last.
    let first = bench.given_back(0..300);
    let second = bench.batch(300..700);
    assert!(detour.divert(&second, &bench.queue));
    bench.keep_late(&detour, first);
    let third = bench.given_back(700..800);
    assert!(detour.divert(&bench.batch(800..900), &bench.queue));
    bench.keep_late(&detour, third);
    assert_eq!(bench.counters.read().spooled, 900);
    detour.close();
    drop(detour);

    let next = bench.again();
    detour = next.open(SpoolMode::Overflow);
    assert_eq!(next.counters.read().recovered, 900);
    let fourth = next.given_back(900..1_000);
    assert!(detour.divert(&next.batch(1_000..1_100), &next.queue));
    next.keep_late(&detour, fourth);
    assert_eq!(texts(&mut detour, &next.queue), (0..1_100).collect::<Vec<_>>());
}

#[test]
fn what_clients_give_back_and_what_memory_has_no_room_for_share_max_bytes() {
    const MOST: u64 = 1 << 20;
    const AT_ONCE: u32 = 250;
    if !COMPILED {
        return;
    }
    let bench = Bench::new();
    let mut detour = bench.open_with(bench.spool().max_bytes(MOST));
    let taken = |detour: &Detour| [&detour.late, &detour.main].map(|lane| lane.with(Store::bytes).unwrap());
    let (mut kept, mut refused) = (Vec::new(), 0);
    for round in (0..).step_by(2) {
        let numbers = |n: u32| (round + n) * AT_ONCE..(round + n + 1) * AT_ONCE;
        let given_back = bench.given_back(numbers(0));
        let stored = detour.keep_late(&given_back);
        given_back[..stored].iter().for_each(|(part, ..)| bench.queue.divert(*part));
        let diverted = detour.divert(&bench.batch(numbers(1)), &bench.queue);
        kept.extend(numbers(0).take(stored));
        kept.extend(numbers(1).filter(|_| diverted));
        let [late, main] = taken(&detour);
        assert!(late + main <= MOST, "{late} and {main}");
        refused += u64::from(stored == 0) + u64::from(!diverted);
        if refused >= 4 {
            break;
        }
    }
    let [late, main] = taken(&detour);
    assert!(late > MOST / 3 && main > MOST / 3 && late + main > MOST - MOST / 16, "{late} and {main}");
    // All that was taken is there, and as it is settled there is room again.
    let mut read = Vec::new();
    while let Some(batch) = detour.take(&bench.queue) {
        read.extend(batch.records().map(|(text, _)| std::str::from_utf8(text).unwrap().parse::<u32>().unwrap()));
        detour.settled(batch.generation(), batch.len(), batch.len() as u64, &bench.queue);
    }
    assert_eq!(read, kept);
    assert!(detour.divert(&bench.batch(0..AT_ONCE), &bench.queue));
}

#[test]
fn what_was_written_ahead_comes_before_what_memory_took_after_it() {
    if !COMPILED {
        return;
    }
    let bench = Bench::new();
    let mut detour = bench.open(SpoolMode::WriteAhead);
    let ahead = detour.ahead().unwrap();
    let mut late = Vec::new();
    for text in 0..20_u32 {
        if text % 3 == 2 {
            // As if the disk had refused it.
            late.extend(bench.given_back(text..text + 1));
        } else {
            let meta = meta(Instant::now());
            let announced = bench.queue.announce(&meta).unwrap();
            ahead.append(text.to_string().as_bytes(), &meta, announced, &bench.queue).unwrap();
        }
    }
    bench.keep_late(&detour, late);
    assert_eq!(texts(&mut detour, &bench.queue), (0..20).collect::<Vec<_>>());
}

#[test]
fn records_leave_by_their_numbers_and_by_their_generations() {
    let now = meta(Instant::now());
    let tracked = Arc::new(Tracked::new(Some("here"), true));
    let awaited = Meta { tracked: Some(tracked), ..now.clone() };
    let mut held = Held::default();
    for (number, generation) in [(1, 7), (2, 7), (3, 8), (5, 8), (6, 8), (7, 7)] {
        held.enter(number, generation, if number == 5 { &awaited } else { &now });
    }
    assert_eq!(held.generations, [(1..3, 7), (3..4, 8), (5..7, 8), (7..8, 7)]);
    assert_eq!(held.leave(&(4..5)).0, []);
    let (left, told) = held.leave(&(2..6));
    assert_eq!((left, told.len()), (vec![(7, 1), (8, 1), (8, 1)], 1));
    assert_eq!(held.generations, [(1..2, 7), (6..7, 8), (7..8, 7)]);
    assert_eq!(held.leave(&(2..6)).0, [], "each leaves once");
    assert_eq!(held.leave(&(0..100)).0, [(7, 1), (8, 1), (7, 1)]);
    assert!(held.generations.is_empty() && held.awaited.is_empty());
}

#[test]
fn a_frame_gives_back_what_it_was_given() {
    let payload = b"\x00\x01payload";
    for target in [None, Some(""), Some("app::module")] {
        for original in [None, Some(7), Some(u64::MAX)] {
            let tracked = Tracked::new(target, false);
            tracked.truncated(original.unwrap_or_default());
            let meta = Meta { tracked: Some(Arc::new(tracked)), ..meta(Instant::now()) };
            let bytes = framed(42, payload, &meta);
            let (frame, rest) = unframed(&bytes);
            assert_eq!((frame.order, frame.target, frame.original_bytes, rest), (42, target, original, &payload[..]));
            // Half of one is none, and harms nobody.
            for length in 0..bytes.len() {
                assert!(unframed(&bytes[..length]).1.len() <= length);
            }
        }
    }
    let long = "é".repeat(40_000);
    let meta = Meta { tracked: Some(Arc::new(Tracked::new(Some(&long), false))), ..meta(Instant::now()) };
    let bytes = framed(1, payload, &meta);
    assert_eq!((unframed(&bytes).0.target.unwrap().len(), unframed(&bytes).1), (65_534, &payload[..]));
}
