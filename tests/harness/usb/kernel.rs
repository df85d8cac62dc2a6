//! The kernel's answers to writes into control files: `bind`, `unbind`, `drivers_probe`. It keeps a
//! record of them, and can be told to refuse or to be slow.
//!
//! `fakekernel.c` sends each write here before the writer's `write()` returns, so order and errors
//! are those of a real sysfs. What may not be here: how files change (see [`sysfs`](super::sysfs)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use super::Inner;

/// `ENODEV`: no such device, or the driver does not want it.
pub(crate) const ENODEV: i32 = 19;
/// `EBUSY`: another driver has it.
pub(crate) const EBUSY: i32 = 16;
/// `EINVAL`: not something that can be written there.
pub(super) const EINVAL: i32 = 22;

/// A write to a control file, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelWrite {
    /// The file below /sys/bus/usb: `drivers/usbhid/unbind`, `drivers_probe`; `authorized=` and what
    /// was written for that of an interface.
    pub(crate) file: String,
    /// What was written, without a newline: an interface's name.
    pub(crate) interface: String,
    /// 0, or the errno that the writer got.
    pub(crate) errno: i32,
}

/// Whether a driver accepts an interface.
type Gate = Box<dyn Fn(&str) -> bool + Send>;

/// The made-up kernel of a test bed.
#[derive(Default)]
pub(crate) struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    writes: Vec<KernelWrite>,
    refused: BTreeSet<String>,
    stalled: BTreeSet<String>,
    /// How many more writes pass before all block.
    pass: Option<usize>,
    /// How many writers are blocked.
    blocked: usize,
    gates: BTreeMap<String, Gate>,
}

impl Kernel {
    /// All writes so far, in order.
    pub(crate) fn writes(&self) -> Vec<KernelWrite> {
        self.lock().writes.clone()
    }

    /// Forgets the writes so far.
    pub(crate) fn clear_writes(&self) {
        self.lock().writes.clear();
    }

    /// From now on no driver's probe succeeds for this interface: `bind` answers `ENODEV`,
    /// `drivers_probe` does nothing.
    pub(crate) fn refuse_bind(&self, interface: &str) {
        self.lock().refused.insert(interface.to_owned());
    }

    /// Takes [`refuse_bind`](Self::refuse_bind) back.
    pub(crate) fn allow_bind(&self, interface: &str) {
        self.lock().refused.remove(interface);
    }

    /// From now on a write of this interface's name blocks until [`release`](Self::release), as it
    /// does when a driver waits for its device.
    pub(crate) fn stall(&self, interface: &str) {
        self.lock().stalled.insert(interface.to_owned());
    }

    /// Lets writes of this interface's name go on.
    pub(crate) fn release(&self, interface: &str) {
        self.lock().stalled.remove(interface);
        self.changed.notify_all();
    }

    /// Lets `passed` more writes pass; those that follow block until
    /// [`release_all`](Self::release_all).
    pub(crate) fn stall_after(&self, passed: usize) {
        self.lock().pass = Some(passed);
    }

    /// Lets all writes go on.
    pub(crate) fn release_all(&self) {
        let mut state = self.lock();
        state.stalled.clear();
        state.pass = None;
        self.changed.notify_all();
    }

    /// How many writers are blocked.
    pub(crate) fn blocked(&self) -> usize {
        self.lock().blocked
    }

    /// Lets a driver take any interface for which `accepts` says so. A driver without a gate takes
    /// those that name it as their own.
    pub(crate) fn gate(&self, driver: &str, accepts: impl Fn(&str) -> bool + Send + 'static) {
        self.lock().gates.insert(driver.to_owned(), Box::new(accepts));
    }

    /// Whether the driver's probe succeeds for the interface, whose own driver is `own`.
    pub(super) fn accepts(&self, driver: &str, interface: &str, own: Option<&str>) -> bool {
        let state = self.lock();
        !state.refused.contains(interface)
            && match state.gates.get(driver) {
                Some(accepts) => accepts(interface),
                None => own == Some(driver),
            }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while_stalled(&self, interface: &str) {
        let mut state = self.lock();
        let stalls = |state: &mut State| state.stalled.contains(interface) || state.pass == Some(0);
        if stalls(&mut state) {
            state.blocked += 1;
            state = self.changed.wait_while(state, stalls).unwrap_or_else(PoisonError::into_inner);
            state.blocked -= 1;
        } else if let Some(left) = &mut state.pass {
            *left -= 1;
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("writes", &self.writes()).finish_non_exhaustive()
    }
}

/// Answers writes for as long as the test bed lives. Each is answered on a thread of its own: one
/// that stalls holds nobody else.
pub(super) fn serve(listener: UnixListener, bed: Weak<Inner>) {
    thread::spawn(move || {
        for writer in listener.incoming().map_while(Result::ok) {
            let bed = bed.clone();
            if bed.strong_count() == 0 {
                return;
            }
            thread::spawn(move || answer(writer, &bed));
        }
    });
}

/// Takes the path, a NUL and the bytes written; gives an errno.
fn answer(mut writer: UnixStream, bed: &Weak<Inner>) {
    let mut question = Vec::new();
    if writer.read_to_end(&mut question).is_err() {
        return;
    }
    let Some(bed) = bed.upgrade() else { return };
    let mut parts = question.splitn(2, |byte| *byte == 0).map(String::from_utf8_lossy);
    let (path, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let prefix = format!("{}/sys/bus/usb/", bed.root().display());
    let mut file = path.strip_prefix(&prefix).unwrap_or(&path).to_owned();
    let mut interface = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    // Here the directory names the interface, and what is written is the order.
    if let Some((_, name)) = path.strip_suffix("/authorized").and_then(|dir| dir.rsplit_once('/')) {
        file = format!("authorized={interface}");
        name.clone_into(&mut interface);
    }

    bed.kernel.wait_while_stalled(&interface);
    let errno = match file.split('/').collect::<Vec<_>>()[..] {
        ["drivers", driver, "bind"] => bed.bind(driver, &interface),
        ["drivers", driver, "unbind"] => bed.unbind(driver, &interface),
        ["drivers_probe"] => bed.probe(&interface),
        _ if file.starts_with("authorized=") => {
            bed.authorize(&interface, file.trim_start_matches("authorized="))
        }
        _ => EINVAL,
    };
    bed.kernel.lock().writes.push(KernelWrite { file, interface, errno });
    // A writer that was killed meanwhile needs no answer.
    drop(writer.write_all(&errno.to_ne_bytes()));
}
