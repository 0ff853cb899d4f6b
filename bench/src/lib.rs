//! What the processes of a benchmark share: the task that a child is given, the records it logs, how it measures.
//!
//! The programs are in `benches`, where Cargo tells them its directory for temporary files.
#![allow(clippy::print_stdout)]

pub mod child;
pub mod floor;
mod load;
pub mod machine;
pub mod record;
pub mod task;
mod usage;

/// The one in the middle; of an even number, what is between both.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let (lower, upper) = (figures.len().saturating_sub(1) / 2, figures.len() / 2);
    Some(f64::midpoint(*figures.get(lower)?, *figures.get(upper)?))
}
