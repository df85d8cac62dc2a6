//! Whose turn it is to take a device: that no domain of a list is passed over before its time.

use super::world::{World, micros};
use crate::plan::Claim;
use crate::policy::Action;

impl World {
    /// A port is about to be asked for in a domain that is not the first of its rule's list.
    ///
    /// How long each domain before it has had, only the agent knows. But all of that was after this plug of
    /// the device was seen, and after the agent was started.
    pub(super) fn check_turn(&mut self, claim: &Claim) {
        let Some(socket) = self.usb.sockets.get(&claim.busid) else { return };
        let is_another = socket.device.plug() != claim.plug;
        let goes_otherwise =
            self.store.trails.contains_key(&claim.busid) || self.said_of(&socket.device).is_some();
        // Who has refused the device, or failed, is passed over at once.
        let may_be_barred = socket.spec.refused || self.failed.contains(&claim.busid);
        if is_another || goes_otherwise || may_be_barred || !self.knows_names() {
            return;
        }
        let Some(rule) = self.surely_matching(socket) else { return };
        let (Some(patience), Action::Attach(targets)) = (rule.patience(), rule.action()) else {
            return;
        };
        let Some(domain) = self.store.domains.get(&claim.place.domid) else { return };
        let at = targets.iter().position(|it| it.guest.is_called(&domain.name, domain.uuid));
        let seen = self.seen_plugs.get(&claim.busid).and_then(|seen| seen.last());
        let Some((_, seen)) = seen else { return };
        let has_waited = self.now >= seen + micros(patience);
        if let Some(before) = at.filter(|at| *at > 0 && !has_waited) {
            let what = format!(
                "{} goes to {}, and {before} before it have had no time for it",
                claim.busid, domain.name
            );
            self.violate(0, what);
        }
    }
}
