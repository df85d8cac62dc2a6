//! What udevd does: its database in /run/udev, and the events that it sends to libudev's monitors.
//! It believes what it is told of a device and looks at nothing.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// "An event of libudev's", in the header of each.
const MAGIC: u32 = 0xfeed_cafe;
/// The header's size.
const HEADER: u32 = 40;

/// A device as udevd knows it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Its name in the database: `c189:3`, or `+usb:1-1:1.0` without a device node.
    pub(super) id: String,
    /// `usb`, or what a driver's children belong to.
    pub(super) subsystem: &'static str,
    /// `usb_device` or `usb_interface`; empty for none.
    pub(super) devtype: &'static str,
    /// Below /sys, with a leading slash.
    pub(super) devpath: String,
    /// What the kernel says of it.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What udev's rules have found out.
    pub(super) properties: Vec<(String, String)>,
    /// What udev's rules have tagged it with.
    pub(super) tags: Vec<String>,
}

/// What became of events that were not waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Monitors that got it.
    pub(crate) delivered: usize,
    /// Monitors that had no room for it.
    pub(crate) lost: usize,
}

/// The made-up udevd of a test bed.
#[derive(Debug)]
pub(super) struct Udevd {
    root: PathBuf,
    sequence: u64,
    postman: Sender<(UnixDatagram, Vec<u8>)>,
}

impl Udevd {
    /// A udevd that runs and knows no device.
    pub(super) fn new(root: &Path) -> Self {
        for dir in ["data", "tags"] {
            fs::create_dir_all(root.join("run/udev").join(dir)).expect("a new directory");
        }
        fs::write(root.join("run/udev/control"), "").expect("a new file");
        let (postman, letters) = mpsc::channel();
        thread::spawn(move || deliver(&letters));
        Self { root: root.to_owned(), sequence: 1000, postman }
    }

    /// Writes a device's record: from now on it is initialized.
    pub(super) fn store(&self, record: &Record) {
        let mut lines = vec!["I:1000000".to_owned()];
        lines.extend(record.properties.iter().map(|(name, value)| format!("E:{name}={value}")));
        for tag in &record.tags {
            lines.extend([format!("G:{tag}"), format!("Q:{tag}")]);
            let dir = self.run("tags").join(tag);
            fs::create_dir_all(&dir).expect("a directory of ours");
            fs::write(dir.join(&record.id), "").expect("a directory of ours");
        }
        lines.push("V:1\n".to_owned());
        // Renamed into place, as udevd does: a reader sees all of it or nothing.
        let draft = self.run("draft");
        fs::write(&draft, lines.join("\n")).expect("a directory of ours");
        fs::rename(draft, self.run("data").join(&record.id)).expect("a directory of ours");
    }

    /// Forgets a device.
    pub(super) fn forget(&self, record: &Record) {
        let tags = record.tags.iter().map(|tag| self.run("tags").join(tag).join(&record.id));
        for file in tags.chain([self.run("data").join(&record.id)]) {
            if let Err(error) = fs::remove_file(&file) {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{}: {error}", file.display());
            }
        }
    }

    /// Sends an event to each monitor that listens now. It waits for room where there is none, but
    /// not here: a unix socket holds a dozen events, a netlink socket thousands.
    pub(super) fn send(&mut self, action: &str, record: &Record) {
        let message = self.message(action, record);
        for (_, socket) in self.monitors() {
            self.postman.send((socket, message.clone())).expect("it lives as long as we");
        }
    }

    /// Sends an event to each monitor that has room. The others lose it; as with the kernel's
    /// netlink sockets, such a monitor's next receive fails with `ENOBUFS`, once.
    pub(super) fn send_or_lose(&mut self, action: &str, record: &Record) -> Delivery {
        let message = self.message(action, record);
        let mut delivery = Delivery::default();
        for (fd, socket) in self.monitors() {
            socket.set_nonblocking(true).expect("a socket");
            match socket.send(&message) {
                Ok(_) => delivery.delivered += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    delivery.lost += 1;
                    fs::write(self.root.join(format!("overrun{fd}")), "").expect("our directory");
                }
                Err(_) => {}
            }
        }
        delivery
    }

    /// How many monitors listen.
    pub(super) fn count(&self) -> usize {
        self.monitors().len()
    }

    /// The monitors: umockdev binds each to a socket `event<fd>`, where `fd` is its descriptor in
    /// the listening process. (Two processes that listen with the same descriptor take it from each
    /// other: that is umockdev's limit.)
    fn monitors(&self) -> Vec<(u32, UnixDatagram)> {
        let entries = fs::read_dir(&self.root).expect("a directory of ours").flatten();
        entries
            .filter_map(|entry| {
                let fd = entry.file_name().to_str()?.strip_prefix("event")?.parse().ok()?;
                let socket = UnixDatagram::unbound().expect("a socket");
                // Refused when its process has gone, or closed it.
                socket.connect(entry.path()).ok().map(|()| (fd, socket))
            })
            .collect()
    }

    /// An event as `device_monitor_send_device` of systemd makes it.
    fn message(&mut self, action: &str, record: &Record) -> Vec<u8> {
        self.sequence += 1;
        let mut lines = vec![
            format!("ACTION={action}"),
            format!("DEVPATH={}", record.devpath),
            format!("SUBSYSTEM={}", record.subsystem),
            format!("SEQNUM={}", self.sequence),
            "USEC_INITIALIZED=1000000".to_owned(),
        ];
        for (name, value) in &record.variables {
            let slash = if *name == "DEVNAME" { "/dev/" } else { "" };
            lines.push(format!("{name}={slash}{value}"));
        }
        lines.extend(record.properties.iter().map(|(name, value)| format!("{name}={value}")));
        if !record.tags.is_empty() {
            let tags = record.tags.join(":");
            lines.push(format!("TAGS=:{tags}:"));
            lines.push(format!("CURRENT_TAGS=:{tags}:"));
        }
        let body: Vec<u8> = lines.iter().flat_map(|line| line.bytes().chain([0])).collect();

        let bloom = record.tags.iter().fold(0, |bloom, tag| bloom | bloom_of(tag));
        let [high, low] = [bloom >> 32, bloom & 0xffff_ffff]
            .map(|half| u32::try_from(half).expect("half of 64 bits").to_be());
        let length = u32::try_from(body.len()).expect("a short message");
        let words = [
            MAGIC.to_be(),
            HEADER,
            HEADER,
            length,
            murmur2(record.subsystem).to_be(),
            if record.devtype.is_empty() { 0 } else { murmur2(record.devtype).to_be() },
            high,
            low,
        ];
        let mut message = b"libudev\0".to_vec();
        message.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        message.extend(body);
        message
    }

    fn run(&self, name: &str) -> PathBuf {
        self.root.join("run/udev").join(name)
    }
}

/// Brings events to monitors, in order, for as long as the bed lives. A monitor that is not read
/// holds up the others.
fn deliver(letters: &Receiver<(UnixDatagram, Vec<u8>)>) {
    for (monitor, message) in letters {
        // A monitor that was closed meanwhile misses nothing.
        drop(monitor.send(&message));
    }
}

/// The hash by which libudev's socket filters know subsystems and tags: `MurmurHash2` with seed 0.
fn murmur2(text: &str) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let (words, rest) = text.as_bytes().as_chunks::<4>();
    let mut hash = u32::try_from(text.len()).expect("a short name");
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The bits of a tag in the filters' Bloom set.
fn bloom_of(tag: &str) -> u64 {
    let hash = murmur2(tag);
    [0, 6, 12, 18].iter().fold(0, |bits, shift| bits | 1 << ((hash >> shift) & 63))
}
