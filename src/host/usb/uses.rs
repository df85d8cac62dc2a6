//! What dom0 does with a device, put together.

use super::children::{Class, Origin, members, names_on};
use super::error::Error;
use super::{inputs, routes, storage};
use crate::model::{BusId, Use};
use std::collections::BTreeSet;
use std::path::Path;

/// Everything that dom0 does with the device at `busid`. A device in a guest has no drivers of
/// dom0's, so nothing is found.
pub(super) fn of(root: &Path, busid: &BusId) -> Result<BTreeSet<Use>, Error> {
    let mut uses = of_storage(root, busid)?;
    uses.append(&mut routes::uses(root, &names_on(root, Class::Net, busid)?)?);
    uses.append(&mut inputs::uses(root, &names_on(root, Class::Input, busid)?)?);
    Ok(uses)
}

/// What dom0 has on the device's disks.
pub(super) fn of_storage(root: &Path, busid: &BusId) -> Result<BTreeSet<Use>, Error> {
    storage::uses(root, &names_on(root, Class::Block, busid)?)
}

/// The devices with members of this class.
pub(super) fn devices_with(root: &Path, class: Class) -> Result<BTreeSet<BusId>, Error> {
    let members = members(root, class)?.into_iter();
    Ok(members
        .filter_map(|member| match member.origin {
            Origin::Usb(busid) => Some(busid),
            Origin::Hardware | Origin::Virtual => None,
        })
        .collect())
}
