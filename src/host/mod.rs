//! THE OUTSIDE: small adapters that read and perform, and decide nothing.
//!
//! [`usb`] sees devices and handles their drivers, [`xenstore`] is the connection to xenstored,
//! [`look`] reads what xenstore shows, [`perform`] makes steps happen, [`device_models`] tells when
//! one of them ends, [`userdata`] tells when a domain is built, [`configured`] which domains there could
//! be. No policy, no retries, no clock.

pub mod configured;
pub mod device_models;
pub mod look;
pub(crate) mod nodes;
pub mod perform;
pub mod usb;
pub mod userdata;
pub mod xenstore;
