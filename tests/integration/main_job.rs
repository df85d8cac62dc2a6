//! The main job: plug, policy, port, unplug.

use crate::harness::backend::Controller;
use crate::harness::time::PATIENCE;
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::World;

const SCANNER: &str = "
version: 1
rules:
  - name: front desk scanner
    match: {id: '05e0:1200'}
    attach: kiosk
";

fn scanner(busid: &str, devnum: u8) -> UsbDevice {
    UsbDevice::keyboard(busid, devnum).named("Symbol", "Scanner")
}

#[test]
fn a_device_that_is_there_at_the_start_goes_where_the_policy_says() {
    for flavor in Flavor::BOTH {
        let mut world = World::new(flavor);
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&UsbDevice::new("1-1", 6, 0x05e0, 0x1200));
        let mut agent = world.agent(SCANNER);
        agent.wait_for_line("attached", PATIENCE);
        world.wait_for_port(5, 0, 1, "1-1");
        kiosk.wait_until_held("1-1");
        assert!(kiosk.qemu.aborts().is_empty());
    }
}
