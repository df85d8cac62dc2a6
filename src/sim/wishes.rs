//! What a rule asks for in a domain, held against what the agent asks xenstore for.

use super::store::{Ctl, Hand};
use super::trails::is_always;
use super::usb::Socket;
use super::world::World;
use crate::model::{ControllerId, ControllerKind, UsbVersion};
use crate::plan::{Claim, Step};
use crate::policy::{Action, KindWish, Rule, Target, TargetWish};

impl World {
    /// A device is about to go into a domain: its rule names that domain and wants no other port there.
    pub(super) fn check_wish(&mut self, step: &Step) {
        let Some(claim) = step.claim() else { return };
        let Some(socket) = self.usb.sockets.get(&claim.busid) else { return };
        // What was decided about another plug comes to nothing, and what a person says has no wishes.
        let is_said = self.said_of(&socket.device).is_some();
        if socket.device.plug() != claim.plug || is_said || !self.knows_names() {
            return;
        }
        let Some(rule) = self.rule_in_force(socket) else { return };
        let Some(domain) = self.store.domains.get(&claim.place.domid) else { return };
        let name = domain.name.clone();
        let Action::Attach(targets) = rule.action() else {
            let what = format!("{} goes to {name}, and {rule} keeps it", claim.busid);
            return self.violate(0, what);
        };
        let mut meant = targets.iter().filter(|it| it.guest.is_called(&name, domain.uuid));
        let new = if let Step::CreateController { spec, .. } = step {
            Some(Ctl::new(*spec, Hand::Agent))
        } else {
            None
        };
        let Some(ctl) = new.as_ref().or_else(|| self.store.ctl(claim.place)) else { return };
        if !meant.any(|target| grants(target, claim, ctl, new.is_some())) {
            let what =
                format!("{} goes to {}, which {rule} does not ask for", claim.busid, claim.place);
            self.violate(0, what);
        }
    }

    /// The rule that decides about this device, if the agent must know that it does.
    pub(super) fn rule_in_force(&self, socket: &Socket) -> Option<&Rule> {
        if self.store.trails.contains_key(&socket.device.busid) {
            return self.followed(socket).map(|(rule, _)| rule).filter(|rule| is_always(rule));
        }
        self.surely_matching(socket)
    }

    /// The first rule that is of this device, if it counts whatever domains do, if the agent has read, or is
    /// reading, the hubs that it may ask for, and if it is the same one with all of dom0's drivers: xl can have
    /// taken them a moment ago.
    pub(super) fn surely_matching(&self, socket: &Socket) -> Option<&Rule> {
        let devices = self.usb.devices();
        let candidate = self.candidate(&socket.device, &devices);
        let knows_hubs = socket
            .device
            .busid
            .hubs()
            .all(|hub| self.usb.sockets.get(&hub).is_none_or(|hub| self.has_read(hub)));
        let rule = self.policy.matching(&candidate).next()?;
        let in_dom0 = socket.in_dom0();
        let candidate = self.candidate(&in_dom0, &devices);
        let is_same =
            self.policy.matching(&candidate).next().is_some_and(|it| std::ptr::eq(it, rule));
        (is_always(rule) && knows_hubs && is_same).then_some(rule)
    }

    fn has_read(&self, socket: &Socket) -> bool {
        let busid = &socket.device.busid;
        self.seen_at(busid, socket.device.plug()).is_some()
            || self.agent.as_ref().is_some_and(|agent| agent.reads(busid))
    }
}

/// Whether a controller is one of those that are asked for.
pub(super) fn is_wished(
    wish: TargetWish,
    id: ControllerId,
    kind: ControllerKind,
    version: UsbVersion,
) -> bool {
    let is_kind = match wish.kind {
        None | Some(KindWish::Auto) => true,
        Some(KindWish::Pv) => kind == ControllerKind::Pv,
        Some(KindWish::Qusb) => kind == ControllerKind::Qusb,
    };
    let is_version = wish.version.is_none_or(|wished| wished == version);
    is_kind && is_version && wish.index.is_none_or(|index| index == id)
}

fn grants(target: &Target, claim: &Claim, ctl: &Ctl, is_new: bool) -> bool {
    let wish = target.wish;
    let port = claim.place.port;
    let has_ports = wish.ports.is_none_or(|ports| !is_new || ctl.ports.len() >= ports.get().into());
    is_wished(wish, claim.place.controller, ctl.kind, ctl.version)
        && wish.port.is_none_or(|wished| wished == port)
        && has_ports
}
