//! What this account follows, and from whom. One row each: `address 65 | source 65`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use golix::Ghid;

use crate::announcement::Name;
use crate::engine::Engine;
use crate::keyring::Record;
use crate::turn::{Turn, key};
use crate::view::{Table, ViewError};

/// Addresses that others share with us, by address and by who can serve them: the author, and
/// whoever shared it.
#[derive(Default)]
pub(crate) struct Follows {
    sources: BTreeMap<Ghid, BTreeSet<Ghid>>,
    addresses: BTreeMap<Ghid, BTreeSet<Ghid>>,
}

impl Follows {
    pub(crate) fn open(turn: &Turn<'_>) -> Result<Self, ViewError> {
        let mut follows = Self::default();
        for (row, _) in turn.prefixed(Table::Follows, &[], usize::MAX >> 1)? {
            let damaged = || ViewError("a followed address is damaged".into());
            let (address, source) = row.split_at_checked(Ghid::LEN).ok_or_else(damaged)?;
            follows.add(
                Ghid::from_bytes(address).map_err(|_| damaged())?,
                Ghid::from_bytes(source).map_err(|_| damaged())?,
            );
        }
        Ok(follows)
    }

    fn add(&mut self, address: Ghid, source: Ghid) -> bool {
        self.addresses.entry(source).or_default().insert(address);
        self.sources.entry(address).or_default().insert(source)
    }

    /// False if it was not followed there.
    fn remove(&mut self, address: &Ghid, source: &Ghid) -> bool {
        let Some(sources) = self.sources.get_mut(address) else {
            return false;
        };
        let was = sources.remove(source);
        if sources.is_empty() {
            self.sources.remove(address);
        }
        if let Some(addresses) = self.addresses.get_mut(source) {
            addresses.remove(address);
            if addresses.is_empty() {
                self.addresses.remove(source);
            }
        }
        was
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    pub(crate) fn contains(&self, address: &Ghid) -> bool {
        self.sources.contains_key(address)
    }

    /// Everything that is followed.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ghid> {
        self.sources.keys().copied()
    }

    /// The same behind `after`.
    pub(crate) fn addresses_after(&self, after: Option<&Ghid>) -> impl Iterator<Item = Ghid> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sources.range((behind, Bound::Unbounded)).map(|(address, _)| *address)
    }

    pub(crate) fn sources(&self, address: &Ghid) -> BTreeSet<Ghid> {
        self.sources.get(address).cloned().unwrap_or_default()
    }

    /// An address of this name that is followed at `source`.
    pub(crate) fn named(&self, name: Name, source: &Ghid) -> Option<Ghid> {
        let mut like =
            self.sources.range(name.first()..).take_while(|(address, _)| Name::of(address) == name);
        like.find(|(_, sources)| sources.contains(source)).map(|(address, _)| *address)
    }

    /// Every identity that serves something we follow.
    pub(crate) fn all_sources(&self) -> impl Iterator<Item = Ghid> {
        self.addresses.keys().copied()
    }

    /// What we follow at `source`.
    pub(crate) fn at(&self, source: &Ghid) -> Vec<Ghid> {
        self.addresses.get(source).map(|set| set.iter().copied().collect()).unwrap_or_default()
    }
}

impl Engine {
    /// Follows an address at a source from now on.
    pub(crate) fn follow(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        source: Ghid,
    ) -> Result<(), ViewError> {
        if source == self.me || self.follows.sources(&address).contains(&source) {
            return Ok(());
        }
        let name = key(&[address.as_bytes(), source.as_bytes()]);
        self.keyring.put(turn, Record::Follow, &name, &[])?;
        self.followed(turn, address, source);
        Ok(())
    }

    /// Something is followed, also by what another device says.
    pub(crate) fn followed(&mut self, turn: &mut Turn<'_>, address: Ghid, source: Ghid) {
        if !self.follows.add(address, source) {
            return;
        }
        turn.put(Table::Follows, key(&[address.as_bytes(), source.as_bytes()]), []);
        self.links.interesting(source);
        self.links.follow_at(source, address);
    }

    /// The author of an object serves it as well as whoever shared it.
    pub(crate) fn follow_binder(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        binder: Ghid,
    ) -> Result<(), ViewError> {
        if binder != self.me && self.follows.contains(&address) {
            self.follow(turn, address, binder)?;
        }
        Ok(())
    }

    pub(crate) fn unfollow(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<(), ViewError> {
        for source in self.follows.sources(address) {
            let name = key(&[address.as_bytes(), source.as_bytes()]);
            self.keyring.forget(turn, Record::Follow, &name)?;
            self.unfollowed(turn, *address, source);
        }
        Ok(())
    }

    /// Something is followed at a source no longer, also by what another device says.
    pub(crate) fn unfollowed(&mut self, turn: &mut Turn<'_>, address: Ghid, source: Ghid) {
        if !self.follows.remove(&address, &source) {
            return;
        }
        turn.delete(Table::Follows, key(&[address.as_bytes(), source.as_bytes()]));
        self.links.unfollow_at(turn, &source, address);
        self.listen_soon(turn);
        if !self.follows.contains(&address) {
            self.unfollow_at_persisters(turn, address);
        }
    }
}
