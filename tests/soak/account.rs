//! The account at the end: what was said of each record against what an independent reader finds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

use kafka_log::{DeliveryErrorKind, Stats, Transport};
use serde_json::Value;

use crate::LONG;
use crate::load::{self, Record};
use crate::subject::{Id, Loss, Outcome, Seen, Subject};
use crate::support::kafka::Version;
use crate::support::reader::{self, ReadRecord};
use crate::support::wait;

pub(crate) struct Account {
    pub(crate) transport: Transport,
    pub(crate) told: bool,
    pub(crate) settings: String,
    /// Of all its loggers; what one has left on the disk for the next counts once.
    pub(crate) stats: Stats,
    /// How often a logger was followed by another, and what they had left on the disk.
    pub(crate) restarts: usize,
    pub(crate) recovered: u64,
    pub(crate) timed_out: u64,
    pub(crate) rejected: u64,
    /// Those whose outcome was known, one by one.
    pub(crate) known: u64,
    pub(crate) arrived: u64,
    /// Copies beyond the first.
    pub(crate) doubled: u64,
    /// Arrived though they were told to have failed, as those may that are possibly there.
    pub(crate) arrived_all_the_same: u64,
    pub(crate) lost: u64,
    /// Of so many losses no word was heard but the count: what is missing beyond them is lost for sure.
    pub(crate) by_number: u64,
    /// How often the brokers had lost what the client numbered, or the client failed for good, as far as was seen.
    pub(crate) sessions_ended: u64,
    pub(crate) seen: Seen,
    pub(crate) wrong: Vec<String>,
}

/// Ends the logger and goes through everything.
pub(crate) fn close(subject: Subject, bootstrap: &str) -> Account {
    let mut wrong = Wrong::default();
    let logger = subject.logger();
    if let Err(error) = logger.flush_timeout(LONG) {
        wrong.say(format!("with all brokers there: {error}; {:?}", logger.status()));
    }
    if let Err(error) = load::fresh(&subject) {
        wrong.say(format!("a fresh record does not get through: {error}"));
    }
    let rest = logger.stats();
    let report = logger.shutdown(LONG);
    if rest != report.stats || (rest.pending, rest.spooled) != (0, 0) || report.timed_out {
        wrong.say(format!("not at rest: {rest:?}, then {report:?}"));
    }
    drop(logger);
    let past = subject.past();
    let (restarts, stats) = (past.len(), sum(&past, report.stats));
    let Subject { seed, transport, told, topic, settings, spool, logged, seen, awaited, outcomes, losses, .. } =
        subject;
    drop(awaited);
    let spooled = spool.is_some();
    let logged = logged.into_inner();
    let submitted: u64 = logged.values().sum();
    if stats.submitted != submitted {
        wrong.say(format!("{submitted} records were logged and {} counted", stats.submitted));
    }

    let mut words = Words {
        outcomes: outcomes.join().expect("what awaits has panicked").into_iter().collect(),
        ..Words::default()
    };
    if told {
        let expected = (stats.failed + stats.dropped.total()).saturating_sub(stats.callbacks_missed);
        // Its thread may be at it still.
        let losses = losses.into_inner();
        wait::holds_within(LONG, || {
            words.losses.extend(losses.try_iter().map(|(payload, loss)| (id(&payload), loss)));
            words.losses.len() as u64 >= expected
        });
        words.check(&stats, spooled, &mut wrong);
    }

    let records = match transport {
        Transport::Async => reader::java_console(Version::V4_4_0, bootstrap, &topic, stats.delivered as usize, LONG),
        _ => reader::librdkafka(bootstrap, &topic, LONG),
    };
    let seen = std::mem::take(&mut *seen.lock());
    seen.wrong.iter().for_each(|what| wrong.say(what));
    let ended: u64 = seen.errors.iter().filter(|(text, _)| ends_a_session(text)).map(|(_, times)| times).sum();
    // What the disk refused went on in memory.
    let order = match spooled {
        false => Order::OfFirstCopies,
        true if stats.spool_refused == 0 => Order::OfSingleCopies,
        true => Order::None,
    };
    let found = Found::read(seed, &logged, &records, order, &mut wrong);
    // librdkafka numbers everything anew once a record has outlived its timeout, also what may be there already.
    let anew = ended > 0 || (transport == Transport::Async && stats.failed > 0);
    // And what a broker had not acknowledged when it was taken to the disk is replayed.
    if found.doubled > 0 && !anew && !spooled {
        wrong.say(format!("{} copies beyond the first, and no session has ended", found.doubled));
    }

    let lost = words.lost(told, spooled, &stats, &found, &mut wrong) + counted_lost(told, &stats, &found, &mut wrong);
    let count = |kind| words.losses.values().filter(|loss| loss.kind == kind).count() as u64;
    Account {
        transport,
        told,
        settings,
        restarts,
        recovered: stats.recovered,
        stats,
        timed_out: count(DeliveryErrorKind::TimedOut),
        rejected: count(DeliveryErrorKind::Rejected),
        known: (words.outcomes.len() + words.losses.len()) as u64,
        arrived: found.first.len() as u64,
        doubled: found.doubled,
        arrived_all_the_same: words.losses.keys().filter(|id| found.first.contains_key(*id)).count() as u64,
        lost,
        by_number: if told { stats.callbacks_missed } else { stats.failed + stats.dropped.total() },
        sessions_ended: ended,
        seen,
        wrong: wrong.said(),
    }
}

/// The counts of several loggers, of which each begins with what the one before it had left.
fn sum(past: &[Stats], last: Stats) -> Stats {
    let mut all = last;
    for stats in past {
        all.submitted += stats.submitted;
        all.delivered += stats.delivered;
        all.failed += stats.failed;
        all.recovered += stats.recovered;
        all.spool_refused += stats.spool_refused;
        all.callbacks_missed += stats.callbacks_missed;
        all.dropped.queue_full += stats.dropped.queue_full;
        all.dropped.oversize += stats.dropped.oversize;
        all.dropped.recursive += stats.dropped.recursive;
        all.dropped.closed += stats.dropped.closed;
        all.dropped.shutdown += stats.dropped.shutdown;
        all.dropped.format += stats.dropped.format;
        all.dropped.damaged += stats.dropped.damaged;
    }
    all.submitted -= all.recovered;
    all
}

/// Nobody tells of the single record, so the counts must do.
fn counted_lost(told: bool, stats: &Stats, found: &Found, wrong: &mut Wrong) -> u64 {
    let arrived = found.first.len() as u64;
    if arrived > stats.delivered + stats.failed {
        wrong.say(format!("{arrived} arrived of {} delivered and {} failed", stats.delivered, stats.failed));
    }
    // What was acknowledged, and what was on the disk of a logger that was followed by another.
    let lost = (stats.submitted - stats.failed - stats.dropped.total()).saturating_sub(arrived);
    if lost > 0 {
        wrong.say(format!("{lost} records were acknowledged or kept, and have not arrived"));
    }
    if told { 0 } else { lost }
}

/// What the logger said of single records.
#[derive(Default)]
struct Words {
    outcomes: BTreeMap<Id, Outcome>,
    losses: BTreeMap<Id, Loss>,
}

impl Words {
    /// What it said by one way against the other, and against the counts.
    fn check(&self, stats: &Stats, spooled: bool, wrong: &mut Wrong) {
        for (id, outcome) in &self.outcomes {
            match (outcome, self.losses.get(id)) {
                (Ok(_), Some(loss)) => wrong.say(format!("record {id:?} was delivered, and {loss:?}")),
                // It is on the disk, for the next one.
                (Err(loss), None) if spooled && loss.is_by_shutdown() => {}
                (Err(loss), None) if stats.callbacks_missed == 0 => {
                    wrong.say(format!("record {id:?}: {loss:?}, and nobody was called"));
                }
                (Err(one), Some(other)) if one.kind != other.kind => {
                    wrong.say(format!("record {id:?}: {one:?} and {other:?}"));
                }
                _ => {}
            }
        }
        let lost = stats.failed + stats.dropped.total();
        if self.losses.len() as u64 + stats.callbacks_missed != lost {
            let (told, missed) = (self.losses.len(), stats.callbacks_missed);
            wrong.say(format!("{lost} failed or were dropped; {told} were told and {missed} missed"));
        }
    }

    /// Each record that is neither there nor known to be lost.
    fn lost(&self, told: bool, spooled: bool, stats: &Stats, found: &Found, wrong: &mut Wrong) -> u64 {
        for (id, outcome) in &self.outcomes {
            let Ok(delivery) = outcome else { continue };
            match found.places.get(id) {
                None => wrong.say(format!("record {id:?} was acknowledged as {delivery:?} and has not arrived")),
                Some(places) => {
                    let at = delivery.offset.map(|offset| (delivery.partition, offset));
                    if at.is_some_and(|at| !places.contains(&at)) {
                        wrong.say(format!("record {id:?} was said to be at {at:?} and is at {places:?}"));
                    }
                }
            }
        }
        let said = self
            .losses
            .iter()
            .chain(self.outcomes.iter().filter_map(|(id, outcome)| Some((id, outcome.as_ref().err()?))))
            .filter(|(id, loss)| !(spooled && loss.is_by_shutdown() && !self.losses.contains_key(id)));
        for (id, loss) in said {
            if !loss.possibly_delivered && found.first.contains_key(id) {
                wrong.say(format!("record {id:?} arrived, and was told not to be: {loss:?}"));
            }
        }
        let missing: Vec<&Id> = found.missing.iter().filter(|id| told && !self.is_lost(id, spooled)).collect();
        let lost = (missing.len() as u64).saturating_sub(stats.callbacks_missed);
        if lost > 0 {
            let some: Vec<_> = missing.iter().take(10).collect();
            wrong.say(format!("{lost} records are lost without a word, such as {some:?}"));
        }
        lost
    }

    /// With a spool, whoever awaits a record at the end is told that it was not delivered; it is to be all the same.
    fn is_lost(&self, id: &Id, spooled: bool) -> bool {
        let failed = |outcome: &Outcome| outcome.as_ref().is_err_and(|loss| !(spooled && loss.is_by_shutdown()));
        self.losses.contains_key(id) || self.outcomes.get(id).is_some_and(failed)
    }
}

/// Which copies of the records are to stand in their threads' order.
enum Order {
    OfFirstCopies,
    /// A replay begins with what was not acknowledged, which may be there already.
    OfSingleCopies,
    None,
}

/// What the reader found.
struct Found {
    first: HashMap<Id, (i32, i64)>,
    places: HashMap<Id, Vec<(i32, i64)>>,
    doubled: u64,
    /// Logged, and not there.
    missing: BTreeSet<Id>,
}

impl Found {
    fn read(seed: u64, logged: &BTreeMap<u64, u64>, records: &[ReadRecord], order: Order, wrong: &mut Wrong) -> Found {
        let mut places: HashMap<Id, Vec<(i32, i64)>> = HashMap::new();
        let mut first = HashMap::new();
        let mut in_order = Vec::new();
        let mut doubled = 0;
        for record in records {
            let Some(found) = of_payload(&record.value) else {
                wrong.say(format!("something nobody sent: {}", String::from_utf8_lossy(&record.value)));
                continue;
            };
            let (who, n) = found;
            if logged.get(&who).is_none_or(|logged| n >= *logged) {
                wrong.say(format!("record {found:?} arrived and was never logged"));
                continue;
            }
            check_payload(seed, found, &record.value, wrong);
            let place = (record.partition, record.offset);
            places.entry(found).or_default().push(place);
            if first.contains_key(&found) {
                doubled += 1;
                continue;
            }
            first.insert(found, place);
            in_order.push((found, place));
        }
        let mut last: HashMap<(i32, u64), u64> = HashMap::new();
        for ((who, n), place) in in_order {
            let counts = match order {
                Order::OfFirstCopies => true,
                Order::OfSingleCopies => places[&(who, n)].len() == 1,
                Order::None => false,
            };
            if counts
                && let Some(before) = last.insert((place.0, who), n)
                && before > n
            {
                wrong.say(format!("thread {who}: {n} after {before} at {place:?}"));
            }
        }
        let all = logged.iter().flat_map(|(who, logged)| (0..*logged).map(|n| (*who, n)));
        let missing = all.filter(|id| !first.contains_key(id)).collect();
        Found { first, places, doubled, missing }
    }
}

fn check_payload(seed: u64, id: Id, value: &[u8], wrong: &mut Wrong) {
    let expected = Record::of(seed, id).payload(id);
    let head = br#"{"timestamp":1700000000.000000"#.len();
    if value.get(head..) != Some(expected.as_bytes()) {
        wrong.say(format!("record {id:?} is not as it was: {}", String::from_utf8_lossy(value)));
    }
}

fn of_payload(value: &[u8]) -> Option<Id> {
    let json: Value = serde_json::from_slice(value).ok()?;
    Some((json["who"].as_u64()?, json["n"].as_u64()?))
}

fn id(payload: &[u8]) -> Id {
    of_payload(payload).unwrap_or_else(|| panic!("a loss without its record: {}", String::from_utf8_lossy(payload)))
}

/// After these words a record that nobody acknowledged may be there twice.
fn ends_a_session(text: &str) -> bool {
    ["failed for good", "OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "INVALID_PRODUCER_EPOCH"]
        .iter()
        .any(|words| text.contains(words))
}

/// What must not be; the first of each kind are enough to go by.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    const SHOWN: usize = 20;

    fn say(&mut self, what: impl Display) {
        const LONGEST: usize = 600;
        self.0.push(what.to_string().chars().take(LONGEST).collect());
    }

    fn said(mut self) -> Vec<String> {
        let more = self.0.len().saturating_sub(Wrong::SHOWN);
        self.0.truncate(Wrong::SHOWN);
        if more > 0 {
            self.0.push(format!("and {more} more"));
        }
        self.0
    }
}
