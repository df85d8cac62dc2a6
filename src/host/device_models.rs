//! Device models as processes: which one of them has ended, and being told when one does.
//!
//! A device model that dies leaves all its nodes as they were (seen with Xen 4.17), so xenstore does
//! not tell. Each one that serves controllers is held by a pidfd, opened when its number is first
//! read: another process that gets the number later is not taken for it. What the end of one means
//! is not decided here.

use crate::model::DomId;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, spawn_local};

/// The device models that are held. Clones share them.
#[derive(Clone, Debug)]
pub struct DeviceModels {
    held: Rc<RefCell<BTreeMap<DomId, Held>>>,
    ends: UnboundedSender<DomId>,
}

/// Tells of device models that end.
#[derive(Debug)]
pub struct Ends(UnboundedReceiver<DomId>);

#[derive(Debug)]
struct Held {
    pid: u32,
    ended: Rc<Cell<bool>>,
    /// Waits for its end; none when it had ended before.
    waiting: Option<AbortHandle>,
}

impl DeviceModels {
    /// Holds none yet. It is to be used inside of a tokio `LocalSet`.
    pub fn new() -> (Self, Ends) {
        let (ends, receiver) = unbounded_channel();
        (Self { held: Rc::default(), ends }, Ends(receiver))
    }

    /// Whether the device model of `domid`, process `pid`, has ended. From now on it is held, and
    /// its end is told.
    pub(super) fn has_ended(&self, domid: DomId, pid: u32) -> bool {
        let known = self.held.borrow().get(&domid).filter(|held| held.pid == pid).map(Held::ended);
        known.unwrap_or_else(|| match self.hold(domid, pid) {
            Ok(held) => {
                let ended = held.ended();
                self.held.borrow_mut().insert(domid, held);
                ended
            }
            // A kernel before 5.3, or no room for a descriptor: then only looking helps.
            Err(_) => has_ended(pid),
        })
    }

    /// Lets go of the device model of a domain, if it is held.
    pub(super) fn release(&self, domid: DomId) {
        self.held.borrow_mut().remove(&domid);
    }

    /// Lets go of those of all other domains.
    pub(super) fn retain(&self, domids: &BTreeSet<DomId>) {
        self.held.borrow_mut().retain(|domid, _| domids.contains(domid));
    }

    fn hold(&self, domid: DomId, pid: u32) -> std::io::Result<Held> {
        let ended = Rc::new(Cell::new(false));
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = match number.map_or(Err(Errno::SRCH), |n| pidfd_open(n, PidfdFlags::empty()))
        {
            Ok(process) => watch_readiness(process)?,
            Err(Errno::SRCH) => {
                ended.set(true);
                return Ok(Held { pid, ended, waiting: None });
            }
            Err(errno) => return Err(errno.into()),
        };
        let (noted, ends) = (Rc::clone(&ended), self.ends.clone());
        let task = spawn_local(async move {
            // A pidfd can be read when its process has ended (pidfd_open(2)).
            if process.readable().await.is_ok() {
                noted.set(true);
                // Without a reader nobody wants to know.
                let _ = ends.send(domid);
            }
        });
        Ok(Held { pid, ended, waiting: Some(task.abort_handle()) })
    }
}

impl Ends {
    /// Waits until the device model of a domain has ended. Cancel safe.
    pub async fn next(&mut self) -> DomId {
        match self.0.recv().await {
            Some(domid) => domid,
            // Nobody holds any: nothing will ever be told.
            None => std::future::pending().await,
        }
    }
}

impl Held {
    fn ended(&self) -> bool {
        self.ended.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.abort();
        }
    }
}

/// Whether there is no process of this number now.
pub(super) fn has_ended(pid: u32) -> bool {
    let there = Path::new("/proc").join(pid.to_string());
    matches!(there.try_exists(), Ok(false))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that do not own their descriptor; this one does"
)]
fn watch_readiness(process: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};
    use std::time::Duration;
    use tokio::task::LocalSet;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn process() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn domid(number: u16) -> DomId {
        number.to_string().parse().unwrap()
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told_once_and_stays_known() {
        let local = LocalSet::new();
        let test = local.run_until(async {
            let (models, mut ends) = DeviceModels::new();
            let [mut first, mut second] = [process(), process()];
            assert!(!models.has_ended(domid(5), first.id()));
            assert!(!models.has_ended(domid(6), second.id()));
            second.kill().unwrap();
            assert_eq!(timeout(PATIENCE, ends.next()).await, Ok(domid(6)));
            // It has ended although it is still in /proc: nobody has waited for it.
            assert!(!has_ended(second.id()));
            assert!(models.has_ended(domid(6), second.id()));
            second.wait().unwrap();
            assert!(models.has_ended(domid(6), second.id()));
            assert!(!models.has_ended(domid(5), first.id()));
            // Another one in its place is another matter.
            assert!(!models.has_ended(domid(6), first.id()));

            models.release(domid(5));
            models.retain(&[domid(5)].into());
            first.kill().unwrap();
            first.wait().unwrap();
            let told = timeout(Duration::from_millis(50), ends.next()).await;
            assert!(told.is_err(), "it was let go of: {told:?}");
            assert!(models.has_ended(domid(5), first.id()), "it had ended before");
            assert!(models.has_ended(domid(5), 0) && models.has_ended(domid(5), u32::MAX));
        });
        test.await;
    }
}
