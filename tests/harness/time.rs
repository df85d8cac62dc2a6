//! Waiting for what is expected, with a deadline. The only file of the harness that reads the clock
//! or sleeps.
#![expect(
    clippy::disallowed_methods,
    reason = "other processes are waited for: somebody has to look at the clock"
)]

use std::thread;
use std::time::{Duration, Instant};

/// How long the harness waits for something that should take milliseconds, on a machine that is
/// busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two looks.
const PERIOD: Duration = Duration::from_millis(2);

/// Waits until `look` finds something; `None` when it has found nothing after `patience`.
pub(crate) fn eventually<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PERIOD);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within `patience`, with a message that says `what` was waited for.
#[track_caller]
pub(crate) fn wait_until(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    assert!(
        eventually(patience, || condition().then_some(())).is_some(),
        "waited {patience:?} in vain: {what}"
    );
}

/// Calls `work` with 0, 1, 2, … so many times a second, until `span` is over. What comes late because
/// the last call took long is made up for at once.
pub(crate) fn paced(rate: u32, span: Duration, mut work: impl FnMut(u64)) {
    let begin = Instant::now();
    let mut at = Duration::ZERO;
    for count in 0.. {
        if at >= span {
            return;
        }
        thread::sleep((begin + at).saturating_duration_since(Instant::now()));
        work(count);
        at += Duration::from_secs(1) / rate;
    }
}

/// Does `work`, and tells how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}
