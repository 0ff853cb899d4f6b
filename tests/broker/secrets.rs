//! Every text that the crate can produce, searched for the secrets that it was given.
//!
//! Children do what applications do with them, right and wrong, and say all that they can get to see: what is printed,
//! what is logged at Trace, on whatever thread, what a fallback writes. The parent searches that, their standard error
//! included.

use std::env;
use std::error::Error;
use std::fmt::Debug;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_executor::block_on;
use kafka_log::{
    Config, Fallback, Fsync, LoggerError, OauthToken, Sasl, Spool, SpoolMode, Startup, State, Tls, fields,
};
use log::{LevelFilter, Log, Metadata, Record};

use crate::child::{self, variable};
use crate::support::secure::{self, PASSWORD, Secure, USER, Way};
use crate::support::{process, topic, wait};
use crate::target::{Client, LONG, Target};

const PART: &str = "KAFKA_LOG_CHILD_SECRETS";
/// Where the files are.
const FILES: &str = "KAFKA_LOG_CHILD_FILES";
const SASL: &str = "KAFKA_LOG_CHILD_SASL";
const SASL_TLS: &str = "KAFKA_LOG_CHILD_SASL_TLS";
const KNOWN_CLIENTS: &str = "KAFKA_LOG_CHILD_KNOWN_CLIENTS";

/// A password that the broker does not take, and nobody may see.
const WRONG: &str = "shut=Sesame /+%21";

/// The file of a fallback.
const LOST: &str = "lost.jsonl";

const HOUR: Duration = Duration::from_secs(3_600);
const CHECK: Duration = Duration::from_secs(10);

pub(crate) fn is_child() -> bool {
    env::var_os(PART).is_some()
}

// ---- the parent's side ----------------------------------------------------------------------------------------------

pub(crate) fn in_no_text(target: &Target) {
    let broker = secure::shared(target.version());
    let topic = topic::create_unique(&broker.plaintext(), "secrets", 1);
    let needles = needles(broker);
    let search = |part: &str, variables: &[(&str, &str)]| {
        let said = run_child(target, broker, &topic, part, variables);
        for needle in &needles {
            let line = said.lines().find(|line| line.contains(needle));
            assert!(line.is_none(), "{part} {variables:?} shows {needle}: {}", line.unwrap_or_default());
        }
        said
    };

    let said = search("logins", &[]);
    // Otherwise nothing was searched.
    for word in ["[hidden]", "Startup(StartupError", "DeliveryError", "Status {", "Stats {", "ShutdownReport {"] {
        assert!(said.contains(word), "{word} is not in what the child said");
    }
    if target.client == Client::Async {
        assert!(said.contains("LOG "), "the client logged nothing");
    }
    // Each of the fallbacks has had records, and notices that say why; one could not be written.
    for begin in ["{", "FILE {", "LOG INFO"] {
        let lines = || said.lines().filter(|line| line.starts_with(begin));
        assert!(lines().any(|line| line.contains(r#""message":"another""#)), "no record behind {begin}");
        let begin = begin.replace("INFO", "WARN");
        let mut lines = said.lines().filter(|line| line.starts_with(&begin));
        assert!(lines.any(|line| line.contains("dropped since")), "no notice behind {begin}");
    }
    assert!(said.contains("fallback_error: Some("), "the fallback had no error");
    if cfg!(feature = "spool") {
        assert!(said.contains("last_error: Some(\"the spool's directory"), "the disk had no error");
    }
    let said = search("mistakes", &[]);
    if cfg!(feature = "spool") {
        for kind in ["Locked", "NotADirectory"] {
            assert!(said.contains(&format!("SpoolError {{ kind: {kind}")), "no spool was {kind}");
        }
    }

    // The password as the value of the wrong variable, beside right ones.
    let right = [
        ("KAFKA_LOG_BOOTSTRAP_SERVERS", "localhost:9092"),
        ("KAFKA_LOG_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_LOG_SASL_USER", USER),
        ("KAFKA_LOG_SASL_PASSWORD", PASSWORD),
    ];
    let (options, quoted) = (format!("sasl.password={PASSWORD},{PASSWORD}"), format!("{{\"a\": \"{PASSWORD}"));
    let (table, interval) = (format!("{{\"file\": \"{PASSWORD}\"}}"), format!("interval_ms={PASSWORD}"));
    for (name, value) in [
        ("KAFKA_LOG_LINGER_MS", PASSWORD),
        ("KAFKA_LOG_LEVEL", PASSWORD),
        ("KAFKA_LOG_USE_JSON", PASSWORD),
        ("KAFKA_LOG_RETRY_BACKOFF_MS", PASSWORD),
        ("KAFKA_LOG_OVERFLOW", PASSWORD),
        ("KAFKA_LOG_FALLBACK", PASSWORD),
        ("KAFKA_LOG_FALLBACK", &table),
        ("KAFKA_LOG_SPOOL", PASSWORD),
        ("KAFKA_LOG_SPOOL_MAX_BYTES", PASSWORD),
        ("KAFKA_LOG_SPOOL_FSYNC", PASSWORD),
        ("KAFKA_LOG_SPOOL_FSYNC", &interval),
        ("KAFKA_LOG_SPOOL_MODE", PASSWORD),
        ("KAFKA_LOG_TLS", PASSWORD),
        ("KAFKA_LOG_TLS_CA_PEM", PASSWORD),
        ("KAFKA_LOG_TLS_CLIENT_CERTIFICATE", PASSWORD),
        ("KAFKA_LOG_SASL_MECHANISM", PASSWORD),
        ("KAFKA_LOG_SASL_ALLOW_UNENCRYPTED", PASSWORD),
        ("KAFKA_LOG_SASL_PASSWORD_FILE", "/nowhere"),
        ("KAFKA_LOG_PASSWORD", PASSWORD),
        ("KAFKA_LOG_CLIENT_OPTIONS", &options),
        ("KAFKA_LOG_CLIENT_OPTIONS", &quoted),
    ] {
        let said = search("environment", &[&right[..], &[(name, value)]].concat());
        let taken = name == "KAFKA_LOG_TLS_CA_PEM" && said.contains("Config {");
        assert!(taken || said.contains(&format!("`{name}`")) || said.contains("`KAFKA_LOG_SASL_*`"), "{name}: {said}");
    }

    let file = broker_file(broker, "password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let (ca, address) = (broker.ca(), broker.address(Way::SaslTls).unwrap());
    let said = search(
        "global",
        &[
            ("KAFKA_LOG_BOOTSTRAP_SERVERS", &address),
            ("KAFKA_LOG_TOPIC", &topic),
            ("KAFKA_LOG_TRANSPORT", &format!("{:?}", target.client.transport())),
            ("KAFKA_LOG_TLS_CA_FILE", ca.to_str().unwrap()),
            ("KAFKA_LOG_SASL_MECHANISM", "PLAIN"),
            ("KAFKA_LOG_SASL_USER", USER),
            ("KAFKA_LOG_SASL_PASSWORD_FILE", file.to_str().unwrap()),
        ],
    );
    assert!(said.contains("Guard {") && said.contains("delivered: 1"), "{said}");
}

/// What may be in no text: the secrets as they are, as they are sent, and as somebody might write them down.
fn needles(broker: &Secure) -> Vec<String> {
    let mut needles = Vec::new();
    for password in [PASSWORD, WRONG] {
        needles.extend([
            password.to_owned(),
            BASE64_STANDARD.encode(password),
            BASE64_STANDARD.encode(format!("\0{USER}\0{password}")),
            password.replace('%', "%25").replace('=', "%3D").replace('/', "%2F").replace(' ', "%20"),
        ]);
    }
    // All of these tokens begin alike, behind a head that says nothing.
    let token = secure::token(HOUR);
    needles.push(token.split('.').nth(1).unwrap()[..20].to_owned());
    for key in [broker.client().1, broker.foreign_client().1] {
        let key = fs::read_to_string(key).unwrap();
        needles.extend(
            key.lines().filter(|line| line.len() >= 20 && !line.starts_with('-')).map(|line| line[..20].into()),
        );
    }
    assert!(needles.len() >= 11, "{needles:?}");
    needles
}

fn broker_file(broker: &Secure, name: &str) -> PathBuf {
    broker.ca().with_file_name(name)
}

/// All that a child says.
fn run_child(target: &Target, broker: &Secure, topic: &str, part: &str, variables: &[(&str, &str)]) -> String {
    let path = broker_file(broker, "said");
    let file = File::create(&path).unwrap();
    let mut child = child::command(target, &broker.plaintext(), topic)
        .env(PART, part)
        .env(FILES, broker.ca().parent().unwrap())
        .env(SASL, broker.address(Way::Sasl).unwrap())
        .env(SASL_TLS, broker.address(Way::SaslTls).unwrap())
        .env(KNOWN_CLIENTS, broker.address(Way::TlsForKnownClients).unwrap())
        .envs(variables.iter().copied())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let status = process::ended_within(&mut child, LONG);
    if status.is_none() {
        process::kill(&mut child);
    }
    let said = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    assert!(status.is_some_and(|status| status.success()), "{part} {variables:?}: {status:?}\n{said}");
    said
}

// ---- the child's side -----------------------------------------------------------------------------------------------

pub(crate) fn child() {
    match variable(PART).as_str() {
        "environment" => match Config::from_env() {
            Ok(config) => say("config", &config),
            Err(error) => say_error(&error),
        },
        "global" => {
            let guard = kafka_log::init_from_env().unwrap();
            log::info!("through the global logger");
            guard.flush(LONG).unwrap();
            say("guard", &guard);
        }
        part => {
            log::set_logger(&Speaker).unwrap();
            log::set_max_level(LevelFilter::Trace);
            if part == "logins" { logins() } else { mistakes() }
        }
    }
}

/// The application's own logger: says all that anybody logs.
struct Speaker;

impl Log for Speaker {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        println!("LOG {} {} {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

fn file(name: &str) -> PathBuf {
    Path::new(&variable(FILES)).join(name)
}

fn say(what: &str, value: &dyn Debug) {
    println!("{what}: {value:?}\n{value:#?}");
}

fn say_error(error: &(dyn Error + 'static)) {
    say("error", &error);
    println!("error: {error} {error:#}");
    let mut source = error.source();
    while let Some(error) = source {
        println!("because: {error} {error:?}");
        source = error.source();
    }
}

fn config(address: &str) -> Config {
    let config = child::config_at(&variable(address));
    // It says more then, to us at least.
    if is_async() { config.client_option("debug", "all") } else { config }
}

fn is_async() -> bool {
    child::client() == Client::Async
}

fn trust() -> Tls {
    Tls::default().ca_file(file("ca.pem"))
}

fn sasls(password: &'static str, token: fn(Duration) -> String) -> [Sasl; 4] {
    let oauth = Sasl::oauthbearer(move || {
        let token = OauthToken::new(token(HOUR), HOUR);
        say("token", &token);
        Ok(token)
    });
    [
        Sasl::plain(USER, password).allow_unencrypted(true),
        Sasl::scram_sha256(USER, password),
        Sasl::scram_sha512(USER, password),
        oauth.allow_unencrypted(true),
    ]
}

/// The secrets in their places, right and wrong ones.
fn logins() {
    for sasl in sasls(PASSWORD, secure::token) {
        say("sasl", &sasl);
        delivers(config(SASL).sasl(sasl.clone()));
        delivers(config(SASL_TLS).tls(trust()).sasl(sasl));
    }
    delivers(config(KNOWN_CLIENTS).tls(trust().client_certificate(file("client.pem"), file("client.key"))));

    for sasl in sasls(WRONG, secure::useless_token) {
        for (config, fallback) in [
            (config(SASL).sasl(sasl.clone()), Fallback::Stderr),
            (config(SASL_TLS).tls(trust()).sasl(sasl), Fallback::File(file(LOST))),
        ] {
            fails_in_the_background(config.clone(), fallback);
            waits_on_the_disk(config.clone());
            is_refused(config);
        }
    }
    let foreign = trust().client_certificate(file("foreign-client.pem"), file("foreign-client.key"));
    fails_in_the_background(config(KNOWN_CLIENTS).tls(foreign.clone()), Fallback::Logger(Arc::new(Speaker)));
    is_refused(config(KNOWN_CLIENTS).tls(foreign));
    // A broker that is not trusted hears nothing.
    let untrusted = Tls::default().ca_file(file("foreign-ca.pem"));
    let config = config(SASL_TLS).tls(untrusted).sasl(Sasl::plain(USER, PASSWORD));
    fails_in_the_background(config.clone(), Fallback::File("/dev/full".into()));
    is_refused(config.clone().fallback(Fallback::File(file("missing").join(LOST))));
    is_refused(config);
    fs::read_to_string(file(LOST)).unwrap().lines().for_each(|line| println!("FILE {line}"));
}

fn delivers(config: Config) {
    say("config", &config);
    let logger = config.startup(Startup::Check(LONG)).build().unwrap_or_else(|error| panic!("{error}"));
    say("delivery", &block_on(logger.ainfo("a record", fields! {})).unwrap());
    say("logger", &logger);
    say("status", &logger.status());
    say("stats", &logger.stats());
    say("report", &logger.shutdown(LONG));
}

fn fails_in_the_background(config: Config, fallback: Fallback) {
    const SOON: Duration = Duration::from_secs(2);
    let config = config
        .fallback(fallback)
        .linger(Duration::ZERO)
        .delivery_timeout(SOON)
        .on_delivery_error(|error| say_error(error));
    say("config", &config);
    let logger = config.build().unwrap();
    say_error(&block_on(logger.ainfo("a record", fields! {})).unwrap_err());
    logger.info("another", fields! {});
    if let Err(error) = logger.flush_timeout(Duration::from_millis(10)) {
        say_error(&error);
    }
    say("logger", &logger);
    say("status", &logger.status());
    say("report", &logger.shutdown(Duration::from_millis(10)));
}

/// With a spool, which stays behind without its directory in the end.
fn waits_on_the_disk(config: Config) {
    if cfg!(not(feature = "spool")) {
        return;
    }
    let directory = file("spool");
    let config = config.linger(Duration::ZERO).spool(Spool::new(&directory).mode(SpoolMode::WriteAhead));
    say("config", &config);
    let logger = config.build().unwrap();
    logger.info("a record", fields! {});
    wait::until("the state to be Down", LONG, || logger.status().state == State::Down);
    say("status", &logger.status());
    say("stats", &logger.stats());
    say("logger", &logger);
    fs::remove_dir_all(&directory).unwrap();
    wait::until("the disk to be missed", LONG, || {
        // More than a file of the spool holds.
        logger.info("x".repeat(100_000), fields! {});
        logger.status().last_error.is_some_and(|error| error.contains("spool"))
    });
    say("status", &logger.status());
    say("logger", &logger);
    say("report", &logger.shutdown(Duration::from_millis(10)));
}

fn is_refused(config: Config) {
    say("config", &config);
    match config.startup(Startup::Check(CHECK)).build() {
        Ok(logger) => panic!("{logger:?}"),
        Err(error) => {
            // Each of them, besides the enum that holds it.
            match &error {
                LoggerError::Config(error) => say_error(error),
                LoggerError::Dependency(error) => say_error(error),
                LoggerError::Startup(error) => say_error(error),
                LoggerError::Spool(error) => say_error(error),
                _ => {}
            }
            say_error(&error);
        }
    }
}

/// The secrets in the wrong places, or with something else wrong beside them.
fn mistakes() {
    let plain = || Sasl::plain(USER, PASSWORD);
    let scram = || Sasl::scram_sha256(USER, PASSWORD);
    let (certificate, key) = (file("client.pem"), file("client.key"));
    let text = fs::read_to_string(&key).unwrap();
    let write = |name: &str, content: &str| {
        let path = file(name);
        fs::write(&path, content).unwrap();
        path
    };
    let torn_key = write("torn.key", &text.replace("-----END", "%\n-----END"));
    let short_key = write("short.key", &text.lines().take(2).collect::<Vec<_>>().join("\n"));
    let password = write("password.txt", PASSWORD);

    is_refused(config(SASL).sasl(plain()));
    is_refused(config(SASL).sasl(Sasl::scram_sha256(USER, format!("{PASSWORD}\0"))));
    is_refused(config(SASL).sasl(Sasl::scram_sha256("", PASSWORD)));
    is_refused(config(SASL).sasl(scram().password_file(&password)));
    is_refused(config(SASL).sasl(Sasl::scram_sha256(USER, "").password_file(&key)));
    for tls in [
        Tls::default().ca_pem(PASSWORD),
        Tls::default().ca_pem(text.as_str()),
        Tls::default().ca_file(&key),
        Tls::default().ca_file(&password),
        trust().client_certificate(&key, &certificate),
        trust().client_certificate(&certificate, &password),
        trust().client_certificate(&certificate, &torn_key),
        trust().client_certificate(&certificate, &short_key),
        trust().client_certificate(&certificate, file("foreign-client.key")),
    ] {
        is_refused(config(SASL_TLS).tls(tls).sasl(plain()));
    }
    // With the right secrets beside: without the feature it is that which is missing.
    let spooled = |spool: Spool| config(SASL).sasl(scram()).spool(spool);
    for spool in [
        Spool::new(&password),
        Spool::new(file("missing").join("spool")),
        Spool::new(file("spool")).max_bytes(1),
        Spool::new(file("spool")).fsync(Fsync::Interval(Duration::ZERO)),
    ] {
        is_refused(spooled(spool));
    }
    let in_use = spooled(Spool::new(file("spool"))).build();
    is_refused(spooled(Spool::new(file("spool"))));
    drop(in_use);
    let options: [&[(&str, &str)]; 8] = [
        &[("sasl.password", PASSWORD), ("sasl.password", PASSWORD)],
        &[("sasl.pasword", PASSWORD)],
        &[("socket.timeout.ms", PASSWORD)],
        &[("security.protocol", PASSWORD)],
        &[("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", PASSWORD), ("sasl.password", PASSWORD)],
        &[("security.protocol", "ssl"), ("ssl.key.pem", &text), ("ssl.key.password", PASSWORD)],
        &[("security.protocol", "ssl"), ("ssl.key.pem", PASSWORD)],
        &[("security.protocol", "ssl"), ("ssl.keystore.location", "/nowhere"), ("ssl.keystore.password", PASSWORD)],
    ];
    for options in options {
        let set = |config: Config, (key, value): &(&str, &str)| config.client_option(*key, *value);
        is_refused(options.iter().fold(config(SASL), set));
    }
    if is_async() {
        // Right ones, which log in; and wrong ones, by which a login fails.
        for (password, right) in [(PASSWORD, true), (WRONG, false)] {
            let config = config(SASL)
                .client_option("security.protocol", "sasl_plaintext")
                .client_option("sasl.mechanisms", "PLAIN")
                .client_option("sasl.username", USER)
                .client_option("sasl.password", password);
            if right { delivers(config) } else { is_refused(config) }
        }
    }

    for (name, content) in [
        ("a.toml", format!("[sasl]\nmechanism = \"PLAIN\"\nuser = \"u\"\npassword = [\"{PASSWORD}\"]\n")),
        ("a.toml", format!("[sasl]\nmechanism = \"{PASSWORD}\"\nuser = \"u\"\npassword = \"{PASSWORD}\"\n")),
        ("a.toml", format!("[sasl]\nmechanism = \"PLAIN\"\nuser = \"u\"\npasswort = \"{PASSWORD}\"\n")),
        (
            "a.toml",
            format!("[sasl]\nmechanism = \"PLAIN\"\nuser = \"u\"\npassword = \"{PASSWORD}\"\npassword_file = \"p\"\n"),
        ),
        ("a.toml", format!("[sasl]\nmechanism = \"PLAIN\"\nuser = \"u\"\npassword = \"{PASSWORD}\n")),
        ("a.toml", format!("[sasl]\npassword = {PASSWORD}\n")),
        ("a.toml", format!("sasl = \"{PASSWORD}\"\n")),
        ("a.toml", format!("tls = \"{PASSWORD}\"\n")),
        ("a.toml", format!("linger_ms = \"{PASSWORD}\"\n")),
        ("a.toml", format!("level = \"{PASSWORD}\"\n")),
        ("a.toml", format!("startup = \"{PASSWORD}\"\n")),
        ("a.toml", format!("compression = \"{PASSWORD}\"\n")),
        ("a.toml", format!("fallback = \"{PASSWORD}\"\n")),
        ("a.toml", format!("fallback = {{ file = [\"{PASSWORD}\"] }}\n")),
        ("a.toml", format!("spool = \"{PASSWORD}\"\n")),
        ("a.toml", format!("spool = {{ dir = [\"{PASSWORD}\"] }}\n")),
        ("a.toml", format!("spool = {{ dir = \"d\", fsync = \"{PASSWORD}\" }}\n")),
        ("a.toml", format!("spool = {{ dir = \"d\", mode = \"{PASSWORD}\" }}\n")),
        ("a.toml", format!("retry_backoff_ms = [1, \"{PASSWORD}\"]\n")),
        ("a.toml", format!("client_options = [\"{PASSWORD}\"]\n")),
        ("a.toml", format!("tls = {{ client_certificate = [\"{PASSWORD}\"] }}\n")),
        ("a.toml", format!("bootstrap_servers = {{ a = \"{PASSWORD}\" }}\n")),
        (
            "a.json",
            format!("{{\"sasl\": {{\"mechanism\": \"PLAIN\", \"user\": \"u\", \"password\": {{\"{PASSWORD}\": 1}}}}}}"),
        ),
        ("a.json", format!("{{\"sasl\": {{\"password\": \"{PASSWORD}\"}}}}")),
        ("a.json", format!("{{\"sasl\": [\"{PASSWORD}\"]}}")),
        ("a.json", format!("{{\"tls\": {{\"ca_pem\": [\"{PASSWORD}\"]}}}}")),
        ("a.json", format!("{{\"topic\": [\"{PASSWORD}\"]}}")),
        ("a.json", format!("{{\"async\": \"{PASSWORD}\"}}")),
        ("a.json", format!("{{\"sasl\": \"{PASSWORD}")),
    ] {
        let result = Config::from_path(write(name, &content));
        say_error(&result.expect_err(&content.replace(PASSWORD, "[planted]")));
    }
    let right = format!(
        "[sasl]\nmechanism = \"PLAIN\"\nuser = \"u\"\npassword = \"{PASSWORD}\"\n[tls]\nca_pem = \"{PASSWORD}\"\n"
    );
    say("config", &Config::from_path(write("right.toml", &right)).unwrap());
}
