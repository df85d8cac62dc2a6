//! What the agent writes, against what a real xl wrote on a real Xen.
//!
//! `tests/fixtures/xl-*.txt` say what xl left in xenstore. The agent is brought to the same
//! situation; then every node that the store has more than before is compared: value, permissions,
//! and, with C xenstored, which lists children as they were made, the order.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::agent::Agent;
use crate::harness::backend::{Controller, Frontend, Guest};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Op, RawClient};
use crate::wire::wait_until_quiet;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Nodes by path: value and permissions.
type Tree = BTreeMap<String, (String, String)>;

/// What the guest's driver writes into the frontend's directory, with values of its own.
const GUESTS: [&str; 3] = ["urb-ring-ref", "conn-ring-ref", "event-channel"];

/// What QEMU writes into the backend's directory.
const QEMUS: [&str; 1] = ["hotplug-status"];

/// A real xl's nodes, in their order.
fn xls(fixture: &str) -> Vec<(String, (String, String))> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    parse(&fs::read_to_string(path).unwrap())
}

/// Reads what `xenstore-ls -fp` prints.
fn parse(text: &str) -> Vec<(String, (String, String))> {
    let nodes = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (path, rest) = line.split_once(" = \"").unwrap();
        let (value, perms) = rest.rsplit_once('"').unwrap();
        let perms = perms.trim().strip_prefix('(').and_then(|it| it.strip_suffix(')')).unwrap();
        (path.to_owned(), (value.to_owned(), perms.to_owned()))
    });
    nodes.collect()
}

/// All nodes below `path`, in the daemon's order.
fn below(store: &mut RawClient, path: &str) -> Vec<(String, (String, String))> {
    let mut nodes = Vec::new();
    for name in store.directory(if path.is_empty() { "/" } else { path }).unwrap() {
        let path = format!("{path}/{name}");
        let value = store.get(&path).unwrap().unwrap();
        let perms = store.perms(&path).unwrap().join(",");
        nodes.push((path.clone(), (value, perms)));
        nodes.extend(below(store, &path));
    }
    nodes
}

fn everything(world: &World) -> Tree {
    below(&mut world.xenstored.client(), "").into_iter().collect()
}

/// The nodes of one that the other has not, or has with another value or other permissions.
fn difference(after: &Tree, before: &Tree) -> Tree {
    let new = after.iter().filter(|(path, node)| before.get(*path) != Some(node));
    new.map(|(path, node)| (path.clone(), node.clone())).collect()
}

/// Takes out what differs on purpose, and says why.
fn without_intended_differences(mut ours: Tree) -> Tree {
    // The agent's own notes, and its mark of a controller that it made. For dom0 alone.
    let is_own = |path: &&String| {
        path.starts_with("/tool/")
            || (path.starts_with("/libxl/") && path.ends_with("/pvusb-agent"))
    };
    let notes: BTreeSet<String> = ours.keys().filter(is_own).cloned().collect();
    for path in notes {
        let (_, perms) = ours.remove(&path).unwrap();
        assert_eq!(perms, "n0", "{path} is for dom0's eyes only");
    }
    ours
}

/// Hides the values that the guest chose: they depend on what else the guest does.
fn hide_guests_values(tree: Tree) -> Tree {
    let hide = |(path, (value, perms)): (String, (String, String))| {
        let own = GUESTS.iter().any(|node| path.ends_with(&format!("/{node}")));
        (path, (if own { "the guest's".to_owned() } else { value }, perms))
    };
    tree.into_iter().map(hide).collect()
}

/// Compares what is new in the store with xl's nodes.
#[track_caller]
fn assert_like_xl(world: &World, before: &Tree, fixture: &str) {
    let flavor = world.xenstored.flavor();
    let xls = xls(fixture);
    let ours =
        hide_guests_values(without_intended_differences(difference(&everything(world), before)));
    let theirs = hide_guests_values(xls.iter().cloned().collect());
    assert_eq!(ours, theirs, "{flavor:?}: ours on the left, xl's on the right");

    if flavor == Flavor::C {
        for root in roots(&xls) {
            let paths: Vec<_> = below(&mut world.xenstored.client(), &root)
                .into_iter()
                .map(|(path, _)| path)
                .filter(|path| !path.ends_with("/pvusb-agent"))
                .collect();
            let inside = |path: &String| path.starts_with(&format!("{root}/"));
            let xls: Vec<_> = xls.iter().map(|(path, _)| path.clone()).filter(inside).collect();
            assert_eq!(paths, xls, "the order below {root}");
        }
    }
}

/// The three directories of the fixture's controller.
fn roots(nodes: &[(String, (String, String))]) -> Vec<String> {
    let paths: BTreeSet<&str> = nodes.iter().map(|(path, _)| path.as_str()).collect();
    let parent = |path: &str| path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
    let highest = paths.iter().filter(|path| !paths.contains(&*parent(path).unwrap()));
    highest.map(|path| (*path).to_owned()).collect()
}

/// What the agent itself wrote, by path and in order.
fn writes(world: &World) -> Vec<(String, String)> {
    let requests = world.proxy.requests();
    let writes = requests.iter().filter(|request| request.op == Op::WRITE);
    writes
        .map(|request| {
            let (path, value) = (request.path(), &request.payload[request.path().len() + 1..]);
            (path, String::from_utf8_lossy(value).into_owned())
        })
        .collect()
}

/// The nodes of others are left to the others; a state is written when it is made and never again.
#[track_caller]
fn assert_writes_only_its_own(world: &World) {
    for (path, value) in writes(world) {
        let name = path.rsplit('/').next().unwrap();
        assert!(!GUESTS.contains(&name) && !QEMUS.contains(&name), "{path}");
        assert!(name != "state" || value == "1", "{path} = {value}");
    }
}

fn wait_until_states_are(world: &World, (domid, kind): (u32, &str), state: &str) {
    let nodes = [
        format!("/local/domain/0/backend/{kind}/{domid}/0/state"),
        format!("/local/domain/{domid}/device/vusb/0/state"),
    ];
    wait_until(PATIENCE, "both ends are in their state", || {
        nodes.iter().all(|node| world.node(node).as_deref() == Some(state))
    });
}

#[test]
fn a_new_controller_with_its_device_is_what_xl_makes() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let guest = world.domain(2, "g2");
        let mut agent =
            world.agent("{version: 1, rules: [{match: {id: '0403:6001'}, attach: g2}]}");
        wait_until_quiet(&world, &mut agent);
        let before = everything(&world);
        world.proxy.reset();
        world.bed.plug(&UsbDevice::serial_adapter("1-4", 7, "A1"));
        guest.wait_until_held("1-4");
        wait_until_states_are(&world, (2, "qusb"), "4");

        assert_like_xl(&world, &before, "xl-qusb-new-controller.txt");
        assert_writes_only_its_own(&world);
        let made = writes(&world).into_iter().filter(|(path, _)| path.ends_with("/state"));
        assert_eq!(made.count(), 3, "of LX, FE and BE");
        assert_eq!(
            tool(&world, "xenstore-ls", &["-fp"]),
            everything(&world),
            "{flavor:?}: Xen's own tool sees the same"
        );
        let port = "/local/domain/0/backend/qusb/2/0/port/1";
        assert_eq!(run(&world, "xenstore-read", &[port]), "1-4\n", "{flavor:?}");
    }
}

#[test]
fn a_device_in_a_controller_of_xl_is_what_xl_attaches() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let guest = world.domain(3, "g1");
        let before = everything(&world);
        let controller = Controller { ports: 4, ..Controller::qusb(0) };
        world.toolstack.usbctrl_attach(&guest.guest, controller);
        wait_until_states_are(&world, (3, "qusb"), "4");
        let mut agent =
            world.agent("{version: 1, rules: [{match: {id: '046d:c31c'}, attach: g1}]}");
        wait_until_quiet(&world, &mut agent);
        let made = everything(&world);
        world.bed.plug(&UsbDevice::keyboard("1-2", 5));
        guest.wait_until_held("1-2");

        assert_like_xl(&world, &before, "xl-qusb-device-attached.txt");
        let changed = without_intended_differences(difference(&everything(&world), &made));
        let changed: Vec<_> = changed.into_keys().collect();
        assert_eq!(changed, ["/local/domain/0/backend/qusb/3/0/port/1"], "{flavor:?}");
        assert_writes_only_its_own(&world);
    }
}

#[test]
fn a_new_controller_for_the_kernel_is_what_xl_makes() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        world.load_usbback();
        world.usbback.as_ref().unwrap().pause(true);
        let guest = Guest::new(3, "g3").without_qusb();
        let _frontend = Frontend::start(&world.xenstored, guest.domid);
        world.toolstack.create(&guest);
        let mut agent = world.agent(
            "{version: 1, defaults: {controller: {type: pv, version: 2, ports: 4}},
              rules: [{match: {id: '046d:c31c'}, attach: g3}]}",
        );
        wait_until_quiet(&world, &mut agent);
        let before = everything(&world);
        world.bed.plug(&UsbDevice::keyboard("1-2", 5));
        agent.wait_for_line("controller created", PATIENCE);

        wait_until_states_are(&world, (guest.domid, "vusb"), "1");
        assert_like_xl(&world, &before, "xl-pv-new-controller.txt");
        assert_writes_only_its_own(&world);
    }
}

/// Asks for a controller by hand, and does not wait until it is there.
fn add_by_hand(world: &World, args: &[&str]) -> Agent {
    let libxl_dir = world.libxl_dir();
    let libxl_dir = ["--libxl-dir", libxl_dir.to_str().unwrap()];
    world.start_verb(&[&["controller", "add"], args, &libxl_dir].concat())
}

#[test]
fn a_controller_by_hand_for_the_kernel_is_what_xl_makes() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        world.load_usbback();
        let usbback = world.usbback.as_ref().unwrap();
        usbback.pause(true);
        let guest = Guest::new(3, "g3").without_qusb();
        let _frontend = Frontend::start(&world.xenstored, guest.domid);
        world.toolstack.create(&guest);
        let before = everything(&world);
        let mut verb = add_by_hand(&world, &["g3", "--type", "pv", "--ports", "4"]);
        wait_until_states_are(&world, (guest.domid, "vusb"), "1");

        assert_like_xl(&world, &before, "xl-pv-new-controller.txt");
        // It is nobody's: without a mark, and nothing is noted.
        let made = difference(&everything(&world), &before);
        assert!(!made.keys().any(|path| path.contains("pvusb-agent")), "{made:?}");
        assert_writes_only_its_own(&world);
        usbback.pause(false);
        assert_eq!(verb.wait(PATIENCE).code(), Some(0));
    }
}

#[test]
fn a_controller_by_hand_for_qemu_is_what_xl_makes() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let guest = world.domain(3, "g1");
        world.bed.plug(&UsbDevice::keyboard("1-2", 5));
        let before = everything(&world);
        let mut verb = add_by_hand(&world, &["g1", "--type", "qusb", "--ports", "4"]);
        assert_eq!(verb.wait(PATIENCE).code(), Some(0));
        wait_until_states_are(&world, (3, "qusb"), "4");
        let controller = Controller { ports: 4, ..Controller::qusb(0) };
        world.toolstack.usbdev_attach(&guest.guest, controller, (1, "1-2"));
        guest.wait_until_held("1-2");

        assert_like_xl(&world, &before, "xl-qusb-device-attached.txt");
        let made = difference(&everything(&world), &before);
        assert!(!made.keys().any(|path| path.contains("pvusb-agent")), "{made:?}");
        assert_writes_only_its_own(&world);
    }
}

/// Runs one of Xen's own tools on the same store.
fn run(world: &World, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("XENSTORED_PATH", world.xenstored.socket())
        .output()
        .unwrap_or_else(|error| {
            unreachable!("{program}: {error}: install the Debian package xenstore-utils")
        });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn tool(world: &World, program: &str, args: &[&str]) -> Tree {
    parse(&run(world, program, args)).into_iter().collect()
}
