//! What the figures are to be, and whether they are.

use kafka_log_bench::task::{State, Who};
use serde::Serialize;

use crate::common::LINGER;
use crate::suite::{Results, Row};

#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub what: String,
    pub figure: f64,
    pub bound: f64,
    /// Else at most.
    pub at_least: bool,
    pub met: bool,
    pub unit: &'static str,
}

/// Those for which there are figures.
pub fn of(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    for who in [Who::Async, Who::Sync] {
        calls(results, who, &mut targets);
    }
    for who in [Who::Async, Who::Sync] {
        let own = of_who(&results.off, who).and_then(|row| row.figures.loop_mean_beside);
        at_most(format!("{}: level off, beside log's own", who.name()), own, 1.1, &mut targets);
    }
    let yardstick = of_who(&results.delivery, Who::HandRolled).and_then(|row| row.figures.rate);
    for (who, bound) in [(Who::Async, 1.0), (Who::Sync, 2.0)] {
        let ours = of_who(&results.delivery, who).and_then(|row| row.figures.rate);
        let what = format!("{}: records/s, beside hand-rolled", who.name());
        at_least(what, over(ours, yardstick), bound, &mut targets);
    }
    for row in &results.lone {
        let late = row.figures.max.map(|max| max / 1e6 - LINGER.as_secs_f64() * 1e3);
        at_most_of(format!("{}: a lone record, after linger", row.who.name()), late, 10.0, "ms", &mut targets);
    }
    for memory in &results.memory {
        let growth = memory.row.figures.growth_kib.map(|growth| growth as f64 / 1024.0);
        let what = format!("{}: growth with no broker, {}", memory.row.who.name(), memory.row.load);
        at_most_of(what, growth, (memory.queue_bytes >> 20) as f64 + 8.0, "MiB", &mut targets);
    }
    targets
}

/// Each logger beside the floor in its own process: a machine does not go at the same speed all the time.
fn calls(results: &Results, who: Who, targets: &mut Vec<Target>) {
    let row = |who, load: &str, broker| {
        results.rows.iter().find(|row| row.who == who && row.load == load && row.broker == broker)
    };
    let p50 = |row: Option<&Row>| row?.figures.p50_beside;
    let mean = |row: Option<&Row>| row?.figures.loop_mean_beside;
    let ours = row(who, "hot, 1", State::Up);
    let name = who.name();
    at_most(format!("{name}: hot, 1: p50 beside the floor"), p50(ours), 1.3, targets);
    at_most(format!("{name}: hot, 1: mean beside the floor"), mean(ours), 1.6, targets);
    let tail = ours.and_then(|row| row.figures.p999).map(|p999| p999 / 1e3);
    at_most_of(format!("{name}: hot, 1: p99.9"), tail, 10.0, "us", targets);
    let peer = mean(row(Who::HandRolled, "hot, 1", State::Up));
    at_least(format!("{name}: hot, 1: hand-rolled's mean beside this"), over(peer, mean(ours)), 2.5, targets);
    let two = row(who, "hot, 2", State::Up);
    at_most(format!("{name}: hot, 2: p50 beside the floor"), p50(two), 1.5, targets);
    for broker in [State::Absent, State::Frozen] {
        let away = row(who, "hot, 1", broker);
        let filling = away.and_then(|row| row.figures.first_p50_beside);
        let word = broker.word();
        let what = format!("{name}: hot, 1: p50, {word} beside up");
        at_most(what, over(p50(away), p50(ours)), 1.1, targets);
        let what = format!("{name}: hot, 1: p50 while the queue fills, {word} beside up");
        at_most(what, over(filling, p50(ours)), 1.1, targets);
    }
}

fn of_who(rows: &[Row], who: Who) -> Option<&Row> {
    rows.iter().find(|row| row.who == who)
}

fn over(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below?)
}

fn at_most(what: String, figure: Option<f64>, bound: f64, targets: &mut Vec<Target>) {
    at_most_of(what, figure, bound, "times", targets);
}

fn at_most_of(what: String, figure: Option<f64>, bound: f64, unit: &'static str, targets: &mut Vec<Target>) {
    let target = |figure| Target { what, figure, bound, at_least: false, met: figure <= bound, unit };
    targets.extend(figure.map(target));
}

fn at_least(what: String, figure: Option<f64>, bound: f64, targets: &mut Vec<Target>) {
    let target = |figure| Target { what, figure, bound, at_least: true, met: figure >= bound, unit: "times" };
    targets.extend(figure.map(target));
}
