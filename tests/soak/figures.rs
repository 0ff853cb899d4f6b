//! What is told of a soak, as the tables of RELIABILITY.md have it; and what the process itself must keep to.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::account::Account;
use crate::faults::Injected;
use crate::rest;
use crate::subject::QUEUE_BYTES;
use crate::support::wait;

/// Memory and threads of this process.
pub(crate) struct Process {
    threads_before: u64,
    kilobytes_before: u64,
    most_threads: AtomicU64,
    most_kilobytes: AtomicU64,
}

impl Process {
    pub(crate) fn before() -> Process {
        let (threads_before, kilobytes_before) = (read("Threads"), read("VmRSS"));
        Process { threads_before, kilobytes_before, most_threads: AtomicU64::new(0), most_kilobytes: AtomicU64::new(0) }
    }

    pub(crate) fn watch(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.most_threads.fetch_max(read("Threads"), Ordering::Relaxed);
            self.most_kilobytes.fetch_max(read("VmRSS"), Ordering::Relaxed);
            rest(Duration::from_millis(500), stop);
        }
    }

    /// Whether it has kept to its bounds; all loggers are gone by now.
    pub(crate) fn wrong_after(&self, accounts: &[Account]) -> Option<String> {
        /// The tests' own: proxies, readers, what is noted of each record until the end.
        const OWN: u64 = 100 << 20;
        const OWN_A_RECORD: u64 = 300;
        /// Of a client: what it has of a queue's records once more, and itself.
        const OF_A_CLIENT: u64 = 40 << 20;
        /// Of a logger, with those of librdkafka's clients that are ended while their brokers are away, with the proxies' for
        /// its connections, and with those that log.
        const THREADS: u64 = 100;
        let records: u64 = accounts.iter().map(|account| account.stats.submitted).sum();
        // One that is followed by another may still be ending.
        let loggers = 2 * accounts.len() as u64;
        let most = (OWN + OWN_A_RECORD * records + loggers * (OF_A_CLIENT + 2 * QUEUE_BYTES as u64)) / 1_024;
        let grown = self.most_kilobytes.load(Ordering::Relaxed).saturating_sub(self.kilobytes_before);
        let ended = wait::holds_within(Duration::from_secs(30), || read("Threads") <= self.threads_before);
        let threads = self.most_threads.load(Ordering::Relaxed).saturating_sub(self.threads_before);
        match () {
            () if grown > most => Some(format!("memory grew by {grown} KiB, more than {most}")),
            () if threads > THREADS * accounts.len() as u64 => Some(format!("there were {threads} threads more")),
            () if !ended => {
                Some(format!("{} threads before the loggers, and {} after", self.threads_before, read("Threads")))
            }
            () => None,
        }
    }
}

/// A number of this process by its name in /proc, or 0 where there is none.
fn read(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

pub(crate) fn print(seed: u64, lasted: Duration, injected: &Injected, accounts: &[Account], process: &Process) {
    println!("\n{} s, seed {seed}, {} faults\n", lasted.as_secs(), injected.values().sum::<u64>());
    println!("| fault | times |\n|---|---|");
    injected.iter().for_each(|(fault, times)| println!("| {fault} | {times} |"));

    println!();
    row("", accounts, |account| {
        let told = if account.told { "each record told of" } else { "counted" };
        format!("{:?}, {told}", account.transport).to_lowercase()
    });
    println!("|---{}|", "|---".repeat(accounts.len()));
    row("client", accounts, |account| account.seen.clients.iter().cloned().collect::<Vec<_>>().join(", "));
    row("options", accounts, |account| account.settings.clone());
    row("records sent", accounts, |account| account.stats.submitted);
    row("delivered", accounts, |account| account.stats.delivered);
    row("failed", accounts, |account| account.stats.failed);
    row("of these timed out", accounts, |account| of_told(account, account.timed_out));
    row("of these refused", accounts, |account| of_told(account, account.rejected));
    row("dropped: queue full", accounts, |account| account.stats.dropped.queue_full);
    row("dropped: other reasons", accounts, |account| account.stats.dropped.total() - account.stats.dropped.queue_full);
    if accounts.iter().any(|account| account.restarts > 0) {
        row("loggers one after another, and records left on the disk for the next", accounts, |account| {
            format!("{}, {}", 1 + account.restarts, account.recovered)
        });
        row("records that the disk refused", accounts, |account| account.stats.spool_refused);
    }
    row("arrived", accounts, |account| account.arrived);
    row("failed, possibly there, and there", accounts, |account| of_told(account, account.arrived_all_the_same));
    row("copies beyond the first", accounts, |account| account.doubled);
    row("sequences that a broker had lost, or clients replaced", accounts, |account| account.sessions_ended);
    row("outcomes known one by one", accounts, |account| of_told(account, account.known));
    row("callbacks missed", accounts, |account| account.stats.callbacks_missed);
    row("flushes, and those in time", accounts, |account| {
        let (flushes, in_time) = account.seen.flushes;
        format!("{flushes}, {in_time}")
    });
    row("longest call", accounts, |account| format!("{} ms", account.seen.longest_call.as_millis()));
    row("**lost without a word**", accounts, |account| account.lost);
    row("of those that failed or were dropped, known by their number only", accounts, |account| account.by_number);

    let kilobytes = process.most_kilobytes.load(Ordering::Relaxed);
    println!(
        "\nMemory of the process: {} MiB before the loggers, {} MiB at most. Threads: {} before, {} at most.\n",
        process.kilobytes_before / 1_024,
        kilobytes / 1_024,
        process.threads_before,
        process.most_threads.load(Ordering::Relaxed),
    );
    for account in accounts {
        println!("{:?}, {}: what was heard", account.transport, account.settings);
        account.seen.errors.iter().for_each(|(text, times)| println!("  {times} x {text}"));
    }
}

fn of_told(account: &Account, count: u64) -> String {
    if account.told { count.to_string() } else { String::new() }
}

fn row<T: Display>(name: &str, accounts: &[Account], value: impl Fn(&Account) -> T) {
    let values: Vec<String> = accounts.iter().map(|account| value(account).to_string()).collect();
    println!("| {name} | {} |", values.join(" | "));
}
