//! What others send: parsed, wanted, verified, admitted, in this order of cost.

use std::collections::BTreeMap;

use golix::object::{
    DecodeError, DynamicBinding, Kind, Object, OpenedRequest, Unverified, Verified,
};
use golix::persister::{HighWater, Stored};
use golix::{Ghid, Identity};

use crate::engine::Engine;
use crate::input::LinkId;
use crate::message::Packed;
use crate::sharing::brings_request;
use crate::shelf;
use crate::turn::Turn;
use crate::verdict;
use crate::view::ViewError;

/// An object of a message, or why its bytes are none.
pub(crate) type Parsed = Result<Unverified, DecodeError>;

/// What came in the same message and waits for something that needs it: free identities of
/// strangers must not fill the disk, and a frame is taken together with its container.
#[derive(Default)]
pub(crate) struct Stash {
    identities: BTreeMap<Ghid, Identity>,
    containers: BTreeMap<Ghid, Unverified>,
    /// Objects that were shared in this message, and by whom.
    shared: Vec<(Ghid, Ghid)>,
}

impl Stash {
    pub(crate) fn identity(&self, ghid: &Ghid) -> Option<Identity> {
        self.identities.get(ghid).cloned()
    }

    /// What came in one message; its identities are still to be noted, once they are verified.
    pub(crate) fn of<'a>(objects: impl Iterator<Item = &'a Unverified>) -> Self {
        let containers = objects
            .filter(|object| object.kind() == Kind::Container)
            .map(|object| (object.ghid(), object.clone()))
            .collect();
        Self { containers, ..Self::default() }
    }

    /// An identity of the message is one.
    pub(crate) fn note_identity(&mut self, identity: Identity) {
        self.identities.insert(identity.ghid(), identity);
    }

    /// The identity of an author, from the message or the store.
    pub(crate) fn author(
        &self,
        turn: &Turn<'_>,
        author: &Ghid,
    ) -> Result<Option<Identity>, ViewError> {
        match self.identity(author) {
            Some(identity) => Ok(Some(identity)),
            None => shelf::identity(turn, author),
        }
    }

    /// A frame displaces the one before it, and with it the only state that can be read. So it is
    /// taken when its container is here or comes, verified, in the same message; whoever holds a
    /// container back (or spoils its signature) changes nothing.
    ///
    /// Returns what has to be stored after the frame; `None` if its container is missing.
    pub(crate) fn goes_with(
        &self,
        turn: &Turn<'_>,
        frame: &DynamicBinding,
    ) -> Result<Option<Vec<Verified>>, ViewError> {
        let target = frame.target();
        if shelf::bytes(turn, &target)?.is_some() {
            return Ok(Some(Vec::new()));
        }
        let order = HighWater { counter: frame.counter(), frame: frame.ghid() };
        if let Some(head) = shelf::head(turn, &frame.dynamic())? {
            // Of another binder, it counts for nothing against a head that nobody proved.
            let displaces = head.binder != frame.binder() && !head.proven;
            if !displaces && order < head.order() {
                // It displaces nothing: it is refused, or kept beside the frame that won.
                return Ok(Some(Vec::new()));
            }
        }
        let Some(container) = self.containers.get(&target).cloned() else {
            return Ok(None);
        };
        let author = match container.author() {
            Some(author) => self.author(turn, &author)?,
            None => None,
        };
        Ok(container.verify(author.as_ref()).ok().map(|container| vec![container]))
    }

    /// A share came, of `object` by `origin`.
    pub(crate) fn note_share(&mut self, object: Ghid, origin: Ghid) {
        self.shared.push((object, origin));
    }

    /// Stores an identity of the message, if it is one.
    pub(crate) fn admit(
        &mut self,
        engine: &mut Engine,
        turn: &mut Turn<'_>,
        ghid: &Ghid,
    ) -> Result<(), ViewError> {
        match self.identities.remove(ghid) {
            Some(identity) => engine.keep_identity(turn, &identity),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Takes the objects of one message in their order. A message with a request is kept as it is
    /// until the request was opened, and answered for without looking inside.
    pub(super) fn receive(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        objects: &[Packed],
    ) -> Result<Vec<u32>, ViewError> {
        let parsed: Vec<_> = objects.iter().map(|bytes| Unverified::parse(bytes)).collect();
        if brings_request(&parsed) {
            return Ok(self.receive_sealed(turn, link, parsed, objects));
        }
        self.take(turn, Some(link), parsed, None)
    }

    fn receive_sealed(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        parsed: Vec<Parsed>,
        objects: &[Packed],
    ) -> Vec<u32> {
        let mut requests = 0;
        let mut results = Vec::with_capacity(parsed.len());
        for object in parsed {
            let is_request = object.as_ref().is_ok_and(|object| object.kind() == Kind::Request);
            requests += usize::from(is_request);
            let result = match object {
                Err(_) => verdict::MALFORMED,
                Ok(object) if is_request && object.clone().verify(None).is_err() => {
                    verdict::NOT_VERIFIED
                }
                Ok(_) => verdict::STORED,
            };
            if result != verdict::STORED {
                self.links.invalid_object(turn, link);
            }
            results.push(result);
        }
        if requests > 1 {
            self.links.close(turn, link, "several requests in one message", true);
        } else if results.contains(&verdict::NOT_VERIFIED) {
            // It cannot be opened, as anybody can see; nothing of its message is kept.
        } else if !self.keep_until_opened(turn, link, objects) {
            results.fill(verdict::FULL);
        }
        results
    }

    /// Takes a message whose request was opened, or does not open.
    pub(crate) fn receive_opened(
        &mut self,
        turn: &mut Turn<'_>,
        link: Option<LinkId>,
        objects: &[Packed],
        opened: Option<OpenedRequest>,
    ) -> Result<(), ViewError> {
        let parsed = objects.iter().map(|bytes| Unverified::parse(bytes)).collect();
        self.take(turn, link, parsed, opened).map(drop)
    }

    fn take(
        &mut self,
        turn: &mut Turn<'_>,
        link: Option<LinkId>,
        parsed: Vec<Parsed>,
        mut opened: Option<OpenedRequest>,
    ) -> Result<Vec<u32>, ViewError> {
        let mut stash = Stash::of(parsed.iter().flatten());
        let mut results = Vec::with_capacity(parsed.len());
        let mut debound = false;
        for object in parsed {
            let is_request = object.as_ref().is_ok_and(|object| object.kind() == Kind::Request);
            let result = match object {
                Ok(object) => self.receive_one(turn, &mut stash, object, &mut opened)?,
                Err(_) => verdict::MALFORMED,
            };
            debound |= !is_request && result == verdict::DEBOUND;
            if matches!(result, verdict::MALFORMED | verdict::NOT_VERIFIED)
                && let Some(link) = link
            {
                self.links.invalid_object(turn, link);
            }
            results.push(result);
        }
        for (object, origin) in stash.shared {
            // Shared by somebody who had not heard yet that it is deleted.
            if debound || shelf::was_dropped(turn, &object)? {
                self.withdraw_unreadable(turn, &object, &origin)?;
            }
        }
        Ok(results)
    }

    fn receive_one(
        &mut self,
        turn: &mut Turn<'_>,
        stash: &mut Stash,
        object: Unverified,
        opened: &mut Option<OpenedRequest>,
    ) -> Result<u32, ViewError> {
        let ghid = object.ghid();
        match object.kind() {
            Kind::Identity => {
                // What its keys are good for takes as long to find out as a signature.
                if let Some(known) = shelf::identity_of(turn, &object)? {
                    stash.note_identity(known);
                    return Ok(verdict::STORED);
                }
                let Ok(verified) = object.verify(None) else {
                    return Ok(verdict::NOT_VERIFIED);
                };
                if let Object::Identity(identity) = verified.object() {
                    stash.note_identity(identity.clone());
                }
                return Ok(verdict::STORED);
            }
            Kind::Request => {
                let Ok(verified) = object.verify(None) else {
                    return Ok(verdict::NOT_VERIFIED);
                };
                match opened.take() {
                    Some(opened) => self.receive_request(turn, stash, &verified, opened)?,
                    // Said to nobody, and worth a line here.
                    None => turn.log("a request that does not open was dropped", ghid.short()),
                }
                return Ok(verdict::STORED);
            }
            Kind::Container | Kind::StaticBinding | Kind::DynamicBinding | Kind::Debinding => {}
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
        if !self.wants(turn, stash, &verified)? {
            return Ok(verdict::UNWANTED);
        }
        if shelf::put_back(turn, &verified)? {
            return Ok(verdict::STORED);
        }
        let mut together = Vec::new();
        if let Object::DynamicBinding(frame) = verified.object() {
            match stash.goes_with(turn, frame)? {
                Some(containers) => together = containers,
                None => return Ok(verdict::UNBOUND),
            }
        }
        together.insert(0, verified.clone());
        let before = self.own_state(turn, &verified)?;
        for object in together {
            if let Some(author) = object.object().author() {
                stash.admit(self, turn, &author)?;
            }
            if let Err(rejection) = self.store(turn, &object)? {
                if let Object::DynamicBinding(frame) = verified.object() {
                    let container = stash.containers.get(&frame.target());
                    self.came_late(turn, &verified, container)?;
                }
                return Ok(1 + u32::from(rejection.code()));
            }
        }
        self.other_device_wrote(turn, &verified, before)?;
        Ok(verdict::STORED)
    }

    /// Whether an object belongs to something that this account follows, made or holds, and comes
    /// from somebody who has a say in it. What strangers bind or debind here is refused, not kept
    /// for later: it would fill the disk, and their bindings would keep alive what its owner deletes.
    fn wants(&self, turn: &Turn<'_>, stash: &Stash, object: &Verified) -> Result<bool, ViewError> {
        Ok(match object.object() {
            Object::Identity(_) | Object::Request(_) => false,
            // Something stored binds it, or it would have been refused before.
            Object::Container(_) => true,
            Object::StaticBinding(binding) => {
                let (target, binder) = (binding.target(), binding.binder());
                if binder == self.me {
                    // Nobody else can have signed it: another device of the account did.
                    return Ok(true);
                }
                if !self.follows.contains(&target) {
                    return Ok(false);
                }
                let author = match stash.containers.get(&target) {
                    Some(container) => container.author(),
                    None => match stored(turn, &target)? {
                        Some(Stored::Container { author }) => Some(author),
                        _ => None,
                    },
                };
                // Only containers are shared by static bindings, and any one of those will do.
                author.is_some()
                    && (author == Some(binder)
                        || self.follows.sources(&target).contains(&binder)
                        || !shelf::is_object(turn, &target)?)
            }
            // Nobody reads what might be another's; suite 1 has such frames, of other programs.
            Object::DynamicBinding(frame) if !frame.is_proven() => false,
            Object::DynamicBinding(frame) => {
                frame.binder() == self.me
                    || self.follows.contains(&frame.dynamic())
                    || shelf::head(turn, &frame.dynamic())?.is_some()
            }
            Object::Debinding(debinding) => {
                let (target, debinder) = (debinding.target(), debinding.debinder());
                if debinder == self.me {
                    return Ok(true);
                }
                if let Some(head) = shelf::head(turn, &target)? {
                    return Ok(head.binder == debinder);
                }
                match stored(turn, &target)? {
                    Some(Stored::StaticBinding { binder, .. }) => binder == debinder,
                    Some(Stored::Debinding { debinder: owner, .. }) => owner == debinder,
                    Some(_) => false,
                    None => self.follows.sources(&target).contains(&debinder),
                }
            }
        })
    }
}

fn stored(turn: &Turn<'_>, ghid: &Ghid) -> Result<Option<Stored>, ViewError> {
    Ok(shelf::bytes(turn, ghid)?.as_deref().and_then(Stored::read))
}
