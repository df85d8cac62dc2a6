//! Keyboards and pointers, as udev tells them from other input devices.

use super::children::{Class, Origin, members};
use super::error::{Error, errno_of};
use crate::model::{Desk, Use};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// A device whose keys are those of a keyboard. (`ID_INPUT_KEY` alone is a power button or the like;
/// systemd, `udev-builtin-input_id.c: test_key`.)
const KEYBOARD: &[&str] = &["ID_INPUT_KEYBOARD"];
/// What moves a pointer. A touchscreen does not: it may be the screen of something else.
const POINTER: &[&str] = &["ID_INPUT_MOUSE", "ID_INPUT_TOUCHPAD"];

/// What these input devices are: `input5`, `event3`.
pub(super) fn uses(root: &Path, names: &[String]) -> Result<BTreeSet<Use>, Error> {
    let mut uses = BTreeSet::new();
    for name in names {
        // Looked up once: libudev resolves the path anew for each device object, a dozen directories.
        let Some(device) = in_database(&Class::Input.dir(root).join(name))? else { continue };
        let is_any = |kinds: &[&str]| {
            kinds.iter().any(|kind| device.property_value(kind).is_some_and(|value| value == "1"))
        };
        if is_any(KEYBOARD) {
            uses.insert(Use::Keyboard);
        }
        if is_any(POINTER) {
            uses.insert(Use::Pointer);
        }
    }
    Ok(uses)
}

/// What dom0 has besides USB. What programs have made up does not count: it ends with them.
pub(super) fn desk(root: &Path) -> Result<Desk, Error> {
    let members = members(root, Class::Input)?.into_iter();
    let others = members.filter(|member| member.origin == Origin::Hardware);
    let names: Vec<String> = others.map(|member| member.name).collect();
    let uses = uses(root, &names)?;
    Ok(Desk { keyboard: uses.contains(&Use::Keyboard), pointer: uses.contains(&Use::Pointer) })
}

/// A property in udev's database; none when the device is gone or udev has not processed it.
pub(super) fn property(dir: &Path, name: &str) -> Result<Option<OsString>, Error> {
    let device = in_database(dir)?;
    Ok(device.and_then(|device| device.property_value(name).map(ToOwned::to_owned)))
}

/// A device as udev's database has it; `None` when it is gone.
fn in_database(dir: &Path) -> Result<Option<udev::Device>, Error> {
    match udev::Device::from_syspath(dir).map_err(|error| Error::from_errno(dir, errno_of(&error)))
    {
        Ok(device) => Ok(Some(device)),
        Err(Error::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
