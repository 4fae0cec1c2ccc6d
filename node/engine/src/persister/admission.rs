//! What is taken: parsed, known, verified, allowed, admitted, in this order of cost.

use std::collections::BTreeSet;

use golix::object::{Kind, Object, Unverified, Verified};
use golix::persister::{Change, Notice, Rejection, Stored};
use golix::{Ghid, Identity};

use super::Persister;
use super::mailboxes::place_of;
use super::users::{self, User};
use crate::input::LinkId;
use crate::limits;
use crate::message::Packed;
use crate::shelf::{self, Unproven};
use crate::sync::{Parsed, Stash, bury};
use crate::turn::{Turn, key};
use crate::verdict;
use crate::view::{Table, ViewError};

/// Where objects come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Anybody: the policy and the quotas hold.
    Link(LinkId),
    /// A persister that this one mirrors: what that one let in is let in here.
    Mirror(LinkId),
    /// A server that announced it, and was asked for it: the policy and the quotas hold.
    Gossip(LinkId),
}

/// An object of a message.
enum Came {
    /// An identity that was verified lately: parsing it would look at its keys again.
    Known(Identity),
    /// Anything else.
    New(Parsed),
}

impl From {
    fn link(self) -> LinkId {
        match self {
            Self::Link(link) | Self::Mirror(link) | Self::Gossip(link) => link,
        }
    }
}

impl Persister {
    /// Takes the objects of a `Publish`, in their order; one result each.
    pub(super) fn publish(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        objects: &[Packed],
    ) -> Result<Vec<u32>, ViewError> {
        self.take(turn, From::Link(link), objects)
    }

    pub(super) fn take(
        &mut self,
        turn: &mut Turn<'_>,
        from: From,
        objects: &[Packed],
    ) -> Result<Vec<u32>, ViewError> {
        let came: Vec<Came> = objects
            .iter()
            .map(|bytes| match self.recent.get(bytes) {
                Some(identity) => Came::Known(identity.clone()),
                None => Came::New(Unverified::parse(bytes)),
            })
            .collect();
        let mut stash = Stash::of(came.iter().filter_map(|came| match came {
            Came::New(Ok(object)) => Some(object),
            Came::New(Err(_)) | Came::Known(_) => None,
        }));
        let mut bare = Vec::new();
        let mut results = Vec::with_capacity(came.len());
        for object in came {
            let object = match object {
                Came::New(object) => object,
                Came::Known(identity) => {
                    bare.push((results.len(), identity.clone()));
                    stash.note_identity(identity);
                    results.push(verdict::STORED);
                    continue;
                }
            };
            let result = match object {
                Err(_) => verdict::MALFORMED,
                Ok(object) if self.low_on_space && object.kind() != Kind::Debinding => {
                    let known = shelf::bytes(turn, &object.ghid())?.is_some();
                    if known { verdict::STORED } else { verdict::DISK_FULL }
                }
                Ok(object) if object.kind() == Kind::Identity => match object.verify(None) {
                    Ok(verified) => {
                        if let Object::Identity(identity) = verified.object() {
                            bare.push((results.len(), identity.clone()));
                            stash.note_identity(identity.clone());
                        }
                        verdict::STORED
                    }
                    Err(_) => verdict::NOT_VERIFIED,
                },
                Ok(object) => self.take_one(turn, from, &stash, object)?,
            };
            if matches!(result, verdict::MALFORMED | verdict::NOT_VERIFIED) {
                self.links.invalid_object(turn, from.link());
            }
            results.push(result);
        }
        // An identity costs nothing to make; one that nothing in its message needed counts.
        for (place, identity) in bare {
            let known = shelf::bytes(turn, &identity.ghid())?.is_some();
            if known || self.may_leave_identity(turn, from)? {
                self.keep_identity(turn, &identity)?;
                self.recent.put(&objects[place], &identity);
            } else {
                results[place] = verdict::TOO_FAST;
            }
        }
        Ok(results)
    }

    fn take_one(
        &mut self,
        turn: &mut Turn<'_>,
        from: From,
        stash: &Stash,
        object: Unverified,
    ) -> Result<u32, ViewError> {
        let ghid = object.ghid();
        if object.kind() == Kind::Request {
            // All of it: in suite 1 the address does not cover the last part.
            if shelf::bytes(turn, &ghid)?.as_deref() == Some(object.bytes()) {
                return Ok(verdict::STORED);
            }
            return self.take_request(turn, from, stash, object);
        }
        // The address of stored bytes is the hash of verified ones: the same bytes come for free.
        if shelf::has(turn, &object)? {
            return Ok(verdict::STORED);
        }
        if object.kind() == Kind::Container && shelf::holders(turn, &ghid, 1)?.is_empty() {
            return Ok(verdict::UNBOUND);
        }
        let Some(author) = object.author() else {
            return Ok(verdict::MALFORMED);
        };
        let Some(identity) = stash.author(turn, &author)? else {
            return Ok(verdict::UNKNOWN_AUTHOR);
        };
        let Ok(verified) = object.verify(Some(&identity)) else {
            return Ok(verdict::NOT_VERIFIED);
        };
        if shelf::put_back(turn, &verified)? {
            return Ok(verdict::STORED);
        }
        let mut together = Vec::new();
        if let Object::DynamicBinding(frame) = verified.object()
            && shelf::head(turn, &frame.target())?.is_none()
        {
            match stash.goes_with(turn, frame)? {
                Some(containers) => together = containers,
                None => return Ok(verdict::UNBOUND),
            }
        }
        together.insert(0, verified);
        if let Err(result) = self.may_store(turn, from, &author, &together)? {
            return Ok(result);
        }
        self.keep_identity(turn, &identity)?;
        for object in together {
            if let Some(author) = object.object().author().filter(|other| *other != author)
                && let Some(identity) = stash.identity(&author)
            {
                self.keep_identity(turn, &identity)?;
            }
            if let Err(rejection) = self.store(turn, from, &object)? {
                return Ok(1 + u32::from(rejection.code()));
            }
        }
        Ok(verdict::STORED)
    }

    fn take_request(
        &mut self,
        turn: &mut Turn<'_>,
        from: From,
        stash: &Stash,
        object: Unverified,
    ) -> Result<u32, ViewError> {
        let Ok(verified) = object.verify(None) else {
            return Ok(verdict::NOT_VERIFIED);
        };
        let Object::Request(request) = verified.object() else {
            return Ok(verdict::MALFORMED);
        };
        let recipient = request.recipient();
        let user = User::load(turn, &recipient)?;
        if user.banned {
            return Ok(verdict::BANNED);
        }
        let sender = self.sender(turn, from)?;
        if !matches!(from, From::Mirror(_))
            && !user.may_have_mail(&self.config, sender.is_registered())
        {
            return Ok(verdict::NOT_REGISTERED);
        }
        if !self.may_leave_request(turn, from, sender) {
            return Ok(verdict::TOO_FAST);
        }
        if let Some(identity) = stash.identity(&recipient) {
            self.keep_identity(turn, &identity)?;
        }
        let mut stored = self.store(turn, from, &verified)?;
        if stored == Err(Rejection::RequestsFull) && self.make_room(turn, &recipient, sender)? {
            stored = self.store(turn, from, &verified)?;
        }
        Ok(match stored {
            Ok(()) => {
                let place = place_of(turn, &verified.ghid(), verified.bytes())?;
                self.note_sender(turn, &recipient, &place, sender)?;
                verdict::STORED
            }
            Err(rejection) => 1 + u32::from(rejection.code()),
        })
    }

    fn may_leave_identity(&mut self, turn: &Turn<'_>, from: From) -> Result<bool, ViewError> {
        let (From::Link(link) | From::Gossip(link)) = from else {
            return Ok(true);
        };
        let now = turn.now();
        let registered = self.sender(turn, from)?.is_registered();
        let Some(state) = self.links.get_mut(link) else {
            return Ok(false);
        };
        let rate = rate(state.proven.is_empty());
        Ok(state.paces.identities.try_spend(now, rate) && (registered || self.bare.may_come(now)))
    }

    /// Whether the owner of some objects that belong together may store them.
    fn may_store(
        &self,
        turn: &Turn<'_>,
        from: From,
        owner: &Ghid,
        objects: &[Verified],
    ) -> Result<Result<(), u32>, ViewError> {
        let user = User::load(turn, owner)?;
        if user.banned {
            return Ok(Err(verdict::BANNED));
        }
        if matches!(from, From::Mirror(_)) {
            return Ok(Ok(()));
        }
        let (mut bytes, mut count) = (user.bytes, user.objects);
        for object in objects {
            match object.object() {
                // Letting go of what is here makes room, and is always allowed.
                Object::Debinding(debinding) if is_known(turn, &debinding.target())? => {
                    return Ok(Ok(()));
                }
                Object::DynamicBinding(frame) => {
                    for old in displaced(turn, owner, frame)? {
                        bytes = bytes.saturating_sub(old as u64);
                        count = count.saturating_sub(1);
                    }
                }
                _ => {}
            }
            bytes = bytes.saturating_add(object.bytes().len() as u64);
            count = count.saturating_add(u64::from(object.kind() != Kind::Debinding));
        }
        if let Err(result) = user.may_publish(&self.config) {
            return Ok(Err(result));
        }
        let quota = user.quota(&self.config);
        let fits = bytes <= quota.bytes && count <= quota.objects;
        Ok(if fits { Ok(()) } else { Err(verdict::QUOTA) })
    }

    /// Stores a GIDC: others' objects cannot be verified or sealed to without it.
    pub(super) fn keep_identity(
        &mut self,
        turn: &mut Turn<'_>,
        identity: &Identity,
    ) -> Result<(), ViewError> {
        if shelf::bytes(turn, &identity.ghid())?.is_some() {
            return Ok(());
        }
        let gidc = Unverified::parse(&identity.encode()).ok().and_then(|it| it.verify(None).ok());
        if let Some(gidc) = gidc
            && shelf::admit(turn, &gidc)?.is_ok()
        {
            self.feed.touch(turn, &identity.ghid())?;
            self.identity_came(turn, &identity.ghid())?;
        }
        Ok(())
    }

    /// Asks the rules to admit an object, stages their plan, and takes note of what changed.
    fn store(
        &mut self,
        turn: &mut Turn<'_>,
        from: From,
        object: &Verified,
    ) -> Result<Result<(), Rejection>, ViewError> {
        let link = from.link();
        // What its owner uploads is bounded by the owner's quota, and so is what a mirror let in:
        // after a loss all deletions come again, of objects that nothing is known of any more.
        let debinder = object.object().author().filter(|_| object.kind() == Kind::Debinding);
        let is_owners = debinder.is_some_and(|debinder| match from {
            From::Link(link) => {
                self.links.get(link).is_some_and(|state| state.proven.contains(&debinder))
            }
            From::Mirror(_) => true,
            From::Gossip(_) => false,
        });
        let unproven = if is_owners { Unproven::Free } else { Unproven::Counted };
        let mut unbound = Vec::new();
        let admitted = shelf::admit_watched(turn, object, unproven, &mut |turn, change| {
            if let Change::DropObject { ghid } = change
                && let Some(Stored::StaticBinding { target, .. }) =
                    shelf::bytes(turn, ghid)?.as_deref().and_then(Stored::read)
            {
                unbound.push((*ghid, target));
            }
            users::account(turn, change)
        })?;
        let plan = match admitted {
            Ok(plan) => plan,
            Err(rejection) => {
                if let (Rejection::Debound(debinding), Object::StaticBinding(binding)) =
                    (rejection, object.object())
                    && bury(turn, &binding.target(), &debinding)?
                {
                    // The debinding came first: only now it is known what it took away.
                    self.feed.touch(turn, &binding.target())?;
                }
                return Ok(Err(rejection));
            }
        };
        let mut changed = BTreeSet::new();
        for notice in &plan.notices {
            match notice {
                Notice::Updated { dynamic, .. } => {
                    changed.insert(*dynamic);
                }
                Notice::Bound { target, .. } => {
                    let is_static = matches!(object.object(), Object::StaticBinding(_));
                    if is_static && shelf::is_object(turn, target)? {
                        changed.insert(*target);
                    }
                }
                Notice::Gone { address, debinding: Some(debinding) } => {
                    match unbound.iter().find(|(binding, _)| binding == address) {
                        Some((_, target)) => {
                            bury(turn, target, debinding)?;
                            if let Some(owner) = object.object().author() {
                                turn.delete(Table::Owned, owned(&owner, target));
                            }
                            changed.insert(*target);
                        }
                        None => {
                            changed.insert(*address);
                        }
                    }
                }
                // A container goes with its binding, which is told of.
                Notice::Gone { debinding: None, .. } => {}
                Notice::Request { recipient, request } => {
                    self.links.deliver(*recipient, *request);
                    changed.insert(*request);
                }
                Notice::RequestGone { request, .. } => {
                    changed.insert(*request);
                }
            }
        }
        match object.object() {
            Object::Container(_) if shelf::is_object(turn, &object.ghid())? => {
                changed.insert(object.ghid());
            }
            // Held by somebody although its owner let it go.
            Object::Debinding(debinding) if shelf::head(turn, &debinding.target())?.is_some() => {
                changed.insert(debinding.target());
            }
            _ => {}
        }
        // Requests concern nobody but their recipients, who have their mail.
        let is_mail = plan
            .notices
            .iter()
            .any(|notice| matches!(notice, Notice::Request { .. } | Notice::RequestGone { .. }));
        let by = object.object().author().filter(|_| !is_mail);
        if let Some(owner) = by {
            note_owner(turn, &owner, object)?;
            if matches!(from, From::Link(_)) {
                self.moved(turn, (object.kind(), owner), changed.iter().copied())?;
            }
        }
        for address in changed {
            self.feed.touch_by(turn, &address, by)?;
            self.links.published_by(link, address, self.feed.last());
        }
        Ok(Ok(()))
    }
}

/// What an identity binds, and lets go, is on its list: its other devices ask for that.
fn note_owner(turn: &mut Turn<'_>, owner: &Ghid, object: &Verified) -> Result<(), ViewError> {
    let address = match object.object() {
        Object::DynamicBinding(frame) => frame.dynamic(),
        Object::StaticBinding(binding) => binding.target(),
        Object::Debinding(debinding) => {
            // Its own binding; that of a static object is dealt with where it goes.
            turn.delete(Table::Owned, owned(owner, &debinding.target()));
            return Ok(());
        }
        _ => return Ok(()),
    };
    let row = owned(owner, &address);
    if turn.get(Table::Owned, &row)?.is_none() {
        turn.put(Table::Owned, row, []);
    }
    Ok(())
}

/// The row that says that an address is bound by an identity.
fn owned(owner: &Ghid, address: &Ghid) -> Vec<u8> {
    key(&[owner.as_bytes(), address.as_bytes()])
}

fn rate(stranger: bool) -> limits::Rate {
    if stranger { limits::FROM_STRANGERS } else { limits::FROM_KNOWN }
}

fn is_known(turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
    Ok(shelf::bytes(turn, address)?.is_some() || shelf::head(turn, address)?.is_some())
}

/// Sizes of what a newer frame takes the place of: the frame before, and its container if nothing
/// else holds that.
fn displaced(
    turn: &Turn<'_>,
    owner: &Ghid,
    frame: &golix::object::DynamicBinding,
) -> Result<Vec<usize>, ViewError> {
    let mut sizes = Vec::new();
    let Some(head) = shelf::head(turn, &frame.dynamic())? else {
        return Ok(sizes);
    };
    if head.binder != *owner || frame.counter() <= head.counter {
        return Ok(sizes);
    }
    sizes.extend(shelf::bytes(turn, &head.frame)?.map(|bytes| bytes.len()));
    if head.target != frame.target() && shelf::holders(turn, &head.target, 2)?.len() == 1 {
        let container = shelf::bytes(turn, &head.target)?;
        let own = |bytes: &Vec<u8>| matches!(Stored::read(bytes), Some(Stored::Container { author }) if author == *owner);
        sizes.extend(container.filter(own).map(|bytes| bytes.len()));
    }
    Ok(sizes)
}
