//! `pvusb-agent`: hot-plug automation for USB devices in Xen's dom0.
//!
//! The tree, from the inside out; each part may use only what stands above it
//! (`tests/tidy.rs` holds that):
//!
//! * [`model`]: the vocabulary. Plain values in Xen's and the kernel's words.
//! * [`policy`]: what should be. The text of a policy in, a policy or every problem out.
//! * [`convert`]: somebody else's policy in, one of ours out.
//! * [`plan`]: what to do. Pure functions from policy and observation to the next step.
//! * [`generate`]: a first policy from what is plugged.
//! * [`reconcile`]: when. The state machine that owns order, retries and deadlines.
//! * [`paper`]: hosts that are written down, and tests of policies.
//! * [`sim`]: a made-up host in made-up time, against which the reconciler is held.
//! * [`host`]: the outside. Adapters for udev, sysfs and xenstore. Sees `model` and `plan`'s steps.
//! * [`control`]: the socket by which a running agent is told something.
//! * [`audit`]: who moved what, in files that show when they were changed.
//! * [`daemon`]: the loop. The only clock, the only `select!`.
//! * [`cli`]: one file per verb. [`telemetry`]: what the journal gets to read.
//!
//! `docs/architecture.md` has the drawing and the ten rules that the code keeps.
#![forbid(unsafe_code)]

pub mod audit;
pub mod cli;
pub mod control;
pub mod convert;
pub mod daemon;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod generate;
pub mod host;
pub mod model;
pub mod paper;
pub mod plan;
pub mod policy;
pub mod policy_file;
pub mod reconcile;
pub mod sim;
pub mod telemetry;
