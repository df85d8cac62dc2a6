"""What is measured and not judged: run.py --measure. Times are of an emulated machine: use ratios."""

import pathlib
import shutil
import statistics

from registry import scenario
from waiting import Failure, until

HERE = pathlib.Path(__file__).parent
REPETITIONS = 20
PLUGS = 50


class Observer:
    """inside/observer.py in dom0."""

    def __init__(self, rig, guest):
        self._rig = rig
        shutil.copy(HERE.parent / "inside" / "observer.py", rig.machine.share)
        rig.dom0.out(
            f"setsid python3 /share/observer.py {guest.domid} {guest.log} >/tmp/observed 2>&1 & "
            "echo $! >/tmp/observer.pid"
        )
        until("the observer watches", lambda: "ready" in self.text())

    def text(self):
        return self._rig.machine.eyes.text(path="/tmp/observed") or ""

    def when(self, *words, after=0.0):
        """The first time after `after` at which a line has all these words."""
        for line in self.text().splitlines():
            time, _, what = line.partition(" ")
            if time.replace(".", "").isdigit() and float(time) > after and all(w in what for w in words):
                return float(time)
        return None

    def end(self):
        self._rig.dom0.run("kill $(cat /tmp/observer.pid)")


def told(name, values):
    return f"{name}: median {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f} s ({len(values)})"


@scenario(measures=True)
def attach_times(rig):
    """xl usbdev-attach and the agent, in turn: to the port's write, and to the guest's sight."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy("{match: {port: '1-1'}, attach: kiosk}")
    observer = Observer(rig, kiosk)
    figures = {name: [] for name in ["xl, call to port", "xl, call to guest", "agent, udev to port", "agent, udev to guest"]}
    try:
        for _ in range(REPETITIONS):
            keyboard = rig.usb.plug("kbd", 1)
            rig.dom0.out("udevadm settle -t 20")
            called = float(rig.dom0.out(
                "read t _ </proc/uptime; "
                f"xl usbdev-attach kiosk {keyboard.hostaddr} controller=0 port=8 && echo $t"
            ))
            until("the guest sees it", lambda: kiosk.sees(keyboard))
            until("the observer has it too", lambda: observer.when("guest", keyboard.serial, after=called))
            figures["xl, call to port"].append(observer.when("port", "'1-1'", after=called) - called)
            figures["xl, call to guest"].append(observer.when("guest", keyboard.serial, after=called) - called)
            rig.xl("usbdev-detach kiosk 0 8")
            until("the guest has lost it", lambda: not kiosk.sees(keyboard))
            keyboard.pull()

            rig.agent.start(level="info")
            keyboard = rig.usb.plug("kbd", 1)
            rig.arrives(keyboard, kiosk)
            bound = observer.when("udev add 1-1", after=called + 0.5)
            until("the observer has it too", lambda: observer.when("guest", keyboard.serial, after=bound))
            figures["agent, udev to port"].append(observer.when("port", "'1-1'", after=bound) - bound)
            figures["agent, udev to guest"].append(observer.when("guest", keyboard.serial, after=bound) - bound)
            keyboard.pull()
            rig.leaves(keyboard, kiosk)
            rig.agent.stop()
    finally:
        observer.end()
    return "\n".join(told(name, values) for name, values in figures.items())


@scenario(measures=True)
def attach_times_when_called(rig):
    """The same device, plugged long ago: xl usbdev-attach, and the agent told by a new policy."""
    kiosk = rig.guests.kept("kiosk")
    keep, attach = ["{match: {port: '1-1'}, keep: dom0}"], ["{match: {port: '1-1'}, attach: kiosk}"]
    rig.agent.policy(*keep)
    rig.agent.start(level="info")
    observer = Observer(rig, kiosk)
    keyboard = rig.usb.plug("kbd", 1)
    rig.dom0.out("udevadm settle -t 20")
    names = ["xl, call to port", "xl, call to guest", "agent, SIGHUP to port", "agent, SIGHUP to guest"]
    figures = {name: [] for name in names}

    def measure(command, who):
        called = float(rig.dom0.out(f"read t _ </proc/uptime; {command} >/dev/null && echo $t"))
        until("the guest sees it", lambda: kiosk.sees(keyboard))
        figures[f"{who} to port"].append(observer.when("port", "'1-1'", after=called) - called)
        until("the observer has it too", lambda: observer.when("guest", keyboard.serial, after=called))
        figures[f"{who} to guest"].append(observer.when("guest", keyboard.serial, after=called) - called)

    def ended():
        until("the guest has lost it", lambda: not kiosk.sees(keyboard))
        rig.leaves(keyboard, kiosk)

    try:
        for _ in range(REPETITIONS):
            measure(f"xl usbdev-attach kiosk {keyboard.hostaddr} controller=0 port=8", "xl, call")
            rig.xl("usbdev-detach kiosk 0 8")
            ended()
            rig.agent.policy(*attach)
            measure("kill -HUP $(pgrep -x pvusb-agent)", "agent, SIGHUP")
            rig.agent.policy(*keep)
            rig.agent.reload()
            ended()
    finally:
        observer.end()
    return "\n".join(told(name, values) for name, values in figures.items())


def settle(rig, wish):
    """Plugs four devices at a time; counts the device models that died."""
    kiosk = rig.guests.kept("kiosk")
    rig.guests.spoil(kiosk)
    kiosk.destroy()
    desk = rig.guests.make("desk").create()
    rig.agent.policy(*[f"{{match: {{port: '1-{p}'}}, attach: desk}}" for p in range(1, 5)], settle=wish)
    rig.agent.start(level="info")
    deaths, unseen, plugs = 0, 0, 0
    model = desk.device_model()
    while plugs < PLUGS:
        devices = [rig.usb.plug("kbd", port, wait=False) for port in range(1, 5)]
        plugs += len(devices)
        try:
            until("all are seen", lambda: all(desk.sees(device) for device in devices), 20)
        except Failure:
            unseen += 1
        for device in devices:
            device.pull(wait=False)
        until("no port is in use", lambda: not rig.store.ports(), 30)
        if desk.device_model() != model:
            deaths += 1
            desk.destroy()
            desk.create()
            model = desk.device_model()
    rig.machine.check()
    return f"settle {wish}: {plugs} plugs, {deaths} device models died, {unseen} rounds not all seen"


@scenario(measures=True)
def settle_none_1_cpu(rig):
    """Plugs without a settling time."""
    return settle(rig, "0ms")


@scenario(measures=True)
def settle_default_1_cpu(rig):
    """Plugs with the default settling time."""
    return settle(rig, "100ms")


@scenario(vcpus=2, measures=True)
def settle_none_2_cpus(rig):
    """Plugs without a settling time, on two virtual CPUs."""
    return settle(rig, "0ms")


@scenario(vcpus=2, measures=True)
def settle_default_2_cpus(rig):
    """Plugs with the default settling time, on two virtual CPUs."""
    return settle(rig, "100ms")
