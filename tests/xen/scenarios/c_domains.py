"""Domains that start, end, reboot and crash while they have devices."""

from registry import scenario
from waiting import expect, until

KEYBOARD = "{match: {id: '0627:0001', port: '1-1'}, attach: desk}"


def back_in_dom0(rig, device, driver="usbhid"):
    until(f"dom0's driver has {device} back", lambda: set(device.drivers().values()) == {driver}, 25)
    until(f"no note about {device}", lambda: device.busid not in rig.store.notes(), 10)
    expect(rig.store.place(device.busid) is None, f"a port still names {device}")


def gone(rig, domid):
    """Nothing of a domain is left in xenstore."""
    def left():
        paths = [f"/libxl/{domid}", f"/local/domain/{domid}", f"/local/domain/0/backend/qusb/{domid}"]
        return [path for path in paths if rig.store.tree(path)]
    until(f"nothing is left of domain {domid}", lambda: not left(), 15)


def with_keyboard(rig, **how):
    desk = rig.guests.make("desk", **how).create()
    rig.agent.policy(KEYBOARD)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, desk)
    return desk, keyboard, desk.domid


@scenario()
def plug_before_the_domain_starts(rig):
    """A device waits in dom0 until its domain runs."""
    desk = rig.guests.make("desk")
    rig.agent.policy(KEYBOARD)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.agent.says("none of its domains runs")
    expect(set(keyboard.drivers().values()) == {"usbhid"}, "dom0 has no driver for it meanwhile")
    desk.create()
    rig.arrives(keyboard, desk)


@scenario()
def fallback(rig):
    """Two domains in a rule: the first that runs gets it, it stays there, and moves when that ends."""
    kiosk = rig.guests.kept("kiosk")
    rig.guests.spoil(kiosk)
    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: [desk, kiosk]}")
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, kiosk)
    desk = rig.guests.make("desk").create()
    expect(kiosk.sees(keyboard), "it was pulled out of a domain that runs")
    kiosk.destroy()
    rig.arrives(keyboard, desk)


@scenario()
def reboot(rig):
    """A guest reboots: a new domid, and its device comes back."""
    desk, keyboard, before = with_keyboard(rig, on_reboot="restart")
    desk.type("reboot -f")
    desk.wait_ready(times=2)
    expect(desk.domid != before, "it has the same domid")
    rig.arrives(keyboard, desk)
    gone(rig, before)


@scenario()
def shutdown_and_start(rig):
    """A guest shuts down: dom0 has the device back, and a restarted guest gets it again."""
    desk, keyboard, before = with_keyboard(rig)
    desk.type("poweroff -f")
    until("it has ended", lambda: not desk.runs(), 30)
    back_in_dom0(rig, keyboard)
    gone(rig, before)
    desk.create()
    rig.arrives(keyboard, desk)


@scenario()
def device_model_dies_while_its_domain_ends(rig):
    """A device model crashes while its domain shuts down: dom0 has the device back all the same."""
    desk, keyboard, before = with_keyboard(rig)
    # At once: a program that waits would take longer to start than the device model has left.
    desk.type("poweroff -f", then=f"kill -SEGV {desk.device_model()}")
    until("it has ended", lambda: not desk.runs(), 30)
    back_in_dom0(rig, keyboard)
    gone(rig, before)


@scenario()
def destroyed(rig):
    """A guest is destroyed: nothing is left behind, dom0 has the device back."""
    desk, keyboard, before = with_keyboard(rig)
    rig.xl("destroy desk", 90)
    back_in_dom0(rig, keyboard)
    gone(rig, before)


@scenario()
def crashed(rig):
    """A guest crashes: nothing is left behind, dom0 has the device back."""
    desk, keyboard, before = with_keyboard(rig)
    desk.type("echo c >/proc/sysrq-trigger")
    until("it has ended", lambda: not desk.runs(), 40)
    back_in_dom0(rig, keyboard)
    gone(rig, before)
