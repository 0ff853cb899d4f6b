//! Real Apache Kafka brokers, run from their jars.

use std::env;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::jars::{self, Jars};
use super::ports;
use super::process::stands_still;
use super::properties::{Node, Properties};
use super::proxy::Proxy;
use super::server::{Plan, Server};
use super::wait;

#[allow(unused_imports)] // The benchmark asks for no leave.
pub use super::jars::missing;

/// Bounds how long a process takes to stand still.
const FREEZE: Duration = Duration::from_secs(10);

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

/// A node of a cluster, most often the only one. Its methods panic when the broker does not do as told.
pub struct Broker {
    version: Version,
    bootstrap: String,
    directory: PathBuf,
    server: Mutex<Server>,
}

impl Broker {
    /// Starts a broker with `extra` server properties, which override those used here.
    pub fn start(version: Version, extra: &[(&str, &str)]) -> Result<Broker, String> {
        Broker::start_configured(version, &[], |properties| {
            extra.iter().for_each(|(name, value)| properties.set(name, *value));
            Ok(())
        })
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
        Broker::start_configured(version, &[], |properties| {
            extra.iter().for_each(|(name, value)| properties.set(name, *value));
            lead_through(proxy, properties)
        })
    }

    /// Starts a broker whose properties are changed by `configure`, with these users of SCRAM.
    ///
    /// `configure` is called for each try, and is to take new ports each time.
    pub fn start_configured(
        version: Version,
        scram: &[String],
        configure: impl FnMut(&mut Properties) -> Result<(), String>,
    ) -> Result<Broker, String> {
        let mut brokers = start_nodes(version, 1, scram, configure)?;
        Ok(brokers.remove(0))
    }

    /// "127.0.0.1:port", without a proxy in between.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.clone()
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Where its files are. All of it is removed when the broker is dropped, and when this process ends.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The id of the broker's process, which must run.
    pub fn pid(&self) -> u32 {
        self.server.lock().pid()
    }

    pub fn runs(&self) -> bool {
        self.server.lock().runs()
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

    /// Gives the broker an empty disk, as if it were new to its cluster, after a stop or kill.
    pub fn wipe(&self) {
        self.server.lock().wipe().unwrap_or_else(|error| panic!("cannot wipe: {error}"));
    }

    /// Stops the process in its tracks: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        let mut server = self.server.lock();
        server.signal(libc::SIGSTOP);
        let pid = server.pid();
        // On a busy machine its threads go on answering until one of them has seen the signal.
        wait::until("the broker to stand still", FREEZE, || stands_still(pid));
    }

    pub fn thaw(&self) {
        self.server.lock().signal(libc::SIGCONT);
    }
}

/// Gives a broker a listener that advertises this proxy, which is led to it.
pub fn lead_through(proxy: &Proxy, properties: &mut Properties) -> Result<(), String> {
    let proxied = ports::loopback()?;
    properties.add_listener("PROXIED", "PLAINTEXT", &proxied, &proxy.address());
    proxy.set_upstream(proxied);
    Ok(())
}

/// Starts so many brokers as one cluster, which can be told from the first on.
///
/// Another process may take a port before a broker does, so there are some tries.
pub fn start_nodes(
    version: Version,
    count: usize,
    scram: &[String],
    mut configure: impl FnMut(&mut Properties) -> Result<(), String>,
) -> Result<Vec<Broker>, String> {
    const TRIES: usize = 3;
    let mut errors = Vec::new();
    while errors.len() < TRIES {
        match try_start(version, count, scram, &mut configure) {
            Ok(brokers) => return Ok(brokers),
            Err(error) => errors.push(error),
        }
    }
    Err(errors.join("\n"))
}

fn try_start(
    version: Version,
    count: usize,
    scram: &[String],
    configure: &mut impl FnMut(&mut Properties) -> Result<(), String>,
) -> Result<Vec<Broker>, String> {
    let jars = jars::of(version)?;
    let cluster = cluster_id(next());
    let nodes = (1..=count).map(Node::new).collect::<Result<Vec<_>, _>>()?;
    let mut plans = Vec::new();
    for node in &nodes {
        let directory = jars::root().join(format!("run-{}-{}", process::id(), next()));
        let mut properties = Properties::of(node, &nodes, &directory);
        configure(&mut properties)?;
        let bootstrap = node.plaintext.clone();
        let (cluster, properties, scram) = (cluster.clone(), properties.to_string(), scram.to_vec());
        plans.push(Plan { directory, bootstrap, cluster, properties, scram });
    }
    // None of several is ready before it has found the others.
    thread::scope(|scope| {
        let starting: Vec<_> =
            plans.into_iter().map(|plan| scope.spawn(|| start_planned(version, &jars, plan))).collect();
        starting.into_iter().map(|starting| starting.join().expect("starting a broker panicked")).collect()
    })
}

fn start_planned(version: Version, jars: &Jars, plan: Plan) -> Result<Broker, String> {
    let (directory, bootstrap) = (plan.directory.clone(), plan.bootstrap.clone());
    let mut server = Server::format(jars, plan)?;
    server.start()?;
    Ok(Broker { version, bootstrap, directory, server: Mutex::new(server) })
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
