//! QEMU's backend `qusb` (`hw/usb/xen-usb.c`, `hw/xen/xen-legacy-backend.c`), of one domain: what
//! it does with controllers and ports, and with the host's devices. There is no data path.

use std::collections::BTreeMap;

use super::super::usb::UsbBed;
use super::super::xenstored::{Fault, RawClient, Xenstored};
use super::paths;
use super::worker::{Role, Worker};

/// A running QEMU. When it is dropped it just stops; see [`kill`](Self::kill) for a death.
#[derive(Debug)]
pub(crate) struct Qemu(Worker<Backend>);

#[derive(Debug)]
struct Backend {
    domid: u32,
    bed: UsbBed,
    mute: bool,
    controllers: BTreeMap<u32, Controller>,
    aborts: Vec<String>,
    ignored: Vec<String>,
}

/// A controller as QEMU sees it.
#[derive(Debug, Default)]
struct Controller {
    /// Found in another state than 1: QEMU never serves it.
    unserved: bool,
    /// The state that QEMU has brought it to.
    state: u32,
    ports: BTreeMap<u32, HostDevice>,
}

/// The object `usb-host` that QEMU makes for a port.
#[derive(Debug)]
struct HostDevice {
    busid: String,
    /// Which device was opened; none while it is not there.
    open: Option<u64>,
    /// The kernel's drivers that were detached, by interface.
    detached: Vec<(String, Option<String>)>,
}

impl Qemu {
    /// The QEMU of a domain, with the machine's USB devices.
    pub(crate) fn start(xenstored: &Xenstored, bed: &UsbBed, domid: u32) -> Self {
        let watched =
            [paths::backends("qusb", domid), format!("{}/device/vusb", paths::home(domid))];
        let backend = Backend {
            domid,
            bed: bed.clone(),
            mute: false,
            controllers: BTreeMap::new(),
            aborts: Vec::new(),
            ignored: Vec::new(),
        };
        Self(Worker::start(xenstored.socket(), &watched, backend))
    }

    /// QEMU hangs, or goes on: for a QEMU that is late.
    pub(crate) fn pause(&self, pause: bool) {
        self.0.pause(pause);
    }

    /// From now on it connects controllers, but does nothing about ports; or works again.
    pub(crate) fn mute(&self, mute: bool) {
        self.0.role().mute = mute;
    }

    /// It dies. The host's devices are closed, and their interfaces stay without a driver.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }

    /// The devices that it has open, by controller and port.
    pub(crate) fn held(&self) -> BTreeMap<(u32, u32), String> {
        let backend = self.0.role();
        let controllers = backend.controllers.iter();
        controllers
            .flat_map(|(devid, controller)| {
                let open = controller.ports.iter().filter(|(_, device)| device.open.is_some());
                open.map(|(port, device)| ((*devid, *port), device.busid.clone()))
            })
            .collect()
    }

    /// What would have made the real QEMU abort: ports that named a device that is not there. A
    /// test asserts that there is nothing.
    pub(crate) fn aborts(&self) -> Vec<String> {
        self.0.role().aborts.clone()
    }

    /// Changes of a port from one device to another without the empty value between, which the real
    /// QEMU does not see.
    pub(crate) fn ignored(&self) -> Vec<String> {
        self.0.role().ignored.clone()
    }
}

impl Role for Backend {
    fn look(&mut self, store: &mut RawClient) -> Result<(), Fault> {
        let root = paths::backends("qusb", self.domid);
        let names = store.directory(&root)?;
        let found: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let gone: Vec<u32> =
            self.controllers.keys().copied().filter(|devid| !found.contains(devid)).collect();
        for devid in gone {
            let controller = self.controllers.remove(&devid).expect("it was just found");
            controller.ports.into_values().for_each(|device| self.close(device));
        }
        for devid in found {
            // Taken out while it is worked on; put back whatever happens.
            let mut controller = self.controllers.remove(&devid).unwrap_or_default();
            let result = self.look_at(store, &format!("{root}/{devid}"), &mut controller);
            self.controllers.insert(devid, controller);
            result?;
        }
        Ok(())
    }

    fn die(&mut self) {
        for controller in std::mem::take(&mut self.controllers).into_values() {
            for device in controller.ports.into_values() {
                if device.open.is_some() && device.open == self.bed.incarnation(&device.busid) {
                    for (interface, _) in device.detached {
                        self.bed.set_driver(&interface, None);
                    }
                }
            }
        }
    }
}

impl Backend {
    /// `xen_be_check_state`: goes on from state to state as far as it can.
    fn look_at(
        &mut self,
        store: &mut RawClient,
        be: &str,
        controller: &mut Controller,
    ) -> Result<(), Fault> {
        if controller.unserved {
            return Ok(());
        }
        if controller.state == 0 {
            // The directory may be there before its nodes are, but the toolstack makes both in one
            // transaction.
            let Some(state) = number(store, &format!("{be}/state"))? else { return Ok(()) };
            controller.unserved = state != 1;
            controller.state = 1;
            return self.look_at(store, be, controller);
        }
        let frontend = match store.get(&format!("{be}/frontend"))? {
            Some(fe) => number(store, &format!("{fe}/state"))?.unwrap_or(0),
            None => return Ok(()),
        };
        if controller.state == 1 {
            let online = number(store, &format!("{be}/online"))?;
            let ports = number(store, &format!("{be}/num-ports"))?.filter(|n| (1..=31).contains(n));
            let version = number(store, &format!("{be}/usb-ver"))?.filter(|v| [1, 2].contains(v));
            if online != Some(1) || ports.is_none() || version.is_none() {
                return Ok(());
            }
            self.look_at_ports(store, be, controller)?;
            store.write(&format!("{be}/hotplug-status"), "connected")?;
            Self::set_state(store, be, controller, 2)?;
        }
        match (controller.state, frontend) {
            (2, 3 | 4) => Self::set_state(store, be, controller, 4)?,
            (2 | 4, 5 | 6) | (5, 6) => Self::set_state(store, be, controller, frontend)?,
            (6, 1) => Self::set_state(store, be, controller, 1)?,
            _ => {}
        }
        self.look_at_ports(store, be, controller)?;
        if controller.state == 4 {
            self.claim(controller);
        }
        Ok(())
    }

    /// Writes a state, unless the controller has gone.
    fn set_state(
        store: &mut RawClient,
        be: &str,
        controller: &mut Controller,
        state: u32,
    ) -> Result<(), Fault> {
        store.transact(|store| {
            store.read(&format!("{be}/state"))?;
            store.write(&format!("{be}/state"), state.to_string())
        })?;
        controller.state = state;
        Ok(())
    }

    /// `usbback_process_port`, for each port.
    fn look_at_ports(
        &mut self,
        store: &mut RawClient,
        be: &str,
        controller: &mut Controller,
    ) -> Result<(), Fault> {
        if self.mute {
            return Ok(());
        }
        let count = number(store, &format!("{be}/num-ports"))?.unwrap_or(0);
        for port in 1..=count {
            let Some(busid) = store.get(&format!("{be}/port/{port}"))? else { continue };
            let held = controller.ports.get(&port).map(|device| device.busid.clone());
            match held {
                Some(_) if busid.is_empty() => {
                    let device = controller.ports.remove(&port).expect("it was just found");
                    self.close(device);
                }
                Some(held) if held != busid => {
                    let change = format!("{be}/port/{port}: {held} -> {busid}");
                    if !self.ignored.contains(&change) {
                        self.ignored.push(change);
                    }
                }
                None if busid.contains('-') => {
                    if !self.bed.is_plugged(&busid) {
                        self.aborts.push(format!("{be}/port/{port} = {busid}: no such device"));
                    }
                    // `vmstate_register_with_alias_id`: the state of a device is named by its port
                    // number alone. The controller that is looked at is not among the others.
                    if self.controllers.values().any(|other| other.ports.contains_key(&port)) {
                        self.aborts.push(format!("{be}/port/{port} = {busid}: number in use"));
                    }
                    let device = HostDevice { busid, open: None, detached: Vec::new() };
                    controller.ports.insert(port, device);
                }
                Some(_) | None => {}
            }
        }
        // `usb_host_auto_timer`: opens whatever is in the physical port, and notices when it has
        // gone.
        for device in controller.ports.values_mut() {
            let there = self.bed.incarnation(&device.busid);
            if there != device.open {
                device.open = there;
                self.open(device);
            }
        }
        Ok(())
    }

    /// `usb_host_open`: detaches the kernel's drivers.
    fn open(&self, device: &mut HostDevice) {
        device.detached.clear();
        for interface in self.bed.interfaces(&device.busid) {
            let driver = self.bed.driver(&interface);
            self.bed.set_driver(&interface, None);
            device.detached.push((interface, driver));
        }
    }

    /// The guest has set a configuration: the interfaces are claimed.
    fn claim(&self, controller: &Controller) {
        for device in controller.ports.values().filter(|device| device.open.is_some()) {
            for (interface, _) in &device.detached {
                self.bed.set_driver(interface, Some("usbfs"));
            }
        }
    }

    /// `usb_host_close`: attaches the kernel's drivers again.
    fn close(&self, device: HostDevice) {
        if device.open.is_none() || device.open != self.bed.incarnation(&device.busid) {
            return;
        }
        for (interface, driver) in device.detached {
            self.bed.set_driver(&interface, None);
            if let Some(driver) = driver {
                // A driver that refuses leaves the interface without one, as in the real kernel.
                self.bed.bind(&driver, &interface);
            }
        }
    }
}

/// A node's value as a number; none if there is no such node or no number in it.
fn number(store: &mut RawClient, path: &str) -> Result<Option<u32>, Fault> {
    Ok(store.get(path)?.and_then(|value| value.parse().ok()))
}
