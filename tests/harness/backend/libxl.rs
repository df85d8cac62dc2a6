//! The nodes that libxl writes and removes, and in which order. Who calls for it, and when, is not
//! here.

use super::super::usb::UsbBed;
use super::super::xenstored::{Fault, RawClient};
use super::paths;
use super::toolstack::{Controller, Guest};

/// `libxl__domain_make`: one transaction.
pub(super) fn make(store: &mut RawClient, guest: &Guest) -> Result<(), Fault> {
    let (home, vm, libxl) =
        (paths::home(guest.domid), format!("/vm/{}", guest.uuid), paths::libxl(guest.domid));
    let (reader, owner) = (format!("r{}", guest.domid), format!("n{}", guest.domid));
    for (dir, perms) in [
        (&home, &["n0", &reader][..]),
        (&vm, &["n0", &reader]),
        (&libxl, &["n0"]),
        (&format!("{libxl}/device"), &["n0"]),
    ] {
        store.rm(dir)?;
        store.mkdir(dir)?;
        store.set_perms(dir, perms)?;
    }
    store.write(&format!("{home}/vm"), &vm)?;
    store.write(&format!("{home}/name"), &guest.name)?;
    for dir in ["cpu", "memory", "device", "control"] {
        store.mkdir(&format!("{home}/{dir}"))?;
    }
    for dir in [
        "device/suspend/event-channel",
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    ] {
        store.mkdir(&format!("{home}/{dir}"))?;
        store.set_perms(&format!("{home}/{dir}"), &[&owner])?;
    }
    for feature in ["multiprocessor-suspend", "xs_reset_watches"] {
        store.write(&format!("{home}/control/platform-feature-{feature}"), "1")?;
    }
    store.write(&format!("{vm}/name"), &guest.name)?;
    store.write(&format!("{vm}/uuid"), &guest.uuid)?;
    store.write(&format!("{libxl}/type"), guest.kind.word())?;
    store.write(&format!("{libxl}/dm-version"), "qemu_xen")
}

/// `libxl__build_post`.
pub(super) fn build(store: &mut RawClient, guest: &Guest) -> Result<(), Fault> {
    let home = paths::home(guest.domid);
    for (node, value) in [
        ("memory/static-max", "196608"),
        ("memory/target", "196608"),
        ("memory/videoram", "0"),
        ("domid", &guest.domid.to_string()),
        ("store/port", "1"),
        ("store/ring-ref", "586241"),
        ("cpu/0/availability", "online"),
    ] {
        store.write(&format!("{home}/{node}"), value)?;
    }
    Ok(())
}

/// `libxl__device_console_add`: the one device that each domain has.
pub(super) fn add_console(store: &mut RawClient, domid: u32) -> Result<(), Fault> {
    let (fe, be, lx) = (
        format!("{}/console", paths::home(domid)),
        format!("{}/0", paths::backends("console", domid)),
        format!("{}/device/console/0", paths::libxl(domid)),
    );
    store.write(&format!("{fe}/backend"), &be)?;
    store.write(&format!("{fe}/backend-id"), "0")?;
    store.set_perms(&format!("{fe}/backend-id"), &[&format!("n{domid}"), "r0"])?;
    store.write(&format!("{fe}/type"), "xenconsoled")?;
    store.write(&format!("{lx}/backend"), &be)?;
    store.write(&format!("{lx}/frontend"), &fe)?;
    store.mkdir(&be)?;
    store.set_perms(&be, &["n0", &format!("r{domid}")])?;
    store.write(&format!("{be}/frontend"), &fe)?;
    for dir in [&be, &lx] {
        for (node, value) in [
            ("frontend-id", domid.to_string().as_str()),
            ("online", "1"),
            ("state", "1"),
            ("protocol", "vt100"),
        ] {
            store.write(&format!("{dir}/{node}"), value)?;
        }
    }
    Ok(())
}

/// `libxl__device_usbctrl_add_xenstore`, inside its transaction.
pub(super) fn add_controller(
    store: &mut RawClient,
    domid: u32,
    controller: Controller,
) -> Result<(), Fault> {
    let (fe, be, lx) = (
        paths::frontend(domid, controller.devid),
        controller.backend(domid),
        paths::libxl_device(domid, controller.devid),
    );
    let owner = format!("n{domid}");
    store.write(&format!("{lx}/frontend"), &fe)?;
    store.write(&format!("{lx}/backend"), &be)?;
    store.mkdir(&fe)?;
    store.set_perms(&fe, &[&owner, "r0"])?;
    store.write(&format!("{fe}/backend"), &be)?;
    store.write(&format!("{fe}/backend-id"), "0")?;
    store.write(&format!("{fe}/state"), "1")?;
    store.mkdir(&be)?;
    store.set_perms(&be, &["n0", &format!("r{domid}")])?;
    store.write(&format!("{be}/frontend"), &fe)?;
    for dir in [&be, &lx] {
        for (node, value) in [
            ("frontend-id", domid.to_string()),
            ("online", "1".to_owned()),
            ("state", "1".to_owned()),
            ("type", controller.kind.to_owned()),
            ("usb-ver", controller.version.to_string()),
            ("num-ports", controller.ports.to_string()),
            ("port", String::new()),
        ] {
            store.write(&format!("{dir}/{node}"), value)?;
        }
        for port in 1..=controller.ports {
            store.write(&format!("{dir}/port/{port}"), "")?;
        }
    }
    Ok(())
}

/// `libxl__initiate_device_usbctrl_remove` without its waiting: ports first, then all nodes in one
/// transaction. A port that names a device that is not there makes libxl give up: everything stays.
pub(super) fn remove_controller(
    store: &mut RawClient,
    bed: Option<&UsbBed>,
    domid: u32,
    devid: u32,
) -> Result<(), Fault> {
    let (fe, lx) = (paths::frontend(domid, devid), paths::libxl_device(domid, devid));
    let Some(be) = store.get(&format!("{lx}/backend"))? else { return Ok(()) };
    let mut used = Vec::new();
    let pv = store.get(&format!("{lx}/type"))?.as_deref() == Some("pv");
    for port in store.directory(&format!("{be}/port"))? {
        let node = format!("{be}/port/{port}");
        let busid = store.get(&node)?.unwrap_or_default();
        if !busid.is_empty() {
            if bed.is_some_and(|bed| !bed.is_plugged(&busid)) {
                return Ok(());
            }
            used.push((node, busid));
        }
    }
    for (node, busid) in used {
        match bed.filter(|_| pv) {
            Some(bed) => take_from_usbback(store, bed, &node, &busid)?,
            None => store.write(&node, "")?,
        }
    }
    store.transact(|store| {
        for path in [&fe, &lx, &be] {
            remove_and_prune(store, path)?;
        }
        Ok(())
    })
}

/// `libxl__device_usbdev_remove` for `pv`: all interfaces are unbound, the port is cleared, and each
/// driver that was noted gets its interface back.
pub(super) fn take_from_usbback(
    store: &mut RawClient,
    bed: &UsbBed,
    port: &str,
    busid: &str,
) -> Result<(), Fault> {
    let interfaces = bed.interfaces(busid);
    for interface in &interfaces {
        if bed.driver(interface).as_deref() == Some("usbback") {
            bed.set_driver(interface, None);
        }
    }
    store.write(port, "")?;
    let notes = format!("/libxl/usbback/{}", encode(busid));
    for interface in &interfaces {
        let note = format!("{notes}/{}/driver_path", encode(interface));
        let driver = store.get(&note)?;
        if let Some(driver) = driver.as_deref().and_then(|path| path.rsplit('/').next()) {
            // libxl does not look at what comes of it either.
            bed.bind(driver, interface);
        }
    }
    store.rm(&notes)
}

/// `usb_interface_xenstore_encode`.
fn encode(name: &str) -> String {
    name.replace('.', "_").replace(':', "@")
}

/// `libxl__xs_path_cleanup`: removes a node, and then its parents as far up as they are empty.
pub(super) fn remove_and_prune(store: &mut RawClient, path: &str) -> Result<(), Fault> {
    store.rm(path)?;
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        let empty = store.get(parent)?.is_some_and(|value| value.is_empty());
        if !empty || !store.directory(parent)?.is_empty() {
            break;
        }
        store.rm(parent)?;
        path = parent;
    }
    Ok(())
}
