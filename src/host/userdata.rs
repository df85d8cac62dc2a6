//! Whether the toolstack has finished building a domain.
//!
//! xenstore does not tell. libxl writes a domain's JSON file when it has created all its devices
//! (`libxl_create.c: domcreate_complete`); a controller made before takes the number that libxl is
//! about to use, and the domain's creation fails.

use crate::model::{DomId, GuestUuid};
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

    /// Whether the domain has been built. Without the directory there is no libxl that could be
    /// disturbed.
    pub fn is_built(&self, domid: DomId, uuid: GuestUuid) -> bool {
        self.dir.join(format!("userdata-d.{domid}.{uuid}.libxl-json")).exists()
            || !self.dir.exists()
    }

    /// The domain that a file with this name is about.
    pub fn domain_of(file_name: &str) -> Option<DomId> {
        file_name.strip_prefix("userdata-d.")?.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_domain() {
        let name = "userdata-d.7.6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30.libxl-json";
        assert_eq!(UserData::domain_of(name), "7".parse().ok());
        assert_eq!(UserData::domain_of("userdata-l.7.x.domain-userdata-lock"), None);
    }
}
