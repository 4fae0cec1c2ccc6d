//! What is noticed of a persister that does not do what it says: it can withhold, and answer with
//! something else, but not unseen.
//!
//! - An *older* state than ours came from it, or of an own object than the account knows of.
//! - A *foreign* answer: not one object in it belongs to the address that it is about.
//! - Its feed was *set back*: it ends before a place that it named earlier.
//! - *Withheld*: it acknowledged a state, a comparison misses it, and asked for the address it does
//!   not show it; or a comparison says that it has something, and it does not send that; or it says
//!   that a share was handled, and does not show its recipient's word for it.
//!
//! None of this ends the link, since the rest may be of use, and a backup that was restored looks the
//! same. `status` shows it, and everything is asked of others too.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;
use golix::object::{Object, Unverified};

use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Message, Packed};
use crate::sync::holdings::item;
use crate::turn::Turn;
use crate::verdict;
use crate::view::{Time, ViewError};

/// What a comparison calls a state of an address.
type Item = [u8; 32];

/// What was uploaded because a comparison missed it.
#[derive(Debug)]
struct Refill {
    item: Item,
    uploads: u32,
    /// It said that it has it.
    acknowledged: bool,
    /// It has it, whatever its comparisons say: of a held object both sides may name different states.
    shown: bool,
}

/// What to do about a state that a comparison misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    Upload,
    /// It said that it has it: it is asked for it.
    Ask,
    Leave,
}

/// One persister's conduct, for as long as its link is up.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    older: u64,
    foreign: u64,
    set_back: u64,
    refills: BTreeMap<Ghid, Refill>,
    /// Questions under way, whether it has what it acknowledged.
    asked: BTreeMap<u32, Ghid>,
    withheld: BTreeSet<Ghid>,
    /// What it says it has and was asked for: since when, and in which comparison last.
    claims: BTreeMap<Item, (Time, u64)>,
    comparison: u64,
    unshown: BTreeSet<Item>,
}

impl Conduct {
    pub(super) fn is_owed(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn was_set_back(&mut self) {
        self.set_back += 1;
    }

    /// A comparison misses a state there.
    pub(super) fn misses(&mut self, address: Ghid, item: Item) -> Missed {
        let refill = self.refills.get(&address).filter(|refill| refill.item == item);
        match refill {
            Some(refill) if refill.shown => Missed::Leave,
            Some(refill) if refill.acknowledged => Missed::Ask,
            Some(_) => Missed::Upload,
            None => {
                if self.refills.len() < limits::REFUSED_MAX {
                    let refill = Refill { item, uploads: 1, acknowledged: false, shown: false };
                    self.refills.insert(address, refill);
                }
                Missed::Upload
            }
        }
    }

    /// It acknowledged what was uploaded because a comparison missed it.
    pub(super) fn acknowledged(&mut self, address: &Ghid) {
        if let Some(refill) = self.refills.get_mut(address) {
            refill.acknowledged = true;
        }
    }

    /// It does not show what it says it has.
    pub(super) fn withholds(&mut self, address: Ghid) {
        if self.withheld.len() < limits::REFUSED_MAX {
            self.withheld.insert(address);
        }
    }

    /// A message of a comparison says that it has these and we have not.
    pub(super) fn claims(&mut self, now: Time, items: &[Item], done: bool) {
        for item in items {
            let room = self.claims.len() < limits::REFUSED_MAX;
            match self.claims.get_mut(item) {
                Some((since, comparison)) => {
                    *comparison = self.comparison;
                    if now.since(*since) >= limits::CLAIM_PATIENCE {
                        self.unshown.insert(*item);
                    }
                }
                None if room => drop(self.claims.insert(*item, (now, self.comparison))),
                None => {}
            }
        }
        if done {
            // What it no longer says it has is as good as shown.
            self.claims.retain(|_, (_, comparison)| *comparison == self.comparison);
            self.unshown.retain(|item| self.claims.contains_key(item));
            self.comparison += 1;
        }
    }

    /// It sent these objects of an address.
    fn shows(&mut self, address: &Ghid, objects: &[Packed]) {
        if self.claims.is_empty() {
            return;
        }
        let ghids = objects.iter().filter_map(|bytes| Some(Unverified::parse(bytes).ok()?.ghid()));
        for state in ghids.chain([*address]) {
            let item = item(address, &state);
            self.claims.remove(&item);
            self.unshown.remove(&item);
        }
    }

    /// For `status`: members of a JSON object.
    pub(super) fn json(&self) -> String {
        format!(
            "\"older_states\":{},\"foreign_answers\":{},\"set_back\":{},\"withheld\":{}",
            self.older,
            self.foreign,
            self.set_back,
            self.withheld.len() + self.unshown.len()
        )
    }
}

impl Engine {
    /// Whether what a persister sent about an address is about something else, and may be looked at no
    /// further.
    pub(super) fn is_foreign(&mut self, link: LinkId, address: &Ghid, objects: &[Packed]) -> bool {
        let Some(client) = self.links.persister_mut(link) else {
            return false;
        };
        let foreign = !objects.is_empty() && !objects.iter().any(|bytes| belongs(address, bytes));
        client.conduct.foreign += u64::from(foreign);
        foreign
    }

    /// Takes note of what became of what a persister sent about an address.
    pub(super) fn note_conduct(
        &mut self,
        link: LinkId,
        address: &Ghid,
        objects: &[Packed],
        results: &[u32],
    ) {
        if let Some(client) = self.links.persister_mut(link) {
            let older = results.iter().filter(|result| **result == verdict::OLD_FRAME);
            client.conduct.older += older.count() as u64;
            client.conduct.shows(address, objects);
        }
    }

    /// An object of ours that was not here: whether the account knows of a newer state.
    pub(super) fn note_old_state(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        address: &Ghid,
        was_here: bool,
    ) -> Result<(), ViewError> {
        if !was_here && self.is_old(turn, address)? {
            turn.log("an old state of an own object came from a server", address.short());
            if let Some(client) = self.links.persister_mut(link) {
                client.conduct.older += 1;
            }
        }
        Ok(())
    }

    /// Asks for what a persister acknowledged and a comparison misses.
    pub(super) fn ask_for_acknowledged(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        address: Ghid,
    ) {
        let Some(id) = self.links.number(link) else {
            return;
        };
        let Some(client) = self.links.persister_mut(link) else {
            return;
        };
        let asked = &mut client.conduct.asked;
        // Beyond that the next comparison comes back to it.
        if asked.len() < limits::GETS_IN_FLIGHT && !asked.values().any(|other| *other == address) {
            asked.insert(id, address);
            self.links.send(turn, link, Message::Get { id, address: Address(address) });
            self.links.watch(turn, link);
        }
    }

    /// An answer to that; false if it is one to something else.
    pub(super) fn acknowledged_answered(
        &mut self,
        turn: &Turn<'_>,
        link: LinkId,
        id: u32,
        objects: &[Packed],
    ) -> Result<bool, ViewError> {
        let Some(client) = self.links.persister_mut(link) else {
            return Ok(false);
        };
        let Some(address) = client.conduct.asked.remove(&id) else {
            return Ok(false);
        };
        let state = self.holdings().state(turn, &address)?;
        let shown = state.is_none_or(|state| {
            let is = |bytes: &Packed| Unverified::parse(bytes).is_ok_and(|it| it.ghid() == state);
            objects.iter().any(is)
        });
        let Some(client) = self.links.persister_mut(link) else {
            return Ok(true);
        };
        let conduct = &mut client.conduct;
        let Some(refill) = conduct.refills.get_mut(&address) else {
            return Ok(true);
        };
        if shown {
            refill.shown = true;
            conduct.withheld.remove(&address);
            return Ok(true);
        }
        conduct.withheld.insert(address);
        // It may have lost it since; but nobody makes us upload the same for ever.
        if refill.uploads < limits::REFILLS_MAX {
            refill.uploads += 1;
            refill.acknowledged = false;
            client.upload_again(address);
        }
        Ok(true)
    }
}

/// Whether an object has to do with an address: it is it, leads there, or takes something away.
fn belongs(address: &Ghid, bytes: &Packed) -> bool {
    let Ok(object) = Unverified::parse(bytes) else {
        return false;
    };
    if object.ghid() == *address {
        return true;
    }
    match object.assume_verified().object() {
        Object::DynamicBinding(frame) => frame.dynamic() == *address,
        Object::StaticBinding(binding) => binding.target() == *address,
        Object::Request(request) => request.recipient() == *address,
        // That of a static object names its binding.
        Object::Debinding(_) => true,
        Object::Identity(_) | Object::Container(_) => false,
    }
}
