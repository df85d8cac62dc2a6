//! Where the lines go: to the journal under systemd, else to stderr.

use nix::sys::stat::fstat;
use std::env;
use std::io::{self, IsTerminal};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Sets up logging for the whole process. `PVUSB_AGENT_LOG` says how much is told
/// (`error`, `warn`, `info`, `debug`, `trace`); without it, `info`.
pub fn set_up() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("PVUSB_AGENT_LOG")
        .from_env_lossy();
    let registry = tracing_subscriber::registry().with(filter);
    let journal = if stderr_is_journal() { tracing_journald::layer().ok() } else { None };
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(io::stderr)
                    .with_ansi(io::stderr().is_terminal())
                    .with_target(false)
                    .without_time(),
            )
            .init(),
    }
}

/// Whether stderr goes to the journal: systemd then names its device and inode in the environment,
/// which a child with another stderr inherits as well (`systemd.exec(5)`, `JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}
