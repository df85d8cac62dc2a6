"""Devices that come and go, fast too. After every step xl must still work."""

import time

from registry import scenario
from waiting import expect, until

RULE = "{match: {id: '0627:0001', port: '1-*'}, attach: kiosk}"
FIRST = "{match: {port: '1-8'}, keep: dom0}"


def begin(rig):
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(FIRST, *[f"{{match: {{port: '1-{port}'}}, attach: kiosk}}" for port in range(1, 8)])
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1, serial="BOUNCE")
    rig.arrives(keyboard, kiosk)
    return kiosk, keyboard


def returns(rig, kiosk, before, keyboard):
    """The guest has lost it and has it again."""
    until("the guest has told of the loss and of the return", lambda: len(kiosk.reports()) >= before + 2, 30)
    rig.arrives(keyboard, kiosk)


@scenario()
def replug(rig):
    """Unplug and replug, in the same port and in another."""
    kiosk, keyboard = begin(rig)
    for port in [1, 4, 1]:
        keyboard.pull()
        rig.leaves(keyboard, kiosk)
        keyboard = rig.usb.plug("kbd", port, serial="BOUNCE")
        rig.arrives(keyboard, kiosk)
        rig.xl_works(kiosk)


@scenario()
def bounce(rig):
    """Pulled and plugged again within 100 ms: the guest sees it again each time."""
    kiosk, keyboard = begin(rig)
    for _ in range(3):
        before = len(kiosk.reports())
        keyboard.pull(wait=False)
        time.sleep(0.1)
        keyboard = rig.usb.plug("kbd", 1, serial="BOUNCE", wait=False)
        returns(rig, kiosk, before, keyboard)
    rig.xl_works(kiosk)


@scenario()
def bounce_to_another_port(rig):
    """Pulled, and plugged into another port within 100 ms, to and fro: the guest sees it again each time,
    and it is in one port."""
    kiosk, keyboard = begin(rig)
    for port in [2, 1, 3]:
        before = len(kiosk.reports())
        keyboard.pull(wait=False)
        time.sleep(0.05)
        keyboard = rig.usb.plug("kbd", port, serial="BOUNCE", wait=False)
        returns(rig, kiosk, before, keyboard)
        until("one port is in use", lambda: len(rig.store.ports()) == 1)
    rig.xl_works(kiosk)


@scenario()
def burst(rig):
    """Three devices at once, pulled at once: all arrive, none leaves a stale port."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(FIRST, *[f"{{match: {{port: '1-{port}'}}, attach: kiosk}}" for port in range(1, 8)])
    rig.agent.start()
    devices = [rig.usb.plug("kbd", port, wait=False) for port in [1, 2, 3]]
    for device in devices:
        rig.arrives(device, kiosk)
    for device in devices:
        device.pull(wait=False)
    for device in devices:
        rig.leaves(device, kiosk)
    expect(not rig.store.ports(), "a port is stale")
    rig.xl_works(kiosk)
