//! Key slots: the root object's content.
//!
//! ```text
//! version 1 | slot count 1 | slots | identity length u16 | sealed identity
//! slot      = kind 1 | log_n 1 | r 1 | p 1 | salt 32 | sealed account key 48
//! ```
//!
//! A slot's first 36 bytes are authenticated, so nobody can swap in weaker parameters. Keys are
//! fresh for each slot (the salt enters their derivation), hence the fixed zero nonce.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use golix::Ghid;
use zeroize::Zeroizing;

use super::passphrase::{ScryptCost, slot_key};
use crate::keyring::derive;
use crate::turn::Turn;

const VERSION: u8 = 1;
const KIND_PASSWORD: u8 = 1;
const KIND_RECOVERY: u8 = 2;
const HEADER: usize = 36;
const SLOT: usize = HEADER + 48;
/// Slots in one root; each failed password costs one scrypt a password slot.
const SLOTS_MAX: usize = 8;

pub(super) struct Slots {
    slots: Vec<[u8; SLOT]>,
    identity: Vec<u8>,
}

pub(super) enum SlotsError {
    Damaged,
    Hostile,
    NoneOpens,
}

impl Slots {
    pub(super) fn seal(
        turn: &mut Turn<'_>,
        user_id: &Ghid,
        key: &[u8; 32],
        identity: &[u8],
        password: &str,
        cost: ScryptCost,
        recovery: &[u8; 16],
    ) -> Self {
        let password_header = header(KIND_PASSWORD, cost.log_n, turn.random());
        let recovery_header = header(KIND_RECOVERY, 0, turn.random());
        let salt = password_header[4..].try_into().expect("32 bytes");
        let slots = vec![
            slot(password_header, &slot_key(password, &salt, cost, user_id, &password_header), key),
            slot(recovery_header, &recovery_key(recovery, user_id, &recovery_header), key),
        ];
        Self { slots, identity: seal(&identity_key(key, user_id), user_id.as_bytes(), identity) }
    }

    /// Puts one new password in the place of all old ones.
    pub(super) fn replace_password(
        &mut self,
        turn: &mut Turn<'_>,
        user_id: &Ghid,
        key: &[u8; 32],
        password: &str,
        cost: ScryptCost,
    ) {
        let header = header(KIND_PASSWORD, cost.log_n, turn.random());
        let salt = header[4..].try_into().expect("32 bytes");
        let new = slot(header, &slot_key(password, &salt, cost, user_id, &header), key);
        self.slots.retain(|slot| slot[0] != KIND_PASSWORD);
        self.slots.insert(0, new);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.slots.len() as u8];
        for slot in &self.slots {
            bytes.extend_from_slice(slot);
        }
        bytes.extend_from_slice(&(self.identity.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.identity);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SlotsError> {
        let (&[version, count], rest) = bytes.split_first_chunk().ok_or(SlotsError::Damaged)?;
        let count = usize::from(count);
        if version != VERSION || count > SLOTS_MAX {
            return Err(SlotsError::Damaged);
        }
        let (slots, rest) = rest.split_at_checked(count * SLOT).ok_or(SlotsError::Damaged)?;
        let (len, identity) = rest.split_first_chunk().ok_or(SlotsError::Damaged)?;
        if identity.len() != usize::from(u16::from_be_bytes(*len)) {
            return Err(SlotsError::Damaged);
        }
        Ok(Self {
            slots: slots.chunks(SLOT).map(|slot| slot.try_into().expect("whole slots")).collect(),
            identity: identity.to_vec(),
        })
    }

    pub(super) fn open_with_password(
        &self,
        user_id: &Ghid,
        password: &str,
    ) -> Result<Zeroizing<[u8; 32]>, SlotsError> {
        for slot in self.slots.iter().filter(|slot| slot[0] == KIND_PASSWORD) {
            let (header, sealed) = slot.split_at(HEADER);
            let cost = ScryptCost { log_n: header[1] };
            if !cost.is_reasonable() || header[2..4] != [8, 1] {
                return Err(SlotsError::Hostile);
            }
            let salt = header[4..].try_into().expect("32 bytes");
            let key = slot_key(password, &salt, cost, user_id, header);
            if let Some(opened) = open_key(&key, header, sealed) {
                return Ok(opened);
            }
        }
        Err(SlotsError::NoneOpens)
    }

    pub(super) fn open_with_recovery_key(
        &self,
        user_id: &Ghid,
        recovery: &[u8; 16],
    ) -> Result<Zeroizing<[u8; 32]>, SlotsError> {
        self.slots
            .iter()
            .filter(|slot| slot[0] == KIND_RECOVERY)
            .find_map(|slot| {
                let (header, sealed) = slot.split_at(HEADER);
                open_key(&recovery_key(recovery, user_id, header), header, sealed)
            })
            .ok_or(SlotsError::NoneOpens)
    }

    pub(super) fn open_identity(
        &self,
        user_id: &Ghid,
        key: &[u8; 32],
    ) -> Result<Zeroizing<Vec<u8>>, SlotsError> {
        open(&identity_key(key, user_id), user_id.as_bytes(), &self.identity)
            .ok_or(SlotsError::Damaged)
    }
}

fn header(kind: u8, log_n: u8, salt: [u8; 32]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&[kind, log_n, 8, 1]);
    header[4..].copy_from_slice(&salt);
    header
}

fn slot(header: [u8; HEADER], slot_key: &[u8; 32], key: &[u8; 32]) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..HEADER].copy_from_slice(&header);
    slot[HEADER..].copy_from_slice(&seal(slot_key, &header, key));
    slot
}

fn recovery_key(recovery: &[u8; 16], user_id: &Ghid, header: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut uniform = Zeroizing::new([0; 32]);
    uniform[..16].copy_from_slice(recovery);
    Zeroizing::new(derive(&uniform, b"hypergolix recovery slot\0", &[user_id.as_bytes(), header]))
}

fn identity_key(key: &[u8; 32], user_id: &Ghid) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(derive(key, b"hypergolix identity\0", &[user_id.as_bytes()]))
}

fn seal(key: &[u8; 32], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
        .encrypt(&Nonce::from([0; 12]), Payload { msg: plain, aad })
        .expect("a few hundred bytes")
}

fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
        .decrypt(&Nonce::from([0; 12]), Payload { msg: sealed, aad })
        .ok()
        .map(Zeroizing::new)
}

fn open_key(key: &[u8; 32], header: &[u8], sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let plain = open(key, header, sealed)?;
    Some(Zeroizing::new(plain.as_slice().try_into().ok()?))
}
