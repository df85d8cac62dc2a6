//! Making and removing a controller because a person said so.
//!
//! What must hold is read again in the transaction that changes something: an agent that runs beside it,
//! or xl, may have been faster. A controller whose backend has taken notice of it is closed before it is
//! removed, as libxl does it (`libxl_device.c: libxl__initiate_device_generic_remove`).

use super::Performer;
use super::check::{self, Expect};
use super::controller_nodes::{ControllerNodes, Maker};
use super::error::{Changed, Failure};
use super::remove::remove_with_parents;
use crate::host::look::{absent_as_none, names};
use crate::host::nodes::{ControllerPaths, DomainPaths};
use crate::host::xenstore::{Outcome, Transaction};
use crate::model::{ControllerId, Place, PortNumber, XenbusState};
use crate::plan::{ControllerFound, ControllerWanted, StepError};
use futures::future::try_join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long to wait between two looks at a backend.
const PAUSE: Duration = Duration::from_millis(50);

impl Performer {
    /// Makes a controller that is not the agent's own.
    ///
    /// # Errors
    ///
    /// Sorted by what to do about them; nothing was changed.
    pub async fn add_controller(&self, wanted: &ControllerWanted) -> Result<(), StepError> {
        self.make(wanted).await.map_err(Failure::sort)
    }

    async fn make(&self, wanted: &ControllerWanted) -> Result<(), Failure> {
        let ControllerWanted { ref domain, uuid, controller, spec, ref others } = *wanted;
        let domid = domain.domid;
        self.xs
            .transaction(async |t| {
                let domain = Expect::domain(t, domid, uuid);
                let there = t.directory(&DomainPaths(domid).controllers());
                check::all(domain).await?;
                let there: BTreeSet<ControllerId> = names(there).await?;
                if there != *others {
                    return Err(Failure::from(Changed::Survey));
                }
                let nodes = ControllerNodes { domid, controller, spec, maker: Maker::Person };
                try_join_all(nodes.write(t, None)).await?;
                Ok(Outcome::Commit(()))
            })
            .await
    }

    /// Waits until the backend of a new controller has taken notice of it. `None`: it has not within
    /// that time.
    ///
    /// # Errors
    ///
    /// When xenstore does not answer.
    pub async fn wait_until_served(
        &self,
        made: &ControllerFound,
        patience: Duration,
    ) -> Result<Option<XenbusState>, StepError> {
        let is_served = |state| state != XenbusState::Initialising;
        self.wait_for_backend(made, patience, is_served).await.map_err(Failure::sort)
    }

    /// Removes a controller: at once if nobody serves it, otherwise when its backend has closed, or has
    /// not done so within `patience`. Tells whether it has.
    ///
    /// # Errors
    ///
    /// Sorted by what to do about them.
    pub async fn drop_controller(
        &self,
        found: &ControllerFound,
        patience: Duration,
    ) -> Result<bool, StepError> {
        self.close_and_remove(found, patience).await.map_err(Failure::sort)
    }

    async fn close_and_remove(
        &self,
        found: &ControllerFound,
        patience: Duration,
    ) -> Result<bool, Failure> {
        let ControllerFound { ref domain, uuid, controller, kind, ref ports, is_served } = *found;
        if !is_served {
            self.remove_controller(domain.domid, uuid, controller, kind, ports).await?;
            return Ok(true);
        }
        self.close(found).await?;
        let is_closed = |state| matches!(state, XenbusState::Closed | XenbusState::Unknown);
        let closed = self.wait_for_backend(found, patience, is_closed).await?;
        self.xs
            .transaction(async |t| {
                let paths = paths_of(found);
                expect_empty(t, found).await?;
                remove_with_parents(t, &paths.frontend).await?;
                remove_with_parents(t, &paths.libxl).await?;
                remove_with_parents(t, &paths.backend).await?;
                Ok::<_, Failure>(Outcome::Commit(()))
            })
            .await?;
        Ok(closed.is_some())
    }

    /// Tells both ends that the controller is about to go. From then on no agent puts a device into it.
    async fn close(&self, found: &ControllerFound) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let paths = paths_of(found);
                let state = t.read(&paths.be("state"));
                expect_empty(t, found).await?;
                // One without a state has no backend any more; a write would make half of one.
                let Some(state) = absent_as_none(state.await)? else {
                    return Ok(Outcome::Abort(()));
                };
                t.defer(t.write(&paths.be("online"), b"0"));
                if XenbusState::from_node(&state) != XenbusState::Closed {
                    t.defer(t.write(&paths.be("state"), b"5"));
                }
                Ok::<_, Failure>(Outcome::Commit(()))
            })
            .await
    }

    /// Asks for the state until it is one of these: what a verb waits for once is no worth a watch.
    async fn wait_for_backend(
        &self,
        controller: &ControllerFound,
        patience: Duration,
        is_it: impl Fn(XenbusState) -> bool,
    ) -> Result<Option<XenbusState>, Failure> {
        let node = paths_of(controller).be("state");
        let wait = async {
            loop {
                let state = absent_as_none(self.xs.read(&node).await)?.unwrap_or_default();
                let state = XenbusState::from_node(&state);
                if is_it(state) {
                    return Ok(state);
                }
                sleep(PAUSE).await;
            }
        };
        timeout(patience, wait).await.ok().transpose()
    }
}

fn paths_of(controller: &ControllerFound) -> ControllerPaths {
    ControllerPaths::new(controller.domain.domid, controller.controller, controller.kind)
}

/// The controller is the one that was seen, and no port of it names anything.
async fn expect_empty(t: &Transaction, found: &ControllerFound) -> Result<(), Failure> {
    let paths = paths_of(found);
    let domid = found.domain.domid;
    let place = Place { domid, controller: found.controller, port: PortNumber::FIRST };
    let domain = Expect::domain(t, domid, found.uuid);
    let backend =
        Expect::exactly(t, &paths.lx("backend"), &paths.backend, Changed::Controller(place));
    let ports: Vec<_> = found.ports.iter().map(|port| t.read(&paths.port(*port))).collect();
    check::all(domain).await?;
    check::all([backend]).await?;
    for content in ports {
        // A backend that is gone has no ports, and so none that is in use.
        if absent_as_none(content.await)?.is_some_and(|content| !content.is_empty()) {
            return Err(Changed::ControllerInUse.into());
        }
    }
    Ok(())
}
