//! `make demo`: the main job as a short story, on a machine without Xen. The agent, libudev and
//! xenstored are the real ones; the rest is made up (see `tests/harness`).
//!
//! The story is here, chapter by chapter; [`stage`] has the machine and the printing. A chapter
//! panics when something does not go as told.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is made to be read")]
#![expect(clippy::expect_used, clippy::panic, reason = "a panic ends the story; main tells why")]
#![allow(
    clippy::allow_attributes,
    reason = "the harness is shared: what one program leaves unused another needs"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod stage;

use harness::usb::UsbDevice;
use stage::{Stage, heading};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

const OPENING: &str = "\
pvusb-agent: the main job, with no Xen at hand

Real here: the agent, libudev (as umockdev lets it run) and xenstored.
Made up: the USB devices, the hypervisor, and the domains with their device models and guests.
Nothing of this machine's own /sys, /dev and /run is touched. Below, `the agent says` is its own log.";

const POLICY: &str = r#"version: 1
rules:
  - name: the operator's own keyboard
    match: {bus_address: "1.6"}
    keep: dom0
  - name: front desk scanner
    match: {id: "05e0:1200"}
    attach: kiosk
  - name: right-hand ports, whatever is plugged there
    match: {port: "1-2.*"}
    attach: [desk, kiosk]        # the first that runs
"#;

/// A part of the story.
struct Chapter {
    title: &'static str,
    /// What happens, in a sentence or two.
    told: &'static str,
    play: fn(&mut Stage),
}

const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "Cold plug",
        told: "A scanner is plugged in and the domains kiosk and desk run; then the agent starts.",
        play: cold_plug,
    },
    Chapter {
        title: "Plug",
        told: "Somebody plugs a serial adapter into a right-hand port (1-2.3).",
        play: plug,
    },
    Chapter {
        title: "Unplug",
        told: "Somebody pulls the scanner out. Its port in the domain is cleared.",
        play: unplug,
    },
    Chapter {
        title: "Replug in another port",
        told: "The scanner comes back in port 1-3. Its rule goes by its id, so that does not matter.\n\
               (A port that was just emptied rests a moment, so it gets another.)",
        play: replug,
    },
    Chapter {
        title: "A device that a rule keeps",
        told: "The operator's keyboard is plugged into a right-hand port (1-2.4), as address 1.6.\n\
               The first matching rule wins.",
        play: keyboard,
    },
    Chapter {
        title: "A device that no rule wants",
        told: "A memory stick is plugged into port 1-4.",
        play: memory_stick,
    },
    Chapter {
        title: "A domain reboots",
        told: "kiosk reboots and comes back with domid 7 instead of 3. The scanner follows.",
        play: reboot,
    },
    Chapter {
        title: "The agent ends",
        told: "The agent gets SIGTERM. What is attached stays attached.",
        play: end,
    },
];

fn scanner(busid: &str, devnum: u8) -> UsbDevice {
    UsbDevice::new(busid, devnum, 0x05e0, 0x1200)
        .named("Symbol", "Bar Code Scanner")
        .with_interface([3, 0, 0], Some("usbhid"))
}

fn cold_plug(stage: &mut Stage) {
    stage.create(3, "kiosk");
    stage.create(4, "desk");
    stage.bed.plug(&UsbDevice::hub("1-2", 2));
    stage.bed.plug(&scanner("1-1", 3));
    stage.show(&["devices", "--policy", "policy.yaml"]);
    stage.start_agent();
    stage.hear(&["attached"]);
    stage.prove();
    stage.prove_attached("kiosk", "1-1");
    stage.show_controller("kiosk");
    stage.show_note("1-1");
}

fn plug(stage: &mut Stage) {
    stage.bed.plug(&UsbDevice::serial_adapter("1-2.3", 4, "A50285BI"));
    stage.hear(&["plugged", "attached"]);
    stage.prove();
    stage.prove_attached("desk", "1-2.3");
    stage.show(&["list", "--policy", "policy.yaml"]);
}

fn unplug(stage: &mut Stage) {
    stage.bed.unplug("1-1");
    stage.hear(&["unplugged", "port cleared"]);
    stage.prove();
    stage.prove_empty("kiosk", 1);
}

fn replug(stage: &mut Stage) {
    stage.bed.plug(&scanner("1-3", 5));
    stage.hear(&["plugged", "attached"]);
    stage.prove();
    stage.prove_attached("kiosk", "1-3");
}

fn keyboard(stage: &mut Stage) {
    stage.bed.plug(&UsbDevice::keyboard("1-2.4", 6));
    stage.hear(&["plugged", "stays in dom0"]);
    stage.prove();
    stage.prove_in_dom0("1-2.4");
}

fn memory_stick(stage: &mut Stage) {
    stage.bed.plug(&UsbDevice::storage("1-4", 7, "4C530001"));
    stage.hear(&["plugged", "stays in dom0"]);
    stage.prove();
    stage.prove_in_dom0("1-4");
    stage.show(&["devices", "--policy", "policy.yaml"]);
}

fn reboot(stage: &mut Stage) {
    stage.reboot("kiosk", 7);
    stage.hear(&["controller created", "attached"]);
    stage.prove();
    stage.prove_attached("kiosk", "1-3");
}

fn end(stage: &mut Stage) {
    let code = stage.stop_agent();
    assert_eq!(code, Some(0), "the agent's exit code");
    stage.hear(&["ended"]);
    stage.prove();
    stage.prove_attached("kiosk", "1-3");
    stage.prove_attached("desk", "1-2.3");
    stage.show(&["list", "--policy", "policy.yaml"]);
}

fn main() -> ExitCode {
    println!("{OPENING}");
    heading("The policy (policy.yaml)");
    POLICY.lines().for_each(|line| println!("  {line}"));

    let mut stage = match attempt(|| Stage::new(POLICY)) {
        Ok(stage) => stage,
        Err(cause) => {
            eprintln!("\ndemo: cannot begin: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let all = CHAPTERS.len();
    for (number, chapter) in (1..).zip(CHAPTERS) {
        heading(&format!("[{number}/{all}] {}", chapter.title));
        chapter.told.lines().for_each(|line| println!("  {line}"));
        if let Err(cause) = attempt(|| (chapter.play)(&mut stage)) {
            println!("\nAll that the agent said:");
            for line in stage.log() {
                println!("  {}", line.trim());
            }
            println!("\ndemo: chapter {number} ({}) did not go as told: {cause}", chapter.title);
            return ExitCode::FAILURE;
        }
    }
    println!("\ndemo: all {all} chapters went as told");
    ExitCode::SUCCESS
}

/// Does something that panics when it fails; gives what the panic said.
fn attempt<T>(play: impl FnOnce() -> T) -> Result<T, String> {
    // It is told by who calls this.
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(play));
    drop(panic::take_hook());
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}
