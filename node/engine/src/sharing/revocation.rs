//! Taking a share back.
//!
//! What somebody has read cannot be unread; what comes next can be kept from them. A new *epoch* of an
//! object begins: a chain of keys that does not follow from the one before. Its first key goes to
//! everybody else the object is shared with, in a handshake like the first, also to those who are
//! away. Who does not get it sees that the object was taken from them.

use golix::persister::Head;
use golix::{ChainKey, Ghid, Secret};
use hypergolix_ipc::{ConnectionId, ErrorCode, IpcError, Reply};
use zeroize::Zeroizing;

use crate::content::Content;
use crate::engine::Engine;
use crate::keyring::Record;
use crate::objects::{Answer, does_not_exist, ipc_error};
use crate::shelf;
use crate::turn::{Turn, key};
use crate::view::ViewError;

/// Bytes of one epoch in a record.
const EPOCH_LEN: usize = 12;

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
        let step = (head.counter >> 8) + 1;
        let mut epochs = self.epochs(turn, &object)?;
        let epoch = epochs.last().map_or(0, |(epoch, _)| *epoch) + 1;
        epochs.push((epoch, step));
        self.keyring.put(turn, Record::Epochs, object.as_bytes(), &encode(&epochs))?;
        self.chains.forget(&object);
        // The state as it is, once more, under the new key.
        let chain = self.own_chain(turn, &object, step)?;
        let content = Content { epoch, ..resolved.content };
        let before = [head.target, head.birth];
        let (frame, container) = self.seal_step(turn, &chain, object, &content, &before);
        for object in [frame, container] {
            if let Err(rejection) = self.store(turn, &object)? {
                return Ok(Err(ipc_error(format!("the object was refused: {rejection}"))));
            }
        }
        Self::wrote(turn, &object)?;
        for other in self.recipients(turn, &object)? {
            self.owe_new_key(turn, object, other);
        }
        Ok(Ok(Reply::Done))
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

    /// The epochs of an own object after the first: number, and the step it begins with.
    fn epochs(&self, turn: &Turn<'_>, object: &Ghid) -> Result<Vec<(u32, u64)>, ViewError> {
        let Some(body) = self.keyring.get(turn, Record::Epochs, object.as_bytes())? else {
            return Ok(Vec::new());
        };
        let damaged = || ViewError("the record of an object's epochs is damaged".into());
        let entries = body.chunks_exact(EPOCH_LEN);
        if !entries.remainder().is_empty() {
            return Err(damaged());
        }
        entries
            .map(|entry| {
                let (epoch, from) = entry.split_first_chunk().ok_or_else(damaged)?;
                let from = from.try_into().map_err(|_| damaged())?;
                Ok((u32::from_be_bytes(*epoch), u64::from_be_bytes(from)))
            })
            .collect()
    }

    /// Where the chain of keys begins that step `index` of an own object belongs to.
    pub(crate) fn epoch_start(
        &self,
        turn: &Turn<'_>,
        object: &Ghid,
        index: u64,
    ) -> Result<ChainKey, ViewError> {
        let epochs = self.epochs(turn, object)?;
        Ok(match epochs.iter().rev().find(|(_, from)| *from <= index) {
            Some((epoch, from)) => {
                ChainKey::new(*epoch, *from, self.account.epoch_start(object, *epoch))
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

fn encode(epochs: &[(u32, u64)]) -> Vec<u8> {
    let entry =
        |(epoch, from): &(u32, u64)| [&epoch.to_be_bytes()[..], &from.to_be_bytes()].concat();
    epochs.iter().flat_map(entry).collect()
}
