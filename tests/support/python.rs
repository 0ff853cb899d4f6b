//! A Python with the sink whose payload is kept, installed once and kept under the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::process::run;

/// The sink and its two Kafka clients, by the names and versions of PyPI. aiokafka asks for Python 3.10.
/// Neither client compresses unasked; the codecs below them are for reading.
const PACKAGES: [&str; 7] = [
    "jazzmine-logging==0.1.0",
    "aiokafka==0.14.0",
    "kafka-python==3.0.12",
    "cramjam==2.14.0",
    "lz4==4.4.5",
    "python-snappy==0.7.3",
    "zstandard==0.25.0",
];

/// Enough for some 10 MB over a slow line.
const INSTALL: Duration = Duration::from_secs(600);

const START: Duration = Duration::from_secs(60);

/// Written last, so its presence says that all of the packages are there; it lists them.
const MARKER: &str = "complete";

/// Why no virtual environment can be made here, if none can.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING
        .get_or_init(|| {
            // Debian has `venv` without the `ensurepip` that it needs, unless python3-venv is installed.
            let check = "import ensurepip, sys, venv; sys.version_info >= (3, 10) or sys.exit('it is older than 3.10')";
            run("python3 with venv", Command::new("python3").args(["-c", check]), START).err()
        })
        .clone()
}

/// Runs a script in the virtual environment, which is made if it is not there yet, and returns what it printed.
pub fn script(path: &Path, arguments: &[&str], timeout: Duration) -> Result<Vec<u8>, String> {
    let mut command = Command::new(python(&environment()?));
    // Isolated from variables, the user's packages and the directory of the script; -u, so that an error shows all.
    command.args(["-I", "-u", "-X", "utf8"]).arg(path).args(arguments);
    run(&path.display().to_string(), &mut command, timeout)
}

fn python(environment: &Path) -> PathBuf {
    environment.join("bin").join("python")
}

/// Threads of this process wait for one installation; other processes race and one wins.
fn environment() -> Result<PathBuf, String> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock();

    let environment = target().join("python-venv");
    if !is_complete(&environment) {
        install(&environment)?;
    }
    Ok(environment)
}

/// Whether this very set of packages is there, with an interpreter that the system still has.
fn is_complete(environment: &Path) -> bool {
    fs::read_to_string(environment.join(MARKER)).is_ok_and(|packages| packages == PACKAGES.join("\n"))
        && python(environment).exists()
}

fn install(environment: &Path) -> Result<(), String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let scratch = target().join(format!(".python-venv-{}-{number}", process::id()));

    let installed = fill(&scratch).and_then(|()| publish(&scratch, environment));
    // Gone already if it was published; a leftover harms nobody.
    fs::remove_dir_all(&scratch).ok();
    installed
}

fn fill(scratch: &Path) -> Result<(), String> {
    run("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(scratch), INSTALL)?;
    let mut pip = Command::new(python(scratch));
    // Wheels only: nothing is to be compiled here.
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--only-binary", ":all:"])
        .args(PACKAGES);
    run("pip install", &mut pip, INSTALL)?;
    let marker = scratch.join(MARKER);
    fs::write(&marker, PACKAGES.join("\n")).map_err(|error| format!("cannot write {}: {error}", marker.display()))
}

/// The interpreter finds its packages from where it stands, so the directory can be renamed; pip's scripts cannot.
fn publish(scratch: &Path, environment: &Path) -> Result<(), String> {
    if environment.exists() && !is_complete(environment) {
        // Of other packages, or of an interpreter that is gone. Whatever is left of it fails the rename below.
        fs::remove_dir_all(environment).ok();
    }
    match fs::rename(scratch, environment) {
        Err(_) if is_complete(environment) => Ok(()),
        result => {
            result.map_err(|error| format!("cannot rename {} to {}: {error}", scratch.display(), environment.display()))
        }
    }
}

fn target() -> &'static Path {
    // Cargo makes `<target>/tmp` for integration tests, wherever the target directory is.
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the directory for temporary files is in the target directory")
}
