//! Who is told of a record that did not arrive: whoever awaits it, the callback of `on_delivery_error`, and the fallback.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;
use std::{io, thread};

use log::Level;

use super::{Counters, Delivery, DeliveryError, DeliveryErrorKind, DropReason};
use crate::fallback::{Fallback, Telling, Was};
use crate::queue::Meta;
use crate::recursion;
use crate::transport::{Ack, Failure};

/// Errors that wait for a slow callback; what comes while so many wait is counted in `callbacks_missed`.
const MOST_WAITING: usize = 1_024;

/// The user's callback.
pub(crate) type Callback = Arc<dyn Fn(&DeliveryError) + Send + Sync>;

/// Tells of the records of one logger.
#[derive(Debug)]
pub(crate) struct Losses {
    topic: Arc<str>,
    callbacks: Option<SyncSender<DeliveryError>>,
    fallback: Option<Fallback>,
    counters: Arc<Counters>,
}

impl Losses {
    /// Starts the callback's thread, if there is a callback. The thread ends when all who can tell of a loss have.
    pub(crate) fn new(
        topic: &str,
        callback: Option<Callback>,
        fallback: Option<Fallback>,
        counters: Arc<Counters>,
    ) -> io::Result<Losses> {
        let callbacks = callback.map(start).transpose()?;
        Ok(Losses { topic: topic.into(), callbacks, fallback, counters })
    }

    /// Whether every record must be tracked, and not the awaited ones alone.
    pub(crate) fn tracks_all(&self) -> bool {
        self.callbacks.is_some()
    }

    /// Whether somebody wants the payloads of records that do not arrive.
    pub(crate) fn wants_payloads(&self) -> bool {
        self.callbacks.is_some() || self.fallback.is_some()
    }

    pub(crate) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    /// Losses are about to be told of that have been counted: who waits for the fallback, waits for them.
    pub(crate) fn telling(&self) -> Option<Telling<'_>> {
        self.fallback.as_ref().map(Fallback::telling)
    }

    /// Waits until the fallback has written what has come to it, `deadline` at most.
    pub(crate) fn wait_written(&self, deadline: Instant) {
        if let Some(fallback) = &self.fallback {
            fallback.wait_written(deadline);
        }
    }

    /// The same at the end, with a word on what no notice has told of yet.
    pub(crate) fn last_words(&self, deadline: Instant) {
        if let Some(fallback) = &self.fallback {
            fallback.last_words(deadline);
        }
    }

    pub(crate) fn delivered(&self, meta: &Meta, ack: Ack) {
        if let Some(tracked) = &meta.tracked {
            let topic = Arc::clone(&self.topic);
            tracked.resolve(Ok(Delivery { topic, partition: ack.partition, offset: ack.offset }));
        }
    }

    pub(crate) fn failed(&self, meta: &Meta, failure: Failure) {
        let Failure { kind, possibly_delivered, cause, payload, .. } = failure;
        self.fall_back(meta, &payload, Was::Taken);
        self.tell(meta, |error| DeliveryError { kind, possibly_delivered, cause, payload, ..error });
    }

    pub(crate) fn dropped(&self, meta: &Meta, payload: &[u8], reason: DropReason) {
        self.fall_back(meta, payload, if reason == DropReason::Shutdown { Was::Taken } else { Was::Refused });
        self.tell(meta, |error| DeliveryError { payload: payload.to_vec(), ..error.because(reason) });
    }

    /// Given up while a client had it, which gave it back.
    pub(crate) fn given_back(&self, meta: &Meta, payload: Vec<u8>, kind: DeliveryErrorKind, cause: &Arc<str>) {
        self.fall_back(meta, &payload, Was::Taken);
        let cause = Arc::clone(cause);
        self.tell(meta, |error| DeliveryError { kind, possibly_delivered: true, cause, payload, ..error });
    }

    /// Given up while a client had it, and its payload with it: only who awaits it is told.
    pub(crate) fn given_up(&self, meta: &Meta, kind: DeliveryErrorKind, cause: &str) {
        if let Some(tracked) = &meta.tracked {
            let cause = cause.into();
            tracked.resolve(Err(DeliveryError { kind, possibly_delivered: true, cause, ..self.error(meta) }));
        }
    }

    /// Could not be read back from the disk: those that somebody awaits, and so many of which nothing is known.
    pub(crate) fn damaged(&self, awaited: &[Meta], others: u64) {
        for meta in awaited {
            self.dropped(meta, &[], DropReason::Damaged);
        }
        self.missed_by_fallback(usize::try_from(others).unwrap_or(usize::MAX));
        if let Some(callbacks) = &self.callbacks {
            let error = DeliveryError::nothing(Level::Error, None).because(DropReason::Damaged);
            let error = DeliveryError { topic: Arc::clone(&self.topic), ..error };
            // No more than can wait, however fast they are called: it may be any number, by the name of a file.
            let most = others.min(MOST_WAITING as u64);
            let told = (0..most).find(|_| callbacks.try_send(error.clone()).is_err()).unwrap_or(most);
            self.counters.callbacks_missed(others - told);
        }
    }

    /// Emitted on a thread of ours. Not told to the callback, which runs on such a thread: what it logs would call it.
    pub(crate) fn recursive(&self, meta: &Meta) {
        if let Some(tracked) = &meta.tracked {
            tracked.resolve(Err(self.error(meta).because(DropReason::Recursive)));
        }
    }

    /// Nobody can be told of so many records: a client has their payloads, and is no more.
    pub(crate) fn missed(&self, records: usize) {
        if self.callbacks.is_some() {
            self.counters.callbacks_missed(records as u64);
        }
        if let Some(fallback) = self.fallback.as_ref().filter(|_| records > 0) {
            fallback.missed(records);
        }
    }

    /// The fallback gets no payload of so many records that nobody else wants to hear of.
    pub(crate) fn missed_by_fallback(&self, records: usize) {
        if let Some(fallback) = &self.fallback {
            fallback.missed(records);
        }
    }

    fn fall_back(&self, meta: &Meta, payload: &[u8], was: Was) {
        if let Some(fallback) = &self.fallback {
            fallback.put(payload, meta.severity.level(), was);
        }
    }

    fn tell(&self, meta: &Meta, fill: impl FnOnce(DeliveryError) -> DeliveryError) {
        let Some(tracked) = &meta.tracked else { return };
        let error = fill(self.error(meta));
        if let Some(callbacks) = &self.callbacks {
            match callbacks.try_send(error.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.counters.callbacks_missed(1),
            }
        }
        tracked.resolve(Err(error));
    }

    fn error(&self, meta: &Meta) -> DeliveryError {
        DeliveryError {
            kind: DeliveryErrorKind::Rejected,
            possibly_delivered: false,
            topic: Arc::clone(&self.topic),
            level: meta.severity.level(),
            target: meta.tracked.as_ref().and_then(|tracked| tracked.target.clone()),
            payload: Vec::new(),
            original_bytes: meta.tracked.as_ref().and_then(|tracked| tracked.original_bytes()),
            cause: "".into(),
        }
    }
}

impl DeliveryError {
    fn because(self, reason: DropReason) -> DeliveryError {
        DeliveryError { kind: reason.kind(), cause: reason.words().into(), ..self }
    }
}

fn start(callback: Callback) -> io::Result<SyncSender<DeliveryError>> {
    let (sender, errors) = sync_channel(MOST_WAITING);
    thread::Builder::new().name("kafka_log-errors".into()).spawn(move || run(&callback, &errors))?;
    Ok(sender)
}

fn run(callback: &Callback, errors: &Receiver<DeliveryError>) {
    let _ours = recursion::enter();
    while let Ok(error) = errors.recv() {
        // A callback that panics has had its call; the next error gets another.
        let _ = catch_unwind(AssertUnwindSafe(|| callback(&error)));
    }
}
