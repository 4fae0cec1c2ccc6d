//! Range-based set reconciliation: both sides compare what they hold of the subscribed addresses.
//!
//! Cursors are the optimisation, this is the truth: it finds whatever a lost message, a restored
//! backup or a bug left out. Equal sets cost one round and about 300 bytes.

use std::collections::BTreeMap;

use golix::Ghid;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use serde_bytes::ByteArray;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{LIST_MAX, Message, Packed};
use crate::sync::{Feed, Holdings, Link, Links};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::ViewError;

/// What is compared: an item an address.
pub(crate) type Items = BTreeMap<[u8; 32], Ghid>;

/// What one message of a comparison brought to light.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Items that the other side lacks.
    pub(crate) have: Vec<[u8; 32]>,
    /// Items that this side lacked when the comparison began.
    pub(crate) need: Vec<[u8; 32]>,
    /// It was the last one.
    pub(crate) done: bool,
    /// Another comparison is wanted.
    pub(crate) again: bool,
}

impl Engine {
    /// Begins a comparison of what we follow at the other side.
    pub(super) fn compare(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        if !self.links.may_compare(link) {
            return Ok(());
        }
        let holdings = self.holdings();
        self.links.scrub.look(turn, &mut self.feed, holdings)?;
        let items = self.compared_items(turn, link)?;
        self.links.begin_comparison(turn, link, &items);
        self.compares_with(link, items);
        Ok(())
    }

    /// What we follow at the other side, as it is here.
    fn compared_items(&self, turn: &Turn<'_>, link: LinkId) -> Result<Items, ViewError> {
        let Some(state) = self.links.get(link) else {
            return Ok(Items::new());
        };
        if state.is_persister() || state.is_guest() {
            return self.items_at_persister(turn, link);
        }
        let mut addresses: Vec<Ghid> =
            state.proven.iter().flat_map(|source| self.follows.at(source)).collect();
        if state.proven.contains(&self.me) {
            addresses.extend(self.of_the_account(turn)?);
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| !self.links.scrub.is_broken(address));
        self.holdings().items(turn, addresses)
    }

    pub(crate) fn reconcile_due(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        let compares =
            |state: &Link| !state.proven.is_empty() || state.is_persister() || state.is_guest();
        if !self.links.get(link).is_some_and(compares) {
            return Ok(());
        }
        self.compare(turn, link)?;
        self.leave_again(link);
        turn.effect(Effect::SetTimer {
            timer: Timer::Reconcile(link),
            at: turn.now() + self.config.reconcile_interval,
        });
        Ok(())
    }

    /// Whether a message of the other side's comparison is looked at.
    pub(super) fn is_compared_with(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        needs: bool,
    ) -> bool {
        let known = self.links.get(link).is_some_and(|state| {
            !state.proven.is_empty() || !state.guest.is_empty() || state.is_persister()
        });
        self.links.may_be_compared(turn, link, needs, known)
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
            // A proof of suite 1 is signed on the pool, so what follows it may come before it.
            if let Some(state) =
                self.links.get_mut(link).filter(|state| state.asks_to_mirror.is_some())
            {
                state.asks_to_compare = Some(body.to_vec());
                return Ok(());
            }
            if !self.is_compared_with(turn, link, false) {
                return Ok(());
            }
            let holdings = self.holdings();
            self.links.scrub.look(turn, &mut self.feed, holdings)?;
            return self.links.answer_comparison(turn, holdings, link, body);
        }
        let mut compared = self.links.comparison_answered(turn, link, body);
        // What changed while we were away has come meanwhile: it is told before the comparison is
        // answered. That is neither missing here nor there.
        let items = if compared.need.is_empty() && compared.have.is_empty() {
            Items::new()
        } else {
            self.compared_items(turn, link)?
        };
        compared.need.retain(|item| !items.contains_key(item));
        self.links.need(turn, link, &compared.need);
        if self.links.get(link).is_some_and(Link::is_persister) {
            let now = turn.now();
            if let Some(client) = self.links.persister_mut(link) {
                client.conduct.claims(now, &compared.need, compared.done);
            }
            self.missing_there(turn, link, &compared.have, &items, compared.done)?;
        } else {
            compared.again |= self.missing_at_owner(turn, link, &compared.have, compared.done)?;
        }
        if compared.again { self.compare(turn, link) } else { Ok(()) }
    }
}

impl Links {
    /// Whether the other side may have one more message of a comparison looked at: each means to look at
    /// everything that it subscribed to. If not, the link ends. `needs` says that the message names what
    /// was missing, `known` that it is of somebody with whom this node has to do.
    pub(crate) fn may_be_compared(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        needs: bool,
        known: bool,
    ) -> bool {
        let now = turn.now();
        let Some(state) = self.get_mut(link) else {
            return false;
        };
        let (pace, rate) = if needs {
            (&mut state.paces.needs, limits::NEEDS)
        } else {
            (&mut state.paces.comparisons, limits::COMPARISONS)
        };
        let in_time = pace.try_spend(now, rate);
        let blocks = if state.mirrors {
            limits::MIRRORED_BLOCKS
        } else {
            u32::try_from(1 + state.subscribed.len() / 1_024).unwrap_or(u32::MAX)
        };
        let rate = limits::COMPARED_FOR_STRANGERS;
        let may = in_time && (known || self.strangers.try_spend_many(now, rate, blocks));
        if !may {
            self.close(turn, link, "too many comparisons", false);
        }
        may
    }

    /// Sends the first message of a comparison of `items`; one at a time on a link.
    pub(crate) fn begin_comparison(&mut self, turn: &mut Turn<'_>, link: LinkId, items: &Items) {
        let Some(mut comparing) = negentropy(items.keys()) else {
            return;
        };
        let Ok(body) = comparing.initiate() else {
            return;
        };
        if let Some(state) = self.get_mut(link) {
            state.comparing = Some(Box::new(comparing));
        }
        let message = Message::Reconcile { body: Packed::from(body), subscriber: true };
        self.send(turn, link, message);
        self.watch(turn, link);
    }

    /// Whether a comparison may begin now; if not, it does when the one under way has ended.
    pub(crate) fn may_compare(&mut self, link: LinkId) -> bool {
        let Some(state) = self.get_mut(link) else {
            return false;
        };
        // One at a time: the answer under way belongs to the comparison that asked for it.
        state.compare_again |= state.comparing.is_some();
        state.comparing.is_none()
    }

    /// Asks for items that are missing here.
    pub(crate) fn need(&mut self, turn: &mut Turn<'_>, link: LinkId, items: &[[u8; 32]]) {
        for items in items.chunks(LIST_MAX) {
            let ids = items.iter().copied().map(ByteArray::new).collect();
            self.send(turn, link, Message::Need { ids });
        }
    }

    /// An answer to a comparison of ours.
    pub(crate) fn comparison_answered(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        body: &[u8],
    ) -> Compared {
        let mut compared = Compared::default();
        let Some(state) = self.get_mut(link) else {
            return compared;
        };
        let Some(comparing) = &mut state.comparing else {
            return compared;
        };
        let (mut have, mut need) = (Vec::new(), Vec::new());
        match comparing.reconcile_with_ids(body, &mut have, &mut need) {
            Ok(Some(body)) => {
                let message = Message::Reconcile { body: Packed::from(body), subscriber: true };
                self.send(turn, link, message);
            }
            Ok(None) => {
                state.comparing = None;
                compared.again = std::mem::take(&mut state.compare_again);
                compared.done = true;
            }
            Err(_) => {
                self.close(turn, link, "a comparison that makes no sense", true);
                return compared;
            }
        }
        compared.need = need.into_iter().map(Id::to_bytes).collect();
        compared.have = have.into_iter().map(Id::to_bytes).collect();
        compared
    }

    /// A message of the other side's comparison.
    pub(crate) fn answer_comparison(
        &mut self,
        turn: &mut Turn<'_>,
        holdings: Holdings,
        link: LinkId,
        body: &[u8],
    ) -> Result<(), ViewError> {
        let items = self.served_items(turn, holdings, link)?;
        let Some(mut ours) = negentropy(items.keys()) else {
            return Ok(());
        };
        match ours.reconcile(body) {
            Ok(body) => {
                let message = Message::Reconcile { body: Packed::from(body), subscriber: false };
                self.send(turn, link, message);
            }
            Err(_) => self.close(turn, link, "a comparison that makes no sense", true),
        }
        Ok(())
    }

    /// The other side found items missing: their addresses go out beside the feed.
    pub(crate) fn needed(
        &mut self,
        turn: &mut Turn<'_>,
        holdings: Holdings,
        link: LinkId,
        ids: &[ByteArray<32>],
    ) -> Result<(), ViewError> {
        let items = self.served_items(turn, holdings, link)?;
        let Some(state) = self.get_mut(link) else {
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
        holdings: Holdings,
        link: LinkId,
    ) -> Result<Items, ViewError> {
        let sound = |address: &Ghid| !self.scrub.is_broken(address);
        match self.get(link) {
            Some(state) if state.mirrors => {
                holdings.items(turn, Feed::addresses(turn)?.into_iter().filter(sound))
            }
            Some(state) => holdings.items(turn, state.subscribed.iter().copied().filter(sound)),
            None => Ok(Items::new()),
        }
    }
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
