//! Whether the toolstack has finished building a domain.
//!
//! xenstore does not tell. libxl writes a domain's JSON file when it has created all its devices
//! (`libxl_create.c: domcreate_complete`); a controller made before takes the number that libxl is
//! about to use, and the domain's creation fails.

use crate::model::{DomId, GuestUuid};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// libxl's directory of files about domains.
#[derive(Clone, Debug)]
pub struct UserData {
    dir: PathBuf,
}

impl UserData {
    /// Where libxl keeps them (`libxl_dom.c: userdata_path`).
    pub const DIR: &str = "/var/lib/xen";

    /// The files in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which domains are built now. To be asked before their nodes are read: the other way round, a
    /// domain that is finished in between looks built, with nodes of a time when it was not.
    pub fn built(&self) -> Built {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Built(None) };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Built(Some(names.filter(|name| Self::domain_of(name).is_some()).collect()))
    }

    /// The domain that a file with this name is about.
    pub fn domain_of(file_name: &str) -> Option<DomId> {
        file_name.strip_prefix("userdata-d.")?.split('.').next()?.parse().ok()
    }
}

/// The domains that were built at one moment.
#[derive(Clone, Debug)]
pub struct Built(Option<BTreeSet<String>>);

impl Built {
    /// Whether this one was. Without the directory there is no libxl that could be disturbed.
    pub fn contains(&self, domid: DomId, uuid: GuestUuid) -> bool {
        let name = format!("userdata-d.{domid}.{uuid}.libxl-json");
        self.0.as_ref().is_none_or(|names| names.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_libxls_directory_every_domain_is_built() {
        let (domid, uuid) = ("7".parse().unwrap(), "6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30");
        let dir = tempfile::tempdir().unwrap();
        let userdata = UserData::new(dir.path());
        assert!(!userdata.built().contains(domid, uuid.parse().unwrap()));
        fs::write(dir.path().join(format!("userdata-d.7.{uuid}.libxl-json")), "{}").unwrap();
        assert!(userdata.built().contains(domid, uuid.parse().unwrap()));
        let nowhere = UserData::new(&dir.path().join("nowhere"));
        assert!(nowhere.built().contains(domid, uuid.parse().unwrap()));
    }

    #[test]
    fn the_name_of_a_file_tells_its_domain() {
        let name = "userdata-d.7.6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30.libxl-json";
        assert_eq!(UserData::domain_of(name), "7".parse().ok());
        assert_eq!(UserData::domain_of("userdata-l.7.x.domain-userdata-lock"), None);
    }
}
