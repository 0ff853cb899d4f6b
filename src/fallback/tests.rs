use std::sync::mpsc::{Receiver, Sender, channel};

use log::{Log, Metadata, Record};

use super::*;
use crate::config::Transport;
use crate::delivery::Stats;

const LONG: Duration = Duration::from_secs(20);

/// Takes a line when it is told to.
struct Slow {
    go: Mutex<Receiver<()>>,
    taken: Mutex<Sender<String>>,
}

impl Log for Slow {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let _ = self.go.lock().recv();
        let _ = self.taken.lock().send(record.args().to_string());
    }

    fn flush(&self) {}
}

struct Bench {
    fallback: Fallback,
    counters: Arc<Counters>,
    go: Sender<()>,
    taken: Receiver<String>,
}

impl Bench {
    /// Room for so many bytes of what was refused and of what had been taken. No notices: nothing is counted as lost.
    fn new(most: (usize, usize)) -> Bench {
        let ((go, wait), (send, taken)) = (channel(), channel());
        let sink = Sink::Logger(Arc::new(Slow { go: Mutex::new(wait), taken: Mutex::new(send) }));
        let shape = Shape { format: Format::Json, logger_name: None, limit: 1_000 };
        let counters = Arc::new(Counters::default());
        let health = Arc::new(Health::new(Transport::Async, "none".into()));
        let fallback = Fallback::start_with(sink, shape, most, Pace::default(), Arc::clone(&counters), health).unwrap();
        Bench { fallback, counters, go, taken }
    }

    fn put(&self, payload: &str, was: Was) {
        self.fallback.put(payload.as_bytes(), Level::Info, was);
    }

    fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// One line is with the sink, which holds it.
    fn block(&self) {
        self.put("first", Was::Taken);
        let deadline = Instant::now() + LONG;
        while !self.fallback.shared.state.lock().writing {
            assert!(Instant::now() < deadline, "the thread takes nothing");
            thread::yield_now();
        }
    }
}

#[test]
fn what_waits_is_bounded_and_what_was_taken_has_more_room() {
    let size = Lines::size_of(b"0123456789");
    let bench = Bench::new((3 * size, 5 * size));
    bench.block();
    for _ in 0..4 {
        bench.put("0123456789", Was::Refused);
    }
    assert_eq!(bench.stats().fallback_missed, 1);
    assert!(bench.fallback.shared.full.load(Ordering::Relaxed), "the next one asks for no lock");
    for _ in 0..4 {
        bench.put("0123456789", Was::Taken);
    }
    assert_eq!(bench.stats().fallback_missed, 3);
    assert!(!bench.fallback.wait_written(Instant::now() + Duration::from_millis(20)), "it does not wait for ever");

    drop(bench.go);
    assert!(bench.fallback.wait_written(Instant::now() + LONG));
    assert_eq!(bench.taken.try_iter().count(), 6);
    assert!(!bench.fallback.shared.full.load(Ordering::Relaxed), "there is room again");
    let stats = bench.counters.read();
    assert_eq!((stats.fallback_written, stats.fallback_missed), (6, 3));
}

#[test]
fn a_line_larger_than_the_bound_has_room_where_nothing_else_waits() {
    let bench = Bench::new((1, 1));
    bench.put("0123456789", Was::Refused);
    bench.go.send(()).unwrap();
    assert_eq!(bench.taken.recv_timeout(LONG).unwrap(), "0123456789");
}

#[test]
fn who_waits_waits_for_what_is_about_to_come() {
    let bench = Bench::new((1_000, 1_000));
    let telling = bench.fallback.telling();
    assert!(!bench.fallback.wait_written(Instant::now() + Duration::from_millis(20)));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| bench.fallback.last_words(Instant::now() + LONG));
        bench.put("told", Was::Taken);
        drop(telling);
        bench.go.send(()).unwrap();
        assert!(waiter.join().unwrap());
    });
    assert_eq!(bench.taken.try_recv().unwrap(), "told");
}

#[test]
fn what_waits_at_the_end_is_written() {
    let bench = Bench::new((1_000, 1_000));
    bench.put("last", Was::Refused);
    let Bench { fallback, go, taken, .. } = bench;
    drop(fallback);
    drop(go);
    assert_eq!(taken.recv_timeout(LONG).unwrap(), "last");
    assert!(taken.recv_timeout(LONG).is_err(), "the thread has not ended");
}

#[test]
fn a_record_without_a_payload_is_counted() {
    let bench = Bench::new((1_000, 1_000));
    bench.put("", Was::Taken);
    bench.fallback.missed(2);
    assert_eq!(bench.stats().fallback_missed, 3);
}
