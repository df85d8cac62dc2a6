//! libxl, as far as xenstore sees it: how domains and their USB controllers are made and destroyed.
//! It waits for nobody.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::usb::UsbBed;
use super::super::xenstored::{Fault, Hypervisor, RawClient, Xenstored};
use super::{libxl, paths};

/// The type of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Paravirtualised.
    Pv,
    /// Paravirtualised in hardware's container.
    Pvh,
    /// Fully virtualised.
    Hvm,
}

impl Kind {
    /// The word in `/libxl/<domid>/type`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
        }
    }
}

/// A domain as its configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Its number while it lives.
    pub(crate) domid: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its identity over reboots.
    pub(crate) uuid: String,
    /// Its type.
    pub(crate) kind: Kind,
    /// Whether it has a QEMU that serves `qusb`.
    pub(crate) qusb: bool,
}

impl Guest {
    /// A PV domain with a QEMU, and an UUID that depends on the name.
    pub(crate) fn new(domid: u32, name: &str) -> Self {
        let mark = name.bytes().fold(0u64, |mark, byte| (mark * 257 + u64::from(byte)) % (1 << 48));
        let uuid = format!("9d8d8be0-4455-4226-9494-{mark:012x}");
        Self { domid, name: name.to_owned(), uuid, kind: Kind::Pv, qusb: true }
    }

    /// The same as another type.
    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same without a QEMU that serves `qusb`.
    pub(crate) fn without_qusb(mut self) -> Self {
        self.qusb = false;
        self
    }

    /// The file that libxl writes last.
    fn userdata(&self) -> String {
        format!("userdata-d.{}.{}.libxl-json", self.domid, self.uuid)
    }
}

/// A virtual USB controller as `xl usbctrl-attach` makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    /// Its number in the domain.
    pub(crate) devid: u32,
    /// `qusb` or `pv`.
    pub(crate) kind: &'static str,
    /// The USB version.
    pub(crate) version: u32,
    /// How many ports it has.
    pub(crate) ports: u32,
}

impl Controller {
    /// What xl makes without options: for QEMU, USB 2, 8 ports.
    pub(crate) fn qusb(devid: u32) -> Self {
        Self { devid, kind: "qusb", version: 2, ports: 8 }
    }

    /// The same for the kernel's usbback.
    pub(crate) fn pv(devid: u32) -> Self {
        Self { kind: "pv", ..Self::qusb(devid) }
    }

    /// The directory of its backend.
    pub(crate) fn backend(self, domid: u32) -> String {
        let kind = if self.kind == "pv" { "vusb" } else { "qusb" };
        format!("{}/{}", paths::backends(kind, domid), self.devid)
    }
}

/// The toolstack of a machine.
#[derive(Debug)]
pub(crate) struct Toolstack {
    store: RawClient,
    hypervisor: Hypervisor,
    userdata: PathBuf,
    bed: Option<UsbBed>,
}

impl Toolstack {
    /// The toolstack of the machine whose store this is. It keeps its files in `userdata`
    /// (`/var/lib/xen` of a real machine).
    pub(crate) fn new(xenstored: &Xenstored, userdata: &Path) -> Self {
        let mut store = xenstored.client();
        // What xen-init-dom0 writes when the machine starts.
        store.write("/local/domain/0/domid", "0").expect("dom0 may write");
        store.write("/local/domain/0/name", "Domain-0").expect("dom0 may write");
        Self { store, hypervisor: xenstored.hypervisor(), userdata: userdata.to_owned(), bed: None }
    }

    /// The same on a machine with these USB devices: [`destroy`](Self::destroy) then leaves
    /// controllers behind that name a device that is not there, as libxl does.
    pub(crate) fn on(mut self, bed: &UsbBed) -> Self {
        self.bed = Some(bed.clone());
        self
    }

    /// Makes a domain: all that `xl create` does.
    pub(crate) fn create(&mut self, guest: &Guest) {
        self.begin(guest);
        self.finish(guest);
    }

    /// The first part of it: the domain's nodes, and its introduction. There is no device but the
    /// console.
    pub(crate) fn begin(&mut self, guest: &Guest) {
        self.hypervisor.create(guest.domid);
        self.store.transact(|store| libxl::make(store, guest)).expect("the domain is new");
        self.store.transact(|store| libxl::build(store, guest)).expect("the domain is new");
        self.hypervisor.introduce(guest.domid);
        self.store
            .transact(|store| libxl::add_console(store, guest.domid))
            .expect("the domain is new");
    }

    /// The last part: the device model runs, and the file that says that all is done.
    pub(crate) fn finish(&mut self, guest: &Guest) {
        self.start_device_model(guest);
        self.finish_without_device_model(guest);
    }

    /// The same for a domain that needs no device model.
    pub(crate) fn finish_without_device_model(&mut self, guest: &Guest) {
        let text = format!(
            "{{\"c_info\":{{\"type\":\"{}\",\"name\":\"{}\",\"uuid\":\"{}\"}},\"b_info\":{{}}}}",
            guest.kind.word(),
            guest.name,
            guest.uuid
        );
        fs::write(self.userdata.join(guest.userdata()), text).expect("the test's directory");
    }

    /// The nodes of a device model that runs.
    pub(crate) fn start_device_model(&mut self, guest: &Guest) {
        let (domid, model) = (guest.domid, paths::device_model(guest.domid));
        let mut start = || -> Result<(), Fault> {
            let kinds = ["console", "vkbd", "9pfs", "qusb", "vfb", "qnic"];
            for kind in kinds.into_iter().filter(|kind| guest.qusb || *kind != "qusb") {
                let node = format!("{model}/backends/{kind}");
                self.store.mkdir(&node)?;
                self.store.set_perms(&node, &["n0", &format!("n{domid}")])?;
            }
            self.store.write(&format!("{model}/state"), "running")?;
            // Some process that lives as long as the test.
            let pid = std::process::id().to_string();
            self.store.write(&format!("{}/image/device-model-pid", paths::home(domid)), &pid)
        };
        start().expect("dom0 may write");
    }

    /// The device model of a domain is this process.
    pub(crate) fn run_device_model_as(&mut self, guest: &Guest, pid: u32) {
        let node = format!("{}/image/device-model-pid", paths::home(guest.domid));
        self.store.write(&node, pid.to_string()).expect("dom0 may write");
    }

    /// A device model that was started and has not said yet that it runs.
    pub(crate) fn begin_device_model(&mut self, guest: &Guest) {
        let state = format!("{}/state", paths::device_model(guest.domid));
        self.store.write(&state, "").expect("dom0 may write");
    }

    /// `xl rename`.
    pub(crate) fn rename(&mut self, guest: &mut Guest, name: &str) {
        name.clone_into(&mut guest.name);
        let nodes =
            [format!("{}/name", paths::home(guest.domid)), format!("/vm/{}/name", guest.uuid)];
        self.store
            .transact(|store| nodes.iter().try_for_each(|node| store.write(node, name)))
            .expect("dom0 may write");
    }

    /// The guest powers off. Nothing is cleaned up.
    pub(crate) fn shut_down(&self, guest: &Guest) {
        self.hypervisor.shutdown(guest.domid);
    }

    /// The domain vanishes from the hypervisor. Nothing is cleaned up but what xenstored removes by
    /// itself.
    pub(crate) fn die(&self, guest: &Guest) {
        self.hypervisor.destroy(guest.domid);
    }

    /// `xl destroy`, in libxl's order; but it does not wait for backends.
    pub(crate) fn destroy(&mut self, guest: &Guest) {
        self.clean_up(guest);
        self.hypervisor.destroy(guest.domid);
    }

    /// The same for a domain that has vanished already.
    pub(crate) fn clean_up(&mut self, guest: &Guest) {
        let (domid, store) = (guest.domid, &mut self.store);
        let bed = self.bed.as_ref();
        let mut clean = || -> Result<(), Fault> {
            store.rm(&paths::device_model(domid))?;
            for devid in store.directory(&format!("{}/device/vusb", paths::libxl(domid)))? {
                let devid = devid.parse().expect("a controller's number");
                libxl::remove_controller(store, bed, domid, devid)?;
            }
            store.transact(|store| {
                libxl::remove_and_prune(
                    store,
                    &format!("{}/0", paths::backends("console", domid)),
                )?;
                libxl::remove_and_prune(store, &format!("{}/device/console/0", paths::libxl(domid)))
            })?;
            store.rm(&format!("/vm/{}", guest.uuid))?;
            store.rm(&paths::home(domid))?;
            store.rm(&paths::libxl(domid))
        };
        clean().expect("dom0 may remove");
        // A domain whose creation was never finished has no such file.
        drop(fs::remove_file(self.userdata.join(guest.userdata())));
    }

    /// A reboot as xl does it: the domain is destroyed, and made again with another number.
    pub(crate) fn reboot(&mut self, guest: &Guest, domid: u32) -> Guest {
        self.shut_down(guest);
        self.destroy(guest);
        let again = Guest { domid, ..guest.clone() };
        self.create(&again);
        again
    }

    /// `xl usbctrl-attach`, for `qusb` and `pv`.
    pub(crate) fn usbctrl_attach(&mut self, guest: &Guest, controller: Controller) {
        let result =
            self.store.transact(|store| libxl::add_controller(store, guest.domid, controller));
        result.expect("the domain exists");
    }

    /// `xl usbctrl-detach`, of a controller whose backend is done with it.
    pub(crate) fn usbctrl_detach(&mut self, guest: &Guest, devid: u32) {
        libxl::remove_controller(&mut self.store, self.bed.as_ref(), guest.domid, devid)
            .expect("dom0 may remove");
    }

    /// `xl usbdev-attach`, for `qusb`: the plain write, without any check.
    pub(crate) fn usbdev_attach(
        &mut self,
        guest: &Guest,
        controller: Controller,
        (port, busid): (u32, &str),
    ) {
        let node = format!("{}/port/{port}", controller.backend(guest.domid));
        self.store.write(&node, busid).expect("dom0 may write");
    }

    /// `xl usbdev-detach`, for `qusb`.
    pub(crate) fn usbdev_detach(&mut self, guest: &Guest, controller: Controller, port: u32) {
        self.usbdev_attach(guest, controller, (port, ""));
    }
}
