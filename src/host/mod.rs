//! THE OUTSIDE: small adapters that read and perform, and decide nothing.

pub mod usb;
pub mod xenstore;
