//! The asker's end.

use super::protocol::{Ask, Fault, Outcome, Question, Reply};
use super::watch::{Notice, Since, WatchOutcome};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest reply that is read, in bytes.
const MAX_REPLY: u64 = 4 << 20;

/// Why there is no answer. Each says what it is; [`ClientError::advice`] says what helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no agent is running: nobody listens at {0}")]
    NoAgent(PathBuf),
    /// The socket is not this user's to write to.
    #[error("only root may talk to this agent ({0})")]
    Denied(PathBuf),
    /// It did not answer in time.
    #[error("the agent has not answered within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It ended the connection.
    #[error("the agent has ended the connection without an answer")]
    HungUp,
    /// There is something at this place, or it cannot be a place, and no connection comes about.
    #[error("cannot connect to {0}")]
    Unreachable(PathBuf, #[source] io::Error),
    /// The connection failed.
    #[error("cannot talk to the agent")]
    Io(#[from] io::Error),
    /// The answer cannot be understood.
    #[error("the agent's answer cannot be understood")]
    Strange(#[from] serde_json::Error),
}

impl ClientError {
    /// What helps.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoAgent(_) => {
                "`systemctl status pvusb-agent` tells why (docs/errors.md, \"The running agent\")"
            }
            Self::Denied(_) => {
                "ask as root, or let a group ask (docs/monitoring.md, \"Who may see it\")"
            }
            Self::Unreachable(..) => {
                "`systemctl status pvusb-agent` tells whether it runs; `--socket` names its socket"
            }
            Self::TimedOut(_) => {
                "the journal may say what it waits for; an order can be noted all the same: \
                 `pvusb-agent list` tells"
            }
            Self::HungUp => "`systemctl status pvusb-agent` tells whether it runs; ask it again",
            Self::Io(_) => "ask again; if it stays so, `systemctl restart pvusb-agent`",
            Self::Strange(_) => {
                "it may be of another version: `systemctl restart pvusb-agent`; what is attached \
                 stays attached"
            }
        }
    }
}

/// Asks the agent whose socket is at `path` one question, and waits for the answer at most as long as
/// `patience`, if that is given.
///
/// # Errors
///
/// When there is no answer. An answer that says no is the inner error.
pub fn ask(
    path: &Path,
    ask: Ask,
    patience: Option<Duration>,
) -> Result<Result<Outcome, Fault>, ClientError> {
    let mut stream = connect(path)?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    match stream.write_all(Question { id: 1, ask }.write()?.as_bytes()) {
        // It may have said why before it hung up.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(|error| sort(error, patience))?,
    }
    let reply = read(&mut BufReader::new(stream), patience)?;
    match (reply.ok, reply.error) {
        (Some(outcome), None) => Ok(Ok(outcome)),
        (_, Some(fault)) => Ok(Err(fault)),
        (None, None) => Err(ClientError::HungUp),
    }
}

/// What an agent shows: everything first, then what changes.
#[derive(Debug)]
pub struct Watch {
    stream: BufReader<UnixStream>,
}

impl Watch {
    /// Watches the agent whose socket is at `path`; gives what there is now. The agent has `patience` to
    /// tell that. `since` is what was heard of it before.
    ///
    /// # Errors
    ///
    /// When there is no answer. An answer that says no is the inner error.
    pub fn begin(
        path: &Path,
        since: Option<Since>,
        patience: Duration,
    ) -> Result<Result<(Self, WatchOutcome), Fault>, ClientError> {
        let mut stream = connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let question = Question { id: 1, ask: Ask::Watch(since) }.write()?;
        match stream.write_all(question.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(|error| sort(error, Some(patience)))?,
        }
        let mut stream = BufReader::new(stream);
        let reply = read(&mut stream, Some(patience))?;
        match (reply.ok, reply.error) {
            (Some(Outcome::Watch(outcome)), None) => {
                // What comes next comes when something happens.
                stream.get_ref().set_read_timeout(None)?;
                Ok(Ok((Self { stream }, outcome)))
            }
            (_, Some(fault)) => Ok(Err(fault)),
            (_, None) => Err(ClientError::HungUp),
        }
    }

    /// Waits for the next notice.
    ///
    /// # Errors
    ///
    /// When the agent has ended, or what it says cannot be understood.
    pub fn notice(&mut self) -> Result<Notice, ClientError> {
        read(&mut self.stream, None)?.notice.ok_or(ClientError::HungUp)
    }
}

/// Whether nobody listens at `path`. That this user may not ask, or that it fails otherwise, does not
/// tell.
pub fn is_absent(path: &Path) -> bool {
    matches!(connect(path), Err(ClientError::NoAgent(_)))
}

fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(path).map_err(|error| {
        let kind = error.kind();
        if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&kind) {
            ClientError::NoAgent(path.to_owned())
        } else if kind == io::ErrorKind::PermissionDenied {
            ClientError::Denied(path.to_owned())
        } else {
            ClientError::Unreachable(path.to_owned(), error)
        }
    })
}

/// Reads one line.
fn read(
    stream: &mut BufReader<UnixStream>,
    patience: Option<Duration>,
) -> Result<Reply, ClientError> {
    let mut line = String::new();
    stream.take(MAX_REPLY).read_line(&mut line).map_err(|error| sort(error, patience))?;
    if !line.ends_with('\n') {
        return Err(ClientError::HungUp);
    }
    Ok(serde_json::from_str(&line)?)
}

fn sort(error: io::Error, patience: Option<Duration>) -> ClientError {
    let timed_out = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
    match patience.filter(|_| timed_out) {
        Some(patience) => ClientError::TimedOut(patience),
        None if error.kind() == io::ErrorKind::ConnectionReset => ClientError::HungUp,
        None => ClientError::Io(error),
    }
}
