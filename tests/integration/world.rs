//! A host for one test: xenstored, a USB bus, a toolstack, domains with their doubles, and the agent
//! on top. It says what is there; the tests say what should be.
//!
//! At the end of each test that has not failed, the doubles are asked whether anything happened that
//! the real QEMU or the real usbback does not survive.

use crate::harness::agent::Agent;
use crate::harness::backend::{Frontend, Guest, Qemu, Toolstack, Usbback};
use crate::harness::time::{PATIENCE, eventually, wait_until};
use crate::harness::usb::{UsbBed, UsbDevice};
use crate::harness::xenstored::{Flavor, Message, Op, Proxy, RawClient, Xenstored};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// The PCI address of the host's USB controller.
pub(crate) const PCI: &str = "0000:00:14.0";

/// Where the agent keeps its notes.
pub(crate) const OWN: &str = "/tool/pvusb-agent";

/// Who serves the controllers that the agent makes in PV domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Each domain's QEMU.
    Qusb,
    /// The kernel's usbback.
    Pv,
}

impl Server {
    /// The name of the backend's directory.
    fn backend(self) -> &'static str {
        match self {
            Self::Qusb => "qusb",
            Self::Pv => "vusb",
        }
    }
}

/// A host.
pub(crate) struct World {
    pub(crate) xenstored: Xenstored,
    /// Between the agent and xenstored.
    pub(crate) proxy: Proxy,
    pub(crate) bed: UsbBed,
    pub(crate) toolstack: Toolstack,
    /// The kernel's usbback, if it is loaded.
    pub(crate) usbback: Option<Usbback>,
    dir: tempfile::TempDir,
}

/// A domain with everything that serves it.
pub(crate) struct Domain {
    pub(crate) guest: Guest,
    pub(crate) qemu: Qemu,
    pub(crate) frontend: Frontend,
}

/// Runs a test on both daemons, at once.
pub(crate) fn on_both(test: impl Fn(World) + Sync) {
    on_each(Flavor::BOTH.map(|flavor| (flavor, Server::Qusb)), test);
}

/// Runs a test on both daemons, with `qusb` and with `pv`, at once.
pub(crate) fn everywhere(test: impl Fn(World) + Sync) {
    let both = |server| Flavor::BOTH.map(|flavor| (flavor, server));
    on_each([both(Server::Qusb), both(Server::Pv)].concat(), test);
}

/// Runs a test on hosts of these kinds, at once.
pub(crate) fn on_each(
    kinds: impl IntoIterator<Item = (Flavor, Server)>,
    test: impl Fn(World) + Sync,
) {
    thread::scope(|scope| {
        for (flavor, server) in kinds {
            let test = &test;
            // A failure is told under the name of the thread.
            thread::Builder::new()
                .name(format!("{flavor:?} {server:?}"))
                .spawn_scoped(scope, move || {
                    let mut world = World::new(flavor);
                    if server == Server::Pv {
                        world.load_usbback();
                    }
                    test(world);
                })
                .unwrap();
        }
    });
}

/// A policy of these rules in which a new device need not settle, and may be plugged as often as a
/// test likes.
pub(crate) fn rules(rules: &[&str]) -> String {
    policy("settle: 0ms, flapping: {plugs: 0}", rules)
}

/// A policy of these defaults and rules.
pub(crate) fn policy(defaults: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().flat_map(|rule| ["\n  - {", rule, "}"]).collect();
    format!("version: 1\ndefaults: {{{defaults}}}\nrules:{rules}\n")
}

/// Every keyboard goes to kiosk.
pub(crate) fn keyboards_to_kiosk() -> String {
    rules(&["name: keyboards, match: {id: '046d:c31c'}, attach: kiosk"])
}

/// A device with two interfaces.
pub(crate) fn keyboard(busid: &str, devnum: u8) -> UsbDevice {
    UsbDevice::keyboard(busid, devnum)
}

/// Where a device can be: the domain, the controller and the port.
pub(crate) type Place = (u32, u32, u32);

/// Everything in the store: values and permissions.
pub(crate) type Store = BTreeMap<String, (String, Vec<String>)>;

impl World {
    pub(crate) fn new(flavor: Flavor) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let xenstored = Xenstored::start(flavor);
        let proxy = Proxy::start(xenstored.socket());
        let bed = UsbBed::new();
        bed.host(1, PCI);
        bed.add_desk();
        let userdata = dir.path().join("libxl");
        fs::create_dir(&userdata).unwrap();
        let toolstack = Toolstack::new(&xenstored, &userdata).on(&bed);
        Self { xenstored, proxy, bed, toolstack, usbback: None, dir }
    }

    /// Loads the kernel's usbback.
    pub(crate) fn load_usbback(&mut self) {
        self.usbback = Some(Usbback::load(&self.xenstored, &self.bed));
    }

    /// Who serves controllers that nobody asks to be of some type.
    pub(crate) fn server(&self) -> Server {
        if self.usbback.is_some() { Server::Pv } else { Server::Qusb }
    }

    /// Starts xenstored anew, with an empty store, and all that works on it but the domains.
    pub(crate) fn restart_xenstored(&mut self) {
        self.xenstored.restart();
        self.toolstack =
            Toolstack::new(&self.xenstored, &self.dir.path().join("libxl")).on(&self.bed);
        if self.usbback.take().is_some() {
            self.load_usbback();
        }
    }

    /// Writes the policy and starts the agent on this host.
    pub(crate) fn agent(&self, policy: &str) -> Agent {
        self.agent_with(policy, &[])
    }

    pub(crate) fn agent_with(&self, policy: &str, more: &[&str]) -> Agent {
        self.agent_in(&[], policy, more, &[])
    }

    /// Starts the agent by another program (`unshare --mount`), with more arguments, and in an
    /// environment with these variables too.
    pub(crate) fn agent_in(
        &self,
        starter: &[&str],
        policy: &str,
        more: &[&str],
        env: &[(String, String)],
    ) -> Agent {
        self.write_policy(policy);
        let policy = self.policy_path();
        let libxl = self.libxl_dir();
        let mut args = vec!["run", "--policy", policy.to_str().unwrap()];
        args.extend(["--libxl-dir", libxl.to_str().unwrap()]);
        args.extend(more);
        Agent::start_in(starter, &args, &[&self.env(), env].concat())
    }

    /// An empty directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Starts the agent and waits until it listens.
    pub(crate) fn ready_agent(&self, policy: &str) -> Agent {
        let mut agent = self.agent(policy);
        agent.wait_for_line("connected to xenstore", PATIENCE);
        agent
    }

    /// Gives the agent another policy and waits until it has read it.
    pub(crate) fn reload(&self, agent: &mut Agent, policy: &str) {
        self.write_policy(policy);
        agent.signal("HUP");
        agent.wait_for_line("policy reloaded", PATIENCE);
    }

    /// What the agent, or one of its other verbs, needs to see this host.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let socket = self.proxy.socket().to_str().unwrap().to_owned();
        let control = self.control_socket().to_str().unwrap().to_owned();
        let own = [
            ("XENSTORED_PATH".to_owned(), socket),
            ("PVUSB_AGENT_SOCKET".into(), control),
            ("PVUSB_AGENT_LOG".into(), "debug".into()),
        ];
        self.bed.env().into_iter().chain(own).collect()
    }

    /// The agent's control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.dir.path().join("run/control")
    }

    /// One of the program's verbs, on this host.
    pub(crate) fn verb(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pvusb-agent"));
        command.args(args).envs(self.env()).stdin(Stdio::null()).output().unwrap()
    }

    /// The same, without waiting for its end.
    pub(crate) fn start_verb(&self, args: &[&str]) -> Agent {
        Agent::start(args, &self.env())
    }

    /// Where libxl keeps its files about domains.
    pub(crate) fn libxl_dir(&self) -> PathBuf {
        self.dir.path().join("libxl")
    }

    pub(crate) fn policy_path(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    /// Where the agent writes what it is to remember.
    pub(crate) fn remembered_path(&self) -> PathBuf {
        self.dir.path().join("remembered.yaml")
    }

    /// Where everything of this host is.
    pub(crate) fn own_directory(&self) -> &Path {
        self.dir.path()
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
        let domain = self.doubles(guest);
        self.toolstack.create(&domain.guest);
        domain
    }

    /// The QEMU and the frontend of a domain that is still to be made.
    pub(crate) fn doubles(&self, guest: Guest) -> Domain {
        let qemu = Qemu::start(&self.xenstored, &self.bed, guest.domid);
        let frontend = Frontend::start(&self.xenstored, guest.domid);
        Domain { guest, qemu, frontend }
    }

    /// The domain ends and comes again with another number, as with `xl reboot`.
    pub(crate) fn reboot(&mut self, domain: &Domain, domid: u32) -> Domain {
        self.toolstack.shut_down(&domain.guest);
        self.toolstack.destroy(&domain.guest);
        // QEMU is told to end, and gives back what it has before it does.
        domain.wait_until_empty();
        self.serve(Guest { domid, ..domain.guest.clone() })
    }

    /// A node's value, if it is there.
    pub(crate) fn node(&self, path: &str) -> Option<String> {
        self.xenstored.client().get(path).unwrap()
    }

    /// The names below a node.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        self.xenstored.client().directory(path).unwrap()
    }

    /// Everything that is in the store.
    pub(crate) fn store(&self) -> Store {
        let mut store = Store::new();
        collect(&mut self.xenstored.client(), "", &mut store);
        store
    }

    /// The value of a port.
    pub(crate) fn port(&self, domid: u32, controller: u32, port: u32) -> Option<String> {
        let kind = self.server().backend();
        self.node(&format!("/local/domain/0/backend/{kind}/{domid}/{controller}/port/{port}"))
    }

    /// Waits until a port has this value.
    #[track_caller]
    pub(crate) fn wait_for_port(&self, domid: u32, controller: u32, port: u32, busid: &str) {
        let what = format!("port {port} of controller {controller} of domain {domid} is {busid:?}");
        wait_until(PATIENCE, &what, || {
            self.port(domid, controller, port).as_deref() == Some(busid)
        });
    }

    /// Waits until a node has this value, or is gone.
    #[track_caller]
    pub(crate) fn wait_for_node(&self, path: &str, value: Option<&str>) {
        let mut last = None;
        let found = eventually(PATIENCE, || {
            last = self.node(path);
            (last.as_deref() == value).then_some(())
        });
        assert!(found.is_some(), "{path} is {last:?}, not {value:?}");
    }

    /// All ports that name a device, by place.
    pub(crate) fn taken(&self) -> BTreeMap<Place, String> {
        let mut taken = BTreeMap::new();
        let mut store = self.xenstored.client();
        for kind in ["qusb", "vusb"] {
            let root = format!("/local/domain/0/backend/{kind}");
            for domid in numbers(&mut store, &root) {
                for devid in numbers(&mut store, &format!("{root}/{domid}")) {
                    let ports = format!("{root}/{domid}/{devid}/port");
                    for port in numbers(&mut store, &ports) {
                        let value = store.get(&format!("{ports}/{port}")).unwrap();
                        if let Some(busid) = value.filter(|value| !value.is_empty()) {
                            taken.insert((domid, devid, port), busid);
                        }
                    }
                }
            }
        }
        taken
    }

    /// The ports that name this device.
    pub(crate) fn places(&self, busid: &str) -> Vec<Place> {
        self.taken()
            .into_iter()
            .filter(|(_, there)| there == busid)
            .map(|(place, _)| place)
            .collect()
    }

    /// The agent's note of a device, if there is one.
    pub(crate) fn note(&self, busid: &str) -> Option<String> {
        self.node(&format!("{OWN}/devices/{}", busid.replace('.', "_")))
    }

    /// Whether dom0's own drivers have all interfaces of a device.
    pub(crate) fn is_with_its_drivers(&self, busid: &str) -> bool {
        let own = |interface: &String| {
            self.bed.driver(interface).as_deref() == self.bed.own_driver(interface)
        };
        self.bed.interfaces(busid).iter().all(own)
    }

    /// Whether the device is in one port of this domain, whoever serves it has it, and the agent has
    /// noted that port.
    pub(crate) fn is_given(&self, domain: &Domain, busid: &str) -> bool {
        let domid = domain.guest.domid;
        let [place] = self.places(busid)[..] else { return false };
        let served = match &self.usbback {
            None => domain.qemu.held().get(&(place.1, place.2)).map(String::as_str) == Some(busid),
            Some(usbback) => {
                let bound = |i: &String| self.bed.driver(i).as_deref() == Some("usbback");
                usbback.ports().get(&place).map(String::as_str) == Some(busid)
                    && self.bed.interfaces(busid).iter().all(bound)
            }
        };
        let port = format!(" controller={} port={} ", place.1, place.2);
        let noted = self.note(busid).is_some_and(|note| {
            note.starts_with("attached ")
                && note.contains(&format!(" domid={domid} "))
                // The drivers may stand after it.
                && format!("{note} ").contains(&port)
        });
        place.0 == domid && served && noted
    }

    /// Whether whoever serves it has this device: QEMU has opened it, or usbback has all of it.
    pub(crate) fn holds(&self, busid: &str) -> bool {
        let interfaces = self.bed.interfaces(busid);
        let own = ["usbback", "usbfs"];
        interfaces.iter().all(|i| self.bed.driver(i).is_some_and(|d| own.contains(&d.as_str())))
    }

    /// Waits until the agent has put a device into one port of this domain, and the domain has it.
    #[track_caller]
    pub(crate) fn wait_until_given(&self, domain: &Domain, busid: &str) {
        let what = format!("{} has {busid}", domain.guest.name);
        wait_until(PATIENCE, &what, || self.is_given(domain, busid));
    }

    /// Whether the device is in no port, dom0's drivers have it, and nothing is noted of it.
    pub(crate) fn is_home(&self, busid: &str) -> bool {
        self.places(busid).is_empty()
            && self.is_with_its_drivers(busid)
            && self.note(busid).is_none()
            && self.node(&format!("/libxl/usbback/{}", busid.replace('.', "_"))).is_none()
    }

    /// Waits until a device is back in dom0, or gone, and nothing is noted of it.
    #[track_caller]
    pub(crate) fn wait_until_home(&self, busid: &str) {
        wait_until(PATIENCE, &format!("{busid} is in dom0"), || self.is_home(busid));
    }

    /// Waits until a device that is unplugged has left no trace.
    #[track_caller]
    pub(crate) fn wait_until_forgotten(&self, busid: &str) {
        assert!(!self.bed.is_plugged(busid));
        self.wait_until_home(busid);
    }

    /// Plugs in another device that the policy gives to `domain` and waits until it is there: what
    /// the agent has not done by now to the devices before it, it does not do. Unplugs it again.
    #[track_caller]
    pub(crate) fn settle_by(&self, domain: &Domain, other: &UsbDevice) {
        self.bed.plug(other);
        self.wait_until_given(domain, &other.busid);
        self.bed.unplug(&other.busid);
        self.wait_until_forgotten(&other.busid);
    }

    /// What the agent has changed in the store since [`Proxy::reset`], but for the node that it
    /// writes at each start.
    pub(crate) fn changes(&self) -> Vec<(Op, String)> {
        let requests = self.proxy.requests().into_iter().filter(changes);
        requests
            .filter(|request| request.path() != OWN)
            .map(|request| (request.op, request.path()))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(usbback) = self.usbback.as_ref().filter(|_| !thread::panicking()) {
            assert_eq!(usbback.failures(), [""; 0], "what usbback does not survive");
        }
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

impl Drop for Domain {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.qemu.aborts(), [""; 0], "what QEMU does not survive");
            assert_eq!(self.qemu.ignored(), [""; 0], "what QEMU does not see");
        }
    }
}

/// What differs between two states of the store, but for the agent's own nodes.
pub(crate) fn differences(before: &Store, after: &Store) -> Vec<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| !path.starts_with(OWN) && before.get(*path) != after.get(*path))
        .map(|path| format!("{path}: {:?} -> {:?}", before.get(path), after.get(path)))
        .collect()
}

/// Whether a request changes a node.
pub(crate) fn changes(request: &Message) -> bool {
    [Op::WRITE, Op::MKDIR, Op::RM, Op::SET_PERMS].contains(&request.op)
}

/// Whether a request begins or ends a transaction, or changes a node outside of one: between two of
/// these the store does not change.
pub(crate) fn takes_effect(request: &Message) -> bool {
    [Op::TRANSACTION_START, Op::TRANSACTION_END].contains(&request.op)
        || (request.transaction == 0 && changes(request) && request.path() != OWN)
}

/// A proxy that does not wait for what else its client sends: for tests that count no round trips.
pub(crate) fn hurry(world: &World) {
    world.proxy.gather(Duration::ZERO);
}

fn numbers(store: &mut RawClient, path: &str) -> Vec<u32> {
    store.directory(path).unwrap().iter().filter_map(|name| name.parse().ok()).collect()
}

fn collect(store: &mut RawClient, path: &str, into: &mut Store) {
    let here = if path.is_empty() { "/" } else { path };
    // A node may go while its siblings are read.
    let (Ok(Some(value)), Ok(perms)) = (store.get(here), store.perms(here)) else { return };
    for name in store.directory(here).unwrap() {
        collect(store, &format!("{path}/{name}"), into);
    }
    into.insert(here.to_owned(), (value, perms));
}
