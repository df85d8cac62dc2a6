//! The agent's end: who may ask, and what was asked, as one stream.
//!
//! Each connection is a task of its own, and the way from it to the daemon is bounded, so nothing
//! that a client does or leaves undone holds up the loop. What is not answered in time, sends too
//! much or does not read is cut ([`limits`]).
//!
//! Who asks, the kernel says (`SO_PEERCRED`); what they may ask, their groups ([`Groups`]).

use super::address::{self, Address};
use super::connection::{self, Hub};
use super::protocol::{Ask, Fault, OrderAsk, Reply};
use super::watch::Notice;
use crate::model::{Asker, Text};
use crate::plan::Wanted;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use super::address::AddressError;

/// The limits.
pub mod limits {
    use std::time::Duration;

    /// How many connections there may be at once.
    pub const CONNECTIONS: usize = 32;
    /// How many of them may be those of others than root and the agent's own user.
    pub const OTHERS: usize = 16;
    /// How many questions of one connection may wait for their answers.
    pub const QUESTIONS: usize = 16;
    /// How many bytes may wait for a client to read them.
    pub const UNSENT: usize = 1 << 20;
    /// How many notices may wait until a client that watches has taken those before them.
    pub const NOTICES: usize = 256;
    /// How long a connection may be without a whole question, an answer on its way or something to watch.
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
    /// Where notices go, if it was `watch`.
    pub(super) notices: Option<mpsc::Sender<Notice>>,
}

impl Responder {
    /// The way for notices to a client that watches; once.
    pub fn notices(&mut self) -> Option<mpsc::Sender<Notice>> {
        self.notices.take()
    }

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

/// The groups whose members may ask something although they are not root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Its members may ask how everything is, and watch.
    pub watch: Option<u32>,
    /// Its members may do that, and give orders that waive nothing and are not remembered.
    pub order: Option<u32>,
}

impl Groups {
    /// The number of the group with this name.
    ///
    /// # Errors
    ///
    /// When the system cannot be asked. `Ok(None)` when it knows no such group.
    pub fn number(name: &str) -> io::Result<Option<u32>> {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    }

    fn is_any(&self) -> bool {
        self.watch.is_some() || self.order.is_some()
    }
}

/// What somebody may ask; each grant covers those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// Nothing.
    Nothing,
    /// How everything is, and to watch.
    Looking,
    /// To give a device to a domain and to take it back, as far as nothing protects it.
    Ordering,
    /// Everything.
    Everything,
}

impl Grant {
    /// What the user `uid`, who is in `gids`, may ask of an agent that runs as `own`. Root, and whoever
    /// could stop the agent anyhow, may ask everything; others what their groups allow.
    pub fn of(uid: u32, gids: &[u32], own: u32, groups: Groups) -> Self {
        let is_in = |group: Option<u32>| group.is_some_and(|group| gids.contains(&group));
        if uid == 0 || uid == own {
            Self::Everything
        } else if is_in(groups.order) {
            Self::Ordering
        } else if is_in(groups.watch) {
            Self::Looking
        } else {
            Self::Nothing
        }
    }

    /// Whether it covers this question.
    pub fn allows(self, ask: &Ask) -> bool {
        let needed = match ask {
            Ask::Status | Ask::Reasons | Ask::Watch(_) | Ask::Metrics => Self::Looking,
            Ask::Order(OrderAsk { request, remember, .. }) => match request.wanted {
                Wanted::Attach(_) | Wanted::Detach if !request.force && !remember => Self::Ordering,
                Wanted::Attach(_) | Wanted::Detach | Wanted::Hold | Wanted::Release => {
                    Self::Everything
                }
            },
            Ask::Reload | Ask::ByHand(_) => Self::Everything,
        };
        self >= needed
    }
}

impl Server {
    /// Listens at `path`, to root and to `groups`. To be called on a runtime with tasks of its own thread.
    ///
    /// # Errors
    ///
    /// When another agent has it, or the system refuses.
    pub fn open(path: &Path, groups: Groups) -> Result<Self, AddressError> {
        // Anybody may come, and is told whether they may ask: there is more than one group.
        let mode = if groups.is_any() { 0o666 } else { 0o600 };
        let (address, listener) = address::listen(path, mode)?;
        let listener = UnixListener::from_std(listener)
            .map_err(|error| AddressError::Io(path.to_owned(), error))?;
        // As many as may be on their way from all connections would be too many: who asks waits.
        let (sender, asked) = mpsc::channel(limits::QUESTIONS);
        tokio::task::spawn_local(accept(listener, sender, groups));
        Ok(Self { asked, _address: address })
    }

    /// Waits for the next question. Cancel safe.
    pub async fn next(&mut self) -> Option<Heard> {
        self.asked.recv().await
    }
}

async fn accept(listener: UnixListener, sender: mpsc::Sender<Heard>, groups: Groups) {
    let hub = Hub::new(sender);
    let room = Arc::new(Semaphore::new(limits::CONNECTIONS));
    // Root always gets in, whatever others do.
    let room_of_others = Arc::new(Semaphore::new(limits::OTHERS));
    let own = Uid::effective().as_raw();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, for example: the next moment may be better.
            tokio::time::sleep(limits::ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let is_other = Grant::of(peer.uid(), &[], own, groups) != Grant::Everything;
        let permit = Arc::clone(&room).try_acquire_owned();
        let others = is_other.then(|| Arc::clone(&room_of_others).try_acquire_owned()).transpose();
        let (Ok(permit), Ok(others)) = (permit, others) else {
            let most = if is_other { limits::OTHERS } else { limits::CONNECTIONS };
            let fault =
                Fault::new("too-many-connections", format!("there are {most} connections already"));
            turn_away(&stream, fault.advice("try again"));
            continue;
        };
        let hub = hub.clone();
        tokio::task::spawn_local(async move {
            let (who, gids) = asker(peer).await;
            let grant = Grant::of(who.uid, &gids, own, groups);
            if grant == Grant::Nothing {
                turn_away(&stream, connection::not_permitted(&who, grant));
            } else {
                connection::serve(stream, who, grant, hub).await;
            }
            drop((permit, others));
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

/// Who is at the other end, and in which groups. Both may have to be asked for over a network, so that is
/// done off the loop.
async fn asker(peer: UCred) -> (Asker, Vec<u32>) {
    let (uid, gid) = (peer.uid(), peer.gid());
    let known = tokio::task::spawn_blocking(move || {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
        let name = CString::new(user.name.as_str()).ok()?;
        // As the system knows the user; a process may have fewer groups, and then the user has others.
        let groups = getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default();
        Some((Text::from(&*user.name), groups.into_iter().map(Gid::as_raw).collect::<Vec<_>>()))
    });
    let (user, mut gids) = match known.await {
        Ok(Some((user, gids))) => (Some(user), gids),
        Ok(None) | Err(_) => (None, Vec::new()),
    };
    gids.push(gid);
    (Asker { uid, pid: peer.pid().unwrap_or_default(), user }, gids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::Question;

    const GROUPS: Groups = Groups { watch: Some(50), order: Some(60) };

    fn order(line: &str) -> Ask {
        Question::read(line.as_bytes()).unwrap().ask
    }

    #[test]
    fn without_groups_only_root_and_the_agents_own_user_may_ask() {
        let of = |uid, own| Grant::of(uid, &[0, 50], own, Groups::default());
        assert!(of(0, 0).allows(&Ask::Reload) && of(0, 1000).allows(&Ask::Reload));
        assert!(of(1000, 1000).allows(&Ask::Status));
        assert!(!of(1000, 0).allows(&Ask::Status));
    }

    #[test]
    fn a_group_may_look_and_another_may_order_what_nothing_protects() {
        let of = |gids: &[u32]| Grant::of(1000, gids, 0, GROUPS);
        let attach = order(r#"{"v":1,"id":1,"ask":"attach","device":"1-1","domain":"a"}"#);
        let detach = order(r#"{"v":1,"id":1,"ask":"detach","device":"1-1"}"#);
        for ask in [Ask::Status, Ask::Reasons, Ask::Watch(None), Ask::Metrics] {
            assert!(of(&[50]).allows(&ask) && of(&[60]).allows(&ask) && !of(&[7]).allows(&ask));
        }
        for ask in [attach, detach] {
            assert!(!of(&[50]).allows(&ask) && of(&[50, 60]).allows(&ask), "{ask:?}");
        }
        for line in [
            r#"{"v":1,"id":1,"ask":"attach","device":"1-1","domain":"a","force":true}"#,
            r#"{"v":1,"id":1,"ask":"detach","device":"1-1","remember":true}"#,
            r#"{"v":1,"id":1,"ask":"hold","device":"1-1"}"#,
            r#"{"v":1,"id":1,"ask":"release","device":"1-1"}"#,
            r#"{"v":1,"id":1,"ask":"reload"}"#,
            r#"{"v":1,"id":1,"ask":"by-hand","act":"a","stage":"done"}"#,
        ] {
            assert!(!of(&[60]).allows(&order(line)), "{line}");
            assert!(Grant::Everything.allows(&order(line)));
        }
    }
}
