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
fn the_rehearsal_in_the_reference_plays_with_the_policy_that_stands_there() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
    let text = std::fs::read_to_string(reference).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [policy, day] = ["policy.yaml", "loose-cable.yaml"].map(|name| {
        let mut blocks = text.split("```yaml\n").skip(1).filter_map(|it| it.split("```").next());
        let block = blocks.find(|block| block.starts_with(&format!("# {name}\n"))).unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, block).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let output = rehearse(&["--policy", &policy, &day]);
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
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

/// `tests/simulation/reject/*.yaml` with what is said of each in `.stderr`; `SNAPSHOTS=overwrite` writes the
/// expected files anew.
#[test]
fn every_mistake_in_a_scenario_is_shown_at_its_place() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/reject");
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let texts: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    assert!(!texts.is_empty());
    for path in texts {
        let name = path.file_name().unwrap().to_str().unwrap();
        let output = rehearse(&[&format!("tests/simulation/reject/{name}")]);
        assert_eq!(output.status.code(), Some(78), "{name}");
        assert_eq!(output.stdout, b"", "{name}");
        let problems = String::from_utf8(output.stderr).unwrap();
        let expected = snapbox::Data::read_from(&path.with_extension("stderr"), None).raw();
        let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
        assert.eq(problems, expected);
    }
}

/// A domain of whose configuration something is known starts with its controllers, also the next time.
#[test]
fn a_domain_starts_with_the_controllers_of_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.yaml");
    let text = r#"version: 1
usbback: true
policies:
  own: |
    version: 1
    defaults: {controller: {type: auto}}
    rules: [{match: {id: "05e0:1200"}, attach: kiosk}, {match: {id: "0951:1666"}, attach: lab}]
domains:
  kiosk: {controllers: [{ports: 1, in_use: 1}, {type: devicemodel}, {type: pv, ports: 4}]}
  lab: {type: hvm}
timeline:
  - {at: 0s, start: kiosk}
  - {at: 0s, start: {domain: lab, controllers: [{ports: 2}]}}
  - {at: 5s, plug: {port: 1-1, id: "05e0:1200", speed: full}}
  - {at: 5s, plug: {port: 1-2, id: "05e0:1200", speed: full}}
  - {at: 5s, plug: {port: 1-3, id: "0951:1666", speed: high}}
  - {at: 30s, expect: {device: 1-1, in: kiosk}}
  - {at: 30s, expect: {device: 1-2, in: kiosk}}
  - {at: 30s, expect: {device: 1-3, in: lab}}
  - {at: 31s, reboot: kiosk}
  - {at: 90s, expect: {device: 1-2, in: kiosk}}
"#;
    std::fs::write(&path, text).unwrap();
    let output = rehearse(&[path.to_str().unwrap()]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let told = |words: &str| said.matches(words).count();
    assert_eq!(told("by its configuration"), 5, "{said}");
    assert_eq!(told("has controller 2 "), 0, "the emulated one is not played: {said}");
    assert_eq!(told("controller created"), 0, "{said}");
}

/// What dom0 does with a device as soon as it has it, and what udev says of it, count as they do anywhere.
#[test]
fn a_device_in_a_scenario_is_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.yaml");
    let text = r#"version: 1
policies:
  own: |
    version: 1
    rules:
      - {match: {udev: {property: {ID_X: "1"}}, port: "pci-0000:00:14.0-usb-0:3"}, attach: lab}
      - {match: {category: storage}, attach: desk}
      - {match: {manufacturer: "Symbol*"}, attach: 3f4a5b6c-0000-4000-8000-00000000cafe}
devices:
  mounted: {port: 1-1, id: "0951:1666", interfaces: "08:06:50", drivers: usb-storage, uses: mounted}
  stick: {port: 1-2, id: "0951:1666", interfaces: "08:06:50", drivers: usb-storage}
  named: {port: 1-3, id: "1111:2222", anchor: "pci-0000:00:14.0-usb-0:3", udev: {property: {ID_X: 1}}}
domains:
  desk:
  lab: {type: hvm}
  kiosk: {uuid: 3f4a5b6c-0000-4000-8000-00000000cafe}
timeline:
  - {at: 0s, start: desk}
  - {at: 0s, start: {domain: lab, build: 2s}}
  - {at: 0s, start: kiosk}
  - {at: 5s, plug: mounted}
  - {at: 5s, plug: stick}
  - {at: 5s, plug: named}
  - {at: 5s, plug: {port: 1-4, id: "05e0:1200", manufacturer: Symbol Technologies}}
  - {at: 30s, expect: {device: mounted, in: dom0}}
  - {at: 30s, expect: {device: stick, in: desk}}
  - {at: 30s, expect: {device: named, in: lab}}
  - {at: 30s, expect: {device: 1-4, in: kiosk}}
  - {at: 31s, disuse: {device: mounted, as: mounted}}
  - {at: 40s, expect: {device: mounted, in: desk}}
"#;
    std::fs::write(&path, text).unwrap();
    let output = rehearse(&[path.to_str().unwrap()]);
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
}
