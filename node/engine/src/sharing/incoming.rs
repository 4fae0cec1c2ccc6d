//! Received → accepted or refused, and the answer; shares that wait for an application.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use golix::object::{Debinding, Object, OpenedRequest, RequestBody, Unverified, Verified};
use golix::{Ghid, Identity};
use hypergolix_ipc::{ApiId, ConnectionId};
use zeroize::Zeroizing;

use crate::engine::Engine;
use crate::keyring::{Keyring, Record};
use crate::limits;
use crate::shelf;
use crate::sync::Stash;
use crate::turn::Turn;
use crate::view::ViewError;

/// The beginning of a request's hash: one share, on all devices that it came to.
type RequestTag = [u8; 16];

/// What was shared with this account and no application has taken yet.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) object: Ghid,
    /// Who shared it.
    pub(crate) origin: Ghid,
    /// The object's api id; meaningless until the object can be read.
    pub(crate) api: ApiId,
    /// The request that brought it; records of earlier versions do not say.
    request: Option<RequestTag>,
    /// The object can be read, so the share can be delivered.
    ready: bool,
    /// Connections that it was queued for.
    given: BTreeSet<ConnectionId>,
}

/// Shares that wait for an application, in the order of their arrival, kept in the account. Their
/// numbers end in the slot of the device that they came to.
#[derive(Default)]
pub(crate) struct Shares {
    waiting: BTreeMap<u64, Share>,
    next: u64,
    /// Requests whose shares were taken here lately: the same may have come to another device.
    taken: VecDeque<RequestTag>,
}

impl Shares {
    pub(crate) fn open(turn: &Turn<'_>, keyring: &Keyring) -> Result<Self, ViewError> {
        let damaged = || ViewError("the record of a waiting share is damaged".into());
        let mut shares = Self::default();
        for (name, body) in keyring.all(turn, Record::Share)? {
            let (number, mut share) = read(&name, &body).ok_or_else(damaged)?;
            // Another device of the account may have the object, and not this one.
            share.ready = share.ready
                && (shelf::head(turn, &share.object)?.is_some()
                    || shelf::is_object(turn, &share.object)?);
            shares.insert(number, share);
        }
        Ok(shares)
    }

    fn insert(&mut self, number: u64, share: Share) {
        self.next = self.next.max((number >> 8) + 1);
        self.waiting.insert(number, share);
    }

    /// The number of the share that the same request brought to another device.
    fn twin(&self, of: u64, share: &Share) -> Option<u64> {
        self.waiting
            .iter()
            .find(|(number, other)| {
                let same = match (&share.request, &other.request) {
                    (Some(request), Some(other)) => request == other,
                    _ => other.object == share.object && other.origin == share.origin,
                };
                **number != of && same
            })
            .map(|(number, _)| *number)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Shares that could be delivered, oldest first, so that two of one sender keep their order.
    pub(crate) fn deliverable(&self) -> Vec<(u64, Share)> {
        self.waiting
            .iter()
            .filter(|(_, share)| share.ready && share.given.is_empty())
            .map(|(number, share)| (*number, share.clone()))
            .collect()
    }

    /// Notes that `takers` get this share; returns those that did not have it yet.
    pub(crate) fn give_to(&mut self, number: u64, takers: &[ConnectionId]) -> Vec<ConnectionId> {
        let Some(share) = self.waiting.get_mut(&number) else {
            return Vec::new();
        };
        takers.iter().copied().filter(|taker| share.given.insert(*taker)).collect()
    }

    /// An application took it: nobody else gets it later, except who was given it already.
    pub(crate) fn delivered(
        &mut self,
        turn: &mut Turn<'_>,
        keyring: &Keyring,
        number: u64,
    ) -> Result<(), ViewError> {
        if let Some(request) = self.waiting.get(&number).and_then(|share| share.request) {
            self.taken.push_back(request);
            if self.taken.len() > limits::SHARES_TAKEN {
                self.taken.pop_front();
            }
        }
        self.forget(turn, keyring, number)
    }

    fn forget(
        &mut self,
        turn: &mut Turn<'_>,
        keyring: &Keyring,
        number: u64,
    ) -> Result<(), ViewError> {
        match self.waiting.remove(&number) {
            Some(_) => keyring.forget(turn, Record::Share, &number.to_be_bytes()),
            None => Ok(()),
        }
    }

    /// An application went away, or did not want it.
    pub(crate) fn put_back(&mut self, number: u64, connection: ConnectionId) {
        if let Some(share) = self.waiting.get_mut(&number) {
            share.given.remove(&connection);
        }
    }

    fn add(
        &mut self,
        turn: &mut Turn<'_>,
        keyring: &Keyring,
        object: Ghid,
        origin: Ghid,
        request: &Ghid,
    ) -> Result<(), ViewError> {
        let share = Share {
            object,
            origin,
            api: ApiId::ZERO,
            request: Some(tag(request)),
            ready: false,
            given: BTreeSet::new(),
        };
        let number = self.next << 8 | u64::from(keyring.slot());
        keyring.put(turn, Record::Share, &number.to_be_bytes(), &body(&share))?;
        self.insert(number, share);
        Ok(())
    }

    fn has_room_for(&self, origin: &Ghid) -> bool {
        let of_origin = self.waiting.values().filter(|share| share.origin == *origin).count();
        self.waiting.len() < limits::SHARES_WAITING && of_origin < limits::SHARES_WAITING_PER_SENDER
    }

    fn unready(&self, arrived: &BTreeSet<Ghid>) -> Vec<(u64, Ghid)> {
        self.waiting
            .iter()
            .filter(|(_, share)| !share.ready && arrived.contains(&share.object))
            .map(|(number, share)| (*number, share.object))
            .collect()
    }

    fn of_object(&self, object: &Ghid) -> Vec<u64> {
        self.waiting
            .iter()
            .filter(|(_, share)| share.object == *object)
            .map(|(number, _)| *number)
            .collect()
    }
}

/// Number and share of a record.
fn read(name: &[u8], body: &[u8]) -> Option<(u64, Share)> {
    let number = u64::from_be_bytes(name.try_into().ok()?);
    let (object, rest) = body.split_at_checked(Ghid::LEN)?;
    let (origin, rest) = rest.split_at_checked(Ghid::LEN)?;
    let (&ready, rest) = rest.split_first()?;
    let (api, request) = rest.split_at_checked(size_of::<ApiId>())?;
    let request = if request.is_empty() { None } else { Some(request.try_into().ok()?) };
    let share = Share {
        object: Ghid::from_bytes(object).ok()?,
        origin: Ghid::from_bytes(origin).ok()?,
        api: ApiId(api.try_into().ok()?),
        request,
        ready: ready == 1,
        given: BTreeSet::new(),
    };
    Some((number, share))
}

/// The body of its record.
fn body(share: &Share) -> Vec<u8> {
    let request = share.request.as_ref().map_or(&[][..], |request| request);
    let ready = [u8::from(share.ready)];
    [share.object.as_bytes(), share.origin.as_bytes(), &ready[..], &share.api.0, request].concat()
}

fn tag(request: &Ghid) -> RequestTag {
    let bytes = request.as_bytes();
    std::array::from_fn(|at| bytes[at + 1])
}

impl Engine {
    /// Whether a request is for us, and not handled yet. From a mailbox, and from whom we look for, it
    /// comes `again` when its sender never heard the answer, or another device of the sender does not know
    /// of it: then it is worth another one.
    pub(super) fn is_worth_opening(
        &self,
        turn: &Turn<'_>,
        request: &Unverified,
        again: bool,
    ) -> Result<bool, ViewError> {
        let Ok(verified) = request.clone().verify(None) else {
            return Ok(false);
        };
        let Object::Request(request) = verified.object() else {
            return Ok(false);
        };
        Ok(request.recipient() == self.me
            && (again || shelf::debindings(turn, &verified.ghid(), 1)?.is_empty()))
    }

    /// A request was opened. Whatever is wrong with it, the sender learns nothing: junk is dropped,
    /// and was answered for like any other (threats.md 4.5).
    pub(crate) fn receive_request(
        &mut self,
        turn: &mut Turn<'_>,
        stash: &mut Stash,
        object: &Verified,
        opened: OpenedRequest,
    ) -> Result<(), ViewError> {
        let Some((author, body)) = self.authenticate(turn, stash, opened)? else {
            turn.log("a request that proves nobody was dropped", object.ghid().short());
            return Ok(());
        };
        match body {
            RequestBody::Handshake { .. }
                if !shelf::debindings(turn, &object.ghid(), 1)?.is_empty() =>
            {
                self.owe_answer(turn, &author, object.ghid(), true);
            }
            RequestBody::Handshake { target, secret } => {
                if !self.shares.has_room_for(&author.ghid()) {
                    // Nothing is stored of it; the sender's node tells its application.
                    turn.log("a share was refused: too many wait", author.ghid().short());
                    self.owe_answer(turn, &author, object.ghid(), false);
                    return Ok(());
                }
                stash.admit(self, turn, &author.ghid())?;
                stash.note_share(target, author.ghid());
                self.handshake(
                    turn,
                    &author,
                    object.ghid(),
                    target,
                    &*Zeroizing::new(secret.to_bytes()),
                )?;
                self.remember_as_handled(turn, object)?;
            }
            // An answer ends what it answers; a second one finds nothing, so nothing is kept.
            RequestBody::Ack { request, .. } => {
                self.share_answered(turn, &author, request, true)?;
            }
            RequestBody::Nak { request, .. } => {
                self.share_answered(turn, &author, request, false)?;
            }
            // Reserved for applications of the format itself; nobody sends it.
            RequestBody::Arbitrary(_) => {}
        }
        Ok(())
    }

    /// For ever: replays end here.
    fn remember_as_handled(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Verified,
    ) -> Result<(), ViewError> {
        let debinding = Debinding::make(&self.signer(), request.ghid());
        for object in [request, &debinding] {
            if let Err(rejection) = self.store(turn, object)? {
                turn.log("a handled request could not be put away", rejection.to_string());
            }
        }
        Ok(())
    }

    fn authenticate(
        &self,
        turn: &Turn<'_>,
        stash: &Stash,
        opened: OpenedRequest,
    ) -> Result<Option<(Identity, RequestBody)>, ViewError> {
        let author = match stash.identity(&opened.author()) {
            Some(author) => Some(author),
            None => shelf::identity(turn, &opened.author())?,
        };
        let Some(author) = author else {
            return Ok(None);
        };
        Ok(opened.authenticate(self.account.identity(), &author).ok().map(|body| (author, body)))
    }

    fn handshake(
        &mut self,
        turn: &mut Turn<'_>,
        author: &Identity,
        request: Ghid,
        target: Ghid,
        secret: &[u8],
    ) -> Result<(), ViewError> {
        if self.takes_new_key(turn, author.ghid(), &target, secret)? {
            self.owe_answer(turn, author, request, true);
            return Ok(());
        }
        // What opens stays: a stranger who knows the address must not replace the key by a wrong one.
        let readable = self.resolve(turn, &target)?;
        if readable.is_none() {
            self.keyring.put(turn, Record::Secret, target.as_bytes(), secret)?;
            self.chains.forget(&target);
        }
        let own = match readable {
            Some(resolved) => resolved.binder == self.me,
            None => shelf::head(turn, &target)?.is_some_and(|head| head.binder == self.me),
        };
        if !own && self.follows.sources(&target).len() < limits::SOURCES_PER_ADDRESS {
            self.follow(turn, target, author.ghid())?;
        }
        // The object may be here already: shared by somebody else, or a second time.
        self.arrived.insert(target);
        self.shares.add(turn, &self.keyring, target, author.ghid(), &request)?;
        self.owe_answer(turn, author, request, true);
        Ok(())
    }

    /// Shares whose object can be read now go to the applications that take its api id.
    pub(crate) fn shares_became_ready(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let arrived = std::mem::take(&mut self.arrived);
        if arrived.is_empty() {
            return Ok(());
        }
        let unready = self.shares.unready(&arrived);
        if unready.is_empty() {
            return Ok(());
        }
        for (number, object) in unready {
            let Some(resolved) = self.resolve(turn, &object)? else {
                continue;
            };
            if !resolved.dynamic {
                self.feed.touch(turn, &object)?;
            }
            if let Some(share) = self.shares.waiting.get_mut(&number) {
                share.ready = true;
                share.api = resolved.content.api;
                // Every device of the account sees that by itself.
                let (name, body) = (number.to_be_bytes(), body(share));
                self.keyring.amend(turn, Record::Share, &name, &body)?;
            }
            self.follow_binder(turn, object, resolved.binder)?;
        }
        self.deliver_waiting_shares();
        Ok(())
    }

    /// Forgets the shares of an object by `origin` that cannot be read; with the last one the object
    /// is forgotten, too.
    pub(crate) fn withdraw_unreadable(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
        origin: &Ghid,
    ) -> Result<(), ViewError> {
        if self.resolve(turn, object)?.is_some() {
            return Ok(());
        }
        for number in self.shares.of_object(object) {
            if self.shares.waiting.get(&number).is_some_and(|share| share.origin == *origin) {
                self.shares.delivered(turn, &self.keyring, number)?;
            }
        }
        if self.shares.of_object(object).is_empty() && shelf::head(turn, object)?.is_none() {
            self.forget_object(turn, object)?;
        }
        Ok(())
    }

    /// An object is gone: nothing of it is followed, readable or waiting any more.
    pub(crate) fn forget_object(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<(), ViewError> {
        for number in self.shares.of_object(address) {
            self.shares.delivered(turn, &self.keyring, number)?;
        }
        self.keyring.forget(turn, Record::Secret, address.as_bytes())?;
        self.keyring.forget(turn, Record::Checkpoint, address.as_bytes())?;
        self.unpublish_gone(turn, address)?;
        self.unfollow(turn, address)
    }

    /// Another device of the account wrote down a share that waits, or that it is taken.
    pub(crate) fn merge_share(
        &mut self,
        turn: &mut Turn<'_>,
        name: &[u8],
        body: Option<&[u8]>,
    ) -> Result<(), ViewError> {
        let Some(body) = body else {
            if let Ok(number) = name.try_into().map(u64::from_be_bytes) {
                self.shares.waiting.remove(&number);
            }
            return Ok(());
        };
        let Some((number, mut share)) = read(name, body) else {
            return Ok(());
        };
        share.ready = false;
        if let Some(known) = self.shares.waiting.get(&number) {
            share.ready = known.ready;
            share.given.clone_from(&known.given);
        }
        let twin = self.shares.twin(number, &share);
        if share.request.is_some_and(|request| self.shares.taken.contains(&request)) {
            // It came to both devices, and an application of this one has it.
            return self.keyring.forget(turn, Record::Share, name);
        }
        self.arrived.insert(share.object);
        self.shares.insert(number, share);
        if let Some(twin) = twin {
            // It came to both devices: all of them keep the same one.
            self.shares.forget(turn, &self.keyring, number.max(twin))?;
        }
        Ok(())
    }
}
