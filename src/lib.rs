//! `pvusb-agent`: hot-plug automation for USB devices in Xen's dom0.
#![forbid(unsafe_code)]

pub mod cli;
pub mod host;
pub mod model;
pub mod policy;
pub mod policy_file;
