"""Where the controller comes from, and what happens where there can be none."""

from registry import scenario
from waiting import expect, stays, until

KEYBOARD = "{match: {id: '0627:*', port: '1-1'}, attach: desk}"
STICK = "{match: {id: '46f4:0001'}, attach: desk}"

# A guest with a device model, but without a controller: its screen needs the device model.
SCREEN = "vfb = ['vnc=0']"


@scenario()
def controller_created(rig):
    """No controller in the domain's configuration: the agent makes one, with the device in it."""
    desk = rig.guests.make("desk", SCREEN).create()
    rig.agent.policy(KEYBOARD, STICK)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    place = rig.arrives(keyboard, desk)
    expect((place.controller, place.port) == (0, 1), f"it went to {place}")
    expect(rig.store.controllers(desk.domid) == {0: ("qusb", 4, 8)}, "not one controller of 8 ports")
    rig.arrives(rig.usb.plug("storage", 2), desk)
    expect(list(rig.store.controllers(desk.domid)) == [0], "a second controller was made without need")
    rig.xl_works(desk)
    rig.xl("usbctrl-detach desk 0")


@scenario()
def second_controller(rig):
    """All ports are in use: the agent makes a second controller."""
    desk = rig.guests.make("desk", "usbctrl = ['type=qusb,version=2,ports=1']").create()
    rig.agent.policy(KEYBOARD, STICK)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    first = rig.arrives(keyboard, desk)
    second = rig.arrives(rig.usb.plug("storage", 2), desk)
    expect((first.controller, second.controller) == (0, 1), f"they went to {first} and {second}")
    keyboard.pull()
    rig.leaves(keyboard, desk)
    rig.xl_works(desk, port=1)


@scenario()
def no_device_model(rig):
    """A domain without a device model: the agent says what helps, and changes nothing. Another
    domain's device arrives meanwhile."""
    desk = rig.guests.make("desk", "").create()
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy(KEYBOARD, "{match: {id: '46f4:0001'}, attach: kiosk}")
    before = rig.store.tree(f"/libxl/{desk.domid}")
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.agent.says("cannot be attached.*no device model that serves qusb.*usbctrl=")
    rig.arrives(rig.usb.plug("storage", 2), kiosk)
    expect(rig.store.tree(f"/libxl/{desk.domid}") == before, "the domain's nodes were changed")
    expect(set(keyboard.drivers().values()) == {"usbhid"}, "dom0 lost the device")
    lines = len(rig.agent.log().splitlines())
    stays("it does not try again", lambda: len(rig.agent.log().splitlines()) <= lines + 2, 5)


@scenario(long=True)
def no_frontend(rig):
    """The guest has no PVUSB frontend: the agent says so; the device follows when it is loaded."""
    desk = rig.guests.make("desk", extra="nofrontend").create()
    rig.agent.policy(KEYBOARD)
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.agent.says("cannot be attached.*no PVUSB frontend", timeout=60)
    expect(rig.store.place(keyboard.busid) is None, "a port names it all the same")
    desk.run("modprobe xen-hcd")
    rig.arrives(keyboard, desk)


@scenario()
def device_model_killed(rig):
    """A device model dies with a device in the guest: clear words at the next device, dom0 has both
    back, no endless retry, no damage to another domain."""
    desk = rig.guests.make("desk").create()
    kiosk = rig.guests.kept("kiosk")
    ports = [f"{{match: {{port: '1-{port}'}}, attach: desk}}" for port in [1, 3]]
    rig.agent.policy(*ports, "{match: {id: '46f4:0001'}, attach: kiosk}")
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, desk)
    rig.dom0.out(f"kill -9 {desk.device_model()}")
    stick = rig.usb.plug("storage", 2)
    rig.arrives(stick, kiosk)
    tablet = rig.usb.plug("tablet", 3)
    for device in [tablet, keyboard]:
        rig.agent.says(f"cannot be attached.*device={device.busid}.*device model has died.*advice")
        drivers = until(f"{device} has a driver in dom0", lambda: set(device.drivers().values()) == {"usbhid"})
        expect(drivers and rig.store.place(device.busid) is None, f"a port still names {device}")
    lines = len(rig.agent.log().splitlines())
    stays("it does not try again", lambda: len(rig.agent.log().splitlines()) <= lines + 2, 5)
    stick.pull()
    rig.leaves(stick, kiosk)
    rig.xl_works(kiosk)
    desk.destroy()


@scenario()
def device_model_dies_alone(rig):
    """A device model dies and nothing else happens: the agent says so, and dom0 has the device back."""
    desk = rig.guests.make("desk").create()
    rig.agent.policy("{match: {port: '1-1'}, attach: desk}")
    rig.agent.start()
    keyboard = rig.usb.plug("kbd", 1)
    rig.arrives(keyboard, desk)
    rig.dom0.out(f"kill -9 {desk.device_model()}")
    rig.agent.says("cannot be attached.*device=1-1.*device model has died.*advice", timeout=12)
    until("dom0 has it back", lambda: set(keyboard.drivers().values()) == {"usbhid"})
    expect(rig.store.place(keyboard.busid) is None, "a port still names it")
