//! Running other programs for a bounded time.

use std::ffi::CString;
use std::fs;
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

/// Whether every thread of a process has been stopped.
pub fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    // The state follows the name, which is in brackets and may have some in it. A thread that has just ended has none.
    let is_stopped = |stat: String| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']));
    threads.flatten().all(|thread| fs::read_to_string(thread.path().join("stat")).map_or(true, is_stopped))
}

/// Sends a signal to this process, as another one would: whichever thread takes it.
#[allow(unsafe_code, reason = "std sends none")]
pub fn raise(signal: libc::c_int) {
    // SAFETY: both take numbers at most, and touch no memory of ours.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// The same for one that this process may have inherited a deaf ear for, as what a shell starts behind its back does.
#[allow(unsafe_code, reason = "std knows no signals")]
pub fn raise_by_default(signal: libc::c_int) {
    // SAFETY: the default action is no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    raise(signal);
}

/// Has a signal wait, for this thread and those that it starts, until somebody waits for it.
#[allow(unsafe_code, reason = "std knows no signals")]
pub fn block(signal: libc::c_int) {
    // SAFETY: the set is this function's own, and `sigemptyset` initialises it.
    let result = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
    };
    assert_eq!(result, 0, "signal {signal} cannot be blocked");
}

/// Waits for a signal that [`block`] has wait.
#[allow(unsafe_code, reason = "std knows no signals")]
pub fn wait_for(signal: libc::c_int) {
    // SAFETY: the set is this function's own, and `sigemptyset` initialises it.
    let result = unsafe {
        let (mut set, mut came) = (std::mem::zeroed(), 0);
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigwait(&set, &mut came)
    };
    assert_eq!(result, 0, "signal {signal} cannot be waited for");
}

/// Runs `child` in a child of a bare `fork` and gives its exit status, which must come within `timeout`.
#[allow(unsafe_code, reason = "std forks only to run another program")]
pub fn in_a_fork(timeout: Duration, child: impl FnOnce() -> u8) -> Option<libc::c_int> {
    // SAFETY: the child is for tests of what can be done there, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => panic!("cannot fork: {}", std::io::Error::last_os_error()),
        0 => {
            let code = child();
            // SAFETY: it ends the process, and runs nothing of ours.
            unsafe { libc::_exit(code.into()) }
        }
        pid => reap(pid, timeout),
    }
}

/// Runs a program, by its path, as C programs do: `fork`, then `execv`. Its exit status must come within `timeout`.
#[allow(unsafe_code, reason = "std's way has its own test")]
pub fn fork_and_exec(program: &[&str], timeout: Duration) -> Option<libc::c_int> {
    let words: Vec<CString> = program.iter().map(|word| CString::new(*word).expect("a word has no NUL")).collect();
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    in_a_fork(timeout, || {
        // SAFETY: the words and the list of them, which ends with a null, live on in this process until it is another.
        unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
        127
    })
}

/// The exit status of a child, which is killed if there is none by then.
#[allow(unsafe_code, reason = "std waits for no process that it has not started")]
fn reap(pid: libc::pid_t, timeout: Duration) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: the status is this function's own.
    let ended = wait::holds_within(timeout, || unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) == pid });
    if !ended {
        // SAFETY: nobody has waited for the child, so the number is still its own.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, &mut status, 0);
        }
        return None;
    }
    Some(status)
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
