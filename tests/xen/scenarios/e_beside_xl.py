"""The agent beside a person who uses xl."""

from registry import scenario
from waiting import expect, stays, until

RULE = "{match: {id: '0627:0001', port: '1-1'}, attach: kiosk}"


@scenario()
def attached_by_hand(rig):
    """What somebody attached with xl is left alone, also when the policy wants it elsewhere."""
    kiosk = rig.guests.kept("kiosk")
    keyboard = rig.usb.plug("kbd", 1)
    rig.xl_attach(kiosk, keyboard, 0, 5)
    until("the guest sees it", lambda: kiosk.sees(keyboard))
    rig.agent.policy("{match: {id: '0627:0001'}, keep: dom0}")
    rig.agent.start("--detach-on-exit")
    rig.agent.says("attached by somebody else")
    stays("it is where xl put it", lambda: rig.store.ports()[_port(rig, kiosk, 5)] == keyboard.busid, 4)
    rig.agent.stop()
    expect(rig.store.place(keyboard.busid) == _port(rig, kiosk, 5), "it was moved at the agent's end")
    rig.agent.start()
    rig.agent.says("attached by somebody else")
    # A port that xl wrote becomes stale all the same, and is cleared.
    keyboard.pull()
    until("the port is cleared", lambda: not rig.store.ports())
    rig.xl_works(kiosk, port=5)


@scenario()
def detached_by_hand(rig):
    """What somebody took out with xl stays out until it is plugged again."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    place = rig.arrives(keyboard, kiosk)
    rig.xl(f"usbdev-detach kiosk {place.controller} {place.port}")
    rig.agent.says("taken out by somebody else")
    stays("it stays out", lambda: rig.store.place(keyboard.busid) is None, 5)
    expect(set(keyboard.drivers().values()) == {"usbhid"}, f"dom0's drivers: {keyboard.drivers()}")
    rig.agent.stop()
    rig.agent.start()
    rig.agent.says("taken out by somebody else")
    stays("it stays out after a restart too", lambda: rig.store.place(keyboard.busid) is None, 4)
    keyboard.pull()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, kiosk)


@scenario()
def detached_by_hand_until_released(rig):
    """What somebody took out with xl stays out until `pvusb-agent release`."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    place = rig.arrives(keyboard, kiosk)
    rig.xl(f"usbdev-detach kiosk {place.controller} {place.port}")
    rig.agent.says("taken out by somebody else")
    stays("it stays out", lambda: rig.store.place(keyboard.busid) is None, 4)
    rig.order("release 1-1")
    rig.arrives(keyboard, kiosk)


@scenario()
def orders_beside_xl(rig):
    """Orders to the agent and xl, in turn, about one device: each does what it says, and neither takes
    what is the other's."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, kiosk)
    rig.order("detach 1-1")
    rig.leaves(keyboard, kiosk)
    expect(set(keyboard.drivers().values()) == {"usbhid"}, f"dom0's drivers: {keyboard.drivers()}")

    rig.xl_attach(kiosk, keyboard, 0, 5)
    until("the guest sees it", lambda: kiosk.sees(keyboard))
    for order in ["attach 1-1 kiosk", "detach 1-1"]:
        refused = rig.dom0.run(f"pvusb-agent {order}")
        expect(refused.code == 1 and "attached by somebody else" in refused.out, f"{order}: {refused}")
    expect(rig.store.place(keyboard.busid) == _port(rig, kiosk, 5), "it is not where xl put it")
    rig.xl("usbdev-detach kiosk 0 5")
    until("the guest has lost it", lambda: not kiosk.sees(keyboard))
    stays("it stays out", lambda: rig.store.place(keyboard.busid) is None, 3)

    rig.order("attach 1-1 kiosk")
    rig.arrives(keyboard, kiosk)
    rig.order("hold 1-1")
    rig.leaves(keyboard, kiosk)
    keyboard.pull()
    keyboard = rig.usb.plug("kbd", 1)
    rig.agent.says("until it is released: by an order")
    stays("it is held", lambda: rig.store.place(keyboard.busid) is None, 3)
    rig.order("release 1-1")
    rig.arrives(keyboard, kiosk)
    rig.xl_works(kiosk)


@scenario()
def detach_on_exit(rig):
    """The agent ends: devices stay, or go back to dom0 if it was started so."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, kiosk)
    rig.agent.stop()
    rig.arrives(keyboard, kiosk)
    rig.agent.start("--detach-on-exit")
    rig.agent.says("attached.*device=1-1")
    rig.agent.stop()
    until("dom0 has it back", lambda: set(keyboard.drivers().values()) == {"usbhid"})
    expect(not rig.store.ports() and not rig.store.notes(), "something was left")
    rig.agent.start()
    rig.arrives(keyboard, kiosk)


@scenario()
def policy_reload(rig):
    """A new policy moves a device; a bad one changes nothing."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, kiosk)
    rig.dom0.write("/etc/pvusb-agent/policy.yaml", "version: 1\nrules: 7\n")
    rig.agent.reload()
    rig.agent.says("policy not reloaded")
    rig.arrives(keyboard, kiosk)
    rig.agent.policy("{match: {id: '0627:0001'}, keep: dom0}")
    rig.agent.reload()
    rig.leaves(keyboard, kiosk)
    until("dom0 has it back", lambda: set(keyboard.drivers().values()) == {"usbhid"})


@scenario()
def port_number_twice_kills_qemu(rig):
    """What xl does and the agent must not: one port number in two controllers of a domain, and QEMU
    aborts. If this fails, QEMU has been mended, and the agent's rule (src/plan/ports.rs) can go."""
    two = "'type=qusb,version=2,ports=2'"
    desk = rig.guests.make("desk", f"usbctrl = [{two}, {two}]").create()
    until("both connect", lambda: [c[1] for c in rig.store.controllers(desk.domid).values()] == [4, 4])
    first, second = rig.usb.plug("kbd", 1), rig.usb.plug("kbd", 2)
    rig.xl_attach(desk, first, 0, 1)
    until("the guest sees it", lambda: desk.sees(first))
    rig.xl_attach(desk, second, 1, 2)
    until("the guest sees both", lambda: desk.sees(second))
    rig.xl("usbdev-detach desk 1 2")
    until("the guest has lost it", lambda: not desk.sees(second))
    expect(desk.device_model() is not None, "QEMU has died too early")
    rig.xl_attach(desk, second, 1, 1)
    until("QEMU aborts", lambda: desk.device_model() is None)
    desk.destroy()


def _port(rig, guest, port):
    from store import Port

    return Port(guest.domid, 0, port)
