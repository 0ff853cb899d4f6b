//! One connection to a broker: how it is set up, what has been asked on it, and what it answers.
//!
//! Nothing here blocks. Whoever owns the connection tells it of readiness and takes what it has heard; after any
//! trouble it is dropped, with whatever was half written or half read on it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::address::Address;
use super::auth::{AuthError, Login, Step};
use super::protocol::{self, Api, ApiVersions, ErrorCode, Malformed};
use super::settings::{Idempotence, Settings};
use super::tls::{Stream, TlsError};
use super::trouble::{Trouble, said};
use crate::config::OauthToken;
use crate::error::StartupErrorKind;
use crate::transport::tokens::{Token as Bearer, Tokens};

/// An answer longer than this is none of Kafka's: one topic's metadata takes some 30 bytes for each partition.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// How much is read at once.
const READ: usize = 64 * 1024;

/// How many pieces one system call writes.
const PIECES: usize = 16;

/// While it is being set up, its answers are short.
const LONGEST_EARLY_ANSWER: usize = 64 * 1024;

/// A broker that asks for more silence than this gets this much: its quotas are counted in seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Without an answer expected and without use, for a minute less than brokers wait by default.
const IDLE: Duration = Duration::from_secs(9 * 60);

/// TCP's own probes find a peer that went away without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

pub(super) struct Connection {
    /// None for one to a bootstrap server.
    pub(super) node: Option<i32>,
    pub(super) address: Address,
    phase: Phase,
    stream: Option<Stream>,
    outgoing: VecDeque<Piece>,
    /// Of the first piece.
    written: usize,
    incoming: Vec<u8>,
    asked: VecDeque<Asked>,
    next_correlation_id: i32,
    versions: ApiVersions,
    /// Of the last login, where it was by one.
    token: Option<OauthToken>,
    /// The set-up, or a new login, ends by then.
    set_up_by: Option<Instant>,
    /// The broker asked for silence until then.
    muted_until: Option<Instant>,
    /// The session that a login began ends; another login is due before.
    login_due: Option<Instant>,
    logs_in_again: bool,
    /// Another token is asked for then, so that it is there when the login is due.
    token_due: Option<Instant>,
    /// Since when the peer takes nothing of what is to be written.
    stalled_since: Option<Instant>,
    last_used: Instant,
}

enum Phase {
    /// The name is looked up, on a thread of its own.
    Resolving,
    /// To one of the name's addresses; the others are left to try.
    Connecting {
        socket: TcpStream,
        others: Vec<SocketAddr>,
        by: Instant,
    },
    /// The versions have been asked for, through TLS where that is wanted.
    Greeting,
    /// The token is fetched, on a thread of its own.
    AwaitsToken,
    LoggingIn(Box<Login>),
    Ready,
}

enum Piece {
    Bytes(Bytes),
    /// All before it is written: what needs no answer is done.
    Written(Sent),
}

/// A load in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) partition: i32,
    pub(super) load: u64,
}

struct Asked {
    correlation_id: i32,
    version: i16,
    at: Instant,
    what: What,
}

enum What {
    Versions,
    Handshake,
    Authenticate,
    Metadata,
    ProducerId,
    Produce(Sent),
}

/// What a connection has to say.
pub(super) enum Heard {
    Ready,
    Metadata(protocol::Metadata),
    ProducerId(protocol::InitProducerId),
    Produced(Sent, protocol::Produced),
    /// Written, and no answer comes.
    Written(Sent),
}

impl Connection {
    /// One that waits for the addresses of its name.
    pub(super) fn new(node: Option<i32>, address: Address, settings: &Settings, now: Instant) -> Connection {
        Connection {
            node,
            address,
            phase: Phase::Resolving,
            stream: None,
            outgoing: VecDeque::new(),
            written: 0,
            incoming: Vec::new(),
            asked: VecDeque::new(),
            next_correlation_id: 0,
            versions: ApiVersions::default(),
            token: None,
            set_up_by: Some(now + settings.connect_timeout),
            muted_until: None,
            login_due: None,
            logs_in_again: false,
            token_due: None,
            stalled_since: None,
            last_used: now,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Whether it may be asked something now.
    pub(super) fn takes(&self, now: Instant) -> bool {
        // One that is to log in again is left to run dry.
        self.is_ready() && self.login_due.is_none_or(|due| now < due)
    }

    /// Whether records may be sent on it now.
    pub(super) fn takes_records(&self, most_under_way: usize, now: Instant) -> bool {
        self.takes(now) && self.asked.len() < most_under_way && self.muted_until.is_none_or(|until| until <= now)
    }

    pub(super) fn under_way(&self) -> usize {
        self.asked.len()
    }

    /// When something was last written or read here.
    pub(super) fn last_used(&self) -> Instant {
        self.last_used
    }

    pub(super) fn version(&self, api: Api) -> i16 {
        self.versions.best(api).unwrap_or(0)
    }

    // ---- setting up -------------------------------------------------------------------------------------------

    pub(super) fn resolved(
        &mut self,
        found: io::Result<Vec<SocketAddr>>,
        token: Token,
        registry: &Registry,
        now: Instant,
    ) -> Result<(), Trouble> {
        if !matches!(self.phase, Phase::Resolving) {
            return Ok(());
        }
        let addresses = found.map_err(|error| self.trouble(format_args!("the name cannot be looked up: {error}")))?;
        self.connect_to_one_of(addresses, None, token, registry, now)
    }

    /// Begins to connect to the first of these that can be begun with.
    fn connect_to_one_of(
        &mut self,
        mut addresses: Vec<SocketAddr>,
        mut problem: Option<io::Error>,
        token: Token,
        registry: &Registry,
        now: Instant,
    ) -> Result<(), Trouble> {
        while !addresses.is_empty() {
            let address = addresses.remove(0);
            let begun = TcpStream::connect(address).and_then(|mut socket| {
                registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(socket)
            });
            match begun {
                Ok(socket) => {
                    // Each address has its share of the time that is left.
                    let left = self.set_up_by.map_or(Duration::ZERO, |by| by.saturating_duration_since(now));
                    let by = now + left / (addresses.len() as u32 + 1);
                    self.phase = Phase::Connecting { socket, others: addresses, by };
                    return Ok(());
                }
                Err(error) => problem = Some(error),
            }
        }
        Err(match problem {
            Some(error) => self.trouble(format_args!("{error}")),
            None => self.trouble(format_args!("the name has no address")),
        })
    }

    /// Goes on with what its socket is ready for.
    pub(super) fn drive(
        &mut self,
        token: Token,
        registry: &Registry,
        settings: &Settings,
        now: Instant,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Trouble> {
        match std::mem::replace(&mut self.phase, Phase::Greeting) {
            Phase::Connecting { socket, others, by } => match is_connected(&socket) {
                Ok(true) => self.greet(socket, settings, now)?,
                Ok(false) => self.phase = Phase::Connecting { socket, others, by },
                Err(error) => return self.connect_to_one_of(others, Some(error), token, registry, now),
            },
            phase => self.phase = phase,
        }
        self.write(now, heard)?;
        self.read(settings, now, heard)?;
        self.write(now, heard)
    }

    /// Connected: asks for the versions of the protocol that the broker speaks.
    fn greet(&mut self, socket: TcpStream, settings: &Settings, now: Instant) -> Result<(), Trouble> {
        // Neither is worth a connection.
        let _ = socket.set_nodelay(true);
        let _ = socket2::SockRef::from(&socket)
            .set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 6));
        let stream = settings.connector.stream(socket, &self.address.host);
        self.stream = Some(stream.map_err(|error| self.tls_trouble(&error))?);
        self.phase = Phase::Greeting;
        self.ask_for_versions(API_VERSIONS_WITH_NAME, settings, now);
        Ok(())
    }

    fn ask_for_versions(&mut self, version: i16, settings: &Settings, now: Instant) {
        let frame = protocol::api_versions(version, self.next_correlation_id, &settings.client_id);
        self.ask(What::Versions, version, vec![frame.into()], now);
    }

    fn versions_answered(
        &mut self,
        frame: &[u8],
        version: i16,
        settings: &Settings,
        now: Instant,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Trouble> {
        let answer = ApiVersions::decode(frame, version).map_err(|error| self.malformed("ApiVersions", error))?;
        if answer.error == ErrorCode::UNSUPPORTED_VERSION && version > 0 {
            // It has answered in version 0, as all do whatever they were asked in; so it will again.
            self.ask_for_versions(0, settings, now);
            return Ok(());
        }
        if !answer.error.is_ok() {
            return Err(self.trouble(format_args!("it answered ApiVersions with {}", answer.error)));
        }
        self.versions = answer;
        self.check_versions(settings)?;
        match &settings.sasl {
            None => self.be_ready(heard),
            Some(_) => self.log_in(settings, now)?,
        }
        Ok(())
    }

    /// Whether the broker speaks what we do, for what we are going to ask.
    fn check_versions(&self, settings: &Settings) -> Result<(), Trouble> {
        let unsupported = |words: String| Trouble::of_kind(StartupErrorKind::UnsupportedBroker, words);
        if let Some(api) = [Api::Produce, Api::Metadata].into_iter().find(|api| !self.has(*api)) {
            let last = self.versions.range_of(api.key()).map(|range| range.max);
            return Err(match last {
                Some(last) if last < *api.versions().start() => Trouble {
                    too_old: true,
                    ..unsupported(format!(
                        "{}: this broker speaks {api:?} up to version {last} and is older than Kafka 0.11, the oldest that \
                         the wire producer serves: use SyncProducer::Kafka or the feature `async`",
                        self.address
                    ))
                },
                _ => unsupported(format!(
                    "{}: this broker has no version of {api:?} that the wire producer speaks: use the feature `async`",
                    self.address
                )),
            });
        }
        if settings.idempotence == Idempotence::Demanded && !self.has(Api::InitProducerId) {
            let words = format!("{}: this broker gives no producer ids: set idempotence to false", self.address);
            return Err(unsupported(words));
        }
        if settings.sasl.is_some() && !(self.has(Api::SaslHandshake) && self.has(Api::SaslAuthenticate)) {
            let words = format!("{}: this broker has not the SASL requests of Kafka 1.0 and newer", self.address);
            return Err(unsupported(words));
        }
        Ok(())
    }

    /// Whether it can be asked this at all.
    pub(super) fn has(&self, api: Api) -> bool {
        self.versions.best(api).is_some()
    }

    fn be_ready(&mut self, heard: &mut Vec<Heard>) {
        self.phase = Phase::Ready;
        self.logs_in_again = false;
        self.set_up_by = None;
        heard.push(Heard::Ready);
    }

    // ---- asking -----------------------------------------------------------------------------------------------

    pub(super) fn ask_for_metadata(&mut self, settings: &Settings, now: Instant) {
        let version = self.version(Api::Metadata);
        let frame = protocol::metadata(version, self.next_correlation_id, &settings.client_id, &settings.route.topic);
        self.ask(What::Metadata, version, vec![frame.into()], now);
    }

    pub(super) fn ask_for_producer_id(&mut self, settings: &Settings, now: Instant) {
        let version = self.version(Api::InitProducerId);
        let frame = protocol::init_producer_id(version, self.next_correlation_id, &settings.client_id);
        self.ask(What::ProducerId, version, vec![frame.into()], now);
    }

    /// Sends a batch of records for one partition.
    pub(super) fn produce(&mut self, sent: Sent, batch: Bytes, topic_id: [u8; 16], settings: &Settings, now: Instant) {
        // From version 13 on a topic goes by its id, which a broker that answered an old Metadata request did not tell.
        let best = self.version(Api::Produce);
        let version = if topic_id == [0; 16] { best.min(12) } else { best };
        let topic = protocol::Topic { name: &settings.route.topic, id: topic_id };
        let timeout_ms = i32::try_from(settings.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let frame = protocol::produce(
            version,
            self.next_correlation_id,
            &settings.client_id,
            settings.acks,
            timeout_ms,
            topic,
            &[(sent.partition, batch)],
        );
        if settings.acks == 0 {
            self.put(frame, now);
            self.outgoing.push_back(Piece::Written(sent));
        } else {
            self.ask(What::Produce(sent), version, frame, now);
        }
    }

    fn ask(&mut self, what: What, version: i16, frame: Vec<Bytes>, now: Instant) {
        self.asked.push_back(Asked { correlation_id: self.next_correlation_id, version, at: now, what });
        self.put(frame, now);
    }

    /// Has a request written, which took the next correlation id.
    fn put(&mut self, frame: Vec<Bytes>, now: Instant) {
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
        self.last_used = now;
        self.outgoing.extend(frame.into_iter().map(Piece::Bytes));
    }

    // ---- writing and reading ----------------------------------------------------------------------------------

    /// Writes what can be written now.
    pub(super) fn write(&mut self, now: Instant, heard: &mut Vec<Heard>) -> Result<(), Trouble> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            if let Some(Piece::Written(sent)) = self.outgoing.front() {
                // Through TLS it is written only when nothing is held back there.
                match stream.flush() {
                    Ok(()) => heard.push(Heard::Written(*sent)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return self.stall(now),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(self.io_trouble(&error)),
                }
                self.outgoing.pop_front();
                continue;
            }
            let mut skip = self.written;
            let pieces = self.outgoing.iter().map_while(|piece| match piece {
                Piece::Bytes(bytes) => Some(IoSlice::new(&bytes[std::mem::take(&mut skip).min(bytes.len())..])),
                Piece::Written(_) => None,
            });
            let pieces: Vec<IoSlice<'_>> = pieces.take(PIECES).collect();
            let written = if pieces.is_empty() { stream.flush().map(|()| 0) } else { stream.write_vectored(&pieces) };
            let none_left = pieces.is_empty();
            match written {
                Ok(_) if none_left => {
                    self.stalled_since = None;
                    return Ok(());
                }
                Ok(0) => return Err(self.trouble(format_args!("the connection takes no more bytes"))),
                Ok(count) => {
                    self.last_used = now;
                    self.stalled_since = None;
                    self.take_written(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.stall(now),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_trouble(&error)),
            }
        }
    }

    /// The peer takes no more for now.
    fn stall(&mut self, now: Instant) -> Result<(), Trouble> {
        self.stalled_since.get_or_insert(now);
        Ok(())
    }

    fn take_written(&mut self, count: usize) {
        self.written += count;
        while let Some(Piece::Bytes(first)) = self.outgoing.front() {
            if self.written < first.len() {
                break;
            }
            self.written -= first.len();
            self.outgoing.pop_front();
        }
    }

    fn read(&mut self, settings: &Settings, now: Instant, heard: &mut Vec<Heard>) -> Result<(), Trouble> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let filled = self.incoming.len();
            self.incoming.resize(filled + READ, 0);
            let read = stream.read(&mut self.incoming[filled..]);
            self.incoming.truncate(filled + read.as_ref().map_or(0, |count| *count));
            match read {
                Ok(0) => return Err(self.hung_up()),
                Ok(_) => self.take_frames(settings, now, heard)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_trouble(&error)),
            }
        }
    }

    fn take_frames(&mut self, settings: &Settings, now: Instant, heard: &mut Vec<Heard>) -> Result<(), Trouble> {
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let longest = if self.is_ready() { LONGEST_ANSWER } else { LONGEST_EARLY_ANSWER };
            let length = usize::try_from(length).ok().filter(|length| *length <= longest);
            let Some(length) = length else {
                return Err(self.trouble(format_args!("its answer has a length that none of Kafka's has")));
            };
            let Some((frame, after)) = after.split_at_checked(length) else { break };
            rest = after;
            self.answered(frame, settings, now, heard)?;
        }
        let consumed = incoming.len() - rest.len();
        self.incoming = incoming;
        self.incoming.drain(..consumed);
        Ok(())
    }

    fn answered(
        &mut self,
        frame: &[u8],
        settings: &Settings,
        now: Instant,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Trouble> {
        let correlation_id = protocol::correlation_id(frame).map_err(|error| self.malformed("some request", error))?;
        let asked = self.asked.pop_front().filter(|asked| asked.correlation_id == correlation_id);
        let Some(Asked { version, what, .. }) = asked else {
            return Err(self.trouble(format_args!("it answered what it was not asked")));
        };
        self.last_used = now;
        let throttle_ms = match what {
            What::Versions => return self.versions_answered(frame, version, settings, now, heard),
            What::Handshake => return self.handshake_answered(frame, version, settings, now),
            What::Authenticate => return self.authenticate_answered(frame, version, settings, now, heard),
            What::Metadata => {
                let answer = protocol::Metadata::decode(frame, version, &settings.route.topic);
                let answer = answer.map_err(|error| self.malformed("Metadata", error))?;
                let throttle_ms = answer.throttle_ms;
                heard.push(Heard::Metadata(answer));
                throttle_ms
            }
            What::ProducerId => {
                let answer = protocol::InitProducerId::decode(frame, version)
                    .map_err(|error| self.malformed("InitProducerId", error))?;
                let throttle_ms = answer.throttle_ms;
                heard.push(Heard::ProducerId(answer));
                throttle_ms
            }
            What::Produce(sent) => {
                let answer =
                    protocol::Produce::decode(frame, version).map_err(|error| self.malformed("Produce", error))?;
                let produced = answer.partitions.into_iter().find(|produced| produced.index == sent.partition);
                let Some(produced) = produced else {
                    return Err(self.trouble(format_args!("it did not answer for partition {}", sent.partition)));
                };
                heard.push(Heard::Produced(sent, produced));
                answer.throttle_ms
            }
        };
        if throttle_ms > 0 {
            self.muted_until = Some(now + Duration::from_millis(throttle_ms as u64).min(LONGEST_SILENCE));
        }
        Ok(())
    }

    // ---- logging in -------------------------------------------------------------------------------------------

    fn log_in(&mut self, settings: &Settings, now: Instant) -> Result<(), Trouble> {
        let Some(sasl) = &settings.sasl else { return Ok(()) };
        self.token = None;
        match settings.tokens.as_ref().map(Tokens::request) {
            None => {}
            Some(Bearer::Ready(token)) => self.token = Some(token),
            Some(Bearer::Awaited) => {
                self.phase = Phase::AwaitsToken;
                return Ok(());
            }
            Some(Bearer::Failed(words)) => {
                let words = format!("{}: {words}", self.address);
                return Err(Trouble::of_kind(StartupErrorKind::Authentication, words));
            }
        }
        let login = Login::new(sasl, self.token.as_ref()).map_err(|error| self.refused(&error))?;
        let version = self.version(Api::SaslHandshake);
        let frame = protocol::sasl_handshake(version, self.next_correlation_id, &settings.client_id, login.mechanism());
        self.phase = Phase::LoggingIn(Box::new(login));
        self.ask(What::Handshake, version, vec![frame.into()], now);
        Ok(())
    }

    /// Goes on if it waits for a token and there is an answer now.
    pub(super) fn look_for_token(
        &mut self,
        settings: &Settings,
        now: Instant,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Trouble> {
        if !matches!(self.phase, Phase::AwaitsToken) {
            return Ok(());
        }
        self.log_in(settings, now)?;
        self.write(now, heard)
    }

    fn handshake_answered(
        &mut self,
        frame: &[u8],
        version: i16,
        settings: &Settings,
        now: Instant,
    ) -> Result<(), Trouble> {
        let answer =
            protocol::SaslHandshake::decode(frame, version).map_err(|error| self.malformed("SaslHandshake", error))?;
        let Phase::LoggingIn(login) = &mut self.phase else { return Ok(()) };
        if !answer.error.is_ok() {
            let words = format!(
                "{}: the broker does not take the SASL mechanism {}; it takes {}",
                self.address,
                login.mechanism(),
                said(&answer.mechanisms.join(", "))
            );
            return Err(Trouble::of_kind(StartupErrorKind::Authentication, words));
        }
        let step = login.step(None);
        self.stepped(step, settings, now, &mut Vec::new(), None)
    }

    fn authenticate_answered(
        &mut self,
        frame: &[u8],
        version: i16,
        settings: &Settings,
        now: Instant,
        heard: &mut Vec<Heard>,
    ) -> Result<(), Trouble> {
        let answer = protocol::SaslAuthenticate::decode(frame, version)
            .map_err(|error| self.malformed("SaslAuthenticate", error))?;
        let Phase::LoggingIn(login) = &mut self.phase else { return Ok(()) };
        if !answer.error.is_ok() {
            let said = answer.error_message.map(|words| format!(": {}", said(&words))).unwrap_or_default();
            let error = login.refused(&format!("{}{said}", answer.error));
            if let (Some(tokens), Some(token)) = (&settings.tokens, &self.token) {
                tokens.forget(&token.token);
            }
            return Err(self.refused(&error));
        }
        let step = login.step(Some(&answer.bytes));
        self.stepped(step, settings, now, heard, Some(answer.session_lifetime_ms))
    }

    fn stepped(
        &mut self,
        step: Result<Step, AuthError>,
        settings: &Settings,
        now: Instant,
        heard: &mut Vec<Heard>,
        lifetime_ms: Option<i64>,
    ) -> Result<(), Trouble> {
        match step.map_err(|error| self.refused(&error))? {
            Step::Send(bytes) => {
                let version = self.version(Api::SaslAuthenticate);
                let frame = protocol::sasl_authenticate(version, self.next_correlation_id, &settings.client_id, &bytes);
                self.ask(What::Authenticate, version, vec![frame.into()], now);
            }
            Step::Done => {
                // Well before the session ends, as the Java client does.
                let lifetime_ms = lifetime_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
                let after = |percent: u64| lifetime_ms.map(|ms| now + Duration::from_millis(ms / 100 * percent));
                self.login_due = after(85);
                self.token_due = after(75);
                self.be_ready(heard);
            }
        }
        Ok(())
    }

    // ---- time -------------------------------------------------------------------------------------------------

    /// What is due by now: the end of a set-up or of a request that took too long, a login, the end of an idle life.
    pub(super) fn tick(&mut self, settings: &Settings, now: Instant, heard: &mut Vec<Heard>) -> Result<(), Trouble> {
        self.muted_until = self.muted_until.filter(|until| *until > now);
        if self.token_due.take_if(|due| *due <= now).is_some()
            && let Some(tokens) = &settings.tokens
        {
            tokens.begin();
        }
        if self.set_up_by.is_some_and(|by| by <= now) {
            let waited = settings.connect_timeout.as_millis();
            return Err(self.trouble(format_args!("the connection was not set up within {waited} ms")));
        }
        if let Some(oldest) = self.asked.front()
            && oldest.at + settings.answer_timeout() <= now
        {
            let waited = settings.answer_timeout().as_millis();
            return Err(self.trouble(format_args!("no answer within {waited} ms")));
        }
        if self.stalled_since.is_some_and(|since| since + settings.answer_timeout() <= now) {
            let waited = settings.answer_timeout().as_millis();
            return Err(self.trouble(format_args!("the broker read nothing of what was sent for {waited} ms")));
        }
        if self.is_ready() && self.asked.is_empty() && self.login_due.is_some_and(|due| due <= now) {
            self.login_due = None;
            self.logs_in_again = true;
            self.set_up_by = Some(now + settings.connect_timeout);
            self.log_in(settings, now)?;
            return self.write(now, heard);
        }
        if self.is_idle() && self.is_aged(now) {
            return Err(Trouble::idle());
        }
        Ok(())
    }

    /// The next address, if the one that is tried takes too long.
    pub(super) fn try_next_address(&mut self, token: Token, registry: &Registry, now: Instant) -> Result<(), Trouble> {
        match &mut self.phase {
            Phase::Connecting { others, by, .. } if *by <= now && !others.is_empty() => {
                let others = std::mem::take(others);
                self.connect_to_one_of(others, None, token, registry, now)
            }
            _ => Ok(()),
        }
    }

    fn is_idle(&self) -> bool {
        self.is_ready() && self.asked.is_empty() && self.outgoing.is_empty()
    }

    /// Whether it has been set up: it may be about to log in again.
    pub(super) fn was_ready(&self) -> bool {
        self.is_ready() || self.login_due.is_some() || self.logs_in_again
    }

    /// Whether its life was as long as an idle one may be.
    pub(super) fn is_aged(&self, now: Instant) -> bool {
        self.last_used + IDLE <= now
    }

    /// When [`tick`](Connection::tick) has something to do.
    pub(super) fn due(&self, settings: &Settings) -> Option<Instant> {
        let answer = self.asked.front().map(|oldest| oldest.at + settings.answer_timeout());
        let next_address = match &self.phase {
            Phase::Connecting { others, by, .. } if !others.is_empty() => Some(*by),
            _ => None,
        };
        let idle = self.is_idle().then(|| self.last_used + IDLE);
        let stalled = self.stalled_since.map(|since| since + settings.answer_timeout());
        let login = self.login_due.filter(|_| self.asked.is_empty());
        [self.set_up_by, answer, next_address, idle, stalled, login, self.token_due, self.muted_until]
            .into_iter()
            .flatten()
            .min()
    }

    // ---- troubles ---------------------------------------------------------------------------------------------

    fn trouble(&self, words: std::fmt::Arguments<'_>) -> Trouble {
        Trouble::new(format!("{}: {words}", self.address))
    }

    fn malformed(&self, request: &str, error: Malformed) -> Trouble {
        self.trouble(format_args!("its answer to {request}: {error}"))
    }

    fn refused(&self, error: &AuthError) -> Trouble {
        Trouble::of_kind(StartupErrorKind::Authentication, format!("{}: {error}", self.address))
    }

    fn io_trouble(&self, error: &io::Error) -> Trouble {
        match TlsError::of(error) {
            Some(error) => self.tls_trouble(error),
            None => self.trouble(format_args!("the connection failed: {error}")),
        }
    }

    fn tls_trouble(&self, error: &TlsError) -> Trouble {
        let kind = error.is_lasting().then_some(StartupErrorKind::Tls);
        Trouble { kind, ..self.trouble(format_args!("{error}")) }
    }

    fn hung_up(&self) -> Trouble {
        match self.phase {
            Phase::Ready if self.is_idle() => Trouble::idle(),
            Phase::Ready => self.trouble(format_args!("the broker closed the connection")),
            Phase::LoggingIn(_) => self.trouble(format_args!("the broker closed the connection during the login")),
            _ => self.trouble(format_args!(
                "the broker closed the connection at once: does it expect TLS, or is it older than Kafka 0.10?"
            )),
        }
    }
}

/// Whether a socket that was to be connected is so by now.
fn is_connected(socket: &TcpStream) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        // What some systems say of a connection that is still being made.
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// From this version on a client tells its name.
const API_VERSIONS_WITH_NAME: i16 = 3;

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
