//! The client against a toy node: objects, updates, shares, and a daemon that restarts.

#![cfg(all(feature = "server", feature = "client"))]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, Running, Toy, me, serve, toy, until, update};
use golix::Ghid;
use hypergolix_ipc::client::{
    HgxLink, JsonObj, LinkError, LinkOptions, LinkStatus, NewOptions, Obj, TypedObj, Update,
};
use hypergolix_ipc::limits::STATE_MAX;
use hypergolix_ipc::{ApiId, ErrorCode, Request, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn link(server: &Running) -> HgxLink {
    soon(HgxLink::connect(server.port)).await.expect("a daemon")
}

fn dynamic() -> NewOptions {
    NewOptions::default()
}

async fn state_of(updates: &mut hypergolix_ipc::client::Updates) -> Vec<u8> {
    match soon(updates.next()).await.expect("not the end") {
        Update::State(state) => state.to_vec(),
        Update::Deleted => panic!("it was deleted"),
    }
}

#[tokio::test]
async fn no_daemon_is_a_clear_error() {
    let server = toy().await.1;
    let port = server.port;
    server.stop().await;
    let error = soon(HgxLink::connect(port)).await.expect_err("nobody listens");
    assert!(matches!(error, LinkError::NoDaemon { .. }));
    assert!(error.to_string().contains("hypergolix start app"), "{error}");

    // With patience it waits.
    let options = LinkOptions { port, patience: PATIENCE, ..LinkOptions::default() };
    let waiting = tokio::spawn(HgxLink::connect_with(options));
    let toy = Arc::new(Toy::default());
    let server = serve(&toy, ServerConfig::on_port(port)).await;
    let link = soon(waiting).await.expect("no panic").expect("a daemon at last");
    assert_eq!(link.fingerprint(), me());
    server.stop().await;
}

#[tokio::test]
async fn objects_are_made_pushed_and_followed() {
    let (toy, server) = toy().await;
    let (alice, other) = (link(&server).await, link(&server).await);
    assert_eq!(soon(alice.whoami()).await.expect("alice"), me());
    assert_eq!(soon(alice.status()).await.expect("ours"), r#"{"toy":true}"#);

    let obj: Obj = soon(alice.new(&b"one"[..], dynamic())).await.expect("made");
    assert_eq!((obj.binder(), obj.legroom(), obj.dynamic()), (Some(me()), 7, true));
    assert_eq!(obj.api_id(), ApiId::OBJ);
    let copy: Obj = soon(other.get(obj.ghid())).await.expect("there");
    assert_eq!(*copy.state().expect("alive"), *b"one");

    let mut own = obj.updates();
    let mut updates = copy.updates();
    for number in 0..1_000_u32 {
        obj.set_state(number.to_be_bytes()).expect("alive");
        soon(obj.push()).await.expect("acknowledged");
        if number % 10 == 0 {
            while state_of(&mut updates).await != number.to_be_bytes() {}
            assert_eq!(*copy.state().expect("alive"), number.to_be_bytes());
        }
    }
    // The pusher is not told of its own pushes.
    assert!(timeout(Duration::from_millis(20), own.next()).await.is_err());

    // An object that is there already is the same object.
    let again: Obj = soon(other.get(obj.ghid())).await.expect("there");
    again.set_state(*b"mine").expect("alive");
    assert_eq!(*copy.state().expect("alive"), *b"mine");

    let frozen = soon(obj.freeze()).await.expect("a copy");
    assert!(!frozen.dynamic());
    assert!(matches!(soon(frozen.freeze()).await, Err(LinkError::LocallyImmutable)));
    assert!(matches!(soon(frozen.push()).await, Err(LinkError::LocallyImmutable)));
    soon(obj.hold()).await.expect("held");
    soon(obj.sync()).await.expect("asked");
    soon(obj.share(Ghid::of(b"bob"))).await.expect("shared");

    // Deleting tells the others, once, and leaves a dead object.
    soon(obj.delete()).await.expect("deleted");
    assert!(matches!(obj.state(), Err(LinkError::DeadObject)));
    loop {
        match soon(updates.next()).await {
            Some(Update::State(_)) => {}
            Some(Update::Deleted) => break,
            None => panic!("it ends with the deletion"),
        }
    }
    assert_eq!(soon(updates.next()).await, None);
    assert!(copy.is_dead());
    assert!(matches!(soon(copy.push()).await, Err(LinkError::DeadObject)));
    let error = soon(other.get::<Obj>(obj.ghid())).await.expect_err("gone");
    assert!(
        matches!(&error, LinkError::Refused(error) if error.code == ErrorCode::DoesNotExist),
        "{error}"
    );
    let errors = soon(alice.new::<Obj>(&vec![0; STATE_MAX + 1], dynamic())).await;
    assert!(matches!(errors, Err(LinkError::StateTooLarge(_))));
    drop(toy);
    server.stop().await;
}

#[tokio::test]
async fn somebody_elses_and_private_objects() {
    let (toy, server) = toy().await;
    let link = link(&server).await;
    let private = NewOptions { private: true, ..dynamic() };
    let secret: Obj = soon(link.new(&b"s"[..], private)).await.expect("made");
    assert!(secret.private());
    assert!(matches!(soon(secret.share(me())).await, Err(LinkError::Unsharable)));
    secret.make_public().expect("alive");
    soon(secret.push()).await.expect("public now");
    soon(secret.share(me())).await.expect("shared");

    let foreign = Ghid::of(b"foreign");
    let mut record = update(foreign, b"f");
    (record.author, record.dynamic) = (Some(Ghid::of(b"bob")), true);
    toy.state().objects.insert(foreign, record);
    let foreign: Obj = soon(link.get(foreign)).await.expect("there");
    assert!(!foreign.is_mine());
    assert!(matches!(soon(foreign.push()).await, Err(LinkError::LocallyImmutable)));
    server.stop().await;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Status {
    host: String,
    load: u32,
}

#[tokio::test]
async fn json_and_typed_objects() {
    let (_toy, server) = toy().await;
    let (alice, other) = (link(&server).await, link(&server).await);
    let value = serde_json::json!({"a": [1, null], "ü": "x"});
    let json: JsonObj = soon(alice.new(&value, dynamic())).await.expect("made");
    assert_eq!(json.api_id(), ApiId::JSON);
    assert_eq!(*json.state().expect("alive"), *br#"{"a":[1,null],"\u00fc":"x"}"#);
    assert_eq!(json.value().expect("json"), value);

    let status = Status { host: "h".to_owned(), load: 1 };
    let obj: TypedObj<Status> = soon(alice.new(&status, dynamic())).await.expect("made");
    let copy: TypedObj<Status> = soon(other.get(obj.ghid())).await.expect("there");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    copy.on_update(move |update| {
        let sink = Arc::clone(&sink);
        async move { sink.lock().expect("no panic").push(update) }
    });
    obj.set(&Status { load: 2, ..status }).expect("alive");
    soon(obj.push()).await.expect("acknowledged");
    until("it arrives", || !seen.lock().expect("no panic").is_empty()).await;
    let status = Status { host: "h".to_owned(), load: 2 };
    assert_eq!(*seen.lock().expect("no panic"), [Update::State(status)]);

    // Not a Status: left out, and the next one arrives.
    let mut updates = copy.updates();
    obj.set_state(*b"[]").expect("alive");
    soon(obj.push()).await.expect("acknowledged");
    assert!(matches!(soon(updates.next()).await, Some(Err(LinkError::Unreadable(_)))));
    let other_kind = soon(other.get::<TypedObj<u8>>(json.ghid())).await;
    assert!(matches!(other_kind, Err(LinkError::Unreadable(_))));
    server.stop().await;
}

#[tokio::test]
async fn shares_find_their_handler() {
    let (_toy, server) = toy().await;
    let (alice, other) = (link(&server).await, link(&server).await);
    let mut shares = soon(other.shares(ApiId::OBJ)).await.expect("registered");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    soon(other.register_share_handler(ApiId::JSON, move |share| {
        let sink = Arc::clone(&sink);
        async move { sink.lock().expect("no panic").push(share.ghid) }
    }))
    .await
    .expect("registered");
    let mut made = Vec::new();
    for number in 0..50_u8 {
        let obj: Obj = soon(alice.new(&[number][..], dynamic())).await.expect("made");
        let json: JsonObj = soon(alice.new(&number.into(), dynamic())).await.expect("made");
        let share = soon(shares.next()).await.expect("not the end");
        assert_eq!((share.ghid, share.origin), (obj.ghid(), me()));
        // The object can be had from within.
        let got: Obj = soon(other.get(share.ghid)).await.expect("there");
        assert_eq!(*got.state().expect("alive"), [number]);
        made.push(json.ghid());
    }
    until("all arrive", || seen.lock().expect("no panic").len() == made.len()).await;
    assert_eq!(*seen.lock().expect("no panic"), made);
    soon(other.deregister_share_handler(ApiId::OBJ)).await.expect("deregistered");
    assert_eq!(soon(shares.next()).await, None);
    server.stop().await;
}

#[tokio::test]
async fn tokens_and_startup_objects() {
    let (_toy, server) = toy().await;
    let first = link(&server).await;
    assert!(soon(first.register_startup(me())).await.is_err());
    assert_eq!(soon(first.register_token(None)).await.expect("a token"), None);
    let token = first.token().expect("registered");
    assert!(soon(first.register_token(None)).await.is_err());
    soon(first.register_startup(me())).await.expect("set");

    let second = link(&server).await;
    assert!(soon(second.register_token(Some(token))).await.is_err(), "it is in use");
    soon(first.stop()).await;
    assert!(matches!(soon(first.whoami()).await, Err(LinkError::Stopped)));
    let mut startup = soon(second.register_token(Some(token))).await;
    while startup.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
        startup = soon(second.register_token(Some(token))).await;
    }
    assert_eq!(startup.expect("it is free"), Some(me()));
    soon(second.deregister_startup()).await.expect("cleared");
    assert_eq!(soon(second.startup()).await.expect("has a token"), None);
    server.stop().await;
}

#[tokio::test]
async fn the_last_handle_ends_the_updates() {
    let (toy, server) = toy().await;
    let link = link(&server).await;
    let obj: Obj = soon(link.new(&b"1"[..], dynamic())).await.expect("made");
    let ghid = obj.ghid();
    let mut updates = obj.updates();
    drop(obj.clone());
    assert!(toy.state().connections.values().any(|app| app.tracks.contains(&ghid)));
    drop(obj);
    assert_eq!(soon(updates.next()).await, None);
    until("it is discarded", || {
        !toy.state().connections.values().any(|app| app.tracks.contains(&ghid))
    })
    .await;
    // Dropped and wanted again at once, many times over: it ends up followed.
    for _ in 0..100 {
        let obj: Obj = soon(link.get(ghid)).await.expect("there");
        drop(obj);
    }
    let obj: Obj = soon(link.get(ghid)).await.expect("there");
    soon(link.whoami()).await.expect("whatever was queued is done");
    let mut updates = obj.updates();
    toy.state().fan_out(&update(ghid, b"2"), None);
    assert_eq!(state_of(&mut updates).await, b"2");
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_daemon_is_found_again() {
    let (toy, mut server) = toy().await;
    let port = server.port;
    let link = link(&server).await;
    soon(link.register_token(None)).await.expect("a token");
    let mut shares = soon(link.shares(ApiId::OBJ)).await.expect("registered");
    let obj: Obj = soon(link.new(&b"0"[..], dynamic())).await.expect("made");
    let doomed: Obj = soon(link.new(&b"0"[..], dynamic())).await.expect("made");
    let mut updates = obj.updates();
    let mut last = doomed.updates();
    let mut connection = link.connection();

    for round in 0..5_u8 {
        if round % 2 == 0 {
            server.stop().await;
        } else {
            server.kill().await;
        }
        soon(connection.wait_for(|now| *now == LinkStatus::Connecting)).await.expect("alive");
        {
            // Meanwhile: a new state, a deletion.
            let mut node = toy.state();
            let record = node.objects.get_mut(&obj.ghid()).expect("there");
            record.state = [round; 3].into();
            node.objects.remove(&doomed.ghid());
            // An aborted server does not say goodbye to its service.
            node.connections.clear();
        }
        // A call made meanwhile waits.
        let asking = {
            let link = link.clone();
            tokio::spawn(async move { link.whoami().await })
        };
        server = serve(&toy, ServerConfig::on_port(port)).await;
        soon(connection.wait_for(|now| *now == LinkStatus::Connected)).await.expect("alive");
        assert_eq!(soon(asking).await.expect("no panic").expect("answered"), me());

        // What changed meanwhile arrives as an update, and so does what changes later.
        assert_eq!(state_of(&mut updates).await, [round; 3]);
        toy.state().fan_out(&update(obj.ghid(), &[round; 4]), None);
        assert_eq!(state_of(&mut updates).await, [round; 4]);
        if round == 0 {
            assert_eq!(soon(last.next()).await, Some(Update::Deleted));
            assert!(doomed.is_dead());
        }
        // Token and api ids are back.
        let token = link.token();
        assert!(toy.state().connections.values().any(|app| app.token == token));
        let other = soon(HgxLink::connect(port)).await.expect("a daemon");
        let made: Obj = soon(other.new(&b"x"[..], dynamic())).await.expect("made");
        assert_eq!(soon(shares.next()).await.expect("a share").ghid, made.ghid());
        soon(obj.push()).await.expect("it goes on");
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_under_way_are_repeated_unless_that_is_unsafe() {
    let (toy, server) = toy().await;
    let port = server.port;
    let link = link(&server).await;
    let obj: Obj = soon(link.new(&b"0"[..], dynamic())).await.expect("made");
    let mut updates = obj.updates();
    toy.state().mute = true;
    obj.set_state(*b"pushed").expect("alive");
    let pushing = {
        let obj = obj.clone();
        tokio::spawn(async move { obj.push().await })
    };
    let making = {
        let link = link.clone();
        tokio::spawn(async move { link.new::<Obj>(&b"1"[..], dynamic()).await })
    };
    let deleted = Ghid::of(b"deleted");
    toy.state().objects.insert(deleted, {
        let mut r = update(deleted, b"");
        r.author = Some(me());
        r
    });
    until("both are under way", || {
        let node = toy.state();
        let pushes = node.requests.iter().filter(|r| matches!(r, Request::Update(_))).count();
        let news = node.requests.iter().filter(|r| matches!(r, Request::New(_))).count();
        (pushes, news) == (1, 2)
    })
    .await;
    // The push was lost with the daemon.
    server.kill().await;
    {
        let mut node = toy.state();
        node.mute = false;
        node.connections.clear();
        node.objects.get_mut(&obj.ghid()).expect("there").state = (*b"before").into();
    }
    let server = serve(&toy, ServerConfig::on_port(port)).await;
    soon(pushing).await.expect("no panic").expect("repeated");
    assert_eq!(*toy.state().objects[&obj.ghid()].state, *b"pushed");
    let error = soon(making).await.expect("no panic").expect_err("it may have happened");
    assert!(matches!(error, LinkError::ConnectionLost));
    // The application's own state did not go back meanwhile.
    soon(link.whoami()).await.expect("connected");
    assert_eq!(*obj.state().expect("alive"), *b"pushed");
    assert!(timeout(Duration::from_millis(50), updates.next()).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_push_that_crosses_an_update_wins() {
    let (toy, server) = toy().await;
    let link = link(&server).await;
    let obj: Obj = soon(link.new(&b"0"[..], dynamic())).await.expect("made");
    let mut updates = obj.updates();
    obj.set_state(*b"mine").expect("alive");
    // The other's state is told first, and ours is stored after it.
    toy.state().fan_out(&update(obj.ghid(), b"theirs"), None);
    soon(obj.push()).await.expect("acknowledged");
    let pushed = toy.state().objects[&obj.ghid()].state.clone();
    assert_eq!(obj.state().expect("alive"), pushed);
    assert_eq!(state_of(&mut updates).await, b"theirs");
    if *pushed == *b"mine" {
        assert_eq!(state_of(&mut updates).await, b"mine");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_calls_at_once() {
    let (_toy, server) = toy().await;
    let link = link(&server).await;
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { link.whoami().await })
        })
        .collect();
    for call in calls {
        assert_eq!(soon(call).await.expect("no panic").expect("answered"), me());
    }
    server.stop().await;
}

#[tokio::test]
async fn large_objects_go_both_ways() {
    let (_toy, server) = toy().await;
    let (alice, other) = (link(&server).await, link(&server).await);
    let obj: Obj = soon(alice.new(&[1; 100][..], dynamic())).await.expect("made");
    let copy: Obj = soon(other.get(obj.ghid())).await.expect("there");
    let mut updates = copy.updates();
    for round in 0..3 {
        obj.set_state(vec![round; STATE_MAX]).expect("alive");
        soon(obj.push()).await.expect("acknowledged");
        assert_eq!(state_of(&mut updates).await, vec![round; STATE_MAX]);
    }
    assert!(matches!(obj.set_state(vec![0; STATE_MAX + 1]), Err(LinkError::StateTooLarge(_))));
    server.stop().await;
}
