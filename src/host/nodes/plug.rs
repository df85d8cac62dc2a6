//! How a plug is written in the agent's nodes: three words, in the same order everywhere.

use crate::model::Plug;

/// The words of a plug.
pub(super) fn format_plug(plug: &Plug) -> String {
    let Plug { address, id, initialized } = plug;
    let initialized = initialized.map_or_else(|| "-".to_owned(), |usec| usec.to_string());
    format!("id={id} address={address} initialized={initialized}")
}

/// Reads a plug; `value_of` gives what is said of a key, and is asked in the order of the words.
pub(super) fn parse_plug<'a>(mut value_of: impl FnMut(&str) -> Option<&'a str>) -> Option<Plug> {
    let id = value_of("id")?.parse().ok()?;
    let address = value_of("address")?.parse().ok()?;
    let initialized = match value_of("initialized")? {
        "-" => None,
        usec => Some(usec.parse().ok()?),
    };
    Some(Plug { address, id, initialized })
}
