//! The program under test as a process: started, listened to, signalled, and killed at the end. It
//! knows nothing of what the program does or says.
#![expect(clippy::print_stderr, reason = "the log of a failed test is shown with the test")]

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::time::eventually;

/// A running process. It is killed when this is dropped; in a test that fails, what it printed is
/// shown.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    /// How many lines [`wait_for_line`](Self::wait_for_line) has passed.
    passed: usize,
}

/// What a process printed, to either of its outputs.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// Outputs that were closed.
    closed: usize,
}

impl Agent {
    /// Starts `pvusb-agent` with these arguments, and with these variables added to the
    /// environment.
    pub(crate) fn start<A: AsRef<OsStr>>(args: &[A], env: &[(String, String)]) -> Self {
        Self::start_in(&[], args, env)
    }

    /// The same through another program that becomes it: `unshare --net`.
    pub(crate) fn start_in<A: AsRef<OsStr>>(
        starter: &[&str],
        args: &[A],
        env: &[(String, String)],
    ) -> Self {
        let mut command = match starter {
            [] => Command::new(binary()),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary());
                command
            }
        };
        // What systemd told whoever started us is not true of it: its outputs are pipes.
        command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        command.args(args).envs(env.iter().cloned());
        Self::spawn(command)
    }

    /// Starts any program.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let log = Arc::new(Log::default());
        log.collect(child.stdout.take().expect("a pipe"));
        log.collect(child.stderr.take().expect("a pipe"));
        let stdin = child.stdin.take();
        Self { child, stdin, log, passed: 0 }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `pattern`, and returns it. Lines up to the one that the last
    /// call returned are not looked at again.
    ///
    /// # Panics
    /// When no such line came within `patience`, or none can come because both outputs were closed.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, pattern: &str, patience: Duration) -> String {
        let from = self.passed;
        let find = |lines: &Lines| lines.lines[from..].iter().position(|l| l.contains(pattern));
        let (lines, _) = self
            .log
            .changed
            .wait_timeout_while(self.log.lock(), patience, |lines| {
                find(lines).is_none() && lines.closed < 2
            })
            .unwrap_or_else(PoisonError::into_inner);
        let Some(found) = find(&lines) else {
            drop(lines);
            panic!("the process did not say {pattern:?} within {patience:?}");
        };
        self.passed = from + found + 1;
        lines.lines[from + found].clone()
    }

    /// All that it has printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// Whether it has closed both of its outputs: it says no more.
    pub(crate) fn has_closed(&self) -> bool {
        self.log.lock().closed == 2
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{line}").expect("the process reads");
    }

    /// Sends a signal by name: `TERM`, `HUP`, `STOP`, `CONT`, …
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not end within `patience`.
    #[track_caller]
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        eventually(patience, || self.child.try_wait().expect("it is our child"))
            .unwrap_or_else(|| panic!("the process did not end within {patience:?}"))
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both succeed or the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- what process {} printed ---", self.pid());
            for line in &self.log.lock().lines {
                eprintln!("{line}");
            }
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the lines of an output until it is closed.
    fn collect(self: &Arc<Self>, output: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                log.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                log.changed.notify_all();
            }
            log.lock().closed += 1;
            log.changed.notify_all();
        });
    }
}

/// The program. Cargo tells tests where it is, and builds it for them; an example looks beside
/// itself.
///
/// # Panics
/// When it is not there.
pub(crate) fn binary() -> PathBuf {
    // One that was built otherwise.
    if let Some(path) = env::var_os("PVUSB_AGENT_PROGRAM") {
        return path.into();
    }
    if let Some(path) = option_env!("CARGO_BIN_EXE_pvusb-agent") {
        return path.into();
    }
    let this = env::current_exe().expect("the program knows where it is");
    let profile = this.parent().and_then(|kind| kind.parent()).expect("target/<profile>/<kind>");
    let path = profile.join("pvusb-agent");
    assert!(
        path.exists(),
        "there is no {}: run `cargo build --bin pvusb-agent` first",
        path.display()
    );
    path
}
