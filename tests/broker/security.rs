//! Encryption and credentials, right and wrong, on a broker that asks for them.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{
    Config, DeliveryErrorKind, KafkaLogger, LoggerError, OauthToken, Sasl, Startup, StartupErrorKind, State, Tls,
    fields,
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::support::request::{Right, allow};
use crate::support::secure::{self, PASSWORD, SESSION, Secure, USER, Way};
use crate::support::{reader, topic, wait};
use crate::target::{Client, LONG, Target};

const HANDFUL: u64 = 5;

/// How long a check goes on that has no chance, and how much later it may end.
const CHECK: Duration = Duration::from_secs(4);
const LATER: Duration = Duration::from_secs(6);

/// Longer than any trial.
const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn trusted_certificate(target: &Target) {
    let broker = secure_broker(target);
    let by_address = broker.address(Way::Tls).unwrap();
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let pem = fs::read_to_string(broker.ca()).unwrap();
    delivers(target, &by_address, |config| config.tls(trust(broker)));
    delivers(target, &by_name, |config| config.tls(Tls::default().ca_pem(pem)));
    match broker.address(Way::TlsOverIpv6) {
        None => println!("there is no IPv6 here"),
        // librdkafka takes the brackets for a part of the name, which then is in no certificate: said before it is tried.
        Some(address) if target.client == Client::Async => {
            let result = target.config_at(&address, "unused").tls(trust(broker)).build();
            let Err(LoggerError::Config(error)) = result else { panic!("{address}: {result:?}") };
            assert!(error.option() == "tls" && error.to_string().contains(&address), "{error}");
        }
        Some(address) => delivers(target, &address, |config| config.tls(trust(broker))),
    }
    // What is trusted besides is no harm.
    let foreign = fs::read_to_string(broker.foreign_ca()).unwrap();
    delivers(target, &by_address, |config| config.tls(trust(broker).ca_pem(foreign)));
}

pub(crate) fn untrusted_certificates(target: &Target) {
    let broker = secure_broker(target);
    let address = broker.address(Way::Tls).unwrap();
    refused_for_tls(target, &address, Tls::default().ca_file(broker.foreign_ca()), &["certificate"]);
    // The system trusts nobody that was made up here.
    refused_for_tls(target, &address, Tls::default(), &["certificate"]);
}

pub(crate) fn wrong_certificates(target: &Target) {
    let broker = secure_broker(target);
    for (way, why) in [(Way::TlsWithAnotherName, ["name", "mismatch"]), (Way::TlsExpired, ["expired", "validity"])] {
        refused_for_tls(target, &broker.address(way).unwrap(), trust(broker), &why);
    }
}

pub(crate) fn client_certificates(target: &Target) {
    let broker = secure_broker(target);
    let address = broker.address(Way::TlsForKnownClients).unwrap();
    let (certificate, key) = broker.client();
    delivers(target, &address, |config| config.tls(trust(broker).client_certificate(certificate, key)));

    refused_for_tls(target, &address, trust(broker), &["certificate"]);
    let (certificate, key) = broker.foreign_client();
    let text = fs::read_to_string(&key).unwrap();
    let body = text.lines().nth(1).expect("a key has more than one line").to_owned();
    let error = refused_for_tls(
        target,
        &address,
        trust(broker).client_certificate(certificate, key),
        &["certificate", "alert"],
    );
    assert_hides(&error, &[&body]);
}

/// Neither side says why to the other, so all that can be asked for is an end.
pub(crate) fn encryption_on_one_side(target: &Target) {
    let broker = secure_broker(target);
    for (address, tls) in [(broker.plaintext(), Some(trust(broker))), (broker.address(Way::Tls).unwrap(), None)] {
        let error = refused(target, &address, |config| tls.into_iter().fold(config, Config::tls));
        assert!(matches!(error.kind, StartupErrorKind::Tls | StartupErrorKind::Unreachable), "{error:?}");
    }
}

/// Each mechanism with these secrets, in a form that may be sent without encryption.
fn all_mechanisms(password: &'static str, token: fn(Duration) -> String) -> [(&'static str, Sasl); 4] {
    [
        ("PLAIN", Sasl::plain(USER, password).allow_unencrypted(true)),
        ("SCRAM-SHA-256", Sasl::scram_sha256(USER, password)),
        ("SCRAM-SHA-512", Sasl::scram_sha512(USER, password)),
        ("OAUTHBEARER", Sasl::oauthbearer(move || Ok(OauthToken::new(token(HOUR), HOUR))).allow_unencrypted(true)),
    ]
}

pub(crate) fn mechanisms(target: &Target) {
    let broker = secure_broker(target);
    let (encrypted, open) = (broker.address(Way::SaslTls).unwrap(), broker.address(Way::Sasl).unwrap());
    for (_, sasl) in all_mechanisms(PASSWORD, secure::token) {
        delivers(target, &encrypted, |config| config.tls(trust(broker)).sasl(sasl.clone()));
        delivers(target, &open, |config| config.sasl(sasl));
    }
}

pub(crate) fn password_files(target: &Target) {
    let broker = secure_broker(target);
    let address = broker.address(Way::SaslTls).unwrap();
    let file = std::env::temp_dir().join(topic::unique("kafka_log-password"));
    for sasl in [Sasl::plain(USER, ""), Sasl::scram_sha256(USER, "")] {
        let sasl = sasl.password_file(&file);
        fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        delivers(target, &address, |config| config.tls(trust(broker)).sasl(sasl.clone()));
        fs::write(&file, format!("{PASSWORD}\n\n")).unwrap();
        let error = refused(target, &address, |config| config.tls(trust(broker)).sasl(sasl));
        assert_eq!(error.kind, StartupErrorKind::Authentication, "{error:?}");
        assert_hides(&error, &[PASSWORD]);
    }
    fs::remove_file(&file).unwrap();
}

pub(crate) fn wrong_credentials(target: &Target) {
    /// Of which nothing may be seen.
    const WRONG: &str = "shut=Sesame /+%21";
    let broker = secure_broker(target);
    let address = broker.address(Way::SaslTls).unwrap();
    // The head of each token is the same, so what follows it tells.
    let token = secure::useless_token(HOUR);
    let claims = token.split('.').nth(1).unwrap();
    let begin_of_claims = &claims[..20];
    for (name, sasl) in all_mechanisms(WRONG, secure::useless_token) {
        let error = refused(target, &address, |config| config.tls(trust(broker)).sasl(sasl));
        assert_eq!(error.kind, StartupErrorKind::Authentication, "{name}: {error:?}");
        assert_hides(&error, &[WRONG, begin_of_claims]);
    }
    // The right password of nobody.
    for sasl in [Sasl::plain("nobody", PASSWORD), Sasl::scram_sha512("nobody", PASSWORD)] {
        let error = refused(target, &address, |config| config.tls(trust(broker)).sasl(sasl));
        assert_eq!(error.kind, StartupErrorKind::Authentication, "{error:?}");
        assert_hides(&error, &[PASSWORD]);
    }
    // The broker is verified before it is told anything.
    let foreign = Tls::default().ca_file(broker.foreign_ca());
    let error = refused(target, &address, |config| config.tls(foreign).sasl(Sasl::plain(USER, PASSWORD)));
    assert_eq!(error.kind, StartupErrorKind::Tls, "{error:?}");
    assert_hides(&error, &[PASSWORD]);
}

pub(crate) fn wrong_in_the_background(target: &Target) {
    const WRONG: &str = "shut=Sesame /+%21";
    let broker = secure_broker(target);
    let topic = create_topic(broker);
    for (_, sasl) in all_mechanisms(WRONG, secure::useless_token) {
        let config = target.config_at(&broker.address(Way::SaslTls).unwrap(), &topic);
        let logger = config.tls(trust(broker)).sasl(sasl).build().unwrap();
        logger.info("nobody takes this", fields! {});
        wait::until("the state to say why", LONG, || {
            let status = logger.status();
            let said = status.last_error.as_deref().unwrap_or_default().to_lowercase();
            status.state == State::Down && said.contains("authenticat")
        });
        let status = logger.status();
        let begun = Instant::now();
        let report = logger.shutdown(Duration::from_millis(200));
        assert!(begun.elapsed() < LATER);
        assert_eq!((report.unsent, report.stats.delivered), (1, 0));
        let shown = format!("{status:?} {:?} {logger:?}", logger.status());
        assert!(!shown.contains(WRONG), "{shown}");
    }
}

pub(crate) fn no_token(target: &Target) {
    let broker = secure_broker(target);
    let address = broker.address(Way::SaslTls).unwrap();
    fn fails() -> Result<OauthToken, Box<dyn Error + Send + Sync>> {
        Err("the identity provider sleeps".into())
    }
    fn panics() -> Result<OauthToken, Box<dyn Error + Send + Sync>> {
        panic!("the callback of a trial")
    }
    for (sasl, told) in
        [(Sasl::oauthbearer(fails), "the identity provider sleeps"), (Sasl::oauthbearer(panics), "panic")]
    {
        let error = refused(target, &address, |config| config.tls(trust(broker)).sasl(sasl));
        assert_eq!(error.kind, StartupErrorKind::Authentication, "{error:?}");
        assert!(error.display.contains(told), "{error:?}");
    }
}

pub(crate) fn secrets_stay(target: &Target) {
    let broker = secure_broker(target);
    let address = broker.address(Way::Sasl).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let oauth = Sasl::oauthbearer(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(OauthToken::new(secure::token(HOUR), HOUR))
    });
    for sasl in [Sasl::plain(USER, PASSWORD), oauth] {
        let result = target.config_at(&address, "t").sasl(sasl).startup(Startup::Check(CHECK)).build();
        let Err(LoggerError::Config(error)) = result else { panic!("{result:?}") };
        let text = error.to_string();
        assert!(error.option() == "sasl" && text.contains("allow_unencrypted"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0, "a token that is of no use was asked for");
}

pub(crate) fn sessions(target: &Target) {
    through_sessions(target, Sasl::scram_sha256(USER, PASSWORD));
}

pub(crate) fn tokens(target: &Target) {
    /// As the logger is told, so that it asks for several. They last longer: a session ends with its token, and a broker
    /// does not renew one that is younger than a second.
    const LIFETIME: Duration = SESSION;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let oauth = Sasl::oauthbearer(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(OauthToken::new(secure::token(HOUR), LIFETIME))
    });
    through_sessions(target, oauth);
    // Under load librdkafka asks later than at four fifths of a lifetime.
    assert!(asked.load(Ordering::Relaxed) >= 2, "{asked:?} tokens");
}

/// Logs for some sessions on end, which are to be renewed on the connections that there are.
fn through_sessions(target: &Target, sasl: Sasl) {
    const LASTS: Duration = SESSION.saturating_mul(3);
    let broker = secure_broker(target);
    let topic = create_topic(broker);
    let config = target.config_at(&broker.address(Way::SaslTlsForSeconds).unwrap(), &topic);
    let logger = config.tls(trust(broker)).sasl(sasl).build().unwrap();
    logger.info("connects", fields! { n = 0 });
    logger.flush_timeout(LONG).unwrap();
    let connections = broker.connections();
    let begun = Instant::now();
    let mut logged = 1;
    while begun.elapsed() < LASTS {
        logger.info("a record of a long session", fields! { n = logged });
        logged += 1;
        thread::sleep(Duration::from_millis(100));
    }
    arrived(broker, &topic, &logger, logged);
    assert_eq!(broker.connections(), connections, "a session ended with its connection");
}

/// A topic that the user may not even see: the check hears of that too.
pub(crate) fn no_rights(target: &Target) {
    let broker = secure_broker(target);
    let topic = topic_of_another(broker);
    let begun = Instant::now();
    let result = as_user(target, &topic).startup(Startup::Check(CHECK)).build();
    assert!(begun.elapsed() < CHECK + LATER, "{:?}", begun.elapsed());
    let Err(error) = result else { panic!("{result:?}") };
    let (display, debug) = (error.to_string(), format!("{error:?} {error:#?}"));
    let LoggerError::Startup(error) = error else { panic!("{debug}") };
    assert_eq!(error.kind(), StartupErrorKind::Refused, "{display}");
    assert!(display.contains(&topic) && is_named(&display), "{display}");
    assert_hides(&Refusal { kind: error.kind(), display, debug }, &[PASSWORD]);

    refused_until_allowed(target, &topic);
}

/// One that it may see: that it may not write there is known by writing.
pub(crate) fn no_right_to_write(target: &Target) {
    let broker = secure_broker(target);
    let topic = topic_of_another(broker);
    allow(&broker.plaintext(), &topic, USER, Right::Describe);
    let checked = as_user(target, &topic).startup(Startup::Check(LONG)).build();
    checked.unwrap_or_else(|error| panic!("{error}"));

    refused_until_allowed(target, &topic);
}

/// In the background each record is refused for itself, once, while the right is missing; and no longer.
fn refused_until_allowed(target: &Target, topic: &str) {
    /// Soon, beside the delivery timeout of two minutes: what is refused is not tried until then.
    const SOON: Duration = Duration::from_secs(20);
    let broker = secure_broker(target);
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let config = as_user(target, topic).on_delivery_error(move |error| noted.lock().push(error.clone()));
    let logger = config.build().unwrap();
    let log = |n: u64| logger.info("a record without rights", fields! { n = n });
    for n in 0..HANDFUL {
        log(n);
    }
    logger.flush_timeout(SOON).unwrap();
    // Another, when it is known already.
    log(HANDFUL);
    logger.flush_timeout(SOON).unwrap();
    let (stats, status) = (logger.stats(), logger.status());
    let counts = (stats.failed, stats.delivered, stats.dropped.total(), stats.pending);
    assert_eq!(counts, (HANDFUL + 1, 0, 0, 0), "{status:?}");
    let said = status.last_error.as_deref().unwrap_or_default();
    assert!(is_named(said), "{status:?}");
    wait::until("each to be told of", LONG, || told.lock().len() as u64 > HANDFUL);

    // Nothing of it is settled a second time later on, by another try.
    allow(&broker.plaintext(), topic, USER, Right::Write);
    let mut tried = HANDFUL + 1;
    wait::until("a record to go through", LONG, || {
        log(tried);
        tried += 1;
        logger.flush_timeout(LONG).unwrap();
        logger.stats().delivered > 0
    });
    let state = logger.status().state;
    assert_eq!(state, State::Up, "{:?}", logger.status());
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.delivered, stats.failed), (1, tried - 1));
    assert_eq!((stats.dropped.total(), stats.pending, stats.callbacks_missed), (0, 0, 0), "{stats:?}");
    wait::until("each to be told of", LONG, || told.lock().len() as u64 >= tried - 1);
    let told = told.lock();
    let numbers: Vec<u64> = told.iter().map(|error| number(error.payload())).collect();
    assert_eq!(numbers, (0..tried - 1).collect::<Vec<_>>(), "once each");
    for error in told.iter() {
        assert_eq!((error.kind(), error.possibly_delivered()), (DeliveryErrorKind::Rejected, false), "{error}");
        assert!(is_named(&error.to_string()), "{error}");
    }
    let shown = format!("{told:?} {} {status:?} {logger:?}", told[0]);
    assert!(!shown.contains(PASSWORD), "a secret is shown: {shown}");
    let records = reader::librdkafka(&broker.plaintext(), topic, LONG);
    assert_eq!(records.iter().map(|record| number(&record.value)).collect::<Vec<_>>(), [tried - 1]);
}

/// Whether a text names Kafka's TOPIC_AUTHORIZATION_FAILED, in whatever spelling.
fn is_named(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    letters.to_ascii_lowercase().contains("topicauthorizationfailed")
}

/// A topic to which another user has a right, and so nobody else.
fn topic_of_another(broker: &Secure) -> String {
    let topic = create_topic(broker);
    allow(&broker.plaintext(), &topic, "somebody-else", Right::Write);
    topic
}

fn as_user(target: &Target, topic: &str) -> Config {
    let broker = secure_broker(target);
    let config = target.config_at(&broker.address(Way::SaslTls).unwrap(), topic);
    config.tls(trust(broker)).sasl(Sasl::scram_sha256(USER, PASSWORD))
}

fn secure_broker(target: &Target) -> &'static Secure {
    secure::shared(target.version())
}

fn trust(broker: &Secure) -> Tls {
    Tls::default().ca_file(broker.ca())
}

fn create_topic(broker: &Secure) -> String {
    topic::create_unique(&broker.plaintext(), "secure", 1)
}

/// What is delivered at this address is in the topic, which is read without encryption and credentials.
#[track_caller]
fn delivers(target: &Target, address: &str, secured: impl FnOnce(Config) -> Config) {
    let broker = secure_broker(target);
    let topic = create_topic(broker);
    let config = secured(target.config_at(address, &topic)).startup(Startup::Check(LONG));
    let logger = config.build().unwrap_or_else(|error| panic!("{address}: {error}"));
    for n in 0..HANDFUL {
        logger.info("a record of the trials", fields! { n = n });
    }
    arrived(broker, &topic, &logger, HANDFUL);
}

/// Each of so many records is there once, in its order.
#[track_caller]
fn arrived(broker: &Secure, topic: &str, logger: &KafkaLogger, expected: u64) {
    let flushed = logger.flush_timeout(LONG);
    let status = logger.status();
    flushed.unwrap_or_else(|error| panic!("{error}: {status:?}"));
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.delivered, stats.failed, stats.dropped.total()), (expected, 0, 0), "{status:?}");
    let records = reader::librdkafka(&broker.plaintext(), topic, LONG);
    let numbers: Vec<u64> = records.iter().map(|record| number(&record.value)).collect();
    assert_eq!(numbers, (0..expected).collect::<Vec<_>>());
}

fn number(payload: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(payload).unwrap()["n"].as_u64().unwrap()
}

/// What a check said that failed.
#[derive(Debug)]
struct Refusal {
    kind: StartupErrorKind,
    display: String,
    debug: String,
}

#[track_caller]
fn refused(target: &Target, address: &str, secured: impl FnOnce(Config) -> Config) -> Refusal {
    let broker = secure_broker(target);
    let topic = create_topic(broker);
    let begun = Instant::now();
    let result = secured(target.config_at(address, &topic)).startup(Startup::Check(CHECK)).build();
    let took = begun.elapsed();
    let Err(error) = result else { panic!("{address}: {result:?}") };
    let (display, debug) = (error.to_string(), format!("{error:?} {error:#?}"));
    let LoggerError::Startup(error) = error else { panic!("{address}: {debug}") };
    assert!(took < CHECK + LATER, "{took:?}: {display}");
    assert!(display.contains(address), "the address is not named: {display}");
    assert!(reader::librdkafka(&broker.plaintext(), &topic, LONG).is_empty());
    Refusal { kind: error.kind(), display, debug }
}

/// One of the reasons must be named, but by librdkafka, which says no more than that it could not verify.
#[track_caller]
fn refused_for_tls(target: &Target, address: &str, tls: Tls, reasons: &[&str]) -> Refusal {
    let error = refused(target, address, |config| config.tls(tls));
    assert_eq!(error.kind, StartupErrorKind::Tls, "{error:?}");
    let said = error.display.to_lowercase();
    let vague = target.client == Client::Async && said.contains("could not be verified");
    assert!(vague || reasons.iter().any(|reason| said.contains(reason)), "none of {reasons:?} is in {said}");
    error
}

#[track_caller]
fn assert_hides(error: &Refusal, secrets: &[&str]) {
    for secret in secrets {
        assert!(!error.display.contains(secret) && !error.debug.contains(secret), "a secret is shown: {error:?}");
    }
}
