//! [`KafkaLogger`]: the road's beginning, on the caller's thread.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::kv::Source;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock;
use crate::config::{Config, Oversize, Startup};
use crate::deadline;
use crate::delivery::{
    Counters, Delivered, DeliveryError, DeliveryErrorKind, DropReason, FlushError, Losses, ShutdownReport, Stats,
    Tracked,
};
use crate::error::{LoggerError, StartupError, StartupErrorKind};
use crate::fallback::{Fallback, LAST_WORDS, Shape, Sink};
use crate::format::{Entry, Format, Formatted, buffer};
use crate::queue::{Batch, Meta, Queue};
use crate::recursion;
use crate::severity::Severity;
use crate::spool::{Ahead, Detour};
use crate::status::{Health, Status};
use crate::transport::{self, Choice};
use crate::worker::{self, Worker};

/// How long a drop, an exit and `Log::flush` wait for what is pending.
pub(crate) const LAST_FLUSH: Duration = Duration::from_secs(5);

/// What `shutdown` adds to its time for the worker to write its report.
const GRACE: Duration = Duration::from_millis(250);

/// The same where what is left goes to the disk first.
const GRACE_FOR_DISK: Duration = Duration::from_secs(3);

/// With a spool no client gives up a record by itself: longer than any outage, and shorter than what librdkafka takes.
const NEVER: Duration = Duration::from_secs(20 * 24 * 3600);

impl Config {
    /// Builds a logger that is not global: to nest it in another, to tee, or to call its methods directly.
    ///
    /// Starts its threads and returns without waiting for a broker, unless [`Startup::Check`] asks for that.
    ///
    /// # Errors
    ///
    /// [`LoggerError::Config`] names an option that cannot work, [`LoggerError::Dependency`] a transport that is
    /// not compiled in, [`LoggerError::Startup`] what [`Startup::Check`] found. No thread is left
    /// behind, but one that is inside a call of the `kafka` crate and ends with it.
    pub fn build(mut self) -> Result<KafkaLogger, LoggerError> {
        if let Some(sasl) = &mut self.delivery.sasl {
            sasl.read_password()?;
        }
        self.validate()?;
        KafkaLogger::start(self)
    }
}

/// A logger that ships records to a Kafka topic. A cheap handle: clones share one pipeline.
///
/// A log call formats its record on the caller's thread, copies it into a bounded queue and returns: it does no
/// I/O, it never waits for a broker, and what cannot be taken is dropped and counted. Dropping the last handle
/// flushes up to 5 s and ends the pipeline's threads.
///
/// ```no_run
/// use kafka_log::{Config, fields};
///
/// # fn main() -> Result<(), kafka_log::LoggerError> {
/// let logger = Config::new("localhost:9092", "app.logs").logger_name("api").build()?;
/// logger.info("user authenticated", [("user_id", "u_19")]);
/// logger.critical("disk full", fields! { free_bytes = 0, mount = "/var" });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct KafkaLogger {
    pipeline: Arc<Pipeline>,
}

impl KafkaLogger {
    pub(crate) fn start(config: Config) -> Result<KafkaLogger, LoggerError> {
        let choice = transport::choose(&config)?;
        KafkaLogger::start_with(config, choice)
    }

    fn start_with(mut config: Config, choice: Choice) -> Result<KafkaLogger, LoggerError> {
        let counters = Arc::new(Counters::default());
        let (records, bytes) = (config.queue_records, config.queue_bytes);
        let queue = Arc::new(Queue::new(records, bytes, config.overflow, Arc::clone(&counters)));
        let health = Arc::new(Health::new(choice.transport, choice.client.clone()));
        let (level, logger_name, startup) = (config.level, config.logger_name.clone(), config.startup);
        let (record_bytes, oversize) = (config.record_bytes(), config.oversize);
        let format = if config.use_json { Format::Json } else { Format::Text };
        let call = {
            let queue = Arc::clone(&queue);
            Arc::new(move || queue.call())
        };
        let no_thread = |error: io::Error| {
            StartupError::new(StartupErrorKind::System, format!("no thread could be started: {error}"))
        };
        let callback = config.on_delivery_error.clone().map(|callback| callback.0);
        let fallback = match Sink::open(&config.fallback)? {
            Some(sink) => {
                let shape = Shape { format, logger_name: logger_name.clone(), limit: record_bytes };
                let (counters, health) = (Arc::clone(&counters), Arc::clone(&health));
                Some(Fallback::start(sink, shape, bytes, counters, health).map_err(no_thread)?)
            }
            None => None,
        };
        let losses = Losses::new(&config.topic, callback, fallback, Arc::clone(&counters)).map_err(no_thread)?;
        let losses = Arc::new(losses);
        let linger = config.delivery.linger();
        let patience = config.delivery.delivery_timeout;
        let detour = match &config.spool {
            Some(spool) => {
                let (losses, counters, health) = (Arc::clone(&losses), Arc::clone(&counters), Arc::clone(&health));
                let detour = Detour::open(spool, &queue, losses, counters, health).map_err(LoggerError::Spool)?;
                config.delivery.delivery_timeout = NEVER;
                Some(detour)
            }
            None => None,
        };
        let ahead = detour.as_ref().and_then(Detour::ahead);
        let has_spool = detour.is_some();
        let factory = choice.factory(config, Arc::clone(&health), call);

        // Clients log while they are set up: on this thread, which is ours for that time.
        let ours = recursion::enter();
        let mut client = factory()?;
        if let Startup::Check(timeout) = startup {
            client.check(timeout)?;
        }
        drop(ours);

        let worker = {
            let (queue, losses, health) = (Arc::clone(&queue), Arc::clone(&losses), Arc::clone(&health));
            Worker { linger, queue, losses, health, factory, patience }
        };
        let run = move || worker.run(client, detour);
        thread::Builder::new().name("kafka_log".into()).spawn(run).map_err(no_thread)?;
        // Only now: dropping a pipeline waits for its worker.
        let pipeline = Pipeline {
            level,
            logger_name,
            format,
            record_bytes,
            oversize,
            queue,
            ahead,
            has_spool,
            counters,
            losses,
            health,
        };
        Ok(KafkaLogger { pipeline: Arc::new(pipeline) })
    }

    /// Logs at TRACE. Like all its siblings it does what a log macro does, with a message and fields.
    pub fn trace(&self, message: impl fmt::Display, fields: impl Source) {
        self.record(Severity::Trace, &message, &fields);
    }

    /// Logs at DEBUG.
    pub fn debug(&self, message: impl fmt::Display, fields: impl Source) {
        self.record(Severity::Debug, &message, &fields);
    }

    /// Logs at INFO.
    ///
    /// ```no_run
    /// # let logger = kafka_log::Config::default().build().unwrap();
    /// logger.info("user authenticated", [("user_id", "u_19")]);
    /// ```
    pub fn info(&self, message: impl fmt::Display, fields: impl Source) {
        self.record(Severity::Info, &message, &fields);
    }

    /// Logs at WARN, `"warning"` in the payload.
    pub fn warning(&self, message: impl fmt::Display, fields: impl Source) {
        self.record(Severity::Warning, &message, &fields);
    }

    /// Logs at ERROR.
    pub fn error(&self, message: impl fmt::Display, fields: impl Source) {
        self.record(Severity::Error, &message, &fields);
    }

    /// Logs above ERROR: filtered as ERROR, `"critical"` in the payload.
    pub fn critical(&self, message: impl fmt::Display, fields: impl Source) {
        self.record(Severity::Critical, &message, &fields);
    }

    /// Logs at a level that is known at run time only.
    pub fn log_at(&self, level: Level, message: impl fmt::Display, fields: impl Source) {
        self.record(level.into(), &message, &fields);
    }

    /// Logs at TRACE, for a [`Delivered`] to await.
    ///
    /// Like all its siblings it queues the record before it returns, as its namesake without the `a` does; awaiting the
    /// [`Delivered`] is for whoever wants to know how it went. It always resolves.
    pub fn atrace(&self, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(Severity::Trace, None, format_args!("{message}"), &fields)
    }

    /// Logs at DEBUG, for a [`Delivered`] to await.
    pub fn adebug(&self, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(Severity::Debug, None, format_args!("{message}"), &fields)
    }

    /// Logs at INFO, for a [`Delivered`] to await.
    ///
    /// ```no_run
    /// # async fn example(logger: kafka_log::KafkaLogger) {
    /// match logger.ainfo("order placed", [("order_id", "o_7")]).await {
    ///     Ok(delivery) => println!("partition {} offset {:?}", delivery.partition, delivery.offset),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn ainfo(&self, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(Severity::Info, None, format_args!("{message}"), &fields)
    }

    /// Logs at WARN, for a [`Delivered`] to await.
    pub fn awarning(&self, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(Severity::Warning, None, format_args!("{message}"), &fields)
    }

    /// Logs at ERROR, for a [`Delivered`] to await.
    pub fn aerror(&self, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(Severity::Error, None, format_args!("{message}"), &fields)
    }

    /// Logs at ERROR, `"critical"` in the payload, for a [`Delivered`] to await.
    pub fn acritical(&self, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(Severity::Critical, None, format_args!("{message}"), &fields)
    }

    /// As [`log_at`](KafkaLogger::log_at), for a [`Delivered`] to await.
    pub fn alog_at(&self, level: Level, message: impl fmt::Display, fields: impl Source) -> Delivered {
        self.awaited(level.into(), None, format_args!("{message}"), &fields)
    }

    /// Waits until every record logged before this call has its outcome, `timeout` at most.
    ///
    /// # Errors
    ///
    /// When the time runs out first; nothing is given up then. On a thread of the pipeline's own, where waiting
    /// would be for ever, it is an error at once if anything is pending.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<(), FlushError> {
        self.pipeline.flush(timeout)
    }

    /// Refuses records from now on, waits up to `timeout` for those pending, and ends the pipeline's threads.
    ///
    /// What has no outcome by then moves from `pending` to `dropped.shutdown`. Of several calls the earliest deadline
    /// holds, and each reports the same records as unsent. A client that is busy goes on to end behind this call.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.pipeline.shutdown(timeout)
    }

    /// The counts now. Never blocks.
    pub fn stats(&self) -> Stats {
        self.pipeline.counters.read()
    }

    /// What is known about the way to the brokers. Never waits for a broker.
    pub fn status(&self) -> Status {
        self.pipeline.health.read()
    }

    /// The end of the process: what has not arrived by then goes to the fallback, if there is one.
    pub(crate) fn at_exit(&self, timeout: Duration) {
        let settled = self.flush_timeout(timeout).is_ok();
        if !self.pipeline.losses.has_fallback() && !self.pipeline.has_spool {
            return;
        }
        // With a spool in any case: how far all is settled is noted at its end.
        if settled && !self.pipeline.has_spool {
            self.pipeline.losses.last_words(deadline::after(LAST_WORDS));
        } else {
            self.shutdown(Duration::ZERO);
        }
    }

    pub(crate) fn level(&self) -> LevelFilter {
        self.pipeline.level
    }

    /// Logs a record that somebody awaits.
    pub(crate) fn awaited(
        &self,
        severity: Severity,
        target: Option<&str>,
        message: fmt::Arguments<'_>,
        fields: &dyn Source,
    ) -> Delivered {
        let pipeline = &*self.pipeline;
        if severity.level() > pipeline.level {
            return Delivered::failed(DeliveryError {
                kind: DeliveryErrorKind::Filtered,
                cause: format!("the level {} is not taken", severity.as_str()).into(),
                ..DeliveryError::nothing(severity.level(), target)
            });
        }
        let tracked = Arc::new(Tracked::new(target, true));
        pipeline.take(severity, target, message, fields, Some(Arc::clone(&tracked)));
        Delivered::on_its_way(tracked)
    }

    /// Takes a ready-made payload, past the format: for measurements of what comes after it.
    #[doc(hidden)]
    pub fn enqueue(&self, payload: &[u8]) {
        self.pipeline.take_payload(payload);
    }

    fn record(&self, severity: Severity, message: &dyn fmt::Display, fields: &dyn Source) {
        if severity.level() <= self.pipeline.level {
            self.pipeline.accept(severity, None, format_args!("{message}"), fields);
        }
    }
}

impl Log for KafkaLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.pipeline.level
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let severity = record.level().into();
            self.pipeline.accept(severity, Some(record.target()), *record.args(), record.key_values());
        }
    }

    /// Waits up to 5 s; how it went is in the counts.
    fn flush(&self) {
        let _ = self.flush_timeout(LAST_FLUSH);
    }
}

impl fmt::Debug for KafkaLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLogger").field("status", &self.status()).field("stats", &self.stats()).finish()
    }
}

/// The road from the caller's thread to the queue, and what is known about the rest of it. All handles of a logger share
/// one; the worker does not have it, so dropping the last handle drops it.
struct Pipeline {
    level: LevelFilter,
    logger_name: Option<String>,
    format: Format,
    /// The largest payload, and what becomes of a larger one.
    record_bytes: usize,
    oversize: Oversize,
    queue: Arc<Queue>,
    /// Where records go to the disk before their call returns.
    ahead: Option<Ahead>,
    has_spool: bool,
    counters: Arc<Counters>,
    losses: Arc<Losses>,
    health: Arc<Health>,
}

impl Pipeline {
    /// Takes one record that nobody awaits.
    fn accept(&self, severity: Severity, target: Option<&str>, message: fmt::Arguments<'_>, fields: &dyn Source) {
        let tracked = self.losses.tracks_all().then(|| Arc::new(Tracked::new(target, false)));
        self.take(severity, target, message, fields, tracked);
    }

    /// Takes one record that has passed the filter: it is counted here, and nowhere earlier.
    fn take(
        &self,
        severity: Severity,
        target: Option<&str>,
        message: fmt::Arguments<'_>,
        fields: &dyn Source,
        tracked: Option<Arc<Tracked>>,
    ) {
        let counters = &*self.counters;
        let (time, called) = clock::now();
        let meta = Meta { severity, timestamp_ms: time.millis(), called, number: 0, tracked };
        if recursion::on_our_thread() {
            counters.submitted();
            counters.dropped(DropReason::Recursive, 1);
            return self.losses.recursive(&meta);
        }
        let entry = Entry { time, severity, logger_name: self.logger_name.as_deref(), target, message, fields };
        let mut payload = buffer::borrow();
        let panicking = CountPanic(counters);
        let formatted = self.format.write(&entry, self.record_bytes, &mut payload);
        std::mem::forget(panicking);
        match formatted {
            Formatted::Whole { fields_left_out } => {
                if self.enter(&payload, meta) {
                    counters.fields_left_out(fields_left_out);
                }
            }
            formatted => self.oversize(&payload, meta, formatted),
        }
    }

    /// Takes a record that had to be cut, or drops it.
    #[cold]
    fn oversize(&self, payload: &[u8], meta: Meta, formatted: Formatted) {
        let counters = &*self.counters;
        let payload = match formatted {
            Formatted::Truncated { fields_left_out, original_bytes } => {
                if let Some(tracked) = &meta.tracked {
                    tracked.truncated(original_bytes);
                }
                if self.oversize == Oversize::Truncate {
                    if self.enter(payload, meta) {
                        counters.fields_left_out(fields_left_out);
                        counters.truncated();
                    }
                    return;
                }
                payload
            }
            // What has been written is a torso.
            _ => &[],
        };
        counters.submitted();
        counters.dropped(DropReason::Oversize, 1);
        self.losses.dropped(&meta, payload, DropReason::Oversize);
    }

    /// Takes a payload as it is.
    fn take_payload(&self, payload: &[u8]) {
        let (time, called) = clock::now();
        let meta = Meta { severity: Severity::Info, timestamp_ms: time.millis(), called, number: 0, tracked: None };
        self.enter(payload, meta);
    }

    /// Queues a payload; whether it was taken.
    fn enter(&self, payload: &[u8], meta: Meta) -> bool {
        let announced = self.ahead.as_ref().and_then(|ahead| Some((ahead, self.queue.announce(&meta)?)));
        let entered = match announced {
            Some((ahead, announced)) => match ahead.append(payload, &meta, announced, &self.queue) {
                Ok(()) => return true,
                Err(refusal) => {
                    self.counters.spool_refused();
                    self.health.error(refusal.to_string());
                    self.queue.push_counted(payload, meta)
                }
            },
            None => self.queue.push(payload, meta),
        };
        match entered {
            Ok(pushed) => {
                if !pushed.evicted.is_empty() {
                    self.tell_evicted(pushed.evicted);
                }
                true
            }
            Err(refused) => {
                self.losses.dropped(&refused.meta, payload, refused.reason);
                self.tell_evicted(refused.evicted);
                false
            }
        }
    }

    fn tell_evicted(&self, evicted: Vec<Batch>) {
        for mut batch in evicted {
            while let Some((payload, meta)) = batch.pop() {
                self.losses.dropped(&meta, payload, DropReason::QueueFull);
            }
        }
    }

    fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let settled = if recursion::on_our_thread() {
            self.counters.read().pending == 0
        } else {
            let deadline = deadline::after(timeout);
            let settled = self.queue.wait_settled(deadline);
            self.losses.wait_written(deadline.min(deadline::after(LAST_WORDS)));
            settled
        };
        if settled { Ok(()) } else { Err(FlushError { waited: timeout, pending: self.counters.read().pending }) }
    }

    fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let deadline = deadline::after(timeout);
        let grace = if self.has_spool { GRACE_FOR_DISK } else { GRACE };
        self.queue.close(deadline);
        if !recursion::on_our_thread()
            && self.queue.wait_stopped(deadline::after(timeout.saturating_add(grace))).is_none()
        {
            // The worker does not answer: it is left behind with what it holds, which is counted here.
            worker::abandon(&self.queue, &self.losses, || 0);
        }
        if !recursion::on_our_thread() {
            self.losses.last_words(deadline::after(LAST_WORDS));
        }
        let unsent = self.queue.wait_stopped(Instant::now()).unwrap_or(0);
        let stats = self.counters.read();
        ShutdownReport { stats, unsent, spooled: stats.spooled, timed_out: unsent > 0 || stats.spooled > 0 }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shutdown(LAST_FLUSH);
    }
}

/// Counts a record whose formatting panicked; forgotten when it did not.
struct CountPanic<'a>(&'a Counters);

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        self.0.submitted();
        self.0.dropped(DropReason::Format, 1);
    }
}

#[cfg(test)]
mod tests;
