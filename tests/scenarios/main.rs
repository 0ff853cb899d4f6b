//! What an application lives through, each scenario in a process of its own.
//!
//! A scenario has two sides. The child is the application: this binary again, told by an environment variable which
//! part to play; its part runs in `main` and returns from it, so that a return from `main` is a real one. The parent
//! is the test: it holds the broker, which is librdkafka's mock cluster, and looks at what the child left behind and
//! at what arrived. A child asserts what only it can see; its panic is its exit code, and the parent shows its words.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "a test binary; its children talk to it")]

#[allow(unused_imports, reason = "it serves the broker tests too")]
#[path = "../support/mod.rs"]
mod support;

mod awaited;
mod broker;
mod call;
mod child;
mod direct;
mod exit;
mod fallback;
mod init;
mod input;
mod inside;
mod names;
mod outage;
mod recursion;
mod spool;
mod startup;

use child::Scenario;
use libtest_mimic::{Arguments, Trial};

fn main() {
    let scenarios = [
        awaited::scenarios(),
        call::scenarios(),
        direct::scenarios(),
        exit::scenarios(),
        fallback::scenarios(),
        init::scenarios(),
        input::scenarios(),
        inside::scenarios(),
        names::scenarios(),
        outage::scenarios(),
        recursion::scenarios(),
        spool::scenarios(),
        startup::scenarios(),
    ]
    .concat();
    match child::part() {
        Some(name) => play(&scenarios, &name),
        None => run(scenarios),
    }
}

/// The child's side: returns from `main` as any application does.
fn play(scenarios: &[Scenario], name: &str) {
    let scenario = scenarios.iter().find(|scenario| scenario.name() == name);
    scenario.unwrap_or_else(|| panic!("there is no scenario {name}")).play();
}

/// The parent's side.
fn run(scenarios: Vec<Scenario>) {
    let trials = scenarios
        .into_iter()
        .map(|scenario| {
            Trial::test(scenario.name().to_owned(), move || {
                scenario.watch();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
