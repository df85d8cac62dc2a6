//! WHEN: the state machine that owns order, retries and deadlines.
//!
//! It knows no clock, file or socket. [`Reconciler::handle`] takes one [`Input`] and the time;
//! [`Reconciler::poll`] gives the [`Output`]s, to be drained before the next input;
//! [`Reconciler::deadline`] says when to call back if nothing happens before.

mod asks;
mod backoff;
mod doors;
mod event;
mod job;
mod lookout;
mod machine;
mod memory;
mod preview;

pub use doors::{Answer, Asked, Input, Output, RequestId, Sight, Ticket};
pub use event::Event;
pub use lookout::Scope;
pub use machine::Reconciler;
pub use preview::preview;

#[cfg(test)]
mod tests;
