//! Tests against real parts: libudev, xenstored, oxenstored.

mod policy;
