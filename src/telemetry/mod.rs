//! What the journal gets to read: every line that the daemon can write, in one place.
//!
//! Messages are constant, values are fields. INFO is a change that an administrator may want to
//! know, WARN needs somebody to do something, DEBUG is every step and every passing state. `log` words each
//! line, `catalogue` knows each message's number and what is to be done next, and `journal` carries them to
//! who reads them.

pub mod catalogue;
mod journal;
mod log;
mod metrics;
mod told;
mod words;

pub use journal::{Tape, set_up};
pub use log::{Notable, log};
pub use metrics::{Gauges, Metrics};
pub use told::{Told, Value};
pub use words::words;
