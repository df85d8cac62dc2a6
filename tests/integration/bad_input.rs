//! Hostile and broken input from every side: devices, guests, the daemon, the policy's file. None of
//! it stops the agent, or keeps it from serving everybody else.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::agent::Agent;
use crate::harness::backend::{Controller, Guest};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Message, Op};
use crate::wire::{wait_until_quiet, wait_until_silent};
use crate::world::World;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SCANNER: &str = "
version: 1
rules:
  - name: front desk scanner
    match: {id: '05e0:1200'}
    attach: kiosk
";

fn scanner(busid: &str, devnum: u8) -> UsbDevice {
    UsbDevice::new(busid, devnum, 0x05e0, 0x1200)
}

/// Nothing that was printed gives a terminal an order, or is a line that the agent did not mean.
#[track_caller]
fn assert_harmless(lines: &[String]) {
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.chars().count() < 3000, "{line:?}");
        assert!(!line.starts_with("forged"), "{line:?}");
    }
}

/// A verb's answer, from a bed or a whole host.
fn ask(world: &World, args: &[&str]) -> String {
    let mut agent = Agent::start(args, &world.env());
    let status = agent.wait(PATIENCE);
    assert!(status.success(), "{args:?}: {status}");
    wait_until(PATIENCE, "all of the answer", || agent.has_closed());
    agent.lines().join("\n")
}

#[test]
fn what_a_device_says_of_itself_is_shown_and_never_obeyed() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    let mut evil = scanner("1-1", 6).with_serial([b'x'; 10_000]);
    evil.manufacturer = Some(b"\x1b[2J\x1b]0;owned\x07caf\xe9".to_vec());
    evil.product_name = Some("line\nforged=1 \"quoted\" \u{202e}back\u{85}\\".into());
    world.bed.plug(&evil);
    let mut strange = UsbDevice::mouse("1-2", 7);
    strange.manufacturer = Some(vec![0xff; 10_000]);
    strange.product_name = Some(b"\0\r\x08".to_vec());
    world.bed.plug(&strange);

    let mut agent = world.agent(SCANNER);
    agent.wait_for_line("attached", PATIENCE);
    kiosk.wait_until_held("1-1");
    let lines = agent.lines();
    assert_harmless(&lines);
    let plugged = lines.iter().find(|line| line.contains("plugged") && line.contains("1-1"));
    assert!(plugged.unwrap().contains(r"\u{1b}[2J"), "{plugged:?}");

    let policy = world.policy_path();
    let args = ["devices", "--policy", policy.to_str().unwrap()];
    let table = ask(&world, &args);
    assert_harmless(&table.lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(table.lines().count(), 3, "headings and two devices: {table}");
    assert!(table.contains(r"\u{1b}[2J\u{1b}]0;owned\u{7}caf\xe9 line\n"), "{table}");
    assert!(table.contains("attach to kiosk"), "{table}");

    let json = ask(&world, &["devices", "--json", "--policy", policy.to_str().unwrap()]);
    let devices: serde_json::Value = serde_json::from_str(&json).unwrap();
    let device = devices.as_array().unwrap().iter().find(|it| it["busid"] == "1-1").unwrap();
    assert_eq!(device["manufacturer"], r"\u{1b}[2J\u{1b}]0;owned\u{7}caf\xe9");
    assert_eq!(device["product"], r#"line\nforged=1 "quoted" \u{202e}back\u{85}\\"#);
    assert!(device["serial"].as_str().unwrap().chars().count() < 300);
    assert_eq!(device["verdict"], "attach to kiosk");

    let list = ask(&world, &["list"]);
    assert_harmless(&list.lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(list.lines().count(), 2, "{list}");
    serde_json::from_str::<serde_json::Value>(&ask(&world, &["list", "--json"])).unwrap();
}

/// A message as bytes.
fn bytes(op: Op, request: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message { op, request, transaction: 0, payload: payload.to_vec() }.write(&mut bytes).unwrap();
    bytes
}

/// Header words alone.
fn header(words: [u32; 4]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

#[test]
fn a_malformed_message_costs_the_connection_and_nothing_else() {
    let malformed: [(&str, Vec<u8>); 8] = [
        ("no header at all", vec![0xff; 16]),
        ("an unknown type", header([99, 1, 0, 0])),
        ("too long an event", header([Op::WATCH_EVENT.0, 0, 0, 1 << 30])),
        ("too long a reply", header([Op::READ.0, 1, 0, 70_000])),
        ("a reply to nothing", bytes(Op::READ, 0xdead_beef, b"value")),
        ("an error for nothing", bytes(Op::ERROR, 0, b"ENOENT\0")),
        ("an event without a token", bytes(Op::WATCH_EVENT, 0, b"/libxl")),
        ("an event of bytes", bytes(Op::WATCH_EVENT, 0, b"\xff\xfe\0\xff\0")),
    ];
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    let mut agent = world.agent(SCANNER);
    agent.wait_for_line("connected to xenstore", PATIENCE);
    for (number, (what, message)) in malformed.iter().enumerate() {
        println!("{what}");
        world.proxy.inject(message);
        agent.wait_for_line("no connection to xenstore", PATIENCE);
        agent.wait_for_line("connected to xenstore", PATIENCE);
        world.bed.plug(&scanner("1-1", u8::try_from(10 + number).unwrap()));
        agent.wait_for_line("attached", PATIENCE);
        kiosk.wait_until_held("1-1");
        world.bed.unplug("1-1");
        agent.wait_for_line("port cleared", PATIENCE);
        kiosk.wait_until_empty();
    }
    // Not malformed: the event of a watch that has just ended.
    world.proxy.inject(&bytes(Op::WATCH_EVENT, 0, b"/libxl\0of nobody\0"));
    world.bed.plug(&scanner("1-1", 30));
    agent.wait_for_line("attached", PATIENCE);
    let lost = agent.lines().iter().filter(|l| l.contains("no connection to xenstore")).count();
    assert_eq!(lost, malformed.len());
    assert!(kiosk.qemu.aborts().is_empty());
    assert_harmless(&agent.lines());
}

#[test]
fn a_malformed_reply_in_the_middle_of_an_attach_is_survived() {
    let replies: [(&str, Op, &[u8]); 4] = [
        ("another type", Op::READ, b"value"),
        ("no number", Op::TRANSACTION_START, b"\xff\xff\0"),
        ("no end", Op::TRANSACTION_START, b"12"),
        ("an error without a name", Op::ERROR, b""),
    ];
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    let mut agent = world.agent(SCANNER);
    wait_until_quiet(&world, &mut agent);
    for (number, (what, op, payload)) in replies.into_iter().enumerate() {
        println!("{what}");
        world.proxy.reset();
        world.proxy.pause();
        world.bed.plug(&scanner("1-1", u8::try_from(10 + number).unwrap()));
        let mut start = None;
        wait_until(PATIENCE, "the transaction begins", || {
            let requests = world.proxy.requests();
            start = requests.into_iter().find(|it| it.op == Op::TRANSACTION_START);
            start.is_some()
        });
        world.proxy.inject(&bytes(op, start.unwrap().request, payload));
        agent.wait_for_line("no connection to xenstore", PATIENCE);
        world.proxy.resume();
        agent.wait_for_line("attached", PATIENCE);
        kiosk.wait_until_held("1-1");
        world.bed.unplug("1-1");
        kiosk.wait_until_empty();
        agent.wait_for_line("port cleared", PATIENCE);
        wait_until_silent(&world);
    }
    assert!(kiosk.qemu.aborts().is_empty());
}

/// What stands in a node, of whatever owner, that makes no sense.
const NONSENSE: [&[u8]; 9] = [
    b"",
    b"-1",
    b"0",
    b"2147483648",
    b"99999999999999999999",
    b"../../x",
    b"\x1b[2J\nforged",
    b"\xff\xfe\0\x01",
    &[b'4'; 1000],
];

/// Makes a nonsense of a domain's controller, in one way of many.
fn spoil(world: &mut World, guest: &Guest, way: usize) {
    let mut store = world.xenstored.client();
    let fe = format!("/local/domain/{}/device/vusb/0", guest.domid);
    let be = format!("/local/domain/0/backend/qusb/{}/0", guest.domid);
    let lx = format!("/libxl/{}/device/vusb/0", guest.domid);
    match way {
        0 => store.rm(&fe).unwrap(),
        1 => store.rm(&format!("{fe}/state")).unwrap(),
        2 => store.rm(&format!("{lx}/type")).unwrap(),
        3 => store.write(&format!("{lx}/type"), "\x1b[2J\nforged").unwrap(),
        4 => store.write(&format!("{lx}/backend"), "/local/domain/3/backend/qusb/1/0").unwrap(),
        5 => store.write(&format!("{lx}/backend"), "/local/domain/0/backend/qusb/5/0").unwrap(),
        6 => store.rm(&be).unwrap(),
        7 => store.rm(&format!("{be}/port")).unwrap(),
        8 => store.write(&format!("/libxl/{}/device/vusb/x", guest.domid), "").unwrap(),
        9 => store.write(&format!("/libxl/{}/device/vusb/007/type", guest.domid), "qusb").unwrap(),
        10 => store.write(&format!("{be}/port/x"), "1-1").unwrap(),
        11 => store.write(&format!("{be}/port/99"), "1-1").unwrap(),
        12 => world.toolstack.rename(&mut guest.clone(), "\x1b[2J\nforged\u{202e}"),
        13 => store.write(&format!("/local/domain/{}/name", guest.domid), [0xff; 2000]).unwrap(),
        14 => store.rm(&format!("/local/domain/{}/name", guest.domid)).unwrap(),
        15 => store.rm(&format!("/local/domain/{}", guest.domid)).unwrap(),
        16 => store.rm(&format!("/libxl/{}/type", guest.domid)).unwrap(),
        17 => store.write(&format!("/libxl/{}/type", guest.domid), "hvm\n").unwrap(),
        18 => store.write(&format!("/local/domain/{}/vm", guest.domid), "/vm/../../x").unwrap(),
        _ => {
            let (node, value) = nonsense_node(way - WAYS_OF_ITS_OWN).unwrap();
            let node = [
                format!("{fe}/state"),
                format!("{be}/state"),
                format!("{be}/num-ports"),
                format!("{be}/usb-ver"),
                format!("{be}/port/1"),
                format!("{be}/online"),
            ][node]
                .clone();
            store.write(&node, value).unwrap();
        }
    }
}

fn nonsense_node(way: usize) -> Option<(usize, &'static [u8])> {
    let (node, value) = (way / NONSENSE.len(), way % NONSENSE.len());
    (node < 6).then(|| (node, NONSENSE[value]))
}

/// How many ways there are: those that are written out, and each nonsense in each of six nodes.
const WAYS: usize = WAYS_OF_ITS_OWN + 6 * NONSENSE.len();

/// How many are written out in [`spoil`].
const WAYS_OF_ITS_OWN: usize = 19;

/// Whether a node belongs to the domain that makes no trouble, or to the agent.
fn is_kiosks(path: &str) -> bool {
    ["/local/domain/5/", "/local/domain/0/backend/qusb/5/", "/libxl/5/", "/tool/pvusb-agent"]
        .iter()
        .any(|start| path.starts_with(start))
}

#[test]
fn nonsense_of_one_domain_is_no_other_domains_trouble() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let kiosk = world.domain(5, "kiosk");
        let victims: Vec<_> = (0..WAYS)
            .map(|way| Guest::new(u32::try_from(100 + way).unwrap(), &format!("victim{way}")))
            .collect();
        for guest in &victims {
            world.toolstack.create(guest);
            world.toolstack.usbctrl_attach(guest, Controller::qusb(0));
        }
        // Half of it is there when the agent starts, the other half comes while it runs.
        for (way, guest) in victims.iter().enumerate().filter(|(way, _)| way % 2 == 0) {
            spoil(&mut world, guest, way);
        }
        let mut agent = world.agent(SCANNER);
        agent.wait_for_line("connected to xenstore", PATIENCE);
        world.bed.plug(&scanner("1-1", 6));
        agent.wait_for_line("attached", PATIENCE);
        kiosk.wait_until_held("1-1");
        for (way, guest) in victims.iter().enumerate().filter(|(way, _)| way % 2 == 1) {
            spoil(&mut world, guest, way);
        }
        world.bed.plug(&scanner("1-2", 7));
        agent.wait_for_line("attached", PATIENCE);
        kiosk.wait_until_held("1-2");

        for request in world.proxy.requests() {
            let changes = [Op::WRITE, Op::MKDIR, Op::RM, Op::SET_PERMS].contains(&request.op);
            assert!(!changes || is_kiosks(&request.path()), "{flavor:?}: {request:?}");
        }
        assert_harmless(&agent.lines());
        let list = ask(&world, &["list"]);
        assert_harmless(&list.lines().map(str::to_owned).collect::<Vec<_>>());
        serde_json::from_str::<serde_json::Value>(&ask(&world, &["list", "--json"])).unwrap();
        agent.signal("TERM");
        assert!(agent.wait(PATIENCE).success());
        assert!(kiosk.qemu.aborts().is_empty());
    }
}

#[test]
fn a_note_that_cannot_be_read_is_none() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let kiosk = world.domain(5, "kiosk");
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
        let mut store = world.xenstored.client();
        let notes = "/tool/pvusb-agent/devices";
        for (key, value) in [
            ("1-1", &b"\xff\xfe\0\x1b[2J"[..]),
            ("1-2", b"attached type=qusb id=../../x address=1.6"),
            ("1-3", b""),
            ("not-a-busid", b"attached"),
            ("999-1", b"attached"),
        ] {
            store.write(&format!("{notes}/{key}"), value).unwrap();
        }
        store.write("/libxl/5/device/vusb/0/pvusb-agent", "\x1b[2Jno mark").unwrap();
        world.bed.plug(&scanner("1-1", 6));
        let mut agent = world.agent(SCANNER);
        agent.wait_for_line("attached", PATIENCE);
        kiosk.wait_until_held("1-1");
        assert!(world.note("1-1").unwrap().starts_with("attached type=qusb id=05e0:1200"));

        // What it cannot read any more is not its own any more: it leaves the device alone.
        store.write(&format!("{notes}/1-1"), "garbage").unwrap();
        agent.wait_for_line("left alone", PATIENCE);
        world.bed.plug(&scanner("1-2", 7));
        agent.wait_for_line("attached", PATIENCE);
        kiosk.wait_until_held("1-2");
        assert_eq!(world.port(5, 0, 1).as_deref(), Some("1-1"), "{flavor:?}");
        assert_harmless(&agent.lines());
    }
}

/// Policies that are none, each with the place and the word that the answer must have.
fn bad_policies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut laughs = "version: 1\nx0: &x0 [ha, ha]\n".to_owned();
    for n in 1..40 {
        writeln!(laughs, "x{n}: &x{n} [*x{0}, *x{0}, *x{0}, *x{0}]", n - 1).unwrap();
    }
    let rule = "version: 1\nrules:\n  - match: {id: \"05e0:1200\"}\n    attach: a\n";
    vec![
        ("not YAML", b"version: 1\nrules: [\n".to_vec(), "policy.yaml:3:1"),
        ("unknown key", format!("{rule}colour: red\n").into(), "policy.yaml:5:1"),
        ("wrong value", rule.replace("05e0", "zzzz").into(), "policy.yaml:3:17"),
        ("duplicate key", format!("{rule}    attach: b\n").into(), "policy.yaml:5:5"),
        ("a billion laughs", laughs.into(), "policy.yaml:2:5"),
        ("brackets", vec![b'['; 100_000], "policy.yaml:1:"),
        ("nothing", Vec::new(), "policy.yaml"),
        ("bytes", vec![0xff; 5000], "policy.yaml:1:1"),
        ("an escape sequence", b"version: 1\n\"\x1b[2J\": x\n".to_vec(), "policy.yaml:2:2"),
    ]
}

/// Runs the agent with this policy: it must end within a second, with 78 and a message about
/// `place`.
#[track_caller]
fn assert_refused(what: &str, policy: &Path, place: &str) {
    let args = ["run", "--policy", policy.to_str().unwrap()];
    let mut agent = Agent::start(&args, &[("NO_COLOR".into(), "1".into())]);
    // At once, on a machine that may be busy with other tests.
    let status = agent.wait(Duration::from_secs(10));
    wait_until(PATIENCE, "all of the answer", || agent.has_closed());
    let lines = agent.lines();
    assert_eq!(status.code(), Some(78), "{what}: {lines:?}");
    assert!(lines.iter().any(|line| line.contains(place)), "{what}: {lines:#?}");
    assert!(lines[0].starts_with("error[P"), "{what}: {lines:#?}");
    assert!(lines.iter().all(|line| !line.chars().any(char::is_control)), "{what}: {lines:#?}");
}

#[test]
fn a_bad_policy_is_refused_at_once_and_the_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    for (what, text, place) in bad_policies() {
        fs::write(&policy, text).unwrap();
        assert_refused(what, &policy, place);
    }
}

#[test]
fn what_is_no_readable_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    assert_refused("nothing there", &dir.path().join("nowhere.yaml"), "nowhere.yaml");
    assert_refused("a directory", dir.path(), dir.path().to_str().unwrap());
    assert_refused("a device that never ends", Path::new("/dev/zero"), "/dev/zero");

    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert_refused("a FIFO that nobody writes", &fifo, "fifo");

    let secret = dir.path().join("secret");
    fs::write(&secret, SCANNER).unwrap();
    assert!(Command::new("chmod").arg("000").arg(&secret).status().unwrap().success());
    // root can read it all the same.
    if fs::read(&secret).is_err() {
        assert_refused("not to be read", &secret, "secret");
    }
}
