//! What is kept of a device that the agent has attached, for the one that follows it in its place.

use super::attachment::Place;
use super::device::Plug;
use super::domain::GuestUuid;

/// The trail of a device whose rule wants the next one in its place to go the same way. It is kept in
/// xenstore under the device's busid, so it outlives the agent and ends with the host's boot. It is written
/// in the same transaction as the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// The plug that was attached. As long as it is plugged, nothing follows it.
    pub plug: Plug,
    /// Where it was put.
    pub place: Place,
    /// The domain that had this number then.
    pub uuid: GuestUuid,
    /// The name of the rule that put it there.
    pub rule: Box<str>,
    /// Whether it followed another one itself: then this is its rule until it is unplugged.
    pub follows: bool,
}

impl Trail {
    /// How many there are at most, so that nobody can fill xenstore by plugging.
    pub const MOST: usize = 64;
}
