//! Every option once, for the documentation and for the names in the environment.

/// One line of the table.
#[cfg_attr(not(test), expect(dead_code, reason = "the rest of the table is for the documentation"))]
struct Row {
    /// The setter, or how else it is given.
    name: &'static str,
    /// What it is, with the unit.
    value: &'static str,
    default: &'static str,
    /// Which client honours it.
    client: &'static str,
    meaning: &'static str,
    /// Its name in files, with a dot where it stands in a table; its variable is [`in_environment`].
    key: &'static str,
}

const fn row(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    client: &'static str,
    meaning: &'static str,
    key: &'static str,
) -> Row {
    Row { name, value, default, client, meaning, key }
}

#[rustfmt::skip] // One line each.
const ROWS: &[Row] = &[
    row("`Config::new`", "`host:port`, one or more", "`localhost:9092`", "both", "where to find the cluster", "bootstrap_servers"),
    row("`Config::new`", "name", "`logs`", "both", "where every record goes", "topic"),
    row("`transport`", "`auto`, `async`, `sync`", "`auto`", "both", "which client carries the records", "transport"),
    row("`sync_producer`", "`auto`, `wire`, `kafka`", "`auto`", "`sync`", "which client carries the records of `sync`", "sync_producer"),
    row("`logger_name`", "text", "the record's target", "both", "the payload's `\"logger\"`", "logger_name"),
    row("`level`", "level, `off`", "`info`", "both", "records below it are not taken", "level"),
    row("`use_json`", "`true`, `false`", "`true`", "both", "JSON, or a readable text line", "use_json"),
    row("`client_id`", "text", "`kafka_log`", "both", "what brokers call this client", "client_id"),
    row("`acks`", "`none`, `leader`, `all`", "`all`", "both", "whose acknowledgement makes a record delivered", "acks"),
    row("`idempotence`", "`true`, `false`", "`true` with `acks` of `all`", "both, but for the `kafka` crate", "no second copies by retries", "idempotence"),
    row("`compression`", "`none`, `gzip`, `snappy`, `lz4`, `zstd`", "`lz4`; `none` with the `kafka` crate", "both, `zstd` with the feature `zstd`; the `kafka` crate: `none`, `gzip`, `snappy`", "of batches", "compression"),
    row("`linger`", "ms, to 900,000", "5", "both", "how long a batch waits for more records", "linger_ms"),
    row("`batch_bytes`", "bytes", "1,000,000", "both; `sync` to 64 MiB", "the largest batch, before compression", "batch_bytes"),
    row("`delivery_timeout`", "ms", "120,000", "both", "then a record without acknowledgement has failed", "delivery_timeout_ms"),
    row("`connect_timeout`", "ms", "5,000", "both; `async` from 1,000", "of one connection's set-up", "connect_timeout_ms"),
    row("`request_timeout`", "ms", "30,000", "both; `async` to 900,000", "of one batch's acknowledgement", "request_timeout_ms"),
    row("`retry_backoff`", "two of ms, to 300,000", "100, 1,000", "both", "first and longest pause before another attempt", "retry_backoff_ms"),
    row("`queue_records`", "records", "100,000", "both", "bound of what waits and is in flight", "queue_records"),
    row("`queue_bytes`", "bytes of payload", "67,108,864", "both", "the same, in bytes", "queue_bytes"),
    row("`overflow`", "`drop_newest`, `drop_oldest`, `drop_below=warn`, `block`, `block_for_ms=100`", "`drop_newest`", "both", "what a full queue does", "overflow"),
    row("`max_record_bytes`", "bytes, from 512", "1,000,000", "both", "the largest payload", "max_record_bytes"),
    row("`oversize`", "`truncate`, `drop`", "`truncate`", "both", "what becomes of a larger one", "oversize"),
    row("`fallback`", "`off`, `stderr`, `file=path`", "`off`", "both", "where records go that do not arrive", "fallback"),
    row("`startup`", "`background`, `check_ms=5000`", "`background`", "both", "whether `init` waits for a broker", "startup"),
    row("`tls`", "`true`, or a table of what follows", "no encryption", "both, but for the `kafka` crate", "encrypts, and verifies the brokers", "tls"),
    row("`Tls::ca_file`", "path", "the system's", "the same", "which certificates are trusted", "tls.ca_file"),
    row("`Tls::ca_pem`", "PEM", "the system's", "the same", "which certificates are trusted", "tls.ca_pem"),
    row("`Tls::client_certificate`", "two paths: certificate, key", "none", "the same", "for brokers that ask for one", "tls.client_certificate"),
    row("`Sasl::plain`, `scram_sha256`, `scram_sha512`", "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`", "no authentication", "both, but for the `kafka` crate", "how the client authenticates", "sasl.mechanism"),
    row("the same", "text", "", "the same", "who the client is", "sasl.user"),
    row("the same", "text", "", "the same", "its password", "sasl.password"),
    row("`Sasl::password_file`", "path", "", "the same", "a file that holds it, in its place", "sasl.password_file"),
    row("`Sasl::allow_unencrypted`", "`true`, `false`", "`false`", "the same", "a password may be sent without `tls`", "sasl.allow_unencrypted"),
    row("`Spool::new`", "path of a directory", "in memory alone", "both, with the feature `spool`", "where records wait on the disk", "spool.dir"),
    row("`Spool::max_bytes`", "bytes, from 1 MiB", "1,073,741,824", "the same", "what they may take there", "spool.max_bytes"),
    row("`Spool::fsync`", "`never`, `interval_ms=1000`, `every_batch`", "`interval_ms=1000`", "the same", "when they are synced to the disk", "spool.fsync"),
    row("`Spool::mode`", "`overflow`, `write_ahead`", "`overflow`", "the same", "which records go there", "spool.mode"),
    row("`client_option`", "table of texts", "none", "`async`", "properties of librdkafka", "client_options"),
    row("", "`kafka`", "", "", "as in the Python sink", "type"),
    row("", "`true`, `false`", "", "", "as in the Python sink: `transport` of `async` or `sync`", "async"),
];

/// The name of every option in files.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.key)
}

/// What follows the prefix in a variable's name.
pub(super) fn in_environment(key: &str) -> String {
    key.replace('.', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::env::PREFIX;

    fn markdown() -> String {
        let mut text = String::from(
            "| setter | value | default | client | meaning | key in files | environment variable |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for Row { name, value, default, client, meaning, key } in ROWS {
            let variable = format!("{PREFIX}{}", in_environment(key));
            writeln!(text, "| {name} | {value} | {default} | {client} | {meaning} | `{key}` | `{variable}` |").unwrap();
        }
        text
    }

    #[test]
    fn the_documentation_has_the_table_as_it_is_here() {
        let table = markdown();
        for (file, text) in
            [("src/config/options.md", include_str!("options.md")), ("features.md", include_str!("../../features.md"))]
        {
            assert!(text.contains(&table), "{file} must contain this table:\n{table}");
        }
    }

    #[test]
    fn the_table_has_every_key_that_can_be_read_and_no_other() {
        let read = |json: &str, table: &str| {
            let error = serde_json::from_str::<crate::Config>(json).unwrap_err().to_string();
            let (_, list) = error.split_once("expected one of ").unwrap();
            list.split('`').skip(1).step_by(2).map(|key| format!("{table}{key}")).collect::<Vec<_>>()
        };
        let mut known = read("{\"?\": 0}", "");
        known.extend(read("{\"tls\": {\"?\": 0}}", "tls."));
        known.extend(read("{\"sasl\": {\"?\": 0}}", "sasl."));
        known.extend(read("{\"spool\": {\"?\": 0}}", "spool."));
        // They are their tables, and have no value of their own.
        known.retain(|key| key != "sasl" && key != "spool");
        let mut listed: Vec<&str> = keys().collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(known, listed);
    }

    #[test]
    fn the_defaults_in_the_table_are_those_of_the_code() {
        let config = crate::Config::default();
        let delivery = &config.delivery;
        let (first, longest) = delivery.retry_backoff;
        let spool = crate::Spool::new("d");
        let crate::Fsync::Interval(fsync) = spool.fsync else { panic!("{spool:?}") };
        for (key, default) in [
            ("client_id", delivery.client_id.clone()),
            ("linger_ms", delivery.linger.as_millis().to_string()),
            ("batch_bytes", delivery.batch_bytes.to_string()),
            ("delivery_timeout_ms", delivery.delivery_timeout.as_millis().to_string()),
            ("connect_timeout_ms", delivery.connect_timeout.as_millis().to_string()),
            ("request_timeout_ms", delivery.request_timeout.as_millis().to_string()),
            ("retry_backoff_ms", format!("{} {}", first.as_millis(), longest.as_millis())),
            ("queue_records", config.queue_records.to_string()),
            ("queue_bytes", config.queue_bytes.to_string()),
            ("max_record_bytes", config.record_bytes().to_string()),
            ("bootstrap_servers", config.bootstrap_servers.join(",")),
            ("topic", config.topic.clone()),
            ("spool.max_bytes", spool.max_bytes.to_string()),
            ("spool.fsync", format!("interval_ms={}", fsync.as_millis())),
        ] {
            let row = ROWS.iter().find(|row| row.key == key).unwrap();
            // Thousands have commas, a list a blank after its comma.
            assert_eq!(row.default.replace([',', '`'], ""), default, "{key}");
        }
    }
}
