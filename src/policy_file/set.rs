//! The files of a policy: the main one and the drop-ins beside it, in their order.

use super::{read, words};
use crate::policy::{Linted, Problems, Role, Source, lint_files};
use nix::sys::stat::makedev;
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory of drop-ins, beside the main file.
pub const DROP_INS: &str = "rules.d";

/// What a drop-in's name ends with. Others are no drop-ins: what editors leave behind, `README`.
const EXTENSION: &str = "yaml";

/// The number of `/dev/null` (`Documentation/admin-guide/devices.txt` of the kernel).
const NULL: (u64, u64) = (1, 3);

/// One file of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its path, as it was found.
    pub path: PathBuf,
    /// What it is to the policy.
    pub role: Role,
    /// Where it leads, if it is a link.
    pub link: Option<PathBuf>,
    /// Whether it is there to be empty: a drop-in without a word, or a link to `/dev/null`, stands in
    /// the place of one that a package would put there.
    pub masked: bool,
}

/// Files that were read, or not.
pub(super) struct Set {
    files: Vec<(PolicyFile, Vec<u8>)>,
    unreadable: Vec<Problems>,
}

impl Set {
    /// Reads the main file at `main` and the drop-ins beside it.
    pub(super) fn read(main: &Path) -> Self {
        let mut set = Self { files: Vec::new(), unreadable: Vec::new() };
        set.add(main.to_owned(), Role::Main);
        let directory = main.with_file_name(DROP_INS);
        match listed(&directory) {
            Ok(paths) => paths.into_iter().for_each(|path| set.add(path, Role::DropIn)),
            Err(error) => set.refuse(&directory, &error),
        }
        set
    }

    /// Reads one file.
    pub(super) fn of_one(path: &Path, role: Role) -> Self {
        let mut set = Self { files: Vec::new(), unreadable: Vec::new() };
        set.add(path.to_owned(), role);
        set
    }

    fn add(&mut self, path: PathBuf, role: Role) {
        let link = fs::read_link(&path).ok();
        let bytes = match fs::metadata(&path) {
            Ok(there) if role == Role::DropIn && is_null(&there) => Ok(Vec::new()),
            Ok(_) => read(&path),
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) => {
                let masked = role == Role::DropIn && bytes.trim_ascii().is_empty();
                self.files.push((PolicyFile { path, role, link, masked }, bytes));
            }
            Err(error) => self.refuse(&path, &error),
        }
    }

    fn refuse(&mut self, path: &Path, error: &io::Error) {
        self.unreadable.push(Problems::unreadable(&path.to_string_lossy(), &words(error)));
    }

    /// The policy that they are together, and which files it has.
    pub(super) fn compile(self) -> Result<(Linted, Vec<PolicyFile>), Problems> {
        let read = self.files.iter().filter(|(file, _)| !file.masked);
        let named: Vec<_> = read
            .map(|(file, bytes)| (file.role, file.path.to_string_lossy().into_owned(), bytes))
            .collect();
        let sources: Vec<_> =
            named.iter().map(|(role, name, bytes)| (*role, Source { name, bytes })).collect();
        let compiled = lint_files(&sources);
        let problems = self.unreadable.into_iter().chain(compiled.as_ref().err().cloned());
        match (compiled, Problems::joined(problems)) {
            (Ok(linted), None) => {
                Ok((linted, self.files.into_iter().map(|(file, _)| file).collect()))
            }
            (_, Some(problems)) | (Err(problems), None) => Err(problems),
        }
    }
}

/// The drop-ins in `directory`, in the order of their names' bytes; none when it is not there.
pub(super) fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if is_drop_in(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file of this name counts.
pub(super) fn is_drop_in(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == EXTENSION)
}

fn is_null(there: &Metadata) -> bool {
    there.file_type().is_char_device() && there.rdev() == makedev(NULL.0, NULL.1)
}

/// The directories where a change may be one of the policy at `main`: its own, that of the drop-ins, and
/// those where links lead.
pub fn directories(main: &Path) -> BTreeSet<PathBuf> {
    let own = main.parent().filter(|parent| !parent.as_os_str().is_empty());
    let own = own.unwrap_or(Path::new("."));
    let drop_ins = own.join(DROP_INS);
    let files = listed(&drop_ins).unwrap_or_default().into_iter().chain([main.to_owned()]);
    let ends = files.filter_map(|path| Some(fs::canonicalize(path).ok()?.parent()?.to_owned()));
    let all = ends.chain([own.to_owned(), drop_ins]).filter_map(|path| fs::canonicalize(path).ok());
    // Much happens in /dev, and nothing of it is a policy.
    all.filter(|path| path.is_dir() && path != Path::new("/dev")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_in_yaml_and_is_not_hidden_is_a_drop_in() {
        for (name, expected) in [
            ("50-a.yaml", true),
            ("50-a.yml", false),
            ("50-a.yaml~", false),
            (".50-a.yaml", false),
            (".yaml", false),
            ("README", false),
        ] {
            assert_eq!(is_drop_in(&Path::new("/etc").join(name)), expected, "{name}");
        }
    }
}
