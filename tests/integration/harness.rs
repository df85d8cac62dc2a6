//! The harness itself: whether its parts are what they say. Nothing of the agent is tested here.

use std::env;
use std::io::{self, BufRead};
use std::process::Command;

use crate::harness::agent::Agent;
use crate::harness::backend::{Controller, Frontend, Guest, Kind, Qemu, Toolstack, Usbback};
use crate::harness::time::{PATIENCE, eventually, wait_until};
use crate::harness::usb::{EBUSY, ENODEV, UsbBed, UsbDevice};
use crate::harness::xenstored::{Flavor, Lost, Op, Proxy, RawClient, Xenstored};

#[test]
fn both_daemons_store_and_forget() {
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let mut client = xenstored.client();
        client.write("/a/b", "value").unwrap();
        assert_eq!(client.read("/a/b").unwrap(), b"value", "{flavor:?}");
        assert_eq!(client.directory("/a").unwrap(), ["b"], "{flavor:?}");
        assert_eq!(client.perms("/a/b").unwrap(), ["n0"], "{flavor:?}");

        let first = xenstored.pid().unwrap();
        xenstored.kill();
        client.read("/a/b").expect_err("the connection is gone");
        xenstored.restart();
        assert_ne!(xenstored.pid(), Some(first));
        assert_eq!(xenstored.client().get("/a/b").unwrap(), None, "{flavor:?}");
    }
}

#[test]
fn domains_come_and_go_in_both_daemons() {
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let mut client = xenstored.client();
        client.watch("@introduceDomain", "in").unwrap();
        client.watch("@releaseDomain", "out").unwrap();
        let next = |client: &mut RawClient| client.event().unwrap().1;
        assert_eq!([next(&mut client), next(&mut client)], ["in", "out"], "initial, {flavor:?}");

        xenstored.introduce(7);
        assert_eq!(next(&mut client), "in", "{flavor:?}");
        assert!(client.is_introduced(7).unwrap(), "{flavor:?}");

        client.write("/local/domain/7/data", "").unwrap();
        client.set_perms("/local/domain/7/data", &["n7"]).unwrap();
        xenstored.shutdown_domain(7);
        assert_eq!(next(&mut client), "out", "{flavor:?}");
        assert!(client.is_introduced(7).unwrap(), "{flavor:?}");

        xenstored.kill_domain(7);
        assert_eq!(next(&mut client), "out", "{flavor:?}");
        assert!(!client.is_introduced(7).unwrap(), "{flavor:?}");
    }
}

#[test]
fn transactions_conflict_in_both_daemons() {
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let mut other = xenstored.client();
        other.write("/counter", "0").unwrap();
        let mut tries = 0;
        xenstored
            .client()
            .transact(|client| {
                tries += 1;
                let seen = client.get("/counter")?.unwrap();
                if tries == 1 {
                    other.write("/counter", "5")?;
                }
                client.write("/counter", format!("{seen}1"))
            })
            .unwrap();
        assert_eq!(
            (tries, other.get("/counter").unwrap().as_deref()),
            (2, Some("51")),
            "{flavor:?}"
        );
    }
}

#[test]
fn the_random_eagain_is_random() {
    let xenstored = Xenstored::start(Flavor::OCamlRandomEagain);
    let mut client = xenstored.client();
    let (mut tries, mut commits) = (0, 0);
    wait_until(PATIENCE, "a transaction that fails without a conflict", || {
        commits += 1;
        let write = |client: &mut RawClient| {
            tries += 1;
            client.write("/a", "b")
        };
        client.transact(write).unwrap();
        tries > commits
    });
}

#[test]
fn the_proxy_counts_dependent_round_trips() {
    let xenstored = Xenstored::start(Flavor::C);
    let proxy = Proxy::start(xenstored.socket());
    let mut client = RawClient::connect(proxy.socket()).unwrap();

    for n in 0..5 {
        client.write(&format!("/serial/{n}"), "").unwrap();
    }
    assert_eq!((proxy.round_trips(), proxy.count(Op::WRITE)), (5, 5));

    proxy.reset();
    let burst: Vec<u32> = (0..50)
        .map(|n| client.send(Op::READ, format!("/serial/{n}\0").as_bytes()).unwrap())
        .collect();
    for request in burst {
        client.receive(request).unwrap();
    }
    assert_eq!((proxy.round_trips(), proxy.count(Op::READ)), (1, 50));
    assert_eq!(proxy.requests()[3].path(), "/serial/3");

    proxy.reset();
    client.transact(|client| client.mkdir("/made")).unwrap();
    let ops: Vec<_> = proxy.requests().iter().map(|r| (r.op, r.transaction != 0)).collect();
    assert_eq!(
        ops,
        [(Op::TRANSACTION_START, false), (Op::MKDIR, true), (Op::TRANSACTION_END, true)]
    );
    assert_eq!(proxy.round_trips(), 3);
}

#[test]
fn the_proxy_loses_the_request_or_the_reply() {
    let xenstored = Xenstored::start(Flavor::C);
    let proxy = Proxy::start(xenstored.socket());
    for (lost, path, done) in [(Lost::Request, "/request", None), (Lost::Reply, "/reply", Some(""))]
    {
        let mut client = RawClient::connect(proxy.socket()).unwrap();
        proxy.cut_after(1, lost);
        client.write("/before", "").unwrap();
        client.write(path, "").expect_err("the connection is cut");
        assert!(!proxy.is_armed());
        assert_eq!(xenstored.client().get(path).unwrap().as_deref(), done, "{lost:?}");
    }
}

#[test]
fn the_proxy_pauses_injects_cuts_and_refuses() {
    let xenstored = Xenstored::start(Flavor::OCaml);
    let proxy = Proxy::start(xenstored.socket());
    let mut client = RawClient::connect(proxy.socket()).unwrap();

    proxy.pause();
    let request = client.send(Op::MKDIR, b"/held\0").unwrap();
    wait_until(PATIENCE, "the daemon has done it", || {
        xenstored.client().get("/held").unwrap().is_some()
    });
    proxy.resume();
    assert_eq!(client.receive(request).unwrap().op, Op::MKDIR);

    proxy.inject(&[0xff; 16]);
    client.get("/held").expect_err("garbage is no reply");

    let mut client = RawClient::connect(proxy.socket()).unwrap();
    client.mkdir("/x").unwrap();
    proxy.refuse(true);
    proxy.cut();
    client.get("/x").expect_err("the connection is cut");
    let refused = RawClient::connect(proxy.socket()).and_then(|mut c| c.request(Op::READ, b"/x\0"));
    refused.expect_err("new connections are closed");
    proxy.refuse(false);
    RawClient::connect(proxy.socket()).unwrap().mkdir("/x").unwrap();
}

/// Tells a process that it is the [`Spectator`] of its test.
const SPECTATOR: &str = "PVUSB_TEST_SPECTATOR";

/// Runs the test of this name, on a machine with one bus. The test starts itself once more, in a
/// process with the preload libraries of the test bed: that one is its spectator.
fn watched(name: &str, test: impl FnOnce(&UsbBed, &dyn Fn() -> Spectator)) {
    if env::var_os(SPECTATOR).is_some() {
        return spectate();
    }
    let bed = UsbBed::new();
    bed.host(1, PCI);
    test(&bed, &|| Spectator::new(&bed, name));
}

/// Obeys lines on the standard input and answers each with one line that begins with `>`.
#[expect(clippy::print_stdout, reason = "it answers on its standard output")]
fn spectate() {
    let monitor = udev::MonitorBuilder::new().unwrap();
    let monitor = monitor.match_subsystem("usb").unwrap().listen().unwrap();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["list"] => {
                let mut devices = udev::Enumerator::new().unwrap();
                devices.match_subsystem("usb").unwrap();
                let names = devices.scan_devices().unwrap().map(|device| describe(&device));
                println!("> {}", names.collect::<Vec<_>>().join(" "));
            }
            ["show", busid, what] => {
                let path = format!("/sys/bus/usb/devices/{busid}");
                let device = udev::Device::from_syspath(path.as_ref()).unwrap();
                let shown = match device.property_value(what) {
                    Some(property) => Some(property),
                    None => device.attribute_value(what),
                };
                println!(
                    "> {:?}",
                    shown.map(|value| value.as_encoded_bytes().escape_ascii().to_string())
                );
            }
            ["event"] => {
                let event = eventually(PATIENCE, || monitor.iter().next()).unwrap();
                let id_path =
                    event.property_value("ID_PATH").map(|p| p.to_string_lossy().into_owned());
                println!(
                    "> {} {} {}",
                    event.event_type(),
                    describe(&event.device()),
                    id_path.unwrap_or_default()
                );
            }
            ["drain"] => {
                let mut events = 0;
                let error = loop {
                    match monitor.iter().next() {
                        Some(_) => events += 1,
                        None => break io::Error::last_os_error().raw_os_error(),
                    }
                };
                println!("> {events} {error:?}");
            }
            ["write", path, text] => {
                let errno = std::fs::write(path, text).map_err(|error| error.raw_os_error());
                println!("> {errno:?}");
            }
            _ => panic!("{line}"),
        }
    }
}

/// `1-1+` is initialized, `1-1-` is not.
fn describe(device: &udev::Device) -> String {
    let sign = if device.is_initialized() { '+' } else { '-' };
    format!("{}{sign}", device.sysname().to_string_lossy())
}

/// A separate process that looks at a test bed with the crate `udev`.
struct Spectator(Agent);

impl Spectator {
    fn new(bed: &UsbBed, test: &str) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["--exact", "--nocapture", &format!("smoke::{test}")])
            .envs(bed.env())
            .env(SPECTATOR, "1");
        let spectator = Self(Agent::spawn(command));
        wait_until(PATIENCE, "the spectator's monitor", || bed.monitors() == 1);
        spectator
    }

    #[track_caller]
    fn ask(&mut self, question: &str) -> String {
        self.0.tell(question);
        self.0.wait_for_line("> ", PATIENCE)[2..].to_owned()
    }

    fn events<const N: usize>(&mut self) -> [String; N] {
        [(); N].map(|()| self.ask("event"))
    }
}

const PCI: &str = "0000:00:14.0";

#[test]
fn libudev_sees_devices_come_and_go() {
    watched("libudev_sees_devices_come_and_go", |bed, spectator| {
        let mut spectator = spectator();
        assert_eq!(spectator.ask("list"), "usb1+ 1-0:1.0+");

        let serial = b"a\xff\xc3\x28 b".to_vec();
        bed.plug(&UsbDevice::storage("1-1", 2, "").with_serial(serial));
        assert_eq!(
            spectator.events(),
            [
                "add 1-1+ pci-0000:00:14.0-usb-0:1",
                "bind 1-1+ pci-0000:00:14.0-usb-0:1",
                "add 1-1:1.0+ pci-0000:00:14.0-usb-0:1:1.0",
                "bind 1-1:1.0+ pci-0000:00:14.0-usb-0:1:1.0",
            ]
        );
        assert_eq!(spectator.ask("list"), "usb1+ 1-0:1.0+ 1-1+ 1-1:1.0+");
        let shown: [(&str, &str); 8] = [
            ("ID_VENDOR_FROM_DATABASE", r#"Some("Vendor 0781 Inc.")"#),
            ("ID_SERIAL", r#"Some("SanDisk_Ultra_a____b")"#),
            ("DEVNAME", r#"Some("/dev/bus/usb/001/002")"#),
            ("bDeviceClass", r#"Some("00")"#),
            ("idVendor", r#"Some("0781")"#),
            ("speed", r#"Some("480")"#),
            ("serial", r#"Some("a\\xff\\xc3( b")"#),
            ("absent", "None"),
        ];
        for (what, value) in shown {
            assert_eq!(spectator.ask(&format!("show 1-1 {what}")), value, "{what}");
        }

        bed.unplug("1-1");
        let events: [String; 4] = spectator.events();
        let actions = events.each_ref().map(|event| event.split(['+', '-']).next().unwrap());
        assert_eq!(actions, ["unbind 1", "remove 1", "unbind 1", "remove 1"], "{events:?}");
        assert_eq!(spectator.ask("list"), "usb1+ 1-0:1.0+");
    });
}

#[test]
fn a_device_is_not_initialized_before_udev_is_done() {
    watched("a_device_is_not_initialized_before_udev_is_done", |bed, spectator| {
        bed.plug(&UsbDevice::hub("1-1", 2));
        let mut spectator = spectator();
        bed.add_without_udev(&UsbDevice::mouse("1-1.4", 3).with_tag("pvusb"));
        assert!(spectator.ask("list").contains("1-1.4- 1-1.4:1.0-"));
        assert_eq!(spectator.ask("show 1-1.4 ID_PATH"), "None");
        bed.udev_done("1-1.4");
        assert_eq!(spectator.events::<4>()[0], "add 1-1.4+ pci-0000:00:14.0-usb-0:1.4");
        assert!(spectator.ask("list").contains("1-1.4+ 1-1.4:1.0+"));
        bed.unplug("1-1");
        assert!(!bed.is_plugged("1-1.4"));
    });
}

#[test]
fn lost_events_are_reported_once() {
    watched("lost_events_are_reported_once", |bed, spectator| {
        let mut spectator = spectator();
        let delivery = bed.flood("usb1", 2000);
        assert!(delivery.delivered > 0 && delivery.lost > 0, "{delivery:?}");
        let (enobufs, eagain) = (105, 11);
        assert_eq!(spectator.ask("drain"), format!("0 Some({enobufs})"));
        assert_eq!(spectator.ask("drain"), format!("{} Some({eagain})", delivery.delivered));
    });
}

#[test]
fn the_kernel_obeys_and_refuses() {
    watched("the_kernel_obeys_and_refuses", |bed, spectator| {
        bed.plug(&UsbDevice::keyboard("1-1", 2));
        bed.load_driver("usbback");
        let mut spectator = spectator();
        let interface = "1-1:1.0";
        let (ok, nodev) = ("Ok(())", format!("Err(Some({ENODEV}))"));
        let write = |spectator: &mut Spectator, file: &str| {
            spectator.ask(&format!("write /sys/bus/usb/{file} {interface}"))
        };

        assert_eq!(write(&mut spectator, "devices/1-1:1.0/driver/unbind"), ok);
        assert_eq!(bed.driver(interface), None);
        assert!(spectator.ask("event").starts_with("unbind 1-1:1.0+"));
        assert_eq!(write(&mut spectator, "drivers/usbhid/unbind"), nodev);
        assert_eq!(write(&mut spectator, "drivers/usbback/bind"), nodev);
        bed.kernel().gate("usbback", |interface| interface.starts_with("1-1:"));
        assert_eq!(write(&mut spectator, "drivers/usbback/bind"), ok);
        assert_eq!(bed.driver(interface).as_deref(), Some("usbback"));
        let busy = format!("Err(Some({EBUSY}))");
        assert_eq!(write(&mut spectator, "drivers/usbhid/bind"), busy);
        assert_eq!(write(&mut spectator, "drivers/usbback/unbind"), ok);

        bed.kernel().refuse_bind(interface);
        assert_eq!(write(&mut spectator, "drivers_probe"), ok);
        assert_eq!(bed.driver(interface), None);
        bed.kernel().allow_bind(interface);
        assert_eq!(write(&mut spectator, "drivers_probe"), ok);
        assert_eq!(bed.driver(interface).as_deref(), Some("usbhid"));

        let writes = bed.kernel().writes();
        assert_eq!(writes.len(), 8);
        assert_eq!((writes[1].file.as_str(), writes[1].errno), ("drivers/usbhid/unbind", ENODEV));
    });
}

/// Waits until a node has this value.
#[track_caller]
fn await_node(store: &mut RawClient, path: &str, value: Option<&str>) {
    let mut last = None;
    let found = eventually(PATIENCE, || {
        last = store.get(path).ok().flatten();
        (last.as_deref() == value).then_some(())
    });
    assert!(found.is_some(), "{path} is {last:?}, not {value:?}");
}

#[track_caller]
fn await_drivers(bed: &UsbBed, busid: &str, driver: Option<&str>) {
    wait_until(PATIENCE, &format!("{busid}'s interfaces with {driver:?}"), || {
        bed.interfaces(busid).iter().all(|interface| bed.driver(interface).as_deref() == driver)
    });
}

#[test]
fn a_guest_with_qusb_lives_and_dies() {
    for flavor in Flavor::BOTH {
        let (xenstored, bed) = (Xenstored::start(flavor), UsbBed::new());
        let userdata = tempfile::tempdir().unwrap();
        bed.host(1, PCI);
        bed.plug(&UsbDevice::keyboard("1-1", 2));
        bed.plug(&UsbDevice::mouse("1-2", 3));
        let mut toolstack = Toolstack::new(&xenstored, userdata.path()).on(&bed);
        let guest = Guest::new(3, "g3");
        let mut store = xenstored.client();

        toolstack.begin(&guest);
        assert!(store.is_introduced(3).unwrap());
        assert_eq!(store.get("/libxl/3/type").unwrap().as_deref(), Some("pv"));
        assert_eq!(store.perms("/local/domain/3").unwrap(), ["n0", "r3"]);
        assert_eq!(userdata.path().read_dir().unwrap().count(), 0);
        toolstack.finish(&guest);
        assert_eq!(userdata.path().read_dir().unwrap().count(), 1);

        let (qemu, _frontend) = (Qemu::start(&xenstored, &bed, 3), Frontend::start(&xenstored, 3));
        let controller = Controller::qusb(0);
        toolstack.usbctrl_attach(&guest, controller);
        let be = controller.backend(3);
        await_node(&mut store, &format!("{be}/state"), Some("4"));
        assert_eq!(store.perms(&format!("{be}/state")).unwrap(), ["n0", "r3"]);
        assert_eq!(store.perms("/local/domain/3/device/vusb/0/state").unwrap(), ["n3", "r0"]);

        toolstack.usbdev_attach(&guest, controller, (2, "1-1"));
        await_drivers(&bed, "1-1", Some("usbfs"));
        assert_eq!(qemu.held().into_iter().collect::<Vec<_>>(), [((0, 2), "1-1".to_owned())]);
        toolstack.usbdev_attach(&guest, controller, (2, "1-2"));
        wait_until(PATIENCE, "the change that is not seen", || qemu.ignored().len() == 1);
        await_drivers(&bed, "1-2", Some("usbhid"));
        toolstack.usbdev_detach(&guest, controller, 2);
        await_drivers(&bed, "1-1", Some("usbhid"));
        assert_eq!(qemu.aborts(), [""; 0]);
        toolstack.usbdev_attach(&guest, controller, (1, "1-4"));
        wait_until(PATIENCE, "the abort", || qemu.aborts().len() == 1);
        toolstack.usbdev_detach(&guest, controller, 1);

        let again = toolstack.reboot(&guest, 4);
        assert_eq!(again.uuid, guest.uuid);
        assert!(!store.is_introduced(3).unwrap());
        for gone in ["/local/domain/3", "/libxl/3", be.as_str(), "/local/domain/0/backend/qusb"] {
            assert_eq!(store.get(gone).unwrap(), None, "{gone}, {flavor:?}");
        }
        toolstack.die(&again);
        assert!(!store.is_introduced(4).unwrap());
        assert_eq!(store.get("/libxl/4/type").unwrap().as_deref(), Some("pv"));
    }
}

#[test]
fn a_stale_port_survives_the_guest() {
    let (xenstored, bed) = (Xenstored::start(Flavor::C), UsbBed::new());
    let userdata = tempfile::tempdir().unwrap();
    bed.host(1, PCI);
    bed.plug(&UsbDevice::keyboard("1-1", 2));
    let mut toolstack = Toolstack::new(&xenstored, userdata.path()).on(&bed);
    let (guest, controller) = (Guest::new(3, "g3").of_kind(Kind::Hvm), Controller::qusb(0));
    toolstack.create(&guest);
    let mut qemu = Qemu::start(&xenstored, &bed, 3);
    toolstack.usbctrl_attach(&guest, controller);
    toolstack.usbdev_attach(&guest, controller, (1, "1-1"));
    await_drivers(&bed, "1-1", None);
    qemu.kill();
    bed.unplug("1-1");
    toolstack.destroy(&guest);
    let port = format!("{}/port/1", controller.backend(3));
    assert_eq!(xenstored.client().get(&port).unwrap().as_deref(), Some("1-1"));
}

#[test]
fn usbback_takes_what_a_port_names() {
    let (xenstored, bed) = (Xenstored::start(Flavor::OCaml), UsbBed::new());
    let userdata = tempfile::tempdir().unwrap();
    bed.host(1, PCI);
    bed.plug(&UsbDevice::mouse("1-1", 2));
    let usbback = Usbback::load(&xenstored, &bed);
    let mut toolstack = Toolstack::new(&xenstored, userdata.path());
    let (guest, controller) = (Guest::new(5, "pv").without_qusb(), Controller::pv(0));
    toolstack.create(&guest);
    let _frontend = Frontend::start(&xenstored, 5);
    toolstack.usbctrl_attach(&guest, controller);
    await_node(&mut xenstored.client(), &format!("{}/state", controller.backend(5)), Some("4"));

    bed.set_driver("1-1:1.0", None);
    assert_eq!(bed.bind("usbback", "1-1:1.0"), ENODEV);
    toolstack.usbdev_attach(&guest, controller, (1, "1-1"));
    wait_until(PATIENCE, "the port is listed", || !usbback.ports().is_empty());
    let port_ids = std::fs::read_to_string(bed.path("/sys/bus/usb/drivers/usbback/port_ids"));
    assert_eq!(port_ids.unwrap(), "1-1:5:0:1\n");
    assert_eq!(bed.bind("usbback", "1-1:1.0"), 0);
    assert_eq!(usbback.failures(), [""; 0]);
    toolstack.usbdev_detach(&guest, controller, 1);
    wait_until(PATIENCE, "what crashes the real module", || usbback.failures().len() == 1);
}

#[test]
fn a_process_is_heard_and_signalled() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo bye; exit 7' TERM; echo out; echo err >&2; while read line; do echo got $line; done"]);
    let mut agent = Agent::spawn(command);
    agent.wait_for_line("out", PATIENCE);
    agent.tell("word");
    assert_eq!(agent.wait_for_line("got", PATIENCE), "got word");
    assert!(agent.is_running());
    agent.signal("TERM");
    agent.wait_for_line("bye", PATIENCE);
    assert_eq!(agent.wait(PATIENCE).code(), Some(7));
    assert_eq!(agent.lines().iter().filter(|line| *line == "err").count(), 1);
}
