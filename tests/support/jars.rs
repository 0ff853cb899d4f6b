//! Apache Kafka's jars, fetched once with Maven and kept under the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::kafka::Version;
use super::process::run;

/// Enough for some 100 MB over a slow line.
const DOWNLOAD: Duration = Duration::from_secs(600);

/// Written last, so its presence says that all of a version's jars are there.
const MARKER: &str = "complete";

/// The classpaths of one Kafka version.
pub struct Jars {
    directory: PathBuf,
}

impl Jars {
    /// What `kafka.Kafka` and `kafka.tools.StorageTool` need.
    pub fn server(&self) -> String {
        self.classpath("libs")
    }

    /// What the console consumer needs.
    pub fn tools(&self) -> String {
        self.classpath("tools")
    }

    fn classpath(&self, kind: &str) -> String {
        self.directory.join(kind).join("*").display().to_string()
    }
}

/// Why the brokers cannot run here, if they cannot.
pub fn missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING
        .get_or_init(|| {
            [("java", "-version"), ("mvn", "--version")].into_iter().find_map(|(program, argument)| {
                run(program, Command::new(program).arg(argument), Duration::from_secs(60)).err()
            })
        })
        .clone()
}

/// Where everything of the brokers is kept: `<target>/kafka`.
pub fn root() -> PathBuf {
    // Cargo makes `<target>/tmp` for integration tests, wherever the target directory is.
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the directory for temporary files is in the target directory")
        .join("kafka")
}

/// The jars of a version, downloaded if they are not there yet.
pub fn of(version: Version) -> Result<Jars, String> {
    // Threads of this process wait for one download; other processes race and one wins.
    static DOWNLOADING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = DOWNLOADING.lock();

    let directory = root().join(version.as_str());
    if !directory.join(MARKER).exists() {
        download(version, &directory)?;
    }
    Ok(Jars { directory })
}

fn download(version: Version, directory: &Path) -> Result<(), String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let scratch = root().join(format!(".download-{}-{number}", process::id()));

    let downloaded = fill(&scratch, version).and_then(|()| publish(&scratch, directory));
    // Gone already if it was published; a leftover harms nobody.
    fs::remove_dir_all(&scratch).ok();
    downloaded
}

fn fill(scratch: &Path, version: Version) -> Result<(), String> {
    copy_dependencies(scratch, "libs", "kafka_2.13", version.as_str())?;
    copy_dependencies(scratch, "tools", "kafka-tools", version.tools())?;
    write(&scratch.join(MARKER), "")
}

fn publish(scratch: &Path, directory: &Path) -> Result<(), String> {
    match fs::rename(scratch, directory) {
        Err(_) if directory.join(MARKER).exists() => Ok(()),
        result => {
            result.map_err(|error| format!("cannot rename {} to {}: {error}", scratch.display(), directory.display()))
        }
    }
}

fn copy_dependencies(scratch: &Path, kind: &str, artifact: &str, version: &str) -> Result<(), String> {
    let libs = scratch.join(kind);
    fs::create_dir_all(&libs).map_err(|error| format!("cannot create {}: {error}", libs.display()))?;
    let pom = scratch.join(format!("{kind}.xml"));
    write(&pom, &project(artifact, version))?;
    run(
        &format!("download of {artifact} {version}"),
        Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-f"])
            .arg(&pom)
            .arg(format!("-DoutputDirectory={}", libs.display())),
        DOWNLOAD,
    )?;
    Ok(())
}

/// Kafka brings no logging backend of one kind in all versions, so all get the simple one.
/// Kafka Connect comes with the tools, is half of their jars, and is not used.
fn project(artifact: &str, version: &str) -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kafka-log</groupId>
  <artifactId>test-broker</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>{artifact}</artifactId>
      <version>{version}</version>
      <exclusions>
        <exclusion>
          <groupId>org.slf4j</groupId>
          <artifactId>slf4j-reload4j</artifactId>
        </exclusion>
        <exclusion>
          <groupId>org.apache.kafka</groupId>
          <artifactId>connect-runtime</artifactId>
        </exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"#
    )
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
