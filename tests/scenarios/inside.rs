//! Log calls from places where a logger is easily caught unawares: inside its own work.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use kafka_log::{KafkaLogger, Transport};
use log::{LevelFilter, Log, Metadata, Record};

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config};
use crate::scenarios;

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_call_inside_an_arguments_display_is_delivered_and_so_is_the_outer_one => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log::info!("<{}>", Chatty { depth: 1 });
        };
        a_call_inside_a_values_display_is_delivered_and_so_is_the_outer_one => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log::info!(who:% = Chatty { depth: 1 }; "outer");
        };
        calls_inside_one_another_keep_every_payload_intact => |transport| {
            kafka_log::init(config(transport)).unwrap();
            log::info!("<{}>", Chatty { depth: 50 });
        };
        a_call_inside_a_thread_locals_destructor_is_delivered => log_while_threads_end;
        a_panic_inside_an_arguments_display_is_the_callers_and_is_counted => panic_inside_arguments;
        nested_in_the_applications_own_logger_all_is_delivered => tee;
    }
}

/// What the chatty one says before and after it has logged: more than a buffer begins with.
const LONG: usize = 3_000;

/// Logs while it is displayed, to a depth, each time in the middle of its own text.
struct Chatty {
    depth: usize,
}

impl fmt::Display for Chatty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", "a".repeat(LONG))?;
        match self.depth {
            1 => log::info!("innermost"),
            depth => log::info!("<{}>", Chatty { depth: depth - 1 }),
        }
        write!(f, "{}", "b".repeat(LONG))
    }
}

fn chatter() -> String {
    format!("{}{}", "a".repeat(LONG), "b".repeat(LONG))
}

fn a_call_inside_an_arguments_display_is_delivered_and_so_is_the_outer_one(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["innermost".into(), format!("<{}>", chatter())]);
}

fn a_call_inside_a_values_display_is_delivered_and_so_is_the_outer_one(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["innermost", "outer"]);
    assert_eq!(broker.records()[1]["who"], chatter());
}

fn calls_inside_one_another_keep_every_payload_intact(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let mut expected = vec![format!("<{}>", chatter()); 51];
    expected[0] = "innermost".into();
    assert_eq!(broker.messages(), expected);
}

/// Logs when its thread ends.
struct LastWords(&'static str);

impl Drop for LastWords {
    fn drop(&mut self) {
        log::info!(user_id = "u_19"; "{}", self.0);
    }
}

fn log_while_threads_end(transport: Transport) {
    thread_local! {
        static WORDS: RefCell<Option<LastWords>> = const { RefCell::new(None) };
    }
    let guard = kafka_log::init(config(transport)).unwrap();
    // Destructors run in an order that depends on the first use: before the logger's own buffer, after it, without it.
    thread::spawn(|| {
        WORDS.set(Some(LastWords("set before the first call")));
        log::info!("first");
    })
    .join()
    .unwrap();
    thread::spawn(|| {
        log::info!("second");
        WORDS.set(Some(LastWords("set after the first call")));
    })
    .join()
    .unwrap();
    thread::spawn(|| WORDS.set(Some(LastWords("the only call")))).join().unwrap();
    guard.flush(SURELY).unwrap();
    assert_eq!((guard.stats().submitted, guard.stats().delivered), (5, 5));
}

fn a_call_inside_a_thread_locals_destructor_is_delivered(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let expected = ["first", "set before the first call", "second", "set after the first call", "the only call"];
    assert_eq!(broker.messages(), expected);
}

/// Panics in the middle of its text.
struct Explosive;

impl fmt::Display for Explosive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half of")?;
        panic!("inside an argument")
    }
}

fn panic_inside_arguments(transport: Transport) {
    let guard = kafka_log::init(config(transport)).unwrap();
    log::info!("before");
    let explosions: [fn(); 3] = [
        || log::info!("<{Explosive}>"),
        || log::info!(what:% = Explosive; "outer"),
        // The innermost call is lost, and with it the one around it: both are counted.
        || log::info!("<{}>", format_args!("{}", Nested)),
    ];
    for explode in explosions {
        let words = catch_unwind(AssertUnwindSafe(explode)).unwrap_err();
        assert_eq!(words.downcast_ref(), Some(&"inside an argument"), "the panic is the caller's own");
    }
    log::info!("after");
    thread::spawn(|| log::info!("in another thread")).join().unwrap();

    guard.flush(SURELY).unwrap();
    let stats = guard.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.dropped.format, stats.pending), (7, 3, 4, 0));
}

struct Nested;

impl fmt::Display for Nested {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        log::info!("<{Explosive}>");
        Ok(())
    }
}

fn a_panic_inside_an_arguments_display_is_the_callers_and_is_counted(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["before", "after", "in another thread"]);
}

/// An application's own logger, which marks what it passes on.
struct Tee(KafkaLogger);

impl Log for Tee {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let message = format!("tee: {}", record.args());
        self.0.log(&record.to_builder().args(format_args!("{message}")).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn tee(transport: Transport) {
    let logger = config(transport).level(LevelFilter::Debug).build().unwrap();
    log::set_boxed_logger(Box::new(Tee(logger.clone()))).unwrap();
    log::set_max_level(LevelFilter::Trace);
    log::trace!("below the built logger's level");
    log::debug!(n = 1; "one");
    log::info!("<{}>", Chatty { depth: 1 });
    log::logger().flush();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.pending), (3, 3, 0));
    // What has no global logger of ours has no global counts.
    assert_eq!(kafka_log::stats().submitted, 0);
}

fn nested_in_the_applications_own_logger_all_is_delivered(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["tee: one".into(), "tee: innermost".into(), format!("tee: <{}>", chatter())]);
    assert_eq!(broker.records()[0]["n"], 1);
}
