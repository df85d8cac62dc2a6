//! What dom0 does with a device.

use super::text::Text;
use std::fmt;

/// One thing that dom0 does with a device right now. Shown as the rest of a sentence about it:
/// `/dev/sdb1 is mounted on /media/x`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The block device: `/dev/sdb1`.
        device: Text,
        /// The directory.
        at: Text,
    },
    /// It has swap space that is in use.
    Swap {
        /// The block device.
        device: Text,
    },
    /// Something in the kernel keeps it to itself: device-mapper (and so LVM and LUKS), md, bcache,
    /// a loop device, btrfs, zfs.
    Held {
        /// The block device.
        device: Text,
        /// Who keeps it: `dm-0`, `md127`, `loop3`.
        holder: Text,
    },
    /// A network interface of it carries a route of dom0, itself or through a bridge.
    Route {
        /// The interface: `eth1`.
        interface: Text,
    },
    /// It is a keyboard (udev's `ID_INPUT_KEYBOARD`).
    Keyboard,
    /// It is a mouse or a touchpad (udev's `ID_INPUT_MOUSE`, `ID_INPUT_TOUCHPAD`).
    Pointer,
}

impl Use {
    /// Whether data is lost when the device is taken away.
    pub fn is_storage(&self) -> bool {
        match self {
            Self::Mounted { .. } | Self::Swap { .. } | Self::Held { .. } => true,
            Self::Route { .. } | Self::Keyboard | Self::Pointer => false,
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at } => write!(f, "{device} is mounted on {at}"),
            Self::Swap { device } => write!(f, "{device} is swap space in use"),
            Self::Held { device, holder } => write!(f, "{device} is held by {holder}"),
            Self::Route { interface } => write!(f, "{interface} carries a route of dom0"),
            Self::Keyboard => f.write_str("it is a keyboard"),
            Self::Pointer => f.write_str("it is a pointer"),
        }
    }
}
