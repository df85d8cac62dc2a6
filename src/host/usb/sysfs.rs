//! The few file calls that sysfs needs.
//!
//! No knowledge of USB. "Not there" is an answer here, not a failure: in sysfs anything may vanish
//! between two calls.

use super::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Reads a whole attribute, without the newline at its end. `None`: there is no such attribute.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let content = present(path, fs::read(path))?;
    Ok(content.map(|mut bytes| {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        bytes
    }))
}

/// What a link points to. `None`: there is no such link, or it is none.
pub(super) fn link(path: &Path) -> Result<Option<PathBuf>, Error> {
    match fs::read_link(path) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(None),
        target => present(path, target),
    }
}

/// The last component of what a link points to. `None`: there is no such link.
pub(super) fn link_name(path: &Path) -> Result<Option<OsString>, Error> {
    let target = link(path)?;
    Ok(target.and_then(|target| target.file_name().map(ToOwned::to_owned)))
}

/// The names in a directory, as far as they are text; no name of the kernel's is anything else.
/// None when there is no such directory.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let Some(entries) = present(dir, fs::read_dir(dir))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        // A directory that is removed while it is listed ends with ENOENT.
        let Some(entry) = present(dir, entry)? else { break };
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Whether there is something at `path`.
pub(super) fn exists(path: &Path) -> bool {
    fs::exists(path).unwrap_or(false)
}

/// Writes an attribute with a single write(2): sysfs takes each call as one whole order.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |error: io::Error| Error::from_io(path, &error);
    let mut file = fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
    loop {
        match file.write(text.as_bytes()) {
            Ok(written) if written == text.len() => return Ok(()),
            Ok(_) => return Err(failed(ErrorKind::WriteZero.into())),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn present<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from_io(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = dir.path().join("nothing");
        assert_eq!(read(&nothing), Ok(None));
        assert_eq!(link_name(&nothing), Ok(None));
        assert_eq!(names(&nothing), Ok(Vec::new()));
        assert!(!exists(&nothing));
    }

    #[test]
    fn one_newline_is_sysfs_and_the_rest_is_the_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("product");
        fs::write(&path, b"two\nlines \xff\n\n").unwrap();
        assert_eq!(read(&path), Ok(Some(b"two\nlines \xff\n".to_vec())));
    }

    #[test]
    fn a_write_never_makes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unbind");
        assert_eq!(write(&path, "1-1:1.0"), Err(Error::Gone { path: path.clone() }));
        fs::write(&path, "").unwrap();
        assert_eq!(write(&path, "1-1:1.0"), Ok(()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1-1:1.0");
    }

    #[test]
    fn a_write_that_the_kernel_does_not_take_fails() {
        let full = Path::new("/dev/full");
        assert!(matches!(write(full, "x"), Err(Error::Io { .. })));
    }
}
