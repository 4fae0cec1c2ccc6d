//! Account records: small facts of the account, each sealed on its own.
//!
//! Row key: `kind 1 | HMAC-SHA-512(index key, kind | name)[..31]`, so that a stolen disk does not
//! show names. Value: `salt 16 | AES-256-GCM(HKDF(seal key, salt | row key), name length u16 |
//! name | body)`. A change rewrites one row.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::turn::Turn;
use crate::view::{Table, ViewError};

/// What a record is about. The discriminant is part of the disk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Record {
    /// Address to the secret or chain key received for it.
    Secret = 1,
    /// Own dynamic address to a chain key close to its newest frame.
    Checkpoint = 2,
    /// Application token to its startup object.
    Token = 3,
    /// A share that waits for an application.
    Share = 4,
}

/// A record's name and body.
type Opened = (Vec<u8>, Zeroizing<Vec<u8>>);

/// Seals and opens account records.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keyring {
    index: [u8; 32],
    seal: [u8; 32],
}

impl Keyring {
    pub(crate) fn new(account_key: &[u8; 32]) -> Self {
        Self {
            index: derive(account_key, b"hypergolix record index\0", &[]),
            seal: derive(account_key, b"hypergolix record seal\0", &[]),
        }
    }

    pub(crate) fn get(
        &self,
        turn: &Turn<'_>,
        kind: Record,
        name: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ViewError> {
        let row = self.row(kind, name);
        match turn.get(Table::Account, &row)? {
            Some(sealed) => self.open(&row, &sealed).map(|(_, body)| Some(body)),
            None => Ok(None),
        }
    }

    pub(crate) fn put(&self, turn: &mut Turn<'_>, kind: Record, name: &[u8], body: &[u8]) {
        let row = self.row(kind, name);
        let salt: [u8; 16] = turn.random();
        let mut plain = Zeroizing::new(Vec::with_capacity(2 + name.len() + body.len()));
        plain.extend_from_slice(&(name.len() as u16).to_be_bytes());
        plain.extend_from_slice(name);
        plain.extend_from_slice(body);
        let (cipher, nonce) = self.cipher(&salt, &row);
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain.as_slice(), aad: &row })
            .expect("a record is far below the cipher's limit");
        turn.put(Table::Account, row, [&salt[..], &sealed].concat());
    }

    pub(crate) fn forget(&self, turn: &mut Turn<'_>, kind: Record, name: &[u8]) {
        let row = self.row(kind, name);
        turn.delete(Table::Account, row);
    }

    /// Every record of a kind: name and body.
    pub(crate) fn all(&self, turn: &Turn<'_>, kind: Record) -> Result<Vec<Opened>, ViewError> {
        turn.prefixed(Table::Account, &[kind as u8], usize::MAX >> 1)?
            .into_iter()
            .map(|(row, sealed)| self.open(&row, &sealed))
            .collect()
    }

    fn row(&self, kind: Record, name: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha512>::new_from_slice(&self.index).expect("any length will do");
        mac.update(&[kind as u8]);
        mac.update(name);
        let digest = mac.finalize().into_bytes();
        let mut row = Vec::with_capacity(32);
        row.push(kind as u8);
        row.extend_from_slice(&digest[..31]);
        row
    }

    fn cipher(&self, salt: &[u8], row: &[u8]) -> (Aes256Gcm, [u8; 12]) {
        let okm: Zeroizing<[u8; 44]> =
            Zeroizing::new(derive(&self.seal, b"hypergolix record\0", &[salt, row]));
        let key: [u8; 32] = okm[..32].try_into().expect("32 bytes");
        let nonce = okm[32..].try_into().expect("12 bytes");
        (Aes256Gcm::new(&Key::<Aes256Gcm>::from(key)), nonce)
    }

    fn open(&self, row: &[u8], sealed: &[u8]) -> Result<Opened, ViewError> {
        let damaged = || ViewError("an account record does not open".into());
        let (salt, sealed) = sealed.split_at_checked(16).ok_or_else(damaged)?;
        let (cipher, nonce) = self.cipher(salt, row);
        let plain = Zeroizing::new(
            cipher
                .decrypt(&Nonce::from(nonce), Payload { msg: sealed, aad: row })
                .map_err(|_| damaged())?,
        );
        let (len, rest) = plain.split_at_checked(2).ok_or_else(damaged)?;
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        let (name, body) = rest.split_at_checked(len).ok_or_else(damaged)?;
        Ok((name.to_vec(), Zeroizing::new(body.to_vec())))
    }
}

/// HKDF-Expand over a uniform key: `label | parts`.
pub(crate) fn derive<const N: usize>(key: &[u8; 32], label: &[u8], parts: &[&[u8]]) -> [u8; N] {
    // A uniform 32-byte key is stretched to the 64 bytes that Expand asks for by Extract.
    let hkdf = Hkdf::<Sha512>::new(None, key);
    let mut info = vec![label];
    info.extend_from_slice(parts);
    let mut okm = [0; N];
    hkdf.expand_multi_info(&info, &mut okm).expect("shorter than 255 blocks");
    okm
}
