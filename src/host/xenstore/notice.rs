//! What a reader of events gets, and how floods are merged.
//!
//! A reader may be slow or asleep. Nothing waits for it, no news is lost, and what waits for it is
//! bounded: events of one watch are merged until they say the same in fewer words. No IO here, and
//! no knowledge of tokens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::error::Error;

/// Most paths of one watch that wait for a reader. One more, and they become the watched path
/// itself.
const MAX_WAITING: usize = 64;

/// Something to know about the connection or about a watched path.
#[derive(Debug, Clone)]
pub enum Notice {
    /// There is a connection (again), and all watches are set (again). Everything read before is
    /// unknown now.
    Connected,
    /// The connection is gone, or it cannot be made. Told again only when the reason is another
    /// one.
    Disconnected(Error),
    /// Something happened at or below a path. Read again: an event does not say what happened, nor
    /// how often.
    Changed {
        /// The watched path, as given to [`watch`](super::Xenstore::watch).
        watch: String,
        /// Where it happened. It is the watched path when the watch was set, or when too much
        /// happened below it.
        path: String,
    },
}

/// The notices of one client. Reading them slowly, or not at all, delays nothing.
#[derive(Debug)]
pub struct Notices(Arc<Mailbox>);

impl Notices {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self(mailbox)
    }

    /// The next notice; waits for it. `None` only when every handle is gone, or the runtime that
    /// ran the connection.
    ///
    /// A future that is dropped before it is ready has taken nothing.
    pub async fn next(&mut self) -> Option<Notice> {
        poll_fn(|context| self.0.poll_take(context)).await
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Where notices wait for their one reader.
#[derive(Debug)]
pub(super) struct Mailbox(Mutex<State>);

#[derive(Debug)]
struct State {
    reader: Reader,
    /// Whether changes are kept. While there is no connection they are not: `Connected`, which
    /// comes next, says more.
    up: bool,
    /// The text of the reason told last, to tell it once.
    told: Option<String>,
    disconnected: Option<Error>,
    connected: bool,
    changes: Changes,
    /// Nothing more will come.
    closed: bool,
    waker: Option<Waker>,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// One who is told about the connection and about changes.
    Notices,
    /// One who is told about changes only.
    Changes,
    /// Nobody, any more.
    Gone,
}

impl Mailbox {
    /// For a reader of everything.
    pub(super) fn for_notices() -> Arc<Self> {
        Self::new(Reader::Notices)
    }

    /// For a reader of changes only. After a reconnect it gets one change of the watched path: the
    /// daemon tells one whenever a watch is set.
    pub(super) fn for_changes() -> Arc<Self> {
        Self::new(Reader::Changes)
    }

    fn new(reader: Reader) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            reader,
            up: reader == Reader::Changes,
            told: None,
            disconnected: None,
            connected: false,
            changes: Changes::default(),
            closed: false,
            waker: None,
        })))
    }

    /// Whether the reader has more to hear than one watch's changes, so that the end of a watch is
    /// not its end.
    pub(super) fn outlives_watches(&self) -> bool {
        self.lock().reader == Reader::Notices
    }

    /// There is a connection and all watches are set.
    pub(super) fn connected(&self) {
        self.put(|state| {
            if state.reader == Reader::Notices {
                state.up = true;
                state.connected = true;
                state.told = None;
            }
        });
    }

    /// There is none. What waited is worth nothing any more.
    pub(super) fn disconnected(&self, error: Error) {
        self.put(|state| {
            let reason = format!("{error:?}");
            // A loss that nobody has read yet is the cause of those that follow it, so it is not
            // replaced. The failures of later attempts come again.
            let is_news = state.up || state.disconnected.is_none();
            if state.reader == Reader::Notices && is_news && state.told.as_ref() != Some(&reason) {
                state.up = false;
                state.connected = false;
                state.changes = Changes::default();
                state.disconnected = Some(error);
                state.told = Some(reason);
            }
        });
    }

    /// Something happened at or below `path`, seen through the watch of `watch`.
    pub(super) fn changed(&self, watch: &str, path: &str) {
        self.put(|state| {
            if state.up {
                state.changes.add(watch, path);
            }
        });
    }

    /// Nothing more will come. What waits can still be read.
    pub(super) fn close(&self) {
        self.put(|state| state.closed = true);
    }

    /// Nobody will read: keep nothing.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.reader = Reader::Gone;
        state.changes = Changes::default();
    }

    /// Takes the oldest notice: about the connection first, then changes in the order of their
    /// first event.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        let mut state = self.lock();
        if let Some(error) = state.disconnected.take() {
            return Poll::Ready(Some(Notice::Disconnected(error)));
        }
        if std::mem::take(&mut state.connected) {
            return Poll::Ready(Some(Notice::Connected));
        }
        if let Some((watch, path)) = state.changes.take() {
            return Poll::Ready(Some(Notice::Changed { watch, path }));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn put(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.reader == Reader::Gone {
            return;
        }
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock leaves a half-made state, so a panic elsewhere does no
        // harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes that wait, merged.
#[derive(Debug, Default)]
struct Changes {
    /// Watched path and path, in the order of their first event.
    queue: VecDeque<(String, String)>,
    /// The same, by watched path.
    waiting: BTreeMap<String, BTreeSet<String>>,
}

impl Changes {
    fn add(&mut self, watch: &str, path: &str) {
        let waiting = self.waiting.entry(watch.to_owned()).or_default();
        // "At or below the watched path" covers every other event of this watch.
        if waiting.contains(watch) || waiting.contains(path) {
            return;
        }
        let path = if waiting.len() < MAX_WAITING {
            path
        } else {
            waiting.clear();
            self.queue.retain(|(queued, _)| queued != watch);
            watch
        };
        waiting.insert(path.to_owned());
        self.queue.push_back((watch.to_owned(), path.to_owned()));
    }

    fn take(&mut self) -> Option<(String, String)> {
        let (watch, path) = self.queue.pop_front()?;
        if let Some(waiting) = self.waiting.get_mut(&watch) {
            waiting.remove(&path);
            if waiting.is_empty() {
                self.waiting.remove(&watch);
            }
        }
        Some((watch, path))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::xenstore::error::Lost;

    fn all(changes: &mut Changes) -> Vec<(String, String)> {
        std::iter::from_fn(|| changes.take()).collect()
    }

    fn pair(watch: &str, path: &str) -> (String, String) {
        (watch.to_owned(), path.to_owned())
    }

    fn take_all(mailbox: &Mailbox) -> Vec<String> {
        let mut context = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        while let Poll::Ready(Some(notice)) = mailbox.poll_take(&mut context) {
            seen.push(match notice {
                Notice::Connected => "connected".to_owned(),
                Notice::Disconnected(error) => error.to_string(),
                Notice::Changed { path, .. } => path,
            });
        }
        seen
    }

    #[test]
    fn identical_changes_merge_and_order_is_kept() {
        let mut changes = Changes::default();
        for path in ["/a/1", "/a/2", "/a/1"] {
            changes.add("/a", path);
        }
        changes.add("/b", "/a/1");
        let expected = [pair("/a", "/a/1"), pair("/a", "/a/2"), pair("/b", "/a/1")];
        assert_eq!(all(&mut changes), expected);
        changes.add("/a", "/a/1");
        assert_eq!(all(&mut changes), [pair("/a", "/a/1")], "what was read is news again");
    }

    #[test]
    fn a_flood_collapses_to_the_watched_path_and_spares_the_others() {
        let mut changes = Changes::default();
        changes.add("/b", "/b/1");
        for n in 0..10_000 {
            changes.add("/a", &format!("/a/{n}"));
        }
        assert_eq!(all(&mut changes), [pair("/b", "/b/1"), pair("/a", "/a")]);
        assert!(changes.waiting.is_empty());
    }

    #[test]
    fn a_loss_outdates_what_waits_and_is_told_once() {
        let mailbox = Mailbox::for_notices();
        mailbox.changed("/a", "/a");
        assert!(take_all(&mailbox).is_empty(), "before the first connection nothing is news");
        mailbox.connected();
        mailbox.changed("/a", "/a/1");
        mailbox.disconnected(Error::lost(Lost::Closed));
        mailbox.disconnected(Error::lost(Lost::Closed));
        mailbox.changed("/a", "/a/2");
        mailbox.connected();
        mailbox.changed("/a", "/a/3");
        let expected = ["lost the connection to xenstored", "connected", "/a/3"];
        assert_eq!(take_all(&mailbox), expected);
        mailbox.disconnected(Error::lost(Lost::Closed));
        mailbox.disconnected(Error::lost(Lost::Closed));
        assert_eq!(take_all(&mailbox).len(), 1);
        mailbox.disconnected(Error::lost(Lost::Ended));
        assert_eq!(take_all(&mailbox).len(), 1, "another reason is news");
        mailbox.disconnected(Error::lost(Lost::Closed));
        mailbox.disconnected(Error::lost(Lost::Ended));
        assert_eq!(take_all(&mailbox).len(), 1, "the first reason is kept until it is read");
        mailbox.disconnected(Error::lost(Lost::Ended));
        assert_eq!(take_all(&mailbox).len(), 1, "and the next one is told then");
    }

    #[test]
    fn what_waits_is_read_before_the_end() {
        let mailbox = Mailbox::for_changes();
        mailbox.changed("/a", "/a/1");
        mailbox.close();
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(mailbox.poll_take(&mut context), Poll::Ready(Some(_))));
        assert!(matches!(mailbox.poll_take(&mut context), Poll::Ready(None)));
    }

    proptest! {
        /// Whatever is added and read in whatever order: every event is covered by something that
        /// is read later, and what waits is bounded.
        #[test]
        fn no_news_is_lost(
            steps in prop::collection::vec(
                (0_u8..3, 0_u32..200, prop::bool::weighted(0.2)),
                0..600,
            ),
        ) {
            let mut changes = Changes::default();
            let mut owed: BTreeSet<(String, String)> = BTreeSet::new();
            let settle = |owed: &mut BTreeSet<(String, String)>, (watch, path): (String, String)| {
                owed.retain(|(w, p)| !(*w == watch && (*p == path || path == watch)));
            };
            for (watch, path, read) in steps {
                let watch = format!("/{watch}");
                let path = format!("{watch}/{path}");
                changes.add(&watch, &path);
                owed.insert((watch, path));
                if read && let Some(taken) = changes.take() {
                    settle(&mut owed, taken);
                }
                prop_assert!(changes.queue.len() <= 3 * MAX_WAITING);
            }
            for taken in all(&mut changes) {
                settle(&mut owed, taken);
            }
            prop_assert!(owed.is_empty());
        }
    }
}
