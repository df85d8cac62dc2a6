//! What the journal gets to read: every line that the daemon can write, in one place.
//!
//! Messages are constant, values are fields. INFO is a change that an administrator may want to
//! know, WARN needs somebody to do something, DEBUG is every step and every passing state.

mod journal;
mod log;
mod words;

pub use journal::set_up;
pub use log::{Notable, log};
pub use words::words;
