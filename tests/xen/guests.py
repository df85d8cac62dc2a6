"""Guests: their xl.cfg, their life, and what each sees of its own USB bus.

A guest tells on its console (image/guest-init) what it sees; xenconsoled writes that to a file.
"""

import dataclasses
import re
import shlex

from dom0 import Growing
from waiting import expect, until

CONTROLLER = "usbctrl = ['type=qusb,version=2,ports=8']"


@dataclasses.dataclass(frozen=True)
class Seen:
    """One device on the guest's bus."""

    id: str
    serial: str
    speed: str


class Guest:
    def __init__(self, machine, name, lines, kind, on_reboot, extra):
        self._dom0, self._eyes = machine.dom0, machine.eyes
        self.name = name
        self.log = f"/var/log/xen/console/guest-{name}.log"
        self.config = f"/tmp/{name}.cfg"
        self._dom0.write(
            self.config,
            f'name = "{name}"\ntype = "{kind}"\nkernel = "/guest/vmlinux"\n'
            'ramdisk = "/guest/initrd.img"\n'
            # Self-tests of ciphers take almost a second, and to write-protect the kernel and look for what is
            # not takes half of one.
            f'extra = "console=hvc0 quiet loglevel=4 mitigations=off tsc=reliable cryptomgr.notests rodata=off norandmaps {extra}"\n'
            # PVH needs it here (README.md), PV does not mind.
            'tsc_mode = "native"\n'
            f'memory = 128\nvcpus = 1\non_reboot = "{on_reboot}"\n{lines}\n',
        )
        self._log = Growing(self._eyes, self.log)

    def create(self, wait=True):
        self._log = Growing(self._eyes, self.log, self._eyes.size(path=self.log))
        answer = self._dom0.run(f"xl create {self.config}", 90)
        expect(answer.ok, f"xl create {self.name}: {answer.out}")
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, times=1):
        """Until it has come up for the n-th time since its creation (it may reboot)."""
        until(
            f"guest {self.name} is up", lambda: self.text().count("GUEST ready") >= times, timeout=60
        )

    @property
    def domid(self):
        found = self._eyes.domid(name=self.name)
        expect(found is not None, f"there is no domain {self.name}")
        return found

    def runs(self):
        return self._eyes.domid(name=self.name) is not None

    def text(self):
        """What it has said since its creation."""
        return self._log.text().replace("\r", "")

    def reports(self):
        """Every state of its bus that it has told of since it last came up."""
        text = self.text()
        at = text.rfind("GUEST ready")
        found = re.findall(r"^GUEST usb \d+ (.*)$", text[at:], re.MULTILINE)
        return [[_seen(word) for word in report.split()] for report in found]

    def usb(self):
        """The devices that it sees now."""
        reports = self.reports()
        return reports[-1] if reports else []

    def sees(self, device):
        """Whether one of them is this one. Two plugs of one device look the same to it."""
        return any(_is(seen, device) for seen in self.usb())

    def counts(self, device):
        """How many of them look like this one."""
        return sum(_is(seen, device) for seen in self.usb())

    def type(self, line, then=":"):
        """Types a line on its console; does not wait, and runs the next command in dom0 at once."""
        tty = f"$(xenstore-read /local/domain/{self.domid}/console/tty)"
        self._dom0.out(f"printf '%s\\n' {shlex.quote(line)} >{tty}; {then}")

    def run(self, line, timeout=30):
        """Runs a line in it; gives its exit code."""
        done = self.text().count("GUEST done")
        self.type(line)
        until(f"{self.name} has done: {line}", lambda: self.text().count("GUEST done") > done, timeout)
        return int(re.findall(r"GUEST done (\d+)", self.text())[-1])

    def destroy(self):
        if self.runs():
            self._dom0.run(f"xl destroy {self.name}", 90)
        until(f"{self.name} is gone", lambda: not self.runs(), 30)

    def device_model(self):
        """The process of the QEMU that serves it; None if there is none."""
        found = self._eyes.processes(name="xen-qemu-system", argument=f"-xen-domid {self.domid} ")
        found += self._eyes.processes(name="qemu-system", argument=f"-xen-domid {self.domid} ")
        return found[0] if found else None


class Guests:
    def __init__(self, machine):
        self._machine = machine
        self._kept = {}
        self._others = []

    def make(self, name, lines=CONTROLLER, kind="pv", on_reboot="destroy", extra=""):
        """A guest of the scenario's own, not yet created. It is destroyed at the end."""
        if name in self._kept:
            self._kept.pop(name).destroy()
        guest = Guest(self._machine, name, lines, kind, on_reboot, extra)
        self._others.append(guest)
        return guest

    def kept(self, name):
        """A guest with one controller of eight ports, which scenarios share: a guest takes 5 to 10 s
        to come up. Whoever takes it must give it back as it was."""
        guest = self._kept.get(name)
        if guest is None or not guest.runs():
            guest = Guest(self._machine, name, CONTROLLER, "pv", "destroy", "")
            guest.create()
            self._kept[name] = guest
        until(f"{name} is connected", lambda: self._is_connected(guest.domid))
        return guest

    def spoil(self, guest):
        """This shared guest cannot be given back."""
        self._kept.pop(guest.name, None)
        self._others.append(guest)

    def all(self):
        return [*self._kept.values(), *self._others]

    def clean(self):
        for guest in self._others:
            guest.destroy()
        self._others.clear()

    def _is_connected(self, domid):
        path = f"/local/domain/0/backend/qusb/{domid}/0/state"
        return self._machine.eyes.tree(path=path).get(path, [""])[0] == "4"


def _is(seen, device):
    return seen.id == device.id and (device.serial is None or seen.serial == device.serial)


def _seen(word):
    fields = word.split("=", 1)[1].split(":")
    return Seen(":".join(fields[:2]), fields[2], fields[3])
