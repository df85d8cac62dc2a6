//! The harness itself: whether its parts are what they say. Nothing of the agent is tested here.

use crate::harness::time::{PATIENCE, wait_until};
use crate::harness::xenstored::{Flavor, Lost, Op, Proxy, RawClient, Xenstored};

#[test]
fn both_daemons_store_and_forget() {
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let mut client = xenstored.client();
        client.write("/a/b", "value").unwrap();
        assert_eq!(client.read("/a/b").unwrap(), b"value", "{flavor:?}");
        assert_eq!(client.directory("/a").unwrap(), ["b"], "{flavor:?}");
        assert_eq!(client.perms("/a/b").unwrap(), ["n0"], "{flavor:?}");

        let first = xenstored.pid().unwrap();
        xenstored.kill();
        client.read("/a/b").expect_err("the connection is gone");
        xenstored.restart();
        assert_ne!(xenstored.pid(), Some(first));
        assert_eq!(xenstored.client().get("/a/b").unwrap(), None, "{flavor:?}");
    }
}

#[test]
fn domains_come_and_go_in_both_daemons() {
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let mut client = xenstored.client();
        client.watch("@introduceDomain", "in").unwrap();
        client.watch("@releaseDomain", "out").unwrap();
        let next = |client: &mut RawClient| client.event().unwrap().1;
        assert_eq!([next(&mut client), next(&mut client)], ["in", "out"], "initial, {flavor:?}");

        xenstored.introduce(7);
        assert_eq!(next(&mut client), "in", "{flavor:?}");
        assert!(client.is_introduced(7).unwrap(), "{flavor:?}");

        client.write("/local/domain/7/data", "").unwrap();
        client.set_perms("/local/domain/7/data", &["n7"]).unwrap();
        xenstored.shutdown_domain(7);
        assert_eq!(next(&mut client), "out", "{flavor:?}");
        assert!(client.is_introduced(7).unwrap(), "{flavor:?}");

        xenstored.kill_domain(7);
        assert_eq!(next(&mut client), "out", "{flavor:?}");
        assert!(!client.is_introduced(7).unwrap(), "{flavor:?}");
    }
}

#[test]
fn transactions_conflict_in_both_daemons() {
    for flavor in Flavor::BOTH {
        let xenstored = Xenstored::start(flavor);
        let mut other = xenstored.client();
        other.write("/counter", "0").unwrap();
        let mut tries = 0;
        xenstored
            .client()
            .transact(|client| {
                tries += 1;
                let seen = client.get("/counter")?.unwrap();
                if tries == 1 {
                    other.write("/counter", "5")?;
                }
                client.write("/counter", format!("{seen}1"))
            })
            .unwrap();
        assert_eq!(
            (tries, other.get("/counter").unwrap().as_deref()),
            (2, Some("51")),
            "{flavor:?}"
        );
    }
}

#[test]
fn the_random_eagain_is_random() {
    let xenstored = Xenstored::start(Flavor::OCamlRandomEagain);
    let mut client = xenstored.client();
    let (mut tries, mut commits) = (0, 0);
    wait_until(PATIENCE, "a transaction that fails without a conflict", || {
        commits += 1;
        let write = |client: &mut RawClient| {
            tries += 1;
            client.write("/a", "b")
        };
        client.transact(write).unwrap();
        tries > commits
    });
}

#[test]
fn the_proxy_counts_dependent_round_trips() {
    let xenstored = Xenstored::start(Flavor::C);
    let proxy = Proxy::start(xenstored.socket());
    let mut client = RawClient::connect(proxy.socket()).unwrap();

    for n in 0..5 {
        client.write(&format!("/serial/{n}"), "").unwrap();
    }
    assert_eq!((proxy.round_trips(), proxy.count(Op::WRITE)), (5, 5));

    proxy.reset();
    let burst: Vec<u32> = (0..50)
        .map(|n| client.send(Op::READ, format!("/serial/{n}\0").as_bytes()).unwrap())
        .collect();
    for request in burst {
        client.receive(request).unwrap();
    }
    assert_eq!((proxy.round_trips(), proxy.count(Op::READ)), (1, 50));
    assert_eq!(proxy.requests()[3].path(), "/serial/3");

    proxy.reset();
    client.transact(|client| client.mkdir("/made")).unwrap();
    let ops: Vec<_> = proxy.requests().iter().map(|r| (r.op, r.transaction != 0)).collect();
    assert_eq!(
        ops,
        [(Op::TRANSACTION_START, false), (Op::MKDIR, true), (Op::TRANSACTION_END, true)]
    );
    assert_eq!(proxy.round_trips(), 3);
}

#[test]
fn the_proxy_loses_the_request_or_the_reply() {
    let xenstored = Xenstored::start(Flavor::C);
    let proxy = Proxy::start(xenstored.socket());
    for (lost, path, done) in [(Lost::Request, "/request", None), (Lost::Reply, "/reply", Some(""))]
    {
        let mut client = RawClient::connect(proxy.socket()).unwrap();
        proxy.cut_after(1, lost);
        client.write("/before", "").unwrap();
        client.write(path, "").expect_err("the connection is cut");
        assert!(!proxy.is_armed());
        assert_eq!(xenstored.client().get(path).unwrap().as_deref(), done, "{lost:?}");
    }
}

#[test]
fn the_proxy_pauses_injects_cuts_and_refuses() {
    let xenstored = Xenstored::start(Flavor::OCaml);
    let proxy = Proxy::start(xenstored.socket());
    let mut client = RawClient::connect(proxy.socket()).unwrap();

    proxy.pause();
    let request = client.send(Op::MKDIR, b"/held\0").unwrap();
    wait_until(PATIENCE, "the daemon has done it", || {
        xenstored.client().get("/held").unwrap().is_some()
    });
    proxy.resume();
    assert_eq!(client.receive(request).unwrap().op, Op::MKDIR);

    proxy.inject(&[0xff; 16]);
    client.get("/held").expect_err("garbage is no reply");

    let mut client = RawClient::connect(proxy.socket()).unwrap();
    client.mkdir("/x").unwrap();
    proxy.refuse(true);
    proxy.cut();
    client.get("/x").expect_err("the connection is cut");
    let refused = RawClient::connect(proxy.socket()).and_then(|mut c| c.request(Op::READ, b"/x\0"));
    refused.expect_err("new connections are closed");
    proxy.refuse(false);
    RawClient::connect(proxy.socket()).unwrap().mkdir("/x").unwrap();
}
