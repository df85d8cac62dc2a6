//! The simulated world: seeds, regressions, crash points, a storm.
//!
//! How many seeds are played is for `PVUSB_AGENT_SEEDS` to say, and how often one that fails is played
//! again to make it short, for `PVUSB_AGENT_SHRINKS`; the long run is the example `soak`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test says what it found")]

mod crashes;
mod rehearse;
mod worlds;
