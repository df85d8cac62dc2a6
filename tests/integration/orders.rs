//! Orders by hand, through the socket of a running agent: what they do, how long they hold, and what
//! ends them.

use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::world::{Domain, OWN, World, everywhere, keyboard, keyboards_to_kiosk, on_both};
use std::fs;
use std::process::Output;

/// A host with two domains, a keyboard in the first of them by policy, and the agent.
fn with_keyboard(world: &mut World) -> (Domain, Domain, Agent) {
    let kiosk = world.domain(5, "kiosk");
    let desk = world.domain(6, "desk");
    world.bed.plug(&keyboard("1-1", 2));
    let agent = world.agent(&keyboards_to_kiosk());
    world.wait_until_given(&kiosk, "1-1");
    (kiosk, desk, agent)
}

/// What is noted of an order about a device.
fn order(world: &World, busid: &str) -> Option<String> {
    world.node(&format!("{OWN}/overrides/{}", busid.replace('.', "_")))
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// Gives an order that must be carried out; gives what was said.
#[track_caller]
fn done(world: &World, args: &[&str]) -> String {
    let output = world.verb(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    out(&output)
}

/// Gives an order that must be refused; gives what was said.
#[track_caller]
fn refused(world: &World, args: &[&str]) -> String {
    let output = world.verb(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {} {}", out(&output), err(&output));
    err(&output)
}

#[test]
fn an_order_goes_before_the_policy_and_ends_when_the_device_is_replugged() {
    everywhere(|mut world| {
        let (kiosk, desk, mut agent) = with_keyboard(&mut world);
        let told = done(&world, &["attach", "1-1", "desk"]);
        assert!(told.starts_with("1-1 is attached to desk (domain 6), "), "{told}");
        world.wait_until_given(&desk, "1-1");
        let line = agent.wait_for_line("ordered", PATIENCE);
        assert!(line.contains("order=\"attach to desk\"") && line.contains("(uid "), "{line}");

        // The next agent finds it said.
        agent.kill();
        let agent = world.ready_agent(&keyboards_to_kiosk());
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        world.wait_until_given(&desk, "1-1");

        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        world.bed.plug(&keyboard("1-1", 4));
        world.wait_until_given(&kiosk, "1-1");
        wait_until(PATIENCE, "nothing is said any more", || order(&world, "1-1").is_none());
        drop(agent);
    });
}

#[test]
fn a_device_that_is_detached_stays_in_dom0_until_it_is_replugged() {
    everywhere(|mut world| {
        let (kiosk, _desk, agent) = with_keyboard(&mut world);
        let told = done(&world, &["detach", "046d:c31c"]);
        assert_eq!(told, "1-1 is in dom0 and stays there until it is plugged again");
        assert!(world.is_home("1-1"));
        drop(agent);
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        agent.wait_for_line("stays in dom0 until it is replugged: by an order", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert!(world.is_home("1-1"));

        world.bed.unplug("1-1");
        world.bed.plug(&keyboard("1-1", 4));
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_device_that_is_held_stays_in_dom0_over_replugs_until_it_is_released() {
    everywhere(|mut world| {
        let (kiosk, _desk, mut agent) = with_keyboard(&mut world);
        let told = done(&world, &["hold", "1.2"]);
        assert_eq!(told, "1-1 is in dom0 and stays there until it is released");
        world.bed.unplug("1-1");
        agent.wait_for_line("unplugged device=1-1", PATIENCE);
        drop(agent);
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 4));
        agent.wait_for_line("until it is released: by an order device=1-1", PATIENCE);
        // It speaks of this id in this port, and of no other.
        world.bed.plug(&keyboard("1-2", 5));
        world.wait_until_given(&kiosk, "1-2");
        assert!(world.is_home("1-1"));

        let told = done(&world, &["release", "1-1"]);
        assert!(told.starts_with("1-1 is attached to kiosk (domain 5), "), "{told}");
        assert_eq!(order(&world, "1-1"), None);

        // What is not plugged can be released, too.
        done(&world, &["hold", "1-1"]);
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        done(&world, &["release", "1-1"]);
        assert_eq!(order(&world, "1-1"), None);
    });
}

#[test]
fn a_device_waits_in_dom0_for_the_domain_that_a_person_gave_it_to() {
    on_both(|mut world| {
        let (_kiosk, _desk, _agent) = with_keyboard(&mut world);
        let told = done(&world, &["attach", "1-1", "lab"]);
        assert_eq!(told, "1-1 is in dom0 and waits until domain lab runs");
        assert!(world.is_home("1-1"));
        let lab = world.domain(7, "lab");
        world.wait_until_given(&lab, "1-1");
        let lab = world.reboot(&lab, 8);
        world.wait_until_given(&lab, "1-1");
    });
}

#[test]
fn what_cannot_be_is_refused_with_a_reason_and_advice_and_nothing_is_noted() {
    on_both(|mut world| {
        let (_kiosk, desk, mut agent) = with_keyboard(&mut world);
        world.bed.plug(&UsbDevice::hub("1-2", 3));
        world.bed.plug(&keyboard("1-3", 4));
        world.toolstack.usbctrl_attach(&desk.guest, Controller::qusb(0));
        world.bed.plug(&UsbDevice::mouse("1-4", 5));
        world.toolstack.usbdev_attach(&desk.guest, Controller::qusb(0), (5, "1-4"));
        desk.wait_until_held("1-4");
        agent.wait_for_line("attached by somebody else device=1-4", PATIENCE);
        for (args, why, advice) in [
            (&["attach", "1-2", "kiosk"][..], "1-2 stays in dom0: it is a hub", "plug the devices"),
            (
                &["attach", "1-2", "kiosk", "--force"],
                "1-2 stays in dom0: it is a hub",
                "plug the devices",
            ),
            (&["attach", "1-9", "kiosk"], "no device 1-9 is plugged", "pvusb-agent devices"),
            (&["release", "1-9"], "no device 1-9 is plugged", "pvusb-agent devices"),
            (&["detach", "1.77"], "no device 1.77 is plugged", "pvusb-agent devices"),
            (&["hold", "046d:c31c"], "is 2 devices: 1-1 (1.2), 1-3 (1.4)", "by its busid"),
            (&["attach", "1-1", "99"], "there is no domain 99", "xl list"),
            (&["attach", "1-1", "dom0"], "not attached to dom0", "use `detach`"),
            (&["attach", "1-4", "kiosk"], "attached by somebody else", "xl usbdev-detach"),
            (&["detach", "1-4"], "attached by somebody else", "xl usbdev-detach"),
        ] {
            let told = refused(&world, args);
            assert!(told.contains(why) && told.contains(advice), "{args:?}: {told}");
            let line = agent.wait_for_line("order declined", PATIENCE);
            assert!(line.contains("uid "), "{line}");
        }
        assert_eq!(world.names(&format!("{OWN}/overrides")), [""; 0]);
        desk.wait_until_held("1-4");
    });
}

#[test]
fn a_domain_may_be_called_by_its_number_or_uuid_and_is_noted_by_its_name() {
    on_both(|mut world| {
        let (_kiosk, desk, _agent) = with_keyboard(&mut world);
        let uuid = world.node("/local/domain/6/vm").unwrap().replace("/vm/", "");
        for called in ["6", &uuid] {
            done(&world, &["attach", "1-1", called]);
            world.wait_until_given(&desk, "1-1");
            assert!(order(&world, "1-1").unwrap().ends_with(" domain=desk"));
            done(&world, &["release", "1-1"]);
        }
    });
}

#[test]
fn an_order_ends_that_something_was_taken_out_with_xl() {
    on_both(|mut world| {
        let (kiosk, desk, mut agent) = with_keyboard(&mut world);
        for (args, home, next) in [
            (&["release", "1-1"][..], Some(&kiosk), 3),
            (&["attach", "1-1", "desk"], Some(&desk), 4),
            (&["detach", "1-1"], None, 5),
        ] {
            world.wait_until_given(&kiosk, "1-1");
            let (_, devid, port) = world.places("1-1")[0];
            world.toolstack.usbdev_detach(&kiosk.guest, Controller::qusb(devid), port);
            agent.wait_for_line("taken out by somebody else", PATIENCE);
            done(&world, args);
            match home {
                Some(domain) => world.wait_until_given(domain, "1-1"),
                None => world.wait_until_home("1-1"),
            }
            world.bed.unplug("1-1");
            world.wait_until_forgotten("1-1");
            world.bed.plug(&keyboard("1-1", next));
        }
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn what_xl_took_out_after_an_order_stays_out() {
    on_both(|mut world| {
        let (kiosk, desk, mut agent) = with_keyboard(&mut world);
        done(&world, &["attach", "1-1", "desk"]);
        let (_, devid, port) = world.places("1-1")[0];
        world.toolstack.usbdev_detach(&desk.guest, Controller::qusb(devid), port);
        agent.wait_for_line("taken out by somebody else", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert!(world.places("1-1").is_empty());
    });
}

#[test]
fn force_waives_what_a_person_may_waive_for_this_plug_and_leaves_its_mark() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let policy =
            "version: 1\ndefaults: {settle: 0ms}\nprotect: [{id: '046d:c31c'}]\nrules: []\n";
        let mut agent = world.ready_agent(policy);
        world.bed.plug(&keyboard("1-1", 6));
        agent.wait_for_line("plugged device=1-1", PATIENCE);
        let told = refused(&world, &["attach", "1-1", "kiosk"]);
        assert!(told.contains("`protect` lists") && told.contains("--force"), "{told}");
        assert!(world.taken().is_empty());

        let told = done(&world, &["attach", "1-1", "kiosk", "--force"]);
        assert!(told.contains("overridden: `protect` lists"), "{told}");
        world.wait_until_given(&kiosk, "1-1");
        let mark = agent.wait_for_line("ordered with force", PATIENCE);
        assert!(
            mark.contains("WARN") && mark.contains("who=") && mark.contains("device=1-1"),
            "{mark}"
        );

        // It was waived for that plug, also for an agent that starts anew, and for no other.
        agent.kill();
        let _agent = world.ready_agent(policy);
        world.wait_until_given(&kiosk, "1-1");
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        world.bed.plug(&keyboard("1-1", 7));
        let told = refused(&world, &["attach", "1-1", "kiosk"]);
        assert!(told.contains("`protect` lists"), "{told}");
    });
}

#[test]
fn no_force_takes_a_disk_that_dom0_uses() {
    on_both(|mut world| {
        let _kiosk = world.domain(5, "kiosk");
        let stick = UsbDevice::storage("1-1", 6, "4C530001").with_disk(("sdb", 8, 16), &[]);
        world.bed.plug(&stick);
        fs::write(world.bed.path("/sys/class/block/sdb/holders/dm-0"), "").unwrap();
        let _agent = world.ready_agent("version: 1\nrules: []\n");
        let told = refused(&world, &["attach", "1-1", "kiosk", "--force"]);
        assert!(told.contains("dm-0"), "{told}");
        assert!(world.taken().is_empty());
    });
}

#[test]
fn the_agent_says_how_it_is_and_reads_its_policy_when_it_is_told() {
    on_both(|mut world| {
        let (_kiosk, _desk, mut agent) = with_keyboard(&mut world);
        agent.wait_for_line("attached device=1-1", PATIENCE);
        let status = || -> serde_json::Value {
            serde_json::from_str(&done(&world, &["status", "--json"])).unwrap()
        };
        let told = status();
        assert_eq!((&told["rules"], &told["attached"]), (&1.into(), &1.into()));
        assert_eq!((&told["policy_is_current"], &told["xenstore"]), (&true.into(), &true.into()));

        world.write_policy("version: 1\nrulez: []\n");
        let told = refused(&world, &["reload"]);
        assert!(told.contains("policy.yaml:2:1") && told.contains("stays in force"), "{told}");
        agent.wait_for_line("reload asked for who=\"", PATIENCE);
        let told = status();
        assert_eq!((&told["rules"], &told["policy_is_current"]), (&1.into(), &false.into()));

        world.write_policy("version: 1\nrules: []\n");
        assert_eq!(done(&world, &["reload"]), "policy reloaded, 0 rules");
        world.wait_until_home("1-1");
        assert_eq!(status()["rules"], 0);
    });
}

#[test]
fn without_an_agent_an_order_ends_with_69_and_without_xenstore_it_is_declined() {
    on_both(|mut world| {
        let (_kiosk, _desk, mut agent) = with_keyboard(&mut world);
        world.xenstored.kill();
        agent.wait_for_line("no connection to xenstore", PATIENCE);
        let told = refused(&world, &["detach", "1-1"]);
        assert!(told.contains("no connection to xenstore"), "{told}");
        agent.kill();
        for args in [&["detach", "1-1"][..], &["status"], &["reload"]] {
            let output = world.verb(args);
            assert_eq!(output.status.code(), Some(69), "{args:?}");
            assert!(err(&output).contains("no agent is running"), "{}", err(&output));
            assert!(err(&output).contains("docs/errors.md"), "{}", err(&output));
        }
    });
}

#[test]
fn what_is_remembered_holds_after_the_next_boot_until_it_is_released() {
    on_both(|mut world| {
        let (kiosk, desk, mut agent) = with_keyboard(&mut world);
        let told = done(&world, &["attach", "1-1", "desk", "--remember"]);
        assert!(told.contains("attached to desk") && told.contains("remembered in "), "{told}");
        world.wait_until_given(&desk, "1-1");
        let line = agent.wait_for_line("remembered device=1-1 ", PATIENCE);
        assert!(line.contains(" who=\""), "{line}");

        // The host boots: xenstore is empty, every device is another plug.
        agent.kill();
        world.bed.unplug("1-1");
        drop(desk);
        drop(kiosk);
        world.restart_xenstored();
        let kiosk = world.domain(5, "kiosk");
        let desk = world.domain(6, "desk");
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.plug(&keyboard("1-1", 7));
        world.wait_until_given(&desk, "1-1");
        assert_eq!(order(&world, "1-1"), None);
        let line = agent.wait_for_line("attached device=1-1", PATIENCE);
        assert!(line.contains("because=\"by hand: 046d:c31c to desk ("), "{line}");

        let told = done(&world, &["release", "1-1"]);
        assert!(told.contains("attached to kiosk") && told.contains("forgotten in "), "{told}");
        // The order itself ended with the boot: what tells who released the device is this line.
        let line = agent.wait_for_line("forgotten device=1-1 ", PATIENCE);
        assert!(line.contains(" who=\""), "{line}");
        world.wait_until_given(&kiosk, "1-1");
        let text = fs::read_to_string(world.remembered_path()).unwrap();
        assert!(text.starts_with('#') && text.ends_with("rules: []\n"), "{text}");

        let told = done(&world, &["detach", "1-1", "--remember"]);
        assert!(told.contains("remembered in "), "{told}");
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        world.bed.plug(&keyboard("1-1", 8));
        agent.wait_for_line("a rule keeps it device=1-1", PATIENCE);
    });
}

#[test]
fn a_file_of_remembered_rules_that_is_bad_changes_nothing_and_is_not_changed() {
    on_both(|mut world| {
        let (kiosk, _desk, _agent) = with_keyboard(&mut world);
        let bad = "version: 1\ndefaults: {settle: 1s}\nrules: []\n";
        fs::write(world.remembered_path(), bad).unwrap();
        let told = refused(&world, &["reload"]);
        assert!(told.contains("remembered.yaml:2:1") && told.contains("stays in force"), "{told}");
        let told = refused(&world, &["detach", "1-1", "--remember"]);
        assert!(told.contains("remembered.yaml:2:1"), "{told}");
        assert!(told.contains("the order holds until the next boot"), "{told}");
        world.wait_until_home("1-1");
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert_eq!(fs::read_to_string(world.remembered_path()).unwrap(), bad);
    });
}
