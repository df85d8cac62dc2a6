//! Everything that can wake the daemon, as one stream of arrivals.

use super::clock::now;
use super::policy_watch::PolicyWatch;
use super::watching::{UserDataWatch, scope_of};
use crate::control::server::{Heard, Server};
use crate::host::device_models::Ends;
use crate::host::usb::{Change, Class, UsbMonitor, UsbReader, UseMonitor};
use crate::host::xenstore::{Notice, Notices};
use crate::host::{usb, xenstore};
use crate::reconcile::Scope;
use std::io;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep_until;

/// How long to wait before udev is listened to again after that failed.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Where things arrive from.
pub(super) struct Arrivals {
    pub(super) monitor: Monitor,
    pub(super) uses: UseMonitor,
    pub(super) userdata: UserDataWatch,
    pub(super) device_models: Ends,
    pub(super) notices: Notices,
    /// None when there is no control socket.
    pub(super) control: Option<Server>,
    /// The policy's files, if they are to be watched.
    pub(super) policy_files: PolicyWatch,
    pub(super) signals: Signals,
}

/// Something that arrived.
#[derive(Debug)]
pub(super) enum Arrival {
    /// These may have changed.
    Stirred(Vec<Scope>),
    /// udev can no longer be listened to.
    MonitorLost(usb::Error),
    /// xenstore is there (again).
    XenstoreBack,
    /// xenstore is not there.
    XenstoreLost(xenstore::Error),
    /// Somebody says something through the control socket.
    Heard(Heard),
    /// The policy is to be read anew.
    Reload,
    /// A file of the policy may have changed.
    PolicyChanged,
    /// The daemon is to end.
    End,
}

impl Arrivals {
    /// Waits for the next arrival. Cancel safe: every source keeps what it has until it is taken.
    pub(super) async fn next(&mut self) -> Arrival {
        tokio::select! {
            arrival = self.monitor.next() => arrival,
            notice = self.notices.next() => match notice {
                Some(Notice::Connected) => Arrival::XenstoreBack,
                Some(Notice::Disconnected(error)) => Arrival::XenstoreLost(error),
                Some(Notice::Changed { watch: _, path }) => {
                    Arrival::Stirred(vec![scope_of(&path)])
                }
                // Cannot be: the daemon holds a handle of the connection.
                None => Arrival::End,
            },
            class = self.uses.changes() => Arrival::Stirred(devices_with(class)),
            scope = self.userdata.changes() => Arrival::Stirred(vec![scope]),
            Some(heard) = hear(&mut self.control) => Arrival::Heard(heard),
            domid = self.device_models.next() => {
                Arrival::Stirred(vec![Scope::Domains([domid].into())])
            }
            () = self.policy_files.changed() => Arrival::PolicyChanged,
            arrival = self.signals.next() => arrival,
        }
    }
}

async fn hear(control: &mut Option<Server>) -> Option<Heard> {
    match control {
        Some(server) => server.next().await,
        None => None,
    }
}

/// The devices with members of this class. Listing them waits for no device.
fn devices_with(class: Class) -> Vec<Scope> {
    match UsbReader::new().with(class) {
        Ok(busids) => busids.into_iter().map(Scope::Device).collect(),
        Err(_) => vec![Scope::Usb],
    }
}

/// udev's events, listened to again when that fails.
pub(super) enum Monitor {
    Open(UsbMonitor),
    Lost(Instant),
}

impl Monitor {
    async fn next(&mut self) -> Arrival {
        match self {
            Self::Open(monitor) => match monitor.changes().await {
                Ok(Change::Devices { devices, disks }) => {
                    let mut scopes: Vec<_> = devices.into_iter().map(Scope::Device).collect();
                    if disks {
                        scopes.extend(devices_with(Class::Block));
                    }
                    Arrival::Stirred(scopes)
                }
                Ok(Change::Everything) => Arrival::Stirred(vec![Scope::Usb]),
                Err(error) => self.lose(error),
            },
            Self::Lost(when) => {
                sleep_until((*when).into()).await;
                match UsbMonitor::open() {
                    Ok(monitor) => {
                        *self = Self::Open(monitor);
                        Arrival::Stirred(vec![Scope::Usb])
                    }
                    Err(error) => self.lose(error),
                }
            }
        }
    }

    fn lose(&mut self, error: usb::Error) -> Arrival {
        *self = Self::Lost(now() + LISTEN_AGAIN);
        Arrival::MonitorLost(error)
    }
}

/// The signals that the daemon obeys.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Arrival {
        tokio::select! {
            _ = self.terminate.recv() => Arrival::End,
            _ = self.interrupt.recv() => Arrival::End,
            _ = self.hangup.recv() => Arrival::Reload,
        }
    }
}
