"""Kinds of guests, controllers and devices."""

from registry import scenario
from waiting import expect, until


@scenario()
def pvh(rig):
    """A PVH guest."""
    desk = rig.guests.make("desk", kind="pvh").create()
    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: desk}")
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, desk)
    keyboard.pull()
    rig.leaves(keyboard, desk)


@scenario()
def version_1(rig):
    """A version 1 controller gets the full-speed device; for a high-speed one another is made."""
    desk = rig.guests.make("desk", "usbctrl = ['type=qusb,version=1,ports=4']").create()
    rig.agent.policy("{match: {port: '1-1'}, attach: desk}", "{match: {port: '1-2'}, attach: desk}")
    rig.agent.start()
    slow = rig.arrives(rig.usb.plug("serial", 1), desk)
    expect(slow.controller == 0, f"the serial adapter went to {slow}")
    fast = rig.arrives(rig.usb.plug("kbd", 2), desk)
    expect(fast.controller == 1, f"the keyboard went to {fast}")


@scenario()
def kinds_of_devices(rig):
    """Storage (with its data), keyboard, mouse, serial adapter, composite, behind a hub; hubs stay."""
    kiosk = rig.guests.kept("kiosk")
    ports = ["1-1", "1-3", "1-4", "1-6", "1-5.*"]
    rig.agent.policy("{match: {id: '46f4:*'}, attach: kiosk}", *[f"{{match: {{port: '{p}'}}, attach: kiosk}}" for p in ports])
    rig.agent.start()
    stick = rig.usb.plug("storage", 2)
    rig.arrives(stick, kiosk)
    until("the guest has a disk", lambda: kiosk.run("test -b /dev/sda") == 0)
    expect(kiosk.run("echo proof | dd of=/dev/sda conv=fsync,notrunc") == 0, "the guest cannot write")
    expect(stick.disk.read_bytes().startswith(b"proof\n"), "what the guest wrote is not on the stick")
    for kind, port in [("kbd", 1), ("mouse", 3), ("serial", 4), ("net", 6)]:
        rig.arrives(rig.usb.plug(kind, port), kiosk)
    hub = rig.usb.plug("hub", 5)
    behind = rig.usb.plug("kbd", "5.1")
    rig.arrives(behind, kiosk)
    expect(rig.store.place(hub.busid) is None, "a hub was attached")
    behind.pull()
    rig.leaves(behind, kiosk)
    rig.xl_works(kiosk)


@scenario()
def twins(rig):
    """Two devices with the same id and the same serial number: each has its own port."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: kiosk}", "{match: {id: '0627:0001', port: '1-2'}, attach: kiosk}")
    rig.agent.start()
    one, two = [rig.usb.plug("kbd", port, serial="TWIN") for port in [1, 2]]
    until("the guest sees both", lambda: kiosk.counts(one) == 2, 30)
    places = {rig.arrives(one, kiosk), rig.arrives(two, kiosk)}
    expect(len(places) == 2, f"both are in {places}")
    one.pull()
    until("the guest has lost one", lambda: kiosk.counts(two) == 1)
    expect(rig.store.place(two.busid) is not None, "the other one was taken out too")
    until("the first one's port is free", lambda: rig.store.place(one.busid) is None)
