//! Two sides of a scenario: the parent starts the child and judges it, the child plays its part.

use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kafka_log::{Config, Transport};

use crate::support::{process, wait};

/// Bounds any child; each has shorter bounds of its own for what it does.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Bounds a wait for what is sure to come, on a machine that is busy with other things.
pub const SURELY: Duration = Duration::from_secs(30);

const PART: &str = "KAFKA_LOG_CHILD";
const SERVERS: &str = "SCENARIO_SERVERS";
const TOPIC: &str = "SCENARIO_TOPIC";

/// A test: what the parent does with the child, and what the child does.
#[derive(Clone)]
pub struct Scenario {
    name: String,
    transport: Transport,
    watch: fn(Child),
    play: fn(Transport),
}

impl Scenario {
    pub fn new(name: impl Into<String>, transport: Transport, watch: fn(Child), play: fn(Transport)) -> Scenario {
        Scenario { name: name.into(), transport, watch, play }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn watch(&self) {
        (self.watch)(Child::new(&self.name, self.transport));
    }

    pub fn play(&self) {
        (self.play)(self.transport);
    }
}

/// Declares scenarios by their parents' functions, whose names are the tests' names.
///
/// Each is played with each transport that the build has.
#[macro_export]
macro_rules! scenarios {
    (
        $($watch:ident => $play:expr;)*
    ) => {{
        let theme = module_path!().rsplit("::").next().unwrap_or_default();
        let mut all = Vec::new();
        for (transport, suffix) in $crate::child::transports() {
            all.extend([$($crate::child::Scenario::new(
                format!("{theme}::{}::{suffix}", stringify!($watch)), transport, $watch, $play,
            )),*]);
        }
        all
    }};
}

/// The transports of this build.
pub fn transports() -> Vec<(Transport, &'static str)> {
    let compiled =
        [(cfg!(feature = "async"), Transport::Async, "async"), (cfg!(feature = "sync"), Transport::Sync, "sync")];
    compiled.into_iter().filter(|(compiled, ..)| *compiled).map(|(_, transport, name)| (transport, name)).collect()
}

// ---- the parent's side --------------------------------------------------------------------------------------------

/// A child that is about to be started.
pub struct Child {
    name: String,
    transport: Transport,
    command: Command,
}

impl Child {
    fn new(name: &str, transport: Transport) -> Child {
        let binary = env::current_exe().unwrap_or_else(|error| panic!("this binary has no path: {error}"));
        let mut command = Command::new(binary);
        // Printing a backtrace takes so long that records would arrive meanwhile by themselves.
        command.env("RUST_BACKTRACE", "0");
        command.env(PART, name).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Child { name: name.into(), transport, command }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Another of the same.
    pub fn again(&self) -> Child {
        Child::new(&self.name, self.transport)
    }

    /// Tells it something by a variable.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Child {
        self.command.env(name, value);
        self
    }

    /// Has another program, whose last argument it becomes, start it: one that turns into it, so that it can be killed.
    pub fn started_by(self, mut starter: Command) -> Child {
        starter.arg(self.command.get_program());
        let set = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        starter.envs(set).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Child { command: starter, ..self }
    }

    pub fn on(mut self, servers: &str, topic: &str) -> Child {
        self.command.env(SERVERS, servers).env(TOPIC, topic);
        self
    }

    /// Runs it to its end, and kills one that overstays.
    pub fn run(mut self) -> Ended {
        let begun = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let status = process::ended_within(&mut child, LIFETIME);
        let lived = begun.elapsed();
        if status.is_none() {
            process::kill(&mut child);
        }
        let [stdout, stderr] = [stdout, stderr].map(|pipe| pipe.join().unwrap_or_default());
        let Some(status) = status else {
            panic!("{} was still running after {LIFETIME:?}\n{stdout}\n{stderr}", self.name);
        };
        Ended { status, lived, stdout, stderr }
    }

    /// Runs a child that judges itself.
    pub fn succeeds(self) -> Ended {
        self.run().with_code(0)
    }
}

/// What is left of a child.
pub struct Ended {
    status: ExitStatus,
    pub lived: Duration,
    stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn with_code(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self
    }

    /// The signal that ended it.
    #[track_caller]
    pub fn by_signal(self, signal: i32) -> Ended {
        assert_eq!(self.status.signal(), Some(signal), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self
    }

    /// What the child said under this name, which it must have said once.
    #[track_caller]
    pub fn said<T: FromStr>(&self, name: &str) -> T {
        let mut values = self.all(name);
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => value,
            _ => panic!("the child did not say {name} once:\n{}\n{}", self.stdout, self.stderr),
        }
    }

    /// All that the child said under this name.
    #[track_caller]
    pub fn all<T: FromStr>(&self, name: &str) -> Vec<T> {
        self.stdout
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.parse().unwrap_or_else(|_| panic!("the child said of {name}: {value}")))
            .collect()
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            pipe.read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

// ---- the child's side ---------------------------------------------------------------------------------------------

/// The scenario that this process plays a part in, if it is a child.
pub fn part() -> Option<String> {
    env::var(PART).ok()
}

/// A configuration for what the parent named.
pub fn config(transport: Transport) -> Config {
    Config::new(servers(), topic()).transport(transport)
}

pub fn servers() -> String {
    env::var(SERVERS).unwrap_or_else(|_| panic!("the parent named no servers"))
}

pub fn topic() -> String {
    env::var(TOPIC).unwrap_or_else(|_| panic!("the parent named no topic"))
}

pub fn say(name: &str, value: impl Display) {
    println!("{name}={value}");
}

/// The threads of this process now.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap_or_else(|error| panic!("cannot count threads: {error}")).count()
}

/// What the system says of this process's memory under this name, in bytes.
pub fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_else(|error| panic!("no status: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("no {name}:\n{status}")) << 10
}

/// A thread that has ended leaves the count a moment after; a client ends behind the call that dropped it.
#[track_caller]
pub fn threads_come_back_to(before: usize) {
    wait::holds_within(SURELY, || threads() <= before);
    assert_eq!(threads(), before, "threads are left behind, or more have ended than were started");
}
