//! A connection between an application and its node, as seen from between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use golix::Ghid;
use hypergolix_engine::Input;
use hypergolix_ipc::{
    ApiId, AppToken, ConnectionId, IpcError, Notice, NoticeId, Reply, Request, RequestToken,
};

use crate::Micros;
use crate::world::{Event, World};

/// What the model applications put into objects: which object, and how many pushes ago it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Unique for each object made in this world.
    pub serial: u64,
    /// 1 in the first state; each push adds 1.
    pub number: u64,
}

impl State {
    /// 16 bytes and padding.
    pub fn encode(self, padding: usize) -> Arc<[u8]> {
        let mut bytes = Vec::with_capacity(16 + padding);
        bytes.extend_from_slice(&self.serial.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.resize(16 + padding, b'.');
        Arc::from(bytes)
    }

    /// `None` of what no model application wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (serial, rest) = bytes.split_first_chunk()?;
        let (number, padding) = rest.split_first_chunk()?;
        let state =
            Self { serial: u64::from_be_bytes(*serial), number: u64::from_be_bytes(*number) };
        padding.iter().all(|byte| *byte == b'.').then_some(state)
    }
}

/// A request, with what the checkers need to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new object.
    New {
        /// Its serial number.
        serial: u64,
        /// It was asked for as a private one.
        private: bool,
    },
    /// A new state.
    Push {
        /// The object.
        object: Ghid,
        /// Its number.
        number: u64,
    },
    /// A share with a node's user.
    Share {
        /// The object.
        object: Ghid,
        /// The node.
        recipient: usize,
    },
    /// A static copy.
    Freeze {
        /// The object.
        object: Ghid,
        /// The newest state that this node had shown when the copy was asked for.
        at_least: u64,
    },
    /// Keep it.
    Hold(Ghid),
    /// Delete it, or let go of a hold.
    Delete(Ghid),
    /// Read it and hear of updates.
    Get(Ghid),
    /// Ask others for news.
    Sync(Ghid),
    /// Hear no more.
    Discard(Ghid),
    /// A token, new or known.
    Token(Option<AppToken>),
    /// Shares of this api id.
    Register(ApiId),
    /// No more of them.
    Deregister(ApiId),
    /// The startup object.
    Startup {
        /// The application does not know what it set last.
        learn: bool,
    },
    /// Set or clear it.
    SetStartup(Option<Ghid>),
    /// What is this node's status?
    Status,
}

/// What reaches an application.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    Answer(Op, Result<Reply, IpcError>),
    Notice(NoticeId, Notice),
    /// The connection ended.
    End,
}

/// A share by its sender and its object; the recipient is the node that it came to.
pub type Offer = (usize, Ghid);

/// One connection, as seen from between the engine and the application.
#[derive(Debug, Default)]
pub struct Session {
    /// The application; `None` for the questions at the end.
    pub app: Option<usize>,
    /// Neither side ended it.
    pub is_open: bool,
    /// What was under way to the application when the node died arrives all the same.
    pub(crate) drains: bool,
    /// Requests that the engine has not answered.
    pub pending: BTreeMap<u16, Op>,
    /// Api ids, with the time at which the registration was answered.
    pub apis: BTreeMap<ApiId, Micros>,
    /// The node's turn at which an api id was registered first; what was queued then arrives even
    /// if it was deregistered meanwhile.
    pub first_registered: BTreeMap<ApiId, u64>,
    /// Notices that the node has not heard to be taken, with the share in them.
    pub notices: BTreeMap<NoticeId, Option<Offer>>,
    /// How many notices the application has not acknowledged.
    pub unread: usize,
    /// Shares that went to the application and were not refused.
    pub shares: BTreeSet<Offer>,
    /// Shares that it refused at least once.
    pub refused: BTreeSet<Offer>,
    /// What the application hears of, with the newest state it was shown.
    pub tracked: BTreeMap<Ghid, State>,
    /// Answers to the questions at the end.
    pub answers: BTreeMap<Ghid, Result<State, IpcError>>,
    /// When the node hears that the application ended the connection.
    pub(crate) left_at: Option<Micros>,
    pub(crate) next_token: u16,
    pub(crate) last_to_app: Micros,
    pub(crate) last_to_node: Micros,
}

impl World<'_> {
    /// An application asks.
    pub(crate) fn ask(&mut self, node: usize, connection: ConnectionId, op: Op, request: Request) {
        let latency = self.chance.apps.between(self.scenario.apps.latency_us);
        let Some(session) = self.sessions.get_mut(&(node, connection)) else {
            return;
        };
        session.next_token = session.next_token.wrapping_add(1);
        let token = RequestToken(session.next_token);
        session.pending.insert(token.0, op.clone());
        session.last_to_node = session.last_to_node.max(self.now + latency);
        let at = session.last_to_node;
        self.stats.requests += 1;
        match &op {
            Op::Push { .. } => self.stats.pushes += 1,
            Op::Share { .. } => self.stats.shares += 1,
            _ => {}
        }
        self.oracle.asked(self.now, node, &op);
        self.trace(|| format!("n{node} app {} asks {}: {op:?}", connection.0, token.0));
        let life = self.nodes[node].life;
        let input = Input::AppRequest { connection, token, request };
        self.at(at, Event::ToNode { node, life, input });
    }

    pub(crate) fn engine_answers(
        &mut self,
        node: usize,
        connection: ConnectionId,
        token: RequestToken,
        answer: Result<Reply, IpcError>,
    ) {
        let turn = self.nodes[node].turns;
        let Some(session) = self.sessions.get_mut(&(node, connection)) else {
            return;
        };
        if !session.is_open {
            return;
        }
        let Some(op) = session.pending.remove(&token.0) else {
            let text = format!("n{node} answers request {} of app {} twice", token.0, connection.0);
            self.violation(crate::Checker::Answers, text);
            return;
        };
        let brief = match &answer {
            Ok(Reply::Record(record)) => format!("{:?}", State::decode(&record.state)),
            other => format!("{other:?}"),
        };
        self.oracle.answered(self.now, node, turn, session, &op, &answer);
        self.trace(|| format!("n{node} answers app {}: {op:?}: {brief}", connection.0));
        self.tell_app(node, connection, Heard::Answer(op, answer));
    }

    pub(crate) fn engine_notifies(
        &mut self,
        node: usize,
        connection: ConnectionId,
        notice: NoticeId,
        body: Notice,
    ) {
        let Some(session) = self.sessions.get_mut(&(node, connection)) else {
            return;
        };
        if !session.is_open {
            return;
        }
        self.last_change = self.now;
        self.oracle.notified(self.now, node, session, notice, &body);
        let brief = match &body {
            Notice::Update(record) => format!("update {:?}", State::decode(&record.state)),
            other => format!("{other:?}"),
        };
        self.trace(|| format!("n{node} tells app {} ({}): {brief}", connection.0, notice.0));
        self.tell_app(node, connection, Heard::Notice(notice, body));
    }

    pub(crate) fn tell_app(&mut self, node: usize, connection: ConnectionId, heard: Heard) {
        let latency = self.chance.apps.between(self.scenario.apps.latency_us);
        let Some(session) = self.sessions.get_mut(&(node, connection)) else {
            return;
        };
        session.last_to_app = session.last_to_app.max(self.now + latency);
        let at = session.last_to_app;
        self.at(at, Event::ToApp { node, connection, heard });
    }

    /// The engine has handled an application's acknowledgement, durably.
    pub(crate) fn notice_was_taken(
        &mut self,
        node: usize,
        connection: ConnectionId,
        notice: NoticeId,
        accepted: bool,
    ) {
        let turn = self.nodes[node].turns;
        if let Some(session) = self.sessions.get_mut(&(node, connection))
            && let Some(Some(offer)) = session.notices.remove(&notice)
        {
            if accepted {
                self.oracle.share_taken(node, offer, turn);
            } else {
                session.shares.remove(&offer);
                session.refused.insert(offer);
            }
        }
    }

    /// A node died: its applications lose their connections.
    pub(crate) fn sessions_die(&mut self, node: usize) {
        let open: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter(|((of, _), session)| *of == node && session.is_open)
            .map(|((_, connection), _)| *connection)
            .collect();
        for connection in open {
            self.session_ends(node, connection);
        }
    }

    /// A connection ends on the node's side.
    pub(crate) fn session_ends(&mut self, node: usize, connection: ConnectionId) {
        let drains = self.chance.apps.happens(0.5);
        if let Some(session) = self.sessions.get_mut(&(node, connection)) {
            session.is_open = false;
            session.drains = drains;
            let unknown = std::mem::take(&mut session.pending);
            self.oracle.unanswered(node, unknown.into_values());
            self.tell_app(node, connection, Heard::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_and_others_do_not() {
        let state = State { serial: 3, number: 9 };
        assert_eq!(State::decode(&state.encode(0)), Some(state));
        assert_eq!(State::decode(&state.encode(100)), Some(state));
        assert_eq!(State::decode(b"short"), None);
        assert_eq!(State::decode(&[7; 20]), None);
    }
}
