//! From a path to a policy: the only place that knows both files and policies.
//!
//! It never waits: what is not a plain file is refused, not read.

pub mod remembered;

use crate::policy::{self, Policy, Problems, Source};
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Loads the policy in the file at `path`.
///
/// # Errors
///
/// Every problem of the file. A file that cannot be read is one, with the system's words.
pub fn load(path: &Path) -> Result<Policy, Problems> {
    let name = path.to_string_lossy();
    let bytes = read(path).map_err(|error| Problems::unreadable(&name, &words(&error)))?;
    policy::compile(Source { name: &name, bytes: &bytes })
}

/// A policy as it is in force: with the remembered rules before its own.
#[derive(Clone, Debug)]
pub struct InForce {
    /// All of it.
    pub policy: Policy,
    /// How many of its rules are remembered ones.
    pub remembered: usize,
}

/// Loads the policy in the file at `path`, with the remembered rules beside it.
///
/// # Errors
///
/// Every problem of one of the files; the policy's come first.
pub fn load_in_force(path: &Path) -> Result<InForce, Problems> {
    let policy = load(path)?;
    let first = remembered::load(&remembered::beside(path))?;
    Ok(InForce { remembered: first.rules().len(), policy: first.before(policy) })
}

/// Reads what may be a policy from `reader`: at most one byte more than a policy may have, so that
/// [`policy::compile`] sees when it is too long.
///
/// # Errors
///
/// Those of the reader.
pub fn read_from(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(policy::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the system says of an error, in lower case and without its number.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// Reads what may be a policy, or a text that is read like one, from the plain file at `path`: see
/// [`read_from`].
///
/// # Errors
///
/// Those of the system, and when it is not a plain file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO without a writer would block in open(2).
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    read_from(file)
}
