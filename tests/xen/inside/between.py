"""Runs in dom0 between the agent and xenstored, hands on what they say, and kills the agent at one effect
of its work: before the effect, or after it and before its answer. The same effect is the same instant of
the work, however busy the machine is and whatever the agent reads meanwhile.

An effect is a commit of a transaction that changes something, or a change outside of one. What does not
succeed, as a commit in conflict, is none.

    between.py SOCKET LOG ORDER

The agent connects to SOCKET. Each effect is a line in LOG. ORDER is a file, read when the agent connects:
the number of an effect, from 1, and `before` or `after`. Without it nobody is killed.
"""

import os
import select
import signal
import socket
import struct
import sys

# xenstored's wire protocol (Xen's io/xs_wire.h).
HEADER = struct.Struct("IIII")
TRANSACTION_END, WRITE, MKDIR, RM, SET_PERMS, ERROR = 7, 11, 12, 13, 14, 16
CHANGES = {WRITE: "write", MKDIR: "mkdir", RM: "rm", SET_PERMS: "set_perms"}
XENSTORED = "/run/xenstored/socket"


def messages(buffer):
    """Takes the whole messages out of a buffer: (type, request, transaction, payload, all bytes)."""
    while len(buffer) >= HEADER.size:
        kind, request, transaction, length = HEADER.unpack_from(buffer)
        end = HEADER.size + length
        if len(buffer) < end:
            return
        whole = bytes(buffer[:end])
        del buffer[:end]
        yield kind, request, transaction, whole[HEADER.size:], whole


class Connection:
    """One connection of the agent, from its beginning to its end."""

    def __init__(self, agent, log, order):
        self._agent, self._log = agent, log
        self._store = socket.socket(socket.AF_UNIX)
        self._store.connect(XENSTORED)
        credentials = agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self._pid = struct.unpack("iII", credentials)[0]
        self._effects = 0
        # The number of the effect at which to kill, and whether before it.
        self._at, self._before = order
        # Transactions that have changed something.
        self._changed = set()
        # What was sent and would be an effect if it succeeds: {request: what}.
        self._tried = {}

    def serve(self):
        """Hands on until one of them ends, or the agent is killed."""
        from_agent, from_store = bytearray(), bytearray()
        while True:
            for ready in select.select([self._agent, self._store], [], [])[0]:
                try:
                    more = ready.recv(1 << 16)
                except ConnectionError:
                    return
                if not more:
                    return
                buffer = from_agent if ready is self._agent else from_store
                buffer += more
                hand_on = self._asked if ready is self._agent else self._answered
                if not all(hand_on(*message) for message in messages(buffer)):
                    return

    def end(self):
        self._agent.close()
        self._store.close()

    def _asked(self, kind, request, transaction, payload, whole):
        if kind in CHANGES and transaction:
            self._changed.add(transaction)
        elif kind in CHANGES or kind == TRANSACTION_END and payload == b"T\0" and transaction in self._changed:
            if self._at == self._effects + 1 and self._before:
                return self._kill()
            path = payload.split(b"\0")[0].decode()
            self._tried[request] = f"{CHANGES[kind]} {path}" if kind in CHANGES else "commit"
        if kind == TRANSACTION_END:
            self._changed.discard(transaction)
        self._store.sendall(whole)
        return True

    def _answered(self, kind, request, transaction, payload, whole):
        what = self._tried.pop(request, None)
        if what is not None and kind != ERROR:
            self._effects += 1
            print(self._effects, what, file=self._log, flush=True)
            if self._at == self._effects and not self._before:
                return self._kill()
        self._agent.sendall(whole)
        return True

    def _kill(self):
        os.kill(self._pid, signal.SIGKILL)
        return False


def ordered(path):
    try:
        number, side = open(path).read().split()
        return int(number), side == "before"
    except OSError:
        return None, False


def main():
    place, log, order = sys.argv[1:]
    door = socket.socket(socket.AF_UNIX)
    door.bind(place)
    door.listen()
    while True:
        agent, _ = door.accept()
        with open(log, "a") as lines:
            connection = Connection(agent, lines, ordered(order))
            try:
                connection.serve()
            except ConnectionError:
                pass
            finally:
                connection.end()


main()
