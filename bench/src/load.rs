//! Making a load, and measuring it.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use log::{LevelFilter, Log};
use quanta::Clock;

use crate::child::Subject;
use crate::floor::Floor;
use crate::median;
use crate::record::{Record, Records};
use crate::task::{Load, Measured, State, Task};
use crate::usage;

/// Logged before anything is measured: connections are made, buffers have grown, code is in the caches.
const WARM_UP: u64 = 20_000;

/// The longest time that a histogram tells from longer ones, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// Three digits: steps of a nanosecond up to 2 us.
const DIGITS: u8 = 3;

/// `ready` is called once before the load.
pub(crate) fn run(task: &Task, subject: &impl Subject, ready: impl FnOnce()) -> Result<Measured, String> {
    let records = Records::new(task.message);
    let mut run = Run { task, subject, records, logged: 0, clock: Clock::new(), measured: Measured::default() };
    run.look_at_the_clock();
    run.warm_up()?;
    ready();
    let (cpu, before) = (usage::cpu(), usage::resident_kib());
    usage::forget_peak();
    let logged = run.logged;
    match task.load {
        Load::Hot { threads, bursts, burst } => run.hot(threads, bursts, burst)?,
        Load::Stream { threads, records } => run.stream(threads, records)?,
        Load::Paced { per_second, records } => run.paced(per_second, records)?,
        Load::Lone { samples } => run.lone(samples)?,
        Load::Off { calls } => run.off(calls),
        Load::Flood { records } => run.flood(records),
        Load::Few { records } => run.few(records)?,
    }
    let (cpu, peak) = (usage::cpu() - cpu, usage::peak_kib());
    let mut measured = run.measured;
    let records = run.logged - logged;
    if records > 0 && !matches!(task.load, Load::Hot { .. }) {
        measured.cpu_seconds = Some(cpu.as_secs_f64() * 1e6 / records as f64);
    }
    measured.peak_kib = Some(peak);
    measured.growth_kib = Some(peak.saturating_sub(before));
    let counts = subject.counts();
    measured.loop_mean_beside = measured.loop_mean.zip(measured.floor_loop_mean).map(|(ours, floor)| ours / floor);
    measured.records = run.logged;
    measured.delivered = counts.delivered;
    measured.lost = counts.lost;
    Ok(measured)
}

struct Run<'a, S> {
    task: &'a Task,
    subject: &'a S,
    records: Records,
    /// So many have been logged; the next one has this number.
    logged: u64,
    clock: Clock,
    measured: Measured,
}

impl<S: Subject> Run<'_, S> {
    /// What two readings of the clock take that have nothing between them, and the smallest step that it makes.
    fn look_at_the_clock(&mut self) {
        const READINGS: u64 = 100_000;
        let (mut all, mut step) = (0, u64::MAX);
        for _ in 0..READINGS {
            let begun = self.clock.raw();
            let ended = self.clock.raw();
            let took = self.clock.delta_as_nanos(begun, ended);
            all += took;
            if took > 0 {
                step = step.min(took);
            }
        }
        self.measured.clock = Some(all as f64 / READINGS as f64);
        self.measured.clock_step = Some(step as f64);
    }

    fn warm_up(&mut self) -> Result<(), String> {
        let records = match (self.task.state, self.task.load) {
            (_, Load::Few { .. } | Load::Off { .. }) => return Ok(()),
            // What is logged now stays in the queue.
            (State::Absent, _) => 1_000,
            _ if self.task.message.is_some_and(|length| length > 1_000) => WARM_UP / 10,
            _ => WARM_UP,
        };
        for _ in 0..records {
            self.subject.call(self.records.get(self.logged));
            self.logged += 1;
        }
        if self.task.state == State::Absent { Ok(()) } else { self.subject.drain(self.logged) }
    }

    fn hot(&mut self, threads: usize, bursts: u64, burst: u64) -> Result<(), String> {
        let share = burst / threads as u64;
        let first = self.logged;
        // The threads and this one; and the threads alone.
        let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
        let between = Barrier::new(threads);
        let (subject, records, clock) = (self.subject, &self.records, &self.clock);
        let thread = |thread: u64| {
            let mut all = Bursts::default();
            // Called as the process's logger is: not by its type.
            let floors: &dyn Log = black_box(&Floor);
            for round in 0..bursts {
                let from = first + (round * threads as u64 + thread) * share;
                let one_by_one = round % 2 == 0;
                let (mut calls, mut floor) = (Times::default(), Times::default());
                start.wait();
                floor.take(from..from + share, one_by_one, clock, records, |record| record.log_by(floors));
                between.wait();
                calls.take(from..from + share, one_by_one, clock, records, |record| subject.call(record));
                end.wait();
                all.add(&calls, &floor);
            }
            all
        };
        let mut drained = Ok(());
        let parts: Vec<_> = thread::scope(|scope| {
            let thread = &thread;
            let running: Vec<_> = (0..threads as u64).map(|number| scope.spawn(move || thread(number))).collect();
            for round in 1..=bursts {
                start.wait();
                end.wait();
                if self.task.state == State::Up && drained.is_ok() {
                    drained = subject.drain(first + round * share * threads as u64);
                }
            }
            running.into_iter().map(|thread| thread.join().expect("a thread that logs has panicked")).collect()
        });
        self.logged += bursts * share * threads as u64;
        drained?;
        let (mut calls, mut floor) = (Times::default(), Times::default());
        let mut beside = Vec::new();
        for part in &parts {
            calls.add(&part.calls);
            floor.add(&part.floor);
            beside.extend(&part.beside);
        }
        self.tell(&calls.times);
        self.measured.p50_beside = median(beside);
        self.measured.first_p50 = median(parts.iter().filter_map(|part| part.first_p50).collect());
        self.measured.first_p50_beside = median(parts.iter().filter_map(|part| part.beside.first().copied()).collect());
        self.measured.loop_mean = calls.loop_mean();
        self.measured.floor_loop_mean = floor.loop_mean();
        Ok(())
    }

    fn stream(&mut self, threads: usize, records: u64) -> Result<(), String> {
        let begun = Instant::now();
        self.flood_by(threads, records);
        self.subject.drain(self.logged)?;
        self.measured.rate = Some(records as f64 / begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn flood(&mut self, records: u64) {
        let begun = Instant::now();
        self.flood_by(1, records);
        self.measured.loop_mean = Some(begun.elapsed().as_nanos() as f64 / records as f64);
    }

    fn flood_by(&mut self, threads: usize, all: u64) {
        let (subject, records, first) = (self.subject, &self.records, self.logged);
        let (share, rest) = (all / threads as u64, all % threads as u64);
        thread::scope(|scope| {
            for thread in 0..threads as u64 {
                // The first ones take what does not divide.
                let from = first + thread * share + thread.min(rest);
                let to = from + share + u64::from(thread < rest);
                scope.spawn(move || (from..to).for_each(|n| subject.call(records.get(n))));
            }
        });
        self.logged += all;
    }

    fn paced(&mut self, per_second: u64, records: u64) -> Result<(), String> {
        let mut times = histogram();
        let begun = Instant::now();
        for number in 0..records {
            let due = begun + Duration::from_nanos(number * 1_000_000_000 / per_second);
            let now = Instant::now();
            if due > now {
                thread::sleep(due - now);
            }
            let record = self.records.get(self.logged);
            let begun = self.clock.raw();
            self.subject.call(record);
            let ended = self.clock.raw();
            times.saturating_record(self.clock.delta_as_nanos(begun, ended));
            self.logged += 1;
        }
        if self.task.state == State::Up {
            self.subject.drain(self.logged)?;
            self.measured.rate = Some(records as f64 / begun.elapsed().as_secs_f64());
        }
        self.tell(&times);
        Ok(())
    }

    fn lone(&mut self, samples: u64) -> Result<(), String> {
        /// Long enough for the logger to have nothing left to do.
        const IDLE: Duration = Duration::from_millis(50);
        let mut times = histogram();
        for _ in 0..samples {
            thread::sleep(IDLE);
            let begun = Instant::now();
            self.subject.acknowledged(self.records.get(self.logged))?;
            times.saturating_record(begun.elapsed().as_nanos() as u64);
            self.logged += 1;
        }
        self.tell(&times);
        Ok(())
    }

    fn off(&mut self, calls: u64) {
        /// Of these the quickest counts: a call is so short that anything else on the machine shows.
        const LOOPS: u64 = 100;
        let record = self.records.get(0);
        let each = calls / LOOPS;
        let ours = log::max_level();
        let mut quickest = [f64::MAX; 2];
        for turn in 0..2 * LOOPS as usize {
            // One loop for both, since two would be two pieces of code.
            log::set_max_level([LevelFilter::Off, ours][turn % 2]);
            let begun = Instant::now();
            for n in 0..each {
                Record { n: black_box(n), ..record }.log_debug();
            }
            let took = begun.elapsed().as_nanos() as f64 / each as f64;
            quickest[turn % 2] = quickest[turn % 2].min(took);
        }
        [self.measured.floor_loop_mean, self.measured.loop_mean] = quickest.map(Some);
    }

    fn few(&mut self, records: u64) -> Result<(), String> {
        for _ in 0..records {
            self.subject.call(self.records.get(self.logged));
            self.logged += 1;
        }
        self.subject.drain(self.logged)
    }

    fn tell(&mut self, times: &Histogram<u64>) {
        let at = |quantile| Some(times.value_at_quantile(quantile) as f64);
        self.measured.mean = Some(times.mean());
        (self.measured.p50, self.measured.p99, self.measured.p999) = (at(0.5), at(0.99), at(0.999));
        self.measured.max = Some(times.max() as f64);
    }
}

/// What the bursts of a thread have taken, and the floor before each.
#[derive(Default)]
struct Bursts {
    calls: Times,
    floor: Times,
    /// The p50 of each burst whose calls are timed one by one, by that of the floor right before it.
    beside: Vec<f64>,
    first_p50: Option<f64>,
}

impl Bursts {
    fn add(&mut self, calls: &Times, floor: &Times) {
        if let (Some(p50), Some(floor_p50)) = (calls.p50(), floor.p50()) {
            self.beside.push(p50 / floor_p50);
            self.first_p50.get_or_insert(p50);
        }
        self.calls.add(calls);
        self.floor.add(floor);
    }
}

/// What calls have taken.
struct Times {
    /// One by one.
    times: Histogram<u64>,
    /// All the others together, and how many they are.
    whole: Duration,
    calls: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times { times: histogram(), whole: Duration::ZERO, calls: 0 }
    }
}

impl Times {
    #[inline]
    fn take<'a>(
        &mut self,
        numbers: Range<u64>,
        one_by_one: bool,
        clock: &Clock,
        records: &'a Records,
        call: impl Fn(Record<'a>),
    ) {
        if one_by_one {
            for n in numbers {
                let record = records.get(n);
                let begun = clock.raw();
                call(record);
                let ended = clock.raw();
                self.times.saturating_record(clock.delta_as_nanos(begun, ended));
            }
            return;
        }
        self.calls += numbers.end - numbers.start;
        let begun = Instant::now();
        for n in numbers {
            call(records.get(n));
        }
        self.whole += begun.elapsed();
    }

    fn add(&mut self, other: &Times) {
        self.times.add(&other.times).expect("all have the same bounds");
        self.whole += other.whole;
        self.calls += other.calls;
    }

    fn p50(&self) -> Option<f64> {
        (!self.times.is_empty()).then(|| self.times.value_at_quantile(0.5) as f64)
    }

    fn loop_mean(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.whole.as_nanos() as f64 / self.calls as f64)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("these bounds are valid")
}
