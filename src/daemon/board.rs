//! What the daemon shows to whoever watches: rows of devices and domains, and the lines that were told.
//!
//! Rows are made only while somebody watches. Nothing is decided here.

use crate::control::protocol::PlaceOutcome;
use crate::control::watch::{
    DeviceRow, DomainRow, Field, Notice, Rests, Said, Since, WatchOutcome,
};
use crate::model::{BusId, Device, Guest, Observed, Order, Place, PortContent};
use crate::plan::Standing;
use crate::reconcile::Event;
use crate::telemetry::{Told, Value};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::Sender;

/// How many lines are kept for those who come back.
const LINES: usize = 512;

/// All of it.
#[derive(Debug)]
pub(super) struct Board {
    /// Names this run of the agent.
    agent: String,
    /// The number of the last line.
    seq: u64,
    said: VecDeque<Said>,
    /// How it stands with each device, as it was told last.
    standings: BTreeMap<BusId, Standing>,
    watchers: Vec<Sender<Notice>>,
    /// What the watchers know.
    shown: Rows,
}

/// The rows, by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rows {
    xenstore: bool,
    devices: BTreeMap<String, DeviceRow>,
    domains: BTreeMap<u16, DomainRow>,
}

impl Board {
    /// An empty one of an agent that starts now.
    pub(super) fn new(started: SystemTime) -> Self {
        Self {
            agent: format!("{:x}", since_epoch(started).as_micros()),
            seq: 0,
            said: VecDeque::new(),
            standings: BTreeMap::new(),
            watchers: Vec::new(),
            shown: Rows::default(),
        }
    }

    /// Takes notice of what is to be shown of an event.
    pub(super) fn heed(&mut self, event: &Event) {
        match event {
            Event::Standing(busid, standing) => {
                self.standings.insert(busid.clone(), standing.clone());
            }
            Event::Unplugged(busid) => {
                self.standings.remove(busid);
            }
            Event::Plugged(_)
            | Event::DomainAppeared(..)
            | Event::DomainGone(..)
            | Event::Unreadable(..)
            | Event::Performed(..)
            | Event::Failed { .. }
            | Event::Overtaken { .. }
            | Event::Ordered { .. }
            | Event::Declined { .. }
            | Event::TurnOver { .. }
            | Event::Refused(..) => {}
        }
    }

    /// A line was told.
    pub(super) fn say(&mut self, told: Told, at: SystemTime) {
        self.seq += 1;
        let said = said(self.seq, told, at);
        if self.said.len() == LINES {
            self.said.pop_front();
        }
        self.said.push_back(said.clone());
        self.send(&Notice::Said(said));
    }

    /// Somebody watches from now on: what they get to begin with. To be called right after [`show`](Self::show).
    pub(super) fn watched(
        &mut self,
        watcher: Option<Sender<Notice>>,
        since: Option<&Since>,
        (observed, xenstore): (&Observed, bool),
    ) -> WatchOutcome {
        // Those who watch already were shown everything a moment ago, and know these rows.
        if self.watchers.is_empty() {
            self.shown = self.rows(observed, xenstore);
        }
        self.watchers.extend(watcher);
        let (complete, said) = self.missed(since);
        WatchOutcome {
            agent: self.agent.clone(),
            seq: self.seq,
            complete,
            said,
            xenstore,
            devices: self.shown.devices.values().cloned().collect(),
            domains: self.shown.domains.values().cloned().collect(),
        }
    }

    /// Tells the watchers what has changed.
    pub(super) fn show(&mut self, observed: &Observed, xenstore: bool) {
        self.watchers.retain(|watcher| !watcher.is_closed());
        if self.watchers.is_empty() {
            self.shown = Rows::default();
            return;
        }
        let rows = self.rows(observed, xenstore);
        let before = std::mem::replace(&mut self.shown, rows);
        for notice in changes(&before, &self.shown) {
            self.send(&notice);
        }
    }

    /// The lines after `since`, and whether they are all.
    fn missed(&self, since: Option<&Since>) -> (bool, Vec<Said>) {
        let Some(since) = since else { return (true, Vec::new()) };
        if since.agent != self.agent || since.seq > self.seq {
            return (false, self.said.iter().cloned().collect());
        }
        let said: Vec<_> = self.said.iter().filter(|it| it.seq > since.seq).cloned().collect();
        let all = self.seq - since.seq;
        (u64::try_from(said.len()).is_ok_and(|count| count == all), said)
    }

    /// Who does not keep up is let go: they can come back and say what they have heard.
    fn send(&mut self, notice: &Notice) {
        self.watchers.retain(|watcher| watcher.try_send(notice.clone()).is_ok());
    }

    fn rows(&self, observed: &Observed, xenstore: bool) -> Rows {
        let xen = &observed.xen;
        let mut places: BTreeMap<&BusId, Place> = BTreeMap::new();
        for (place, busid) in xen.taken_ports() {
            places.entry(busid).or_insert(place);
        }
        let mut all: BTreeMap<&BusId, Option<&Device>> =
            observed.devices.iter().map(|(busid, device)| (busid, Some(device))).collect();
        for busid in places.keys().copied().chain(self.standings.keys()) {
            all.entry(busid).or_default();
        }
        let row = |(busid, device): (&BusId, Option<&Device>)| {
            let standing = self.standings.get(busid);
            let place = places.get(busid).copied();
            // Nothing is plugged there, no port names it: what was said of it is over.
            let is_over = |it: &Standing| matches!(it, Standing::Unplugged | Standing::Returning);
            if device.is_none() && place.is_none() && standing.is_none_or(is_over) {
                return None;
            }
            let domain = place.and_then(|place| xen.guests.get(&place.domid));
            Some((busid.to_string(), device_row(busid, device, standing, (place, domain))))
        };
        Rows {
            xenstore,
            devices: all.into_iter().filter_map(row).collect(),
            domains: xen.guests.values().map(|it| (it.domid.get(), domain_row(it))).collect(),
        }
    }
}

fn device_row(
    busid: &BusId,
    device: Option<&Device>,
    standing: Option<&Standing>,
    (place, domain): (Option<Place>, Option<&Guest>),
) -> DeviceRow {
    DeviceRow {
        busid: busid.to_string(),
        bus_address: device.map(|device| device.address.to_string()),
        id: device.map(|device| device.id.to_string()),
        name: device.map(Device::called),
        standing: standing.map_or("new", Standing::name).to_owned(),
        message: standing.map_or_else(|| "was not looked at yet".to_owned(), ToString::to_string),
        rests: standing.map_or(Rests::Waiting, rests),
        place: place.map(|Place { domid, controller, port }| PlaceOutcome {
            domid: domid.get(),
            controller: controller.get(),
            port: port.get(),
        }),
        domain: domain.map(|guest| guest.name.to_string()),
    }
}

fn rests(standing: &Standing) -> Rests {
    match standing {
        Standing::Attached { .. } | Standing::AttachedByOthers(_) | Standing::StaleOfOthers(_) => {
            Rests::Domain
        }
        Standing::Hub
        | Standing::NoRule
        | Standing::Kept { .. }
        | Standing::NotBlocked { .. }
        | Standing::Ordered(Order::Stay | Order::Hold)
        | Standing::TakenOutByHand(_)
        | Standing::Protected { .. } => Rests::Dom0,
        Standing::Blocked { .. } => Rests::Nobody,
        Standing::Stuck { .. } | Standing::NotReturned(_) | Standing::Hanging(_) => Rests::Stuck,
        Standing::NotReady
        | Standing::Settling
        | Standing::Ordered(Order::Attach(_))
        | Standing::HeldDown { .. }
        | Standing::NoDomainRuns { .. }
        | Standing::Awaiting { .. }
        | Standing::Leaving(_)
        | Standing::Building(_)
        | Standing::WaitingForController { .. }
        | Standing::WaitingForPort(_)
        | Standing::Attaching(_)
        | Standing::Detaching { .. }
        | Standing::Returning
        | Standing::DomainEnding(_)
        | Standing::WayKept { .. }
        | Standing::Unplugged => Rests::Waiting,
    }
}

fn domain_row(guest: &Guest) -> DomainRow {
    let ports = || guest.controllers.values().flat_map(|it| it.ports.values());
    DomainRow {
        domid: guest.domid.get(),
        name: guest.name.to_string(),
        state: guest.life.word().to_owned(),
        controllers: guest.controllers.len(),
        ports: ports().count(),
        free: ports().filter(|content| matches!(content, PortContent::Free)).count(),
    }
}

/// What makes `before` into `after`.
fn changes(before: &Rows, after: &Rows) -> Vec<Notice> {
    let mut notices = Vec::new();
    if before.xenstore != after.xenstore {
        notices.push(Notice::Xenstore { connected: after.xenstore });
    }
    let gone = before.domains.keys().filter(|domid| !after.domains.contains_key(domid));
    notices.extend(gone.map(|domid| Notice::DomainGone { domid: *domid }));
    let new = after.domains.iter().filter(|(domid, row)| before.domains.get(domid) != Some(row));
    notices.extend(new.map(|(_, row)| Notice::Domain(row.clone())));
    let gone = before.devices.keys().filter(|busid| !after.devices.contains_key(*busid));
    notices.extend(gone.map(|busid| Notice::DeviceGone { busid: busid.clone() }));
    let new = after.devices.iter().filter(|(busid, row)| before.devices.get(*busid) != Some(row));
    notices.extend(new.map(|(_, row)| Notice::Device(row.clone())));
    notices
}

fn said(seq: u64, told: Told, at: SystemTime) -> Said {
    Said {
        seq,
        at_ms: u64::try_from(since_epoch(at).as_millis()).unwrap_or(u64::MAX),
        level: told.level.as_str().to_lowercase(),
        event: told.kind().map_or("other", |kind| kind.word).to_owned(),
        line: told.to_string(),
        fields: told
            .fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), field(value)))
            .collect(),
    }
}

fn field(value: Value) -> Field {
    match value {
        Value::Number(number) => Field::Number(number),
        Value::Word(text) | Value::Text(text) => Field::Text(text),
    }
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
