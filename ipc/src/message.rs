//! What application and daemon say to each other: a typed variant a code, with its body.

use std::sync::Arc;

use golix::{Ghid, GhidError};

use crate::code::{Code, python_notation};
use crate::error::IpcError;
use crate::frame;
use crate::ids::{ApiId, AppToken, RequestToken};
use crate::limits::{FRAME_HEADER_LEN, MESSAGE_MAX_OUT, STATE_MAX};
use crate::object_record::ObjectRecord;

/// A request of an application. Closed; wire reference, sections 6 and 7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `?I`: the fingerprint of the user who is logged in. → [`Reply::Fingerprint`]
    Whoami,
    /// `+T`: take this token, or make a new one. → [`Reply::Token`]
    RegisterToken(Option<AppToken>),
    /// `+A`: shares of this api id go to this connection. → [`Reply::Done`]
    RegisterApi(ApiId),
    /// `-A`: no longer. → [`Reply::Done`]
    DeregisterApi(ApiId),
    /// `>$`: the startup object of the connection's token. → [`Reply::Startup`]
    StartupObject,
    /// `+$`: set it. → [`Reply::Done`]
    SetStartup(Ghid),
    /// `-$`: clear it. → [`Reply::Done`]
    ClearStartup,
    /// `>O`: an object, and its updates from now on. → [`Reply::Record`]
    Get(Ghid),
    /// `+O`: a new object, and its updates from now on. → [`Reply::Address`]
    New(ObjectRecord),
    /// `!O`: a new state. Only address, private, legroom and state count. → [`Reply::Done`]
    Update(ObjectRecord),
    /// `~O`: ask upstream for news. → [`Reply::Done`]
    Sync(Ghid),
    /// `@O`: let another user read an object. → [`Reply::Done`]
    Share {
        /// The object.
        object: Ghid,
        /// The other user's fingerprint.
        recipient: Ghid,
    },
    /// `*O`: a static copy of the current state. → [`Reply::Address`]
    Freeze(Ghid),
    /// `#O`: keep an object whatever others do. → [`Reply::Done`]
    Hold(Ghid),
    /// `-O`: no more updates. → [`Reply::Done`]
    Discard(Ghid),
    /// `XO`: delete. → [`Reply::Done`]
    Delete(Ghid),
    /// `?N`: the state of the node as JSON, our extension. → [`Reply::Status`]
    Status,
    /// `-@`: keep an own object's future states from somebody it was shared with, our extension.
    /// → [`Reply::Done`]
    Unshare {
        /// The object.
        object: Ghid,
        /// The other user's fingerprint.
        recipient: Ghid,
    },
    /// `?L`: states of own objects that lost because two devices of the user wrote at once, our
    /// extension. → [`Reply::LostStates`]
    LostStates,
    /// `-L`: this one was dealt with and may be forgotten, our extension; by its
    /// [`frame`](LostState::frame). → [`Reply::Done`]
    DismissLost(Ghid),
}

/// The `AK` to a request. Closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Body `01`.
    Done,
    /// To `?I`: the user's fingerprint.
    Fingerprint(Ghid),
    /// To `+T`: the connection's token.
    Token(AppToken),
    /// To `>$`: the startup object, or an empty body.
    Startup(Option<Ghid>),
    /// To `+O` and `*O`: where the object is.
    Address(Ghid),
    /// To `>O`: the object.
    Record(ObjectRecord),
    /// To `?N`: JSON text.
    Status(String),
    /// To `?L`: frame 65, address 65, length u32, state, for each. As many as fit into
    /// [`LOST_STATES_MAX`](crate::limits::LOST_STATES_MAX); the rest once these are dismissed.
    LostStates(Vec<LostState>),
}

/// A state that lost because two devices of a user wrote an object at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostState {
    /// The frame that lost: names it.
    pub frame: Ghid,
    /// The object.
    pub object: Ghid,
    /// The state, as the application had packed it.
    pub state: Arc<[u8]>,
}

/// A request of the daemon: something the application has to know. Closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `!O`: a tracked object has a new state. Only to who was sent the answer to `+O` or `>O`.
    Update(ObjectRecord),
    /// `@O`: somebody shared an object. Only to who was sent the answer to `+A`.
    Share {
        /// The object.
        object: Ghid,
        /// The fingerprint of who shared it; the user's own for other applications' new objects.
        origin: Ghid,
        /// The object's api id.
        api: ApiId,
    },
    /// `^S`: a share of this application was taken by the recipient's daemon.
    ShareSucceeded {
        /// The object.
        object: Ghid,
        /// Whom it was shared with.
        recipient: Ghid,
    },
    /// `^F`: it was not.
    ShareFailed {
        /// The object.
        object: Ghid,
        /// Whom it was to be shared with.
        recipient: Ghid,
    },
    /// `XO`: a tracked object is gone.
    Deleted(Ghid),
}

/// Why the body of a message is not what its code asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Too little for an object definition.
    #[error("an object definition has at least {needed} bytes, got {got}")]
    Short {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        got: usize,
    },
    /// Too little, or something left over.
    #[error("a body of {needed} bytes was expected, got {got}")]
    Length {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        got: usize,
    },
    /// Not an address.
    #[error("bad address: {0}")]
    Address(#[from] GhidError),
    /// An api id that does not begin with a zero byte.
    #[error("an api id begins with a zero byte")]
    ApiId,
    /// A flag that is neither 0 nor 1.
    #[error("the flag '{field}' is 0 or 1, got {value}")]
    Flag {
        /// Which.
        field: &'static str,
        /// What it was.
        value: u8,
    },
    /// An object definition of another version.
    #[error("unknown version {0} of an object definition; only 0 exists")]
    RecordVersion(u8),
    /// A state that could be stored but never sent.
    #[error("a state of {0} bytes is too large; the limit is {STATE_MAX} bytes")]
    StateTooLarge(usize),
    /// An `AK` body other than `01`.
    #[error("an acknowledgement with another body than 01")]
    Acknowledgement,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Text,
    /// A code that the other side does not send.
    #[error("unknown request code {}", python_notation(*.0))]
    UnknownCode([u8; 2]),
}

impl From<BodyError> for IpcError {
    /// What the sender is told: `00 00` for an unknown code, `FF FF` for the rest. Section 4.2.
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::UnknownCode(code) => {
                IpcError::new(crate::ErrorCode::Unspecified, python_notation(code))
            }
            other => IpcError::application(other.to_string()),
        }
    }
}

impl Request {
    /// The code of this request.
    pub fn code(&self) -> Code {
        match self {
            Request::Whoami => Code::Whoami,
            Request::RegisterToken(_) => Code::Token,
            Request::RegisterApi(_) => Code::RegisterApi,
            Request::DeregisterApi(_) => Code::DeregisterApi,
            Request::StartupObject => Code::Startup,
            Request::SetStartup(_) => Code::SetStartup,
            Request::ClearStartup => Code::ClearStartup,
            Request::Get(_) => Code::Get,
            Request::New(_) => Code::New,
            Request::Update(_) => Code::Update,
            Request::Sync(_) => Code::Sync,
            Request::Share { .. } => Code::Share,
            Request::Freeze(_) => Code::Freeze,
            Request::Hold(_) => Code::Hold,
            Request::Discard(_) => Code::Discard,
            Request::Delete(_) => Code::Delete,
            Request::Status => Code::Status,
            Request::Unshare { .. } => Code::Unshare,
            Request::LostStates => Code::LostStates,
            Request::DismissLost(_) => Code::DismissLost,
        }
    }

    /// Encodes the whole message.
    pub fn encode(&self, token: RequestToken) -> Vec<u8> {
        let code = self.code().bytes();
        match self {
            Request::Whoami
            | Request::StartupObject
            | Request::ClearStartup
            | Request::Status
            | Request::LostStates => frame::begin(code, token, 0),
            Request::RegisterToken(app) => with_body(code, token, &app.unwrap_or(AppToken::NULL).0),
            Request::RegisterApi(api) | Request::DeregisterApi(api) => {
                with_body(code, token, &api.to_wire())
            }
            Request::SetStartup(ghid)
            | Request::Get(ghid)
            | Request::Sync(ghid)
            | Request::Freeze(ghid)
            | Request::Hold(ghid)
            | Request::Discard(ghid)
            | Request::Delete(ghid)
            | Request::DismissLost(ghid) => with_body(code, token, ghid.as_bytes()),
            Request::New(record) | Request::Update(record) => with_record(code, token, record),
            Request::Share { object, recipient } | Request::Unshare { object, recipient } => {
                with_pair(code, token, object, recipient)
            }
        }
    }

    /// Decodes the body of a message with this code.
    ///
    /// # Errors
    /// [`BodyError`]; [`BodyError::UnknownCode`] for a code that is not an application's request.
    pub fn decode(code: [u8; 2], body: &[u8]) -> Result<Self, BodyError> {
        let known = Code::from_bytes(code).ok_or(BodyError::UnknownCode(code))?;
        Ok(match known {
            Code::Whoami => {
                empty(body)?;
                Request::Whoami
            }
            Code::Token => {
                let token = AppToken(exactly(body)?);
                Request::RegisterToken((token != AppToken::NULL).then_some(token))
            }
            Code::RegisterApi => Request::RegisterApi(api(body)?),
            Code::DeregisterApi => Request::DeregisterApi(api(body)?),
            Code::Startup => {
                empty(body)?;
                Request::StartupObject
            }
            Code::SetStartup => Request::SetStartup(ghid(body)?),
            Code::ClearStartup => {
                empty(body)?;
                Request::ClearStartup
            }
            Code::Get => Request::Get(ghid(body)?),
            Code::New => Request::New(ObjectRecord::decode(body)?),
            Code::Update => Request::Update(ObjectRecord::decode(body)?),
            Code::Sync => Request::Sync(ghid(body)?),
            Code::Share => {
                let (object, recipient) = pair(body)?;
                Request::Share { object, recipient }
            }
            Code::Freeze => Request::Freeze(ghid(body)?),
            Code::Hold => Request::Hold(ghid(body)?),
            Code::Discard => Request::Discard(ghid(body)?),
            Code::Delete => Request::Delete(ghid(body)?),
            Code::Status => {
                empty(body)?;
                Request::Status
            }
            Code::Unshare => {
                let (object, recipient) = pair(body)?;
                Request::Unshare { object, recipient }
            }
            Code::LostStates => {
                empty(body)?;
                Request::LostStates
            }
            Code::DismissLost => Request::DismissLost(ghid(body)?),
            Code::Ack | Code::Nak | Code::ShareSucceeded | Code::ShareFailed => {
                return Err(BodyError::UnknownCode(code));
            }
        })
    }
}

/// Bytes of a lost state before the state itself.
const LOST_HEAD: usize = 2 * Ghid::LEN + 4;

fn lost_states(mut body: &[u8]) -> Result<Vec<LostState>, BodyError> {
    let mut lost = Vec::new();
    while !body.is_empty() {
        let short = BodyError::Length { needed: LOST_HEAD, got: body.len() };
        let (head, rest) = body.split_at_checked(LOST_HEAD).ok_or(short)?;
        let len = u32::from_be_bytes(head[2 * Ghid::LEN..].try_into().expect("4 bytes")) as usize;
        let short = BodyError::Length { needed: len, got: rest.len() };
        let (state, rest) = rest.split_at_checked(len).ok_or(short)?;
        lost.push(LostState {
            frame: ghid(&head[..Ghid::LEN])?,
            object: ghid(&head[Ghid::LEN..2 * Ghid::LEN])?,
            state: state.into(),
        });
        body = rest;
    }
    Ok(lost)
}

impl Reply {
    /// Bytes of the encoded message.
    pub fn encoded_len(&self) -> usize {
        FRAME_HEADER_LEN
            + match self {
                Reply::Done => 1,
                Reply::Fingerprint(_) | Reply::Address(_) => Ghid::LEN,
                Reply::Token(_) => AppToken::LEN,
                Reply::Startup(ghid) => ghid.map_or(0, |_| Ghid::LEN),
                Reply::Record(record) => record.encoded_len(),
                Reply::Status(text) => text.len(),
                Reply::LostStates(lost) => {
                    lost.iter().map(|lost| LOST_HEAD + lost.state.len()).sum()
                }
            }
    }

    /// Encodes the whole message, an `AK`.
    pub fn encode(&self, token: RequestToken) -> Vec<u8> {
        let code = Code::Ack.bytes();
        match self {
            Reply::Done => with_body(code, token, &[1]),
            Reply::Fingerprint(ghid) | Reply::Address(ghid) | Reply::Startup(Some(ghid)) => {
                with_body(code, token, ghid.as_bytes())
            }
            Reply::Token(app) => with_body(code, token, &app.0),
            Reply::Startup(None) => frame::begin(code, token, 0),
            Reply::Record(record) => with_record(code, token, record),
            Reply::Status(text) => with_body(code, token, text.as_bytes()),
            Reply::LostStates(lost) => {
                let mut out = frame::begin(code, token, 0);
                for LostState { frame, object, state } in lost {
                    out.extend_from_slice(frame.as_bytes());
                    out.extend_from_slice(object.as_bytes());
                    out.extend_from_slice(&(state.len() as u32).to_be_bytes());
                    out.extend_from_slice(state);
                }
                out
            }
        }
    }

    /// Decodes the body of an `AK` that answers a request with the code `answered`.
    ///
    /// As the Python client does, the body of an answer to `+$` and `-$` is not looked at.
    ///
    /// # Errors
    /// [`BodyError`]; [`BodyError::UnknownCode`] if `answered` is not an application's request.
    pub fn decode(answered: Code, body: &[u8]) -> Result<Self, BodyError> {
        Ok(match answered {
            Code::Whoami => Reply::Fingerprint(ghid(body)?),
            Code::Token => Reply::Token(AppToken(exactly(body)?)),
            Code::Startup if body.is_empty() => Reply::Startup(None),
            Code::Startup => Reply::Startup(Some(ghid(body)?)),
            Code::New | Code::Freeze => Reply::Address(ghid(body)?),
            Code::Get => Reply::Record(ObjectRecord::decode(body)?),
            Code::SetStartup | Code::ClearStartup => Reply::Done,
            Code::RegisterApi
            | Code::DeregisterApi
            | Code::Update
            | Code::Sync
            | Code::Share
            | Code::Hold
            | Code::Discard
            | Code::DismissLost
            | Code::Unshare
            | Code::Delete => {
                done(body)?;
                Reply::Done
            }
            Code::LostStates => Reply::LostStates(lost_states(body)?),
            Code::Status => {
                Reply::Status(std::str::from_utf8(body).map_err(|_| BodyError::Text)?.to_owned())
            }
            Code::Ack | Code::Nak | Code::ShareSucceeded | Code::ShareFailed => {
                return Err(BodyError::UnknownCode(answered.bytes()));
            }
        })
    }
}

impl Notice {
    /// The code of this notice.
    pub fn code(&self) -> Code {
        match self {
            Notice::Update(_) => Code::Update,
            Notice::Share { .. } => Code::Share,
            Notice::ShareSucceeded { .. } => Code::ShareSucceeded,
            Notice::ShareFailed { .. } => Code::ShareFailed,
            Notice::Deleted(_) => Code::Delete,
        }
    }

    /// Bytes of the encoded message.
    pub fn encoded_len(&self) -> usize {
        FRAME_HEADER_LEN
            + match self {
                Notice::Update(record) => record.encoded_len(),
                Notice::Share { .. } => 3 * Ghid::LEN,
                Notice::ShareSucceeded { .. } | Notice::ShareFailed { .. } => 2 * Ghid::LEN,
                Notice::Deleted(_) => Ghid::LEN,
            }
    }

    /// Encodes the whole message.
    pub fn encode(&self, token: RequestToken) -> Vec<u8> {
        let code = self.code().bytes();
        match self {
            Notice::Update(record) => with_record(code, token, record),
            Notice::Share { object, origin, api } => {
                let mut out = frame::begin(code, token, 3 * Ghid::LEN);
                out.extend_from_slice(object.as_bytes());
                out.extend_from_slice(origin.as_bytes());
                out.extend_from_slice(&api.to_wire());
                out
            }
            Notice::ShareSucceeded { object, recipient }
            | Notice::ShareFailed { object, recipient } => {
                with_pair(code, token, object, recipient)
            }
            Notice::Deleted(ghid) => with_body(code, token, ghid.as_bytes()),
        }
    }

    /// Decodes the body of a message with this code.
    ///
    /// # Errors
    /// [`BodyError`]; [`BodyError::UnknownCode`] for a code that a daemon does not send.
    pub fn decode(code: [u8; 2], body: &[u8]) -> Result<Self, BodyError> {
        let known = Code::from_bytes(code).ok_or(BodyError::UnknownCode(code))?;
        Ok(match known {
            Code::Update => Notice::Update(ObjectRecord::decode(body)?),
            Code::Share => {
                let bytes: [u8; 3 * Ghid::LEN] = exactly(body)?;
                Notice::Share {
                    object: ghid(&bytes[..65])?,
                    origin: ghid(&bytes[65..130])?,
                    api: api(&bytes[130..])?,
                }
            }
            Code::ShareSucceeded => {
                let (object, recipient) = pair(body)?;
                Notice::ShareSucceeded { object, recipient }
            }
            Code::ShareFailed => {
                let (object, recipient) = pair(body)?;
                Notice::ShareFailed { object, recipient }
            }
            Code::Delete => Notice::Deleted(ghid(body)?),
            Code::Ack
            | Code::Nak
            | Code::Whoami
            | Code::Token
            | Code::RegisterApi
            | Code::DeregisterApi
            | Code::Startup
            | Code::SetStartup
            | Code::ClearStartup
            | Code::Get
            | Code::New
            | Code::Sync
            | Code::Freeze
            | Code::Hold
            | Code::Discard
            | Code::LostStates
            | Code::DismissLost
            | Code::Unshare
            | Code::Status => return Err(BodyError::UnknownCode(code)),
        })
    }

    /// Encodes the `AK` to a notice with this code: `01`, and nothing for `^S` and `^F`.
    pub fn acknowledge(code: Code, token: RequestToken) -> Vec<u8> {
        match code {
            Code::ShareSucceeded | Code::ShareFailed => frame::begin(Code::Ack.bytes(), token, 0),
            _ => with_body(Code::Ack.bytes(), token, &[1]),
        }
    }
}

/// Encodes the answer to a request: an `AK` or an `NK`.
///
/// An answer that would be longer than [`MESSAGE_MAX_OUT`] would end the application's connection,
/// so it becomes a refusal that says so.
pub fn encode_answer(token: RequestToken, answer: &Result<Reply, IpcError>) -> Vec<u8> {
    match answer {
        Ok(reply) if reply.encoded_len() <= MESSAGE_MAX_OUT => reply.encode(token),
        Ok(reply) => encode_refusal(
            token,
            &IpcError::application(format!(
                "the answer of {} bytes is longer than the limit of {MESSAGE_MAX_OUT} bytes",
                reply.encoded_len()
            )),
        ),
        Err(error) => encode_refusal(token, error),
    }
}

/// Encodes an `NK`.
pub fn encode_refusal(token: RequestToken, error: &IpcError) -> Vec<u8> {
    let mut out = frame::begin(Code::Nak.bytes(), token, 2 + error.text.len());
    error.write(&mut out);
    out
}

fn with_body(code: [u8; 2], token: RequestToken, body: &[u8]) -> Vec<u8> {
    frame::encode(&frame::Frame { code, token, body })
}

fn with_pair(code: [u8; 2], token: RequestToken, first: &Ghid, second: &Ghid) -> Vec<u8> {
    let mut out = frame::begin(code, token, 2 * Ghid::LEN);
    out.extend_from_slice(first.as_bytes());
    out.extend_from_slice(second.as_bytes());
    out
}

fn with_record(code: [u8; 2], token: RequestToken, record: &ObjectRecord) -> Vec<u8> {
    let mut out = frame::begin(code, token, record.encoded_len());
    record.write(&mut out);
    out
}

fn exactly<const N: usize>(body: &[u8]) -> Result<[u8; N], BodyError> {
    body.try_into().map_err(|_| BodyError::Length { needed: N, got: body.len() })
}

fn empty(body: &[u8]) -> Result<(), BodyError> {
    exactly::<0>(body).map(|[]| ())
}

fn done(body: &[u8]) -> Result<(), BodyError> {
    match exactly::<1>(body)? {
        [1] => Ok(()),
        _ => Err(BodyError::Acknowledgement),
    }
}

fn ghid(body: &[u8]) -> Result<Ghid, BodyError> {
    let bytes: [u8; Ghid::LEN] = exactly(body)?;
    Ok(Ghid::from_bytes(&bytes)?)
}

fn pair(body: &[u8]) -> Result<(Ghid, Ghid), BodyError> {
    let bytes: [u8; 2 * Ghid::LEN] = exactly(body)?;
    Ok((ghid(&bytes[..Ghid::LEN])?, ghid(&bytes[Ghid::LEN..])?))
}

fn api(body: &[u8]) -> Result<ApiId, BodyError> {
    let bytes: [u8; ApiId::WIRE_LEN] = exactly(body)?;
    ApiId::from_wire(&bytes).ok_or(BodyError::ApiId)
}
