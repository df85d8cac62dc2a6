//! The file of remembered rules beside the policy: read before it, and changed only as a whole.

use super::{read, words};
use crate::model::{Device, GuestName};
use crate::policy::{self, EditError, Policy, Problems, Source};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Its name.
const NAME: &str = "remembered.yaml";

/// Who may read and write it when it is made: as with a policy that a person copies there.
const MODE: u32 = 0o644;

/// Why a rule was not written or removed. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RememberError {
    /// The text cannot be changed.
    #[error("{}", .0.display())]
    Edit(PathBuf, #[source] EditError),
    /// The file cannot be read or written.
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// Where the remembered rules of the policy at `policy` are.
pub fn beside(policy: &Path) -> PathBuf {
    policy.with_file_name(NAME)
}

/// Loads the rules in the file at `path`; a file that is not there has none.
///
/// # Errors
///
/// Every problem of the file.
pub fn load(path: &Path) -> Result<Policy, Problems> {
    let name = path.to_string_lossy();
    match read(path) {
        Ok(bytes) => policy::compile_rules(Source { name: &name, bytes: &bytes }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Policy::default()),
        Err(error) => Err(Problems::unreadable(&name, &words(&error))),
    }
}

/// Writes the rule of `device`: to `target`, or that it stays in dom0. Waits for the disk.
///
/// # Errors
///
/// When that cannot be done.
pub fn remember(
    path: &Path,
    device: &Device,
    target: Option<&GuestName>,
) -> Result<(), RememberError> {
    let name = path.to_string_lossy();
    let bytes = match read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(RememberError::Io(path.to_owned(), error)),
    };
    let source = bytes.as_deref().map(|bytes| Source { name: &name, bytes });
    let text = policy::remember(source, device, target)
        .map_err(|error| RememberError::Edit(path.to_owned(), error))?;
    replace(path, &text).map_err(|error| RememberError::Io(path.to_owned(), error))
}

/// Removes the rule of `device`. Tells whether there was one. Waits for the disk.
///
/// # Errors
///
/// When that cannot be done.
pub fn forget(path: &Path, device: &Device) -> Result<bool, RememberError> {
    let name = path.to_string_lossy();
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(RememberError::Io(path.to_owned(), error)),
    };
    let text = policy::forget(Source { name: &name, bytes: &bytes }, device)
        .map_err(|error| RememberError::Edit(path.to_owned(), error))?;
    let Some(text) = text else { return Ok(false) };
    replace(path, &text).map_err(|error| RememberError::Io(path.to_owned(), error))?;
    Ok(true)
}

/// Replaces the file at once: whoever reads it, also after a loss of power, reads the old or the new
/// one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&path).map_or(MODE, |there| there.permissions().mode() & 0o7777);
    let fresh = path.with_extension("yaml.new");
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    })();
    if written.is_err() {
        // What it holds is of no use; the next try writes it anew in any case.
        drop(fs::remove_file(&fresh));
    }
    written?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_keeps_its_permissions_and_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join(NAME), dir.path().join("elsewhere.yaml"));
        fs::write(&elsewhere, "version: 1\nrules: []\n").unwrap();
        fs::set_permissions(&elsewhere, Permissions::from_mode(0o640)).unwrap();
        symlink(&elsewhere, &path).unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "new");
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777, 0o640);
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "nothing else is left");
    }

    #[test]
    fn no_file_is_no_rule_and_a_bad_one_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        assert_eq!(load(&path).unwrap().rules().len(), 0);
        fs::write(&path, "version: 1\nrulez: []\n").unwrap();
        let problems = load(&path).unwrap_err();
        assert!(problems.render(false).contains("remembered.yaml:2:1"));
    }
}
