//! The agent as a service: what it tells systemd, over a socket that stands in for systemd's.

use crate::harness::agent::Agent;
use crate::harness::time::PATIENCE;
use crate::harness::xenstored::Flavor;
use crate::world::{World, keyboard, keyboards_to_kiosk, on_both, rules};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

/// systemd's end of the socket.
struct Systemd {
    socket: UnixDatagram,
}

impl Systemd {
    /// Starts the agent as systemd would, with a watchdog of that patience.
    fn start(world: &World, policy: &str, watchdog: Option<Duration>) -> (Self, Agent) {
        let path = world.policy_path().with_file_name("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut env = vec![("NOTIFY_SOCKET".to_owned(), path.to_str().unwrap().to_owned())];
        env.extend(watchdog.map(|w| ("WATCHDOG_USEC".to_owned(), w.as_micros().to_string())));
        (Self { socket }, world.agent_in(&[], policy, &[], &env))
    }

    /// The next message, as its lines.
    fn hear(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a message that begins with this line; gives all of its lines.
    fn wait_for(&self, first: &str) -> Vec<String> {
        loop {
            let lines = self.hear();
            if lines[0] == first {
                return lines;
            }
        }
    }
}

#[test]
fn systemd_hears_of_the_start_each_attachment_each_reload_and_the_end() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let (systemd, mut agent) = Systemd::start(&world, &keyboards_to_kiosk(), None);
        assert_eq!(systemd.hear(), ["READY=1"]);
        systemd.wait_for("STATUS=rules: 1, devices attached by them: 0");
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        systemd.wait_for("STATUS=rules: 1, devices attached by them: 1");

        world.write_policy("version: 2");
        agent.signal("HUP");
        let reloading = systemd.wait_for("RELOADING=1");
        assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
        assert_eq!(systemd.hear(), ["READY=1"], "a bad policy ends no service");
        world.reload(&mut agent, &rules(&["match: {id: '*:*'}, keep: dom0"; 2]));
        systemd.wait_for("RELOADING=1");
        systemd.wait_for("STATUS=rules: 2, devices attached by them: 0");

        agent.signal("TERM");
        systemd.wait_for("STOPPING=1");
        assert!(agent.wait(PATIENCE).success());
    });
}

#[test]
fn the_watchdog_hears_of_an_agent_that_has_nothing_to_do_and_not_of_one_that_stands_still() {
    let world = World::new(Flavor::C);
    let patience = Duration::from_millis(400);
    let (systemd, agent) = Systemd::start(&world, &keyboards_to_kiosk(), Some(patience));
    for _ in 0..4 {
        systemd.wait_for("WATCHDOG=1");
    }
    agent.signal("STOP");
    systemd.socket.set_read_timeout(Some(4 * patience)).unwrap();
    let mut buffer = [0; 4096];
    while systemd.socket.recv(&mut buffer).is_ok() {}
    agent.signal("CONT");
    systemd.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    systemd.wait_for("WATCHDOG=1");
}

#[test]
fn in_the_journal_a_line_has_its_level_and_says_all_that_it_says_on_a_terminal() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    world.bed.plug(&keyboard("1-1", 2));
    world.write_policy(&keyboards_to_kiosk());
    let mut command = Command::new("sh");
    // As systemd says it: the device and the inode of what stderr is.
    command.args(["-c", "JOURNAL_STREAM=$(stat -Lc %d:%i /dev/stderr) exec \"$@\"", "sh"]);
    command.args([env!("CARGO_BIN_EXE_pvusb-agent"), "run", "--policy"]).arg(world.policy_path());
    command.arg("--libxl-dir").arg(world.policy_path().with_file_name("libxl"));
    command.envs(world.env()).env_remove("NOTIFY_SOCKET");
    let mut agent = Agent::spawn(command);
    world.wait_until_given(&kiosk, "1-1");
    agent.wait_for_line("<6>attached device=1-1 domain=\"kiosk\" domid=5", PATIENCE);
}
