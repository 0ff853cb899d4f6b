//! What librdkafka tells us, while we poll it: kept as plain values.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::config::without_secret;
use crate::error::StartupErrorKind;
use crate::status::Health;
use crate::transport::Ack;
use crate::transport::tokens::{Token, Tokens};

/// What librdkafka takes for the rest of a token's life while the next one is on its way: it asks again when four fifths
/// of it are over, and logs in again after nine tenths of a token's real life. By then it must have the next one.
const RENEWAL: Duration = Duration::from_millis(1_250);

/// Receives librdkafka's callbacks, all of them on the thread that polls.
pub(super) struct Context {
    health: Arc<Health>,
    reports: Mutex<Vec<Report>>,
    heard: AtomicBool,
    /// How many statistics in a row knew no server.
    without_servers: AtomicU32,
    access: Access,
    denied: Mutex<Option<Denied>>,
}

/// What a producer shows the brokers, and what must not be in any text.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) tokens: Option<Tokens>,
    pub(super) secrets: Arc<[String]>,
    /// Whether the option `tls` gave the files that it reads.
    pub(super) by_tls: bool,
}

/// That a broker, or we, would not have the other.
#[derive(Clone)]
pub(super) struct Denied {
    pub(super) kind: StartupErrorKind,
    pub(super) words: String,
    pub(super) first: Instant,
}

/// What became of one message.
pub(super) struct Report {
    pub(super) ticket: usize,
    pub(super) result: Result<Ack, KafkaError>,
    /// The payload of a message that was not delivered.
    pub(super) payload: Vec<u8>,
}

impl Context {
    pub(super) fn new(health: Arc<Health>, access: Access) -> Context {
        let (reports, heard, denied) = (Mutex::default(), AtomicBool::new(false), Mutex::default());
        Context { health, reports, heard, without_servers: AtomicU32::new(0), access, denied }
    }

    /// The last denial.
    pub(super) fn denied(&self) -> Option<Denied> {
        self.denied.lock().clone()
    }

    pub(super) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.lock())
    }

    /// Whether there was a callback since the last call.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Whether librdkafka knows no server, and has not for a while; asked again, only after another while.
    pub(super) fn take_lost_servers(&self) -> bool {
        /// Statistics come every second; it finds its servers again within a moment, if at all.
        const A_WHILE: u32 = 2;
        self.without_servers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count >= A_WHILE).then_some(0))
            .is_ok()
    }

    fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// librdkafka's words, or a broker's through it, without what they could have repeated.
    fn words(&self, said: &str) -> String {
        let said = self.access.secrets.iter().fold(said.to_owned(), |said, secret| without_secret(&said, secret));
        let said = self.access.tokens.as_ref().map_or(said.clone(), |tokens| tokens.without_token(&said));
        format!("librdkafka: {said}")
    }

    fn deny(&self, kind: StartupErrorKind, words: &str) {
        let mut denied = self.denied.lock();
        let first = denied.as_ref().map_or_else(Instant::now, |denied| denied.first);
        *denied = Some(Denied { kind, words: words.to_owned(), first });
    }

    fn deny_encryption(&self, reason: &str) {
        let words = self.words(reason);
        self.deny(StartupErrorKind::Tls, &words);
        self.health.down(words);
    }

    fn token(&self) -> Result<OAuthToken, String> {
        let tokens = self.access.tokens.as_ref().ok_or("no option `sasl` gives tokens")?;
        match tokens.at_hand() {
            Token::Ready(token) => {
                let left = token.lifetime.saturating_sub(token.made.elapsed());
                let left = if tokens.is_under_way() { left.min(RENEWAL) } else { left };
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let lifetime_ms = i64::try_from((now + left).as_millis()).unwrap_or(i64::MAX);
                // librdkafka wants a name, and sends it to nobody.
                Ok(OAuthToken { token: token.token, principal_name: "kafka_log".into(), lifetime_ms })
            }
            Token::Awaited => Err("the token callback has not answered yet".into()),
            Token::Failed(words) => Err(words.replace('\0', "")),
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// Does not wait: the token is there by now as a rule, and librdkafka asks again ten seconds after an error.
    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.hear();
        Ok(self.token()?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.hear();
        // Why a connection could not be set up is a warning, and nowhere else.
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            self.health.error(self.words(&format!("{facility}: {line}")));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear();
        match error.rdkafka_error_code() {
            // Its reason only says how many brokers are down; why each is, came before.
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let reason = self.health.last_heard().unwrap_or_else(|| reason.to_owned());
                self.health.down(reason);
            }
            Some(RDKafkaErrorCode::Authentication) => {
                let words = self.words(reason);
                self.deny(StartupErrorKind::Authentication, &words);
                self.health.down(words);
            }
            Some(RDKafkaErrorCode::SSL) => {
                // Its property is our option, and a wrong name looks to it as a wrong CA does.
                let reason = reason.replace(
                    "ssl.ca.location is correctly configured",
                    "it has the name by which the broker is addressed, that the option `tls` trusts its CA,",
                );
                self.deny_encryption(&reason);
            }
            // With TLS 1.3 a broker refuses our certificate, or the want of one, after the handshake.
            Some(RDKafkaErrorCode::BrokerTransportFailure) if reason.contains("SSL alert number") => {
                self.deny_encryption(reason);
            }
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {
                self.health.down(self.words(reason));
            }
            _ => self.health.error(self.words(reason)),
        }
    }

    /// The statistics say whether a broker is connected while no record tells.
    fn stats_raw(&self, statistics: &[u8]) {
        self.hear();
        let Ok(statistics) = serde_json::from_slice::<serde_json::Value>(statistics) else { return };
        let Some(brokers) = statistics["brokers"].as_object() else { return };
        // Beside these there are some of librdkafka's own, which are no servers.
        let is_server = |broker: &serde_json::Value| broker["source"] == "learned" || broker["source"] == "configured";
        if brokers.values().any(is_server) {
            self.without_servers.store(0, Ordering::Relaxed);
        } else {
            self.without_servers.fetch_add(1, Ordering::Relaxed);
        }
        if brokers.values().any(|broker| broker["state"] == "UP") {
            self.health.up();
        } else {
            self.health.lost();
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        self.hear();
        let report = match result {
            Ok(message) => {
                let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                let ack = Ack { partition: message.partition(), offset };
                Report { ticket, result: Ok(ack), payload: Vec::new() }
            }
            Err((error, message)) => {
                // An empty payload comes back as none.
                let payload = message.payload().unwrap_or_default().to_vec();
                Report { ticket, result: Err(error.clone()), payload }
            }
        };
        self.reports.lock().push(report);
    }
}

/// Whether an error is the producer's and none of the message's: then another producer can deliver it.
pub(super) fn is_the_producers(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::PurgeQueue
                | RDKafkaErrorCode::PurgeInflight
                // The batch over which an idempotent producer fails for good comes back with the code itself.
                | RDKafkaErrorCode::OutOfOrderSequenceNumber
                | RDKafkaErrorCode::UnknownProducerId
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::InvalidProducerIdMapping
        )
    )
}
