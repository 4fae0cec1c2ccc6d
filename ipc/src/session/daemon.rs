//! The daemon's end of a connection.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use golix::Ghid;

use crate::code::Code;
use crate::error::IpcError;
use crate::frame::{self, FrameError};
use crate::ids::{ApiId, NoticeId, RequestToken};
use crate::limits::{LET_GO_DEADLINE, MESSAGE_MAX_OUT, NOTICE_DEADLINE, NOTICES_OPEN_MAX};
use crate::message::{Notice, Reply, Request, encode_answer};

/// What a message from an application means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonReceived {
    /// It asks.
    Request {
        /// Under which number.
        token: RequestToken,
        /// What.
        request: Request,
    },
    /// It asks something that has no meaning; this is the answer.
    Refused {
        /// Under which number.
        token: RequestToken,
        /// Why not.
        error: IpcError,
    },
    /// It answers a notice.
    Acknowledged {
        /// The notice, and older ones of the same object that it replaced, oldest first.
        notices: Vec<NoticeId>,
        /// `AK` rather than `NK`.
        accepted: bool,
    },
    /// It answers nothing that was asked. Ignored.
    Stray,
}

/// What an application let go of while a notice about it was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetGo {
    /// The object; the application sent `-O`.
    Object(Ghid),
    /// The share handler; the application sent `-A`.
    Handler(ApiId),
}

/// Why a connection has to be treated as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The application hangs because it let go of something. Section 8.4.
    LetGo(LetGo),
    /// The oldest notice was not acknowledged in time. Section 9, rule 11.
    Silent,
}

/// The daemon's end: numbers notices, pairs acknowledgements with them, watches their deadlines.
#[derive(Debug, Default)]
pub struct DaemonSession {
    open: BTreeMap<u64, Open>,
    by_token: HashMap<u16, u64>,
    next_token: u16,
    next_seq: u64,
    /// When the oldest open notice became the oldest.
    oldest_since: Option<Instant>,
    /// Open notices with a `let_go`.
    suspects: Vec<u64>,
}

#[derive(Debug)]
struct Open {
    token: u16,
    notices: Vec<NoticeId>,
    subject: Option<LetGo>,
    sent: Option<Instant>,
    let_go: Option<Suspicion>,
}

/// The application asked for `-O` or `-A` while the notice was open.
#[derive(Debug)]
struct Suspicion {
    request: RequestToken,
    answered: Option<Instant>,
}

impl DaemonSession {
    /// A new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`FrameError`]: there is no token to answer to; the connection should end.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<DaemonReceived, FrameError> {
        let frame = frame::decode(bytes)?;
        Ok(match Code::from_bytes(frame.code) {
            Some(Code::Ack) => self.acknowledged(frame.token, true, now),
            Some(Code::Nak) => self.acknowledged(frame.token, false, now),
            _ if bytes.len() > MESSAGE_MAX_OUT => DaemonReceived::Refused {
                token: frame.token,
                error: IpcError::application(format!(
                    "a message of {} bytes is too large; the limit is {MESSAGE_MAX_OUT} bytes",
                    bytes.len()
                )),
            },
            _ => match Request::decode(frame.code, frame.body) {
                Ok(request) => {
                    self.suspect(frame.token, &request);
                    DaemonReceived::Request { token: frame.token, request }
                }
                Err(error) => DaemonReceived::Refused { token: frame.token, error: error.into() },
            },
        })
    }

    /// Encodes an answer.
    pub fn answer(
        &mut self,
        token: RequestToken,
        answer: &Result<Reply, IpcError>,
        now: Instant,
    ) -> Vec<u8> {
        for seq in &self.suspects {
            if let Some(Open { let_go: Some(suspicion), .. }) = self.open.get_mut(seq)
                && suspicion.request == token
            {
                suspicion.answered.get_or_insert(now);
            }
        }
        encode_answer(token, answer)
    }

    /// Numbers and encodes a notice; `notices` are the ids that its acknowledgement settles.
    /// `None` if [`NOTICES_OPEN_MAX`] notices are open.
    pub fn notify(
        &mut self,
        notices: Vec<NoticeId>,
        notice: &Notice,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if self.open.len() >= NOTICES_OPEN_MAX {
            return None;
        }
        while self.by_token.contains_key(&self.next_token) {
            self.next_token = self.next_token.wrapping_add(1);
        }
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let subject = match notice {
            Notice::Update(record) => record.address.map(LetGo::Object),
            Notice::Share { api, .. } => Some(LetGo::Handler(*api)),
            Notice::ShareSucceeded { .. } | Notice::ShareFailed { .. } | Notice::Deleted(_) => None,
        };
        if self.open.is_empty() {
            self.oldest_since = Some(now);
        }
        self.by_token.insert(token, self.next_seq);
        self.open.insert(self.next_seq, Open { token, notices, subject, sent: None, let_go: None });
        self.next_seq += 1;
        Some(notice.encode(RequestToken(token)))
    }

    /// Everything encoded so far has left: the time of its notices begins.
    pub fn flushed(&mut self, now: Instant) {
        for open in self.open.values_mut().rev() {
            if open.sent.is_some() {
                break;
            }
            open.sent = Some(now);
        }
    }

    /// Notices without acknowledgement.
    pub fn open_notices(&self) -> usize {
        self.open.len()
    }

    /// When to ask [`DaemonSession::overdue`] next.
    pub fn deadline(&self) -> Option<Instant> {
        let oldest = self.oldest_deadline();
        let let_go = self.let_go_deadlines().map(|(at, _)| at).min();
        match (oldest, let_go) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Whether the connection has to be treated as dead.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        if let Some((_, subject)) = self.let_go_deadlines().find(|(at, _)| *at <= now) {
            return Some(Overdue::LetGo(subject));
        }
        if self.oldest_deadline().is_some_and(|at| at <= now) {
            // Whoever let go of something hangs whether or not its request was answered.
            let subject = self.suspects.iter().find_map(|seq| self.open.get(seq)?.subject);
            return Some(subject.map_or(Overdue::Silent, Overdue::LetGo));
        }
        None
    }

    fn oldest_deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.open.first_key_value()?;
        Some(oldest.sent?.max(self.oldest_since?) + NOTICE_DEADLINE)
    }

    fn let_go_deadlines(&self) -> impl Iterator<Item = (Instant, LetGo)> + '_ {
        self.suspects.iter().filter_map(|seq| {
            let open = self.open.get(seq)?;
            Some((open.let_go.as_ref()?.answered? + LET_GO_DEADLINE, open.subject?))
        })
    }

    fn acknowledged(
        &mut self,
        token: RequestToken,
        accepted: bool,
        now: Instant,
    ) -> DaemonReceived {
        let Some(seq) = self.by_token.remove(&token.0) else {
            return DaemonReceived::Stray;
        };
        let was_oldest = self.open.first_key_value().is_some_and(|(oldest, _)| *oldest == seq);
        let open = self.open.remove(&seq).expect("every token belongs to an open notice");
        debug_assert_eq!(open.token, token.0);
        if was_oldest {
            self.oldest_since = Some(now);
        }
        self.suspects.retain(|suspect| *suspect != seq);
        DaemonReceived::Acknowledged { notices: open.notices, accepted }
    }

    /// Notes a `-O` or `-A` that arrives while a notice about the same thing is open.
    fn suspect(&mut self, token: RequestToken, request: &Request) {
        let gone = match request {
            Request::Discard(ghid) => LetGo::Object(*ghid),
            Request::DeregisterApi(api) => LetGo::Handler(*api),
            _ => return,
        };
        for (seq, open) in &mut self.open {
            if open.subject == Some(gone) && open.let_go.is_none() {
                open.let_go = Some(Suspicion { request: token, answered: None });
                self.suspects.push(*seq);
            }
        }
    }
}
