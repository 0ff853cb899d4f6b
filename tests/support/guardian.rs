//! A process that cleans up after this one, however this one ends.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::process;

/// A test process may be killed, and statics are not dropped, so neither `Drop` nor an exit
/// handler is enough. The guardian outlives this process: once its standard input closes,
/// it kills the process it was told of and removes the directory.
pub struct Guardian {
    shell: Child,
}

/// Reads one process id a line, "-" for none, and cleans up at the end of the input.
///
/// The directory is removed only after the process has ended, which would write to it.
const SCRIPT: &str = r#"
pid=-
while read -r line; do pid=$line; done
if [ "$pid" != - ]; then
    kill -9 "$pid" 2>/dev/null
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
fi
rm -rf "$1"
"#;

impl Guardian {
    pub fn start(directory: &Path) -> Result<Guardian, String> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "guardian"])
            .arg(directory)
            .stdin(Stdio::piped())
            // Whoever waits for the end of the test's output must not wait for this.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is sent to the group of the test, such as Ctrl-C, must not end this.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the guardian: {error}"))?;
        Ok(Guardian { shell })
    }

    /// Has the guardian watch over this process instead of the one before.
    pub fn watch(&mut self, process: Option<u32>) -> Result<(), String> {
        let line = process.map_or("-\n".to_string(), |pid| format!("{pid}\n"));
        self.shell
            .stdin
            .as_mut()
            .expect("the input is open until the guardian is dropped")
            .write_all(line.as_bytes())
            .map_err(|error| format!("cannot tell the guardian of a process: {error}"))
    }
}

impl Drop for Guardian {
    /// Has it clean up and waits until it has done so.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if process::ended_within(&mut self.shell, Duration::from_secs(20)).is_none() {
            process::kill(&mut self.shell);
        }
    }
}
