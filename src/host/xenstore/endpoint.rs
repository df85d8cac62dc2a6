//! Where the xenstore daemon is reached.
//!
//! Only the choice. The environment and the file system are asked through functions, so that the
//! choice can be tested.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The kernel's door to xenstore, for daemons without a socket (a stub domain).
const DEVICE: &str = "/dev/xen/xenbus";

/// The directories that the daemon's socket lives in (`XEN_RUN_STORED` of Xen's build; `/var/run`
/// on old systems).
const RUN_DIRS: [&str; 2] = ["/run/xenstored", "/var/run/xenstored"];

/// Where the xenstore daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The daemon's Unix socket.
    Socket(PathBuf),
    /// The kernel's character device.
    Device(PathBuf),
}

impl Endpoint {
    /// The place that libxenstore would use (`tools/libs/store/xs.c`): `XENSTORED_PATH` if it is
    /// set; else the socket in `XENSTORED_RUNDIR`, `/run/xenstored` or `/var/run/xenstored`; else
    /// `/dev/xen/xenbus`.
    ///
    /// `variable` looks up an environment variable, usually `std::env::var_os`. The file system is
    /// looked at once, now: a daemon that brings its socket later is not looked for again. If there
    /// is nothing at all, the answer is the usual socket, so that the error of connecting names it.
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self::choose(variable, Found::at)
    }

    fn choose(variable: impl Fn(&str) -> Option<OsString>, look: impl Fn(&Path) -> Found) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);

        if let Some(path) = set("XENSTORED_PATH") {
            return match look(&path) {
                Found::Device => Self::Device(path),
                Found::Socket | Found::Nothing => Self::Socket(path),
            };
        }
        let named = set("XENSTORED_RUNDIR");
        let usual = RUN_DIRS.map(PathBuf::from);
        let mut sockets: Vec<PathBuf> =
            named.into_iter().chain(usual).map(|dir| dir.join("socket")).collect();
        let device = PathBuf::from(DEVICE);
        match sockets.iter().position(|path| look(path) == Found::Socket) {
            Some(found) => Self::Socket(sockets.swap_remove(found)),
            None if look(&device) == Found::Device => Self::Device(device),
            None => Self::Socket(sockets.swap_remove(0)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Socket(path) | Self::Device(path)) = self;
        write!(f, "{}", path.display())
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Socket,
    Device,
    Nothing,
}

impl Found {
    fn at(path: &Path) -> Self {
        match std::fs::metadata(path).map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_socket() => Self::Socket,
            Ok(kind) if kind.is_char_device() => Self::Device,
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(variables: &[(&str, &str)], files: &[(&str, Found)]) -> Endpoint {
        Endpoint::choose(
            |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()),
            |path| {
                let found = files.iter().find(|(p, _)| Path::new(p) == path);
                found.map_or(Found::Nothing, |(_, found)| *found)
            },
        )
    }

    fn socket(path: &str) -> Endpoint {
        Endpoint::Socket(path.into())
    }

    #[test]
    fn the_named_path_wins_even_if_it_is_not_there_yet() {
        let files = [("/run/xenstored/socket", Found::Socket)];
        assert_eq!(choose(&[("XENSTORED_PATH", "/tmp/s")], &files), socket("/tmp/s"));
        let files = [("/tmp/d", Found::Device)];
        let device = Endpoint::Device("/tmp/d".into());
        assert_eq!(choose(&[("XENSTORED_PATH", "/tmp/d")], &files), device);
    }

    #[test]
    fn sockets_come_before_the_device() {
        let device = ("/dev/xen/xenbus", Found::Device);
        let run = ("/run/xenstored/socket", Found::Socket);
        let var_run = ("/var/run/xenstored/socket", Found::Socket);
        let own = ("/own/socket", Found::Socket);
        assert_eq!(choose(&[], &[device, run, var_run]), socket("/run/xenstored/socket"));
        assert_eq!(choose(&[], &[device, var_run]), socket("/var/run/xenstored/socket"));
        assert_eq!(choose(&[], &[device]), Endpoint::Device("/dev/xen/xenbus".into()));
        let rundir = [("XENSTORED_RUNDIR", "/own")];
        assert_eq!(choose(&rundir, &[device, run, own]), socket("/own/socket"));
        assert_eq!(choose(&rundir, &[device, run]), socket("/run/xenstored/socket"));
    }

    #[test]
    fn with_nothing_there_the_usual_socket_is_named() {
        assert_eq!(choose(&[], &[]), socket("/run/xenstored/socket"));
        assert_eq!(choose(&[("XENSTORED_PATH", "")], &[]), socket("/run/xenstored/socket"));
        assert_eq!(choose(&[("XENSTORED_RUNDIR", "/own")], &[]), socket("/own/socket"));
    }
}
