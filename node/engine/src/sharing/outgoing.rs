//! Offered → acknowledged, refused or withdrawn.
//!
//! What is owed to an identity is a row in the outbox, written in the same transaction as the
//! answer to the application, sent in order over any link that proved that identity, and removed
//! when the other side has answered. It survives restarts of both sides. The other devices of the account
//! know of shares (`promises.rs`); answers leave from the device that the request came to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use golix::object::{Request, RequestBody, Verified};
use golix::persister::Stored;
use golix::{Ghid, Identity};
use hypergolix_ipc::{AppToken, ConnectionId, Reply};
use serde::{Deserialize, Serialize};

use super::promises::Name;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::keyring::Record;
use crate::limits;
use crate::message::{Address, Message, Packed};
use crate::objects::{Answer, Resolved, does_not_exist, ipc_error};
use crate::shelf;
use crate::sync::Detail;
use crate::timer::Timer;
use crate::turn::{Turn, key};
use crate::view::{Table, Time, ViewError};

/// A row of the outbox. Its key is `recipient 65 | number u64`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Owed {
    /// The object offered; `None` for an answer to a request.
    pub(super) object: Option<Address>,
    /// The application that hears of the end.
    pub(super) token: Option<[u8; 16]>,
    /// The sealed request, once the recipient's identity is known.
    pub(super) request: Option<Packed>,
    /// The recipient's node stored the request; its answer is still to come.
    pub(super) delivered: bool,
    /// The account record of the same debt. Earlier versions had none, nor have answers.
    #[serde(default)]
    pub(super) record: Option<Name>,
    /// Another device of the account made it.
    #[serde(default)]
    pub(super) adopted: bool,
}

impl Owed {
    pub(super) fn share(object: Ghid) -> Self {
        Self {
            object: Some(Address(object)),
            token: None,
            request: None,
            delivered: false,
            record: None,
            adopted: false,
        }
    }
}

/// The object that is shared (none for an answer); our identity and the request.
type Sealed = (Option<Ghid>, Vec<Packed>);

/// A row without its bytes.
#[derive(Debug, Clone)]
struct Debt {
    delivered: bool,
    /// The object offered, if it is a share.
    object: Option<Ghid>,
    record: Option<Name>,
    /// When this device heard of it, if another one made it.
    heard: Option<Time>,
}

/// An answer to a request that is not known here: who answered, which request, whether it was taken.
type Heard = (Identity, Ghid, bool);

/// What is owed, without the bytes.
#[derive(Default)]
pub(crate) struct Outbox {
    /// By recipient and number, in the order of the promises.
    rows: BTreeMap<(Ghid, u64), Debt>,
    /// Requests under way to their rows.
    requests: BTreeMap<Ghid, (Ghid, u64)>,
    /// The rows that are answers: number to recipient.
    answers: BTreeMap<u64, Ghid>,
    /// The rows that have a record.
    records: BTreeMap<Name, (Ghid, u64)>,
    /// The rows that are shares of an object.
    objects: BTreeSet<(Ghid, Ghid, u64)>,
    /// What was answered before its record came.
    heard: VecDeque<Heard>,
    /// Debts that came to an end of which nothing more was heard, and until when it is waited for.
    ending: BTreeSet<(Time, (Ghid, u64))>,
    /// When other devices' debts are looked at next.
    wakes: Option<Time>,
    next: u64,
    /// Answers before this number may leave.
    released: u64,
}

impl Outbox {
    pub(crate) fn open(turn: &Turn<'_>) -> Result<Self, ViewError> {
        let mut outbox = Self::default();
        for (row, value) in turn.prefixed(Table::Outbox, &[], usize::MAX >> 1)? {
            let (recipient, number) = row.split_at_checked(Ghid::LEN).ok_or_else(damaged_row)?;
            let recipient = Ghid::from_bytes(recipient).map_err(|_| damaged_row())?;
            let number = u64::from_be_bytes(number.try_into().map_err(|_| damaged_row())?);
            let owed = decode(&value)?;
            if owed.object.is_none() {
                outbox.answers.insert(number, recipient);
            } else if let Some(request) = &owed.request {
                outbox.requests.insert(address_of(request)?, (recipient, number));
            }
            outbox.add((recipient, number), &owed, turn.now());
        }
        outbox.released = outbox.next;
        Ok(outbox)
    }

    fn add(&mut self, debt: (Ghid, u64), owed: &Owed, now: Time) {
        let (recipient, number) = debt;
        let object = owed.object.map(|Address(object)| object);
        if let Some(name) = owed.record {
            self.records.insert(name, debt);
        }
        if let Some(object) = object {
            self.objects.insert((object, recipient, number));
        }
        let heard = owed.adopted.then_some(now);
        let row = Debt { delivered: owed.delivered, object, record: owed.record, heard };
        self.rows.insert(debt, row);
        self.next = self.next.max(number + 1);
    }

    fn remove(&mut self, debt: (Ghid, u64)) {
        let (recipient, number) = debt;
        self.answers.remove(&number);
        if let Some(row) = self.rows.remove(&debt) {
            if let Some(name) = row.record {
                self.records.remove(&name);
            }
            if let Some(object) = row.object {
                self.objects.remove(&(object, recipient, number));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Everybody to whom something is owed that was not delivered yet.
    pub(crate) fn recipients(&self) -> Vec<Ghid> {
        let mut recipients: Vec<Ghid> = self
            .rows
            .iter()
            .filter(|((_, number), debt)| !debt.delivered && self.may_leave(*number))
            .map(|((recipient, _), _)| *recipient)
            .collect();
        recipients.dedup();
        recipients
    }

    /// Whether anything is owed to somebody that was not delivered yet.
    pub(crate) fn owes(&self, recipient: &Ghid) -> bool {
        !self.undelivered_since(recipient).is_empty()
    }

    /// The numbers of what was not delivered to somebody, and when this device heard of those that
    /// another one made.
    pub(super) fn undelivered_since(&self, recipient: &Ghid) -> Vec<(u64, Option<Time>)> {
        self.rows
            .range((*recipient, 0)..=(*recipient, u64::MAX))
            .filter(|((_, number), debt)| !debt.delivered && self.may_leave(*number))
            .map(|((_, number), debt)| (*number, debt.heard))
            .collect()
    }

    /// Recipient and number of what was not delivered of an object.
    pub(super) fn undelivered_of(&self, object: &Ghid) -> Vec<(Ghid, u64)> {
        let first = Ghid::from_address([0; 64]);
        self.objects
            .range((*object, first, 0)..)
            .take_while(|(other, _, _)| other == object)
            .map(|(_, recipient, number)| (*recipient, *number))
            .filter(|debt| self.rows.get(debt).is_some_and(|row| !row.delivered))
            .collect()
    }

    /// What another device made and nobody delivered: the recipient, and when this device heard of it.
    pub(super) fn adopted(&self) -> Vec<(Ghid, Time)> {
        let rows = self.rows.iter().filter(|(_, debt)| !debt.delivered);
        rows.filter_map(|((recipient, _), debt)| debt.heard.map(|at| (*recipient, at))).collect()
    }

    /// A debt is at its end, unless something else is heard before that moment.
    pub(super) fn ends(&mut self, at: Time, debt: (Ghid, u64)) {
        self.ending.insert((at, debt));
    }

    /// Debts of which it was waited for long enough how they end; and when there will be more.
    pub(super) fn take_ended(&mut self, now: Time) -> (Vec<(Ghid, u64)>, Option<Time>) {
        let mut ended = Vec::new();
        while let Some((at, debt)) = self.ending.pop_first() {
            if at > now {
                self.ending.insert((at, debt));
                return (ended, Some(at));
            }
            ended.push(debt);
        }
        (ended, None)
    }

    /// The debts that have a record.
    pub(super) fn recorded(&self) -> Vec<(Name, (Ghid, u64))> {
        self.records.iter().map(|(name, debt)| (*name, *debt)).collect()
    }

    pub(super) fn records(&self) -> usize {
        self.records.len()
    }

    pub(super) fn of_record(&self, name: &Name) -> Option<(Ghid, u64)> {
        self.records.get(name).copied()
    }

    /// Whether a timer has to be set for `at`; if one is set for earlier, that will do.
    pub(super) fn wakes(&mut self, now: Time, at: Time) -> bool {
        let sooner = self.wakes.is_none_or(|before| before <= now || at < before);
        if sooner {
            self.wakes = Some(at);
        }
        sooner
    }

    pub(super) fn woke(&mut self) {
        self.wakes = None;
    }

    fn hear(&mut self, heard: Heard) {
        if self.heard.len() >= limits::ANSWERS_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
    }

    /// What somebody answered that nothing was known of.
    pub(super) fn take_heard(&mut self, author: &Ghid) -> VecDeque<Heard> {
        let (theirs, others) = self.heard.drain(..).partition(|(by, ..)| by.ghid() == *author);
        self.heard = others;
        theirs
    }

    pub(super) fn all_of(&self, recipient: &Ghid) -> Vec<u64> {
        let rows = self.rows.range((*recipient, 0)..=(*recipient, u64::MAX));
        rows.map(|((_, number), _)| *number).collect()
    }

    /// Answers wait for their scheduled moment.
    fn may_leave(&self, number: u64) -> bool {
        number < self.released || !self.answers.contains_key(&number)
    }
}

impl Engine {
    /// Promises an object to another user; the network is asked later.
    pub(crate) fn share(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        object: Ghid,
        recipient: Ghid,
    ) -> Answer {
        let Some(resolved) = self.visible(turn, connection, &object)? else {
            return Ok(Err(does_not_exist(&object)));
        };
        if resolved.content.private.is_some() {
            return Ok(Err(ipc_error("a private object cannot be shared")));
        }
        if recipient == self.me {
            return Ok(Err(ipc_error("an object cannot be shared with its own user")));
        }
        let stored = shelf::bytes(turn, &recipient)?.as_deref().and_then(Stored::read);
        if !matches!(stored, None | Some(Stored::Identity { .. }))
            || shelf::head(turn, &recipient)?.is_some()
        {
            return Ok(Err(ipc_error("the recipient is not a user but an object")));
        }
        let token = self.apps.token(connection).map(|token| token.0);
        let secret = match &resolved.chain {
            Some(chain) => chain.to_handshake(),
            None => resolved.secret,
        };
        self.promise(turn, object, recipient, token, secret)?;
        if resolved.dynamic && resolved.binder == self.me {
            let name = key(&[object.as_bytes(), recipient.as_bytes()]);
            self.keyring.put(turn, Record::Recipient, &name, &[])?;
        }
        Ok(Ok(Reply::Done))
    }

    /// What was to be shared with somebody is no longer; the application that waits to hear of it.
    pub(super) fn cancel_owed(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
        recipient: &Ghid,
    ) -> Result<Option<[u8; 16]>, ViewError> {
        let mut token = None;
        for number in self.outbox.all_of(recipient) {
            let Some(owed) = Self::read_owed(turn, recipient, number)? else {
                continue;
            };
            if owed.object == Some(Address(*object)) {
                token = token.or(owed.token);
                self.settle_debt(turn, *recipient, number, &owed)?;
            }
        }
        Ok(token)
    }

    /// Owes the answer to a request. Its recipient's identity is known: it came with the request.
    /// It leaves with the next of the scheduled moments, whenever the request was opened.
    pub(crate) fn owe_answer(
        &mut self,
        turn: &mut Turn<'_>,
        author: &Identity,
        request: Ghid,
        taken: bool,
    ) {
        let body = if taken {
            RequestBody::Ack { request, status: 0 }
        } else {
            RequestBody::Nak { request, status: 0 }
        };
        let sealed = Request::seal(self.account.identity(), author, &body, turn.random());
        let Ok(sealed) = sealed else {
            turn.log("an answer could not be sealed", author.ghid().short());
            return;
        };
        let owed = Owed {
            object: None,
            token: None,
            request: Some(Packed::from(sealed.bytes().to_vec())),
            delivered: false,
            record: None,
            adopted: false,
        };
        if self.outbox.answers.len() >= limits::ANSWERS_OWED
            && let Some((number, recipient)) = self.outbox.answers.pop_first()
        {
            self.drop_debt(turn, recipient, number);
        }
        let number = self.owe(turn, author.ghid(), &owed);
        self.outbox.answers.insert(number, author.ghid());
        let at = next_scheduled(turn.now());
        turn.effect(Effect::SetTimer { timer: Timer::Answers, at });
    }

    /// The scheduled moment for answers came.
    pub(crate) fn release_answers(&mut self) {
        let released = std::mem::replace(&mut self.outbox.released, self.outbox.next);
        for recipient in self.outbox.answers.range(released..).map(|(_, recipient)| *recipient) {
            self.links.interesting(recipient);
        }
    }

    /// What the other side had no room for is offered again.
    pub(crate) fn offer_again(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        for identity in self.links.resume(link) {
            self.send_owed(turn, link, identity)?;
        }
        Ok(())
    }

    pub(super) fn owe(&mut self, turn: &mut Turn<'_>, recipient: Ghid, owed: &Owed) -> u64 {
        let number = self.outbox.next;
        self.outbox.add((recipient, number), owed, turn.now());
        Self::write_owed(turn, &recipient, number, owed);
        if owed.object.is_some() {
            self.links.interesting(recipient);
        }
        number
    }

    fn drop_debt(&mut self, turn: &mut Turn<'_>, recipient: Ghid, number: u64) {
        self.outbox.remove((recipient, number));
        turn.delete(Table::Outbox, row(&recipient, number));
    }

    /// Nothing of it is owed any longer, on any device.
    pub(super) fn settle_debt(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: Ghid,
        number: u64,
        owed: &Owed,
    ) -> Result<(), ViewError> {
        self.drop_owed(turn, recipient, number, owed);
        self.settle_record(turn, owed, false)
    }

    fn drop_owed(&mut self, turn: &mut Turn<'_>, recipient: Ghid, number: u64, owed: &Owed) {
        self.drop_debt(turn, recipient, number);
        if let Some(request) = owed.request.as_ref().and_then(|bytes| address_of(bytes).ok()) {
            self.outbox.requests.remove(&request);
        }
    }

    /// A share came to its end, of which its application is told. Of a refusal other devices are told, too:
    /// a record that is gone stands for a share that was taken.
    pub(super) fn end_debt(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: Ghid,
        number: u64,
        owed: &Owed,
        taken: bool,
    ) -> Result<(), ViewError> {
        self.drop_owed(turn, recipient, number, owed);
        self.settle_record(turn, owed, !taken)?;
        if let (Some(Address(object)), Some(token)) = (owed.object, owed.token) {
            self.tell_share_result(AppToken(token), object, recipient, taken);
        }
        Ok(())
    }

    pub(super) fn read_owed(
        turn: &Turn<'_>,
        recipient: &Ghid,
        number: u64,
    ) -> Result<Option<Owed>, ViewError> {
        turn.get(Table::Outbox, &row(recipient, number))?.map(|value| decode(&value)).transpose()
    }

    pub(super) fn write_owed(turn: &mut Turn<'_>, recipient: &Ghid, number: u64, owed: &Owed) {
        turn.put(Table::Outbox, row(recipient, number), encode(owed));
    }

    /// Sends over `link` what is owed to `recipient`, oldest first, as far as its window goes.
    pub(crate) fn send_owed(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        recipient: Ghid,
    ) -> Result<(), ViewError> {
        for number in self.due_at(turn, link, &recipient) {
            let room = self.links.publishes(link, (recipient, number));
            match room {
                None => return Ok(()),
                Some(true) => continue,
                Some(false) => {}
            }
            let Some(objects) = self.owed_objects(turn, recipient, number)? else {
                continue;
            };
            let size = objects.iter().map(|object| object.len()).sum();
            let Some(id) = self.links.begin_publish(turn, link, (recipient, number), size) else {
                return Ok(());
            };
            self.links.send(turn, link, Message::Publish { id, objects });
        }
        Ok(())
    }

    /// The bundle of one debt; `None` if it had to be given up, or the object is not here.
    fn owed_objects(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: Ghid,
        number: u64,
    ) -> Result<Option<Vec<Packed>>, ViewError> {
        let Some((object, mut objects)) = self.owed_request(turn, recipient, number)? else {
            return Ok(None);
        };
        if let Some(object) = object {
            if self.resolve(turn, &object)?.is_none() {
                // Another device promised it. It may come.
                let at = turn.now() + limits::OWED_TAKEOVER;
                self.wake_for_owed(turn, at);
                return Ok(None);
            }
            objects.extend(self.holdings().bundle(turn, &object, Detail::Readable)?);
        }
        Ok(Some(objects))
    }

    /// Our identity and the request of one debt, and the object that is shared; `None` if it had to
    /// be given up, or cannot be sealed yet.
    pub(crate) fn owed_request(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: Ghid,
        number: u64,
    ) -> Result<Option<Sealed>, ViewError> {
        let Some(mut owed) = Self::read_owed(turn, &recipient, number)? else {
            self.outbox.remove((recipient, number));
            return Ok(None);
        };
        let own_identity = Packed::from(self.account.identity().identity().encode());
        let mut objects = vec![own_identity];
        let Some(Address(object)) = owed.object else {
            objects.extend(owed.request);
            return Ok(Some((None, objects)));
        };
        let resolved = self.resolve(turn, &object)?;
        if resolved.is_none() && !owed.adopted {
            // Deleted before the recipient took it.
            self.end_debt(turn, recipient, number, &owed, false)?;
            return Ok(None);
        }
        let request = match (owed.record, resolved) {
            (Some(name), _) => {
                self.promised_request(turn, (recipient, number), &mut owed, &name)?
            }
            (None, Some(resolved)) => {
                self.unrecorded_request(turn, (recipient, number), &mut owed, &resolved)?
            }
            (None, None) => None,
        };
        Ok(request.map(|request| {
            objects.push(request);
            (Some(object), objects)
        }))
    }

    /// The request of a debt that no other device knows of.
    fn unrecorded_request(
        &mut self,
        turn: &mut Turn<'_>,
        (recipient, number): (Ghid, u64),
        owed: &mut Owed,
        resolved: &Resolved,
    ) -> Result<Option<Packed>, ViewError> {
        if let Some(request) = owed.request.clone() {
            return Ok(Some(request));
        }
        let Some(identity) = shelf::identity(turn, &recipient)? else {
            return Ok(None);
        };
        let secret = match &resolved.chain {
            Some(chain) => chain.to_handshake(),
            None => resolved.secret.clone(),
        };
        let body = RequestBody::Handshake { target: resolved.address, secret };
        let sealed = Request::seal(self.account.identity(), &identity, &body, turn.random());
        let Ok(sealed) = sealed else {
            // A recipient without usable keys.
            self.end_debt(turn, recipient, number, owed, false)?;
            return Ok(None);
        };
        Ok(Some(self.keep_sealed(turn, (recipient, number), owed, &sealed)))
    }

    /// Keeps the sealed request of a debt, so that an answer finds what it is about.
    pub(super) fn keep_sealed(
        &mut self,
        turn: &mut Turn<'_>,
        (recipient, number): (Ghid, u64),
        owed: &mut Owed,
        sealed: &Verified,
    ) -> Packed {
        let request = Packed::from(sealed.bytes().to_vec());
        owed.request = Some(request.clone());
        self.outbox.requests.insert(sealed.ghid(), (recipient, number));
        Self::write_owed(turn, &recipient, number, owed);
        request
    }

    /// A debt waits in its recipient's mailbox at a persister, or (`handled`) was in it before. What
    /// answers somebody is settled when it is at every persister that we reach, and at one of those that
    /// the recipient uses, as far as that is to be found out.
    pub(crate) fn mailed(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: Ghid,
        number: u64,
        handled: bool,
    ) -> Result<(), ViewError> {
        let Some(owed) = Self::read_owed(turn, &recipient, number)? else {
            return Ok(());
        };
        // A share is owed until it is answered, wherever it waits.
        let everywhere = self.is_mailed_everywhere(recipient, number)
            && (self.is_mailed_where_it_belongs(recipient, number)
                || !self.is_still_sought(&recipient));
        if owed.object.is_none() && (handled || everywhere) {
            self.drop_debt(turn, recipient, number);
        }
        Ok(())
    }

    /// The request of a share that is owed, if it was sealed.
    pub(crate) fn request_of_debt(
        turn: &Turn<'_>,
        (recipient, number): (Ghid, u64),
    ) -> Result<Option<Ghid>, ViewError> {
        let owed = Self::read_owed(turn, &recipient, number)?.filter(|owed| owed.object.is_some());
        owed.and_then(|owed| owed.request).map(|request| address_of(&request)).transpose()
    }

    /// The other side stored (or refused to store) what was owed.
    pub(crate) fn published(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        recipient: Ghid,
        number: u64,
        results: &[u32],
    ) -> Result<(), ViewError> {
        let Some(mut owed) = Self::read_owed(turn, &recipient, number)? else {
            return Ok(());
        };
        // The request stands second, behind our identity. 0 is "stored", 6 "handled before".
        let stored = matches!(results.get(1), Some(0 | 6));
        if results.get(1) == Some(&1) {
            // No room at the moment: the same bytes again, a little later, in the same order.
            self.links.pause(turn, link);
        } else if !stored {
            turn.log("a request was not taken", recipient.short());
            self.end_debt(turn, recipient, number, &owed, false)?;
        } else if owed.object.is_none() {
            self.drop_debt(turn, recipient, number);
        } else {
            owed.delivered = true;
            if let Some(debt) = self.outbox.rows.get_mut(&(recipient, number)) {
                debt.delivered = true;
            }
            Self::write_owed(turn, &recipient, number, &owed);
        }
        Ok(())
    }

    /// The recipient of a share answered.
    pub(crate) fn share_answered(
        &mut self,
        turn: &mut Turn<'_>,
        author: &Identity,
        request: Ghid,
        taken: bool,
    ) -> Result<(), ViewError> {
        if !self.outbox.requests.contains_key(&request) {
            self.seal_owed_to(turn, author)?;
        }
        let Some((recipient, number)) = self.outbox.requests.get(&request).copied() else {
            // Another device may have made it, and its record be under way.
            self.outbox.hear((author.clone(), request, taken));
            return Ok(());
        };
        if recipient != author.ghid() {
            return Ok(());
        }
        self.outbox.requests.remove(&request);
        match Self::read_owed(turn, &recipient, number)? {
            Some(owed) => self.end_debt(turn, recipient, number, &owed, taken),
            None => Ok(()),
        }
    }
}

/// The next moment at which answers leave.
fn next_scheduled(now: Time) -> Time {
    let schedule = limits::ANSWER_SCHEDULE;
    let past = now.since_origin().as_nanos() / schedule.as_nanos();
    let periods = u32::try_from(past + 1).unwrap_or(u32::MAX);
    Time::from_origin(schedule * periods)
}

fn row(recipient: &Ghid, number: u64) -> Vec<u8> {
    key(&[recipient.as_bytes(), &number.to_be_bytes()])
}

fn encode(owed: &Owed) -> Vec<u8> {
    cbor4ii::serde::to_vec(Vec::new(), owed).expect("a row is plain data")
}

fn decode(value: &[u8]) -> Result<Owed, ViewError> {
    cbor4ii::serde::from_slice(value).map_err(|_| damaged_row())
}

/// The address that packed bytes of our own making carry.
fn address_of(request: &[u8]) -> Result<Ghid, ViewError> {
    golix::object::Unverified::parse(request).map(|object| object.ghid()).map_err(|_| damaged_row())
}

fn damaged_row() -> ViewError {
    ViewError("a row of the outbox is damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_before_there_were_records_can_be_read() {
        #[derive(Serialize)]
        struct Before {
            object: Option<Address>,
            token: Option<[u8; 16]>,
            request: Option<Packed>,
            delivered: bool,
        }
        let before = Before {
            object: Some(Address(Ghid::of(b"object"))),
            token: Some([1; 16]),
            request: Some(Packed::from(vec![2; 40])),
            delivered: true,
        };
        let row = cbor4ii::serde::to_vec(Vec::new(), &before).expect("plain data");
        let owed = decode(&row).expect("a row");
        assert!(owed.delivered && owed.record.is_none() && !owed.adopted);
        assert_eq!((owed.object, owed.token), (before.object, before.token));
    }
}
