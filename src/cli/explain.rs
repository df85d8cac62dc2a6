//! `pvusb-agent explain`: why a device is where it is, rule by rule.
//!
//! Reads and shows. What a rule says, `policy` decides; what would be done, `reconcile`.

use super::devices::{self, DeviceFacts};
use super::{EX_IOERR, EX_OK, EX_UNAVAILABLE, EX_USAGE, Refused, fail, host};
use crate::model::{Device, DeviceName, Observed};
use crate::plan::{Explanation, Next, Outlook, Step};
use crate::policy::{Action, Part, Policy, Rule, Verdict};
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub(super) struct ExplainArgs {
    /// A busid (1-1.4), a bus address (1.6) or an id (05e0:1200)
    device: DeviceName,
    /// The policy to judge by; without it, the installed one
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}
