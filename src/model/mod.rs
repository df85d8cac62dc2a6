//! THE VOCABULARY: plain values and newtypes, in Xen's and the kernel's own words.
//!
//! Nothing here reads or writes anything, knows the policy file, or decides. Every name that comes
//! from outside is parsed once, here, into a type that cannot hold a malformed one.

mod asker;
mod attachment;
mod bus;
mod by_hand;
mod controller;
mod device;
mod domain;
mod guest;
mod observed;
mod order;
mod text;
mod trail;
mod udev_facts;
mod usage;

pub use asker::Asker;
pub use attachment::{Drivers, Note, NoteState, Place};
pub use bus::{Anchor, BusAddress, BusId, ClassTriple, NameError, UsbId};
pub use by_hand::{ByHand, Stage};
pub use controller::{
    Controller, ControllerFault, ControllerId, ControllerKind, ControllerSpec, PortContent,
    PortNumber, UsbVersion, XenbusState,
};
pub use device::{Device, Interface, InterfaceName, Plug, Removable, Speed, UsbRelease};
pub use domain::{DomId, GuestName, GuestUuid};
pub use guest::{DeviceModel, Guest, GuestKind, Life};
pub use observed::{Desk, Devices, Leftover, Observed, Returns, XenPart, XenView};
pub use order::{DeviceName, Order, Override};
pub use text::{Text, chain};
pub use trail::Trail;
pub use udev_facts::UdevFacts;
pub use usage::Use;
