//! A proxy between a client and the daemon: counts requests and round trips, and breaks the
//! connection on demand. It changes nothing in what it passes on.

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{MsgFlags, getsockopt, recv};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::wire::{Message, Op};

/// How long a client must be silent before it gets a reply: see [`Proxy::gather`].
const GATHER: Duration = Duration::from_millis(10);

/// What is lost when a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The request: the daemon never sees it.
    Request,
    /// The reply: the daemon has done it, and the client never learns.
    Reply,
}

/// A socket that behaves as the daemon's behind it.
///
/// # Round trips
///
/// What is counted is *dependent* round trips, the number of times that a client has to wait for
/// the daemon one after the other, however much it sends at once. Each request has a depth: one
/// more than the greatest depth among those requests of the same connection whose replies had been
/// delivered when it arrived, or 1 if there were none. The number of round trips since
/// [`reset`](Self::reset) is the greatest depth. So ten requests that are sent together are one
/// round trip, and ten that are sent each after the reply to the one before are ten. Watch events
/// are no replies.
///
/// A daemon may be faster than a client that sends a burst piece by piece; the later pieces would
/// then look as if they depended on the early replies. Therefore a reply is held back until its
/// client has been silent for a moment ([`gather`](Self::gather)) and waits: what it sends without
/// waiting for replies has then arrived. On a busy machine silence alone does not say that: client
/// or proxy may not have had their turn.
#[derive(Debug)]
pub(crate) struct Proxy {
    socket: PathBuf,
    shared: Arc<Shared>,
    _dir: TempDir,
}

impl Proxy {
    /// A proxy in front of the daemon whose socket is `daemon`. The daemon need not run yet, and
    /// may be restarted.
    pub(crate) fn start(daemon: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("xp-").tempdir().expect("a temporary directory");
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a new socket");
        let shared = Arc::new(Shared::default());
        shared.lock().gather = GATHER;
        let (acceptor, daemon) = (Arc::clone(&shared), daemon.to_owned());
        thread::spawn(move || accept(&acceptor, &listener, &daemon));
        Self { socket, shared, _dir: dir }
    }

    /// Where clients connect.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Forgets what was counted: a new phase begins, and what the client knows from before counts
    /// as known.
    pub(crate) fn reset(&self) {
        let mut state = self.shared.lock();
        state.requests.clear();
        state.depths.clear();
        state.round_trips = 0;
        state.phase += 1;
        for connection in state.connections.values_mut() {
            connection.depth = 0;
        }
    }

    /// The requests since [`reset`](Self::reset), in the order in which they arrived.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.shared.lock().requests.clone()
    }

    /// The same, each with its depth.
    pub(crate) fn depths(&self) -> Vec<(Message, u32)> {
        let state = self.shared.lock();
        state.requests.iter().cloned().zip(state.depths.iter().copied()).collect()
    }

    /// Whether no client is about to send something, or waits for a reply.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.shared.lock();
        state.connections.values().all(|it| it.unanswered.is_empty() && !it.is_sending())
    }

    /// How many of them are of this type.
    pub(crate) fn count(&self, op: Op) -> usize {
        self.shared.lock().requests.iter().filter(|request| request.op == op).count()
    }

    /// The dependent round trips since [`reset`](Self::reset).
    pub(crate) fn round_trips(&self) -> u32 {
        self.shared.lock().round_trips
    }

    /// How long a client must be silent before it gets a reply. Zero makes the proxy as fast as it
    /// can be, and [`round_trips`](Self::round_trips) an upper bound.
    pub(crate) fn gather(&self, silence: Duration) {
        self.shared.lock().gather = silence;
    }

    /// Breaks all connections; new ones are accepted.
    pub(crate) fn cut(&self) {
        self.shared.lock().connections.values().for_each(Connection::cut);
    }

    /// From now on new connections are closed at once, or accepted again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.lock().refusing = refuse;
    }

    /// Lets `answered` more requests pass, with their replies; then loses the next one, or its
    /// reply, and breaks the connection.
    pub(crate) fn cut_after(&self, answered: usize, lost: Lost) {
        self.cut_after_those(answered, lost, |_| true);
    }

    /// The same, but only requests for which `counts` says so are counted, and lost.
    pub(crate) fn cut_after_those(
        &self,
        answered: usize,
        lost: Lost,
        counts: fn(&Message) -> bool,
    ) {
        self.shared.lock().fuse = Some(Fuse { left: answered, counts, then: Then::Lose(lost) });
    }

    /// Lets `answered` more requests pass, with their replies, and then holds back all that the
    /// daemon says, as [`pause`](Self::pause) does. The request that follows them reaches the
    /// daemon.
    pub(crate) fn pause_after(&self, answered: usize) {
        self.shared.lock().fuse =
            Some(Fuse { left: answered, counts: |_| true, then: Then::Pause });
    }

    /// Holds back all that the daemon says from the next request on for which `counts` says so. That
    /// request reaches the daemon.
    pub(crate) fn pause_at(&self, counts: fn(&Message) -> bool) {
        self.shared.lock().fuse = Some(Fuse { left: 0, counts, then: Then::Pause });
    }

    /// Whether the cut or the pause that was ordered is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.shared.lock().fuse.is_some()
    }

    /// Takes the order back.
    pub(crate) fn disarm(&self) {
        self.shared.lock().fuse = None;
    }

    /// Holds back all that the daemon says. Requests pass.
    pub(crate) fn pause(&self) {
        self.shared.change(|state| state.paused = true);
    }

    /// Delivers what was held back.
    pub(crate) fn resume(&self) {
        self.shared.change(|state| state.paused = false);
    }

    /// Sends these bytes to each client, between two messages of the daemon.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        let clients: Vec<_> =
            self.shared.lock().connections.values().map(|c| Arc::clone(&c.client)).collect();
        for client in clients {
            // A client that has just gone misses nothing.
            drop(guard(&client).write_all(bytes));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.closing = true;
            state.connections.values().for_each(Connection::cut);
        });
        // The acceptor looks at `closing` when somebody connects.
        drop(UnixStream::connect(&self.socket));
    }
}

/// What the proxy's threads share. The condition variable is signalled when a thread may have to go
/// on.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Message>,
    /// One for each request.
    depths: Vec<u32>,
    round_trips: u32,
    phase: u32,
    gather: Duration,
    paused: bool,
    refusing: bool,
    closing: bool,
    fuse: Option<Fuse>,
    connections: BTreeMap<u32, Connection>,
    accepted: u32,
}

/// What is to happen after some requests.
#[derive(Clone, Copy, Debug)]
struct Fuse {
    /// How many more requests pass before it happens.
    left: usize,
    /// Whether a request is one of them.
    counts: fn(&Message) -> bool,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Lose(Lost),
    Pause,
}

/// One client's connection, and the one to the daemon that was opened for it.
#[derive(Debug)]
struct Connection {
    /// Locked while a message is written, so that none is torn.
    client: Arc<Mutex<UnixStream>>,
    /// The same two sockets, for cutting them without waiting.
    ends: [UnixStream; 2],
    /// The greatest depth among the requests whose replies were delivered.
    depth: u32,
    unanswered: Vec<Unanswered>,
    /// How many requests have arrived.
    arrived: u64,
    /// Whether a request is being read.
    arriving: bool,
    /// Whether the client has been silent since the last of them.
    silent: bool,
    /// The client's process; none when it is this one.
    process: Option<u32>,
}

/// A request that waits for its reply.
#[derive(Debug)]
struct Unanswered {
    request: u32,
    depth: u32,
    phase: u32,
    /// The reply shall be lost.
    fatal: bool,
}

impl Connection {
    fn cut(&self) {
        for end in &self.ends {
            // An end that is closed already needs no shutdown.
            drop(end.shutdown(Shutdown::Both));
        }
    }

    /// Whether the client may be in the middle of what it sends together.
    fn is_sending(&self) -> bool {
        let now = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let is_unread =
            || recv(self.ends[0].as_raw_fd(), &mut [0], now).is_ok_and(|count| count > 0);
        // In this order: what it sent before it came to rest is seen after that.
        self.process.is_some_and(is_at_work) || is_unread() || self.arriving
    }
}

/// Whether a thread of the process has something to do, be it that it does not get its turn (`proc(5)`,
/// `/proc/pid/stat`).
fn is_at_work(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let lines = threads.filter_map(|it| fs::read_to_string(it.ok()?.path().join("stat")).ok());
    let mut states = lines.filter_map(|line| line.rsplit_once(") ")?.1.chars().next());
    states.any(|state| ['R', 'D'].contains(&state))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request that has arrived. Whether it shall be passed on.
    fn arrive(&self, id: u32, message: &Message) -> bool {
        let mut state = self.lock();
        let counted = state.fuse.filter(|fuse| (fuse.counts)(message));
        let burnt = counted.filter(|fuse| fuse.left == 0).map(|fuse| fuse.then);
        if burnt == Some(Then::Lose(Lost::Request)) {
            while state.connections.get(&id).is_some_and(|c| !c.unanswered.is_empty()) {
                state = self.wait(state);
            }
            state.fuse = None;
            return false;
        }
        let fatal = burnt == Some(Then::Lose(Lost::Reply));
        state.paused |= burnt == Some(Then::Pause);
        if burnt.is_some() {
            state.fuse = None;
        } else if counted.is_some()
            && let Some(fuse) = &mut state.fuse
        {
            fuse.left -= 1;
        }
        let phase = state.phase;
        let Some(connection) = state.connections.get_mut(&id) else { return false };
        let depth = connection.depth + 1;
        connection.unanswered.push(Unanswered { request: message.request, depth, phase, fatal });
        connection.arrived += 1;
        (connection.arriving, connection.silent) = (false, false);
        state.round_trips = state.round_trips.max(depth);
        state.requests.push(message.clone());
        state.depths.push(depth);
        self.changed.notify_all();
        true
    }

    /// Waits until a message of the daemon may be delivered, and takes note of that. Whether it
    /// shall be delivered.
    fn depart(&self, id: u32, message: &Message) -> bool {
        let mut state = self.lock();
        while state.paused && !state.closing {
            state = self.wait(state);
        }
        if message.op != Op::WATCH_EVENT {
            state = self.await_silence(id, state);
        }
        let phase = state.phase;
        let Some(connection) = state.connections.get_mut(&id) else { return false };
        let answers = connection.unanswered.iter().position(|u| u.request == message.request);
        if let Some(index) = answers.filter(|_| message.op != Op::WATCH_EVENT) {
            let answered = connection.unanswered.remove(index);
            if answered.fatal {
                return false;
            }
            if answered.phase == phase {
                connection.depth = connection.depth.max(answered.depth);
            }
        }
        true
    }

    /// Waits until the client has sent nothing for a moment, and waits.
    fn await_silence<'a>(
        &self,
        id: u32,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        while let Some(connection) = state.connections.get_mut(&id).filter(|c| !c.silent) {
            let (arrived, gather) = (connection.arrived, state.gather);
            let (next, waited) = self
                .changed
                .wait_timeout_while(state, gather, |state| {
                    state.connections.get(&id).is_some_and(|c| c.arrived == arrived)
                })
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if let Some(connection) = state.connections.get_mut(&id) {
                let is_silent = waited.timed_out() && connection.arrived == arrived;
                connection.silent = is_silent && (gather.is_zero() || !connection.is_sending());
            }
        }
        state
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts clients until the proxy is dropped.
fn accept(shared: &Arc<Shared>, listener: &UnixListener, daemon: &Path) {
    for client in listener.incoming().map_while(Result::ok) {
        let (closing, refusing) = {
            let state = shared.lock();
            (state.closing, state.refusing)
        };
        if closing {
            return;
        }
        if !refusing {
            // A daemon that does not run is a connection that closes.
            drop(serve(shared, client, daemon));
        }
    }
}

/// Connects to the daemon and starts the two directions of a connection.
fn serve(shared: &Arc<Shared>, client: UnixStream, daemon: &Path) -> io::Result<()> {
    let daemon = UnixStream::connect(daemon)?;
    let to_client = Arc::new(Mutex::new(client.try_clone()?));
    let peer = getsockopt(&client, PeerCredentials)?;
    let connection = Connection {
        client: Arc::clone(&to_client),
        ends: [client.try_clone()?, daemon.try_clone()?],
        depth: 0,
        unanswered: Vec::new(),
        arrived: 0,
        arriving: false,
        silent: false,
        process: u32::try_from(peer.pid()).ok().filter(|process| *process != process::id()),
    };
    let id = {
        let mut state = shared.lock();
        state.accepted += 1;
        let id = state.accepted;
        state.connections.insert(id, connection);
        id
    };
    let [up, on, down] = [(); 3].map(|()| Arc::clone(shared));
    let (mut from_client, mut to_daemon, mut from_daemon) = (client, daemon.try_clone()?, daemon);
    // A daemon that cannot get rid of its replies need not read: what arrives must not depend on it.
    let (sender, arrived) = mpsc::channel::<Message>();
    thread::spawn(move || {
        while recv(from_client.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK).is_ok() {
            up.change(|state| {
                if let Some(connection) = state.connections.get_mut(&id) {
                    connection.arriving = true;
                }
            });
            let Ok(message) = Message::read(&mut from_client) else { break };
            if !up.arrive(id, &message) || sender.send(message).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        // Also what had arrived when the client went.
        while let Ok(message) = arrived.recv() {
            if message.write(&mut to_daemon).is_err() {
                break;
            }
        }
        close(&on, id);
    });
    thread::spawn(move || {
        while let Ok(message) = Message::read(&mut from_daemon) {
            if !down.depart(id, &message) || message.write(&mut *guard(&to_client)).is_err() {
                break;
            }
            down.changed.notify_all();
        }
        close(&down, id);
    });
    Ok(())
}

/// Ends a connection; the direction that still runs ends because its socket is closed.
fn close(shared: &Shared, id: u32) {
    shared.change(|state| {
        if let Some(connection) = state.connections.remove(&id) {
            connection.cut();
        }
    });
}
