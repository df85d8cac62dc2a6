//! Tests against real parts: libudev, xenstored, oxenstored.

#[path = "../harness/mod.rs"]
mod harness;

#[path = "harness.rs"]
mod smoke;
