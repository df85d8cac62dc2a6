"""xl and the agent from the same start: the nodes that they leave, one by one with permissions.

What may differ is listed here by name, with its reason; docs/architecture.md has the same list.
"""

import json
import re

from registry import scenario
from scenarios.g_kill import SCREEN, unserved_controller
from waiting import expect, until

# The agent's own notes, and its mark of a controller that it made. xl keeps its own in a file (libxl's
# userdata), and has none here.
OURS = re.compile(r"^(/tool(/pvusb-agent.*)?|/libxl/[0-9]+/device/vusb/[0-9]+/pvusb-agent)$")

# The rings' numbers are the guest's and differ each time.
RINGS = re.compile(r"/(urb-ring-ref|conn-ring-ref|event-channel)$")


def usb_nodes(rig, domid):
    """All nodes on the host that have to do with USB; numbers that differ each time are masked."""
    found = {}
    for path, node in rig.store.tree("/").items():
        if "usb" not in path and not path.startswith("/tool"):
            continue
        value = "*" if RINGS.search(path) else node.value
        found[path] = (value, node.permissions)
    return found


def differ(what, by_xl, by_agent):
    lines = []
    for path in sorted(by_xl.keys() | by_agent.keys()):
        if by_xl.get(path) != by_agent.get(path) and not OURS.match(path):
            lines.append(f"{path}: xl {by_xl.get(path)}, agent {by_agent.get(path)}")
    expect(not lines, f"{what}:\n" + "\n".join(lines))


@scenario()
def same_nodes_as_xl(rig):
    """Controller and device added, device taken out: node by node what xl leaves; lists agree."""
    desk = rig.guests.make("desk", "vfb = ['vnc=0']").create()
    keyboard = rig.usb.plug("kbd", 1)
    rig.dom0.out("udevadm settle -t 20")
    connected = lambda: rig.store.controllers(desk.domid).get(0, ("", 0, 0))[1] == 4  # noqa: E731

    start = usb_nodes(rig, desk.domid)
    rig.xl("usbctrl-attach desk type=qusb version=2 ports=8")
    until("xl's controller connects", connected)
    xl_empty = usb_nodes(rig, desk.domid)
    rig.xl_attach(desk, keyboard, 0, 1)
    until("the guest sees it", lambda: desk.sees(keyboard))
    xl_full, xl_list = usb_nodes(rig, desk.domid), rig.xl("usb-list desk")
    rig.xl("usbdev-detach desk 0 1")
    until("the guest has lost it", lambda: not desk.sees(keyboard))
    xl_out = usb_nodes(rig, desk.domid)
    rig.xl("usbctrl-detach desk 0")
    xl_end = usb_nodes(rig, desk.domid)

    rig.agent.policy("{match: {id: '0627:0001', port: '1-1'}, attach: desk}")
    rig.agent.start("--detach-on-exit")
    rig.arrives(keyboard, desk)
    differ("with the device attached", xl_full, usb_nodes(rig, desk.domid))
    expect(rig.xl("usb-list desk") == xl_list, "xl lists it otherwise")
    rig.agent.stop()
    until("the guest has lost it", lambda: not desk.sees(keyboard))
    differ("with the device taken out", xl_out, usb_nodes(rig, desk.domid))
    differ("an empty controller", xl_empty, usb_nodes(rig, desk.domid))
    rig.xl("usbctrl-detach desk 0")
    differ("after xl has removed the agent's controller", xl_end, usb_nodes(rig, desk.domid))
    differ("at the end", start, usb_nodes(rig, desk.domid))


@scenario()
def same_controllers_as_xl(rig):
    """`pvusb-agent controller add` and `remove`, and xl's own commands for that: the same nodes with and without
    the controller, and each removes what the other has made."""
    desk = rig.guests.make("desk", SCREEN).create()
    add, remove = "controller add desk --ports 8", "controller remove desk 0"

    def by_agent(words):
        answer = rig.dom0.run(f"pvusb-agent {words}")
        expect(answer.ok, f"pvusb-agent {words}: exit code {answer.code}: {answer.out}")
        return answer.out

    def by_xl(words):
        return rig.xl(f"usbctrl-{words}")

    def nodes(connected):
        state = 4 if connected else None
        seen = lambda: rig.store.controllers(desk.domid).get(0, ("", None, 0))[1]  # noqa: E731
        until(f"the state of the controller's backend is {state}", lambda: seen() == state)
        return usb_nodes(rig, desk.domid)

    start = nodes(connected=False)
    by_xl("attach desk type=qusb version=2 ports=8")
    with_xls = nodes(connected=True)
    listed = by_agent("controller list desk")
    by_xl("detach desk 0")
    without_xls = nodes(connected=False)

    told = by_agent(add)
    expect("controller 0 of desk" in told, told)
    differ("a controller that the agent made", with_xls, nodes(connected=True))
    expect(by_agent("controller list desk") == listed, "the agent lists its own otherwise")
    by_agent(remove)
    differ("the agent's removed by the agent", without_xls, nodes(connected=False))
    by_agent(add)
    nodes(connected=True)
    by_xl("detach desk 0")
    differ("the agent's removed by xl", without_xls, nodes(connected=False))
    by_xl("attach desk type=qusb version=2 ports=8")
    nodes(connected=True)
    by_agent(remove)
    differ("xl's removed by the agent", without_xls, nodes(connected=False))
    differ("at the end", start, nodes(connected=False))


@scenario(long=True)
def same_removal_as_xl(rig):
    """A controller that nobody serves, once removed by the agent and once with `xl usbctrl-detach`: the
    same nodes are left."""
    desk = rig.guests.make("desk", SCREEN).create()
    keyboard = rig.usb.plug("kbd", 1)
    rig.dom0.out("udevadm settle -t 20")
    start = usb_nodes(rig, desk.domid)
    rig.dom0.out(f"kill -STOP {desk.device_model()}")

    unserved_controller(rig, desk, keyboard)
    same = usb_nodes(rig, desk.domid)
    rig.agent.start()
    until("the agent has removed it", lambda: not rig.store.controllers(desk.domid), 30)
    rig.agent.stop()
    by_agent = usb_nodes(rig, desk.domid)

    unserved_controller(rig, desk, keyboard)
    differ("the start", same, usb_nodes(rig, desk.domid))
    # Nobody answers xl: it waits for that, waits once more, removes the nodes and calls it a failure.
    answer = rig.dom0.run("xl usbctrl-detach desk 0", 120)
    expect("unable to remove device" in answer.out, f"somebody has served it: {answer}")
    differ("with the controller removed", usb_nodes(rig, desk.domid), by_agent)
    differ("at the end", start, by_agent)
    rig.dom0.out(f"kill -CONT {desk.device_model()}")


@scenario()
def same_list_as_xl(rig):
    """Two domains with devices from the agent and from xl: `pvusb-agent list` and `xl usb-list` tell the
    same of ports, buses and addresses."""
    kiosk = rig.guests.kept("kiosk")
    desk = rig.guests.make("desk", "usbctrl = ['type=qusb,version=2,ports=4', 'type=qusb,version=2,ports=6']").create()
    rig.agent.policy("{match: {port: '1-1'}, attach: kiosk}", "{match: {port: '1-2'}, attach: desk}")
    rig.agent.start()
    for port, guest in [(1, kiosk), (2, desk)]:
        rig.arrives(rig.usb.plug("kbd", port), guest)
    stick = rig.usb.plug("storage", 3)
    rig.xl_attach(desk, stick, 1, 6)
    until("the guest sees it", lambda: desk.sees(stick))
    rows = json.loads(rig.dom0.out("pvusb-agent list --json"))
    for guest in [kiosk, desk]:
        ours = {
            (row["controller"], row["port"]): tuple(map(int, row["bus_address"].split(".")))
            for row in rows
            if row["domid"] == guest.domid and row["domain"] == guest.name
        }
        by_xl = rig.store.listed_by_xl(guest.name)
        expect(ours == by_xl, f"{guest.name}: xl {by_xl}, agent {ours}")
    by = sorted((row["busid"], row["by"]) for row in rows)
    expect(by == [("1-1", "agent"), ("1-2", "agent"), (stick.busid, "others")], f"who attached them: {by}")
