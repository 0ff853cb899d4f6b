//! The queue under contention, model-checked: shuttle plays through interleavings of its locks, at random, from seeds
//! that it prints. A wake-up that is lost ends in a deadlock, which fails.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --lib --no-default-features queue::model`

use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::thread;

use super::*;
use crate::severity::Severity;

/// How many interleavings of each model.
const RUNS: usize = 5_000;

/// A deadline that does not come.
fn never() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

/// One that comes at any time.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

fn queue(records: usize, overflow: Overflow) -> (Arc<Queue>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Arc::new(Queue::new(records, 1 << 20, overflow, Arc::clone(&counters))), counters)
}

fn push(queue: &Queue, thread: u8, number: u8) -> Result<(), DropReason> {
    let meta = Meta { severity: Severity::Info, timestamp_ms: 0, called: Instant::now(), number: 0, tracked: None };
    queue.push(&[thread, number], meta).map(drop).map_err(|refused| refused.reason)
}

/// What the worker does, with a client that delivers at once: it lets records gather after each turn that had some.
fn work(queue: &Queue) -> Vec<[u8; 2]> {
    let mut arrived = Vec::new();
    loop {
        if let Order::StopBy(_) = queue.order()
            && queue.wait_done()
        {
            return arrived;
        }
        let mut took = false;
        while let Some(mut batch) = queue.take() {
            took = true;
            let mut settled = Settled::default();
            let generation = batch.generation();
            while let Some((payload, _)) = batch.pop() {
                arrived.push(payload.try_into().unwrap());
                settled.delivered += 1;
                settled.add(Part { generation, records: 1, bytes: payload.len() });
            }
            queue.recycle(batch);
            assert!(queue.settle(&settled));
        }
        queue.wait(never(), if took { Room::After(soon()) } else { Room::Now });
    }
}

impl Queue {
    /// Whether nothing is left to do before the end.
    fn wait_done(&self) -> bool {
        self.state.lock().held_records == 0
    }
}

fn assert_order(arrived: &[[u8; 2]]) {
    for thread in 0..4 {
        let numbers: Vec<u8> = arrived.iter().filter(|record| record[0] == thread).map(|record| record[1]).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "thread {thread}: {numbers:?}");
    }
}

#[test]
fn a_flush_sees_all_that_came_before_it_and_no_wake_up_is_lost() {
    let model = || {
        let (queue, counters) = queue(100, Overflow::DropNewest);
        let worker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || work(&queue)
        });
        let callers: Vec<_> = (0..2)
            .map(|caller| {
                let (queue, counters) = (Arc::clone(&queue), Arc::clone(&counters));
                thread::spawn(move || {
                    for number in 0..3 {
                        push(&queue, caller, number).unwrap();
                    }
                    assert!(queue.wait_settled(never()));
                    assert!(counters.read().delivered >= 3);
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        queue.close(never());
        let arrived = worker.join().unwrap();
        assert_order(&arrived);
        let stats = counters.read();
        assert_eq!((stats.submitted, stats.delivered, stats.pending, arrived.len()), (6, 6, 0, 6));
    };
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, 3);
}

#[test]
fn callers_that_wait_for_room_get_it() {
    let model = || {
        let (queue, counters) = queue(1, Overflow::Block);
        let worker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || work(&queue)
        });
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || (0..2).for_each(|number| push(&queue, caller, number).unwrap()))
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        queue.close(never());
        let arrived = worker.join().unwrap();
        assert_order(&arrived);
        assert_eq!((arrived.len(), counters.read().delivered), (6, 6));
    };
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, 3);
}

#[test]
fn each_record_has_one_outcome_whenever_the_queue_is_closed_and_given_up() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::Block] {
        let model = move || {
            let (queue, counters) = queue(2, overflow);
            let worker = thread::spawn({
                let queue = Arc::clone(&queue);
                move || {
                    // Two turns, and then it is gone.
                    for _ in 0..2 {
                        if let Some(mut batch) = queue.take() {
                            let (generation, records, bytes) = (batch.generation(), batch.len(), batch.bytes());
                            while batch.pop().is_some() {}
                            let mut settled = Settled { delivered: records as u64, ..Settled::default() };
                            settled.add(Part { generation, records, bytes });
                            queue.settle(&settled);
                        }
                        queue.wait(soon(), Room::Now);
                    }
                    queue.abandon();
                }
            });
            let callers: Vec<_> = (0..2)
                .map(|caller| {
                    let queue = Arc::clone(&queue);
                    thread::spawn(move || {
                        for number in 0..3 {
                            let _ = push(&queue, caller, number);
                        }
                    })
                })
                .collect();
            queue.close(soon());
            assert!(queue.wait_stopped(never()).is_some());
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            worker.join().unwrap();
            let stats = counters.read();
            assert_eq!(stats.submitted, 6);
            assert_eq!(stats.delivered + stats.failed + stats.dropped.total(), 6, "{stats:?}");
        };
        shuttle::check_random(model, RUNS);
        shuttle::check_pct(model, RUNS, 3);
    }
}
