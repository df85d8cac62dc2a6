//! The text form of the agent's note of a device: words and `key=value` pairs, readable with
//! `xenstore-ls`.

use super::plug::{format_plug, parse_plug};
use crate::model::{Drivers, Note, NoteState, Place};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Writes a note.
pub(in crate::host) fn format_note(note: &Note) -> String {
    let Note { plug, kind, state, drivers } = note;
    let plug = format!("type={kind} {}", format_plug(plug));
    let drivers = drivers.as_ref().map_or_else(String::new, |drivers| {
        let names: Vec<_> = drivers.iter().map(|driver| escaped(driver)).collect();
        format!(" drivers={}", names.join(","))
    });
    let plug = format!("{plug}{drivers}");
    match state {
        NoteState::Attached { place: Place { domid, controller, port }, uuid } => {
            format!("attached {plug} domid={domid} uuid={uuid} controller={controller} port={port}")
        }
        NoteState::Returning => format!("returning {plug}"),
        NoteState::Admitted => format!("admitted {plug}"),
        NoteState::Blocked => format!("blocked {plug}"),
    }
}

/// Reads what [`format_note`] wrote; `None` for anything else. A note that cannot be read counts as
/// none: its device is then left alone, as if somebody else had attached it.
pub(in crate::host) fn parse_note(value: &[u8]) -> Option<Note> {
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let state = words.next()?;
    let pairs: BTreeMap<&str, &str> =
        words.map(|word| word.split_once('=')).collect::<Option<_>>()?;
    let plug = parse_plug(|key| pairs.get(key).copied())?;
    let state = match state {
        "attached" => NoteState::Attached {
            place: Place {
                domid: get(&pairs, "domid")?,
                controller: get(&pairs, "controller")?,
                port: get(&pairs, "port")?,
            },
            uuid: get(&pairs, "uuid")?,
        },
        "returning" => NoteState::Returning,
        "admitted" => NoteState::Admitted,
        "blocked" => NoteState::Blocked,
        _ => return None,
    };
    let drivers = match pairs.get("drivers") {
        None => None,
        Some(&"") => Some(Drivers::new()),
        Some(names) => Some(names.split(',').map(unescaped).collect::<Option<_>>()?),
    };
    Some(Note { plug, kind: get(&pairs, "type")?, state, drivers })
}

/// A driver's name without blanks, commas and the like; some names have them.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let byte = |byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02x}") };
    name.bytes().map(byte).collect()
}

/// What [`escaped`] made of a name.
fn unescaped(text: &str) -> Option<Box<str>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).ok().map(Into::into)
}

fn get<T: FromStr>(pairs: &BTreeMap<&str, &str>, key: &str) -> Option<T> {
    pairs.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_note_reads_aloud_and_round_trips() {
        for text in [
            "attached type=qusb id=05e0:1200 address=1.6 initialized=81234567 domid=5 \
             uuid=6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30 controller=0 port=3",
            "returning type=pv id=0951:1666 address=3.127 initialized=-",
            "admitted type=qusb id=05e0:1200 address=1.6 initialized=81234567",
            "attached type=qusb id=05e0:1200 address=1.6 initialized=81234567 drivers=usbhid domid=5 \
             uuid=6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30 controller=0 port=3",
            "blocked type=qusb id=05e0:1200 address=1.6 initialized=81234567",
            "returning type=pv id=0951:1666 address=3.127 initialized=- drivers=",
            "returning type=pv id=0951:1666 address=3.127 initialized=- drivers=Philips%20webcam,uas",
        ] {
            let note = parse_note(text.as_bytes()).unwrap();
            assert_eq!(format_note(&note), text);
        }
    }

    proptest! {
        #[test]
        fn a_strange_note_is_no_note(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse_note(&bytes), None);
        }
    }
}
