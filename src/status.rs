//! How the connection does, as data.

use std::time::SystemTime;

use parking_lot::Mutex;

use crate::config::Transport;

/// What a logger knows about its way to the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The transport in use, never [`Transport::Auto`].
    pub transport: Transport,
    /// The client in use, with its version where it tells it: `"librdkafka 2.12.1"`; with `sync` `"wire 0.1.0"`, or
    /// `"kafka 0.10"` for brokers older than 0.11.
    pub client: String,
    /// Whether records get through.
    pub state: State,
    /// The last thing that went wrong, even if all is well again. It never holds a secret.
    pub last_error: Option<String>,
    /// When a broker last acknowledged a record.
    pub last_ack: Option<SystemTime>,
    /// The last thing that went wrong with the [`fallback`](crate::Config::fallback), even if all is well again.
    pub fallback_error: Option<String>,
}

/// Whether records get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// No broker has answered yet; with `async`, none has acknowledged a record.
    Connecting,
    /// A broker answered or acknowledged last.
    Up,
    /// The last attempt failed; records wait and attempts go on.
    Down,
}

/// The status as the pipeline's threads write it.
#[derive(Debug)]
pub(crate) struct Health {
    transport: Transport,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    client: String,
    state: State,
    last_error: Option<String>,
    /// The last error that is not about a record: the reason for what happens to records.
    last_heard: Option<String>,
    last_ack: Option<SystemTime>,
    fallback_error: Option<String>,
}

impl Health {
    pub(crate) fn new(transport: Transport, client: String) -> Health {
        let state = State::Connecting;
        let seen = Seen { client, state, last_error: None, last_heard: None, last_ack: None, fallback_error: None };
        Health { transport, seen: Mutex::new(seen) }
    }

    /// Another client is in use than at the start.
    pub(crate) fn client_is(&self, client: String) {
        self.seen.lock().client = client;
    }

    pub(crate) fn up(&self) {
        self.seen.lock().state = State::Up;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.seen.lock().state == State::Up
    }

    pub(crate) fn down(&self, error: impl Into<String>) {
        self.error(error);
        self.seen.lock().state = State::Down;
    }

    /// Something went wrong that says nothing about the connection.
    pub(crate) fn error(&self, error: impl Into<String>) {
        let error = error.into();
        let mut seen = self.seen.lock();
        seen.last_heard = Some(error.clone());
        seen.last_error = Some(error);
    }

    /// A record was given up.
    pub(crate) fn refused(&self, cause: &str) {
        self.seen.lock().last_error = Some(cause.to_owned());
    }

    /// The fallback could not take a record.
    pub(crate) fn fallback(&self, error: String) {
        self.seen.lock().fallback_error = Some(error);
    }

    /// The last thing heard about the way to the brokers, to say why a record was given up.
    pub(crate) fn last_heard(&self) -> Option<String> {
        self.seen.lock().last_heard.clone()
    }

    /// No broker is connected now; why, only [`down`](Health::down) knows.
    pub(crate) fn lost(&self) {
        let mut seen = self.seen.lock();
        if seen.state == State::Up {
            seen.state = State::Down;
        }
    }

    pub(crate) fn acknowledged(&self) {
        let mut seen = self.seen.lock();
        seen.state = State::Up;
        seen.last_ack = Some(SystemTime::now());
    }

    pub(crate) fn read(&self) -> Status {
        let seen = self.seen.lock();
        Status {
            transport: self.transport,
            client: seen.client.clone(),
            state: seen.state,
            last_error: seen.last_error.clone(),
            last_ack: seen.last_ack,
            fallback_error: seen.fallback_error.clone(),
        }
    }
}
