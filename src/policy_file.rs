//! From a path to a policy: the only place that knows both files and policies.
//!
//! It never waits: what is not a plain file is refused, not read.

pub mod remembered;
mod set;

pub use set::{DROP_INS, PolicyFile, directories};

use crate::policy::{self, Linted, Mentions, Policy, Problems, Role};
use nix::fcntl::OFlag;
use set::Set;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Loads the policy in the file at `path`, and nothing beside it.
///
/// # Errors
///
/// Every problem of the file. A file that cannot be read is one, with the system's words.
pub fn load(path: &Path) -> Result<Policy, Problems> {
    Ok(lint(path, Role::Main)?.policy)
}

/// Loads the file at `path` alone, with warnings.
///
/// # Errors
///
/// As [`load`].
pub fn lint(path: &Path, role: Role) -> Result<Linted, Problems> {
    Ok(Set::of_one(path, role).compile()?.0)
}

/// Loads the drop-in at `path` alone. One that masks has no rules.
///
/// # Errors
///
/// As [`load`].
pub fn load_drop_in(path: &Path) -> Result<Policy, Problems> {
    Ok(lint(path, Role::DropIn)?.policy)
}

/// The drop-ins in a directory, in the order in which they would be read.
///
/// # Errors
///
/// When it cannot be listed.
pub fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, Problems> {
    set::listed(directory)
        .map_err(|error| Problems::unreadable(&directory.to_string_lossy(), &words(&error)))
}

/// A policy as it is in force: its own rules, then those of the drop-ins, and the remembered ones before
/// them all.
#[derive(Clone, Debug)]
pub struct InForce {
    /// All of it.
    pub policy: Policy,
    /// How many of its rules are remembered ones.
    pub remembered: usize,
    /// The files that it was read from, in their order; without that of remembered rules.
    pub files: Vec<PolicyFile>,
    /// What its files say that is hardly meant.
    pub warnings: Option<Problems>,
    /// The domains that its files speak of.
    pub mentions: Mentions,
}

/// Loads the policy in the file at `path`, with the drop-ins and the remembered rules beside it.
///
/// # Errors
///
/// Every problem of every file. Then nothing of them is to be used.
pub fn load_in_force(path: &Path) -> Result<InForce, Problems> {
    let policy = Set::read(path).compile();
    let first = remembered::load(&remembered::beside(path));
    match (policy, first) {
        (Ok((Linted { policy, warnings, mentions }, files)), Ok(first)) => Ok(InForce {
            remembered: first.rules().len(),
            policy: first.before(policy),
            files,
            warnings,
            mentions,
        }),
        (Ok(_), Err(problems)) | (Err(problems), Ok(_)) => Err(problems),
        (Err(one), Err(other)) => Err(one.and(other)),
    }
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
