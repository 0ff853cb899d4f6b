//! The tables, as text or Markdown, and all of it as JSON.

use kafka_log_bench::machine::{commit, machine};
use kafka_log_bench::task::{Measured, State};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::how;
use crate::suite::{Results, Row};
use crate::targets::Target;

pub fn print(results: &Results, targets: &[Target], arguments: &Arguments, load: &str) {
    let markdown = arguments.markdown;
    let rounds = if arguments.rounds == 1 { "one round".into() } else { format!("medians of {}", arguments.rounds) };
    let short = if arguments.short { "; short, so that figures say little" } else { "" };
    println!("{}; load before {load}; Kafka 4.4.0; commit {}; {rounds}{short}", machine(), commit());
    let show = |title: &str, head: &[&str], lines: Vec<Vec<String>>, notes: &[&str]| {
        if !lines.is_empty() {
            print_table(title, head, &lines, notes, markdown);
        }
    };
    let call_head = ["", "load", "broker", "p50", "x floor", "mean", "loop mean", "x floor", "p99", "p99.9", "max"];
    let more = ["records/s", "CPU s/M", "peak MiB", "filling", "lost", ""];
    let head: Vec<&str> = call_head.iter().chain(&more).copied().collect();
    show("What a log call costs", &head, results.rows.iter().map(call_line).collect(), how::CALLS);
    if let Some(row) = results.rows.iter().find(|row| row.figures.clock.is_some()) {
        let Measured { clock, clock_step, .. } = row.figures;
        println!(
            "\nThe clock's own cost, in each of the calls timed one by one: {:.1} ns; it goes in steps of {:.0} ns.",
            clock.unwrap_or_default(),
            clock_step.unwrap_or_default()
        );
    }
    let off = |row: &Row| {
        let short = |ns: Option<f64>| ns.map_or("-".into(), |ns| format!("{ns:.2} ns"));
        vec![row.who.name().into(), short(row.figures.loop_mean), short(row.figures.floor_loop_mean)]
    };
    show("A call below the level", &["", "a call", "log's own"], results.off.iter().map(off).collect(), &[how::OFF]);
    let lone = |row: &Row| {
        let Measured { p50, p99, max, .. } = row.figures;
        vec![row.who.name().into(), time(p50), time(p99), time(max), reasons(row)]
    };
    show("A lone record", &["", "p50", "p99", "max", ""], results.lone.iter().map(lone).collect(), &[how::LONE]);
    let memory = results.memory.iter().map(|memory| {
        let Measured { growth_kib, loop_mean, lost, .. } = memory.row.figures;
        let row = &memory.row;
        let bound = format!("{} MiB", (memory.queue_bytes >> 20) + 8);
        vec![row.who.name().into(), row.load.clone(), mebibytes(growth_kib), bound, time(loop_mean), lost.to_string()]
    });
    let head = ["", "queue", "growth MiB", "bound", "a call", "lost"];
    show("Memory without a broker", &head, memory.collect(), &[how::MEMORY]);
    show("Delivery, end to end", &DELIVERY, delivery_lines(&results.delivery), &[how::DELIVERY]);
    let head = ["", "message, threads", "p50", "mean", "loop mean", "records/s", ""];
    show("Growth", &head, results.growth.iter().map(growth_line).collect(), &[how::GROWTH]);
    let target = |target: &Target| {
        let bound = format!("{} {}", if target.at_least { "at least" } else { "at most" }, target.bound);
        let figure = format!("{:.2} {}", target.figure, target.unit);
        vec![target.what.clone(), figure, bound, if target.met { "met" } else { "MISSED" }.into()]
    };
    show("Targets", &["", "figure", "bound", ""], targets.iter().map(target).collect(), &[]);
}

fn call_line(row: &Row) -> Vec<String> {
    let Measured { p50, mean, loop_mean, p99, p999, max, p50_beside, loop_mean_beside, .. } = row.figures;
    let Measured { rate, cpu_seconds, peak_kib, first_p50, lost, .. } = row.figures;
    let mut line = vec![row.who.name().into(), row.load.clone(), row.broker.word().into()];
    match &row.void {
        Some(_) => line.extend(vec!["VOID".into(); 8]),
        None => {
            let times = |beside: Option<f64>| beside.map_or("-".into(), |beside| format!("{beside:.2}"));
            line.extend([time(p50), times(p50_beside), time(mean), time(loop_mean)]);
            line.extend([times(loop_mean_beside), time(p99), time(p999), time(max)]);
        }
    }
    match &row.void_delivery {
        Some(_) => line.extend(vec!["VOID".into(); 3]),
        None => line.extend([thousands(rate), seconds(cpu_seconds), mebibytes(peak_kib)]),
    }
    let away = row.broker != State::Up && row.load.starts_with("hot");
    line.push(time(first_p50.filter(|_| away)));
    line.push(match (row.broker, row.figures.delivered) {
        (State::Up, _) => "-".into(),
        (_, Some(_)) => lost.to_string(),
        (_, None) => "uncounted".into(),
    });
    line.push(reasons(row));
    line
}

/// Why figures are void.
fn reasons(row: &Row) -> String {
    row.void.iter().chain(&row.void_delivery).cloned().collect::<Vec<_>>().join("; ")
}

const DELIVERY: [&str; 7] = ["", "records/s", "least", "most", "ratio", "CPU s/M", "peak MiB"];

fn delivery_lines(rows: &[Row]) -> Vec<Vec<String>> {
    let yardstick = rows.first().and_then(|row| row.figures.rate);
    let line = |row: &Row| {
        let name = row.who.name().to_string();
        if row.void_delivery.is_some() {
            return vec![name, "VOID".into(), reasons(row)];
        }
        let rates = || row.rounds.iter().filter_map(|round| round.rate);
        let Measured { rate, cpu_seconds, peak_kib, .. } = row.figures;
        let ratio = rate.zip(yardstick).map_or("-".into(), |(rate, yardstick)| format!("{:.2}", rate / yardstick));
        let (least, most) = (rates().reduce(f64::min), rates().reduce(f64::max));
        vec![name, thousands(rate), thousands(least), thousands(most), ratio, seconds(cpu_seconds), mebibytes(peak_kib)]
    };
    rows.iter().map(line).collect()
}

fn growth_line(row: &Row) -> Vec<String> {
    let Measured { p50, mean, loop_mean, rate, .. } = row.figures;
    vec![row.who.name().into(), row.load.clone(), time(p50), time(mean), time(loop_mean), thousands(rate), reasons(row)]
}

fn print_table(title: &str, head: &[&str], lines: &[Vec<String>], notes: &[&str], markdown: bool) {
    if markdown {
        println!("\n### {title}\n\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        for line in lines {
            let empty = " |".repeat(head.len() - line.len());
            println!("| {} |{empty}", line.join(" | "));
        }
        println!();
        notes.iter().for_each(|note| println!("- {note}"));
        return;
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let print_line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, cell) in cells.enumerate() {
            // The last one may have a reason in it, and is as wide as it likes.
            let left = column == 0 || head[column].is_empty();
            let width = widths[column];
            line += &if left { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        println!("{}", line.trim_end());
    };
    println!("\n{title}\n");
    print_line(&mut head.iter().copied());
    lines.iter().for_each(|line| print_line(&mut line.iter().map(String::as_str)));
    println!();
    notes.iter().for_each(|note| println!("  {note}"));
}

/// Nanoseconds, in the unit that suits.
fn time(ns: Option<f64>) -> String {
    match ns {
        None => "-".into(),
        Some(ns) if ns < 9_999.5 => format!("{ns:.0} ns"),
        Some(ns) if ns < 9_999_500.0 => format!("{:.0} us", ns / 1e3),
        Some(ns) => format!("{:.1} ms", ns / 1e6),
    }
}

fn thousands(rate: Option<f64>) -> String {
    let Some(rate) = rate else { return "-".into() };
    let digits = format!("{rate:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or("-".into(), |seconds| format!("{seconds:.2}"))
}

fn mebibytes(kib: Option<u64>) -> String {
    kib.map_or("-".into(), |kib| format!("{:.1}", kib as f64 / 1024.0))
}

pub fn json(results: &Results, targets: &[Target], load: &str) -> Value {
    json!({
        "load_before": load,
        "machine": machine(),
        "commit": commit(),
        "how": { "calls": how::CALLS, "off": how::OFF, "lone": how::LONE, "memory": how::MEMORY,
            "delivery": how::DELIVERY, "growth": how::GROWTH, "times": "nanoseconds" },
        "calls": results.rows,
        "off": results.off,
        "lone": results.lone,
        "memory": results.memory,
        "delivery": results.delivery,
        "growth": results.growth,
        "targets": targets,
    })
}
