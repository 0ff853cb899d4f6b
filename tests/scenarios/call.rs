//! What a log call does besides writing its payload: next to nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kafka_log::Transport;

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config};
use crate::scenarios;

pub fn scenarios() -> Vec<Scenario> {
    #[allow(unused_mut, reason = "there is more on Linux")]
    let mut all = scenarios! {
        a_call_allocates_nothing_once_it_is_warm => count_allocations;
    };
    #[cfg(target_os = "linux")]
    all.extend(scenarios! {
        a_call_makes_no_system_call_but_to_wake_the_worker => filtered::log_without_system_calls;
    });
    all
}

fn log(number: u32) {
    log::info!(user_id = "u_19", took_us = number; "request {number} answered in {:.1} ms", f64::from(number) / 7.0);
}

// ---- allocations --------------------------------------------------------------------------------------------------

/// Counts the allocations of each thread.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

// SAFETY: all is left to the system's allocator; counting does not allocate.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Rounds of records: the first ones fill the store of batches, which the later ones draw on.
const ROUNDS: u32 = 40;
const WARM: u32 = 20;
const A_ROUND: u32 = 1_000;

fn count_allocations(transport: Transport) {
    let guard = kafka_log::init(config(transport)).unwrap();
    let mut counted = Vec::with_capacity(ROUNDS as usize);
    for round in 0..ROUNDS {
        let before = allocations();
        (0..A_ROUND).for_each(|n| log(round * A_ROUND + n));
        counted.push(allocations() - before);
        guard.flush(SURELY).unwrap();
    }
    assert!(counted[0] > 0, "the counter counts nothing");
    // A lock that is waited for, or a buffer that is not back yet, may cost one now and then: never a call.
    let warm: u64 = counted[WARM as usize..].iter().sum();
    assert!(warm < u64::from(ROUNDS - WARM), "{counted:?}");
}

fn a_call_allocates_nothing_once_it_is_warm(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.records().len(), (ROUNDS * A_ROUND) as usize);
}

// ---- system calls -------------------------------------------------------------------------------------------------

#[cfg(target_os = "linux")]
fn a_call_makes_no_system_call_but_to_wake_the_worker(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.records().len(), filtered::RECORDS as usize);
}

#[cfg(target_os = "linux")]
mod filtered {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use kafka_log::Transport;

    use super::{SURELY, config, log};
    use crate::support::wait;

    pub const RECORDS: u32 = 5_000;

    static LOGGED: AtomicBool = AtomicBool::new(false);

    /// What a lock makes that is not free, and a wake-up; and memory, where a buffer is not back yet.
    const ALLOWED: [libc::c_long; 7] = [
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
    ];

    /// Logs on a thread that the kernel ends, with the process, at any other system call.
    pub fn log_without_system_calls(transport: Transport) {
        let guard = kafka_log::init(config(transport)).unwrap();
        // The thread's and the queue's buffers come from the system once.
        (0..RECORDS / 2).for_each(log);
        guard.flush(SURELY).unwrap();
        thread::spawn(|| {
            log(0);
            allow_only(ALLOWED);
            (1..RECORDS / 2).for_each(log);
            LOGGED.store(true, Ordering::Release);
            // Its end would be a system call too.
            loop {
                thread::park();
            }
        });
        wait::until("the calls to be over", SURELY, || LOGGED.load(Ordering::Acquire));
        guard.flush(SURELY).unwrap();
        // A normal return would be fine; the parked thread ends with the process.
    }

    /// From here on this thread makes no other system call and lives. Works by the number alone: the architecture is
    /// this program's own.
    #[allow(unsafe_code)]
    fn allow_only(calls: [libc::c_long; 7]) {
        let jump = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
        // The call's number is the first word of what the filter sees.
        let mut filter = vec![jump(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
        for call in calls {
            filter.push(jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 0, 1));
            filter.push(jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
        }
        filter.push(jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0, 0));
        const ZERO: libc::c_ulong = 0;
        const ONE: libc::c_ulong = 1;
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the program outlives the call, and the kernel copies it.
        let set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, ONE, ZERO, ZERO, ZERO) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &raw const program)
                    == 0
        };
        assert!(set, "no filter: {}", std::io::Error::last_os_error());
    }
}
