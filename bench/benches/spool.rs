//! What the spool could have been made of: embedded stores and queues, fed as the spool feeds them.
//!
//! The records have 100 to 300 bytes, all different. (a) appends 600 of them as one value of about 128 KiB; (b) appends
//! them one by one, from one thread and from two; in both each value is in the operating system's hands when the call
//! returns, and nothing is synced, where the store can do that. (c) is (a) with an fsync each time. (d) reads back what
//! (a) wrote, oldest first, and removes it. Each store does what its own interface offers for that, in its default
//! configuration; the directory is under `target`, so that it is a real disk. Rounds take turns; printed is the median.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use okaywal::{Configuration, LogManager, SegmentReader, WriteAheadLog};
use queue_file::QueueFile;
use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, TableDefinition};

const RECORDS_A_BATCH: usize = 600;
const BATCHES: usize = 1_000;
const SINGLES: usize = 100_000;
const SYNCED: usize = 200;
const ROUNDS: usize = 3;
/// No measurement takes longer; what it did until then counts.
const LONGEST: Duration = Duration::from_secs(5);

fn main() {
    let payloads = payloads();
    let batches: Vec<Vec<u8>> = payloads.chunks(RECORDS_A_BATCH).map(framed).collect();
    let mean = payloads.iter().map(Vec::len).sum::<usize>() / payloads.len();
    let value = batches.iter().map(Vec::len).sum::<usize>() / batches.len();
    println!(
        "records of {mean} bytes on average, {RECORDS_A_BATCH} in a value of {value} bytes; records/s, fsync or not"
    );
    println!(
        "{:<12} {:>11} {:>11} {:>11} {:>11} {:>11} {:>10} {:>10}",
        "", "a batches", "b single", "b 2 threads", "c synced", "d read", "disk (a)", "disk (d)"
    );
    let mut figures: Vec<(&str, Vec<[f64; 7]>)> = CANDIDATES.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..ROUNDS {
        for ((_, open), (name, figures)) in CANDIDATES.iter().zip(&mut figures) {
            figures.push(round(name, *open, &batches, &payloads));
        }
    }
    for (name, mut rounds) in figures {
        let mut median = |column: usize| {
            rounds.sort_by(|a, b| a[column].total_cmp(&b[column]));
            rounds[rounds.len() / 2][column]
        };
        let columns: Vec<f64> = (0..7).map(&mut median).collect();
        let [a, b, b2, c, d, before, after] = columns[..] else { unreachable!() };
        println!(
            "{name:<12} {a:>11.0} {b:>11.0} {b2:>11.0} {c:>11.0} {d:>11.0} {:>6.1} MiB {:>6.1} MiB",
            before / 1_048_576.0,
            after / 1_048_576.0
        );
    }
}

type Open = fn(&Path) -> Arc<dyn Store>;

const CANDIDATES: [(&str, Open); 4] = [
    ("fjall", |path| Arc::new(Fjall::open(path))),
    ("redb", |path| Arc::new(Redb::open(path))),
    ("queue-file", |path| Arc::new(QueueFiles::open(path))),
    ("okaywal", |path| Arc::new(Okaywal::open(path))),
];

/// What the spool asks of a store.
trait Store: Send + Sync {
    /// Appends a value, which is in the operating system's hands then.
    fn append(&self, value: &[u8]);

    /// Makes what was appended last through the machine's end.
    fn sync(&self);

    /// Reads and removes everything, oldest first.
    fn drain(&self, each: &mut dyn FnMut(&[u8]));
}

fn round(name: &str, open: Open, batches: &[Vec<u8>], payloads: &[Vec<u8>]) -> [f64; 7] {
    let directory = Directory::new(name);
    let store = open(&directory.0);
    let start = Instant::now();
    let mut appended = 0;
    for batch in batches.iter().cycle().take(BATCHES) {
        store.append(batch);
        appended += 1;
        if start.elapsed() > LONGEST {
            break;
        }
    }
    let a = rate(appended * RECORDS_A_BATCH, start);
    let before = directory.bytes();

    let start = Instant::now();
    let (mut values, mut bytes) = (0, 0);
    store.drain(&mut |value| {
        values += 1;
        bytes += value.len();
    });
    let d = rate(values * RECORDS_A_BATCH, start);
    let expected: usize = batches.iter().cycle().take(appended).map(Vec::len).sum();
    assert!(values == appended && bytes == expected, "{name}: {values} of {appended} values came back");
    let after = directory.bytes();
    drop(store);

    let singles = |threads: usize| {
        let directory = Directory::new(name);
        let store = open(&directory.0);
        let done = AtomicU64::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    for payload in payloads.iter().cycle().skip(thread * 17).take(SINGLES / threads) {
                        store.append(payload);
                        done.fetch_add(1, Ordering::Relaxed);
                        if start.elapsed() > LONGEST {
                            break;
                        }
                    }
                });
            }
        });
        rate(done.into_inner() as usize, start)
    };
    let (b, b2) = (singles(1), singles(2));

    let directory = Directory::new(name);
    let store = open(&directory.0);
    let start = Instant::now();
    for batch in batches.iter().take(SYNCED) {
        store.append(batch);
        store.sync();
    }
    let c = rate(SYNCED.min(batches.len()) * RECORDS_A_BATCH, start);
    [a, b, b2, c, d, before as f64, after as f64]
}

fn rate(records: usize, start: Instant) -> f64 {
    records as f64 / start.elapsed().as_secs_f64()
}

/// Log-structured merge tree; its journal is flushed to the system after each insertion.
struct Fjall {
    keyspace: fjall::Keyspace,
    partition: fjall::PartitionHandle,
    next: AtomicU64,
}

impl Fjall {
    fn open(path: &Path) -> Fjall {
        let keyspace = fjall::Config::new(path).open().unwrap();
        let partition = keyspace.open_partition("spool", fjall::PartitionCreateOptions::default()).unwrap();
        Fjall { keyspace, partition, next: AtomicU64::new(1) }
    }
}

impl Store for Fjall {
    fn append(&self, value: &[u8]) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.partition.insert(number.to_be_bytes(), value).unwrap();
        self.keyspace.persist(fjall::PersistMode::Buffer).unwrap();
    }

    fn sync(&self) {
        self.keyspace.persist(fjall::PersistMode::SyncData).unwrap();
    }

    fn drain(&self, each: &mut dyn FnMut(&[u8])) {
        for pair in self.partition.iter() {
            let (key, value) = pair.unwrap();
            each(&value);
            self.partition.remove(key).unwrap();
        }
        self.keyspace.persist(fjall::PersistMode::Buffer).unwrap();
    }
}

/// Copy-on-write B-tree. What it commits without an fsync is gone after kill -9, so each commit has one.
struct Redb {
    database: Database,
    next: AtomicU64,
}

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("spool");

impl Redb {
    fn open(path: &Path) -> Redb {
        Redb { database: Database::create(path.join("spool.redb")).unwrap(), next: AtomicU64::new(1) }
    }
}

impl Store for Redb {
    fn append(&self, value: &[u8]) {
        let mut transaction = self.database.begin_write().unwrap();
        transaction.set_durability(Durability::Eventual);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        transaction.open_table(TABLE).unwrap().insert(number, value).unwrap();
        transaction.commit().unwrap();
    }

    fn sync(&self) {}

    fn drain(&self, each: &mut dyn FnMut(&[u8])) {
        loop {
            let mut transaction = self.database.begin_write().unwrap();
            transaction.set_durability(Durability::Eventual);
            let empty = {
                let mut table = transaction.open_table(TABLE).unwrap();
                let mut keys = Vec::new();
                for pair in table.iter().unwrap().take(8) {
                    let (key, value) = pair.unwrap();
                    each(value.value());
                    keys.push(key.value());
                }
                for key in keys {
                    table.remove(key).unwrap();
                }
                table.is_empty().unwrap()
            };
            transaction.commit().unwrap();
            if empty {
                return;
            }
        }
    }
}

/// Queue files of 8 MiB, one after another; one that was read is deleted whole.
struct QueueFiles {
    directory: PathBuf,
    state: Mutex<Files>,
}

struct Files {
    open: Option<QueueFile>,
    files: u64,
}

const FILE_BYTES: u64 = 8 << 20;

impl QueueFiles {
    fn open(path: &Path) -> QueueFiles {
        QueueFiles { directory: path.to_owned(), state: Mutex::new(Files { open: None, files: 0 }) }
    }

    fn path(&self, file: u64) -> PathBuf {
        self.directory.join(format!("{file:020}"))
    }
}

impl Store for QueueFiles {
    fn append(&self, value: &[u8]) {
        let mut state = self.state.lock().unwrap();
        if state.open.as_ref().is_none_or(|file| file.used_bytes() + value.len() as u64 + 64 > FILE_BYTES) {
            let mut file = QueueFile::with_capacity(self.path(state.files), FILE_BYTES).unwrap();
            file.set_sync_writes(false);
            state.open = Some(file);
            state.files += 1;
        }
        state.open.as_mut().unwrap().add(value).unwrap();
    }

    fn sync(&self) {
        self.state.lock().unwrap().open.as_mut().unwrap().sync_all().unwrap();
    }

    fn drain(&self, each: &mut dyn FnMut(&[u8])) {
        let mut state = self.state.lock().unwrap();
        state.open = None;
        for file in 0..state.files {
            let queue = QueueFile::open(self.path(file)).unwrap();
            let mut iterator = queue.iter();
            while let Some(value) = iterator.borrowed_next() {
                each(value);
            }
            drop(queue);
            fs::remove_file(self.path(file)).unwrap();
        }
        state.files = 0;
    }
}

/// Write-ahead log. Each commit has its fsync, which callers at the same time share; what it has is read back when
/// it makes a checkpoint, a segment at a time.
struct Okaywal {
    log: WriteAheadLog,
    read: Arc<Mutex<Vec<Vec<u8>>>>,
    checkpoints: Arc<AtomicU64>,
    appended: AtomicU64,
}

#[derive(Debug)]
struct Manager(Arc<Mutex<Vec<Vec<u8>>>>, Arc<AtomicU64>);

impl LogManager for Manager {
    fn recover(&mut self, _: &mut okaywal::Entry<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: okaywal::EntryId,
        segment: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> std::io::Result<()> {
        let mut values = self.0.lock().unwrap();
        while let Some(mut entry) = segment.read_entry()? {
            values.extend(entry.read_all_chunks()?.unwrap_or_default());
        }
        self.1.store(values.len() as u64, Ordering::Release);
        Ok(())
    }
}

impl Okaywal {
    fn open(path: &Path) -> Okaywal {
        let (read, checkpoints) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let manager = Manager(Arc::clone(&read), Arc::clone(&checkpoints));
        // One segment holds everything until it is asked for.
        let configuration = Configuration::default_for(path).checkpoint_after_bytes(1 << 30);
        Okaywal { log: configuration.open(manager).unwrap(), read, checkpoints, appended: AtomicU64::new(0) }
    }
}

impl Store for Okaywal {
    fn append(&self, value: &[u8]) {
        let mut entry = self.log.begin_entry().unwrap();
        entry.write_chunk(value).unwrap();
        entry.commit().unwrap();
        self.appended.fetch_add(1, Ordering::Relaxed);
    }

    fn sync(&self) {}

    fn drain(&self, each: &mut dyn FnMut(&[u8])) {
        self.log.checkpoint_active().unwrap();
        let appended = self.appended.load(Ordering::Relaxed);
        while self.checkpoints.load(Ordering::Acquire) < appended {
            std::thread::yield_now();
        }
        self.read.lock().unwrap().drain(..).for_each(|value| each(&value));
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spool-{name}-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// What it takes on the disk.
    fn bytes(&self) -> u64 {
        fn of(path: &Path) -> u64 {
            use std::os::unix::fs::MetadataExt;
            let entries = fs::read_dir(path).unwrap().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(meta) if meta.is_dir() => of(&entry.path()),
                    Ok(meta) => meta.blocks() * 512,
                    Err(_) => 0,
                })
                .sum()
        }
        of(&self.0)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Several records in one value: a length, and the bytes.
fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|record| (record.len() as u32).to_le_bytes().into_iter().chain(record.iter().copied()))
        .collect()
}

/// From a generator without a crate: xorshift.
fn payloads() -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..RECORDS_A_BATCH * SYNCED)
        .map(|number| {
            let mut text = format!("{{\"level\":\"info\",\"sequence\":{number},\"message\":\"");
            let length = 100 + (next() % 201) as usize;
            while text.len() < length {
                text.push_str(&format!("{:x} ", next() & 0xffff_ffff));
            }
            text.into_bytes()
        })
        .collect()
}
