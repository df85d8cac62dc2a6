//! The long run: `cargo run --release --example soak -- --seeds 10000 --ops 1000`.
//!
//! And the storm: `cargo run --release --example soak -- --storm --seconds 3600 --rate 1000`.
//!
//! Plays the worlds of many seeds, says what was counted, and for a seed that fails a short list of
//! operations that fails in the same way.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use pvusb_agent::sim::{self, Counts};
use std::process::ExitCode;
use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "worlds need some instant to begin with")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        let text = at.and_then(|at| arguments.get(at + 1));
        text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (first, seeds) = (number("--first", 0), number("--seeds", 1000));
    let ops = usize::try_from(number("--ops", 1000)).unwrap_or(1000);
    let mut failures = number("--failures", 5);
    let epoch = Instant::now();
    if arguments.iter().any(|argument| argument == "--storm") {
        let storm = sim::storm(number("--seconds", 3600), number("--rate", 1000), epoch);
        println!("{storm}\ntook {:.1?}", epoch.elapsed());
        return if storm.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (mut counts, mut failed) = (Counts::default(), 0_u64);
    for seed in first..first + seeds {
        let (setting, list) = (sim::setting(seed), sim::ops(seed, ops));
        let world = sim::play(&setting, &list, epoch);
        counts.add(&world.counts);
        if let Some(violation) = world.violations.first() {
            failed += 1;
            println!("seed {seed}: {violation}");
            println!(
                "again: cargo run --release --example soak -- --first {seed} --seeds 1 --ops {ops}"
            );
            if failures > 0 {
                failures -= 1;
                let short = sim::shrink(&setting, &list, epoch, 2000);
                println!("{}", sim::write(&setting, &short));
            }
        }
    }
    let took = epoch.elapsed();
    println!("{counts}");
    let operations = u32::try_from(counts.operations()).unwrap_or(u32::MAX);
    println!("{seeds} seeds in {took:.1?}: {:.1?} an operation", took / operations.max(1));
    println!("violations: {failed}");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
