//! What must hold of single nodes, whatever their names and values are.

use super::{
    device_note, driver_path, format_note, format_trail, parse_note, parse_trail, parse_vm, usbback,
};
use crate::host::look::port_content;
use crate::host::userdata::UserData;
use crate::model::{BusId, GuestName, InterfaceName, PortContent, Text, XenbusState};

/// The value of a node, or its name.
///
/// A busid or an interface out of a node makes a path of exactly one component. A note or a trail
/// that was understood is written as it was read. Text can be shown.
///
/// # Panics
///
/// When that does not hold.
pub fn nodes(bytes: &[u8]) {
    if let PortContent::Taken(busid) = port_content(bytes) {
        one_component(&device_note(&busid), "/tool/pvusb-agent/devices/");
        one_component(&usbback(&busid), "/libxl/usbback/");
        assert_eq!(BusId::from_key(&busid.to_key()).ok(), Some(busid));
    }
    if let Some(note) = parse_note(bytes) {
        assert_eq!(parse_note(format_note(&note).as_bytes()), Some(note));
    }
    if let Some(trail) = parse_trail(bytes) {
        assert_eq!(parse_trail(format_trail(&trail).as_bytes()), Some(trail));
    }
    let text = Text::new(bytes);
    assert!(!text.as_str().chars().any(char::is_control), "{text:?}");
    assert!(text.as_str().chars().count() <= Text::MAX_CHARS + 1);
    let _: XenbusState = XenbusState::from_node(bytes);
    let name = String::from_utf8_lossy(bytes);
    let _: GuestName = GuestName::new(&name);
    let _: Option<_> = UserData::domain_of(&name);
    if let Some(uuid) = parse_vm(bytes) {
        assert_eq!(parse_vm(format!("/vm/{uuid}").as_bytes()), Some(uuid));
    }
    if let Ok(interface) = InterfaceName::from_key(&name) {
        let path = driver_path(&interface);
        let parent = format!("{}/", usbback(interface.busid()));
        one_component(path.strip_suffix("/driver_path").unwrap_or_default(), &parent);
    }
}

fn one_component(path: &str, parent: &str) {
    let name = path.strip_prefix(parent);
    assert!(name.is_some_and(|name| !name.is_empty() && !name.contains('/')), "{path}");
}
