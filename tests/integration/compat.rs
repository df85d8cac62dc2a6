//! The agent's xenstore client beside that of the `xenstore-rs` crate, at the same daemon: each
//! reads what the other wrote, through the crate's traits.
//!
//! The crate's clients take the daemon's socket from `XENSTORED_PATH` and from nowhere else, so each
//! test runs in a process of its own, which has that variable.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::harness::time::PATIENCE;
use crate::harness::xenstored::{Flavor, Xenstored};
use futures::StreamExt;
use pvusb_agent::host::xenstore::{Endpoint, Outcome, Xenstore};
use std::env;
use std::io;
use std::process::Command;
use tokio::time::timeout;
use xenstore_rs::tokio::XsTokio;
use xenstore_rs::unix::XsUnix;
use xenstore_rs::{AsyncWatch, AsyncXs, Xs};

/// Tells a process that it is the inside of its test: `XENSTORED_PATH` names a made-up daemon.
const INSIDE: &str = "PVUSB_TEST_INSIDE";

/// Runs the test of this name beside each daemon. The test starts itself once more, in a process
/// that has the daemon's socket in its environment: that one runs `inside`.
#[track_caller]
fn beside_each_daemon(test: &str, inside: impl Future<Output = ()>) {
    if env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(inside);
    }
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("compat::{test}")])
            .env("XENSTORED_PATH", xenstored.socket())
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flavor:?}: {said}\n{complained}");
        assert!(said.contains("1 passed"), "{flavor:?}: there is no such test: {said}");
    }
}

async fn ours() -> Xenstore {
    Xenstore::connect(Endpoint::from_env(|name| env::var_os(name))).await.unwrap()
}

async fn theirs() -> XsTokio {
    XsTokio::new().await.unwrap()
}

#[test]
fn each_client_reads_what_the_other_wrote() {
    beside_each_daemon("each_client_reads_what_the_other_wrote", async {
        let (ours, theirs) = (ours().await, theirs().await);
        let values = ["value", "", "/local/domain/0/backend/qusb/5/0", "1-1.4", "Müller \t \"x\""];
        for (value, number) in values.into_iter().zip(0..) {
            let (by_ours, by_theirs) = (format!("/ours/{number}"), format!("/theirs/{number}"));
            Xenstore::write(&ours, &by_ours, value.as_bytes()).await.unwrap();
            AsyncXs::write(&theirs, &by_theirs, value).await.unwrap();
            assert_eq!(&*AsyncXs::read(&theirs, &by_ours).await.unwrap(), value);
            assert_eq!(Xenstore::read(&ours, &by_theirs).await.unwrap(), value.as_bytes());
            assert_eq!(&*AsyncXs::read(&ours, &by_theirs).await.unwrap(), value);
        }
        let names: Vec<String> = (0..values.len()).map(|number| number.to_string()).collect();
        let seen = AsyncXs::directory(&theirs, "/ours").await.unwrap();
        assert_eq!(seen.iter().map(|name| &**name).collect::<Vec<_>>(), names);
        assert_eq!(Xenstore::directory(&ours, "/theirs").await.unwrap(), names);

        AsyncXs::rm(&theirs, "/ours").await.unwrap();
        Xenstore::rm(&ours, "/theirs").await.unwrap();
        assert!(Xenstore::read(&ours, "/ours/0").await.is_err());
        assert!(AsyncXs::read(&theirs, "/theirs/0").await.is_err());
    });
}

#[test]
fn the_blocking_client_reads_what_ours_committed() {
    beside_each_daemon("the_blocking_client_reads_what_ours_committed", async {
        let (ours, theirs) = (ours().await, XsUnix::new().unwrap());
        let committed = ours.transaction(async |t| {
            t.write("/a/b", b"1").await?;
            let early = theirs.read("/a/b").map_err(|error| error.kind());
            assert_eq!(early, Err(io::ErrorKind::NotFound), "not before the commit");
            Ok::<_, pvusb_agent::host::xenstore::Error>(Outcome::Commit(()))
        });
        timeout(PATIENCE, committed).await.unwrap().unwrap();
        assert_eq!(&*theirs.read("/a/b").unwrap(), "1");
        assert_eq!(theirs.directory("/a").unwrap(), ["b".into()]);
        theirs.write("/a/c", "2").unwrap();
        assert_eq!(Xenstore::read(&ours, "/a/c").await.unwrap(), b"2");
    });
}

/// The same questions to both, through the trait: code that is written against it cannot tell
/// them apart.
async fn questions(xs: &impl AsyncXs) -> Vec<Result<String, io::ErrorKind>> {
    let text = |answer: io::Result<Box<str>>| {
        answer.map(Into::into).map_err(|error: io::Error| error.kind())
    };
    let names = |answer: io::Result<Vec<Box<str>>>| {
        answer.map(|names| names.join(" ")).map_err(|error| error.kind())
    };
    let done =
        |answer: io::Result<()>| answer.map(|()| String::new()).map_err(|error| error.kind());
    vec![
        text(xs.read("/nowhere").await),
        names(xs.directory("/nowhere").await),
        done(xs.rm("/nowhere/deep").await),
        done(xs.write("/a/b", "value").await),
        done(xs.write("/a/c", "").await),
        text(xs.read("/a/b").await),
        text(xs.read("/a").await),
        names(xs.directory("/a").await),
        done(xs.rm("/a/b").await),
        text(xs.read("/a/b").await),
        done(xs.rm("/a").await),
    ]
}

#[test]
fn both_clients_answer_alike() {
    beside_each_daemon("both_clients_answer_alike", async {
        let (ours, theirs) = (ours().await, theirs().await);
        assert_eq!(questions(&ours).await, questions(&theirs).await);
    });
}

#[test]
fn each_client_sees_the_others_changes() {
    beside_each_daemon("each_client_sees_the_others_changes", async {
        let (ours, theirs) = (ours().await, theirs().await);
        let mut our_stream = AsyncWatch::watch(&ours, "/watched").await.unwrap();
        let mut their_stream = AsyncWatch::watch(&theirs, "/watched").await.unwrap();
        // Each watch begins with an event of its own.
        assert_eq!(
            timeout(PATIENCE, our_stream.next()).await.unwrap().as_deref(),
            Some("/watched")
        );
        assert_eq!(
            timeout(PATIENCE, their_stream.next()).await.unwrap().as_deref(),
            Some("/watched")
        );

        AsyncXs::write(&theirs, "/watched/by-theirs", "1").await.unwrap();
        let seen = timeout(PATIENCE, our_stream.next()).await.unwrap();
        assert_eq!(seen.as_deref(), Some("/watched/by-theirs"));
        let seen = timeout(PATIENCE, their_stream.next()).await.unwrap();
        assert_eq!(seen.as_deref(), Some("/watched/by-theirs"));

        Xenstore::write(&ours, "/watched/by-ours", b"1").await.unwrap();
        let seen = timeout(PATIENCE, their_stream.next()).await.unwrap();
        assert_eq!(seen.as_deref(), Some("/watched/by-ours"));
        let seen = timeout(PATIENCE, our_stream.next()).await.unwrap();
        assert_eq!(seen.as_deref(), Some("/watched/by-ours"));
    });
}
