//! Performing steps: each becomes one xenstore transaction or a few writes to sysfs.
//!
//! Nothing is decided here. A step says what must hold; when it does not, nothing is changed and the
//! answer is [`StepError::Stale`]. Only steps that the interlock has cleared are taken.

mod check;
mod claim;
mod clear;
mod controller_nodes;
mod controllers;
mod drivers;
mod error;
mod mend;
mod order;
mod quarantine;
mod remove;
mod trail;

use super::usb::{Drivers, UsbReader};
use super::xenstore::{Access, Permission, Xenstore};
use super::{look::XenReader, nodes};
use crate::plan::{Cleared, Step, StepError};
use error::Failure;

/// Performs steps on this host.
#[derive(Clone, Debug)]
pub struct Performer {
    xs: Xenstore,
    xen: XenReader,
    usb: UsbReader,
    drivers: Drivers,
}

impl Performer {
    /// A performer that reaches xenstore through `xs`.
    pub fn new(xs: Xenstore, xen: XenReader, usb: UsbReader, drivers: Drivers) -> Self {
        Self { xs, xen, usb, drivers }
    }

    /// Makes the agent's own directory, for dom0's eyes only. What is made below inherits that. Its
    /// value is the version of what lies there.
    ///
    /// # Errors
    ///
    /// When xenstore does not answer or refuses.
    pub async fn prepare(&self) -> Result<(), super::xenstore::Error> {
        let made = self.xs.write(nodes::OWN, b"1");
        let permissions =
            self.xs.set_perms(nodes::OWN, &[Permission { access: Access::None, domid: 0 }]);
        made.await?;
        permissions.await
    }

    /// Performs one step. Performing it again is harmless.
    ///
    /// # Errors
    ///
    /// Sorted by what to do about them.
    pub async fn perform(&self, cleared: &Cleared) -> Result<(), StepError> {
        self.dispatch(cleared.step()).await.map_err(Failure::sort)
    }

    async fn dispatch(&self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Claim(claim) => self.claim(claim).await,
            Step::CreateController { claim, spec, with_device } => {
                self.create_controller(claim, *spec, *with_device).await
            }
            Step::TakeInterfaces { busid, plug, place, interfaces } => {
                self.take_interfaces(busid, *plug, *place, interfaces).await
            }
            Step::ReleaseInterfaces { busid: _, interfaces } => {
                self.release_interfaces(interfaces).await
            }
            Step::ClearPort { place, kind, busid, after } => {
                self.clear_port(*place, *kind, busid, after).await
            }
            Step::ReturnDrivers { busid, kind, interfaces } => {
                self.return_drivers(busid, *kind, interfaces).await
            }
            Step::Authorize { busid, note, interfaces } => {
                self.authorize(busid, note, interfaces).await
            }
            Step::Deauthorize { busid, plug, note, interfaces } => {
                self.deauthorize(busid, *plug, note.as_ref(), interfaces).await
            }
            Step::Forget { busid } => self.forget(busid).await,
            Step::NoteOrder { busid, said, taken_out } => {
                self.note_order(busid, said.as_ref(), taken_out.as_ref()).await
            }
            Step::DropTrail { busid, trail } => self.drop_trail(busid, trail).await,
            Step::RemoveController { domid, uuid, controller, kind, ports } => {
                self.remove_controller(*domid, *uuid, *controller, *kind, ports).await
            }
            Step::RemoveLeftover(leftover) => self.remove_leftover(*leftover).await,
        }
    }
}
