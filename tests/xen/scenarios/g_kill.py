"""The agent is killed at every point of its work, counted in system calls, and started again.

strace kills it as it enters the n-th call that sends something, counted from its start. So a point
can be hit again: the same n is the same instant of its work.
"""

import re

from registry import scenario
from waiting import Failure, expect, until

CALLS = "write,writev,sendto,sendmsg"
TRACE = "/tmp/agent.trace"
RULE = "{match: {id: '0627:0001', port: '1-1'}, attach: kiosk}"
KEEP = "{match: {id: '0627:0001', port: '1-1'}, keep: dom0}"

# How many points of each piece of work are tried, spread evenly.
POINTS = 6


def traced(rig, kill_at=None, arguments=()):
    """Starts the agent under strace and waits until it has nothing to do. Gives its calls so far."""
    rig.dom0.run(f"rm -f {TRACE}")
    kill = f"-e inject={CALLS}:signal=SIGKILL:when={kill_at}" if kill_at else ""
    before = f"strace -f -qq -e signal=none -e trace={CALLS} {kill} -o {TRACE}"
    # What it says is written with the same calls, so it says nothing.
    rig.agent.again(*arguments, level="error", before=before)
    return idle(rig)


def calls(rig):
    """Calls of the main thread: strace counts for each thread, and xenstore is the main one's."""
    lines = (rig.machine.eyes.text(path=TRACE) or "").splitlines()
    threads = [line.split()[0] for line in lines if re.match(r"\d+ +(write|send)", line)]
    return threads.count(threads[0]) if threads else 0


def idle(rig):
    last = [-1, 0]

    def same():
        now = calls(rig)
        last[1] = last[1] + 1 if now == last[0] and now else 0
        last[0] = now
        return last[1] >= 4

    until("the agent has nothing to do", same, 30, pause=0.4)
    return last[0]


def at_every_point(rig, prepare, act, check, arguments=(), points=POINTS):
    """Counts the calls that `act` costs; then for each point prepares anew, lets the agent be killed
    there, starts it again and checks."""
    prepare()
    begin = traced(rig, arguments=arguments)
    act()
    end = idle(rig) if rig.agent.runs() else calls(rig)
    check()
    rig.agent.kill() if rig.agent.runs() else None
    expect(end > begin, "the work costs no call")
    step = max(1, (end - begin) // points)
    hit = []
    for kill_at in range(begin + 1, end + 1, step):
        prepare()
        traced(rig, kill_at, arguments)
        act()
        try:
            until("the agent is killed", lambda: not rig.agent.runs(), 8)
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

    told = at_every_point(rig, prepare, act, check, points=4)
    rig.xl_works(kiosk)
    return told
