//! A scripted daemon, for the tests: a listener whose connections say exactly what the test tells
//! them to.
//!
//! It speaks bytes, not semantics: there is no store behind it.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::transport::{self, Transport};
use super::wire::Kind;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test waits for what must not come.
const DOUBT: Duration = Duration::from_millis(50);

/// A place to listen at.
pub(super) struct Peer {
    dir: TempDir,
    listener: UnixListener,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) kind: u32,
    pub(super) req_id: u32,
    pub(super) tx_id: u32,
    pub(super) payload: Vec<u8>,
}

impl Asked {
    /// Panics unless it is a request of this kind with this payload.
    pub(super) fn is(&self, kind: Kind, payload: impl AsRef<[u8]>) -> &Self {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!((self.kind, text(&self.payload)), (kind as u32, text(payload.as_ref())));
        self
    }
}

/// One connection, seen from the daemon.
pub(super) struct Link(UnixStream);

impl Peer {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        Self { dir, listener }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::Socket(self.dir.path().join("socket"))
    }

    pub(super) async fn accept(&self) -> Link {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        Link(stream)
    }

    /// A device in place of the kernel's, and its other end.
    pub(super) fn device() -> (Transport, Link) {
        let (transport, other) = transport::device();
        other.set_nonblocking(true).unwrap();
        (transport, Link(UnixStream::from_std(other).unwrap()))
    }

    /// Stops listening: whoever connects is refused, until [`listen`](Self::listen).
    pub(super) fn vanish(self) -> TempDir {
        drop(self.listener);
        std::fs::remove_file(self.dir.path().join("socket")).unwrap();
        self.dir
    }

    pub(super) fn listen(dir: TempDir) -> Self {
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        Self { dir, listener }
    }
}

impl Link {
    /// The next request.
    pub(super) async fn asked(&mut self) -> Asked {
        soon(self.try_asked()).await.unwrap()
    }

    /// The next request, of this kind and with this payload.
    pub(super) async fn expect(&mut self, kind: Kind, payload: impl AsRef<[u8]>) -> Asked {
        let asked = self.asked().await;
        asked.is(kind, payload);
        asked
    }

    /// Panics if anything comes.
    pub(super) async fn expect_silence(&mut self) {
        if let Ok(came) = timeout(DOUBT, self.try_asked()).await {
            panic!("unexpected: {came:?}");
        }
    }

    /// Panics unless the client closes the connection.
    pub(super) async fn expect_end(&mut self) {
        assert!(soon(self.try_asked()).await.is_err());
    }

    /// A message with any header.
    pub(super) async fn send(&mut self, kind: u32, req_id: u32, tx_id: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        for field in [kind, req_id, tx_id, u32::try_from(payload.len()).unwrap()] {
            bytes.extend_from_slice(&field.to_ne_bytes());
        }
        bytes.extend_from_slice(payload);
        self.send_bytes(&bytes).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        // A client that has closed already is what some tests are about.
        let _ = self.0.write_all(bytes).await;
    }

    pub(super) async fn answer(&mut self, asked: &Asked, payload: impl AsRef<[u8]>) {
        self.send(asked.kind, asked.req_id, asked.tx_id, payload.as_ref()).await;
    }

    pub(super) async fn ok(&mut self, asked: &Asked) {
        self.answer(asked, "OK\0").await;
    }

    pub(super) async fn refuse(&mut self, asked: &Asked, errno: &str) {
        let payload = format!("{errno}\0");
        self.send(Kind::Error as u32, asked.req_id, asked.tx_id, payload.as_bytes()).await;
    }

    pub(super) async fn event(&mut self, path: &str, token: &str) {
        let payload = format!("{path}\0{token}\0");
        self.send(Kind::WatchEvent as u32, 0, 0, payload.as_bytes()).await;
    }

    async fn try_asked(&mut self) -> std::io::Result<Asked> {
        let kind = self.0.read_u32_le().await?;
        let req_id = self.0.read_u32_le().await?;
        let tx_id = self.0.read_u32_le().await?;
        let len = self.0.read_u32_le().await?;
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut payload).await?;
        Ok(Asked { kind, req_id, tx_id, payload })
    }
}

/// What must come, before patience ends.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("nothing came")
}
