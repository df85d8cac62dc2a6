//! `rehearse`, with the program itself.

use std::path::Path;
use std::process::{Command, Output};

fn rehearse(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("rehearse").args(arguments);
    command.output().unwrap()
}

#[test]
fn the_shipped_scenario_plays_as_it_is_shown() {
    let output = rehearse(&["docs/scenarios/bad-day.yaml"]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scenarios/bad-day.txt");
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
    let text = String::from_utf8(output.stdout).unwrap();
    assert.eq(text, snapbox::Data::read_from(&golden, None).raw());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_not_as_expected_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.yaml");
    let text = "version: 1\npolicy: nothing\ntimeline:\n  - {at: 0s, plug: {port: 1-1, id: \
                '05e0:1200'}}\n  - at: 3s\n    expect: {device: 1-1, in: kiosk}\n";
    std::fs::write(&path, text).unwrap();
    let output = rehearse(&["--json", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["ok"], false);
    let last = answer["timeline"].as_array().unwrap().last().unwrap();
    assert!(last["text"].as_str().unwrap().contains("s.yaml:5: 1-1 should be in kiosk"), "{last}");
}

#[test]
fn every_mistake_in_a_scenario_is_shown_at_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.yaml");
    let text = "version: 1\ntimeline:\n  - {at: 5s, plugg: 1-1}\n  - {at: 1, unplug: 1-1}\n  - \
                {at: 9s, unplug: usb1}\n";
    std::fs::write(&path, text).unwrap();
    let output = rehearse(&[path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let problems = String::from_utf8(output.stderr).unwrap();
    for part in ["s.yaml:3:14", "did you mean `plug`", "s.yaml:4:10", "s.yaml:5:22"] {
        assert!(problems.contains(part), "{part} in\n{problems}");
    }
}
