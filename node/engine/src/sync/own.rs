//! Links between devices of one account: each has everything that the other has.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;

use crate::engine::Engine;
use crate::input::LinkId;
use crate::message::{Address, Cursor, LIST_MAX, Message, NOWHERE};
use crate::sync::Feed;
use crate::turn::Turn;
use crate::view::ViewError;

impl Engine {
    /// The other side proved our own identity: it is another device of this account.
    pub(super) fn own_device_up(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        Self::met_another(turn)?;
        let cursor = self.links.cursor(turn, link)?;
        self.links.send(turn, link, Message::Mirror { cursor });
        let asked = self.links.get_mut(link).and_then(|state| state.asks_to_mirror.take());
        if let Some(cursor) = asked {
            self.mirrored(link, Some(cursor));
        }
        let asked = self.links.get_mut(link).and_then(|state| state.asks_to_compare.take());
        if let Some(body) = asked {
            self.links.answer_comparison(turn, self.holdings(), link, &body)?;
        }
        self.compare(turn, link)?;
        self.compare_regularly(turn, link);
        Ok(())
    }

    /// The other side wants everything: our other devices get it, as soon as they proved what they
    /// are.
    pub(super) fn mirrored(&mut self, link: LinkId, cursor: Option<Cursor>) {
        let me = self.me;
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        if !state.proven.contains(&me) {
            state.asks_to_mirror = Some(cursor.unwrap_or(NOWHERE));
            return;
        }
        state.mirrors = true;
        self.links.rewind(&self.feed, link, cursor);
    }

    /// Everything that the devices of an account are to agree about.
    pub(super) fn of_the_account(&self, turn: &Turn<'_>) -> Result<BTreeSet<Ghid>, ViewError> {
        let mut addresses: BTreeSet<Ghid> = Feed::addresses(turn)?.into_iter().collect();
        addresses.extend(self.follows.addresses());
        addresses.extend(self.pieces.addresses());
        addresses.insert(self.account.user_id());
        Ok(addresses)
    }

    /// Something is followed from now on: our other device may have it.
    pub(super) fn follow_at_own_device(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        follows: &BTreeMap<Ghid, BTreeSet<Ghid>>,
    ) {
        let addresses: BTreeSet<Ghid> = follows.values().flatten().copied().collect();
        let addresses: Vec<Address> = addresses.into_iter().map(Address).collect();
        for addresses in addresses.chunks(LIST_MAX) {
            let addresses = addresses.to_vec();
            self.links.send(turn, link, Message::Subscribe { addresses, cursor: None });
        }
    }
}
