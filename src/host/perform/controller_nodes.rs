//! The nodes of a new controller: which, in which order, and whose each of them is.

use crate::host::nodes::ControllerPaths;
use crate::host::xenstore::{Access, Permission, Reply, Transaction};
use crate::model::{ControllerId, ControllerSpec, DomId, PortNumber};
use crate::plan::Claim;

/// On whose behalf a controller is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// The agent's own: it is marked, and the agent removes it when nobody serves it.
    Agent,
    /// A person's: without a mark, as if `xl usbctrl-attach` had made it.
    Person,
}

/// A controller that is not there yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct ControllerNodes {
    pub(super) domid: DomId,
    pub(super) controller: ControllerId,
    pub(super) spec: ControllerSpec,
    pub(super) maker: Maker,
}

impl ControllerNodes {
    /// Writes them as libxl does and in its order (`libxl_usb.c: libxl__device_usbctrl_add_xenstore`,
    /// `libxl_device.c: libxl__device_generic_add`), with a device in its port if one is given, and with
    /// the agent's mark if it is the agent's.
    pub(super) fn write(self, t: &Transaction, filled: Option<&Claim>) -> Vec<Reply<()>> {
        let Self { domid, controller, spec, maker } = self;
        let paths = ControllerPaths::new(domid, controller, spec.kind);
        let guests_own = [owner(domid), reader(DomId::DOM0)];
        let dom0s_own = [owner(DomId::DOM0), reader(domid)];
        let mut replies = vec![
            t.write(&paths.lx("frontend"), paths.frontend.as_bytes()),
            t.write(&paths.lx("backend"), paths.backend.as_bytes()),
        ];

        replies.push(t.mkdir(&paths.frontend));
        replies.push(t.set_perms(&paths.frontend, &guests_own));
        let backend = paths.backend.as_str();
        for (node, value) in [("backend", backend), ("backend-id", "0"), ("state", "1")] {
            replies.push(t.write(&paths.fe(node), value.as_bytes()));
            replies.push(t.set_perms(&paths.fe(node), &guests_own));
        }

        replies.push(t.mkdir(&paths.backend));
        replies.push(t.set_perms(&paths.backend, &dom0s_own));
        replies.push(t.write(&paths.be("frontend"), paths.frontend.as_bytes()));
        for (node, value) in common_nodes(domid, spec) {
            replies.push(t.write(&paths.be(&node), value.as_bytes()));
        }
        // libxl keeps a copy that no guest can read; its ports are never filled.
        for (node, value) in common_nodes(domid, spec) {
            replies.push(t.write(&paths.lx(&node), value.as_bytes()));
        }
        if let Some(claim) = filled {
            let busid = claim.busid.to_string();
            replies.push(t.write(&paths.port(claim.place.port), busid.as_bytes()));
        }

        match maker {
            Maker::Agent => replies.push(t.write(&paths.mark(), b"")),
            Maker::Person => {}
        }
        replies
    }
}

fn common_nodes(domid: DomId, spec: ControllerSpec) -> Vec<(String, String)> {
    let ports = spec.ports.up_to().map(|port: PortNumber| (format!("port/{port}"), String::new()));
    let nodes = [
        ("frontend-id", domid.to_string()),
        ("online", "1".to_owned()),
        ("state", "1".to_owned()),
        ("type", spec.kind.word().to_owned()),
        ("usb-ver", spec.version.to_string()),
        ("num-ports", spec.ports.to_string()),
        ("port", String::new()),
    ];
    nodes.map(|(node, value)| (node.to_owned(), value)).into_iter().chain(ports).collect()
}

fn owner(domid: DomId) -> Permission {
    Permission { access: Access::None, domid: domid.get() }
}

fn reader(domid: DomId) -> Permission {
    Permission { access: Access::Read, domid: domid.get() }
}
