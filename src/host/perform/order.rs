//! Noting what a person said about a device.

use super::Performer;
use super::check::{self, Expect};
use super::error::{Changed, Failure};
use crate::host::look::{absent_as_none, port_content};
use crate::host::nodes::{
    ControllerPaths, device_note, format_note, format_override, override_node,
};
use crate::host::xenstore::{Outcome, Transaction};
use crate::model::{BusId, Note, NoteState, Override, Place, PortContent};

impl Performer {
    /// One transaction: an order that is half noted would be another one.
    pub(super) async fn note_order(
        &self,
        busid: &BusId,
        said: Option<&Override>,
        taken_out: Option<&Note>,
    ) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let node = override_node(busid);
                // xenstored refuses to remove a node whose parent is not there.
                let there = t.directory(&node);
                if let Some(note) = taken_out {
                    expect_taken_out(t, busid, note).await?;
                    let returning = Note { state: NoteState::Returning, ..note.clone() };
                    t.defer(t.write(&device_note(busid), format_note(&returning).as_bytes()));
                }
                let is_there = absent_as_none(there.await)?.is_some();
                match said {
                    Some(said) => t.defer(t.write(&node, format_override(said).as_bytes())),
                    None if is_there => t.defer(t.rm(&node)),
                    None => {}
                }
                Ok(Outcome::Commit(()))
            })
            .await
    }
}

/// The note is what it was, and its port is still without the device. Otherwise the device would be
/// in a port of which no note tells.
async fn expect_taken_out(t: &Transaction, busid: &BusId, note: &Note) -> Result<(), Failure> {
    let NoteState::Attached { place, .. } = note.state else { return Ok(()) };
    let Place { domid, controller, port } = place;
    let content = t.read(&ControllerPaths::new(domid, controller, note.kind).port(port));
    let changed = Changed::Device(busid.clone());
    let same = Expect::exactly(t, &device_note(busid), &format_note(note), changed);
    check::all([same]).await?;
    match absent_as_none(content.await)?.map(|content| port_content(&content)) {
        Some(PortContent::Taken(there)) if there == *busid => Err(Changed::Port(place).into()),
        Some(_) | None => Ok(()),
    }
}
