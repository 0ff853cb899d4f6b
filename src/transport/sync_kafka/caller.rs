//! The thread on which the `kafka` crate may block.
//!
//! It makes one call at a time and answers it. Whoever does not want to wait for it any longer drops its
//! [`Caller`]: the thread ends when its call returns, and begins no other. That crate waits two minutes for each piece
//! of an answer, and for a connection as long as the system does.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use kafka::client::{Compression, KafkaClient, ProduceMessage, RequiredAcks};

use super::load::Load;
use super::probe;
use super::problem::Problem;
use crate::error::{StartupError, StartupErrorKind};
use crate::recursion;
use crate::route::Route;
use crate::transport::{Ack, Call};

/// Metadata is asked for again after this time: the Java client's `metadata.max.age.ms`.
const METADATA_AGE: Duration = Duration::from_secs(300);

/// What every call needs.
pub(super) struct Target {
    pub(super) servers: Vec<String>,
    pub(super) route: Route,
    pub(super) client_id: String,
    pub(super) acks: RequiredAcks,
    pub(super) compression: Compression,
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
    /// Where the first record of the load is.
    Sent(Result<Ack, Problem>),
}

impl Answer {
    fn problem(&self) -> Option<&Problem> {
        match self {
            Answer::Connected(result) => result.as_ref().err(),
            Answer::Sent(result) => result.as_ref().err(),
        }
    }
}

/// The worker's end of the thread. A thread has one caller, and is left behind with it: no late answer of one reaches
/// another.
pub(super) struct Caller {
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    gone: bool,
    left: Arc<AtomicBool>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Caller {
    pub(super) fn start(target: Arc<Target>, call: Call) -> Result<Caller, StartupError> {
        let left = Arc::new(AtomicBool::new(false));
        let connection = Connection {
            target,
            left: Arc::clone(&left),
            client: None,
            made: Instant::now(),
            first_server: 0,
            // Where it begins must not be the same in every process.
            turn: RandomState::new().build_hasher().finish() as usize,
        };
        Caller::start_with(call, left, connection)
    }

    /// Starts a thread on which `answerer` answers.
    pub(super) fn start_with(
        call: Call,
        left: Arc<AtomicBool>,
        mut answerer: impl Answerer,
    ) -> Result<Caller, StartupError> {
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
        Ok(Caller { jobs, answers, gone: false, left })
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
    /// Set when nobody waits for this thread any more.
    left: Arc<AtomicBool>,
    client: Option<KafkaClient>,
    made: Instant,
    /// The bootstrap server to try first: the next one, after each failure.
    first_server: usize,
    /// Which partition the next load goes to.
    turn: usize,
}

impl Answerer for Connection {
    fn answer(&mut self, job: Job) -> Answer {
        let answer = match job {
            Job::Connect => Answer::Connected(self.guarded(Connection::connect)),
            Job::Send(load) => Answer::Sent(self.guarded(|connection| connection.send(&load))),
        };
        if answer.problem().is_some_and(|problem| !problem.too_large) {
            // A broken connection is never evicted from that client's pool: only a new client recovers.
            self.client = None;
        }
        answer
    }
}

impl Connection {
    /// A broker's strange answer can make that crate index out of bounds.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Connection) -> Result<T, Problem>) -> Result<T, Problem> {
        catch_unwind(AssertUnwindSafe(|| call(self)))
            .unwrap_or_else(|_| Err(Problem::new("the kafka crate panicked over a broker's answer")))
    }

    /// Finds a server that answers, speaks this protocol and knows the topic.
    fn connect(&mut self) -> Result<(), Problem> {
        self.client = None;
        let servers = self.target.servers.len();
        let mut found = Problem::new("there is no server to connect to");
        for turn in 0..servers {
            let server = &self.target.servers[(self.first_server + turn) % servers];
            match self.connect_to(server) {
                Ok(client) => {
                    self.client = Some(client);
                    self.made = Instant::now();
                    return Ok(());
                }
                // What a broker said is worth more than that another one is away.
                Err(problem) if problem.kind.is_some() || found.kind.is_none() => found = problem,
                Err(_) => {}
            }
        }
        self.first_server = (self.first_server + 1) % servers.max(1);
        Err(found)
    }

    fn connect_to(&self, server: &str) -> Result<KafkaClient, Problem> {
        let topic = &self.target.route.topic;
        probe::probe(server, &self.target.client_id, self.target.connect_timeout)?;
        let mut client = KafkaClient::new(vec![server.to_owned()]);
        client.set_client_id(self.target.client_id.clone());
        client.set_compression(self.target.compression);
        load_metadata(&mut client, topic)?;
        Ok(client)
    }

    fn send(&mut self, load: &Load) -> Result<Ack, Problem> {
        let topic = &*self.target.route.topic;
        let Some(client) = &mut self.client else { return Err(Problem::new("not connected")) };
        if self.made.elapsed() >= METADATA_AGE {
            load_metadata(client, topic)?;
            self.made = Instant::now();
        }
        let available = partitions(client, topic);
        if available.is_empty() {
            return Err(Problem::unknown_topic(topic));
        }
        self.turn = self.turn.wrapping_add(1);
        let partition = load.choose_partition(available[self.turn % available.len()]);
        if self.left.load(Ordering::Relaxed) {
            // The records have gone another way meanwhile.
            return Err(Problem::new("left behind"));
        }
        let messages = load.payloads().map(|payload| ProduceMessage::new(topic, partition, None, Some(payload)));
        let acks = self.target.acks;
        let confirms = client
            .produce_messages(acks, self.target.request_timeout, messages)
            .map_err(|error| Problem::of_client(&error))?;
        if let RequiredAcks::None = acks {
            // No answer comes; that the request was written is all there is to know.
            return Ok(Ack { partition, offset: None });
        }
        // An Ok still carries an error for each partition.
        let mut confirmed = confirms
            .iter()
            .filter(|confirm| confirm.topic == topic)
            .flat_map(|confirm| &confirm.partition_confirms)
            .filter(|confirm| confirm.partition == partition);
        match confirmed.next().map(|confirm| confirm.offset) {
            Some(Ok(offset)) => Ok(Ack { partition, offset: Some(offset) }),
            Some(Err(code)) => Err(Problem::refusal(code, partition)),
            None => Err(Problem::new(format!("the broker's answer has no word on partition {partition}"))),
        }
    }
}

/// Asks for the topic's metadata, which also has brokers create it where they do that.
fn load_metadata(client: &mut KafkaClient, topic: &str) -> Result<(), Problem> {
    client.load_metadata(&[topic]).map_err(|error| Problem::of_client(&error))?;
    if partitions(client, topic).is_empty() { Err(Problem::unknown_topic(topic)) } else { Ok(()) }
}

fn partitions(client: &KafkaClient, topic: &str) -> Vec<i32> {
    client.topics().partitions(topic).map(|partitions| partitions.available_ids()).unwrap_or_default()
}
