//! Frames recorded from the Python client, decoded and encoded again, byte for byte.

use data_encoding::HEXLOWER;
use hypergolix_ipc::frame::{Frame, decode, encode};
use hypergolix_ipc::message::encode_refusal;
use hypergolix_ipc::{BodyError, Code, IpcError, Notice, ObjectRecord, Reply, Request};
use serde::Deserialize;

#[derive(Deserialize)]
struct Transcripts {
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    scenario: String,
    sections: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    section: String,
    frames: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    dir: String,
    ws: Option<String>,
    hex: Option<String>,
    decoded: Option<Decoded>,
}

#[derive(Deserialize)]
struct Decoded {
    kind: String,
    length: Option<usize>,
    code: Option<serde_json::Value>,
    token: Option<u16>,
    answers: Option<String>,
}

/// One recorded binary message.
struct Vector {
    at: String,
    from_client: bool,
    bytes: Vec<u8>,
    decoded: Decoded,
    whole: bool,
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("vectors/ipc-transcripts.json");
    let transcripts: Transcripts = serde_json::from_str(text).expect("our own file");
    let mut vectors = Vec::new();
    for scenario in transcripts.scenarios {
        for section in scenario.sections {
            for (number, frame) in section.frames.into_iter().enumerate() {
                if frame.ws.as_deref() != Some("binary") {
                    continue;
                }
                let hex = frame.hex.expect("binary frames have a payload");
                let hex = hex.split("...").next().unwrap_or_default();
                let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hex");
                let decoded = frame.decoded.expect("binary frames are decoded");
                vectors.push(Vector {
                    at: format!("{} / {} / {number}", scenario.scenario, section.section),
                    from_client: frame.dir == "c->d",
                    whole: decoded.length == Some(bytes.len()),
                    bytes,
                    decoded,
                });
            }
        }
    }
    vectors
}

impl Vector {
    fn frame(&self) -> Frame<'_> {
        decode(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.at))
    }

    fn is_damaged_on_purpose(&self) -> bool {
        self.decoded.kind == "unparseable" || self.bytes[..2] != [0, 0]
    }

    /// The code of the request that this answers.
    fn answers(&self) -> Option<[u8; 2]> {
        let text = self.decoded.answers.as_deref()?;
        Some(text.as_bytes().try_into().expect("two characters"))
    }
}

/// Binary frames that are whole and have a header.
fn well_formed() -> Vec<Vector> {
    vectors().into_iter().filter(|v| v.whole && !v.is_damaged_on_purpose()).collect()
}

#[test]
fn headers_come_back() {
    let mut count = 0;
    for vector in well_formed() {
        let frame = vector.frame();
        assert_eq!(Some(frame.token.0), vector.decoded.token, "{}", vector.at);
        let code = vector.decoded.code.as_ref().and_then(|code| code.as_str());
        assert_eq!(code.map(str::as_bytes), Some(&frame.code[..]), "{}", vector.at);
        assert_eq!(encode(&frame), vector.bytes, "{}", vector.at);
        count += 1;
    }
    assert_eq!(count, 572, "every recorded frame is looked at");
}

#[test]
fn requests_of_the_client() {
    let mut count = 0;
    for vector in well_formed() {
        if vector.from_client && vector.decoded.kind == "request" {
            let frame = vector.frame();
            let request = Request::decode(frame.code, frame.body)
                .unwrap_or_else(|error| panic!("{}: {error}", vector.at));
            assert_eq!(request.encode(frame.token), vector.bytes, "{}", vector.at);
            count += 1;
        }
    }
    assert_eq!(count, 223);
}

#[test]
fn replies_of_the_daemon() {
    let (mut count, mut damaged, mut unread) = (0, 0, 0);
    for vector in well_formed() {
        let Some(answers) = vector.answers().filter(|_| !vector.from_client) else {
            continue;
        };
        let frame = vector.frame();
        if frame.code != *b"AK" {
            continue;
        }
        let code = Code::from_bytes(answers).expect("a request of the client");
        let reply = Reply::decode(code, frame.body);
        if vector.at.starts_with(DAMAGED_REPLIES) && frame.body == [2] {
            match code {
                Code::SetStartup | Code::ClearStartup => {
                    assert_eq!(reply, Ok(Reply::Done), "{}", vector.at);
                    unread += 1;
                }
                _ => {
                    assert!(reply.is_err(), "{}", vector.at);
                    damaged += 1;
                }
            }
            continue;
        }
        if vector.at.starts_with(ODD_DEFINITIONS) && reply.is_err() {
            damaged += 1;
            continue;
        }
        let reply = reply.unwrap_or_else(|error| panic!("{}: {error}", vector.at));
        assert_eq!(reply.encode(frame.token), vector.bytes, "{}", vector.at);
        assert_eq!(reply.encoded_len(), vector.bytes.len(), "{}", vector.at);
        count += 1;
    }
    assert_eq!((count, damaged, unread), (180, 14, 2));
}

/// Where the stand-in daemon sent an api id of another kind, another version (which the Python
/// client does not look at; we do), and half a definition.
const ODD_DEFINITIONS: &str = "links_and_odd_objects / odd definitions /";

/// Where the stand-in daemon acknowledged with `02` to see what the client makes of it.
const DAMAGED_REPLIES: &str = "error_codes / AK with an unexpected body /";

#[test]
fn notices_of_the_daemon() {
    let (mut count, mut foreign, mut empty) = (0, 0, 0);
    for vector in well_formed() {
        if vector.from_client || vector.decoded.kind != "request" {
            continue;
        }
        let frame = vector.frame();
        match Notice::decode(frame.code, frame.body) {
            Ok(notice) => {
                assert_eq!(notice.encode(frame.token), vector.bytes, "{}", vector.at);
                assert_eq!(notice.encoded_len(), vector.bytes.len(), "{}", vector.at);
                count += 1;
            }
            Err(BodyError::Address(_)) => {
                // `^S` and `^F` about no address at all: the client does not look.
                assert!(matches!(&frame.code, b"^S" | b"^F"), "{}", vector.at);
                assert!(frame.body.iter().all(|byte| *byte == 0), "{}", vector.at);
                empty += 1;
            }
            Err(error) => {
                assert_eq!(error, BodyError::UnknownCode(frame.code), "{}", vector.at);
                foreign += 1;
            }
        }
    }
    assert_eq!((count, foreign, empty), (48, 16, 4));
}

#[test]
fn acknowledgements_of_the_client() {
    let mut count = 0;
    for vector in well_formed() {
        let Some(answers) = vector.answers().filter(|_| vector.from_client) else {
            continue;
        };
        let frame = vector.frame();
        let Some(code) = Code::from_bytes(answers).filter(|_| frame.code == *b"AK") else {
            continue;
        };
        if Notice::decode(answers, &[]) == Err(BodyError::UnknownCode(answers)) {
            continue;
        }
        assert_eq!(Notice::acknowledge(code, frame.token), vector.bytes, "{}", vector.at);
        count += 1;
    }
    assert_eq!(count, 40);
}

#[test]
fn refusals_in_both_directions() {
    let (mut count, mut unnamed) = (0, 0);
    for vector in well_formed() {
        let frame = vector.frame();
        if frame.code != *b"NK" {
            continue;
        }
        match IpcError::from_body(frame.body) {
            Ok(error) => {
                assert_eq!(encode_refusal(frame.token, &error), vector.bytes, "{}", vector.at);
                count += 1;
            }
            Err(_) => unnamed += 1,
        }
    }
    assert_eq!((count, unnamed), (39, 4));
}

#[test]
fn unknown_codes_are_refused_as_the_client_does() {
    for vector in well_formed() {
        let frame = vector.frame();
        if frame.code == *b"NK" && matches!(vector.answers(), Some([b'?', b'?'] | [b'z', b'z'])) {
            let code = vector.answers().expect("just looked");
            let error = Request::decode(code, &[]).expect_err("unknown");
            assert_eq!(encode_refusal(frame.token, &error.into()), vector.bytes, "{}", vector.at);
        }
    }
}

#[test]
fn headers_of_long_messages() {
    // Cut in the recording: the header and the definition's fixed part are there.
    let mut count = 0;
    for vector in vectors().into_iter().filter(|v| !v.whole) {
        let frame = vector.frame();
        let record = ObjectRecord::decode(frame.body)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.at));
        let mut body = Vec::new();
        record.write(&mut body);
        assert_eq!(body, frame.body, "{}", vector.at);
        count += 1;
    }
    assert!(count > 0);
}
