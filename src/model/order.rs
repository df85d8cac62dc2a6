//! What a person said about a device, over the policy's head.

use super::bus::{BusAddress, BusId, NameError, UsbId};
use super::device::{Device, Plug};
use super::domain::GuestName;
use std::fmt;
use std::str::FromStr;

/// An order about the device at one busid. It goes before the policy, and is kept in xenstore, so it
/// outlives the agent and ends with the host's boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The plug that was there when it was given.
    pub plug: Plug,
    /// What is to be.
    pub order: Order,
    /// Whether reservations that a person may waive are waived for this plug.
    pub force: bool,
}

/// What is to be with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It belongs to the domain of this name, until it is unplugged.
    Attach(GuestName),
    /// It stays in dom0, until it is unplugged.
    Stay,
    /// A device with this id in this port stays in dom0, until the order is released.
    Hold,
}

impl Override {
    /// Whether it speaks of `device` as it is plugged now.
    pub fn covers(&self, device: &Device) -> bool {
        match self.order {
            Order::Attach(_) | Order::Stay => self.plug.is_still(device),
            Order::Hold => self.plug.id == device.id,
        }
    }

    /// Whether it can never again speak of anything, when this is what is plugged there.
    pub fn is_spent(&self, device: Option<&Device>) -> bool {
        match self.order {
            Order::Attach(_) | Order::Stay => !device.is_some_and(|device| self.covers(device)),
            Order::Hold => false,
        }
    }
}

impl Plug {
    /// Whether `device` is this plug; one that udev had not finished with is the same afterwards.
    fn is_still(&self, device: &Device) -> bool {
        let now = device.plug();
        (self.address, self.id) == (now.address, now.id)
            && (self.initialized.is_none() || self.initialized == now.initialized)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(guest) => write!(f, "attach to {guest}"),
            Self::Stay => f.write_str("stay in dom0"),
            Self::Hold => f.write_str("hold in dom0"),
        }
    }
}

/// What a person calls a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// By its place: `1-1.4`.
    At(BusId),
    /// By its address since this plug, in decimal: `1.6`.
    Address(BusAddress),
    /// By what it says it is: `05e0:1200`. Several devices can say the same.
    Id(UsbId),
}

impl DeviceName {
    /// Whether `device` is called so.
    pub fn is_of(&self, device: &Device) -> bool {
        match self {
            Self::At(busid) => device.busid == *busid,
            Self::Address(address) => device.address == *address,
            Self::Id(id) => device.id == *id,
        }
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let busid = || text.parse().ok().map(Self::At);
        let address = || text.parse().ok().map(Self::Address);
        let id = || text.parse().ok().map(Self::Id);
        busid().or_else(address).or_else(id).ok_or_else(|| {
            NameError::new(
                text,
                "a device: a busid such as `1-1.4`, a bus address such as `1.6` (decimal) or an id \
                 such as `05e0:1200`",
            )
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(busid) => busid.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_devices_name_is_told_from_the_others() {
        let forms = ["1-1.4", "1.6", "05e0:1200"].map(|text| text.parse::<DeviceName>().unwrap());
        assert!(matches!(forms, [DeviceName::At(_), DeviceName::Address(_), DeviceName::Id(_)]));
        for text in ["", "1", "0x1.0x6", "1:6", "usb1", "kiosk", "../1-1", "1-1.4:1.0"] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
    }
}
