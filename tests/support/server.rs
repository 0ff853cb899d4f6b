//! The server process of a broker: its files, its JVM, and when it is ready.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::Consumer;

use super::client;
use super::guardian::Guardian;
use super::jars::Jars;
use super::process;
use super::wait;

const READY: Duration = Duration::from_secs(60);
const FORMAT: Duration = Duration::from_secs(60);

/// How often a broker that does not answer is asked again, and how long one may take.
const PROBE: Duration = Duration::from_secs(2);

/// The end of the broker's log that an error shows.
const LOG_TAIL: usize = 4_000;

/// Flags for a quick start; these JVMs do not live long enough for the second compiler.
const QUICK_JVM: [&str; 4] = ["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"];

/// As Kafka's own start script has them.
const FULL_JVM: [&str; 4] = ["-Xmx1g", "-Xms1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];

static FULL: AtomicBool = AtomicBool::new(false);

/// Has brokers run at their full speed from now on, for who measures.
pub fn at_full_speed() {
    FULL.store(true, Ordering::Relaxed);
}

fn jvm() -> impl Iterator<Item = &'static str> {
    let flags = if FULL.load(Ordering::Relaxed) { FULL_JVM } else { QUICK_JVM };
    flags.into_iter().chain(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
}

/// What a broker is to be, before there is anything of it.
pub struct Plan {
    pub directory: PathBuf,
    /// Where it will answer tests, without encryption and credentials.
    pub bootstrap: String,
    pub cluster: String,
    pub properties: String,
    /// Users of SCRAM, each as the storage tool reads one: "SCRAM-SHA-256=[name=..,password=..]".
    pub scram: Vec<String>,
}

/// A formatted broker directory, and the JVM that serves it, if one runs.
pub struct Server {
    directory: PathBuf,
    classpath: String,
    bootstrap: String,
    cluster: String,
    scram: Vec<String>,
    jvm: Option<Child>,
    guardian: Guardian,
}

impl Server {
    /// Makes the directory, with storage formatted as planned.
    pub fn format(jars: &Jars, plan: Plan) -> Result<Server, String> {
        let Plan { directory, bootstrap, cluster, properties, scram } = plan;
        fs::create_dir_all(&directory).map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        // From here on, whatever happens, the directory is removed.
        let guardian = Guardian::start(&directory)?;
        let server = Server { directory, classpath: jars.server(), bootstrap, cluster, scram, jvm: None, guardian };
        let file = server.properties();
        fs::write(&file, properties).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        server.format_storage()?;
        Ok(server)
    }

    /// Gives a broker that does not run an empty disk: it is of the same cluster, and knows nothing of it.
    pub fn wipe(&mut self) -> Result<(), String> {
        if self.jvm.is_some() {
            return Err(format!("the broker at {} runs", self.bootstrap));
        }
        let data = data(&self.directory);
        fs::remove_dir_all(&data).map_err(|error| format!("cannot remove {}: {error}", data.display()))?;
        self.format_storage()
    }

    fn format_storage(&self) -> Result<(), String> {
        let run = process::run(
            "kafka.tools.StorageTool format",
            Command::new("java")
                .args(jvm())
                .args(["-cp", &self.classpath, "kafka.tools.StorageTool"])
                .args(["format", "-t", &self.cluster, "-c"])
                .arg(self.properties())
                .args(self.scram.iter().flat_map(|user| ["--add-scram", user])),
            FORMAT,
        );
        run.map(drop)
    }

    /// Starts the JVM and waits until the broker answers.
    pub fn start(&mut self) -> Result<(), String> {
        if self.jvm.is_some() {
            return Err(format!("the broker at {} runs already", self.bootstrap));
        }
        self.spawn()?;
        self.wait_until_ready()
    }

    /// Kills the JVM if it runs.
    pub fn kill(&mut self) {
        if let Some(mut jvm) = self.jvm.take() {
            process::kill(&mut jvm);
            self.forget();
        }
    }

    /// Lets the broker shut down; `None` when it had to be killed after `timeout`.
    pub fn terminate(&mut self, timeout: Duration) -> Option<ExitStatus> {
        self.signal(libc::SIGTERM);
        let status = process::ended_within(self.running(), timeout);
        self.kill();
        status
    }

    pub fn signal(&mut self, signal: libc::c_int) {
        process::signal(self.running(), signal);
    }

    pub fn runs(&self) -> bool {
        self.jvm.is_some()
    }

    pub fn pid(&mut self) -> u32 {
        self.running().id()
    }

    /// The end of what the broker logged.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
        String::from_utf8_lossy(tail).into_owned()
    }

    fn running(&mut self) -> &mut Child {
        self.jvm.as_mut().expect("the broker runs")
    }

    /// The JVM becomes a process of its own only once the guardian knows its id: the shell
    /// that turns into it waits for a line, and ends if this process does not live to send it.
    fn spawn(&mut self) -> Result<(), String> {
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(|error| format!("cannot share the broker's log: {error}"))?;
        let mut jvm = Command::new("sh")
            .args(["-c", r#"read -r go && exec "$@" </dev/null"#, "broker"])
            .arg("java")
            .args(jvm())
            // What is unpacked there stays behind when the broker is killed.
            .arg(format!("-Djava.io.tmpdir={}", self.directory.display()))
            .args(["-cp", &self.classpath, "kafka.Kafka"])
            .arg(self.properties())
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start a JVM: {error}"))?;
        let stdin = jvm.stdin.take();
        let pid = jvm.id();
        self.jvm = Some(jvm);
        self.guardian.watch(Some(pid))?;
        stdin
            .expect("its input was asked for")
            .write_all(b"go\n")
            .map_err(|error| format!("the JVM's shell ended early: {error}"))
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let mut ended = None;
        let ready = wait::holds_within(READY, || {
            ended = self.ended();
            ended.is_some() || self.answers()
        });
        let reason = match ended {
            None if ready => return Ok(()),
            None => format!("does not answer after {READY:?}"),
            Some(status) => format!("ended with {status}"),
        };
        self.kill();
        Err(format!("the broker at {} {reason}; its log ends:\n{}", self.bootstrap, self.log_tail()))
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        process::ended_within(self.running(), Duration::ZERO)
    }

    /// Whether this very broker answers, not another one that got the port first.
    fn answers(&self) -> bool {
        if std::net::TcpStream::connect(&self.bootstrap).is_err() {
            return false;
        }
        let consumer = client::consumer(&self.bootstrap);
        consumer.fetch_metadata(None, PROBE).is_ok_and(|metadata| !metadata.brokers().is_empty())
            && consumer.client().fetch_cluster_id(PROBE).as_ref() == Some(&self.cluster)
    }

    fn open_log(&self) -> Result<File, String> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(|error| format!("cannot open {}: {error}", self.log().display()))
    }

    /// A process id may be given to another process once this one has been reaped.
    fn forget(&mut self) {
        // It fails only if the guardian is gone, and then there is nobody to kill anything.
        self.guardian.watch(None).ok();
    }

    fn properties(&self) -> PathBuf {
        self.directory.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("broker.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where a broker in `directory` keeps its data.
pub fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}
