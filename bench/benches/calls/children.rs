//! Has child processes do tasks, one after the other, on a broker or without one, and judges what they answer.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use kafka_log_bench::child::ARGUMENT;
use kafka_log_bench::task::{Load, Measured, State, Task, Who};
use rdkafka::consumer::Consumer;

use crate::common::support::kafka::{Broker, Version};
use crate::common::support::{client, ports, process, topic, wait};
use crate::common::{PARTITIONS, arrived};

/// Bounds what a child may take, a paced load's own time aside.
const LONGEST: Duration = Duration::from_secs(150);

/// The end of what a child had to say that an error shows.
const COMPLAINT: usize = 300;

pub struct Children {
    broker: Broker,
    nobody: String,
    directory: PathBuf,
    /// The program with kafka-logger in it, or why there is none.
    kafka_logger: Result<PathBuf, String>,
}

impl Children {
    /// Starts a broker. `directory` is for the files of children, and for kafka-logger's build if it is asked for.
    pub fn new(directory: &Path, with_kafka_logger: bool) -> Children {
        let kafka_logger = if with_kafka_logger { build_kafka_logger(directory) } else { Err("not asked for".into()) };
        let broker = Broker::start(Version::V4_4_0, &[]).unwrap_or_else(|error| panic!("no broker: {error}"));
        let nobody = ports::loopback().unwrap_or_else(|error| panic!("{error}"));
        Children { broker, nobody, directory: directory.into(), kafka_logger }
    }

    pub fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    /// The figures, or why they are void.
    pub fn run(&self, who: Who, load: Load, state: State, change: impl FnOnce(&mut Task)) -> Result<Measured, String> {
        self.run_and(who, load, state, change, |_| ())
    }

    /// The same, and `look` at the topic before it is deleted.
    pub fn run_and(
        &self,
        who: Who,
        load: Load,
        state: State,
        change: impl FnOnce(&mut Task),
        look: impl FnOnce(&str),
    ) -> Result<Measured, String> {
        let servers = if state == State::Absent { self.nobody.clone() } else { self.bootstrap() };
        let directory = self.directory.join("files");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        let has_topic = who.is_kafkas() && state != State::Absent;
        let topic = if has_topic { self.topic()? } else { topic::unique("bench") };
        let files = directory.clone();
        let mut task = Task {
            who,
            load,
            state,
            servers,
            topic: topic.clone(),
            directory,
            message: None,
            queue_bytes: None,
            queue_records: None,
        };
        change(&mut task);
        let measured = self.child(&task);
        if state == State::Frozen {
            self.broker.thaw();
            let consumer = client::consumer(&self.bootstrap());
            wait::until("the broker to answer again", Duration::from_secs(60), || {
                consumer.fetch_metadata(None, client::REQUEST).is_ok()
            });
        }
        let judged = measured.and_then(|measured| {
            if state == State::Up && !matches!(load, Load::Off { .. }) {
                let there = if has_topic { Some(arrived(&self.bootstrap(), &topic)) } else { measured.delivered };
                judge(&measured, there)?;
            }
            Ok(measured)
        });
        if has_topic {
            look(&topic);
            // One that stays is no harm: the broker's data goes with the broker.
            let _ = catch_unwind(AssertUnwindSafe(|| topic::delete(&self.bootstrap(), &topic)));
        }
        let _ = fs::remove_dir_all(files);
        judged
    }

    /// A new topic. A busy machine may have the broker miss its own controller for a while.
    fn topic(&self) -> Result<String, String> {
        const TRIES: usize = 3;
        let create = || {
            let topic = topic::unique("bench");
            let created = catch_unwind(AssertUnwindSafe(|| topic::create(&self.bootstrap(), &topic, PARTITIONS, &[])));
            created.is_ok().then_some(topic)
        };
        (0..TRIES).find_map(|_| create()).ok_or_else(|| format!("no topic was made in {TRIES} tries"))
    }

    fn child(&self, task: &Task) -> Result<Measured, String> {
        let program = match task.who {
            Who::KafkaLogger => self.kafka_logger.clone()?,
            _ => env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?,
        };
        let complaints = self.directory.join("complaints");
        let stderr =
            File::create(&complaints).map_err(|error| format!("cannot create {}: {error}", complaints.display()))?;
        let task_line = serde_json::to_string(task).map_err(|error| error.to_string())?;
        let mut child = Command::new(&program)
            .args([ARGUMENT, &task_line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let answers = answers(&mut child);
        let answer = self.converse(task, &mut child, &answers);
        process::kill(&mut child);
        answer.ok_or_else(|| {
            let said = fs::read_to_string(&complaints).unwrap_or_default();
            let panicked = said.find("panicked at").map_or(said.as_str(), |at| &said[at..]);
            let end = panicked.char_indices().nth(COMPLAINT).map_or(panicked.len(), |(at, _)| at);
            format!("no answer: {}", panicked[..end].replace('\n', " "))
        })?
    }

    /// None where no answer came in time.
    fn converse(&self, task: &Task, child: &mut Child, answers: &Receiver<String>) -> Option<Result<Measured, String>> {
        let paced = match task.load {
            Load::Paced { per_second, records } => Duration::from_secs(records / per_second),
            _ => Duration::ZERO,
        };
        let mut answer = answers.recv_timeout(LONGEST + paced).ok()?;
        if answer == "ready" {
            if task.state == State::Frozen {
                self.broker.freeze();
            }
            child.stdin.as_mut()?.write_all(b"go\n").ok()?;
            answer = answers.recv_timeout(LONGEST + paced).ok()?;
        }
        Some(serde_json::from_str(&answer).map_err(|_| answer))
    }
}

/// Whether all is there that was logged.
fn judge(measured: &Measured, there: Option<u64>) -> Result<(), String> {
    let Measured { records, lost, delivered, .. } = *measured;
    if lost > 0 {
        return Err(format!("{lost} of {records} records lost by its own count"));
    }
    match there.or(delivered) {
        Some(there) if there != records => Err(format!("{there} of {records} records arrived")),
        _ if delivered.is_some_and(|delivered| delivered != records) => {
            Err(format!("{} of {records} records delivered by its own count", delivered.unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// The lines of a child's output.
fn answers(child: &mut Child) -> Receiver<String> {
    let (sender, answers) = mpsc::channel();
    let output = child.stdout.take();
    thread::spawn(move || {
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
            if !line.is_ok_and(|line| sender.send(line).is_ok()) {
                return;
            }
        }
    });
    answers
}

/// In a build of its own: its Cargo.toml says why.
fn build_kafka_logger(directory: &Path) -> Result<PathBuf, String> {
    let target = directory.join("kafka-logger");
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    process::run(
        "kafka-logger",
        Command::new(cargo)
            .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka-logger/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target),
        Duration::from_secs(900),
    )
    .map_err(|error| {
        let last = error.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        format!("not built, which needs cmake: {last}")
    })?;
    Ok(target.join("release/kafka_log-bench-kafka-logger"))
}
