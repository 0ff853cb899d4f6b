//! The scriptable client of the unit tests: it delivers, holds, fails, panics or hangs as told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Ack, Batch, Call, Choice, Client, Failure, Outcome};
use crate::config::Transport;
use crate::delivery::DeliveryErrorKind;
use crate::error::{LoggerError, StartupError, StartupErrorKind};
use crate::queue::{Generation, Meta};

/// Where it says that records are.
const ACK: Ack = Ack { partition: 3, offset: Some(42) };

/// What the client does with the records it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Deliver,
    /// Keeps them, until another mode or [`Script::deliver_one`].
    Hold,
    Fail,
    /// Takes none.
    NoRoom,
    PanicInSubmit,
    PanicInPoll,
    /// When it is asked how long the worker may sleep.
    PanicInPatience,
    /// As `Hold`, and gives none back.
    HoldFast,
    /// As `Hold`, and gives them back in another order, as one that goes by its partitions does.
    HoldMixed,
    /// As `Hold`, with room for one record.
    HoldOne,
    /// The same, and delivers it when it is polled a second time, after a millisecond and without a call.
    OneByOne,
    /// As `PanicInPoll`, and gives none back, for it panics there too.
    PanicThroughout,
    /// As `PanicInPoll`, and gives back each twice, and also what it has delivered out of turn.
    PanicConfused,
    /// As `PanicInPoll`, and no other client can be made.
    PanicForGood,
    /// `poll` does not return until another mode is set: a client that breaks its promise.
    Hang,
}

/// The test's end of a fake client, and of those that replace it.
#[derive(Clone)]
pub(crate) struct Script {
    state: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    /// Calls the worker, as a client's own thread does: the fake is polled for nothing else.
    call: Option<Call>,
    mode: Mode,
    /// Every payload taken, in order.
    taken: Vec<Vec<u8>>,
    /// Indices into the records held now, to be delivered out of turn.
    out_of_turn: Vec<usize>,
    made: usize,
    polls: usize,
    /// Bytes that were taken since the last poll, and the most of those.
    unpolled: (usize, usize),
    dropped: usize,
    /// A client is in the middle of a hang, or has been.
    hangs: bool,
}

impl Script {
    pub(crate) fn new(mode: Mode) -> Script {
        let state = State {
            call: None,
            mode,
            taken: Vec::new(),
            out_of_turn: Vec::new(),
            made: 0,
            polls: 0,
            unpolled: (0, 0),
            dropped: 0,
            hangs: false,
        };
        Script { state: Arc::new((Mutex::new(state), Condvar::new())) }
    }

    pub(crate) fn choice(&self) -> Choice {
        let script = self.clone();
        Choice {
            transport: Transport::Async,
            client: "fake".into(),
            create: Box::new(move |_, _, call| {
                if script.state.0.lock().mode == Mode::PanicForGood {
                    let error = StartupError::new(StartupErrorKind::System, "as scripted, no client");
                    return Err(LoggerError::Startup(error));
                }
                script.change(|state| {
                    state.made += 1;
                    state.call = Some(Arc::clone(call));
                });
                Ok(Box::new(Fake {
                    script: script.clone(),
                    held: VecDeque::new(),
                    is_ripe: false,
                    delivered_out_of_turn: Vec::new(),
                }))
            }),
        }
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.change(|state| state.mode = mode);
    }

    /// Delivers the record at this place among those held now, before its elders.
    pub(crate) fn deliver_one(&self, place: usize) {
        self.change(|state| state.out_of_turn.push(place));
    }

    pub(crate) fn taken(&self) -> Vec<String> {
        let taken = self.state.0.lock().taken.clone();
        taken.into_iter().map(|payload| String::from_utf8(payload).unwrap()).collect()
    }

    /// How often clients have been polled.
    pub(crate) fn polls(&self) -> usize {
        self.state.0.lock().polls
    }

    /// The most bytes that a client was given between two polls.
    pub(crate) fn most_between_polls(&self) -> usize {
        self.state.0.lock().unpolled.1
    }

    /// Waits until the client hangs, as it was told.
    pub(crate) fn wait_hanging(&self) {
        self.wait("the hang", |state| state.hangs);
    }

    pub(crate) fn wait_taken(&self, records: usize) {
        self.wait("records to be taken", |state| state.taken.len() >= records);
    }

    pub(crate) fn wait_made(&self, clients: usize) {
        self.wait("a client to be made", |state| state.made >= clients);
    }

    pub(crate) fn wait_dropped(&self, clients: usize) {
        self.wait("a client to be dropped", |state| state.dropped >= clients);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.note(change);
        let call = self.state.0.lock().call.clone();
        if let Some(call) = call {
            call();
        }
    }

    /// The same by the worker itself, which is not called for it.
    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.0.lock());
        self.state.1.notify_all();
    }

    fn wait(&self, what: &str, mut reached: impl FnMut(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut state = self.state.0.lock();
        while !reached(&state) {
            assert!(!self.state.1.wait_until(&mut state, deadline).timed_out(), "waited in vain for {what}");
        }
    }
}

struct Fake {
    script: Script,
    held: VecDeque<(Generation, Meta, Vec<u8>)>,
    /// With `OneByOne`: what it holds has been there at a poll.
    is_ripe: bool,
    delivered_out_of_turn: Vec<(Generation, Meta, Vec<u8>)>,
}

impl Fake {
    fn mode(&self) -> Mode {
        self.script.state.0.lock().mode
    }
}

impl Client for Fake {
    fn check(&mut self, _: Duration) -> Result<(), StartupError> {
        Ok(())
    }

    fn has_room(&self) -> bool {
        match self.mode() {
            Mode::NoRoom => false,
            Mode::HoldOne | Mode::OneByOne => self.held.is_empty(),
            Mode::PanicInPoll | Mode::PanicThroughout | Mode::PanicConfused => self.held.is_empty(),
            _ => true,
        }
    }

    fn submit(&mut self, batch: &mut Batch) {
        let generation = batch.generation();
        while let Some((payload, meta)) = batch.pop() {
            self.held.push_back((generation, meta, payload.to_vec()));
            self.script.note(|state| {
                state.taken.push(payload.to_vec());
                state.unpolled.0 += payload.len();
                state.unpolled.1 = state.unpolled.1.max(state.unpolled.0);
            });
            assert!(self.mode() != Mode::PanicInSubmit, "as scripted, in submit");
            if matches!(self.mode(), Mode::HoldOne | Mode::OneByOne) {
                return;
            }
        }
    }

    fn poll(&mut self, outcomes: &mut Vec<Outcome>) {
        self.script.note(|state| {
            state.polls += 1;
            state.unpolled.0 = 0;
        });
        if self.mode() == Mode::Hang {
            self.script.change(|state| state.hangs = true);
            self.script.wait("the end of the hang", |state| state.mode != Mode::Hang);
        }
        let panics =
            matches!(self.mode(), Mode::PanicInPoll | Mode::PanicThroughout | Mode::PanicConfused | Mode::PanicForGood);
        assert!(!panics || self.held.is_empty(), "as scripted, in poll");
        let out_of_turn = std::mem::take(&mut self.script.state.0.lock().out_of_turn);
        for place in out_of_turn {
            let (generation, meta, payload) = self.held.remove(place).unwrap();
            self.delivered_out_of_turn.push((generation, meta.clone(), payload.clone()));
            outcomes.push(Outcome::of_one(generation, payload.len(), meta, Ok(ACK)));
        }
        let delivers = match self.mode() {
            Mode::Deliver => true,
            Mode::OneByOne => {
                self.is_ripe = !self.is_ripe && !self.held.is_empty();
                if self.is_ripe {
                    return;
                }
                true
            }
            Mode::Fail => false,
            _ => return,
        };
        outcomes.extend(self.held.drain(..).map(|(generation, meta, payload)| {
            let bytes = payload.len();
            let (kind, cause) = (DeliveryErrorKind::Rejected, "as scripted".into());
            let result = if delivers {
                Ok(ACK)
            } else {
                Err(Failure { kind, possibly_delivered: false, cause, payload, wanted: true })
            };
            Outcome::of_one(generation, bytes, meta, result)
        }));
    }

    fn give_back(&mut self, _: Instant) -> Vec<Outcome> {
        if self.mode() == Mode::HoldFast {
            return Vec::new();
        }
        assert!(self.mode() != Mode::PanicThroughout, "as scripted, in giving back");
        let failed = |(generation, meta, payload): (Generation, Meta, Vec<u8>)| {
            Outcome::of_one(generation, payload.len(), meta, Err(Failure::given_back(payload)))
        };
        if self.mode() == Mode::PanicConfused {
            self.held.extend(self.delivered_out_of_turn.drain(..));
        }
        let mut given_back: Vec<Outcome> = self.held.drain(..).map(failed).collect();
        match self.mode() {
            Mode::HoldMixed => given_back.reverse(),
            Mode::PanicConfused => given_back.extend_from_within(..),
            _ => {}
        }
        given_back
    }

    fn patience(&self) -> Duration {
        match self.mode() {
            Mode::PanicInPatience if !self.held.is_empty() => panic!("as scripted, in patience"),
            Mode::OneByOne => Duration::from_millis(1),
            // A worker that sleeps through what it should hear fails the test that waits for it.
            _ => Duration::from_secs(3600),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.script.change(|state| state.dropped += 1);
    }
}
