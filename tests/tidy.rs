//! Rules that the source tree keeps. Each test's name says what holds.
//!
//! The rules look at text: comments, literals and tests are taken out of the code first, and what is
//! left is cut into paths. That is cheap, and finds what is written by mistake; it is no defence
//! against what is written to get past it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a rule that cannot be checked does not hold, and the message says why"
)]

#[path = "tidy/messages.rs"]
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each part of the library may use of the others.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("audit", &[]),
    ("model", &[]),
    ("policy", &["model"]),
    ("convert", &["model", "policy"]),
    ("plan", &["model", "policy"]),
    ("generate", &["model", "policy", "convert", "plan"]),
    ("reconcile", &["model", "policy", "plan"]),
    ("paper", &["model", "policy", "plan", "reconcile"]),
    ("sim", &["model", "policy", "plan", "reconcile", "paper"]),
    ("control", &["model", "policy", "plan", "reconcile"]),
    ("host", &["model", "plan"]),
    ("policy_file", &["model", "policy"]),
    ("fuzz", &["model", "policy", "convert", "paper", "host", "control"]),
    ("telemetry", &["audit", "model", "policy", "plan", "reconcile", "host"]),
    (
        "daemon",
        &[
            "audit",
            "model",
            "policy",
            "plan",
            "reconcile",
            "control",
            "host",
            "policy_file",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "audit",
            "model",
            "policy",
            "convert",
            "plan",
            "generate",
            "reconcile",
            "sim",
            "paper",
            "control",
            "host",
            "policy_file",
            "telemetry",
            "daemon",
        ],
    ),
];

/// What `host` may know of `plan`: steps, findings and mends, not how they are found.
const STEPS: [&str; 13] = [
    "AfterClear",
    "Cause",
    "Claim",
    "Cleared",
    "ControllerFound",
    "ControllerWanted",
    "Finding",
    "Mend",
    "Noted",
    "Step",
    "StepError",
    "Survey",
    "SurveyedController",
];

/// The parts that read and write nothing.
const PURE: [&str; 8] =
    ["model", "policy", "convert", "plan", "generate", "reconcile", "sim", "paper"];

/// What they may not name, as the beginning of a path.
const IMPURE: [&str; 14] = [
    "Instant::now",
    "SystemTime",
    "nix",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "tokio",
    "tracing",
    "udev",
];

#[test]
fn modules_use_only_what_stands_above_them() {
    let allowed = BTreeMap::from(MAY_USE);
    check(sources(), |file, found| {
        let Some(part) = file.part() else { return };
        let Some(allowed) = allowed.get(part) else {
            found.push(format!("`{part}` has no place in the order: give it one in MAY_USE"));
            return;
        };
        for (line, path) in &file.paths {
            let supers = path.iter().take_while(|name| *name == "super").count();
            if supers >= file.depth() {
                found.push(format!("{line}: say `crate::` for what is not in `{part}`"));
            }
            if let [root, other, ..] = path.as_slice()
                && root == "crate"
                && other != part
                && !allowed.contains(&other.as_str())
            {
                found.push(format!("{line}: `{part}` may not use `{other}`"));
            }
        }
    });
}

#[test]
fn the_host_knows_steps_and_not_how_they_are_found() {
    check(sources(), |file, found| {
        for (line, path) in file.paths.iter().filter(|_| file.part() == Some("host")) {
            if let [root, plan, name, ..] = path.as_slice()
                && root == "crate"
                && plan == "plan"
                && !STEPS.contains(&name.as_str())
            {
                found.push(format!("{line}: `host` may not use `plan::{name}`"));
            }
        }
    });
}

#[test]
fn the_core_names_no_file_socket_clock_or_log() {
    check(sources(), |file, found| {
        if !file.part().is_some_and(|part| PURE.contains(&part)) {
            return;
        }
        for (line, path) in &file.paths {
            let path = path.join("::");
            let is = |impure: &str| path == impure || path.starts_with(&format!("{impure}::"));
            if let Some(impure) = IMPURE.into_iter().find(|impure| is(impure)) {
                found.push(format!("{line}: `{impure}`"));
            }
            if path.contains("HashMap") || path.contains("HashSet") {
                found.push(format!("{line}: a hash map has no order: use a BTreeMap"));
            }
        }
    });
}

#[test]
fn files_and_policies_meet_in_one_place() {
    let meeting = ["policy_file", "cli", "daemon"];
    check(sources(), |file, found| {
        let names = |root: &str, second: &str| {
            file.paths.iter().any(|(_, path)| path.starts_with(&[root.into(), second.into()]))
        };
        let meets = names("std", "fs") && names("crate", "policy");
        if meets && !file.part().is_some_and(|part| meeting.contains(&part)) {
            found.push("names both std::fs and crate::policy".to_owned());
        }
    });
}

/// It makes system calls itself, past umockdev: a file that it opens is the real machine's.
#[test]
fn rustix_watches_processes_and_does_nothing_else() {
    check(sources(), |file, found| {
        for (line, path) in &file.paths {
            let process = path.get(1).is_some_and(|name| name == "process" || name == "io");
            if path.first().is_some_and(|root| root == "rustix")
                && !(process && file.path.ends_with("src/host/device_models.rs"))
            {
                found.push(format!("{line}: `{}`", path.join("::")));
            }
        }
    });
}

#[test]
fn every_file_of_code_says_what_it_is_for() {
    check(all_code(), |file, found| {
        let first = file.text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|words| words.trim().is_empty()) {
            found.push("does not open with a `//!` line".to_owned());
        }
    });
}

#[test]
fn unsafe_code_is_forbidden() {
    assert!(read("src/lib.rs").contains("\n#![forbid(unsafe_code)]\n"));
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"forbid\"\n"));
}

#[test]
fn nothing_outside_tests_unwraps() {
    check(sources(), |file, found| {
        for (number, line) in (1..).zip(file.code.lines()) {
            if line.contains(".unwrap()") || line.contains(".expect(") {
                found.push(format!("{number}: {}", line.trim()));
            }
        }
    });
}

#[test]
fn nothing_is_left_undone_and_nothing_names_a_developers_machine() {
    // In pieces, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let places = [concat!("/ho", "me/"), concat!("/Use", "rs/"), concat!("/ro", "ot/")];
    let mut found = Vec::new();
    for path in texts() {
        let text = read(&path);
        for (number, line) in (1..).zip(text.lines()) {
            let mut spoken = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if spoken.any(|word| words.contains(&word)) || places.iter().any(|p| line.contains(p)) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut found = Vec::new();
    for path in documents() {
        let text = without_fences(&read(&path));
        let folder = Path::new(&path).parent().expect("a document is in a folder").to_owned();
        for target in between(&text, "](", ")").filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { PathBuf::from(&path) } else { folder.join(file) };
            if !root().join(&file).exists() {
                found.push(format!("{path}: no such file: {target}"));
            } else if !anchor.is_empty()
                && !anchors(&read(&file.to_string_lossy())).contains(anchor)
            {
                found.push(format!("{path}: no such heading: {target}"));
            }
        }
    }
    assert_none(&found);
}

/// The documents say where in the code something is: `src/plan/ports.rs`, or with a name in it,
/// `src/plan/ports.rs: PORT_REST`.
#[test]
fn every_place_in_the_code_that_a_document_names_is_there() {
    let mut found = Vec::new();
    for path in documents() {
        let text = without_fences(&read(&path));
        for place in between(&text, "`", "`") {
            let (file, names) = place.split_once(": ").unwrap_or((place, ""));
            let is_ours = ["src/", "tests/", "rules/"].iter().any(|top| file.starts_with(top));
            if !is_ours || file.contains(['*', '<', ' ']) {
                continue;
            }
            if !root().join(file).exists() {
                found.push(format!("{path}: no such file: {place}"));
            } else if !names.is_empty() {
                let code = read(file);
                let missing = names.split(", ").filter(|name| !code.contains(*name));
                found.extend(missing.map(|name| format!("{path}: no `{name}` in {file}")));
            }
        }
    }
    assert_none(&found);
}

/// Each answer of docs/situations.md names the test that holds it, in the last column, or the scenario that the
/// simulated world or a real Xen plays.
#[test]
fn every_test_that_holds_a_situation_is_there() {
    let path = "docs/situations.md";
    let of_real_parts = files("tests/integration", "rs");
    let of_the_core = files("src/reconcile", "rs");
    let of_xen = files("tests/xen/scenarios", "py");
    let tests = of_real_parts.iter().chain(&of_the_core).chain(&of_xen);
    let tests: String = tests.map(|file| read(file)).collect();
    let scenarios = files("tests/simulation/regressions", "yaml");
    let text = read(path);
    let answers = text.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |"));
    let mut found = Vec::new();
    for answer in answers {
        let last = answer.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default();
        let name = last.trim_matches('`');
        let is_scenario = scenarios.iter().any(|file| file.ends_with(&format!("{name}.yaml")));
        let is_test = tests.contains(&format!("fn {name}() {{"));
        if !is_scenario && !is_test && !tests.contains(&format!("def {name}(rig):")) {
            found.push(format!("{path}: no such test: {last}"));
        }
    }
    assert_none(&found);
}

#[test]
fn every_command_of_the_makefile_is_explained() {
    let makefile = read("Makefile");
    let phony = between(&makefile, ".PHONY: ", "\n").next().expect("the Makefile has commands");
    let explained = |target: &&str| {
        let rule = format!("{target}:");
        makefile.lines().any(|line| line.starts_with(&rule) && line.contains(" ## "))
    };
    let found: Vec<&str> = phony.split(' ').filter(|target| !explained(target)).collect();
    assert!(found.is_empty(), "without a word in `make help`: {found:?}");
}

/// The same as `cargo deny check licenses sources` with deny.toml, for those who do not have it.
#[test]
fn every_dependency_comes_from_the_registry_under_a_licence_that_fits() {
    let deny = read("deny.toml");
    let allow = between(&deny, "allow = [", "\n]").next().expect("deny.toml allows licences");
    let allow: BTreeSet<&str> = between(allow, "\"", "\"").collect();
    let registry = between(&deny, "allow-registry = [\"", "\"").next().expect("a registry");

    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform"])
        .arg(platform)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let mut found = Vec::new();
    for package in packages {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or_default();
        if !fits(licence, &allow) {
            found.push(format!("{name}: licence `{licence}`"));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| source.strip_prefix("registry+") != Some(registry)) {
            found.push(format!("{name}: from {source:?}"));
        }
    }
    assert_none(&found);
}

#[test]
fn these_rules_read_code_as_it_is_meant() {
    let text = r##"
        use crate::{model::{BusId, Device as D}, plan}; // crate::not
        /* crate::not /* crate::not */ crate::not */
        fn f<'a>(x: &'a str) -> char { let _ = ("crate::not \" crate::not", r#"" crate::not"#); '"' }
        pub(in crate::host) fn g() { std::fs::read::<P>(crate::plan::X::new('\'')); }
        #[cfg(test)]
        #[expect(x, reason = "}")]
        mod tests { fn h() { crate::not::x(); } }
        #[cfg(test)] mod peer;
        fn last() { super::super::end(); }
    "##;
    let mut peers = Vec::new();
    let code = code_of(text, &mut peers);
    let paths: Vec<String> = paths_of(&code).iter().map(|(_, path)| path.join("::")).collect();
    let expected = [
        "crate::model::BusId",
        "crate::model::Device",
        "crate::plan",
        "crate::host",
        "std::fs::read",
        "crate::plan::X::new",
        "super::super::end",
    ];
    assert_eq!(paths, expected);
    assert_eq!(peers, ["peer"]);
    assert_eq!(code.lines().count(), text.lines().count());

    let allow = BTreeSet::from(["MIT", "Unicode-3.0"]);
    assert!(fits("(MIT OR Apache-2.0) AND Unicode-3.0", &allow) && fits("Unlicense/MIT", &allow));
    assert!(
        !fits("MIT AND Apache-2.0", &allow) && !fits("", &allow) && !fits("MIT WITH x", &allow)
    );
}

/// A file of code, and what is left of it without comments, literals and tests.
struct File {
    path: String,
    text: String,
    code: String,
    /// Every path of more than one name, with its line.
    paths: Vec<(usize, Vec<String>)>,
}

impl File {
    /// The part of the library that it belongs to; none for what binds the parts together.
    fn part(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?;
        let part = path.split('/').next()?.trim_end_matches(".rs");
        (!["lib", "main"].contains(&part)).then_some(part)
    }

    /// How many modules stand around its items.
    fn depth(&self) -> usize {
        self.path.trim_end_matches("/mod.rs").split('/').count() - 1
    }
}

/// The library's and the program's code; files that are compiled for tests only are left out.
fn sources() -> Vec<File> {
    let mut test_only = BTreeSet::new();
    let mut sources = Vec::new();
    for path in files("src", "rs") {
        let text = read(&path);
        let mut modules = Vec::new();
        let code = code_of(&text, &mut modules);
        let folder = path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        test_only.extend(modules.iter().map(|module| format!("{folder}/{module}.rs")));
        let paths = paths_of(&code);
        sources.push(File { path, text, code, paths });
    }
    assert!(sources.len() > 20, "some files were not found");
    sources.retain(|file| !test_only.contains(&file.path));
    sources
}

/// All code, tests against real parts too.
fn all_code() -> Vec<File> {
    let paths = ["src", "tests/harness", "tests/integration", "tests/tidy"]
        .into_iter()
        .flat_map(|folder| files(folder, "rs"));
    paths
        .map(|path| File { text: read(&path), path, code: String::new(), paths: Vec::new() })
        .collect()
}

fn documents() -> Vec<String> {
    let mut documents = files("docs", "md");
    documents.extend(["README.md", "CHANGELOG.md"].map(ToOwned::to_owned));
    documents
}

/// Everything that somebody wrote.
fn texts() -> Vec<String> {
    let folders = ["src", "tests", "docs", "rules", "udev", "dist", "benches", "fuzz", ".ci"];
    let mut texts: Vec<String> = folders.iter().flat_map(|folder| files(folder, "")).collect();
    texts.extend(documents().into_iter().filter(|path| !path.starts_with("docs/")));
    let others = ["Cargo.toml", "Makefile", "clippy.toml", "deny.toml", "policy.example.yaml"];
    texts.extend(others.map(ToOwned::to_owned));
    texts
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The files below a folder whose names end so, in order; none if there is no such folder.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).into_iter().flatten() {
        let entry = entry.expect("a folder can be read");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("it is there").is_dir() {
            found.extend(files(&path, extension));
        } else if extension.is_empty() || path.ends_with(&format!(".{extension}")) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn check(files: Vec<File>, rule: impl Fn(&File, &mut Vec<String>)) {
    let mut found = Vec::new();
    for file in files {
        let mut here = Vec::new();
        rule(&file, &mut here);
        found.extend(here.into_iter().map(|what| format!("{}:{what}", file.path)));
    }
    assert_none(&found);
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

/// The code without comments, literals and what is compiled for tests only; every line stays on its
/// line. The files that are for tests only are added to `test_modules`.
fn code_of(text: &str, test_modules: &mut Vec<String>) -> String {
    const TEST: &str = "#[cfg(test)]";
    let mut code = without_comments_and_literals(text);
    while let Some(start) = code.find(TEST) {
        let mut depth = 0_usize;
        let mut item = start..code.len();
        let mut attribute = false;
        for (at, c) in code[start + TEST.len()..].char_indices() {
            match c {
                '#' if depth == 0 => attribute = true,
                ']' if attribute => attribute = false,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if !attribute && depth == 0 && (c == ';' || c == '}') {
                item.end = start + TEST.len() + at + 1;
                break;
            }
        }
        let words = code[item.clone()].split(|c: char| !c.is_alphanumeric() && c != '_');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        if let [.., "mod", name] = words.as_slice() {
            test_modules.push((*name).to_owned());
        }
        let blank = code[item.clone()].replace(|c| c != '\n', "");
        code.replace_range(item, &blank);
    }
    code
}

fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| {
        what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    let is_word = |at: usize| chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let mut code = String::new();
    let mut at = 0;
    while at < chars.len() {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        let raw = chars[at] == 'r' && chars.get(at + 1 + hashes) == Some(&'"');
        let end = if starts(at, "//") {
            (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
        } else if starts(at, "/*") {
            let mut depth = 0_usize;
            let mut end = at;
            while end < chars.len() {
                let step = if starts(end, "/*") || starts(end, "*/") { 2 } else { 1 };
                depth += usize::from(starts(end, "/*"));
                depth -= usize::from(starts(end, "*/"));
                end += step;
                if depth == 0 {
                    break;
                }
            }
            end
        } else if raw && (at == 0 || !is_word(at - 1) || starts(at - 1, "b")) {
            let close = format!("\"{}", "#".repeat(hashes));
            let from = at + 2 + hashes;
            (from..chars.len()).find(|i| starts(*i, &close)).unwrap_or(chars.len()) + close.len()
        } else if chars[at] == '"' {
            let mut end = at + 1;
            while end < chars.len() && chars[end] != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            end + 1
        } else if starts(at, "'\\") {
            (at + 3..chars.len()).find(|i| chars[*i] == '\'').unwrap_or(chars.len()) + 1
        } else if chars[at] == '\'' && chars.get(at + 2) == Some(&'\'') {
            at + 3
        } else {
            code.push(chars[at]);
            at += 1;
            continue;
        };
        let end = end.min(chars.len());
        code.push(' ');
        code.extend(chars[at..end].iter().filter(|c| **c == '\n'));
        at = end;
    }
    code
}

/// Every path of more than one name in the code, with its line. `a::{b, c::d}` is two paths.
fn paths_of(code: &str) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens_of(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_start = tokens[at].is_name() && (at == 0 || tokens[at - 1].text != "::");
        at = if is_start { tree(&tokens, at, &[], &mut found) } else { at + 1 };
    }
    found.retain(|(_, path)| path.len() > 1);
    found
}

struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

fn tokens_of(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut joins = false;
    for (line, text) in (1..).zip(code.lines()) {
        for c in text.chars() {
            let word = c.is_alphanumeric() || c == '_';
            match tokens.last_mut() {
                Some(last)
                    if joins && ((word && last.text != ":") || (c == ':' && last.text == ":")) =>
                {
                    last.text.push(c);
                }
                _ if c.is_whitespace() => {}
                _ => tokens.push(Token { line, text: c.to_string() }),
            }
            joins = word || (c == ':' && tokens.last().is_some_and(|last| last.text == ":"));
        }
        joins = false;
    }
    tokens
}

/// Reads one path, or a tree of paths, that starts at `at`; gives where it ends.
fn tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    while tokens.get(at).is_some_and(Token::is_name) {
        path.push(text(at).to_owned());
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
        if text(at) == "{" {
            at += 1;
            while at < tokens.len() && text(at) != "}" {
                at = if tokens[at].is_name() { tree(tokens, at, &path, found) } else { at + 1 };
                // What follows `as` is a new name, not a path.
                at += if text(at) == "as" { 2 } else { 0 };
            }
            return at + 1;
        }
    }
    found.push((line, path));
    at
}

/// Whether what `licence` (an SPDX expression) demands is among what is allowed.
fn fits(licence: &str, allow: &BTreeSet<&str>) -> bool {
    fn any(words: &mut Vec<String>, allow: &BTreeSet<&str>) -> bool {
        let mut fits = all(words, allow);
        while words.last().is_some_and(|word| word == "OR") {
            words.pop();
            fits |= all(words, allow);
        }
        fits
    }
    fn all(words: &mut Vec<String>, allow: &BTreeSet<&str>) -> bool {
        let mut fits = one(words, allow);
        while words.last().is_some_and(|word| word == "AND") {
            words.pop();
            fits &= one(words, allow);
        }
        fits
    }
    fn one(words: &mut Vec<String>, allow: &BTreeSet<&str>) -> bool {
        let word = words.pop().unwrap_or_default();
        if word == "(" {
            let fits = any(words, allow);
            return words.pop().is_some_and(|word| word == ")") && fits;
        }
        if words.last().is_some_and(|word| word == "WITH") {
            words.truncate(words.len().saturating_sub(2));
            return false;
        }
        allow.contains(word.as_str())
    }
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<String> = spaced.split_whitespace().rev().map(ToOwned::to_owned).collect();
    any(&mut words, allow) && words.is_empty()
}

fn without_fences(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The parts of a text that stand between `open` and the next `close`.
fn between<'t>(text: &'t str, open: &str, close: &str) -> impl Iterator<Item = &'t str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(open)?;
        let (inside, after) = after.split_once(close)?;
        rest = after;
        Some(inside)
    })
}

/// What links to headings are called, as the usual web pages make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}
