//! What the daemon watches: paths in xenstore and libxl's directory, and what a change there makes
//! old.

use crate::host::userdata::UserData;
use crate::host::xenstore::Xenstore;
use crate::model::{DomId, Observed};
use crate::reconcile::Scope;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watched from the start to the end. Of the domains' own directories only the names are watched,
/// one by one: all of `/local/domain` would let any guest flood the agent.
const ALWAYS: [&str; 7] = [
    "@introduceDomain",
    "@releaseDomain",
    "/libxl",
    "/local/domain/0/backend/qusb",
    "/local/domain/0/backend/vusb",
    "/local/domain/0/device-model",
    "/tool/pvusb-agent",
];

/// The watches in xenstore.
#[derive(Debug)]
pub(super) struct Watches {
    xs: Xenstore,
    names: BTreeSet<DomId>,
}

impl Watches {
    pub(super) fn new(xs: Xenstore) -> Self {
        // A watch needs no connection, and its first event is not waited for: a refusal can only
        // mean that the path is bad, which these are not.
        for path in ALWAYS {
            drop(xs.watch(path));
        }
        Self { xs, names: BTreeSet::new() }
    }

    /// Watches the names of the domains that are there, and of no others.
    pub(super) fn follow(&mut self, observed: &Observed) {
        let there = &observed.xen.domids;
        for domid in self.names.difference(there) {
            drop(self.xs.unwatch(&name_of(*domid)));
        }
        for domid in there.difference(&self.names) {
            drop(self.xs.watch(&name_of(*domid)));
        }
        self.names.clone_from(there);
    }
}

fn name_of(domid: DomId) -> String {
    format!("/local/domain/{domid}/name")
}

/// What a change at `path` makes old.
pub(super) fn scope_of(path: &str) -> Scope {
    let domid = |rest: &str| rest.split('/').next().and_then(|name| name.parse::<DomId>().ok());
    let only = |domid: DomId| Scope::Domains([domid].into());
    if let Some(rest) = path.strip_prefix("/libxl/") {
        return match domid(rest) {
            Some(domid) => only(domid),
            None => Scope::Domains(BTreeSet::new()),
        };
    }
    if path.starts_with("/tool/pvusb-agent") {
        return Scope::Domains(BTreeSet::new());
    }
    let of_domain = ["backend/qusb/", "backend/vusb/", "device-model/"]
        .iter()
        .find_map(|kind| path.strip_prefix("/local/domain/0/")?.strip_prefix(kind))
        .or_else(|| path.strip_prefix("/local/domain/")?.strip_suffix("/name"))
        .and_then(domid);
    of_domain.map_or(Scope::Xen, only)
}

/// The watch on libxl's directory: a file that appears there says that a domain is built.
#[derive(Debug)]
pub(super) struct UserDataWatch(Option<AsyncFd<Descriptor>>);

/// tokio asks for a raw descriptor, nix gives a borrowed one.
#[derive(Debug)]
pub(super) struct Descriptor(pub(super) Inotify);

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor changes; this one's does not"
)]
pub(super) fn register(inotify: Inotify) -> io::Result<AsyncFd<Descriptor>> {
    AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl UserDataWatch {
    /// Watches the directory; without it there is nothing to watch.
    pub(super) fn open(userdata: &UserData) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(userdata.dir(), flags) {
            Ok(_) => Ok(Self(Some(register(inotify)?))),
            Err(Errno::ENOENT) => Ok(Self(None)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until files of domains come or go. Lost events mean that any of them may have.
    pub(super) async fn changes(&mut self) -> Scope {
        let Some(inotify) = &self.0 else { return pending().await };
        loop {
            let Ok(mut ready) = inotify.readable().await else { return pending().await };
            let events = match inotify.get_ref().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(_) => return Scope::Xen,
            };
            if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)) {
                return Scope::Xen;
            }
            let domids: BTreeSet<DomId> = events
                .iter()
                .filter_map(|event| UserData::domain_of(event.name.as_ref()?.to_str()?))
                .collect();
            if !domids.is_empty() {
                return Scope::Domains(domids);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_makes_old_what_it_is_about_and_no_more() {
        let only = |domid: &str| Scope::Domains([domid.parse().unwrap()].into());
        assert_eq!(scope_of("/libxl/7/device/vusb/0"), only("7"));
        assert_eq!(scope_of("/local/domain/0/backend/qusb/7/0/port/1"), only("7"));
        assert_eq!(scope_of("/local/domain/0/device-model/7/state"), only("7"));
        assert_eq!(scope_of("/local/domain/7/name"), only("7"));
        assert_eq!(scope_of("/libxl/usbback/1-1"), Scope::Domains([].into()));
        assert_eq!(scope_of("/tool/pvusb-agent/devices/1-1"), Scope::Domains([].into()));
        for path in ["/libxl", "@releaseDomain", "/local/domain/0/backend/qusb", "/strange"] {
            assert_eq!(scope_of(path), Scope::Xen, "{path}");
        }
    }
}
