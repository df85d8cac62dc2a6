//! THE SIMULATED WORLD: a made-up host that tries to break the agent, in made-up time.
//!
//! The real [`Reconciler`](crate::reconcile::Reconciler) runs in it. Everything else is made up: USB
//! devices and how the kernel and udev tell of them (`usb`, `world`), xenstore (`store`), domains,
//! their device models, usbback and guests (`guests`), an administrator with xl (`xl`), and the
//! executor, effect by effect (`steps`). People give orders (`orders`), some of which are remembered
//! (`remembered`) when the host boots (`boot`), and dom0 needs some devices
//! itself (`guards`). Some of what rules say is asked of each step: who follows whom (`trails`), how
//! long each domain of a list has had (`turns`), and which port is asked for (`wishes`). A run is a list of [`Op`]s; one seed gives the list, how
//! long everything takes, and what goes wrong (`generate`). After each happening the rules are
//! asked (`rules`), and in the end each device's place is judged (`oracle`) by a model that knows
//! nothing of plans.
//!
//! Nothing here reads a file, a socket or a clock; the instant at which a world begins is an
//! argument.

mod agent;
mod boot;
mod generate;
mod guards;
mod guests;
mod keys;
mod op;
mod oracle;
mod orders;
mod random;
mod remembered;
mod report;
mod rules;
mod scenario;
mod shrink;
mod steps;
mod store;
mod storm;
mod trails;
mod turns;
mod usb;
mod wishes;
mod world;
mod xl;

pub use generate::{POLICIES, compile, ops, setting};
pub use keys::json_schema;
pub use op::{Expectation, Fault, GuestSpec, ModelSpec, Op, PlugSpec, Timed};
pub use report::{Counts, Told, Violation};
pub use scenario::{Scenario, read, write};
pub use shrink::{play, shrink};
pub use storm::{Storm, storm};
pub use world::{CrashPoint, Setting, World};
