//! The task that owns the connection: IO, reconnect and back-off.
//!
//! It moves bytes between a [`Transport`] and a [`Session`] and decides when to connect. What the
//! bytes mean is the session's business. It has a timer only while an answer is to come: an idle
//! client wakes up for nothing.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{
    UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

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

/// How long an answer may take. xenstored answers within milliseconds, and pauses for some seconds
/// when it updates itself while it runs (`tools/xenstored/lu.c`). One that says nothing for longer
/// does not serve this connection any more, and a new one may find it well.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

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
            // Counted from this attempt: a connection that lasted longer is made again at once when
            // it is lost, one that did not is not hammered.
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
        let handle = self.handle.clone();
        let mut session =
            Session::new(transport.pace(), self.epoch, handle, &mut self.watches, Instant::now());
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
                    Some(command) => session.submit(command, &mut self.watches, Instant::now()),
                    None => has_handles = false,
                },
                // Made anew in each round, so that none stays behind when nothing is asked.
                () = overdue(session.waiting_since()) => break Lost::Silent,
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

/// Waits until an answer that is waited for since then is overdue.
async fn overdue(since: Option<Instant>) {
    match since {
        Some(since) => sleep_until(since + ANSWER_DEADLINE).await,
        None => pending().await,
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

#[cfg(test)]
mod tests {
    use super::super::client::Xenstore;
    use super::super::error::During;
    use super::super::notice::{Notice, Notices};
    use super::super::peer::{Link, Peer, soon};
    use super::super::wire::{Fault, Kind};
    use super::*;

    struct Setup {
        peer: Peer,
        link: Link,
        xs: Xenstore,
        notices: Notices,
    }

    async fn open() -> Setup {
        let peer = Peer::new();
        let (xs, mut notices) = Xenstore::open(peer.endpoint());
        let link = peer.accept().await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
        Setup { peer, link, xs, notices }
    }

    async fn watched(setup: &mut Setup, path: &str) -> String {
        let reply = setup.xs.watch(path);
        let asked = setup.link.asked().await;
        let token = token_of(&asked.payload);
        asked.is(Kind::Watch, format!("{path}\0{token}\0"));
        setup.link.ok(&asked).await;
        soon(reply).await.unwrap();
        token
    }

    fn token_of(payload: &[u8]) -> String {
        let text = String::from_utf8(payload.to_vec()).unwrap();
        text.split('\0').nth(1).unwrap().to_owned()
    }

    async fn changed(notices: &mut Notices) -> (String, String) {
        match soon(notices.next()).await {
            Some(Notice::Changed { watch, path }) => (watch, path),
            other => panic!("not a change: {other:?}"),
        }
    }

    async fn disconnected(notices: &mut Notices) -> Error {
        match soon(notices.next()).await {
            Some(Notice::Disconnected(why)) => why,
            other => panic!("not a loss: {other:?}"),
        }
    }

    #[tokio::test]
    async fn events_come_between_replies_and_unknown_ones_are_nothing() {
        let mut setup = open().await;
        let token = watched(&mut setup, "/a").await;
        let Setup { mut link, xs, mut notices, .. } = setup;
        let replies = [xs.read("/1"), xs.read("/2")];
        let asked = [link.asked().await, link.asked().await];
        link.answer(&asked[1], "2").await;
        link.event("/a/x", &token).await;
        link.event("/a/x", "4711").await;
        link.event("/a/x", "no number").await;
        link.answer(&asked[0], "1").await;
        let [first, second] = replies;
        assert_eq!(soon(first).await.unwrap(), b"1");
        assert_eq!(soon(second).await.unwrap(), b"2");
        assert_eq!(changed(&mut notices).await, ("/a".into(), "/a/x".into()));
        link.event("/a/y", &token).await;
        assert_eq!(changed(&mut notices).await, ("/a".into(), "/a/y".into()));
    }

    #[tokio::test]
    async fn the_end_of_the_daemon_is_heard_at_once_by_all() {
        let Setup { peer, mut link, xs, mut notices } = open().await;
        let reply = xs.write("/a", b"1");
        link.asked().await;
        let _dir = peer.vanish();
        drop(link);
        let error = soon(reply).await.unwrap_err();
        let during = During::InFlight { what: Kind::Write, path: "/a".into() };
        assert!(
            matches!(error, Error::Disconnected { during: d, why: Lost::Closed } if d == during)
        );
        assert!(matches!(disconnected(&mut notices).await, Error::Disconnected { .. }));
        // The attempt that follows at once, or a second later, fails for another reason: that is
        // told, too.
        assert!(matches!(disconnected(&mut notices).await, Error::Connect { .. }));
        let error = soon(xs.read("/a")).await.unwrap_err();
        let during = During::Unsent { what: Kind::Read, path: "/a".into() };
        assert!(matches!(error, Error::Disconnected { during: d, .. } if d == during));
    }

    #[tokio::test(start_paused = true)]
    async fn watches_come_back_before_it_is_told() {
        let mut setup = open().await;
        let token = watched(&mut setup, "/a").await;
        let other = watched(&mut setup, "@releaseDomain").await;
        let gone = watched(&mut setup, "/gone").await;
        assert_ne!(token, gone);
        let Setup { peer, mut link, xs, mut notices } = setup;
        let reply = xs.unwatch("/gone");
        let asked = link.expect(Kind::Unwatch, format!("/gone\0{gone}\0")).await;
        link.ok(&asked).await;
        soon(reply).await.unwrap();

        drop(link);
        disconnected(&mut notices).await;
        soon(xs.watch("/wish")).await.unwrap();
        let mut link = peer.accept().await;
        let asked = [link.asked().await, link.asked().await, link.asked().await];
        asked[0].is(Kind::Watch, format!("/a\0{token}\0"));
        asked[1].is(Kind::Watch, format!("@releaseDomain\0{other}\0"));
        assert!(asked[2].payload.starts_with(b"/wish\0"));
        link.ok(&asked[0]).await;
        link.event("/a", &token).await;
        link.ok(&asked[2]).await;
        let reply = xs.read("/b");
        let read = link.expect(Kind::Read, "/b\0").await;
        link.answer(&read, "served meanwhile").await;
        soon(reply).await.unwrap();
        link.ok(&asked[1]).await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
        link.event("/a/1", &token).await;
        assert_eq!(changed(&mut notices).await, ("/a".into(), "/a/1".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_does_not_come_back_is_a_lost_connection() {
        let mut setup = open().await;
        watched(&mut setup, "/a").await;
        let Setup { peer, link, mut notices, .. } = setup;
        drop(link);
        disconnected(&mut notices).await;
        let mut link = peer.accept().await;
        let asked = link.asked().await;
        link.refuse(&asked, "EACCES").await;
        let error = disconnected(&mut notices).await;
        assert!(matches!(error, Error::Disconnected { why: Lost::Watch { .. }, .. }), "{error:?}");
        let mut link = peer.accept().await;
        let asked = link.asked().await;
        link.ok(&asked).await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
    }

    #[tokio::test]
    async fn a_refused_watch_is_no_watch_and_twice_is_once() {
        let Setup { mut link, xs, mut notices, .. } = open().await;
        let first = xs.watch("/a");
        let second = xs.watch("/a");
        let asked = link.asked().await;
        link.refuse(&asked, "EACCES").await;
        assert!(matches!(soon(first).await, Err(Error::Denied { .. })));
        assert!(matches!(soon(second).await, Err(Error::Denied { .. })));
        let third = xs.watch("/a");
        let asked = link.asked().await;
        link.ok(&asked).await;
        soon(third).await.unwrap();
        soon(xs.watch("/a")).await.unwrap();
        soon(xs.unwatch("/nothing")).await.unwrap();
        link.expect_silence().await;
        link.event("/a", &token_of(&asked.payload)).await;
        assert_eq!(changed(&mut notices).await, ("/a".into(), "/a".into()));
    }

    #[tokio::test]
    async fn a_flood_without_a_reader_stalls_nothing() {
        let mut setup = open().await;
        let token = watched(&mut setup, "/a").await;
        let Setup { mut link, xs, mut notices, .. } = setup;
        for n in 0..20_000 {
            link.event(&format!("/a/{n}"), &token).await;
        }
        let reply = xs.read("/b");
        let asked = link.asked().await;
        link.answer(&asked, "").await;
        soon(reply).await.unwrap();
        assert_eq!(changed(&mut notices).await, ("/a".into(), "/a".into()));
        link.event("/a/last", &token).await;
        assert_eq!(changed(&mut notices).await, ("/a".into(), "/a/last".into()));
    }

    #[tokio::test]
    async fn over_the_device_one_request_waits_for_the_answer_to_the_one_before() {
        let (transport, mut link) = Peer::device();
        let xs = Xenstore::over(Endpoint::Device("/dev/xen/xenbus".into()), transport);
        let replies = [xs.read("/1"), xs.read("/2")];
        let watch = xs.watch("/3");
        for n in ["1", "2"] {
            let asked = link.expect(Kind::Read, format!("/{n}\0")).await;
            link.expect_silence().await;
            link.answer(&asked, n).await;
        }
        let asked = link.asked().await;
        asked.is(Kind::Watch, format!("/3\0{}\0", token_of(&asked.payload)));
        link.ok(&asked).await;
        for (reply, value) in replies.into_iter().zip(["1", "2"]) {
            assert_eq!(soon(reply).await.unwrap(), value.as_bytes());
        }
        soon(watch).await.unwrap();
    }

    #[tokio::test]
    async fn it_reads_while_it_writes() {
        let Setup { mut link, xs, .. } = open().await;
        // More than the buffers of both directions hold, and a daemon that answers each request
        // before the next.
        let value = vec![b'x'; 2000];
        let replies: Vec<_> = (0..2000).map(|n| xs.write(&format!("/{n}"), &value)).collect();
        for _ in 0..2000 {
            let asked = link.asked().await;
            link.ok(&asked).await;
        }
        for reply in replies {
            soon(reply).await.unwrap();
        }
    }

    /// Sends bytes instead of an answer to a read, and returns the fault that was told.
    async fn fault_after(misbehave: impl AsyncFn(&mut Link, u32)) -> Fault {
        let Setup { peer, mut link, xs, mut notices } = open().await;
        let reply = xs.read("/a");
        let asked = link.asked().await;
        misbehave(&mut link, asked.req_id).await;
        let error = soon(reply).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected { why: Lost::Malformed(_), .. }), "{error:?}");
        link.expect_end().await;
        let Error::Protocol { fault } = disconnected(&mut notices).await else {
            panic!("not a fault of the protocol");
        };
        // Nothing else falls: the next connection serves.
        let mut link = peer.accept().await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
        let reply = xs.read("/a");
        let asked = link.asked().await;
        link.answer(&asked, "").await;
        soon(reply).await.unwrap();
        fault
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_does_not_answer_is_left_and_asked_anew() {
        let Setup { peer, mut link, xs, mut notices } = open().await;
        // As long as nothing is asked, nothing is owed.
        sleep(ANSWER_DEADLINE * 10).await;
        let start = Instant::now();
        let (first, second) = (xs.read("/a"), xs.read("/b"));
        let asked = [link.asked().await, link.asked().await];
        link.answer(&asked[1], "it answers others").await;
        second.await.unwrap();
        let error = first.await.unwrap_err();
        let during = During::InFlight { what: Kind::Read, path: "/a".into() };
        assert!(
            matches!(&error, Error::Disconnected { during: d, why: Lost::Silent } if *d == during),
            "{error:?}"
        );
        let waited = start.elapsed();
        assert!(waited >= ANSWER_DEADLINE && waited < ANSWER_DEADLINE * 2, "{waited:?}");
        let error = disconnected(&mut notices).await;
        assert!(matches!(error, Error::Disconnected { why: Lost::Silent, .. }), "{error:?}");
        link.expect_end().await;

        let mut link = peer.accept().await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
        let reply = xs.read("/a");
        let asked = link.asked().await;
        link.answer(&asked, "").await;
        soon(reply).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_never_sets_a_watch_again_is_left_too() {
        let mut setup = open().await;
        watched(&mut setup, "/a").await;
        let Setup { peer, link, mut notices, .. } = setup;
        drop(link);
        disconnected(&mut notices).await;
        let mut link = peer.accept().await;
        link.asked().await;
        let error = notices.next().await;
        let Some(Notice::Disconnected(error)) = error else { panic!("{error:?}") };
        assert!(matches!(error, Error::Disconnected { why: Lost::Silent, .. }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_breaks_the_protocol_is_left() {
        let read = Kind::Read as u32;
        let fault = fault_after(async |link, _| link.send_bytes(&[0xff; 64]).await).await;
        assert_eq!(fault, Fault::UnknownKind { number: u32::MAX });

        let fault = fault_after(async |link, id| link.send(read, id, 0, &[0; 4097]).await).await;
        assert_eq!(fault, Fault::TooLong { kind: Kind::Read, len: 4097, limit: 4096 });

        let fault = fault_after(async |link, id| link.send(read, id + 9, 0, b"").await).await;
        assert!(matches!(fault, Fault::UnknownRequest { .. }));

        let fault = fault_after(async |link, id| link.send(read, id, 3, b"").await).await;
        assert_eq!(fault, Fault::WrongTransaction { kind: Kind::Read, asked: 0, got: 3 });

        let rm = Kind::Rm as u32;
        let fault = fault_after(async |link, id| link.send(rm, id, 0, b"OK\0").await).await;
        assert_eq!(fault, Fault::WrongKind { asked: Kind::Read, got: Kind::Rm });

        let error = Kind::Error as u32;
        let fault = fault_after(async |link, id| link.send(error, id, 0, b"EINVAL").await).await;
        assert!(matches!(fault, Fault::Payload { kind: Kind::Error, .. }));

        let event = Kind::WatchEvent as u32;
        let fault =
            fault_after(async |link, _| link.send(event, 0, 0, b"/\xff\x001\0").await).await;
        assert!(matches!(fault, Fault::Payload { kind: Kind::WatchEvent, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_keep_their_distance() {
        let Setup { peer, link, xs: _xs, mut notices } = open().await;
        let start = Instant::now();
        drop(link);
        disconnected(&mut notices).await;
        drop(peer.accept().await);
        // The first connection was young, so even the first attempt waits.
        assert!(start.elapsed() >= FIRST_PAUSE);
        drop(peer.accept().await);
        assert!(start.elapsed() >= FIRST_PAUSE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_lasted_is_made_again_at_once() {
        let Setup { peer, link, xs: _xs, mut notices } = open().await;
        sleep(Duration::from_secs(3600)).await;
        let start = Instant::now();
        drop(link);
        disconnected(&mut notices).await;
        let _link = peer.accept().await;
        assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_is_not_there_is_waited_for() {
        let peer = Peer::new();
        let endpoint = peer.endpoint();
        let dir = peer.vanish();
        let (xs, mut notices) = Xenstore::open(endpoint);
        assert!(matches!(disconnected(&mut notices).await, Error::Connect { .. }));
        assert!(matches!(xs.read("/a").await, Err(Error::Disconnected { .. })));
        sleep(Duration::from_secs(60)).await;
        let peer = Peer::listen(dir);
        let start = Instant::now();
        let _link = peer.accept().await;
        assert!(start.elapsed() <= LAST_PAUSE);
        let next = soon(notices.next()).await;
        assert!(
            matches!(next, Some(Notice::Connected)),
            "told once, not once per attempt: {next:?}"
        );
    }

    #[tokio::test]
    async fn a_single_connection_ends_for_good() {
        let peer = Peer::new();
        let xs = Xenstore::connect(peer.endpoint()).await.unwrap();
        let mut link = peer.accept().await;
        let reply = xs.read("/a");
        link.asked().await;
        drop(link);
        assert!(matches!(soon(reply).await, Err(Error::Disconnected { .. })));
        assert!(matches!(soon(xs.watch("/a")).await, Err(Error::Disconnected { .. })));
        assert!(matches!(soon(xs.read("/a")).await, Err(Error::Disconnected { .. })));
    }

    #[tokio::test]
    async fn notices_end_with_the_last_handle() {
        let Setup { xs, mut notices, mut link, .. } = open().await;
        drop(xs);
        assert!(soon(notices.next()).await.is_none());
        link.expect_end().await;
    }
}
