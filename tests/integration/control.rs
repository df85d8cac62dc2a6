//! The control socket against clients that mean ill or are broken: none of them keeps the agent from
//! its work, and each is told what is wrong as far as it can be told anything.

use crate::harness::agent::Agent;
use crate::harness::time::{PATIENCE, wait_until};
use crate::world::{Domain, World, keyboard, keyboards_to_kiosk, on_both};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

const STATUS: &[u8] = b"{\"v\":1,\"id\":1,\"ask\":\"status\"}\n";

/// A host with a domain, and an agent that listens.
fn listening(world: &mut World) -> (Domain, Agent) {
    let kiosk = world.domain(5, "kiosk");
    let agent = world.ready_agent(&keyboards_to_kiosk());
    (kiosk, agent)
}

fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.control_socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The next reply; `None` when the connection has ended.
fn reply(stream: &UnixStream) -> Option<Value> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
}

fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_default()
}

/// A device that is plugged now reaches its domain, and the next client is served.
#[track_caller]
fn assert_at_work(world: &World, kiosk: &Domain, devnum: u8) {
    world.settle_by(kiosk, &keyboard("1-1", devnum));
    let mut client = connect(world);
    client.write_all(STATUS).unwrap();
    assert_eq!(reply(&client).unwrap()["ok"]["xenstore"], true);
}

#[test]
fn what_is_no_question_is_answered_with_its_fault_and_the_connection_goes_on() {
    on_both(|mut world| {
        let (kiosk, _agent) = listening(&mut world);
        let mut client = connect(&world);
        for (line, expected) in [
            (&b"\n"[..], "bad-request"),
            (b"hello\n", "bad-request"),
            (b"{\"v\":1,\"id\":1,\"ask\":\"status\",\"please\":true}\n", "bad-request"),
            (b"{\"v\":9,\"id\":1,\"ask\":\"status\"}\n", "bad-version"),
            (b"\xff\xfe\n", "bad-request"),
            (b"\0\0\0\n", "bad-request"),
        ] {
            client.write_all(line).unwrap();
            assert_eq!(code(&reply(&client).unwrap()), expected, "{line:?}");
        }
        // In pieces, and many at once.
        for byte in STATUS {
            client.write_all(&[*byte]).unwrap();
        }
        assert_eq!(reply(&client).unwrap()["ok"]["rules"], 1);
        assert_at_work(&world, &kiosk, 2);
    });
}

#[test]
fn a_line_without_end_ends_the_connection() {
    on_both(|mut world| {
        let (kiosk, _agent) = listening(&mut world);
        let mut client = connect(&world);
        // The agent may hang up before all of it is written.
        drop(client.write_all(&vec![b'x'; 70_000]));
        assert_eq!(code(&reply(&client).unwrap()), "line-too-long");
        let mut rest = Vec::new();
        let ended = client.read_to_end(&mut rest);
        assert!(ended.is_err() || rest.is_empty());
        assert_at_work(&world, &kiosk, 2);
    });
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    on_both(|mut world| {
        let (kiosk, _agent) = listening(&mut world);
        let mut client = connect(&world);
        // More answers than the socket's and the agent's buffers hold together.
        let many = STATUS.repeat(1000);
        let cut = (0..200).any(|_| client.write_all(&many).is_err());
        assert!(cut, "the agent listens for ever to whoever does not listen to it");
        assert_at_work(&world, &kiosk, 2);
    });
}

#[test]
fn a_hundred_connections_and_half_a_line_delay_no_plug() {
    on_both(|mut world| {
        let (kiosk, _agent) = listening(&mut world);
        let clients: Vec<UnixStream> = (0..100)
            .map(|_| {
                let mut client = connect(&world);
                // One that was turned away already cannot be written to.
                drop(client.write_all(b"{\"v\":1,\"id\":1,\"as"));
                client
            })
            .collect();
        world.settle_by(&kiosk, &keyboard("1-1", 2));
        let away = clients[32..].iter().filter(|client| {
            reply(client).is_some_and(|reply| code(&reply) == "too-many-connections")
        });
        assert_eq!(away.count(), 68);
        drop(clients);
        wait_until(PATIENCE, "there is room again", || {
            world.verb(&["status"]).status.code() == Some(0)
        });
        assert_at_work(&world, &kiosk, 3);
    });
}

#[test]
fn a_client_that_has_said_all_it_has_to_say_is_still_answered() {
    on_both(|mut world| {
        let (_kiosk, _agent) = listening(&mut world);
        let mut client = connect(&world);
        client.write_all(STATUS).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(reply(&client).unwrap()["id"], 1);
        assert_eq!(reply(&client), None);
    });
}

#[test]
fn whoever_is_not_root_is_refused_by_the_file_and_by_the_agent() {
    // Only root can be somebody else.
    if !is_root() {
        return;
    }
    on_both(|mut world| {
        let (kiosk, _agent) = listening(&mut world);
        let socket = world.control_socket();
        let dir = for_others(&world);
        let program = dir.path().join("pvusb-agent");
        let as_nobody = || {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            let output =
                command.arg(&program).args(["status", "--socket"]).arg(&socket).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            String::from_utf8(output.stderr).unwrap()
        };
        assert!(as_nobody().contains("only root may"), "{}", as_nobody());
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
        assert!(as_nobody().contains("(uid 65534, pid "), "{}", as_nobody());
        assert!(as_nobody().contains("may not ask this"), "{}", as_nobody());
        assert_at_work(&world, &kiosk, 2);
    });
}

/// A directory with a copy of the program, `pvusb-agent`, that other users can run on this host.
pub(crate) fn for_others(world: &World) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("pvusb-agent");
    // In another process: whatever is started here meanwhile would inherit the open copy, and a
    // file that is open for writing cannot be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_pvusb-agent")).arg(&program).status();
    assert!(copied.unwrap().success());
    for place in [dir.path(), world.own_directory()] {
        fs::set_permissions(place, Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

#[test]
fn a_second_agent_does_not_start_and_a_killed_ones_socket_is_replaced() {
    on_both(|mut world| {
        let (kiosk, mut agent) = listening(&mut world);
        let mut second = world.agent(&keyboards_to_kiosk());
        assert_eq!(second.wait(PATIENCE).code(), Some(69));
        second.wait_for_line("another agent is running", PATIENCE);
        assert_at_work(&world, &kiosk, 2);

        agent.kill();
        assert!(world.control_socket().exists());
        assert_eq!(world.verb(&["status"]).status.code(), Some(69));
        let mut agent = world.ready_agent(&keyboards_to_kiosk());
        assert_at_work(&world, &kiosk, 3);

        agent.signal("TERM");
        agent.wait(PATIENCE);
        assert!(!world.control_socket().exists());
    });
}
