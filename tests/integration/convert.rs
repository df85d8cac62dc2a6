//! Policies of others, converted: golden files, and their own way to judge, said once more, against what
//! comes out.
//!
//! `tests/convert/*` with what becomes of each in `.yaml` and what is told in `.told`;
//! `tests/convert/reject/*` with what is said of each in `.stderr`. `SNAPSHOTS=overwrite` writes the
//! expected files anew.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use proptest::prelude::*;
use proptest::sample::select;
use pvusb_agent::convert::{Converted, Format, convert, detect, unknown_format};
use pvusb_agent::model::{ClassTriple, Device, Interface, Removable, Text};
use pvusb_agent::policy::{Action, Candidate, Policy, Problems, Source, compile};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const DOMAIN: &str = "kiosk";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert")
}

/// The foreign files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ends = ["conf", "json", "txt"];
    let foreign = entries
        .filter(|path| path.extension().is_some_and(|end| ends.iter().any(|known| *known == end)));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let named: BTreeSet<_> = foreign.map(|path| (name(&path), path)).collect();
    named.into_iter().collect()
}

fn assert_file(actual: String, expected: &Path) {
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
    assert.eq(actual, snapbox::Data::read_from(expected, None).raw());
}

/// The format that the name of a file begins with.
fn meant(name: &str) -> Option<Format> {
    Format::ALL.into_iter().find(|format| name.starts_with(format.word()))
}

fn try_convert(format: Format, text: &str) -> Result<Converted, Problems> {
    convert(Source { name: "foreign", bytes: text.as_bytes() }, format, DOMAIN)
}

fn program(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
    command.args(args).env_remove("COLUMNS").env("NO_COLOR", "1").stdin(Stdio::null());
    command.current_dir(folder()).output().unwrap()
}

#[test]
fn each_policy_of_others_becomes_what_stands_in_its_file() {
    for (name, path) in files(&folder()) {
        let format = meant(&name).unwrap();
        let domain: &[&str] = if format.needs_domain() { &["--domain", DOMAIN] } else { &[] };
        let output = program(&[&["convert", name.as_str()], domain].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        let is_lossless = told.contains("everything was carried over");
        assert_eq!(output.status.code(), Some(i32::from(!is_lossless)), "{told}");
        assert_file(String::from_utf8(output.stdout).unwrap(), &path.with_extension("yaml"));
        assert_file(told, &path.with_extension("told"));
    }
}

#[test]
fn each_mistake_is_shown_at_its_place() {
    for (name, path) in files(&folder().join("reject")) {
        let bytes = fs::read(&path).unwrap();
        let source = Source { name: &name, bytes: &bytes };
        let problems = if let Some(format) = meant(&name) {
            convert(source, format, DOMAIN).expect_err(&name)
        } else {
            assert_eq!(detect(source), None, "{name}");
            unknown_format(source)
        };
        assert_file(problems.render(false), &path.with_extension("stderr"));
    }
}

#[test]
fn what_stands_in_the_folder_is_loaded_and_means_nothing_else_when_it_is_shown() {
    for (name, path) in files(&folder()) {
        let bytes = fs::read(path.with_extension("yaml")).unwrap();
        let policy = compile(Source { name: &name, bytes: &bytes }).unwrap();
        let shown = policy.to_yaml().unwrap();
        assert_eq!(
            compile(Source { name: "shown", bytes: shown.as_bytes() }),
            Ok(policy),
            "{name}"
        );
    }
}

#[test]
fn the_format_is_told_by_the_text() {
    for (name, path) in files(&folder()) {
        let bytes = fs::read(path).unwrap();
        assert_eq!(detect(Source { name: &name, bytes: &bytes }), meant(&name), "{name}");
    }
    for (text, expected) in [
        ("", None),
        ("# nothing but words\n", None),
        ("allow : vid=1234\n", Some(Format::Xapi)),
        ("  allow\n", Some(Format::UsbGuard)),
        ("reject # all\n", Some(Format::UsbGuard)),
        ("{}", None),
        ("{\"1000\": {}}", Some(Format::OpenXt)),
        ("{\"usb-rules\": {}}", Some(Format::OpenXt)),
        ("{\"usbPassthrough\": []}", Some(Format::Vhotplug)),
        ("{\"usbPassthrough\": [], \"usb-rules\": {}}", None),
        ("version: 1\nrules: []\n", None),
    ] {
        let source = Source { name: "text", bytes: text.as_bytes() };
        assert_eq!(detect(source), expected, "{text:?}");
    }
}

#[test]
fn a_wrong_call_is_no_conversion() {
    let code = |args: &[&str]| program(args).status.code();
    assert_eq!(code(&["convert", "xapi-usb-policy.conf"]), Some(64), "no domain");
    assert_eq!(code(&["convert", "xapi-usb-policy.conf", "--domain", "dom0"]), Some(64));
    assert_eq!(code(&["convert", "usbguard-closed.conf", "--domain", "kiosk"]), Some(64));
    assert_eq!(code(&["convert", "reject/unknown-mixed.txt"]), Some(78));
    assert_eq!(code(&["convert", "reject/usbguard-mistakes.conf"]), Some(78));
    assert_eq!(code(&["convert", "there-is-none.conf"]), Some(78));
    assert_eq!(code(&["convert", "--from", "qubes", "usbguard-closed.conf"]), Some(64));
    assert_eq!(code(&["convert", "usbguard-closed.conf"]), Some(0));
}

#[test]
fn what_is_too_much_for_a_policy_is_refused_as_such() {
    // A star is one there, and a regular expression here.
    let rules = "allow name \"a*\"\n".repeat(1001);
    let many = "ALLOW: vid=1111 pid=2222\n".repeat(10_001);
    // Each rule that denies names all those above it that allow.
    let allowed: Vec<_> = (0..2000).map(|pid| format!("ALLOW: pid={pid:04x}\n")).collect();
    let long = allowed.concat() + &"DENY: class=03\n".repeat(2000);
    let nested = (0..3000)
        .map(|at| match at % 3 {
            0 => format!(
                "\"{at}\": {{\"command\": \"allow\", \"device\": {{\"serial\": \"{at}\"}}}}"
            ),
            1 => format!("\"{at}\": {{\"command\": \"deny\", \"device\": {{\"nic\": \"1\"}}}}"),
            _ => format!(
                "\"{at}\": {{\"command\": \"always\", \"vm\": {{\"uuid\": \"{}\"}}}}",
                openxt::VMS[0]
            ),
        })
        .collect::<Vec<_>>()
        .join(",\n");
    for (format, text) in [
        (Format::UsbGuard, rules),
        (Format::Xapi, many),
        (Format::Xapi, long),
        (Format::OpenXt, format!("{{{nested}}}")),
    ] {
        let problems = try_convert(format, &text).unwrap_err();
        assert_eq!(problems.iter().next().unwrap().code().number(), "P092");
    }
}

/// Where a device goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Dom0,
    Nobody,
    In(String),
}

fn read(converted: &Converted) -> Policy {
    let source = Source { name: "converted", bytes: converted.policy.as_bytes() };
    compile(source).unwrap_or_else(|problems| panic!("{problems}\n{}", converted.policy))
}

fn judge(policy: &Policy, device: &Device) -> Place {
    match policy.judge(&Candidate::alone(device)).map(pvusb_agent::policy::Rule::action) {
        None | Some(Action::Keep) => Place::Dom0,
        Some(Action::Block) => Place::Nobody,
        Some(Action::Attach(targets)) => Place::In(targets[0].guest.to_string()),
    }
}

const IDS: [&str; 4] = ["1111:0001", "1111:0002", "2222:0001", "2222:0002"];
/// No two of them differ in the protocol alone.
const TRIPLES: [(u8, u8, u8); 4] = [(3, 1, 1), (3, 0, 0), (8, 6, 0x50), (0xb, 0, 0)];
const PORTS: [&str; 3] = ["1-1", "1-1.4", "2-3"];

fn triple((class, subclass, protocol): (u8, u8, u8)) -> ClassTriple {
    ClassTriple { class, subclass, protocol }
}

fn with_interfaces(mut device: Device, triples: &[(u8, u8, u8)]) -> Device {
    for (number, it) in triples.iter().enumerate() {
        let name = format!("{}:1.{number}", device.busid).parse().unwrap();
        let interface = Interface { class: triple(*it), driver: None, authorized: true };
        device.interfaces.insert(name, interface);
    }
    device
}

prop_compose! {
    /// A device of a few ids, strings and interfaces.
    fn device()(
        id in select(&IDS[..]),
        port in select(&PORTS[..]),
        serial in proptest::option::of(select(&["A", "B", "A*", "/B/"][..])),
        product in proptest::option::of(select(&["Key", "Pen"][..])),
        rel in select(&["0100", "0200"][..]),
        removable in select(&Removable::ALL[..]),
        class in select(&[(0, 0, 0), (0xe0, 1, 1)][..]),
        known in proptest::option::of(select(&["Key", "A pen"][..])),
        interfaces in proptest::sample::subsequence(&TRIPLES[..], 1..=3),
    ) -> Device {
        let mut device =
            Device::new(port.parse().unwrap(), "1.5".parse().unwrap(), id.parse().unwrap());
        device.serial = serial.map(Text::from);
        device.product = product.map(Text::from);
        device.removable = removable;
        device.class = triple(class);
        device.udev.attributes.insert("bcdDevice".into(), rel.into());
        if let Some(known) = known {
            device.udev.properties.insert("ID_MODEL_FROM_DATABASE".into(), known.into());
        }
        if let Some(product) = product {
            device.udev.properties.insert("ID_MODEL".into(), product.into());
        }
        with_interfaces(device, &interfaces)
    }
}

fn triples(device: &Device) -> Vec<ClassTriple> {
    device.interfaces.values().map(|interface| interface.class).collect()
}

fn attribute<'d>(device: &'d Device, name: &str) -> &'d str {
    device.udev.attributes.get(name).map_or("", |text| text.as_str())
}

/// `usb-policy.conf`, with `usb_scan.py`'s way to judge.
mod xapi {
    use super::*;

    #[derive(Clone, Debug)]
    pub(super) struct Rule {
        allow: bool,
        id: (Option<u16>, Option<u16>),
        rel: Option<&'static str>,
        interface: (Option<u8>, Option<u8>),
    }

    prop_compose! {
        pub(super) fn rule()(
            allow in any::<bool>(),
            vid in proptest::option::of(select(&[0x1111_u16, 0x2222][..])),
            pid in proptest::option::of(select(&[1_u16, 2][..])),
            rel in proptest::option::weighted(0.1, select(&["0100", "0200"][..])),
            class in proptest::option::of(select(&[3_u8, 8, 0xb][..])),
            subclass in proptest::option::weighted(0.2, select(&[0_u8, 1, 6][..])),
        ) -> Rule {
            Rule { allow, id: (vid, pid), rel, interface: (class, subclass) }
        }
    }

    pub(super) fn text(rule: &Rule) -> String {
        let mut text = String::from(if rule.allow { "ALLOW:" } else { "DENY:" });
        let pairs = [
            ("vid", rule.id.0.map(|it| format!("{it:04x}"))),
            ("pid", rule.id.1.map(|it| format!("{it:04x}"))),
            ("rel", rule.rel.map(str::to_owned)),
            ("class", rule.interface.0.map(|it| format!("{it:02x}"))),
            ("subclass", rule.interface.1.map(|it| format!("{it:02x}"))),
        ];
        for (key, value) in pairs {
            text.extend(value.map(|value| format!(" {key}={value}")));
        }
        text + "\n"
    }

    /// Every interface is judged by the first rule that matches it.
    pub(super) fn allows(rules: &[Rule], device: &Device) -> bool {
        let matches = |rule: &Rule, class: &ClassTriple| {
            rule.id.0.is_none_or(|it| device.id.to_string().starts_with(&format!("{it:04x}")))
                && rule.id.1.is_none_or(|it| device.id.to_string().ends_with(&format!("{it:04x}")))
                && rule.rel.is_none_or(|it| attribute(device, "bcdDevice") == it)
                && rule.interface.0.is_none_or(|it| class.class == it)
                && rule.interface.1.is_none_or(|it| class.subclass == it)
        };
        let first = |class| rules.iter().find(|rule| matches(rule, class));
        triples(device).iter().all(|class| first(class).is_some_and(|rule| rule.allow))
    }
}

/// USBGuard's rules, with its manual's way to judge.
mod usbguard {
    use super::*;

    #[derive(Clone, Debug)]
    pub(super) struct Rule {
        target: &'static str,
        asked: Vec<(&'static str, &'static str, Vec<&'static str>)>,
    }

    fn set(
        name: &'static str,
        values: &'static [&'static str],
    ) -> impl Strategy<Value = (&'static str, &'static str, Vec<&'static str>)> {
        let operators =
            ["", "equals", "equals-ordered", "all-of", "one-of", "none-of", "match-all"];
        let values = proptest::sample::subsequence(values, 1..=2);
        (select(operators.to_vec()), values)
            .prop_map(move |(operator, values)| (name, operator, values))
    }

    pub(super) fn rule() -> impl Strategy<Value = Rule> {
        let asked = (
            proptest::option::of(set("id", &["1111:0001", "1111:*", "2222:0002", "*:*"])),
            proptest::option::weighted(0.3, set("serial", &["A", "B", "A*", "/B/", ""])),
            proptest::option::weighted(0.3, set("name", &["Key", "Pen", ""])),
            proptest::option::weighted(0.3, set("via-port", &["1-1", "1-1.4", "usb1", "nowhere"])),
            proptest::option::of(set(
                "with-interface",
                &["03:01:01", "03:*:*", "08:06:*", "0b:00:00"],
            )),
        );
        (select(&["allow", "block", "reject"][..]), asked).prop_map(|(target, asked)| Rule {
            target,
            asked: [asked.0, asked.1, asked.2, asked.3, asked.4].into_iter().flatten().collect(),
        })
    }

    pub(super) fn text(rule: &Rule) -> String {
        let mut text = rule.target.to_owned();
        for (name, operator, values) in &rule.asked {
            let plain = matches!(*name, "id" | "with-interface");
            let shown: Vec<_> = values
                .iter()
                .map(|it| if plain { (*it).to_owned() } else { format!("{it:?}") })
                .collect();
            let set = match (*operator, shown.as_slice()) {
                ("", [one]) => one.clone(),
                (operator, shown) => format!("{operator} {{ {} }}", shown.join(" ")),
            };
            text.extend([" ", name, " ", &set]);
        }
        text + "\n"
    }

    /// The target of the first rule that applies, or to block.
    pub(super) fn target(rules: &[Rule], device: &Device) -> Place {
        let applies = |rule: &&Rule| rule.asked.iter().all(|asked| holds(asked, device));
        match rules.iter().find(applies).map(|rule| rule.target) {
            Some("allow") => Place::Dom0,
            Some(_) | None => Place::Nobody,
        }
    }

    fn holds((name, operator, values): &(&str, &str, Vec<&str>), device: &Device) -> bool {
        let text =
            |text: &Option<Text>| text.as_ref().map_or_else(String::new, ToString::to_string);
        let there: Vec<String> = match *name {
            "id" => vec![device.id.to_string()],
            "serial" => vec![text(&device.serial)],
            "name" => vec![text(&device.product)],
            "via-port" => vec![device.busid.to_string()],
            _ => triples(device).iter().map(ToString::to_string).collect(),
        };
        // A star stands for the rest in ids and kinds of interfaces, and for itself in texts.
        let has_stars = matches!(*name, "id" | "with-interface");
        let is = |value: &str, there: &str| {
            let head = value.trim_end_matches([':', '*']);
            value == there || has_stars && value.ends_with('*') && there.starts_with(head)
        };
        let has = |value: &&str| there.iter().any(|there| is(value, there));
        let is_listed = |there: &String| values.iter().any(|value| is(value, there));
        match *operator {
            "all-of" => values.iter().all(has),
            "one-of" => values.iter().any(has),
            "none-of" => !values.iter().any(has),
            "match-all" => there.iter().all(is_listed),
            // The same set. A device has one id, and no set of two is the same as that.
            _ if *name == "with-interface" => values.iter().all(has) && there.iter().all(is_listed),
            _ => values.len() == 1 && values.iter().all(has),
        }
    }
}

/// vhotplug's JSON, with `config.py`'s way to judge.
mod vhotplug {
    use super::*;
    use serde_json::{Map, Value, json};

    fn one_match() -> impl Strategy<Value = Value> {
        let id = proptest::option::of(select(&IDS[..]));
        let name = proptest::option::weighted(0.3, select(&["key", ".*en", "Pen|Key", ".*"][..]));
        let place = proptest::option::weighted(0.2, (1_u8..3, select(&[1_u8, 3][..])));
        let class = proptest::option::of((select(&[0_u8, 3, 8][..]), 0_u8..2));
        let removable = proptest::option::weighted(
            0.3,
            proptest::sample::subsequence(vec!["removable", "FIXED", "unknown"], 0..=2),
        );
        let half = proptest::bool::weighted(0.1);
        let disabled = proptest::bool::weighted(0.1);
        (id, name, place, class, removable, half, disabled).prop_map(
            |(id, name, place, class, removable, half, disabled)| {
                let mut map = Map::new();
                if let Some((vendor, product)) = id.and_then(|id| id.split_once(':')) {
                    map.insert("vendorId".into(), json!(vendor));
                    if !half {
                        map.insert("productId".into(), json!(product));
                    }
                }
                map.extend(name.map(|name| ("productName".into(), json!(name))));
                if let Some((bus, port)) = place {
                    map.insert("bus".into(), json!(bus));
                    map.insert("port".into(), json!(port));
                }
                if let Some((class, subclass)) = class {
                    map.insert("interfaceClass".into(), json!(class));
                    map.insert("interfaceSubclass".into(), json!(subclass));
                }
                map.extend(removable.map(|words| ("removable".into(), json!(words))));
                if disabled {
                    map.insert("disable".into(), json!(true));
                }
                Value::Object(map)
            },
        )
    }

    pub(super) fn config() -> impl Strategy<Value = Value> {
        let list = |most| proptest::collection::vec(one_match(), 0..=most);
        let target = proptest::option::weighted(0.9, select(&["gui-vm", "net-vm"][..]));
        let entry = (target, list(3), list(1), proptest::bool::weighted(0.9)).prop_map(
            |(target, allow, deny, enable)| {
                json!({"targetVm": target, "allow": allow, "deny": deny, "enable": enable})
            },
        );
        proptest::collection::vec(entry, 0..4)
            .prop_map(|entries| json!({"usbPassthrough": entries}))
    }

    /// The machine of the first entry of which something is allowed and nothing denied.
    pub(super) fn target(config: &Value, device: &Device) -> Place {
        for entry in config["usbPassthrough"].as_array().unwrap() {
            let any =
                |key: &str| entry[key].as_array().unwrap().iter().any(|it| matches(it, device));
            let Some(target) = entry["targetVm"].as_str() else { continue };
            if entry["enable"] == json!(true) && any("allow") && !any("deny") {
                return Place::In(target.to_owned());
            }
        }
        Place::Dom0
    }

    fn matches(asked: &Value, device: &Device) -> bool {
        if asked["disable"] == json!(true) {
            return false;
        }
        if let Some(words) = asked["removable"].as_array()
            && !words
                .iter()
                .any(|it| it.as_str().unwrap().to_lowercase() == device.removable.word())
        {
            return false;
        }
        let id = device.id.to_string();
        let (vendor, product) = id.split_once(':').unwrap();
        if asked["vendorId"] == json!(vendor) && asked["productId"] == json!(product) {
            return true;
        }
        let property = |name| device.udev.property(name).unwrap_or_default().to_lowercase();
        let known = property("ID_MODEL_FROM_DATABASE");
        let name = if known.is_empty() { property("ID_MODEL") } else { known };
        let is_named = match asked["productName"].as_str() {
            Some("key") => name.starts_with("key"),
            Some(".*en") => name.contains("en"),
            Some("Pen|Key") => name.starts_with("pen") || name.starts_with("key"),
            // A device without any name is matched there too; here there is nothing to be matched.
            Some(_) => !name.is_empty(),
            None => false,
        };
        let busid = device.busid.to_string();
        let (bus, ports) = busid.split_once('-').unwrap();
        let root = ports.split('.').next().unwrap();
        let number = |key: &str| asked[key].as_u64().filter(|it| *it != 0);
        let is_there = number("bus").is_some_and(|it| it.to_string() == bus)
            && number("port").is_some_and(|it| it.to_string() == root);
        let (class, subclass) = (number("interfaceClass"), number("interfaceSubclass"));
        is_named
            || is_there
            || triples(device).iter().any(|it| {
                class == Some(it.class.into())
                    && subclass.is_none_or(|subclass| subclass == u64::from(it.subclass))
            })
    }
}

/// OpenXT's rules, with `policy.c`'s way to judge.
mod openxt {
    use super::*;
    use serde_json::{Map, Value, json};

    pub(super) const VMS: [&str; 2] =
        ["6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30", "6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a31"];

    pub(super) fn rule() -> impl Strategy<Value = Value> {
        let command = select(&["always", "default", "allow", "deny"][..]);
        let vm = proptest::option::weighted(0.7, select(&VMS[..]));
        let ids = (
            proptest::option::of(select(&["1111", "2222"][..])),
            proptest::option::of(select(&["1", "0002"][..])),
        );
        let serial = proptest::option::weighted(0.2, select(&["A", "A*"][..]));
        let storage = proptest::option::weighted(0.3, select(&["0", "1"][..]));
        (command, vm, ids, serial, storage).prop_map(
            |(command, vm, (vendor, product), serial, storage)| {
                let mut device = Map::new();
                let keys = [
                    ("vendor_id", vendor),
                    ("device_id", product),
                    ("serial", serial),
                    ("mass_storage", storage),
                ];
                for (key, value) in keys {
                    device.extend(value.map(|value| (key.to_owned(), json!(value))));
                }
                match vm {
                    Some(vm) => json!({"command": command, "device": device, "vm": {"uuid": vm}}),
                    None => json!({"command": command, "device": device}),
                }
            },
        )
    }

    /// The machine that a new device is given to.
    pub(super) fn target(rules: &[Value], device: &Device) -> Place {
        let first =
            |command: &str| rules.iter().find(|it| it["command"] == command && matches(it, device));
        let Some(vm) =
            first("always").or_else(|| first("default")).and_then(|it| it["vm"]["uuid"].as_str())
        else {
            return Place::Dom0;
        };
        let counts = |it: &&Value| {
            matches(it, device) && it["vm"]["uuid"].as_str().is_none_or(|own| own == vm)
        };
        match rules.iter().find(counts) {
            Some(rule) if rule["command"] != "deny" => Place::In(vm.to_owned()),
            Some(_) | None => Place::Dom0,
        }
    }

    fn matches(rule: &Value, device: &Device) -> bool {
        let asked = &rule["device"];
        let id = device.id.to_string();
        let (vendor, product) = id.split_once(':').unwrap();
        let number = |text: &str| u16::from_str_radix(text, 16).unwrap();
        let is_storage = triples(device).iter().any(|it| it.class == 8);
        asked["vendor_id"].as_str().is_none_or(|it| number(it) == number(vendor))
            && asked["device_id"].as_str().is_none_or(|it| number(it) == number(product))
            && asked["serial"].as_str().is_none_or(|it| device.serial == Some(it.into()))
            && asked["mass_storage"].as_str().is_none_or(|it| (it == "1") == is_storage)
    }
}

fn numbered(rules: &[serde_json::Value]) -> String {
    let rules = rules.iter().enumerate().map(|(at, rule)| ((at * 10).to_string(), rule.clone()));
    serde_json::Value::Object(rules.collect()).to_string()
}

proptest! {
    #[test]
    fn xapi_judges_as_its_converted_policy_does(
        rules in proptest::collection::vec(xapi::rule(), 0..6), devices in proptest::collection::vec(device(), 6)
    ) {
        let text: String = rules.iter().map(xapi::text).collect();
        let converted = try_convert(Format::Xapi, &text).unwrap();
        let policy = read(&converted);
        for device in &devices {
            let goes = judge(&policy, device) == Place::In(DOMAIN.into());
            let may = xapi::allows(&rules, device);
            let told = format!("{text}\n{}\n{device:?}", converted.policy);
            prop_assert!(!goes || may, "it goes and must not: {told}");
            prop_assert!(goes == may || converted.lost() > 0, "it stays, and nothing is told: {told}");
        }
    }

    #[test]
    fn usbguard_judges_as_its_converted_policy_does(
        rules in proptest::collection::vec(usbguard::rule(), 0..6), devices in proptest::collection::vec(device(), 6)
    ) {
        let text: String = rules.iter().map(usbguard::text).collect();
        let converted = try_convert(Format::UsbGuard, &text).unwrap();
        prop_assert_eq!(converted.lost(), 0, "{}", converted.policy);
        let policy = read(&converted);
        for device in &devices {
            let expected = usbguard::target(&rules, device);
            prop_assert_eq!(judge(&policy, device), expected, "{}\n{}\n{:?}", text, converted.policy, device);
        }
    }

    #[test]
    fn vhotplug_judges_as_its_converted_policy_does(
        config in vhotplug::config(), devices in proptest::collection::vec(device(), 6)
    ) {
        let converted = try_convert(Format::Vhotplug, &config.to_string()).unwrap();
        prop_assert_eq!(converted.lost(), 0, "{}", converted.policy);
        let policy = read(&converted);
        for device in &devices {
            let expected = vhotplug::target(&config, device);
            prop_assert_eq!(judge(&policy, device), expected, "{}\n{}\n{:?}", config, converted.policy, device);
        }
    }

    #[test]
    fn openxt_judges_as_its_converted_policy_does(
        rules in proptest::collection::vec(openxt::rule(), 0..7), devices in proptest::collection::vec(device(), 6)
    ) {
        let text = numbered(&rules);
        let converted = try_convert(Format::OpenXt, &text).unwrap();
        let policy = read(&converted);
        for device in &devices {
            let expected = openxt::target(&rules, device);
            prop_assert_eq!(judge(&policy, device), expected, "{}\n{}\n{:?}", text, converted.policy, device);
        }
    }
}
