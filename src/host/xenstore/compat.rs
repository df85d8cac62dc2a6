//! The traits of the `xenstore-rs` crate, for code that is written against them.
//!
//! Thin: every method is one of [`Xenstore`]'s own. The crate's transaction traits are not
//! implemented: the span of `AsyncXsTransaction` must be a blocking `Xs`, and blocking has no place
//! on the connection's runtime.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use xenstore_rs::{AsyncWatch, AsyncXs};

use super::client::Xenstore;
use super::notice::{Mailbox, Notice};

/// Values and names are text in these traits. A value that is not UTF-8 is an error of kind
/// `InvalidData`.
impl AsyncXs for Xenstore {
    async fn directory(&self, path: &str) -> io::Result<Vec<Box<str>>> {
        let names = Self::directory(self, path).await?;
        Ok(names.into_iter().map(String::into_boxed_str).collect())
    }

    async fn read(&self, path: &str) -> io::Result<Box<str>> {
        let value = Self::read(self, path).await?;
        let text = String::from_utf8(value)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(text.into_boxed_str())
    }

    async fn write(&self, path: &str, data: &str) -> io::Result<()> {
        Ok(Self::write(self, path, data.as_bytes()).await?)
    }

    async fn rm(&self, path: &str) -> io::Result<()> {
        Ok(Self::rm(self, path).await?)
    }
}

/// Each stream is a reader of its own, with its own bounded and merged queue. Its first item is the
/// watched path. It loses no news: after a reconnect, and after a flood, it yields the watched path
/// again, which stands for everything below it. Dropping it ends its watch.
impl AsyncWatch for Xenstore {
    async fn watch(
        &self,
        path: &str,
    ) -> io::Result<impl Stream<Item = Box<str>> + Unpin + 'static> {
        // The stream exists before the watch, so that a future dropped while it waits ends the
        // watch, too.
        let changes = Changes {
            client: self.clone(),
            path: path.to_owned(),
            mailbox: Mailbox::for_changes(),
        };
        self.watch_for(path, &changes.mailbox).await?;
        Ok(changes)
    }
}

/// The stream of one watch.
struct Changes {
    client: Xenstore,
    path: String,
    mailbox: Arc<Mailbox>,
}

impl Stream for Changes {
    type Item = Box<str>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.mailbox.poll_take(context)) {
                Some(Notice::Changed { path, .. }) => {
                    return Poll::Ready(Some(path.into_boxed_str()));
                }
                // This mailbox is not told about the connection.
                Some(Notice::Connected | Notice::Disconnected(_)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.mailbox.abandon();
        // Nobody needs the answer: without a reader there is nobody to tell.
        drop(self.client.unwatch_for(&self.path, &self.mailbox));
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::super::notice::Notice;
    use super::super::peer::{Asked, Peer, soon};
    use super::super::wire::Kind;
    use super::*;

    fn token_of(asked: &Asked) -> String {
        let text = String::from_utf8(asked.payload.clone()).unwrap();
        text.split('\0').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn errors_become_system_errors() {
        let peer = Peer::new();
        let xs = Xenstore::connect(peer.endpoint()).await.unwrap();
        let mut link = peer.accept().await;
        let daemon = async {
            let asked = link.expect(Kind::Read, "/a\0").await;
            link.answer(&asked, b"\xff").await;
            let asked = link.expect(Kind::Read, "/b\0").await;
            link.refuse(&asked, "ENOENT").await;
            let asked = link.expect(Kind::Write, "/c\0v").await;
            link.ok(&asked).await;
        };
        let client = async {
            let kind = |result: io::Result<Box<str>>| result.unwrap_err().kind();
            assert_eq!(kind(AsyncXs::read(&xs, "/a").await), io::ErrorKind::InvalidData);
            assert_eq!(kind(AsyncXs::read(&xs, "/b").await), io::ErrorKind::NotFound);
            AsyncXs::write(&xs, "/c", "v").await.unwrap();
        };
        soon(futures::future::join(daemon, client)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_readers_of_their_own() {
        let peer = Peer::new();
        let (xs, mut notices) = Xenstore::open(peer.endpoint());
        let mut link = peer.accept().await;
        assert!(matches!(soon(notices.next()).await, Some(Notice::Connected)));

        let (stream, asked) = soon(futures::future::join(AsyncWatch::watch(&xs, "/a"), async {
            let asked = link.asked().await;
            link.ok(&asked).await;
            asked
        }))
        .await;
        let mut stream = stream.unwrap();
        let token = token_of(&asked);
        link.event("/a", &token).await;
        assert_eq!(soon(stream.next()).await.as_deref(), Some("/a"));

        // A second reader shares the daemon's watch, and has its first change, too.
        soon(xs.watch("/a")).await.unwrap();
        assert!(matches!(soon(notices.next()).await, Some(Notice::Changed { .. })));
        link.event("/a/1", &token).await;
        assert_eq!(soon(stream.next()).await.as_deref(), Some("/a/1"));
        assert!(matches!(soon(notices.next()).await, Some(Notice::Changed { .. })));

        // What a stream has not read yet outlives the connection.
        link.event("/a/2", &token).await;
        drop(link);
        assert!(matches!(soon(notices.next()).await, Some(Notice::Disconnected(_))));
        let mut link = peer.accept().await;
        let asked = link.expect(Kind::Watch, format!("/a\0{token}\0")).await;
        link.ok(&asked).await;
        link.event("/a", &token).await;
        assert_eq!(soon(stream.next()).await.as_deref(), Some("/a/2"));
        assert_eq!(soon(stream.next()).await.as_deref(), Some("/a"));

        drop(stream);
        link.expect_silence().await;
        let reply = xs.unwatch("/a");
        let asked = link.expect(Kind::Unwatch, format!("/a\0{token}\0")).await;
        link.ok(&asked).await;
        soon(reply).await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_of_a_single_connection_ends_with_it() {
        let peer = Peer::new();
        let xs = Xenstore::connect(peer.endpoint()).await.unwrap();
        let mut link = peer.accept().await;
        let (stream, ()) = soon(futures::future::join(AsyncWatch::watch(&xs, "/a"), async {
            let asked = link.asked().await;
            link.ok(&asked).await;
        }))
        .await;
        drop(link);
        assert!(soon(stream.unwrap().next()).await.is_none());
    }
}
