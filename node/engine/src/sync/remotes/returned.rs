//! What others lost, in a backup or otherwise, and get back.

use golix::object::{Debinding, Object, Unverified};

use super::Parcel;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::message::Packed;
use crate::shelf;
use crate::sync::{Detail, Holdings};
use crate::turn::Turn;
use crate::verdict;
use crate::view::ViewError;

impl Engine {
    /// A comparison found that these items are missing at the other side, which is no persister. What
    /// it owns and has lost, in a backup or otherwise, it gets back, once a second comparison says the
    /// same: before that it may only be that ours is the older state. Whether a second one is wanted.
    pub(in crate::sync) fn missing_at_owner(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        items: &[[u8; 32]],
        done: bool,
    ) -> Result<bool, ViewError> {
        for item in items {
            let Some(state) = self.links.get(link) else {
                return Ok(false);
            };
            let Some(address) = state.client.compared.get(item).copied() else {
                continue;
            };
            let owner = Holdings::owner(turn, &address)?;
            if owner.is_none_or(|owner| owner == self.me || !state.proven.contains(&owner)) {
                continue;
            }
            let still = state.client.missed.contains_key(item)
                && self.holdings().items(turn, [address])?.contains_key(item);
            if let Some(state) = self.links.get_mut(link) {
                if still {
                    state.client.missing.insert(address);
                    state.client.missed.remove(item);
                } else {
                    state.client.missed_now.insert(*item, address);
                }
            }
        }
        let Some(state) = self.links.get_mut(link).filter(|_| done) else {
            return Ok(false);
        };
        state.client.compared.clear();
        state.client.missed = std::mem::take(&mut state.client.missed_now);
        Ok(!state.client.missed.is_empty())
    }

    /// The other side sent what is debound here. An owner that was set back to before it deleted a
    /// static object, or a persister that was, gets the debinding.
    pub(in crate::sync) fn say_what_is_gone(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        objects: &[Packed],
        results: &[u32],
    ) -> Result<(), ViewError> {
        for (bytes, _) in objects.iter().zip(results).filter(|(_, it)| **it == verdict::DEBOUND) {
            let Ok(object) = Unverified::parse(bytes) else { continue };
            let object = object.assume_verified();
            let Object::StaticBinding(binding) = object.object() else { continue };
            let (suite, owner) = (object.object().suite(), binding.binder());
            if owner == self.me {
                continue;
            }
            let concerned = self.links.get(link).is_some_and(|state| {
                state.client.has_room() && (state.is_persister() || state.proven.contains(&owner))
            });
            let debinding =
                shelf::bytes(turn, &Debinding::address_of(suite, &owner, &object.ghid()))?;
            if let Some(debinding) = debinding.filter(|_| concerned) {
                let gidc = shelf::bytes(turn, &owner)?;
                let objects = gidc.into_iter().chain([debinding]).map(Packed::from).collect();
                self.send_parcel(turn, link, Parcel::Returned, objects);
            }
        }
        Ok(())
    }

    /// Gives owners back what they lost.
    pub(super) fn give_back(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        while let Some(state) = self.links.get_mut(link)
            && state.client.has_room()
            && let Some(address) = state.client.missing.pop_first()
        {
            let objects = self.holdings().bundle(turn, &address, Detail::Readable)?;
            self.send_parcel(turn, link, Parcel::Returned, objects);
        }
        Ok(())
    }
}
