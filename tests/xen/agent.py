"""The agent in dom0: starts and ends it, and reads what it says."""

import re

from dom0 import Growing
from waiting import expect, until

PROGRAM = "/usr/bin/pvusb-agent"
POLICY = "/etc/pvusb-agent/policy.yaml"
LOG = "/tmp/agent.log"

# The longest that a healthy attachment may take here, from the plug to the guest's sight. Everything
# is about thirty times slower than on hardware.
DEADLINE = 30

# What holds unless a scenario says otherwise. Guests get dom0's only pointer here all the time, and devices
# are plugged more often than anybody would; two scenarios are about just that.
DEFAULTS = {"keep_last": "[]", "flapping": "{plugs: 0}"}


class Agent:
    def __init__(self, machine):
        self._dom0, self._eyes = machine.dom0, machine.eyes
        self._log = Growing(self._eyes, LOG)

    def policy(self, *rules, **defaults):
        """Writes the policy: each rule is a line of YAML's short form. A default of None is left at the
        agent's own."""
        said = {key: value for key, value in (DEFAULTS | defaults).items() if value is not None}
        text = "version: 1\n"
        if said:
            text += "defaults:\n" + "".join(f"  {key}: {value}\n" for key, value in said.items())
        text += "rules:\n" + "".join(f"  - {rule}\n" for rule in rules)
        self._dom0.write(POLICY, text)

    def start(self, *arguments, level="debug", before=""):
        """Starts it; what it says goes to a new log. Waits until it says that it has begun."""
        self._dom0.out(f"rm -f {LOG}")
        self._log = Growing(self._eyes, LOG)
        self.again(*arguments, level=level, before=before)
        until("the agent has begun", self._has_begun)

    def _has_begun(self):
        """It ends at once if it does not like its policy."""
        log = self.log()
        expect("error[P" not in log, f"the policy is refused: {log}")
        return "started" in log

    def again(self, *arguments, level="debug", before=""):
        """Starts it without waiting; the log goes on."""
        words = " ".join(arguments)
        self._dom0.out(
            f"PVUSB_AGENT_LOG={level} setsid {before} {PROGRAM} run {words} >>{LOG} 2>&1 & "
            "echo $! >/tmp/agent.pid"
        )

    def runs(self):
        return bool(self._eyes.processes(name="pvusb-agent"))

    def stop(self):
        """Asks it to end; it must."""
        if self.runs():
            self._dom0.run("pkill -TERM -x pvusb-agent")
            until("the agent ends when it is told to", lambda: not self.runs(), 15)

    def kill(self):
        self._dom0.run("pkill -KILL -x pvusb-agent")
        until("the agent is dead", lambda: not self.runs())

    def reload(self):
        self._dom0.out("pkill -HUP -x pvusb-agent")

    def log(self):
        return self._log.text()

    def says(self, pattern, timeout=DEADLINE):
        """Waits for a line of the log that matches."""
        return until(
            f"the agent says: {pattern}", lambda: re.search(pattern, self.log()), timeout
        )

    def said(self, pattern):
        return len(re.findall(pattern, self.log()))
