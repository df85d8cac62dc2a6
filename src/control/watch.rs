//! The words of `watch`: everything that the agent shows first, then what changes, as it happens.
//!
//! What a client knows of devices and domains are rows. A notice brings a row anew or takes it away, so a
//! client that puts rows where the row before them was has the same table as the agent. What was told are
//! lines, each with a number: by it a client that comes back gets those that it has missed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a client that comes back has heard already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// The agent that it heard it from ([`WatchOutcome::agent`]).
    pub agent: String,
    /// The number of the last line.
    pub seq: u64,
}

/// Everything, to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchOutcome {
    /// Names this run of the agent: numbers of lines begin anew with each.
    pub agent: String,
    /// The number of the last line that was told; 0 before the first.
    pub seq: u64,
    /// Whether no line is missing between what the client had heard and `said`; `true` when it had
    /// heard nothing.
    pub complete: bool,
    /// The lines that it has missed.
    pub said: Vec<Said>,
    /// Whether the agent has a connection to xenstore.
    pub xenstore: bool,
    /// What is plugged, and what a port names.
    pub devices: Vec<DeviceRow>,
    /// The domains.
    pub domains: Vec<DomainRow>,
}

/// A line that was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Its number; the next one's is one more.
    pub seq: u64,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// What happened, in a word that never changes (docs/messages.md).
    pub event: String,
    /// The line as the journal has it.
    pub line: String,
    /// What stands in it.
    pub fields: BTreeMap<String, Field>,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
}

/// A device, or a place that a port names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRow {
    /// Its place: the key of the row.
    pub busid: String,
    /// Bus and device number; `null` when nothing is plugged there.
    pub bus_address: Option<String>,
    /// Vendor and product.
    pub id: Option<String>,
    /// Maker and product as the device calls them; control characters are escaped.
    pub name: Option<String>,
    /// How it stands with it: a word as in [`OrderOutcome::standing`](super::protocol::OrderOutcome::standing).
    pub standing: String,
    /// The same for people, to be read after the busid.
    pub message: String,
    /// Where it is, as far as that is settled.
    pub rests: Rests,
    /// The port that names it.
    pub place: Option<super::protocol::PlaceOutcome>,
    /// The name of that port's domain.
    pub domain: Option<String>,
}

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rests {
    /// In a domain.
    Domain,
    /// In dom0, and it stays there.
    Dom0,
    /// Nobody has it.
    Nobody,
    /// On its way, or it waits for something.
    Waiting,
    /// Something is in the way, which somebody has to look at.
    Stuck,
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainRow {
    /// Its number: the key of the row.
    pub domid: u16,
    /// Its name.
    pub name: String,
    /// `building`, `running`, or `dead`.
    pub state: String,
    /// How many controllers it has.
    pub controllers: usize,
    /// How many ports those have.
    pub ports: usize,
    /// How many of them are free.
    pub free: usize,
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Notice {
    /// A line was told.
    Said(Said),
    /// A row is there, or is another one.
    Device(DeviceRow),
    /// A row has gone.
    DeviceGone {
        /// Its key.
        busid: String,
    },
    /// A row is there, or is another one.
    Domain(DomainRow),
    /// A row has gone.
    DomainGone {
        /// Its key.
        domid: u16,
    },
    /// The connection to xenstore has come or gone.
    Xenstore {
        /// Whether it is there.
        connected: bool,
    },
}
