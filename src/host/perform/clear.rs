//! Emptying a port, and forgetting what was noted of a device.

use super::Performer;
use super::check::{self, Expect};
use super::error::{Changed, Failure};
use crate::host::look::{absent_as_none, port_content};
use crate::host::nodes::{ControllerPaths, device_note, format_note, usbback};
use crate::host::xenstore::{Outcome, Reply, Transaction};
use crate::model::{BusId, ControllerKind, Note, Place, PortContent};
use crate::plan::AfterClear;

impl Performer {
    pub(super) async fn clear_port(
        &self,
        place: Place,
        kind: ControllerKind,
        busid: &BusId,
        after: &AfterClear,
    ) -> Result<(), Failure> {
        self.clear_port_if(place, kind, busid, after, || Ok(())).await
    }

    /// The same, if something holds right before the write.
    pub(super) async fn clear_port_if(
        &self,
        place: Place,
        kind: ControllerKind,
        busid: &BusId,
        after: &AfterClear,
        holds: impl Fn() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let paths = ControllerPaths::new(place.domid, place.controller, kind);
                // Without this, the write would make a garbage node of a controller that is gone.
                let there =
                    Expect::exactly(t, &paths.lx("type"), kind.word(), Changed::Controller(place));
                let port = t.read(&paths.port(place.port));
                let traces = Traces::ask(t, busid);
                check::all([there]).await?;
                let content = absent_as_none(port.await)?.map(|content| port_content(&content));
                let traces = traces.answer().await?;
                if content != Some(PortContent::Taken(busid.clone())) {
                    return Err(Changed::Port(place).into());
                }

                holds()?;
                t.defer(t.write(&paths.port(place.port), b""));
                match after {
                    AfterClear::Gone => traces.remove(t, busid),
                    AfterClear::Returning(note) => write_note(t, busid, note),
                    AfterClear::Replaced(note) => {
                        traces.remove(t, busid);
                        write_note(t, busid, note);
                    }
                }
                Ok(Outcome::Commit(()))
            })
            .await
    }

    pub(super) async fn forget(&self, busid: &BusId) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let traces = Traces::ask(t, busid).answer().await?;
                traces.remove(t, busid);
                Ok(Outcome::Commit(()))
            })
            .await
    }
}

fn write_note(t: &Transaction, busid: &BusId, note: &Note) {
    t.defer(t.write(&device_note(busid), format_note(note).as_bytes()));
}

/// What is noted of a device: asked for before it is removed, since xenstored refuses to remove a
/// node whose parent is not there.
pub(super) struct Traces<Answer> {
    note: Answer,
    drivers: Answer,
}

impl Traces<Reply<Vec<String>>> {
    pub(super) fn ask(t: &Transaction, busid: &BusId) -> Self {
        Self { note: t.directory(&device_note(busid)), drivers: t.directory(&usbback(busid)) }
    }

    pub(super) async fn answer(self) -> Result<Traces<bool>, Failure> {
        Ok(Traces {
            note: absent_as_none(self.note.await)?.is_some(),
            drivers: absent_as_none(self.drivers.await)?.is_some(),
        })
    }
}

impl Traces<bool> {
    pub(super) fn remove(&self, t: &Transaction, busid: &BusId) {
        if self.note {
            t.defer(t.rm(&device_note(busid)));
        }
        if self.drivers {
            t.defer(t.rm(&usbback(busid)));
        }
    }
}
