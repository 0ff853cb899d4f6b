//! One function an option: what it refuses, and the words that say what would be right.

use std::time::Duration;

use super::{Acks, Credentials, DeliverySettings, Fsync, Overflow, Spool, Startup};
use crate::error::LoggerConfigError;

type Checked = Result<(), LoggerConfigError>;

pub(super) fn bootstrap_servers(servers: &[String]) -> Checked {
    if servers.is_empty() {
        return refuse("bootstrap_servers", "is empty: give at least one broker as \"host:9092\"");
    }
    servers.iter().try_for_each(|server| match server_problem(server) {
        None => Ok(()),
        Some(problem) => refuse("bootstrap_servers", format!("{:?} {problem}", without_user(server))),
    })
}

/// What may be a user and a password is not shown.
fn without_user(server: &str) -> &str {
    server.rsplit_once('@').map_or(server, |(_, host)| host)
}

fn server_problem(server: &str) -> Option<String> {
    if server.contains("://") {
        return Some("has a scheme: write \"host:port\" alone".into());
    }
    let Some((host, port)) = server.rsplit_once(':') else {
        return Some("has no port: write \"host:port\", 9092 as a rule".into());
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Some("looks like an IPv6 address: write \"[address]:port\"".into());
    }
    let bare = bare.unwrap_or(host);
    if bare.is_empty() {
        return Some("has no host: write \"host:port\"".into());
    }
    if bare.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '/' | '@')) {
        return Some("has a character that no host name has: write \"host:port\"".into());
    }
    match port.parse::<u16>() {
        Ok(1..) => None,
        _ => Some(format!("has the port {port:?}: a port is a number from 1 to 65535")),
    }
}

/// Kafka's own rule, in `org.apache.kafka.common.internals.Topic`.
pub(super) fn topic(topic: &str) -> Checked {
    const LONGEST: usize = 249;
    if topic.is_empty() {
        return refuse("topic", "is empty: give the name of the topic the records go to");
    }
    if topic == "." || topic == ".." {
        return refuse("topic", format!("{topic:?} is not a name Kafka takes"));
    }
    if topic.len() > LONGEST {
        return refuse("topic", format!("is {} characters long: Kafka takes at most {LONGEST}", topic.len()));
    }
    match topic.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        None => Ok(()),
        Some(c) => {
            refuse("topic", format!("{topic:?} contains {c:?}: Kafka takes ASCII letters, digits, '.', '_' and '-'"))
        }
    }
}

pub(super) fn queue_records(records: usize) -> Checked {
    // librdkafka counts messages in 31 bits.
    in_range("queue_records", records, i32::MAX as usize)
}

pub(super) fn queue_bytes(bytes: usize) -> Checked {
    // A tebibyte: far above any memory this will see, far below any overflow.
    in_range("queue_bytes", bytes, 1 << 40)
}

pub(super) fn startup(startup: Startup) -> Checked {
    match startup {
        Startup::Check(Duration::ZERO) => refuse("startup", "a check of no time cannot succeed: give it some seconds"),
        _ => Ok(()),
    }
}

pub(super) fn overflow(overflow: Overflow) -> Checked {
    match overflow {
        Overflow::BlockFor(Duration::ZERO) => {
            refuse("overflow", "a wait of no time is no wait: give BlockFor some milliseconds, or take DropNewest")
        }
        _ => Ok(()),
    }
}

/// What no spool can be; the directory is looked at by the one that opens it.
pub(super) fn spool(spool: &Spool) -> Checked {
    const LEAST: u64 = 1 << 20;
    // A pebibyte: above any disk this will see, below any overflow.
    const MOST: u64 = 1 << 50;
    if spool.directory.as_os_str().is_empty() {
        return refuse("spool", "has no directory: give the path of one that is for this logger alone");
    }
    if !(LEAST..=MOST).contains(&spool.max_bytes) {
        let problem = format!("has max_bytes of {}: it must be from {LEAST} to {MOST}", spool.max_bytes);
        return refuse("spool", problem);
    }
    match spool.fsync {
        Fsync::Interval(interval) if !(1..=3_600_000).contains(&interval.as_millis()) => {
            refuse("spool", format!("has an fsync interval of {interval:?}: it must be from 1 ms to an hour"))
        }
        _ => Ok(()),
    }
}

/// A limit that was set; the default bends.
pub(super) fn record_bytes(record_bytes: Option<usize>, queue_bytes: usize) -> Checked {
    /// What a payload needs beside its text: a cut one must still say something.
    const LEAST: usize = 512;
    let Some(record_bytes) = record_bytes else { return Ok(()) };
    if record_bytes > queue_bytes {
        let problem =
            format!("is {record_bytes}, and the option `queue_bytes` is {queue_bytes}: it must not be larger");
        return refuse("max_record_bytes", problem);
    }
    if record_bytes < LEAST {
        return refuse("max_record_bytes", format!("is {record_bytes}: it must be {LEAST} at least"));
    }
    Ok(())
}

/// What no transport takes; the files are read by those that use them.
pub(super) fn security(delivery: &DeliverySettings) -> Checked {
    let Some(sasl) = &delivery.sasl else { return Ok(()) };
    let mechanism = sasl.mechanism.name();
    if let Some(Credentials { user, password }) = sasl.mechanism.credentials() {
        for (what, value) in [("user", user), ("password", password)] {
            if value.is_empty() {
                return refuse("sasl", format!("has an empty {what}: {mechanism} needs one"));
            }
            if value.contains('\0') {
                return refuse("sasl", format!("has a NUL character in the {what}: no mechanism can send it"));
            }
        }
    }
    if sasl.mechanism.sends_a_secret() && delivery.tls.is_none() && !sasl.allow_unencrypted {
        let problem = format!(
            "with {mechanism} sends a secret, and the connections are not encrypted: set `tls` too, use SCRAM, or say \
             allow_unencrypted(true)"
        );
        return refuse("sasl", problem);
    }
    Ok(())
}

/// What no client can honour. What one cannot, its own module refuses.
pub(super) fn delivery(delivery: &DeliverySettings) -> Checked {
    // librdkafka counts milliseconds in 31 bits; its own bounds hold for `sync` too, which has none.
    const LONGEST: u64 = i32::MAX as u64;
    if delivery.client_id.chars().any(char::is_control) {
        return refuse("client_id", "has a control character: give a name in plain text");
    }
    // The protocol counts it in 15 bits.
    if delivery.client_id.len() > i16::MAX as usize {
        return refuse("client_id", "is longer than 32767 bytes: give a short name");
    }
    let (shortest_pause, longest_pause) = delivery.retry_backoff;
    for (option, value, least, most) in [
        ("linger", delivery.linger, 0, 900_000),
        ("delivery_timeout", delivery.delivery_timeout, 1, LONGEST),
        ("connect_timeout", delivery.connect_timeout, 1, LONGEST),
        ("request_timeout", delivery.request_timeout, 1, LONGEST),
        ("retry_backoff", shortest_pause, 1, 300_000),
        ("retry_backoff", longest_pause, 1, 300_000),
    ] {
        millis(option, value, least, most)?;
    }
    in_range("batch_bytes", delivery.batch_bytes, i32::MAX as usize)?;
    if shortest_pause > longest_pause {
        return refuse("retry_backoff", "has a first pause above the longest: give the shorter one first");
    }
    if delivery.linger() >= delivery.delivery_timeout {
        let problem = format!(
            "of {} ms leaves no time to deliver within the delivery_timeout of {} ms: it must be shorter",
            delivery.linger().as_millis(),
            delivery.delivery_timeout.as_millis()
        );
        return refuse("linger", problem);
    }
    if delivery.idempotence == Some(true) && delivery.acks != Acks::All {
        return refuse(
            "idempotence",
            "needs the acknowledgement of all replicas: set acks to All, or idempotence to false",
        );
    }
    Ok(())
}

/// Whether a duration, in whole milliseconds, is between two bounds.
pub(crate) fn millis(option: &'static str, value: Duration, least: u64, most: u64) -> Checked {
    if (u128::from(least)..=u128::from(most)).contains(&value.as_millis()) {
        Ok(())
    } else {
        refuse(option, format!("is {value:?}: it must be from {least} ms to {most} ms"))
    }
}

fn in_range(option: &'static str, value: usize, most: usize) -> Checked {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        refuse(option, format!("is {value}: it must be from 1 to {most}"))
    }
}

fn refuse(option: &'static str, problem: impl Into<String>) -> Checked {
    Err(LoggerConfigError::new(option, problem))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sasl, Tls};
    use super::*;

    fn servers(list: &[&str]) -> Checked {
        bootstrap_servers(&list.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn hosts_names_and_addresses_with_a_port_are_taken() {
        servers(&["localhost:9092", "10.0.0.1:1", "[::1]:65535", "my_broker-1.example:9092"]).unwrap();
    }

    #[test]
    fn each_bad_server_is_named_with_what_would_be_right() {
        for (server, words) in [
            ("localhost", "no port"),
            ("localhost:", "from 1 to 65535"),
            ("localhost:0", "from 1 to 65535"),
            ("localhost:65536", "from 1 to 65535"),
            ("localhost:kafka", "from 1 to 65535"),
            (":9092", "no host"),
            ("", "no port"),
            ("PLAINTEXT://a:9092", "scheme"),
            ("::1:9092", "IPv6"),
            ("a b:9092", "character"),
            ("user@host:9092", "character"),
        ] {
            let error = servers(&["good:9092", server]).unwrap_err();
            assert_eq!(error.option(), "bootstrap_servers");
            assert!(error.to_string().contains(words), "{server:?}: {error}");
            assert!(error.to_string().contains(&format!("{:?}", without_user(server))), "{error}");
        }
        let secret = servers(&["SASL_SSL://user:hunter2@host:9092"]).unwrap_err().to_string();
        assert!(!secret.contains("hunter2") && secret.contains("host:9092"), "{secret}");
        assert!(servers(&[]).unwrap_err().to_string().contains("at least one"));
    }

    #[test]
    fn topics_follow_kafkas_own_rule() {
        for good in ["a", "app.logs", "A_b-c.9", &"x".repeat(249)] {
            topic(good).unwrap();
        }
        for bad in ["", ".", "..", "a b", "a/b", "träger", "a\n", &"x".repeat(250)] {
            assert_eq!(topic(bad).unwrap_err().option(), "topic");
        }
    }

    #[test]
    fn bounds_of_nothing_and_beyond_counting_are_refused() {
        assert!(queue_records(0).is_err() && queue_records(1 << 31).is_err() && queue_records(1).is_ok());
        assert!(queue_bytes(0).is_err() && queue_bytes(usize::MAX).is_err() && queue_bytes(1).is_ok());
        assert!(startup(Startup::Check(Duration::ZERO)).is_err());
    }

    #[test]
    fn a_spool_without_a_directory_or_beyond_its_bounds_is_refused() {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        for (wrong, words) in [
            (Spool::new(""), "no directory"),
            (Spool::new("d").max_bytes((1 << 20) - 1), "max_bytes of 1048575"),
            (Spool::new("d").max_bytes(u64::MAX), "max_bytes"),
            (Spool::new("d").fsync(Fsync::Interval(MS(0))), "interval"),
            (Spool::new("d").fsync(Fsync::Interval(MS(3_600_001))), "interval"),
        ] {
            let error = Config::default().spool(wrong).validate().unwrap_err();
            assert!(error.option() == "spool" && error.to_string().contains(words), "{error}");
        }
        Config::default().spool(Spool::new("d")).validate().unwrap();
        Config::default().spool(Spool::new("d").max_bytes(1 << 20).fsync(Fsync::Never)).validate().unwrap();
    }

    #[test]
    fn a_secret_is_not_sent_unencrypted_unless_that_was_said() {
        let oauth = || Sasl::oauthbearer(|| Err("no token".into()));
        let config = Config::default;
        for sasl in [Sasl::plain("u", "hunter2"), oauth()] {
            let error = config().sasl(sasl.clone()).validate().unwrap_err();
            assert_eq!(error.option(), "sasl");
            let text = error.to_string();
            assert!(text.contains("allow_unencrypted(true)") && text.contains("`tls`"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
            config().sasl(sasl.clone().allow_unencrypted(true)).validate().unwrap();
            config().sasl(sasl).tls(Tls::default()).validate().unwrap();
        }
        config().sasl(Sasl::scram_sha256("u", "hunter2")).validate().unwrap();
        config().sasl(Sasl::scram_sha512("u", "hunter2")).validate().unwrap();
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_refused_without_being_shown() {
        for (user, password) in [("", "hunter2"), ("u", ""), ("u\0", "hunter2"), ("u", "hunter2\0")] {
            let error = Config::default().sasl(Sasl::scram_sha256(user, password)).validate().unwrap_err();
            assert!(error.option() == "sasl" && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn delivery_options_that_contradict_each_other_or_themselves_are_named() {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let config = Config::default;
        for (config, option) in [
            (config().idempotence(true).acks(Acks::None), "idempotence"),
            (config().idempotence(true).acks(Acks::Leader), "idempotence"),
            (config().linger(MS(100)).delivery_timeout(MS(100)), "linger"),
            (config().linger(MS(120_000)), "linger"),
            (config().linger(MS(900_001)).delivery_timeout(MS(1_000_000)), "linger"),
            (config().retry_backoff(MS(2), MS(1)), "retry_backoff"),
            (config().retry_backoff(MS(0), MS(1)), "retry_backoff"),
            (config().delivery_timeout(Duration::from_micros(999)), "delivery_timeout"),
            (config().delivery_timeout(Duration::MAX), "delivery_timeout"),
            (config().connect_timeout(MS(0)), "connect_timeout"),
            (config().request_timeout(MS(0)), "request_timeout"),
            (config().batch_bytes(0), "batch_bytes"),
            (config().client_id("a\n"), "client_id"),
            (config().overflow(Overflow::BlockFor(MS(0))), "overflow"),
            (config().max_record_bytes(511), "max_record_bytes"),
            (config().max_record_bytes(10_001).queue_bytes(10_000), "max_record_bytes"),
        ] {
            assert_eq!(config.validate().unwrap_err().option(), option);
        }
        config().acks(Acks::Leader).validate().expect("the default of idempotence bends");
        let error = config().max_record_bytes(10_001).queue_bytes(10_000).validate().unwrap_err().to_string();
        assert!(error.contains("10001") && error.contains("`queue_bytes` is 10000"), "{error}");
        let bent = config().queue_bytes(10_000);
        bent.validate().expect("the default of max_record_bytes bends");
        assert_eq!((bent.record_bytes(), config().record_bytes()), (10_000, 1_000_000));
        config().linger(MS(0)).retry_backoff(MS(1), MS(1)).validate().unwrap();
    }
}
