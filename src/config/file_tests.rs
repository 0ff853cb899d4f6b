use super::super::{Fallback, Fsync, Sasl, Spool, SpoolMode, Tls};
use super::*;

const PYTHON: &str = r#"{"type":"kafka","bootstrap_servers":["localhost:9092"],"topic":"app.logs","async":true,"logger_name":"api","level":"INFO","use_json":true}"#;

const ALL: &str = r#"
bootstrap_servers = "a:1,b:2"
topic = "t"
transport = "sync"
logger_name = "n"
level = "Critical"
use_json = false
client_id = "c"
acks = 1
idempotence = false
compression = "gzip"
linger_ms = 6
batch_bytes = 7
delivery_timeout_ms = 8
connect_timeout_ms = 9
request_timeout_ms = 10
retry_backoff_ms = [11, 12]
queue_records = 13
queue_bytes = 14
overflow = { drop_below = "warn" }
max_record_bytes = 16
oversize = "drop"
fallback = { file = "Lost.jsonl" }
startup = { check_ms = 15 }
sync_producer = "kafka"
tls = { ca_file = "ca.pem", client_certificate = ["c.pem", "c.key"] }
sasl = { mechanism = "PLAIN", user = "u", password_file = "p.txt", allow_unencrypted = true }
spool = { dir = "/spool", max_bytes = 16, fsync = { interval_ms = 17 }, mode = "write_ahead" }

[client_options]
"broker.address.family" = "v4"
"sticky.partitioning.linger.ms" = 50
"#;

/// What each key of `ALL` stands for.
fn all() -> Config {
    in_both(Config::new(["a:1", "b:2"], "t"), Compression::Gzip)
        .logger_name("n")
        .level(LevelFilter::Error)
        .overflow(Overflow::DropBelow(log::Level::Warn))
        .sync_producer(SyncProducer::Kafka)
        .tls(Tls::default().ca_file("ca.pem").client_certificate("c.pem", "c.key"))
        .sasl(Sasl::plain("u", "").password_file("p.txt").allow_unencrypted(true))
        .fallback(Fallback::File("Lost.jsonl".into()))
        .spool(
            Spool::new("/spool")
                .max_bytes(16)
                .fsync(Fsync::Interval(Duration::from_millis(17)))
                .mode(SpoolMode::WriteAhead),
        )
        .client_option("sticky.partitioning.linger.ms", "50")
}

/// What the tests of files and of the environment write alike; a configuration remembers the order too.
pub(in crate::config) fn in_both(config: Config, compression: Compression) -> Config {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    config
        .transport(Transport::Sync)
        .use_json(false)
        .client_id("c")
        .acks(Acks::Leader)
        .idempotence(false)
        .compression(compression)
        .linger(MS(6))
        .batch_bytes(7)
        .delivery_timeout(MS(8))
        .connect_timeout(MS(9))
        .request_timeout(MS(10))
        .retry_backoff(MS(11), MS(12))
        .queue_records(13)
        .queue_bytes(14)
        .max_record_bytes(16)
        .oversize(Oversize::Drop)
        .startup(Startup::Check(MS(15)))
        .client_option("broker.address.family", "v4")
}

/// Without those of client options, which nothing shows.
fn same(a: &Config, b: &Config) {
    assert_eq!(format!("{a:#?}"), format!("{b:#?}"));
    assert_eq!(a.delivery.client_options.0, b.delivery.client_options.0);
}

/// Writes a file that goes with the test.
pub(in crate::config) fn in_file<T>(name: &str, text: impl AsRef<[u8]>, test: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    test(&path)
}

fn refused(name: &str, text: &str) -> String {
    in_file(name, text, |path| match Config::from_path(path) {
        Err(LoggerError::Config(error)) => error.to_string(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn the_dictionary_of_the_python_sink_is_valid() {
    let expected = Config::new("localhost:9092", "app.logs")
        .transport(Transport::Async)
        .logger_name("api")
        .level(LevelFilter::Info)
        .use_json(true);
    same(&serde_json::from_str(PYTHON).unwrap(), &expected);
    let sync = serde_json::from_str::<Config>(&PYTHON.replace("true,\"logger", "false,\"logger")).unwrap();
    assert_eq!(sync.transport, Transport::Sync);
}

#[test]
fn every_key_sets_its_option_in_both_languages() {
    let toml = in_file("all.TOML", ALL, |path| Config::from_path(path)).unwrap();
    same(&toml, &all());
    let json = serde_json::to_string(&toml::from_str::<serde_json::Value>(ALL).unwrap()).unwrap();
    same(&in_file("all.json", &json, |path| Config::from_path(path)).unwrap(), &all());
    for option in ["client_id", "acks", "linger", "batch_bytes", "retry_backoff", "tls", "sasl"] {
        assert!(toml.delivery.is_set(option), "{option} counts as set");
    }
}

#[test]
fn an_empty_file_is_the_default() {
    same(&in_file("none.toml", "", |path| Config::from_path(path)).unwrap(), &Config::default());
    same(&in_file("none.json", "{}", |path| Config::from_path(path)).unwrap(), &Config::default());
}

#[test]
fn unknown_and_contradicting_keys_are_named_with_file_and_line() {
    for (name, text, words) in [
        ("a.toml", "topic = \"t\"\nlingr_ms = 5\n", ["a.toml\", line 2", "`lingr_ms`"]),
        ("a.json", "{\n\n\"lingr_ms\": 5}", ["a.json\", line 3", "`lingr_ms`"]),
        ("b.toml", "linger = 5\n", ["line 1", "`linger`"]),
        ("c.toml", "async = true\ntransport = \"sync\"\n", ["c.toml\"", "`async` and `transport`"]),
        ("d.toml", "\nacks = \"some\"\n", ["line 2", "\"leader\""]),
        ("e.json", "{\"type\": \"file\"}", ["line 1", "\"kafka\""]),
        ("f.toml", "linger_ms = -5\n", ["line 1", "wrong kind: expected u64"]),
        ("g.yaml", "topic: t\n", ["g.yaml\"", ".toml or .json"]),
        ("h", "", ["h\"", ".toml or .json"]),
        ("i.json", "[]", ["i.json\"", "a table of options"]),
    ] {
        let error = refused(name, text);
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
    let error = Config::from_path("/nowhere/at/all.toml").unwrap_err().to_string();
    assert!(error.starts_with("file \"/nowhere/at/all.toml\": cannot be read: "), "{error}");
}

#[test]
fn no_error_of_a_file_shows_a_secret() {
    for (name, text) in [
        ("a.toml", "[client_options]\n\"sasl.password\" = \"hunter2\n"),
        ("b.toml", "[client_options]\n\"sasl.password\" = hunter2\n"),
        ("c.toml", "[client_options]\n\"sasl.password\" = [\"hunter2\"]\n"),
        ("d.toml", "client_options = \"hunter2\"\n"),
        ("e.toml", "client_options = [\"hunter2\"]\n"),
        ("f.toml", "client_options.a = \"hunter2\" x\n"),
        ("f.toml", "batch_bytes = \"hunter2\"\n"),
        ("f.toml", "use_json = \"hunter2\"\n"),
        ("f.toml", "retry_backoff_ms = \"hunter2, expected hunter2\"\n"),
        ("f.json", "{\"linger_ms\": \"hunter2\"}"),
        ("a.json", "{\"client_options\": {\"sasl.password\": \"hunter2}}"),
        ("b.json", "{\"client_options\": {\"sasl.password\": hunter2}}"),
        ("c.json", "{\"client_options\": {\"sasl.password\": {\"hunter2\": 1}}}"),
        ("d.json", "{\"client_options\": \"hunter2\"}"),
        ("g.toml", "sasl = \"hunter2\"\n"),
        ("g.toml", "sasl = [\"hunter2\"]\n"),
        ("g.toml", "tls = \"hunter2\"\n"),
        ("g.toml", "[sasl]\nmechanism = \"hunter2\"\n"),
        ("g.toml", "[sasl]\nmechanism = \"PLAIN\"\nuser = \"u\"\npassword = [\"hunter2\"]\n"),
        ("g.json", "{\"sasl\": {\"mechanism\": \"PLAIN\", \"password\": \"hunter2\"}}"),
        ("g.json", "{\"sasl\": {\"allow_unencrypted\": \"hunter2\"}}"),
    ] {
        let error = refused(name, text);
        assert!(!error.contains("hunter2") && error.contains(name) && error.contains("line "), "{error}");
    }
}
