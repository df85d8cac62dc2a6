//! Moving interfaces between dom0's drivers and usbback, and back.
//!
//! A write to sysfs can block for seconds, so each is made on a thread of its own, off the loop.

use super::Performer;
use super::error::{Changed, Failure};
use crate::host::nodes::driver_path;
use crate::host::usb::{self, DriverDir, Drivers};
use crate::model::{BusId, ControllerKind, InterfaceName, Place, Plug};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

/// How often usbback is asked whether it has noticed a port, before which it takes no interface of
/// its device (`usbstub.c: usbstub_probe`). With the pauses, five seconds and more.
const NOTICE_TRIES: u32 = 50;

/// How long to wait between two questions: usbback tells nobody when it has noticed.
const PAUSE: Duration = Duration::from_millis(100);

/// How often an interface is offered to a usbback that lists its device. One refusal may be due to a list
/// that is just being changed.
const LISTED_TRIES: u32 = 3;

impl Performer {
    pub(super) async fn take_interfaces(
        &self,
        busid: &BusId,
        plug: Plug,
        place: Place,
        interfaces: &[InterfaceName],
    ) -> Result<(), Failure> {
        // Before anything is unbound: as long as usbback has not seen the port, it takes nothing.
        let is_listed = self.wait_until_noticed(busid, place).await?;
        let tries = if is_listed { LISTED_TRIES } else { NOTICE_TRIES };
        self.expect_unused(busid).await?;
        for interface in interfaces {
            // The next plug in this port has interfaces of the same names and was not decided about.
            if self.usb.device_number(busid)? != Some(plug.address.device) {
                return Err(Changed::Device(busid.clone()).into());
            }
            match self.take_interface(interface, tries).await {
                // What it refuses and lists no more, it may take later.
                Err(Failure::NotTaken(_)) if self.knows(busid, place).await? == Some(false) => {
                    return Err(Failure::NotNoticed(busid.clone()));
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Waits until usbback lists the device in this port. `false`: this usbback has no list.
    async fn wait_until_noticed(&self, busid: &BusId, place: Place) -> Result<bool, Failure> {
        for _ in 0..NOTICE_TRIES {
            match self.knows(busid, place).await? {
                Some(true) => return Ok(true),
                Some(false) => sleep(PAUSE).await,
                None => return Ok(false),
            }
        }
        Err(Failure::NotNoticed(busid.clone()))
    }

    async fn knows(&self, busid: &BusId, place: Place) -> Result<Option<bool>, Failure> {
        let busid = busid.clone();
        self.off_loop(move |drivers| drivers.usbback_knows(&busid, place)).await
    }

    async fn take_interface(&self, interface: &InterfaceName, tries: u32) -> Result<(), Failure> {
        let name = interface.clone();
        let driver = self.off_loop(move |drivers| drivers.driver_dir(&name)).await?;
        match driver {
            Some(driver) if driver == DriverDir::usbback() => return Ok(()),
            // The driver is noted before it is unbound: the other way round, a crash forgets it.
            Some(driver) if driver.is_way_back() => {
                self.xs.write(&driver_path(interface), driver.to_string().as_bytes()).await?;
            }
            Some(_) | None => {}
        }
        let name = interface.clone();
        self.off_loop(move |drivers| drivers.unbind(&name)).await?;

        for _ in 0..tries {
            let name = interface.clone();
            let bind = move |drivers: &Drivers| drivers.bind(&name, &DriverDir::usbback());
            match self.off_loop(bind).await {
                Err(Failure::Usb(usb::Error::Refused { .. })) => sleep(PAUSE).await,
                other => return other,
            }
        }
        Err(Failure::NotTaken(interface.clone()))
    }

    /// Takes interfaces from usbback, and from nobody else: another plug may be there by now, and its
    /// drivers are dom0's.
    pub(super) async fn release_interfaces(
        &self,
        interfaces: &[InterfaceName],
    ) -> Result<(), Failure> {
        for interface in interfaces {
            let name = interface.clone();
            self.off_loop(move |drivers| {
                let is_usbbacks = drivers.driver_dir(&name)? == Some(DriverDir::usbback());
                if is_usbbacks { drivers.unbind(&name) } else { Ok(()) }
            })
            .await?;
        }
        Ok(())
    }

    /// Binds each interface to the driver that it had, or lets the kernel look for one; then forgets
    /// what was noted. If a driver does not come back, the notes stay for the next try.
    pub(super) async fn return_drivers(
        &self,
        busid: &BusId,
        kind: ControllerKind,
        interfaces: &[InterfaceName],
    ) -> Result<(), Failure> {
        let noted = match kind {
            ControllerKind::Pv => self.xen.drivers(busid).await?,
            ControllerKind::Qusb | ControllerKind::DeviceModel => BTreeMap::new(),
        };
        self.bind_again(interfaces, &noted).await?;
        self.forget(busid).await
    }

    /// Binds each interface to the driver that is noted for it, or lets the kernel look for one.
    pub(super) async fn bind_again(
        &self,
        interfaces: &[InterfaceName],
        noted: &BTreeMap<InterfaceName, Box<str>>,
    ) -> Result<(), Failure> {
        for interface in interfaces {
            let name = interface.clone();
            // A path out of xenstore becomes a path in sysfs only if it names a driver and no more.
            let driver = noted
                .get(interface)
                .and_then(|path| path.parse::<DriverDir>().ok())
                .filter(DriverDir::is_way_back);
            self.off_loop(move |drivers| match driver {
                Some(driver) => drivers.bind(&name, &driver),
                None => drivers.probe(&name),
            })
            .await?;
        }
        Ok(())
    }

    pub(super) async fn off_loop<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Drivers) -> Result<T, usb::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let drivers = self.drivers.clone();
        Ok(tokio::task::spawn_blocking(move || work(&drivers)).await??)
    }
}
