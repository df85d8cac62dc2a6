//! Who asks for something through the control socket.

use super::text::Text;
use std::fmt;

/// The process at the other end of a control connection, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its effective user.
    pub uid: u32,
    /// Its number when it connected.
    pub pid: i32,
    /// The user's name, if the system knows it.
    pub user: Option<Text>,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "{user} (uid {}, pid {})", self.uid, self.pid),
            None => write!(f, "uid {}, pid {}", self.uid, self.pid),
        }
    }
}
