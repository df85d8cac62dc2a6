//! The clock. Everything else gets the time as an argument.

use std::time::Instant;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
