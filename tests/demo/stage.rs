//! The stage of the demo: a made-up machine, the agent on it, and what the audience gets to see.
//! It does not know the story.
//!
//! Like the harness, it panics when something does not come as expected; `main` catches that.

use crate::harness::agent::{self, Agent};
use crate::harness::backend::{Frontend, Guest, Qemu, Toolstack};
use crate::harness::time::{PATIENCE, eventually, wait_until};
use crate::harness::usb::UsbBed;
use crate::harness::xenstored::{Flavor, Xenstored};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::Command;

/// Where the backends of a domain's controllers are.
const QUSB: &str = "/local/domain/0/backend/qusb";

/// A machine with an audience.
pub(crate) struct Stage {
    agent: Option<Agent>,
    /// How many of the agent's lines were shown.
    shown: usize,
    domains: BTreeMap<&'static str, Domain>,
    toolstack: Toolstack,
    pub(crate) bed: UsbBed,
    xenstored: Xenstored,
    dir: tempfile::TempDir,
}

/// A domain and those who serve it.
struct Domain {
    guest: Guest,
    qemu: Qemu,
    _frontend: Frontend,
}

impl Stage {
    /// A machine with a USB bus and a policy, and without domains.
    pub(crate) fn new(policy: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("policy.yaml"), policy).expect("a new file");
        let xenstored = Xenstored::start(Flavor::C);
        let bed = UsbBed::new();
        bed.host(1, "0000:00:14.0");
        bed.add_desk();
        let toolstack = Toolstack::new(&xenstored, dir.path()).on(&bed);
        let domains = BTreeMap::new();
        Self { agent: None, shown: 0, domains, toolstack, bed, xenstored, dir }
    }

    /// `xl create`: a domain whose QEMU serves `qusb`, and whose guest has a PVUSB frontend.
    pub(crate) fn create(&mut self, domid: u32, name: &'static str) {
        let guest = Guest::new(domid, name);
        self.serve(name, &guest);
        self.toolstack.create(&guest);
    }

    /// A reboot as xl does it: the domain is destroyed, and built again with another number. The
    /// agent is given the time to see both.
    pub(crate) fn reboot(&mut self, name: &'static str, domid: u32) {
        let Domain { guest, qemu, .. } = self.domains.remove(name).expect("it runs");
        self.toolstack.shut_down(&guest);
        self.toolstack.destroy(&guest);
        wait_until(PATIENCE, "the old QEMU lets go", || qemu.held().is_empty());
        self.listen(&["domain gone", "stays in dom0"]);

        let guest = Guest { domid, ..guest };
        self.serve(name, &guest);
        self.toolstack.begin(&guest);
        self.toolstack.start_device_model(&guest);
        self.listen(&["domain appeared", "waits: the domain is being built"]);
        self.toolstack.finish(&guest);
    }

    fn serve(&mut self, name: &'static str, guest: &Guest) {
        let qemu = Qemu::start(&self.xenstored, &self.bed, guest.domid);
        let frontend = Frontend::start(&self.xenstored, guest.domid);
        self.domains.insert(name, Domain { guest: guest.clone(), qemu, _frontend: frontend });
    }

    /// Starts the agent.
    pub(crate) fn start_agent(&mut self) {
        println!("  $ pvusb-agent run --policy policy.yaml");
        let policy = self.dir.path().join("policy.yaml");
        let args = ["run".as_ref(), "--policy".as_ref(), policy.as_os_str()];
        let libxl = ["--libxl-dir".as_ref(), self.dir.path().as_os_str()];
        self.agent = Some(Agent::start(&[&args[..], &libxl].concat(), &self.env()));
    }

    /// SIGTERM. Waits until the agent has ended; gives its exit code.
    pub(crate) fn stop_agent(&mut self) -> Option<i32> {
        let agent = self.agent();
        agent.signal("TERM");
        agent.wait(PATIENCE).code()
    }

    /// Waits until the agent has said these things, in this order.
    fn listen(&mut self, what: &[&str]) {
        for message in what {
            self.agent().wait_for_line(&format!("INFO {message}"), PATIENCE);
        }
    }

    /// The same; then shows all that it said in this chapter. There is nothing to warn of.
    pub(crate) fn hear(&mut self, what: &[&str]) {
        self.listen(what);
        println!("  the agent says:");
        let lines = self.log().split_off(self.shown);
        let directory = format!("{}/", self.dir.path().display());
        for line in &lines {
            println!("    {}", line.trim().replace(&directory, ""));
        }
        let warning = lines.iter().find(|line| !line.trim_start().starts_with("INFO"));
        assert!(warning.is_none(), "the agent is not content: {warning:?}");
        self.shown += lines.len();
    }

    /// All that the agent has said.
    pub(crate) fn log(&self) -> Vec<String> {
        self.agent.as_ref().map(Agent::lines).unwrap_or_default()
    }

    /// Begins the proof of a chapter.
    pub(crate) fn prove(&self) {
        println!("  the proof:");
        let aborts = self.domains.values().flat_map(|domain| domain.qemu.aborts());
        let aborts: Vec<String> = aborts.collect();
        assert!(aborts.is_empty(), "the real QEMU would have aborted: {aborts:?}");
    }

    /// Shows that a domain's device model holds this device, and that the port that it holds it in
    /// names it. A domain has one controller in this story.
    pub(crate) fn prove_attached(&self, name: &str, busid: &str) {
        let Domain { guest, qemu, .. } = &self.domains[name];
        let port = eventually(PATIENCE, || {
            qemu.held().into_iter().find(|(_, held)| held == busid).map(|((_, port), _)| port)
        });
        let port = port.unwrap_or_else(|| panic!("the QEMU of {name} does not hold {busid}"));
        self.show_port(guest, port, busid);
        println!("    device model  {name} (domid {}) has {busid} open", guest.domid);
    }

    /// Shows that a domain's device model holds nothing, and that this port is empty.
    pub(crate) fn prove_empty(&self, name: &str, port: u32) {
        let Domain { guest, qemu, .. } = &self.domains[name];
        wait_until(PATIENCE, "the QEMU lets go", || qemu.held().is_empty());
        self.show_port(guest, port, "");
        println!("    device model  {name} (domid {}) has nothing open", guest.domid);
    }

    fn show_port(&self, guest: &Guest, port: u32, busid: &str) {
        let node = format!("{QUSB}/{}/0/port/{port}", guest.domid);
        let found = self.xenstored.client().get(&node).expect("dom0 may read");
        assert_eq!(found.as_deref(), Some(busid), "{node}");
        println!("    xenstore      {node} = {busid:?}");
    }

    /// Shows that no port of any domain names this device, and that dom0's driver still has it.
    pub(crate) fn prove_in_dom0(&self, busid: &str) {
        let ports = Command::new("xenstore-ls").args(["-f", QUSB]).envs(self.env()).output();
        let ports = ports.expect("xenstore-ls, of the Debian package xenstore-utils");
        let ports = String::from_utf8_lossy(&ports.stdout).into_owned();
        assert!(!ports.contains(&format!("{busid:?}")), "a port names {busid}:\n{ports}");
        println!("    xenstore      no port of any domain is {busid:?}");
        for interface in self.bed.interfaces(busid) {
            let driver = self.bed.driver(&interface);
            assert_eq!(driver.as_deref(), self.bed.own_driver(&interface), "of {interface}");
            println!("    dom0          {interface} has the driver {}", driver.unwrap_or_default());
        }
    }

    /// Shows all nodes of the controller that serves a domain.
    pub(crate) fn show_controller(&self, name: &str) {
        let node = format!("{QUSB}/{}/0", self.domains[name].guest.domid);
        let mut store = self.xenstored.client();
        wait_until(PATIENCE, "the controller is connected", || {
            store.get(&format!("{node}/state")).is_ok_and(|state| state.as_deref() == Some("4"))
        });
        self.run(Path::new("xenstore-ls"), &[&node]);
    }

    /// Shows what the agent has noted of a device that it attached. The note is for dom0's eyes only.
    pub(crate) fn show_note(&self, busid: &str) {
        let node = format!("/tool/pvusb-agent/devices/{}", busid.replace('.', "_"));
        self.run(Path::new("xenstore-read"), &[&node]);
    }

    /// Runs another verb of the agent and shows what it prints.
    pub(crate) fn show(&self, args: &[&str]) {
        self.run(&agent::binary(), args);
    }

    /// Runs a program as it would be run on this machine, in the directory of the policy.
    fn run(&self, program: &Path, args: &[&str]) {
        let name = program.file_name().unwrap_or_default().display();
        println!("  $ {name} {}", args.join(" "));
        let mut command = Command::new(program);
        let output = command.args(args).envs(self.env()).current_dir(self.dir.path()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().for_each(|line| println!("    {line}"));
        assert!(output.status.success(), "{name} ended with {}", output.status);
    }

    fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("it was started")
    }

    /// What a program needs to see this machine.
    fn env(&self) -> Vec<(String, String)> {
        let socket = self.xenstored.socket().display().to_string();
        let control = self.dir.path().join("control").display().to_string();
        let own = [
            ("XENSTORED_PATH".to_owned(), socket),
            ("PVUSB_AGENT_SOCKET".into(), control),
            ("PVUSB_AGENT_LOG".into(), "info".into()),
        ];
        self.bed.env().into_iter().chain(own).collect()
    }
}

/// A heading: bold on a terminal.
pub(crate) fn heading(text: &str) {
    let (on, off) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{on}{text}{off}");
}
