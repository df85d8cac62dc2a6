//! The policy language from outside: golden files, properties, hostile texts.
//!
//! `tests/policy/reject/*.yaml` with what is said of each in `.stderr`, and
//! `tests/policy/accept/*.yaml` with how each is understood in `.shown`. `SNAPSHOTS=overwrite`
//! writes the expected files anew.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use clap::Parser;
use proptest::prelude::*;
use pvusb_agent::cli::check::{self, CheckArgs};
use pvusb_agent::model::{Anchor, Device, Speed};
use pvusb_agent::policy::{
    Action, Candidate, Code, MAX_BYTES, OnUnplug, Policy, Problem, Problems, Role, Rule, Severity,
    Source, When, compile, lint_files,
};
use pvusb_agent::policy_file;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "../policy/hostile.rs"]
mod hostile;
use hostile::hostile;

fn read(text: &str) -> Result<Policy, Problems> {
    compile(Source { name: "policy.yaml", bytes: text.as_bytes() })
}

fn codes(problems: &Problems) -> Vec<Code> {
    problems.iter().map(Problem::code).collect()
}

/// The files of `tests/policy/<folder>` that end in `.yaml`, with their names.
pub(crate) fn files(folder: &str) -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let named = yaml.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named.collect::<BTreeMap<_, _>>().into_iter().collect()
}

pub(crate) fn assert_file(actual: String, expected: &Path) {
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
    assert.eq(actual, snapbox::Data::read_from(expected, None).raw());
}

#[test]
fn each_rejected_policy_is_answered_as_it_stands_in_its_file() {
    for (name, path) in files("reject") {
        let bytes = fs::read(&path).unwrap();
        let problems = compile(Source { name: &name, bytes: &bytes }).expect_err(&name);
        assert_file(problems.render(false), &path.with_extension("stderr"));
    }
}

#[test]
fn each_policy_of_hardly_any_sense_is_warned_of_as_it_stands_in_its_file() {
    for (name, path) in files("lint") {
        let warnings = warnings(&name, &path).expect(&name);
        let is_warning = |it: &Problem| it.severity() == Severity::Warning;
        assert!(warnings.iter().all(is_warning), "{warnings}");
        assert_file(warnings.render(false), &path.with_extension("stderr"));
    }
}

fn warnings(name: &str, path: &Path) -> Option<Problems> {
    let bytes = fs::read(path).unwrap();
    let linted = lint_files(&[(Role::Main, Source { name, bytes: &bytes })]);
    linted.unwrap_or_else(|problems| panic!("{problems}")).warnings
}

#[test]
fn every_code_has_an_example() {
    // A bad scenario is not a policy: tests/simulation has examples. Nor is a host on paper: paper.rs.
    // It takes two files to define an alias twice: tests/integration/files.rs has an example.
    let generated = [
        Code::Unreadable,
        Code::TooLong,
        Code::TooMany,
        Code::BadScenario,
        Code::BadFact,
        Code::UnknownName,
        Code::SamePlace,
        Code::BadExpectation,
        Code::Unmet,
        Code::DuplicateName,
        // tests/convert has examples of what is no policy of others.
        Code::UnknownFormat,
        Code::BadForeignRule,
        Code::NotConvertible,
        Code::MoreProblems,
        // It takes a host: `a_domain_that_nobody_knows_is_warned_of`.
        Code::UnknownDomain,
    ];
    let mut seen = BTreeSet::from(generated);
    for (name, path) in files("reject") {
        let bytes = fs::read(path).unwrap();
        seen.extend(codes(&compile(Source { name: &name, bytes: &bytes }).unwrap_err()));
    }
    for (name, path) in files("lint") {
        seen.extend(codes(&warnings(&name, &path).unwrap()));
    }
    let unseen: Vec<_> = Code::ALL.iter().filter(|code| !seen.contains(code)).collect();
    assert!(unseen.is_empty(), "no example of {unseen:?}");
}

#[test]
fn each_accepted_policy_is_understood_as_it_stands_in_its_file() {
    for (name, path) in files("accept") {
        let bytes = fs::read(&path).unwrap();
        let policy = compile(Source { name: &name, bytes: &bytes })
            .unwrap_or_else(|problems| panic!("{problems}"));
        let shown = policy.to_yaml().unwrap();
        assert_eq!(read(&shown).as_ref(), Ok(&policy), "{name}");
        assert_file(shown, &path.with_extension("shown"));
        assert_file(crate::zoo::decisions(&policy), &path.with_extension("decisions"));
        let said = warnings(&name, &path).map(|it| it.render(false)).unwrap_or_default();
        let warned = path.with_extension("warnings");
        if !said.is_empty() || warned.exists() {
            assert_file(said, &warned);
        }
    }
}

/// Another reader of YAML finds the same keys in the same places, so nothing was skipped.
#[test]
fn a_second_reader_sees_the_same_keys() {
    for (name, path) in files("accept") {
        let bytes = fs::read(&path).unwrap();
        let policy = compile(Source { name: &name, bytes: &bytes }).unwrap();
        let understood: Vec<_> = policy.rules().iter().map(keys_of_rule).collect();
        assert_eq!(keys_by_serde(&bytes), understood, "{name}");
    }
}

/// The keys of each rule, as `serde_yaml` reads them. It takes a byte order mark for a document.
fn keys_by_serde(text: &[u8]) -> Vec<BTreeSet<String>> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let value: serde_yaml::Value = serde_yaml::from_slice(text).unwrap();
    value["rules"].as_sequence().unwrap().iter().map(keys).collect()
}

/// The keys of a rule and those of its match, as `match.id`.
fn keys(rule: &serde_yaml::Value) -> BTreeSet<String> {
    let own = rule.as_mapping().unwrap().iter().filter(|(key, _)| key.as_str() != Some("match"));
    let own = own.map(|(key, _)| key.as_str().unwrap().to_owned());
    let conditions = rule["match"].as_mapping().unwrap().keys();
    own.chain(conditions.map(|key| format!("match.{}", key.as_str().unwrap()))).collect()
}

fn keys_of_rule(rule: &Rule) -> BTreeSet<String> {
    let conditions = rule.matcher().conditions().iter();
    let mut keys: BTreeSet<_> = conditions.map(|it| format!("match.{}", it.key())).collect();
    let own = [
        ("name", rule.name().is_some()),
        ("description", rule.description().is_some()),
        ("enabled", !rule.is_enabled()),
        ("when", *rule.when() != When::default()),
        ("limit", rule.limit().is_some()),
        ("on_unplug", rule.on_unplug() != OnUnplug::Clean),
        ("on_identity_change", rule.on_identity_change().is_some()),
        ("wait", rule.settle().is_some() || rule.patience().is_some()),
    ];
    keys.extend(own.iter().filter(|(_, is_said)| *is_said).map(|(key, _)| (*key).to_owned()));
    keys.insert(match rule.action() {
        Action::Attach(_) => "attach".into(),
        Action::Keep => "keep".into(),
        Action::Block => "block".into(),
    });
    keys
}

#[test]
fn what_is_done_at_an_unplug_if_nothing_is_said_can_be_said() {
    let rule = |more: &str| format!("version: 1\nrules: [{{match: {{id: '*'}}, attach: a{more}}}]");
    assert_eq!(read(&rule("")), read(&rule(", on_unplug: clean")));
    assert_ne!(read(&rule("")), read(&rule(", name: x, on_unplug: hold 1s")));
}

#[test]
fn a_rule_is_named_by_its_name_or_its_number_and_by_its_place() {
    let policy = read(
        "version: 1\nrules:\n  - match: {id: \"*:*\"}\n    attach: a\n  - name: the \"b\"\n    \
         match: {id: \"*:*\"}\n    keep: dom0\n",
    );
    let shown: Vec<_> =
        policy.unwrap().rules().iter().map(|rule| (rule.label(), rule.to_string())).collect();
    let expected = [
        ("rule 1".into(), "rule 1 (policy.yaml:3)".into()),
        ("the \"b\"".into(), "rule \"the \"b\"\" (policy.yaml:5)".into()),
    ];
    assert_eq!(shown, expected);
}

// What a policy does.

/// A device of a small world, so that rules and devices meet often.
fn device() -> impl Strategy<Value = Device> {
    let port = prop::sample::select(vec!["1-1", "1-1.4", "1-1.4.2", "1-10", "2-1", "2-1.4"]);
    let id = prop::sample::select(vec!["05e0:1200", "05e0:1300", "abcd:1200", "0000:0000"]);
    (port, id, 1_u8..4, any::<bool>()).prop_map(|(port, id, number, anchored)| Device {
        speed: Speed::High,
        anchor: anchored.then(|| anchor_text(port).parse::<Anchor>().unwrap()),
        initialized: Some(1),
        configured: true,
        ..Device::new(
            port.parse().unwrap(),
            format!("1.{number}").parse().unwrap(),
            id.parse().unwrap(),
        )
    })
}

fn anchor_text(busid: &str) -> String {
    let (bus, ports) = busid.split_once('-').unwrap();
    format!("pci-0000:00:1{bus}.0-usb-0:{ports}")
}

/// A rule as text: match keys with their values, and the domains or none for `keep`.
type Written = (Option<String>, BTreeMap<&'static str, &'static str>, Vec<String>);

fn written_rule(names: &'static str) -> impl Strategy<Value = Written> {
    let id = prop::sample::select(vec!["05e0:1200", "05E0:*", "*:1200", "*:*", "ABCD:1200"]);
    let port = prop::sample::select(vec![
        "1-1",
        "1-1.4",
        "1-1.*",
        "1-1.4.*",
        "2-1.*",
        "pci-0000:00:11.0-usb-0:1.4",
        "pci-0000:00:11.0-usb-0:1.*",
        "pci-0000:00:12.0-usb-0:1.*",
    ]);
    let address = prop::sample::select(vec!["1.1", "1.2", "2.1"]);
    let conditions =
        (prop::option::of(id), prop::option::of(port), prop::option::weighted(0.2, address))
            .prop_map(|(id, port, address)| {
                [("id", id), ("port", port), ("bus_address", address)]
                    .into_iter()
                    .filter_map(|(key, value)| Some((key, value?)))
                    .collect::<BTreeMap<_, _>>()
            })
            .prop_filter("a match has a key", |conditions| !conditions.is_empty());
    let domains = prop::collection::vec(names.prop_map(String::from), 0..3);
    (prop::option::of(names.prop_map(String::from)), conditions, domains)
}

/// The rules as a policy's text. Strings are written as JSON, which YAML contains.
fn text_of(rules: &[Written]) -> String {
    let rules: Vec<String> = rules.iter().map(text_of_rule).collect();
    format!("version: 1\nrules:{}\n", if rules.is_empty() { " []".into() } else { rules.concat() })
}

fn text_of_rule((name, conditions, domains): &Written) -> String {
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let pair = |(key, value): (&&str, &&str)| format!("{key}: {}", json(value));
    let conditions = conditions.iter().map(pair).collect::<Vec<_>>().join(", ");
    let name = name.as_ref().map(|name| format!("  name: {}\n", json(name))).unwrap_or_default();
    let names: Vec<_> = domains.iter().map(|name| json(name)).collect();
    let action = match &names[..] {
        [] => "keep: dom0".into(),
        [one] => format!("attach: {one}"),
        all => format!("attach: [{}]", all.join(", ")),
    };
    format!("\n- match: {{{conditions}}}\n{name}  {action}")
}

/// What matching means, said once more in terms of text.
fn matches_as_text(conditions: &BTreeMap<&str, &str>, device: &Device) -> bool {
    conditions.iter().all(|(key, value)| match *key {
        "id" => {
            let (vendor, product) = value.split_once(':').unwrap();
            let id = device.id.to_string();
            let half = |pattern: &str, number| pattern == "*" || pattern.to_lowercase() == number;
            half(vendor, &id[..4]) && half(product, &id[5..])
        }
        "port" => {
            let place = if value.starts_with("pci") {
                device.anchor.as_ref().map(ToString::to_string)
            } else {
                Some(device.busid.to_string())
            };
            place.is_some_and(|place| match value.strip_suffix('*') {
                Some(prefix) => place.starts_with(prefix),
                None => place == *value,
            })
        }
        "bus_address" => device.address.to_string() == *value,
        other => panic!("{other}"),
    })
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_wins(
        rules in prop::collection::vec(written_rule("[a-c]"), 0..12), device in device()
    ) {
        let policy = read(&text_of(&rules)).unwrap();
        let judged = policy.judge(&Candidate::alone(&device)).map(std::ptr::from_ref);
        let first = rules.iter().position(|(_, conditions, _)| matches_as_text(conditions, &device));
        prop_assert_eq!(judged, first.map(|at| std::ptr::from_ref(&policy.rules()[at])));
    }

    #[test]
    fn what_is_shown_is_read_back(
        rules in prop::collection::vec(written_rule("\\PC{1,12}|[ '\"#:,&*!|>%@`{}\\[\\]?~-]{1,6}|[0-9._eExo+-]{1,6}"), 0..6)
    ) {
        let text = text_of(&rules);
        match read(&text) {
            Ok(policy) => {
                let shown = policy.to_yaml().unwrap();
                let understood: Vec<_> = policy.rules().iter().map(keys_of_rule).collect();
                prop_assert_eq!(keys_by_serde(text.as_bytes()), &understood[..], "{}", text);
                prop_assert_eq!(keys_by_serde(shown.as_bytes()), &understood[..], "{}", shown);
                prop_assert_eq!(read(&shown), Ok(policy), "{}", shown);
            }
            Err(problems) => {
                let bad_names = [Code::HiddenCharacter, Code::BadDomain, Code::BadRuleName];
                prop_assert!(codes(&problems).iter().all(|code| bad_names.contains(code)), "{}", problems);
            }
        }
    }

    #[test]
    fn any_text_is_answered_within_its_bounds(text in text_that_may_be_yaml()) {
        check_answer(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_answered_within_their_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_answer(&bytes);
    }
}

/// Pieces of policies and of YAML in any order.
fn text_that_may_be_yaml() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "version: 1\n",
        "rules:\n",
        "defaults:\n",
        "settle: ",
        "controller: ",
        "- ",
        "  ",
        "    ",
        "\n",
        "\r\n",
        ": ",
        ":",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "!t ",
        "|\n",
        ">-\n",
        "? ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "<<: ",
        "match: ",
        "id: ",
        "05e0:1200",
        "attach: ",
        "kiosk",
        "keep: dom0\n",
        "\t",
        "é",
        "受",
        "🖨️",
        "\u{202e}",
        "\u{feff}",
        "\0",
        "\\",
        "\"\\x1b\"",
        "~",
        "null",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Whatever the bytes are, the answer can be shown in every form and points into the text.
fn check_answer(bytes: &[u8]) {
    let Err(problems) = compile(Source { name: "p", bytes }) else { return };
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in &problems {
        let (start, end) = (problem.start().unwrap(), problem.end().unwrap());
        assert!(start <= end, "{problem}");
        for at in [start, end] {
            let line = lines.get(at.line - 1).unwrap_or_else(|| panic!("{problem}"));
            assert!((1..=line.chars().count() + 1).contains(&at.column), "{problem}");
        }
        assert!(!problem.message().chars().any(char::is_control));
        assert!(!problem.render(false).replace('\n', "").chars().any(char::is_control));
        assert!(!problem.render(true).is_empty());
        assert!(serde_json::to_string(problem).is_ok());
    }
}

// Hostile texts.

/// How many times as long as an honest text of the same size a hostile one may take. What that is in
/// milliseconds, `cargo bench --bench policy` tells on a machine that has nothing else to do.
const MOST: f64 = 2.0;

#[test]
fn hostile_texts_are_refused_at_once() {
    let honest = ten_thousand_rules();
    let usual = time_of(|| read(&honest).is_ok());
    for (name, bytes, expected) in hostile() {
        let answer = || compile(Source { name, bytes: &bytes }).expect_err(name);
        let problems = answer();
        let shown = problems.render(false);
        assert!(codes(&problems).contains(&expected), "{name}: {shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 400), "{name}: {shown}");
        let mut usual = usual;
        let mut ratios = Vec::new();
        while ratios.len() < 3 && ratios.iter().all(|it| *it > MOST) {
            if !ratios.is_empty() {
                // Neighbours share the caches: one is measured beside the other then.
                usual = time_of(|| read(&honest).is_ok());
            }
            ratios.push(time_of(|| answer().render(false)).as_secs_f64() / usual.as_secs_f64());
        }
        assert!(ratios.iter().any(|it| *it <= MOST), "{name}, so many times as long: {ratios:.1?}");
    }
}

/// The processor's time that `work` takes: the machine may be busy with something else.
fn time_of<T>(work: impl FnOnce() -> T) -> Duration {
    // `Documentation/scheduler/sched-stats.rst`: nanoseconds on a processor come first.
    let spent = || {
        let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().map(Duration::from_nanos).unwrap()
    };
    let before = spent();
    std::hint::black_box(work());
    spent().saturating_sub(before)
}

#[test]
fn ten_thousand_rules_are_a_policy() {
    assert_eq!(read(&ten_thousand_rules()).unwrap().rules().len(), 10_000);
}

/// Almost 800 KiB.
fn ten_thousand_rules() -> String {
    let rule = "- {name: rule, match: {id: \"05e0:1200\", port: 1-1.4}, attach: [kiosk, desk]}\n";
    format!("version: 1\nrules:\n{}", rule.repeat(10_000))
}

#[test]
fn a_list_of_problems_ends() {
    let problems = read(&format!("version: 1\nrules: [{}]\n", "a, ".repeat(150))).unwrap_err();
    assert_eq!(problems.len(), Problems::MAX + 1);
    let last = problems.iter().last().unwrap();
    assert_eq!((last.code(), last.message()), (Code::MoreProblems, "there are 50 more problems"));
}

// Files and the verb.

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    check: CheckArgs,
}

/// Runs `check` with these arguments: exit code, standard output, standard error.
fn run_check(args: &[&str]) -> (u8, String, String) {
    // Whatever domains this machine has, unless the test has a word on it.
    let usual: &[&str] = if args.contains(&"--domains") { &[] } else { &["--domains", "/none"] };
    let args = Cli::parse_from(std::iter::once(&"check").chain(usual).chain(args)).check;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = check::run(&args, &mut out, &mut err, false);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A directory with `good.yaml` and `bad.yaml`.
fn two_files() -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.yaml", "version: 1\nrules: [{match: {id: \"*:*\"}, attach: a}]\n");
    let bad = file("bad.yaml", "version: 1\nrulez: []\n");
    (dir, good, bad)
}

#[test]
fn check_answers_for_every_file() {
    let (_dir, good, bad) = two_files();
    assert_eq!(run_check(&[&good]), (0, format!("{good}: 1 rule, no problem\n"), String::new()));
    let (code, out, err) = run_check(&[&bad, &good]);
    assert_eq!((code, out), (78, format!("{good}: 1 rule, no problem\n")));
    assert!(err.starts_with("error[P012]: unknown key `rulez` in a policy\n"), "{err}");
    assert!(err.ends_with(&format!("\n{bad}: 1 problem\n")), "{err}");
}

/// In CI, that the directory is another one than was meant would be seen by nobody.
#[test]
fn check_of_a_directory_without_a_policy_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, out, err) = run_check(&[path]);
    assert_eq!((code, &*out), (78, ""));
    assert!(err.contains("there is no policy in this directory"), "{err}");
}

#[test]
fn check_shows_a_policy_that_can_be_used() {
    let (_dir, good, _) = two_files();
    let (code, out, _) = run_check(&["--show", &good]);
    assert_eq!(code, 0);
    assert!(out.starts_with(&format!("# {good}: 1 rule, no problem\n")), "{out}");
    assert_eq!(read(&out), Ok(policy_file::load(Path::new(&good)).unwrap()));
}

#[test]
fn warnings_are_told_and_count_when_they_are_denied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    fs::write(&path, "version: 1\nrules: [{match: {serial: 12}, attach: a}]\n").unwrap();
    let file = path.to_str().unwrap();
    let (code, out, err) = run_check(&[file]);
    assert_eq!((code, out), (0, format!("{file}: 1 rule, 1 warning\n")));
    assert!(err.starts_with("warning[P106]: without quotes"), "{err}");
    assert_eq!(run_check(&["--deny-warnings", file]).0, 78);
    let (code, out, _) = run_check(&["--json", file]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    let (told, problem) = (&answer["files"][0], &answer["files"][0]["problems"][0]);
    assert_eq!((code, told["ok"].as_bool(), told["rules"].as_u64()), (0, Some(true), Some(1)));
    assert_eq!(
        (problem["severity"].as_str(), problem["code"].as_str()),
        (Some("warning"), Some("P106"))
    );
}

#[test]
fn a_domain_that_nobody_knows_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.yaml");
    let text = "version: 1\ndomains: {desk: [kiosk, \"win*\"]}\nrules:\n- match: {serial: a}\n  \
                when: {absent: night}\n  attach: [desk, koisk]\n";
    fs::write(&path, text).unwrap();
    let xen = dir.path().join("xen");
    let (file, xen_dir) = (path.to_str().unwrap(), xen.to_str().unwrap());
    // Without configurations nothing is known, and nothing said.
    assert_eq!(run_check(&["--domains", xen_dir, file]).2, "");
    fs::create_dir(&xen).unwrap();
    assert_eq!(run_check(&["--domains", xen_dir, file]).2, "");
    fs::write(xen.join("kiosk.cfg"), "name = \"kiosk\"\nmemory = 512\n").unwrap();
    let (code, out, err) = run_check(&["--domains", xen_dir, file]);
    assert_eq!((code, out), (0, format!("{file}: 1 rule, 3 warnings\n")));
    let titles: Vec<_> = err.lines().filter(|line| line.starts_with("warning")).collect();
    let unknown = |name| format!("warning[P103]: nothing on this host knows a domain `{name}`");
    assert_eq!(titles, [unknown("win*"), unknown("night"), unknown("koisk")]);
    assert!(err.contains("help: did you mean `kiosk`?"), "{err}");
}

#[test]
fn check_answers_in_json() {
    let (_dir, good, bad) = two_files();
    let (code, out, err) = run_check(&["--json", &good, &bad]);
    assert_eq!((code, err.as_str()), (78, ""));
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected = serde_json::json!({"files": [
        {"file": good, "ok": true, "rules": 1, "problems": []},
        {"file": bad, "ok": false, "rules": null, "problems": [
            {
                "code": "P012", "severity": "error", "message": "unknown key `rulez` in a policy",
                "file": bad, "line": 2, "column": 1, "end": {"line": 2, "column": 6},
                "help": "did you mean `rules`?",
            },
        ]},
    ]});
    assert_eq!(answer, expected);
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let (_dir, good, _) = two_files();
    let args = Cli::parse_from(["check", &good]).check;
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(check::run(&args, &mut full, &mut Vec::new(), false), 74);
}

#[test]
fn what_is_not_a_plain_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let missing = dir.path().join("missing");
    let cases = [
        (missing.as_path(), "no such file or directory"),
        (dir.path(), "it is not a plain file"),
        (fifo.as_path(), "it is not a plain file"),
        (Path::new("/dev/zero"), "it is not a plain file"),
    ];
    for (path, why) in cases {
        let problems = policy_file::load(path).unwrap_err();
        let shown =
            format!("error[P001]: the file cannot be read: {why}\n--> {}\n", path.display());
        assert_eq!(problems.render(false), shown);
        assert_eq!(problems.iter().next().unwrap().start(), None);
    }
}

#[test]
fn a_file_without_end_is_read_to_the_limit() {
    let bytes = policy_file::read_from(std::io::repeat(b' ')).unwrap();
    assert_eq!(bytes.len(), MAX_BYTES + 1);
    let problems = compile(Source { name: "", bytes: &bytes }).unwrap_err();
    assert_eq!(codes(&problems), [Code::TooLong]);
}
