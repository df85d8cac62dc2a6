"""QEMU's control socket (QEMU's docs/interop/qmp-spec.txt). Knows no devices and no Xen."""

import json
import socket

from waiting import RigFault


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r")
        self.events = []
        self._read()
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        message = {"execute": name, "arguments": arguments}
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            while True:
                answer = self._read()
                if "error" in answer:
                    raise QmpError(f"{name}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]
                self.events.append(answer)
        except (OSError, ValueError) as error:
            raise RigFault(f"QEMU does not answer: {error}") from error

    def deleted(self, device):
        """Whether QEMU has said that this device is gone."""
        self.command("query-status")
        return any(
            event["event"] == "DEVICE_DELETED" and event["data"].get("device") == device
            for event in self.events
        )

    def _read(self):
        line = self._lines.readline()
        if not line:
            raise RigFault("QEMU has ended")
        return json.loads(line)
