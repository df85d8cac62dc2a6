//! The socket's place in the file system: made so that only one agent has it, and nobody else can
//! write to it.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Who may go to the socket's directory: anybody may, so that a client is told why it may not ask.
const DIRECTORY: u32 = 0o755;

/// Who may write to the lock.
const LOCK: u32 = 0o600;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Another agent has it.
    #[error("another agent is running: it holds {0}; end that one first")]
    InUse(PathBuf),
    /// Something that is no socket is in its place.
    #[error("{0} is there and is no socket: remove it, or name another place with --socket")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot make {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// The socket's file. It goes when this does.
#[derive(Debug)]
pub(super) struct Address {
    path: PathBuf,
    /// The kernel lets go of it when the process ends, however it ends. So whoever has it knows
    /// that a socket in that place is a dead agent's.
    _lock: Flock<File>,
}

/// Listens at `path`, where those may write whom `mode` lets. The file of an agent that was killed is replaced; that of one that lives never.
pub(super) fn listen(path: &Path, mode: u32) -> Result<(Address, UnixListener), AddressError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        |error| AddressError::Io(path, error)
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.exists()) {
        fs::create_dir_all(directory).map_err(at(directory))?;
        // Whatever the umask says.
        fs::set_permissions(directory, Permissions::from_mode(DIRECTORY)).map_err(at(directory))?;
    }
    let lock = beside(path, "lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(LOCK)
        .open(&lock)
        .map_err(at(&lock))?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::Error::EWOULDBLOCK)) => return Err(AddressError::InUse(path.to_owned())),
        Err((_, errno)) => return Err(AddressError::Io(lock, errno.into())),
    };
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(AddressError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(AddressError::Io(path.to_owned(), error)),
    }
    // It comes to its place when its permissions are right and somebody listens.
    let new = beside(path, "new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&new)(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new).map_err(at(&new))?;
    fs::set_permissions(&new, Permissions::from_mode(mode)).map_err(at(&new))?;
    listener.set_nonblocking(true).map_err(at(&new))?;
    fs::rename(&new, path).map_err(at(path))?;
    Ok((Address { path: path.to_owned(), _lock: lock }, listener))
}

impl Drop for Address {
    fn drop(&mut self) {
        // One that cannot be removed is replaced by the next agent.
        drop(fs::remove_file(&self.path));
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control");
        fs::create_dir(dir.path().join("run")).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err(), "nobody listens there any more");

        let (address, _listener) = listen(&path, 0o600).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert!(matches!(listen(&path, 0o600), Err(AddressError::InUse(_))));
        assert!(UnixStream::connect(&path).is_ok());
        drop(address);
        assert!(!path.exists());
        assert!(listen(&path, 0o600).is_ok());
    }

    #[test]
    fn only_its_owner_can_write_to_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control");
        let _open = listen(&path, 0o600).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, DIRECTORY));
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        fs::write(&path, "dear diary").unwrap();
        assert!(matches!(listen(&path, 0o600), Err(AddressError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary");
    }
}
