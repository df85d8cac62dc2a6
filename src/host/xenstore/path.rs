//! Which paths and values may be sent: checked here, so that nothing is sent that a daemon would
//! refuse or, worse, answer by dropping the connection.
//!
//! Pure text rules. Where C xenstored and oxenstored differ, the stricter one holds.

/// Longest path, in bytes.
///
/// The protocol knows 3072 bytes (`XENSTORE_ABS_PATH_MAX`, `xs_wire.h`), but the daemons take less,
/// not counting a leading `/local/domain/<domid>/`: C xenstored 2048 (`XENSTORE_REL_PATH_MAX`),
/// oxenstored 1024, which is `quota-path-max` in the `oxenstored.conf` that Xen installs. Measured
/// with both daemons of Xen 4.17.
pub const MAX_PATH: usize = 1024;

/// Longest value, in bytes.
///
/// oxenstored refuses more even for dom0 (`quota-maxsize`); C xenstored would take what fits into a
/// message.
pub const MAX_VALUE: usize = 2048;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Relative paths mean something different in every domain; only absolute ones are used.
    #[error("it does not begin with `/`")]
    Relative,
    /// It is longer than [`MAX_PATH`].
    #[error("it is longer than {MAX_PATH} bytes")]
    Long,
    /// It has a byte other than `A-Z a-z 0-9 - / _ @` (`is_valid_nodename` of
    /// `tools/xenstored/core.c`).
    #[error("it has a character other than letters, digits, `-`, `_`, `@` and `/`")]
    Character,
    /// It is `/`, to be removed. C xenstored refuses that; oxenstored removes everything.
    #[error("the root cannot be removed")]
    Root,
    /// It has `//` or ends with `/`.
    #[error("it has an empty name")]
    EmptyName,
}

/// Checks the path of a node.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn check(path: &str) -> Result<(), PathFault> {
    if !path.starts_with('/') {
        return Err(PathFault::Relative);
    }
    if path.len() > MAX_PATH {
        return Err(PathFault::Long);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    if !path.bytes().all(allowed) {
        return Err(PathFault::Character);
    }
    if path != "/" && (path.ends_with('/') || path.contains("//")) {
        return Err(PathFault::EmptyName);
    }
    Ok(())
}

/// Checks the path of a node to be removed: any but the root.
///
/// # Errors
/// As for [`check`], and for `/`.
pub(super) fn check_removal(path: &str) -> Result<(), PathFault> {
    if path == "/" { Err(PathFault::Root) } else { check(path) }
}

/// Checks a path to be watched: a node's, or one of the two names that stand for domains coming and
/// going.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_watch(path: &str) -> Result<(), PathFault> {
    match path {
        "@introduceDomain" | "@releaseDomain" => Ok(()),
        _ => check(path),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_paths() {
        for path in ["/", "/a", "/local/domain/0/backend/vusb/5/0", "/a-b/C_d/e@f"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        assert_eq!(check(&format!("/{}", "a".repeat(MAX_PATH - 1))), Ok(()));
    }

    #[test]
    fn bad_paths() {
        let cases = [
            ("", PathFault::Relative),
            ("a", PathFault::Relative),
            ("@introduceDomain", PathFault::Relative),
            ("/a/", PathFault::EmptyName),
            ("//", PathFault::EmptyName),
            ("/a//b", PathFault::EmptyName),
            ("/1-1.4", PathFault::Character),
            ("/a\0b", PathFault::Character),
            ("/\u{e4}", PathFault::Character),
        ];
        for (path, fault) in cases {
            assert_eq!(check(path), Err(fault), "{path:?}");
        }
        assert_eq!(check(&format!("/{}", "a".repeat(MAX_PATH))), Err(PathFault::Long));
    }

    #[test]
    fn the_root_is_never_removed() {
        assert_eq!(check_removal("/"), Err(PathFault::Root));
        assert_eq!(check_removal("/a"), Ok(()));
        assert_eq!(check_removal("//"), Err(PathFault::EmptyName));
    }

    #[test]
    fn only_the_two_special_names_are_watched() {
        assert_eq!(check_watch("@introduceDomain"), Ok(()));
        assert_eq!(check_watch("@releaseDomain"), Ok(()));
        assert_eq!(check_watch("@other"), Err(PathFault::Relative));
        assert_eq!(check_watch("/a"), Ok(()));
    }

    proptest! {
        #[test]
        fn joined_names_are_good(names in prop::collection::vec("[A-Za-z0-9_@-]{1,20}", 1..10)) {
            prop_assert_eq!(check(&format!("/{}", names.join("/"))), Ok(()));
        }

        #[test]
        fn what_passes_never_holds_a_nul(path in any::<String>()) {
            prop_assert!(check_watch(&path).is_err() || !path.contains('\0'));
        }
    }
}
