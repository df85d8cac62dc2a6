"""The agent as systemd's service, in the dom0 that runs systemd."""

import re

from agent import DEADLINE
from waiting import until

UNIT = "pvusb-agent.service"


class Service:
    def __init__(self, machine):
        self._dom0, self._eyes = machine.dom0, machine.eyes
        # Where in the journal the scenario begins.
        self._since = ""

    def begin(self):
        """What the unit has said until now does not count any more."""
        self._since = "--since=@" + self._dom0.out("printf '%(%s)T' -1")

    def systemctl(self, *words):
        """Runs it on the unit; gives the answer, whatever it is."""
        return self._dom0.run(f"systemctl {' '.join(words)} {UNIT}")

    def start(self):
        """Starts it, also after too many starts in a short time, which scenarios bring with them."""
        self.systemctl("reset-failed")
        self._dom0.out(f"systemctl start {UNIT}")

    def restart(self):
        """Starts it anew: with the policy that is there now."""
        self.systemctl("reset-failed")
        self._dom0.out(f"systemctl restart {UNIT}")

    def stop(self):
        self._dom0.out(f"systemctl stop {UNIT}")

    def property(self, name):
        return self._dom0.out(f"systemctl show -P {name} {UNIT}")

    def pid(self):
        return int(self.property("MainPID"))

    def is_active(self):
        return self.property("ActiveState") == "active"

    def journal(self):
        """All that the unit has said since the scenario began; in the first one, since the boot."""
        return self._dom0.out(f"journalctl -u {UNIT} --no-pager -o cat {self._since}")

    def says(self, pattern, timeout=DEADLINE):
        """Waits for a line of the journal that matches."""
        return until(f"the journal has: {pattern}", lambda: re.search(pattern, self.journal()), timeout, 0.5)
