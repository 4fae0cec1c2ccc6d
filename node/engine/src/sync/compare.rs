//! Range-based set reconciliation: both sides compare what they hold of the subscribed addresses.
//!
//! Cursors are the optimisation, this is the truth: it finds whatever a lost message, a restored
//! backup or a bug left out. Equal sets cost one round and about 300 bytes.

use std::collections::BTreeMap;

use golix::Ghid;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use serde_bytes::ByteArray;
use sha2::{Digest, Sha512};

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{LIST_MAX, Message, Packed};
use crate::shelf;
use crate::sync::Feed;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::ViewError;

impl Engine {
    /// Begins a comparison of what we follow at the other side.
    pub(super) fn compare(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        if state.comparing.is_some() {
            // One at a time: the answer under way belongs to the comparison that asked for it.
            state.compare_again = true;
            return Ok(());
        }
        let mut addresses: Vec<Ghid> =
            state.proven.iter().flat_map(|source| self.follows.at(source)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let items = self.items(turn, &addresses)?;
        let Some(mut comparing) = negentropy(items.keys()) else {
            return Ok(());
        };
        let Ok(body) = comparing.initiate() else {
            return Ok(());
        };
        if let Some(state) = self.links.get_mut(link) {
            state.comparing = Some(Box::new(comparing));
        }
        let message = Message::Reconcile { body: Packed::from(body), subscriber: true };
        self.links.send(turn, link, message);
        self.links.watch(turn, link);
        Ok(())
    }

    pub(crate) fn reconcile_due(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        if self.links.get(link).is_none_or(|state| state.proven.is_empty()) {
            return Ok(());
        }
        self.compare(turn, link)?;
        turn.effect(Effect::SetTimer {
            timer: Timer::Reconcile(link),
            at: turn.now() + self.config.reconcile_interval,
        });
        Ok(())
    }

    /// One message of a comparison, from either side.
    pub(super) fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        body: &[u8],
        from_subscriber: bool,
    ) -> Result<(), ViewError> {
        if body.len() as u64 > limits::RECONCILE_MESSAGE_MAX {
            self.links.close(turn, link, "a comparison that is too long", true);
            return Ok(());
        }
        if from_subscriber {
            return self.answer_comparison(turn, link, body);
        }
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        let Some(comparing) = &mut state.comparing else {
            return Ok(());
        };
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let mut again = false;
        match comparing.reconcile_with_ids(body, &mut have, &mut need) {
            Ok(Some(body)) => {
                let message = Message::Reconcile { body: Packed::from(body), subscriber: true };
                self.links.send(turn, link, message);
            }
            Ok(None) => {
                state.comparing = None;
                again = std::mem::take(&mut state.compare_again);
            }
            Err(_) => {
                self.links.close(turn, link, "a comparison that makes no sense", true);
                return Ok(());
            }
        }
        let need: Vec<ByteArray<32>> =
            need.into_iter().map(|id| ByteArray::new(id.to_bytes())).collect();
        for ids in need.chunks(LIST_MAX) {
            self.links.send(turn, link, Message::Need { ids: ids.to_vec() });
        }
        if again { self.compare(turn, link) } else { Ok(()) }
    }

    fn answer_comparison(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        body: &[u8],
    ) -> Result<(), ViewError> {
        let items = self.served_items(turn, link)?;
        let Some(mut ours) = negentropy(items.keys()) else {
            return Ok(());
        };
        match ours.reconcile(body) {
            Ok(body) => {
                let message = Message::Reconcile { body: Packed::from(body), subscriber: false };
                self.links.send(turn, link, message);
            }
            Err(_) => self.links.close(turn, link, "a comparison that makes no sense", true),
        }
        Ok(())
    }

    /// The other side found items missing: their addresses go out beside the feed.
    pub(super) fn needed(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        ids: &[ByteArray<32>],
    ) -> Result<(), ViewError> {
        let items = self.served_items(turn, link)?;
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        for id in ids {
            if let Some(address) = items.get(&**id) {
                state.needed.insert(*address);
            }
        }
        Ok(())
    }

    fn served_items(
        &self,
        turn: &Turn<'_>,
        link: LinkId,
    ) -> Result<BTreeMap<[u8; 32], Ghid>, ViewError> {
        let addresses: Vec<Ghid> = self
            .links
            .get(link)
            .map(|state| state.subscribed.iter().copied().collect())
            .unwrap_or_default();
        self.items(turn, &addresses)
    }

    /// One item an address: its newest frame, its container, or what took it away.
    fn items(
        &self,
        turn: &Turn<'_>,
        addresses: &[Ghid],
    ) -> Result<BTreeMap<[u8; 32], Ghid>, ViewError> {
        let mut items = BTreeMap::new();
        for address in addresses {
            let state = if let Some(head) = shelf::head(turn, address)? {
                if head.debound {
                    // Held here although its owner let it go: both sides know the debinding.
                    shelf::debindings(turn, address, 1)?.first().copied()
                } else {
                    Some(head.frame)
                }
            } else if shelf::is_object(turn, address)? {
                Some(*address)
            } else if let Some(debinding) = shelf::debindings(turn, address, 1)?.first() {
                Some(*debinding)
            } else if Feed::knows(turn, address)? {
                let gone = self.gone_static(address);
                shelf::bytes(turn, &gone)?.map(|_| gone)
            } else {
                None
            };
            if let Some(state) = state {
                items.insert(item(address, &state), *address);
            }
        }
        Ok(items)
    }
}

fn item(address: &Ghid, state: &Ghid) -> [u8; 32] {
    let digest = Sha512::new().chain_update(address).chain_update(state).finalize();
    digest[..32].try_into().expect("32 of 64 bytes")
}

fn negentropy<'a>(
    items: impl Iterator<Item = &'a [u8; 32]>,
) -> Option<Negentropy<'static, NegentropyStorageVector>> {
    let mut storage = NegentropyStorageVector::new();
    for item in items {
        // Frames carry no clock that both sides agree on, so all items have the same time.
        storage.insert(0, Id::from_byte_array(*item)).ok()?;
    }
    storage.seal().ok()?;
    Negentropy::owned(storage, limits::RECONCILE_MESSAGE_MAX).ok()
}
