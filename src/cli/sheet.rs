//! From a path to a host on paper, to what is seen of it, and to the policy that it is about.

use super::look::{self, Unreadable};
use super::{EX_CONFIG, EX_IOERR};
use crate::host::xenstore::Endpoint;
use crate::model::{BusId, Device, DeviceName, NameError, Observed};
use crate::paper::{self, Sheet};
use crate::policy::{Policy, Problems, Source};
use crate::policy_file;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Reads the host in the file at `path`.
///
/// # Errors
///
/// Every problem of the file. A file that cannot be read is one, with the system's words.
pub(super) fn load(path: &Path) -> Result<Sheet, Problems> {
    let name = path.to_string_lossy();
    let bytes = policy_file::read(path)
        .map_err(|error| Problems::unreadable(&name, &policy_file::words(&error)))?;
    paper::read(Source { name: &name, bytes: &bytes })
}

/// What is seen of a host.
pub(super) struct Seen {
    pub(super) observed: Observed,
    /// What is there and could not be read.
    pub(super) unreadable: Unreadable,
    /// Why xenstore was not there.
    pub(super) without_xen: Option<look::Error>,
    /// The text, if the host is on paper.
    sheet: Option<Sheet>,
}

impl Seen {
    /// The devices that are called so; on paper also by the name that is written there.
    ///
    /// # Errors
    ///
    /// That no device of this host can be called so.
    pub(super) fn called(&self, name: &str) -> Result<BTreeSet<BusId>, NameError> {
        if let Some(sheet) = &self.sheet {
            return Ok(busids(sheet.host().called(name)));
        }
        let name: DeviceName = name.parse()?;
        Ok(busids(self.observed.devices.values().filter(|device| name.is_of(device))))
    }
}

fn busids<'a>(devices: impl IntoIterator<Item = &'a Device>) -> BTreeSet<BusId> {
    devices.into_iter().map(|device| device.busid.clone()).collect()
}

/// What is seen: of the host in the file, if one is named, or else of the one that this is.
///
/// # Errors
///
/// The exit code, when it was told why nothing can be seen.
pub(super) fn see(
    host: Option<&Path>,
    endpoint: Endpoint,
    libxl_dir: &Path,
    policies: &[&Policy],
    (err, colour): (&mut dyn Write, bool),
) -> Result<Seen, u8> {
    let Some(path) = host else {
        let (observed, unreadable, without_xen) =
            look::look_if_possible(endpoint, libxl_dir, policies)
                .map_err(|error| look::unseen(&error, err))?;
        return Ok(Seen { observed, unreadable, without_xen, sheet: None });
    };
    let sheet = load(path).map_err(|problems| refuse(&problems, err, colour))?;
    let observed = sheet.host().observed();
    Ok(Seen { observed, unreadable: Unreadable::new(), without_xen: None, sheet: Some(sheet) })
}

/// The policy that the text at `path` names, if it does: seen from where the text is.
pub(super) fn policy_named_in(sheet: &Sheet, path: &Path) -> Option<PathBuf> {
    let named = Path::new(sheet.policy()?);
    Some(path.parent().map_or_else(|| named.to_owned(), |folder| folder.join(named)))
}

/// Tells on `err` what is wrong with a file; gives the exit code.
pub(super) fn refuse(problems: &Problems, err: &mut dyn Write, colour: bool) -> u8 {
    match write!(err, "{}", problems.render(colour)) {
        Ok(()) => EX_CONFIG,
        Err(_) => EX_IOERR,
    }
}
