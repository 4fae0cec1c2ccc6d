//! `Oracle`: everything that applications asked for and were told.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;
use hypergolix_engine::limits::NOTICES_IN_FLIGHT;
use hypergolix_ipc::{ApiId, ErrorCode, IpcError, Notice, NoticeId, ObjectRecord, Reply};

use crate::Micros;
use crate::check::{Checker, Violation};
use crate::session::{Offer, Op, Session, State};

/// An object as its application asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Making {
    pub(crate) owner: usize,
    pub(crate) app: usize,
    pub(crate) api: ApiId,
    pub(crate) dynamic: bool,
    pub(crate) private: bool,
}

/// An object whose creation was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) making: Making,
    pub(crate) serial: u64,
    /// The newest state that was asked for.
    pub(crate) sent: u64,
    /// The newest state that was acknowledged.
    pub(crate) acked: u64,
    /// How often its owner asked to delete it.
    pub(crate) deletes_asked: u32,
    /// A deletion was acknowledged.
    pub(crate) deleted: bool,
}

/// A static copy of one state of an object, by its own address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copied {
    pub(crate) serial: u64,
    pub(crate) api: Option<ApiId>,
    /// As private as the object it was made from.
    pub(crate) private: bool,
    /// Its state, once somebody was shown it.
    pub(crate) number: Option<u64>,
    at_least: u64,
    /// Nodes that bind it, and whether they asked to let go of it.
    pub(crate) binders: BTreeMap<usize, bool>,
}

/// Whether a node holds somebody's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It was acknowledged.
    Held,
    /// It was asked for, or let go of, and the answer was lost.
    Maybe,
}

/// A share that was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offered {
    /// Its place in the order in which shares were acknowledged.
    pub(crate) order: Option<u64>,
    /// It was refused to the application that asked.
    pub(crate) refused: bool,
    /// When it was asked for.
    pub(crate) asked_at: Micros,
    /// Its place in the order in which shares were first given to an application.
    pub(crate) given: Option<u64>,
    /// The recipient's turn in which an application took it.
    pub(crate) taken: Option<u64>,
    results: u32,
}

/// Everything that applications asked for and were told.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
    now: Micros,
    fingerprints: Vec<Ghid>,
    makings: Vec<Making>,
    /// Addresses by serial number.
    addresses: BTreeMap<u64, Ghid>,
    pub(crate) objects: BTreeMap<Ghid, Object>,
    pub(crate) copies: BTreeMap<Ghid, Copied>,
    /// The newest state that a node showed of an object.
    pub(crate) shown: BTreeMap<(usize, Ghid), u64>,
    /// Objects that applications of a node were given by a share.
    given: BTreeSet<(usize, Ghid)>,
    /// Objects of which a node said that they are gone.
    gone: BTreeSet<(usize, Ghid)>,
    pub(crate) holds: BTreeMap<(usize, Ghid), Hold>,
    /// Copies that may have been made although the answer was lost.
    copies_unheard: usize,
    /// How many requests to delete have no answer yet, or will never have one.
    deletes_open: BTreeMap<(usize, Ghid), u32>,
    /// Copies that applications of a node asked to delete there.
    pub(crate) unwanted: BTreeSet<(usize, Ghid)>,
    /// By sender, recipient, object.
    pub(crate) offers: BTreeMap<(usize, usize, Ghid), Offered>,
    next_order: u64,
}

impl Oracle {
    /// An oracle for these nodes, by their users' fingerprints.
    pub fn new(fingerprints: Vec<Ghid>) -> Self {
        Self { fingerprints, ..Self::default() }
    }

    /// Notes a violation; the first one counts.
    pub fn violated(&mut self, checker: Checker, at: Micros, text: String) {
        self.violation.get_or_insert(Violation { checker, at, text });
    }

    /// Dates what is found by looking back.
    pub(crate) fn now_is(&mut self, now: Micros) {
        self.now = now;
    }

    pub(crate) fn fail(&mut self, checker: Checker, text: impl Into<String>) {
        self.violated(checker, self.now, text.into());
    }

    // What applications want to know before they ask.

    /// An application is about to ask for a new object; returns its serial number.
    pub(crate) fn will_make(
        &mut self,
        owner: usize,
        app: usize,
        api: ApiId,
        dynamic: bool,
        private: bool,
    ) -> u64 {
        self.makings.push(Making { owner, app, api, dynamic, private });
        self.makings.len() as u64 - 1
    }

    /// The next state of a dynamic object, whether it is private, and its api id.
    pub(crate) fn will_push(&mut self, object: &Ghid) -> Option<(State, bool, ApiId)> {
        let object = self.objects.get_mut(object)?;
        if !object.making.dynamic {
            return None;
        }
        object.sent += 1;
        let state = State { serial: object.serial, number: object.sent };
        Some((state, object.making.private, object.making.api))
    }

    /// The newest state of an object that a node showed.
    pub(crate) fn newest_shown(&self, node: usize, object: &Ghid) -> u64 {
        let acked = self.objects.get(object).filter(|object| object.making.owner == node);
        let acked = acked.map_or(0, |object| object.acked);
        self.shown.get(&(node, *object)).copied().unwrap_or(0).max(acked)
    }

    /// Model applications share an object only once with each user, to tell repetitions apart.
    pub(crate) fn may_share(&self, sender: usize, recipient: usize, object: &Ghid) -> bool {
        !self.offers.contains_key(&(sender, recipient, *object))
    }

    /// Whether this is the fingerprint of a node's user.
    pub(crate) fn is_fingerprint(&self, node: usize, fingerprint: &Ghid) -> bool {
        self.fingerprints.get(node) == Some(fingerprint)
    }

    /// How many objects and copies may exist without anybody having been told.
    pub(crate) fn unheard(&self) -> usize {
        self.copies_unheard + self.makings.len() - self.addresses.len()
    }

    /// The api id of an object or of a copy.
    pub(crate) fn api(&self, object: &Ghid) -> Option<ApiId> {
        let known = self.objects.get(object).map(|known| known.making.api);
        known.or_else(|| self.copies.get(object).and_then(|copied| copied.api))
    }

    // What happens.

    /// A request is on its way: from now on its consequences may be seen.
    pub(crate) fn asked(&mut self, now: Micros, node: usize, op: &Op) {
        match op {
            Op::Share { object, recipient } => {
                let offer = self.offers.entry((node, *recipient, *object)).or_default();
                offer.asked_at = now;
            }
            Op::Hold(object) => {
                self.holds.entry((node, *object)).or_insert(Hold::Maybe);
            }
            Op::Delete(object) => {
                *self.deletes_open.entry((node, *object)).or_default() += 1;
                if let Some(known) = self.objects.get_mut(object)
                    && known.making.owner == node
                {
                    known.deletes_asked += 1;
                }
                if let Some(copied) = self.copies.get_mut(object) {
                    self.unwanted.insert((node, *object));
                    if let Some(leaving) = copied.binders.get_mut(&node) {
                        *leaving = true;
                    }
                }
            }
            _ => {}
        }
    }

    /// The answers to these were lost with their connection.
    pub(crate) fn unanswered(&mut self, node: usize, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.copies_unheard += usize::from(matches!(op, Op::Freeze { .. }));
            if let Op::Hold(object) | Op::Delete(object) = op
                && let Some(hold) = self.holds.get_mut(&(node, object))
            {
                *hold = Hold::Maybe;
            }
        }
    }

    /// An answer leaves an engine.
    pub(crate) fn answered(
        &mut self,
        now: Micros,
        node: usize,
        turn: u64,
        session: &mut Session,
        op: &Op,
        answer: &Result<Reply, IpcError>,
    ) {
        self.now = now;
        if let Op::Delete(object) = op
            && let Some(open) = self.deletes_open.get_mut(&(node, *object))
        {
            *open = open.saturating_sub(1);
        }
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) => return self.refused(node, session, op, error),
        };
        match (op, reply) {
            (Op::New { serial, .. }, Reply::Address(address)) => {
                self.made(node, *serial, *address);
                session.tracked.insert(*address, State { serial: *serial, number: 1 });
            }
            (Op::Push { object, number }, Reply::Done) => {
                if let Some(known) = self.objects.get_mut(object) {
                    known.acked = known.acked.max(*number);
                }
                if let Some(state) = session.tracked.get_mut(object) {
                    state.number = state.number.max(*number);
                }
            }
            (Op::Share { object, recipient }, Reply::Done) => {
                self.next_order += 1;
                let order = self.next_order;
                let offer = self.offers.entry((node, *recipient, *object)).or_default();
                offer.order = Some(order);
            }
            (Op::Freeze { object, at_least }, Reply::Address(copy)) => {
                let source = self.objects.get(object);
                let source = source.map(|known| (known.serial, known.making));
                let copied = self.copies.entry(*copy).or_default();
                if let Some((serial, making)) = source {
                    (copied.serial, copied.api) = (serial, Some(making.api));
                    copied.private = making.private;
                }
                copied.at_least = copied.at_least.max(*at_least);
                let leaving = self.deletes_open.get(&(node, *copy)).is_some_and(|open| *open > 0);
                copied.binders.insert(node, leaving);
            }
            (Op::Hold(object), Reply::Done) => {
                // A deletion that was decided later may have been asked for already.
                let leaving = self.deletes_open.get(&(node, *object)).is_some_and(|open| *open > 0);
                let hold = if leaving { Hold::Maybe } else { Hold::Held };
                self.holds.insert((node, *object), hold);
                if let Some(copied) = self.copies.get_mut(object) {
                    copied.binders.insert(node, leaving);
                }
            }
            (Op::Delete(object), Reply::Done) => self.deleted(node, session, object),
            (Op::Get(asked), Reply::Record(record)) => {
                if record.address != Some(*asked) {
                    self.fail(Checker::Sound, format!("n{node} answers with another object"));
                }
                if let Some(state) = self.shows(node, session, record) {
                    if session.app.is_none() {
                        session.answers.insert(*asked, Ok(state));
                    } else {
                        session.tracked.insert(*asked, state);
                    }
                }
            }
            (Op::Discard(object), Reply::Done) => {
                session.tracked.remove(object);
            }
            (Op::Token(asked), Reply::Token(token)) => {
                if asked.is_some_and(|asked| asked != *token) {
                    self.fail(Checker::Acknowledged, format!("n{node} gives another token"));
                }
            }
            (Op::Register(api), Reply::Done) => {
                session.apis.entry(*api).or_insert(now);
                session.first_registered.entry(*api).or_insert(turn);
            }
            (Op::Deregister(api), Reply::Done) => {
                session.apis.remove(api);
            }
            (Op::Sync(_) | Op::SetStartup(_), Reply::Done)
            | (Op::Startup { .. }, Reply::Startup(_))
            | (Op::Status, Reply::Status(_)) => {}
            (op, reply) => {
                self.fail(Checker::Answers, format!("n{node} answers {op:?} with {reply:?}"));
            }
        }
    }

    /// The object with this serial number exists, at this address.
    fn made(&mut self, node: usize, serial: u64, address: Ghid) {
        let Some(making) = self.makings.get(serial as usize).copied() else {
            self.fail(Checker::Sound, format!("n{node} shows a state that nobody wrote"));
            return;
        };
        let object = Object { making, serial, sent: 1, acked: 1, deletes_asked: 0, deleted: false };
        if self.addresses.insert(serial, address).is_some_and(|before| before != address) {
            self.fail(Checker::Sound, format!("n{node} made {} twice", address.short()));
        }
        self.objects.entry(address).or_insert(object);
    }

    fn deleted(&mut self, node: usize, session: &mut Session, object: &Ghid) {
        session.tracked.remove(object);
        let held = self.holds.remove(&(node, *object));
        if let Some(known) = self.objects.get_mut(object) {
            if known.making.owner == node {
                known.deleted = true;
                if known.making.dynamic {
                    self.gone.insert((node, *object));
                }
            } else if held.is_none() {
                let text = format!("n{node} deletes {object}, which it neither made nor holds");
                self.fail(Checker::Answers, text);
            }
        }
        if let Some(copied) = self.copies.get_mut(object) {
            copied.binders.remove(&node);
        }
    }

    /// A refusal needs a reason.
    fn refused(&mut self, node: usize, session: &mut Session, op: &Op, error: &IpcError) {
        let mut lost = None;
        let fair = match op {
            Op::Get(object) => {
                if session.app.is_none() {
                    session.answers.insert(*object, Err(error.clone()));
                }
                session.tracked.remove(object);
                lost = Some(*object);
                error.code == ErrorCode::DoesNotExist
            }
            Op::Push { object, .. } | Op::Sync(object) => {
                lost = Some(*object);
                error.code == ErrorCode::DoesNotExist
            }
            Op::Share { object, recipient } => {
                let offer = self.offers.entry((node, *recipient, *object)).or_default();
                offer.refused = true;
                let private = self.objects.get(object).is_some_and(|known| known.making.private)
                    || self.copies.get(object).is_some_and(|copied| copied.private);
                private
                    || error.code == ErrorCode::DoesNotExist && self.may_be_missing(node, object)
            }
            Op::Freeze { object, .. } => {
                let dynamic = self.objects.get(object).is_some_and(|known| known.making.dynamic);
                !dynamic || self.may_be_missing(node, object)
            }
            Op::Hold(object) => self.may_be_missing(node, object),
            Op::Delete(object) => {
                let held = self.holds.get(&(node, *object)) == Some(&Hold::Held);
                match self.objects.get(object) {
                    Some(known) if known.making.owner == node => known.deletes_asked > 1,
                    _ => !held || self.copies.contains_key(object),
                }
            }
            Op::New { .. }
            | Op::Discard(_)
            | Op::Token(_)
            | Op::Register(_)
            | Op::Deregister(_)
            | Op::Startup { .. }
            | Op::SetStartup(_)
            | Op::Status => false,
        };
        if !fair {
            let text = format!("n{node} refuses {op:?} without a reason: {error}");
            self.fail(Checker::Answers, text);
        }
        if let Some(object) = lost
            && !self.may_be_missing(node, &object)
        {
            let text = format!("n{node} has lost {}, asked for by {op:?}", object.short());
            self.fail(Checker::Acknowledged, text);
        }
    }

    /// Whether "does not exist" is a fair answer of a node.
    fn may_be_missing(&self, node: usize, address: &Ghid) -> bool {
        if let Some(object) = self.objects.get(address) {
            if object.making.private {
                // For other applications always; model applications ask for their own only.
                return object.deletes_asked > 0 || object.making.owner != node;
            }
            if object.making.owner == node {
                return object.deletes_asked > 0;
            }
            if self.holds.get(&(node, *address)) == Some(&Hold::Held) {
                return false;
            }
            let known = self.shown.contains_key(&(node, *address))
                || self.given.contains(&(node, *address));
            return object.deletes_asked > 0 || !known;
        }
        match self.copies.get(address).and_then(|copied| copied.binders.get(&node)) {
            Some(leaving) => *leaving,
            None => true,
        }
    }

    /// A state leaves a node.
    fn shows(&mut self, node: usize, session: &Session, record: &ObjectRecord) -> Option<State> {
        let address = record.address?;
        let short = address.short();
        let Some(state) = State::decode(&record.state) else {
            self.fail(Checker::Sound, format!("n{node} shows a state that nobody wrote"));
            return None;
        };
        let shown = self.shown.get(&(node, address)).copied().unwrap_or(0);
        let number = state.number;
        let making = self.makings.get(state.serial as usize);
        if making.is_some_and(|making| record.author == Some(self.fingerprints[making.owner]))
            && !self.addresses.contains_key(&state.serial)
            && !self.copies.contains_key(&address)
        {
            // Its creator was gone before the answer, but other applications of the node heard.
            self.made(node, state.serial, address);
        }
        if let Some(object) = self.objects.get(&address) {
            let making = object.making;
            let offered = self.offers.keys().any(|(_, to, offer)| *to == node && *offer == address);
            if object.serial != state.serial
                || number > object.sent
                || making.dynamic != record.dynamic
                || record.author != Some(self.fingerprints[making.owner])
            {
                let text = format!("n{node} shows {short} as {state:?}, which nobody wrote");
                self.fail(Checker::Sound, text);
            } else if number < shown {
                let text = format!("n{node} shows {short} at {number} after {shown}");
                self.fail(Checker::NeverBack, text);
            } else if self.gone.contains(&(node, address)) {
                let text = format!("n{node} shows {short} at {number} after it was gone");
                self.fail(Checker::NeverBack, text);
            } else if making.owner == node && number < object.acked {
                let text =
                    format!("n{node} shows {short} at {number}, acknowledged {}", object.acked);
                self.fail(Checker::Acknowledged, text);
            } else if making.private && session.app != Some(making.app)
                || making.owner != node && !offered
            {
                let text = format!("n{node} shows {short} to somebody whom it is none of");
                self.fail(Checker::Agree, text);
            }
        } else if let Some(copied) = self.copies.get_mut(&address) {
            let expected = *copied.number.get_or_insert(number);
            if copied.serial != state.serial || number != expected || number < copied.at_least {
                let text = format!(
                    "n{node} shows the copy {short} as {state:?}; it was of {} at {expected}, at \
                     least {}",
                    copied.serial, copied.at_least
                );
                self.fail(Checker::Acknowledged, text);
            }
        } else {
            self.fail(Checker::Sound, format!("n{node} shows {short}, which nobody made"));
        }
        self.shown.insert((node, address), shown.max(number));
        Some(state)
    }

    /// A notice leaves an engine.
    pub(crate) fn notified(
        &mut self,
        now: Micros,
        node: usize,
        session: &mut Session,
        notice: NoticeId,
        body: &Notice,
    ) {
        self.now = now;
        session.unread += 1;
        if session.unread > NOTICES_IN_FLIGHT {
            let text = format!("n{node}: {} notices under way to one application", session.unread);
            self.fail(Checker::Bounded, text);
        }
        session.notices.insert(notice, None);
        match body {
            Notice::Update(record) => {
                let state = self.shows(node, session, record);
                if let (Some(state), Some(address)) = (state, record.address)
                    && session.tracked.insert(address, state).is_none()
                    && session.app.is_some()
                {
                    let text = format!("n{node}: an update of {}, not followed", address.short());
                    self.fail(Checker::Heard, text);
                }
            }
            Notice::Share { object, origin, .. } => {
                self.given.insert((node, *object));
                let sender = self.fingerprints.iter().position(|known| known == origin);
                match sender {
                    Some(sender) if sender == node => {}
                    Some(sender) => {
                        session.notices.insert(notice, Some((sender, *object)));
                        self.share_given(node, session, (sender, *object));
                    }
                    None => self.fail(Checker::Sound, format!("n{node}: a share of nobody")),
                }
            }
            Notice::Deleted(object) => self.told_gone(node, session, object),
            Notice::ShareSucceeded { object, recipient }
            | Notice::ShareFailed { object, recipient } => {
                let failed = matches!(body, Notice::ShareFailed { .. });
                self.share_ended(node, object, recipient, failed);
            }
        }
    }

    fn share_given(&mut self, node: usize, session: &mut Session, offer: Offer) {
        let (sender, object) = offer;
        let short = object.short();
        let api = self.api(&object);
        self.next_order += 1;
        let order = self.next_order;
        let Some(offered) = self.offers.get_mut(&(sender, node, object)) else {
            self.fail(Checker::Shares, format!("n{node}: n{sender} never shared {short}"));
            return;
        };
        offered.given.get_or_insert(order);
        let registered = api.and_then(|api| session.first_registered.get(&api)).copied();
        let taken = offered.taken;
        if !session.shares.insert(offer) {
            let text = format!("n{node}: n{sender}'s share of {short} goes to an app twice");
            self.fail(Checker::Shares, text);
        } else if let (Some(registered), Some(taken)) = (registered, taken)
            && registered > taken
        {
            let text = format!("n{node}: n{sender}'s share of {short} comes after it was taken");
            self.fail(Checker::Shares, text);
        }
    }

    /// An application took a share, durably.
    pub(crate) fn share_taken(&mut self, node: usize, (sender, object): Offer, turn: u64) {
        if let Some(offer) = self.offers.get_mut(&(sender, node, object)) {
            offer.taken.get_or_insert(turn);
        }
    }

    fn share_ended(&mut self, node: usize, object: &Ghid, recipient: &Ghid, failed: bool) {
        let recipient = self.fingerprints.iter().position(|known| known == recipient);
        let short = object.short();
        let deleted = match (self.objects.get(object), self.copies.get(object)) {
            (Some(known), _) => known.deletes_asked > 0,
            (None, Some(copied)) => copied.binders.get(&node) != Some(&false),
            (None, None) => true,
        };
        let offer = recipient.and_then(|to| self.offers.get_mut(&(node, to, *object)));
        let Some(offer) = offer else {
            self.fail(Checker::Shares, format!("n{node} ends a share of {short} that never was"));
            return;
        };
        offer.results += 1;
        if offer.results > 1 {
            self.fail(Checker::Shares, format!("n{node}: a share of {short} ends twice"));
        } else if failed && !deleted {
            self.fail(Checker::Shares, format!("n{node}: the share of {short} fails"));
        }
    }

    fn told_gone(&mut self, node: usize, session: &mut Session, object: &Ghid) {
        session.tracked.remove(object);
        let Some(known) = self.objects.get(object) else {
            return;
        };
        if known.deletes_asked == 0 {
            let text = format!("n{node} says that {} is gone; nobody deleted it", object.short());
            self.fail(Checker::Acknowledged, text);
        } else if self.holds.get(&(node, *object)) == Some(&Hold::Held)
            && known.making.owner != node
        {
            let text = format!("n{node} says that {} is gone, which it holds", object.short());
            self.fail(Checker::Acknowledged, text);
        } else if known.making.dynamic {
            self.gone.insert((node, *object));
        }
    }
}
