//! A USB test bed for real libudev: devices that come and go in a made-up sysfs, with the uevents
//! that belong to it.
//!
//! libudev is the real one. What it looks at is made up: umockdev's preload shows the bed's /sys
//! and /dev to the process under test and brings events to its monitors; `fakekernel.c` adds what
//! umockdev leaves out (/run/udev, control files whose writes have effects and errors, overruns).
//!
//! What cannot be shown: `POLLERR` on a monitor's socket when events were lost (the receive fails
//! with `ENOBUFS` as it should, but the socket is a unix socket), the kernel's own uevents
//! (`MonitorSource::Kernel`; all events are udevd's), and more than one process with a monitor on
//! the same descriptor number.
//!
//! Every file that writes into a bed goes through [`UsbBed`]. What may not be here: who takes
//! devices away from dom0's drivers and why (see [`backend`](super::backend)).

mod device;
mod kernel;
mod properties;
mod state;
mod sysfs;
mod udevd;

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

pub(crate) use device::{Child, Class, Interface, UsbDevice};
use kernel::EINVAL;
pub(crate) use kernel::{EBUSY, ENODEV, Kernel, KernelWrite};
pub(crate) use udevd::Delivery;

use super::cc;
use state::State;

/// What umockdev leaves out.
const FAKEKERNEL: &str = include_str!("fakekernel.c");

/// A machine's USB buses. Clones are the same machine, which ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct UsbBed(Arc<Inner>);

/// What the clones share.
#[derive(Debug)]
struct Inner {
    dir: TempDir,
    root: PathBuf,
    kernel: Kernel,
    state: Mutex<State>,
}

impl UsbBed {
    /// A machine without any bus.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("usb-").tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("it was just made");
        let listener = UnixListener::bind(root.join("kernel")).expect("a new socket");
        let state = Mutex::new(State::new(&root));
        let inner = Arc::new(Inner { dir, root, kernel: Kernel::default(), state });
        kernel::serve(listener, Arc::downgrade(&inner));
        Self(inner)
    }

    /// What a process needs in its environment to see this machine.
    ///
    /// # Panics
    /// When umockdev is not installed.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let fakekernel = cc::shared_library("fakekernel", FAKEKERNEL);
        let preload = format!("{}:{}", fakekernel.display(), umockdev().display());
        vec![
            ("LD_PRELOAD".to_owned(), preload),
            ("UMOCKDEV_DIR".to_owned(), self.root().display().to_string()),
        ]
    }

    /// Where the machine's `sys`, `dev` and `run` are.
    pub(crate) fn root(&self) -> &Path {
        self.0.root()
    }

    /// A path of the machine as the test can open it: `/sys/bus/usb` is `<root>/sys/bus/usb`.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// The kernel, for asking what was written and for making it misbehave.
    pub(crate) fn kernel(&self) -> &Kernel {
        &self.0.kernel
    }

    /// Adds a controller at a PCI address, and the root hub of its bus.
    pub(crate) fn host(&self, bus: u8, pci: &str) {
        {
            let mut state = self.0.lock();
            if !state.hosts.values().any(|known| known == pci) {
                state.sysfs.add_controller(pci);
            }
            state.hosts.insert(bus, pci.to_owned());
        }
        let hub =
            UsbDevice { class: [9, 0, 1], ..UsbDevice::new(&format!("usb{bus}"), 1, 0x1d6b, 2) };
        self.plug(
            &hub.named("Linux xhci-hcd", "xHCI Host Controller")
                .with_interface([9, 0, 0], Some("hub")),
        );
    }

    /// Adds the keyboard and the mouse that dom0 has without USB.
    pub(crate) fn add_desk(&self) {
        for (parent, child) in desk() {
            self.0.lock().add_child_at(parent, &child);
        }
    }

    /// Takes them away.
    pub(crate) fn remove_desk(&self) {
        for (parent, child) in desk() {
            self.0.lock().remove_child_at(parent, &child);
        }
    }

    /// Adds an input device that a program has made up.
    pub(crate) fn add_virtual_input(&self, name: &str, property: &str) {
        self.0.lock().add_child_at("devices/virtual", &Child::input(name, property));
    }

    /// Loads a driver, for example `usbback`.
    pub(crate) fn load_driver(&self, driver: &str) {
        self.0.lock().sysfs.add_driver(driver);
    }

    /// Plugs a device in: the kernel binds its drivers, udevd processes it, events are sent.
    ///
    /// # Panics
    /// When the bus or the hub that its busid names is not there, or the port is taken.
    pub(crate) fn plug(&self, device: &UsbDevice) {
        self.add_without_udev(device);
        self.udev_done(&device.busid);
    }

    /// Plugs a device in. It is in sysfs, but udevd has not yet processed it, and nobody was told.
    pub(crate) fn add_without_udev(&self, device: &UsbDevice) {
        self.0.lock().add(device);
        for interface in &device.interfaces {
            let name = device.interface_name(interface);
            if let Some(driver) = interface.driver
                && self.0.kernel.accepts(driver, &name, Some(driver))
            {
                self.0.lock().set_driver(&name, Some(driver));
            }
        }
    }

    /// udevd finishes a device that was [added without it](Self::add_without_udev).
    pub(crate) fn udev_done(&self, busid: &str) {
        self.0.lock().udev_done(busid);
    }

    /// Unplugs a device, after all that is plugged into it if it is a hub.
    ///
    /// # Panics
    /// When it is not plugged in.
    pub(crate) fn unplug(&self, busid: &str) {
        self.0.lock().remove(busid);
    }

    /// Whether a device is plugged in.
    pub(crate) fn is_plugged(&self, busid: &str) -> bool {
        self.0.lock().plugged.contains_key(busid)
    }

    /// The names of a device's interfaces; none if it is not plugged in.
    pub(crate) fn interfaces(&self, busid: &str) -> Vec<String> {
        let state = self.0.lock();
        state.plugged.get(busid).map_or_else(Vec::new, |p| p.drivers.keys().cloned().collect())
    }

    /// The driver that an interface is bound to.
    pub(crate) fn driver(&self, interface: &str) -> Option<String> {
        self.0.lock().find(interface)?.1.clone()
    }

    /// The driver that would bind to an interface by itself.
    pub(crate) fn own_driver(&self, interface: &str) -> Option<&'static str> {
        self.0.lock().own_driver(interface)
    }

    /// Whether drivers may have the interfaces of devices that are plugged in from now on: the
    /// buses' `interface_authorized_default`.
    pub(crate) fn authorize_by_default(&self, allowed: bool) {
        self.0.lock().authorized_default = allowed;
    }

    /// Whether drivers may have an interface.
    pub(crate) fn is_authorized(&self, interface: &str) -> bool {
        self.0.lock().is_authorized(interface)
    }

    /// Binds an interface to another driver or to none, whatever the driver says, as libusb does
    /// with usbfs. Nothing happens when the interface does not exist or has this driver already.
    pub(crate) fn set_driver(&self, interface: &str, driver: Option<&str>) {
        self.0.lock().set_driver(interface, driver);
    }

    /// Binds an interface to a driver as `bind` in sysfs does: 0 or an errno. It is not recorded
    /// among the kernel's writes.
    pub(crate) fn bind(&self, driver: &str, interface: &str) -> i32 {
        self.0.bind(driver, interface)
    }

    /// Changes a file of a device, or of an interface, in sysfs. No event is sent.
    pub(crate) fn set_attribute(&self, name: &str, attribute: &str, value: impl AsRef<[u8]>) {
        self.0.lock().sysfs.attribute(&format!("bus/usb/devices/{name}"), attribute, value);
    }

    /// Changes a file of a driver in sysfs.
    pub(crate) fn set_driver_attribute(&self, driver: &str, attribute: &str, value: &str) {
        self.0.lock().sysfs.attribute(&format!("bus/usb/drivers/{driver}"), attribute, value);
    }

    /// The device in this port as a number that no other device has that is ever plugged in.
    pub(crate) fn incarnation(&self, busid: &str) -> Option<u64> {
        self.0.lock().plugged.get(busid).map(|plugged| plugged.incarnation)
    }

    /// Sends an event of a device, with its properties. Nothing changes.
    pub(crate) fn uevent(&self, busid: &str, action: &str) {
        let mut state = self.0.lock();
        let record = state.device_record(busid);
        state.udevd.send(action, &record);
    }

    /// Changes the properties that udev's rules have set, as after `udevadm trigger` with new
    /// rules. No event is sent.
    pub(crate) fn set_properties(&self, busid: &str, properties: &[(&str, &str)]) {
        let mut state = self.0.lock();
        let plugged = state.plugged.get_mut(busid).expect("it is plugged in");
        let new = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        plugged.device.properties.extend(new);
        if plugged.initialized {
            let record = state.device_record(busid);
            state.udevd.store(&record);
        }
    }

    /// Sends `count` events `change` of a device and does not wait for anybody to read them. A
    /// monitor that has no room loses them, and its next receive fails with `ENOBUFS`.
    pub(crate) fn flood(&self, busid: &str, count: usize) -> Delivery {
        let mut state = self.0.lock();
        let record = state.device_record(busid);
        (0..count).fold(Delivery::default(), |sum, _| {
            let one = state.udevd.send_or_lose("change", &record);
            Delivery { delivered: sum.delivered + one.delivered, lost: sum.lost + one.lost }
        })
    }

    /// How many monitors listen: wait for this before an event that must not be missed.
    pub(crate) fn monitors(&self) -> usize {
        self.0.lock().udevd.count()
    }
}

impl Inner {
    fn root(&self) -> &Path {
        &self.root
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `bind_store` of the kernel: 0 or an errno.
    fn bind(&self, driver: &str, interface: &str) -> i32 {
        let (bound, own) = {
            let state = self.lock();
            let Some((_, bound)) = state.find(interface) else { return ENODEV };
            (bound.is_some(), state.own_driver(interface))
        };
        if bound {
            return EBUSY;
        }
        if !self.lock().is_authorized(interface) || !self.kernel.accepts(driver, interface, own) {
            return ENODEV;
        }
        self.lock().set_driver(interface, Some(driver));
        0
    }

    /// `interface_authorized_store` of the kernel: 0 or an errno.
    fn authorize(&self, interface: &str, value: &str) -> i32 {
        let allowed = match value {
            "1" => true,
            "0" => false,
            _ => return EINVAL,
        };
        let mut state = self.lock();
        if state.find(interface).is_none() {
            return ENODEV;
        }
        state.authorize(interface, allowed);
        0
    }

    /// `unbind_store` of the kernel: 0 or an errno.
    fn unbind(&self, driver: &str, interface: &str) -> i32 {
        let mut state = self.lock();
        match state.find(interface) {
            Some((_, Some(bound))) if bound == driver => {
                state.set_driver(interface, None);
                0
            }
            Some(_) | None => ENODEV,
        }
    }

    /// `drivers_probe_store` of the kernel: 0 or an errno. An interface that no driver wants is no
    /// error.
    fn probe(&self, interface: &str) -> i32 {
        let (bound, own) = {
            let state = self.lock();
            let Some((_, bound)) = state.find(interface) else { return ENODEV };
            (bound.is_some(), state.own_driver(interface))
        };
        if let Some(own) = own.filter(|_| !bound)
            && self.kernel.accepts(own, interface, Some(own))
        {
            self.lock().set_driver(interface, Some(own));
        }
        0
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Wakes the kernel's thread, which then sees that the bed is gone.
        drop(UnixStream::connect(self.root.join("kernel")));
    }
}

/// A keyboard and a mouse on PS/2.
fn desk() -> [(&'static str, Child); 2] {
    [
        ("devices/platform/i8042/serio0", Child::input("input1", "ID_INPUT_KEYBOARD")),
        ("devices/platform/i8042/serio1", Child::input("input2", "ID_INPUT_MOUSE")),
    ]
}

/// umockdev's preload library.
fn umockdev() -> PathBuf {
    const NAME: &str = "libumockdev-preload.so.0";
    let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut directories: Vec<PathBuf> = multiarch.map(|entry| entry.path()).collect();
    directories.extend(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    let found = directories.into_iter().map(|dir| dir.join(NAME)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no {NAME}: install the Debian package umockdev"))
}
