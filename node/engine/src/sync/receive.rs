//! What others send: parsed, wanted, verified, admitted, in this order of cost.

use std::collections::BTreeMap;

use golix::object::{Kind, Object, Unverified, Verified};
use golix::persister::Stored;
use golix::{Ghid, Identity};

use super::links::Links;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::Packed;
use crate::sharing;
use crate::shelf;
use crate::turn::Turn;
use crate::view::ViewError;

/// Results of single objects: 0 is "stored or known", else 1 + the persister's NAK code.
mod result {
    pub(super) const STORED: u32 = 0;
    pub(super) const MALFORMED: u32 = 1 + 0x0001;
    pub(super) const NOT_VERIFIED: u32 = 1 + 0x0002;
    pub(super) const UNKNOWN_AUTHOR: u32 = 1 + 0x0003;
    pub(super) const UNBOUND: u32 = 1 + 0x0004;
    pub(super) const DEBOUND: u32 = 1 + 0x0005;
    /// A node stores what its user follows; this is nothing of it.
    pub(super) const UNWANTED: u32 = 1 + 0x000A;
}

/// Identities that came in the same message. They are stored once something needs them: free
/// identities of strangers must not fill the disk.
#[derive(Default)]
pub(crate) struct Stash(BTreeMap<Ghid, Identity>);

impl Stash {
    pub(crate) fn identity(&self, ghid: &Ghid) -> Option<Identity> {
        self.0.get(ghid).cloned()
    }

    /// Stores an identity of the message, if it is one.
    pub(crate) fn admit(
        &mut self,
        engine: &mut Engine,
        turn: &mut Turn<'_>,
        ghid: &Ghid,
    ) -> Result<(), ViewError> {
        match self.0.remove(ghid) {
            Some(identity) => engine.keep_identity(turn, &identity),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Takes the objects of one message in their order.
    pub(super) fn receive(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        objects: &[Packed],
    ) -> Result<Vec<u32>, ViewError> {
        let mut stash = Stash::default();
        let mut results = Vec::with_capacity(objects.len());
        for bytes in objects {
            let result = self.receive_one(turn, &mut stash, bytes)?;
            if matches!(result, result::MALFORMED | result::NOT_VERIFIED) {
                self.invalid_object(turn, link);
            }
            results.push(result);
        }
        Ok(results)
    }

    fn invalid_object(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        state.invalid += 1;
        if state.invalid >= limits::INVALID_OBJECTS_MAX {
            Links::close(turn, link, "objects that do not verify", true);
        }
    }

    fn receive_one(
        &mut self,
        turn: &mut Turn<'_>,
        stash: &mut Stash,
        bytes: &[u8],
    ) -> Result<u32, ViewError> {
        let Ok(object) = Unverified::parse(bytes) else {
            return Ok(result::MALFORMED);
        };
        let ghid = object.ghid();
        match object.kind() {
            Kind::Identity => {
                let Ok(verified) = object.verify(None) else {
                    return Ok(result::NOT_VERIFIED);
                };
                if let Object::Identity(identity) = verified.object() {
                    stash.0.insert(ghid, identity.clone());
                }
                return Ok(result::STORED);
            }
            Kind::Request => {
                let Ok(verified) = object.verify(None) else {
                    return Ok(result::NOT_VERIFIED);
                };
                let Some(request) = sharing::as_request(&verified) else {
                    return Ok(result::MALFORMED);
                };
                let handled = self.receive_request(turn, stash, &verified, request)?;
                return Ok(if handled { result::DEBOUND } else { result::STORED });
            }
            Kind::Container | Kind::StaticBinding | Kind::DynamicBinding | Kind::Debinding => {}
        }
        // The address of stored bytes is the hash of verified ones: the same bytes come for free.
        if shelf::bytes(turn, &ghid)?.is_some() {
            return Ok(result::STORED);
        }
        if object.kind() == Kind::Container && shelf::holders(turn, &ghid, 1)?.is_empty() {
            return Ok(result::UNBOUND);
        }
        let Some(author) = object.author() else {
            return Ok(result::MALFORMED);
        };
        let known = match stash.identity(&author) {
            Some(identity) => Some(identity),
            None => shelf::identity(turn, &author)?,
        };
        let Some(identity) = known else {
            return Ok(result::UNKNOWN_AUTHOR);
        };
        let Ok(verified) = object.verify(Some(&identity)) else {
            return Ok(result::NOT_VERIFIED);
        };
        if !self.wants(turn, &verified)? {
            return Ok(result::UNWANTED);
        }
        stash.admit(self, turn, &author)?;
        Ok(match self.store(turn, &verified)? {
            Ok(_) => result::STORED,
            Err(rejection) => 1 + u32::from(rejection.code()),
        })
    }

    /// Whether an object belongs to something that this account follows, made or holds.
    fn wants(&self, turn: &Turn<'_>, object: &Verified) -> Result<bool, ViewError> {
        Ok(match object.object() {
            Object::Identity(_) | Object::Request(_) => false,
            // Something stored binds it, or it would have been refused before.
            Object::Container(_) => true,
            Object::StaticBinding(binding) => self.follows.contains(&binding.target()),
            Object::DynamicBinding(frame) => {
                self.follows.contains(&frame.dynamic())
                    || shelf::head(turn, &frame.dynamic())?.is_some()
            }
            Object::Debinding(debinding) => {
                let target = debinding.target();
                self.follows.contains(&target)
                    || shelf::head(turn, &target)?.is_some()
                    || matches!(
                        shelf::bytes(turn, &target)?.as_deref().and_then(Stored::read),
                        Some(Stored::StaticBinding { .. } | Stored::Debinding { .. })
                    )
            }
        })
    }
}
