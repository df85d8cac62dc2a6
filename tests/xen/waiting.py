"""Waiting with a deadline, and how a scenario says that it failed. Nothing here knows Xen."""

import time


# Deadlines are for a machine that boots within this. One that takes longer is slow, or busy with other
# things, and gets the same share more time.
USUAL_BOOT = 30.0

_patience = 1.0


def be_patient(boot_seconds):
    """Sets the pace of all deadlines by how long the boot took."""
    global _patience
    _patience = max(1.0, boot_seconds / USUAL_BOOT)


class Failure(Exception):
    """What was to be is not: the scenario has failed."""


class RigFault(Exception):
    """The rig itself is broken; what it says about the agent is worth nothing."""


# How long to wait between two questions, at first and at last: each takes time from what is waited for.
FIRST_PAUSE, LAST_PAUSE = 0.05, 0.4


def until(what, probe, timeout=20.0, pause=FIRST_PAUSE):
    """Asks `probe` until it gives something true, and returns that."""
    timeout *= _patience
    end = time.monotonic() + timeout
    while True:
        seen = probe()
        if seen:
            return seen
        if time.monotonic() > end:
            raise Failure(f"not within {timeout:g} s: {what}")
        time.sleep(pause)
        pause = max(pause, min(LAST_PAUSE, pause * 1.3))


def stays(what, probe, seconds):
    """Asks `probe` for that long; it must give something true each time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not probe():
            raise Failure(f"not for {seconds:g} s: {what}")
        time.sleep(0.2)


def expect(condition, what):
    if not condition:
        raise Failure(what)
