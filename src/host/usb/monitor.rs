//! Waits for udev's word that something has changed.
//!
//! It says where to look again, never what has happened: events may be merged, late or lost. The
//! kernel's own events are not listened to: a device that is handed on before udev has finished
//! with it makes the guest's device model abort.

use super::children::{Origin, origin};
use super::error::{Error, errno_of};
use crate::model::BusId;
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags, NetlinkAddr, sockopt};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use udev::{MonitorBuilder, MonitorSocket};

/// The receive buffer that is asked for; only what waits in it takes memory. systemd's libudev asks
/// for the same by itself (`libudev-monitor.c`), that of eudev does not.
const BUFFER: usize = 128 * 1024 * 1024;

/// How often reading is taken up again before the socket is given up. Each time gets at least one
/// message out of it unless something is thoroughly wrong.
const ROUNDS: usize = 10_000;

/// Where to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// At these devices: something was said of them, their interfaces, or what the kernel has made of
    /// these.
    Devices {
        /// The devices.
        devices: BTreeSet<BusId>,
        /// Whether also at all that have disks: something was said of a disk that may be made of
        /// theirs.
        disks: bool,
    },
    /// At everything: events were lost or could not be read, or dom0 has got or lost an input device
    /// that is not on USB.
    Everything,
}

/// What is listened to: devices and interfaces, and what the kernel makes of these.
const SUBSYSTEMS: [&str; 4] = ["usb", "block", "net", "input"];

/// A socket for udev's events on USB devices, their interfaces, disks, network interfaces and input
/// devices.
///
/// To be opened before the devices are first read: so nothing falls in between.
pub struct UsbMonitor {
    socket: AsyncFd<MonitorSocket>,
}

impl UsbMonitor {
    /// Opens the socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made, or when libudev finds no udev daemon: it would then hand
    /// out a socket that stays silent for ever (systemd, `sd-device/device-monitor.c`).
    pub fn open() -> Result<Self, Error> {
        let builder = SUBSYSTEMS.iter().fold(MonitorBuilder::new(), |builder, subsystem| {
            builder.and_then(|builder| builder.match_subsystem(subsystem))
        });
        let monitor = Self::listen(builder.map_err(|e| failed("open", &e))?, BUFFER)?;
        if monitor.is_deaf() { Err(Error::NoUdev) } else { Ok(monitor) }
    }

    /// Waits until something has changed, then takes everything that is known by then. Nothing is
    /// lost when this is dropped while it waits.
    ///
    /// # Errors
    ///
    /// When the socket does not work any more. Open another one and look at everything.
    pub async fn changes(&mut self) -> Result<Change, Error> {
        loop {
            let mut ready = self.socket.ready(INTEREST).await.map_err(|e| failed("wait on", &e))?;
            let found = Found::drain(ready.get_inner())?;
            ready.clear_ready();
            if let Some(change) = found.into_change() {
                return Ok(change);
            }
        }
    }

    fn listen(builder: MonitorBuilder, buffer: usize) -> Result<Self, Error> {
        // Without CAP_NET_ADMIN the buffer is only as large as net.core.rmem_max allows. It is of
        // no harm when even this fails: an overflow is noticed.
        let _ = socket::setsockopt(&builder, sockopt::RcvBufForce, &buffer)
            .or_else(|_| socket::setsockopt(&builder, sockopt::RcvBuf, &buffer));
        let socket = builder.listen().map_err(|e| failed("listen on", &e))?;
        let socket = Self::register(socket).map_err(|e| failed("watch", &e))?;
        Ok(Self { socket })
    }

    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor changes; libudev's does not"
    )]
    fn register(socket: MonitorSocket) -> io::Result<AsyncFd<MonitorSocket>> {
        AsyncFd::with_interest(socket, INTEREST)
    }

    /// Whether the socket is in no multicast group. A mocked one is no netlink socket at all.
    fn is_deaf(&self) -> bool {
        socket::getsockname::<NetlinkAddr>(self.socket.as_raw_fd())
            .is_ok_and(|address| address.groups() == 0)
    }
}

/// An overflow is an error of the socket; it may come when nothing is there to be read
/// (`net/netlink/af_netlink.c: do_one_broadcast`, when memory is short).
const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

/// What came out of the socket.
#[derive(Default)]
struct Found {
    devices: BTreeSet<BusId>,
    disks: bool,
    desk: bool,
    lost: bool,
}

impl Found {
    /// Reads until the socket is empty.
    ///
    /// It must be empty at the end for two reasons. Readiness is told only when it changes. And
    /// after an overflow the kernel drops whatever comes, without telling again, until everything
    /// was read (`af_netlink.c: netlink_overrun`, `netlink_rcv_wake`): only a look after that is
    /// sure to see what was dropped.
    fn drain(socket: &MonitorSocket) -> Result<Self, Error> {
        let mut found = Self::default();
        for _ in 0..ROUNDS {
            found.take_socket_error(socket)?;
            found.take_events(socket);
            match peek(socket) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(found),
                Err(Errno::ENOBUFS) => found.lost = true,
                Err(source) => return Err(Error::Monitor { doing: "read", source }),
            }
        }
        Err(Error::Monitor { doing: "empty", source: Errno::ELOOP })
    }

    fn take_socket_error(&mut self, socket: &MonitorSocket) -> Result<(), Error> {
        let error = socket::getsockopt(socket, sockopt::SocketError)
            .map_err(|source| Error::Monitor { doing: "read", source })?;
        self.lost |= error != 0;
        Ok(())
    }

    /// Takes events until libudev has none.
    ///
    /// The iterator ends alike when the socket is empty, when it has overflowed and at a message
    /// that is not udev's. libudev leaves the reason in errno (systemd, `libudev-monitor.c:
    /// udev_monitor_receive_device`); where it does not, errno stays clear.
    fn take_events(&mut self, socket: &MonitorSocket) {
        let mut events = socket.iter();
        loop {
            Errno::clear();
            let event = events.next();
            let reason = Errno::last();
            let Some(event) = event else {
                let harmless = [Errno::UnknownErrno, Errno::EAGAIN, Errno::EINTR];
                self.lost |= !harmless.contains(&reason);
                return;
            };
            self.take(event.subsystem().and_then(OsStr::to_str), event.devpath());
        }
    }

    fn take(&mut self, subsystem: Option<&str>, path: &OsStr) {
        match (origin(Path::new(path)), subsystem) {
            (Origin::Usb(busid), _) => drop(self.devices.insert(busid)),
            (Origin::Virtual, Some("block")) => self.disks = true,
            (Origin::Hardware, Some("input")) => self.desk = true,
            (Origin::Virtual | Origin::Hardware, _) => {}
        }
    }

    fn into_change(self) -> Option<Change> {
        match self {
            Self { lost: true, .. } | Self { desk: true, .. } => Some(Change::Everything),
            Self { devices, disks: false, .. } if devices.is_empty() => None,
            Self { devices, disks, .. } => Some(Change::Devices { devices, disks }),
        }
    }
}

/// Whether something is there to be read; libudev may stop before the last message.
fn peek(socket: &MonitorSocket) -> nix::Result<()> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    socket::recv(socket.as_fd().as_raw_fd(), &mut [0], flags).map(drop)
}

fn failed(doing: &'static str, error: &io::Error) -> Error {
    Error::Monitor { doing, source: errno_of(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    /// A device that any Linux has. An order to its `uevent` makes the kernel send an event.
    const UEVENT: &str = "/sys/devices/virtual/mem/null/uevent";

    /// The kernel's own events, through the same code: they come without a udev daemon.
    fn kernel_monitor(buffer: usize) -> UsbMonitor {
        UsbMonitor::listen(MonitorBuilder::new_kernel().unwrap(), buffer).unwrap()
    }

    /// Sends `count` events; false when this is not allowed here.
    fn send(count: usize) -> bool {
        let sent = (0..count).all(|_| fs::write(UEVENT, "change").is_ok());
        if !sent {
            println!("skipped: only root can make the kernel send events");
        }
        sent
    }

    async fn soon(monitor: &mut UsbMonitor) -> Option<Change> {
        let wait = tokio::time::timeout(Duration::from_millis(300), monitor.changes());
        wait.await.ok().map(Result::unwrap)
    }

    #[test]
    fn an_event_is_about_the_device_that_its_path_leads_to() {
        let change = |subsystem: &str, path: &str| {
            let mut found = Found::default();
            found.take(Some(subsystem), OsStr::new(path));
            found.into_change()
        };
        let device = |busid: &str| {
            let devices = [busid.parse().unwrap()].into();
            Some(Change::Devices { devices, disks: false })
        };
        let usb = "/devices/pci0000:00/0000:00:14.0/usb1";
        assert_eq!(change("usb", &format!("{usb}/1-1/1-1.4")), device("1-1.4"));
        assert_eq!(change("usb", &format!("{usb}/1-1/1-1.4/1-1.4:1.0")), device("1-1.4"));
        assert_eq!(change("block", &format!("{usb}/1-2/1-2:1.0/host6/block/sdb")), device("1-2"));
        for path in [usb, "/devices/virtual/net/br0", "/devices/virtual/input/input9"] {
            assert_eq!(change("usb", path), None, "{path}");
        }
        let disks = Change::Devices { devices: [].into(), disks: true };
        assert_eq!(change("block", "/devices/virtual/block/dm-0"), Some(disks));
        let serio = "/devices/platform/i8042/serio0/input/input1";
        assert_eq!(change("input", serio), Some(Change::Everything));
        assert_eq!(change("usb", &format!("{usb}/1-0:1.0")), None);
    }

    #[tokio::test]
    async fn an_overflow_is_noticed_each_time() {
        let mut monitor = kernel_monitor(1);
        for _ in 0..3 {
            if !send(100) {
                return;
            }
            assert_eq!(soon(&mut monitor).await, Some(Change::Everything));
        }
    }

    #[tokio::test]
    async fn an_overflow_while_waiting_wakes_up() {
        let mut monitor = kernel_monitor(1);
        let (change, sent) = tokio::join!(soon(&mut monitor), async { send(100) });
        assert!(!sent || change == Some(Change::Everything));
    }

    #[tokio::test]
    async fn what_is_no_usb_device_is_drained_without_a_word() {
        let mut monitor = kernel_monitor(BUFFER);
        send(100);
        assert_eq!(soon(&mut monitor).await, None);
        assert_eq!(peek(monitor.socket.get_ref()), Err(Errno::EAGAIN));
    }

    #[test]
    fn one_lost_event_counts_more_than_those_that_came() {
        let devices: BTreeSet<BusId> = ["1-1".parse().unwrap()].into();
        let change =
            |lost| Found { devices: devices.clone(), lost, ..Found::default() }.into_change();
        assert_eq!(change(true), Some(Change::Everything));
        let these = Change::Devices { devices: devices.clone(), disks: false };
        assert_eq!(change(false), Some(these));
        assert_eq!(Found::default().into_change(), None);
    }
}
