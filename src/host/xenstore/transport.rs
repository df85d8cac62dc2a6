//! How bytes get to the daemon and back: a Unix socket, or the kernel's character device.
//!
//! Only reading and writing. One call of [`Transport::write`] gets the rest of one message and no
//! more, because `/dev/xen/xenbus` loses what follows a complete message in one write(2)
//! (`drivers/xen/xenbus/xenbus_dev_frontend.c`). The socket would not mind.
//!
//! And the device takes one request at a time ([`Transport::pace`]), whatever it says.
//!
//! The device needs a Xen kernel, of Linux 4.11 or newer: older ones answer WATCH without the
//! request id. The tests use a FIFO and a socket in its place, so what they show is this code and
//! not the kernel's side of it; `tests/xen` has the real one.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::endpoint::Endpoint;
use super::session::Pace;

/// An open way to the daemon.
#[derive(Debug)]
pub(super) enum Transport {
    Socket(UnixStream),
    Device(AsyncFd<File>),
}

impl Transport {
    /// Connects. Neither way waits: a Unix socket takes a connection or refuses it, and the device
    /// just opens.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Socket(path) => Ok(Self::Socket(UnixStream::connect(path).await?)),
            Endpoint::Device(path) => {
                let flags = OFlag::O_NONBLOCK.bits();
                let file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
                Ok(Self::Device(watch_readiness(file)?))
            }
        }
    }

    /// How many requests may be under way.
    ///
    /// On the device it is one. The kernel sends a request later, from the buffer in which the next
    /// write(2) leaves the next one (`xenbus_xs.c: xenbus_dev_request_and_reply`): what is asked or
    /// written is then another node. And a WATCH or UNWATCH is waited for with a lock that the reply to
    /// an earlier request needs (`xenbus_dev_frontend.c: xenbus_dev_queue_reply`), so that nothing in
    /// dom0 hears of xenstore any more. Both are in Linux 6.1; the first was seen.
    pub(super) fn pace(&self) -> Pace {
        match self {
            Self::Socket(_) => Pace::Many,
            Self::Device(_) => Pace::One,
        }
    }

    /// Waits for bytes and reads them. 0 means that the daemon has closed the connection.
    ///
    /// A future that is dropped before it is ready has read nothing.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => loop {
                stream.readable().await?;
                match stream.try_read(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    done => return done,
                }
            },
            Self::Device(device) => loop {
                let mut ready = device.readable().await?;
                if let Ok(done) = ready.try_io(|device| device.get_ref().read(buffer)) {
                    return done;
                }
            },
        }
    }

    /// Waits until bytes can be written and writes some of them, at least one.
    ///
    /// A future that is dropped before it is ready has written nothing.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => loop {
                stream.writable().await?;
                match stream.try_write(bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    done => return done,
                }
            },
            Self::Device(device) => loop {
                // The device never reports that it can be written (`xenbus_file_poll` knows only
                // input), but it always can: it queues. So the first try does not wait.
                match device.get_ref().write(bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    done => return done,
                }
                device.writable().await?.clear_ready();
            },
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that do not own their descriptor; a File does"
)]
fn watch_readiness(file: File) -> io::Result<AsyncFd<File>> {
    AsyncFd::new(file)
}

/// A device whose other end is a socket.
#[cfg(test)]
pub(super) fn device() -> (Transport, std::os::unix::net::UnixStream) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(ours));
    (Transport::Device(watch_readiness(file).unwrap()), theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_device_reads_and_writes_and_sees_the_end() {
        let (device, mut peer) = device();
        assert_eq!(device.write(b"ask").await.unwrap(), 3);
        let mut asked = [0; 3];
        peer.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"ask");

        peer.write_all(b"answer").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(device.read(&mut buffer).await.unwrap(), 6);
        drop(peer);
        assert_eq!(device.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_full_device_waits() {
        let (device, mut peer) = device();
        let chunk = [7; 4096];
        let total = 1 << 20;
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; total];
            peer.read_exact(&mut buffer).unwrap();
            peer
        });
        let mut left = total;
        while left > 0 {
            left -= device.write(&chunk[..left.min(chunk.len())]).await.unwrap();
        }
        reader.join().unwrap();
    }

    #[tokio::test]
    async fn a_fifo_opens_as_a_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xenbus");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // A FIFO that is opened for both directions talks to itself.
        let device = Transport::open(&Endpoint::Device(path)).await.unwrap();
        assert_eq!(device.write(b"echo").await.unwrap(), 4);
        let mut buffer = [0; 16];
        assert_eq!(device.read(&mut buffer).await.unwrap(), 4);
    }
}
