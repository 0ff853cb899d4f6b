//! The queue under contention, model-checked: shuttle plays through interleavings of its locks, at random, from seeds
//! that it prints. A wake-up that is lost ends in a deadlock, which fails.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --lib --no-default-features queue::model`

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::thread;

use super::*;
use crate::clock::Moment;
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

fn meta() -> Meta {
    Meta { severity: Severity::Info, timestamp_ms: 0, called: Moment::now(), number: 0, tracked: None }
}

fn push(queue: &Queue, thread: u8, number: u8) -> Result<(), DropReason> {
    queue.push(&[thread, number], meta()).map(drop).map_err(|refused| refused.reason)
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
        self.state.lock().is_settled()
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

#[test]
fn a_flush_waits_for_what_callers_write_to_the_disk_in_whatever_order_it_comes_there() {
    let model = || {
        let (queue, counters) = queue(100, Overflow::DropNewest);
        let disk: Arc<Mutex<Vec<(Generation, [u8; 2])>>> = Arc::new(Mutex::new(Vec::new()));
        let arrived: Arc<Mutex<HashSet<[u8; 2]>>> = Arc::new(Mutex::new(HashSet::new()));
        let worker = thread::spawn({
            let (queue, counters) = (Arc::clone(&queue), Arc::clone(&counters));
            let (disk, arrived) = (Arc::clone(&disk), Arc::clone(&arrived));
            move || {
                while queue.order() == Order::GoOn || !queue.wait_done() {
                    let there = std::mem::take(&mut *disk.lock());
                    for (generation, record) in there {
                        arrived.lock().insert(record);
                        counters.delivered(1);
                        queue.leave_disk(&[(generation, 1)]);
                    }
                    while let Some(mut batch) = queue.take() {
                        let mut settled = Settled { delivered: batch.len() as u64, ..Settled::default() };
                        settled.add(Part {
                            generation: batch.generation(),
                            records: batch.len(),
                            bytes: batch.bytes(),
                        });
                        while let Some((payload, _)) = batch.pop() {
                            arrived.lock().insert(payload.try_into().unwrap());
                        }
                        assert!(queue.settle(&settled));
                    }
                    queue.wait(never(), Room::Now);
                }
            }
        });
        let callers: Vec<_> = (0..2)
            .map(|caller| {
                let (queue, disk, arrived) = (Arc::clone(&queue), Arc::clone(&disk), Arc::clone(&arrived));
                thread::spawn(move || {
                    for number in 0..3 {
                        let record = [caller, number];
                        let meta = meta();
                        let announced = queue.announce(&meta).unwrap();
                        if (caller + number) % 3 == 2 {
                            queue.retract(announced, &meta, true);
                            queue.push_counted(&record, meta).unwrap();
                        } else {
                            disk.lock().push((announced.generation, record));
                            queue.landed();
                        }
                        assert!(queue.wait_settled(never()));
                        assert!(arrived.lock().contains(&record), "the flush was over before {record:?} was settled");
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        queue.close(never());
        worker.join().unwrap();
        let stats = counters.read();
        assert_eq!((stats.submitted, stats.delivered, stats.pending), (6, 6, 0));
    };
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, 3);
}

#[test]
fn what_a_caller_has_written_to_the_disk_wakes_the_worker() {
    let model = || {
        let (queue, counters) = queue(100, Overflow::DropNewest);
        let disk: Arc<(Mutex<(Vec<Generation>, u64)>, Condvar)> =
            Arc::new((Mutex::new((Vec::new(), 0)), Condvar::new()));
        let worker = thread::spawn({
            let (queue, counters, disk) = (Arc::clone(&queue), Arc::clone(&counters), Arc::clone(&disk));
            move || {
                while queue.order() == Order::GoOn {
                    let there = std::mem::take(&mut disk.0.lock().0);
                    for generation in there {
                        counters.delivered(1);
                        queue.leave_disk(&[(generation, 1)]);
                        disk.0.lock().1 += 1;
                        disk.1.notify_all();
                    }
                    queue.wait(never(), Room::Now);
                }
            }
        });
        let meta = meta();
        for number in 1..3 {
            let announced = queue.announce(&meta).unwrap();
            disk.0.lock().0.push(announced.generation);
            queue.landed();
            let mut state = disk.0.lock();
            while state.1 < number {
                disk.1.wait(&mut state);
            }
        }
        queue.close(never());
        worker.join().unwrap();
        assert_eq!(counters.read().delivered, 2);
    };
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, 3);
}

#[test]
fn a_shutdown_ends_with_the_record_that_the_disk_refuses_last() {
    let model = || {
        let (queue, counters) = queue(100, Overflow::DropNewest);
        let meta = meta();
        let announced = queue.announce(&meta).unwrap();
        let worker = thread::spawn({
            let queue = Arc::clone(&queue);
            move || work(&queue)
        });
        let caller = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                queue.retract(announced, &meta, true);
                queue.push_counted(&[0, 0], meta).is_ok()
            }
        });
        queue.close(never());
        let taken = caller.join().unwrap();
        assert_eq!(worker.join().unwrap().len(), usize::from(taken));
        let stats = counters.read();
        assert_eq!((stats.submitted, stats.delivered + stats.dropped.closed), (1, 1));
    };
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, 3);
}
