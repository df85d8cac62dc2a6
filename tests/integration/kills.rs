//! An agent that is killed between any two of its effects: the next one brings everything to the
//! same end as if it had not been killed.
//!
//! Effects on the store are the ends of transactions and what is written outside of one; the agent
//! is killed before each, when its connection is cut there. Effects on the kernel are writes to
//! control files; the agent is killed in each, and the kernel does what was written.

use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Lost;
use crate::world::{
    Domain, Server, World, everywhere, hurry, keyboard, keyboards_to_kiosk, rules, takes_effect,
};

/// More effects than any attachment has.
const MANY: usize = 40;

/// Kills the agent at its `n`th effect on the store in what `begin` starts; or, if there are not so
/// many, when `done`. Tells whether there were.
fn kill_at(
    world: &World,
    agent: &mut Agent,
    n: usize,
    begin: impl FnOnce(&mut Agent),
    done: impl Fn() -> bool,
) -> bool {
    world.proxy.cut_after_those(n, Lost::Request, takes_effect);
    begin(agent);
    wait_until(PATIENCE, "the cut or the end", || !world.proxy.is_armed() || done());
    let cut = !world.proxy.is_armed();
    agent.kill();
    world.proxy.disarm();
    cut
}

/// The same at its `n`th write to a control file.
fn kill_in_write(
    world: &World,
    agent: &mut Agent,
    n: usize,
    begin: impl FnOnce(&mut Agent),
    done: impl Fn() -> bool,
) -> bool {
    let kernel = world.bed.kernel();
    kernel.stall_after(n);
    begin(agent);
    wait_until(PATIENCE, "the write or the end", || kernel.blocked() > 0 || done());
    let stopped = kernel.blocked() > 0;
    agent.kill();
    kernel.release_all();
    stopped
}

/// A way to kill the agent at the `n`th point.
type Kill = fn(&World, &mut Agent, usize, &dyn Fn(&mut Agent), &dyn Fn() -> bool) -> bool;

/// All ways that there are on this host.
fn ways(world: &World) -> Vec<Kill> {
    let at: Kill = |world, agent, n, begin, done| kill_at(world, agent, n, begin, done);
    let write: Kill = |world, agent, n, begin, done| kill_in_write(world, agent, n, begin, done);
    match world.server() {
        Server::Qusb => vec![at],
        Server::Pv => vec![at, write],
    }
}

/// Does `once` for the first point, the second, and so on, until it says that there was none.
fn at_each_point(mut once: impl FnMut(usize) -> bool) {
    let points = (0..MANY).take_while(|n| once(*n)).count();
    assert!((1..MANY).contains(&points), "{points} points");
}

fn attach(world: &World, agent: &mut Agent, kill: Kill, n: usize, devnum: u8) -> bool {
    let given = || world.note("1-1").is_some() && world.holds("1-1");
    kill(world, agent, n, &|_| world.bed.plug(&keyboard("1-1", devnum)), &given)
}

/// What holds in the end: the device is in one port, of one controller.
fn assert_attached(world: &World, kiosk: &Domain) {
    world.wait_until_given(kiosk, "1-1");
    let controllers = format!("/libxl/{}/device/vusb", kiosk.guest.domid);
    assert_eq!(world.names(&controllers), ["0"]);
}

#[test]
fn an_attachment_to_a_controller_that_is_there_survives_the_agents_death() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let controller = match world.server() {
            Server::Qusb => Controller::qusb(0),
            Server::Pv => Controller::pv(0),
        };
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller { ports: 31, ..controller });
        let state = format!("{}/state", controller.backend(5));
        world.wait_for_node(&state, Some("4"));
        let mut devnum = 1;
        for kill in ways(&world) {
            at_each_point(|n| {
                devnum += 1;
                let mut agent = world.ready_agent(&keyboards_to_kiosk());
                let stopped = attach(&world, &mut agent, kill, n, devnum);
                let _agent = world.agent(&keyboards_to_kiosk());
                assert_attached(&world, &kiosk);
                world.bed.unplug("1-1");
                world.wait_until_forgotten("1-1");
                stopped
            });
        }
    });
}

#[test]
fn an_attachment_to_a_new_controller_survives_the_agents_death() {
    everywhere(|mut world| {
        hurry(&world);
        let mut domid = 4;
        for kill in ways(&world) {
            at_each_point(|n| {
                domid += 1;
                let kiosk = world.domain(domid, "kiosk");
                let mut agent = world.ready_agent(&keyboards_to_kiosk());
                let devnum = u8::try_from(domid).unwrap();
                let stopped = attach(&world, &mut agent, kill, n, devnum);
                let _agent = world.agent(&keyboards_to_kiosk());
                assert_attached(&world, &kiosk);
                world.bed.unplug("1-1");
                world.wait_until_forgotten("1-1");
                world.toolstack.destroy(&kiosk.guest);
                stopped
            });
        }
    });
}

#[test]
fn a_detachment_survives_the_agents_death() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let nothing = rules(&["match: {id: '*:*'}, keep: dom0"]);
        let mut devnum = 1;
        for kill in ways(&world) {
            at_each_point(|n| {
                devnum += 1;
                let mut agent = world.ready_agent(&keyboards_to_kiosk());
                world.bed.plug(&keyboard("1-1", devnum));
                world.wait_until_given(&kiosk, "1-1");
                agent.wait_for_line("attached device=1-1", PATIENCE);
                world.write_policy(&nothing);
                let home = || world.is_home("1-1");
                let stopped = kill(&world, &mut agent, n, &|agent| agent.signal("HUP"), &home);
                let _agent = world.agent(&nothing);
                world.wait_until_home("1-1");
                kiosk.wait_until_empty();
                world.bed.unplug("1-1");
                stopped
            });
        }
    });
}

#[test]
fn an_unplug_survives_the_agents_death() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let mut devnum = 1;
        at_each_point(|n| {
            devnum += 1;
            let mut agent = world.ready_agent(&keyboards_to_kiosk());
            world.bed.plug(&keyboard("1-1", devnum));
            world.wait_until_given(&kiosk, "1-1");
            let gone = || world.is_home("1-1");
            let stopped = kill_at(&world, &mut agent, n, |_| world.bed.unplug("1-1"), gone);
            let _agent = world.agent(&keyboards_to_kiosk());
            world.wait_until_forgotten("1-1");
            stopped
        });
    });
}

#[test]
fn a_change_of_identity_survives_the_agents_death() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let policy = rules(&[
            "name: keys, match: {id: '046d:c31c'}, attach: kiosk, on_identity_change: keep 60s",
        ]);
        let mut devnum = 1;
        at_each_point(|n| {
            devnum += 2;
            let mut agent = world.ready_agent(&policy);
            world.bed.plug(&keyboard("1-1", devnum));
            world.wait_until_given(&kiosk, "1-1");
            let stick = UsbDevice::storage("1-1", devnum + 1, "S");
            let change = |_: &mut Agent| {
                world.bed.unplug("1-1");
                world.bed.plug(&stick);
            };
            let is_stick = || world.note("1-1").is_some_and(|note| note.contains("id=0781:5581"));
            let given = || is_stick() && world.is_given(&kiosk, "1-1");
            let stopped = kill_at(&world, &mut agent, n, change, given);
            let mut agent = world.agent(&policy);
            wait_until(PATIENCE, "the stick follows", given);
            agent.kill();
            let _agent = world.agent(&rules(&["match: {id: '*'}, keep: dom0"]));
            world.wait_until_home("1-1");
            world.bed.unplug("1-1");
            world.wait_until_forgotten("1-1");
            world.wait_for_node("/tool/pvusb-agent/trails/1-1", None);
            stopped
        });
    });
}

/// An order that was noted is carried out; one that was not was never confirmed. There is nothing in
/// between.
#[test]
fn an_order_survives_the_agents_death_as_a_whole_or_not_at_all() {
    everywhere(|mut world| {
        hurry(&world);
        let kiosk = world.domain(5, "kiosk");
        let desk = world.domain(6, "desk");
        let mut devnum = 1;
        for kill in ways(&world) {
            at_each_point(|n| {
                devnum += 1;
                let mut agent = world.ready_agent(&keyboards_to_kiosk());
                world.bed.plug(&keyboard("1-1", devnum));
                world.wait_until_given(&kiosk, "1-1");
                agent.wait_for_line("attached device=1-1", PATIENCE);
                let given = || world.is_given(&desk, "1-1");
                let mut client = None;
                let stopped = {
                    let client = std::cell::RefCell::new(&mut client);
                    let begin = |_: &mut Agent| {
                        **client.borrow_mut() = Some(world.start_verb(&["attach", "1-1", "desk"]));
                    };
                    kill(&world, &mut agent, n, &begin, &given)
                };
                let confirmed = client.unwrap().wait(PATIENCE).success();
                let is_noted = world.node("/tool/pvusb-agent/overrides/1-1").is_some();
                assert!(is_noted || !confirmed, "an order was confirmed and not noted");
                let _agent = world.agent(&keyboards_to_kiosk());
                world.wait_until_given(if is_noted { &desk } else { &kiosk }, "1-1");
                world.bed.unplug("1-1");
                world.wait_until_forgotten("1-1");
                world.wait_for_node("/tool/pvusb-agent/overrides/1-1", None);
                stopped
            });
        }
    });
}
