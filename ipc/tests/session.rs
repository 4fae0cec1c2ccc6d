//! Two sessions face to face: reordered, dropped, flooded, and late.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use golix::Ghid;
use hypergolix_ipc::limits::{IN_FLIGHT_MAX, LET_GO_DEADLINE, NOTICE_DEADLINE, NOTICES_OPEN_MAX};
use hypergolix_ipc::session::{
    AppReceived, AppSession, DaemonReceived, DaemonSession, LetGo, Overdue,
};
use hypergolix_ipc::{
    ApiId, FrameError, IpcError, Notice, NoticeId, ObjectRecord, Reply, Request, RequestToken,
};

fn update(name: &[u8]) -> Notice {
    Notice::Update(ObjectRecord {
        address: Some(Ghid::of(name)),
        author: None,
        private: false,
        dynamic: true,
        legroom: 7,
        api: ApiId::OBJ,
        link: false,
        state: name.into(),
    })
}

fn share(api: ApiId) -> Notice {
    Notice::Share { object: Ghid::of(b"o"), origin: Ghid::of(b"u"), api }
}

fn asked(daemon: &mut DaemonSession, bytes: &[u8], now: Instant) -> (RequestToken, Request) {
    match daemon.receive(bytes, now) {
        Ok(DaemonReceived::Request { token, request }) => (token, request),
        other => panic!("not a request: {other:?}"),
    }
}

#[test]
fn answers_in_any_order_find_their_request() {
    let now = Instant::now();
    let (mut app, mut daemon) = (AppSession::new(), DaemonSession::new());
    let mut open = Vec::new();
    for number in 0..IN_FLIGHT_MAX {
        let object = Ghid::of(&number.to_be_bytes());
        let bytes = app.ask(Request::Freeze(object), number);
        open.push((number, asked(&mut daemon, &bytes, now)));
    }
    assert!(!app.has_room());
    open.reverse();
    for (number, (token, request)) in open {
        let Request::Freeze(object) = request else { panic!("it was a freeze") };
        let answer = if number % 2 == 0 {
            Ok(Reply::Address(object))
        } else {
            Err(IpcError::application(number.to_string()))
        };
        let bytes = daemon.answer(token, &answer, now);
        let Ok(AppReceived::Answer { waiter, answer, .. }) = app.receive(&bytes) else {
            panic!("not an answer")
        };
        assert_eq!(waiter, number);
        match answer {
            Ok(reply) => assert_eq!(reply, Reply::Address(object)),
            Err(error) => assert!(error.to_string().starts_with(&number.to_string())),
        }
    }
    assert_eq!(app.in_flight(), 0);
}

#[test]
fn both_directions_may_use_one_number() {
    let now = Instant::now();
    let (mut app, mut daemon) = (AppSession::new(), DaemonSession::new());
    let request = app.ask(Request::Whoami, ());
    let notice = daemon.notify(vec![NoticeId(1)], &update(b"a"), now).expect("room");
    assert_eq!(request[4..6], notice[4..6]);

    let Ok(AppReceived::Notice { token, notice }) = app.receive(&notice) else {
        panic!("a notice")
    };
    let acknowledgement = Notice::acknowledge(notice.code(), token);
    assert_eq!(
        daemon.receive(&acknowledgement, now),
        Ok(DaemonReceived::Acknowledged { notices: vec![NoticeId(1)], accepted: true })
    );
    // The second time it answers nothing.
    assert_eq!(daemon.receive(&acknowledgement, now), Ok(DaemonReceived::Stray));

    let (token, request) = asked(&mut daemon, &request, now);
    assert_eq!(request, Request::Whoami);
    let bytes = daemon.answer(token, &Ok(Reply::Fingerprint(Ghid::of(b"me"))), now);
    assert!(matches!(app.receive(&bytes), Ok(AppReceived::Answer { .. })));
    assert!(matches!(app.receive(&bytes), Ok(AppReceived::Stray)));
}

#[test]
fn numbers_in_use_are_not_given_again() {
    let now = Instant::now();
    let (mut app, mut daemon) = (AppSession::new(), DaemonSession::new());
    let first = app.ask(Request::Whoami, 0);
    for round in 1..=70_000_u32 {
        let bytes = app.ask(Request::Status, round);
        assert_ne!(bytes[4..6], first[4..6]);
        let (token, _) = asked(&mut daemon, &bytes, now);
        let bytes = daemon.answer(token, &Ok(Reply::Status(String::new())), now);
        let Ok(AppReceived::Answer { waiter, .. }) = app.receive(&bytes) else { panic!("answer") };
        assert_eq!(waiter, round);
    }
}

#[test]
fn open_notices_are_bounded_and_distinct() {
    let now = Instant::now();
    let mut daemon = DaemonSession::new();
    let mut tokens = HashSet::new();
    for number in 0..NOTICES_OPEN_MAX as u64 {
        let bytes = daemon.notify(vec![NoticeId(number)], &update(b"a"), now).expect("room");
        assert!(tokens.insert([bytes[4], bytes[5]]));
    }
    assert_eq!(daemon.notify(vec![NoticeId(0)], &update(b"a"), now), None);
    assert_eq!(daemon.open_notices(), NOTICES_OPEN_MAX);
}

#[test]
fn what_was_under_way_comes_back_in_order() {
    let mut app = AppSession::new();
    let names: Vec<_> = (0..100_u8).map(|number| Ghid::of(&[number])).collect();
    for name in &names {
        app.ask(Request::Get(*name), ());
    }
    let again: Vec<_> = app.into_waiting().into_iter().map(|(request, ())| request).collect();
    assert_eq!(again, names.into_iter().map(Request::Get).collect::<Vec<_>>());
}

#[test]
fn a_notice_without_answer_is_overdue_after_its_deadline() {
    let now = Instant::now();
    let mut daemon = DaemonSession::new();
    daemon.notify(vec![NoticeId(1)], &update(b"a"), now).expect("room");
    // The time runs from when it left.
    assert_eq!(daemon.deadline(), None);
    daemon.flushed(now + Duration::from_secs(5));
    let due = now + Duration::from_secs(5) + NOTICE_DEADLINE;
    assert_eq!(daemon.deadline(), Some(due));
    assert_eq!(daemon.overdue(due.checked_sub(Duration::from_millis(1)).expect("later")), None);
    assert_eq!(daemon.overdue(due), Some(Overdue::Silent));
}

#[test]
fn who_works_through_a_long_queue_is_not_overdue() {
    let mut now = Instant::now();
    let (mut app, mut daemon) = (AppSession::<()>::new(), DaemonSession::new());
    let notices: Vec<_> = (0..100)
        .map(|id| daemon.notify(vec![NoticeId(id)], &update(b"a"), now).expect("room"))
        .collect();
    daemon.flushed(now);
    for bytes in notices {
        now += NOTICE_DEADLINE / 2;
        assert_eq!(daemon.overdue(now), None);
        let Ok(AppReceived::Notice { token, notice }) = app.receive(&bytes) else {
            panic!("a notice")
        };
        daemon.receive(&Notice::acknowledge(notice.code(), token), now).expect("a header");
    }
    assert_eq!(daemon.deadline(), None);
}

#[test]
fn an_application_that_let_go_is_recognized() {
    let now = Instant::now();
    for (notice, request, subject) in [
        (update(b"a"), Request::Discard(Ghid::of(b"a")), LetGo::Object(Ghid::of(b"a"))),
        (share(ApiId::JSON), Request::DeregisterApi(ApiId::JSON), LetGo::Handler(ApiId::JSON)),
    ] {
        let (mut app, mut daemon) = (AppSession::new(), DaemonSession::new());
        daemon.notify(vec![NoticeId(1)], &notice, now).expect("room");
        daemon.flushed(now);
        let (token, _) = asked(&mut daemon, &app.ask(request, ()), now);
        // Not before the request was answered.
        assert_eq!(daemon.overdue(now + LET_GO_DEADLINE), None);
        daemon.answer(token, &Ok(Reply::Done), now);
        assert_eq!(daemon.deadline(), Some(now + LET_GO_DEADLINE));
        assert_eq!(daemon.overdue(now + LET_GO_DEADLINE), Some(Overdue::LetGo(subject)));
    }
}

#[test]
fn discarding_in_a_callback_is_no_reason() {
    let now = Instant::now();
    let (mut app, mut daemon) = (AppSession::new(), DaemonSession::new());
    let notice = daemon.notify(vec![NoticeId(1)], &update(b"a"), now).expect("room");
    daemon.flushed(now);
    let discard = app.ask(Request::Discard(Ghid::of(b"a")), ());
    let (token, _) = asked(&mut daemon, &discard, now);
    daemon.answer(token, &Ok(Reply::Done), now);
    let Ok(AppReceived::Notice { token, notice }) = app.receive(&notice) else { panic!("notice") };
    daemon.receive(&Notice::acknowledge(notice.code(), token), now).expect("a header");
    assert_eq!(daemon.deadline(), None);
    assert_eq!(daemon.overdue(now + Duration::from_secs(3_600)), None);
    // Another object's or a later one's discard is no reason either.
    daemon.notify(vec![NoticeId(2)], &update(b"b"), now).expect("room");
    daemon.flushed(now);
    let discard = app.ask(Request::Discard(Ghid::of(b"a")), ());
    let (token, _) = asked(&mut daemon, &discard, now);
    daemon.answer(token, &Ok(Reply::Done), now);
    assert_eq!(daemon.overdue(now + LET_GO_DEADLINE), None);
}

#[test]
fn messages_without_header_are_errors() {
    let now = Instant::now();
    for len in 0..6 {
        assert_eq!(
            DaemonSession::new().receive(&[0; 6][..len], now),
            Err(FrameError::TooShort(len))
        );
    }
    assert_eq!(
        DaemonSession::new().receive(&[0, 2, b'?', b'I', 0, 0], now),
        Err(FrameError::Version(2))
    );
}
