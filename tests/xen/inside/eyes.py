"""Runs in dom0 and answers the driver's questions about what is there: xenstore, files, processes.
Starting a program for each takes up to two seconds on an emulated machine; this takes milliseconds.
Changes nothing and judges nothing.

A question is a line of JSON on stdin, {"ask": name, …arguments}; the answer is one on stdout.
"""

import glob
import json
import os
import re
import socket
import struct
import sys

# xenstored's wire protocol (Xen's docs/misc/xenstore.txt).
DIRECTORY, READ, GET_PERMS, WATCH, WATCH_EVENT, ERROR = 1, 2, 3, 4, 15, 16
# Requests under way at once: few enough that the socket's buffers hold them and their answers.
BATCH = 90


class Store:
    """xenstored, and what it was last asked. The driver asks for the same trees ten times a second, and as
    long as nothing there has changed, one request tells so: xenstored sends events and answers in order."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect("/run/xenstored/socket")
        self._file = self._socket.makefile("rb")
        # {question: (the path below which it was answered, answer)}
        self._known = {}
        for path in ["/", "@releaseDomain"]:
            self._send(WATCH, f"{path}\0eyes\0".encode())
            self._receive()

    def ask(self, questions):
        """[(type, path)] -> [bytes, or None for an error], in order."""
        answers = []
        for start in range(0, len(questions), BATCH):
            batch = questions[start:start + BATCH]
            for kind, path in batch:
                self._send(kind, path.encode() + b"\0")
            answers += [self._receive() for _ in batch]
        return answers

    def known(self, question, below, find):
        """The answer to a question about what is below a path: `find` gives it, unless it is known."""
        self.ask([(READ, "/")])
        if question not in self._known:
            # First, so that what changes meanwhile is heard of.
            self._known[question] = (below, None)
            answer = find()
            if question not in self._known:
                return answer
            self._known[question] = (below, answer)
        return self._known[question][1]

    def _send(self, kind, body):
        self._socket.sendall(struct.pack("IIII", kind, 0, 0, len(body)) + body)

    def _receive(self):
        while True:
            kind, _, _, length = struct.unpack("IIII", self._file.read(16))
            body = self._file.read(length)
            if kind != WATCH_EVENT:
                return None if kind == ERROR else body
            self._forget(body.split(b"\0")[0].decode())

    def _forget(self, changed):
        """A node, and what is below it, is not what it was."""
        if changed.startswith("@"):
            self._known.clear()
        for question, (below, _) in list(self._known.items()):
            if _is_below(changed, below) or _is_below(below, changed):
                del self._known[question]


def _is_below(path, other):
    return path == other or other == "/" or path.startswith(f"{other}/")


store = Store()


def tree(path):
    """Every node at and below a path: {path: [value, permissions]}."""
    return store.known(("tree", path), path, lambda: _tree(path))


def domid(name):
    """The domain of that name; None if there is none."""
    return store.known(("domid", name), "/local/domain", lambda: _domid(name))


def _tree(path):
    found, level = {}, [path]
    while level:
        answers = store.ask([(kind, node) for node in level for kind in (READ, GET_PERMS, DIRECTORY)])
        below = []
        for at, node in enumerate(level):
            value, permissions, names = answers[3 * at:3 * at + 3]
            if value is None and permissions is None:
                continue
            words = (permissions or b"").split(b"\0")
            found[node] = [(value or b"").decode("latin-1"), b",".join(word for word in words if word).decode()]
            base = "" if node == "/" else node
            below += [f"{base}/{name.decode()}" for name in (names or b"").split(b"\0") if name]
        level = below
    return found


def _domid(name):
    names = (store.ask([(DIRECTORY, "/local/domain")])[0] or b"").split(b"\0")
    domids = [one.decode() for one in names if one]
    values = store.ask([(READ, f"/local/domain/{one}/name") for one in domids])
    return next((int(one) for one, value in zip(domids, values) if value == name.encode()), None)


def text(path, start=0):
    """What stands in a file from there on; None if there is no such file, or it is shorter."""
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) < start:
                return None
            file.seek(start)
            return file.read().decode("latin-1")
    except OSError:
        return None


def size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def exists(path):
    return os.path.exists(path)


def saying(pattern, words):
    """The files of that pattern in which these words stand."""
    return [path for path in glob.glob(pattern) if words in (text(path) or "")]


def drivers(busid):
    """The driver of each interface; empty where there is none."""
    found = {}
    for interface in glob.glob(f"/sys/bus/usb/devices/{busid}/*:*"):
        link = f"{interface}/driver"
        found[os.path.basename(interface)] = os.path.basename(os.readlink(link)) if os.path.islink(link) else ""
    return found


def processes(name, argument=""):
    """The processes whose name begins so and whose command line has this in it; not the dead."""
    found = []
    for status in glob.glob("/proc/[0-9]*/stat"):
        try:
            stat = open(status).read()
            comm, state = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2]
            # Only of those in question: there are a hundred processes, and this is asked all the time.
            if not comm.startswith(name) or state == "Z":
                continue
            line = open(status[:-4] + "cmdline").read().replace("\0", " ")
        except OSError:
            continue
        if argument in line:
            found.append(int(status.split("/")[2]))
    return found


def usb():
    """The busids of all devices that are plugged."""
    return [name for name in os.listdir("/sys/bus/usb/devices") if re.fullmatch(r"\d+-[\d.]+", name)]


def kernel(start):
    """What the kernel has said since its boot, without the first lines."""
    while True:
        try:
            # `priority,number,time,flags;text` (Documentation/ABI/testing/dev-kmsg).
            line = os.read(_kmsg, 8192).decode("latin-1")
        except BlockingIOError:
            return _said[start:]
        except BrokenPipeError:
            # Lines were overwritten before they were read: it goes on with those that are left.
            continue
        _said.append(line.split(";", 1)[1].split("\n")[0])


_kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
_said = []

QUESTIONS = {f.__name__: f for f in [tree, domid, text, size, exists, saying, drivers, processes, usb, kernel]}

print("eyes", flush=True)
for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps(QUESTIONS[question.pop("ask")](**question)), flush=True)
