//! What a child process is told to do, and what it answers: each one line of JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The same payload into a reused buffer, and nothing else.
    Floor,
    Async,
    Sync,
    HandRolled,
    KafkaLogger,
    Tracing,
    Logforth,
}

impl Who {
    pub const ALL: [Who; 7] =
        [Who::Floor, Who::Async, Who::Sync, Who::HandRolled, Who::KafkaLogger, Who::Tracing, Who::Logforth];

    /// As options name it.
    pub fn word(self) -> &'static str {
        match self {
            Who::Floor => "floor",
            Who::Async => "async",
            Who::Sync => "sync",
            Who::HandRolled => "hand-rolled",
            Who::KafkaLogger => "kafka-logger",
            Who::Tracing => "tracing",
            Who::Logforth => "logforth",
        }
    }

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Who::Floor => "floor: encoding alone",
            Who::Async => "kafka_log async",
            Who::Sync => "kafka_log sync",
            Who::HandRolled => "hand-rolled on rdkafka",
            Who::KafkaLogger => "kafka-logger 0.1.0",
            Who::Tracing => "tracing JSON to a file",
            Who::Logforth => "logforth JSON to a file",
        }
    }

    /// Whether its records go to Kafka.
    pub fn is_kafkas(self) -> bool {
        matches!(self, Who::Async | Who::Sync | Who::HandRolled | Who::KafkaLogger)
    }
}

/// How the broker is while the load is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Up,
    /// Nobody listens where it should be.
    Absent,
    /// Stopped in its tracks (SIGSTOP) after the first records have arrived.
    Frozen,
}

impl State {
    pub const ALL: [State; 3] = [State::Up, State::Absent, State::Frozen];

    pub fn word(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Absent => "absent",
            State::Frozen => "frozen",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Load {
    /// So many bursts by all threads together, each as fast as it goes. In every other one each call is timed; the
    /// others are timed as a whole. With the broker up all is delivered before the next.
    Hot { threads: usize, bursts: u64, burst: u64 },
    /// All at once, by a logger that makes callers wait where it can.
    Stream { threads: usize, records: u64 },
    /// One call after the other, at a rate.
    Paced { per_second: u64, records: u64 },
    /// One record after the other, each awaited by its `Delivered`.
    Lone { samples: u64 },
    /// Calls below the level that is logged.
    Off { calls: u64 },
    /// All at once, by a logger that drops what has no room.
    Flood { records: u64 },
    /// A few records, to look at.
    Few { records: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub who: Who,
    pub load: Load,
    pub state: State,
    pub servers: String,
    pub topic: String,
    /// For loggers that write a file.
    pub directory: PathBuf,
    /// The message's length in bytes, if it matters.
    pub message: Option<usize>,
    /// kafka_log's `queue_bytes` and `queue_records`, where they are not the defaults.
    pub queue_bytes: Option<usize>,
    pub queue_records: Option<usize>,
}

/// Figures that this load has not are absent. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// All records logged, by the load and before it.
    pub records: u64,
    /// What the logger counts as delivered, if it counts.
    pub delivered: Option<u64>,
    /// What the logger, or the backend, knows that it has not taken or not delivered.
    pub lost: u64,
    /// Of calls timed one by one.
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
    /// The median of the first burst alone: with the broker away the queue is full after it.
    pub first_p50: Option<f64>,
    /// Both by the floor's, in the same threads right before: of all bursts whose calls are timed one by one the median,
    /// and of the first.
    pub p50_beside: Option<f64>,
    pub first_p50_beside: Option<f64>,
    /// A whole loop's time by its calls, without a clock in it.
    pub loop_mean: Option<f64>,
    /// That of the floor in the same threads before the bursts; or the load's own yardstick.
    pub floor_loop_mean: Option<f64>,
    /// The one by the other: a process beside itself.
    pub loop_mean_beside: Option<f64>,
    /// Records a second, from the first call to the last acknowledgement.
    pub rate: Option<f64>,
    /// Of the process, user and system, per million records.
    pub cpu_seconds: Option<f64>,
    /// The most resident memory there was, and how much that is above what there was before the load.
    pub peak_kib: Option<u64>,
    pub growth_kib: Option<u64>,
    /// What reading the clock twice takes, and the smallest step that it makes.
    pub clock: Option<f64>,
    pub clock_step: Option<f64>,
}
