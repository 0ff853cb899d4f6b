//! The store against a model, damage, `kill -9` and disks that fail.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError};
use tempfile::TempDir;

use super::*;
use crate::error::SpoolErrorKind;
use crate::spool::Stored;
use crate::spool::reader::ELEMENT_FOOT;
use crate::spool::segment::AROUND_A_RECORD;
use crate::spool::segment::HEAD;

const ALL: usize = usize::MAX;
/// The smallest that a configuration can have: segments of 64 KiB.
const SMALL: u64 = 1 << 20;

/// A directory of its own, which goes with the test; a child has that of its parent.
struct Place {
    path: PathBuf,
    _own: Option<TempDir>,
}

impl Place {
    fn new() -> Place {
        let own = tempfile::tempdir().unwrap();
        Place { path: own.path().to_owned(), _own: Some(own) }
    }

    fn spool(&self) -> Spool {
        Spool::new(self.path.join("spool")).max_bytes(SMALL).fsync(Fsync::Never)
    }

    fn open(&self) -> Store {
        open(&self.spool()).unwrap()
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path.join("spool")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
        files.sort();
        files
    }

    /// What the files of the spool take on the disk.
    fn on_disk(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fs::read_dir(self.path.join("spool"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512)
            .sum()
    }

    /// What another process would find if this one was killed now.
    fn as_left(&self) -> Place {
        let copy = Place::new();
        fs::create_dir(copy.path.join("spool")).unwrap();
        for entry in fs::read_dir(self.path.join("spool")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path.join("spool").join(path.file_name().unwrap())).unwrap();
        }
        copy
    }
}

/// With a budget of its own.
fn open(spool: &Spool) -> Result<Store, SpoolError> {
    Store::open(spool, &Budget::new(spool.max_bytes))
}

type Record = (Vec<u8>, Severity, i64);

fn record(text: impl Into<Vec<u8>>) -> Record {
    (text.into(), Severity::Info, 1_700_000_000_000)
}

fn append(store: &Store, records: &[Record]) -> Result<Range<u64>, Refusal> {
    store.append(records.iter().map(|(payload, severity, timestamp)| (&payload[..], *severity, *timestamp)), drop)
}

fn contents(chunk: &Chunk) -> BTreeMap<u64, Record> {
    let pairs = chunk.records().map(|record| {
        let Stored { number, severity, timestamp_ms, payload } = record;
        (number, (payload.to_vec(), severity, timestamp_ms))
    });
    pairs.collect()
}

fn numbers(chunk: &Chunk) -> Vec<u64> {
    chunk.records().map(|record| record.number).collect()
}

fn one(numbers: Range<u64>) -> Vec<Range<u64>> {
    Vec::from_iter([numbers])
}

#[test]
fn records_come_back_as_they_were_in_order_and_in_parts() {
    let place = Place::new();
    let store = place.open();
    let all =
        [Severity::Trace, Severity::Debug, Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];
    let records: Vec<Record> = (0..600)
        .map(|n| (format!("{n}").repeat(n % 40).into_bytes(), all[n % 6], n as i64 * 1_000_000_007 - 50))
        .collect();
    assert_eq!(append(&store, &records[..300]), Ok(1..301));
    for (n, one) in records[300..].iter().enumerate() {
        let first = 301 + n as u64;
        assert_eq!(append(&store, std::slice::from_ref(one)), Ok(first..first + 1));
    }
    assert_eq!(append(&store, &[]), Ok(601..601));
    let expected: BTreeMap<u64, Record> = (1..).zip(records).collect();
    assert_eq!(contents(&store.read(1, ALL).unwrap()), expected);
    assert_eq!((store.records(), store.recovered()), (600, 0));

    // In parts that end inside a batch, and from any number.
    let (mut next, mut read) = (1, BTreeMap::new());
    while next <= 600 {
        let chunk = store.read(next, 1_000).unwrap();
        assert!(!chunk.is_empty() && numbers(&chunk)[0] == next && chunk.skipped == Damage::default());
        assert!(chunk.bytes.len() < 1_000 + 200, "one record more at most");
        next = chunk.next;
        read.extend(contents(&chunk));
    }
    assert_eq!(read, expected);
    for from in [1, 17, 299, 300, 301, 302, 600] {
        assert_eq!(numbers(&store.read(from, 500).unwrap())[0], from);
    }
    // What comes later is found by who has read to the end.
    let end = store.read(601, ALL).unwrap();
    assert!(end.is_empty() && end.next == 601);
    append(&store, &[record("later")]).unwrap();
    assert_eq!(numbers(&store.read(601, ALL).unwrap()), [601]);
}

#[test]
fn what_is_not_settled_comes_again_and_the_rest_does_not() {
    let place = Place::new();
    let store = place.open();
    append(&store, &[record("a"), record("b"), record("c")]).unwrap();
    store.remove_up_to(2);
    assert_eq!((store.records(), numbers(&store.read(1, ALL).unwrap())), (1, vec![3]));
    drop(store);
    let store = place.open();
    assert_eq!((store.recovered(), store.records(), numbers(&store.read(1, ALL).unwrap())), (1, 1, vec![3]));
    assert_eq!(append(&store, &[record("d")]), Ok(4..5));
    store.remove_up_to(u64::MAX);
    assert_eq!((store.records(), store.read(1, ALL).unwrap().len()), (0, 0));
    drop(store);
    assert_eq!((place.files("spool"), place.files("open")), (vec![], vec![]));
    let store = place.open();
    assert_eq!((store.recovered(), append(&store, &[record("e")])), (0, Ok(5..6)));
}

#[test]
fn a_second_store_on_the_directory_is_refused_until_the_first_ends() {
    let place = Place::new();
    let store = place.open();
    let error = open(&place.spool()).unwrap_err();
    assert_eq!((error.kind(), error.directory()), (SpoolErrorKind::Locked, &*place.path.join("spool")));
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains(place.path.to_str().unwrap()), "{text}");
    drop(store);
    place.open();
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_what_would_be_right() {
    let place = Place::new();
    let file = place.path.join("file");
    fs::write(&file, "").unwrap();
    for (path, kind, words) in [
        (file.clone(), SpoolErrorKind::NotADirectory, "is not one"),
        (file.join("below"), SpoolErrorKind::NotADirectory, "no directory"),
        (place.path.join("no/such"), SpoolErrorKind::NotADirectory, "not there"),
        ("/sys/kafka_log".into(), SpoolErrorKind::NotWritable, "write there"),
    ] {
        if path.starts_with("/sys") && !Path::new("/sys/kernel").exists() {
            continue;
        }
        let error = open(&Spool::new(&path)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[test]
fn max_bytes_is_kept_and_room_comes_back() {
    let place = Place::new();
    let store = place.open();
    let batch: Vec<Record> = (0..50).map(|n| record(format!("{n}").repeat(100))).collect();
    let mut appended = 0;
    for _ in 0..3 {
        loop {
            match append(&store, &batch) {
                Ok(numbers) => appended = numbers.end - 1,
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Full);
                    break;
                }
            }
            assert!(store.bytes() <= SMALL);
        }
        // The files beside the segments, and the blocks that are not full.
        let slack = 4096 * (2 + place.files("spool").len() as u64 + 2);
        let on_disk = place.on_disk();
        assert!(on_disk <= SMALL + slack && on_disk > SMALL * 3 / 4, "{on_disk} on the disk");
        assert_eq!(numbers(&store.read(1, ALL).unwrap()).last(), Some(&appended));
        // An eighth of the records is two files.
        let (settled, before) = (appended - store.records() * 7 / 8, place.on_disk());
        store.remove_up_to(settled);
        assert!(place.on_disk() + SMALL / 32 < before, "nothing was given back");
        store.remove_up_to(appended);
        assert!(store.bytes() <= SMALL / 16 && place.on_disk() <= SMALL / 16 + slack);
    }
    // One that is larger than a segment has a segment of its own; one that is larger than all is refused.
    assert!(append(&store, &[record(vec![b'x'; SMALL as usize / 2])]).is_ok());
    assert_eq!(append(&store, &[record(vec![b'x'; SMALL as usize])]), Err(Refusal::Full));
    assert!(append(&store, &[record("small")]).is_ok());
}

#[test]
fn two_stores_that_share_a_budget_never_take_more_than_it() {
    let places = [Place::new(), Place::new()];
    let budget = Budget::new(SMALL);
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for place in &places {
            let (budget, refused) = (&budget, &refused);
            scope.spawn(move || {
                let store = Store::open(&place.spool(), budget).unwrap();
                let long = record("x".repeat(1_000));
                for n in 1..8_000 {
                    if append(&store, std::slice::from_ref(&long)) == Err(Refusal::Full) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(budget.taken() <= SMALL, "{} bytes", budget.taken());
                    if n % 1_000 == 0 {
                        // All but some.
                        let next = store.state.lock().next;
                        store.remove_up_to(next - 50);
                    }
                }
                assert!(place.on_disk() <= store.bytes() + 64 * 1024, "{} of {}", place.on_disk(), store.bytes());
            });
        }
    });
    assert!(refused.into_inner() > 1_000);
    // What they leave counts in the next process, and is both's.
    let next = Budget::new(SMALL);
    let [first, second] = places.each_ref().map(|place| Store::open(&place.spool(), &next).unwrap());
    assert_eq!(next.taken(), first.bytes() + second.bytes());
    assert!(next.taken() > SMALL / 20);
}

#[test]
fn what_callers_at_the_same_time_append_is_numbered_without_a_gap_and_all_there() {
    for fsync in [Fsync::Never, Fsync::Interval(Duration::from_millis(1)), Fsync::EveryBatch] {
        let place = Place::new();
        let store = open(&place.spool().fsync(fsync)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..100 {
                        let numbers = append(store, &[record(format!("{thread}:{n}"))]).unwrap();
                        assert_eq!(numbers.end - numbers.start, 1);
                        store.sync_if_due().unwrap();
                    }
                });
            }
        });
        let left = place.as_left();
        let chunk = left.open().read(1, ALL).unwrap();
        assert_eq!(numbers(&chunk), (1..=400).collect::<Vec<u64>>());
        let mut next = [0; 4];
        for stored in chunk.records() {
            let (thread, n) = std::str::from_utf8(stored.payload).unwrap().split_once(':').unwrap();
            let thread: usize = thread.parse().unwrap();
            assert_eq!(n.parse(), Ok(next[thread]));
            next[thread] += 1;
        }
    }
}

#[test]
fn syncing_is_due_when_something_was_written_and_not_before_its_time() {
    let place = Place::new();
    let hour = Duration::from_secs(3600);
    let store = open(&place.spool().fsync(Fsync::Interval(hour))).unwrap();
    assert_eq!(store.sync_due(), None);
    append(&store, &[record("a")]).unwrap();
    assert!(store.sync_due().is_some_and(|due| due > hour / 2));
    store.sync_if_due().unwrap();
    assert_eq!(store.state.lock().unsynced.len(), 1, "it was not due");
    store.sync_now().unwrap();
    assert_eq!((store.sync_due(), store.state.lock().unsynced.len()), (None, 0));
    store.remove_up_to(1);
    assert!(store.sync_due().is_some(), "what is settled is to be noted");
    store.sync_now().unwrap();
    assert_eq!(store.sync_due(), None);
    // The note is there without the end of the store.
    assert_eq!(place.as_left().open().recovered(), 0);
}

#[test]
fn while_one_thread_syncs_others_append_read_and_remove() {
    let place = Place::new();
    let store = open(&place.spool().fsync(Fsync::Interval(Duration::ZERO))).unwrap();
    append(&store, &[record("before")]).unwrap();
    let sync = store.hold_next_sync();
    let (sender, done) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| store.sync_now().unwrap());
        sync.wait_begun();
        scope.spawn(|| {
            append(&store, &[record("meanwhile")]).unwrap();
            let read = numbers(&store.read(1, ALL).unwrap());
            store.remove_up_to(1);
            sender.send((read, store.records())).unwrap();
        });
        let done = done.recv_timeout(Duration::from_secs(20));
        drop(sync);
        assert_eq!(done.expect("they wait for the sync"), (vec![1, 2], 1));
    });
    assert!(store.sync_due().is_some(), "what came meanwhile is for the next sync");
}

#[test]
fn what_waits_for_its_fsync_is_not_read_and_is_not_here_where_that_fails() {
    let place = Place::new();
    let store = open(&place.spool().fsync(Fsync::EveryBatch)).unwrap();
    append(&store, &[record("a")]).unwrap();
    // As if another were at it.
    store.syncing.lock().running = true;
    let (chunk, refused) = std::thread::scope(|scope| {
        let waits = scope.spawn(|| append(&store, &[record("b"), record("c")]));
        let deadline = Instant::now() + Duration::from_secs(20);
        while store.state.lock().next < 4 {
            assert!(Instant::now() < deadline, "it is not written");
            std::thread::yield_now();
        }
        let chunk = store.read(1, ALL);
        store.fail_next_sync();
        store.syncing.lock().running = false;
        store.synced.notify_all();
        (chunk.unwrap(), waits.join().unwrap().unwrap_err())
    });
    assert_eq!((numbers(&chunk), chunk.next, chunk.skipped), (vec![1], 2, Damage::default()));
    assert!(matches!(&refused, Refusal::Io(words) if words.contains("synced")), "{refused}");
    assert_eq!((store.records(), store.numbers()), (1, one(1..2)));
    assert_eq!(append(&store, &[record("d")]), Ok(4..5));
    let chunk = store.read(1, ALL).unwrap();
    assert_eq!((numbers(&chunk), chunk.next, chunk.skipped), (vec![1, 4], 5, Damage::default()));
}

#[test]
fn damage_before_what_waits_for_its_fsync_takes_none_of_that() {
    let place = Place::new();
    let store = open(&place.spool().fsync(Fsync::EveryBatch)).unwrap();
    for text in ["a", "b", "c"] {
        append(&store, &[record(text)]).unwrap();
    }
    let path = &place.files("open")[0];
    let mut bytes = fs::read(path).unwrap();
    let of_one = AROUND_AN_ELEMENT as usize + HEAD + AROUND_A_RECORD + 1;
    // The payload of the last.
    bytes[DATA_START as usize + 3 * of_one - ELEMENT_FOOT - 1] ^= 1;
    fs::write(path, bytes).unwrap();
    store.syncing.lock().running = true;
    let chunk = std::thread::scope(|scope| {
        let waits = scope.spawn(|| append(&store, &[record("d")]));
        let deadline = Instant::now() + Duration::from_secs(20);
        while store.state.lock().next < 5 {
            assert!(Instant::now() < deadline, "it is not written");
            std::thread::yield_now();
        }
        let chunk = store.read(1, ALL);
        store.syncing.lock().running = false;
        store.synced.notify_all();
        waits.join().unwrap().unwrap();
        chunk.unwrap()
    });
    assert_eq!((numbers(&chunk), chunk.next, chunk.lost), (vec![1, 2], 4, one(3..4)));
    let chunk = store.read(4, ALL).unwrap();
    assert_eq!((numbers(&chunk), chunk.skipped), (vec![4], Damage::default()));
}

#[test]
fn a_disk_that_fails_again_and_again_leaves_one_note_of_it() {
    let place = Place::new();
    let store = open(&place.spool().fsync(Fsync::EveryBatch)).unwrap();
    append(&store, &[record("before")]).unwrap();
    for _ in 0..100 {
        store.fail_next_sync();
        append(&store, &[record("refused")]).unwrap_err();
    }
    assert_eq!(store.state.lock().void, one(2..102));
    append(&store, &[record("after")]).unwrap();
    assert_eq!((numbers(&store.read(1, ALL).unwrap()), store.records()), (vec![1, 102], 2));
    store.remove_up_to(102);
    assert_eq!((store.records(), store.state.lock().void.len()), (0, 0));
}

#[test]
fn what_nobody_counts_as_here_is_kept_in_order_and_as_one() {
    let place = Place::new();
    let store = place.open();
    let mut state = store.state.lock();
    for numbers in [10..12, 2..3, 20..30, 12..13, 5..6, 3..5, 25..40, 1..2, 11..21] {
        state.no_longer(numbers);
    }
    assert_eq!(state.void, [1..6, 10..40]);
    assert!([1, 5, 10, 39].iter().all(|number| state.is_void(*number)));
    assert!([0, 6, 9, 40].iter().all(|number| !state.is_void(*number)));
    assert_eq!(without(0..50, &state.void), [0..1, 6..10, 40..50]);
    assert_eq!(without(3..8, &state.void), one(6..8));
    assert_eq!(without(12..20, &state.void), []);
}

#[test]
fn damage_that_comes_after_a_reading_is_told_too_and_each_number_once() {
    let place = Place::new();
    let store = place.open();
    for n in 0..10 {
        append(&store, &[record(vec![b'0' + n; 30_000]), record("small")]).unwrap();
    }
    assert_eq!(store.read(1, ALL).unwrap().len(), 20);
    fs::remove_file(&place.files("spool")[1]).unwrap();
    let held = store.records();
    // From the middle of what is gone, and then from its beginning.
    let (later, all) = (store.read(4, ALL).unwrap(), store.read(1, ALL).unwrap());
    assert_eq!((&later.lost, &all.lost), (&one(4..5), &one(3..4)));
    assert_eq!(all.len() as u64 + later.skipped.records + all.skipped.records, 20);
    assert_eq!(store.records(), held - later.skipped.records - all.skipped.records);
    assert_eq!(store.read(1, ALL).unwrap().skipped, Damage::default());
}

#[test]
fn a_directory_that_is_deleted_or_renamed_is_an_error_and_no_loss_without_a_word() {
    let place = Place::new();
    let store = place.open();
    append(&store, &[record("a")]).unwrap();
    fs::rename(place.path.join("spool"), place.path.join("elsewhere")).unwrap();
    // A new file cannot be made.
    let refused = append(&store, &[record(vec![b'x'; 100_000])]).unwrap_err();
    assert!(matches!(&refused, Refusal::Io(words) if words.contains(place.path.to_str().unwrap())), "{refused}");
    fs::rename(place.path.join("elsewhere"), place.path.join("spool")).unwrap();
    assert!(append(&store, &[record("b")]).is_ok(), "it is back");
    assert_eq!(store.read(1, ALL).unwrap().len(), 2);

    fs::remove_dir_all(place.path.join("spool")).unwrap();
    let refused = append(&store, &[record("c")]).unwrap_err();
    assert!(matches!(&refused, Refusal::Io(words) if words.contains("deleted")), "{refused}");
    drop(store);
}

#[test]
fn a_file_that_is_gone_is_counted() {
    let place = Place::new();
    let store = place.open();
    for n in 0..10 {
        append(&store, &[record(vec![b'0' + n; 30_000]), record("small")]).unwrap();
    }
    fs::remove_file(&place.files("spool")[1]).unwrap();
    let read = store.read(1, ALL).unwrap();
    assert!(read.skipped.records > 0 && read.skipped.records + read.len() as u64 == 20, "{:?}", read.skipped);
    assert_eq!(read.next, 21);
    assert_eq!(store.read(1, ALL).unwrap().skipped, Damage::default(), "it is told once");
    drop(store);
    let store = place.open();
    assert_eq!(store.damaged_at_open().records, read.skipped.records);
    assert_eq!(store.recovered(), read.len() as u64);
}

#[test]
fn what_stands_in_a_payload_is_never_a_record() {
    // A whole file of records, its elements with all their checksums, is one payload of another.
    let forger = Place::new();
    let store = forger.open();
    for n in 0..20 {
        append(&store, &[record(format!("forged {n}"))]).unwrap();
    }
    drop(store);
    let forgery = fs::read(&forger.files("spool")[0]).unwrap();

    let place = Place::new();
    let store = place.open();
    let (before, hostile, after) = (record("before"), record(&forgery[DATA_START as usize..20_000]), record("after"));
    append(&store, &[before]).unwrap();
    append(&store, &[hostile]).unwrap();
    append(&store, &[after]).unwrap();
    let left = place.as_left();
    // The head of the hostile one is damaged, so that the reader goes through its payload in search of the next.
    let path = &left.files("open")[0];
    let mut bytes = fs::read(path).unwrap();
    let begin = DATA_START as usize + AROUND_AN_ELEMENT as usize + HEAD + AROUND_A_RECORD + "before".len();
    bytes[begin + 20] ^= 1;
    fs::write(path, bytes).unwrap();
    let chunk = left.open().read(1, ALL).unwrap();
    let payloads: Vec<&[u8]> = chunk.records().map(|record| record.payload).collect();
    assert_eq!(payloads, [&b"before"[..], b"after"]);
    assert_eq!((numbers(&chunk), chunk.skipped.records), (vec![1, 3], 1));
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Record>),
    Read(u64, usize),
    Remove(u64),
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let severities = prop::sample::select(vec![Severity::Trace, Severity::Warning, Severity::Critical]);
    let text = prop_oneof![
        "[a-z]{0,40}".prop_map(String::into_bytes),
        // What the files' own marks are.
        prop::collection::vec(prop::sample::select(b"ITHDFT\0\x01".to_vec()), 0..60),
        (0..30_000_usize).prop_map(|length| vec![b'x'; length]),
    ];
    let records = prop::collection::vec((text, severities, any::<i64>()), 1..6);
    prop_oneof![
        6 => records.prop_map(Step::Append),
        3 => (any::<u64>(), 0..40_000_usize).prop_map(|(from, most)| Step::Read(from, most)),
        2 => any::<u64>().prop_map(Step::Remove),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Truncate,
    Flip(u8),
    Zero(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        2 => Just(Harm::Truncate),
        4 => (0..8_u8).prop_map(Harm::Flip),
        1 => (1..5_000_usize).prop_map(Harm::Zero),
    ]
}

/// What was appended, and where it must be.
#[derive(Default)]
struct Model {
    appends: Vec<(Range<u64>, u64)>,
    records: BTreeMap<u64, Record>,
    settled: u64,
}

impl Model {
    fn held(&self) -> BTreeMap<u64, Record> {
        self.records.range(self.settled + 1..).map(|(number, record)| (*number, record.clone())).collect()
    }

    /// The numbers of the appends that stand in a file of this first number where it was not harmed.
    fn unharmed(&self, first: u64, harmed: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let mut begin = DATA_START;
        let mine = self.appends.iter().skip_while(move |(numbers, _)| numbers.start < first);
        let whole = mine.filter(move |(_, span)| {
            let place = begin..begin + span;
            begin = place.end;
            place.end <= harmed.start || harmed.end <= place.start
        });
        whole.flat_map(|(numbers, _)| numbers.clone())
    }
}

fn run(place: &Place, steps: Vec<Step>) -> Result<(Store, Model), TestCaseError> {
    let mut store = place.open();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(records) => match append(&store, &records) {
                Ok(numbers) => {
                    prop_assert_eq!(numbers.end - numbers.start, records.len() as u64);
                    let bytes: usize = records.iter().map(|(payload, ..)| AROUND_A_RECORD + payload.len()).sum();
                    model.appends.push((numbers.clone(), AROUND_AN_ELEMENT + (HEAD + bytes) as u64));
                    model.records.extend(numbers.zip(records));
                }
                Err(refusal) => prop_assert_eq!(refusal, Refusal::Full),
            },
            Step::Read(from, most) => {
                let from = from % (model.records.len() as u64 + 2);
                let chunk = store.read(from, most).unwrap();
                let expected: BTreeMap<u64, Record> =
                    model.held().range(from..chunk.next).map(|(n, r)| (*n, r.clone())).collect();
                prop_assert_eq!(contents(&chunk), expected);
                prop_assert!(chunk.skipped == Damage::default());
                prop_assert!(!chunk.is_empty() || most == 0 || model.held().range(from..).next().is_none());
            }
            Step::Remove(number) => {
                let number = number % (model.records.len() as u64 + 2);
                store.remove_up_to(number);
                model.settled = model.settled.max(number.min(model.records.len() as u64));
            }
            Step::Sync => store.sync_now().unwrap(),
            Step::Reopen => {
                drop(store);
                store = place.open();
                prop_assert_eq!(store.recovered(), model.held().len() as u64);
            }
        }
        prop_assert_eq!(store.records(), model.held().len() as u64);
        prop_assert!(store.bytes() <= SMALL);
    }
    prop_assert_eq!(contents(&store.read(0, ALL).unwrap()), model.held());
    Ok((store, model))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_does_as_its_model_and_no_damage_forges_a_record_or_takes_more_than_its_own(
        steps in prop::collection::vec(step(), 1..40),
        killed in any::<bool>(),
        harms in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), harm()), 1..3),
    ) {
        let place = Place::new();
        let (store, model) = run(&place, steps)?;
        let left = if killed {
            place.as_left()
        } else {
            drop(store);
            place.as_left()
        };
        let mut due: BTreeMap<u64, Record> = model.held();
        for (file, offset, harm) in harms {
            let mut files: Vec<PathBuf> =
                fs::read_dir(left.path.join("spool")).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            let path = file.get(&files);
            let mut bytes = fs::read(path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            // Most of a segment is often empty; what is written is more interesting.
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
            let offset = offset.index(written);
            let harmed = match harm {
                Harm::Truncate => {
                    bytes.truncate(offset);
                    offset as u64..u64::MAX
                }
                Harm::Flip(bit) => {
                    bytes[offset] ^= 1 << bit;
                    offset as u64..offset as u64 + 1
                }
                Harm::Zero(length) => {
                    let end = (offset + length).min(bytes.len());
                    bytes[offset..end].fill(0);
                    offset as u64..end as u64
                }
            };
            fs::write(path, bytes).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(first) = name.get(..20).and_then(|first| first.parse().ok()) {
                let last = name.get(21..41).and_then(|last| last.parse().ok());
                let later = files.iter().filter_map(|path| path.file_name()?.to_str()?.get(..20)?.parse().ok());
                let next = later.filter(|other: &u64| *other > first).min().unwrap_or(u64::MAX);
                let last: u64 = last.unwrap_or(next - 1);
                let whole: Vec<u64> = model.unharmed(first, harmed).collect();
                due.retain(|number, _| !(first..=last).contains(number) || whole.contains(number));
            }
        }
        let store = left.open();
        let (mut found, mut skipped, mut next) = (BTreeMap::new(), Damage::default(), 0);
        loop {
            let chunk = store.read(next, 20_000).unwrap();
            found.extend(contents(&chunk));
            skipped.add(chunk.skipped);
            if chunk.is_empty() && chunk.next == next {
                break;
            }
            next = chunk.next;
        }
        for (number, record) in &found {
            prop_assert_eq!(Some(record), model.records.get(number), "a forged record");
        }
        for number in due.keys() {
            prop_assert!(found.contains_key(number), "{} is lost, though nothing was done to it", number);
        }
        prop_assert_eq!(found.len() as u64 + skipped.records, store.recovered(), "what is lost is counted");
        // It goes on.
        let numbers = append(&store, &[record("more")]).unwrap();
        prop_assert_eq!(numbers.start, store.read(numbers.start, ALL).unwrap().records().next().unwrap().number);
        prop_assert!(found.keys().all(|number| *number < numbers.start));
    }
}

/// Runs one of the tests below as a process of its own, in `place`; `before` are the words of a command that it ends.
fn child(before: &[&str], test: &str, place: &Place) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words: Vec<std::ffi::OsString> = before.iter().map(Into::into).collect();
    words.extend([program.into(), "--exact".into(), format!("spool::store::tests::{test}").into(), "--ignored".into()]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("KAFKA_LOG_CHILD_SPOOL", &place.path).stdin(Stdio::null());
    command
}

/// The place of a child.
fn given() -> Place {
    let path = std::env::var_os("KAFKA_LOG_CHILD_SPOOL").expect("a test starts this as a process of its own");
    Place { path: path.into(), _own: None }
}

/// Past the capture of the test harness.
fn say(words: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    out.write_fmt(format_args!("{words}\n")).unwrap();
    out.flush().unwrap();
}

fn text_of(number: u64) -> String {
    format!("record {number} ").repeat(1 + number as usize % 30)
}

#[test]
#[ignore = "a child of the next test"]
fn child_that_appends_until_it_is_killed() {
    let place = given();
    let store = place.open();
    say(format_args!("\nfrom {}", store.state.lock().next));
    for turn in 0_u64.. {
        let next = store.state.lock().next;
        let batch: Vec<Record> = (0..1 + turn % 3 * turn % 20).map(|n| record(text_of(next + n))).collect();
        let numbers = append(&store, &batch).unwrap();
        say(format_args!("done {}", numbers.end - 1));
        // As if all but a hundred were acknowledged.
        store.remove_up_to(numbers.end.saturating_sub(100));
        store.sync_if_due().unwrap();
    }
}

#[test]
fn after_kill_9_everything_is_there_that_a_call_returned_for() {
    let place = Place::new();
    let mut done = 0;
    for round in 0..20 {
        let mut child =
            child(&[], "child_that_appends_until_it_is_killed", &place).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let enough = 1 + round * 37;
        for (count, line) in lines.by_ref().filter(|line| line.starts_with("done ")).enumerate() {
            done = line[5..].parse().unwrap();
            if count == enough {
                break;
            }
        }
        assert_eq!(open(&place.spool()).unwrap_err().kind(), SpoolErrorKind::Locked, "it runs");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it was killed; the last line may be half of one.
        let rest: Vec<String> = lines.collect();
        let whole = rest.iter().rev().skip(1).find_map(|line| line.strip_prefix("done ")).map(|n| n.parse().unwrap());
        done = whole.unwrap_or(done);

        let store = place.open();
        let chunk = store.read(1, ALL).unwrap();
        let numbers = numbers(&chunk);
        assert!(numbers.contains(&done), "{done} is lost in round {round}");
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        assert!(first <= last.saturating_sub(98).max(1), "{first} to {last} in round {round}");
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]) && chunk.skipped == Damage::default());
        assert_eq!(store.recovered(), numbers.len() as u64);
        for stored in chunk.records() {
            assert_eq!(stored.payload, text_of(stored.number).as_bytes());
        }
    }
    assert!(done > 1_000);
}

#[test]
#[ignore = "a child of the next test"]
fn child_on_a_small_disk() {
    let place = given();
    let store = place.open();
    let batch: Vec<Record> = (0..10).map(|n| record(format!("{n}").repeat(700))).collect();
    let mut kept = 0;
    let full = loop {
        match append(&store, &batch) {
            Ok(numbers) => kept = numbers.end - 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(&full, Refusal::Io(words) if words.contains("spool") && words.contains("os error")), "{full}");
    assert!(kept > 100, "{kept}");
    // Refused again, as a whole, and nothing piles up.
    for _ in 0..20 {
        assert!(matches!(append(&store, &batch), Err(Refusal::Io(_))));
    }
    assert!(place.files("open").len() <= 1);
    let chunk = store.read(1, ALL).unwrap();
    assert_eq!((numbers(&chunk), chunk.skipped), ((1..=kept).collect(), Damage::default()));
    assert_eq!(store.records(), kept);
    // Room comes back, and it goes on.
    store.remove_up_to(kept - 20);
    let more = append(&store, &batch).unwrap();
    assert_eq!(more.start, kept + 1);
    drop(store);
    let store = place.open();
    assert_eq!(numbers(&store.read(1, ALL).unwrap()), (kept - 19..=kept + 10).collect::<Vec<u64>>());

    drop(store);

    // Now it can only be read.
    let at = place.path.to_str().unwrap();
    assert!(Command::new("mount").args(["-o", "remount,ro", at]).status().is_ok_and(|status| status.success()));
    let error = open(&place.spool()).unwrap_err();
    assert_eq!(error.kind(), SpoolErrorKind::NotWritable, "{error}");
    assert!(error.to_string().contains("can be written to"), "{error}");
    say(format_args!("\nall of it"));
}

#[test]
fn a_full_disk_and_one_that_can_only_be_read_are_errors_that_pass() {
    let place = Place::new();
    let script = "mount -t tmpfs -o size=400k tmpfs \"$KAFKA_LOG_CHILD_SPOOL\" && exec \"$@\"";
    let private = ["unshare", "-rm", "sh", "-c", script, "sh"];
    let allowed = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs"]).arg(&place.path).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        // Here nobody may mount; a limit on files, below, is had everywhere.
        return;
    }
    let output = child(&private, "child_on_a_small_disk", &place).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("all of it"), "{out}{error}");
}

#[test]
#[ignore = "a child of the next test"]
fn child_whose_directory_turns_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = given();
    let store = place.open();
    let large = record(vec![b'x'; 40_000]);
    for _ in 0..4 {
        append(&store, std::slice::from_ref(&large)).unwrap();
    }
    let directory = place.path.join("spool");
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o555)).unwrap();
    let refused = append(&store, std::slice::from_ref(&large)).unwrap_err();
    assert!(matches!(&refused, Refusal::Io(words) if words.contains("denied")), "{refused}");
    assert_eq!(numbers(&store.read(1, ALL).unwrap()), [1, 2, 3, 4]);
    // Files that cannot be deleted count as long as they are there.
    let before = store.bytes();
    store.remove_up_to(3);
    assert_eq!((numbers(&store.read(1, ALL).unwrap()), store.records(), store.bytes()), (vec![4], 1, before));
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(append(&store, std::slice::from_ref(&large)), Ok(5..6));
    store.sync_now().unwrap();
    assert!(store.bytes() < before);
    drop(store);
    assert_eq!(numbers(&place.open().read(1, ALL).unwrap()), [4, 5]);
    say(format_args!("\nall of it"));
}

#[test]
fn a_directory_that_turns_read_only_is_an_error_that_passes() {
    let place = Place::new();
    // Root may write everywhere, unless its capabilities are taken away.
    let drop_them = ["setpriv", "--inh-caps", "-all", "--bounding-set", "-all"];
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let before = if root { &drop_them[..] } else { &[] };
    let output = child(before, "child_whose_directory_turns_read_only", &place).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("all of it"), "{out}{error}");
}

#[test]
#[ignore = "a child of the next test"]
fn child_with_a_limit_on_files() {
    let place = given();
    let store = place.open();
    append(&store, &[record("small")]).unwrap();
    let refused = append(&store, &[record(vec![b'x'; 200_000])]).unwrap_err();
    assert!(matches!(&refused, Refusal::Io(words) if words.contains("os error")), "{refused}");
    append(&store, &[record("after")]).unwrap();
    assert_eq!(numbers(&store.read(1, ALL).unwrap()), [1, 2]);
    say(format_args!("\nall of it"));
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_smaller_ones_go_on() {
    let place = Place::new();
    // In blocks of 512 bytes or of 1024, by the shell.
    let script = "trap '' XFSZ; ulimit -f 180; exec \"$@\"";
    let output = child(&["sh", "-c", script, "sh"], "child_with_a_limit_on_files", &place).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("all of it"), "{out}{error}");
}

#[test]
#[ignore = "prints what an append costs: cargo test --release --features spool --lib -- --ignored --nocapture what_an_append_costs"]
fn what_an_append_costs() {
    let payload = [b'x'; 200];
    let rate = |records: usize, start: Instant| records as f64 / start.elapsed().as_secs_f64();
    for fsync in [Fsync::Never, Fsync::Interval(Duration::from_secs(1)), Fsync::EveryBatch] {
        let calls = if fsync == Fsync::EveryBatch { 5_000 } else { 300_000 };
        for threads in [1, 2, 8] {
            let place = Place::new();
            let store = open(&place.spool().max_bytes(1 << 30).fsync(fsync)).unwrap();
            let start = Instant::now();
            let mut times: Vec<Duration> = std::thread::scope(|scope| {
                let work = || {
                    let one = || {
                        let begun = Instant::now();
                        store.append([(&payload[..], Severity::Info, 0)], drop).unwrap();
                        begun.elapsed()
                    };
                    (0..calls / threads).map(|_| one()).collect::<Vec<_>>()
                };
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            let rate = rate(times.len(), start);
            times.sort();
            let at = |part: f64| times[(times.len() as f64 * part) as usize];
            let mean = times.iter().sum::<Duration>() / times.len() as u32;
            say(format_args!(
                "{fsync:?}, {threads} threads: {rate:.0}/s; a call p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}, mean {mean:?}",
                at(0.5),
                at(0.99),
                at(0.999),
                times[times.len() - 1]
            ));
        }
    }
    let batch: Vec<Record> = (0..600).map(|_| record(vec![b'x'; 200])).collect();
    for fsync in [Fsync::Never, Fsync::EveryBatch] {
        let place = Place::new();
        let store = open(&place.spool().max_bytes(1 << 30).fsync(fsync)).unwrap();
        let start = Instant::now();
        for _ in 0..2_000 {
            append(&store, &batch).unwrap();
        }
        say(format_args!(
            "{fsync:?}, batches of 600: {:.0}/s, {} MiB on the disk",
            rate(1_200_000, start),
            place.on_disk() >> 20
        ));
        let start = Instant::now();
        let mut next = 1;
        while next <= 1_200_000 {
            let chunk = store.read(next, 256 << 10).unwrap();
            next = chunk.next;
            store.remove_up_to(next - 1);
        }
        say(format_args!(
            "read and removed: {:.0}/s, {} KiB on the disk",
            rate(1_200_000, start),
            place.on_disk() >> 10
        ));
    }
    let place = Place::new();
    let store = open(&place.spool().max_bytes(1 << 30)).unwrap();
    for _ in 0..4_000 {
        append(&store, &batch).unwrap();
    }
    drop(store);
    let start = Instant::now();
    let store = open(&place.spool().max_bytes(1 << 30)).unwrap();
    say(format_args!("opened with {} records in {:?}", store.recovered(), start.elapsed()));
}
