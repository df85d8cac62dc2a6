//! The kernel's backend `usbback` (out of tree), of all domains: when it serves a controller, and
//! which interfaces its driver accepts. There is no data path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::usb::UsbBed;
use super::super::xenstored::{Fault, RawClient, Xenstored};
use super::worker::{Role, Worker};

/// Where the controllers of all domains are.
const BACKENDS: &str = "/local/domain/0/backend/vusb";

/// The loaded module.
#[derive(Debug)]
pub(crate) struct Usbback(Worker<Module>);

/// A port: domain, controller, number.
type Port = (u32, u32, u32);
/// The module's one list: which port each busid is in.
type Ports = BTreeMap<Port, String>;

#[derive(Debug)]
struct Module {
    bed: UsbBed,
    ports: Arc<Mutex<Ports>>,
    mute: bool,
    failures: Vec<String>,
}

impl Usbback {
    /// Loads the module.
    pub(crate) fn load(xenstored: &Xenstored, bed: &UsbBed) -> Self {
        bed.load_driver("usbback");
        bed.set_driver_attribute("usbback", "port_ids", "");
        let ports = Arc::new(Mutex::new(Ports::new()));
        let listed = Arc::clone(&ports);
        bed.kernel().gate("usbback", move |interface| {
            let busid = interface.split(':').next().unwrap_or_default();
            listed.lock().unwrap_or_else(PoisonError::into_inner).values().any(|b| b == busid)
        });
        let module = Module { bed: bed.clone(), ports, mute: false, failures: Vec::new() };
        // The frontends' states have no watch of their own: the worker's ticks find them.
        Self(Worker::start(xenstored.socket(), &[BACKENDS.to_owned()], module))
    }

    /// It hangs, or goes on.
    pub(crate) fn pause(&self, pause: bool) {
        self.0.pause(pause);
    }

    /// From now on it connects controllers, but does not look at ports; or works again.
    pub(crate) fn mute(&self, mute: bool) {
        self.0.role().mute = mute;
    }

    /// The ports that it has seen: domain, controller and number, with the busid.
    pub(crate) fn ports(&self) -> BTreeMap<Port, String> {
        self.0.role().ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the real module does not survive or rejects: ports that were cleared or changed while
    /// an interface was bound. A test asserts that there is nothing.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.0.role().failures.clone()
    }
}

impl Role for Module {
    fn look(&mut self, store: &mut RawClient) -> Result<(), Fault> {
        let (mut seen, mut ended) = (Ports::new(), BTreeSet::new());
        for domid in numbers(store, BACKENDS)? {
            for devid in numbers(store, &format!("{BACKENDS}/{domid}"))? {
                if self.look_at(store, (domid, devid), &mut seen)? {
                    ended.insert((domid, devid));
                }
            }
        }
        self.update(seen, &ended);
        Ok(())
    }
}

impl Module {
    /// Brings a controller on its way, and adds its ports to `seen` if it is connected. Tells
    /// whether it is at its end.
    fn look_at(
        &self,
        store: &mut RawClient,
        (domid, devid): (u32, u32),
        seen: &mut Ports,
    ) -> Result<bool, Fault> {
        let be = format!("{BACKENDS}/{domid}/{devid}");
        let Some(fe) = store.get(&format!("{be}/frontend"))? else { return Ok(false) };
        let frontend = store.get(&format!("{fe}/state"))?.unwrap_or_default();
        let state = store.get(&format!("{be}/state"))?.unwrap_or_default();
        let next = match (state.as_str(), frontend.as_str()) {
            ("1", _) => "2",
            ("2", "4") => "4",
            ("2" | "4" | "5", "6" | "") => "6",
            _ => state.as_str(),
        };
        if next != state {
            store.transact(|store| {
                store.read(&format!("{be}/state"))?;
                store.write(&format!("{be}/state"), next)
            })?;
        }
        if next == "4" && !self.mute {
            for port in numbers(store, &format!("{be}/port"))? {
                let busid = store.get(&format!("{be}/port/{port}"))?.unwrap_or_default();
                if !busid.is_empty() {
                    seen.insert((domid, devid, port), busid);
                }
            }
        }
        Ok(next == "6")
    }

    /// Makes what was seen the list, except where the real module would not follow. That a
    /// controller ends under a bound interface is nobody's fault: its guest has died.
    fn update(&mut self, mut seen: Ports, ended: &BTreeSet<(u32, u32)>) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if *ports == seen {
            return;
        }
        for (port, old) in &*ports {
            if seen.get(port) == Some(old) || ended.contains(&(port.0, port.1)) {
                continue;
            }
            let interfaces = self.bed.interfaces(old);
            let bound =
                interfaces.iter().filter(|i| self.bed.driver(i).as_deref() == Some("usbback"));
            for interface in bound {
                self.failures.push(format!("port {port:?} lost {old} while {interface} was bound"));
            }
            // A change from one device to another is refused: the old one stays.
            if let Some(new) = seen.get_mut(port) {
                self.failures.push(format!("port {port:?} was changed from {old} to {new}"));
                new.clone_from(old);
            }
        }
        let lines = seen.iter().fold(String::new(), |mut lines, ((domid, devid, port), busid)| {
            writeln!(lines, "{busid}:{domid}:{devid}:{port}").expect("a string");
            lines
        });
        self.bed.set_driver_attribute("usbback", "port_ids", &lines);
        *ports = seen;
    }
}

/// A node's children that are numbers.
fn numbers(store: &mut RawClient, path: &str) -> Result<Vec<u32>, Fault> {
    Ok(store.directory(path)?.iter().filter_map(|name| name.parse().ok()).collect())
}
