//! Doubles for what cannot run without a hypervisor: the toolstack, QEMU, the kernel's usbback and
//! the guest's frontend.
//!
//! They speak to the real xenstored, with the harness's own client, and do what the originals do as
//! far as an agent can see it. They know of the agent nothing but the nodes that it writes.
//!
//! What may not be here: anything that decides what should be attached.

mod frontend;
mod libxl;
mod paths;
mod qemu;
mod toolstack;
mod usbback;
mod worker;

pub(crate) use frontend::Frontend;
pub(crate) use qemu::Qemu;
pub(crate) use toolstack::{Controller, Guest, Kind, Toolstack};
pub(crate) use usbback::Usbback;
