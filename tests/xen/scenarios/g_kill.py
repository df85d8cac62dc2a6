"""The agent is killed before and after each effect of its work on xenstore, and started again.

strace kills it as it enters the n-th call that sends something, counted from its start: the same n is
the same instant of its work. Effects are commits, and what is written outside of a transaction. Between
two of them it only reads, so one instant there is as good as another. Effects on sysfs come from other
threads; tests/integration/kills.rs has those.
"""

import re
import struct
import time

from registry import scenario
from waiting import Failure, expect, until

CALLS = "write,writev,sendto,sendmsg"
TRACE = "/tmp/agent.trace"
TRANSACTION_END = 7
# WRITE, MKDIR, RM, SET_PERMS.
CHANGES = [11, 12, 13, 14]
RULE = "{match: {id: '0627:0001', port: '1-1'}, attach: kiosk}"
KEEP = "{match: {id: '0627:0001', port: '1-1'}, keep: dom0}"

def traced(rig, kill_at=None, arguments=()):
    """Starts the agent under strace and waits until it has nothing to do. Gives its calls so far."""
    rig.dom0.run(f"rm -f {TRACE}")
    kill = f"-e inject={CALLS}:signal=SIGKILL:when={kill_at}" if kill_at else ""
    before = f"strace -f -qq -xx -s 32 -e signal=none -e trace={CALLS} {kill} -o {TRACE}"
    # What it says is written with the same calls, so it says nothing.
    rig.agent.again(*arguments, level="error", before=before)
    return idle(rig)


def sent(rig):
    """What the main thread's calls sent, the beginning of each: strace counts for each thread, and
    xenstore is the main one's."""
    lines = (rig.machine.eyes.text(path=TRACE) or "").splitlines()
    found = [re.match(r'(\d+) +(?:write|send)\w*\(\d+, (?:"([^"]*)")?', line) for line in lines]
    found = [(match[1], match[2] or "") for match in found if match]
    return [bytes.fromhex(text.replace("\\x", "")) for thread, text in found if thread == found[0][0]]


def calls(rig):
    return len(sent(rig))


def has_effect(message):
    """Whether it is a commit, or changes something outside of a transaction (Xen's io/xs_wire.h)."""
    if len(message) < 16:
        return False
    kind, _, transaction, _ = struct.unpack("IIII", message[:16])
    return kind == TRANSACTION_END and message[16:17] == b"T" or kind in CHANGES and transaction == 0


def idle(rig):
    """Waits until the agent has nothing to do; gives its calls."""
    until("the agent has nothing to do", lambda: rests(rig), 40)
    return calls(rig)


def rests(rig):
    """Whether it makes no call for a while: longer than it waits for anything but a deadline."""
    before = calls(rig)
    return before > 0 and all(_pause() or calls(rig) == before for _ in range(5))


def _pause():
    time.sleep(0.3)


def at_every_point(rig, prepare, act, check, arguments=()):
    """Counts the calls that `act` costs; then for each effect among them, and for what follows the last,
    prepares anew, lets the agent be killed there, starts it again and checks."""
    prepare()
    begin = traced(rig, arguments=arguments)
    act()
    check()
    end = idle(rig)
    points = [n for n, message in enumerate(sent(rig), 1) if n > begin and has_effect(message)]
    rig.agent.kill()
    expect(points, f"no effect in calls {begin + 1} to {end}")
    if points[-1] < end:
        points.append(points[-1] + 1)
    hit = []
    for kill_at in points:
        prepare()
        traced(rig, kill_at, arguments)
        act()
        try:
            until("the agent is killed", lambda: not rig.agent.runs(), 12)
            hit.append(kill_at)
        except Failure:
            # Fewer calls than in the count, because events came together: it has done its work.
            rig.agent.kill()
        rig.agent.again()
        try:
            check()
        except Failure as failure:
            raise Failure(f"killed at call {kill_at} of {begin}..{end}: {failure}") from failure
        rig.agent.kill()
    expect(hit, "no point was hit")
    return f"killed at calls {', '.join(map(str, hit))} of {begin + 1} to {end}"


@scenario()
def killed_while_attaching(rig):
    """Killed at points of an attachment: after the restart the device arrives, in one port."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    devices = []

    def prepare():
        if devices:
            keyboard = devices.pop()
            rig.agent.again()
            keyboard.pull()
            rig.leaves(keyboard, kiosk)
            rig.agent.kill()

    def act():
        devices.append(rig.usb.plug("kbd", 1))

    def check():
        rig.arrives(devices[0], kiosk)
        expect(len(rig.store.ports()) == 1, f"ports in use: {rig.store.ports()}")
        until("there is a note", lambda: devices[0].busid in rig.store.notes())

    return at_every_point(rig, prepare, act, check)


@scenario()
def killed_while_detaching(rig):
    """Killed at points of a detachment: after the restart dom0's driver has the device back."""
    kiosk = rig.guests.kept("kiosk")
    keyboard = rig.usb.plug("kbd", 1)

    def prepare():
        rig.agent.policy(RULE)
        rig.agent.again()
        rig.arrives(keyboard, kiosk)
        rig.agent.kill()

    def act():
        rig.agent.policy(KEEP)
        rig.agent.reload()

    def check():
        rig.leaves(keyboard, kiosk)
        until("dom0 has it back", lambda: set(keyboard.drivers().values()) == {"usbhid"})

    return at_every_point(rig, prepare, act, check)


@scenario()
def killed_while_clearing(rig):
    """Killed at points after an unplug: after the restart no port is stale and xl works."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    devices = []

    def prepare():
        devices.append(rig.usb.plug("kbd", 1))
        rig.agent.again()
        rig.arrives(devices[0], kiosk)
        rig.agent.kill()

    def act():
        devices[0].pull()

    def check():
        rig.leaves(devices[0], kiosk)
        expect(not rig.store.ports(), f"stale ports: {rig.store.ports()}")
        devices.clear()

    told = at_every_point(rig, prepare, act, check)
    rig.xl_works(kiosk)
    return told


@scenario()
def killed_while_creating_a_controller(rig):
    """Killed at points of the creation of a controller with a device in it: after the restart there is
    one controller, and the device is in it."""
    desk = rig.guests.make("desk", "vfb = ['vnc=0']").create()
    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: desk}")
    devices = []

    def prepare():
        if devices:
            keyboard = devices.pop()
            rig.agent.again()
            keyboard.pull()
            rig.leaves(keyboard, desk)
            rig.agent.kill()
            rig.xl("usbctrl-detach desk 0")

    def act():
        devices.append(rig.usb.plug("kbd", 1))

    def check():
        rig.arrives(devices[0], desk)
        expect(list(rig.store.controllers(desk.domid)) == [0], f"controllers: {rig.store.controllers(desk.domid)}")

    return at_every_point(rig, prepare, act, check)


@scenario(known="no kill hits: the calls counted in the first pass do not come in the later ones; why is not found yet")
def killed_while_removing_a_controller(rig):
    """Killed at points of the removal of a controller that nobody serves: after the restart nothing is
    left of it, and dom0 has the device."""
    desk = rig.guests.make("desk", "vfb = ['vnc=0']").create()
    keyboard = rig.usb.plug("kbd", 1)
    rig.dom0.out(f"kill -STOP {desk.device_model()}")

    def prepare():
        unserved_controller(rig, desk, keyboard)

    def act():
        until("the controller is removed, or the agent dead", lambda: gone() or not rig.agent.runs(), 30)

    def gone():
        return not rig.store.controllers(desk.domid)

    def check():
        until("the controller is removed", gone, 30)
        left = [path for path in rig.store.tree("/libxl") if path.startswith(f"/libxl/{desk.domid}/device/vusb")]
        expect(not left, f"left: {left}")
        expect(set(keyboard.drivers().values()) == {"usbhid"}, f"dom0's drivers: {keyboard.drivers()}")

    told = at_every_point(rig, prepare, act, check)
    rig.dom0.out(f"kill -CONT {desk.device_model()}")
    return told


def unserved_controller(rig, guest, device):
    """Lets the agent make a controller in a domain whose device model stands still, and kills it; takes
    the device out again by hand. Another agent finds an empty controller of its own, in state 1."""
    rig.agent.policy(f"{{match: {{port: '{device.busid}'}}, attach: {guest.name}}}")
    rig.agent.again()
    until("there is a controller", lambda: rig.store.controllers(guest.domid))
    rig.agent.kill()
    place = rig.store.place(device.busid)
    if place is not None:
        port = f"/local/domain/0/backend/qusb/{place.domid}/{place.controller}/port/{place.port}"
        rig.dom0.out(f"xenstore-write {port} ''; xenstore-rm /tool/pvusb-agent/devices/{device.busid}")
    rig.agent.policy(f"{{match: {{port: '{device.busid}'}}, keep: dom0}}")
