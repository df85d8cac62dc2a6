//! A host for one test: xenstored, a USB bus, a toolstack, domains with their doubles, and the agent
//! on top. It says what is there; the tests say what should be.

use crate::harness::agent::Agent;
use crate::harness::backend::{Frontend, Guest, Kind, Qemu, Toolstack, Usbback};
use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::usb::UsbBed;
use crate::harness::xenstored::{Flavor, Proxy, Xenstored};
use std::fs;
use std::path::PathBuf;

/// A host.
pub(crate) struct World {
    pub(crate) xenstored: Xenstored,
    /// Between the agent and xenstored.
    pub(crate) proxy: Proxy,
    pub(crate) bed: UsbBed,
    pub(crate) toolstack: Toolstack,
    dir: tempfile::TempDir,
}

/// A domain with everything that serves it.
pub(crate) struct Domain {
    pub(crate) guest: Guest,
    pub(crate) qemu: Qemu,
    pub(crate) frontend: Frontend,
}

impl World {
    pub(crate) fn new(flavor: Flavor) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let xenstored = Xenstored::start(flavor);
        let proxy = Proxy::start(xenstored.socket());
        let bed = UsbBed::new();
        bed.host(1, "0000:00:14.0");
        let userdata = dir.path().join("libxl");
        fs::create_dir(&userdata).unwrap();
        let toolstack = Toolstack::new(&xenstored, &userdata).on(&bed);
        Self { xenstored, proxy, bed, toolstack, dir }
    }

    /// Writes the policy and starts the agent on this host.
    pub(crate) fn agent(&self, policy: &str) -> Agent {
        self.agent_with(policy, &[])
    }

    pub(crate) fn agent_with(&self, policy: &str, more: &[&str]) -> Agent {
        self.write_policy(policy);
        let policy = self.policy_path();
        let libxl = self.dir.path().join("libxl");
        let mut args = vec!["run", "--policy", policy.to_str().unwrap()];
        args.extend(["--libxl-dir", libxl.to_str().unwrap()]);
        args.extend(more);
        Agent::start(&args, &self.env())
    }

    /// What the agent, or one of its other verbs, needs to see this host.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let socket = self.proxy.socket().to_str().unwrap().to_owned();
        let own =
            [("XENSTORED_PATH".to_owned(), socket), ("PVUSB_AGENT_LOG".into(), "debug".into())];
        self.bed.env().into_iter().chain(own).collect()
    }

    pub(crate) fn policy_path(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    pub(crate) fn write_policy(&self, policy: &str) {
        fs::write(self.policy_path(), policy).unwrap();
    }

    /// A PV domain with a QEMU and a frontend.
    pub(crate) fn domain(&mut self, domid: u32, name: &str) -> Domain {
        self.serve(Guest::new(domid, name))
    }

    /// Makes this domain, with a QEMU and a frontend.
    pub(crate) fn serve(&mut self, guest: Guest) -> Domain {
        let qemu = Qemu::start(&self.xenstored, &self.bed, guest.domid);
        let frontend = Frontend::start(&self.xenstored, guest.domid);
        self.toolstack.create(&guest);
        Domain { guest, qemu, frontend }
    }

    /// A domain of this type whose controllers the kernel serves.
    pub(crate) fn pv_domain(&mut self, domid: u32, name: &str) -> (Guest, Frontend) {
        let guest = Guest::new(domid, name).of_kind(Kind::Pv).without_qusb();
        let frontend = Frontend::start(&self.xenstored, domid);
        self.toolstack.create(&guest);
        (guest, frontend)
    }

    /// The kernel's usbback.
    pub(crate) fn usbback(&self) -> Usbback {
        Usbback::load(&self.xenstored, &self.bed)
    }

    /// A node's value, if it is there.
    pub(crate) fn node(&self, path: &str) -> Option<String> {
        self.xenstored.client().get(path).unwrap()
    }

    /// The value of a `qusb` port.
    pub(crate) fn port(&self, domid: u32, controller: u32, port: u32) -> Option<String> {
        self.node(&format!("/local/domain/0/backend/qusb/{domid}/{controller}/port/{port}"))
    }

    /// Waits until a `qusb` port has this value.
    #[track_caller]
    pub(crate) fn wait_for_port(&self, domid: u32, controller: u32, port: u32, busid: &str) {
        let what = format!("port {port} of controller {controller} of domain {domid} is {busid:?}");
        wait_until(PATIENCE, &what, || {
            self.port(domid, controller, port).as_deref() == Some(busid)
        });
    }

    /// The agent's note of a device, if there is one.
    pub(crate) fn note(&self, busid: &str) -> Option<String> {
        self.node(&format!("/tool/pvusb-agent/devices/{}", busid.replace('.', "_")))
    }
}

impl Domain {
    /// Waits until the guest's QEMU holds this device.
    #[track_caller]
    pub(crate) fn wait_until_held(&self, busid: &str) {
        let what = format!("the QEMU of {} holds {busid}", self.guest.name);
        wait_until(PATIENCE, &what, || self.qemu.held().values().any(|held| held == busid));
    }

    /// Waits until the guest's QEMU holds nothing.
    #[track_caller]
    pub(crate) fn wait_until_empty(&self) {
        let what = format!("the QEMU of {} holds nothing", self.guest.name);
        wait_until(PATIENCE, &what, || self.qemu.held().is_empty());
    }
}
