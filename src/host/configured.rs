//! The domains that somebody has written a configuration for.
//!
//! Reads names and UUIDs out of xl's and libvirt's files, and nothing else: what else is in them is
//! for those programs to judge.

use crate::model::{GuestName, GuestUuid};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where administrators keep xl's configurations (`xl(1)`, `xendomains(8)`).
pub const XL_DIR: &str = "/etc/xen";
/// Where libvirt keeps those of its own.
const LIBVIRT_DIR: &str = "/etc/libvirt/libxl";
/// What is there on hosts that keep their domains in databases of their own: xapi, Qubes.
const OTHERS: [&str; 2] = ["/etc/xensource-inventory", "/var/lib/qubes/qubes.xml"];
/// How the examples are called that come with xl.
const EXAMPLES: &[u8] = b"xlexample";
/// The most that is read of one file; xl's own limit is far below.
const MAX_BYTES: u64 = 1 << 16;

/// A domain by its name, and by its UUID where that is written down.
pub type Known = (GuestName, Option<GuestUuid>);

/// The domains that the files in `xl_dir`, in its `auto`, and libvirt's define. `None` when that says
/// nothing: the directory is not there or not for us to read, or domains are kept elsewhere.
pub fn domains(xl_dir: &Path) -> Option<Vec<Known>> {
    if OTHERS.iter().any(|path| Path::new(path).exists()) {
        return None;
    }
    let mut known = Vec::new();
    let mut files = files(xl_dir).ok()?;
    files.extend(self::files(&xl_dir.join("auto")).unwrap_or_default());
    for path in files {
        let text = read(&path).ok()?;
        let value = |key: &str| text.lines().find_map(|line| assigned(line, key));
        known.extend(value("name").map(|name| named(name, value("uuid"))));
    }
    for path in self::files(Path::new(LIBVIRT_DIR)).unwrap_or_default() {
        let text = read(&path).ok()?;
        known.extend(between(&text, "name").map(|name| named(name, between(&text, "uuid"))));
    }
    Some(known)
}

fn named(name: &str, uuid: Option<&str>) -> Known {
    (GuestName::new(name), uuid.and_then(|uuid| uuid.parse().ok()))
}

/// The plain files of a directory.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_example = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(EXAMPLES);
        if path.file_name().is_some_and(is_example) {
            continue;
        }
        // Of what is named, not of the link; what leads nowhere is nobody's configuration.
        if fs::metadata(&path).is_ok_and(|there| there.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text in `name = "text"` (`xl.cfg(5)`: strings stand between quotes of either kind).
fn assigned<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let value = line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().filter(|text| !text.is_empty())
}

/// The text of the first element of this name.
fn between<'t>(text: &'t str, element: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    let (value, _) = rest.split_once('<')?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uuids_are_found_in_files_of_both_kinds() {
        assert_eq!(assigned("name = \"win 11\" # desk", "name"), Some("win 11"));
        assert_eq!(assigned("\tname='a'", "name"), Some("a"));
        for line in ["# name = \"a\"", "names = \"a\"", "name = \"\"", "name = a", "vname = 'a'"] {
            assert_eq!(assigned(line, "name"), None, "{line}");
        }
        assert_eq!(between("<domain><name>kiosk</name>", "name"), Some("kiosk"));
    }

    #[test]
    fn a_directory_that_is_not_there_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(domains(&dir.path().join("xen")), None);
        let uuid = "6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30";
        fs::write(dir.path().join("a.cfg"), format!("name = \"a\"\nuuid = \"{uuid}\"\n")).unwrap();
        fs::write(dir.path().join("xl.conf"), "autoballoon=\"off\"\n").unwrap();
        fs::create_dir(dir.path().join("auto")).unwrap();
        fs::write(dir.path().join("auto/b"), "name = 'b'\n").unwrap();
        let expected = [(GuestName::new("a"), uuid.parse().ok()), (GuestName::new("b"), None)];
        let found = domains(dir.path()).unwrap_or_default();
        assert!(expected.iter().all(|it| found.contains(it)), "{found:?}");
    }
}
