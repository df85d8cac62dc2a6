"""The agent as it is installed: systemd's unit with all its walls, in a dom0 that runs systemd."""

import contextlib
import json
import os
import re

from machine import SYSTEMD
from registry import scenario
from scenarios.m_guards import mounted
from waiting import expect, stays, until

RULE = "{match: {id: '0627:0001', port: '1-1'}, attach: kiosk}"
KEEP = "{match: {id: '0627:0001'}, keep: dom0}"

# The exposure that the unit promises, of 10 (systemd-analyze security).
EXPOSURE = 1.5


def attached(rig, guest="kiosk"):
    """The service runs, and a keyboard is in the guest."""
    guest = rig.guests.kept(guest)
    rig.agent.policy(RULE)
    rig.service.restart()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, guest)
    return guest, keyboard


@contextlib.contextmanager
def drop_in(rig, *lines):
    """Adds lines to the unit's [Service] meanwhile."""
    place = "/run/systemd/system/pvusb-agent.service.d"
    rig.dom0.out(f"mkdir -p {place}")
    rig.dom0.write(f"{place}/rig.conf", "\n".join(["[Service]", *lines, ""]))
    rig.dom0.out("systemctl daemon-reload")
    try:
        yield
    finally:
        rig.service.stop()
        rig.dom0.out(f"rm -r {place}; systemctl daemon-reload")


@scenario(dom0=SYSTEMD)
def service_at_boot(rig):
    """An enabled service runs after the boot, with few rights, and says how it is."""
    expect(rig.service.systemctl("is-enabled").out.strip() == "enabled", "it is not enabled")
    # From the boot on, whatever ran on this machine before.
    units = ["pvusb-agent", "rig-ready"]
    first, up = [_seconds(rig.dom0.out(f"journalctl -u {unit} -o short-monotonic").splitlines()[0]) for unit in units]
    expect(first < up, f"it came at {first} s, when dom0 was up since {up} s")
    rig.agent.policy(RULE, KEEP)
    rig.service.restart()
    expect("rules: 2" in rig.service.systemctl("status").out, "systemctl status does not show its line")
    told = rig.dom0.out("systemd-analyze security --no-pager pvusb-agent.service", 120)
    exposure = float(re.search(r"Overall exposure level .*: ([0-9.]+)", told)[1])
    expect(exposure <= EXPOSURE, f"exposure {exposure}")
    return f"there {first:.1f} s after the kernel's start, dom0 up at {up:.1f} s; exposure {exposure}"


@scenario(dom0=SYSTEMD)
def service_started_by_udev(rig):
    """Stopped, the service is started by the first plug, and the device arrives."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(RULE)
    rig.service.stop()
    keyboard = rig.usb.plug("kbd", 1)
    until("the service runs", rig.service.is_active)
    rig.arrives(keyboard, kiosk)
    rig.service.says("attached.*1-1.*kiosk")
    keyboard.pull()
    rig.leaves(keyboard, kiosk)
    rig.service.says("port cleared.*1-1")
    rig.xl_works(kiosk)


@scenario(dom0=SYSTEMD)
def service_reload(rig):
    """`systemctl reload` with a bad policy fails, says where it is bad, and changes nothing; with a good
    one it moves the device."""
    kiosk, keyboard = attached(rig)
    rig.dom0.write("/etc/pvusb-agent/policy.yaml", "version: 1\nrules: 7\n")
    expect(not rig.service.systemctl("reload").ok, "the reload of a bad policy is called good")
    rig.service.says(r"policy.yaml:2:8")
    # By hand there is nobody to check it first.
    rig.service.systemctl("kill", "--signal=HUP")
    rig.service.says("policy not reloaded")
    expect(rig.service.is_active(), "it has ended")
    rig.arrives(keyboard, kiosk)
    rig.agent.policy(KEEP)
    answer = rig.service.systemctl("reload")
    expect(answer.ok, f"reload: {answer.out}")
    expect("policy reloaded" in rig.service.journal(), "systemctl was back before the policy was read")
    rig.leaves(keyboard, kiosk)
    until("dom0 has it back", lambda: set(keyboard.drivers().values()) == {"usbhid"})


@scenario(dom0=SYSTEMD)
def service_is_watched(rig):
    """The journal has fields and numbers, the audit log holds, and watch and metrics tell what happened."""
    kiosk, keyboard = attached(rig)
    rig.service.says("attached device=1-1")
    line = json.loads(rig.dom0.out("journalctl PVUSB_EVENT=attached PVUSB_DEVICE=1-1 -n 1 -o json --no-pager"))
    expect(line["PVUSB_DOMAIN"] == "kiosk" and line["PRIORITY"] == "6", f"the journal has {line}")
    expect(len(line["MESSAGE_ID"]) == 32, f"it has no number: {line}")
    expect(line["_SYSTEMD_UNIT"] == "pvusb-agent.service", f"it is of another unit: {line}")
    picture = rig.dom0.out("pvusb-agent watch --once")
    expect(re.search(r"^kiosk \(\d+\)  \d+ of \d+ ports free\n  1-1 ", picture, re.M), f"watch shows {picture}")
    metrics = rig.dom0.out("pvusb-agent metrics")
    expect("pvusb_agent_devices_attached 1" in metrics, f"metrics are {metrics}")
    keyboard.pull()
    rig.leaves(keyboard, kiosk)
    rig.service.says("port cleared device=1-1")
    entries = rig.dom0.out("pvusb-agent log --device 1-1")
    expect("attached device=1-1" in entries and "port cleared device=1-1" in entries, f"the log has {entries}")
    expect("the log holds: " in rig.dom0.out("pvusb-agent log --verify"), "the audit log does not hold")


@scenario(dom0=SYSTEMD)
def service_killed(rig):
    """SIGKILL: systemd starts it again, and it goes on from what it sees."""
    kiosk, keyboard = attached(rig)
    for _ in range(2):
        before = rig.service.pid()
        rig.service.systemctl("kill", "--signal=KILL")
        keyboard.pull()
        until("it runs again", lambda: rig.service.pid() not in [0, before] and rig.service.is_active())
        rig.leaves(keyboard, kiosk)
        keyboard = rig.usb.plug("kbd", 1)
        rig.arrives(keyboard, kiosk)
    rig.xl_works(kiosk)


@scenario(dom0=SYSTEMD, long=True)
def service_hangs(rig):
    """An agent that stands still is noticed by systemd's watchdog and replaced; one that is only idle is
    left alone."""
    with drop_in(rig, "WatchdogSec=8"):
        kiosk, keyboard = attached(rig)
        before = rig.service.pid()
        rig.dom0.out("sleep 12")
        expect(rig.service.pid() == before, "an idle agent was replaced")
        rig.service.systemctl("kill", "--signal=STOP")
        keyboard.pull()
        until("another one runs", lambda: rig.service.pid() not in [0, before] and rig.service.is_active(), 40)
        rig.leaves(keyboard, kiosk)


@scenario(dom0=SYSTEMD)
def service_stopped(rig):
    """The service is stopped: what is attached stays attached; started again, it goes on."""
    kiosk, keyboard = attached(rig)
    rig.service.stop()
    expect(rig.service.property("Result") == "success", "it did not end well")
    rig.arrives(keyboard, kiosk)
    rig.service.start()
    keyboard.pull()
    rig.leaves(keyboard, kiosk)
    rig.xl_works(kiosk)


@scenario(dom0=SYSTEMD, long=True)
def service_sees_device_models(rig):
    """Behind its walls the service sees whether a domain's device model lives: a guest reboots and has
    its device again; then its device model dies, and the service says so."""
    desk = rig.guests.make("desk", on_reboot="restart").create()
    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: desk}", "{match: {port: '1-3'}, attach: desk}")
    rig.service.restart()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, desk)
    before = desk.domid
    desk.type("reboot -f")
    desk.wait_ready(times=2)
    expect(desk.domid != before, "it has the same domid")
    rig.arrives(keyboard, desk)
    rig.dom0.out(f"kill -9 {desk.device_model()}")
    rig.usb.plug("mouse", 3)
    rig.service.says("cannot be attached.*1-3.*device model has died")
    desk.destroy()


@scenario(dom0=SYSTEMD)
def service_without_a_socket(rig):
    """Where xenstored has no socket, as when it is in a domain of its own, the way is /dev/xen/xenbus."""
    with drop_in(rig, "InaccessiblePaths=/run/xenstored", "Environment=PVUSB_AGENT_LOG=debug"):
        kiosk, keyboard = attached(rig)
        used = rig.dom0.out(f"ls -l /proc/{rig.service.pid()}/fd")
        expect("/dev/xen/xenbus" in used, f"it has open: {used}")
        keyboard.pull()
        rig.leaves(keyboard, kiosk)


@scenario(dom0=SYSTEMD)
def service_sees_the_host(rig):
    """What the service may read and write: the host's mounts, also later ones, its swap, its processes,
    its routes, and of sysfs the drivers of USB alone."""
    rig.service.restart()
    pid = rig.service.pid()

    def inside(command):
        """As the service: in its mounts, as root without any capability."""
        return rig.dom0.run(f"nsenter -t {pid} -m setpriv --bounding-set=-all --no-new-privs sh -c '{command}'")

    places = ["/mnt/later", "/srv/later", "/tmp/later"]
    rig.dom0.out("".join(f"mkdir -p {place} && mount -t tmpfs later {place} && " for place in places) + "true")
    try:
        seen = {name: inside(f"cat /proc/{name}/mountinfo").out for name in ["1", "self"]}
        missing = [place for place in places if place not in seen["1"]]
        expect(not missing, f"/proc/1/mountinfo does not tell of {missing}")
        told = [place for place in places if place in seen["self"]]
    finally:
        rig.dom0.out("umount " + " ".join(places))
    model = rig.guests.kept("kiosk").device_model()
    for what in [f"test -d /proc/{model}", "cat /proc/swaps", "cat /proc/1/net/route", "ls /var/lib/xen"]:
        answer = inside(what)
        expect(answer.ok, f"it may not: {what}: {answer.out}")
    for what in ["/sys/bus/usb/drivers/usb/unbind", "/sys/bus/usb/drivers_probe"]:
        expect(inside(f"test -w {what}").ok, f"it may not write {what}")
    for what in ["/sys/bus/pci/drivers_autoprobe", "/sys/bus/usb/drivers_autoprobe", "/proc/sys/kernel/hostname", "/etc/passwd", "/var/lib/xen"]:
        expect(not inside(f"test -w {what}").ok, f"it may write {what}")
    return f"its own mountinfo tells of {', '.join(told) or 'none'} of {', '.join(places)}"


@scenario(dom0=SYSTEMD)
def service_takes_orders(rig):
    """Behind its walls the service takes orders through its socket, and remembers one over its restart in
    the policy's directory. Its audit log tells of them, and of a controller by hand."""
    kiosk, keyboard = attached(rig)
    told = rig.order("detach 1-1 --remember")
    expect("remembered in /etc/pvusb-agent/remembered.yaml" in told, told)
    rig.leaves(keyboard, kiosk)
    keyboard.pull()
    rig.service.restart()
    keyboard = rig.usb.plug("kbd", 1)
    rig.service.says("a rule keeps it.*1-1")
    expect(rig.store.place(keyboard.busid) is None, "it was attached all the same")
    told = rig.order("release 1-1")
    expect("forgotten in /etc/pvusb-agent/remembered.yaml" in told, told)
    rig.arrives(keyboard, kiosk)
    for act in ["add controller 1 to", "remove controller 1 from"]:
        verb = act.split()[0]
        rig.dom0.out(f"pvusb-agent controller {verb} kiosk {'--ports 1' if verb == 'add' else 1}")
        told = rig.dom0.out("pvusb-agent log --last 1")
        expect("done by hand" in told and act in told and "root (uid 0" in told, told)
    told = rig.dom0.out("pvusb-agent log --verify && pvusb-agent log")
    expect("the log holds" in told and 'forgotten device=1-1 file="/etc/pvusb-agent/remembered.yaml" who="root' in told, told)


@scenario(dom0=SYSTEMD, long=True)
def service_leaves_mounted_storage(rig):
    """Behind its walls the service sees what is mounted, before and after its start, and where: a stick
    follows its rule as soon as it is unmounted."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy("{match: {id: '46f4:0001'}, attach: kiosk}")
    rig.service.restart()
    stick = rig.usb.plug("storage", 2)
    rig.arrives(stick, kiosk)
    has_its_disk(kiosk)
    for at, restart in [("/mnt/stick", False), (os.path.join("/home", "stick"), True), ("/tmp/stick", False)]:
        rig.order(f"detach {stick.busid}")
        rig.leaves(stick, kiosk)
        with mounted(rig, stick, at):
            noted = rig.dom0.run(f"pvusb-agent release {stick.busid}")
            expect(noted.code == 1 and f"is mounted on {at}" in noted.out, f"release: {noted}")
            if restart:
                rig.service.restart()
            rig.service.says(f"protected.*is mounted on {at}")
            stays("it is in dom0", lambda: rig.store.place(stick.busid) is None, 3)
        rig.arrives(stick, kiosk)
        has_its_disk(kiosk)


def has_its_disk(guest):
    """Until the guest has looked at all of a stick. While it does, its QEMU may not survive that the stick goes
    (docs/protocol.md, "What kills a domain's QEMU"), and that is not what is to be shown."""
    expect(guest.run("until grep -q sd /proc/partitions; do sleep 0.2; done; sleep 1") == 0, "no disk in the guest")


@scenario(dom0=SYSTEMD)
def service_leaves_what_was_mounted_before(rig):
    """Behind its walls the service sees what was mounted before its start wherever a person mounts things:
    sticks stay in dom0, and follow their rule when they are unmounted."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy("{match: {id: '46f4:0001'}, keep: dom0}")
    rig.service.restart()
    places = [os.path.join(above, "stick") for above in ["/root", "/run/user/0", "/tmp", "/home"]]
    sticks = {rig.usb.plug("storage", port): at for port, at in enumerate(places, 2)}
    with contextlib.ExitStack() as mounts:
        for stick, at in sticks.items():
            mounts.enter_context(mounted(rig, stick, at))
        rig.agent.policy("{match: {id: '46f4:0001'}, attach: kiosk}")
        rig.service.restart()
        for stick, at in sticks.items():
            rig.service.says(f"protected.*device={stick.busid}.*is mounted on {at}")
        stays("all are in dom0", lambda: not rig.store.ports(), 3)
    for stick in sticks:
        rig.arrives(stick, kiosk)


def _seconds(line):
    return float(re.match(r"\[ *([0-9.]+)\]", line)[1])
