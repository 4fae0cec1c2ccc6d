//! What we send to those who follow us.

use golix::Ghid;
use golix::object::{Debinding, StaticBinding};
use golix::persister::Stored;

use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Cursor, Message, Packed};
use crate::shelf;
use crate::signer::Nobody;
use crate::sync::Feed;
use crate::turn::Turn;
use crate::view::ViewError;

/// Debindings of one target that go into a bundle; an owner has only one.
const DEBINDINGS_MAX: usize = 4;

impl Engine {
    pub(super) fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        addresses: &[Address],
        cursor: Option<Cursor>,
    ) -> Result<(), ViewError> {
        let (epoch, last) = (self.feed.epoch(), self.feed.last());
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        if state.subscribed.len() + addresses.len() > limits::SUBSCRIPTIONS_PER_LINK {
            self.links.close(turn, link, "too many subscriptions", true);
            return Ok(());
        }
        for Address(address) in addresses {
            if !state.subscribed.contains(address) {
                let known = Feed::knows(turn, address)? || shelf::is_object(turn, address)?;
                if !known {
                    if state.unknown >= limits::SUBSCRIPTIONS_UNKNOWN {
                        continue;
                    }
                    state.unknown += 1;
                }
                state.subscribed.insert(*address);
            }
            if cursor.is_none() {
                state.needed.insert(*address);
            }
        }
        if let Some(cursor) = cursor
            && cursor.epoch == epoch
            && cursor.seq < state.position.min(last)
            && state.rewinds < limits::REWINDS_PER_LINK
        {
            state.position = cursor.seq;
            state.rewinds += 1;
        }
        Ok(())
    }

    /// Sends followers what changed, as far as their windows go. The feed is the queue.
    pub(crate) fn pump_links(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        self.tell_links_of_interests(turn)?;
        for link in self.links.ids() {
            self.pump_link(turn, link)?;
        }
        Ok(())
    }

    fn pump_link(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        let epoch = self.feed.epoch();
        loop {
            let Some(state) = self.links.get_mut(link) else {
                return Ok(());
            };
            if !state.has_room_for_events() {
                return Ok(());
            }
            let Some(address) = state.needed.pop_first() else {
                break;
            };
            self.send_event(turn, link, Cursor { epoch, seq: 0 }, address)?;
        }
        loop {
            let Some(state) = self.links.get_mut(link) else {
                return Ok(());
            };
            if state.position >= self.feed.last() {
                return Ok(());
            }
            if state.subscribed.is_empty() {
                state.position = self.feed.last();
                return Ok(());
            }
            let position = state.position;
            let changes = Feed::after(turn, position, limits::FEED_BATCH)?;
            if changes.is_empty() {
                if let Some(state) = self.links.get_mut(link) {
                    state.position = self.feed.last();
                }
                return Ok(());
            }
            for (seq, address) in changes {
                let Some(state) = self.links.get_mut(link) else {
                    return Ok(());
                };
                if !state.subscribed.contains(&address) {
                    state.position = seq;
                    continue;
                }
                if !state.has_room_for_events() {
                    return Ok(());
                }
                state.position = seq;
                self.send_event(turn, link, Cursor { epoch, seq }, address)?;
            }
        }
    }

    fn send_event(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        cursor: Cursor,
        address: Ghid,
    ) -> Result<(), ViewError> {
        let objects = self.bundle(turn, &address, false)?;
        let size: usize = objects.iter().map(|object| object.len()).sum();
        self.links.event_sent(link, cursor.seq, size);
        let message = Message::Event { cursor, address: Address(address), objects };
        self.links.send(turn, link, message);
        self.links.watch(turn, link);
        Ok(())
    }

    /// Everything that makes an address readable to somebody who has its key, in the order in
    /// which it has to be admitted: (identity), bindings, container; or what took it away. Empty
    /// if there is nothing here. Frames that lost come last: without their containers, they are
    /// taken only beside the one that won.
    pub(crate) fn bundle(
        &self,
        turn: &Turn<'_>,
        address: &Ghid,
        with_identities: bool,
    ) -> Result<Vec<Packed>, ViewError> {
        let mut bundle = Bundle { turn, with_identities, objects: Vec::new() };
        if let Some(head) = shelf::head(turn, address)? {
            bundle.identity(&head.binder)?;
            bundle.object(&head.frame)?;
            bundle.object(&head.target)?;
            for fork in &head.forks {
                bundle.object(fork)?;
            }
            if head.debound {
                bundle.debindings(address)?;
            }
            return Ok(bundle.objects);
        }
        match shelf::bytes(turn, address)?.as_deref().and_then(Stored::read) {
            Some(Stored::Container { author }) if shelf::is_object(turn, address)? => {
                bundle.identity(&author)?;
                for (holder, binder) in shelf::static_holders(turn, address)? {
                    bundle.identity(&binder)?;
                    bundle.object(&holder)?;
                }
                bundle.object(address)?;
            }
            Some(Stored::Container { .. }) | None => {
                bundle.debindings(address)?;
                // A static object goes when its binding is debound, which has an own address.
                let binding =
                    StaticBinding::make(&Nobody(self.account.identity().identity()), *address)
                        .ghid();
                bundle.debindings(&binding)?;
            }
            Some(_) => bundle.object(address)?,
        }
        Ok(bundle.objects)
    }

    /// What took an own static object away, as an item of reconciliation.
    pub(super) fn gone_static(&self, address: &Ghid) -> Ghid {
        let identity = &Nobody(self.account.identity().identity());
        let binding = StaticBinding::make(identity, *address).ghid();
        Debinding::make(identity, binding).ghid()
    }
}

struct Bundle<'t, 'v> {
    turn: &'t Turn<'v>,
    with_identities: bool,
    objects: Vec<Packed>,
}

impl Bundle<'_, '_> {
    fn object(&mut self, ghid: &Ghid) -> Result<(), ViewError> {
        if let Some(bytes) = shelf::bytes(self.turn, ghid)? {
            self.objects.push(Packed::from(bytes));
        }
        Ok(())
    }

    fn identity(&mut self, ghid: &Ghid) -> Result<(), ViewError> {
        if self.with_identities { self.object(ghid) } else { Ok(()) }
    }

    fn debindings(&mut self, target: &Ghid) -> Result<(), ViewError> {
        for debinding in shelf::debindings(self.turn, target, DEBINDINGS_MAX)? {
            self.object(&debinding)?;
        }
        Ok(())
    }
}
