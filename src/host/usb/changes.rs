//! Waits for changes in what dom0 does with its devices, of which udev says nothing: mounts, swap space
//! and routes.
//!
//! It says which kind of device is to be looked at again, never what has happened.

use super::children::Class;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::fs::File;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The kernel's messages about interfaces and routes (`include/uapi/linux/rtnetlink.h: RTMGRP_LINK,
/// RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE`). A bridge that gets a port is news of an interface.
const GROUPS: u32 = 0x1 | 0x40 | 0x400;

/// Files whose readiness is told as an exception when their content has changed
/// (`fs/proc_namespace.c: mounts_poll`, `mm/swapfile.c: swaps_poll`).
const EXCEPTION: Interest = Interest::PRIORITY.add(Interest::ERROR);

/// What is listened to.
#[derive(Debug)]
pub struct UseMonitor {
    mounts: AsyncFd<File>,
    /// `None`: this kernel has no swap.
    swaps: Option<AsyncFd<File>>,
    routes: AsyncFd<OwnedFd>,
}

impl UseMonitor {
    /// Begins to listen. Must be called within a tokio runtime, before uses are first read.
    ///
    /// # Errors
    ///
    /// When the kernel does not let it.
    pub fn open() -> io::Result<Self> {
        let swaps = match File::open("/proc/swaps") {
            Ok(file) => Some(register(file, EXCEPTION)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            mounts: register(File::open("/proc/self/mountinfo")?, EXCEPTION)?,
            swaps,
            routes: register(netlink()?, Interest::READABLE.add(Interest::ERROR))?,
        })
    }

    /// Waits until dom0 may do something else with devices that have members of the class that is
    /// returned. Nothing is lost when this is dropped while it waits.
    pub async fn changes(&mut self) -> Class {
        let routes = async {
            let Ok(mut ready) = self.routes.ready(Interest::READABLE.add(Interest::ERROR)).await
            else {
                return pending().await;
            };
            drain(ready.get_inner());
            ready.clear_ready();
        };
        tokio::select! {
            () = exception(&self.mounts) => Class::Block,
            () = async {
                match &self.swaps {
                    Some(swaps) => exception(swaps).await,
                    None => pending().await,
                }
            } => Class::Block,
            () = routes => Class::Net,
        }
    }
}

/// Waits until the file has changed. The kernel tells each change once to whoever asks.
async fn exception(file: &AsyncFd<File>) {
    match file.ready(EXCEPTION).await {
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => pending().await,
    }
}

fn netlink() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = AddressFamily::Netlink;
    let fd = socket(family, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(fd)
}

/// Takes all messages and reads none. An overflow ends as an error, once, and is news as well.
fn drain(socket: &OwnedFd) {
    let mut errors = 0;
    // Any other error than that of an empty socket is told a few times at most.
    while errors < 3 {
        match recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => return,
            Err(_) => errors += 1,
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor changes; these do not"
)]
fn register<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}
