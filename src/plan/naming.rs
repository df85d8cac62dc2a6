//! Which domain a person means: by its name, number or UUID.

use crate::model::{DomId, Guest, GuestName, GuestUuid, Life, Text, XenView};

/// What a person calls a domain, as far as it can be told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Called<'a> {
    /// The domain that has this number or UUID.
    Guest(&'a Guest),
    /// A name, which a domain has or is to have.
    Name(GuestName),
}

/// Why no domain can be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// No domain has this number, UUID or name.
    #[error("there is no domain {0}")]
    NoSuchDomain(Text),
    /// A name that no domain can have.
    #[error("{0} is not the name, number or UUID of a domain")]
    BadDomain(Text),
    /// It is dom0, which is meant by nobody who speaks of domains that get devices.
    #[error("dom0 has its devices without a controller of Xen's")]
    Dom0,
}

/// The domain that `text` means. A name need not be one of a domain that runs.
pub(super) fn called<'a>(text: &str, xen: &'a XenView) -> Result<Called<'a>, NameFault> {
    let of = |guest: Option<&'a Guest>| {
        guest.map(Called::Guest).ok_or_else(|| NameFault::NoSuchDomain(text.into()))
    };
    if ["0", "dom0", "Domain-0"].contains(&text) {
        return Err(NameFault::Dom0);
    }
    if let Ok(uuid) = text.parse::<GuestUuid>() {
        return of(xen.guests.values().find(|guest| guest.uuid == uuid));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        let domid = text.parse::<DomId>().ok();
        return of(domid.and_then(|domid| xen.guests.get(&domid)));
    }
    let is_name = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    if is_name {
        Ok(Called::Name(GuestName::new(text)))
    } else {
        Err(NameFault::BadDomain(text.into()))
    }
}

/// The domain that `text` means and that is there. Of two of one name, as during a reboot, the one that
/// runs.
///
/// # Errors
///
/// When there is none.
pub fn guest_called<'a>(text: &str, xen: &'a XenView) -> Result<&'a Guest, NameFault> {
    let name = match called(text, xen)? {
        Called::Guest(guest) => return Ok(guest),
        Called::Name(name) => name,
    };
    let named = || xen.guests.values().filter(|guest| guest.name == name);
    named()
        .find(|guest| guest.life == Life::Running)
        .or_else(|| named().next())
        .ok_or_else(|| NameFault::NoSuchDomain(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::made_up::{guest, host};

    #[test]
    fn a_domain_is_found_by_name_number_and_uuid() {
        let old = Guest { life: Life::Dead, ..guest(4, "kiosk") };
        let xen = host([], [old, guest(5, "kiosk"), guest(6, "desk")]).xen;
        let uuid = xen.guests[&"6".parse().unwrap()].uuid.to_string();
        for (text, domid) in [("kiosk", 5), ("4", 4), ("desk", 6), (&*uuid, 6)] {
            assert_eq!(guest_called(text, &xen).map(|guest| guest.domid.get()), Ok(domid));
        }
        for text in ["7", "lab", "6d3ae5a6-2c8c-4c8b-9d1e-00000000ffff"] {
            assert_eq!(guest_called(text, &xen), Err(NameFault::NoSuchDomain(text.into())));
        }
        for text in ["", " kiosk", "a\nb"] {
            assert_eq!(guest_called(text, &xen), Err(NameFault::BadDomain(text.into())));
        }
        for text in ["0", "dom0", "Domain-0"] {
            assert_eq!(guest_called(text, &xen), Err(NameFault::Dom0));
        }
    }
}
