//! From a path to a host on paper, and to the policy that it is about.

use super::{EX_CONFIG, EX_IOERR};
use crate::paper::{self, Sheet};
use crate::policy::{Problems, Source};
use crate::policy_file;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Reads the host in the file at `path`.
///
/// # Errors
///
/// Every problem of the file. A file that cannot be read is one, with the system's words.
pub(super) fn load(path: &Path) -> Result<Sheet, Problems> {
    let name = path.to_string_lossy();
    let bytes = policy_file::read(path)
        .map_err(|error| Problems::unreadable(&name, &policy_file::words(&error)))?;
    paper::read(Source { name: &name, bytes: &bytes })
}

/// The policy that the text at `path` names, if it does: seen from where the text is.
pub(super) fn policy_named_in(sheet: &Sheet, path: &Path) -> Option<PathBuf> {
    let named = Path::new(sheet.policy()?);
    Some(path.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named)))
}

/// Tells on `err` what is wrong with a file; gives the exit code.
pub(super) fn refuse(problems: &Problems, err: &mut dyn Write, colour: bool) -> u8 {
    match write!(err, "{}", problems.render(colour)) {
        Ok(()) => EX_CONFIG,
        Err(_) => EX_IOERR,
    }
}
