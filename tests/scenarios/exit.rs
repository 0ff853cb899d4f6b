//! What each way to end keeps of what is pending, and what it loses: the table in README.md, a test or two a row.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic;
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::Transport;

use crate::broker::Broker;
use crate::child::{Child, Ended, SURELY, Scenario, config, say};
use crate::scenarios;
use crate::support::{ports, process as processes, silent};

const RECORDS: u64 = 1_000;

/// The flushes at the end take 5 s in all, where a guard's and the exit hook's would be 10; the rest is for a busy
/// machine to start a process and end it.
const END: Duration = Duration::from_secs(5 + 4);

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_return_from_main_with_no_guard_kept_delivers_all => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log_records();
        };
        a_return_from_main_with_the_guard_bound_to_an_underscore_delivers_all => |transport| {
            let _ = kafka_log::init(config(transport));
            log_records();
        };
        a_guard_kept_in_main_delivers_all_when_it_is_dropped => |transport| {
            let guard = kafka_log::init(config(transport)).unwrap();
            log_records();
            drop(guard);
            // All is done here, before any exit hook, and the pipeline goes on.
            let stats = kafka_log::stats();
            assert_eq!((stats.delivered, stats.pending), (RECORDS, 0));
            log::info!(n = RECORDS; "after the guard");
        };
        process_exit_in_main_delivers_all_and_keeps_its_code => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log_records();
            process::exit(3);
        };
        process_exit_in_another_thread_delivers_all_and_keeps_its_code => |transport| {
            let _guard = kafka_log::init(config(transport)).unwrap();
            thread::spawn(|| {
                log_records();
                process::exit(3);
            })
            .join()
            .unwrap();
        };
        a_panic_in_main_delivers_all_that_was_logged_before => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log_records();
            panic!("on purpose");
        };
        a_panic_in_main_delivers_all_with_a_guard_kept_too => |transport| {
            let _guard = kafka_log::init(config(transport)).unwrap();
            log_records();
            panic!("on purpose");
        };
        the_record_of_a_panic_hook_is_delivered_too => |transport| {
            kafka_log::init(config(transport)).unwrap();
            panic::set_hook(Box::new(|panic| log::error!(n = RECORDS; "{panic}")));
            log_records();
            panic!("on purpose");
        };
        abort_loses_what_is_pending => |transport| {
            log_in_no_haste(transport);
            process::abort();
        };
        sigterm_by_default_loses_what_is_pending => |transport| {
            log_in_no_haste(transport);
            processes::raise_by_default(libc::SIGTERM);
        };
        sigint_by_default_loses_what_is_pending => |transport| {
            log_in_no_haste(transport);
            processes::raise_by_default(libc::SIGINT);
        };
        sigkill_loses_what_is_pending => |transport| {
            log_in_no_haste(transport);
            processes::raise(libc::SIGKILL);
        };
        sigterm_that_a_thread_answers_with_a_shutdown_delivers_all => |transport| {
            // Before the first thread, so that all of them leave it to the one that waits.
            processes::block(libc::SIGTERM);
            thread::spawn(|| {
                processes::wait_for(libc::SIGTERM);
                let report = kafka_log::shutdown(SURELY);
                process::exit(if report.timed_out { 1 } else { 0 });
            });
            log_in_no_haste(transport);
            processes::raise(libc::SIGTERM);
            thread::sleep(SURELY);
            unreachable!("the process has ended");
        };
        a_panic_that_cannot_unwind_loses_what_is_pending => |transport| {
            log_in_no_haste(transport);
            panic_that_cannot_unwind();
        };
        a_panic_that_cannot_unwind_delivers_all_with_the_helper => |transport| {
            log_in_no_haste(transport);
            kafka_log::flush_on_panic(SURELY);
            panic_that_cannot_unwind();
        };
        a_second_panic_while_unwinding_loses_what_is_pending => |transport| {
            log_in_no_haste(transport);
            panic_twice();
        };
        a_second_panic_while_unwinding_delivers_all_with_the_helper => |transport| {
            log_in_no_haste(transport);
            kafka_log::flush_on_panic(SURELY);
            panic_twice();
        };
        a_hook_that_logs_and_one_that_aborts_around_the_helper_deliver_all => |transport| {
            panic::set_hook(Box::new(|panic| log::error!(n = RECORDS; "{panic}")));
            kafka_log::flush_on_panic(SURELY);
            let helper = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                helper(panic);
                process::abort();
            }));
            log_in_no_haste(transport);
            panic!("on purpose");
        };
        a_panic_in_main_with_the_helper_delivers_all_before_it_unwinds => |transport| {
            log_in_no_haste(transport);
            kafka_log::flush_on_panic(SURELY);
            let caught = panic::catch_unwind(|| panic!("on purpose"));
            assert_eq!((kafka_log::stats().delivered, kafka_log::stats().pending), (RECORDS, 0));
            panic::resume_unwind(caught.unwrap_err());
        };
        a_panic_in_a_child_of_a_bare_fork_waits_for_nothing => panic_in_a_fork;
        without_a_broker_a_return_from_main_is_bounded_and_a_success => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log_records();
            say("pending", kafka_log::stats().pending);
        };
        with_a_guard_and_a_silent_peer_a_return_from_main_is_bounded_and_a_success => |transport| {
            let _guard = kafka_log::init(config(transport)).unwrap();
            log_records();
            say("pending", kafka_log::stats().pending);
        };
        without_a_broker_panics_that_are_caught_wait_for_little => catch_panics;
        a_panic_on_a_thread_of_ours_waits_for_nothing => panic_in_a_callback;
        what_std_starts_inherits_no_connection_and_disturbs_nothing => start_programs;
        what_fork_and_exec_start_inherits_no_connection_and_disturbs_nothing => fork_and_exec_programs;
    }
}

fn log_records() {
    (0..RECORDS).for_each(|n| log::info!(n; "at work"));
}

/// Logs with a linger that leaves all of it pending for now.
fn log_in_no_haste(transport: Transport) {
    const LINGER: Duration = Duration::from_secs(2);
    kafka_log::init(config(transport).linger(LINGER)).unwrap();
    log_records();
    assert_eq!(kafka_log::stats().pending, RECORDS);
}

/// As each panic of a program that is compiled with `panic = "abort"`.
pub fn panic_that_cannot_unwind() {
    extern "C" fn callback() {
        panic!("on purpose");
    }
    callback();
}

pub fn panic_twice() {
    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("once more");
        }
    }

    let _panics = Panics;
    panic!("on purpose");
}

fn a_return_from_main_with_no_guard_kept_delivers_all(child: Child) {
    all_arrive(child, 0, RECORDS);
}

fn a_return_from_main_with_the_guard_bound_to_an_underscore_delivers_all(child: Child) {
    all_arrive(child, 0, RECORDS);
}

fn a_guard_kept_in_main_delivers_all_when_it_is_dropped(child: Child) {
    all_arrive(child, 0, RECORDS + 1);
}

fn process_exit_in_main_delivers_all_and_keeps_its_code(child: Child) {
    all_arrive(child, 3, RECORDS);
}

fn process_exit_in_another_thread_delivers_all_and_keeps_its_code(child: Child) {
    all_arrive(child, 3, RECORDS);
}

/// What Rust returns from `main` after a panic.
pub const PANICKED: i32 = 101;

fn a_panic_in_main_delivers_all_that_was_logged_before(child: Child) {
    all_arrive(child, PANICKED, RECORDS);
}

fn a_panic_in_main_delivers_all_with_a_guard_kept_too(child: Child) {
    all_arrive(child, PANICKED, RECORDS);
}

fn the_record_of_a_panic_hook_is_delivered_too(child: Child) {
    let broker = all_arrive(child, PANICKED, RECORDS + 1);
    let last = broker.messages().pop().unwrap_or_default();
    assert!(last.contains("on purpose") && last.contains("exit.rs"), "{last}");
}

fn abort_loses_what_is_pending(child: Child) {
    killed_by(child, libc::SIGABRT, 0);
}

fn sigterm_by_default_loses_what_is_pending(child: Child) {
    killed_by(child, libc::SIGTERM, 0);
}

fn sigint_by_default_loses_what_is_pending(child: Child) {
    killed_by(child, libc::SIGINT, 0);
}

fn sigkill_loses_what_is_pending(child: Child) {
    killed_by(child, libc::SIGKILL, 0);
}

fn sigterm_that_a_thread_answers_with_a_shutdown_delivers_all(child: Child) {
    all_arrive(child, 0, RECORDS);
}

fn a_panic_that_cannot_unwind_loses_what_is_pending(child: Child) {
    killed_by(child, libc::SIGABRT, 0);
}

fn a_panic_that_cannot_unwind_delivers_all_with_the_helper(child: Child) {
    killed_by(child, libc::SIGABRT, RECORDS);
}

fn a_second_panic_while_unwinding_loses_what_is_pending(child: Child) {
    killed_by(child, libc::SIGABRT, 0);
}

fn a_second_panic_while_unwinding_delivers_all_with_the_helper(child: Child) {
    killed_by(child, libc::SIGABRT, RECORDS);
}

fn a_hook_that_logs_and_one_that_aborts_around_the_helper_deliver_all(child: Child) {
    let broker = killed_by(child, libc::SIGABRT, RECORDS + 1);
    let last = broker.messages().pop().unwrap_or_default();
    assert!(last.contains("on purpose") && last.contains("exit.rs"), "{last}");
}

fn a_panic_in_main_with_the_helper_delivers_all_before_it_unwinds(child: Child) {
    all_arrive(child, PANICKED, RECORDS);
}

fn without_a_broker_a_return_from_main_is_bounded_and_a_success(child: Child) {
    let nobody = format!("127.0.0.1:{}", ports::free().unwrap());
    ends_in_time(child.on(&nobody, "logs"));
}

fn with_a_guard_and_a_silent_peer_a_return_from_main_is_bounded_and_a_success(child: Child) {
    let peer = silent::silent_peer();
    ends_in_time(child.on(&peer.address(), "logs"));
}

// ---- what a panic may cost ------------------------------------------------------------------------------------------

/// What panics wait for in the two tests below.
const PATIENCE: Duration = Duration::from_secs(1);

/// One wait in vain, also on a busy machine.
const A_WAIT: Range<Duration> = PATIENCE..Duration::from_secs(10);

fn catch_panics(transport: Transport) {
    const MORE: u32 = 9;
    let _guard = kafka_log::init(config(transport)).unwrap();
    log_records();
    kafka_log::flush_on_panic(PATIENCE);
    let begun = Instant::now();
    panic::catch_unwind(|| panic!("on purpose")).unwrap_err();
    let first = begun.elapsed();
    for _ in 0..MORE {
        panic::catch_unwind(|| panic!("on purpose")).unwrap_err();
    }
    let others = begun.elapsed() - first;
    assert!(A_WAIT.contains(&first), "{first:?}");
    // Each of them waits too, but not for long: a busy machine adds to it.
    let each = PATIENCE / 10;
    assert!((MORE * each..MORE * each + PATIENCE * 3).contains(&others), "{others:?}");
    assert_eq!(kafka_log::stats().pending, RECORDS);
    kafka_log::shutdown(Duration::ZERO);
}

fn without_a_broker_panics_that_are_caught_wait_for_little(child: Child) {
    let peer = silent::silent_peer();
    child.on(&peer.address(), "logs").succeeds();
}

fn panic_in_a_callback(transport: Transport) {
    const DROPPED: u64 = 3;
    let full = config(transport).queue_records(1);
    let _guard = kafka_log::init(full.on_delivery_error(|_| panic!("on purpose"))).unwrap();
    kafka_log::flush_on_panic(PATIENCE);
    let (told, waits) = mpsc::channel();
    let helper = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let begun = Instant::now();
        helper(panic);
        // The record that shutdown gives up is told of too, and by then nobody may listen.
        let _ = told.send(begun.elapsed());
    }));
    (0..=DROPPED).for_each(|n| log::info!(n; "one is taken"));
    for _ in 0..DROPPED {
        let waited = waits.recv_timeout(SURELY).expect("a callback that panics is called for the next record too");
        assert!(waited < PATIENCE, "{waited:?}");
    }
    // And it was no wait in vain, after which this one would be short.
    panic::catch_unwind(|| panic!("on purpose")).unwrap_err();
    let waited = waits.recv_timeout(SURELY).expect("this thread is not the logger's");
    assert!(A_WAIT.contains(&waited), "{waited:?}");
    assert_eq!(kafka_log::stats().pending, 1);
    kafka_log::shutdown(Duration::ZERO);
}

fn a_panic_on_a_thread_of_ours_waits_for_nothing(child: Child) {
    let peer = silent::silent_peer();
    child.on(&peer.address(), "logs").succeeds();
}

fn panic_in_a_fork(transport: Transport) {
    log_in_no_haste(transport);
    kafka_log::flush_on_panic(SURELY);
    let status = processes::in_a_fork(SURELY / 2, || {
        let caught = panic::catch_unwind(|| panic!("on purpose"));
        if caught.is_err() { 0 } else { 1 }
    });
    assert_eq!(status, Some(0), "the child's status");
}

fn a_panic_in_a_child_of_a_bare_fork_waits_for_nothing(child: Child) {
    all_arrive(child, 0, RECORDS);
}

// ---- fork and exec --------------------------------------------------------------------------------------------------

/// The sockets that a process has open, as `ls -l` and `/proc` name them.
fn sockets(listed: &str) -> BTreeSet<String> {
    assert!(listed.contains("/proc/"), "this is no list of open files:\n{listed}");
    listed.split("-> ").filter(|link| link.starts_with("socket:[")).map(|link| link.trim().to_owned()).collect()
}

fn our_sockets() -> BTreeSet<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    sockets(&links.map(|link| format!("-> {}\n", link.display())).collect::<String>())
}

/// A logger that is connected, before and after it starts another program, which says what it has open.
fn around(transport: Transport, start: impl FnOnce() -> String) {
    // The test process has brokers whose sockets were inherited here.
    let before = our_sockets();
    kafka_log::init(config(transport)).unwrap();
    (0..RECORDS / 2).for_each(|n| log::info!(n; "before"));
    kafka_log::flush(SURELY).unwrap();
    let ours: BTreeSet<_> = our_sockets().difference(&before).cloned().collect();
    assert!(!ours.is_empty(), "it is not connected");
    let listed = start();
    let inherited: Vec<_> = sockets(&listed).intersection(&ours).cloned().collect();
    assert!(inherited.is_empty(), "of {ours:?} were inherited {inherited:?}:\n{listed}");
    (RECORDS / 2..RECORDS).for_each(|n| log::info!(n; "after"));
    kafka_log::flush(SURELY).unwrap();
    assert_eq!(kafka_log::stats().delivered, RECORDS);
}

fn start_programs(transport: Transport) {
    // One that outlives what is logged after it.
    let mut lasting = None;
    around(transport, || {
        let mut sleep = process::Command::new("sleep");
        sleep.arg("60").stdout(process::Stdio::null()).stderr(process::Stdio::null());
        lasting = Some(sleep.spawn().unwrap());
        let listed = process::Command::new("ls").args(["-l", "/proc/self/fd/"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    });
    processes::kill(&mut lasting.unwrap());
}

fn fork_and_exec_programs(transport: Transport) {
    let list = std::env::temp_dir().join(format!("kafka_log-exec-{}", process::id()));
    around(transport, || {
        let script = format!("ls -l /proc/self/fd/ > '{}'", list.display());
        let status = processes::fork_and_exec(&["/bin/sh", "-c", &script], SURELY);
        let listed = std::fs::read_to_string(&list);
        std::fs::remove_file(&list).ok();
        assert_eq!(status, Some(0), "{listed:?}");
        listed.unwrap()
    });
}

fn what_std_starts_inherits_no_connection_and_disturbs_nothing(child: Child) {
    all_arrive(child, 0, RECORDS);
}

fn what_fork_and_exec_start_inherits_no_connection_and_disturbs_nothing(child: Child) {
    all_arrive(child, 0, RECORDS);
}

/// Each record once, in order.
fn all_arrive(child: Child, code: i32, expected: u64) -> Broker {
    arrive(child, expected, |ended| ended.with_code(code))
}

/// The same for a child that a signal ends.
fn killed_by(child: Child, signal: i32, expected: u64) -> Broker {
    arrive(child, expected, |ended| ended.by_signal(signal))
}

fn arrive(child: Child, expected: u64, judged: impl FnOnce(Ended) -> Ended) -> Broker {
    let broker = Broker::start();
    judged(broker.serves(child).run());
    let numbers: Vec<_> = broker.records().iter().map(|record| record["n"].as_u64()).collect();
    assert_eq!(numbers, (0..expected).map(Some).collect::<Vec<_>>());
    broker
}

fn ends_in_time(child: Child) {
    let ended = child.succeeds();
    assert_eq!(ended.said::<u64>("pending"), RECORDS, "somebody took records");
    assert!(ended.lived < END, "{:?}", ended.lived);
}
