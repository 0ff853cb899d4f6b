//! What calls cost and what is delivered, as a picture.

use std::error::Error;
use std::path::Path;

use kafka_log_bench::task::{State, Who};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::suite::Row;

const WIDTH: u32 = 1_100;
/// Of a row, in pixels.
const STEP: u32 = 18;
const LEFT: i32 = 330;
const TOP: i32 = 70;
const FONT: (&str, i32) = ("sans-serif", 16);
/// Times from 10 ns to 100 ms, in powers of ten.
const DECADES: (i32, i32) = (1, 8);

/// A line for each logger and load with the broker up: from p50 to p99.9, on a logarithmic scale, with a dot at the p50, a
/// tick at the p99 and a ring at the mean; and the records delivered in a second.
pub fn draw(rows: &[Row], file: &Path) -> Result<(), Box<dyn Error>> {
    let calls: Vec<&Row> =
        rows.iter().filter(|row| row.broker == State::Up && row.void.is_none() && row.figures.p50.is_some()).collect();
    let rates: Vec<(&Row, f64)> = rows
        .iter()
        .filter(|row| row.load.starts_with("hot, 1") && row.void_delivery.is_none())
        .filter_map(|row| Some((row, row.figures.rate?)))
        .filter(|(row, _)| row.who != Who::Floor)
        .collect();
    let height = TOP as u32 + STEP * (calls.len() + rates.len()) as u32 + 150;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |words: &str, at: (i32, i32), anchor: HPos| {
        let style = FONT.into_font().color(&BLACK).pos(Pos::new(anchor, VPos::Center));
        area.draw(&Text::new(words.to_string(), at, style))
    };

    text("A log call, broker up: dot p50, ring mean, tick p99, end p99.9", (LEFT, 20), HPos::Left)?;
    let right = WIDTH as i32 - 40;
    let x = |ns: f64| {
        let share = (ns.max(1.0).log10() - f64::from(DECADES.0)) / f64::from(DECADES.1 - DECADES.0);
        LEFT + (share.clamp(0.0, 1.0) * f64::from(right - LEFT)) as i32
    };
    let bottom = TOP + (STEP as usize * calls.len()) as i32;
    for decade in DECADES.0..=DECADES.1 {
        let at = x(10_f64.powi(decade));
        area.draw(&PathElement::new(vec![(at, TOP - 15), (at, bottom)], BLACK.mix(0.15)))?;
        let words = ["10 ns", "100 ns", "1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms"];
        text(words[(decade - DECADES.0) as usize], (at, TOP - 25), HPos::Center)?;
    }
    for (number, row) in calls.iter().enumerate() {
        let y = TOP + (STEP as usize * number) as i32;
        let color = color(row.who);
        text(&format!("{}, {}", row.who.name(), row.load), (LEFT - 10, y), HPos::Right)?;
        let figures = row.figures;
        let (p50, mean) = (x(figures.p50.unwrap_or_default()), x(figures.mean.unwrap_or_default()));
        let (p99, p999) = (x(figures.p99.unwrap_or_default()), x(figures.p999.unwrap_or_default()));
        area.draw(&PathElement::new(vec![(p50, y), (p999, y)], color.stroke_width(2)))?;
        area.draw(&PathElement::new(vec![(p99, y - 5), (p99, y + 5)], color.stroke_width(2)))?;
        area.draw(&Circle::new((p50, y), 4, color.filled()))?;
        area.draw(&Circle::new((mean, y), 4, color.stroke_width(1)))?;
    }

    let top = bottom + 60;
    text("Records a second from one thread, to the last acknowledgement", (LEFT, top - 25), HPos::Left)?;
    let most = rates.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    for (number, (row, rate)) in rates.iter().enumerate() {
        let y = top + (STEP as usize * number) as i32;
        text(row.who.name(), (LEFT - 10, y), HPos::Right)?;
        let to = LEFT + (rate / most * f64::from(right - LEFT - 80)) as i32;
        area.draw(&Rectangle::new([(LEFT, y - 6), (to, y + 6)], color(row.who).filled()))?;
        text(&format!("{rate:.0}"), (to + 6, y), HPos::Left)?;
    }
    area.present()?;
    Ok(())
}

fn color(who: Who) -> RGBColor {
    match who {
        Who::Floor => RGBColor(110, 110, 110),
        Who::Async => RGBColor(31, 119, 180),
        Who::Sync => RGBColor(44, 160, 44),
        Who::HandRolled => RGBColor(214, 39, 40),
        Who::KafkaLogger => RGBColor(148, 103, 189),
        Who::Tracing => RGBColor(255, 127, 14),
        Who::Logforth => RGBColor(140, 86, 75),
    }
}
