//! One client: lines in, replies out, within limits.

use super::protocol::{Ask, Fault, MAX_LINE, Question, Reply};
use super::server::{Grant, Heard, Responder, limits};
use super::watch::Notice;
use crate::model::Asker;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// The way to the daemon, shared by all connections.
#[derive(Clone)]
pub(super) struct Hub {
    sender: mpsc::Sender<Heard>,
    next: Rc<Cell<u64>>,
}

impl Hub {
    pub(super) fn new(sender: mpsc::Sender<Heard>) -> Self {
        Self { sender, next: Rc::new(Cell::new(0)) }
    }

    fn number(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        number
    }
}

/// Serves one client until it goes, or must be cut.
pub(super) async fn serve(stream: UnixStream, who: Asker, grant: Grant, hub: Hub) {
    let mut client = Client {
        stream,
        who,
        grant,
        input: Vec::new(),
        output: Vec::new(),
        waiting: FuturesUnordered::new(),
        open: Vec::new(),
        watching: None,
        closing: false,
    };
    // Whatever ends it, the connection is over.
    drop(client.run(&hub).await);
    for number in client.open {
        drop(hub.sender.send(Heard::Gone(number)).await);
    }
}

/// What is said to somebody who may not ask this.
pub(super) fn not_permitted(who: &Asker, grant: Grant) -> Fault {
    Fault::new("not-permitted", format!("{who} may not ask this")).advice(match grant {
        Grant::Nothing | Grant::Looking | Grant::Everything => {
            "ask as root, or as a member of the group that the agent lets do it \
             (docs/monitoring.md, \"Who may see it\")"
        }
        Grant::Ordering => {
            "ask as root: only root may waive a protection, remember, hold and release"
        }
    })
}

/// The notices that a question is answered with.
struct Watching {
    /// The question's `id`.
    id: u64,
    /// The question's number.
    number: u64,
    notices: mpsc::Receiver<Notice>,
}

/// The next notice, with the question that it belongs to. Waits for ever where nothing is watched.
async fn noticed(watching: &mut Option<Watching>) -> (u64, Option<Notice>) {
    match watching {
        Some(watching) => (watching.id, watching.notices.recv().await),
        None => pending().await,
    }
}

struct Client {
    stream: UnixStream,
    who: Asker,
    grant: Grant,
    /// What was read of the next line.
    input: Vec<u8>,
    /// What is to be written.
    output: Vec<u8>,
    /// Answers that are waited for.
    waiting: FuturesUnordered<BoxFuture<'static, (u64, Option<Reply>)>>,
    /// The questions that they answer.
    open: Vec<u64>,
    /// What this client watches.
    watching: Option<Watching>,
    /// Nothing is read any more; what is to be written is.
    closing: bool,
}

impl Client {
    async fn run(&mut self, hub: &Hub) -> io::Result<()> {
        let mut silent_since = Instant::now();
        while self.is_needed() {
            let readable = !self.closing && self.open.len() < limits::QUESTIONS;
            let writable = !self.output.is_empty();
            // Notices wait behind what was not taken yet, and the daemon does not wait for them. None
            // comes before its reply.
            let is_answered = |it: &Watching| !self.open.contains(&it.number);
            let heeds =
                self.watching.as_ref().is_some_and(is_answered) && self.output.len() < MAX_LINE;
            let silence = silent_since + limits::SILENCE;
            tokio::select! {
                // Each is only asked whether it is ready; nothing is lost when another is first.
                ready = self.stream.readable(), if readable => {
                    ready?;
                    if self.read(hub).await? {
                        silent_since = Instant::now();
                    }
                }
                ready = self.stream.writable(), if writable => {
                    ready?;
                    self.write()?;
                }
                Some((number, reply)) = self.waiting.next() => {
                    self.open.retain(|open| *open != number);
                    silent_since = Instant::now();
                    if let Some(reply) = reply {
                        self.queue(&reply)?;
                    }
                }
                (id, notice) = noticed(&mut self.watching), if heeds => {
                    silent_since = Instant::now();
                    match notice {
                        Some(notice) => self.queue(&Reply::notice(id, notice))?,
                        None => self.left_behind(id)?,
                    }
                }
                () = sleep_until(silence), if self.open.is_empty() && self.watching.is_none() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }

    fn is_needed(&self) -> bool {
        let is_owed = !self.output.is_empty() || !self.open.is_empty() || self.watching.is_some();
        !self.closing || is_owed
    }

    /// Reads what is there, once. Tells whether there was a whole line.
    async fn read(&mut self, hub: &Hub) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let count = match self.stream.try_read(&mut buffer) {
            Ok(0) => {
                self.closing = true;
                // It may only have said all that it has to say; or it is gone.
                let ready = self.stream.ready(Interest::WRITABLE).await?;
                return if ready.is_write_closed() {
                    Err(io::ErrorKind::BrokenPipe.into())
                } else {
                    Ok(false)
                };
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.input.extend_from_slice(&buffer[..count]);
        let mut lines = self.input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        let whole: Vec<Vec<u8>> = lines.by_ref().filter(|line| line.ends_with(b"\n")).collect();
        let taken: usize = whole.iter().map(Vec::len).sum();
        self.input.drain(..taken);
        for line in &whole {
            self.heard(line, hub).await?;
        }
        if self.input.len() > MAX_LINE {
            self.too_long()?;
        }
        Ok(!whole.is_empty())
    }

    /// Where the next line begins cannot be known any more.
    fn too_long(&mut self) -> io::Result<()> {
        self.closing = true;
        self.input.clear();
        let fault =
            Fault::new("line-too-long", format!("the line is longer than {MAX_LINE} bytes"));
        self.queue(&fault.reply(None))
    }

    async fn heard(&mut self, line: &[u8], hub: &Hub) -> io::Result<()> {
        if self.closing {
            return Ok(());
        }
        if line.len() > MAX_LINE {
            return self.too_long();
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let Question { id, ask } = match Question::read(line) {
            Ok(question) => question,
            Err(reply) => return self.queue(&reply),
        };
        if !self.grant.allows(&ask) {
            return self.queue(&not_permitted(&self.who, self.grant).reply(Some(id)));
        }
        let watches = matches!(ask, Ask::Watch(_));
        if watches && self.watching.is_some() {
            let fault = Fault::new("watching", "this connection watches already");
            return self.queue(&fault.advice("use another connection").reply(Some(id)));
        }
        if self.open.len() >= limits::QUESTIONS {
            let fault = Fault::new(
                "too-many-questions",
                format!("{} questions wait for their answers", limits::QUESTIONS),
            );
            return self.queue(&fault.advice("read the replies first").reply(Some(id)));
        }
        let number = hub.number();
        let (reply, answer) = oneshot::channel();
        let who = self.who.clone();
        let (sender, receiver) = mpsc::channel(limits::NOTICES);
        let notices = watches.then_some(sender);
        let answer_to = Responder { id, reply, notices };
        let heard = Heard::Asked { number, who, ask, answer: answer_to };
        if hub.sender.send(heard).await.is_err() {
            // The daemon has ended.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if watches {
            self.watching = Some(Watching { id, number, notices: receiver });
        }
        self.open.push(number);
        self.waiting.push(Box::pin(async move { (number, answer.await.ok()) }));
        Ok(())
    }

    /// The daemon has given up on this watcher, or it has ended.
    fn left_behind(&mut self, id: u64) -> io::Result<()> {
        self.watching = None;
        self.closing = true;
        let fault =
            Fault::new("too-slow", "what changes was not read in time, or the agent has ended");
        self.queue(&fault.advice("watch again").reply(Some(id)))
    }

    fn queue(&mut self, reply: &Reply) -> io::Result<()> {
        self.output.extend_from_slice(reply.write()?.as_bytes());
        if self.output.len() > limits::UNSENT {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        match self.stream.try_write(&self.output) {
            Ok(count) => {
                self.output.drain(..count);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
