//! `pvusb-agent test`: what a policy does to devices that are written down, against what is expected.
//!
//! Reads and shows. What becomes of a device the agent's own core decides, by way of `paper`.

use super::explain::{Answer as Explained, explain, write_text as write_explanation};
use super::sheet;
use super::{DEFAULT_POLICY, EX_CONFIG, EX_IOERR, EX_OK, write_schema};
use crate::model::Text;
use crate::paper::{self, Outcome, Sheet, Test};
use crate::policy::{Policy, Problem, Problems};
use crate::policy_file;
use clap::Args;
use serde::Serialize;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A test has failed, or there is none.
const EX_FAILED: u8 = 1;

/// Where tests of the installed policy are.
const DEFAULT_TESTS: &str = "/etc/pvusb-agent/tests";

/// The policy that tests in a directory beside it are about.
const MAIN: &str = "policy.yaml";

/// A whole file of tests.
macro_rules! example {
    () => {
        "  version: 1
  policy: ../policy.yaml
  devices:
    scanner: {id: \"05e0:1200\", interfaces: [\"03:01:01\"], drivers: [usbhid]}
  domains: [kiosk]
  tests:
    - name: the scanner belongs to the kiosk
      expect: {scanner: {attach: kiosk, rule: front desk scanner}}"
    };
}

pub(super) const HELP: &str = concat!(
    "Example of a test:\n",
    example!(),
    "
Everything that can stand there is in docs/policy.md.
Exit codes: 0 all passed, 1 one has failed or there is none, 74 cannot write, 78 bad policy or test."
);

/// For who has no test yet.
const BEGIN: &str = concat!(
    "Write the first one, as a file that ends in .yaml:\n",
    example!(),
    "
`pvusb-agent record` writes devices that are plugged in this form; pvusb-agent-policy(5) tells the rest."
);

/// Arguments of `test`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct TestArgs {
    /// Files of tests, or directories of them; without any, /etc/pvusb-agent/tests
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The policy to test, whatever the files say. Without it, and if a file names none, it is
    /// ../policy.yaml as seen from the file, or the installed one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Only the tests with this in their name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Fail also if there is a rule that decides about no device of which a test expects something
    #[arg(long, conflicts_with_all = ["name", "list"])]
    every_rule: bool,
    /// List the tests and run none
    #[arg(long, conflicts_with = "json")]
    list: bool,
    /// Answer in one JSON document
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of files of tests, for editors, and run none
    #[arg(long, conflicts_with_all = ["files", "policy", "name", "every_rule", "list", "json"])]
    schema: bool,
}

/// What came of a file. The names of the fields are an interface.
#[derive(Serialize)]
struct FileAnswer {
    file: String,
    policy: String,
    tests: Vec<TestAnswer>,
}

#[derive(Serialize)]
struct TestAnswer {
    name: String,
    /// The line where it begins.
    line: usize,
    ok: bool,
    /// The rules that decide about the devices of which it expects something.
    rules: BTreeSet<String>,
    failures: Vec<Failure>,
}

/// A rule about which no test says anything.
#[derive(Serialize)]
struct Untested {
    rule: String,
    location: String,
}

/// An expectation that is not met.
#[derive(Serialize)]
struct Failure {
    device: String,
    problem: Problem,
    explanation: Explained,
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    files: &'a [FileAnswer],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    untested: &'a [Untested],
    problems: Vec<&'a Problem>,
}

pub(super) fn run(args: &TestArgs, out: &mut dyn Write, err: &mut dyn Write, colour: bool) -> u8 {
    if args.schema {
        return write_schema(&paper::json_schema(), out);
    }
    let mut bench = Bench { args, policies: BTreeMap::new(), bad: Vec::new() };
    let (paths, unreadable) = paths(&args.files);
    bench.bad.extend(unreadable);
    let files: Vec<FileAnswer> = paths.iter().filter_map(|path| bench.file(path)).collect();
    let untested = if args.every_rule { bench.untested(&files) } else { Vec::new() };
    let bad = bench.bad;
    let tests = || files.iter().flat_map(|file| &file.tests);
    let count = tests().count();
    let all = count > 0 && tests().all(|test| test.ok) && untested.is_empty();
    let ok = bad.is_empty() && all;
    let problems = bad.iter().flatten().collect();
    let written = if args.json {
        write_json(&Answer { ok, files: &files, untested: &untested, problems }, out)
    } else {
        write_text(&files, args.list, out).and_then(|()| {
            for Untested { rule, location } in &untested {
                writeln!(out, "no test of `{}` ({location})", Text::from(&**rule))?;
            }
            bad.iter().try_for_each(|problems| writeln!(err, "{}", problems.render(colour)))?;
            if count == 0 && bad.is_empty() {
                write_none(args, err)?;
            }
            Ok(())
        })
    };
    match written.and_then(|()| out.flush()) {
        Err(_) => EX_IOERR,
        Ok(()) if !bad.is_empty() => EX_CONFIG,
        Ok(()) if ok => EX_OK,
        Ok(()) => EX_FAILED,
    }
}

/// The files of tests, and what is wrong with those that cannot be listed.
fn paths(named: &[PathBuf]) -> (Vec<PathBuf>, Vec<Problems>) {
    let usual = Path::new(DEFAULT_TESTS);
    // That nobody has written tests yet is no mistake.
    let usual = if usual.exists() { vec![usual.to_owned()] } else { Vec::new() };
    let named = if named.is_empty() { &usual } else { named };
    let (mut paths, mut bad) = (Vec::new(), Vec::new());
    for path in named {
        if path.is_dir() {
            match policy_file::drop_ins(path) {
                Ok(files) => paths.extend(files),
                Err(problems) => bad.push(problems),
            }
        } else {
            paths.push(path.clone());
        }
    }
    (paths, bad)
}

fn write_none(args: &TestArgs, err: &mut dyn Write) -> io::Result<()> {
    if let Some(name) = &args.name {
        return writeln!(
            err,
            "pvusb-agent: there is no test with `{}` in its name; --list shows all",
            Text::from(&**name)
        );
    }
    let places = args.files.iter().map(|path| path.to_string_lossy());
    let places = match args.files.as_slice() {
        [] => DEFAULT_TESTS.to_owned(),
        _ => places.collect::<Vec<_>>().join(", "),
    };
    writeln!(err, "pvusb-agent: there is no test yet in {}\n\n{BEGIN}", Text::from(&*places))
}

/// What runs the tests. Each policy is read once.
struct Bench<'a> {
    args: &'a TestArgs,
    /// Policies by their path; none for one that is bad.
    policies: BTreeMap<PathBuf, Option<Policy>>,
    bad: Vec<Problems>,
}

impl Bench<'_> {
    fn file(&mut self, path: &Path) -> Option<FileAnswer> {
        let sheet = match sheet::load(path) {
            Ok(sheet) => sheet,
            Err(problems) => {
                self.bad.push(problems);
                return None;
            }
        };
        let at = self.policy_of(&sheet, path);
        let (file, policy) =
            (path.to_string_lossy().into_owned(), at.to_string_lossy().into_owned());
        let chosen = |test: &&Test| self.args.name.as_ref().is_none_or(|it| test.name.contains(it));
        let chosen: Vec<&Test> = sheet.tests().iter().filter(chosen).collect();
        if self.args.list || chosen.is_empty() {
            let untold = |test| TestAnswer::new(test, BTreeSet::new(), Vec::new());
            let tests = chosen.into_iter().map(untold).collect();
            return Some(FileAnswer { file, policy, tests });
        }
        let in_force = self.policy(at)?;
        let tests = chosen.into_iter().map(|test| tested(test, &sheet, in_force)).collect();
        Some(FileAnswer { file, policy, tests })
    }

    /// The rules of all policies that decide in no test of theirs. Rules that are switched off decide
    /// nowhere.
    fn untested(&self, files: &[FileAnswer]) -> Vec<Untested> {
        let mut untested = Vec::new();
        for (path, policy) in &self.policies {
            let path = path.to_string_lossy();
            let about = files.iter().filter(|file| file.policy == path);
            let decided: BTreeSet<&String> =
                about.flat_map(|file| &file.tests).flat_map(|test| &test.rules).collect();
            let rules = policy.iter().flat_map(Policy::rules).filter(|rule| rule.is_enabled());
            untested.extend(rules.filter(|rule| !decided.contains(&rule.label())).map(|rule| {
                Untested { rule: rule.label(), location: rule.location().to_string() }
            }));
        }
        untested
    }

    /// Where the policy is that a file is about.
    fn policy_of(&self, sheet: &Sheet, path: &Path) -> PathBuf {
        let said = self.args.policy.clone().or_else(|| sheet::policy_named_in(sheet, path));
        said.unwrap_or_else(|| {
            let folder = path.parent();
            let beside = folder.map(|folder| match folder.parent() {
                Some(above) => above.join(MAIN),
                None => Path::new("..").join(MAIN),
            });
            beside.filter(|beside| beside.exists()).unwrap_or_else(|| DEFAULT_POLICY.into())
        })
    }

    /// The policy, with everything that lies beside it.
    fn policy(&mut self, path: PathBuf) -> Option<&Policy> {
        let read = match self.policies.entry(path) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let loaded = policy_file::load_in_force(place.key());
                place.insert(match loaded {
                    Ok(in_force) => Some(in_force.policy),
                    Err(problems) => {
                        self.bad.push(problems);
                        None
                    }
                })
            }
        };
        read.as_ref()
    }
}

impl TestAnswer {
    fn new(test: &Test, rules: BTreeSet<String>, failures: Vec<Failure>) -> Self {
        Self {
            name: test.name.to_string(),
            line: test.location.position().line,
            ok: failures.is_empty(),
            rules,
            failures,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the core needs some instant to count from")]
fn tested(test: &Test, sheet: &Sheet, policy: &Policy) -> TestAnswer {
    let observed = sheet.observed_in(test);
    let outcomes = Outcome::all(policy, &observed, Instant::now());
    let expected = test.expectations.iter().filter_map(|it| outcomes.get(&it.busid));
    let rules = expected.filter_map(|outcome| outcome.rule.clone()).collect();
    let failures = test.expectations.iter().filter_map(|expectation| {
        let (device, outcome) =
            observed.devices.get(&expectation.busid).zip(outcomes.get(&expectation.busid))?;
        Some(Failure {
            device: expectation.device.to_string(),
            problem: sheet.unmet(expectation, outcome)?,
            explanation: explain(device, policy, &observed, true),
        })
    });
    TestAnswer::new(test, rules, failures.collect())
}

fn write_json(answer: &Answer<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

fn write_text(files: &[FileAnswer], list: bool, out: &mut dyn Write) -> io::Result<()> {
    for FileAnswer { file, tests, .. } in files.iter().filter(|file| !file.tests.is_empty()) {
        let file = Text::from(&**file);
        if list {
            let names = tests.iter().map(|test| (test.line, Text::from(&*test.name)));
            for (line, name) in names {
                writeln!(out, "{file}:{line}: {name}")?;
            }
            continue;
        }
        writeln!(out, "{file}")?;
        for TestAnswer { name, ok, failures, .. } in tests {
            writeln!(out, "  {}  {}", if *ok { "ok    " } else { "FAILED" }, Text::from(&**name))?;
            failures.iter().try_for_each(|failure| write_failure(failure, out))?;
            if !ok {
                writeln!(out)?;
            }
        }
    }
    if list {
        return Ok(());
    }
    let total = files.iter().map(|file| file.tests.len()).sum::<usize>();
    let failed = files.iter().flat_map(|file| &file.tests).filter(|test| !test.ok).count();
    if total > 0 {
        let noun = if total == 1 { "test" } else { "tests" };
        writeln!(out, "{total} {noun}: {} passed, {failed} failed", total - failed)?;
    }
    Ok(())
}

/// The place of the expectation, and below it how the device was judged.
fn write_failure(failure: &Failure, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", failure.problem.render(false).trim_end())?;
    let mut text = Vec::new();
    write_explanation(&failure.explanation, &mut text)?;
    writeln!(out)?;
    for line in String::from_utf8_lossy(&text).lines() {
        writeln!(out, "{}", format!("    {line}").trim_end())?;
    }
    Ok(())
}
