//! Taking a share back.
//!
//! What somebody has read cannot be unread; what comes next can be kept from them. A new *epoch* of an
//! object begins: a chain of keys that does not follow from the one before. Its first key goes to
//! everybody else the object is shared with, in a handshake like the first, also to those who are
//! away. Who does not get it sees that the object was taken from them.
//!
//! Two devices of one account may do so without knowing of each other. Then each has given the key of its
//! epoch to whom the other took the object from; or the other wrote on under the key before, and its state
//! won. Once they know, by their account records and the frames of the object, a further epoch begins, for
//! those whom neither has taken it from.

use std::collections::BTreeSet;

use golix::persister::Head;
use golix::{ChainKey, Ghid, Secret};
use hypergolix_ipc::{ConnectionId, ErrorCode, IpcError, Reply};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::content::Content;
use crate::engine::Engine;
use crate::keyring::Record;
use crate::limits;
use crate::objects::{Answer, does_not_exist, ipc_error};
use crate::shelf;
use crate::turn::{Turn, key};
use crate::view::ViewError;

/// Layout of a record of epochs; without it entries have no readers.
const VERSION: u8 = 2;

/// Bytes of one epoch in a record.
const EPOCH_LEN: usize = 20;

/// The same in records without a version.
const EPOCH_LEN_BEFORE: usize = 12;

/// Steps that are looked for a key of another epoch. A guess: 50 ms of work.
const STEPS_BACK_MAX: u64 = 65_536;

/// Epochs after the last known one whose keys are tried, and steps ago that these may have begun.
const EPOCHS_AHEAD: u32 = 2;
const STEPS_AHEAD: u64 = 8;

/// Objects of which an epoch is remembered that was found before it was heard of.
const EARLY_EPOCHS_MAX: usize = 1_024;

/// One epoch after the first: its number, the step with which it begins, and a digest of those who were
/// given its key.
///
/// Of two devices that begin an epoch at the same time, both entries stay: their frames have different
/// keys if the steps differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch {
    number: u32,
    from: u64,
    readers: u64,
}

impl Engine {
    /// Keeps the future states of an own object from somebody it is shared with.
    pub(crate) fn unshare(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        object: Ghid,
        recipient: Ghid,
    ) -> Answer {
        let Some(resolved) = self.visible(turn, connection, &object)? else {
            return Ok(Err(does_not_exist(&object)));
        };
        if resolved.binder != self.me {
            return Ok(Err(IpcError {
                code: ErrorCode::InconsistentAuthor,
                text: "only the creator of an object can take it back from somebody".into(),
            }));
        }
        if !resolved.dynamic {
            return Ok(Err(ipc_error(
                "a static object never changes, so nothing can be kept from those who have it",
            )));
        }
        let name = key(&[object.as_bytes(), recipient.as_bytes()]);
        if self.keyring.get(turn, Record::Recipient, &name)?.is_none() {
            return Ok(Err(ipc_error("this object is not shared with that user")));
        }
        let Some(head) = shelf::head(turn, &object)? else {
            return Ok(Err(does_not_exist(&object)));
        };
        self.keyring.forget(turn, Record::Recipient, &name)?;
        self.cancel_owed(turn, &object, &recipient)?;
        self.begin_epoch(turn, object, &head, resolved.content)
    }

    /// Begins the next epoch of an own object, for all whom it is shared with.
    fn begin_epoch(
        &mut self,
        turn: &mut Turn<'_>,
        object: Ghid,
        head: &Head,
        content: Content,
    ) -> Answer {
        let from = (head.counter >> 8) + 1;
        let mut epochs = self.epochs(turn, &object)?;
        let early = self.early_epoch(&object, epochs.last());
        let number = early.as_ref().or(epochs.last()).map_or(0, |epoch| epoch.number) + 1;
        let recipients = self.recipients(turn, &object)?;
        epochs.push(Epoch { number, from, readers: digest(&recipients) });
        self.keyring.put(turn, Record::Epochs, object.as_bytes(), &encode(&epochs))?;
        self.chains.forget(&object);
        // The state as it is, once more, under the new key.
        let chain = self.own_chain(turn, &object, from)?;
        // A state that lost is reported by whoever wrote it, not by whoever sealed it again.
        let mut seen = content.seen.clone();
        if !content.again {
            seen.note(head.counter);
        }
        let content = Content { epoch: number, seen, again: true, ..content };
        let before = [head.target, head.birth];
        let (frame, container) = self.seal_step(turn, &chain, object, &content, &before);
        for object in [frame, container] {
            if let Err(rejection) = self.store(turn, &object)? {
                return Ok(Err(ipc_error(format!("the object was refused: {rejection}"))));
            }
        }
        Self::wrote(turn, &object)?;
        self.list_soon(turn, &object);
        for other in recipients {
            let token = self.cancel_owed(turn, &object, &other)?;
            self.promise(turn, object, other, token, chain.to_handshake())?;
        }
        Ok(Ok(Reply::Done))
    }

    /// Another device began an epoch of an own object as well: both entries stay.
    pub(crate) fn merge_epochs(
        &mut self,
        turn: &mut Turn<'_>,
        object: Ghid,
        before: &[u8],
        theirs: &[u8],
    ) -> Result<(), ViewError> {
        let mut epochs = decode(before)?;
        epochs.extend(decode(theirs)?);
        epochs.sort_unstable();
        epochs.dedup();
        if self.epochs(turn, &object)? != epochs {
            self.keyring.put(turn, Record::Epochs, object.as_bytes(), &encode(&epochs))?;
        }
        self.chains.forget(&object);
        self.contents.forget(&object);
        Ok(())
    }

    /// Another device took an own object from somebody, who is given no key of it here either.
    pub(crate) fn recipient_gone(
        &mut self,
        turn: &mut Turn<'_>,
        name: &[u8],
    ) -> Result<(), ViewError> {
        let Some((object, recipient)) = name.split_at_checked(Ghid::LEN) else {
            return Ok(());
        };
        if let (Ok(object), Ok(recipient)) = (Ghid::from_bytes(object), Ghid::from_bytes(recipient))
        {
            self.cancel_owed(turn, &object, &recipient)?;
        }
        Ok(())
    }

    /// Begins an epoch where two devices have worked against each other: both began the last one, for
    /// different readers; or the newest state is under an earlier key, which somebody has whom the
    /// object was taken from.
    pub(crate) fn settle_epochs(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for object in std::mem::take(&mut self.epochs_to_check) {
            let epochs = self.epochs(turn, &object)?;
            let Some(last) = epochs.last() else {
                continue;
            };
            let Some(head) = shelf::head(turn, &object)? else {
                continue;
            };
            if head.binder != self.me || head.debound || head.counter >> 8 >= u64::MAX >> 8 {
                continue;
            }
            // What is not here yet, or cannot be opened yet, is looked at when that comes.
            let Some(resolved) = self.resolve(turn, &object)? else {
                continue;
            };
            let begun_twice = epochs.iter().filter(|epoch| epoch.number == last.number).count() > 1;
            if begun_twice || resolved.content.epoch < last.number {
                turn.log(
                    "two devices took an object back at once; its key changes",
                    object.short(),
                );
                if let Err(error) = self.begin_epoch(turn, object, &head, resolved.content)? {
                    turn.log("its key cannot be changed", error.text);
                }
            }
        }
        Ok(())
    }

    /// Own objects whose last epoch was begun twice, as the store has them.
    pub(crate) fn unsettled_epochs(&self, turn: &Turn<'_>) -> Result<BTreeSet<Ghid>, ViewError> {
        let mut found = BTreeSet::new();
        for (name, body) in self.keyring.all(turn, Record::Epochs)? {
            let epochs = decode(&body)?;
            if let [.., other, last] = epochs.as_slice()
                && other.number == last.number
                && let Ok(object) = Ghid::from_bytes(&name)
            {
                found.insert(object);
            }
        }
        Ok(found)
    }

    /// Opens the newest frame of an own object with the key of another epoch than the one that its step
    /// belongs to here: the device that wrote it did not know of that one.
    pub(crate) fn open_other_epoch(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
        head: &Head,
    ) -> Result<Option<(ChainKey, Secret, Content)>, ViewError> {
        let index = head.counter >> 8;
        let mut starts = vec![ChainKey::new(0, 0, self.account.chain_start(object))];
        for epoch in self.epochs(turn, object)? {
            let start = self.account.epoch_start(object, epoch.number);
            starts.push(ChainKey::new(epoch.number, epoch.from, start));
        }
        for mut chain in starts.into_iter().rev() {
            let steps = index.checked_sub(chain.index()).filter(|steps| *steps <= STEPS_BACK_MAX);
            if steps.is_none() {
                continue;
            }
            while chain.index() < index {
                let step = index.min(chain.index() + limits::CHAIN_CHECKPOINT);
                chain =
                    chain.advance_to(object, step).expect("a thousand steps are within its limit");
            }
            let Some(secret) = Self::frame_secret(turn, &chain, object, head)? else {
                continue;
            };
            if let Some(content) =
                self.content(turn, object, &head.target, |_| Some(secret.clone()))?
            {
                return Ok(Some((chain, secret, content)));
            }
        }
        self.open_early_epoch(turn, object, head)
    }

    /// The same with the keys of epochs that another device may have begun, whose record comes later
    /// than the frame, or never: that device may be gone.
    fn open_early_epoch(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
        head: &Head,
    ) -> Result<Option<(ChainKey, Secret, Content)>, ViewError> {
        let index = head.counter >> 8;
        let last = self.last_epoch(turn, object)?;
        for number in last.saturating_add(1)..=last.saturating_add(EPOCHS_AHEAD) {
            for from in (index.saturating_sub(STEPS_AHEAD)..=index).rev() {
                let start = self.account.epoch_start(object, number);
                let Some(chain) = ChainKey::new(number, from, start).advance_to(object, index)
                else {
                    continue;
                };
                let Some(secret) = Self::frame_secret(turn, &chain, object, head)? else {
                    continue;
                };
                let opened = self.content(turn, object, &head.target, |_| Some(secret.clone()))?;
                let Some(content) = opened else { continue };
                if self.early_epochs.len() >= EARLY_EPOCHS_MAX {
                    self.early_epochs.pop_first();
                }
                self.early_epochs.insert(*object, Epoch { number, from, readers: 0 });
                self.chains.put(*object, chain.clone());
                return Ok(Some((chain, secret, content)));
            }
        }
        Ok(None)
    }

    /// An epoch that was found before the account's records say so.
    fn early_epoch(&self, object: &Ghid, last: Option<&Epoch>) -> Option<Epoch> {
        let early = self.early_epochs.get(object).copied()?;
        last.is_none_or(|last| last.number < early.number).then_some(early)
    }

    /// Whom an own object is shared with.
    fn recipients(&self, turn: &Turn<'_>, object: &Ghid) -> Result<Vec<Ghid>, ViewError> {
        let names = self.keyring.all(turn, Record::Recipient)?;
        Ok(names
            .into_iter()
            .filter_map(|(name, _)| {
                let (of, recipient) = name.split_at_checked(Ghid::LEN)?;
                (of == object.as_bytes()).then(|| Ghid::from_bytes(recipient).ok()).flatten()
            })
            .collect())
    }

    /// The number of the last epoch of an own object.
    pub(super) fn last_epoch(&self, turn: &Turn<'_>, object: &Ghid) -> Result<u32, ViewError> {
        Ok(self.epochs(turn, object)?.last().map_or(0, |epoch| epoch.number))
    }

    /// The epochs of an own object after the first, ascending.
    fn epochs(&self, turn: &Turn<'_>, object: &Ghid) -> Result<Vec<Epoch>, ViewError> {
        match self.keyring.get(turn, Record::Epochs, object.as_bytes())? {
            Some(body) => decode(&body),
            None => Ok(Vec::new()),
        }
    }

    /// Where the chain of keys begins that step `index` of an own object belongs to.
    pub(crate) fn epoch_start(
        &self,
        turn: &Turn<'_>,
        object: &Ghid,
        index: u64,
    ) -> Result<ChainKey, ViewError> {
        let mut epochs = self.epochs(turn, object)?;
        epochs.extend(self.early_epoch(object, epochs.last()));
        Ok(match epochs.iter().rev().find(|epoch| epoch.from <= index) {
            Some(Epoch { number, from, .. }) => {
                ChainKey::new(*number, *from, self.account.epoch_start(object, *number))
            }
            None => ChainKey::new(0, 0, self.account.chain_start(object)),
        })
    }

    /// A handshake for something that is followed already: the owner gives us the key of its next
    /// epoch. Nobody else can, and no application is told of a share.
    pub(super) fn takes_new_key(
        &mut self,
        turn: &mut Turn<'_>,
        author: Ghid,
        target: &Ghid,
        secret: &[u8],
    ) -> Result<bool, ViewError> {
        let Some(head) = shelf::head(turn, target)? else {
            return Ok(false);
        };
        let chain = |bytes: &[u8]| {
            Secret::from_bytes(bytes).ok().and_then(|secret| ChainKey::from_handshake(&secret))
        };
        let known = self.keyring.get(turn, Record::Secret, target.as_bytes())?;
        let (Some(known), Some(new)) = (known.and_then(|known| chain(&known)), chain(secret))
        else {
            return Ok(false);
        };
        if head.binder != author || author == self.me || new.epoch() <= known.epoch() {
            return Ok(false);
        }
        self.keyring.put(turn, Record::NextSecret, target.as_bytes(), secret)?;
        self.arrived.insert(*target);
        self.news.push(crate::engine::News::Updated(*target, None));
        Ok(true)
    }

    /// Opens a frame with the key of the next epoch, which then takes the place of the key before.
    pub(crate) fn open_next_epoch(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
        head: &Head,
    ) -> Result<Option<(ChainKey, Secret, Content)>, ViewError> {
        let Some(next) = self.keyring.get(turn, Record::NextSecret, address.as_bytes())? else {
            return Ok(None);
        };
        let Some(chain) = Secret::from_bytes(&next)
            .ok()
            .and_then(|secret| ChainKey::from_handshake(&secret))
            .and_then(|chain| chain.advance_to(address, head.counter >> 8))
        else {
            return Ok(None);
        };
        let Some(secret) = Self::frame_secret(turn, &chain, address, head)? else {
            return Ok(None);
        };
        let opened = self.content(turn, address, &head.target, |_| Some(secret.clone()))?;
        let Some(content) = opened else {
            return Ok(None);
        };
        let body = Zeroizing::new(next.to_vec());
        self.keyring.put(turn, Record::Secret, address.as_bytes(), &body)?;
        self.keyring.forget(turn, Record::NextSecret, address.as_bytes())?;
        self.chains.put(*address, chain.clone());
        Ok(Some((chain, secret, content)))
    }

    /// Whether an object is here that we once had the key of, and no longer have.
    pub(crate) fn is_revoked(&self, turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
        let known = self.keyring.get(turn, Record::Secret, address.as_bytes())?.is_some();
        Ok(known && shelf::head(turn, address)?.is_some_and(|head| head.binder != self.me))
    }
}

/// `version 2 | number u32 | first step u64 | readers u64` each.
fn encode(epochs: &[Epoch]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for epoch in epochs {
        bytes.extend_from_slice(&epoch.number.to_be_bytes());
        bytes.extend_from_slice(&epoch.from.to_be_bytes());
        bytes.extend_from_slice(&epoch.readers.to_be_bytes());
    }
    bytes
}

/// Earlier versions wrote `number u32 | first step u64` each and nothing before.
fn decode(body: &[u8]) -> Result<Vec<Epoch>, ViewError> {
    let damaged = || ViewError("the record of an object's epochs is damaged".into());
    let (entries, len) = match body.split_first() {
        Some((&VERSION, entries)) => (entries, EPOCH_LEN),
        _ => (body, EPOCH_LEN_BEFORE),
    };
    let entries = entries.chunks_exact(len);
    if !entries.remainder().is_empty() {
        return Err(damaged());
    }
    entries
        .map(|entry| {
            let (number, rest) = entry.split_first_chunk().ok_or_else(damaged)?;
            let (from, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
            let readers = rest.first_chunk().map_or(0, |readers| u64::from_be_bytes(*readers));
            let (number, from) = (u32::from_be_bytes(*number), u64::from_be_bytes(*from));
            Ok(Epoch { number, from, readers })
        })
        .collect()
}

/// Tells sets of readers apart.
fn digest(recipients: &[Ghid]) -> u64 {
    let sorted: BTreeSet<&Ghid> = recipients.iter().collect();
    let digest = sorted.into_iter().fold(Sha512::new(), Sha512::chain_update).finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("8 of 64 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_read_back_also_as_they_were_before() {
        let epochs = [
            Epoch { number: 1, from: 7, readers: 9 },
            Epoch { number: 2, from: 300, readers: u64::MAX },
        ];
        let bytes = encode(&epochs);
        assert_eq!(decode(&bytes).expect("whole"), epochs);
        decode(&bytes[..bytes.len() - 1]).expect_err("half of one");
        let before = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(decode(&before).expect("whole"), [Epoch { number: 1, from: 7, readers: 0 }]);
    }
}
