//! The watch on the directories of the policy's files.
//!
//! An event never says what the policy is now, only that it may be another one. People and package
//! managers change several files one after the other, so it waits until they have come to rest.

use super::clock::now;
use super::watching::{Descriptor, register};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep_until;

/// How long nothing must have happened.
const QUIET: Duration = Duration::from_millis(500);

/// How long it may take until something is read even so.
const LONGEST: Duration = Duration::from_secs(5);

/// The watched directories.
#[derive(Debug)]
pub(super) struct PolicyWatch {
    inotify: AsyncFd<Descriptor>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    /// When the first and the last change was that nobody was told of.
    untold: Option<(Instant, Instant)>,
}

impl PolicyWatch {
    /// Watches nothing yet.
    pub(super) fn open() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify: register(inotify)?, watched: BTreeMap::new(), untold: None })
    }

    /// Watches these directories and no others. One that cannot be watched is as one without changes.
    pub(super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) {
        let inotify = &self.inotify.get_ref().0;
        self.watched.retain(|path, watch| {
            let stays = directories.contains(path);
            if !stays {
                // It may be gone already, and its watch with it.
                inotify.rm_watch(*watch).unwrap_or_default();
            }
            stays
        });
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for path in directories {
            if !self.watched.contains_key(path)
                && let Ok(watch) = inotify.add_watch(path, flags)
            {
                self.watched.insert(path.clone(), watch);
            }
        }
    }

    /// Waits until files have changed and come to rest. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let due = self.untold.map(|(first, last)| (last + QUIET).min(first + LONGEST));
            let is_due = tokio::select! {
                () = until(due) => true,
                ready = self.inotify.readable() => match ready {
                    Ok(mut ready) => {
                        match self.inotify.get_ref().0.read_events() {
                            Ok(events) => note(&events, &mut self.watched, &mut self.untold),
                            Err(Errno::EAGAIN) => ready.clear_ready(),
                            Err(_) => return pending().await,
                        }
                        false
                    }
                    Err(_) => return pending().await,
                },
            };
            if is_due {
                self.untold = None;
                return;
            }
        }
    }
}

fn note(
    events: &[InotifyEvent],
    watched: &mut BTreeMap<PathBuf, WatchDescriptor>,
    untold: &mut Option<(Instant, Instant)>,
) {
    for event in events {
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            // The directory is gone; one that takes its place is another one.
            watched.retain(|_, watch| *watch != event.wd);
        }
    }
    let now = now();
    if events.iter().any(matters) {
        *untold = Some((untold.map_or(now, |(first, _)| first), now));
    }
}

/// Whether it may be about the policy. Editors write files of other names all the time.
fn matters(event: &InotifyEvent) -> bool {
    let lost = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_Q_OVERFLOW;
    let is_directory = event.mask.contains(AddWatchFlags::IN_ISDIR);
    let is_yaml = event.name.as_ref().is_some_and(|name| {
        let name = name.as_encoded_bytes();
        name.ends_with(b".yaml") && !name.starts_with(b".")
    });
    event.mask.intersects(lost) || is_directory || is_yaml
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => pending().await,
    }
}
