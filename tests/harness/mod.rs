//! The test harness: real peers for the agent, and doubles for what cannot run without a
//! hypervisor.
//!
//! | part | what it is | how real |
//! |---|---|---|
//! | [`xenstored`] | Debian's C xenstored and oxenstored, and a proxy that counts and breaks | the real daemons; the hypervisor behind them is made up |
//! | [`usb`] | a made-up sysfs and a made-up udevd | libudev is the real one; the kernel's part is played |
//! | [`backend`] | toolstack, QEMU, usbback and the guest's frontend | doubles, which talk to the real xenstored |
//! | [`agent`] | the program under test, as a process | the real one |
//!
//! It needs the Debian packages `xen-utils-4.17` (or `4.20`), `umockdev`, `gcc` and `libc6-dev`; a test that
//! misses one fails and names it. Nothing needs root, nothing of the machine's /run, /sys or /dev
//! is touched, and any number of tests can run at once.
//!
//! What may not be here: anything of the crate under test. The harness reads and writes the
//! protocols with its own code, so that a mistake made in one of the two is seen.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot do its work fails the test, and the message is the report"
)]
#![allow(dead_code, unused_imports, reason = "no program that includes the harness uses all of it")]

pub(crate) mod agent;
pub(crate) mod backend;
pub(crate) mod cc;
pub(crate) mod time;
pub(crate) mod usb;
pub(crate) mod xenstored;
