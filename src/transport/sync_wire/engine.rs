//! The producer's thread: it waits for its connections, and does what is due.
//!
//! A turn goes one way: hear what the connections say, take what the worker has handed over, give up what is too old,
//! ask for what is not known, send what can be sent, tell of outcomes, sleep.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::{Events, Poll, Token};

use super::address::Address;
use super::connection::{Connection, Heard, Sent};
use super::load::{self, Load, Way};
use super::murmur2;
use super::partition::{Partition, Verdict};
use super::protocol::{self, Api, ErrorCode};
use super::records::Encoder;
use super::session::Session;
use super::settings::{Idempotence, Settings};
use super::trouble::{Trouble, said};
use super::{Shared, Standing};
use crate::error::StartupErrorKind;
use crate::queue::Batch;
use crate::status::Health;
use crate::transport::pause::{Pause, chance};
use crate::transport::sync::LARGEST_PAYLOAD;
use crate::transport::{Call, Failure, Outcome};

/// Under which the poll reports that somebody woke the thread; connections have the numbers after it.
pub(super) const WAKER: Token = Token(0);

/// Requests under way on one connection. Kafka remembers the last five batches of a producer in a partition: with more,
/// it could not tell a repeated one.
const MOST_UNDER_WAY: usize = 5;

/// Metadata are asked for again after this, if nothing goes wrong before.
const METADATA_AGE: Duration = Duration::from_secs(5 * 60);

/// Readiness that is taken at once.
const EVENTS: usize = 64;

/// No sleep is longer, whatever is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

pub(super) struct Engine {
    settings: Settings,
    shared: Arc<Shared>,
    health: Arc<Health>,
    call: Call,
    poll: Poll,
    mail: Receiver<Mail>,
    mailbox: Sender<Mail>,

    connections: BTreeMap<usize, Connection>,
    next_connection: usize,
    bootstrap: Bootstrap,
    nodes: HashMap<i32, Node>,
    metadata: Metadata,
    topic_id: [u8; 16],
    partitions: Vec<Partition>,
    /// Whether a broker has ever known the topic.
    was_usable: bool,
    session: Session,
    /// Before a session is asked for again.
    session_pause: Pause,

    /// What the worker has handed over and is in no load yet, the oldest first.
    waiting: VecDeque<Batch>,
    sticky: Sticky,
    next_load: u64,
    encoder: Encoder,
    outcomes: Vec<Outcome>,
    spares: Vec<Batch>,
    heard: Vec<Heard>,
}

/// What other threads send to this one; it is woken for it.
enum Mail {
    Resolved(usize, io::Result<Vec<SocketAddr>>),
}

/// Connections to the servers of the configuration, one at a time.
struct Bootstrap {
    next: usize,
    /// How many have failed in a row.
    failed: usize,
    connection: Option<usize>,
    pause: Pause,
}

/// A broker of the cluster.
struct Node {
    address: Address,
    connection: Option<usize>,
    pause: Pause,
}

struct Metadata {
    /// Asked for as soon as there is a connection to ask on.
    wanted: bool,
    /// The connection that was asked.
    asked: Option<usize>,
    fresh_until: Instant,
    pause: Pause,
}

/// The partition that gets the next loads, for about as many bytes as one batch may have: small loads that follow each
/// other go to one broker, and full ones around.
struct Sticky {
    place: usize,
    left: usize,
}

impl Engine {
    pub(super) fn new(settings: Settings, shared: Arc<Shared>, health: Arc<Health>, call: Call, poll: Poll) -> Engine {
        let (mailbox, mail) = channel();
        let pause = || Pause::new(settings.retry_backoff);
        Engine {
            shared,
            health,
            call,
            poll,
            mail,
            mailbox,
            connections: BTreeMap::new(),
            next_connection: WAKER.0 + 1,
            // Not all clients begin with the same server.
            bootstrap: Bootstrap { next: chance() as usize, failed: 0, connection: None, pause: pause() },
            nodes: HashMap::new(),
            metadata: Metadata { wanted: true, asked: None, fresh_until: Instant::now(), pause: pause() },
            topic_id: [0; 16],
            partitions: Vec::new(),
            was_usable: false,
            session: if settings.idempotence == Idempotence::Off { Session::Off } else { Session::Wanted },
            session_pause: pause(),
            waiting: VecDeque::new(),
            sticky: Sticky { place: chance() as usize, left: 0 },
            next_load: 0,
            encoder: Encoder::default(),
            outcomes: Vec::new(),
            spares: Vec::new(),
            heard: Vec::new(),
            settings,
        }
    }

    /// Runs until it is told to stop. What has no outcome by then is given up with the client.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = Instant::now();
        loop {
            if !self.take_inbox() {
                return self.tell();
            }
            self.expire(now);
            self.tick(now);
            self.seek_metadata(now);
            self.seek_session(now);
            self.send(now);
            self.tell();

            let sleep = self.due(now).map_or(LONGEST_SLEEP, |due| due.saturating_duration_since(now));
            match self.poll.poll(&mut events, Some(sleep.min(LONGEST_SLEEP))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Without it nothing can be heard: the worker makes another client.
                Err(error) => panic!("the readiness of connections cannot be waited for: {error}"),
            }
            now = Instant::now();
            for event in &events {
                self.drive(event.token().0, now);
            }
            while let Ok(mail) = self.mail.try_recv() {
                self.open_mail(mail, now);
            }
            self.look_for_tokens(now);
        }
    }

    // ---- the worker -------------------------------------------------------------------------------------------

    /// Takes what was handed over; false when it is time to end.
    fn take_inbox(&mut self) -> bool {
        let mut inbox = self.shared.inbox.lock();
        self.waiting.append(&mut inbox.batches);
        if inbox.stop && inbox.give_back {
            // What was sent and has no answer too: it may be there twice then.
            let mut sent: Vec<Load> = self.partitions.iter_mut().flat_map(Partition::take_all).collect();
            sent.sort_by_key(Load::oldest);
            inbox.batches = sent.into_iter().flat_map(Load::into_batches).chain(self.waiting.drain(..)).collect();
        }
        !inbox.stop
    }

    /// Tells of outcomes, and of room.
    fn tell(&mut self) {
        if !self.spares.is_empty() {
            self.shared.recycle(&mut self.spares);
        }
        if !self.outcomes.is_empty() {
            self.shared.outcomes.lock().append(&mut self.outcomes);
            (self.call)();
        }
    }

    /// Bytes have left the waiting ones.
    fn left(&self, bytes: usize) {
        if self.shared.left(bytes) {
            (self.call)();
        }
    }

    // ---- hearing ----------------------------------------------------------------------------------------------

    fn drive(&mut self, token: usize, now: Instant) {
        let mut heard = mem::take(&mut self.heard);
        if let Some(connection) = self.connections.get_mut(&token) {
            let driven = connection.drive(Token(token), self.poll.registry(), &self.settings, now, &mut heard);
            self.hear(token, driven, &mut heard, now);
        }
        self.heard = heard;
    }

    /// Takes what a connection has said, and then its trouble, if it has any.
    fn hear(&mut self, token: usize, result: Result<(), Trouble>, heard: &mut Vec<Heard>, now: Instant) {
        for heard in heard.drain(..) {
            match heard {
                Heard::Ready => self.connected(token),
                Heard::Metadata(answer) => self.take_metadata(token, answer, now),
                Heard::ProducerId(answer) => self.take_producer_id(answer),
                Heard::Produced(sent, produced) => {
                    self.conclude(sent, produced.error, produced.base_offset, produced.error_message.as_deref());
                }
                Heard::Written(sent) => self.conclude(sent, ErrorCode::NONE, -1, None),
            }
        }
        if let Err(trouble) = result {
            self.broken(token, &trouble, now);
        }
    }

    fn open_mail(&mut self, mail: Mail, now: Instant) {
        let Mail::Resolved(token, found) = mail;
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let result = connection.resolved(found, Token(token), self.poll.registry(), now);
        self.hear(token, result, &mut Vec::new(), now);
    }

    fn connected(&mut self, token: usize) {
        match self.connections.get(&token).and_then(|connection| connection.node) {
            Some(node) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.pause.reset();
                }
            }
            None => {
                self.bootstrap.pause.reset();
                self.bootstrap.failed = 0;
            }
        }
    }

    /// A token may have come for those who wait for one.
    fn look_for_tokens(&mut self, now: Instant) {
        if self.settings.tokens.is_none() {
            return;
        }
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        let mut heard = mem::take(&mut self.heard);
        for token in tokens {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            let result = connection.look_for_token(&self.settings, now, &mut heard);
            self.hear(token, result, &mut heard, now);
        }
        self.heard = heard;
    }

    // ---- connections ------------------------------------------------------------------------------------------

    /// Begins to connect.
    fn connect(&mut self, node: Option<i32>, address: Address, now: Instant) -> usize {
        let token = self.next_connection;
        self.next_connection += 1;
        let (mailbox, shared) = (self.mailbox.clone(), Arc::clone(&self.shared));
        let found = address.look_up(move |found| {
            let _ = mailbox.send(Mail::Resolved(token, found));
            let _ = shared.waker.wake();
        });
        self.connections.insert(token, Connection::new(node, address, &self.settings, now));
        if let Some(address) = found {
            // By the same way as one that was looked up: whoever asked for the connection knows of it by then.
            let _ = self.mailbox.send(Mail::Resolved(token, Ok(vec![address])));
            let _ = self.shared.waker.wake();
        }
        token
    }

    /// A connection to this node that takes requests, or the beginning of one.
    fn connection_to(&mut self, id: i32, now: Instant) -> Option<usize> {
        let node = self.nodes.get(&id)?;
        if let Some(token) = node.connection {
            return self.connections.get(&token).filter(|connection| connection.takes(now)).map(|_| token);
        }
        if node.pause.left(now).is_none() {
            let address = node.address.clone();
            let token = self.connect(Some(id), address, now);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.connection = Some(token);
            }
        }
        None
    }

    /// What is due on the connections by now.
    fn tick(&mut self, now: Instant) {
        let due = |connection: &Connection| connection.due(&self.settings).is_some_and(|due| due <= now);
        let tokens: Vec<usize> =
            self.connections.iter().filter(|(_, connection)| due(connection)).map(|(token, _)| *token).collect();
        let mut heard = mem::take(&mut self.heard);
        for token in tokens {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            let result = connection
                .try_next_address(Token(token), self.poll.registry(), now)
                .and_then(|()| connection.tick(&self.settings, now, &mut heard));
            self.hear(token, result, &mut heard, now);
        }
        self.heard = heard;
        self.leave_behind(now);
    }

    /// Ends connections that are of no use any more: to a bootstrap server, beside those to the cluster's brokers, and to
    /// brokers that the cluster has no more, or elsewhere.
    fn leave_behind(&mut self, now: Instant) {
        let has_others = self.connections.iter().any(|(token, connection)| {
            connection.node.is_some() && self.is_current(*token, connection) && connection.takes(now)
        });
        let ended = |token: &usize, connection: &Connection| {
            let is_left = if connection.node.is_some() {
                !self.is_current(*token, connection)
            } else {
                has_others && connection.is_ready()
            };
            is_left && connection.under_way() == 0
        };
        let tokens: Vec<usize> = self
            .connections
            .iter()
            .filter(|(token, connection)| ended(token, connection))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.connections.remove(&token);
            self.bootstrap.connection.take_if(|bootstrap| *bootstrap == token);
            // Without acknowledgements nothing is waited for on it, and still a load may be half written.
            self.partitions.iter_mut().for_each(|partition| partition.lose(token));
        }
    }

    /// Whether this is the connection to a bootstrap server, or to a broker where the cluster has it.
    fn is_current(&self, token: usize, connection: &Connection) -> bool {
        match connection.node {
            Some(node) => self.nodes.get(&node).is_some_and(|node| node.connection == Some(token)),
            None => self.bootstrap.connection == Some(token),
        }
    }

    /// A connection has ended: what was under way on it is sent again.
    fn broken(&mut self, token: usize, trouble: &Trouble, now: Instant) {
        let Some(connection) = self.connections.remove(&token) else { return };
        for partition in &mut self.partitions {
            partition.lose(token);
            if partition.leader.is_some() && partition.leader == connection.node {
                partition.doubt();
            }
        }
        self.session.lose(token);
        if self.metadata.asked == Some(token) {
            self.metadata.asked = None;
        }
        let was_current = self.is_current(token, &connection);
        let pause = match connection.node {
            _ if !was_current => None,
            Some(node) => self.nodes.get_mut(&node).map(|node| {
                node.connection = None;
                &mut node.pause
            }),
            None => {
                self.bootstrap.connection = None;
                self.bootstrap.next = self.bootstrap.next.wrapping_add(1);
                self.bootstrap.failed += usize::from(!trouble.idle);
                Some(&mut self.bootstrap.pause)
            }
        };
        if trouble.idle {
            // Whether the broker is still there shows when it is asked for metadata.
            self.metadata.wanted |= !connection.is_aged(now);
            return;
        }
        if let Some(pause) = pause {
            pause.begin();
        }
        self.metadata.wanted = true;
        if self.connections.values().any(Connection::is_ready) {
            self.health.error(trouble.words.clone());
        } else {
            self.health.down(trouble.words.clone());
        }
        // One bootstrap server may be wrong where the others are right.
        if !was_current || (connection.node.is_none() && self.bootstrap.failed < self.settings.servers.len()) {
            return;
        }
        match trouble.kind {
            // One broker of a cluster may be a stray; where no server of the configuration is newer, all are.
            Some(_) if trouble.too_old && (connection.node.is_none() || !self.was_usable) => {
                self.shared.stands(Standing::TooOld(trouble.words.clone()));
                // So that the worker looks.
                (self.call)();
            }
            Some(kind) => self.shared.stands(Standing::Bad(kind, trouble.words.clone())),
            None => self.shared.stands(Standing::Unknown),
        }
    }

    // ---- metadata ---------------------------------------------------------------------------------------------

    fn seek_metadata(&mut self, now: Instant) {
        self.metadata.wanted |= self.metadata.fresh_until <= now;
        if !self.metadata.wanted || self.metadata.asked.is_some() || self.metadata.pause.left(now).is_some() {
            return;
        }
        // Of those that have the least to do the one that has last answered: another may have gone away unseen.
        let candidates = self.connections.iter().filter(|(token, connection)| self.is_current(**token, connection));
        let candidates = candidates.filter(|(_, connection)| connection.takes(now));
        let best = candidates.min_by_key(|(_, connection)| (connection.under_way(), Reverse(connection.last_used())));
        if let Some(token) = best.map(|(token, _)| *token) {
            self.metadata.asked = Some(token);
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.ask_for_metadata(&self.settings, now);
            }
            self.flush(token, now);
        } else if self.connections.values().any(|connection| connection.node.is_some() && connection.was_ready()) {
            // It is about to log in again.
        } else if self.bootstrap.connection.is_none() && self.bootstrap.pause.left(now).is_none() {
            let servers = &self.settings.servers;
            let Some(server) = servers.get(self.bootstrap.next % servers.len().max(1)) else { return };
            let address = server.clone();
            self.bootstrap.connection = Some(self.connect(None, address, now));
        }
    }

    fn take_metadata(&mut self, token: usize, answer: protocol::Metadata, now: Instant) {
        self.metadata.asked = None;
        self.metadata.fresh_until = now + METADATA_AGE;
        if answer.topic_error == ErrorCode::REBOOTSTRAP_REQUIRED {
            return self.forget_cluster(token, now);
        }
        self.take_brokers(token, &answer.brokers);
        let problem = if answer.topic_error.is_ok() {
            self.take_partitions(&answer);
            let leaders = self.partitions.iter().filter(|partition| self.has_leader(partition)).count();
            (leaders < self.partitions.len() || leaders == 0).then(|| {
                format!(
                    "{leaders} of {} partitions of the topic {} have a leader",
                    self.partitions.len(),
                    self.settings.route.topic
                )
            })
        } else {
            Some(self.topic_problem(answer.topic_error))
        };
        self.metadata.wanted = problem.is_some();
        let is_usable = self.partitions.iter().any(|partition| self.has_leader(partition));
        if is_usable && answer.topic_error.is_ok() {
            self.was_usable = true;
            self.stand_good();
        }
        match problem {
            None => self.metadata.pause.reset(),
            Some(words) => {
                self.metadata.pause.begin();
                let is_refusal = answer.topic_error.refuses_topic();
                let kind = if is_refusal { StartupErrorKind::Refused } else { StartupErrorKind::UnknownTopic };
                if is_refusal {
                    self.refuse_waiting(&words);
                }
                if !is_usable || is_refusal {
                    self.health.down(words.clone());
                    self.shared.stands(Standing::Bad(kind, words));
                } else {
                    self.health.error(words);
                }
            }
        }
    }

    /// Whether it is known who leads the partition, and where that is: an answer that is older than the last election may
    /// leave the leader out.
    fn has_leader(&self, partition: &Partition) -> bool {
        partition.leader.is_some_and(|leader| self.nodes.contains_key(&leader))
    }

    /// A broker says that we are not where we should be: all begins again with the servers of the configuration.
    fn forget_cluster(&mut self, token: usize, now: Instant) {
        self.nodes.clear();
        self.metadata.pause.begin();
        self.broken(token, &Trouble::new("the broker asked for a new beginning with the bootstrap servers"), now);
    }

    /// Records can be delivered now.
    fn stand_good(&self) {
        if self.was_usable && self.session.producer().is_some() {
            self.health.up();
            self.shared.stands(Standing::Good);
        }
    }

    fn topic_problem(&self, error: ErrorCode) -> String {
        let topic = &self.settings.route.topic;
        match error {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => format!(
                "the topic {topic} does not exist or may not be seen, and is not created by itself: create it first"
            ),
            error => format!("topic {topic}: the broker answered {error}"),
        }
    }

    fn take_brokers(&mut self, token: usize, brokers: &[protocol::Broker]) {
        // An answer without brokers comes from one that has just started, and says nothing.
        if brokers.is_empty() {
            return;
        }
        let there: HashSet<i32> = brokers.iter().map(|broker| broker.id).collect();
        // What is under way there may still be answered; nothing new goes there.
        self.nodes.retain(|id, _| there.contains(id));
        for broker in brokers {
            let address = Address { host: broker.host.clone(), port: broker.port };
            match self.nodes.get_mut(&broker.id) {
                Some(node) if node.address == address => {}
                Some(node) => {
                    node.address = address;
                    node.connection = None;
                    node.pause.reset();
                }
                None => {
                    let pause = Pause::new(self.settings.retry_backoff);
                    self.nodes.insert(broker.id, Node { address, connection: None, pause });
                }
            }
        }
        self.adopt_bootstrap(token);
    }

    /// A bootstrap server that is addressed just as a broker advertises itself is that broker.
    fn adopt_bootstrap(&mut self, token: usize) {
        if self.bootstrap.connection != Some(token) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let found =
            self.nodes.iter_mut().find(|(_, node)| node.address == connection.address && node.connection.is_none());
        if let Some((id, node)) = found {
            node.connection = Some(token);
            connection.node = Some(*id);
            self.bootstrap.connection = None;
        }
    }

    fn take_partitions(&mut self, answer: &protocol::Metadata) {
        let is_another_topic = self.topic_id != answer.topic_id;
        self.topic_id = answer.topic_id;
        // Both are in the order of their indices.
        let mut known = mem::take(&mut self.partitions).into_iter().peekable();
        for found in &answer.partitions {
            // Partitions never go, but with their topic; what was sent there waits for its timeout.
            while let Some(gone) = known.next_if(|partition| partition.index < found.index) {
                if !gone.is_idle() {
                    self.partitions.push(gone.without_leader());
                }
            }
            let known = known.next_if(|partition| partition.index == found.index);
            let mut partition = known.unwrap_or_else(|| Partition::new(found.index, self.settings.retry_backoff));
            if is_another_topic {
                partition.doubt();
            }
            // An answer from a broker that has not heard of the last election does not undo it.
            if is_another_topic || found.leader_epoch < 0 || found.leader_epoch >= partition.leader_epoch {
                partition.leader_epoch = found.leader_epoch;
                partition.leader = Some(found.leader).filter(|leader| self.nodes.contains_key(leader));
            }
            self.partitions.push(partition);
        }
        let gone = known.filter(|partition| !partition.is_idle());
        self.partitions.extend(gone.map(Partition::without_leader));
    }

    // ---- the session ------------------------------------------------------------------------------------------

    fn seek_session(&mut self, now: Instant) {
        if self.session != Session::Wanted || self.session_pause.left(now).is_some() {
            return;
        }
        let ready = self.connections.iter_mut().filter(|(_, connection)| connection.takes(now));
        let latest = ready.max_by_key(|(_, connection)| connection.last_used());
        if let Some((token, connection)) = latest {
            let token = *token;
            if !connection.has(Api::InitProducerId) {
                return self.do_without_session("the broker gives no producer ids");
            }
            connection.ask_for_producer_id(&self.settings, now);
            self.session = Session::Asked { connection: token };
            self.flush(token, now);
        }
    }

    /// A default gives way.
    fn do_without_session(&mut self, why: &str) {
        self.health.error(format!("{why}: going on without idempotence"));
        self.session = Session::Off;
        self.stand_good();
    }

    fn take_producer_id(&mut self, answer: protocol::InitProducerId) {
        if !matches!(self.session, Session::Asked { .. }) {
            return;
        }
        if answer.error.is_ok() && answer.producer_id >= 0 {
            self.session_pause.reset();
            self.session = Session::Open { id: answer.producer_id, epoch: answer.epoch };
            return self.stand_good();
        }
        let refused = answer.error == ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        if refused && self.settings.idempotence == Idempotence::Preferred {
            // Brokers before 2.8 permit it apart.
            return self.do_without_session("the broker does not permit idempotent producing");
        }
        self.session_pause.begin();
        let words = format!("the broker gave no producer id: it answered {}", answer.error);
        if refused {
            self.shared.stands(Standing::Bad(StartupErrorKind::Refused, words.clone()));
        }
        self.health.down(words);
        self.session = Session::Wanted;
    }

    // ---- sending ----------------------------------------------------------------------------------------------

    /// Sends what can be sent: what goes again first, then what is new.
    fn send(&mut self, now: Instant) {
        for place in 0..self.partitions.len() {
            if self.session.producer().is_some_and(|producer| self.partitions[place].wants_epoch(producer)) {
                self.session.raise_epoch();
            }
            let Some(producer) = self.session.producer() else { return };
            self.partitions[place].adopt(producer);
            self.send_waiting(place, now);
        }
        self.refuse_giants();
        while let Some(place) = self.place_for_new(now) {
            let id = self.next_load;
            let most = self.settings.batch_bytes.saturating_sub(super::records::BATCH_OVERHEAD).max(1);
            let key = self.key_length();
            let Some(load) = Load::gather(id, &mut self.waiting, most, key) else { return };
            self.next_load += 1;
            let bytes = load.bytes();
            self.sticky.left = self.sticky.left.saturating_sub(bytes);
            self.left(bytes);
            self.partitions[place].add(load);
            self.send_waiting(place, now);
        }
    }

    /// Sends the loads of a partition that wait for an attempt, as far as its leader's connection takes them.
    fn send_waiting(&mut self, place: usize, now: Instant) {
        while self.partitions[place].has_waiting() {
            let Some(leader) = self.partitions[place].leader else { return };
            let Some(token) = self.connection_to(leader, now) else { return };
            let Some(connection) = self.connections.get_mut(&token) else { return };
            if !connection.takes_records(MOST_UNDER_WAY, now) {
                return;
            }
            let most = most_of_a_partition(self.session, connection);
            let partition = &mut self.partitions[place];
            let index = partition.index;
            let producer = partition.producer();
            let Some(load) = partition.next_to_send(token, most, now) else { return };
            match load.encode(
                &mut self.encoder,
                self.settings.compression,
                producer,
                self.settings.route.key.as_deref(),
            ) {
                Ok(batch) => {
                    let (sequence, sent) = (load.sequence, Sent { partition: index, load: load.id });
                    load.way = Way::UnderWay { connection: token, sequence };
                    connection.produce(sent, batch, self.topic_id, &self.settings, now);
                    self.flush(token, now);
                }
                Err(failed) => {
                    let load = partition.take_first_waiting();
                    let failure = self.failure(&format!("it could not be compressed: {failed}"));
                    load.into_iter().for_each(|load| load.failed(&failure, &mut self.outcomes));
                }
            }
        }
    }

    /// The partition for the next load that is new, if there is something to send and a broker to take it.
    fn place_for_new(&mut self, now: Instant) -> Option<usize> {
        if !self.is_due(now) || self.partitions.is_empty() {
            return None;
        }
        let count = self.partitions.len();
        let first = if self.sticky.left == 0 { self.sticky.place.wrapping_add(1) } else { self.sticky.place };
        // A key decides, whether that partition's leader is there or not; without one the partitions take turns.
        let keyed = self.settings.route.key.as_deref().map(|key| murmur2::partition(key, count));
        let places = keyed.map_or(0..count, |place| place..place + 1);
        let mut may_connect = true;
        for place in places.map(|step| if keyed.is_some() { step } else { first.wrapping_add(step) % count }) {
            let partition = &self.partitions[place];
            let Some(leader) = partition.leader else { continue };
            let Some(node) = self.nodes.get(&leader) else { continue };
            // One new connection at a time: few records need few of them.
            if node.connection.is_none() && (node.pause.left(now).is_some() || !mem::take(&mut may_connect)) {
                continue;
            }
            let token = self.connection_to(leader, now);
            let Some(connection) = token.and_then(|token| self.connections.get(&token)) else { continue };
            let most = most_of_a_partition(self.session, connection);
            if self.partitions[place].takes_new(most) && connection.takes_records(MOST_UNDER_WAY, now) {
                if self.sticky.left == 0 || self.sticky.place % count != place {
                    self.sticky = Sticky { place, left: self.settings.batch_bytes };
                }
                return Some(place);
            }
        }
        None
    }

    /// Whether there is a full load, or one that has waited for long enough.
    fn is_due(&self, now: Instant) -> bool {
        match load::oldest(self.waiting.iter()) {
            None => false,
            Some(oldest) => oldest + self.settings.linger <= now || self.has_full_load(),
        }
    }

    fn key_length(&self) -> usize {
        self.settings.route.key.as_ref().map_or(0, |key| key.len())
    }

    fn has_full_load(&self) -> bool {
        let (mut size, key) = (0, self.key_length());
        self.waiting.iter().any(|batch| {
            size += load::size_bound(batch, key);
            size >= self.settings.batch_bytes
        })
    }

    /// Writes what was asked.
    fn flush(&mut self, token: usize, now: Instant) {
        let mut heard = Vec::new();
        if let Some(connection) = self.connections.get_mut(&token) {
            let written = connection.write(now, &mut heard);
            self.hear(token, written, &mut heard, now);
        }
    }

    // ---- outcomes ---------------------------------------------------------------------------------------------

    /// Takes what a broker says of a load.
    fn conclude(&mut self, sent: Sent, error: ErrorCode, base_offset: i64, said_by_broker: Option<&str>) {
        let Ok(place) = self.partitions.binary_search_by_key(&sent.partition, |partition| partition.index) else {
            return;
        };
        let partition = &mut self.partitions[place];
        let next_load = &mut self.next_load;
        let verdict = partition.conclude(sent.load, error, || {
            *next_load += 1;
            *next_load - 1
        });
        if !error.is_ok() && error != ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            let said = said_by_broker.map(|words| format!(" ({})", said(words))).unwrap_or_default();
            let words = format!(
                "topic {}: the broker answered {error}{said} for partition {}",
                self.settings.route.topic, sent.partition
            );
            match verdict {
                Some(Verdict::Refused(load)) => {
                    let possibly_delivered = load.maybe_there;
                    let failure = Failure {
                        possibly_delivered,
                        wanted: self.settings.wants_payloads,
                        ..Failure::rejected(words)
                    };
                    load.failed(&failure, &mut self.outcomes);
                }
                Some(Verdict::StartOver) => self.health.error(words),
                // Expected behind a load that is sent again, so it tells nothing.
                _ if error.is_about_producer() => {}
                _ => self.health.error(words),
            }
            self.metadata.wanted |= error.wants_metadata();
        } else if let Some(Verdict::Delivered(load)) = verdict {
            let offset = Some(base_offset).filter(|offset| *offset >= 0 && error.is_ok());
            load.delivered(sent.partition, offset, &mut self.outcomes, &mut self.spares);
        }
    }

    /// Gives up records whose delivery timeout has passed.
    fn expire(&mut self, now: Instant) {
        let Some(limit) = load::limit(now, self.settings.delivery_timeout) else { return };
        let oldest_sent = self.partitions.iter().flat_map(Partition::loads).filter_map(Load::oldest).min();
        let oldest = load::oldest(self.waiting.iter()).into_iter().chain(oldest_sent).min();
        if oldest.is_none_or(|oldest| oldest > limit) {
            return;
        }
        let timed_out = crate::transport::timed_out(
            &self.settings.route.topic,
            self.settings.delivery_timeout,
            self.health.last_heard(),
        );
        let never_sent = Failure { wanted: self.settings.wants_payloads, ..timed_out };
        let maybe_there = Failure { possibly_delivered: true, ..never_sent.clone() };
        let mut bytes = 0;
        while let Some(batch) = self.waiting.front_mut() {
            let before = batch.bytes();
            load::expire(batch, limit, &never_sent, &mut self.outcomes);
            bytes += before - batch.bytes();
            if !batch.is_empty() {
                break;
            }
            self.spares.extend(self.waiting.pop_front().and_then(Batch::emptied));
        }
        self.left(bytes);
        for partition in &mut self.partitions {
            partition.expire(|load| {
                let in_doubt = load.maybe_there || load.way != Way::Waits;
                load.expire(limit, if in_doubt { &maybe_there } else { &never_sent }, &mut self.outcomes);
            });
        }
    }

    /// Gives up records that no broker takes, and that would cost the connection. Each has a batch to itself.
    fn refuse_giants(&mut self) {
        while let Some(place) = self.waiting.iter().position(|batch| batch.bytes() > LARGEST_PAYLOAD) {
            let Some(mut giant) = self.waiting.remove(place) else { return };
            let bytes = giant.bytes();
            let failure = self.failure(&format!("a payload of {bytes} bytes is too large"));
            load::fail(&mut giant, usize::MAX, &failure, &mut self.outcomes);
            self.left(bytes);
        }
    }

    /// Another attempt cannot help any record that waits.
    fn refuse_waiting(&mut self, words: &str) {
        let failure = Failure { wanted: self.settings.wants_payloads, ..Failure::rejected(words) };
        let mut bytes = 0;
        for mut batch in mem::take(&mut self.waiting) {
            bytes += batch.bytes();
            load::fail(&mut batch, usize::MAX, &failure, &mut self.outcomes);
            self.spares.extend(batch.emptied());
        }
        self.left(bytes);
    }

    fn failure(&self, words: &str) -> Failure {
        let failure = Failure::rejected(format!("topic {}: {words}", self.settings.route.topic));
        Failure { wanted: self.settings.wants_payloads, ..failure }
    }

    // ---- time -------------------------------------------------------------------------------------------------

    /// When there is something to do without any word from outside.
    fn due(&self, now: Instant) -> Option<Instant> {
        let connections = self.connections.values().filter_map(|connection| connection.due(&self.settings));
        let pauses = self.pauses().filter_map(|pause| pause.left(now)).map(|left| now + left);
        let again = self.partitions.iter().filter_map(|partition| partition.pause_left(now)).map(|left| now + left);
        let sent = self.partitions.iter().flat_map(Partition::loads).filter_map(Load::oldest);
        let oldest = load::oldest(self.waiting.iter());
        let expiry = oldest.into_iter().chain(sent).map(|oldest| oldest + self.settings.delivery_timeout);
        // Once it has passed, what waits does so for a broker, and goes when one takes it.
        let linger = oldest.map(|oldest| oldest + self.settings.linger).filter(|due| *due > now);
        let metadata = (self.metadata.asked.is_none() && !self.metadata.wanted).then_some(self.metadata.fresh_until);
        connections.chain(pauses).chain(again).chain(expiry).chain(linger).chain(metadata).min()
    }

    fn pauses(&self) -> impl Iterator<Item = &Pause> {
        let nodes = self.nodes.values().map(|node| &node.pause);
        nodes.chain([&self.bootstrap.pause, &self.metadata.pause, &self.session_pause])
    }
}

/// Loads under way for one partition: without numbers, one that comes again must not come after a later one; and Kafka
/// 0.11 remembers only the last batch of a producer.
fn most_of_a_partition(session: Session, connection: &Connection) -> usize {
    const PRODUCE_OF_KAFKA_1: i16 = 5;
    let remembers = connection.version(Api::Produce) >= PRODUCE_OF_KAFKA_1;
    if session == Session::Off || !remembers { 1 } else { MOST_UNDER_WAY }
}
