//! Files that are made from others and kept beside them: the JSON Schemas of policies, of their tests and of
//! scenarios, and the manual pages. `make generated` writes them anew.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "JSON and YAML have as many kinds as they have"
)]

mod roff;

use crate::policy::{assert_file, files};
use pvusb_agent::policy::json_schema;
use pvusb_agent::telemetry::catalogue::{self, Message};
use pvusb_agent::{paper, sim};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schemas_that_are_shipped_are_those_of_the_readers() {
    let schemas = [
        ("policy", json_schema()),
        ("test", paper::json_schema()),
        ("scenario", sim::json_schema()),
    ];
    for (name, schema) in schemas {
        let schema = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        assert_file(schema, &root().join(format!("dist/{name}.schema.json")));
    }
}

#[test]
fn the_messages_that_are_shipped_are_those_of_the_catalogue() {
    let mut catalog =
        "# What each message of pvusb-agent is and what is to be done: journalctl -x\n".to_owned();
    let mut page = MESSAGES_HEAD.to_owned();
    for Message { word, id, is_audited, text, next } in catalogue::MESSAGES {
        let plain = next.replace('`', "");
        write!(
            catalog,
            "\n-- {id}\nSubject: {text}\nDefined-By: pvusb-agent\n\
             Documentation: man:pvusb-agent(1)\n\n{plain}\n"
        )
        .unwrap();
        let audited = if is_audited { "yes" } else { "" };
        let next = linked(next);
        writeln!(page, "| {text} | `{word}` | {audited} | {next} |").unwrap();
    }
    assert_file(catalog, &root().join("dist/pvusb-agent.catalog"));
    assert_file(page, &root().join("docs/messages.md"));
}

/// The text with links in place of the sections that it names: `docs/errors.md, "Steps"`.
fn linked(text: &str) -> String {
    let named = regex_lite::Regex::new(r#"docs/([a-z-]+\.md), "([^"]+)""#).unwrap();
    let link = |named: &regex_lite::Captures<'_>| {
        let anchor = named[2].to_lowercase().replace(' ', "-");
        format!("[{}]({}#{anchor})", &named[2], &named[1])
    };
    named.replace_all(text, link).into_owned()
}

const MESSAGES_HEAD: &str = "\
# Messages

Every line that the running agent can tell, and what is to be done. The text is what `journalctl -u pvusb-agent` shows, with the
fields after it; the word is `PVUSB_EVENT` in the journal and `event` of `watch --json` and of the audit log, and never changes. What
is audited goes into the audit log as well. `journalctl -x` shows the last column below each line, and `journalctl
PVUSB_DEVICE=1-1.4` all lines about the device in that place.

What the commands themselves say is in [errors.md](errors.md), and so is what stands in `cause` here.

This page is made from `src/telemetry/catalogue.rs` (`make generated`).

| message | word | audited | what to do |
|---|---|---|---|
";

#[test]
fn the_manual_page_that_is_shipped_is_the_reference() {
    let text = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    assert_file(roff::page(&text), &root().join("dist/pvusb-agent-policy.5"));
}

/// The pages of the program and of each verb, by their names.
fn manual() -> Vec<(String, String)> {
    let mut program = pvusb_agent::cli::command().disable_help_subcommand(true);
    program.build();
    let verbs = program.get_subcommands();
    let names = verbs.map(|verb| format!("pvusb-agent-{}", verb.get_name()));
    let names: Vec<String> = names.collect();
    let pages = names.iter().cloned().zip(program.get_subcommands().cloned());
    let see = |name: &str| match name {
        "pvusb-agent" => [&names[..], &["pvusb-agent-policy".to_owned()]].concat(),
        _ => ["pvusb-agent", "pvusb-agent-policy"].map(str::to_owned).to_vec(),
    };
    let pages = pages.chain([("pvusb-agent".to_owned(), program.clone())]);
    pages.map(|(name, command)| (name.clone(), page(&name, command, &see(&name)))).collect()
}

/// One page. What stands at the end of `--help` is shown as it stands there, line by line.
fn page(name: &str, command: clap::Command, see: &[String]) -> String {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (heading, text) = match after.strip_prefix("Examples:\n") {
        Some(examples) => ("EXAMPLES", examples),
        None => ("NOTES", &*after),
    };
    // The verbs of the program have pages of their own; what belongs to one verb is on its page.
    let has_verbs = command.has_subcommands() && name == "pvusb-agent";
    let own = command.get_subcommands().filter(|_| !has_verbs);
    let inner: String = own.map(inner).collect();
    let man = clap_mangen::Man::new(command).title(name).source("pvusb-agent");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    if has_verbs {
        man.render_subcommands_section(&mut page).unwrap();
    }
    let mut page = String::from_utf8(page).unwrap() + &inner;
    let text = roff::escaped_lines(text);
    match (text.is_empty(), has_verbs) {
        (true, _) => {}
        // Each line tells of one thing, which it begins with.
        (false, true) => text.lines().for_each(|line| {
            let (what, text) = line.split_once(": ").unwrap();
            write!(page, ".SH {}\n{text}\n", what.to_uppercase()).unwrap();
        }),
        (false, false) => write!(page, ".SH {heading}\n.nf\n{text}.fi\n").unwrap(),
    }
    let section = |name: &String| if name.ends_with("-policy") { 5 } else { 1 };
    let see: Vec<_> = see.iter().map(|it| format!(".BR {it} ({})", section(it))).collect();
    write!(page, ".SH SEE ALSO\n{}\n", see.join(",\n")).unwrap();
    page
}

/// What a page says of a verb's own verb: its synopsis, what it does, its options and its examples.
fn inner(command: &clap::Command) -> String {
    let man = clap_mangen::Man::new(command.clone());
    let (mut synopsis, mut about, mut options) = (Vec::new(), Vec::new(), Vec::new());
    man.render_synopsis_section(&mut synopsis).unwrap();
    man.render_description_section(&mut about).unwrap();
    man.render_options_section(&mut options).unwrap();
    let [synopsis, about, options] = [synopsis, about, options].map(|part| {
        let part = String::from_utf8(part).unwrap();
        // Without what the page has at its head, and without a heading of its own.
        part.split_once(".SH ").unwrap().1.split_once('\n').unwrap().1.to_owned()
    });
    let name = command.get_name().to_uppercase();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let after = roff::escaped_lines(&after);
    format!(".SH {name}\n{synopsis}.PP\n{about}{options}.PP\n.nf\n{after}.fi\n")
}

#[test]
fn the_manual_pages_that_are_shipped_are_those_of_the_command_line() {
    for (name, page) in manual() {
        assert_file(page, &root().join(format!("dist/man/{name}.1")));
    }
}

/// Where there is a program to ask.
#[test]
fn the_manual_pages_are_such_that_man_shows_without_a_warning() {
    let pages = fs::read_dir(root().join("dist/man")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.chain([root().join("dist/pvusb-agent-policy.5")]) {
        let mut lint = Command::new("mandoc");
        if let Ok(output) = lint.args(["-T", "lint", "-W", "warning"]).arg(&page).output() {
            assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        let mut man = Command::new("man");
        man.args(["--warnings", "-EUTF-8", "-Tutf8", "-Z", "-l"]).arg(&page);
        if let Ok(output) = man.output() {
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.is_empty(), "{}: {told}", page.display());
        }
    }
}

/// A text of YAML as an editor's reader hands it to the schema. Keys are texts.
fn as_editors_read(text: &[u8], nothing: &Value) -> Option<Value> {
    fn json(value: serde_yaml::Value, nothing: &Value) -> Value {
        use serde_yaml::Value as Yaml;
        match value {
            Yaml::Null => nothing.clone(),
            Yaml::Bool(truth) => truth.into(),
            Yaml::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => whole.into(),
                (None, Some(part)) if part.is_finite() => part.into(),
                (None, _) => number.to_string().into(),
            },
            Yaml::String(text) => text.into(),
            Yaml::Sequence(items) => items.into_iter().map(|it| json(it, nothing)).collect(),
            Yaml::Mapping(entries) => {
                let key = |key: serde_yaml::Value| match key {
                    Yaml::String(text) => text,
                    other => serde_yaml::to_string(&other).unwrap().trim().to_owned(),
                };
                entries.into_iter().map(|(name, it)| (key(name), json(it, nothing))).collect()
            }
            Yaml::Tagged(tagged) => json(tagged.value, nothing),
        }
    }
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    serde_yaml::from_slice(text).ok().map(|value| json(value, nothing))
}

#[test]
fn every_policy_that_is_accepted_is_one_to_editors() {
    let schema = json_schema();
    // What YAML calls nothing is the text `~` here.
    let tilde = Value::from("~");
    let rules = fs::read_dir(root().join("rules")).unwrap().map(|it| it.unwrap().path());
    let rules = rules.filter(|path| path.is_file());
    let policies = files("accept").into_iter().chain(files("lint")).map(|(_, path)| path);
    for path in policies.chain(rules).chain([root().join("policy.example.yaml")]) {
        let policy = as_editors_read(&fs::read(&path).unwrap(), &tilde).unwrap();
        check(&schema, &schema, &policy).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

#[test]
fn a_good_part_of_what_is_rejected_is_rejected_by_editors() {
    let schema = json_schema();
    let (mut seen, mut all) = (0, 0);
    for (_, path) in files("reject") {
        all += 1;
        let policy = as_editors_read(&fs::read(&path).unwrap(), &Value::Null);
        seen += usize::from(policy.is_none_or(|policy| check(&schema, &schema, &policy).is_err()));
    }
    // The rest is what a schema cannot know: groups that are not there, one port too many, …
    assert!(seen * 100 >= all * 85, "{seen} of {all}");
}

/// The texts of YAML in a directory.
fn yaml_in(folder: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|it| it.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    texts.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

/// The examples in the reference that have such a key.
fn shown_with(key: &str) -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let blocks = text.split("```yaml\n").skip(1).filter_map(|it| it.split("```").next());
    let shown = blocks.filter(|block| block.contains(key));
    shown.map(|block| ("docs/policy.md".to_owned(), block.as_bytes().to_vec())).collect()
}

#[test]
fn every_test_and_every_scenario_that_is_accepted_is_one_to_editors() {
    let recording = fs::read(root().join("tests/fixtures/cli/record.txt")).unwrap();
    let tests = [yaml_in("rules/tests"), shown_with("\ntests:")].concat();
    let tests = [tests, vec![("record.txt".to_owned(), recording)]].concat();
    let scenarios = ["docs/scenarios", "tests/simulation/regressions"].map(yaml_in).concat();
    let scenarios = [scenarios, shown_with("\ntimeline:")].concat();
    assert!(tests.len() > 8 && scenarios.len() > 30, "{} {}", tests.len(), scenarios.len());
    for (schema, texts) in [(paper::json_schema(), tests), (sim::json_schema(), scenarios)] {
        for (name, text) in texts {
            let value = as_editors_read(&text, &Value::Null).unwrap();
            check(&schema, &schema, &value).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

#[test]
fn a_good_part_of_what_is_no_test_or_scenario_is_none_to_editors() {
    let rejected = [
        (paper::json_schema(), yaml_in("tests/paper/reject")),
        (sim::json_schema(), yaml_in("tests/simulation/reject")),
    ];
    for (schema, texts) in rejected {
        let is_seen = |text: &[u8]| {
            let value = as_editors_read(text, &Value::Null);
            value.is_none_or(|value| check(&schema, &schema, &value).is_err())
        };
        let seen = texts.iter().filter(|(_, text)| is_seen(text)).count();
        // The rest is what a schema cannot know: names that are not there, two devices in one port, …
        assert!(seen * 100 >= texts.len() * 60, "{seen} of {}", texts.len());
    }
}

/// Whether `value` is one that `schema` allows, in as much of draft 7 as the schema uses. A whole validator
/// would be forty crates; what is not known here is an error, not an omission.
#[expect(clippy::too_many_lines, reason = "one arm for each keyword")]
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let is = |fits: bool, why: &str| {
        let shown: String = value.to_string().chars().take(80).collect();
        if fits { Ok(()) } else { Err(format!("{shown}: {why}")) }
    };
    let each = |schemas: &Value| -> Vec<Result<(), String>> {
        schemas.as_array().unwrap().iter().map(|it| check(root, it, value)).collect()
    };
    for (keyword, wanted) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "definitions" => {}
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                check(root, &root["definitions"][name], value)?;
            }
            "type" => {
                let types = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                let fits = types.iter().any(|one| match one.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                });
                is(fits, &format!("not of {wanted}"))?;
            }
            "enum" => is(wanted.as_array().unwrap().contains(value), "not one of the words")?,
            "pattern" => {
                let pattern = regex_lite::Regex::new(wanted.as_str().unwrap()).unwrap();
                is(value.as_str().is_none_or(|text| pattern.is_match(text)), "not like that")?;
            }
            "minLength" => {
                let least = wanted.as_u64().unwrap();
                is(
                    value.as_str().is_none_or(|text| text.chars().count() as u64 >= least),
                    "short",
                )?;
            }
            "minimum" => {
                is(value.as_f64().is_none_or(|it| it >= wanted.as_f64().unwrap()), "small")?;
            }
            "maximum" => {
                is(value.as_f64().is_none_or(|it| it <= wanted.as_f64().unwrap()), "large")?;
            }
            "properties" => {
                for (key, schema) in wanted.as_object().unwrap() {
                    if let Some(there) = value.get(key) {
                        check(root, schema, there).map_err(|why| format!("{key}: {why}"))?;
                    }
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                let others =
                    others.filter(|(key, _)| known.is_none_or(|it| !it.contains_key(*key)));
                for (key, there) in others {
                    match wanted {
                        Value::Bool(allowed) => is(*allowed, &format!("the key {key}"))?,
                        schema => check(root, schema, there)?,
                    }
                }
            }
            "required" => {
                let missing = wanted.as_array().unwrap().iter().filter_map(Value::as_str);
                let missing: Vec<_> = missing.filter(|key| value.get(key).is_none()).collect();
                is(!value.is_object() || missing.is_empty(), &format!("without {missing:?}"))?;
            }
            "dependencies" => {
                for (key, others) in wanted.as_object().unwrap() {
                    let mut others = others.as_array().unwrap().iter().filter_map(Value::as_str);
                    let fits = value.get(key).is_none() || others.all(|it| value.get(it).is_some());
                    is(fits, &format!("{key} alone"))?;
                }
            }
            "minProperties" => {
                let least = wanted.as_u64().unwrap();
                is(value.as_object().is_none_or(|it| it.len() as u64 >= least), "empty")?;
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(root, wanted, item)?;
                }
            }
            "minItems" => {
                let least = wanted.as_u64().unwrap();
                is(value.as_array().is_none_or(|it| it.len() as u64 >= least), "empty")?;
            }
            "not" => is(check(root, wanted, value).is_err(), "not allowed")?,
            "allOf" => each(wanted).into_iter().collect::<Result<(), _>>()?,
            "anyOf" => {
                let answers = each(wanted);
                let why: Vec<_> =
                    answers.iter().filter_map(|it| it.as_ref().err().cloned()).collect();
                is(answers.iter().any(Result::is_ok), &format!("none of: {}", why.join(" / ")))?;
            }
            "oneOf" => {
                let fitting = each(wanted).iter().filter(|it| it.is_ok()).count();
                is(fitting == 1, "not one of several")?;
            }
            other => panic!("the schema uses `{other}`"),
        }
    }
    Ok(())
}

#[test]
fn the_makefile_and_the_examples_name_the_schemas() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let schema = "/share/pvusb-agent/policy.schema.json";
    assert!(Path::new("dist/policy.schema.json").exists());
    assert!(read("policy.example.yaml").contains(&format!("$schema=/usr{schema}")));
    for name in ["policy", "test", "scenario"] {
        assert!(read("Makefile").contains(&format!("dist/{name}.schema.json")));
    }
    let schema = "$schema=/usr/share/pvusb-agent/scenario.schema.json";
    assert!(read("docs/scenarios/bad-day.yaml").contains(schema));
}
