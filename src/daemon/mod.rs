//! THE LOOP: the only `select!`, the only clock. It carries inputs to the reconciler and its outputs
//! to the host, and decides nothing.

mod board;
mod clock;
mod desk;
mod error;
mod events;
mod manager;
mod policy_watch;
mod shell;
mod watching;
mod witness;

pub use error::Error;

use crate::control::server::{AddressError, Groups, Server};
use crate::host::device_models::DeviceModels;
use crate::host::look::XenReader;
use crate::host::perform::Performer;
use crate::host::usb::{Drivers, UsbMonitor, UsbReader, UseMonitor};
use crate::host::userdata::UserData;
use crate::host::xenstore::{Endpoint, Xenstore};
use crate::policy_file::{self, InForce};
use crate::reconcile::Reconciler;
use crate::telemetry::{self, Metrics, Notable, Tape};
use board::Board;
use clock::{date, now};
use desk::Desk;
use events::{Arrivals, Monitor, Signals};
use manager::Manager;
use policy_watch::PolicyWatch;
use shell::Shell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::LocalSet;
use watching::{UserDataWatch, Watches};
use witness::Witness;

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
    /// Where the control socket is to be.
    pub socket: PathBuf,
    /// The group whose members may ask how everything is, and watch.
    pub watch_group: Option<String>,
    /// The group whose members may do that, and attach and detach what nothing protects.
    pub order_group: Option<String>,
    /// Where the audit log is to be kept.
    pub audit: Option<PathBuf>,
    /// What is told from now on.
    pub tape: Tape,
}

/// Runs until it is told to end.
///
/// # Errors
///
/// When the policy is bad, another agent runs, or udev cannot be listened to. A xenstored that is not there is waited
/// for.
pub fn run(options: &Options) -> Result<(), Error> {
    let in_force = policy_file::load_in_force(&options.policy)?;
    let InForce { policy, remembered, files, warnings, mentions: _ } = in_force;
    if let Some(warnings) = &warnings {
        telemetry::log(&Notable::Warned(warnings));
    }
    let policy = Arc::new(policy);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(LocalSet::new().run_until(async {
        let control = open_control(options)?;
        // All are open before anything is read, so that nothing falls in between.
        let monitor = UsbMonitor::open()?;
        let uses = UseMonitor::open().map_err(Error::Uses)?;
        let userdata = UserData::new(&options.userdata);
        let userdata_watch = UserDataWatch::open(&userdata).map_err(Error::UserData)?;
        let policy_files = PolicyWatch::open().map_err(Error::Runtime)?;
        let signals = Signals::open().map_err(Error::Runtime)?;
        let (xs, notices) = Xenstore::open(options.endpoint.clone());

        let (device_models, ends) = DeviceModels::new();
        let xen = XenReader::new(xs.clone(), userdata).holding(device_models);
        let performer = Performer::new(xs.clone(), xen.clone(), UsbReader::new(), Drivers::new());
        let arrivals = Arrivals {
            monitor: Monitor::Open(monitor),
            uses,
            userdata: userdata_watch,
            device_models: ends,
            notices,
            control,
            policy_files,
            signals,
        };
        let mut shell = Shell {
            machine: Reconciler::new(policy),
            watches: Watches::new(xs),
            xen,
            performer,
            desk: Desk::default(),
            policy: options.policy.clone(),
            policy_is_current: true,
            remembered_rules: remembered,
            files,
            watched: BTreeSet::new(),
            file: Arc::default(),
            detach_on_exit: options.detach_on_exit,
            manager: Manager::new(now()),
            tape: options.tape.clone(),
            board: Board::new(date()),
            witness: Witness::new(options.audit.as_deref()),
            metrics: Metrics::new(date()),
        };
        shell.watch_files();
        shell.run(arrivals).await;
        Ok(())
    }));
    // A write to sysfs that the kernel does not let go of must not keep the agent from ending.
    runtime.shutdown_background();
    result
}

/// An agent that cannot be told anything still does its work; two agents would not.
fn open_control(options: &Options) -> Result<Option<Server>, Error> {
    let groups = Groups {
        watch: options.watch_group.as_deref().and_then(group),
        order: options.order_group.as_deref().and_then(group),
    };
    match Server::open(&options.socket, groups) {
        Ok(server) => Ok(Some(server)),
        Err(error @ AddressError::InUse(_)) => Err(Error::Control(error)),
        Err(error @ (AddressError::NotASocket(_) | AddressError::Io(..))) => {
            telemetry::log(&Notable::NoControl(&error));
            Ok(None)
        }
    }
}

/// Without its group fewer may ask; that is no reason to leave devices where they are.
fn group(name: &str) -> Option<u32> {
    match Groups::number(name) {
        Ok(Some(number)) => Some(number),
        Ok(None) => {
            telemetry::log(&Notable::NoGroup(name, None));
            None
        }
        Err(error) => {
            telemetry::log(&Notable::NoGroup(name, Some(&error)));
            None
        }
    }
}
