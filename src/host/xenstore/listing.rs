//! A directory that arrives in parts, because its names do not fit into one reply.
//!
//! C xenstored answers `XS_DIRECTORY` with `E2BIG` then, and hands the names out through
//! `XS_DIRECTORY_PART` (`send_directory_part` of `tools/xenstored/core.c`). Pure bookkeeping: which
//! part to ask for next. No IO.

use super::wire::{MAX_LISTING, Part};

/// How often a listing begins anew because the directory changed between two parts.
pub(super) const MAX_ATTEMPTS: u32 = 20;

/// The parts so far.
#[derive(Debug)]
pub(super) struct Listing {
    generation: Option<String>,
    names: Vec<String>,
    offset: usize,
    attempts: u32,
}

/// What to do after a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for the part at [`Listing::offset`].
    Ask,
    /// These are all names.
    Done(Vec<String>),
    /// The directory changed [`MAX_ATTEMPTS`] times meanwhile.
    Changing,
    /// The names together are longer than [`MAX_LISTING`].
    TooLong,
}

impl Listing {
    /// A listing that has nothing yet: the first part is at offset 0.
    pub(super) fn new() -> Self {
        Self { generation: None, names: Vec::new(), offset: 0, attempts: 1 }
    }

    /// Where the next part begins: bytes into the daemon's list of NUL-terminated names.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Takes the part at the current offset.
    pub(super) fn add(&mut self, part: Part) -> Next {
        let known = self.generation.get_or_insert_with(|| part.generation.clone());
        if *known != part.generation {
            return self.start_again();
        }
        self.offset += part.names.iter().map(|name| name.len() + 1).sum::<usize>();
        self.names.extend(part.names);
        if part.last {
            Next::Done(std::mem::take(&mut self.names))
        } else if self.offset > MAX_LISTING {
            Next::TooLong
        } else {
            Next::Ask
        }
    }

    fn start_again(&mut self) -> Next {
        if self.attempts == MAX_ATTEMPTS {
            return Next::Changing;
        }
        *self = Self { attempts: self.attempts + 1, ..Self::new() };
        Next::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(generation: &str, names: &[&str], last: bool) -> Part {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Part { generation: generation.to_owned(), names, last }
    }

    #[test]
    fn parts_are_put_together() {
        let mut listing = Listing::new();
        assert_eq!(listing.add(part("1", &["a", "bc"], false)), Next::Ask);
        assert_eq!(listing.offset(), 5);
        let done = Next::Done(vec!["a".into(), "bc".into(), "d".into()]);
        assert_eq!(listing.add(part("1", &["d"], true)), done);
    }

    #[test]
    fn a_change_begins_anew() {
        let mut listing = Listing::new();
        assert_eq!(listing.add(part("1", &["a"], false)), Next::Ask);
        assert_eq!(listing.add(part("2", &["x"], false)), Next::Ask);
        assert_eq!(listing.offset(), 0);
        assert_eq!(listing.add(part("2", &["b"], true)), Next::Done(vec!["b".into()]));
    }

    #[test]
    fn what_changes_for_ever_is_given_up() {
        let mut listing = Listing::new();
        let mut asked = 0;
        loop {
            asked += 1;
            let next = listing.add(part(&asked.to_string(), &["a"], false));
            if next != Next::Ask {
                assert_eq!(next, Next::Changing);
                break;
            }
            assert!(asked < 100);
        }
    }

    #[test]
    fn what_never_ends_is_given_up() {
        let mut listing = Listing::new();
        let name = "a".repeat(2000);
        let mut asked = 0;
        while listing.add(part("1", &[&name, &name], false)) == Next::Ask {
            asked += 1;
            assert!(asked < 2000);
        }
    }
}
