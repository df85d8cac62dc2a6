//! The devices and domains that are there now, as candidates.
//!
//! Who waits for them is typing: what does not answer within [`LIMIT`] is left out.

use super::is_plain;
use crate::host::look::XenReader;
use crate::host::usb::UsbReader;
use crate::host::userdata::UserData;
use crate::host::xenstore::Xenstore;
use crate::model::{BusId, Device, Guest, GuestUuid, Life};
use clap_complete::engine::CompletionCandidate;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_millis(300);

/// The plugged devices but for hubs, by busid; by address or id if that is what was begun.
pub(super) fn devices(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let seen = plugged();
    let with_id = |id| seen.values().flatten().filter(|device| device.id == id).count();
    let mut found = Vec::new();
    for (busid, device) in &seen {
        // One that does not answer has its place all the same.
        let Some(device) = device else {
            found.extend(first(typed, [(busid.to_string(), String::new())]));
            continue;
        };
        let busid = busid.to_string();
        let id = device.id.to_string();
        let name = named(device);
        let told = format!("{id}{name}");
        let places = [(busid.clone(), told.clone()), (device.address.to_string(), told)];
        // An id that several have names none of them.
        let by_id = (with_id(device.id) == 1).then(|| (id, format!("{busid}{name}")));
        let forms = places.into_iter().chain(by_id);
        found.extend(first(typed, forms).filter(|_| !device.is_hub()));
    }
    found
}

/// What a device says that it is, after a space.
fn named(device: &Device) -> String {
    let names = [&device.manufacturer, &device.product].into_iter().flatten();
    names.flat_map(|name| [" ", name.as_str()]).collect()
}

/// The domains that are there, by name; by number or UUID if that is what was begun, and by number where the
/// name will not do.
pub(super) fn domains(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let guests = guests();
    let mut found = Vec::new();
    for guest in &guests {
        let number = guest.domid.to_string();
        let kind = guest.kind.word();
        let by_name = callable(guest, &guests)
            .map(|name| (name.to_owned(), format!("domain {number}, {kind}")));
        let told = format!("{}, {kind}", guest.name);
        let others = [(number, told.clone()), (guest.uuid.to_string(), told)];
        found.extend(first(typed, by_name.into_iter().chain(others)));
    }
    found
}

/// The same by their names alone.
pub(super) fn domain_names(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let guests = guests();
    let told = |guest: &Guest| format!("domain {}, {}", guest.domid, guest.kind.word());
    let names = guests.iter().filter_map(|it| Some((callable(it, &guests)?.to_owned(), told(it))));
    names.filter_map(|name| first(typed, [name])).collect()
}

/// The name of a domain, if it can be typed as it is and means this domain.
fn callable<'g>(guest: &'g Guest, among: &[Guest]) -> Option<&'g str> {
    let name = guest.name.as_str();
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let is_other = is_number || name == "dom0" || name.parse::<GuestUuid>().is_ok();
    let is_alone = among.iter().filter(|other| other.name == guest.name).count() == 1;
    (is_plain(name) && !name.starts_with('-') && !is_other && is_alone).then_some(name)
}

/// The first of the forms of one thing that begins as it was typed.
fn first(
    typed: &str,
    forms: impl IntoIterator<Item = (String, String)>,
) -> Option<CompletionCandidate> {
    let (value, help) = forms.into_iter().find(|(value, _)| value.starts_with(typed))?;
    let help = (!help.is_empty()).then(|| help.into());
    Some(CompletionCandidate::new(value).help(help))
}

/// What is plugged, read as far as that is soon done: a device that is being reset makes its reader wait.
fn plugged() -> BTreeMap<BusId, Option<Device>> {
    let reader = UsbReader::new();
    let plugged = reader.plugged().unwrap_or_default();
    let mut seen: BTreeMap<_, _> = plugged.into_iter().map(|busid| (busid, None)).collect();
    in_time(async {
        let mut reading = JoinSet::new();
        for busid in seen.keys().cloned() {
            let reader = reader.clone();
            reading.spawn_blocking(move || (reader.device(&busid), busid));
        }
        while let Some(Ok((read, busid))) = reading.join_next().await {
            match read {
                Ok(Some(device)) => drop(seen.insert(busid, Some(device))),
                Ok(None) => drop(seen.remove(&busid)),
                Err(_) => {}
            }
        }
    });
    seen
}

/// The domains that are there, if xenstored says so in time.
fn guests() -> Vec<Guest> {
    let view = in_time(async {
        let xs = Xenstore::connect(super::super::endpoint()).await?;
        XenReader::new(xs, UserData::new(Path::new(UserData::DIR))).view().await
    });
    let guests = view.and_then(Result::ok).into_iter().flat_map(|view| view.guests.into_values());
    guests.filter(|guest| guest.life != Life::Dead).collect()
}

/// Waits for at most [`LIMIT`]. What is still read then ends with the program.
fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let done = runtime.block_on(async { tokio::time::timeout(LIMIT, work).await.ok() });
    runtime.shutdown_background();
    done
}
