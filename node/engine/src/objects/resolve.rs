//! From an address to the opened content behind it.

use golix::object::{Container, Object, Unverified};
use golix::persister::Head;
use golix::{ChainKey, Ghid, Secret, Suite};
use hypergolix_ipc::ConnectionId;
use zeroize::Zeroizing;

use crate::content::Content;
use crate::engine::Engine;
use crate::keyring::Record;
use crate::limits;
use crate::shelf;
use crate::turn::Turn;
use crate::view::ViewError;

/// An object that this account can read.
pub(crate) struct Resolved {
    pub(crate) address: Ghid,
    /// Who created it.
    pub(crate) binder: Ghid,
    pub(crate) dynamic: bool,
    /// The address of the container it points at now.
    pub(crate) container: Ghid,
    /// Opens that container and nothing else.
    pub(crate) secret: Secret,
    /// What a live share hands over; `None` for a static object.
    pub(crate) chain: Option<ChainKey>,
    pub(crate) content: Content,
}

impl Engine {
    /// What `connection` may see of an object: `None` also for private objects of others.
    pub(crate) fn visible(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        address: &Ghid,
    ) -> Result<Option<Resolved>, ViewError> {
        let token = self.apps.token(connection);
        Ok(self.resolve(turn, address)?.filter(|resolved| {
            resolved.content.private.is_none() || resolved.content.private == token
        }))
    }

    /// Opens the object behind an address; `None` if it is not here or we have no key for it.
    pub(crate) fn resolve(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<Option<Resolved>, ViewError> {
        if *address == self.account.user_id() || self.pieces.bucket_of(address).is_some() {
            return Ok(None);
        }
        self.resolve_any(turn, address)
    }

    /// As [`Engine::resolve`], also for the account's own objects.
    pub(crate) fn resolve_any(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<Option<Resolved>, ViewError> {
        match shelf::head(turn, address)? {
            // It could be anybody's: only suite 1 has such heads, and only of other programs.
            Some(head) if !head.proven => Ok(None),
            Some(head) => {
                let Some(chain) = self.chain_key(turn, address, &head.binder, head.counter >> 8)?
                else {
                    return Ok(None);
                };
                let Some(secret) = Self::frame_secret(turn, &chain, address, &head)? else {
                    return Ok(None);
                };
                let opened = self.content(turn, address, &head.target, |_| Some(secret.clone()))?;
                let opened = match opened {
                    Some(content) => Some((chain, secret, content)),
                    None if head.binder == self.me => {
                        self.open_other_epoch(turn, address, &head)?
                    }
                    None => self.open_next_epoch(turn, address, &head)?,
                };
                let Some((chain, secret, content)) = opened else {
                    return Ok(None);
                };
                Ok(Some(Resolved {
                    address: *address,
                    binder: head.binder,
                    dynamic: true,
                    container: head.target,
                    secret,
                    chain: Some(chain),
                    content,
                }))
            }
            None => self.resolve_static(turn, address),
        }
    }

    fn resolve_static(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<Option<Resolved>, ViewError> {
        if !shelf::is_object(turn, address)? {
            return Ok(None);
        }
        let received = self
            .keyring
            .get(turn, Record::Secret, address.as_bytes())?
            .and_then(|bytes| Secret::from_bytes(&bytes).ok());
        let Some(golix::persister::Stored::Container { author }) =
            shelf::bytes(turn, address)?.as_deref().and_then(golix::persister::Stored::read)
        else {
            return Ok(None);
        };
        let account = self.account.clone();
        let mut used = None;
        let content = self.content(turn, address, address, |salt| {
            let salt = salt.filter(|_| author == account.fingerprint());
            used = received.clone().or_else(|| salt.map(|salt| account.static_secret(salt)));
            used.clone()
        })?;
        let (Some(content), Some(secret)) = (content, used.or(received)) else {
            return Ok(None);
        };
        Ok(Some(Resolved {
            address: *address,
            binder: author,
            dynamic: false,
            container: *address,
            secret,
            chain: None,
            content,
        }))
    }

    /// The secret of the container that the newest frame points at. In suite 1 the frame's salt is part
    /// of it: its containers have none, and one secret must never seal two of them.
    pub(crate) fn frame_secret(
        turn: &Turn<'_>,
        chain: &ChainKey,
        dynamic: &Ghid,
        head: &Head,
    ) -> Result<Option<Secret>, ViewError> {
        match head.suite {
            Suite::Suite3 => Ok(Some(chain.container_secret(dynamic))),
            Suite::Suite1 => {
                let salt =
                    shelf::targets(turn, &head.frame)?.and_then(|targets| frame_salt(&targets));
                Ok(salt.map(|salt| chain.salted_container_secret(dynamic, &salt)))
            }
        }
    }

    /// The content of a container, opened with the secret that `secret` finds for its salt.
    pub(crate) fn content(
        &mut self,
        turn: &Turn<'_>,
        address: &Ghid,
        container: &Ghid,
        secret: impl FnOnce(Option<&[u8; 32]>) -> Option<Secret>,
    ) -> Result<Option<Content>, ViewError> {
        // Static objects are opened each time, because the secret is derived on the way.
        if address != container
            && let Some(content) = self.contents.get(address, container)
        {
            return Ok(Some(content.clone()));
        }
        let sealed = match self.contents.verified(container) {
            Some(sealed) => sealed.clone(),
            None => match stored_container(turn, container)? {
                Some(sealed) => sealed,
                None => return Ok(None),
            },
        };
        let Some(content) = secret(sealed.salt())
            .and_then(|secret| sealed.open(&secret).ok())
            .and_then(|plain| Content::decode(&plain))
        else {
            return Ok(None);
        };
        if address != container {
            self.contents.put(*address, *container, content.clone());
        }
        Ok(Some(content))
    }

    /// The chain key at step `index`, if we have one at it or before it.
    pub(crate) fn chain_key(
        &mut self,
        turn: &mut Turn<'_>,
        dynamic: &Ghid,
        binder: &Ghid,
        index: u64,
    ) -> Result<Option<ChainKey>, ViewError> {
        if *binder == self.me {
            return self.own_chain(turn, dynamic, index).map(Some);
        }
        if let Some(key) = self.chains.get(dynamic, index)
            && let Some(key) = key.advance_to(dynamic, index)
        {
            self.chains.put(*dynamic, key.clone());
            return Ok(Some(key));
        }
        let received = self
            .keyring
            .get(turn, Record::Secret, dynamic.as_bytes())?
            .and_then(|bytes| Secret::from_bytes(&bytes).ok())
            .and_then(|secret| ChainKey::from_handshake(&secret));
        let Some(start) = received else {
            return Ok(None);
        };
        let Some(key) = start.advance_to(dynamic, index) else {
            return Ok(None);
        };
        if index.saturating_sub(start.index()) >= limits::CHAIN_CHECKPOINT {
            // Keep only the newest: older states are nobody's business any more.
            let body = Zeroizing::new(key.to_handshake().to_bytes());
            self.keyring.put(turn, Record::Secret, dynamic.as_bytes(), &body[..])?;
        }
        self.chains.put(*dynamic, key.clone());
        Ok(Some(key))
    }

    /// The chain key of an own object at step `index`: from memory, a checkpoint, or the start.
    pub(crate) fn own_chain(
        &mut self,
        turn: &mut Turn<'_>,
        dynamic: &Ghid,
        index: u64,
    ) -> Result<ChainKey, ViewError> {
        let start = self.epoch_start(turn, dynamic, index)?;
        let fits = |key: &ChainKey| key.epoch() == start.epoch() && key.index() <= index;
        let mut key = match self.chains.get(dynamic, index).filter(|key| fits(key)) {
            Some(key) => key.clone(),
            None => self
                .keyring
                .get(turn, Record::Checkpoint, dynamic.as_bytes())?
                .and_then(|bytes| Secret::from_bytes(&bytes).ok())
                .and_then(|secret| ChainKey::from_handshake(&secret))
                .filter(fits)
                .unwrap_or(start),
        };
        while key.index() < index {
            let step = index.min(next_checkpoint(key.index()));
            key = key.advance_to(dynamic, step).expect("a thousand steps are within its limit");
            if step.is_multiple_of(limits::CHAIN_CHECKPOINT) {
                let body = Zeroizing::new(key.to_handshake().to_bytes());
                self.keyring.put(turn, Record::Checkpoint, dynamic.as_bytes(), &body[..])?;
            }
        }
        self.chains.put(*dynamic, key.clone());
        Ok(key)
    }
}

/// A container of the store. It was verified before it was stored; the hash is checked again, so that
/// nobody is shown what a disk made of it.
fn stored_container(turn: &Turn<'_>, container: &Ghid) -> Result<Option<Container>, ViewError> {
    let Some(bytes) = shelf::bytes(turn, container)? else {
        return Ok(None);
    };
    let Ok(object) = Unverified::parse(&bytes) else {
        return Err(ViewError("a stored container is damaged".into()));
    };
    Ok(match object.assume_verified().object() {
        Object::Container(sealed) => Some(sealed.clone()),
        _ => None,
    })
}

/// Where a frame of suite 1 carries its salt: right before its birth target, with the container and
/// what was its target before in front.
pub(crate) fn frame_salt(targets: &[Ghid]) -> Option<Ghid> {
    let salt = targets.len().checked_sub(2).filter(|at| *at > 0)?;
    targets.get(salt).copied()
}

fn next_checkpoint(index: u64) -> u64 {
    (index / limits::CHAIN_CHECKPOINT + 1).saturating_mul(limits::CHAIN_CHECKPOINT)
}
