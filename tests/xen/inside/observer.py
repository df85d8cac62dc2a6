"""Runs in dom0 and writes down when things happen, by one clock: udev's events, what comes into the
ports of one domain, and what its guest says. Decides nothing.

    observer.py DOMID CONSOLE-LOG >OUTPUT       lines: seconds since the boot, what, its details
"""

import os
import select
import socket
import struct
import sys
import time

# xenstored's wire protocol (Xen's docs/misc/xenstore.txt).
READ, WATCH, WATCH_EVENT, ERROR = 2, 4, 15, 16
# The multicast group on which udevd tells of finished events (systemd's sd-device/device-monitor.c).
UDEV_GROUP = 2


def tell(*words):
    print(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.4f}", *words, flush=True)


class Store:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect("/run/xenstored/socket")
        self.events = []

    def ask(self, kind, *strings):
        body = b"".join(string.encode() + b"\0" for string in strings)
        self.socket.sendall(struct.pack("IIII", kind, 0, 0, len(body)) + body)
        while True:
            answer, body = self.take()
            if answer != WATCH_EVENT:
                return "" if answer == ERROR else body.decode(errors="replace")
            self.events.append(body)

    def take(self):
        kind, _, _, length = struct.unpack("IIII", self._exactly(16))
        return kind, self._exactly(length)

    def _exactly(self, length):
        got = b""
        while len(got) < length:
            got += self.socket.recv(length - len(got))
        return got


def main():
    domid, log = sys.argv[1:]
    udev = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
    udev.bind((0, UDEV_GROUP))
    store = Store()
    store.ask(WATCH, f"/local/domain/0/backend/qusb/{domid}", "ports")
    console = open(log, "rb")
    console.seek(0, os.SEEK_END)
    rest = b""
    tell("ready")
    while True:
        ready, _, _ = select.select([udev, store.socket], [], [], 0.02)
        if udev in ready:
            event = dict(
                pair.decode(errors="replace").split("=", 1)
                for pair in udev.recv(1 << 16).split(b"\0")
                if b"=" in pair
            )
            if event.get("DEVTYPE") == "usb_device":
                tell("udev", event["ACTION"], event["DEVPATH"].rsplit("/", 1)[-1])
        if store.socket in ready:
            _, body = store.take()
            store.events.append(body)
        while store.events:
            path = store.events.pop(0).split(b"\0")[0].decode()
            if "/port/" in path:
                tell("port", path, repr(store.ask(READ, path)))
        more = console.read()
        if more:
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                tell("guest", line.decode(errors="replace").strip())


main()
