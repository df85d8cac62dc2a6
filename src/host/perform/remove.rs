//! Removing a controller that nobody serves, and what domains left behind.
//!
//! A controller goes as it came: in one transaction, with its parents that become empty, as libxl
//! does it (`libxl_xshelp.c: libxl__xs_path_cleanup`).

use super::Performer;
use super::check::{self, Expect};
use super::error::{Changed, Failure};
use crate::host::look::absent_as_none;
use crate::host::nodes::{ControllerPaths, DomainPaths};
use crate::host::xenstore::{Outcome, Transaction};
use crate::model::{ControllerId, ControllerKind, DomId, GuestUuid, Leftover, Place, PortNumber};

impl Performer {
    pub(super) async fn remove_controller(
        &self,
        domid: DomId,
        uuid: GuestUuid,
        controller: ControllerId,
        kind: ControllerKind,
        ports: &[PortNumber],
    ) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let paths = ControllerPaths::new(domid, controller, kind);
                let place = Place { domid, controller, port: PortNumber::FIRST };
                let domain = Expect::domain(t, domid, uuid);
                let changed = || Changed::Controller(place);
                let same = [
                    Expect::exactly(t, &paths.lx("backend"), &paths.backend, changed()),
                    Expect::exactly(t, &paths.be("state"), "1", Changed::ControllerInUse),
                ];
                let empty = ports
                    .iter()
                    .map(|port| {
                        Expect::exactly(t, &paths.port(*port), "", Changed::ControllerInUse)
                    })
                    .collect::<Vec<_>>();
                check::all(domain).await?;
                check::all(same).await?;
                check::all(empty).await?;

                remove_with_parents(t, &paths.frontend).await?;
                remove_with_parents(t, &paths.libxl).await?;
                remove_with_parents(t, &paths.backend).await?;
                Ok(Outcome::Commit(()))
            })
            .await
    }

    pub(super) async fn remove_leftover(&self, leftover: Leftover) -> Result<(), Failure> {
        let Leftover { domid, kind, controller } = leftover;
        if self.xs.is_domain_introduced(domid.get()).await? {
            return Err(Changed::DomainBack(domid).into());
        }
        self.xs
            .transaction(async |t| {
                if absent_as_none(t.read(&DomainPaths(domid).kind()).await)?.is_some() {
                    return Err(Failure::from(Changed::DomainBack(domid)));
                }
                let paths = ControllerPaths::new(domid, controller, kind);
                remove_with_parents(t, &paths.backend).await?;
                Ok(Outcome::Commit(()))
            })
            .await
    }
}

/// Removes a node, and then every parent that has no value and no children left.
pub(super) async fn remove_with_parents(t: &Transaction, path: &str) -> Result<(), Failure> {
    absent_as_none(t.rm(path).await)?;
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        let (value, children) = (t.read(parent), t.directory(parent));
        let (value, children) = (absent_as_none(value.await)?, absent_as_none(children.await)?);
        let empty = value.is_none_or(|value| value.is_empty())
            && children.is_none_or(|children| children.is_empty());
        if !empty {
            break;
        }
        absent_as_none(t.rm(parent).await)?;
        path = parent;
    }
    Ok(())
}
