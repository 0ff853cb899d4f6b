//! All that is measured, in its order.

use kafka_log_bench::median;
use kafka_log_bench::task::{Load, Measured, State, Task, Who};
use serde::Serialize;

use crate::arguments::{Arguments, Part};
use crate::children::Children;

pub struct Suite<'a> {
    pub children: &'a Children,
    pub arguments: &'a Arguments,
}

/// What each part has brought; nothing where it was not asked for.
#[derive(Default)]
pub struct Results {
    pub rows: Vec<Row>,
    pub off: Vec<Row>,
    pub lone: Vec<Row>,
    pub memory: Vec<Memory>,
    pub delivery: Vec<Row>,
    pub growth: Vec<Row>,
}

impl Results {
    /// What is void of kafka_log's own, and why. What is void of others is their own affair.
    pub fn void_of_ours(&self) -> Vec<String> {
        let memory = self.memory.iter().map(|memory| &memory.row);
        let parts = [&self.rows, &self.off, &self.lone, &self.delivery, &self.growth];
        let rows = parts.into_iter().flatten().chain(memory).filter(|row| matches!(row.who, Who::Async | Who::Sync));
        let reasons = |row: &Row| row.void.iter().chain(&row.void_delivery).cloned().collect::<Vec<_>>();
        let line =
            |row: &Row, reason| format!("{}, {}, broker {}: {reason}", row.who.name(), row.load, row.broker.word());
        rows.flat_map(|row| reasons(row).into_iter().map(move |reason| line(row, reason))).collect()
    }
}

/// Figures, each the median of its rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub who: Who,
    pub load: String,
    pub broker: State,
    /// Why there are no figures, or none of the delivery.
    pub void: Option<String>,
    pub void_delivery: Option<String>,
    pub figures: Measured,
    pub rounds: Vec<Measured>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    pub row: Row,
    pub queue_bytes: usize,
}

/// So many records are fewer than kafka_log's queue holds, and librdkafka's, by default.
const BURST: u64 = 50_000;

/// And so many bytes.
const BURST_BYTES: u64 = 16 << 20;

/// Half of them are timed call by call, half as a whole.
const BURSTS: u64 = 40;

/// One row to be: what is run for it, again in each round.
struct Cell {
    who: Who,
    load: String,
    broker: State,
    message: Option<usize>,
    queue: Option<(usize, usize)>,
    /// What calls cost.
    calls: Option<Load>,
    /// What is delivered.
    stream: Option<Load>,
}

impl Suite<'_> {
    pub fn run(&self) -> Results {
        self.warm_the_broker();
        let mut results = Results::default();
        if self.arguments.has(Part::Table) {
            results.rows = self.rows(self.table());
        }
        if self.arguments.has(Part::Off) {
            let calls = self.amount(100_000_000, 10_000_000);
            let who = [Who::Async, Who::Sync];
            results.off = self.rows(who.map(|who| cell(who, "level off", State::Up).calls(Load::Off { calls })).into());
        }
        if self.arguments.has(Part::Lone) {
            let samples = self.amount(100, 20);
            let who = [Who::Async, Who::Sync];
            let load = Load::Lone { samples };
            results.lone = self.rows(who.map(|who| cell(who, "one at a time", State::Up).calls(load)).into());
        }
        if self.arguments.has(Part::Memory) {
            results.memory = self.memory();
        }
        if self.arguments.has(Part::Delivery) {
            results.delivery = self.delivery();
        }
        if self.arguments.has(Part::Growth) {
            results.growth = self.rows(self.growth());
        }
        results
    }

    /// A broker that has just started compiles itself on the processors that are measured.
    fn warm_the_broker(&self) {
        let load = Load::Stream { threads: 1, records: self.amount(2_000_000, 20_000) };
        for who in [Who::HandRolled, Who::Async, Who::Sync] {
            eprintln!("before: {}, to a broker that gets warm", who.name());
            if let Err(error) = self.children.run(who, load, State::Up, |_| ()) {
                eprintln!("before: {}: {error}", who.name());
            }
        }
    }

    fn amount(&self, whole: u64, short: u64) -> u64 {
        if self.arguments.short { short } else { whole }
    }

    fn table(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for broker in State::ALL {
            for who in &self.arguments.who {
                if broker != State::Up && !who.is_kafkas() {
                    // It knows of no broker.
                    continue;
                }
                let few = self.arguments.short && broker != State::Up;
                for threads in [1, 2, 8].into_iter().take(if few { 1 } else { 3 }) {
                    let cell = cell(*who, &format!("hot, {threads}"), broker).calls(self.hot(threads, None));
                    let delivers = broker == State::Up && (threads == 1 || !self.arguments.short);
                    cells.push(if delivers { cell.stream(self.stream(threads, None)) } else { cell });
                }
                for (per_second, whole, short) in [(100, 300, 30), (10_000, 20_000, 3_000)] {
                    if few && per_second == 100 {
                        continue;
                    }
                    let load = Load::Paced { per_second, records: self.amount(whole, short) };
                    cells.push(cell(*who, &format!("paced, {per_second}/s"), broker).calls(load));
                }
            }
        }
        cells
    }

    fn growth(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for who in self.arguments.who.iter().filter(|who| matches!(who, Who::Floor | Who::Async | Who::Sync)) {
            for message in [100, 1_000, 10_000] {
                for threads in [1, 2, 4, 8, 64] {
                    let load = format!("{} B, {threads}", message);
                    let cell = cell(*who, &load, State::Up).calls(self.hot(threads, Some(message)));
                    cells.push(Cell { message: Some(message), ..cell.stream(self.stream(threads, Some(message))) });
                }
            }
        }
        cells
    }

    fn hot(&self, threads: usize, message: Option<usize>) -> Load {
        let burst = message.map_or(BURST, |length| BURST.min(BURST_BYTES / length as u64));
        Load::Hot { threads, burst, bursts: self.amount(BURSTS, 2) }
    }

    fn stream(&self, threads: usize, message: Option<usize>) -> Load {
        let records = self.amount(1_000_000, 200_000);
        Load::Stream { threads, records: message.map_or(records, |length| records * 100 / (length as u64 + 100)) }
    }

    fn memory(&self) -> Vec<Memory> {
        const RECORDS: u64 = 1_000_000;
        let mut cells = Vec::new();
        for who in [Who::Async, Who::Sync] {
            for (name, queue) in [
                ("default queue", None),
                ("64 MiB, any number", Some((64 << 20, RECORDS as usize))),
                ("16 MiB, any number", Some((16 << 20, RECORDS as usize))),
            ] {
                let cell = cell(who, name, State::Absent).calls(Load::Flood { records: RECORDS });
                cells.push(Cell { queue, ..cell });
            }
        }
        let bounds: Vec<usize> = cells.iter().map(|cell| cell.queue.map_or(64 << 20, |queue| queue.0)).collect();
        let rows = self.rows(cells);
        rows.into_iter().zip(bounds).map(|(row, queue_bytes)| Memory { row, queue_bytes }).collect()
    }

    fn delivery(&self) -> Vec<Row> {
        let rounds = if self.arguments.short { 1 } else { self.arguments.rounds.max(5) };
        let who = [Who::HandRolled, Who::Async, Who::Sync];
        let cells = who.map(|who| {
            let records = self.amount(2_000_000, 200_000);
            cell(who, "log::info! to offset, lz4", State::Up).stream(Load::Stream { threads: 1, records })
        });
        self.rows_of(cells.into(), rounds)
    }

    fn rows(&self, cells: Vec<Cell>) -> Vec<Row> {
        self.rows_of(cells, self.arguments.rounds)
    }

    /// The rounds of all take turns, so that each meets the same machine.
    fn rows_of(&self, cells: Vec<Cell>, rounds: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = cells.iter().map(Cell::row).collect();
        for round in 1..=rounds {
            for (cell, row) in cells.iter().zip(&mut rows) {
                eprintln!("round {round}: {}, {}, broker {}", cell.who.name(), cell.load, cell.broker.word());
                self.run_cell(cell, row);
            }
        }
        for row in &mut rows {
            row.figures = medians(&row.rounds);
        }
        rows
    }

    fn run_cell(&self, cell: &Cell, row: &mut Row) {
        let change = |task: &mut Task| {
            task.message = cell.message;
            (task.queue_bytes, task.queue_records) = (cell.queue.map(|queue| queue.0), cell.queue.map(|queue| queue.1));
        };
        let mut figures = Measured::default();
        match cell.calls.map(|load| self.children.run(cell.who, load, cell.broker, change)) {
            Some(Ok(calls)) => figures = calls,
            Some(Err(reason)) => row.void = Some(reason),
            None => {}
        }
        match cell.stream.map(|load| self.children.run(cell.who, load, cell.broker, change)) {
            Some(Ok(stream)) => {
                let Measured { rate, cpu_seconds, peak_kib, growth_kib, .. } = stream;
                figures = Measured { rate, cpu_seconds, peak_kib, growth_kib, ..figures };
            }
            Some(Err(reason)) => row.void_delivery = Some(reason),
            None => {}
        }
        row.rounds.push(figures);
    }
}

fn cell(who: Who, load: &str, broker: State) -> Cell {
    Cell { who, load: load.into(), broker, message: None, queue: None, calls: None, stream: None }
}

impl Cell {
    fn calls(self, load: Load) -> Cell {
        Cell { calls: Some(load), ..self }
    }

    fn stream(self, load: Load) -> Cell {
        Cell { stream: Some(load), ..self }
    }

    fn row(&self) -> Row {
        Row {
            who: self.who,
            load: self.load.clone(),
            broker: self.broker,
            void: None,
            void_delivery: None,
            figures: Measured::default(),
            rounds: Vec::new(),
        }
    }
}

/// Of each figure by itself.
fn medians(rounds: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> Option<f64>| median(rounds.iter().filter_map(figure).collect());
    let whole = |figure: fn(&Measured) -> Option<u64>| {
        median(rounds.iter().filter_map(figure).map(|figure| figure as f64).collect()).map(|figure| figure as u64)
    };
    Measured {
        records: whole(|round| Some(round.records)).unwrap_or_default(),
        delivered: whole(|round| round.delivered),
        lost: whole(|round| Some(round.lost)).unwrap_or_default(),
        mean: of(|round| round.mean),
        p50: of(|round| round.p50),
        p99: of(|round| round.p99),
        p999: of(|round| round.p999),
        max: of(|round| round.max),
        first_p50: of(|round| round.first_p50),
        loop_mean: of(|round| round.loop_mean),
        p50_beside: of(|round| round.p50_beside),
        first_p50_beside: of(|round| round.first_p50_beside),
        floor_loop_mean: of(|round| round.floor_loop_mean),
        loop_mean_beside: of(|round| round.loop_mean_beside),
        rate: of(|round| round.rate),
        cpu_seconds: of(|round| round.cpu_seconds),
        peak_kib: whole(|round| round.peak_kib),
        growth_kib: whole(|round| round.growth_kib),
        clock: of(|round| round.clock),
        clock_step: of(|round| round.clock_step),
    }
}
