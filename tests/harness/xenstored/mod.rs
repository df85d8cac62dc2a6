//! The real xenstore daemons on a machine without Xen.
//!
//! [`Xenstored`] starts C xenstored or oxenstored with `fakexen.c` preloaded, each in a directory
//! of its own. Everything that tests need of them works with both: transactions, permissions,
//! watches, `XS_INTRODUCE` with `@introduceDomain`, and `@releaseDomain` for domains that shut down
//! or vanish.
//!
//! What may not be here: who writes what into the store (see [`backend`](super::backend)).

mod client;
mod hypervisor;
mod proxy;
mod wire;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

pub(crate) use client::{Closer, Fault, RawClient};
pub(crate) use hypervisor::Hypervisor;
pub(crate) use proxy::{Lost, Proxy};
pub(crate) use wire::{Message, Op};

use super::cc;
use super::time::{PATIENCE, eventually};

/// The hypervisor's stand-in.
const FAKEXEN: &str = include_str!("fakexen.c");

/// Where Debian keeps the daemons, of the versions of Xen whose libxenctrl `fakexen.c` stands in for.
const PROGRAMS: [&str; 2] = ["/usr/lib/xen-4.17/bin", "/usr/lib/xen-4.20/bin"];

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// xenstored, written in C.
    C,
    /// oxenstored, written in OCaml.
    OCaml,
    /// oxenstored with `test-eagain`: every transaction that writes may fail at random, without any
    /// conflict.
    OCamlRandomEagain,
}

impl Flavor {
    /// Both daemons, as they are: for tests that say the same of both.
    pub(crate) const BOTH: [Self; 2] = [Self::C, Self::OCaml];

    /// The name of the program.
    fn program(self) -> &'static str {
        match self {
            Self::C => "xenstored",
            Self::OCaml | Self::OCamlRandomEagain => "oxenstored",
        }
    }

    /// The program. (What stands in /usr/sbin is a wrapper, which refuses to start it when Xen does
    /// not run.)
    ///
    /// # Panics
    /// When it is not installed in a version that `fakexen.c` knows.
    fn find(self) -> PathBuf {
        let programs = PROGRAMS.map(|dir| Path::new(dir).join(self.program()));
        let found = programs.into_iter().find(|program| program.is_file());
        found.unwrap_or_else(|| {
            panic!("no {} in {PROGRAMS:?}: `make deps` installs it", self.program())
        })
    }
}

/// A running daemon, or one that was killed and can be started again.
///
/// It is killed when this is dropped, and when the test's process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Xenstored {
    flavor: Flavor,
    dir: TempDir,
    socket: PathBuf,
    hypervisor: Hypervisor,
    daemon: Mutex<Option<Child>>,
}

impl Xenstored {
    /// Starts a daemon, and returns when it answers.
    ///
    /// # Panics
    /// When it cannot be started, with what it printed.
    pub(crate) fn start(flavor: Flavor) -> Self {
        let dir = tempfile::Builder::new().prefix("xs-").tempdir().expect("a temporary directory");
        for name in ["run", "log"] {
            fs::create_dir(dir.path().join(name)).expect("a new directory");
        }
        fs::write(dir.path().join("xsd_port"), "1").expect("a new file");
        fs::write(dir.path().join("oxenstored.conf"), Self::configuration(flavor, dir.path()))
            .expect("a new file");
        let socket = dir.path().join("socket");
        let hypervisor = Hypervisor::new(dir.path());
        hypervisor.create(0);
        let this = Self { flavor, dir, socket, hypervisor, daemon: Mutex::new(None) };
        this.spawn();
        this
    }

    /// oxenstored's configuration: that of Debian, where it differs from the built-in one.
    fn configuration(flavor: Flavor, dir: &Path) -> String {
        format!(
            "test-eagain = {}\n\
             merge-activate = true\n\
             perms-activate = true\n\
             quota-activate = true\n\
             persistent = false\n\
             xenstored-kva = /proc/xen/xsd_kva\n\
             xenstored-port = /proc/xen/xsd_port\n\
             pid-file = {}\n",
            flavor == Flavor::OCamlRandomEagain,
            dir.join("pid").display()
        )
    }

    /// Where clients connect.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Which daemon it is.
    pub(crate) fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// A new connection to it.
    pub(crate) fn client(&self) -> RawClient {
        RawClient::connect(&self.socket).expect("the daemon accepts connections")
    }

    /// The machine's domains, as the daemon's hypervisor knows them.
    pub(crate) fn hypervisor(&self) -> Hypervisor {
        self.hypervisor.clone()
    }

    /// The daemon's process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.daemon().as_ref().map(Child::id)
    }

    /// Creates the domain in the hypervisor if it does not exist, and introduces it:
    /// `@introduceDomain` fires.
    pub(crate) fn introduce(&self, domid: u32) {
        self.hypervisor.introduce(domid);
    }

    /// The guest powers off, crashes or suspends: `@releaseDomain` fires, the domain stays
    /// introduced.
    pub(crate) fn shutdown_domain(&self, domid: u32) {
        self.hypervisor.shutdown(domid);
    }

    /// The domain is gone: `@releaseDomain` fires, the domain is not introduced any more.
    pub(crate) fn kill_domain(&self, domid: u32) {
        self.hypervisor.destroy(domid);
    }

    /// SIGKILL. Connections break; the socket's file stays, and connecting to it is refused.
    pub(crate) fn kill(&self) {
        if let Some(mut daemon) = self.daemon().take() {
            daemon.kill().expect("it is our child");
            daemon.wait().expect("it is our child");
        }
    }

    /// Starts it again, at the same socket and with an empty store; kills it first if it runs. The
    /// domains of the hypervisor are as before, but none is introduced.
    pub(crate) fn restart(&self) {
        self.kill();
        self.spawn();
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self) {
        let log = self.dir.path().join("output");
        let output = File::create(&log).expect("a new file");
        let mut command = Command::new(self.flavor.find());
        command
            .env("LD_PRELOAD", cc::shared_library("fakexen", FAKEXEN))
            .env("FAKEXEN_DIR", self.dir.path())
            // The lifeline of fakexen.c: closed when this process ends.
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output);
        match self.flavor {
            Flavor::C => {
                command.arg("--no-fork").arg("--pid-file").arg(self.dir.path().join("pid"))
            }
            Flavor::OCaml | Flavor::OCamlRandomEagain => command
                .arg("--no-fork")
                .arg("--config-file")
                .arg(self.dir.path().join("oxenstored.conf")),
        };
        let mut daemon = command.spawn().expect("the program is there");

        let mut ended = None;
        let ready = eventually(PATIENCE, || {
            ended = daemon.try_wait().expect("it is our child");
            let answers = || RawClient::connect(&self.socket)?.request(Op::DIRECTORY, b"/\0");
            (ended.is_some() || answers().is_ok()).then_some(())
        });
        if ready.is_none() || ended.is_some() {
            drop(daemon.kill());
            let printed = fs::read_to_string(&log).unwrap_or_default();
            panic!("{} did not start ({ended:?}): {printed}", self.flavor.program());
        }
        *self.daemon() = Some(daemon);
    }
}

impl Drop for Xenstored {
    fn drop(&mut self) {
        self.kill();
    }
}
