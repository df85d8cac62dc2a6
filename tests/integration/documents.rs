//! Every policy that the documents show and every one that is shipped: there is nothing wrong with it, not
//! even to be warned of, and what it decides stands in `tests/documents`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use crate::cli::{out, program};
use crate::policy::assert_file;
use pvusb_agent::policy::{Role, Source, lint_files};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_policy_in_the_documents_decides_as_it_stands_in_its_file() {
    let mut found = 0;
    for path in files("docs", "md").into_iter().chain([PathBuf::from("README.md")]) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let blocks = fenced(&text, "yaml").into_iter();
        let policies: Vec<(String, String)> = blocks
            .flat_map(|(line, block)| {
                let whole = as_policies(&block).into_iter();
                whole.map(move |policy| (format!("line {line}"), policy)).collect::<Vec<_>>()
            })
            .collect();
        if policies.is_empty() {
            continue;
        }
        found += policies.len();
        let decided = policies.iter().map(|(at, policy)| {
            let decisions = decisions(&format!("{}, {at}", path.display()), policy);
            format!("{}\n{decisions}\n", policy.trim_end())
        });
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = root().join("tests/documents").join(format!("{name}.decisions"));
        assert_file(decided.collect(), &expected);
    }
    assert!(found > 20, "some policies were not found");
}

#[test]
fn every_shipped_policy_decides_as_it_stands_in_its_file() {
    for path in files("rules", "yaml").into_iter().chain([PathBuf::from("policy.example.yaml")]) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected = root().join("tests/documents").join(format!("{name}.decisions"));
        assert_file(decisions(&path.display().to_string(), &text), &expected);
    }
}

#[test]
fn the_readme_shows_what_check_says_of_the_example() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let output = program(&["check", "policy.example.yaml"]).current_dir(root()).output().unwrap();
    let installed = out(&output).replace("policy.example.yaml", "/etc/pvusb-agent/policy.yaml");
    let shown = format!("$ pvusb-agent check\n{installed}");
    assert!(text.contains(&shown), "not in README.md: {shown}");
}

/// What a policy decides about devices of all kinds. It must be without fault, and there must be nothing to
/// warn of.
fn decisions(name: &str, text: &str) -> String {
    let source = Source { name, bytes: text.as_bytes() };
    let linted = lint_files(&[(Role::Main, source)]).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(linted.warnings.is_none(), "{}", linted.warnings.unwrap());
    let decisions = crate::zoo::decisions(&linted.policy);
    let decided = decisions.lines().filter(|line| !line.ends_with(" -"));
    decided.flat_map(|line| [line, "\n"]).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder, by their names.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let fitting = entries.filter(|path| path.extension().is_some_and(|there| there == end));
    let mut files: Vec<PathBuf> =
        fitting.map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect();
    files.sort();
    files
}

/// A piece of YAML that is shown, as policies: a match stands for a rule of its own, and the version may be
/// left out. What is no policy gives none.
fn as_policies(block: &str) -> Vec<String> {
    if !block.starts_with("match:") {
        let version = if block.starts_with("version:") { "" } else { "version: 1\n" };
        let is_policy = ["version:", "devices:"].iter().any(|key| block.starts_with(key));
        return is_policy.then(|| format!("{version}{block}")).into_iter().collect();
    }
    let matches = format!("\n{block}");
    let matches = matches.split("\nmatch:").skip(1).map(|text| text.replace('\n', "\n    "));
    let rule = |text| format!("version: 1\nrules:\n  - keep: dom0\n    match:{text}\n");
    matches.map(rule).collect()
}

/// The fenced blocks of a document in this language, with the lines where they start.
pub(crate) fn fenced(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside: Option<bool> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix("```"), inside) {
            (Some(opened), None) => {
                inside = Some(opened.trim() == language);
                if inside == Some(true) {
                    blocks.push((number, String::new()));
                }
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}
