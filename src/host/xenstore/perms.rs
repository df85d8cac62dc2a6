//! A node's permissions, and their text form `n5`, `r0`.
//!
//! Only the form. Which permissions a node should have is decided by those who write it.

use std::fmt;
use std::str::FromStr;

/// What a domain may do with a node (`docs/misc/xenstore.txt`, "Permissions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `n`: nothing.
    None,
    /// `r`: read.
    Read,
    /// `w`: write.
    Write,
    /// `b`: both.
    Both,
}

impl Access {
    fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }
}

/// One entry of a node's permissions.
///
/// The first entry of a node is special: its domain is the owner and may do everything, and its
/// access is what every domain without an entry of its own gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// What the domain may do.
    pub access: Access,
    /// The domain.
    pub domid: u16,
}

/// Why a text is no permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a permission such as `n0` or `r5`")]
pub struct PermissionError;

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.access.letter(), self.domid)
    }
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.chars();
        let access = match rest.next() {
            Some('n') => Access::None,
            Some('r') => Access::Read,
            Some('w') => Access::Write,
            Some('b') => Access::Both,
            _ => return Err(PermissionError),
        };
        let digits = rest.as_str();
        // `u16::from_str` alone would take `+5`.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PermissionError);
        }
        let domid = digits.parse().map_err(|_| PermissionError)?;
        Ok(Self { access, domid })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_permission() {
        for text in ["", "n", "5", "x5", "n-1", "n+1", "n65536", "n5 ", "N5"] {
            assert_eq!(text.parse::<Permission>(), Err(PermissionError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(letter in "[nrwb]", domid: u16) {
            let text = format!("{letter}{domid}");
            let permission: Permission = text.parse().unwrap();
            prop_assert_eq!(permission.to_string(), text);
        }
    }
}
