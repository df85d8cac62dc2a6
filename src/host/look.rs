//! Looking at xenstore: nodes in, [`XenView`] out.
//!
//! Only dom0's own nodes are believed: `/libxl` and the backends. Of what a guest can write, one
//! node is read, the frontend's state, and only as a hint. Everything of one depth is asked for at
//! once, so a look takes as many round trips as the tree is deep, however many domains there are.
//! A node that vanishes while it is being looked at counts as not there; the watch that tells of it
//! leads to the next look.

use super::device_models::{self, DeviceModels};
use super::nodes::{
    ControllerPaths, DEVICE_NOTES, DomainPaths, LIBXL, OVERRIDES, TRAILS, USBBACK, backend_root,
    device_note, driver_path, override_node, parse_note, parse_override, parse_trail, parse_vm,
    trail_node, usbback,
};
use super::userdata::{Built, UserData};
use super::xenstore::{Error, Reply, Xenstore};
use crate::model::{
    BusId, Controller, ControllerFault, ControllerId, ControllerKind, DeviceModel, DomId, Guest,
    GuestKind, GuestName, InterfaceName, Leftover, Life, Note, Override, PortContent, PortNumber,
    Returns, Text, Trail, UsbVersion, XenPart, XenView, XenbusState,
};
use futures::future::{try_join, try_join_all, try_join3, try_join4};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// Reads [`XenView`]s.
#[derive(Clone, Debug)]
pub struct XenReader {
    xs: Xenstore,
    userdata: UserData,
    device_models: Option<DeviceModels>,
}

impl XenReader {
    /// A reader of this xenstore.
    pub fn new(xs: Xenstore, userdata: UserData) -> Self {
        Self { xs, userdata, device_models: None }
    }

    /// The same, which holds the device models of domains with controllers, so that their end is
    /// told.
    #[must_use]
    pub fn holding(self, device_models: DeviceModels) -> Self {
        Self { device_models: Some(device_models), ..self }
    }

    /// Looks at everything that matters.
    ///
    /// # Errors
    ///
    /// When xenstore does not answer. A malformed node is no error.
    pub async fn view(&self) -> Result<XenView, Error> {
        let ((domids, notes), overrides, trails, returns) = try_join4(
            try_join(self.domids(), self.notes()),
            self.overrides(),
            self.trails(),
            self.returns(),
        )
        .await?;
        if let Some(models) = &self.device_models {
            models.retain(&domids);
        }
        let guests = self.guests(&domids);
        let (guests, leftovers) = try_join(guests, self.leftovers(&domids)).await?;
        let guests =
            guests.into_iter().filter_map(|(domid, guest)| Some((domid, guest?))).collect();
        Ok(XenView { domids, guests, notes, overrides, trails, returns, leftovers })
    }

    /// Looks at some domains, and at the agent's notes.
    ///
    /// # Errors
    ///
    /// When xenstore does not answer.
    pub async fn part(&self, which: &BTreeSet<DomId>) -> Result<XenPart, Error> {
        let domains = try_join3(self.domids(), self.guests(which), self.notes());
        let ((domids, guests, notes), overrides, trails, returns) =
            try_join4(domains, self.overrides(), self.trails(), self.returns()).await?;
        Ok(XenPart { domids, guests, notes, overrides, trails, returns })
    }

    async fn domids(&self) -> Result<BTreeSet<DomId>, Error> {
        let mut domids: BTreeSet<DomId> = names(self.xs.directory(LIBXL)).await?;
        domids.remove(&DomId::DOM0);
        Ok(domids)
    }

    async fn guests(
        &self,
        domids: &BTreeSet<DomId>,
    ) -> Result<BTreeMap<DomId, Option<Guest>>, Error> {
        let built = &self.userdata.built();
        let guests = domids.iter().map(async |domid| {
            let guest = self.guest(*domid, built).await?;
            if let (None, Some(models)) = (&guest, &self.device_models) {
                models.release(*domid);
            }
            Ok((*domid, guest))
        });
        Ok(try_join_all(guests).await?.into_iter().collect())
    }

    /// One domain; `None` when it is not there, not whole yet or not whole any more.
    async fn guest(&self, domid: DomId, built: &Built) -> Result<Option<Guest>, Error> {
        let paths = DomainPaths(domid);
        let identity = try_join4(
            self.optional(&paths.kind()),
            self.optional(&paths.vm()),
            self.optional(&paths.name()),
            self.xs.is_domain_introduced(domid.get()),
        );
        let model = try_join3(
            self.optional(&paths.device_model_state()),
            self.optional(&paths.device_model_qusb()),
            self.optional(&paths.device_model_pid()),
        );
        let ids = names::<ControllerId>(self.xs.directory(&paths.controllers()));
        let (identity, model, ids) = try_join3(identity, model, ids).await?;

        let (kind, vm, name, introduced) = identity;
        let kind = match kind.as_deref() {
            Some(b"pv") => GuestKind::Pv,
            Some(b"pvh") => GuestKind::Pvh,
            Some(b"hvm") => GuestKind::Hvm,
            Some(_) | None => return Ok(None),
        };
        let (Some(uuid), Some(name)) = (vm.as_deref().and_then(parse_vm), name) else {
            return Ok(None);
        };
        let life = match (built.contains(domid, uuid), introduced) {
            (false, _) => Life::Building,
            (true, true) => Life::Running,
            (true, false) => Life::Dead,
        };
        let device_model = match model {
            (None, ..) => DeviceModel::Absent,
            (Some(_), _, Some(pid)) if self.has_ended(domid, &pid, !ids.is_empty()) => {
                DeviceModel::Dead
            }
            (Some(state), qusb, _) if state == b"running" => {
                DeviceModel::Running { qusb: qusb.is_some() }
            }
            (Some(_), ..) => DeviceModel::Starting,
        };
        let mut guest = Guest {
            domid,
            uuid,
            name: GuestName::new(&String::from_utf8_lossy(&name)),
            kind,
            life,
            device_model,
            controllers: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        let seen =
            ids.iter().map(async |id| Ok::<_, Error>((*id, self.controller(domid, *id).await?)));
        for (id, controller) in try_join_all(seen).await? {
            match controller {
                Ok(controller) => drop(guest.controllers.insert(id, controller)),
                Err(fault) => drop(guest.broken.insert(id, fault)),
            }
        }
        Ok(Some(guest))
    }

    async fn controller(
        &self,
        domid: DomId,
        id: ControllerId,
    ) -> Result<Result<Controller, ControllerFault>, Error> {
        // The kind decides where the rest lies; LX is the same for all.
        let lx = ControllerPaths::new(domid, id, ControllerKind::DeviceModel);
        let (kind, backend) =
            try_join(self.optional(&lx.lx("type")), self.optional(&lx.lx("backend"))).await?;
        let Some(kind) = kind else { return Ok(Err(ControllerFault::NoType)) };
        let Some(kind) = parse::<ControllerKind>(&kind) else {
            return Ok(Err(ControllerFault::StrangeType(Text::new(&kind))));
        };
        let paths = ControllerPaths::new(domid, id, kind);
        let mark = paths.mark();
        if kind.backend().is_some() {
            let backend = backend.unwrap_or_default();
            if backend != paths.backend.as_bytes() {
                return Ok(Err(ControllerFault::ForeignBackend(Text::new(&backend))));
            }
        }
        let facts = try_join4(
            self.optional(&paths.be("state")),
            self.optional(&paths.fe("state")),
            self.optional(&paths.be("usb-ver")),
            self.optional(&paths.be("num-ports")),
        );
        let mark = self.optional(&mark);
        let ports = names::<PortNumber>(self.xs.directory(&paths.be("port")));
        let (facts, mark, ports) = try_join3(facts, mark, ports).await?;

        let (backend, frontend, version, count) = facts;
        let count = count.as_deref().and_then(parse::<PortNumber>);
        let contents = ports.into_iter().filter(|port| Some(*port) <= count).map(async |port| {
            let content = self.optional(&paths.port(port)).await?;
            Ok::<_, Error>(content.map(|content| (port, port_content(&content))))
        });
        Ok(Ok(Controller {
            kind,
            version: match version.as_deref() {
                Some(b"1") => Some(UsbVersion::V1),
                Some(b"2") => Some(UsbVersion::V2),
                Some(_) | None => None,
            },
            ports: try_join_all(contents).await?.into_iter().flatten().collect(),
            backend: XenbusState::from_node(&backend.unwrap_or_default()),
            frontend: XenbusState::from_node(&frontend.unwrap_or_default()),
            ours: mark.is_some(),
        }))
    }

    async fn notes(&self) -> Result<BTreeMap<BusId, Note>, Error> {
        let keys = listing(self.xs.directory(DEVICE_NOTES)).await?;
        let busids = keys.iter().filter_map(|key| BusId::from_key(key).ok());
        let notes = busids.map(async |busid| {
            let note = self.optional(&device_note(&busid)).await?;
            Ok::<_, Error>(note.as_deref().and_then(parse_note).map(|note| (busid, note)))
        });
        Ok(try_join_all(notes).await?.into_iter().flatten().collect())
    }

    async fn overrides(&self) -> Result<BTreeMap<BusId, Override>, Error> {
        let keys = listing(self.xs.directory(OVERRIDES)).await?;
        let busids = keys.iter().filter_map(|key| BusId::from_key(key).ok());
        let overrides = busids.map(async |busid| {
            let value = self.optional(&override_node(&busid)).await?;
            Ok::<_, Error>(value.as_deref().and_then(parse_override).map(|it| (busid, it)))
        });
        Ok(try_join_all(overrides).await?.into_iter().flatten().collect())
    }

    async fn trails(&self) -> Result<BTreeMap<BusId, Trail>, Error> {
        let keys = listing(self.xs.directory(TRAILS)).await?;
        let busids = keys.iter().filter_map(|key| BusId::from_key(key).ok());
        let trails = busids.map(async |busid| {
            let value = self.optional(&trail_node(&busid)).await?;
            Ok::<_, Error>(value.as_deref().and_then(parse_trail).map(|trail| (busid, trail)))
        });
        Ok(try_join_all(trails).await?.into_iter().flatten().collect())
    }

    async fn returns(&self) -> Result<Returns, Error> {
        let keys = listing(self.xs.directory(USBBACK)).await?;
        let busids = keys.iter().filter_map(|key| BusId::from_key(key).ok());
        let returns = busids.map(async |busid| {
            let drivers = self.drivers(&busid).await?;
            Ok::<_, Error>((busid, drivers))
        });
        Ok(try_join_all(returns).await?.into_iter().collect())
    }

    /// The drivers noted for a device's way back.
    pub(super) async fn drivers(
        &self,
        busid: &BusId,
    ) -> Result<BTreeMap<InterfaceName, Box<str>>, Error> {
        let keys = listing(self.xs.directory(&usbback(busid))).await?;
        let interfaces = keys
            .iter()
            .filter_map(|key| InterfaceName::from_key(key).ok())
            .filter(|interface| interface.busid() == busid);
        let drivers = interfaces.map(async |interface| {
            let path = self.optional(&driver_path(&interface)).await?;
            let path = path.and_then(|path| String::from_utf8(path).ok());
            Ok::<_, Error>(path.map(|path| (interface, path.into())))
        });
        Ok(try_join_all(drivers).await?.into_iter().flatten().collect())
    }

    /// What is left of domains that are neither in `/libxl` nor known to xenstored.
    async fn leftovers(&self, domids: &BTreeSet<DomId>) -> Result<BTreeSet<Leftover>, Error> {
        let backends = [ControllerKind::Qusb, ControllerKind::Pv].map(async |kind| {
            let Some(root) = backend_root(kind) else { return Ok(Vec::new()) };
            let gone = self.gone(names(self.xs.directory(&root)).await?, domids).await?;
            let controllers = gone.into_iter().map(async |domid| {
                let path = format!("{root}/{domid}");
                let ids: BTreeSet<ControllerId> = names(self.xs.directory(&path)).await?;
                let leftovers = ids.into_iter();
                Ok::<_, Error>(
                    leftovers
                        .map(|controller| Leftover { domid, kind, controller })
                        .collect::<Vec<_>>(),
                )
            });
            Ok::<_, Error>(try_join_all(controllers).await?.concat())
        });
        Ok(try_join_all(backends).await?.into_iter().flatten().collect())
    }

    async fn gone(
        &self,
        candidates: BTreeSet<DomId>,
        there: &BTreeSet<DomId>,
    ) -> Result<Vec<DomId>, Error> {
        let asked = candidates.difference(there).map(async |domid| {
            let introduced = self.xs.is_domain_introduced(domid.get()).await?;
            Ok::<_, Error>((!introduced).then_some(*domid))
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    /// Whether a domain's device model has ended. Only one that `serves` controllers is worth a
    /// descriptor: of the others it is enough to know when something is attached.
    fn has_ended(&self, domid: DomId, pid: &[u8], serves: bool) -> bool {
        let Some(pid) = parse::<u32>(pid) else { return false };
        match &self.device_models {
            Some(models) if serves => models.has_ended(domid, pid),
            Some(models) => {
                models.release(domid);
                device_models::has_ended(pid)
            }
            None => device_models::has_ended(pid),
        }
    }

    fn optional(&self, path: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Error>> + use<> {
        let reply = self.xs.read(path);
        async move { absent_as_none(reply.await) }
    }
}

/// A node that is not there is not an error but an answer.
pub(super) fn absent_as_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a port's node says. A busid is checked before anybody makes a path of it.
pub(super) fn port_content(value: &[u8]) -> PortContent {
    match parse(value) {
        _ if value.is_empty() => PortContent::Free,
        Some(busid) => PortContent::Taken(busid),
        None => PortContent::Strange(Text::new(value)),
    }
}

/// The names in a directory; none if it is not there.
pub(super) async fn listing(reply: Reply<Vec<String>>) -> Result<Vec<String>, Error> {
    Ok(absent_as_none(reply.await)?.unwrap_or_default())
}

/// The names in a directory that are of this kind.
pub(super) async fn names<T: FromStr + Ord>(
    reply: Reply<Vec<String>>,
) -> Result<BTreeSet<T>, Error> {
    Ok(listing(reply).await?.iter().filter_map(|name| name.parse().ok()).collect())
}

fn parse<T: FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
