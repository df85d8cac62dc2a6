//! What can go wrong on the USB side, sorted by what to do about it.
//!
//! It only sorts. Who tries again, and for how long, is not known here.

use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// A failure on the USB side of dom0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The device, interface or driver is not there any more. Look again.
    #[error("`{}` is gone", path.display())]
    Gone {
        /// What was tried.
        path: PathBuf,
    },
    /// Another driver or program has it now. Try again later.
    #[error("`{}` is busy", path.display())]
    Busy {
        /// What was tried.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// Device and driver are there, but the driver does not take the device. For usbback this is
    /// also the answer as long as it has not yet seen the port in xenstore, so it is worth trying
    /// again for some seconds.
    #[error("the driver at `{}` does not take the interface", path.display())]
    Refused {
        /// What was tried.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// The agent may not do this. Trying again is of no use.
    #[error("no permission for `{}`", path.display())]
    Denied {
        /// What was tried.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// Any other answer of the kernel.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// What was tried.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// What is there is not in the form that the kernel gives it.
    #[error("`{}` {what}", path.display())]
    Malformed {
        /// Where it was read.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence.
        what: &'static str,
    },
    /// The socket for udev's events does not work.
    #[error("cannot {doing} udev's event socket")]
    Monitor {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The kernel's or libudev's answer.
        source: Errno,
    },
    /// libudev would give no event, ever, because it does not find a udev daemon.
    #[error("no udev daemon is running: start systemd-udevd")]
    NoUdev,
}

impl Error {
    /// Sorts an error number of a system call on `path`.
    pub(super) fn from_errno(path: &Path, source: Errno) -> Self {
        let path = path.to_owned();
        let among = |errnos: &[Errno]| errnos.contains(&source);
        if among(&[Errno::ENOENT, Errno::ENODEV, Errno::ENXIO, Errno::ENOTDIR]) {
            Self::Gone { path }
        } else if among(&[Errno::EBUSY, Errno::EAGAIN]) {
            Self::Busy { path, source }
        } else if among(&[Errno::EACCES, Errno::EPERM, Errno::EROFS]) {
            Self::Denied { path, source }
        } else {
            Self::Io { path, source }
        }
    }

    /// Sorts a failure of the standard library on `path`.
    pub(super) fn from_io(path: &Path, error: &io::Error) -> Self {
        Self::from_errno(path, errno_of(error))
    }
}

/// The error number inside. `EIO` for the few failures that the standard library makes up itself.
pub(super) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_are_sorted_by_what_to_do() {
        let sort = |errno| Error::from_errno(Path::new("/sys/x"), errno);
        assert!(matches!(sort(Errno::ENOENT), Error::Gone { .. }));
        assert!(matches!(sort(Errno::ENODEV), Error::Gone { .. }));
        assert!(matches!(sort(Errno::EBUSY), Error::Busy { .. }));
        assert!(matches!(sort(Errno::EAGAIN), Error::Busy { .. }));
        assert!(matches!(sort(Errno::EACCES), Error::Denied { .. }));
        assert!(matches!(sort(Errno::EINVAL), Error::Io { .. }));
    }

    #[test]
    fn each_message_names_the_path() {
        let error = Error::from_errno(Path::new("/sys/x"), Errno::EBUSY);
        assert_eq!(error.to_string(), "`/sys/x` is busy");
        let what = "is missing";
        let error = Error::Malformed { path: "/sys/x/busnum".into(), what };
        assert_eq!(error.to_string(), "`/sys/x/busnum` is missing");
    }
}
