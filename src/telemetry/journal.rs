//! Where the lines go: to stderr, or, under systemd, to the journal; and what was told lately, for the
//! daemon's other readers.
//!
//! In the journal a line stands whole in `MESSAGE`, because `journalctl` shows no fields; beside it stand the
//! fields, for `journalctl PVUSB_DEVICE=1-1.4`, and `MESSAGE_ID`, for `journalctl -x`.

use super::told::Told;
use super::{Notable, log};
use nix::sys::stat::fstat;
use std::collections::VecDeque;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that says how much is told.
const LEVEL: &str = "PVUSB_AGENT_LOG";

/// Where the journal takes fields (`systemd-journald.service(8)`, the native protocol).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The lines that were told and not read yet, of INFO and above.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<VecDeque<Told>>>);

impl Tape {
    /// How many lines it holds; then the oldest go.
    const LINES: usize = 1024;

    /// Takes out what is there.
    pub fn take(&self) -> VecDeque<Told> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, told: Told) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == Self::LINES {
            lines.pop_front();
        }
        lines.push_back(told);
    }
}

/// Sets up logging for the whole process; gives what will be told. `PVUSB_AGENT_LOG` says how much is
/// told (`error`, `warn`, `info`, `debug`, `trace`); without it, `info`. What is none of them is told of.
pub fn set_up() -> Tape {
    let word = env::var_os(LEVEL).filter(|word| !word.is_empty());
    let level = word.as_ref().map(|word| word.to_str().and_then(level_of));
    let filter = level.flatten().unwrap_or(LevelFilter::INFO);
    let tape = Tape::default();
    let taped = tape.clone();
    let journal = if stderr_is_journal() { Some(connected()) } else { None };
    let colour = io::stderr().is_terminal();
    let told = Tap(move |told: &Told| match &journal {
        None => write_line(told, colour),
        Some(Ok(socket)) if send(socket, told).is_ok() => {}
        // Too long for a datagram, or no such socket: journald reads stderr all the same.
        Some(Ok(_) | Err(_)) => write_prefixed(told),
    });
    tracing_subscriber::registry()
        .with(told.with_filter(filter))
        .with(Tap(move |told: &Told| taped.add(told.clone())).with_filter(LevelFilter::INFO))
        .init();
    if let (Some(None), Some(word)) = (level, &word) {
        log(&Notable::UnknownLevel(word));
    }
    tape
}

/// `EnvFilter` would take whole expressions, and a seventh of the program for its regular expressions.
fn level_of(word: &str) -> Option<LevelFilter> {
    let known = ["error", "warn", "info", "debug", "trace"];
    known.contains(&word).then(|| word.parse().ok()).flatten()
}

/// Hands on each line.
pub(super) struct Tap<F>(pub(super) F);

impl<S: Subscriber, F: Fn(&Told) + 'static> Layer<S> for Tap<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        (self.0)(&Told::of(event));
    }
}

/// Whether stderr goes to the journal: systemd then names its device and inode in the environment,
/// which a child with another stderr inherits as well (`systemd.exec(5)`, `JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

fn connected() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(JOURNAL)?;
    Ok(socket)
}

fn send(socket: &UnixDatagram, told: &Told) -> io::Result<()> {
    socket.send(&fields(told)).map(drop)
}

/// The line with its fields as the journal takes them.
fn fields(told: &Told) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |name: &str, value: &str| {
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    add("MESSAGE", &told.to_string());
    add("PRIORITY", &priority(told.level).to_string());
    add("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    if let Some(kind) = told.kind() {
        add("MESSAGE_ID", kind.id);
        add("PVUSB_EVENT", kind.word);
    }
    for (name, value) in &told.fields {
        add(&format!("PVUSB_{}", name.to_uppercase()), &value.clone().into_text());
    }
    bytes
}

/// As syslog counts (`sd-daemon(3)`).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// A line that begins with its level as the journal reads it; it takes it off.
fn write_prefixed(told: &Told) {
    write_whole(&format!("<{}>{told}\n", priority(told.level)));
}

fn write_line(told: &Told, colour: bool) {
    write_whole(&line(told, colour));
}

/// The line for a terminal or a file.
pub(super) fn line(told: &Told, colour: bool) -> String {
    let level = told.level;
    let text = told.line(colour);
    if !colour {
        return format!("{level:>5} {text}\n");
    }
    let number = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    format!("\x1b[{number}m{level:>5}\x1b[0m {text}\n")
}

/// There is nowhere to tell of a failure.
fn write_whole(line: &str) {
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::told::Value;

    fn told() -> Told {
        let fields = vec![
            ("device", Value::Word("1-1".into())),
            ("name", Value::Text("a \"thing\"".into())),
            ("port", Value::Number(3)),
        ];
        Told { level: Level::WARN, message: "attached".into(), fields }
    }

    #[test]
    fn a_line_says_the_same_in_colours() {
        let plain = " WARN attached device=1-1 name=\"a \\\"thing\\\"\" port=3\n";
        assert_eq!(line(&told(), false), plain);
        let coloured = line(&told(), true);
        let mut bare = coloured.clone();
        for code in ["\x1b[33m", "\x1b[0m", "\x1b[3m", "\x1b[2m"] {
            assert!(bare.contains(code));
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain);
    }

    #[test]
    fn the_journal_gets_the_line_its_number_and_each_field() {
        let id = crate::telemetry::catalogue::find("attached").unwrap().id;
        let expected = format!(
            "MESSAGE=attached device=1-1 name=\"a \\\"thing\\\"\" port=3\nPRIORITY=4\n\
             SYSLOG_IDENTIFIER=pvusb-agent\nMESSAGE_ID={id}\nPVUSB_EVENT=attached\n\
             PVUSB_DEVICE=1-1\nPVUSB_NAME=a \"thing\"\nPVUSB_PORT=3\n"
        );
        assert_eq!(String::from_utf8(fields(&told())).unwrap(), expected);
    }

    #[test]
    fn what_has_lines_in_it_is_sent_with_its_length() {
        let message = "a\nb".to_owned();
        let sent = fields(&Told { level: Level::INFO, message, fields: Vec::new() });
        assert!(sent.starts_with(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=6\n"));
    }

    #[test]
    fn the_tape_holds_the_latest_lines() {
        let tape = Tape::default();
        (0..=Tape::LINES).for_each(|at| {
            tape.add(Told { level: Level::INFO, message: at.to_string(), fields: Vec::new() });
        });
        let lines = tape.take();
        assert_eq!((lines.len(), &*lines[0].message), (Tape::LINES, "1"));
        assert!(tape.take().is_empty());
    }
}
