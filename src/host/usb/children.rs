//! What the kernel's other subsystems have made of USB devices: the members of a class in sysfs, and
//! on which device each of them is.
//!
//! Only names and links are read here, and the kernel takes no device's lock for these: nothing in
//! this file waits for a device.

use super::error::Error;
use super::sysfs;
use crate::model::BusId;
use std::path::{Path, PathBuf};

/// A class of sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Disks and partitions.
    Block,
    /// Network interfaces.
    Net,
    /// Keyboards, mice and the like, with their event nodes.
    Input,
}

/// A member of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name: `sdb1`, `eth1`, `event3`.
    pub(super) name: String,
    /// What it is on.
    pub(super) origin: Origin,
}

/// What a member of a class is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The USB device that is plugged there.
    Usb(BusId),
    /// Other hardware.
    Hardware,
    /// Nothing: a program or the kernel has made it up.
    Virtual,
}

/// The members of a class. One that vanishes meanwhile is left out.
pub(super) fn members(root: &Path, class: Class) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    let dir = class.dir(root);
    for name in sysfs::names(&dir)? {
        // What is no link is no member: `/sys/class/net/bonding_masters`.
        if let Some(target) = sysfs::link(&dir.join(&name))? {
            members.push(Member { name, origin: origin(&target) });
        }
    }
    Ok(members)
}

/// The names of the members that are on the device at `busid`.
pub(super) fn names_on(root: &Path, class: Class, busid: &BusId) -> Result<Vec<String>, Error> {
    let members = members(root, class)?.into_iter();
    let on_it = members.filter(|member| matches!(&member.origin, Origin::Usb(on) if on == busid));
    Ok(on_it.map(|member| member.name).collect())
}

impl Class {
    /// Where its members are listed (`Documentation/ABI/testing/sysfs-class*`).
    pub(super) fn dir(self, root: &Path) -> PathBuf {
        root.join("sys/class").join(match self {
            Self::Block => "block",
            Self::Net => "net",
            Self::Input => "input",
        })
    }
}

/// Reads the path of a device: `…/usb1/1-1/1-1.4/1-1.4:1.0/host6/…/block/sdb` is on `1-1.4`.
pub(super) fn origin(target: &Path) -> Origin {
    let parts = || target.components().filter_map(|part| part.as_os_str().to_str());
    let is_bus =
        |part: &&str| part.strip_prefix("usb").is_some_and(|number| number.parse::<u16>().is_ok());
    let below_bus = parts().skip_while(|part| !is_bus(part));
    match below_bus.filter_map(|part| part.parse().ok()).last() {
        Some(busid) => Origin::Usb(busid),
        None if parts().any(|part| part == "virtual") => Origin::Virtual,
        None => Origin::Hardware,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_last_port_in_a_path_is_the_one_that_it_is_on() {
        let of = |path: &str| origin(Path::new(path));
        let usb = |busid: &str| Origin::Usb(busid.parse().unwrap());
        let pci = "../../devices/pci0000:00/0000:00:14.0";
        assert_eq!(of(&format!("{pci}/usb1/1-1/1-1:1.0/host6/block/sdb/sdb1")), usb("1-1"));
        assert_eq!(of(&format!("{pci}/usb1/1-1/1-1.4/1-1.4:1.0/net/eth1")), usb("1-1.4"));
        assert_eq!(of("../../devices/platform/i8042/serio0/input/input1"), Origin::Hardware);
        assert_eq!(of(&format!("{pci}/ata1/1-1/block/sda")), Origin::Hardware);
        assert_eq!(of("../../devices/virtual/block/dm-0"), Origin::Virtual);
    }

    #[test]
    fn what_is_no_link_is_no_member() {
        let root = tempfile::tempdir().unwrap();
        let dir = Class::Net.dir(root.path());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("bonding_masters"), "").unwrap();
        symlink("../../devices/virtual/net/lo", dir.join("lo")).unwrap();
        let members = members(root.path(), Class::Net).unwrap();
        assert_eq!(members, [Member { name: "lo".into(), origin: Origin::Virtual }]);
        assert_eq!(super::members(root.path(), Class::Block), Ok(Vec::new()));
    }
}
