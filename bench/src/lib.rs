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
