//! What we send to those who follow us.

use golix::Ghid;

use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Cursor, Message};
use crate::shelf;
use crate::sync::{Feed, Holdings, Links};
use crate::turn::Turn;
use crate::view::ViewError;

impl Links {
    /// The other side wants to hear of addresses.
    pub(crate) fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &Feed,
        link: LinkId,
        addresses: &[Address],
        cursor: Option<Cursor>,
    ) -> Result<(), ViewError> {
        let unknown_max = self.unknown_max;
        let Some(state) = self.get_mut(link) else {
            return Ok(());
        };
        if state.subscribed.len() + addresses.len() > limits::SUBSCRIPTIONS_PER_LINK {
            self.close(turn, link, "too many subscriptions", true);
            return Ok(());
        }
        for Address(address) in addresses {
            if !state.subscribed.contains(address) {
                let known = Feed::knows(turn, address)? || shelf::is_object(turn, address)?;
                if !known && unknown_max < limits::SUBSCRIPTIONS_PER_LINK {
                    if state.unknown.len() >= unknown_max {
                        continue;
                    }
                    state.unknown.insert(*address);
                }
                state.subscribed.insert(*address);
            }
            if cursor.is_none() {
                state.needed.insert(*address);
            }
        }
        self.rewind(feed, link, cursor);
        Ok(())
    }

    /// Goes back in the feed to where the other side stands, if it may and if we know the place.
    pub(crate) fn rewind(&mut self, feed: &Feed, link: LinkId, cursor: Option<Cursor>) {
        if let Some(state) = self.get_mut(link)
            && let Some(cursor) = cursor
            && cursor.epoch == feed.epoch()
            && cursor.seq < state.position.min(feed.last())
            && state.rewinds < limits::REWINDS_PER_LINK
        {
            state.position = cursor.seq;
            state.told = cursor.seq;
            state.rewinds += 1;
        }
    }

    /// The other side wants to hear of what the identities change that it proved, or as soon as it
    /// proves one.
    pub(crate) fn follow_own(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &Feed,
        link: LinkId,
        cursor: Option<Cursor>,
    ) {
        if let Some(state) = self.get_mut(link) {
            if state.proven.is_empty() {
                state.asks_for_own = Some(cursor.unwrap_or(Cursor { epoch: 0, seq: 0 }));
                return;
            }
            state.follows_own = true;
        }
        self.rewind(feed, link, cursor);
        self.tell_place(turn, feed, link);
    }

    /// Says where the other side stands in our feed.
    fn tell_place(&mut self, turn: &mut Turn<'_>, feed: &Feed, link: LinkId) {
        if let Some(state) = self.get_mut(link) {
            state.told = state.position;
            let cursor = Cursor { epoch: feed.epoch(), seq: state.position };
            self.send(turn, link, Message::Following { cursor });
        }
    }

    /// The other side no longer wants to hear of addresses.
    pub(crate) fn unsubscribe(&mut self, link: LinkId, addresses: &[Address]) {
        if let Some(state) = self.get_mut(link) {
            for Address(address) in addresses {
                state.subscribed.remove(address);
                state.unknown.remove(address);
                state.needed.remove(address);
                state.own.remove(address);
            }
        }
    }

    /// Sends followers what changed, as far as their windows go. The feed is the queue.
    pub(crate) fn pump(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &Feed,
        holdings: Holdings,
    ) -> Result<(), ViewError> {
        for link in self.behind(feed.last()) {
            self.pump_link(turn, feed, holdings, link)?;
        }
        Ok(())
    }

    fn pump_link(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &Feed,
        holdings: Holdings,
        link: LinkId,
    ) -> Result<(), ViewError> {
        let epoch = feed.epoch();
        self.pump_mail(turn, epoch, link)?;
        loop {
            let Some(state) = self.get_mut(link) else {
                return Ok(());
            };
            if !state.has_room_for_events() {
                return Ok(());
            }
            let Some(address) = state.needed.pop_first() else {
                break;
            };
            self.send_event(turn, holdings, link, Cursor { epoch, seq: 0 }, address)?;
        }
        loop {
            let Some(state) = self.get_mut(link) else {
                return Ok(());
            };
            if state.position >= feed.last() {
                // Of its own changes and of what it asked for there was no event of the feed.
                if state.follows_own && state.position - state.told >= limits::PLACE_UNTOLD {
                    self.tell_place(turn, feed, link);
                }
                return Ok(());
            }
            if state.subscribed.is_empty() && !state.mirrors && !state.follows_own {
                state.position = feed.last();
                return Ok(());
            }
            let position = state.position;
            let changes = feed.after(turn, position, limits::FEED_BATCH)?;
            if changes.is_empty() {
                if let Some(state) = self.get_mut(link) {
                    state.position = feed.last();
                }
                return Ok(());
            }
            for (seq, address, by) in changes {
                let Some(state) = self.get_mut(link) else {
                    return Ok(());
                };
                let told = state.own.get(&address).is_some_and(|own| *own == seq);
                let own = state.follows_own && by.is_some_and(|by| state.proven.contains(&by));
                if told || !(own || state.mirrors || state.subscribed.contains(&address)) {
                    state.own.remove(&address);
                    state.position = seq;
                    continue;
                }
                if !state.has_room_for_events() {
                    return Ok(());
                }
                state.position = seq;
                self.send_event(turn, holdings, link, Cursor { epoch, seq }, address)?;
            }
        }
    }

    /// Hands requests over to their recipient.
    fn pump_mail(
        &mut self,
        turn: &mut Turn<'_>,
        epoch: u64,
        link: LinkId,
    ) -> Result<(), ViewError> {
        while let Some(state) = self.get_mut(link)
            && state.has_room_for_events()
            && let Some((recipient, request)) = state.mail.pop_front()
        {
            if let Some(bytes) = shelf::bytes(turn, &request)? {
                let objects = vec![bytes.into()];
                self.event(turn, link, Cursor { epoch, seq: 0 }, recipient, objects);
            }
        }
        Ok(())
    }

    fn send_event(
        &mut self,
        turn: &mut Turn<'_>,
        holdings: Holdings,
        link: LinkId,
        cursor: Cursor,
        address: Ghid,
    ) -> Result<(), ViewError> {
        let detail = holdings.event_detail(self.get(link).is_some_and(|state| state.mirrors));
        let objects = holdings.bundle(turn, &address, detail)?;
        self.event(turn, link, cursor, address, objects);
        Ok(())
    }

    fn event(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        cursor: Cursor,
        address: Ghid,
        objects: Vec<crate::message::Packed>,
    ) {
        let size: usize = objects.iter().map(|object| object.len()).sum();
        self.event_sent(link, cursor.seq, size);
        let message = Message::Event { cursor, address: Address(address), objects };
        self.send(turn, link, message);
        self.watch(turn, link);
    }
}

impl Engine {
    /// What this account's device can say of addresses.
    pub(crate) fn holdings(&self) -> Holdings {
        Holdings::Account { suite: self.account.identity().identity().suite(), me: self.me }
    }

    /// Tells links what is new, and followers what changed.
    pub(crate) fn pump_links(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        self.tell_links_of_interests(turn)?;
        self.pump_uploads(turn)?;
        let holdings = self.holdings();
        self.links.pump(turn, &self.feed, holdings)
    }
}
