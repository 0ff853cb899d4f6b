//! The queue's locks: parking_lot's, or those of the model checker, which plays through their interleavings.

#[cfg(not(shuttle))]
pub(super) use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(shuttle)]
pub(super) use self::model::{Condvar, Mutex, MutexGuard};

/// parking_lot's interface over shuttle's locks.
#[cfg(shuttle)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::time::{Duration, Instant};

    use shuttle::rand::{Rng, thread_rng};
    use shuttle::{sync, thread};

    /// A moment farther away than this never comes: who waits for it must be woken.
    const NEVER: Duration = Duration::from_secs(60);

    #[derive(Debug)]
    pub(in crate::queue) struct Mutex<T>(sync::Mutex<T>);

    /// None only while a condition is waited for.
    pub(in crate::queue) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>, &'a sync::Mutex<T>);

    #[derive(Debug)]
    pub(in crate::queue) struct Condvar(sync::Condvar);

    pub(in crate::queue) struct WaitTimeoutResult(bool);

    impl<T> Mutex<T> {
        pub(in crate::queue) fn new(value: T) -> Mutex<T> {
            Mutex(sync::Mutex::new(value))
        }

        pub(in crate::queue) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap()), &self.0)
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    impl WaitTimeoutResult {
        pub(in crate::queue) fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        pub(in crate::queue) fn new() -> Condvar {
            Condvar(sync::Condvar::new())
        }

        pub(in crate::queue) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(in crate::queue) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(in crate::queue) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|inner| self.0.wait(inner).unwrap());
        }

        /// The clock stands still in a model: a moment that is near may come before anything else does, or after, but
        /// it does come.
        pub(in crate::queue) fn wait_until<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            deadline: Instant,
        ) -> WaitTimeoutResult {
            let left = deadline.saturating_duration_since(Instant::now());
            if left < NEVER {
                guard.0 = None;
                (0..thread_rng().gen_range(1..5)).for_each(|_| thread::yield_now());
                guard.0 = Some(guard.1.lock().unwrap());
                return WaitTimeoutResult(true);
            }
            self.wait(guard);
            WaitTimeoutResult(false)
        }
    }
}
