//! The thread on which the `kafka` crate may block.
//!
//! It makes one call at a time and answers it. Whoever does not want to wait for it any longer drops its
//! [`Caller`]: the thread ends when its call returns, after that crate's own timeout of two minutes at the latest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use kafka::client::{KafkaClient, ProduceMessage, RequiredAcks};
use kafka::error::{Error as KafkaError, KafkaCode};

use super::load::Load;
use super::probe;
use crate::error::{StartupError, StartupErrorKind};
use crate::recursion;
use crate::route::Route;
use crate::transport::Call;

/// Connections and metadata are made anew after this time: the Java client's `metadata.max.age.ms`.
const METADATA_AGE: Duration = Duration::from_secs(300);

/// What every call needs.
pub(super) struct Target {
    pub(super) servers: Vec<String>,
    pub(super) route: Route,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
}

pub(super) enum Job {
    Connect,
    Send(Load),
}

#[derive(Debug)]
pub(super) enum Answer {
    Connected(Result<(), Problem>),
    Sent(Result<(), Problem>),
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) words: String,
    /// The class it has for a start-up check, where it is more than an unreachable broker.
    pub(super) kind: Option<StartupErrorKind>,
    /// Sending again cannot help.
    pub(super) permanent: bool,
    /// Sending less at once can.
    pub(super) too_large: bool,
}

impl Problem {
    pub(super) fn new(words: impl Into<String>) -> Problem {
        Problem { words: words.into(), kind: None, permanent: false, too_large: false }
    }

    pub(super) fn of_kind(kind: StartupErrorKind, words: impl Into<String>) -> Problem {
        Problem { kind: Some(kind), ..Problem::new(words) }
    }
}

/// The worker's end of the thread.
pub(super) struct Caller {
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    gone: bool,
}

impl Caller {
    pub(super) fn start(target: Arc<Target>, call: Call) -> Result<Caller, StartupError> {
        let connection = Connection { target, client: None, made: Instant::now(), turn: 0 };
        Caller::start_with(call, connection)
    }

    /// Starts a thread on which `answerer` answers.
    pub(super) fn start_with(call: Call, mut answerer: impl Answerer) -> Result<Caller, StartupError> {
        let (jobs, todo) = channel::<Job>();
        let (done, answers) = channel();
        thread::Builder::new()
            .name("kafka_log-sync".into())
            .spawn(move || {
                let _ours = recursion::enter();
                // Both channels end when the worker has dropped its `Caller`.
                while let Ok(job) = todo.recv() {
                    if done.send(answerer.answer(job)).is_err() {
                        return;
                    }
                    call();
                }
            })
            .map_err(|error| {
                StartupError::new(StartupErrorKind::System, format!("no thread could be started: {error}"))
            })?;
        Ok(Caller { jobs, answers, gone: false })
    }

    pub(super) fn post(&mut self, job: Job) {
        self.gone |= self.jobs.send(job).is_err();
    }

    pub(super) fn answer(&mut self) -> Option<Answer> {
        match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.gone = true;
                None
            }
        }
    }

    pub(super) fn answer_by(&mut self, deadline: Instant) -> Option<Answer> {
        match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.gone = true;
                None
            }
        }
    }

    /// Whether the thread has ended by itself, which only a bug of ours can bring about.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }
}

/// Makes the calls; the `kafka` crate but in tests.
pub(super) trait Answerer: Send + 'static {
    fn answer(&mut self, job: Job) -> Answer;
}

#[cfg(test)]
impl<F: FnMut(Job) -> Answer + Send + 'static> Answerer for F {
    fn answer(&mut self, job: Job) -> Answer {
        self(job)
    }
}

struct Connection {
    target: Arc<Target>,
    client: Option<KafkaClient>,
    made: Instant,
    /// Which partition the next load goes to.
    turn: usize,
}

impl Answerer for Connection {
    fn answer(&mut self, job: Job) -> Answer {
        // A broker's strange answer can make that crate index out of bounds.
        let caught = catch_unwind(AssertUnwindSafe(|| match &job {
            Job::Connect => self.connect(),
            Job::Send(load) => self.connect().and_then(|()| self.send(load)),
        }));
        let result = caught.unwrap_or_else(|_| Err(Problem::new("the kafka crate panicked over a broker's answer")));
        if result.is_err() {
            // A broken connection is never evicted from that client's pool: only a new client recovers.
            self.client = None;
        }
        match job {
            Job::Connect => Answer::Connected(result),
            Job::Send(_) => Answer::Sent(result),
        }
    }
}

impl Connection {
    fn connect(&mut self) -> Result<(), Problem> {
        if self.client.is_some() && self.made.elapsed() < METADATA_AGE {
            return Ok(());
        }
        self.client = None;
        let target = &self.target;
        let mut refused = None;
        let mut answering = Vec::new();
        for server in &target.servers {
            match probe::probe(server, target.connect_timeout) {
                Ok(()) => answering.push(server.clone()),
                Err(problem) => refused = Some(problem),
            }
            // One is enough to begin with; it names the others.
            if !answering.is_empty() {
                break;
            }
        }
        if answering.is_empty() {
            return Err(refused.unwrap_or_else(|| Problem::new("there is no server to connect to")));
        }
        let mut client = KafkaClient::new(answering);
        client.set_client_id("kafka_log".into());
        client.load_metadata(&[&target.route.topic]).map_err(|error| Problem::new(words(&error)))?;
        if partitions(&client, &target.route.topic).is_empty() {
            return Err(unknown_topic(&target.route.topic));
        }
        self.client = Some(client);
        self.made = Instant::now();
        Ok(())
    }

    fn send(&mut self, load: &Load) -> Result<(), Problem> {
        let topic = &*self.target.route.topic;
        let Some(client) = &mut self.client else { return Err(Problem::new("not connected")) };
        let available = partitions(client, topic);
        let partition = match load.partition() {
            kept if available.contains(&kept) => kept,
            _ if available.is_empty() => return Err(unknown_topic(topic)),
            _ => {
                self.turn = self.turn.wrapping_add(1);
                available[self.turn % available.len()]
            }
        };
        load.set_partition(partition);
        let messages = load.payloads().map(|payload| ProduceMessage::new(topic, partition, None, Some(payload)));
        let confirms = client
            .produce_messages(RequiredAcks::All, self.target.request_timeout, messages)
            .map_err(|error| Problem::new(words(&error)))?;
        // An Ok still carries an error for each partition.
        let mut confirmed = confirms
            .iter()
            .filter(|confirm| confirm.topic == topic)
            .flat_map(|confirm| &confirm.partition_confirms)
            .filter(|confirm| confirm.partition == partition);
        match confirmed.next().map(|confirm| confirm.offset) {
            Some(Ok(_)) => Ok(()),
            Some(Err(code)) => Err(refusal(code, partition)),
            None => Err(Problem::new(format!("the broker's answer has no word on partition {partition}"))),
        }
    }
}

fn partitions(client: &KafkaClient, topic: &str) -> Vec<i32> {
    client.topics().partitions(topic).map(|partitions| partitions.available_ids()).unwrap_or_default()
}

fn unknown_topic(topic: &str) -> Problem {
    Problem::of_kind(
        StartupErrorKind::UnknownTopic,
        format!("the topic {topic} does not exist, or no partition of it has a leader"),
    )
}

fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::NoHostReachable => "no broker could be reached".into(),
        KafkaError::Kafka(code) => format!("the broker answered {code:?}"),
        error => format!("the connection failed: {error}"),
    }
}

fn refusal(code: KafkaCode, partition: i32) -> Problem {
    let problem = Problem::new(format!("the broker answered {code:?} for partition {partition}"));
    match code {
        // Code 18, RECORD_LIST_TOO_LARGE, is what a batch over the segment size gets.
        KafkaCode::MessageSizeTooLarge | KafkaCode::RecordListTooLarge => {
            Problem { too_large: true, permanent: true, ..problem }
        }
        KafkaCode::TopicAuthorizationFailed | KafkaCode::ClusterAuthorizationFailed | KafkaCode::InvalidTopic => {
            Problem { kind: Some(StartupErrorKind::Refused), permanent: true, ..problem }
        }
        _ => problem,
    }
}
