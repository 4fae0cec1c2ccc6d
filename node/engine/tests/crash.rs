//! A node dies over any of its inputs, before or after its writes are durable, and comes back.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{Crash, World, record};
use golix::Ghid;
use hypergolix_ipc::{ApiId, ConnectionId, ErrorCode, Notice, ObjectRecord, Reply, Request};

/// Two users who go on whatever happens to their nodes.
struct Story {
    world: World,
    apps: [ConnectionId; 2],
    next_app: u64,
    shares: usize,
    deaths: usize,
    states: Vec<Vec<u8>>,
    deleted: usize,
}

impl Story {
    fn new(crash: Crash) -> Self {
        let mut world = World::new(2);
        world.crash = Some(crash);
        let mut story = Self {
            world,
            apps: [ConnectionId(0); 2],
            next_app: 0,
            shares: 0,
            deaths: 0,
            states: Vec::new(),
            deleted: 0,
        };
        story.recover();
        story
    }

    /// Connects what the death of a node ended.
    fn recover(&mut self) {
        self.listen();
        for node in 0..2 {
            while !self.alive(node) {
                self.next_app += 1;
                self.apps[node] = self.world.app(node, self.next_app);
                if node == 1 {
                    self.world.try_ask(1, self.apps[1], Request::RegisterApi(ApiId::JSON));
                }
            }
        }
        if self.world.links.is_empty() {
            self.world.connect(0, 1);
        }
        self.listen();
    }

    fn alive(&mut self, node: usize) -> bool {
        self.world.try_ask(node, self.apps[node], Request::Whoami).is_some()
    }

    fn listen(&mut self) {
        for notice in self.world.notices(1, self.apps[1]) {
            match notice {
                Notice::Share { .. } => self.shares += 1,
                Notice::Update(record) => self.states.push(record.state.to_vec()),
                Notice::Deleted(_) => self.deleted += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks until there is an answer.
    fn ask(&mut self, node: usize, request: &Request) -> Result<Reply, hypergolix_ipc::IpcError> {
        for _ in 0..5 {
            if let Some(answer) = self.world.try_ask(node, self.apps[node], request.clone()) {
                self.listen();
                return answer;
            }
            self.deaths += 1;
            self.recover();
        }
        panic!("a node dies once");
    }

    fn rest(&mut self) {
        for _ in 0..3 {
            self.recover();
            self.world.advance(Duration::from_secs(30));
        }
        self.recover();
    }
}

fn tell(crash: Crash) -> bool {
    let mut story = Story::new(crash);
    let recipient = story.world.nodes[1].account.fingerprint();
    let new = Request::New(record(b"0", true));
    let Ok(Reply::Address(object)) = story.ask(0, &new) else { panic!("made") };
    let before = story.deaths;
    assert_eq!(story.ask(0, &Request::Share { object, recipient }), Ok(Reply::Done));
    let repeated = story.deaths - before;
    let state = |story: &mut Story, node: usize, object: Ghid| match story
        .ask(node, &Request::Get(object))
    {
        Ok(Reply::Record(record)) => Ok(record.state.to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    };
    for number in 1..=4_u8 {
        let pushed = ObjectRecord { address: Some(object), ..record(&[number], false) };
        assert_eq!(story.ask(0, &Request::Update(pushed)), Ok(Reply::Done));
        assert_eq!(state(&mut story, 0, object), Ok(vec![number]));
        if number == 2 {
            story.rest();
            assert_eq!(state(&mut story, 1, object), Ok(vec![number]));
        }
    }
    let Ok(Reply::Address(copy)) = story.ask(1, &Request::Freeze(object)) else { panic!("frozen") };
    story.rest();
    assert_eq!(state(&mut story, 0, object), Ok(vec![4]), "acknowledged is kept");
    assert_eq!(state(&mut story, 1, object), Ok(vec![4]), "both sides agree");
    // Delivered once; again only to the application of another life of that node.
    let died = story.world.crash.is_none();
    let may = 1 + repeated + usize::from(died && crash.node == 1);
    assert!((1..=may).contains(&story.shares), "{} shares, {crash:?}", story.shares);
    assert!(story.states.is_sorted(), "nobody goes back: {:?}", story.states);
    match story.ask(0, &Request::Delete(object)) {
        Ok(Reply::Done) => {}
        Err(error) => assert_eq!(error.code, ErrorCode::DoesNotExist, "done before it died"),
        Ok(other) => panic!("{other:?}"),
    }
    story.rest();
    for node in 0..2 {
        assert_eq!(state(&mut story, node, object), Err(ErrorCode::DoesNotExist));
    }
    assert!(story.deleted <= 1);
    assert!(state(&mut story, 1, copy).is_ok(), "the frozen copy lives on");
    for node in 0..2 {
        let app = story.apps[node];
        if let Some(Ok(Reply::Status(status))) = story.world.try_ask(node, app, Request::Status) {
            assert!(status.contains("\"shares_owed\":0,\"shares_waiting\":0"), "{status}");
        }
    }
    assert!(story.world.closed.is_empty(), "{:?}", story.world.closed);
    died
}

#[test]
fn a_death_over_any_input_loses_nothing() {
    for node in 0..2 {
        for durable in [false, true] {
            let mut at = 1;
            while tell(Crash { node, at, durable }) {
                at += 1;
            }
            assert!(at > 30, "the story has enough in it: {at}");
        }
    }
}
