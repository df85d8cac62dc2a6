//! The text form of a device's trail: one line of words, readable with `xenstore-ls`.

use super::plug::{format_plug, parse_plug};
use crate::model::{Place, Trail};

/// Writes a trail. The rule's name comes last, because it may contain blanks.
pub(in crate::host) fn format_trail(trail: &Trail) -> String {
    let Trail { plug, place, uuid, rule, follows } = trail;
    let Place { domid, controller, port } = place;
    let plug = format_plug(plug);
    let word = if *follows { "follower" } else { "first" };
    format!(
        "{word} {plug} domid={domid} uuid={uuid} controller={controller} port={port} rule={rule}"
    )
}

/// Reads what [`format_trail`] wrote; `None` for anything else, which then counts as no trail.
pub(in crate::host) fn parse_trail(value: &[u8]) -> Option<Trail> {
    let mut words = std::str::from_utf8(value).ok()?.splitn(9, ' ');
    let follows = match words.next()? {
        "follower" => true,
        "first" => false,
        _ => return None,
    };
    let mut value_of = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
    let plug = parse_plug(&mut value_of)?;
    let domid = value_of("domid")?.parse().ok()?;
    let uuid = value_of("uuid")?.parse().ok()?;
    let controller = value_of("controller")?.parse().ok()?;
    let port = value_of("port")?.parse().ok()?;
    let rule = value_of("rule").filter(|rule| !rule.is_empty())?.into();
    let place = Place { domid, controller, port };
    Some(Trail { plug, place, uuid, rule, follows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_trail_reads_aloud_and_round_trips() {
        for text in [
            "first id=05e0:1200 address=1.6 initialized=81234567 domid=5 \
             uuid=6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30 controller=0 port=3 rule=front desk = 2",
            "follower id=0483:df11 address=3.127 initialized=- domid=15 \
             uuid=6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30 controller=9 port=31 rule=x",
        ] {
            let trail = parse_trail(text.as_bytes()).unwrap();
            assert_eq!(format_trail(&trail), text);
        }
    }

    #[test]
    fn half_a_trail_leads_nowhere() {
        let text = "first id=05e0:1200 address=1.6 initialized=7 domid=5 \
                    uuid=6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30 controller=0 port=3 rule=x";
        for (from, to) in
            [("first", "last"), ("rule=x", "rule="), (" rule=x", ""), ("domid=5 ", "")]
        {
            assert_eq!(parse_trail(text.replace(from, to).as_bytes()), None, "{to}");
        }
    }

    proptest! {
        #[test]
        fn a_strange_trail_is_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse_trail(&bytes), None);
        }
    }
}
