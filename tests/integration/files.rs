//! A policy that is spread over several files: which of them count, in which order, what is said of them,
//! and that all of them count at once or none.

use crate::harness::time::{PATIENCE, wait_until};
use crate::world::{World, keyboard, on_both};
use pvusb_agent::policy::{Problem, Rule};
use pvusb_agent::policy_file;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const NOTHING: &str = "version: 1\nrules: []\n";

/// Every device goes to kiosk.
fn to_kiosk() -> String {
    drop_in("match: {id: '*:*'}, attach: kiosk")
}

fn drop_in(rule: &str) -> String {
    format!("version: 1\nrules:\n  - {{{rule}}}\n")
}

fn keep(name: &str) -> String {
    drop_in(&format!("name: {name}, match: {{id: '*:*'}}, keep: dom0"))
}

/// A directory with a main file, and `rules.d` with these drop-ins.
fn directory(main: &str, drop_ins: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), main).unwrap();
    fs::create_dir(dir.path().join("rules.d")).unwrap();
    for (name, text) in drop_ins {
        fs::write(dir.path().join("rules.d").join(name), text).unwrap();
    }
    dir
}

fn names(main: &Path) -> Vec<String> {
    let in_force = policy_file::load_in_force(main).unwrap();
    in_force.policy.rules().iter().map(Rule::label).collect()
}

fn check(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
    let output =
        command.args(["check", "--domains", "/none"]).args(args).arg(directory).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn drop_ins_are_asked_after_the_policy_in_the_order_of_their_names() {
    let dir = directory(
        &keep("main"),
        &[
            ("50-b.yaml", &keep("b")),
            ("10-z.yaml", &keep("z")),
            ("5-last.yaml", &keep("last")),
            ("10-a.yaml~", "what an editor left behind"),
            (".10-a.yaml", "what an editor hides"),
            ("README", "no policy"),
        ],
    );
    fs::write(dir.path().join("remembered.yaml"), keep("remembered")).unwrap();
    let main = dir.path().join("policy.yaml");
    assert_eq!(names(&main), ["remembered", "main", "z", "last", "b"]);
    let policy = policy_file::load_in_force(&main).unwrap().policy;
    let last = policy.rules().last().unwrap();
    assert_eq!(last.location().file(), dir.path().join("rules.d/50-b.yaml").to_str().unwrap());
}

#[test]
fn a_link_switches_rules_on_and_an_empty_file_masks_them() {
    let shipped = tempfile::tempdir().unwrap();
    fs::write(shipped.path().join("keys.yaml"), keep("keys")).unwrap();
    let dir = directory(NOTHING, &[("empty.yaml", ""), ("blank.yaml", "\n \n")]);
    let (main, drop_ins) = (dir.path().join("policy.yaml"), dir.path().join("rules.d"));
    symlink(shipped.path().join("keys.yaml"), drop_ins.join("keys.yaml")).unwrap();
    symlink("/dev/null", drop_ins.join("null.yaml")).unwrap();
    assert_eq!(names(&main), ["keys"]);
    let files = policy_file::load_in_force(&main).unwrap().files;
    let masked: Vec<_> = files.iter().map(|file| file.masked).collect();
    assert_eq!(masked, [false, true, true, false, true]);
    assert_eq!(files[3].link, Some(shipped.path().join("keys.yaml")));

    fs::remove_file(shipped.path().join("keys.yaml")).unwrap();
    let problems = policy_file::load_in_force(&main).unwrap_err();
    let shown = problems.render(false);
    assert!(shown.contains("the file cannot be read: no such file or directory"), "{shown}");
    assert!(shown.contains("rules.d/keys.yaml"), "{shown}");
}

#[test]
fn every_problem_of_every_file_is_told_in_one_run() {
    let dir = directory(
        "version: 1\nrulez: []\n",
        &[
            ("10-a.yaml", "version: 2\n"),
            ("20-b.yaml", "version: 1\ndefaults: {settle: 1s}\nrules: [{match: {id: x}}]\n"),
            ("30-good.yaml", NOTHING),
        ],
    );
    fs::write(dir.path().join("remembered.yaml"), "version: 1\nprotect: []\nrules: []\n").unwrap();
    let problems = policy_file::load_in_force(&dir.path().join("policy.yaml")).unwrap_err();
    let told = |problem: &Problem| {
        let name = Path::new(problem.file()).file_name().unwrap().to_str().unwrap().to_owned();
        (name, problem.code().number(), problem.start().map(|start| start.line))
    };
    let told: Vec<_> = problems.iter().map(told).collect();
    let expected = [
        ("policy.yaml", "P012", 2),
        ("10-a.yaml", "P016", 1),
        ("20-b.yaml", "P012", 2),
        ("20-b.yaml", "P031", 3),
        ("20-b.yaml", "P020", 3),
        ("remembered.yaml", "P012", 2),
    ];
    let expected = expected.map(|(file, code, line)| (file.to_owned(), code, Some(line)));
    assert_eq!(told, expected);

    let (code, out, err) = check(dir.path(), &[]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(err.contains("what holds for all rules is in the main file alone"), "{err}");
    assert!(err.ends_with("policy.yaml: 6 problems\n"), "{err}");
    let (_, out, _) = check(dir.path(), &["--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["files"][0]["problems"].as_array().unwrap().len(), 6);
}

#[test]
fn an_alias_is_known_to_all_files_and_defined_in_one() {
    let dir = directory(
        "version: 1\nrules:\n  - match: {id: '*:*'}\n    attach: desk\n",
        &[("10-a.yaml", "version: 1\ndomains: {desk: [win11, win10]}\n")],
    );
    let main = dir.path().join("policy.yaml");
    let shown = policy_file::load_in_force(&main).unwrap().policy.to_yaml().unwrap();
    assert!(shown.contains("  - win11\n  - win10\n"), "{shown}");

    let twice = dir.path().join("rules.d/20-b.yaml");
    fs::write(&twice, "version: 1\ndomains:\n  desk: win12\n").unwrap();
    let problems = policy_file::load_in_force(&main).unwrap_err().render(false);
    assert!(
        problems.starts_with("error[P072]: another file has the alias `desk` too"),
        "{problems}"
    );
    assert!(problems.contains("20-b.yaml:3:3"), "{problems}");
}

#[test]
fn check_takes_a_directory_for_a_policy_or_for_drop_ins() {
    let dir = directory(&keep("main"), &[("10-a.yaml", &keep("a")), ("20-b.yaml", "")]);
    let (code, out, err) = check(dir.path(), &[]);
    let main = dir.path().join("policy.yaml");
    let told = format!("{} with 2 drop-ins: 2 rules, 1 warning\n", main.display());
    assert_eq!((code, out), (Some(0), told));
    // What is in one file can take all that another is about.
    let warning = format!("rule \"a\" is never asked: rule \"main\" ({}:3)", main.display());
    assert!(err.contains(&warning) && err.contains("rules.d/10-a.yaml:3:"), "{err}");

    let drop_ins = dir.path().join("rules.d");
    let (code, out, _) = check(&drop_ins, &[]);
    let told = format!(
        "{0}/10-a.yaml: 1 rule, no problem\n{0}/20-b.yaml: 0 rules, no problem\n",
        drop_ins.display()
    );
    assert_eq!((code, out), (Some(0), told));
    let (code, ..) = check(&drop_ins.join("20-b.yaml"), &[]);
    assert_eq!(code, Some(0), "by itself it may be empty too");
}

#[test]
fn drop_ins_count_all_at_once_or_not_at_all() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(NOTHING);
        let drop_ins = world.own_directory().join("rules.d");
        fs::create_dir(&drop_ins).unwrap();
        fs::write(drop_ins.join("10-a.yaml"), to_kiosk()).unwrap();
        fs::write(drop_ins.join("20-b.yaml"), "version: 1\nrulez: []\n").unwrap();
        agent.signal("HUP");
        agent.wait_for_line("policy not reloaded, the old one stays in force", PATIENCE);
        world.bed.plug(&keyboard("1-1", 2));
        agent.wait_for_line("no rule matches device=1-1", PATIENCE);

        fs::write(drop_ins.join("20-b.yaml"), "").unwrap();
        agent.signal("HUP");
        world.wait_until_given(&kiosk, "1-1");
        let status = String::from_utf8(world.verb(&["status"]).stdout).unwrap();
        assert!(status.contains("rules.d/10-a.yaml\n"), "{status}");
        assert!(status.contains("rules.d/20-b.yaml (masked)\n"), "{status}");
    });
}

#[test]
fn files_that_change_are_read_anew_if_the_policy_says_so() {
    let mut world = World::new(crate::harness::xenstored::Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    world.bed.plug(&keyboard("1-1", 2));
    let mut agent =
        world.ready_agent("version: 1\ndefaults: {settle: 0ms, reload: on_change}\nrules: []\n");
    let drop_ins = world.own_directory().join("rules.d");
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("a.yaml");
    fs::write(&file, to_kiosk()).unwrap();

    // The directory itself is new, and a link.
    fs::create_dir(&drop_ins).unwrap();
    symlink(&file, drop_ins.join("a.yaml")).unwrap();
    world.wait_until_given(&kiosk, "1-1");
    // The file to which the link leads; first a bad one.
    fs::write(&file, "version: 1\nrulez: []\n").unwrap();
    agent.wait_for_line("policy not reloaded, the old one stays in force", PATIENCE);
    world.wait_until_given(&kiosk, "1-1");
    fs::write(&file, "").unwrap();
    world.wait_until_home("1-1");
    // What says the same is not worth a word.
    let reloads = || agent.lines().iter().filter(|line| line.contains("policy reloaded")).count();
    let before = reloads();
    fs::remove_file(drop_ins.join("a.yaml")).unwrap();
    fs::write(drop_ins.join("b.yaml"), to_kiosk()).unwrap();
    world.wait_until_given(&kiosk, "1-1");
    assert_eq!(reloads(), before + 1);
    // From here on only when somebody says so.
    world.write_policy(NOTHING);
    wait_until(PATIENCE, "it is read", || reloads() == before + 2);
    fs::write(drop_ins.join("c.yaml"), "version: 1\nrulez: []\n").unwrap();
    world.settle_by(&kiosk, &keyboard("1-2", 3));
    let status = String::from_utf8(world.verb(&["status"]).stdout).unwrap();
    assert!(status.contains("policy.yaml: in force\n"), "{status}");
}
