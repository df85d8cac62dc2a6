//! WHAT TO DO: pure functions from policy and observation to the next step.
//!
//! [`desired`] says where a device should be, [`next`] compares that with where it is and names one
//! small step, removals before additions, and [`interlock`] lets no step pass that would take a
//! protected device from dom0. [`orders`] turns what a person asks for into a step that notes it, and
//! [`desired`] heeds what is noted; [`controllers`] does so for controllers, of which nothing is noted.
//! [`findings`] says what is not as it should be on the host. Nothing here reads a clock, a file or a
//! socket; time is an argument.

pub mod controllers;
pub mod desired;
pub mod explain;
pub mod findings;
pub mod interlock;
#[cfg(test)]
pub(crate) mod made_up;
mod naming;
pub mod next;
pub mod orders;
pub mod ports;
mod since;
pub mod standing;
pub mod step;
pub mod trail;
pub mod turns;

pub use controllers::{ControllerFound, ControllerWanted, Denial};
pub use desired::{Desired, Reason};
pub use explain::{Aside, Asked, Destination, Explanation};
pub use findings::{Finding, FindingCode, Mend, Noted};
pub use interlock::{Cleared, Refusal, Scene};
pub use naming::{NameFault, guest_called};
pub use next::{Moment, Next, Outlook};
pub use orders::{Objection, Planned, Request, Wanted};
pub use since::{HeldDown, Plugs, Since};
pub use standing::{Problem, Standing};
pub use step::{AfterClear, Cause, Claim, Step, StepError, Survey};
pub use turns::Turns;
