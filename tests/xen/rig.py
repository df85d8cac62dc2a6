"""What a scenario gets: the machine's parts by name, and the clean-up between scenarios."""

import os
import re
import subprocess

from agent import Agent
from guests import Guests
from machine import PLAIN, ROOT, SYSTEMD, Machine
from service import Service
from store import Store
from usb import Usb
from waiting import Failure, RigFault, expect, until


# What the service does before a scenario has said what it should do.
NOTHING = "version: 1\nrules: []\n"


class Rig:
    def __init__(self, directory, program, vcpus=1, dom0=PLAIN):
        self.machine = Machine(directory, vcpus, dom0)
        self.program = program

    def start(self):
        self._install()
        self.machine.start()
        self.dom0 = self.machine.dom0
        self.usb = Usb(self.machine)
        self.store = Store(self.machine)
        self.guests = Guests(self.machine)
        self.agent = Agent(self.machine)
        self.service = Service(self.machine)

    def _install(self):
        """Installs the agent into the tree that dom0's initramfs copies to its disk before the boot."""
        tree = self.machine.share / "tree"
        words = ["make", "-s", "install", f"BUILT={self.program.absolute()}", f"DESTDIR={tree}", "PREFIX=/usr"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RigFault(f"make install: {done.stderr}")
        (tree / "etc/pvusb-agent").mkdir(parents=True)
        if self.machine.kind == SYSTEMD:
            # As `systemctl enable` does it, and a policy: so the service is there at boot.
            (tree / "etc/pvusb-agent/policy.yaml").write_text(NOTHING)
            wants = tree / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True)
            (wants / "pvusb-agent.service").symlink_to("/usr/lib/systemd/system/pvusb-agent.service")

    def stop(self):
        self.machine.stop()

    # --- what scenarios ask again and again ---

    def xl(self, command, timeout=60):
        """Runs xl; it must succeed."""
        answer = self.dom0.run(f"xl {command}", timeout)
        expect(answer.ok, f"xl {command}: exit code {answer.code}: {answer.out}")
        return answer.out

    def xl_attach(self, guest, device, controller, port):
        """`xl usbdev-attach`, by a person: dom0 is done with the device by then. Until its kernel has told of it
        and udev has told on, QEMU's libusb does not know it, and QEMU aborts (docs/protocol.md, "What kills a
        domain's QEMU"). That udev has nothing to do does not mean that the kernel has told already."""
        until(f"dom0's drivers have {device}", lambda: (found := device.drivers()) and all(found.values()))
        self.dom0.out("udevadm settle -t 20")
        self.xl(f"usbdev-attach {guest.name} {device.hostaddr} controller={controller} port={port}")

    def order(self, words, timeout=60):
        """Gives an order to the running agent and waits; it must be carried out. Gives what was said."""
        answer = self.dom0.run(f"pvusb-agent {words} --wait {timeout}", timeout + 30)
        expect(answer.ok, f"pvusb-agent {words}: exit code {answer.code}: {answer.out}")
        return answer.out

    def arrives(self, device, guest, timeout=30):
        """Waits until the guest has the device in every sense; gives its port."""
        until(f"{guest.name} sees {device}", lambda: guest.sees(device), timeout)
        place = self.store.place(device.busid)
        expect(place is not None, f"{guest.name} sees {device}, but no port names it")
        expect(place.domid == guest.domid, f"{device} is in domain {place.domid}")
        listed = self.store.listed_by_xl(guest.name)
        where = (place.controller, place.port)
        expect(listed.get(where) == device.address, f"xl usb-list shows {listed}, not {device} at {where}")
        drivers = device.drivers()
        expect(set(drivers.values()) == {"usbfs"}, f"dom0's drivers of {device}: {drivers}")
        return place

    def leaves(self, device, guest, timeout=30):
        """Waits until the guest has lost the device, and no port and no note names it."""
        until(f"{guest.name} has lost {device}", lambda: not guest.sees(device), timeout)
        until(f"no port names {device.busid}", lambda: self.store.place(device.busid) is None, timeout)
        until(f"no note about {device.busid}", lambda: device.busid not in self.store.notes(), timeout)

    def xl_works(self, guest, port=8):
        """A plain `xl usbdev-attach` of another device still works: no stale port is left anywhere.
        The policy must not know the device: a mouse in the machine's port 8."""
        mouse = self.usb.plug("mouse", 8)
        self.xl_attach(guest, mouse, 0, port)
        until(f"{guest.name} sees a mouse attached with xl", lambda: guest.sees(mouse))
        self.xl(f"usbdev-detach {guest.name} 0 {port}")
        until(f"{guest.name} has lost the mouse", lambda: not guest.sees(mouse))
        mouse.pull()

    # --- between scenarios ---

    def clean(self):
        """Brings everything back to the start; what does not come back is a failure."""
        faults = []
        agent_ran = self.agent.runs()
        self.usb.pull_all()
        if agent_ran:
            try:
                until("no port is in use after everything was pulled", lambda: not self.store.ports(), 20)
                self.guests.clean()
                until("the agent has forgotten everything", lambda: not self.store.notes(), 20)
            except Failure as failure:
                faults.append(str(failure))
            self.agent.stop()
        else:
            for port in self.store.ports():
                self.dom0.run(
                    f"xenstore-write /local/domain/0/backend/qusb/{port.domid}/{port.controller}/port/{port.port} ''"
                )
        self.guests.clean()
        # Each program that is started costs more than all that the eyes are asked here.
        if self.store.tree("/tool/pvusb-agent"):
            self.dom0.run("xenstore-rm /tool/pvusb-agent")
        if self.machine.eyes.exists(path="/etc/pvusb-agent/remembered.yaml"):
            self.dom0.out("rm /etc/pvusb-agent/remembered.yaml")
        domids = {guest.domid for guest in self.guests.all()}
        left = [path for path in self.store.tree("/libxl") if _domid(path) not in domids | {0, None}]
        left += [path for path in self.store.tree("/local/domain/0/backend") if _domid(path) not in domids | {0, None}]
        if left:
            faults.append("left behind in xenstore: " + ", ".join(left[:5]))
        for guest in self.guests.all():
            if guest.device_model() is None:
                faults.append(f"the device model of {guest.name} has died")
                self.guests.spoil(guest)
            elif list(self.store.controllers(guest.domid)) != [0]:
                self.guests.spoil(guest)
        self.guests.clean()
        if self.machine.kind == SYSTEMD:
            self.service.begin()
        if faults:
            raise Failure("; ".join(faults))

    def keep(self, directory):
        """Writes down all that helps to find out why a scenario failed."""
        os.makedirs(directory, exist_ok=True)
        commands = {
            "agent.log": "cat /tmp/agent.log",
            "agent-list.txt": "pvusb-agent list; pvusb-agent devices",
            "policy.yaml": "tail -n +1 /etc/pvusb-agent/*.yaml",
            "xenstore.txt": "xenstore-ls -fp",
            "xl.txt": "xl list; for d in $(xl list | awk 'NR>2{print $1}'); do xl usb-list $d; done; ps axww",
            "guests.txt": "tail -n +1 /var/log/xen/console/*.log",
            "device-models.txt": "tail -n +1 /var/log/xen/qemu-dm-*.log",
            "dmesg.txt": "dmesg",
            "journal.txt": "journalctl --no-pager -o short-monotonic",
            "usb.txt": "ls -l /sys/bus/usb/drivers/*/ | grep -E 'drivers|:.*->'; timeout 5 lsusb -t; timeout 5 lsusb",
            # Who waits in the kernel, and where: a dying program may have a device locked.
            "waiting.txt": "ps axww -L -o pid,tid,stat,wchan:32,args; "
            "for task in $(ps axL -o tid,stat | awk '$2 ~ /^D/ {print $1}') $(pgrep -w pvusb-agent); "
            "do echo $task; cat /proc/$task/stack; done",
            "udev.txt": "udevadm settle -t 1 || echo 'udev has events left'; udevadm info --export-db | grep -A40 usb",
        }
        for name, command in commands.items():
            (directory / name).write_text(self.dom0.run(command, 30).out)
        (directory / "console.txt").write_text(self.machine.console())


def _domid(path):
    match = re.match(r"/libxl/(\d+)", path) or re.match(r"/local/domain/0/backend/[^/]+/(\d+)", path)
    return int(match[1]) if match else None
