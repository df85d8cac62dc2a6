"""Kills the agent at a certain effect of its work on xenstore (inside/between.py)."""

import pathlib
import shutil
import time

from waiting import Failure, expect, until

SOCKET, LOG, ORDER = "/tmp/between.socket", "/tmp/between.log", "/tmp/between.order"
SOURCE = pathlib.Path(__file__).parent / "inside" / "between.py"

# The agent is killed before an effect, or after it and before it hears of it.
SIDES = ["before", "after"]

# Seconds without an effect after which there is none to come.
QUIET = 1.5


class Between:
    def __init__(self, rig):
        self._rig = rig
        shutil.copy(SOURCE, rig.machine.share)
        self._dom0, self._eyes = rig.dom0, rig.machine.eyes
        self._dom0.out(
            f"rm -f {SOCKET} {ORDER}; "
            f"setsid python3 /share/between.py {SOCKET} {LOG} {ORDER} >/tmp/between.out 2>&1 & "
            "echo $! >/tmp/between.pid"
        )
        until("the way between agent and xenstored is there", lambda: self._eyes.exists(path=SOCKET))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._dom0.run(f"kill $(cat /tmp/between.pid); rm -f {SOCKET} {ORDER}")

    def start(self, *arguments, number=None, side=None):
        """Starts the agent on that way. With a number it is killed at that effect."""
        self._dom0.out(f"rm -f {LOG} {ORDER}" if number is None else f"rm -f {LOG}; echo {number} {side} >{ORDER}")
        self._rig.agent.start(*arguments, level="info", before=f"env XENSTORED_PATH={SOCKET}")

    def effects(self):
        """What the agent has done, when it has done nothing more for a while."""
        seen = until("the agent has had an effect", self._seen)
        while True:
            time.sleep(QUIET)
            before, seen = seen, self._seen()
            if seen == before:
                return seen

    def killed(self, number, side):
        """Waits until the agent is killed. It must be: what it does is the same each time."""
        try:
            until("the agent is killed", lambda: not self._rig.agent.runs())
        except Failure as failure:
            raise Failure(f"{failure}; it had these effects: {self._seen()}") from failure
        seen = self._seen()
        expect(len(seen) == number - (side == "before"), f"it was killed after these effects: {seen}")

    def _seen(self):
        return (self._eyes.text(path=LOG) or "").splitlines()
