//! The task that owns the connection: IO, reconnect and back-off.
//!
//! It moves bytes between a [`Transport`] and a [`Session`] and decides when to connect. What the bytes mean is the
//! session's business. While there is a connection it has no timer: an idle client wakes up for nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};
use tokio::time::{Sleep, sleep};

use super::endpoint::Endpoint;
use super::error::{Error, Lost};
use super::notice::Mailbox;
use super::session::{Command, Session, refuse};
use super::transport::Transport;
use super::watch::Watches;

/// Least time between two attempts to connect. xenstored is one thread that serves the whole host.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Most time between two attempts. An attempt costs little, and the host waits for us.
const LAST_PAUSE: Duration = Duration::from_secs(8);

/// Bytes of one read(2). Holds a few replies of the largest size.
const READ_LEN: usize = 16 * 1024;

/// The connection of one client, present or not.
pub(super) struct Connection {
    endpoint: Endpoint,
    commands: UnboundedReceiver<Command>,
    /// For the guards of transactions. Weak, so that the connection does not keep itself alive.
    handle: WeakUnboundedSender<Command>,
    mailbox: Arc<Mailbox>,
    watches: Watches,
    /// Counts the connections, to tell the transactions of one from those of another.
    epoch: u64,
}

/// Why a connection is used no more.
enum End {
    Lost(Lost),
    /// Every handle is gone, and everything asked is answered.
    Unused,
}

impl Connection {
    /// A connection that is not made yet, and the way to command it.
    pub(super) fn new(
        endpoint: Endpoint,
        mailbox: Arc<Mailbox>,
    ) -> (UnboundedSender<Command>, Self) {
        let (sender, commands) = unbounded_channel();
        let handle = sender.downgrade();
        let watches = Watches::default();
        (sender, Self { endpoint, commands, handle, mailbox, watches, epoch: 0 })
    }

    /// Serves one connection that is already made. When it is lost, every request fails.
    pub(super) async fn run_once(mut self, transport: Transport) {
        if let End::Lost(why) = self.serve(transport, &mut Backoff::new()).await {
            self.watches.end(&why);
            self.mailbox.disconnected(Error::lost(why.clone()));
            self.mailbox.close();
            while let Some(command) = self.commands.recv().await {
                refuse(command, &mut self.watches, &why, false);
            }
        }
    }

    /// Connects, serves and connects again, until every handle is gone.
    pub(super) async fn run_for_ever(mut self) {
        let mut backoff = Backoff::new();
        loop {
            // Counted from this attempt: a connection that lasted longer is made again at once when it is lost, one
            // that did not is not hammered.
            let pause = backoff.pause();
            let why = match Transport::open(&self.endpoint).await {
                Ok(transport) => match self.serve(transport, &mut backoff).await {
                    End::Lost(why) => why,
                    End::Unused => return,
                },
                Err(error) => {
                    let endpoint = self.endpoint.clone();
                    Lost::Unreachable { endpoint, source: Arc::new(error) }
                }
            };
            self.watches.park();
            self.mailbox.disconnected(Error::lost(why.clone()));
            if let End::Unused = self.refuse_until(pause, why).await {
                return;
            }
        }
    }

    async fn serve(&mut self, transport: Transport, backoff: &mut Backoff) -> End {
        self.epoch += 1;
        let mut session = Session::new(self.epoch, self.handle.clone(), &mut self.watches);
        let mut buffer = vec![0; READ_LEN];
        let mut told = false;
        let mut has_handles = true;
        let why = loop {
            if !told && session.is_set_up() {
                told = true;
                backoff.reset();
                self.mailbox.connected();
            }
            if !has_handles && session.is_idle() {
                return End::Unused;
            }
            let outgoing = session.outgoing();
            tokio::select! {
                // Reading goes on while something waits to be written, and the other way round.
                read = transport.read(&mut buffer) => match read {
                    Ok(0) => break Lost::Closed,
                    Ok(count) => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        if let Err(why) = session.receive(bytes, &mut self.watches) {
                            break why;
                        }
                    }
                    Err(error) => break Lost::Io(Arc::new(error)),
                },
                written = transport.write(outgoing.unwrap_or_default()), if outgoing.is_some() => {
                    match written {
                        Ok(count) => session.written(count),
                        Err(error) => break Lost::Io(Arc::new(error)),
                    }
                }
                command = self.commands.recv(), if has_handles => match command {
                    Some(command) => session.submit(command, &mut self.watches),
                    None => has_handles = false,
                },
            }
        };
        session.fail(&why);
        End::Lost(why)
    }

    /// Answers commands while there is no connection.
    async fn refuse_until(&mut self, pause: Sleep, why: Lost) -> End {
        let mut pause = pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return End::Lost(why),
                command = self.commands.recv() => match command {
                    Some(command) => refuse(command, &mut self.watches, &why, true),
                    None => return End::Unused,
                },
            }
        }
    }
}

/// However the task ends, also by the end of its runtime, nobody waits for it in vain.
impl Drop for Connection {
    fn drop(&mut self) {
        self.watches.end(&Lost::Ended);
        self.mailbox.close();
    }
}

/// How long to wait between attempts.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// The pause that begins now. Its timer is not armed before it is awaited.
    fn pause(&mut self) -> Sleep {
        let pause = sleep(self.0);
        self.0 = LAST_PAUSE.min(self.0 * 2);
        pause
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}
