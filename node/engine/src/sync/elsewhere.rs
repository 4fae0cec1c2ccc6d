//! What another device of the account made and this one has not: persisters know which addresses an
//! identity binds.
//!
//! A device that proved the identity follows whatever any device of the account changes from then on,
//! and asks once for the list of what there was before. Objects of that list are fetched when somebody
//! wants them; until then they are rows of [`Table::Elsewhere`].

use golix::Ghid;
use golix::object::{Debinding, StaticBinding};

use crate::account;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Cursor, Message, Packed, Role};
use crate::shelf;
use crate::sync::{Feed, Link};
use crate::turn::{Turn, key};
use crate::view::{Table, ViewError};

/// Distinguishes rows about whose lists were read from other cursors: device to the epoch of its feed.
const LISTED: &[u8] = b"l";

impl Engine {
    /// A persister tells us of what our other devices change from now on, or since we were there last;
    /// or that the place moved on.
    pub(super) fn own_is_followed(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        cursor: Cursor,
    ) -> Result<(), ViewError> {
        let Some(state) = self.links.get(link).filter(|state| state.is_persister()) else {
            return Ok(());
        };
        let Role::Persister { epoch } = state.role else {
            return Ok(());
        };
        let listed = turn.get(Table::Cursors, &key(&[LISTED, &state.device]))?;
        let before = self.links.cursor(turn, link)?;
        // It knows no such place: its feed was set back, or ours is no place of this feed. Then also
        // an account with one device may have lost what it made.
        let lost =
            before.is_none_or(|before| before.epoch != cursor.epoch || before.seq > cursor.seq);
        if let Some(before) = before
            && before.epoch == cursor.epoch
            && before.seq > cursor.seq
            && let Some(client) = self.links.persister_mut(link)
        {
            client.conduct.was_set_back();
        }
        let moved =
            before.is_some_and(|before| before.epoch == cursor.epoch && before.seq < cursor.seq);
        if moved {
            self.links.remember_cursor(turn, link, cursor)?;
            return Ok(());
        }
        if lost {
            self.links.remember_cursor(turn, link, cursor)?;
        }
        let unread = listed != Some(epoch.to_be_bytes().to_vec());
        if lost || account::has_others(turn)? && unread {
            self.ask_what_is_owned(turn, link, None);
        }
        Ok(())
    }

    fn ask_what_is_owned(&mut self, turn: &mut Turn<'_>, link: LinkId, after: Option<Address>) {
        let Some(id) = self.links.number(link) else {
            return;
        };
        if let Some(state) = self.links.get_mut(link) {
            state.client.listing = Some((id, after.map(|after| after.0)));
        }
        let message = Message::Owned { id, identity: Address(self.me), after };
        self.links.send(turn, link, message);
        self.links.watch(turn, link);
    }

    /// A page of the list of our account's addresses.
    pub(super) fn owned_elsewhere(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        id: u32,
        addresses: &[Address],
        more: bool,
    ) -> Result<(), ViewError> {
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        let Some((_, after)) = state.client.listing.take_if(|(asked, _)| *asked == id) else {
            return Ok(());
        };
        let (device, role) = (state.device.clone(), state.role);
        let mut room = limits::ELSEWHERE_MAX.saturating_sub(turn.len(Table::Elsewhere)?);
        for Address(address) in addresses {
            let own =
                *address == self.account.user_id() || self.pieces.bucket_of(address).is_some();
            if room == 0 || own || Self::is_elsewhere(turn, address)? {
                continue;
            }
            // What was here is here, or gone.
            if Feed::knows(turn, address)?
                || shelf::is_object(turn, address)?
                || self.follows.contains(address)
                || shelf::was_dropped(turn, address)?
            {
                continue;
            }
            turn.put(Table::Elsewhere, address.as_bytes(), []);
            room -= 1;
        }
        // A server that does not get ahead is asked no further.
        let last = addresses.last().copied().filter(|last| Some(last.0) > after);
        if more && last.is_some() && room > 0 {
            self.ask_what_is_owned(turn, link, last);
        } else if let Role::Persister { epoch } = role {
            turn.put(Table::Cursors, key(&[LISTED, &device]), epoch.to_be_bytes());
        }
        Ok(())
    }

    /// Whether an object of ours is known and not on this device.
    pub(crate) fn is_elsewhere(turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
        Ok(turn.get(Table::Elsewhere, address.as_bytes())?.is_some())
    }

    /// Such addresses behind another, ascending.
    pub(crate) fn elsewhere_after(
        turn: &Turn<'_>,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, ViewError> {
        let start = after.map_or_else(Vec::new, |after| key(&[after.as_bytes(), &[0]]));
        turn.range(Table::Elsewhere, &start, &[u8::MAX; Ghid::LEN + 1], limit)?
            .into_iter()
            .map(|(row, _)| {
                Ghid::from_bytes(&row)
                    .map_err(|_| ViewError("a row of elsewhere is damaged".into()))
            })
            .collect()
    }

    /// An object of ours has come, or is gone.
    pub(crate) fn is_here(turn: &mut Turn<'_>, address: &Ghid) -> Result<(), ViewError> {
        if Self::is_elsewhere(turn, address)? {
            turn.delete(Table::Elsewhere, address.as_bytes());
        }
        Ok(())
    }

    /// Another device may have deleted what never came here.
    pub(super) fn gone_elsewhere(
        &self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<(), ViewError> {
        if !Self::is_elsewhere(turn, address)? {
            return Ok(());
        }
        let suite = self.account.identity().identity().suite();
        for target in [*address, StaticBinding::address_of(suite, &self.me, address)] {
            let debinding = Debinding::address_of(suite, &self.me, &target);
            if shelf::bytes(turn, &debinding)?.is_some() {
                return Self::is_here(turn, address);
            }
        }
        Ok(())
    }

    /// What a persister has just sent, it need not be sent, unless there is something newer here.
    /// `before` is the last change of our feed before the message.
    pub(super) fn has_what_it_sent(
        &mut self,
        turn: &Turn<'_>,
        link: LinkId,
        address: &Ghid,
        objects: &[Packed],
        before: u64,
    ) -> Result<(), ViewError> {
        if !self.links.get(link).is_some_and(Link::is_persister) {
            return Ok(());
        }
        let Some(seq) = Feed::place(turn, address)?.filter(|seq| *seq > before) else {
            return Ok(());
        };
        let state = match shelf::head(turn, address)? {
            Some(head) if head.debound || !head.forks.is_empty() => None,
            Some(head) => shelf::bytes(turn, &head.frame)?,
            None => shelf::bytes(turn, address)?,
        };
        if state.is_some_and(|state| objects.iter().any(|object| **object == state))
            && let Some(link) = self.links.get_mut(link)
        {
            link.client.sent.insert(seq, *address);
        }
        Ok(())
    }
}
