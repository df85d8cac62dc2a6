"""What dom0 needs stays in dom0, and a device that flaps is held down."""

import contextlib

from registry import scenario
from waiting import expect, stays, until

STICK = "{match: {id: '46f4:0001'}, attach: kiosk}"


@contextlib.contextmanager
def mounted(rig, stick, at):
    """Makes a file system on the stick and has it mounted in dom0 meanwhile."""
    glob = f"/sys/bus/usb/devices/{stick.busid}/*/host*/target*/*/block/*"
    name = until(f"dom0 has a disk of {stick}", lambda: rig.dom0.run(f"basename -a {glob} | grep -v '[*]'").out.strip())
    rig.dom0.out(f"udevadm settle -t 20; mke2fs -q -F /dev/{name}; mkdir -p {at}; mount /dev/{name} {at}")
    try:
        yield
    finally:
        rig.dom0.out(f"umount {at}")


@contextlib.contextmanager
def without_a_keyboard_of_its_own(rig):
    """Takes dom0's PS/2 keyboard away meanwhile. A PS/2 mouse it has not: its kernel lacks the driver."""
    ports = "/sys/bus/serio/devices/*/drvctl"
    rig.dom0.out(f"for port in {ports}; do echo -n none >$port; done")
    try:
        left = rig.dom0.run("grep -c kbd /proc/bus/input/devices").out.strip()
        expect(left == "0", f"dom0 has {left} keyboards left")
        yield
    finally:
        rig.dom0.out(f"for port in {ports}; do echo -n rescan >$port; done")


@scenario()
def storage_in_use_stays(rig):
    """A stick whose file system is mounted in dom0 is not taken, by force neither; it follows as soon as
    it is unmounted."""
    kiosk = rig.guests.kept("kiosk")
    stick = rig.usb.plug("storage", 2)
    with mounted(rig, stick, "/mnt/stick"):
        rig.agent.policy(STICK)
        rig.agent.start()
        rig.agent.says(f"protected.*device={stick.busid}.*is mounted on /mnt/stick")
        answer = rig.dom0.run(f"pvusb-agent attach {stick.busid} kiosk --force")
        expect(answer.code == 1 and "is mounted on /mnt/stick" in answer.out, f"by force: {answer}")
        stays("it is in dom0", lambda: rig.store.place(stick.busid) is None, 4)
        rig.dom0.out("echo proof >/mnt/stick/proof; sync /mnt/stick/proof")
        expect(set(stick.drivers().values()) == {"usb-storage"}, f"dom0's drivers: {stick.drivers()}")
    rig.arrives(stick, kiosk)
    stick.pull()
    rig.leaves(stick, kiosk)


@scenario()
def only_keyboard_stays(rig):
    """dom0's only keyboard and its only mouse stay; the keyboard follows when dom0 has another one, the
    mouse when a person says so."""
    kiosk = rig.guests.kept("kiosk")
    ports = [f"{{match: {{port: '1-{port}'}}, attach: kiosk}}" for port in [1, 3]]
    with without_a_keyboard_of_its_own(rig):
        rig.agent.policy(*ports, keep_last=None)
        rig.agent.start()
        keyboard = rig.usb.plug("kbd", 1)
        rig.agent.says("protected.*device=1-1.*last keyboard")
        stays("it is in dom0", lambda: rig.store.place(keyboard.busid) is None, 4)
        rig.usb.plug("kbd", 2)
        rig.arrives(keyboard, kiosk)
        mouse = rig.usb.plug("mouse", 3)
        rig.agent.says("protected.*device=1-3.*last pointer")
        refused = rig.dom0.run("pvusb-agent attach 1-3 kiosk")
        expect(refused.code == 1 and "--force" in refused.out, f"attach: {refused}")
        told = rig.order("attach 1-3 kiosk --force")
        expect("overridden: it is the last pointer" in told, told)
        rig.arrives(mouse, kiosk)


@scenario(long=True)
def flapping_device_is_held_down(rig):
    """A device that is plugged too often stays in dom0 until it has been plugged for the pause."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy("{match: {port: '1-1'}, attach: kiosk}", flapping="{plugs: 2, within: 600s, pause: 15s}")
    rig.agent.start()
    for _ in range(2):
        keyboard = rig.usb.plug("kbd", 1, serial="FLAPS")
        rig.arrives(keyboard, kiosk)
        keyboard.pull()
        rig.leaves(keyboard, kiosk)
    keyboard = rig.usb.plug("kbd", 1, serial="FLAPS")
    rig.agent.says("held down.*device=1-1")
    expect(rig.store.place(keyboard.busid) is None, "it was attached all the same")
    rig.arrives(keyboard, kiosk)
