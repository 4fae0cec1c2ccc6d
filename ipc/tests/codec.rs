//! Round trips of every message, and what decoders make of anything else.

use golix::Ghid;
use hypergolix_ipc::message::{encode_answer, encode_refusal};
use hypergolix_ipc::session::{AppReceived, AppSession, DaemonReceived, DaemonSession};
use hypergolix_ipc::{
    ApiId, AppToken, Code, ErrorCode, IpcError, LostState, Notice, ObjectRecord, Reply, Request,
    RequestToken, frame,
};
use proptest::prelude::*;
use std::time::Instant;

fn ghid() -> impl Strategy<Value = Ghid> {
    any::<[u8; 8]>().prop_map(|bytes| Ghid::of(&bytes))
}

fn api() -> impl Strategy<Value = ApiId> {
    (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&a);
        bytes[32..].copy_from_slice(&b);
        ApiId(bytes)
    })
}

fn record() -> impl Strategy<Value = ObjectRecord> {
    (
        proptest::option::of(ghid()),
        proptest::option::of(ghid()),
        any::<(bool, bool, u8, bool)>(),
        api(),
        proptest::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(address, author, (private, dynamic, legroom, link), api, state)| {
            ObjectRecord {
                address,
                author,
                private,
                dynamic,
                legroom,
                api,
                link,
                state: state.into(),
            }
        })
}

fn app_token() -> impl Strategy<Value = AppToken> {
    any::<[u8; 16]>()
        .prop_filter("the null token means none", |bytes| *bytes != [0; 16])
        .prop_map(AppToken)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Whoami),
        proptest::option::of(app_token()).prop_map(Request::RegisterToken),
        api().prop_map(Request::RegisterApi),
        api().prop_map(Request::DeregisterApi),
        Just(Request::StartupObject),
        ghid().prop_map(Request::SetStartup),
        Just(Request::ClearStartup),
        ghid().prop_map(Request::Get),
        record().prop_map(Request::New),
        record().prop_map(Request::Update),
        ghid().prop_map(Request::Sync),
        (ghid(), ghid()).prop_map(|(object, recipient)| Request::Share { object, recipient }),
        ghid().prop_map(Request::Freeze),
        ghid().prop_map(Request::Hold),
        ghid().prop_map(Request::Discard),
        ghid().prop_map(Request::Delete),
        Just(Request::Status),
        Just(Request::LostStates),
        ghid().prop_map(Request::DismissLost),
        (ghid(), ghid()).prop_map(|(object, recipient)| Request::Unshare { object, recipient }),
    ]
}

/// A reply, and the code of a request that it answers.
fn reply() -> impl Strategy<Value = (Code, Reply)> {
    prop_oneof![
        prop_oneof![
            Just(Code::RegisterApi),
            Just(Code::Update),
            Just(Code::SetStartup),
            Just(Code::Delete)
        ]
        .prop_map(|code| (code, Reply::Done)),
        ghid().prop_map(|ghid| (Code::Whoami, Reply::Fingerprint(ghid))),
        app_token().prop_map(|token| (Code::Token, Reply::Token(token))),
        proptest::option::of(ghid()).prop_map(|ghid| (Code::Startup, Reply::Startup(ghid))),
        ghid().prop_map(|ghid| (Code::New, Reply::Address(ghid))),
        ghid().prop_map(|ghid| (Code::Freeze, Reply::Address(ghid))),
        record().prop_map(|record| (Code::Get, Reply::Record(record))),
        ".*".prop_map(|text| (Code::Status, Reply::Status(text))),
        proptest::collection::vec(
            (ghid(), ghid(), proptest::collection::vec(any::<u8>(), 0..50)),
            0..4
        )
        .prop_map(|lost| {
            let lost = lost.into_iter().map(|(frame, object, state)| LostState {
                frame,
                object,
                state: state.into(),
            });
            (Code::LostStates, Reply::LostStates(lost.collect()))
        }),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    prop_oneof![
        record().prop_map(Notice::Update),
        (ghid(), ghid(), api()).prop_map(|(object, origin, api)| Notice::Share {
            object,
            origin,
            api
        }),
        (ghid(), ghid())
            .prop_map(|(object, recipient)| Notice::ShareSucceeded { object, recipient }),
        (ghid(), ghid()).prop_map(|(object, recipient)| Notice::ShareFailed { object, recipient }),
        ghid().prop_map(Notice::Deleted),
    ]
}

fn error() -> impl Strategy<Value = IpcError> {
    (proptest::sample::select(&ErrorCode::ALL[..]), ".{0,100}")
        .prop_map(|(code, text)| IpcError::new(code, text))
}

proptest! {
    #[test]
    fn requests(request in request(), token: u16) {
        let bytes = request.encode(RequestToken(token));
        let frame = frame::decode(&bytes).expect("a header");
        prop_assert_eq!(frame.token, RequestToken(token));
        prop_assert_eq!(frame.code, request.code().bytes());
        prop_assert_eq!(Request::decode(frame.code, frame.body), Ok(request));
    }

    #[test]
    fn replies((code, reply) in reply(), token: u16) {
        let bytes = encode_answer(RequestToken(token), &Ok(reply.clone()));
        prop_assert_eq!(bytes.len(), reply.encoded_len());
        let frame = frame::decode(&bytes).expect("a header");
        prop_assert_eq!(frame.code, *b"AK");
        prop_assert_eq!(Reply::decode(code, frame.body), Ok(reply));
    }

    #[test]
    fn notices(notice in notice(), token: u16) {
        let bytes = notice.encode(RequestToken(token));
        prop_assert_eq!(bytes.len(), notice.encoded_len());
        let frame = frame::decode(&bytes).expect("a header");
        prop_assert_eq!(Notice::decode(frame.code, frame.body), Ok(notice));
    }

    #[test]
    fn refusals(error in error(), token: u16) {
        let bytes = encode_refusal(RequestToken(token), &error);
        let frame = frame::decode(&bytes).expect("a header");
        prop_assert_eq!(frame.code, *b"NK");
        prop_assert_eq!(IpcError::from_body(frame.body), Ok(error));
    }

    /// Whatever decodes is encoded to the same bytes.
    #[test]
    fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), code in 0..21_usize) {
        if bytes.len() >= 6 {
            bytes[..2].copy_from_slice(&[0, 0]);
            bytes[2..4].copy_from_slice(&Code::ALL[code].bytes());
        }
        if let Ok(frame) = frame::decode(&bytes) {
            if let Ok(request) = Request::decode(frame.code, frame.body) {
                prop_assert_eq!(request.encode(frame.token), bytes.clone());
            }
            if let Ok(notice) = Notice::decode(frame.code, frame.body) {
                prop_assert_eq!(notice.encode(frame.token), bytes.clone());
            }
        }
        let received = DaemonSession::new().receive(&bytes, Instant::now());
        let answered = matches!(received, Ok(DaemonReceived::Acknowledged { .. }));
        prop_assert!(!answered, "nothing was asked");
        let received = AppSession::<()>::new().receive(&bytes);
        prop_assert!(!matches!(received, Ok(AppReceived::Answer { .. })), "nothing was asked");
    }

    /// One changed byte of a message never panics, and what is understood means those bytes.
    #[test]
    fn one_byte_off(request in request(), at: prop::sample::Index, value: u8) {
        let mut bytes = request.encode(RequestToken(7));
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(DaemonReceived::Request { token, request }) =
            DaemonSession::new().receive(&bytes, Instant::now())
        {
            prop_assert_eq!(request.encode(token), bytes);
        }
    }
}

#[test]
fn truncated_requests_are_refused_with_ffff() {
    let requests = [
        Request::RegisterToken(Some(AppToken([1; 16]))),
        Request::RegisterApi(ApiId::OBJ),
        Request::Get(Ghid::of(b"x")),
        Request::Share { object: Ghid::of(b"x"), recipient: Ghid::of(b"y") },
        Request::Delete(Ghid::of(b"x")),
    ];
    for request in requests {
        let whole = request.encode(RequestToken(3));
        let mut longer = whole.clone();
        longer.push(0);
        let damaged = (6..whole.len()).map(|len| &whole[..len]).chain([&longer[..]]);
        for bytes in damaged {
            let received = DaemonSession::new().receive(bytes, Instant::now());
            let Ok(DaemonReceived::Refused { token, error }) = received else {
                panic!("{request:?} cut to {} bytes: {received:?}", bytes.len());
            };
            assert_eq!(token, RequestToken(3));
            assert_eq!(error.code, ErrorCode::IpcError);
            assert!(!error.text.is_empty());
        }
    }
}

#[test]
fn unknown_codes_are_refused_with_0000() {
    for code in [*b"??", *b"zz", *b"^S", *b"^F", [0xff, 0], *b"ak"] {
        let bytes = frame::begin(code, RequestToken(9), 0);
        let Ok(DaemonReceived::Refused { error, .. }) =
            DaemonSession::new().receive(&bytes, Instant::now())
        else {
            panic!("{code:?} is not a request");
        };
        assert_eq!(error.code, ErrorCode::Unspecified);
        assert_eq!(error.text, hypergolix_ipc::python_notation(code));
    }
}

#[test]
fn answers_over_the_limit_become_refusals() {
    let text = "x".repeat(hypergolix_ipc::limits::MESSAGE_MAX_OUT);
    let bytes = encode_answer(RequestToken(1), &Ok(Reply::Status(text)));
    let frame = frame::decode(&bytes).expect("a header");
    assert_eq!(frame.code, *b"NK");
    let error = IpcError::from_body(frame.body).expect("a refusal");
    assert_eq!(error.code, ErrorCode::IpcError);
    assert!(error.text.contains("10485760"));
}
