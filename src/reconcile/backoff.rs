//! How long to wait before a failed step is tried again.

use std::time::Duration;

/// The most tries of one step before it rests until something changes.
pub(super) const MAX_ATTEMPTS: u32 = 8;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// The pause after the `attempt`th failure, 1 and up: half a second, doubled each time, one minute
/// at most, shortened by up to a quarter so that devices that failed together do not all come back
/// together. The shortening depends on `seed` alone.
pub(super) fn pause(attempt: u32, seed: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST);
    let mixed =
        seed.wrapping_add(u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let permille = u32::try_from(mixed % 250).unwrap_or(0);
    doubled.saturating_sub(doubled / 1000 * permille)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_is_never_none_and_never_over_a_minute(attempt in 0_u32..1000, seed: u64) {
            let pause = pause(attempt, seed);
            prop_assert!(pause >= FIRST * 3 / 4 && pause <= LONGEST);
        }
    }

    #[test]
    fn pauses_double_and_those_that_failed_together_do_not_come_back_together() {
        for attempt in 1..7 {
            let pauses: Vec<_> = (0..20).map(|seed| pause(attempt, seed)).collect();
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            let full = FIRST * (1 << (attempt - 1));
            assert!(*most <= full && *least >= full * 3 / 4, "{pauses:?}");
            assert!(*most > *least + full / 10, "{pauses:?}");
        }
    }
}
