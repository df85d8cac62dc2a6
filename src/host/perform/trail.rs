//! Writing and removing the trail of a device.

use super::Performer;
use super::check::{self, Expect};
use super::error::{Changed, Failure};
use crate::host::look::absent_as_none;
use crate::host::nodes::{format_trail, trail_node};
use crate::host::xenstore::{Outcome, Reply, Transaction};
use crate::model::{BusId, Trail};
use crate::plan::Claim;

impl Performer {
    /// Removes a trail, if it is still this one.
    pub(super) async fn drop_trail(&self, busid: &BusId, trail: &Trail) -> Result<(), Failure> {
        self.xs
            .transaction(async |t| {
                let node = trail_node(busid);
                let changed = Changed::Note(busid.clone());
                check::all([Expect::exactly(t, &node, &format_trail(trail), changed)]).await?;
                t.defer(t.rm(&node));
                Ok(Outcome::Commit(()))
            })
            .await
    }
}

/// What a claim makes of the trail of the device before.
pub(super) struct NewTrail<'c> {
    claim: &'c Claim,
    old: Reply<Vec<String>>,
}

impl<'c> NewTrail<'c> {
    /// Asks whether there is one: xenstored refuses to remove a node whose parent is not there.
    pub(super) fn ask(t: &Transaction, claim: &'c Claim) -> Self {
        Self { claim, old: t.directory(&trail_node(&claim.busid)) }
    }

    /// Writes the trail of the device that is claimed, or removes what there is.
    pub(super) async fn write(self, t: &Transaction) -> Result<Option<Reply<()>>, Failure> {
        let node = trail_node(&self.claim.busid);
        let is_there = absent_as_none(self.old.await)?.is_some();
        Ok(match &self.claim.trail {
            Some(trail) => Some(t.write(&node, format_trail(trail).as_bytes())),
            None if is_there => Some(t.rm(&node)),
            None => None,
        })
    }
}
