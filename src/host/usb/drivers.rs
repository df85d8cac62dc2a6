//! Takes interfaces from drivers and gives them to drivers.
//!
//! Every call is one order to the kernel and its answer; none tries again. All of them may block
//! for seconds while a driver probes or lets go: not for the thread that must not wait.

use super::driver_dir::DriverDir;
use super::error::Error;
use super::sysfs;
use crate::model::{BusId, InterfaceName, Place};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The drivers of USB interfaces, as sysfs lets them be handled
/// (`Documentation/ABI/testing/sysfs-bus-usb`, `drivers/base/bus.c`).
#[derive(Clone, Debug)]
pub struct Drivers {
    /// `/sys/bus/usb`, or what stands for it in a test.
    bus: PathBuf,
}

impl Default for Drivers {
    fn default() -> Self {
        Self::new()
    }
}

impl Drivers {
    /// This host's drivers.
    pub fn new() -> Self {
        Self { bus: "/sys/bus/usb".into() }
    }

    /// The driver that has `interface`. `None`: it has none, or is gone.
    ///
    /// # Errors
    ///
    /// When the link cannot be read, or leads elsewhere than to a driver of USB interfaces.
    pub fn driver_dir(&self, interface: &InterfaceName) -> Result<Option<DriverDir>, Error> {
        let link = self.interface(interface).join("driver");
        let target = match fs::canonicalize(&link) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            target => target.map_err(|error| Error::from_io(&link, &error))?,
        };
        let drivers = self.bus.join("drivers");
        let drivers =
            fs::canonicalize(&drivers).map_err(|error| Error::from_io(&drivers, &error))?;
        let name = target.strip_prefix(drivers).ok().and_then(Path::to_str);
        let dir = name.and_then(|name| DriverDir::from_name(name).ok());
        let what = "does not lead to a driver";
        dir.map(Some).ok_or(Error::Malformed { path: link, what })
    }

    /// Takes `interface` from the driver that has it. It is no error if none has it or if it is
    /// gone.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when the interface went to another driver meanwhile; others as they come.
    pub fn unbind(&self, interface: &InterfaceName) -> Result<(), Error> {
        let Some(driver) = self.driver_dir(interface)? else { return Ok(()) };
        let path = self.driver(&driver).join("unbind");
        match sysfs::write(&path, &interface.to_string()) {
            // Either the driver let go by itself, or the interface is gone.
            Err(Error::Gone { .. }) if self.driver_dir(interface)?.is_none() => Ok(()),
            Err(Error::Gone { path }) => Err(Error::Busy { path, source: Errno::ENODEV }),
            answer => answer,
        }
    }

    /// Gives `interface`, which has no driver, to `driver`. It is no error if `driver` has it
    /// already.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the interface or the driver is gone; [`Error::Busy`] when another
    /// driver has it; [`Error::Refused`] when the driver does not take it.
    pub fn bind(&self, interface: &InterfaceName, driver: &DriverDir) -> Result<(), Error> {
        if self.driver_dir(interface)?.as_ref() == Some(driver) {
            return Ok(());
        }
        let path = self.driver(driver).join("bind");
        match sysfs::write(&path, &interface.to_string()) {
            Err(Error::Gone { path }) => self.why_not_bound(interface, driver, path),
            Err(Error::Busy { .. }) if self.driver_dir(interface)?.as_ref() == Some(driver) => {
                Ok(())
            }
            answer => answer,
        }
    }

    /// Lets the kernel find a driver for `interface`. It is no error if it finds none.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the interface is gone; [`Error::Refused`] when the driver that was
    /// found failed.
    pub fn probe(&self, interface: &InterfaceName) -> Result<(), Error> {
        match sysfs::write(&self.bus.join("drivers_probe"), &interface.to_string()) {
            // `drivers/base/bus.c: drivers_probe_store` says EINVAL for whatever a driver says.
            Err(Error::Io { path, source: Errno::EINVAL }) => {
                Err(Error::Refused { path, source: Errno::EINVAL })
            }
            answer => answer,
        }
    }

    /// Says whether drivers may have `interface` (`drivers/usb/core/sysfs.c:
    /// interface_authorized_store`). A driver that has it loses it with the permission; with the
    /// permission alone none is looked for. It is no error if it was so already.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the interface is gone; others as they come.
    pub fn authorize(&self, interface: &InterfaceName, allowed: bool) -> Result<(), Error> {
        let path = self.interface(interface).join("authorized");
        sysfs::write(&path, if allowed { "1" } else { "0" })
    }

    /// Whether usbback has seen that this port, and no other, names the device: it then lists it in
    /// `port_ids`, a line `busid:domid:handle:port` each (`usbstub.c: usbstub_show_portids`). A port that
    /// was cleared is listed until usbback has noticed, and as long as it is, an interface may be taken for
    /// that one. `None`: there is no such list.
    ///
    /// # Errors
    ///
    /// When the list is there but cannot be read.
    pub fn usbback_knows(&self, busid: &BusId, place: Place) -> Result<Option<bool>, Error> {
        let list = sysfs::read(&self.driver(&DriverDir::usbback()).join("port_ids"))?;
        let Place { domid, controller, port } = place;
        let (device, there) = (format!("{busid}:"), format!("{domid}:{controller}:{port}"));
        let is_only = |list: Vec<u8>| {
            let lines = list.split(|byte| *byte == b'\n');
            let its = lines.filter_map(|line| line.strip_prefix(device.as_bytes()));
            its.collect::<Vec<_>>() == [there.as_bytes()]
        };
        Ok(list.map(is_only))
    }

    /// The interfaces that usbback has.
    ///
    /// # Errors
    ///
    /// When its directory cannot be read. If usbback is not loaded it has none.
    pub fn on_usbback(&self) -> Result<BTreeSet<InterfaceName>, Error> {
        let names = sysfs::names(&self.driver(&DriverDir::usbback()))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The kernel says ENODEV for everything; older ones also when another driver has the
    /// interface (`drivers/base/bus.c: bind_store`).
    fn why_not_bound(
        &self,
        interface: &InterfaceName,
        driver: &DriverDir,
        path: PathBuf,
    ) -> Result<(), Error> {
        let source = Errno::ENODEV;
        for part in [self.interface(interface), self.driver(driver)] {
            if !sysfs::exists(&part) {
                return Err(Error::Gone { path: part });
            }
        }
        match self.driver_dir(interface)? {
            Some(owner) if owner == *driver => Ok(()),
            Some(_) => Err(Error::Busy { path, source }),
            None => Err(Error::Refused { path, source }),
        }
    }

    fn interface(&self, interface: &InterfaceName) -> PathBuf {
        self.bus.join("devices").join(interface.to_string())
    }

    fn driver(&self, driver: &DriverDir) -> PathBuf {
        self.bus.join("drivers").join(driver.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ControllerId;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A bus with the drivers usbhid and usbback, and one interface. Files stand for the kernel:
    /// they keep what was written and do nothing about it.
    struct Bus {
        root: TempDir,
        drivers: Drivers,
    }

    impl Bus {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let bus = root.path().to_owned();
            for driver in ["usbhid", "usbback"] {
                let dir = bus.join("drivers").join(driver);
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join("bind"), "").unwrap();
                fs::write(dir.join("unbind"), "").unwrap();
            }
            fs::write(bus.join("drivers_probe"), "").unwrap();
            fs::create_dir_all(bus.join("devices/1-1:1.0")).unwrap();
            Self { root, drivers: Drivers { bus } }
        }

        fn bound_to(driver: &str) -> Self {
            let bus = Self::new();
            bus.link(&format!("../../drivers/{driver}"));
            bus
        }

        fn link(&self, target: &str) {
            symlink(target, self.root.path().join("devices/1-1:1.0/driver")).unwrap();
        }

        fn written(&self, file: &str) -> String {
            fs::read_to_string(self.root.path().join(file)).unwrap()
        }
    }

    fn interface() -> InterfaceName {
        "1-1:1.0".parse().unwrap()
    }

    fn usbhid() -> DriverDir {
        DriverDir::from_name("usbhid").unwrap()
    }

    #[test]
    fn the_driver_is_told_as_libxl_stores_it() {
        let bus = Bus::bound_to("usbhid");
        let dir = bus.drivers.driver_dir(&interface()).unwrap().unwrap();
        assert_eq!(dir.to_string(), "/sys/bus/usb/drivers/usbhid");
        assert_eq!(Bus::new().drivers.driver_dir(&interface()), Ok(None));
    }

    #[test]
    fn a_link_to_elsewhere_is_no_driver() {
        for target in ["../..", "../../drivers", "../../drivers/usbhid/bind", "/"] {
            let bus = Bus::new();
            bus.link(target);
            let dir = bus.drivers.driver_dir(&interface());
            assert!(matches!(dir, Err(Error::Malformed { .. })), "{target}");
        }
    }

    #[test]
    fn unbinding_goes_to_the_driver_that_has_it() {
        let bus = Bus::bound_to("usbhid");
        assert_eq!(bus.drivers.unbind(&interface()), Ok(()));
        assert_eq!(bus.written("drivers/usbhid/unbind"), "1-1:1.0");
    }

    #[test]
    fn unbinding_what_has_no_driver_or_is_gone_is_done() {
        let bus = Bus::new();
        assert_eq!(bus.drivers.unbind(&interface()), Ok(()));
        assert_eq!(bus.drivers.unbind(&"9-9:1.0".parse().unwrap()), Ok(()));
        assert_eq!(bus.written("drivers/usbhid/unbind"), "");
    }

    #[test]
    fn binding_writes_once_and_not_when_it_is_bound() {
        let bus = Bus::new();
        assert_eq!(bus.drivers.bind(&interface(), &usbhid()), Ok(()));
        assert_eq!(bus.written("drivers/usbhid/bind"), "1-1:1.0");
        let bus = Bus::bound_to("usbhid");
        assert_eq!(bus.drivers.bind(&interface(), &usbhid()), Ok(()));
        assert_eq!(bus.written("drivers/usbhid/bind"), "");
    }

    #[test]
    fn a_bind_that_fails_says_what_to_do() {
        // Without its file `bind` a driver here answers "no such thing", as ENODEV would be.
        let deaf = |bus: &Bus| fs::remove_file(bus.root.path().join("drivers/usbhid/bind"));
        let bind = |bus: &Bus| bus.drivers.bind(&interface(), &usbhid());

        let bus = Bus::new();
        deaf(&bus).unwrap();
        assert!(matches!(bind(&bus), Err(Error::Refused { .. })));

        let bus = Bus::bound_to("usbback");
        deaf(&bus).unwrap();
        assert!(matches!(bind(&bus), Err(Error::Busy { .. })));

        let bus = Bus::new();
        fs::remove_dir_all(bus.root.path().join("drivers/usbhid")).unwrap();
        let path = bus.root.path().join("drivers/usbhid");
        assert_eq!(bind(&bus), Err(Error::Gone { path }));

        let bus = Bus::new();
        deaf(&bus).unwrap();
        fs::remove_dir_all(bus.root.path().join("devices/1-1:1.0")).unwrap();
        let path = bus.root.path().join("devices/1-1:1.0");
        assert_eq!(bind(&bus), Err(Error::Gone { path }));
    }

    #[test]
    fn probing_goes_to_the_bus() {
        let bus = Bus::new();
        assert_eq!(bus.drivers.probe(&interface()), Ok(()));
        assert_eq!(bus.written("drivers_probe"), "1-1:1.0");
    }

    #[test]
    fn usbback_knows_a_device_when_its_list_has_that_port_of_it_alone() {
        let bus = Bus::new();
        let knows = |busid: &str, port: u8| {
            let (domid, port) = ("5".parse().unwrap(), port.to_string().parse().unwrap());
            let place = Place { domid, controller: ControllerId::FIRST, port };
            bus.drivers.usbback_knows(&busid.parse().unwrap(), place)
        };
        assert_eq!(knows("1-1", 1), Ok(None));
        let list = bus.root.path().join("drivers/usbback/port_ids");
        fs::write(&list, "1-1.4:5:0:1\n2-1:5:0:2\n").unwrap();
        assert_eq!(knows("1-1.4", 1), Ok(Some(true)));
        assert_eq!(knows("2-1", 2), Ok(Some(true)));
        assert_eq!(knows("2-1", 1), Ok(Some(false)), "it is in a port that was cleared");
        assert_eq!(knows("1-1", 1), Ok(Some(false)), "the beginning of another's name");
        fs::write(&list, "1-1.4:5:0:1\n1-1.4:5:0:2\n").unwrap();
        assert_eq!(knows("1-1.4", 2), Ok(Some(false)), "the other may be the one that counts");
    }

    #[test]
    fn usbbacks_interfaces_are_told_from_its_files() {
        let bus = Bus::new();
        assert_eq!(bus.drivers.on_usbback(), Ok(BTreeSet::new()));
        symlink("../../devices/1-1:1.0", bus.root.path().join("drivers/usbback/1-1:1.0")).unwrap();
        assert_eq!(bus.drivers.on_usbback(), Ok([interface()].into()));
        fs::remove_dir_all(bus.root.path().join("drivers/usbback")).unwrap();
        assert_eq!(bus.drivers.on_usbback(), Ok(BTreeSet::new()));
    }
}
