//! The traits of the `xenstore-rs` crate, for code that is written against them.
//!
//! Thin: every method is one of [`Xenstore`]'s own. The crate's transaction traits are not implemented: the span of
//! `AsyncXsTransaction` must be a blocking `Xs`, and blocking has no place on the connection's runtime.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use xenstore_rs::{AsyncWatch, AsyncXs};

use super::client::Xenstore;
use super::notice::{Mailbox, Notice};

/// Values and names are text in these traits. A value that is not UTF-8 is an error of kind `InvalidData`.
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

/// Each stream is a reader of its own, with its own bounded and merged queue. It loses no news: after a reconnect it
/// yields the watched path, which stands for everything below it. Dropping it ends its watch.
impl AsyncWatch for Xenstore {
    async fn watch(
        &self,
        path: &str,
    ) -> io::Result<impl Stream<Item = Box<str>> + Unpin + 'static> {
        // The stream exists before the watch, so that a future dropped while it waits ends the watch, too.
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
