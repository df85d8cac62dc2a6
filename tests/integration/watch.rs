//! Watching an agent: what it shows, what it counts, what it takes down, and who may see it.

use crate::cli::program;
use crate::control::{for_others, is_root};
use crate::harness::agent::Agent;
use crate::harness::backend::Controller;
use crate::harness::time::{PATIENCE, eventually, wait_until};
use crate::harness::xenstored::Flavor;
use crate::world::{World, keyboard, keyboards_to_kiosk, on_both, policy};
use nix::pty::{OpenptyResult, Winsize, openpty};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;

/// A client that watches.
struct Watcher {
    stream: BufReader<UnixStream>,
}

impl Watcher {
    /// Asks with this question; gives what it is shown first.
    #[track_caller]
    fn begin(world: &World, question: &str) -> (Self, Value) {
        let mut stream = UnixStream::connect(world.control_socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(question.as_bytes()).unwrap();
        let mut watcher = Self { stream: BufReader::new(stream) };
        let first = watcher.reply();
        (watcher, first["ok"].clone())
    }

    #[track_caller]
    fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Waits for the notice of which this holds, and gives it with all before it.
    #[track_caller]
    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            let notice = self.reply()["notice"].clone();
            assert!(!notice.is_null());
            heard.push(notice);
            if heard.last().is_some_and(&is_it) {
                return heard;
            }
        }
    }
}

const WATCH: &str = "{\"v\":1,\"id\":9,\"ask\":\"watch\"}\n";

fn rests(notice: &Value, busid: &str, place: &str) -> bool {
    notice["kind"] == "device" && notice["busid"] == busid && notice["rests"] == place
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn who_watches_sees_everything_and_then_each_change_and_who_comes_back_hears_what_was_missed() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");

        let (mut watcher, first) = Watcher::begin(&world, WATCH);
        assert_eq!(first["domains"][0]["name"], "kiosk");
        assert_eq!(first["complete"], true);
        if first["devices"][0]["rests"] != "domain" {
            watcher.until(|it| rests(it, "1-1", "domain"));
        }

        world.bed.plug(&keyboard("1-2", 3));
        let heard = watcher.until(|it| rests(it, "1-2", "domain"));
        assert!(heard.iter().any(|it| it["kind"] == "domain" && it["free"] == 6), "{heard:?}");
        let row = heard.last().unwrap();
        assert_eq!((&row["standing"], &row["domain"]), (&"attached".into(), &"kiosk".into()));
        let said: Vec<&Value> = heard.iter().filter(|it| it["kind"] == "said").collect();
        let plugged = said.iter().find(|it| it["event"] == "plugged").unwrap();
        assert_eq!(plugged["fields"]["device"], "1-2");
        let numbers: Vec<u64> = said.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");

        world.bed.unplug("1-2");
        watcher.until(|it| it["kind"] == "device-gone" && it["busid"] == "1-2");
        drop(watcher);
        world.wait_until_home("1-2");

        let (agent, since) = (first["agent"].as_str().unwrap(), numbers[0]);
        let again = format!(
            "{{\"v\":1,\"id\":9,\"ask\":\"watch\",\"agent\":\"{agent}\",\"since\":{since}}}\n"
        );
        let (_, missed) = Watcher::begin(&world, &again);
        assert_eq!(missed["complete"], true);
        let events: Vec<&str> = missed["said"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["event"].as_str().unwrap())
            .collect();
        assert!(events.contains(&"attached") && events.contains(&"unplugged"), "{events:?}");
        let (_, other) = Watcher::begin(&world, &again.replace(agent, "another"));
        assert_eq!(other["complete"], false);
    });
}

#[test]
fn who_watches_and_does_not_read_is_let_go_and_delays_nothing() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        let watchers: Vec<_> = (0..4).map(|_| Watcher::begin(&world, WATCH).0).collect();
        // Lines that somebody would have to read, until the agent stops to send them.
        let mut orders = UnixStream::connect(world.control_socket()).unwrap();
        orders.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = BufReader::new(orders.try_clone().unwrap());
        let device = "7-1.1.1.1.1";
        for id in 0..6000 {
            let ask = "\"ask\":\"attach\",\"force\":true,\"domain\":\"kiosk\"";
            writeln!(orders, "{{\"v\":1,\"id\":{id},{ask},\"device\":\"{device}\"}}").unwrap();
            answers.read_line(&mut String::new()).unwrap();
        }
        world.settle_by(&kiosk, &keyboard("1-1", 2));
        for mut watcher in watchers {
            // What was on its way, and then why there is no more.
            let last = std::iter::repeat_with(|| watcher.reply()).find(|it| it["notice"].is_null());
            assert_eq!(last.unwrap()["error"]["code"], "too-slow");
        }
    });
}

/// The verb on a terminal-less output, for scripts.
#[test]
fn watch_tells_lines_and_goes_on_when_the_agent_is_started_anew() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        let mut lines = world.start_verb(&["watch"]);
        let mut json = world.start_verb(&["watch", "--json"]);
        json.wait_for_line("\"kind\":\"everything\"", PATIENCE);
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        let line = lines.wait_for_line("attached device=1-1", PATIENCE);
        assert!(line.contains("Z  info  attached device=1-1 domain=\"kiosk\""), "{line}");
        json.wait_for_line("\"event\":\"attached\"", PATIENCE);

        agent.signal("TERM");
        agent.wait(PATIENCE);
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        json.wait_for_line("\"kind\":\"everything\"", PATIENCE);
        world.bed.plug(&keyboard("1-2", 3));
        lines.wait_for_line("attached device=1-2", PATIENCE);
        let once = text(&world.verb(&["watch", "--once"]));
        assert!(once.contains("kiosk (5)  6 of 8 ports free\n  1-1  "), "{once}");
    });
}

/// The last whole picture of what was written to a terminal, without what gives the terminal orders.
fn picture(text: &str) -> Option<String> {
    let (start, rest) =
        text.rsplit_once("\x1b[J").map(|(start, _)| start)?.rsplit_once("\x1b[H")?;
    assert!(start.is_empty() || start.ends_with("\x1b[J"), "pictures follow on one another");
    Some(rest.replace("\x1b[K", "").replace('\r', ""))
}

#[test]
fn on_a_terminal_watch_draws_a_picture_that_changes_and_fits() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let mut child = program(&["watch"]).envs(world.env()).stdout(slave).spawn().unwrap();
        let written = Mutex::new(String::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut master, mut chunk) = (File::from(master), [0; 4096]);
                // It fails when the program has ended.
                while let Ok(count @ 1..) = master.read(&mut chunk) {
                    *written.lock().unwrap() += std::str::from_utf8(&chunk[..count]).unwrap();
                }
            });
            let drawn = |wanted: &str| {
                let last = eventually(PATIENCE, || {
                    picture(&written.lock().unwrap()).filter(|it| it.contains(wanted))
                });
                last.unwrap_or_else(|| panic!("no {wanted:?} in {:?}", written.lock().unwrap()))
            };
            drawn("0 devices, 0 in domains");
            world.bed.plug(&keyboard("1-1", 2));
            world.wait_until_given(&kiosk, "1-1");
            let last = drawn("ports free\n  1-1  046d:c31c");
            assert!(last.starts_with("1 device, 1 in domains\n\nkiosk (5)  7 of 8"), "{last}");
            let fits = |line: &str| line.chars().count() <= 80;
            assert!(last.lines().count() <= 24 && last.lines().all(fits), "{last}");
            world.bed.unplug("1-1");
            drawn("0 devices, 0 in domains");
            child.kill().unwrap();
            child.wait().unwrap();
        });
    });
}

#[test]
fn metrics_count_what_was_done_and_a_textfile_comes_whole() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        world.bed.plug(&keyboard("1-1", 2));
        let _agent = world.ready_agent(&keyboards_to_kiosk());
        world.wait_until_given(&kiosk, "1-1");
        let has = |line: &str| text(&world.verb(&["metrics"])).lines().any(|it| it == line);
        for line in [
            "pvusb_agent_decisions_total{decision=\"attach\",rule=\"keyboards\"} 1",
            "pvusb_agent_attach_seconds_count 1",
            "pvusb_agent_devices_attached 1",
            "pvusb_agent_controllers_total{what=\"created\"} 1",
            "pvusb_agent_xenstore_connected 1",
            "pvusb_agent_policy_current 1",
            "pvusb_agent_step_seconds_count{step=\"create controller\"} 1",
        ] {
            wait_until(PATIENCE, line, || has(line));
        }
        world.bed.unplug("1-1");
        world.wait_until_home("1-1");
        wait_until(PATIENCE, "the port counts as cleared", || {
            has("pvusb_agent_ports_cleared_total{because=\"unplugged\"} 1")
        });

        let file = world.directory("textfile").join("pvusb-agent.prom");
        let output = world.verb(&["metrics", "--textfile", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(fs::read_to_string(&file).unwrap().contains("pvusb_agent_build_info{version="));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        let output = world.verb(&["metrics", "--textfile", "/nowhere/at/all.prom"]);
        assert_eq!(output.status.code(), Some(74));
        assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all.prom"));
    });
}

/// An agent that keeps an audit log.
fn audited(world: &World, log: &Path) -> Agent {
    let more = ["--audit", log.to_str().unwrap()];
    let mut agent = world.agent_with(&keyboards_to_kiosk(), &more);
    agent.wait_for_line("connected to xenstore", PATIENCE);
    agent
}

#[test]
fn the_audit_log_tells_what_was_moved_goes_on_after_a_kill_and_shows_what_was_changed() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let log = world.directory("log").join("audit");
        let path = log.to_str().unwrap().to_owned();
        let mut agent = audited(&world, &log);
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        agent.wait_for_line("attached device=1-1", PATIENCE);
        let output = world.verb(&["detach", "1-1"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = |args: &[&str]| {
            let output = world.verb(&[&["log", "--file", &path], args].concat());
            (output.status.code(), text(&output))
        };
        wait_until(PATIENCE, "the return is taken down", || told(&[]).1.contains(" detached "));
        let (_, entries) = told(&["--device", "1-1"]);
        let attached = entries.lines().find(|line| line.contains(" attached ")).unwrap();
        assert!(attached.contains("because=\"keyboards ("), "{attached}");
        let ordered = entries.lines().find(|line| line.contains(" ordered ")).unwrap();
        assert!(ordered.contains("(uid ") && ordered.contains("device=1-1"), "{ordered}");

        agent.signal("KILL");
        agent.wait(PATIENCE);
        // As if it had been killed while it wrote.
        OpenOptions::new().append(true).open(&log).unwrap().write_all(b"{\"n\":99,\"at").unwrap();
        let agent = audited(&world, &log);
        wait_until(PATIENCE, "the log goes on", || told(&["--last", "1"]).1.contains(" started "));
        let (code, verdict) = told(&["--verify"]);
        assert_eq!(code, Some(0), "{verdict}");
        assert!(verdict.contains("the log holds: "), "{verdict}");
        assert!(told(&[]).1.contains("cut off 11 bytes"));
        let anchor = verdict.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(told(&["--verify", "--anchor", &anchor]).0, Some(0));
        // The journal was told where it went on.
        assert!(agent.lines().iter().any(|line| line.contains("audit log goes on after=")));

        let changed = fs::read_to_string(&log).unwrap().replacen("kiosk", "attic", 1);
        fs::write(&log, changed).unwrap();
        let (code, verdict) = told(&["--verify"]);
        assert_eq!(code, Some(1));
        assert!(verdict.contains("is not the one it followed"), "{verdict}");
        assert!(verdict.contains("DOES NOT HOLD"), "{verdict}");
        let output = world.verb(&["log", "--file", &path]);
        assert_eq!(output.status.code(), Some(1), "who only reads it is told as well");
        assert!(String::from_utf8_lossy(&output.stderr).contains("the log does not hold"));
        let (_, json) = told(&["--verify", "--json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["holds"], false);
    });
}

#[test]
fn the_audit_log_tells_what_was_done_by_hand_and_by_whom() {
    on_both(|mut world| {
        let (kiosk, desk) = (world.domain(5, "kiosk"), world.domain(6, "desk"));
        let controller = Controller::qusb(0);
        world.toolstack.usbctrl_attach(&desk.guest, controller);
        world.bed.plug(&keyboard("1-1", 2));
        world.toolstack.usbdev_attach(&desk.guest, controller, (3, "1-1"));
        desk.wait_until_held("1-1");
        let log = world.directory("log").join("audit");
        let leave = policy("stale_ports: leave", &["match: {id: '1234:*'}, attach: kiosk"]);
        let mut agent = world.agent_with(&leave, &["--audit", log.to_str().unwrap()]);
        agent.wait_for_line("attached by somebody else device=1-1", PATIENCE);
        world.bed.unplug("1-1");
        agent.wait_for_line("every xl usbdev-attach on this host fails", PATIENCE);

        let libxl_dir = world.libxl_dir();
        let verb = |args: &[&str]| {
            world.verb(&[args, &["--libxl-dir", libxl_dir.to_str().unwrap()]].concat())
        };
        let entries = || {
            let output = world.verb(&["log", "--file", log.to_str().unwrap(), "--json"]);
            let entries: Value = serde_json::from_str(&text(&output)).unwrap();
            let each = entries.as_array().unwrap().iter();
            let by_hand = each.filter(|it| it["event"].as_str().unwrap().starts_with("by-hand"));
            by_hand.cloned().collect::<Vec<_>>()
        };
        let mut seen = 0;
        for (args, act) in [
            (
                &["controller", "add", "kiosk", "--ports", "4"][..],
                "add controller 0 to kiosk (domain 5): qusb, USB 2, 4 ports",
            ),
            (&["controller", "remove", "kiosk", "0"], "remove controller 0 from kiosk (domain 5)"),
            (&["doctor", "--fix"], "mend D001 domain 6 controller 0 port 3 names 1-1"),
        ] {
            let output = verb(args);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            wait_until(PATIENCE, "both lines are taken down", || entries().len() >= seen + 2);
            let new = entries().split_off(seen);
            seen += 2;
            let events: Vec<_> = new.iter().map(|entry| entry["event"].as_str().unwrap()).collect();
            assert_eq!(events, ["by-hand", "by-hand-done"], "{args:?}");
            for entry in &new {
                let field = |name: &str| entry["fields"][name].as_str().unwrap().to_owned();
                assert!(field("act").starts_with(act), "{entry}");
                assert!(
                    field("who").contains(&format!("uid {}", nix::unistd::getuid())),
                    "{entry}"
                );
            }
        }
        // What was only asked for, and not begun, is no deed.
        assert_eq!(verb(&["controller", "remove", "kiosk", "7"]).status.code(), Some(1));
        assert_eq!(entries().len(), seen);
        drop(kiosk);
    });
}

#[test]
fn what_is_done_by_hand_fails_or_not_whether_it_can_be_taken_down_or_not() {
    let mut world = World::new(Flavor::C);
    let kiosk = world.domain(5, "kiosk");
    let log = world.directory("log").join("audit");
    let mut agent = audited(&world, &log);
    let libxl_dir = world.libxl_dir();
    let verb =
        |args: &[&str]| world.verb(&[args, &["--libxl-dir", libxl_dir.to_str().unwrap()]].concat());
    agent.signal("STOP");
    let output = verb(&["controller", "add", "kiosk"]);
    agent.signal("CONT");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    let told = "the agent has not taken this down: the agent has not answered within 5 s";
    assert!(words.contains(told), "{words}");
    assert!(text(&output).starts_with("controller 0 of kiosk (domain 5): qusb"));

    // Nobody serves what comes now.
    drop(kiosk);
    let output = verb(&["controller", "add", "kiosk"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    agent.wait_for_line("not done by hand act=\"add controller 1 ", PATIENCE);
    let line = agent.lines().iter().find(|line| line.contains("not done by hand")).unwrap().clone();
    assert!(line.contains("cause=\"nothing serves controller 1"), "{line}");
}

#[test]
fn an_audit_log_that_cannot_be_written_keeps_no_device_from_its_domain() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        // A directory stands in its place.
        let log = world.directory("audit");
        let mut agent =
            world.agent_with(&keyboards_to_kiosk(), &["--audit", log.to_str().unwrap()]);
        agent.wait_for_line("audit log cannot be written", PATIENCE);
        world.settle_by(&kiosk, &keyboard("1-1", 2));
    });
}

#[test]
fn an_audit_log_on_a_disk_that_hangs_holds_up_neither_devices_nor_the_agents_end() {
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let log = world.directory("log").join("audit");
        // Who reads a pipe that nobody else writes to waits for ever, as on a disk that hangs.
        nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut agent = audited(&world, &log);
        world.settle_by(&kiosk, &keyboard("1-1", 2));
        agent.signal("TERM");
        agent.wait(PATIENCE);
        let last = agent.lines().last().unwrap().clone();
        assert!(last.contains("audit: nothing could be written for 2 s"), "{last}");
    });
}

#[test]
fn members_of_one_group_may_watch_and_those_of_another_may_attach() {
    // Only root can be somebody else.
    if !is_root() {
        return;
    }
    on_both(|mut world| {
        let kiosk = world.domain(5, "kiosk");
        let groups = ["--watch-group", "games", "--order-group", "users"];
        let mut agent = world.agent_with(&keyboards_to_kiosk(), &groups);
        agent.wait_for_line("connected to xenstore", PATIENCE);
        world.bed.plug(&keyboard("1-1", 2));
        world.wait_until_given(&kiosk, "1-1");
        let dir = for_others(&world);
        let program = dir.path().join("pvusb-agent");
        let group = |name: &str| {
            let output = Command::new("getent").args(["group", name]).output().unwrap();
            text(&output).split(':').nth(2).unwrap().to_owned()
        };
        let as_member = |gid: &str, args: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--clear-groups"]).arg(format!("--regid={gid}"));
            command.arg(&program).args(args).arg("--socket").arg(world.control_socket());
            let output = command.output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (games, users) = (group("games"), group("users"));
        for gid in [&games, &users] {
            for verb in ["status", "metrics"] {
                assert_eq!(as_member(gid, &[verb]).0, Some(0), "{verb} of {gid}");
            }
            assert_eq!(as_member(gid, &["watch", "--once"]).0, Some(0));
            for args in [&["reload"][..], &["hold", "1-1"], &["attach", "--force", "1-1", "kiosk"]]
            {
                let (code, told) = as_member(gid, args);
                assert_eq!(code, Some(1), "{args:?} of {gid}: {told}");
                assert!(
                    told.contains("may not ask this") && told.contains("ask as root"),
                    "{told}"
                );
            }
        }
        assert_eq!(as_member(&games, &["detach", "1-1"]).0, Some(1));
        assert!(world.is_given(&kiosk, "1-1"));
        assert_eq!(as_member(&users, &["detach", "1-1"]).0, Some(0));
        world.wait_until_home("1-1");
        let (code, told) = as_member("65534", &["status"]);
        assert_eq!(code, Some(1));
        assert!(told.contains("may not ask this"), "{told}");
    });
}

#[test]
fn a_group_that_is_not_there_lets_nobody_in_and_is_told_of() {
    on_both(|world| {
        let mut agent =
            world.agent_with(&keyboards_to_kiosk(), &["--watch-group", "no-such-group"]);
        let line = agent.wait_for_line("this group lets nobody in", PATIENCE);
        assert!(line.contains("group=\"no-such-group\" cause=\"no such group\""), "{line}");
        let mode = || fs::metadata(world.control_socket()).unwrap().permissions().mode() & 0o777;
        wait_until(PATIENCE, "it listens", || world.control_socket().exists());
        assert_eq!(mode(), 0o600);
    });
}
