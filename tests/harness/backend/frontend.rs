//! The guest's driver (Linux `xen-hcd`), for all controllers of one domain. It writes nothing but
//! the guest's own nodes.

use super::super::xenstored::{Fault, RawClient, Xenstored};
use super::paths;
use super::worker::{Role, Worker};

/// A running guest that has the driver.
#[derive(Debug)]
pub(crate) struct Frontend(Worker<Guest>);

#[derive(Debug)]
struct Guest {
    domid: u32,
    stubborn: bool,
}

impl Frontend {
    /// The guest's driver, for the controllers that exist and those to come.
    pub(crate) fn start(xenstored: &Xenstored, domid: u32) -> Self {
        let watched = [
            format!("{}/device", paths::home(domid)),
            paths::backends("qusb", domid),
            paths::backends("vusb", domid),
        ];
        Self(Worker::start(xenstored.socket(), &watched, Guest { domid, stubborn: false }))
    }

    /// The guest hangs, or goes on.
    pub(crate) fn pause(&self, pause: bool) {
        self.0.pause(pause);
    }

    /// From now on it does not let go of a controller whose backend closes.
    pub(crate) fn hold_on(&self) {
        self.0.role().stubborn = true;
    }
}

impl Role for Guest {
    fn look(&mut self, store: &mut RawClient) -> Result<(), Fault> {
        let controllers = format!("{}/device/vusb", paths::home(self.domid));
        for devid in store.directory(&controllers)? {
            let fe = format!("{controllers}/{devid}");
            let Some(be) = store.get(&format!("{fe}/backend"))? else { continue };
            let backend = store.get(&format!("{be}/state"))?.unwrap_or_default();
            let state = store.get(&format!("{fe}/state"))?.unwrap_or_default();
            match (backend.as_str(), state.as_str()) {
                ("2" | "3" | "4", "1") => store.transact(|store| {
                    // Never back to life: the node may have gone since.
                    store.read(&format!("{fe}/state"))?;
                    store.write(&format!("{fe}/urb-ring-ref"), "8")?;
                    store.write(&format!("{fe}/conn-ring-ref"), "9")?;
                    store.write(&format!("{fe}/event-channel"), "8")?;
                    store.write(&format!("{fe}/state"), "4")
                })?,
                ("5" | "6", "1" | "4") if !self.stubborn => store.transact(|store| {
                    store.read(&format!("{fe}/state"))?;
                    store.write(&format!("{fe}/state"), "6")
                })?,
                _ => {}
            }
        }
        Ok(())
    }
}
