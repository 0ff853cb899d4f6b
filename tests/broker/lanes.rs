//! Which trials may run at the same time.

use std::collections::BTreeSet;

use parking_lot::{Condvar, Mutex};

use crate::support::kafka::Version;

/// Trials of a lane run one after another: they share brokers, which some of them stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Version(Version),
    /// The cluster of three, of one version after the other; and librdkafka's mock cluster.
    Cluster,
}

/// How many there are.
pub(crate) const LANES: usize = Version::ALL.len() + 1;

/// So many trials wait for their turn or have it: a long one in one lane leaves enough to do for the others.
pub(crate) const THREADS: usize = 20 * LANES;

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    busy: bool,
    waiting: BTreeSet<usize>,
}

/// A trial has it while it runs.
pub(crate) struct Turn(Lane);

impl Lane {
    /// Waits until no other trial of this lane runs, and none with a lower number waits.
    pub(crate) fn turn(self, number: usize) -> Turn {
        let queue = self.queue();
        let mut state = queue.state.lock();
        state.waiting.insert(number);
        queue.changed.wait_while(&mut state, |state| state.busy || state.waiting.first() != Some(&number));
        state.waiting.remove(&number);
        state.busy = true;
        Turn(self)
    }

    fn queue(self) -> &'static Queue {
        const EMPTY: State = State { busy: false, waiting: BTreeSet::new() };
        static QUEUES: [Queue; LANES] = [const { Queue { state: Mutex::new(EMPTY), changed: Condvar::new() } }; LANES];
        &QUEUES[self.number()]
    }

    pub(crate) fn number(self) -> usize {
        match self {
            Lane::Version(version) => version as usize,
            Lane::Cluster => LANES - 1,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let queue = self.0.queue();
        queue.state.lock().busy = false;
        queue.changed.notify_all();
    }
}

/// The trials of all lanes as one list, in which each lane's are spread evenly: they are started in its order.
pub(crate) fn merged<T>(lanes: [Vec<T>; LANES]) -> Vec<T> {
    let mut all: Vec<(usize, usize, T)> = Vec::new();
    for (lane, trials) in lanes.into_iter().enumerate() {
        let count = trials.len();
        // In millionths of the whole.
        let place = |n: usize| (2 * n + 1) * 1_000_000 / (2 * count);
        all.extend(trials.into_iter().enumerate().map(|(n, trial)| (place(n), lane, trial)));
    }
    all.sort_by_key(|(place, lane, _)| (*place, *lane));
    all.into_iter().map(|(_, _, trial)| trial).collect()
}
