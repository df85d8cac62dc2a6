//! What must hold before a port is written, read inside the transaction that writes it.
//!
//! Every question is sent before the first answer is waited for, so all of it takes one round trip.
//! The commit fails if any of the answers has changed meanwhile.

use super::error::{Changed, Failure};
use crate::host::look::{absent_as_none, names, port_content};
use crate::host::nodes::{ControllerPaths, DomainPaths, LIBXL, parse_vm};
use crate::host::xenstore::{Reply, Transaction};
use crate::model::{BusId, ControllerId, ControllerKind, DomId, GuestUuid, Place, PortContent};
use crate::plan::{Claim, Survey};
use std::collections::BTreeSet;

/// A question that has been asked: is the node's value this?
pub(super) struct Expect {
    reply: Reply<Vec<u8>>,
    value: Value,
    otherwise: Changed,
}

enum Value {
    Exactly(Vec<u8>),
    Anything,
    Uuid(GuestUuid),
    OneOf(&'static [&'static [u8]]),
}

impl Expect {
    pub(super) fn exactly(t: &Transaction, path: &str, value: &str, otherwise: Changed) -> Self {
        Self { reply: t.read(path), value: Value::Exactly(value.into()), otherwise }
    }

    pub(super) fn one_of(
        t: &Transaction,
        path: &str,
        values: &'static [&'static [u8]],
        otherwise: Changed,
    ) -> Self {
        Self { reply: t.read(path), value: Value::OneOf(values), otherwise }
    }

    /// The domain with this number is still the one it was.
    pub(super) fn domain(t: &Transaction, domid: DomId, uuid: GuestUuid) -> [Self; 2] {
        let paths = DomainPaths(domid);
        let ask = |path: &str, value| Self {
            reply: t.read(path),
            value,
            otherwise: Changed::Domain(domid),
        };
        [ask(&paths.kind(), Value::Anything), ask(&paths.vm(), Value::Uuid(uuid))]
    }

    async fn answer(self) -> Result<(), Failure> {
        let found = absent_as_none(self.reply.await)?;
        let holds = found.is_some_and(|found| match self.value {
            Value::Exactly(value) => found == value,
            Value::Anything => true,
            Value::Uuid(uuid) => parse_vm(&found) == Some(uuid),
            Value::OneOf(values) => values.contains(&found.as_slice()),
        });
        if holds { Ok(()) } else { Err(self.otherwise.into()) }
    }
}

/// Waits for the answers.
pub(super) async fn all(questions: impl IntoIterator<Item = Expect>) -> Result<(), Failure> {
    for question in questions {
        question.answer().await?;
    }
    Ok(())
}

/// The question whether a device is in no port of the host, and its port number in no other `qusb`
/// controller of its domain, asked of every port there is.
pub(super) struct Unattached<'a> {
    busid: &'a BusId,
    survey: &'a Survey,
    /// The port of a `qusb` controller that is to be filled.
    filled: Option<Place>,
    domids: Reply<Vec<String>>,
    controllers: Vec<(DomId, Reply<Vec<String>>)>,
    ports: Vec<AskedPort>,
}

struct AskedPort {
    place: Place,
    kind: ControllerKind,
    reply: Reply<Vec<u8>>,
}

impl<'a> Unattached<'a> {
    /// For a device that is to get a port.
    pub(super) fn ask(t: &Transaction, claim: &'a Claim) -> Self {
        let filled = (claim.kind == ControllerKind::Qusb).then_some(claim.place);
        Self { filled, ..Self::ask_of(t, &claim.busid, &claim.survey) }
    }

    /// For a device that is to have none.
    pub(super) fn ask_of(t: &Transaction, busid: &'a BusId, survey: &'a Survey) -> Self {
        let controllers = survey
            .guests
            .iter()
            .map(|domid| (*domid, t.directory(&DomainPaths(*domid).controllers())));
        let ports = survey.controllers.iter().flat_map(|seen| {
            let paths =
                seen.kind.map(|kind| ControllerPaths::new(seen.domid, seen.controller, kind));
            seen.ports.iter().filter_map(move |port| {
                let path = paths.as_ref()?.port(*port);
                let place = Place { domid: seen.domid, controller: seen.controller, port: *port };
                Some(AskedPort { place, kind: seen.kind?, reply: t.read(&path) })
            })
        });
        Self {
            busid,
            survey,
            filled: None,
            domids: t.directory(LIBXL),
            controllers: controllers.collect(),
            ports: ports.collect(),
        }
    }

    pub(super) async fn answer(self) -> Result<(), Failure> {
        let mut domids: BTreeSet<DomId> = names(self.domids).await?;
        domids.remove(&DomId::DOM0);
        if domids != self.survey.domids {
            return Err(Changed::Survey.into());
        }
        for (domid, reply) in self.controllers {
            // A name that is no number is no controller for anybody.
            let there: BTreeSet<ControllerId> = names(reply).await?;
            let known = self.survey.controllers.iter().filter(|seen| seen.domid == domid);
            if there != known.map(|seen| seen.controller).collect() {
                return Err(Changed::Survey.into());
            }
        }
        for AskedPort { place, kind, reply } in self.ports {
            let content = absent_as_none(reply.await)?.map(|content| port_content(&content));
            if content == Some(PortContent::Taken(self.busid.clone())) {
                return Err(Changed::Attached(self.busid.clone(), place).into());
            }
            // QEMU aborts on the second use of a port number (see `plan/ports.rs`), and xl does not
            // know that.
            let same_number = kind == ControllerKind::Qusb
                && self
                    .filled
                    .is_some_and(|filled| (place.domid, place.port) == (filled.domid, filled.port));
            if same_number && content.is_some_and(|content| content != PortContent::Free) {
                return Err(Changed::Port(place).into());
            }
        }
        Ok(())
    }
}
