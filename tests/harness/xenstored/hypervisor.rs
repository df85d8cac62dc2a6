//! The hypervisor's side of a domain's life: the files that `fakexen.c` reads. No xenstore nodes
//! are written here.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::client::RawClient;
use super::wire::Op;

/// The event channel of `VIRQ_DOM_EXC`, as in `fakexen.c`.
const VIRQ_PORT: u32 = 1;

/// The size of a ring page.
const PAGE: usize = 4096;

/// The domains of a machine. Clones are the same machine.
#[derive(Clone, Debug)]
pub(crate) struct Hypervisor {
    dir: PathBuf,
}

impl Hypervisor {
    /// The machine whose files are in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Creates a domain (`xc_domain_create`) with its ring page. xenstored learns nothing of it
    /// yet.
    pub(crate) fn create(&self, domid: u32) {
        fs::write(self.dir.join(format!("ring.{domid}")), [0; PAGE])
            .expect("the directory is ours");
        self.set(domid, "running");
    }

    /// Whether the domain exists, in whatever state.
    pub(crate) fn exists(&self, domid: u32) -> bool {
        self.domain(domid).exists()
    }

    /// Introduces a domain to xenstored, as dom0, after creating it if it does not exist:
    /// `@introduceDomain` fires.
    pub(crate) fn introduce(&self, domid: u32) {
        if !self.exists(domid) {
            self.create(domid);
        }
        // Frame and event channel mean nothing here, but oxenstored remembers them.
        let payload = format!("{domid}\0{}\0{}\0", 1000 + domid, 10);
        self.client().call(Op::INTRODUCE, payload.as_bytes()).expect("dom0 may introduce domains");
    }

    /// The domain shuts down. Returns when xenstored has fired `@releaseDomain`.
    pub(crate) fn shutdown(&self, domid: u32) {
        self.fire_release(|| self.set(domid, "shutdown"));
    }

    /// The domain vanishes. Returns when xenstored has fired `@releaseDomain`, if the domain was
    /// introduced.
    pub(crate) fn destroy(&self, domid: u32) {
        let remove = || fs::remove_file(self.domain(domid)).expect("the domain exists");
        if self.client().is_introduced(domid).expect("dom0 may ask") {
            self.fire_release(remove);
        } else {
            remove();
        }
    }

    /// Changes something, says so to xenstored as the hypervisor does, and waits for the watch
    /// event that follows.
    fn fire_release(&self, change: impl FnOnce()) {
        let mut witness = self.client();
        witness.watch("@releaseDomain", "witness").expect("dom0 may watch");
        witness.event().expect("a new watch fires once");
        change();
        self.raise_virq();
        witness.event().expect("@releaseDomain fires");
    }

    fn raise_virq(&self) {
        let mut channels =
            OpenOptions::new().write(true).open(self.dir.join("virq")).expect("made by fakexen.c");
        channels.write_all(&VIRQ_PORT.to_ne_bytes()).expect("a FIFO with room");
    }

    fn client(&self) -> RawClient {
        RawClient::connect(&self.dir.join("socket")).expect("the daemon accepts connections")
    }

    fn domain(&self, domid: u32) -> PathBuf {
        self.dir.join(format!("dom.{domid}"))
    }

    /// Writes the domain's state at once: the daemon may look at any time.
    fn set(&self, domid: u32, state: &str) {
        let draft = self.dir.join(format!("new.{domid}"));
        fs::write(&draft, state).expect("the directory is ours");
        fs::rename(draft, self.domain(domid)).expect("the directory is ours");
    }
}
