"""The USB devices of the machine: plugs and pulls them from outside, and tells what dom0 sees.

The outer QEMU's xhci has eight ports of USB 2 (dom0's bus 1) and eight of USB 3 (bus 2).
"""

import itertools

from waiting import expect, until

# QEMU's hw/usb/dev-*.c: what the devices call themselves.
IDS = {
    "kbd": "0627:0001",
    "mouse": "0627:0001",
    "tablet": "0627:0001",
    "storage": "46f4:0001",
    "serial": "0403:6001",
    "hub": "0409:55aa",
    "net": "0525:a4a2",
    "audio": "46f4:0002",
}


class Device:
    """One plug of one device."""

    def __init__(self, usb, kind, port, serial, name, disk):
        self._usb = usb
        self.kind, self.port, self.serial, self.name, self.disk = kind, port, serial, name, disk
        self.id = IDS[kind]
        # Each port has a side of USB 2 and one of USB 3, and QEMU's storage can do both.
        self.busid = f"2-{port}" if kind == "storage" and "." not in str(port) else f"1-{port}"

    def __repr__(self):
        return f"{self.kind} in {self.busid}"

    @property
    def address(self):
        """(bus, device), as dom0 counts."""
        # While the kernel resets it, as when QEMU lets go of it, its number is 0
        # (drivers/usb/core/hub.c: hub_port_reset).
        return until(f"{self} has an address", lambda: all(seen := self._address()) and seen)

    def _address(self):
        there = f"/sys/bus/usb/devices/{self.busid}"
        return tuple(int(self._usb.eyes.text(path=f"{there}/{name}") or 0) for name in ["busnum", "devnum"])

    @property
    def hostaddr(self):
        """As `xl usbdev-attach` wants it: decimal, unlike what `xl usb-list` prints."""
        bus, number = self.address
        return f"hostbus={bus} hostaddr={number}"

    def in_dom0(self):
        return self._usb.eyes.exists(path=f"/sys/bus/usb/devices/{self.busid}/bConfigurationValue")

    def drivers(self):
        """The driver of each interface; empty text where there is none."""
        return self._usb.eyes.drivers(busid=self.busid)

    def pull(self, wait=True):
        self._usb.pull(self, wait)


class Usb:
    def __init__(self, machine):
        self.dom0, self.eyes = machine.dom0, machine.eyes
        self._qmp = machine.qmp
        self._directory = machine.directory
        self._numbers = itertools.count(1)
        self.plugged = []

    def plug(self, kind, port, serial=None, wait=True, **properties):
        """Plugs a device; waits until dom0 has it unless told not to."""
        number = next(self._numbers)
        name = f"{kind}{number}"
        arguments = {"driver": f"usb-{kind}", "id": name, "bus": "xhci.0", "port": str(port)}
        if kind in ["hub", "net", "audio"]:
            # These have a serial number of QEMU's own.
            serial = None
        else:
            serial = arguments["serial"] = serial or f"SN{number}"
        disk = None
        if kind == "storage":
            disk = self._directory / f"{name}.disk"
            with open(disk, "wb") as file:
                file.truncate(8 << 20)
            node = {"driver": "file", "filename": str(disk)}
            self._qmp.command("blockdev-add", **{"node-name": name, "driver": "raw", "file": node})
            arguments["drive"] = name
        if kind == "serial":
            self._qmp.command("chardev-add", id=name, backend={"type": "null", "data": {}})
            # Otherwise it is plugged only while somebody has the other end open.
            arguments |= {"chardev": name, "always-plugged": True}
        self._qmp.command("device_add", **arguments, **properties)
        device = Device(self, kind, port, serial, name, disk)
        self.plugged.append(device)
        if wait:
            until(f"{device} shows in dom0", device.in_dom0)
        return device

    def pull(self, device, wait=True):
        self._qmp.command("device_del", id=device.name)
        self.plugged.remove(device)
        until(f"QEMU has removed {device}", lambda: self._qmp.deleted(device.name))
        if device.kind == "storage":
            self._qmp.command("blockdev-del", **{"node-name": device.name})
            device.disk.unlink()
        if device.kind == "serial":
            self._qmp.command("chardev-remove", id=device.name)
        if wait:
            # Its files go before its name does (drivers/base/core.c: device_del).
            there = f"/sys/bus/usb/devices/{device.busid}"
            until(f"{device} is gone from dom0", lambda: not self.eyes.exists(path=there))

    def pull_all(self):
        # What is plugged into a hub goes first.
        for device in sorted(self.plugged, key=lambda device: -len(str(device.port))):
            self.pull(device)
        left = self.eyes.usb()
        expect(not left, f"dom0 still has USB devices: {left}")
