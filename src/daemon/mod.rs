//! THE LOOP: the only `select!`, the only clock. It carries inputs to the reconciler and its outputs
//! to the host, and decides nothing.

mod clock;
mod error;
mod events;
mod manager;
mod shell;
mod watching;

pub use error::Error;

use crate::host::device_models::DeviceModels;
use crate::host::look::XenReader;
use crate::host::perform::Performer;
use crate::host::usb::{Drivers, UsbMonitor, UsbReader};
use crate::host::userdata::UserData;
use crate::host::xenstore::{Endpoint, Xenstore};
use crate::policy_file;
use crate::reconcile::Reconciler;
use clock::now;
use events::{Arrivals, Monitor, Signals};
use manager::Manager;
use shell::Shell;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::LocalSet;
use watching::{UserDataWatch, Watches};

/// What the daemon is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The policy's file.
    pub policy: PathBuf,
    /// Whether everything goes back to dom0 when the daemon ends.
    pub detach_on_exit: bool,
    /// Where xenstored is.
    pub endpoint: Endpoint,
    /// Where libxl keeps its files about domains.
    pub userdata: PathBuf,
}

/// Runs until it is told to end.
///
/// # Errors
///
/// When the policy is bad, or udev cannot be listened to. A xenstored that is not there is waited
/// for.
pub fn run(options: &Options) -> Result<(), Error> {
    let policy = Arc::new(policy_file::load(&options.policy)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(LocalSet::new().run_until(async {
        // Both are open before anything is read, so that nothing falls in between.
        let monitor = UsbMonitor::open()?;
        let userdata = UserData::new(&options.userdata);
        let userdata_watch = UserDataWatch::open(&userdata).map_err(Error::UserData)?;
        let signals = Signals::open().map_err(Error::Runtime)?;
        let (xs, notices) = Xenstore::open(options.endpoint.clone());

        let (device_models, ends) = DeviceModels::new();
        let xen = XenReader::new(xs.clone(), userdata).holding(device_models);
        let performer = Performer::new(xs.clone(), xen.clone(), UsbReader::new(), Drivers::new());
        let arrivals = Arrivals {
            monitor: Monitor::Open(monitor),
            userdata: userdata_watch,
            device_models: ends,
            notices,
            signals,
        };
        let shell = Shell {
            machine: Reconciler::new(policy),
            watches: Watches::new(xs),
            xen,
            performer,
            policy: options.policy.clone(),
            detach_on_exit: options.detach_on_exit,
            manager: Manager::new(now()),
        };
        shell.run(arrivals).await;
        Ok(())
    }));
    // A write to sysfs that the kernel does not let go of must not keep the agent from ending.
    runtime.shutdown_background();
    result
}
