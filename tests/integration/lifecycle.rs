//! Domains that end, agents that end, policies that change, xenstored that ends: what stays and what
//! goes.

use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Lost, Message, Op};
use crate::world::{
    Domain, OWN, World, differences, everywhere, hurry, keyboard, keyboards_to_kiosk, on_both,
    rules,
};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// A host with a domain that has a keyboard, and the agent that gave it.
fn with_keyboard(world: &mut World) -> (Domain, Agent) {
    let kiosk = world.domain(5, "kiosk");
    world.bed.plug(&keyboard("1-1", 2));
    let mut agent = world.agent(&keyboards_to_kiosk());
    world.wait_until_given(&kiosk, "1-1");
    agent.wait_for_line("attached device=1-1", PATIENCE);
    (kiosk, agent)
}

/// How long xenstored may take to answer (`src/host/xenstore/connection.rs: ANSWER_DEADLINE`).
const SILENCE: Duration = Duration::from_secs(30);

/// A policy that keeps everything in dom0.
fn nothing() -> String {
    rules(&["match: {id: '*:*'}, keep: dom0"])
}

/// What `pvusb-agent list --json` says.
fn list(world: &World) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"))
        .args(["list", "--json"])
        .envs(world.env())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is left of the agent's own nodes when it has attached nothing.
fn assert_no_notes(world: &World) {
    wait_until(PATIENCE, "no notes are left", || world.names(&format!("{OWN}/devices")).is_empty());
}

#[test]
fn why_a_device_is_where_it_is_is_said_when_it_comes_and_when_it_goes() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        let keys = "name: keys, match: {port: '1-1'}, attach: kiosk";
        let mut agent = world.agent(&rules(&[keys]));
        let rule = |line: usize| format!("keys ({}:{line})", world.policy_path().display());
        let line = agent.wait_for_line("attached device=1-1", PATIENCE);
        assert!(line.ends_with(&format!("because=\"{}\"", rule(4))), "{line}");

        // That the rule has moved is no news, and `list` knows it.
        let moved = rules(&["match: {port: '1-2'}, attach: kiosk", keys]);
        world.reload(&mut agent, &moved);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        let said = agent.lines().iter().filter(|it| it.contains("attached device=1-1")).count();
        assert_eq!(said, 1);
        let (policy, libxl) = (world.policy_path(), world.libxl_dir());
        let list = ["list", "--policy", policy.to_str().unwrap(), "--libxl-dir"];
        let list = world.verb(&[&list[..], &[libxl.to_str().unwrap()]].concat());
        let list = String::from_utf8(list.stdout).unwrap();
        assert!(list.contains(&rule(5)), "{list}");

        // As long as the agent does not know of a change, the files are not why.
        world.write_policy(&rules(&["name: other, match: {port: '1-1'}, attach: kiosk"]));
        let list = |more: &[&str]| {
            let list = ["list", "--libxl-dir", libxl.to_str().unwrap()];
            String::from_utf8(world.verb(&[&list[..], more].concat()).stdout).unwrap()
        };
        let (of_agent, of_file) = (list(&[]), list(&["--policy", policy.to_str().unwrap()]));
        assert!(of_agent.contains(&rule(5)) && !of_agent.contains("other ("), "{of_agent}");
        assert!(of_file.contains("other (") && !of_file.contains(&rule(5)), "{of_file}");

        let kept = rules(&["name: mine, match: {port: '1-1'}, keep: dom0"]);
        world.reload(&mut agent, &kept);
        let line = agent.wait_for_line("detached device=1-1", PATIENCE);
        let mine = format!("because=\"it stays in dom0: mine ({}:4)\"", policy.display());
        assert!(line.ends_with(&mine), "{line}");
    });
}

#[test]
fn a_rule_that_goes_gives_the_device_back_and_touches_no_other() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        world.bed.plug(&UsbDevice::mouse("1-2", 3));
        let both = ["match: {port: '1-1'}, attach: kiosk", "match: {port: '1-2'}, attach: kiosk"];
        let mut agent = world.agent(&rules(&both));
        world.wait_until_given(&kiosk, "1-1");
        world.wait_until_given(&kiosk, "1-2");
        let place = world.places("1-2");

        world.proxy.reset();
        world.reload(&mut agent, &rules(&both[1..]));
        world.wait_until_home("1-1");
        world.wait_until_given(&kiosk, "1-2");
        assert_eq!(world.places("1-2"), place);
        let (_, controller, port) = place[0];
        let node = format!("/{controller}/port/{port}");
        let touched: Vec<_> = world.changes();
        assert!(
            !touched.iter().any(|(_, path)| path.ends_with(&node) || path.ends_with("/1-2")),
            "{touched:?}"
        );

        world.reload(&mut agent, &rules(&both));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn drivers_come_back_although_qemu_has_died() {
    on_both(|mut world| {
        let (mut kiosk, mut agent) = with_keyboard(&mut world);
        kiosk.qemu.kill();
        assert_eq!(world.bed.driver("1-1:1.0"), None);
        world.reload(&mut agent, &nothing());
        world.wait_until_home("1-1");
        let probes = world.bed.kernel().writes();
        assert!(probes.iter().all(|write| write.file == "drivers_probe"), "{probes:?}");
    });
}

#[test]
fn a_bad_policy_changes_nothing_and_says_so() {
    everywhere(|mut world| {
        let (kiosk, mut agent) = with_keyboard(&mut world);
        world.proxy.reset();
        world.write_policy("version: 1\nrules:\n  - match: {id: '046d:*'}\n    atach: kiosk\n");
        agent.signal("HUP");
        let told = agent.wait_for_line("policy not reloaded, the old one stays in force", PATIENCE);
        assert!(told.contains("policy.yaml:4:5"), "{told}");
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-1");
        assert!(!world.changes().iter().any(|(_, path)| path.ends_with("/1-1")));
    });
}

#[test]
fn a_policy_that_hardly_says_what_was_meant_is_taken_with_a_warning() {
    on_both(|world| {
        let hidden = "  - {name: never, match: {id: '046d:c31c'}, keep: dom0}\n";
        let mut agent = world.agent(&format!("{}{hidden}", keyboards_to_kiosk()));
        let told = agent.wait_for_line("the policy hardly says what was meant", PATIENCE);
        assert!(told.contains("code=\"P100\"") && told.contains("policy.yaml:"), "{told}");
        agent.wait_for_line("started", PATIENCE);
        world.write_policy("version: 1\nrules:\n  - {match: {serial: 12}, attach: kiosk}\n");
        agent.signal("HUP");
        agent.wait_for_line("code=\"P106\"", PATIENCE);
        agent.wait_for_line("policy reloaded", PATIENCE);
    });
}

#[test]
fn what_somebody_attached_with_xl_is_left_alone() {
    on_both(|mut world| {
        let controller = Controller::qusb(0);
        let kiosk = world.domain(5, "kiosk");
        let desk = world.domain(6, "desk");
        world.toolstack.usbctrl_attach(&desk.guest, controller);
        world.bed.plug(&keyboard("1-1", 2));
        world.toolstack.usbdev_attach(&desk.guest, controller, (2, "1-1"));
        desk.wait_until_held("1-1");
        let mut agent = world.agent(&keyboards_to_kiosk());
        agent.wait_for_line("attached by somebody else device=1-1", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        world.bed.plug(&keyboard("1-2", 4));
        world.wait_until_given(&kiosk, "1-2");
        assert_eq!(world.places("1-1"), [(6, 0, 2)]);
        let mut rows = list(&world);
        rows.sort_by_key(|row| row["busid"].to_string());
        assert_eq!([&rows[0]["busid"], &rows[0]["by"]], ["1-1", "others"]);
        assert_eq!([&rows[1]["busid"], &rows[1]["by"]], ["1-2", "agent"]);

        world.reload(&mut agent, &nothing());
        world.wait_until_home("1-2");
        assert_eq!(world.places("1-1"), [(6, 0, 2)]);
        world.toolstack.usbdev_detach(&desk.guest, controller, 2);
        desk.wait_until_empty();
    });
}

#[test]
fn what_somebody_took_out_stays_out_until_it_is_replugged() {
    on_both(|mut world| {
        let (kiosk, mut agent) = with_keyboard(&mut world);
        let (_, devid, port) = world.places("1-1")[0];
        world.toolstack.usbdev_detach(&kiosk.guest, Controller::qusb(devid), port);
        agent.wait_for_line("taken out by somebody else, until it is replugged", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert!(world.places("1-1").is_empty());
        // A new agent knows it, too.
        agent.kill();
        let _agent = world.agent(&keyboards_to_kiosk());
        world.settle_by(&kiosk, &keyboard("1-2", 4));
        assert!(world.places("1-1").is_empty() && world.is_with_its_drivers("1-1"));
        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-1", 5));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_domain_that_is_destroyed_leaves_nothing() {
    everywhere(|mut world| {
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        // The first domain of all leaves libxl's own directories.
        let [first, second] = [5, 6].map(|domid| {
            let kiosk = world.domain(domid, "kiosk");
            let port = u8::try_from(domid).unwrap();
            let busid = format!("1-{port}");
            world.bed.plug(&keyboard(&busid, port));
            world.wait_until_given(&kiosk, &busid);
            world.toolstack.destroy(&kiosk.guest);
            world.wait_until_home(&busid);
            world.bed.unplug(&busid);
            assert_no_notes(&world);
            world.store()
        });
        assert_eq!(differences(&first, &second), [""; 0]);
    });
}

#[test]
fn a_domain_that_dies_and_is_not_cleaned_up_gives_its_device_back() {
    everywhere(|mut world| {
        let (mut kiosk, _agent) = with_keyboard(&mut world);
        kiosk.qemu.kill();
        world.toolstack.die(&kiosk.guest);
        world.wait_until_home("1-1");
        world.toolstack.clean_up(&kiosk.guest);
        assert_no_notes(&world);
        let again = world.domain(6, "kiosk");
        world.wait_until_given(&again, "1-1");
    });
}

#[test]
fn a_domain_that_shuts_down_keeps_its_device_until_it_is_destroyed() {
    everywhere(|mut world| {
        let (kiosk, _agent) = with_keyboard(&mut world);
        world.toolstack.shut_down(&kiosk.guest);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-1");
        world.toolstack.destroy(&kiosk.guest);
        world.wait_until_home("1-1");
        assert_no_notes(&world);
    });
}

#[test]
fn a_domain_that_reboots_has_its_devices_again() {
    everywhere(|mut world| {
        let (mut kiosk, _agent) = with_keyboard(&mut world);
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-2");
        for domid in [6, 7] {
            kiosk = world.reboot(&kiosk, domid);
            world.wait_until_given(&kiosk, "1-1");
            world.wait_until_given(&kiosk, "1-2");
        }
    });
}

#[test]
fn what_a_domain_leaves_behind_is_removed() {
    on_both(|mut world| {
        let (mut kiosk, agent) = with_keyboard(&mut world);
        // libxl gives up on a controller with a stale port: its backend stays.
        agent.signal("STOP");
        kiosk.qemu.kill();
        world.bed.unplug("1-1");
        world.toolstack.destroy(&kiosk.guest);
        assert_eq!(world.places("1-1").len(), 1);
        agent.signal("CONT");
        wait_until(PATIENCE, "the backend is removed", || {
            world.node("/local/domain/0/backend/qusb").is_none()
        });
        assert_no_notes(&world);
    });
}

/// Stops the agent in the middle of an attachment, destroys the domain, and lets it go on.
#[test]
fn a_domain_that_is_destroyed_in_the_middle_of_an_attach_leaves_nothing() {
    everywhere(|mut world| {
        hurry(&world);
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        for (answered, domid) in (0..66).step_by(6).zip(5..) {
            let kiosk = world.domain(domid, "kiosk");
            let mouse = format!("1-{}", domid + 20);
            world.wait_for_node(&format!("/local/domain/{domid}/name"), Some("kiosk"));
            world.proxy.pause_after(answered);
            world.bed.plug(&keyboard(&mouse, u8::try_from(domid).unwrap()));
            wait_until(PATIENCE, "the agent stops", || !world.proxy.is_armed());
            world.toolstack.destroy(&kiosk.guest);
            world.proxy.resume();
            let none = || world.names("/libxl").iter().all(|name| name == "usbback");
            wait_until(PATIENCE, "no half-made controller is left", || {
                let backends = ["qusb", "vusb"]
                    .map(|kind| world.node(&format!("/local/domain/0/backend/{kind}/{domid}")));
                none() && backends == [None, None]
            });
            world.wait_until_home(&mouse);
            assert_no_notes(&world);
            world.bed.unplug(&mouse);
            assert_eq!(world.node(&format!("/local/domain/{domid}")), None);
        }
    });
}

#[test]
fn an_agent_that_is_told_to_end_leaves_attachments_and_the_next_one_changes_nothing() {
    everywhere(|mut world| {
        let (kiosk, mut agent) = with_keyboard(&mut world);
        let before = world.store();
        agent.signal("TERM");
        assert_eq!(agent.wait(PATIENCE).code(), Some(0));
        agent.wait_for_line("ended", PATIENCE);
        assert_eq!(differences(&before, &world.store()), [""; 0]);

        world.proxy.reset();
        let mut agent = world.agent(&keyboards_to_kiosk());
        agent.wait_for_line("attached device=1-1", PATIENCE);
        assert_eq!(world.changes(), []);
        assert_eq!(differences(&before, &world.store()), [""; 0]);
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        kiosk.wait_until_empty();
    });
}

#[test]
fn an_agent_that_gives_everything_back_has_done_so_when_it_ends() {
    everywhere(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.agent_with(&keyboards_to_kiosk(), &["--detach-on-exit"]);
        for port in 1..=3 {
            world.bed.plug(&keyboard(&format!("1-{port}"), port + 1));
        }
        for busid in ["1-1", "1-2", "1-3"] {
            world.wait_until_given(&kiosk, busid);
        }
        agent.signal("TERM");
        assert_eq!(agent.wait(PATIENCE).code(), Some(0));
        for busid in ["1-1", "1-2", "1-3"] {
            assert!(world.is_home(busid), "{busid}");
        }
        assert!(agent.lines().iter().any(|line| line.contains("ended")));
    });
}

#[test]
fn notes_are_for_dom0s_eyes_only() {
    everywhere(|mut world| {
        let (_kiosk, _agent) = with_keyboard(&mut world);
        let store = world.store();
        // Three below its own directory, and the mark of the controller that it made.
        let is_own = |path: &str| path.starts_with(OWN) || path.ends_with("/pvusb-agent");
        let notes: Vec<_> = store.iter().filter(|(path, _)| is_own(path)).collect();
        assert_eq!(notes.len(), 4, "{notes:?}");
        for (path, (_, perms)) in notes {
            assert_eq!(perms[..], ["n0"], "{path}");
        }
    });
}

#[test]
fn a_xenstored_that_lost_everything_is_served_again() {
    everywhere(|mut world| {
        let (mut kiosk, mut agent) = with_keyboard(&mut world);
        world.xenstored.kill();
        agent.wait_for_line("no connection to xenstore", PATIENCE);
        kiosk.qemu.kill();
        world.restart_xenstored();
        world.bed.unplug("1-1");
        drop(kiosk);
        agent.wait_for_line("connected to xenstore", PATIENCE);
        world.bed.plug(&keyboard("1-1", 3));
        let kiosk = world.domain(5, "kiosk");
        world.wait_until_given(&kiosk, "1-1");
        // Its watches work, too.
        let kiosk = world.reboot(&kiosk, 6);
        world.wait_until_given(&kiosk, "1-1");
    });
}

/// The connection is cut, and the agent goes on when it has another.
#[test]
fn a_connection_that_is_cut_in_a_transaction_is_made_up_for() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        let end = |request: &Message| request.op == Op::TRANSACTION_END;
        for (lost, devnum) in [(Lost::Request, 2), (Lost::Reply, 4)] {
            world.proxy.cut_after_those(0, lost, end);
            world.bed.plug(&keyboard("1-1", devnum));
            agent.wait_for_line("no connection to xenstore", PATIENCE);
            // Changes that nobody tells the agent of.
            world.bed.plug(&keyboard("1-2", devnum + 1));
            agent.wait_for_line("connected to xenstore", PATIENCE);
            world.wait_until_given(&kiosk, "1-1");
            world.wait_until_given(&kiosk, "1-2");
            for busid in ["1-1", "1-2"] {
                world.bed.unplug(busid);
                world.wait_until_forgotten(busid);
            }
        }
        assert_eq!(world.names("/libxl/5/device/vusb"), ["0"]);
    });
}

/// Nothing in xenstore tells of it, and nothing else happens.
#[test]
fn a_device_model_that_dies_gives_its_device_back_at_once() {
    on_both(|mut world| {
        let mut kiosk = world.domain(5, "kiosk");
        let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
        world.toolstack.run_device_model_as(&kiosk.guest, process.id());
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        agent.wait_for_line("attached device=1-1", PATIENCE);
        kiosk.qemu.kill();
        process.kill().unwrap();
        world.wait_until_home("1-1");
        let told = agent.wait_for_line("cannot be attached device=1-1", PATIENCE);
        assert!(told.contains("the domain's device model has died"), "{told}");
        process.wait().unwrap();

        let kiosk = world.reboot(&kiosk, 6);
        world.wait_until_given(&kiosk, "1-1");
    });
}

/// xenstored lives and takes requests, and does not answer: the connection is given up after thirty
/// seconds, and what was under way is decided anew on the next one.
#[test]
fn a_xenstored_that_falls_silent_is_left_and_asked_anew() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        let commits = |request: &Message| request.op == Op::TRANSACTION_END;
        world.proxy.pause_at(commits);
        world.bed.plug(&keyboard("1-1", 4));
        wait_until(PATIENCE, "the agent waits for an answer", || !world.proxy.is_armed());
        let lost = agent.wait_for_line("no connection to xenstore", SILENCE + PATIENCE);
        assert!(lost.contains("xenstored has not answered within 30 s"), "{lost}");
        world.proxy.resume();
        agent.wait_for_line("connected to xenstore", PATIENCE);
        world.wait_until_given(&kiosk, "1-1");
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
    });
}
