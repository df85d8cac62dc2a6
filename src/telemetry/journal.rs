//! Where the lines go: to stderr, and under systemd from there to the journal.
//!
//! What a line says stands in it whole, in the journal too: journald's own protocol would carry
//! `device=1-1` as a field of its own, and `journalctl` shows no fields.

use super::{Notable, log};
use nix::sys::stat::fstat;
use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that says how much is told.
const LEVEL: &str = "PVUSB_AGENT_LOG";

/// Sets up logging for the whole process. `PVUSB_AGENT_LOG` says how much is told
/// (`error`, `warn`, `info`, `debug`, `trace`); without it, `info`. What is none of them is told of.
pub fn set_up() {
    let word = env::var_os(LEVEL).filter(|word| !word.is_empty());
    let level = word.as_ref().map(|word| word.to_str().and_then(level_of));
    let filter = level.flatten().unwrap_or(LevelFilter::INFO);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if stderr_is_journal() {
        registry.with(lines.with_ansi(false).event_format(Prefixed)).init();
    } else {
        let lines = lines.with_ansi(io::stderr().is_terminal());
        registry.with(lines.with_target(false).without_time()).init();
    }
    if let (Some(None), Some(word)) = (level, &word) {
        log(&Notable::UnknownLevel(word));
    }
}

/// `EnvFilter` would take whole expressions, and a seventh of the program for its regular expressions.
fn level_of(word: &str) -> Option<LevelFilter> {
    let known = ["error", "warn", "info", "debug", "trace"];
    known.contains(&word).then(|| word.parse().ok()).flatten()
}

/// Whether stderr goes to the journal: systemd then names its device and inode in the environment,
/// which a child with another stderr inherits as well (`systemd.exec(5)`, `JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Lines that begin with their level as the journal reads it (`sd-daemon(3)`); it takes it off.
struct Prefixed;

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{level}>")?;
        DefaultFields::new().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
