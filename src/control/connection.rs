//! One client: lines in, replies out, within limits.

use super::protocol::{Fault, MAX_LINE, Question, Reply};
use super::server::{Grant, Heard, Responder, limits};
use crate::model::Asker;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::cell::Cell;
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
        closing: false,
    };
    // Whatever ends it, the connection is over.
    drop(client.run(&hub).await);
    for number in client.open {
        drop(hub.sender.send(Heard::Gone(number)).await);
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
    /// Nothing is read any more; what is to be written is.
    closing: bool,
}

impl Client {
    async fn run(&mut self, hub: &Hub) -> io::Result<()> {
        let mut silent_since = Instant::now();
        while !self.closing || !self.output.is_empty() || !self.open.is_empty() {
            let readable = !self.closing && self.open.len() < limits::QUESTIONS;
            let writable = !self.output.is_empty();
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
                () = sleep_until(silence), if self.open.is_empty() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
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
        let message = format!("the line is longer than {MAX_LINE} bytes");
        self.queue(&Fault::new("line-too-long", message).reply(None))
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
            let message = format!("{} may not ask this", self.who);
            let fault = Fault::new("not-permitted", message).advice("ask as root");
            return self.queue(&fault.reply(Some(id)));
        }
        if self.open.len() >= limits::QUESTIONS {
            let message = format!("{} questions wait for their answers", limits::QUESTIONS);
            return self.queue(&Fault::new("too-many-questions", message).reply(Some(id)));
        }
        let number = hub.number();
        let (reply, answer) = oneshot::channel();
        let who = self.who.clone();
        let answer_to = Responder { id, reply };
        let heard = Heard::Asked { number, who, ask, answer: answer_to };
        if hub.sender.send(heard).await.is_err() {
            // The daemon has ended.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.open.push(number);
        self.waiting.push(Box::pin(async move { (number, answer.await.ok()) }));
        Ok(())
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
