//! The USB side of dom0: which devices are plugged, when to look again, and which driver has them.
//!
//! What is seen is put into the words of [`crate::model`]. Nothing here decides: no policy, no
//! retries, no clock. Everything goes through libudev or libc's file calls, never through raw
//! system calls, so a mocked sysfs (umockdev) can stand in for the real one.

mod attributes;
mod changes;
mod children;
mod driver_dir;
mod drivers;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod inputs;
mod monitor;
mod reader;
mod routes;
mod storage;
mod sysfs;
mod uses;

pub use changes::UseMonitor;
pub use children::Class;
pub use driver_dir::{DriverDir, DriverDirError};
pub use drivers::Drivers;
pub use error::Error;
pub use monitor::{Change, UsbMonitor};
pub use reader::{Scan, UsbReader};
