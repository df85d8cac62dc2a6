"""Plugging and pulling, with a controller there from the domain's configuration."""

from registry import scenario
from waiting import expect, until

KIOSK = "{match: {id: '0627:*', port: '1-1'}, attach: kiosk}"
STICK = "{match: {id: '46f4:0001'}, attach: kiosk}"


@scenario()
def plug_and_pull(rig):
    """A keyboard is plugged, attached, pulled; a stick then comes into a port as well; xl works on."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(KIOSK, STICK)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    place = rig.arrives(keyboard, kiosk)
    expect(keyboard.busid in rig.store.notes(), "the agent's note is missing")
    rig.agent.says("attached.*device=1-1")
    keyboard.pull()
    rig.leaves(keyboard, kiosk)
    rig.agent.says("port cleared.*domid=")
    stick = rig.usb.plug("storage", 2)
    rig.arrives(stick, kiosk)
    rig.xl_works(kiosk)
    stick.pull()
    rig.leaves(stick, kiosk)
    rig.xl_works(kiosk, port=place.port)


@scenario()
def cold_plug(rig):
    """Devices that are there before the agent starts arrive; others stay in dom0."""
    kiosk = rig.guests.kept("kiosk")
    keyboard = rig.usb.plug("kbd", 1)
    stick = rig.usb.plug("storage", 2)
    other = rig.usb.plug("tablet", 3)
    rig.agent.policy(KIOSK, STICK)
    rig.agent.start()
    rig.arrives(keyboard, kiosk)
    rig.arrives(stick, kiosk)
    expect(rig.store.place(other.busid) is None, "a device that no rule matches was attached")
    expect(set(other.drivers().values()) == {"usbhid"}, "a device that no rule matches lost its driver")
    until("the agent tells of it", lambda: rig.agent.said("no rule matches"))
