"""A guest that means harm to its own nodes of xenstore must not harm another guest."""

from registry import scenario
from waiting import expect, stays, until

# Lines of the log, at `debug`, that one attack of some seconds may cost.
PATIENCE = 400


def attacked(rig, kind):
    kiosk = rig.guests.kept("kiosk")
    mallory = rig.guests.make("mallory").create()
    rig.agent.policy("{match: {port: '1-1'}, attach: kiosk}", "{match: {port: '1-2'}, attach: mallory}")
    rig.agent.start()
    mallory.type(f"nonsense {kind} &")
    rig.usb.plug("kbd", 2)
    for _ in range(2):
        keyboard = rig.usb.plug("kbd", 1)
        rig.arrives(keyboard, kiosk)
        keyboard.pull()
        rig.leaves(keyboard, kiosk)
    # It is at its fastest while nobody else wants the processor.
    stays("the agent runs", rig.agent.runs, 10)
    mallory.type("killall nonsense")
    until("the attack is over", lambda: "GUEST nonsense" in mallory.text())
    lines = len(rig.agent.log().splitlines())
    expect(lines < PATIENCE, f"the agent wrote {lines} lines")
    rig.xl_works(kiosk)
    told = [line for line in mallory.text().splitlines() if "GUEST nonsense" in line]
    return f"{told[-1].removeprefix('GUEST ')}; {lines} lines of log"


@scenario(long=True)
def hostile_states(rig):
    """Flips the frontend's state, as fast as it can."""
    return attacked(rig, "states")


@scenario(long=True)
def hostile_paths(rig):
    """Writes nonsense into its frontend's nodes, and makes frontends that never were."""
    return attacked(rig, "paths")


@scenario(long=True)
def hostile_delete(rig):
    """Deletes its frontend, over and over."""
    return attacked(rig, "delete")


@scenario(long=True)
def hostile_transactions(rig):
    """Commits transactions as fast as it can."""
    return attacked(rig, "transactions")
