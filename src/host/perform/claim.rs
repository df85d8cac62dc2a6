//! Writing a device into a port, of a controller that is there or of a new one.
//!
//! Round trips: the transaction's start, all reads, all writes with the commit: three. A new
//! controller takes four, because its writes are waited for before the commit: if the domain went
//! meanwhile, setting the permissions of its nodes fails, and a half-made controller must not stay.

use super::Performer;
use super::check::{self, Expect, Unattached};
use super::controller_nodes::{ControllerNodes, Maker};
use super::error::{Changed, Failure};
use super::trail::NewTrail;
use crate::host::look::absent_as_none;
use crate::host::nodes::{ControllerPaths, device_note, format_note, usbback};
use crate::host::xenstore::{Outcome, Reply, Transaction};
use crate::model::{BusId, ControllerSpec, Note, NoteState};
use crate::plan::Claim;
use futures::future::try_join_all;

impl Performer {
    pub(super) async fn claim(&self, claim: &Claim) -> Result<(), Failure> {
        self.expect_same_plug(claim).await?;
        self.xs
            .transaction(async |t| {
                let place = claim.place;
                let paths = ControllerPaths::new(place.domid, place.controller, claim.kind);
                let controller = || Changed::Controller(place);
                let domain = Expect::domain(t, place.domid, claim.uuid);
                let nodes = [
                    Expect::exactly(t, &paths.lx("type"), claim.kind.word(), controller()),
                    Expect::exactly(t, &paths.lx("backend"), &paths.backend, controller()),
                    Expect::one_of(t, &paths.be("state"), &[b"4"], controller()),
                    Expect::exactly(t, &paths.be("online"), "1", controller()),
                    Expect::exactly(t, &paths.port(place.port), "", Changed::Port(place)),
                ];
                let unattached = Unattached::ask(t, claim);
                let (old_drivers, trail) = (ask_old_drivers(t, claim), NewTrail::ask(t, claim));
                check::all(domain).await?;
                check::all(nodes).await?;
                unattached.answer().await?;
                let old_drivers = absent_as_none(old_drivers.await)?.is_some();

                self.expect_unused(&claim.busid).await?;
                self.expect_still_plugged(claim)?;
                if old_drivers {
                    t.defer(t.rm(&usbback(&claim.busid)));
                }
                t.defer(t.write(&paths.port(place.port), claim.busid.to_string().as_bytes()));
                t.defer(write_note(t, claim));
                if let Some(written) = trail.write(t).await? {
                    t.defer(written);
                }
                Ok(Outcome::Commit(()))
            })
            .await
    }

    pub(super) async fn create_controller(
        &self,
        claim: &Claim,
        spec: ControllerSpec,
        with_device: bool,
    ) -> Result<(), Failure> {
        self.expect_same_plug(claim).await?;
        self.xs
            .transaction(async |t| {
                let domain = Expect::domain(t, claim.place.domid, claim.uuid);
                // That the controller is not there yet is part of the survey.
                let unattached = Unattached::ask(t, claim);
                let trail = NewTrail::ask(t, claim);
                check::all(domain).await?;
                unattached.answer().await?;

                self.expect_unused(&claim.busid).await?;
                self.expect_still_plugged(claim)?;
                let nodes = ControllerNodes {
                    domid: claim.place.domid,
                    controller: claim.place.controller,
                    spec,
                    maker: Maker::Agent,
                };
                let mut writes = nodes.write(t, with_device.then_some(claim));
                if with_device {
                    writes.push(write_note(t, claim));
                    writes.extend(trail.write(t).await?);
                }
                try_join_all(writes).await?;
                Ok(Outcome::Commit(()))
            })
            .await
    }

    /// A device that was plugged anew has not been decided about. Reading it can block for as long
    /// as the kernel is busy with it, so it is done off the loop and before the transaction.
    async fn expect_same_plug(&self, claim: &Claim) -> Result<(), Failure> {
        let (usb, busid) = (self.usb.clone(), claim.busid.clone());
        let device = tokio::task::spawn_blocking(move || usb.device(&busid)).await??;
        match device {
            Some(device) if device.plug() == claim.plug => Ok(()),
            Some(_) | None => Err(Changed::Device(claim.busid.clone()).into()),
        }
    }

    /// dom0 may have begun to use a disk since it was looked at. What is only a person's need is not
    /// read again: nothing is lost by it.
    pub(super) async fn expect_unused(&self, busid: &BusId) -> Result<(), Failure> {
        let (usb, name) = (self.usb.clone(), busid.clone());
        let uses = tokio::task::spawn_blocking(move || usb.storage_uses(&name)).await??;
        match uses.into_iter().next() {
            None => Ok(()),
            Some(what) => Err(Changed::InUse(busid.clone(), what).into()),
        }
    }

    /// A busid that is not plugged when QEMU reads it makes QEMU abort, so this is asked as late as
    /// can be.
    fn expect_still_plugged(&self, claim: &Claim) -> Result<(), Failure> {
        if self.usb.device_number(&claim.busid)? == Some(claim.plug.address.device) {
            Ok(())
        } else {
            Err(Changed::Device(claim.busid.clone()).into())
        }
    }
}

/// Drivers noted for an earlier device in the same port must not be bound to this one.
fn ask_old_drivers(t: &Transaction, claim: &Claim) -> Reply<Vec<String>> {
    t.directory(&usbback(&claim.busid))
}

fn write_note(t: &Transaction, claim: &Claim) -> Reply<()> {
    let note = Note {
        plug: claim.plug,
        kind: claim.kind,
        state: NoteState::Attached { place: claim.place, uuid: claim.uuid },
        drivers: Some(claim.drivers.clone()),
    };
    t.write(&device_note(&claim.busid), format_note(&note).as_bytes())
}
