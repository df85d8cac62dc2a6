//! What lies where in xenstore, and how it is written: paths and values, nothing else.
//!
//! Every path is computed from numbers that the agent knows; none is ever read from a node and
//! followed (`docs/threat-model.md`).

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod note;
mod order;
mod paths;
mod plug;
mod shown;
mod trail;

pub(super) use note::{format_note, parse_note};
pub(super) use order::{format_override, parse_override};
pub(super) use paths::{
    ControllerPaths, DEVICE_NOTES, DomainPaths, LIBXL, OVERRIDES, OWN, TRAILS, USBBACK,
    backend_root, device_note, driver_path, override_node, parse_vm, trail_node, usbback,
};
pub(crate) use shown::node_of;
pub(super) use trail::{format_trail, parse_trail};
