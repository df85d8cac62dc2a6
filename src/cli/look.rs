//! What the verbs see of this host when they look for themselves and ask no agent.

use super::{EX_OSERR, EX_UNAVAILABLE, fail, fail_with};
use crate::host::configured;
use crate::host::look::XenReader;
use crate::host::usb::{self, UsbReader};
use crate::host::userdata::UserData;
use crate::host::xenstore::{self, Endpoint, Xenstore};
use crate::model::{BusId, Observed, XenView};
use crate::policy::Policy;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Devices that are there and could not be read, and why.
pub(super) type Unreadable = BTreeMap<BusId, usb::Error>;

/// Why nothing could be seen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot look at xenstore")]
    Xenstore(#[from] xenstore::Error),
    #[error("cannot look at the USB devices")]
    Usb(#[from] usb::Error),
    #[error("cannot wait for xenstore")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// What helps, where it is not told by what is wrong.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Xenstore(xenstore::Error::Denied { .. }) => Some(ONLY_ROOT),
            Self::Xenstore(xenstore::Error::Connect { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(ONLY_ROOT)
            }
            Self::Xenstore(xenstore::Error::Connect { .. }) => {
                Some("is this a dom0, and does xenstored run? (docs/errors.md, \"xenstore\")")
            }
            Self::Usb(usb::Error::Denied { .. }) => Some("ask as root"),
            Self::Xenstore(_) | Self::Usb(_) | Self::Runtime(_) => None,
        }
    }
}

/// What helps whoever is not root.
pub(super) const ONLY_ROOT: &str = "only root can read and change xenstore";

/// Tells on `err` why nothing could be seen, and what helps; gives the exit code.
pub(super) fn unseen(error: &Error, err: &mut dyn Write) -> u8 {
    let code = if matches!(error, Error::Runtime(_)) { EX_OSERR } else { EX_UNAVAILABLE };
    match error.advice() {
        Some(advice) => fail_with(err, error, advice, code),
        None => fail(err, error, code),
    }
}

/// Looks at xenstore first: a device that is plugged between the two looks is not taken for one that
/// is gone.
///
/// # Errors
///
/// When one of them cannot be looked at.
pub(super) async fn look(xen: &XenReader) -> Result<(Observed, Unreadable), Error> {
    let xen = xen.view().await?;
    Ok(beside(xen, &UsbReader::new())?)
}

/// The same for a verb that can do without xenstore: a host that runs no Xen has no domains. Tells
/// also why xenstore was not there. Of the devices it reads what `policies` ask for.
///
/// # Errors
///
/// When the devices cannot be looked at.
pub(super) fn look_if_possible(
    endpoint: Endpoint,
    libxl_dir: &Path,
    policies: &[&Policy],
) -> Result<(Observed, Unreadable, Option<Error>), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let view = runtime.map_err(Error::Runtime)?.block_on(async {
        let xs = Xenstore::connect(endpoint).await?;
        XenReader::new(xs, UserData::new(libxl_dir)).view().await
    });
    let (xen, why) = match view {
        Ok(view) => (view, None),
        Err(error) => (XenView::default(), Some(error.into())),
    };
    let attributes =
        policies.iter().flat_map(|it| it.needs().attributes.iter().cloned().collect::<Vec<_>>());
    let usb = UsbReader::asking(Arc::new(attributes.collect()));
    let (observed, unreadable) = beside(xen, &usb)?;
    Ok((observed, unreadable, why))
}

/// The domains that are on this host or could be: those of the configurations in `xl_dir`, and those
/// that are there now. `None` when that is not known, or there is none.
pub(super) fn known_domains(xl_dir: &Path, endpoint: Endpoint) -> Option<Vec<configured::Known>> {
    let mut known = configured::domains(xl_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let view = runtime.block_on(async {
        let xs = Xenstore::connect(endpoint).await?;
        XenReader::new(xs, UserData::new(Path::new(UserData::DIR))).view().await
    });
    let there = view.ok().into_iter().flat_map(|view| view.guests.into_values());
    known.extend(there.map(|guest| (guest.name, Some(guest.uuid))));
    (!known.is_empty()).then_some(known)
}

fn beside(xen: XenView, usb: &UsbReader) -> Result<(Observed, Unreadable), usb::Error> {
    let scan = usb.devices()?;
    let observed =
        Observed { devices: scan.devices, usbback: usb.usbback_loaded(), desk: usb.desk()?, xen };
    Ok((observed, scan.unreadable))
}
