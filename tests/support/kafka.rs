//! Real Apache Kafka brokers, run from their jars.

use std::env;
use std::path::Path;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::jars;
use super::ports;
use super::proxy::Proxy;
use super::server::{self, Server};

pub use super::jars::missing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3_9_1,
    V4_4_0,
}

impl Version {
    pub const ALL: [Version; 2] = [Version::V3_9_1, Version::V4_4_0];

    pub fn as_str(self) -> &'static str {
        match self {
            Version::V3_9_1 => "3.9.1",
            Version::V4_4_0 => "4.4.0",
        }
    }

    /// The release whose console consumer reads from this broker.
    ///
    /// Maven Central has no `kafka-tools` 4.4.0, so the last release before it reads there.
    pub fn tools(self) -> &'static str {
        match self {
            Version::V3_9_1 => "3.9.1",
            Version::V4_4_0 => "4.3.1",
        }
    }
}

/// Whether tests must fail, rather than say so and pass, when brokers cannot run here.
pub fn required() -> bool {
    env::var("KAFKA_LOG_REQUIRE_BROKER").is_ok_and(|value| value == "1")
}

/// The broker that the tests of this process share; panics when it cannot be started.
///
/// It is never dropped: its guardian ends it and removes its data after this process.
pub fn shared(version: Version) -> &'static Broker {
    static SHARED: [OnceLock<Broker>; Version::ALL.len()] = [const { OnceLock::new() }; Version::ALL.len()];
    SHARED[version as usize].get_or_init(|| {
        Broker::start(version, &[]).unwrap_or_else(|error| panic!("no Kafka {}: {error}", version.as_str()))
    })
}

/// A one-node cluster. Its methods panic when the broker does not do as told.
pub struct Broker {
    version: Version,
    bootstrap: String,
    server: Mutex<Server>,
}

impl Broker {
    /// Starts a broker with `extra` server properties, which override those used here.
    pub fn start(version: Version, extra: &[(&str, &str)]) -> Result<Broker, String> {
        Broker::start_somewhere(version, extra, None)
    }

    /// Starts a broker that clients can also reach through a proxy, and only through it.
    ///
    /// Clients go on from their bootstrap address to what the broker advertises on the
    /// listener they came to. So the proxy leads to a listener of its own that advertises
    /// the proxy, while `bootstrap()` stays a direct way for tests to look behind it.
    pub fn start_behind_proxy(version: Version, extra: &[(&str, &str)]) -> Result<(Broker, Proxy), String> {
        // The proxy comes first, for its address; it learns where to lead to below.
        let proxy = Proxy::start(String::new());
        let broker = Broker::start_behind(version, extra, &proxy)?;
        Ok((broker, proxy))
    }

    /// The same behind a proxy that there is already, which is led to this broker.
    pub fn start_behind(version: Version, extra: &[(&str, &str)], proxy: &Proxy) -> Result<Broker, String> {
        Broker::start_somewhere(version, extra, Some(proxy))
    }

    /// "127.0.0.1:port", without a proxy in between.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The id of the broker's process, which must run.
    pub fn pid(&self) -> u32 {
        self.server.lock().pid()
    }

    /// Shuts the broker down in good order and waits for its end. The data stays.
    pub fn stop(&self) {
        let mut server = self.server.lock();
        assert!(
            server.terminate(Duration::from_secs(60)).is_some(),
            "the broker at {} had to be killed; its log ends:\n{}",
            self.bootstrap,
            server.log_tail()
        );
    }

    /// Kills the broker at once, if it runs. The data stays.
    pub fn kill(&self) {
        self.server.lock().kill();
    }

    /// Starts the broker after a stop or kill, with the same ports and data.
    pub fn start_again(&self) {
        self.server.lock().start().unwrap_or_else(|error| panic!("cannot start again: {error}"));
    }

    /// Stops the process in its tracks: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.server.lock().signal(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.server.lock().signal(libc::SIGCONT);
    }

    /// Another process may take a port before the broker does, so there are some tries.
    fn start_somewhere(version: Version, extra: &[(&str, &str)], proxy: Option<&Proxy>) -> Result<Broker, String> {
        const TRIES: usize = 3;
        let mut errors = Vec::new();
        while errors.len() < TRIES {
            match Broker::try_start(version, extra, proxy) {
                Ok(broker) => return Ok(broker),
                Err(error) => errors.push(error),
            }
        }
        Err(errors.join("\n"))
    }

    fn try_start(version: Version, extra: &[(&str, &str)], proxy: Option<&Proxy>) -> Result<Broker, String> {
        let jars = jars::of(version)?;
        let number = next();
        let directory = jars::root().join(format!("run-{}-{number}", process::id()));
        let bootstrap = loopback()?;
        let properties = properties(&directory, &bootstrap, proxy, extra)?;
        let cluster = cluster_id(number);
        let mut server = Server::format(directory, &jars, bootstrap.clone(), cluster, &properties)?;
        server.start()?;
        Ok(Broker { version, bootstrap, server: Mutex::new(server) })
    }
}

fn properties(
    directory: &Path,
    bootstrap: &str,
    proxy: Option<&Proxy>,
    extra: &[(&str, &str)],
) -> Result<String, String> {
    let controller = loopback()?;
    let mut listeners = format!("PLAINTEXT://{bootstrap},CONTROLLER://{controller}");
    let mut advertised = format!("PLAINTEXT://{bootstrap}");
    if let Some(proxy) = proxy {
        let proxied = loopback()?;
        listeners += &format!(",PROXIED://{proxied}");
        advertised += &format!(",PROXIED://{}", proxy.address());
        proxy.set_upstream(proxied);
    }

    let voters = format!("1@{controller}");
    let data = server::data(directory).display().to_string();
    let defaults = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.voters", &voters),
        ("listeners", &listeners),
        ("advertised.listeners", &advertised),
        ("controller.listener.names", "CONTROLLER"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT"),
        ("log.dirs", &data),
        ("auto.create.topics.enable", "false"),
        ("group.initial.rebalance.delay.ms", "0"),
        // A killed broker is let in again only after the session of its earlier life.
        ("broker.session.timeout.ms", "3000"),
        ("broker.heartbeat.interval.ms", "500"),
        // One broker holds everything, and few partitions are quicker to make.
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "1"),
    ];
    let is_overridden = |name: &str| extra.iter().any(|(key, _)| *key == name);
    Ok(defaults
        .iter()
        .filter(|(key, _)| !is_overridden(key))
        .chain(extra)
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect())
}

fn loopback() -> Result<String, String> {
    Ok(format!("127.0.0.1:{}", ports::free()?))
}

/// A random-looking UUID in Kafka's form, unpadded base64url of 16 bytes: 22 characters.
///
/// Only the ids of brokers that run at the same time have to differ. The first character
/// is never a dash, which the storage tool would take for an option, and the last one
/// stands for two bits only.
fn cluster_id(number: u64) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").subsec_nanos();
    format!("kl{:08x}{nanos:08x}{:03x}A", process::id(), number & 0xfff)
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
