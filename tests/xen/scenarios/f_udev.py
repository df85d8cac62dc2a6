"""udev and the device model: nothing is attached before udev has finished with it."""

from registry import scenario
from waiting import expect, stays


@scenario()
def udev_held_back(rig):
    """While udev's queue is stopped nothing is attached; the device model lives on."""
    kiosk = rig.guests.kept("kiosk")
    rig.agent.policy("{match: {id: '0627:0001'}, attach: kiosk}")
    rig.agent.start()
    model = kiosk.device_model()
    rig.dom0.out("udevadm control --stop-exec-queue")
    try:
        keyboard = rig.usb.plug("kbd", 1)
        stays("it is not attached", lambda: rig.store.place(keyboard.busid) is None, 6)
    finally:
        rig.dom0.out("udevadm control --start-exec-queue")
    rig.arrives(keyboard, kiosk)
    expect(kiosk.device_model() == model, "the device model has died")
