//! The load: threads that log, that flush, and one that looks on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use kafka_log::{Delivered, Delivery, DeliveryError, Stats, fields};
use log::Level;

use crate::rest;
use crate::subject::{Id, Subject};
use crate::support::random::Random;
use crate::support::wait;

pub(crate) const LOGGER: &str = "soak";

const LOGGING: u64 = 3;
const FLUSHING: u64 = 2;

/// Much longer than it takes, and much shorter than most of the outages.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// What a record is made of, which only its seed and its place decide: so a reader knows what it must look like.
pub(crate) struct Record {
    pub(crate) level: Level,
    pub(crate) padding: String,
}

impl Record {
    pub(crate) fn of(seed: u64, (who, n): Id) -> Record {
        let mut random = Random::of(seed, (who << 40) + n);
        let level = *random.one_of(&[Level::Info, Level::Info, Level::Info, Level::Warn, Level::Error]);
        let length = match random.within(0..100) {
            0 => random.within(1_000..20_000),
            1..15 => random.within(1..300),
            _ => 0,
        };
        // Hexadecimal digits, which no compression makes much smaller.
        let mut padding = String::new();
        while padding.len() < length as usize {
            padding.push_str(&format!("{:016x}", random.next()));
        }
        Record { level, padding }
    }

    /// Its payload, but for the timestamp at the front.
    pub(crate) fn payload(&self, (who, n): Id) -> String {
        let level = match self.level {
            Level::Warn => "warning".to_owned(),
            level => level.as_str().to_lowercase(),
        };
        let padding = &self.padding;
        format!(
            r#","level":"{level}","logger":"{LOGGER}","message":"record {n} of thread {who}","who":{who},"n":{n},"padding":"{padding}"}}"#
        )
    }
}

/// Starts all of them; they end when told to stop.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    seed: u64,
    subject: &'scope Subject,
    stop: &'scope AtomicBool,
) {
    for who in 0..LOGGING {
        scope.spawn(move || {
            let random = Random::of(seed, 1_000 + who);
            Thread { who, n: 0, subject, longest: Duration::ZERO }.log_until(stop, random);
        });
    }
    for who in LOGGING..LOGGING + FLUSHING {
        scope.spawn(move || {
            let random = Random::of(seed, 1_000 + who);
            Thread { who, n: 0, subject, longest: Duration::ZERO }.flush_until(stop, random);
        });
    }
    scope.spawn(move || look_on(subject, stop));
    if subject.spool.is_some() {
        scope.spawn(move || {
            let mut random = Random::of(seed, 2_000 + u64::from(subject.told));
            loop {
                rest(random.millis(2_000..12_000), stop);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                subject.restart(random.millis(0..1_500));
            }
        });
    }
}

/// Logs a last record, when all is well again, and waits for it.
pub(crate) fn fresh(subject: &Subject) -> Result<(), String> {
    let id = (LOGGING + FLUSHING, 0);
    let record = Record::of(subject.seed, id);
    let awaited =
        subject.logger().alog_at(record.level, message(id), fields! { who = id.0, n = 0, padding = record.padding });
    subject.logged.lock().insert(id.0, 1);
    let outcome = futures_executor::block_on(awaited);
    outcome.map(drop).map_err(|error| format!("{error}; {:?}", subject.logger().status()))
}

fn message((who, n): Id) -> String {
    format!("record {n} of thread {who}")
}

/// One that logs.
struct Thread<'a> {
    who: u64,
    n: u64,
    subject: &'a Subject,
    longest: Duration,
}

impl Thread<'_> {
    fn log_until(mut self, stop: &AtomicBool, mut random: Random) {
        while !stop.load(Ordering::Relaxed) {
            let at_once = if random.once_in(1_500) { random.within(500..4_000) } else { 1 };
            for _ in 0..at_once {
                self.log(self.subject.told && random.once_in(4));
            }
            if random.once_in(100) {
                rest(random.millis(0..700), stop);
            } else {
                thread::sleep(random.millis(0..16));
            }
        }
        self.end();
    }

    /// Flushes now and then, mostly for too short a time. When it says that all is well, it must be.
    fn flush_until(mut self, stop: &AtomicBool, mut random: Random) {
        while !stop.load(Ordering::Relaxed) {
            rest(random.millis(0..600), stop);
            let id = (self.who, self.n);
            let record = Record::of(self.subject.seed, id);
            let fields = fields! { who = id.0, n = id.1, padding = record.padding };
            let logger = self.subject.logger();
            let mut awaited = logger.alog_at(record.level, message(id), fields);
            self.n += 1;
            let timeout = *random.one_of(&[5, 50, 500, 3_000]);
            let begun = Instant::now();
            let flushed = logger.flush_timeout(Duration::from_millis(timeout));
            let took = begun.elapsed();

            let in_time = flushed.is_ok();
            // A flush counts; whoever awaits a record is told right after that.
            let settled = outcome_within(&mut awaited, if in_time { TOLD_AFTER } else { Duration::ZERO });
            let mut seen = self.subject.seen.lock();
            seen.flushes.0 += 1;
            if in_time {
                seen.flushes.1 += 1;
                if settled.is_none() {
                    seen.wrong.push(format!("a flush was over before record {id:?}, which came before it"));
                }
            }
            // A machine that is busy may take its time, but not so much.
            if took > Duration::from_millis(timeout) + Duration::from_secs(3) {
                seen.wrong.push(format!("a flush of {timeout} ms took {took:?}"));
            }
            drop(seen);
            match settled {
                Some(outcome) => self.subject.outcome(id, outcome),
                None => self.subject.awaits(id, awaited),
            }
        }
        self.end();
    }

    fn log(&mut self, awaits: bool) {
        let id = (self.who, self.n);
        let Record { level, padding } = Record::of(self.subject.seed, id);
        let fields = fields! { who = id.0, n = id.1, padding = padding };
        let logger = self.subject.logger();
        let begun = Instant::now();
        if awaits {
            let awaited = logger.alog_at(level, message(id), fields);
            self.longest = self.longest.max(begun.elapsed());
            self.subject.awaits(id, awaited);
        } else {
            logger.log_at(level, message(id), fields);
            self.longest = self.longest.max(begun.elapsed());
        }
        self.n += 1;
    }

    fn end(self) {
        self.subject.logged.lock().insert(self.who, self.n);
        let mut seen = self.subject.seen.lock();
        seen.longest_call = seen.longest_call.max(self.longest);
    }
}

/// What becomes of it within so long, if anything does.
fn outcome_within(awaited: &mut Delivered, timeout: Duration) -> Option<Result<Delivery, DeliveryError>> {
    let mut outcome = None;
    wait::holds_within(timeout, || {
        outcome = smol::future::block_on(smol::future::poll_once(&mut *awaited));
        outcome.is_some()
    });
    outcome
}

/// Reads counts and status all the while, as a metrics exporter would.
fn look_on(subject: &Subject, stop: &AtomicBool) {
    let (mut number, logger) = subject.numbered_logger();
    let mut before = logger.stats();
    drop(logger);
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(2));
        let (number_now, logger) = subject.numbered_logger();
        let (stats, status) = (logger.stats(), logger.status());
        if number_now != number {
            (number, before) = (number_now, stats);
        }
        let mut seen = subject.seen.lock();
        if let Some(what) = impossible(&before, &stats) {
            seen.wrong.push(format!("{what}: {before:?}, then {stats:?}"));
        }
        if status.last_error != last {
            if let Some(error) = &status.last_error {
                *seen.errors.entry(without_numbers(error)).or_default() += 1;
            }
            last = status.last_error;
        }
        seen.clients.insert(status.client);
        before = stats;
    }
}

fn impossible(before: &Stats, now: &Stats) -> Option<&'static str> {
    let settled = now.delivered + now.failed + now.dropped.total();
    match () {
        () if settled > now.submitted => Some("more outcomes than records"),
        () if settled + now.pending != now.submitted => Some("the counts do not add up"),
        () if now.submitted < before.submitted || now.delivered < before.delivered || now.failed < before.failed => {
            Some("a count has gone back")
        }
        () => None,
    }
}

/// So that the same words about another port or another record are the same.
fn without_numbers(text: &str) -> String {
    let mut words = String::new();
    for letter in text.chars() {
        match letter.is_ascii_digit() {
            true if words.ends_with('#') => {}
            true => words.push('#'),
            false => words.push(letter),
        }
    }
    words
}
