//! The agent's end: who may ask, and what was asked, as one stream.
//!
//! Each connection is a task of its own, and the way from it to the daemon is bounded, so nothing
//! that a client does or leaves undone holds up the loop. What is not answered in time, sends too
//! much or does not read is cut ([`limits`]).

use super::address::{self, Address};
use super::connection::{self, Hub};
use super::protocol::{Ask, Fault, Reply};
use crate::model::{Asker, Text};
use nix::unistd::{Uid, User};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use super::address::AddressError;

/// The limits.
pub mod limits {
    use std::time::Duration;

    /// How many connections there may be at once.
    pub const CONNECTIONS: usize = 32;
    /// How many questions of one connection may wait for their answers.
    pub const QUESTIONS: usize = 16;
    /// How many bytes may wait for a client to read them.
    pub const UNSENT: usize = 1 << 20;
    /// How long a connection may be without a whole question or an answer on its way.
    pub const SILENCE: Duration = Duration::from_secs(60);
    /// How long to wait before connections are accepted again after that failed.
    pub(in crate::control) const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
}

/// What clients ask.
#[derive(Debug)]
pub struct Server {
    asked: mpsc::Receiver<Heard>,
    _address: Address,
}

/// Something that was heard.
#[derive(Debug)]
pub enum Heard {
    /// A question.
    Asked {
        /// Names it; no other question of this server has the same.
        number: u64,
        /// Who asks.
        who: Asker,
        /// What.
        ask: Ask,
        /// Where the answer goes.
        answer: Responder,
    },
    /// Whoever asked this is gone.
    Gone(u64),
}

/// Takes the answer to one question.
#[derive(Debug)]
pub struct Responder {
    pub(super) id: u64,
    pub(super) reply: oneshot::Sender<Reply>,
}

impl Responder {
    /// Answers.
    pub fn ok(self, outcome: super::protocol::Outcome) {
        // Nobody to hear it: the connection has ended.
        drop(self.reply.send(Reply::ok(self.id, outcome)));
    }

    /// Says why there is no answer.
    pub fn fail(self, fault: Fault) {
        drop(self.reply.send(fault.reply(Some(self.id))));
    }
}

/// What somebody may ask. More kinds of it come with groups for those who are not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Everything.
    Everything,
    /// Nothing.
    Nothing,
}

impl Grant {
    /// What the user `uid` may ask of an agent that runs as `own`: root, and whoever could stop the
    /// agent anyhow, may ask everything; others nothing.
    pub fn of(uid: u32, own: u32) -> Self {
        if uid == 0 || uid == own { Self::Everything } else { Self::Nothing }
    }

    /// Whether it covers this question.
    pub fn allows(self, ask: &Ask) -> bool {
        match (self, ask) {
            (Self::Everything, Ask::Order(_) | Ask::Status | Ask::Reload | Ask::Reasons) => true,
            (Self::Nothing, Ask::Order(_) | Ask::Status | Ask::Reload | Ask::Reasons) => false,
        }
    }
}

impl Server {
    /// Listens at `path`. To be called on a runtime with tasks of its own thread.
    ///
    /// # Errors
    ///
    /// When another agent has it, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, AddressError> {
        let (address, listener) = address::listen(path)?;
        let listener = UnixListener::from_std(listener)
            .map_err(|error| AddressError::Io(path.to_owned(), error))?;
        // As many as may be on their way from all connections would be too many: who asks waits.
        let (sender, asked) = mpsc::channel(limits::QUESTIONS);
        tokio::task::spawn_local(accept(listener, sender));
        Ok(Self { asked, _address: address })
    }

    /// Waits for the next question. Cancel safe.
    pub async fn next(&mut self) -> Option<Heard> {
        self.asked.recv().await
    }
}

async fn accept(listener: UnixListener, sender: mpsc::Sender<Heard>) {
    let hub = Hub::new(sender);
    let room = Arc::new(Semaphore::new(limits::CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, for example: the next moment may be better.
            tokio::time::sleep(limits::ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            let message = format!("there are {} connections already", limits::CONNECTIONS);
            turn_away(&stream, Fault::new("too-many-connections", message).advice("try again"));
            continue;
        };
        let hub = hub.clone();
        tokio::task::spawn_local(async move {
            if let Ok(who) = asker(&stream).await {
                let grant = Grant::of(who.uid, Uid::effective().as_raw());
                connection::serve(stream, who, grant, hub).await;
            }
            drop(permit);
        });
    }
}

/// Says why, if that can be said at once.
fn turn_away(stream: &UnixStream, fault: Fault) {
    if let Ok(line) = fault.reply(None).write() {
        // Whoever does not hear it sees that the connection ends.
        drop(stream.try_write(line.as_bytes()));
    }
}

/// Who is at the other end. The name may have to be asked for over a network, so that is done off
/// the loop.
async fn asker(stream: &UnixStream) -> io::Result<Asker> {
    let peer = stream.peer_cred()?;
    let uid = peer.uid();
    let name = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
    let user = match name.await {
        Ok(Ok(Some(user))) => Some(Text::from(&*user.name)),
        Ok(Ok(None) | Err(_)) | Err(_) => None,
    };
    Ok(Asker { uid, pid: peer.pid().unwrap_or_default(), user })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_agents_own_user_may_ask() {
        assert!(Grant::of(0, 0).allows(&Ask::Reload) && Grant::of(0, 1000).allows(&Ask::Reload));
        assert!(Grant::of(1000, 1000).allows(&Ask::Status));
        assert!(!Grant::of(1000, 0).allows(&Ask::Status));
    }
}
