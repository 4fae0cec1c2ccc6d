//! Servers tell one another what moved.
//!
//! What a node published here is announced: a little later, so that what a fast author does is
//! announced together, and a bounded number of times a second. What other servers announce is fetched
//! if somebody here follows it, and is told to them like everything else. What was fetched, or came from
//! a server that this one mirrors, is not announced again: whoever had it first did.

use std::collections::BTreeMap;

use golix::Ghid;
use golix::object::Kind;
use golix::persister::Stored;

use super::Persister;
use super::admission::From;
use crate::announcement::{GONE, MOVED_MAX, Moved, Name};
use crate::effect::Effect;
use crate::input::LinkId;
use crate::limits::{
    ANNOUNCE_DELAY, ANNOUNCE_PAUSE, ANNOUNCED_AUTHORS, ANNOUNCED_OBJECTS, ANNOUNCEMENTS_AT_ONCE,
};
use crate::message::Packed;
use crate::route::Host;
use crate::shelf;
use crate::sync::{Fetches, is_news};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::{Time, ViewError};

/// Every shard.
const ALL: u64 = u64::MAX;

/// What is to be announced of one author.
#[derive(Debug)]
struct Waiting {
    since: Time,
    /// The newest counter of each object.
    objects: BTreeMap<Ghid, u64>,
}

/// What is to be announced, and what was.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    moved: BTreeMap<Ghid, Waiting>,
    /// When the next round may be.
    next: Time,
    /// Whether the timer runs.
    timed: bool,
    pub(super) fetches: Fetches,
    /// Announcements made.
    pub(super) announced: u64,
    /// Announcements of others that were about something followed here.
    pub(super) heard: u64,
}

impl Gossip {
    /// Passes on what is announced of everybody: between servers that have the same authors there may be
    /// others that have not, and every server with some hundred authors is in all shards anyway.
    pub(super) fn open(turn: &mut Turn<'_>) -> Self {
        turn.effect(Effect::JoinShards { shards: ALL });
        Self::default()
    }

    /// An object moved: it is announced with the next round.
    fn moved(&mut self, turn: &mut Turn<'_>, author: Ghid, address: Ghid, counter: u64) {
        let since = turn.now();
        if !self.moved.contains_key(&author) && self.moved.len() >= ANNOUNCED_AUTHORS {
            return;
        }
        let waiting =
            self.moved.entry(author).or_insert_with(|| Waiting { since, objects: BTreeMap::new() });
        if waiting.objects.len() < ANNOUNCED_OBJECTS || waiting.objects.contains_key(&address) {
            waiting.objects.insert(address, counter);
        }
        self.announce_at(turn, since + ANNOUNCE_DELAY);
    }

    fn announce_at(&mut self, turn: &mut Turn<'_>, at: Time) {
        if !std::mem::replace(&mut self.timed, true) {
            turn.effect(Effect::SetTimer { timer: Timer::Announce, at: at.max(self.next) });
        }
    }

    /// One round of announcements: who waits longest comes first.
    pub(super) fn announce(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now();
        self.timed = false;
        self.next = now + ANNOUNCE_PAUSE;
        let mut authors: Vec<(Time, Ghid)> =
            self.moved.iter().map(|(author, waiting)| (waiting.since, *author)).collect();
        authors.sort_unstable();
        for (_, author) in authors.into_iter().take(ANNOUNCEMENTS_AT_ONCE) {
            let Some(waiting) = self.moved.get_mut(&author) else { continue };
            let mut moved = Vec::new();
            while moved.len() < MOVED_MAX
                && let Some((address, counter)) = waiting.objects.pop_first()
            {
                moved.push(Moved { name: Name::of(&address), counter });
            }
            waiting.since = now;
            if waiting.objects.is_empty() {
                self.moved.remove(&author);
            }
            self.announced += 1;
            turn.effect(Effect::Announce { author, moved });
        }
        if !self.moved.is_empty() {
            self.announce_at(turn, self.next);
        }
    }
}

impl Persister {
    /// A node published an object, and these addresses changed with it.
    pub(super) fn moved(
        &mut self,
        turn: &mut Turn<'_>,
        (kind, owner): (Kind, Ghid),
        changed: impl IntoIterator<Item = Ghid>,
    ) -> Result<(), ViewError> {
        // A binding of something static comes before its container; holding moves nothing.
        if !matches!(kind, Kind::DynamicBinding | Kind::Container | Kind::Debinding) {
            return Ok(());
        }
        for address in changed {
            let (author, counter) = match shelf::head(turn, &address)? {
                Some(head) if head.debound => (head.binder, GONE),
                Some(head) => (head.binder, head.counter),
                None => match shelf::bytes(turn, &address)?.as_deref().and_then(Stored::read) {
                    Some(Stored::Container { author }) => (author, 1),
                    Some(_) => continue,
                    None => (owner, GONE),
                },
            };
            self.gossip.moved(turn, author, address, counter);
        }
        Ok(())
    }

    /// Another server says that objects of an author moved.
    pub(super) fn announced(
        &mut self,
        turn: &mut Turn<'_>,
        author: Ghid,
        moved: &[Moved],
        host: &Host,
    ) -> Result<(), ViewError> {
        if self.low_on_space || host.device == self.device {
            return Ok(());
        }
        let mut about_us = false;
        for Moved { name, counter } in moved {
            let Some(address) = self.links.subscribed_like(*name) else { continue };
            about_us = true;
            if is_news(turn, &author, &address, *counter)? {
                let hosts = [host.clone()];
                self.gossip.fetches.want(turn, &mut self.links, address, *counter, hosts);
            }
        }
        self.gossip.heard += u64::from(about_us);
        Ok(())
    }

    /// The answer to a question about something announced.
    pub(super) fn fetched(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        id: u32,
        objects: &[Packed],
    ) -> Result<(), ViewError> {
        let Some(asked) = self.gossip.fetches.answered(link, id) else { return Ok(()) };
        let results = self.take(turn, From::Gossip(link), objects)?;
        self.gossip.fetches.settled(turn, &mut self.links, link, asked, &results)
    }
}
