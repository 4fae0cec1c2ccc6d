//! What the engine keeps in memory of its objects: opened contents and chain keys, both bounded.

use std::collections::BTreeMap;

use golix::object::Container;
use golix::{ChainKey, Ghid};

use crate::content::Content;
use crate::limits;

/// The newest opened content of objects, bounded in bytes; the one opened first goes first.
#[derive(Default)]
pub(crate) struct Contents {
    /// A large one, for the rest of the turn: whoever asks again in it would open it again.
    large: Option<(Ghid, Ghid, Content)>,
    /// The container that was verified last in this turn.
    verified: Option<Container>,
    entries: BTreeMap<Ghid, Opened>,
    order: BTreeMap<u64, Ghid>,
    next: u64,
    bytes: usize,
}

struct Opened {
    number: u64,
    container: Ghid,
    content: Content,
}

impl Contents {
    /// The content of `address`, if it was opened from `container`.
    pub(crate) fn get(&self, address: &Ghid, container: &Ghid) -> Option<&Content> {
        if let Some((of, from, content)) = &self.large
            && (of, from) == (address, container)
        {
            return Some(content);
        }
        let opened = self.entries.get(address)?;
        (opened.container == *container).then_some(&opened.content)
    }

    /// A container was verified.
    pub(crate) fn note_verified(&mut self, container: &Container) {
        self.verified = Some(container.clone());
    }

    /// The container of this address, if it was verified in this turn.
    pub(crate) fn verified(&self, container: &Ghid) -> Option<&Container> {
        self.verified.as_ref().filter(|it| it.ghid() == *container)
    }

    /// What is kept for one turn goes.
    pub(crate) fn end_turn(&mut self) {
        self.large = None;
        self.verified = None;
    }

    pub(crate) fn put(&mut self, address: Ghid, container: Ghid, content: Content) {
        self.forget(&address);
        if content.state.len() > limits::CONTENT_CACHE_ENTRY_MAX {
            self.large = Some((address, container, content));
            return;
        }
        self.bytes += weight(&content);
        self.order.insert(self.next, address);
        self.entries.insert(address, Opened { number: self.next, container, content });
        self.next += 1;
        while self.bytes > limits::CONTENT_CACHE_BYTES {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.forget(&oldest);
        }
    }

    pub(crate) fn forget(&mut self, address: &Ghid) {
        if self.large.as_ref().is_some_and(|(of, ..)| of == address) {
            self.large = None;
        }
        if let Some(opened) = self.entries.remove(address) {
            self.bytes -= weight(&opened.content);
            self.order.remove(&opened.number);
        }
    }
}

/// A content in the map, with what surrounds it: two addresses, the api id, the map's node.
fn weight(content: &Content) -> usize {
    content.state.len() + 512
}

/// Chain keys close to the newest frame of own objects.
#[derive(Default)]
pub(crate) struct Chains {
    entries: BTreeMap<Ghid, ChainKey>,
}

impl Chains {
    /// A key at `index` or before it.
    pub(crate) fn get(&self, dynamic: &Ghid, index: u64) -> Option<&ChainKey> {
        self.entries.get(dynamic).filter(|key| key.index() <= index)
    }

    pub(crate) fn put(&mut self, dynamic: Ghid, key: ChainKey) {
        if self.entries.len() >= limits::CHAIN_CACHE && !self.entries.contains_key(&dynamic) {
            // Any victim will do: addresses are hashes, and a key is found again in a millisecond.
            self.entries.pop_first();
        }
        self.entries.insert(dynamic, key);
    }

    pub(crate) fn forget(&mut self, dynamic: &Ghid) {
        self.entries.remove(dynamic);
    }
}
