//! Names on Xen's side: domains.

use super::bus::NameError;
use super::text::Text;
use std::fmt;
use std::str::FromStr;

/// A domain's number. Reused after a domain's end, so never an identity on its own: that is the
/// pair of this and [`GuestUuid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomId(u16);

impl DomId {
    /// The control domain, where the agent runs.
    pub const DOM0: Self = Self(0);
    /// The first number that no ordinary domain has (`DOMID_FIRST_RESERVED`, `public/xen.h`).
    const FIRST_RESERVED: u16 = 0x7ff0;

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl FromStr for DomId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| text.parse().ok())
            .flatten()
            .filter(|domid| *domid < Self::FIRST_RESERVED)
            .map(Self)
            .ok_or_else(|| NameError::new(text, "a domain number from 0 to 32751"))
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

/// A domain's UUID: kept over reboots and migrations, unlike its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestUuid(u128);

impl GuestUuid {
    /// The one that no domain has (RFC 9562, section 5.9).
    pub const NIL: Self = Self(0);
}

impl FromStr for GuestUuid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let dashes_right = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        dashes_right
            .then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| {
                NameError::new(text, "a UUID such as `6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30`")
            })
    }
}

impl fmt::Display for GuestUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.pad(&parts.join("-"))
    }
}

/// A domain's name, as the administrator chose it. Shown escaped; compared as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestName(Box<str>);

impl GuestName {
    /// Takes a name from the policy or from xenstore.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text::from(&*self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_round_trip_and_refuse_what_is_not_one() {
        let text = "6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30";
        assert_eq!(text.parse::<GuestUuid>().unwrap().to_string(), text);
        assert!("6d3ae5a62c8c4c8b9d1e0c5b7d1f2a30".parse::<GuestUuid>().is_err());
        assert!("6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a3é".parse::<GuestUuid>().is_err());
    }

    #[test]
    fn reserved_numbers_are_not_domains() {
        assert!("32751".parse::<DomId>().is_ok());
        assert!("32752".parse::<DomId>().is_err() && "+1".parse::<DomId>().is_err());
    }
}
