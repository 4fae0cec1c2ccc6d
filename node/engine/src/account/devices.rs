//! The devices of an account: each has a slot of its own in frame counters and record stamps, so that
//! no two of them ever sign the same counter.

use std::collections::BTreeSet;

use golix::object::{DynamicBinding, Object, Unverified, Verified};
use golix::persister::{Head, HighWater};
use golix::{Ghid, Suite};
use hypergolix_ipc::LostState;

use crate::account::Seen;
use crate::content::Content;
use crate::engine::Engine;
use crate::keyring::Record;
use crate::objects::frame_salt;
use crate::shelf;
use crate::sync::{Feed, META_EPOCH};
use crate::turn::{Turn, key};
use crate::version_vector::{self, VersionVector};
use crate::view::{Entropy, Table, Time, View, ViewError, Write};

/// Meta row: the slot of this device, 1 byte.
const META_SLOT: &[u8] = b"device slot";

/// The slot of this device; `first` where none was drawn yet.
pub(crate) fn slot(turn: &mut Turn<'_>, first: u8) -> Result<u8, ViewError> {
    match turn.get(Table::Meta, META_SLOT)?.as_deref() {
        Some([slot]) => Ok(*slot),
        Some(_) => Err(ViewError("the slot of this device is damaged".into())),
        None => {
            set_slot(turn, first);
            Ok(first)
        }
    }
}

/// Rows of heads that are read at once.
const HEADS_AT_ONCE: usize = 1_024;

/// Meta row: other devices were met, and none had the slot of this one.
const META_SETTLED: &[u8] = b"slot settled";

/// Meta row: the account has other devices.
const META_OTHERS: &[u8] = b"other devices";

pub(crate) fn has_others(turn: &Turn<'_>) -> Result<bool, ViewError> {
    Ok(turn.get(Table::Meta, META_OTHERS)?.is_some())
}

/// Meta row: a state that this device wrote and nobody else has yet.
fn unconfirmed(address: &Ghid) -> Vec<u8> {
    key(&[b"unconfirmed ", address.as_bytes()])
}

fn set_slot(turn: &mut Turn<'_>, slot: u8) {
    turn.put(Table::Meta, META_SLOT, [slot]);
}

/// Whether a meta row is about the device and not about the account: backups leave it out. They keep the
/// slot, which whoever restores them must not have.
pub fn is_of_the_device(key: &[u8]) -> bool {
    [META_OTHERS, META_EPOCH, META_SETTLED].contains(&key) || key.starts_with(b"unconfirmed ")
}

/// What a store that was filled from a backup, and shows that in `view`, needs to be a device of its own: a
/// slot above all that no device has which the backup knows of, the one that it was made on among them.
///
/// # Errors
/// The store failed or holds damaged rows.
pub fn restored(view: &dyn View, entropy: &mut dyn Entropy) -> Result<Vec<Write>, ViewError> {
    let mut turn = Turn::new(view, entropy, Time::default());
    draw_slot(&mut turn, Drawn::Restored)?;
    Ok(turn.finish().writes)
}

/// What a slot is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn {
    /// A device that joins an account, or meets another one that has its slot.
    Joining,
    /// A backup.
    Restored,
}

impl Drawn {
    /// Slots to draw from: not 0, which old writers use, nor 1, which the first device has. Those of
    /// restored backups are set apart, because devices may have joined since a backup was made.
    fn slots(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Joining => 2..=191,
            Self::Restored => 192..=255,
        }
    }
}

/// Draws a slot that no known device has. Who draws an unknown device's moves on as soon as they meet.
pub(crate) fn draw_slot(turn: &mut Turn<'_>, drawn: Drawn) -> Result<u8, ViewError> {
    let taken = taken(turn)?;
    let mut free: Vec<u8> = drawn.slots().filter(|slot| !taken.contains(slot)).collect();
    if free.is_empty() {
        free = (2..=u8::MAX).filter(|slot| !taken.contains(slot)).collect();
    }
    if free.is_empty() {
        free = drawn.slots().collect();
    }
    let dice = u64::from_be_bytes(turn.random());
    let slot = free[(dice % free.len() as u64) as usize];
    set_slot(turn, slot);
    turn.put(Table::Meta, META_OTHERS, []);
    Ok(slot)
}

/// Slots that a device has or had, as far as is known here: of the last states of all own objects, of
/// account records, and this device's.
fn taken(turn: &Turn<'_>) -> Result<BTreeSet<u8>, ViewError> {
    let mut taken: BTreeSet<u8> = turn.get(Table::Meta, META_SLOT)?.into_iter().flatten().collect();
    for seen in Seen::all(turn)? {
        taken.extend(seen.slots());
    }
    let mut after = Vec::new();
    loop {
        let rows = turn.range(Table::Heads, &after, &[u8::MAX; Ghid::LEN + 1], HEADS_AT_ONCE)?;
        let Some((last, _)) = rows.last() else {
            return Ok(taken);
        };
        after = key(&[last, &[0]]);
        for (_, row) in rows {
            // Others' are no harm.
            let head = Head::decode(&row)
                .ok_or_else(|| ViewError("the head of a binding is damaged".into()))?;
            taken.insert((head.counter & 0xff) as u8);
        }
    }
}

/// Meta row: a state of another device that came after a later one, and was kept.
fn kept_late(frame: &Ghid) -> Vec<u8> {
    key(&[b"kept late ", frame.as_bytes()])
}

/// What this device wrote last, before another one of the account writes on.
pub(crate) struct OwnState {
    frame: Ghid,
    counter: u64,
    content: Content,
    /// Nobody else has it yet.
    unconfirmed: bool,
}

impl Engine {
    /// What the writer of the next state has seen of other devices: what that of the present one had, and
    /// the present one.
    pub(crate) fn seen_before(&self, head: &Head, content: &Content) -> VersionVector {
        let mut seen = content.seen.clone();
        seen.note(head.counter);
        // One's own states are known by the counter.
        seen.forget(self.config.slot);
        seen
    }

    /// The state that this device wrote, if `object` takes its place and does not name it.
    pub(crate) fn own_state(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Verified,
    ) -> Result<Option<OwnState>, ViewError> {
        let Some(frame) = self.frame_of_the_account(object) else {
            return Ok(None);
        };
        let address = frame.dynamic();
        let Some(head) = shelf::head(turn, &address)? else {
            return Ok(None);
        };
        let order = HighWater { counter: frame.counter(), frame: frame.ghid() };
        let ours = version_vector::slot(head.counter) == self.config.slot;
        if !ours || order <= head.order() || frame.targets().contains(&head.target) {
            return Ok(None);
        }
        let unconfirmed = turn.get(Table::Meta, &unconfirmed(&address))?.is_some();
        let unconfirmed = unconfirmed || !has_others(turn)?;
        Ok(self.resolve(turn, &address)?.map(|resolved| OwnState {
            frame: head.frame,
            counter: head.counter,
            content: resolved.content,
            unconfirmed,
        }))
    }

    /// A frame of an object of ours. Pieces of the account are merged: of them nothing is ever lost.
    fn frame_of_the_account<'o>(&self, object: &'o Verified) -> Option<&'o DynamicBinding> {
        match object.object() {
            Object::DynamicBinding(frame)
                if frame.binder() == self.me
                    && frame.targets().len() > 1
                    && self.pieces.bucket_of(&frame.dynamic()).is_none() =>
            {
                Some(frame)
            }
            _ => None,
        }
    }

    /// Whether the device that wrote the present state had not seen ours, which it took the place of.
    fn is_lost(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
        ours: &OwnState,
    ) -> Result<bool, ViewError> {
        let (Some(now), Some(head)) = (self.resolve(turn, address)?, shelf::head(turn, address)?)
        else {
            // Its key comes later. What nobody else has, its writer had not seen.
            return Ok(ours.unconfirmed);
        };
        // The same state under another key, or pushed twice.
        if now.content.state == ours.content.state {
            return Ok(false);
        }
        if version_vector::slot(head.counter) == version_vector::slot(ours.counter) {
            // A copy of this device, which says nothing of its own states.
            return Ok(ours.unconfirmed || head.counter == ours.counter);
        }
        let seen = |counter: u64| {
            now.content.seen.includes(counter)
                || version_vector::slot(counter) == version_vector::slot(head.counter)
        };
        Ok(if ours.content.again {
            !ours.content.seen.counters().all(seen)
        } else {
            !seen(ours.counter)
        })
    }

    /// A frame of our account that takes nobody's place. If the present state was written beside it, by
    /// who had not seen it, the device that wrote it keeps it. But where a backup was restored, that
    /// device may be gone for good: then it is kept here too.
    pub(crate) fn came_late(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Verified,
        container: Option<&Unverified>,
    ) -> Result<(), ViewError> {
        let (Some(frame), Some(container)) = (self.frame_of_the_account(object), container) else {
            return Ok(());
        };
        let (address, slot) = (frame.dynamic(), version_vector::slot(frame.counter()));
        let Some(head) = shelf::head(turn, &address)?.filter(|head| !head.debound) else {
            return Ok(());
        };
        if !Drawn::Restored.slots().contains(&self.config.slot)
            || slot == self.config.slot
            || slot == version_vector::slot(head.counter)
            || turn.get(Table::Meta, &kept_late(&frame.ghid()))?.is_some()
        {
            return Ok(());
        }
        let Some(now) = self.resolve(turn, &address)? else {
            return Ok(());
        };
        let chain = self.own_chain(turn, &address, frame.counter() >> 8)?;
        let secret = match frame.suite() {
            Suite::Suite3 => Some(chain.container_secret(&address)),
            Suite::Suite1 => frame_salt(frame.targets())
                .map(|salt| chain.salted_container_secret(&address, &salt)),
        };
        let own = self.account.identity().identity().clone();
        let Ok(verified) = container.clone().verify(Some(&own)) else {
            return Ok(());
        };
        let content = match (verified.object(), secret) {
            (Object::Container(sealed), Some(secret)) => sealed.open(&secret).ok(),
            _ => None,
        };
        let Some(content) = content.and_then(|plain| Content::decode(&plain)) else {
            return Ok(());
        };
        if content.again
            || now.content.seen.includes(frame.counter())
            || now.content.state == content.state
        {
            return Ok(());
        }
        turn.put(Table::Meta, kept_late(&frame.ghid()), []);
        self.keep_lost(turn, address, frame.ghid(), &content)
    }

    /// Another device of the account wrote an object of ours. If it did not know what this one had
    /// written, both wrote at once: its frame wins, on all devices alike, and what lost is kept and
    /// reported.
    pub(crate) fn other_device_wrote(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Verified,
        before: Option<OwnState>,
    ) -> Result<(), ViewError> {
        match object.object() {
            Object::StaticBinding(binding) if binding.binder() == self.me => {
                Self::is_here(turn, &binding.target())?;
                self.feed.touch(turn, &binding.target())
            }
            Object::DynamicBinding(frame) if frame.binder() == self.me => {
                if frame.counter() & 0xff == u64::from(self.config.slot) {
                    self.change_slot(turn)?;
                    // It looked like a piece of this device.
                    self.arrived_pieces.extend(self.pieces.bucket_of(&frame.dynamic()));
                }
                Self::met_another(turn)?;
                Self::is_here(turn, &frame.dynamic())?;
                turn.delete(Table::Meta, unconfirmed(&frame.dynamic()));
                self.epochs_to_check.insert(frame.dynamic());
                match before {
                    Some(before) if self.is_lost(turn, &frame.dynamic(), &before)? => {
                        self.keep_lost(turn, frame.dynamic(), before.frame, &before.content)
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Another device's records were merged, and it has another slot.
    pub(crate) fn slot_is_settled(turn: &mut Turn<'_>) -> Result<(), ViewError> {
        if turn.get(Table::Meta, META_SETTLED)?.is_none() {
            turn.put(Table::Meta, META_SETTLED, []);
        }
        Ok(())
    }

    /// The account has other devices, as this one knows from now on.
    pub(crate) fn met_another(turn: &mut Turn<'_>) -> Result<(), ViewError> {
        if !has_others(turn)? {
            turn.put(Table::Meta, META_OTHERS, []);
        }
        Ok(())
    }

    /// This device wrote an object: until somebody has it, another device cannot know.
    pub(crate) fn wrote(turn: &mut Turn<'_>, address: &Ghid) -> Result<(), ViewError> {
        if has_others(turn)? {
            turn.put(Table::Meta, unconfirmed(address), []);
        }
        Ok(())
    }

    /// Another device of the account, or a persister, has the change with this number of our feed.
    pub(crate) fn confirmed(turn: &mut Turn<'_>, seq: u64) -> Result<(), ViewError> {
        if has_others(turn)?
            && let Some(address) = Feed::at(turn, seq)?
            && turn.get(Table::Meta, &unconfirmed(&address))?.is_some()
        {
            turn.delete(Table::Meta, unconfirmed(&address));
        }
        Ok(())
    }

    fn keep_lost(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        frame: Ghid,
        content: &Content,
    ) -> Result<(), ViewError> {
        turn.log("two devices wrote at once; the state that lost is kept", address.short());
        let body = [&address.as_bytes()[..], &content.state].concat();
        self.keyring.put(turn, Record::Lost, frame.as_bytes(), &body)
    }

    /// States that lost against another device's.
    pub(crate) fn lost_states(&self, turn: &Turn<'_>) -> Result<Vec<LostState>, ViewError> {
        let damaged = || ViewError("the record of a lost state is damaged".into());
        let mut lost = Vec::new();
        for (name, body) in self.keyring.all(turn, Record::Lost)? {
            let frame = Ghid::from_bytes(&name).map_err(|_| damaged())?;
            let (object, state) = body.split_at_checked(Ghid::LEN).ok_or_else(damaged)?;
            let object = Ghid::from_bytes(object).map_err(|_| damaged())?;
            lost.push(LostState { frame, object, state: state.into() });
        }
        Ok(lost)
    }

    /// An object is gone, and what lost against it.
    pub(crate) fn forget_lost_states(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
    ) -> Result<(), ViewError> {
        for lost in self.lost_states(turn)? {
            if lost.object == *object {
                self.keyring.forget(turn, Record::Lost, lost.frame.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Another device signs with our slot: from now on we have another one.
    pub(crate) fn change_slot(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let before = self.config.slot;
        // A device that has met no other yet may have sent records that others take for known.
        let all = !has_others(turn)? || turn.get(Table::Meta, META_SETTLED)?.is_none();
        turn.delete(Table::Meta, META_SETTLED);
        let slot = draw_slot(turn, Drawn::Joining)?;
        self.config.slot = slot;
        self.keyring = self.account.keyring(slot);
        // Records that nobody else has yet get stamps of the new slot; those of the other device are new.
        let mut buckets = Vec::new();
        for (address, bucket) in self.pieces.addresses().iter().zip(0..=u8::MAX) {
            if all || turn.get(Table::Meta, &unconfirmed(address))?.is_some() {
                buckets.push(bucket);
            }
            let mut seen = Seen::load(turn, bucket)?;
            if seen.slots().any(|slot| slot == before) {
                seen.forget(before);
                seen.save(turn, bucket);
            }
        }
        self.keyring.stamp_anew(turn, before, &buckets)?;
        turn.log("another device of this account had the same slot", format!("now {slot}"));
        Ok(())
    }
}
