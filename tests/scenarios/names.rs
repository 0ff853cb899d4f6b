//! A server's name that does not resolve, and then does.
//!
//! The child has an /etc/hosts of its own, which the parent writes: in a mount namespace, by util-linux's `unshare`.
//! Where that is refused, as in some containers, the scenario says so and is skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use kafka_log::{State, Transport};

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config};
use crate::scenarios;
use crate::support::{process, wait};

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_name_that_resolves_later_is_connected_to_then => connect_in_the_end;
    }
}

const NAME: &str = "kafka-of-the-scenario";
/// Nobody listens there.
const DEAD: &str = "127.0.0.9";
const DIRECTORY: &str = "SCENARIO_NAMES";
const RECORDS: u64 = 1_000;

/// What the child has seen, as a file: the parent waits for it.
const UNKNOWN: &str = "unknown";
const REFUSED: &str = "refused";

fn connect_in_the_end(transport: Transport) {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("the parent named no directory"));
    let guard = kafka_log::init(config(transport)).unwrap();
    (0..RECORDS).for_each(|n| log::info!(n; "to a name"));
    let last_error = || guard.status().last_error.unwrap_or_default();
    wait::until("the state is Down", SURELY, || guard.status().state == State::Down);
    wait::until("the name is named", SURELY, || last_error().contains(NAME));
    fs::write(directory.join(UNKNOWN), last_error()).unwrap();
    // Asked for again, it has an address; and once more another one.
    wait::until("nobody listens there", SURELY, || last_error().to_lowercase().contains("refused"));
    fs::write(directory.join(REFUSED), last_error()).unwrap();
    kafka_log::flush(SURELY).unwrap();
    let stats = kafka_log::shutdown(SURELY).stats;
    assert_eq!((stats.delivered, stats.failed, stats.dropped.total()), (RECORDS, 0, 0), "{stats:?}");
}

fn a_name_that_resolves_later_is_connected_to_then(child: Child) {
    let directory = Directory::new(child.name());
    let (hosts, switch) = (directory.0.join("hosts"), directory.0.join("nsswitch.conf"));
    // The same file all along: it is what is mounted.
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    // Else the name would be asked for in the network.
    fs::write(&switch, "hosts: files\n").unwrap();
    let mounted: Vec<(&Path, &str)> = [(hosts.as_path(), "/etc/hosts"), (switch.as_path(), "/etc/nsswitch.conf")]
        .into_iter()
        .filter(|(_, place)| Path::new(place).exists())
        .collect();
    let within = Within::new(&mounted);
    if let Err(reason) = process::run("unshare", within.command().arg("true"), SURELY) {
        println!("{} is skipped: {reason}", child.name());
        return;
    }

    let broker = Broker::start();
    let servers = broker.servers();
    let (_, port) = servers.rsplit_once(':').expect("an address has a port");
    let child = child.with(DIRECTORY, &directory.0).on(&format!("{NAME}:{port}"), &broker.topic);
    let child = child.started_by(within.command());
    thread::scope(|scope| {
        scope.spawn(|| {
            for (seen, address) in [(UNKNOWN, DEAD), (REFUSED, "127.0.0.1")] {
                if !wait::holds_within(SURELY, || directory.0.join(seen).exists()) {
                    // The child says what it waits for.
                    return;
                }
                fs::write(&hosts, format!("127.0.0.1 localhost\n{address} {NAME}\n")).unwrap();
            }
        });
        child.succeeds();
    });
    let numbers: Vec<u64> = broker.records().iter().map(|record| record["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
}

/// A way to start a program that has these files in those places.
struct Within {
    script: String,
    words: Vec<String>,
}

impl Within {
    fn new(mounted: &[(&Path, &str)]) -> Within {
        let mut script = String::new();
        let mut words = Vec::new();
        for (file, place) in mounted {
            script.push_str(r#"mount --bind "$1" "$2" && shift 2 && "#);
            words.extend([file.display().to_string(), (*place).to_owned()]);
        }
        script.push_str(r#"exec "$@""#);
        Within { script, words }
    }

    /// The program and its arguments follow.
    fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &self.script, "sh"]).args(&self.words);
        command
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("{}-{}", name.replace("::", "-"), std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("no directory {}: {error}", path.display()));
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
