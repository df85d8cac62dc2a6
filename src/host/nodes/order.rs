//! The text form of what a person said about a device: one line of words, readable with
//! `xenstore-ls`.

use super::plug::{format_plug, parse_plug};
use crate::model::{GuestName, Order, Override};

/// Writes an override. The domain's name comes last, because it may contain blanks.
pub(in crate::host) fn format_override(said: &Override) -> String {
    let Override { plug, order, force } = said;
    let force = if *force { "yes" } else { "no" };
    let plug = format!("{} force={force}", format_plug(plug));
    match order {
        Order::Attach(guest) => format!("attach {plug} domain={}", guest.as_str()),
        Order::Stay => format!("stay {plug}"),
        Order::Hold => format!("hold {plug}"),
    }
}

/// Reads what [`format_override`] wrote; `None` for anything else, which then counts as not said.
pub(in crate::host) fn parse_override(value: &[u8]) -> Option<Override> {
    let mut words = std::str::from_utf8(value).ok()?.splitn(6, ' ');
    let word = words.next()?;
    let mut value_of = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
    let plug = parse_plug(&mut value_of)?;
    let force = match value_of("force")? {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    let order = match word {
        "attach" => {
            Order::Attach(value_of("domain").filter(|n| !n.is_empty()).map(GuestName::new)?)
        }
        "stay" => Order::Stay,
        "hold" => Order::Hold,
        _ => return None,
    };
    let said = Override { plug, order, force };
    words.next().is_none().then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_override_reads_aloud_and_round_trips() {
        for text in [
            "attach id=05e0:1200 address=1.6 initialized=81234567 force=yes domain=the kiosk = 2",
            "stay id=0951:1666 address=3.127 initialized=- force=no",
            "hold id=0951:1666 address=3.127 initialized=90000000 force=no",
        ] {
            let said = parse_override(text.as_bytes()).unwrap();
            assert_eq!(format_override(&said), text);
        }
    }

    #[test]
    fn half_an_override_was_not_said() {
        for text in [
            "attach id=05e0:1200 address=1.6 initialized=81234567 force=yes",
            "attach id=05e0:1200 address=1.6 initialized=81234567 force=yes domain=",
            "stay id=0951:1666 address=3.127 initialized=- force=no domain=kiosk",
            "stay id=0951:1666 address=3.127 initialized=- force=maybe",
            "stay address=3.127 id=0951:1666 initialized=- force=no",
            "stay",
        ] {
            assert_eq!(parse_override(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_strange_override_is_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse_override(&bytes), None);
        }
    }
}
