//! A child process, which measures one logger under one load: globals, memory and processor time are that logger's own.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use crate::load;
use crate::record::Record;
use crate::task::{Measured, State, Task};

/// Bounds every wait for a delivery.
pub const LONG: Duration = Duration::from_secs(120);

/// A child's argument, which a task follows.
pub const ARGUMENT: &str = "--child";

/// What is measured: it has been set up as the logger of this process.
pub trait Subject: Sync {
    /// One call, through the macros that an application uses.
    #[inline]
    fn call(&self, record: Record<'_>) {
        record.log();
    }

    /// Waits until all records, so many have been logged, are where they should go.
    fn drain(&self, logged: u64) -> Result<(), String>;

    fn counts(&self) -> Counts;

    /// Logs a record and waits until it is acknowledged.
    fn acknowledged(&self, _: Record<'_>) -> Result<(), String> {
        Err("records of this logger cannot be awaited".into())
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// If it counts.
    pub delivered: Option<u64>,
    pub lost: u64,
}

/// The task that this process was given, if it is a child.
pub fn task() -> Option<Task> {
    let mut arguments = std::env::args().skip_while(|argument| argument != ARGUMENT).skip(1);
    let task = arguments.next()?;
    Some(serde_json::from_str(&task).unwrap_or_else(|error| panic!("no task: {error}: {task}")))
}

/// Makes the load, answers, and stays until the parent lets go: what a logger does at its end is no part of this.
pub fn run(task: &Task, subject: &impl Subject) {
    let measured = load::run(task, subject, || {
        if task.state != State::Up {
            say("ready");
            hear();
        }
    });
    match measured {
        Ok(measured) => say(&answer(&measured)),
        Err(error) => say(&format!("failed: {error}")),
    }
    hear();
}

fn answer(measured: &Measured) -> String {
    serde_json::to_string(measured).unwrap_or_else(|error| format!("failed: {error}"))
}

fn say(line: &str) {
    println!("{line}");
    // If nobody reads any more, this process has been given up.
    let _ = io::stdout().flush();
}

/// Waits for a line, or for the end of the parent.
fn hear() {
    let _ = io::stdin().lock().read_line(&mut String::new());
}
