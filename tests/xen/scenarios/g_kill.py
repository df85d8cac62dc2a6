"""The agent is killed before and after each effect of its work on xenstore, and started again.

Effects are counted on the way between the agent and xenstored (inside/between.py). Between two of them it
only reads, so one instant there is as good as another. Effects on sysfs are in tests/integration/kills.rs.
"""

from between import SIDES, Between
from registry import scenario
from waiting import Failure, expect, until

RULE = "{match: {id: '0627:0001', port: '1-1'}, attach: kiosk}"
KEEP = "{match: {id: '0627:0001', port: '1-1'}, keep: dom0}"

# What it does at each start, and what no device depends on (src/host/perform/mod.rs: prepare).
AT_START = ["write /tool/pvusb-agent", "set_perms /tool/pvusb-agent"]

# A guest with a device model, but without a controller.
SCREEN = "vfb = ['vnc=0']"

# A domain that is not and was not there.
NOBODY = 4000


def at_every_effect(rig, prepare, act, check):
    """Lets the agent do its work once and counts its effects; then for each effect, and for both sides of
    it, lets the agent be killed there, starts it again and checks. While it is prepared an agent runs; it
    is killed before `act` begins."""
    rig.agent.start()
    with Between(rig) as between:

        def begin(**point):
            prepare()
            rig.agent.kill()
            between.start(**point)
            act()

        begin()
        check()
        effects, told_first = between.effects(), rig.agent.log()
        points = [
            (number, side)
            for number, effect in enumerate(effects, 1)
            if effect.split(" ", 1)[1] not in AT_START
            for side in SIDES
        ]
        expect(points, f"it had no effect but these: {effects}")
        for number, side in points:
            begin(number=number, side=side)
            try:
                between.killed(number, side)
            except Failure as failure:
                # What it did the first time and not now is the question then, and its log has begun anew.
                first = f"the first time its effects were {effects}, and it said:\n{told_first}"
                raise Failure(f"{failure}\n{first}") from failure
            rig.agent.again()
            try:
                check()
            except Failure as failure:
                raise Failure(f"killed {side} effect {effects[number - 1]!r}: {failure}") from failure
    told = [effects[number - 1] for number, side in points if side == SIDES[0]]
    return f"killed before and after each of: {', '.join(told)}"


@scenario()
def killed_while_attaching(rig):
    """Killed before and after each effect of an attachment: after the restart the device arrives, in one
    port."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    devices = []

    def prepare():
        if devices:
            keyboard = devices.pop()
            keyboard.pull()
            rig.leaves(keyboard, kiosk)

    def act():
        devices.append(rig.usb.plug("kbd", 1))

    def check():
        rig.arrives(devices[0], kiosk)
        expect(len(rig.store.ports()) == 1, f"ports in use: {rig.store.ports()}")
        until("there is a note", lambda: devices[0].busid in rig.store.notes())

    return at_every_effect(rig, prepare, act, check)


@scenario()
def killed_while_detaching(rig):
    """Killed before and after each effect of a detachment: after the restart dom0's driver has the device
    back."""
    kiosk = rig.guests.kept("kiosk")
    keyboard = rig.usb.plug("kbd", 1)
    rig.agent.policy(RULE)

    def prepare():
        rig.agent.policy(RULE)
        rig.agent.reload()
        rig.arrives(keyboard, kiosk)

    def act():
        rig.agent.policy(KEEP)
        rig.agent.reload()

    def check():
        rig.leaves(keyboard, kiosk)
        until("dom0 has it back", lambda: set(keyboard.drivers().values()) == {"usbhid"})

    return at_every_effect(rig, prepare, act, check)


@scenario()
def killed_while_clearing(rig):
    """Killed before and after each effect of the clearing after an unplug: after the restart no port is
    stale and xl works."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    devices = []

    def prepare():
        devices.append(rig.usb.plug("kbd", 1))
        rig.arrives(devices[0], kiosk)

    def act():
        devices[0].pull()

    def check():
        rig.leaves(devices[0], kiosk)
        expect(not rig.store.ports(), f"stale ports: {rig.store.ports()}")
        devices.clear()

    told = at_every_effect(rig, prepare, act, check)
    rig.xl_works(kiosk)
    return told


@scenario()
def killed_while_creating_a_controller(rig):
    """Killed before and after each effect of the creation of a controller with a device in it: after the
    restart there is one controller, and the device is in it."""
    desk = rig.guests.make("desk", SCREEN).create()
    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: desk}")
    devices = []

    def prepare():
        if devices:
            keyboard = devices.pop()
            keyboard.pull()
            rig.leaves(keyboard, desk)
            rig.xl("usbctrl-detach desk 0")

    def act():
        devices.append(rig.usb.plug("kbd", 1))

    def check():
        rig.arrives(devices[0], desk)
        expect(list(rig.store.controllers(desk.domid)) == [0], f"controllers: {rig.store.controllers(desk.domid)}")

    return at_every_effect(rig, prepare, act, check)


@scenario(long=True)
def killed_while_removing_a_controller(rig):
    """Killed before and after each effect of the removal of a controller that nobody serves: after the
    restart nothing is left of it, and dom0 has the device."""
    desk = rig.guests.make("desk", SCREEN).create()
    keyboard = rig.usb.plug("kbd", 1)
    rig.agent.policy(KEEP)
    rig.dom0.out(f"kill -STOP {desk.device_model()}")

    def prepare():
        unserved_controller(rig, desk, keyboard)

    def act():
        """It removes the controller because it is there."""

    def check():
        until("the controller is removed", lambda: not rig.store.controllers(desk.domid), 30)
        left = [path for path in rig.store.tree("/libxl") if path.startswith(f"/libxl/{desk.domid}/device/vusb")]
        expect(not left, f"left: {left}")
        expect(set(keyboard.drivers().values()) == {"usbhid"}, f"dom0's drivers: {keyboard.drivers()}")

    told = at_every_effect(rig, prepare, act, check)
    rig.dom0.out(f"kill -CONT {desk.device_model()}")
    return told


@scenario()
def killed_while_removing_leftovers(rig):
    """Killed before and after each effect of the removal of what a domain that is gone has left behind:
    after the restart nothing is left of it."""
    backend = f"/local/domain/0/backend/qusb/{NOBODY}"
    rig.agent.policy(KEEP)

    def prepare():
        rig.agent.kill()
        nodes = {"frontend": f"/local/domain/{NOBODY}/device/vusb/0", "state": "4", "port/1": "1-1"}
        words = [f"{backend}/0/{name} {value}" for name, value in nodes.items()]
        rig.dom0.out(f"xenstore-write {' '.join(words)}")

    def act():
        """It removes them because they are there."""

    def check():
        until(f"nothing is left below {backend}", lambda: not rig.store.tree(backend))

    return at_every_effect(rig, prepare, act, check)


def unserved_controller(rig, guest, device):
    """Lets the agent make a controller in a domain whose device model stands still, and kills it; takes
    the device out again by hand. Another agent finds an empty controller of its own, in state 1."""
    rig.agent.kill()
    rig.agent.policy(f"{{match: {{port: '{device.busid}'}}, attach: {guest.name}}}")
    rig.agent.again()
    until("there is a controller", lambda: rig.store.controllers(guest.domid))
    rig.agent.kill()
    place = rig.store.place(device.busid)
    if place is not None:
        port = f"/local/domain/0/backend/qusb/{place.domid}/{place.controller}/port/{place.port}"
        rig.dom0.out(f"xenstore-write {port} ''; xenstore-rm /tool/pvusb-agent/devices/{device.busid}")
    rig.agent.policy(f"{{match: {{port: '{device.busid}'}}, keep: dom0}}")
