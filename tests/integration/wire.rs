//! The price of an attachment on the wire: requests, and round trips that wait for each other.
//!
//! Counted is from the moment at which udev's event is sent, with an agent that has nothing else to
//! do, to the reply to the commit that fills the port. A request of that span costs a round trip if
//! the agent had to have the answer to an earlier one before it could send it; the proxy takes every
//! answer that was delivered before for such a one, so what is counted is never too little.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Message, Op, Proxy};
use crate::world::World;

const SCANNER: &str = "
version: 1
rules:
  - match: {id: '05e0:1200'}
    attach: kiosk
";

/// For how many looks in a row nothing may be sent, and nothing be under way, until the agent counts as
/// quiet. A look every two milliseconds: longer than the agent lets a new device settle.
const QUIET_LOOKS: u32 = 125;

/// How long the agent must be silent before it gets an answer. On a busy machine it may be interrupted in
/// the middle of what it sends together: for longer than the 10 ms that do for other tests.
const SILENCE: Duration = Duration::from_millis(200);

/// An attachment on the wire.
struct Cost {
    /// From the event to the commit, whoever they serve.
    requests: Vec<(Message, u32)>,
}

impl Cost {
    /// The requests up to the commit that filled `port`.
    fn of(proxy: &Proxy, port: &str) -> Self {
        let mut requests = proxy.depths();
        let filled =
            |(request, _): &(Message, u32)| request.op == Op::WRITE && request.path() == port;
        let write = requests.iter().position(filled).unwrap();
        let transaction = requests[write].0.transaction;
        let commit = requests
            .iter()
            .position(|(request, _)| {
                request.op == Op::TRANSACTION_END && request.transaction == transaction
            })
            .unwrap();
        requests.truncate(commit + 1);
        Self { requests }
    }

    /// Round trips that wait for each other, the commit's included.
    fn round_trips(&self) -> u32 {
        self.requests.last().unwrap().1
    }

    /// Requests that are not the transaction's.
    fn others(&self) -> Vec<&Message> {
        let commit = &self.requests.last().unwrap().0;
        let all = self.requests.iter().map(|(request, _)| request);
        all.filter(|it| it.transaction != commit.transaction && it.op != Op::TRANSACTION_START)
            .collect()
    }

    /// The types of the requests at this depth, without repetition.
    fn ops(&self, depth: u32) -> Vec<Op> {
        let mut ops: Vec<Op> =
            self.requests.iter().filter(|(_, it)| *it == depth).map(|(it, _)| it.op).collect();
        ops.sort();
        ops.dedup();
        ops
    }
}

/// Waits until the agent is connected and has asked for nothing for a while.
pub(crate) fn wait_until_quiet(world: &World, agent: &mut Agent) {
    agent.wait_for_line("connected to xenstore", PATIENCE);
    wait_until_silent(world);
}

/// Waits until the agent has asked for nothing for a while.
pub(crate) fn wait_until_silent(world: &World) {
    let (mut seen, mut looks) = (0, 0);
    wait_until(PATIENCE, "the agent asks for nothing more", || {
        let now = world.proxy.depths().len();
        looks = if now == seen && world.proxy.is_at_rest() { looks + 1 } else { 0 };
        seen = now;
        looks == QUIET_LOOKS
    });
}

fn wait_until_connected(world: &World, domid: u32, controller: u32) {
    let state = format!("/local/domain/0/backend/qusb/{domid}/{controller}/state");
    wait_until(PATIENCE, "the controller is connected", || {
        world.node(&state).as_deref() == Some("4")
    });
}

/// Plugs the scanner in, on a host on which nothing else happens.
fn plug(world: &World, agent: &mut Agent, domid: u32) -> Cost {
    wait_until_quiet(world, agent);
    world.proxy.gather(SILENCE);
    world.proxy.reset();
    world.bed.plug(&UsbDevice::new("1-1", 6, 0x05e0, 0x1200));
    world.wait_for_port(domid, 0, 1, "1-1");
    Cost::of(&world.proxy, &format!("/local/domain/0/backend/qusb/{domid}/0/port/1"))
}

#[test]
fn a_plug_reaches_its_port_in_three_round_trips() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let kiosk = world.domain(5, "kiosk");
        world.toolstack.usbctrl_attach(&kiosk.guest, Controller::qusb(0));
        wait_until_connected(&world, 5, 0);
        let mut agent = world.agent(SCANNER);
        let cost = plug(&world, &mut agent, 5);

        println!(
            "{flavor:?}, controller there: {} requests in {} round trips",
            cost.requests.len(),
            cost.round_trips()
        );
        assert_eq!(cost.round_trips(), 3, "{flavor:?}: {:#?}", cost.requests);
        assert_eq!(cost.others(), Vec::<&Message>::new(), "{flavor:?}");
        assert_eq!(cost.ops(1), [Op::TRANSACTION_START], "{flavor:?}");
        assert_eq!(cost.ops(2), [Op::DIRECTORY, Op::READ], "{flavor:?}");
        assert_eq!(cost.ops(3), [Op::TRANSACTION_END, Op::WRITE], "{flavor:?}");
        assert_eq!(cost.requests.len(), 23, "{flavor:?}: {:#?}", cost.requests);
        kiosk.wait_until_held("1-1");
        assert!(kiosk.qemu.aborts().is_empty());
    }
}

#[test]
fn a_plug_that_needs_a_controller_reaches_its_port_in_four_round_trips() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.agent(SCANNER);
        let cost = plug(&world, &mut agent, 5);

        println!(
            "{flavor:?}, new controller: {} requests in {} round trips",
            cost.requests.len(),
            cost.round_trips()
        );
        assert_eq!(cost.round_trips(), 4, "{flavor:?}: {:#?}", cost.requests);
        assert_eq!(cost.others(), Vec::<&Message>::new(), "{flavor:?}");
        assert_eq!(cost.ops(1), [Op::TRANSACTION_START], "{flavor:?}");
        assert_eq!(cost.ops(2), [Op::DIRECTORY, Op::READ], "{flavor:?}");
        assert_eq!(cost.ops(3), [Op::WRITE, Op::MKDIR, Op::SET_PERMS], "{flavor:?}");
        assert_eq!(cost.ops(4), [Op::TRANSACTION_END], "{flavor:?}");
        // The controller is made with the device in its port: nothing comes after it.
        kiosk.wait_until_held("1-1");
        let starts = world.proxy.count(Op::TRANSACTION_START);
        assert_eq!(starts, 1, "{flavor:?}");
        assert!(kiosk.qemu.aborts().is_empty());
    }
}

#[test]
fn round_trips_do_not_grow_with_domains_and_controllers() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let names = (0..10).map(|n| if n == 9 { "kiosk".to_owned() } else { format!("desk{n}") });
        let domains: Vec<_> =
            names.zip(5..).map(|(name, domid)| world.domain(domid, &name)).collect();
        for domain in &domains {
            for devid in [0, 1] {
                world.toolstack.usbctrl_attach(&domain.guest, Controller::qusb(devid));
            }
        }
        for domain in &domains {
            wait_until_connected(&world, domain.guest.domid, 0);
            wait_until_connected(&world, domain.guest.domid, 1);
        }
        let mut agent = world.agent(SCANNER);
        let cost = plug(&world, &mut agent, 14);

        println!(
            "{flavor:?}, 10 domains of 2 controllers: {} requests in {} round trips",
            cost.requests.len(),
            cost.round_trips()
        );
        assert_eq!(cost.round_trips(), 3, "{flavor:?}: {:#?}", cost.requests);
        assert_eq!(cost.others(), Vec::<&Message>::new(), "{flavor:?}");
    }
}
