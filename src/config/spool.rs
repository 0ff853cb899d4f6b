//! Where records wait on the disk, and how firmly.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;

impl Config {
    /// Keeps records in files of this directory, besides memory; see [`Spool`]. Default: in memory alone.
    ///
    /// Both transports honour it. It needs the feature `spool`; without it [`build`](Config::build) and
    /// [`init`](crate::init) return [`LoggerError::Dependency`](crate::LoggerError::Dependency). A directory that cannot
    /// be used, or that another process or logger uses, is a [`LoggerError::Spool`](crate::LoggerError::Spool).
    ///
    /// ```
    /// use kafka_log::{Config, Spool};
    ///
    /// let config = Config::new("kafka-1:9092", "app.logs").spool(Spool::new("/var/spool/app"));
    /// ```
    pub fn spool(mut self, spool: Spool) -> Config {
        self.spool = Some(spool);
        self
    }
}

/// The files in which records outlive an outage, or the process.
///
/// The directory is made if it is not there (its parent must be), and is for one logger alone: no other logger, of this
/// process or another, can use it at the same time. What is in it when a logger starts is sent first, oldest first, at
/// least once: what the broker had acknowledged last before a crash may be sent again.
///
/// ```
/// use std::time::Duration;
/// use kafka_log::{Fsync, Spool, SpoolMode};
///
/// let spool = Spool::new("/var/spool/app")
///     .max_bytes(4 << 30)
///     .fsync(Fsync::Interval(Duration::from_millis(200)))
///     .mode(SpoolMode::WriteAhead);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spool {
    pub(crate) directory: PathBuf,
    pub(crate) max_bytes: u64,
    pub(crate) fsync: Fsync,
    pub(crate) mode: SpoolMode,
}

impl Spool {
    /// A spool in this directory, all else at its default.
    pub fn new(dir: impl Into<PathBuf>) -> Spool {
        Spool {
            directory: dir.into(),
            max_bytes: 1 << 30,
            fsync: Fsync::Interval(Duration::from_secs(1)),
            mode: SpoolMode::Overflow,
        }
    }

    /// Bounds what its files take on the disk, all together. Default: 1 GiB; from 1 MiB on. What is in memory at the end, and
    /// what a client gives back after an outage, needs room there too: up to [`queue_bytes`](crate::Config::queue_bytes).
    /// What finds none is dropped, or fails, and is counted.
    ///
    /// A record takes 22 bytes more than its payload, and one that is appended alone 86; one that is awaited, and with
    /// [`on_delivery_error`](crate::Config::on_delivery_error) each, its target and 10 bytes more. Room comes back by the
    /// file, of a sixteenth of this and 8 MiB at most.
    pub fn max_bytes(mut self, bytes: u64) -> Spool {
        self.max_bytes = bytes;
        self
    }

    /// When the files are synced to the disk; see [`Fsync`]. Default: each second.
    pub fn fsync(mut self, fsync: Fsync) -> Spool {
        self.fsync = fsync;
        self
    }

    /// Which records go there; see [`SpoolMode`]. Default: [`SpoolMode::Overflow`].
    pub fn mode(mut self, mode: SpoolMode) -> Spool {
        self.mode = mode;
        self
    }
}

/// What of a spool outlives the machine. The end of the process alone, `kill -9` included, takes nothing that was
/// written, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fsync {
    /// Whatever the operating system has written by then: some seconds may be missing.
    Never,
    /// All but the last moments, of this length.
    Interval(Duration),
    /// All: no batch counts as written before it is on the disk. Callers at the same time share one fsync.
    EveryBatch,
}

/// Which records go to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpoolMode {
    /// Those that a full queue or an outage would drop, also while there is no client to send them. After a panic in a
    /// client, those too that it had and still gives back, within 500 ms; what of them is neither given back nor on the disk
    /// counts as failed.
    Overflow,
    /// All: a call returns when its record is in the spool's file. It waits for the disk. A client that panics takes none of
    /// them with it: the next one is given them again. What the disk has refused goes on as with `Overflow`, in memory.
    WriteAhead,
}
