//! The thread of a double: it waits for watch events and looks again. What it looks at is the
//! double's own business.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::xenstored::{Closer, Fault, RawClient};

/// How often a double looks when nothing happens in the store: what it does besides (a device that
/// comes back) has no watch.
const TICK: Duration = Duration::from_millis(100);

/// What a double does.
pub(super) trait Role: Send + 'static {
    /// Something has happened in the store, or a tick is over. A fault that is an answer of the
    /// daemon's means that nodes went away meanwhile: the next event comes.
    fn look(&mut self, store: &mut RawClient) -> Result<(), Fault>;

    /// Its process dies.
    fn die(&mut self) {}
}

/// A double at work. It stops, without cleaning up, when this is dropped.
#[derive(Debug)]
pub(super) struct Worker<R: Role> {
    role: Arc<Mutex<R>>,
    paused: Arc<AtomicBool>,
    closer: Closer,
    thread: Option<JoinHandle<()>>,
}

impl<R: Role> Worker<R> {
    /// Lets a double work on the store behind `socket`, watching `paths`.
    pub(super) fn start(socket: &Path, paths: &[String], role: R) -> Self {
        let mut store = RawClient::connect(socket).expect("the daemon accepts connections");
        for path in paths {
            store.watch(path, "double").expect("dom0 may watch");
        }
        let closer = store.closer();
        let role = Arc::new(Mutex::new(role));
        let paused = Arc::new(AtomicBool::new(false));
        let (worker, pause) = (Arc::clone(&role), Arc::clone(&paused));
        let thread = thread::spawn(move || {
            while store.event_within(TICK).is_ok() {
                if pause.load(Ordering::SeqCst) {
                    continue;
                }
                if let Err(Fault::Lost(_)) = lock(&worker).look(&mut store) {
                    return;
                }
            }
        });
        Self { role, paused, closer, thread: Some(thread) }
    }

    /// The double itself, between two looks.
    pub(super) fn role(&self) -> MutexGuard<'_, R> {
        lock(&self.role)
    }

    /// From now on it does nothing, or works again.
    pub(super) fn pause(&self, pause: bool) {
        self.paused.store(pause, Ordering::SeqCst);
        // Waits for a look that has already begun.
        drop(self.role());
    }

    /// Ends it. Its connection to the daemon is closed.
    pub(super) fn kill(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a double that panics is a failure of the test");
            self.role().die();
        }
    }
}

impl<R: Role> Drop for Worker<R> {
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("a double has panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
