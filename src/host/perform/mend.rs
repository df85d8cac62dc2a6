//! Mending what others left behind. Each mend asks again whether all is as it was seen, in the
//! transaction that changes it: an agent that runs beside it, or xl, may have been faster.

use super::Performer;
use super::check::Unattached;
use super::clear::Traces;
use super::error::{Changed, Failure};
use super::remove::remove_with_parents;
use crate::host::look::absent_as_none;
use crate::host::nodes::{ControllerPaths, device_note, format_note, usbback};
use crate::host::xenstore::{Outcome, Transaction};
use crate::model::{
    BusId, ControllerId, ControllerKind, Device, DomId, InterfaceName, Note, NoteState, Plug,
};
use crate::plan::{AfterClear, Mend, Noted, StepError};

/// The kernel driver that holds a device's interfaces for a `pv` controller.
const USBBACK: &str = "usbback";

impl Performer {
    /// Mends something. Mending it again is harmless.
    ///
    /// # Errors
    ///
    /// Sorted by what to do about them. [`StepError::Stale`]: it is not as it was seen, and nothing
    /// was changed.
    pub async fn mend(&self, mend: &Mend) -> Result<(), StepError> {
        self.dispatch_mend(mend).await.map_err(Failure::sort)
    }

    async fn dispatch_mend(&self, mend: &Mend) -> Result<(), Failure> {
        match mend {
            Mend::ClearStale { place, kind, busid } => {
                let gone = || self.expect_gone(busid);
                self.clear_port_if(*place, *kind, busid, &AfterClear::Gone, gone).await
            }
            Mend::RemoveLeftover(leftover) => self.remove_leftover(*leftover).await,
            Mend::RemoveHusk { domid, controller } => self.remove_husk(*domid, *controller).await,
            Mend::Forget(noted) => self.forget_noted(noted).await,
            Mend::Return { noted, plug } => self.give_back(noted, *plug).await,
        }
    }

    async fn remove_husk(&self, domid: DomId, controller: ControllerId) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let [qusb, pv] = [ControllerKind::Qusb, ControllerKind::Pv]
                    .map(|kind| ControllerPaths::new(domid, controller, kind));
                let (there, kind) = (t.read(&qusb.libxl), t.read(&qusb.lx("type")));
                let backends = [t.read(&qusb.backend), t.read(&pv.backend)];
                there.await?;
                let mut whole = absent_as_none(kind.await)?.is_some();
                for backend in backends {
                    whole |= absent_as_none(backend.await)?.is_some();
                }
                if whole {
                    return Err(Failure::from(Changed::Whole));
                }
                remove_with_parents(t, &qusb.libxl).await?;
                Ok(Outcome::Commit(()))
            })
            .await
    }

    /// Removes what is noted of a device that is gone.
    async fn forget_noted(&self, noted: &Noted) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let traces = Traces::ask(t, &noted.busid);
                expect_as_noted(t, noted).await?;
                let traces = traces.answer().await?;
                self.expect_gone(&noted.busid)?;
                traces.remove(t, &noted.busid);
                Ok(Outcome::Commit(()))
            })
            .await
    }

    /// Gives a device in no port back to dom0's drivers. The note that says so keeps a running agent
    /// from attaching it meanwhile; it may help, and all of this may be done twice.
    async fn give_back(&self, noted: &Noted, plug: Plug) -> Result<(), Failure> {
        let busid = &noted.busid;
        let kind = noted.note.as_ref().map_or(ControllerKind::Pv, |note| note.kind);
        let drivers = noted.note.as_ref().and_then(|note| note.drivers.clone());
        let returning = Note { plug, kind, state: NoteState::Returning, drivers };
        // There only the agent, which knows the policy, says what dom0's drivers may have.
        if self.usb.holds_back(busid)? {
            return Err(Changed::HeldBack(busid.clone()).into());
        }
        self.expect_plug(busid, plug).await?;
        self.prepare().await?;
        self.xs
            .transaction(async |t| {
                expect_as_noted(t, noted).await?;
                let text = format_note(&returning);
                t.defer(t.write(&device_note(busid), text.as_bytes()));
                Ok::<_, Failure>(Outcome::Commit(()))
            })
            .await?;

        let device = self.expect_plug(busid, plug).await?;
        let held: Vec<_> = device.bound_to(USBBACK).cloned().collect();
        self.release_interfaces(&held).await?;
        let free: Vec<InterfaceName> = device.driverless().cloned().chain(held).collect();
        self.bind_again(&free, &self.xen.drivers(busid).await?).await?;
        self.xs
            .transaction(async |t| {
                let (note, drivers) = (t.read(&device_note(busid)), t.directory(&usbback(busid)));
                let drivers = absent_as_none(drivers.await)?.is_some();
                // An agent that was faster has removed it.
                let Some(note) = absent_as_none(note.await)? else { return Ok(Outcome::Abort(())) };
                if note != format_note(&returning).as_bytes() {
                    return Err(Failure::from(Changed::Note(busid.clone())));
                }
                t.defer(t.rm(&device_note(busid)));
                if drivers {
                    t.defer(t.rm(&usbback(busid)));
                }
                Ok(Outcome::Commit(()))
            })
            .await
    }

    fn expect_gone(&self, busid: &BusId) -> Result<(), Failure> {
        match self.usb.device_number(busid)? {
            None => Ok(()),
            Some(_) => Err(Changed::Plugged(busid.clone()).into()),
        }
    }

    async fn expect_plug(&self, busid: &BusId, plug: Plug) -> Result<Device, Failure> {
        let (usb, name) = (self.usb.clone(), busid.clone());
        let device = tokio::task::spawn_blocking(move || usb.device(&name)).await??;
        device
            .filter(|device| device.plug() == plug)
            .ok_or_else(|| Changed::Device(busid.clone()).into())
    }
}

/// The device is in no port, and its note is the one that was seen.
async fn expect_as_noted(t: &Transaction, noted: &Noted) -> Result<(), Failure> {
    let busid = &noted.busid;
    let note = t.read(&device_note(busid));
    let unattached = Unattached::ask_of(t, busid, &noted.survey);
    let note = absent_as_none(note.await)?;
    unattached.answer().await?;
    if note == noted.note.as_ref().map(|note| format_note(note).into_bytes()) {
        Ok(())
    } else {
        Err(Changed::Note(busid.clone()).into())
    }
}
