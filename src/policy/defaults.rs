//! What holds for all devices unless the policy says otherwise: what becomes of stale ports,
//! when a device counts as flapping, and when files are read anew.

use std::fmt;
use std::time::Duration;

/// What becomes of a port that names a place where nothing is plugged, when it is not the agent's
/// own. One such port makes every `xl usbdev-attach` on the host fail
/// (`libxl_usb.c: get_assigned_devices`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StalePorts {
    /// It is emptied.
    #[default]
    Clear,
    /// It is left as it is: for an administrator who wants to see everything that others do.
    Leave,
}

impl StalePorts {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Clear, Self::Leave];

    /// The one that the policy calls by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ports| ports.word() == word)
    }

    /// The policy's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Leave => "leave",
        }
    }
}

impl fmt::Display for StalePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// When the policy's files are read anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// When somebody says so: `pvusb-agent reload`, `systemctl reload`, SIGHUP.
    #[default]
    OnRequest,
    /// Also when one of them has changed.
    OnChange,
}

impl Reload {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::OnRequest, Self::OnChange];

    /// The one that the policy calls by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reload| reload.word() == word)
    }

    /// The policy's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::OnRequest => "on_request",
            Self::OnChange => "on_change",
        }
    }
}

/// When a device counts as flapping, as with a loose plug or a device that starts over and over, and
/// how long it must then stay plugged before it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flapping {
    /// How many plugs are too many; 0: none ever are. At most [`Self::MAX_PLUGS`].
    pub plugs: u32,
    /// Within which time they count. At most [`Self::MAX_TIME`].
    pub within: Duration,
    /// How long it must stay plugged. At most [`Self::MAX_TIME`].
    pub pause: Duration,
}

impl Flapping {
    /// The most plugs that can be counted: each is remembered until it is too old.
    pub const MAX_PLUGS: u32 = 100;
    /// The longest time that can be asked for.
    pub const MAX_TIME: Duration = Duration::from_secs(3600);
}

/// Ten plugs within a minute are no person's doing; thirty seconds without one are a device that has
/// come to rest.
impl Default for Flapping {
    fn default() -> Self {
        Self { plugs: 10, within: Duration::from_secs(60), pause: Duration::from_secs(30) }
    }
}
