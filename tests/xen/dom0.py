"""The ways into dom0, over virtio ports: a root shell, and eyes for what is asked again and again.
Knows nothing of what the commands mean."""

import dataclasses
import json
import shlex
import socket
import time
import uuid

from waiting import RigFault


@dataclasses.dataclass
class Answer:
    code: int
    out: str

    @property
    def ok(self):
        return self.code == 0


class Shell:
    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._rest = b""

    def greet(self, timeout=30):
        """Waits until the shell is there. What is sent before may be lost, so it is sent again."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            token = uuid.uuid4().hex
            self._socket.sendall(f"echo @{token}@\n".encode())
            if self._until(f"@{token}@\n".encode(), 1.0) is not None:
                return
        raise RigFault("dom0's shell does not answer")

    def run(self, command, timeout=60):
        """Runs it with no input; gives its exit code and all that it wrote."""
        token = uuid.uuid4().hex[:12]
        line = f'{{ {command}\n}} 2>&1 </dev/null; echo "@{token}@$?@"\n'
        self._socket.sendall(line.encode())
        out = self._until(f"@{token}@".encode(), timeout)
        code = self._until(b"@\n", timeout) if out is not None else None
        if code is None:
            raise RigFault(f"no answer within {timeout} s from dom0 to: {command}")
        return Answer(int(code), out.decode(errors="replace"))

    def out(self, command, timeout=60):
        """What it wrote, without blanks around; it must succeed."""
        answer = self.run(command, timeout)
        if not answer.ok:
            raise RigFault(f"in dom0, exit code {answer.code}: {command}\n{answer.out}")
        return answer.out.strip()

    def write(self, path, text):
        self.out(f"printf %s {shlex.quote(text)} >{shlex.quote(path)}")

    def become_eyes(self, program):
        """Replaces the shell by inside/eyes.py."""
        # Not `python3 -u`: the port takes 32 KiB at once, and without a buffer Python forgets the rest.
        self._socket.sendall(f"exec python3 {program}\n".encode())
        if self._until(b"eyes\n", 60) is None:
            raise RigFault("dom0's eyes do not open")
        return Eyes(self)

    def ask(self, line, timeout=60):
        self._socket.sendall(line.encode() + b"\n")
        answer = self._until(b"\n", timeout)
        if answer is None:
            raise RigFault(f"no answer within {timeout} s from dom0 to: {line}")
        return answer

    def _until(self, mark, timeout):
        """All bytes before the mark, or None if it does not come."""
        end = time.monotonic() + timeout
        while mark not in self._rest:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError:
                return None
            except OSError as error:
                raise RigFault(f"dom0's shell is gone: {error}") from error
            if not more:
                raise RigFault("dom0's shell is gone")
            self._rest += more
        before, self._rest = self._rest.split(mark, 1)
        return before


class Eyes:
    """The questions that inside/eyes.py answers."""

    def __init__(self, port):
        self._port = port

    def __getattr__(self, name):
        def ask(**arguments):
            answer = self._port.ask(json.dumps({"ask": name, **arguments}))
            try:
                return json.loads(answer)
            except ValueError as error:
                raise RigFault(f"dom0's eyes are closed: {answer[:200]!r}") from error

        return ask


class Growing:
    """A file in dom0 that only grows, until it is begun anew. What was read is not read again."""

    def __init__(self, eyes, path, start=0):
        self._eyes, self._path, self._start = eyes, path, start
        self._seen = ""

    def text(self):
        """What stands in it from the start on; empty as long as there is no such file."""
        # One byte is one character: eyes.py gives the text as Latin 1.
        more = self._eyes.text(path=self._path, start=self._start + len(self._seen))
        if more is None:
            self._seen = more = ""
        self._seen += more
        return self._seen
