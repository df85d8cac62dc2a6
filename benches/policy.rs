//! What a policy of 10 000 rules costs: to load, with and without warnings, and to decide about a device,
//! with the index and by a plain scan beside it; what it takes of memory at several sizes; and how soon
//! hostile texts are refused. `cargo bench --bench policy`; the numbers of one run are in
//! docs/benchmarks.md.
//!
//! No framework: a median of many runs tells what there is to tell.
#![expect(clippy::print_stdout, reason = "this is what it is for")]
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "it measures, on a clock")]

use pvusb_agent::model::Device;
use pvusb_agent::policy::{Candidate, Policy, Role, Source, compile, lint_files};
use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "../tests/policy/hostile.rs"]
mod hostile;

const RULES: usize = 10_000;

/// Policies of this many rules, each with another kind of rule.
fn policies(rules: usize) -> Vec<(&'static str, String)> {
    let text = |rule: &dyn Fn(usize) -> String| {
        let mut text = String::from("version: 1\nrules:\n");
        for at in 0..rules {
            writeln!(text, "- {{{}, attach: [kiosk, desk]}}", rule(at)).unwrap();
        }
        text
    };
    vec![
        (
            "id and port",
            text(&|at| format!("name: rule {at}, match: {{id: '{at:04x}:1200', port: 1-1.4}}")),
        ),
        ("a serial number", text(&|at| format!("name: rule {at}, match: {{serial: SN{at:06}}}"))),
        (
            "a category and a vendor",
            text(&|at| {
                format!("match: {{category: storage, id: '{at:04x}:*', not: {{speed: low}}}}")
            }),
        ),
        ("a name by wildcard", text(&|at| format!("match: {{product: '*Scanner {at}*'}}"))),
        (
            "a category and a name",
            text(&|at| format!("match: {{category: storage, product: 'Stick {at}', speed: high}}")),
        ),
    ]
}

/// The time that this thread has spent on a processor: the machine may be busy with something else
/// (`Documentation/scheduler/sched-stats.rst`: nanoseconds on a processor come first).
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// The median of some runs that take long enough for the processor's time to be told.
fn median_spent(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let before = spent();
            run();
            spent().saturating_sub(before)
        })
        .collect();
    times.sort_unstable();
    times[runs / 2]
}

/// The median of some runs.
fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let before = Instant::now();
            run();
            before.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[runs / 2]
}

fn load(text: &str) -> Policy {
    compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap()
}

/// The memory that the program has now, in KiB (`/proc/self/statm`: the second number, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

/// What one policy of so many rules takes, in a process of its own: what others have freed would hide it.
fn memory() {
    let own = std::env::current_exe().unwrap();
    println!("\n| rules | bytes | KiB | bytes a rule |\n|---|---|---|---|");
    for rules in [1000, 2500, 5000, 10_000] {
        let child = Command::new(&own).env(MEMORY_OF, rules.to_string()).output().unwrap();
        print!("{}", String::from_utf8(child.stdout).unwrap());
    }
}

fn memory_of(rules: usize) {
    let (_, text) = policies(rules).swap_remove(0);
    // What it takes to read it at all is not counted.
    drop(load("version: 1\nrules: []\n"));
    let before = resident();
    let policy = load(&text);
    let taken = resident().saturating_sub(before);
    println!("| {rules} | {} | {taken} | {} |", text.len(), taken * 1024 / rules);
    drop(black_box(policy));
}

fn refusals() {
    println!("\n| hostile text | bytes | refused in |\n|---|---|---|");
    for (name, bytes, _) in hostile::hostile() {
        let source = Source { name, bytes: &bytes };
        let time =
            median_spent(5, || drop(black_box(compile(source).map_err(|it| it.render(false)))));
        println!("| {name} | {} | {:.0} ms |", bytes.len(), time.as_secs_f64() * 1e3);
    }
}

/// Asks for the memory of a policy of so many rules instead.
const MEMORY_OF: &str = "PVUSB_AGENT_BENCH_MEMORY_OF";

/// Asks for one reading of the text of this name instead, so that its instructions can be counted
/// (`valgrind --tool=callgrind`). `honest` is the first policy above.
const READ: &str = "PVUSB_AGENT_BENCH_READ";

fn read_once(name: &str) {
    if name == "honest" {
        drop(black_box(load(&policies(RULES).swap_remove(0).1)));
    }
    for (_, bytes, _) in hostile::hostile().iter().filter(|(text, ..)| *text == name) {
        let source = Source { name, bytes };
        drop(black_box(compile(source).map_err(|it| it.render(false))));
    }
}

fn main() {
    if let Some(rules) = std::env::var(MEMORY_OF).ok().and_then(|it| it.parse().ok()) {
        memory_of(rules);
        return;
    }
    if let Ok(name) = std::env::var(READ) {
        read_once(&name);
        return;
    }
    decisions();
    memory();
    refusals();
}

fn decisions() {
    // A device that no rule matches is the dearest.
    let device = Device {
        product: Some("Bar Code Scanner".into()),
        serial: Some("S/N".into()),
        ..Device::new(
            "1-1.4".parse().unwrap(),
            "1.6".parse().unwrap(),
            "ffff:ffff".parse().unwrap(),
        )
    };
    let candidate = Candidate::alone(&device);
    println!("| {RULES} rules that ask for | bytes | load | with warnings | decide | plain scan |");
    println!("|---|---|---|---|---|---|");
    for (name, text) in policies(RULES) {
        let policy = load(&text);
        let source = Source { name: "policy.yaml", bytes: text.as_bytes() };
        let linted = median_spent(5, || drop(black_box(lint_files(&[(Role::Main, source)]))));
        let load = median_spent(9, || drop(black_box(load(&text))));
        let decide = median(1001, || {
            black_box(policy.judge(black_box(&candidate)));
        });
        let scan = median(1001, || {
            let rules = policy.rules().iter();
            black_box(rules.clone().find(|rule| rule.matcher().matches(black_box(&candidate))));
        });
        println!(
            "| {name} | {} | {:.0} ms | {:.0} ms | {:.1} µs | {:.1} µs |",
            text.len(),
            load.as_secs_f64() * 1e3,
            linted.as_secs_f64() * 1e3,
            decide.as_secs_f64() * 1e6,
            scan.as_secs_f64() * 1e6,
        );
    }
    println!("\n| rules that ask for id and port | load |\n|---|---|");
    for rules in [1000, 2500, 5000, 10_000] {
        let (_, text) = policies(rules).swap_remove(0);
        let time = median_spent(9, || drop(black_box(load(&text))));
        println!("| {rules} | {:.0} ms |", time.as_secs_f64() * 1e3);
    }
}
