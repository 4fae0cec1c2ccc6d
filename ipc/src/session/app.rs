//! The application's end of a connection.

use std::collections::HashMap;

use crate::code::Code;
use crate::error::{IpcError, NakError};
use crate::frame::{self, FrameError};
use crate::ids::RequestToken;
use crate::limits::IN_FLIGHT_MAX;
use crate::message::{BodyError, Notice, Reply, Request, encode_refusal};

/// Why there is no reply to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The daemon refused, and says why.
    #[error("{0}")]
    Refused(#[from] IpcError),
    /// The daemon refused in a way that has no name.
    #[error("{0}")]
    Unnamed(#[from] NakError),
    /// The daemon agreed, but its reply is not what the request asks for.
    #[error("the daemon's reply is damaged: {0}")]
    Damaged(#[from] BodyError),
}

/// What a message from the daemon means. `W` is whatever waits for an answer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken apart where it is returned to")]
pub enum AppReceived<W> {
    /// An answer.
    Answer {
        /// To which request.
        request: Request,
        /// Who waits for it.
        waiter: W,
        /// The answer.
        answer: Result<Reply, AnswerError>,
    },
    /// Something to know; to be answered with [`Notice::acknowledge`] or a refusal.
    Notice {
        /// Under which number.
        token: RequestToken,
        /// What.
        notice: Notice,
    },
    /// Something that has no meaning; this is the `NK` to send.
    Refused(Vec<u8>),
    /// It answers nothing that was asked. Ignored.
    Stray,
}

/// The application's end: numbers requests and pairs answers with them.
#[derive(Debug)]
pub struct AppSession<W> {
    waiting: HashMap<u16, Waiting<W>>,
    next_token: u16,
    next_seq: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    seq: u64,
    request: Request,
    waiter: W,
}

impl<W> Default for AppSession<W> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), next_token: 0, next_seq: 0 }
    }
}

impl<W> AppSession<W> {
    /// A new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Whether another request may be asked: [`IN_FLIGHT_MAX`] at a time.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < IN_FLIGHT_MAX
    }

    /// Requests without an answer, in no order.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.waiting.values().map(|waiting| &waiting.request)
    }

    /// Numbers and encodes a request.
    ///
    /// # Panics
    /// If 65,536 requests are in flight; callers ask [`AppSession::has_room`] first.
    pub fn ask(&mut self, request: Request, waiter: W) -> Vec<u8> {
        assert!(self.waiting.len() < usize::from(u16::MAX), "callers ask has_room first");
        while self.waiting.contains_key(&self.next_token) {
            self.next_token = self.next_token.wrapping_add(1);
        }
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let bytes = request.encode(RequestToken(token));
        self.waiting.insert(token, Waiting { seq: self.next_seq, request, waiter });
        self.next_seq += 1;
        bytes
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`FrameError`]: this is not the protocol; the connection should end.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<AppReceived<W>, FrameError> {
        let frame = frame::decode(bytes)?;
        let code = Code::from_bytes(frame.code);
        if let Some(Code::Ack | Code::Nak) = code {
            let Some(Waiting { request, waiter, .. }) = self.waiting.remove(&frame.token.0) else {
                return Ok(AppReceived::Stray);
            };
            let answer = if code == Some(Code::Ack) {
                Reply::decode(request.code(), frame.body).map_err(AnswerError::Damaged)
            } else {
                Err(match IpcError::from_body(frame.body) {
                    Ok(error) => AnswerError::Refused(error),
                    Err(error) => AnswerError::Unnamed(error),
                })
            };
            return Ok(AppReceived::Answer { request, waiter, answer });
        }
        Ok(match Notice::decode(frame.code, frame.body) {
            Ok(notice) => AppReceived::Notice { token: frame.token, notice },
            Err(error) => AppReceived::Refused(encode_refusal(frame.token, &error.into())),
        })
    }

    /// The connection is gone: everything that waits, in the order in which it was asked.
    pub fn into_waiting(self) -> Vec<(Request, W)> {
        let mut waiting: Vec<_> = self.waiting.into_values().collect();
        waiting.sort_by_key(|waiting| waiting.seq);
        waiting.into_iter().map(|waiting| (waiting.request, waiting.waiter)).collect()
    }
}
