//! `sync`: the pure-Rust `kafka` crate, kept at arm's length.
//!
//! That client can block for minutes and is of no use after an error. So its calls run on a thread of their own
//! ([`caller`]), one at a time, and everything else is decided here, on the worker, which never blocks: when to
//! send, how long to wait for an answer, what to send again and when to give up.

mod caller;
mod load;
mod probe;
mod problem;
mod settings;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::caller::{Answer, Caller, Job};
use self::load::{Filling, Load};
use self::problem::Problem;
use super::pause::Pause;
use super::sync::LARGEST_PAYLOAD;
use super::{Batch, Call, Client, Failure, Outcome};
use crate::config::Config;
use crate::deadline;
use crate::error::{LoggerError, StartupError, StartupErrorKind};
use crate::status::Health;

/// Full loads that wait here while one is under way; more wait in the queue.
const MOST_READY: usize = 4;

/// How long the worker may sleep when only a call can bring news.
const LONG: Duration = Duration::from_secs(60);

pub(super) fn name() -> String {
    // The crate does not tell its version; Cargo.toml asks for this line of it.
    "kafka 0.10".into()
}

pub(super) fn create(config: &Config, health: &Arc<Health>, call: &Call) -> Result<Box<dyn Client>, LoggerError> {
    let target = Arc::new(settings::target(config)?);
    let start = {
        let call = Arc::clone(call);
        move || Caller::start(Arc::clone(&target), Arc::clone(&call))
    };
    Ok(Box::new(SyncClient::new(config, Arc::clone(health), Box::new(start))?))
}

type StartCaller = Box<dyn Fn() -> Result<Caller, StartupError> + Send>;

struct SyncClient {
    settings: Settings,
    health: Arc<Health>,
    start: StartCaller,
    /// None while no thread could be started.
    caller: Option<Caller>,
    connected: bool,
    /// The call that is under way.
    under_way: Option<UnderWay>,
    /// Where records gather until there is a load of them, or nothing else to send.
    filling: Filling,
    /// To be sent in this order, the oldest first.
    ready: VecDeque<Load>,
    refused: Vec<Outcome>,
    pause: Pause,
}

struct Settings {
    servers: String,
    topic: String,
    batch_bytes: usize,
    /// How long a load that is not full waits for more records.
    linger: Duration,
    delivery_timeout: Duration,
    /// A call without an answer for so long is given up, and its thread with it.
    connect_timeout: Duration,
    send_timeout: Duration,
    /// Whether the payload of each record that fails is wanted back.
    wants_payloads: bool,
}

struct UnderWay {
    load: Option<Load>,
    waits: Duration,
    give_up: Instant,
}

impl SyncClient {
    fn new(config: &Config, health: Arc<Health>, start: StartCaller) -> Result<SyncClient, StartupError> {
        let delivery = &config.delivery;
        Ok(SyncClient {
            settings: Settings {
                servers: config.bootstrap_servers.join(","),
                topic: config.topic.clone(),
                batch_bytes: delivery.batch_bytes,
                linger: delivery.linger(),
                delivery_timeout: delivery.delivery_timeout,
                // Every server may need it twice, to connect and to answer the probe, and one the metadata's answer.
                connect_timeout: delivery.connect_timeout * (2 * config.bootstrap_servers.len() as u32 + 1),
                // The broker has the request timeout for the acknowledgement; the way there and back comes on top.
                send_timeout: delivery.request_timeout + delivery.connect_timeout,
                wants_payloads: config.fallback.is_on() || config.spool.is_some(),
            },
            health,
            caller: Some(start()?),
            start,
            connected: false,
            under_way: None,
            filling: Filling::default(),
            ready: VecDeque::new(),
            refused: Vec::new(),
            pause: Pause::new(delivery.retry_backoff),
        })
    }
}

impl Client for SyncClient {
    fn check(&mut self, timeout: Duration) -> Result<(), StartupError> {
        let deadline = deadline::after(timeout);
        let mut found = None;
        loop {
            let caller = self.caller()?;
            caller.post(Job::Connect);
            match caller.answer_by(deadline) {
                Some(Answer::Connected(Ok(()))) => {
                    self.connected = true;
                    self.health.up();
                    return Ok(());
                }
                Some(Answer::Connected(Err(problem))) => {
                    self.health.down(problem.words.clone());
                    match problem.kind {
                        Some(kind @ (StartupErrorKind::UnsupportedBroker | StartupErrorKind::Refused)) => {
                            return Err(StartupError::new(kind, problem.words));
                        }
                        Some(kind) => found = Some(StartupError::new(kind, problem.words)),
                        None => found = None,
                    }
                }
                Some(Answer::Sent(_)) | None => {}
            }
            let pause = self.pause.next();
            if Instant::now() + pause >= deadline {
                let last_error = self.health.last_heard();
                let unreachable = || super::unreachable(&self.settings.servers, timeout, last_error.as_deref());
                return Err(found.unwrap_or_else(unreachable));
            }
            std::thread::sleep(pause);
        }
    }

    fn has_room(&self) -> bool {
        self.ready.len() < MOST_READY
    }

    fn submit(&mut self, batch: &mut Batch) {
        let generation = batch.generation();
        while self.has_room() {
            let Some((payload, meta)) = batch.pop() else { return };
            if payload.len() > LARGEST_PAYLOAD {
                let words = format!("a payload of {} bytes is too large", payload.len());
                let failure = Failure { payload: payload.to_vec(), ..self.failure(&words) };
                self.refused.push(Outcome::of_one(generation, payload.len(), meta, Err(failure)));
                continue;
            }
            if !self.filling.takes(payload.len(), self.settings.batch_bytes) {
                self.ready.extend(self.filling.finish());
            }
            self.filling.push(payload, meta, generation);
        }
    }

    fn poll(&mut self, outcomes: &mut Vec<Outcome>) {
        outcomes.append(&mut self.refused);
        self.hear(outcomes);
        self.expire(outcomes);
        self.go_on();
    }

    fn patience(&self) -> Duration {
        self.until_a_call_is_due().min(self.until_a_record_expires())
    }

    /// The load of a call that is under way too: nobody will hear its answer.
    fn give_back(&mut self, _: Instant) -> Vec<Outcome> {
        let mut outcomes = std::mem::take(&mut self.refused);
        self.hear(&mut outcomes);
        let under_way = self.under_way.take().and_then(|under_way| under_way.load);
        let loads = under_way.into_iter().chain(self.ready.drain(..)).chain(self.filling.finish());
        let failure = Failure { wanted: true, ..Failure::given_back(Vec::new()) };
        outcomes.extend(loads.collect::<Vec<_>>().iter().flat_map(|load| load.failed(failure.clone())));
        outcomes
    }
}

impl SyncClient {
    fn until_a_record_expires(&self) -> Duration {
        let oldest = match self.ready.front() {
            Some(load) => load.oldest_age(),
            None if self.filling.is_empty() => return LONG,
            None => self.filling.oldest_age(),
        };
        self.settings.delivery_timeout.saturating_sub(oldest)
    }

    fn until_a_call_is_due(&self) -> Duration {
        let now = Instant::now();
        if let Some(under_way) = &self.under_way {
            if self.caller.is_none() {
                return Duration::ZERO;
            }
            return under_way.give_up.saturating_duration_since(now);
        }
        match self.pause.left(now) {
            Some(left) => left,
            None if !self.filling.is_empty() => self.settings.linger.saturating_sub(self.filling.oldest_age()),
            None => LONG,
        }
    }

    /// Takes the answer of the call that is under way, or gives the call up.
    fn hear(&mut self, outcomes: &mut Vec<Outcome>) {
        let Some(under_way) = &self.under_way else { return };
        let answer = self.caller.as_mut().and_then(Caller::answer);
        let answer = match answer {
            Some(answer) => answer,
            None if self.caller.as_ref().is_none_or(Caller::is_gone) => {
                self.caller = None;
                Answer::Sent(Err(Problem::new("the thread of the kafka crate has ended")))
            }
            None if under_way.give_up <= Instant::now() => {
                // Left behind with its thread: its answer, should it come, reaches nobody.
                self.caller = None;
                let waited = under_way.waits.as_millis();
                Answer::Sent(Err(Problem::new(format!("no answer from {} within {waited} ms", self.settings.servers))))
            }
            None => return,
        };
        let load = self.under_way.take().and_then(|under_way| under_way.load);
        match (answer, load) {
            (Answer::Connected(Ok(())), _) => {
                self.connected = true;
                self.health.up();
                self.pause.reset();
            }
            (Answer::Sent(Ok(first)), Some(load)) => {
                outcomes.extend(load.delivered(first));
                self.connected = true;
                self.pause.reset();
            }
            (Answer::Sent(Ok(_)), None) => {}
            (Answer::Connected(Err(problem)) | Answer::Sent(Err(problem)), load) => self.fail(problem, load, outcomes),
        }
    }

    /// Decides what becomes of a load whose call failed.
    fn fail(&mut self, problem: Problem, load: Option<Load>, outcomes: &mut Vec<Outcome>) {
        if problem.too_large {
            let Some(load) = load else { return };
            match load.halves() {
                // The record that is too large is found by halving, and its neighbours are unharmed.
                Ok((first, second)) => {
                    self.ready.push_front(second);
                    self.ready.push_front(first);
                }
                Err(alone) => {
                    outcomes.extend(alone.failed(self.failure(&problem.words)));
                }
            }
            return;
        }
        // The kafka crate is of no use after any other error; its caller has dropped it.
        self.connected = false;
        self.health.down(problem.words.clone());
        self.pause.begin();
        match load {
            Some(load) if problem.permanent => {
                outcomes.extend(load.failed(self.failure(&problem.words)));
            }
            Some(load) => self.ready.push_front(load),
            None => {}
        }
    }

    /// Gives up the records whose delivery timeout has passed, oldest first.
    fn expire(&mut self, outcomes: &mut Vec<Outcome>) {
        let timeout = self.settings.delivery_timeout;
        if self.ready.is_empty() && self.filling.oldest_age() >= timeout {
            self.ready.extend(self.filling.finish());
        }
        while let Some(load) = self.ready.front_mut() {
            if let Some(expired) = load.split_expired(timeout) {
                let failure = super::timed_out(&self.settings.topic, timeout, self.health.last_heard());
                let failure = Failure { wanted: self.settings.wants_payloads, ..failure };
                outcomes.extend(expired.failed(failure));
            }
            if load.is_empty() {
                self.ready.pop_front();
            } else {
                return;
            }
        }
    }

    /// Begins the next call, if none is under way and none has to wait.
    fn go_on(&mut self) {
        if self.under_way.is_some() || self.pause.left(Instant::now()).is_some() {
            return;
        }
        let (job, load, waits) = if !self.connected {
            (Job::Connect, None, self.settings.connect_timeout)
        } else if let Some(load) = self.ready.pop_front().or_else(|| self.lingered()) {
            (Job::Send(load.clone()), Some(load), self.settings.send_timeout)
        } else {
            return;
        };
        self.under_way = Some(UnderWay { load, waits, give_up: deadline::after(waits) });
        match self.caller() {
            Ok(caller) => caller.post(job),
            // The next poll finds no caller, and its records go on from there.
            Err(error) => self.health.down(error.to_string()),
        }
    }

    /// The load that still grows, once it has waited for long enough.
    fn lingered(&mut self) -> Option<Load> {
        if self.filling.oldest_age() >= self.settings.linger { self.filling.finish() } else { None }
    }

    fn failure(&self, words: &str) -> Failure {
        let failure = Failure::rejected(format!("topic {}: {words}", self.settings.topic));
        Failure { wanted: self.settings.wants_payloads, ..failure }
    }

    /// The thread to post to, a new one if the last was left behind.
    fn caller(&mut self) -> Result<&mut Caller, StartupError> {
        if self.caller.is_none() {
            self.caller = Some((self.start)()?);
        }
        self.caller.as_mut().ok_or_else(|| StartupError::new(StartupErrorKind::System, "no thread"))
    }
}

#[cfg(test)]
mod tests;
