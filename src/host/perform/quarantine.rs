//! Letting a device out of quarantine, and putting it back: which interfaces drivers may have.
//!
//! A write to sysfs can block for seconds, so each is made on a thread of its own, off the loop.

use super::Performer;
use super::error::{Changed, Failure};
use crate::host::nodes::{device_note, format_note};
use crate::host::usb::DriverDir;
use crate::model::{BusId, InterfaceName, Note, Plug};

impl Performer {
    /// The note is written first. The other way round, a kill in between would leave a device that
    /// nobody knows is still to get its drivers.
    pub(super) async fn authorize(
        &self,
        busid: &BusId,
        note: &Note,
        interfaces: &[InterfaceName],
    ) -> Result<(), Failure> {
        self.xs.write(&device_note(busid), format_note(note).as_bytes()).await?;
        for interface in interfaces {
            // The next plug in this port has interfaces of the same names and was not decided about.
            if self.usb.device_number(busid)? != Some(note.plug.address.device) {
                return Err(Changed::Device(busid.clone()).into());
            }
            let name = interface.clone();
            self.off_loop(move |drivers| drivers.authorize(&name, true)).await?;
        }
        Ok(())
    }

    /// The note, if there is one, is written first: what is blocked and not noted would stay so. A driver
    /// that was called back before may have shown dom0 a disk, and somebody may have mounted it.
    pub(super) async fn deauthorize(
        &self,
        busid: &BusId,
        plug: Plug,
        note: Option<&Note>,
        interfaces: &[InterfaceName],
    ) -> Result<(), Failure> {
        if let Some(note) = note {
            self.xs.write(&device_note(busid), format_note(note).as_bytes()).await?;
        }
        self.expect_unused(busid).await?;
        for interface in interfaces {
            if self.usb.device_number(busid)? != Some(plug.address.device) {
                return Err(Changed::Device(busid.clone()).into());
            }
            let name = interface.clone();
            self.off_loop(move |drivers| {
                // Somebody attaches the device meanwhile: then it is theirs, and is decided anew.
                if drivers.driver_dir(&name)? == Some(DriverDir::usbback()) {
                    return Ok(Err(Changed::Taken(name)));
                }
                drivers.authorize(&name, false).map(Ok)
            })
            .await??;
        }
        Ok(())
    }
}
