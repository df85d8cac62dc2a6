"""dom0's view of xenstore and of xl. Reads only; scenarios that must write do it with dom0's tools."""

import dataclasses
import re

@dataclasses.dataclass(frozen=True)
class Node:
    value: str
    permissions: str


@dataclasses.dataclass(frozen=True, order=True)
class Port:
    domid: int
    controller: int
    port: int


class Store:
    def __init__(self, machine):
        self._dom0, self._eyes = machine.dom0, machine.eyes

    def tree(self, path="/"):
        """Every node at and below a path: {path: Node}. Empty if there is nothing."""
        return {node: Node(*seen) for node, seen in self._eyes.tree(path=path).items()}

    def ports(self):
        """Every port in use on the host, whoever wrote it: {Port: busid}."""
        found = {}
        for path, node in self.tree("/local/domain/0/backend").items():
            match = re.fullmatch(r"/local/domain/0/backend/\w*usb/(\d+)/(\d+)/port/(\d+)", path)
            if match and node.value:
                found[Port(*map(int, match.groups()))] = node.value
        return found

    def place(self, busid):
        """The port that names this device, if there is one."""
        return next((port for port, there in self.ports().items() if there == busid), None)

    def controllers(self, domid):
        """{number: (type, state of the backend, ports)}"""
        tree = self.tree("/local/domain/0/backend")
        found = {}
        for path, node in tree.items():
            match = re.fullmatch(rf"(/local/domain/0/backend/(\w*usb)/{domid}/(\d+))/state", path)
            if match:
                ports = tree[f"{match[1]}/num-ports"].value
                found[int(match[3])] = (match[2], int(node.value), int(ports))
        return found

    def notes(self):
        """The agent's notes about devices: {busid: text}."""
        base = "/tool/pvusb-agent/devices/"
        return {path[len(base):]: node.value for path, node in self.tree("/tool").items() if path.startswith(base)}

    def listed_by_xl(self, domain):
        """`xl usb-list`: {(controller, port): (bus, device)} of the ports in use."""
        out = self._dom0.out(f"xl usb-list {domain}")
        found, controller = {}, None
        for line in out.splitlines():
            if match := re.match(r"(\d+)\s+\w+\s+\d+", line):
                controller = int(match[1])
            # It prints bus and device in hexadecimal (tools/xl/xl_usb.c: "%03x").
            if match := re.match(r"\s+Port (\d+): Bus (\w+) Device (\w+)", line):
                found[controller, int(match[1])] = (int(match[2], 16), int(match[3], 16))
        return found
