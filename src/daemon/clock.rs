//! The clock. Everything else gets the time as an argument.

use std::time::{Instant, SystemTime};

/// The time now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The date now, for those who read what was told. Nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(super) fn date() -> SystemTime {
    SystemTime::now()
}
