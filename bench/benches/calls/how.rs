//! How each figure is taken: printed beside the figures.

pub const CALLS: &[&str] = &[
    "Each row is a process of its own, which logs through the macros with two key-values; each record is another. All \
     that goes to Kafka is lz4, acks all, idempotent, linger 5 ms, to four partitions of one broker on the same machine.",
    "Before the first, two million records have gone to the broker from each of hand-rolled, async and sync: it is warm.",
    "hot, N: N threads log 50,000 records together as fast as they can, 40 times; with the broker up all is delivered \
     before the next time, outside of what is timed. Queues have their default size, which so many fit into.",
    "paced: one thread sleeps until each call is due.",
    "mean, p50, p99, p99.9, max: of calls timed one by one, by two readings of the processor's counter, into a histogram \
     of three digits. Nothing is subtracted for the clock; what it takes stands below.",
    "loop mean: the time of every other 50,000 as a whole, without a clock in between, by its calls: of each thread, \
     whether it ran or waited for a processor.",
    "x floor: beside the floor in the same threads: before each 50,000 they encode the same records, and nothing \
     else. So both meet the machine at the same speed. Of p50 each 50,000 give one ratio, and this is the median of those; \
     of the loop mean each process gives one. Of several rounds, as of any figure here, the median.",
    "records/s, CPU s/M, peak: from another process that logs 1,000,000 at once and waits for room where there is none: \
     from the first call to the last acknowledgement; user and system time of the process by getrusage, a million \
     records; VmHWM. In paced loads: of that load itself.",
    "absent: nobody listens. frozen: SIGSTOP once 20,000 records had arrived. Records that found a full queue are under \
     lost; filling is the p50 of the first 50,000, which found room.",
    "VOID: a record was lost, by the logger's count, or did not arrive, by the broker's offsets (or the file's lines).",
];

pub const OFF: &str = "log::debug! where Info is the most that is logged, and in turns in the same process with the level \
     Off, as it is without a logger: a loop's time by its calls, of a hundred loops each the quickest.";

pub const LONE: &str =
    "ainfo! on an idle logger, awaited: from the call to the acknowledgement, linger of 5 ms included.";

pub const MEMORY: &str = "1,000,000 records as fast as it goes, nobody listens: VmHWM after, less VmRSS before. The bound \
     is queue_bytes and 8 MiB.";

pub const DELIVERY: &str = "From the first log::info! with two key-values to the last acknowledgement, 2,000,000 records, \
     lz4, one thread, callers wait for room; rounds in turns, the median. All arrived, by the broker's offsets.";

pub const GROWTH: &str = "As hot, N above, with messages of that length and bursts of at most 16 MiB.";
