//! Awaited deliveries: one record's outcome as a future.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::DeliveryError;

/// Where a delivered record is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition of the topic.
    pub partition: i32,
    /// The record's offset in the partition; none with `Acks::None`, or when the broker does not say.
    pub offset: Option<i64>,
}

/// The outcome of one record, to be awaited on any executor.
///
/// The record is in the queue before the call returns that gives this. Dropping it cancels nothing. It always
/// resolves: at the latest when the delivery timeout has passed, or when the logger has been shut down; with a
/// [`spool`](crate::Config::spool), where no record times out, when it has been delivered or the logger shut down.
#[must_use = "the record is on its way; the future is for whoever wants to know how it went"]
pub struct Delivered {
    state: State,
}

enum State {
    /// It never got on its way.
    Known(Option<Box<DeliveryError>>),
    OnItsWay(Arc<Tracked>),
}

impl Delivered {
    pub(crate) fn failed(error: DeliveryError) -> Delivered {
        Delivered { state: State::Known(Some(Box::new(error))) }
    }

    pub(crate) fn on_its_way(tracked: Arc<Tracked>) -> Delivered {
        Delivered { state: State::OnItsWay(tracked) }
    }
}

impl Future for Delivered {
    type Output = Result<Delivery, DeliveryError>;

    /// # Panics
    ///
    /// When polled after it was ready, as futures may.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Known(error) => Poll::Ready(Err(*error.take().expect("`Delivered` was polled after it was ready"))),
            State::OnItsWay(tracked) => tracked.poll(context),
        }
    }
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = match &self.state {
            State::Known(_) => true,
            State::OnItsWay(tracked) => matches!(*tracked.waiting.lock(), Waiting::Known(_)),
        };
        f.debug_struct("Delivered").field("known", &known).finish_non_exhaustive()
    }
}

/// A record that somebody wants to hear of. The pipeline has one end, [`Delivered`] the other, if there is one.
pub(crate) struct Tracked {
    /// The record's target, where it has one.
    pub(crate) target: Option<Box<str>>,
    pub(crate) awaited: bool,
    /// Whether a client has it.
    handed_over: AtomicBool,
    /// Of a payload that was cut; 0 where it is whole.
    original_bytes: AtomicU64,
    waiting: Mutex<Waiting>,
}

enum Waiting {
    For(Option<Waker>),
    Known(Box<Result<Delivery, DeliveryError>>),
    Taken,
}

impl Tracked {
    pub(crate) fn new(target: Option<&str>, awaited: bool) -> Tracked {
        Tracked {
            target: target.map(Box::from),
            awaited,
            handed_over: AtomicBool::new(false),
            original_bytes: AtomicU64::new(0),
            waiting: Mutex::new(Waiting::For(None)),
        }
    }

    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// The client that had it is no more, and the disk has it still.
    pub(crate) fn take_back(&self) {
        self.handed_over.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// Its payload would have had so many bytes, and was cut.
    pub(crate) fn truncated(&self, original_bytes: u64) {
        self.original_bytes.store(original_bytes, Ordering::Relaxed);
    }

    pub(crate) fn original_bytes(&self) -> Option<u64> {
        Some(self.original_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Makes the outcome known, once: what comes later is not heard.
    pub(crate) fn resolve(&self, outcome: Result<Delivery, DeliveryError>) {
        if !self.awaited {
            return;
        }
        let mut waiting = self.waiting.lock();
        let Waiting::For(waker) = &mut *waiting else { return };
        let waker = waker.take();
        *waiting = Waiting::Known(Box::new(outcome));
        drop(waiting);
        // Somebody else's code: under no lock, and its panic is none of ours.
        if let Some(waker) = waker {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Result<Delivery, DeliveryError>> {
        // A waker is somebody else's code: it is cloned before the lock is taken, and the old one dropped after.
        let waker = context.waker().clone();
        let mut waiting = self.waiting.lock();
        let (next, outcome) = match &*waiting {
            Waiting::For(_) => (Waiting::For(Some(waker)), Poll::Pending),
            Waiting::Known(_) | Waiting::Taken => (Waiting::Taken, Poll::Ready(())),
        };
        let before = std::mem::replace(&mut *waiting, next);
        drop(waiting);
        match (before, outcome) {
            (_, Poll::Pending) => Poll::Pending,
            (Waiting::Known(outcome), _) => Poll::Ready(*outcome),
            _ => panic!("`Delivered` was polled after it was ready"),
        }
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked").field("target", &self.target).field("awaited", &self.awaited).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_awaited_on_any_executor() {
        fn goes_anywhere<T: Future<Output = Result<Delivery, DeliveryError>> + Send + 'static>() {}
        goes_anywhere::<Delivered>();
    }
}
