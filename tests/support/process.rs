//! Running other programs for a bounded time.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::wait;

/// Runs a program to its end and returns its standard output.
///
/// The error has what the program said; one that overstays `timeout` is killed.
pub fn run(what: &str, command: &mut Command, timeout: Duration) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{what}: cannot start {command:?}: {error}"))?;
    // Both pipes are emptied while the program runs: a full one would block it.
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());

    let status = ended_within(&mut child, timeout);
    if status.is_none() {
        kill(&mut child);
    }
    let stdout = joined(what, stdout);
    let stderr = joined(what, stderr);

    match status {
        Some(status) if status.success() => Ok(stdout),
        Some(status) => Err(complaint(what, &status.to_string(), &stdout, &stderr)),
        None => Err(complaint(what, &format!("still running after {timeout:?}"), &stdout, &stderr)),
    }
}

/// The exit status, once the program has ended; `None` when it has not by then.
pub fn ended_within(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let mut status = None;
    wait::holds_within(timeout, || {
        status = child.try_wait().unwrap_or_else(|error| panic!("cannot wait for process {}: {error}", child.id()));
        status.is_some()
    });
    status
}

/// Ends the program at once and reaps it.
pub fn kill(child: &mut Child) {
    // An error of `kill` means that it has ended already, which is as well.
    child.kill().ok();
    child.wait().ok();
}

/// Sends a signal to a child that has not been reaped yet, so that its id is still its own.
#[allow(unsafe_code, reason = "std sends no signal but SIGKILL")]
pub fn signal(child: &Child, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(child.id()).expect("a process id fits pid_t");
    // SAFETY: `kill` takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "cannot send signal {signal} to process {pid}: {}", std::io::Error::last_os_error());
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

fn joined(what: &str, pipe: JoinHandle<Vec<u8>>) -> Vec<u8> {
    pipe.join().unwrap_or_else(|_| panic!("{what}: the thread reading its output panicked"))
}

fn complaint(what: &str, status: &str, stdout: &[u8], stderr: &[u8]) -> String {
    format!("{what}: {status}\n{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
}
