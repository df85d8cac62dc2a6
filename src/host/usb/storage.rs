//! What dom0 has on a disk.
//!
//! It is found out without opening the disk: from the agent's and init's lists of mounts,
//! `/proc/swaps` and sysfs. A file system that is mounted in another namespace alone is not seen (docs/threat-model.md).

use super::children::{Class, Member, Origin, members};
use super::error::Error;
use super::sysfs;
use crate::model::{Text, Use};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What dom0 has on these disks and partitions: `sdb`, `sdb1`.
pub(super) fn uses(root: &Path, names: &[String]) -> Result<BTreeSet<Use>, Error> {
    let mut uses = BTreeSet::new();
    if names.is_empty() {
        return Ok(uses);
    }
    let mounts = Mounts::read(root)?;
    let swaps = swaps(root)?;
    let loops = loops(root)?;
    let of_btrfs = btrfs_members(root)?;
    let zfs = sysfs::exists(&root.join("sys/module/zfs"));
    for name in names {
        let dir = Class::Block.dir(root).join(name);
        let path = format!("/dev/{name}");
        let device = || Text::from(path.as_str());
        let held = |holder: &str| Use::Held { device: device(), holder: holder.into() };
        let number = sysfs::read(&dir.join("dev"))?.unwrap_or_default();
        uses.extend(mounts.of(&number, &path).map(|at| Use::Mounted { device: device(), at }));
        if swaps.contains(path.as_bytes()) {
            uses.insert(Use::Swap { device: device() });
        }
        for holder in sysfs::names(&dir.join("holders"))? {
            uses.insert(held(&with_dm_name(root, &holder)?));
        }
        let over = loops.iter().filter(|(_, backing)| backing == path.as_bytes());
        uses.extend(over.map(|(name, _)| held(name)));
        if of_btrfs.contains(name) {
            uses.insert(held("btrfs"));
        }
        if zfs && is_of_zfs(&dir)? {
            uses.insert(held("zfs"));
        }
    }
    Ok(uses)
}

/// The lines of `/proc/self/mountinfo` and, where it may be read, of `/proc/1/mountinfo`
/// (`proc_pid_mountinfo(5)`): a service's own view lacks what its sandbox hides
/// (`systemd.exec(5)`, `ProtectHome=`).
struct Mounts(Vec<Mount>);

struct Mount {
    number: Vec<u8>,
    source: Vec<u8>,
    at: Vec<u8>,
}

impl Mounts {
    fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join("proc/self/mountinfo");
        // Without it nothing says that a disk is free.
        let Some(text) = sysfs::read(&path)? else {
            return Err(Error::Malformed { path, what: "is not there" });
        };
        let mut mounts = Self::of_text(path, &text)?;
        let path = root.join("proc/1/mountinfo");
        match sysfs::read(&path) {
            Ok(Some(text)) => mounts.0.extend(Self::of_text(path, &text)?.0),
            // Not everybody may look at init.
            Ok(None) | Err(Error::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(mounts)
    }

    fn of_text(path: PathBuf, text: &[u8]) -> Result<Self, Error> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mounts: Option<Vec<Mount>> = lines.map(mount).collect();
        mounts.map(Self).ok_or(Error::Malformed { path, what: "is not a list of mounts" })
    }

    /// Where the device with this number and path is mounted. Some file systems have a number of
    /// their own and name the device as their source, or several of them with colons.
    fn of(&self, number: &[u8], path: &str) -> impl Iterator<Item = Text> {
        let is_source = |mount: &Mount| {
            mount.source.split(|byte| *byte == b':').any(|source| source == path.as_bytes())
        };
        let of_it = self.0.iter().filter(move |m| m.number == number || is_source(m));
        of_it.map(|mount| Text::new(&mount.at))
    }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = fields.nth(2)?.to_owned();
    let at = unescaped(fields.nth(1)?);
    // Any number of optional fields ends with a dash.
    fields.find(|field| *field == b"-")?;
    let source = unescaped(fields.nth(1)?);
    Some(Mount { number, source, at })
}

/// The files and devices in `/proc/swaps`, without its headline. A kernel without swap has none.
fn swaps(root: &Path) -> Result<BTreeSet<Vec<u8>>, Error> {
    let text = sysfs::read(&root.join("proc/swaps"))?.unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    let names = lines.filter_map(|line| line.split(|byte| *byte == b' ').next());
    Ok(names.map(unescaped).collect())
}

/// The loop devices in use, with what is behind each (`drivers/block/loop.c:
/// loop_attr_backing_file_show`).
fn loops(root: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut loops = Vec::new();
    for Member { name, origin } in members(root, Class::Block)? {
        if origin == Origin::Virtual
            && let dir = Class::Block.dir(root).join(&name)
            && let Some(backing) = sysfs::read(&dir.join("loop/backing_file"))?
        {
            loops.push((name, backing));
        }
    }
    Ok(loops)
}

/// The block devices of the btrfs file systems that are mounted in any namespace
/// (`fs/btrfs/sysfs.c: btrfs_sysfs_add_device`). mountinfo names one device of several.
fn btrfs_members(root: &Path) -> Result<BTreeSet<String>, Error> {
    let dir = root.join("sys/fs/btrfs");
    let mut found = BTreeSet::new();
    for name in sysfs::names(&dir)? {
        found.extend(sysfs::names(&dir.join(name).join("devices"))?);
    }
    Ok(found)
}

/// Whether udev has found a part of a zfs pool there. Which pools are imported sysfs does not tell.
fn is_of_zfs(dir: &Path) -> Result<bool, Error> {
    let property = super::inputs::property(dir, "ID_FS_TYPE")?;
    Ok(property.is_some_and(|kind| kind == "zfs_member"))
}

/// `dm-0 (vg-home)`: people know the names of device-mapper's devices, not the numbers.
fn with_dm_name(root: &Path, holder: &str) -> Result<String, Error> {
    let path: PathBuf = Class::Block.dir(root).join(holder).join("dm/name");
    Ok(match sysfs::read(&path)? {
        Some(name) => format!("{holder} ({})", String::from_utf8_lossy(&name)),
        None => holder.to_owned(),
    })
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits
/// (`fs/proc_namespace.c: mangle`).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = || u8::from_str_radix(std::str::from_utf8(tail.get(..3)?).ok()?, 8).ok();
        let escaped = (*first == b'\\').then(octal).flatten();
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const ON: &str = "devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/block";

    /// A host with the disk `sdb` and its partitions `sdb1` and `sdb2` in `1-1`, all unused.
    fn host() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, path, number) in
            [("sdb", "sdb", "8:16"), ("sdb1", "sdb/sdb1", "8:17"), ("sdb2", "sdb/sdb2", "8:18")]
        {
            block(&root, name, &format!("{ON}/{path}"));
            write(&root, &format!("sys/{ON}/{path}/dev"), &format!("{number}\n"));
        }
        write(&root, "proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        write(&root, "proc/swaps", "Filename\tType\n/dev/sda2   partition 1 0 -2\n");
        root
    }

    fn block(root: &tempfile::TempDir, name: &str, path: &str) {
        fs::create_dir_all(root.path().join("sys").join(path)).unwrap();
        fs::create_dir_all(root.path().join("sys/class/block")).unwrap();
        let link = root.path().join("sys/class/block").join(name);
        symlink(format!("../../{path}"), link).unwrap();
    }

    fn write(root: &tempfile::TempDir, path: &str, text: &str) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn found(root: &tempfile::TempDir) -> Vec<String> {
        let busid = "1-1".parse().unwrap();
        let names = super::super::children::names_on(root.path(), Class::Block, &busid).unwrap();
        assert_eq!(names.len(), 3);
        uses(root.path(), &names).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_disk_that_is_not_used_has_no_uses() {
        assert_eq!(found(&host()), [""; 0]);
    }

    #[test]
    fn a_mount_that_a_sandbox_hides_is_seen_where_init_sees_it() {
        let host = host();
        write(&host, "proc/1/mountinfo", "30 22 8:17 / /media/a rw - vfat /dev/sdb1 rw\n");
        assert_eq!(found(&host).len(), 1);
        write(&host, "proc/1/mountinfo", "nonsense\n");
        let names = ["sdb".to_owned()];
        assert!(matches!(uses(host.path(), &names), Err(Error::Malformed { .. })));
    }

    #[test]
    fn a_mount_is_known_by_its_number_and_by_its_source() {
        let host = host();
        write(
            &host,
            "proc/self/mountinfo",
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             30 22 8:17 /sub /media/a\\040b rw shared:1 master:2 - vfat /dev/disk/by-id/x rw\n\
             31 22 0:40 / /mnt rw - bcachefs /dev/sdc:/dev/sdb2 rw\n",
        );
        assert_eq!(
            found(&host),
            ["/dev/sdb1 is mounted on /media/a b", "/dev/sdb2 is mounted on /mnt"]
        );
    }

    #[test]
    fn swap_space_in_use_is_known_by_its_name() {
        let host = host();
        write(&host, "proc/swaps", "Filename\tType\n/dev/sdb2   partition 1 0 -2\n");
        assert_eq!(found(&host), ["/dev/sdb2 is swap space in use"]);
    }

    #[test]
    fn whoever_holds_a_part_is_named() {
        let host = host();
        block(&host, "dm-0", "devices/virtual/block/dm-0");
        write(&host, "sys/devices/virtual/block/dm-0/dm/name", "vg-home\n");
        fs::create_dir_all(host.path().join(format!("sys/{ON}/sdb/sdb1/holders/dm-0"))).unwrap();
        fs::create_dir_all(host.path().join(format!("sys/{ON}/sdb/holders/md127"))).unwrap();
        block(&host, "loop3", "devices/virtual/block/loop3");
        write(&host, "sys/devices/virtual/block/loop3/loop/backing_file", "/dev/sdb2\n");
        fs::create_dir_all(host.path().join("sys/fs/btrfs/some-uuid/devices/sdb2")).unwrap();
        fs::create_dir_all(host.path().join("sys/fs/btrfs/features")).unwrap();
        assert_eq!(
            found(&host),
            [
                "/dev/sdb is held by md127",
                "/dev/sdb1 is held by dm-0 (vg-home)",
                "/dev/sdb2 is held by btrfs",
                "/dev/sdb2 is held by loop3",
            ]
        );
    }

    #[test]
    fn a_list_of_mounts_that_cannot_be_read_is_no_free_disk() {
        let host = host();
        write(&host, "proc/self/mountinfo", "nonsense\n");
        assert!(uses(host.path(), &["sdb1".to_owned()]).is_err());
        fs::remove_file(host.path().join("proc/self/mountinfo")).unwrap();
        assert!(uses(host.path(), &["sdb1".to_owned()]).is_err());
    }
}
