//! Controllers that the kernel's usbback serves: who has a device's interfaces when.

use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::{Flavor, Op};
use crate::world::{Domain, Server, World, hurry, keyboard, keyboards_to_kiosk, on_each, rules};

/// Runs a test on both daemons with usbback.
fn with_usbback(test: impl Fn(World, Domain) + Sync) {
    on_each(Flavor::BOTH.map(|flavor| (flavor, Server::Pv)), |mut world| {
        let kiosk = world.domain(5, "kiosk");
        test(world, kiosk);
    });
}

/// What was written into control files, shortly.
fn writes(world: &World) -> Vec<String> {
    let writes = world.bed.kernel().writes();
    writes.iter().map(|w| format!("{} {} {}", w.file, w.interface, w.errno)).collect()
}

/// A headset: two interfaces of one driver, one of another, and one that no driver wants.
fn headset(busid: &str, devnum: u8) -> UsbDevice {
    UsbDevice { speed: "12", ..UsbDevice::new(busid, devnum, 0x046d, 0x0a44) }
        .with_interface([1, 1, 0], Some("snd-usb-audio"))
        .with_interface([1, 2, 0], Some("snd-usb-audio"))
        .with_interface([3, 0, 0], Some("usbhid"))
        .with_interface([0xff, 0, 0], None)
}

fn everything_to_kiosk() -> String {
    rules(&["match: {id: '046d:*'}, attach: kiosk"])
}

fn nothing() -> String {
    rules(&["match: {id: '*:*'}, keep: dom0"])
}

#[test]
fn every_interface_goes_to_usbback_and_its_driver_is_noted_as_libxl_notes_it() {
    with_usbback(|world, kiosk| {
        world.bed.plug(&UsbDevice::hub("1-1", 2));
        world.bed.plug(&headset("1-1.4", 3));
        let mut agent = world.agent(&everything_to_kiosk());
        world.wait_until_given(&kiosk, "1-1.4");
        agent.wait_for_line("attached device=1-1.4", PATIENCE);
        let noted =
            |interface| world.node(&format!("/libxl/usbback/1-1_4/{interface}/driver_path"));
        let path = |driver| Some(format!("/sys/bus/usb/drivers/{driver}"));
        assert_eq!(noted("1-1_4@1_0"), path("snd-usb-audio"));
        assert_eq!(noted("1-1_4@1_1"), path("snd-usb-audio"));
        assert_eq!(noted("1-1_4@1_2"), path("usbhid"));
        assert_eq!(noted("1-1_4@1_3"), None);
        let tries = writes(&world);
        let successes: Vec<_> = tries.iter().filter(|write| write.ends_with(" 0")).collect();
        assert_eq!(
            successes,
            [
                "drivers/snd-usb-audio/unbind 1-1.4:1.0 0",
                "drivers/usbback/bind 1-1.4:1.0 0",
                "drivers/snd-usb-audio/unbind 1-1.4:1.1 0",
                "drivers/usbback/bind 1-1.4:1.1 0",
                "drivers/usbhid/unbind 1-1.4:1.2 0",
                "drivers/usbback/bind 1-1.4:1.2 0",
                "drivers/usbback/bind 1-1.4:1.3 0",
            ]
        );

        // Back: all unbound, the port cleared, then each to its driver.
        world.bed.kernel().clear_writes();
        world.reload(&mut agent, &nothing());
        world.wait_until_home("1-1.4");
        assert_eq!(
            writes(&world),
            [
                "drivers/usbback/unbind 1-1.4:1.0 0",
                "drivers/usbback/unbind 1-1.4:1.1 0",
                "drivers/usbback/unbind 1-1.4:1.2 0",
                "drivers/usbback/unbind 1-1.4:1.3 0",
                "drivers/snd-usb-audio/bind 1-1.4:1.0 0",
                "drivers/snd-usb-audio/bind 1-1.4:1.1 0",
                "drivers/usbhid/bind 1-1.4:1.2 0",
                "drivers_probe 1-1.4:1.3 0",
            ]
        );
    });
}

#[test]
fn no_interface_is_touched_before_the_port_is_written_and_none_is_bound_while_it_is_cleared() {
    with_usbback(|world, kiosk| {
        hurry(&world);
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.kernel().stall_after(0);
        world.bed.plug(&keyboard("1-1", 2));
        wait_until(PATIENCE, "the first unbind", || world.bed.kernel().blocked() == 1);
        assert_eq!(world.places("1-1"), [(5, 0, 1)]);
        assert!(world.note("1-1").is_some());
        world.bed.kernel().release_all();
        world.wait_until_given(&kiosk, "1-1");

        // The second interface is slow to let go: the port still names the device.
        world.bed.kernel().stall_after(1);
        world.reload(&mut agent, &nothing());
        wait_until(PATIENCE, "the second unbind", || world.bed.kernel().blocked() == 1);
        assert_eq!(world.bed.driver("1-1:1.0"), None);
        assert_eq!(world.places("1-1"), [(5, 0, 1)]);
        world.bed.kernel().release_all();
        world.wait_until_home("1-1");
    });
}

#[test]
fn when_usbback_refuses_an_interface_everything_is_undone_and_told() {
    with_usbback(|world, kiosk| {
        let mut agent = world.ready_agent(&everything_to_kiosk());
        world.bed.plug(&headset("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");

        world.bed.kernel().refuse_bind("1-2:1.1");
        world.bed.plug(&headset("1-2", 3));
        agent.wait_for_line("step failed, not tried again", PATIENCE);
        agent.wait_for_line(" cause=\"take interfaces: ", PATIENCE);
        assert!(world.places("1-2").is_empty());
        assert_eq!(world.bed.driver("1-2:1.0").as_deref(), Some("snd-usb-audio"));
        assert_eq!(world.bed.driver("1-2:1.2").as_deref(), Some("usbhid"));
        assert_ne!(world.bed.driver("1-2:1.3").as_deref(), Some("usbback"));

        // Plugged again it has another chance.
        world.bed.kernel().allow_bind("1-2:1.1");
        world.bed.unplug("1-2");
        world.bed.plug(&headset("1-2", 4));
        world.wait_until_given(&kiosk, "1-2");
    });
}

#[test]
fn an_unplugged_device_leaves_no_drivers_noted() {
    with_usbback(|world, kiosk| {
        world.bed.plug(&keyboard("1-1", 2));
        let _agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        assert_eq!(world.names("/libxl/usbback"), ["1-1"]);
        world.bed.unplug("1-1");
        wait_until(PATIENCE, "nothing noted", || world.names("/libxl/usbback").is_empty());
        world.wait_until_forgotten("1-1");
    });
}

#[test]
fn a_device_that_is_unplugged_while_it_is_handed_over_is_in_no_port() {
    with_usbback(|world, kiosk| {
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.settle_by(&kiosk, &keyboard("1-2", 2));
        for (passed, devnum) in (0..4).zip(3..) {
            world.bed.kernel().stall_after(passed);
            world.bed.plug(&keyboard("1-1", devnum));
            wait_until(PATIENCE, "the agent stops", || world.bed.kernel().blocked() == 1);
            world.bed.unplug("1-1");
            world.bed.kernel().release_all();
            world.wait_until_forgotten("1-1");
        }
        world.settle_by(&kiosk, &keyboard("1-2", 20));
        assert!(world.taken().is_empty());
    });
}

#[test]
fn a_slow_driver_delays_no_other_device() {
    with_usbback(|world, kiosk| {
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.kernel().stall("1-1:1.0");
        world.bed.plug(&keyboard("1-1", 2));
        wait_until(PATIENCE, "the agent waits", || world.bed.kernel().blocked() == 1);
        world.bed.plug(&keyboard("1-2", 3));
        world.wait_until_given(&kiosk, "1-2");
        world.bed.kernel().release_all();
        world.wait_until_given(&kiosk, "1-1");
    });
}

#[test]
fn a_driver_that_never_lets_go_does_not_keep_the_agent_from_ending() {
    with_usbback(|world, _kiosk| {
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        world.bed.kernel().stall("1-1:1.0");
        world.bed.plug(&keyboard("1-1", 2));
        wait_until(PATIENCE, "the agent waits", || world.bed.kernel().blocked() == 1);
        agent.signal("TERM");
        agent.wait_for_line("ended although steps were still under way", PATIENCE);
        assert!(agent.wait(PATIENCE).success());
    });
}

/// xl unbinds all interfaces before it clears the port. Meanwhile the agent must not bind them again.
#[test]
fn a_device_that_is_being_taken_out_with_xl_is_not_taken_again() {
    with_usbback(|mut world, kiosk| {
        world.bed.plug(&keyboard("1-1", 2));
        let mut agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        agent.wait_for_line("attached device=1-1", PATIENCE);
        for interface in world.bed.interfaces("1-1") {
            world.bed.set_driver(&interface, None);
        }
        // By then the agent has seen it.
        world.bed.plug(&UsbDevice::mouse("1-2", 3));
        agent.wait_for_line("no rule matches device=1-2", PATIENCE);
        assert_eq!(world.bed.driver("1-1:1.0"), None);
        world.toolstack.usbdev_detach(&kiosk.guest, Controller::pv(0), 1);
        agent.wait_for_line("taken out by somebody else", PATIENCE);
    });
}

/// The kernel makes all interfaces anew when the guest chooses a configuration.
#[test]
fn an_interface_that_usbback_has_lost_is_taken_again() {
    with_usbback(|world, kiosk| {
        world.bed.plug(&keyboard("1-1", 2));
        let _agent = world.agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        world.bed.set_driver("1-1:1.1", Some("usbhid"));
        world.wait_until_given(&kiosk, "1-1");
        assert_eq!(world.places("1-1"), [(5, 0, 1)]);
    });
}

#[test]
fn old_notes_of_drivers_are_not_used_for_another_device() {
    with_usbback(|world, kiosk| {
        let note = "/libxl/usbback/1-1/1-1@1_0/driver_path";
        let mut store = world.xenstored.client();
        world.bed.plug(&UsbDevice::hub("1-1", 2).with_interface([9, 0, 0], None));
        store.write(note, "/sys/bus/usb/drivers/usb-storage").unwrap();
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.proxy.reset();
        world.settle_by(&kiosk, &keyboard("1-2", 3));
        assert!(world.node(note).is_some(), "what is plugged there may have been xl's");
        world.bed.unplug("1-1");
        world.wait_until_forgotten("1-1");
        store.write(note, "/sys/bus/usb/drivers/../../../../etc").unwrap();
        world.bed.plug(&keyboard("1-1", 4));
        world.wait_until_given(&kiosk, "1-1");
        world.wait_for_node(note, Some("/sys/bus/usb/drivers/usbhid"));
        assert!(world.proxy.count(Op::WRITE) > 0);
    });
}
