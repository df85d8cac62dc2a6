//! The text form of the agent's note of a device: words and `key=value` pairs, readable with
//! `xenstore-ls`.

use crate::model::{Note, NoteState, Place, Plug};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Writes a note.
pub(in crate::host) fn format_note(note: &Note) -> String {
    let Note { plug, kind, state } = note;
    let Plug { address, id, initialized } = plug;
    let initialized = initialized.map_or_else(|| "-".to_owned(), |usec| usec.to_string());
    let plug = format!("type={kind} id={id} address={address} initialized={initialized}");
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
    let initialized = match *pairs.get("initialized")? {
        "-" => None,
        usec => Some(usec.parse().ok()?),
    };
    let plug = Plug { address: get(&pairs, "address")?, id: get(&pairs, "id")?, initialized };
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
    Some(Note { plug, kind: get(&pairs, "type")?, state })
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
            "blocked type=qusb id=05e0:1200 address=1.6 initialized=81234567",
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
