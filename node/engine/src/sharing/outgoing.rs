//! Offered → acknowledged, refused or withdrawn.
//!
//! What is owed to an identity is a row in the outbox, written in the same transaction as the
//! answer to the application, sent in order over any link that proved that identity, and removed
//! when the other side has answered. It survives restarts of both sides.

use std::collections::BTreeMap;

use golix::object::{Request, RequestBody};
use golix::persister::Stored;
use golix::{Ghid, Identity};
use hypergolix_ipc::{AppToken, ConnectionId, Reply};
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::keyring::Record;
use crate::limits;
use crate::message::{Address, Message, Packed};
use crate::objects::{Answer, does_not_exist, ipc_error};
use crate::shelf;
use crate::sync::Detail;
use crate::timer::Timer;
use crate::turn::{Turn, key};
use crate::view::{Table, Time, ViewError};

/// A row of the outbox. Its key is `recipient 65 | number u64`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Owed {
    /// The object offered; `None` for an answer to a request.
    object: Option<Address>,
    /// The application that hears of the end.
    token: Option<[u8; 16]>,
    /// The sealed request, once the recipient's identity is known.
    request: Option<Packed>,
    /// The recipient's node stored the request; its answer is still to come.
    delivered: bool,
}

/// The object that is shared (none for an answer); our identity and the request.
type Sealed = (Option<Ghid>, Vec<Packed>);

/// What is owed, without the bytes.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Recipient, number in the order of the promises, delivered.
    rows: BTreeMap<(Ghid, u64), bool>,
    /// Requests under way to their rows.
    requests: BTreeMap<Ghid, (Ghid, u64)>,
    /// The rows that are answers: number to recipient.
    answers: BTreeMap<u64, Ghid>,
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
            outbox.rows.insert((recipient, number), owed.delivered);
            outbox.next = outbox.next.max(number + 1);
        }
        outbox.released = outbox.next;
        Ok(outbox)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Everybody to whom something is owed that was not delivered yet.
    pub(crate) fn recipients(&self) -> Vec<Ghid> {
        let mut recipients: Vec<Ghid> = self
            .rows
            .iter()
            .filter(|((_, number), delivered)| !**delivered && self.may_leave(*number))
            .map(|((recipient, _), _)| *recipient)
            .collect();
        recipients.dedup();
        recipients
    }

    pub(crate) fn undelivered(&self, recipient: &Ghid) -> Vec<u64> {
        self.rows
            .range((*recipient, 0)..=(*recipient, u64::MAX))
            .filter(|((_, number), delivered)| !**delivered && self.may_leave(*number))
            .map(|((_, number), _)| *number)
            .collect()
    }

    fn all_of(&self, recipient: &Ghid) -> Vec<u64> {
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
        let owed = Owed {
            object: Some(Address(object)),
            token: self.apps.token(connection).map(|token| token.0),
            request: None,
            delivered: false,
        };
        self.owe(turn, recipient, &owed);
        if resolved.dynamic && resolved.binder == self.me {
            let name = key(&[object.as_bytes(), recipient.as_bytes()]);
            self.keyring.put(turn, Record::Recipient, &name, &[])?;
        }
        Ok(Ok(Reply::Done))
    }

    /// Owes the key of a new epoch of an object to somebody who has the one before.
    pub(super) fn owe_new_key(&mut self, turn: &mut Turn<'_>, object: Ghid, recipient: Ghid) {
        let owed =
            Owed { object: Some(Address(object)), token: None, request: None, delivered: false };
        self.owe(turn, recipient, &owed);
    }

    /// What was to be shared with somebody is no longer.
    pub(super) fn cancel_owed(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
        recipient: &Ghid,
    ) -> Result<(), ViewError> {
        for number in self.outbox.all_of(recipient) {
            let Some(value) = turn.get(Table::Outbox, &row(recipient, number))? else {
                continue;
            };
            let owed = decode(&value)?;
            if owed.object == Some(Address(*object)) {
                if let Some(request) = owed.request.as_ref().and_then(|it| address_of(it).ok()) {
                    self.outbox.requests.remove(&request);
                }
                self.settle_debt(turn, *recipient, number);
            }
        }
        Ok(())
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
        };
        if self.outbox.answers.len() >= limits::ANSWERS_OWED
            && let Some((number, recipient)) = self.outbox.answers.pop_first()
        {
            self.settle_debt(turn, recipient, number);
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

    fn owe(&mut self, turn: &mut Turn<'_>, recipient: Ghid, owed: &Owed) -> u64 {
        let number = self.outbox.next;
        self.outbox.next += 1;
        self.outbox.rows.insert((recipient, number), false);
        turn.put(Table::Outbox, row(&recipient, number), encode(owed));
        if owed.object.is_some() {
            self.links.interesting(recipient);
        }
        number
    }

    fn settle_debt(&mut self, turn: &mut Turn<'_>, recipient: Ghid, number: u64) {
        self.outbox.answers.remove(&number);
        self.outbox.rows.remove(&(recipient, number));
        turn.delete(Table::Outbox, row(&recipient, number));
    }

    /// Sends over `link` what is owed to `recipient`, oldest first, as far as its window goes.
    pub(crate) fn send_owed(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        recipient: Ghid,
    ) -> Result<(), ViewError> {
        for number in self.outbox.undelivered(&recipient) {
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

    /// The bundle of one debt; `None` if it had to be given up.
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
        let Some(value) = turn.get(Table::Outbox, &row(&recipient, number))? else {
            self.outbox.rows.remove(&(recipient, number));
            return Ok(None);
        };
        let mut owed = decode(&value)?;
        let own_identity = Packed::from(self.account.identity().identity().encode());
        let mut objects = vec![own_identity];
        let Some(Address(object)) = owed.object else {
            objects.extend(owed.request);
            return Ok(Some((None, objects)));
        };
        let Some(resolved) = self.resolve(turn, &object)? else {
            // Deleted before the recipient took it.
            self.give_up(turn, recipient, number, &owed);
            return Ok(None);
        };
        let request = if let Some(request) = owed.request.clone() {
            request
        } else {
            let Some(identity) = shelf::identity(turn, &recipient)? else {
                return Ok(None);
            };
            let secret = match &resolved.chain {
                Some(chain) => chain.to_handshake(),
                None => resolved.secret,
            };
            let body = RequestBody::Handshake { target: object, secret };
            let sealed = Request::seal(self.account.identity(), &identity, &body, turn.random());
            let Ok(sealed) = sealed else {
                // A recipient without usable keys.
                self.give_up(turn, recipient, number, &owed);
                return Ok(None);
            };
            let request = Packed::from(sealed.bytes().to_vec());
            owed.request = Some(request.clone());
            self.outbox.requests.insert(sealed.ghid(), (recipient, number));
            turn.put(Table::Outbox, row(&recipient, number), encode(&owed));
            request
        };
        objects.push(request);
        Ok(Some((Some(object), objects)))
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
        let Some(value) = turn.get(Table::Outbox, &row(&recipient, number))? else {
            return Ok(());
        };
        // A share is owed until it is answered, whatever became of it in a mailbox.
        let everywhere = self.is_mailed_everywhere(recipient, number)
            && (self.is_mailed_where_it_belongs(recipient, number)
                || !self.is_still_sought(&recipient));
        if decode(&value)?.object.is_none() && (handled || everywhere) {
            self.settle_debt(turn, recipient, number);
        }
        Ok(())
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
        let Some(value) = turn.get(Table::Outbox, &row(&recipient, number))? else {
            return Ok(());
        };
        let mut owed = decode(&value)?;
        // The request stands second, behind our identity. 0 is "stored", 6 "handled before".
        let stored = matches!(results.get(1), Some(0 | 6));
        if results.get(1) == Some(&1) {
            // No room at the moment: the same bytes again, a little later, in the same order.
            self.links.pause(turn, link);
        } else if !stored {
            turn.log("a request was not taken", recipient.short());
            self.give_up(turn, recipient, number, &owed);
        } else if owed.object.is_none() {
            self.settle_debt(turn, recipient, number);
        } else {
            owed.delivered = true;
            self.outbox.rows.insert((recipient, number), true);
            turn.put(Table::Outbox, row(&recipient, number), encode(&owed));
        }
        Ok(())
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, recipient: Ghid, number: u64, owed: &Owed) {
        self.settle_debt(turn, recipient, number);
        if let Some(request) = owed.request.as_ref().and_then(|bytes| address_of(bytes).ok()) {
            self.outbox.requests.remove(&request);
        }
        if let (Some(Address(object)), Some(token)) = (owed.object, owed.token) {
            self.tell_share_result(AppToken(token), object, recipient, false);
        }
    }

    /// The recipient of a share answered.
    pub(crate) fn share_answered(
        &mut self,
        turn: &mut Turn<'_>,
        author: &Identity,
        request: Ghid,
        taken: bool,
    ) -> Result<(), ViewError> {
        let Some((recipient, number)) = self.outbox.requests.get(&request).copied() else {
            return Ok(());
        };
        if recipient != author.ghid() {
            return Ok(());
        }
        self.outbox.requests.remove(&request);
        let Some(value) = turn.get(Table::Outbox, &row(&recipient, number))? else {
            return Ok(());
        };
        let owed = decode(&value)?;
        self.settle_debt(turn, recipient, number);
        if let (Some(Address(object)), Some(token)) = (owed.object, owed.token) {
            self.tell_share_result(AppToken(token), object, recipient, taken);
        }
        Ok(())
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
