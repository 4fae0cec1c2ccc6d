//! Suite: the closed enum of cipher suites. This file alone decides which code a suite runs.

pub(crate) mod primitives;
pub(crate) mod suite1;
pub(crate) mod suite3;

#[cfg(test)]
mod edge_tests;

use std::sync::Arc;

use x25519_dalek::{PublicKey as ExchangeKey, StaticSecret};
use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::identity::KeyFault;
use crate::object::{DecodeError, MakeError, OpenError, RequestFault};
use crate::{Ghid, Secret};

/// A cipher suite: which algorithms an identity and all its objects use.
///
/// There is no negotiation. What an identity signs has the suite of that identity; a request, which
/// nobody signs, has the suite of its recipient. Suite 0 (which protects nothing) and suite 2 (which
/// nobody ever implemented) do not exist in this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// SHA-512, AES-256-CTR, RSA-4096 (PSS and OAEP), X25519, HKDF-SHA-512: the original's.
    Suite1 = 1,
    /// SHA-512, AES-256-GCM, Ed25519, X25519, HKDF-SHA-512.
    Suite3 = 3,
}

/// The widths, in bytes, of the fields that depend on the suite.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) signature_key_len: usize,
    pub(crate) encryption_key_len: usize,
    pub(crate) exchange_key_len: usize,
    pub(crate) signature_len: usize,
    /// What a container's payload is longer than its plaintext.
    pub(crate) payload_overhead: usize,
    /// The sealed box of a request.
    pub(crate) sealed_len: usize,
    /// What fits into that box: author, kind, length, payload.
    pub(crate) letter_len: usize,
    /// What follows a request's address.
    pub(crate) request_authenticator_len: usize,
}

/// Bytes of a letter before its payload: author, kind, length.
const LETTER_HEAD_LEN: usize = Ghid::LEN + 2 + 2;

impl Suite {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Suite1, Self::Suite3];

    /// The byte that stands for this suite in objects.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The suite of a byte; `None` if there is no such suite here.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Suite1),
            3 => Some(Self::Suite3),
            _ => None,
        }
    }

    /// Bytes of a signature: 512 in suite 1, 64 in suite 3. They are the last bytes of a GEOC, GOBS,
    /// GOBD or GDXX, and no part of its address.
    #[must_use]
    pub fn signature_len(self) -> usize {
        self.layout().signature_len
    }

    /// Bytes of payload that a request to an identity of this suite holds: 313 in suite 1, 299 in
    /// suite 3.
    #[must_use]
    pub fn request_payload_max(self) -> usize {
        self.layout().letter_len - LETTER_HEAD_LEN
    }

    pub(crate) fn layout(self) -> &'static Layout {
        match self {
            Self::Suite1 => &suite1::LAYOUT,
            Self::Suite3 => &suite3::LAYOUT,
        }
    }

    /// Appends the sealed payload to a container that holds its header so far.
    pub(crate) fn seal_payload(
        self,
        secret: &Secret,
        author: &Ghid,
        salt: &[u8; 32],
        plaintext: &[u8],
        object: &mut Vec<u8>,
    ) {
        match self {
            Self::Suite1 => suite1::seal_payload(secret, plaintext, object),
            Self::Suite3 => suite3::seal_payload(secret, author, salt, plaintext, object),
        }
    }

    /// Opens a container's payload, `object[header_len..payload_end]`.
    pub(crate) fn open_payload(
        self,
        secret: &Secret,
        author: &Ghid,
        object: &[u8],
        header_len: usize,
        payload_end: usize,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match self {
            Self::Suite1 => {
                let payload = object.get(header_len..payload_end).ok_or(OpenError::Damaged)?;
                Ok(suite1::open_payload(secret, payload))
            }
            Self::Suite3 => suite3::open_payload(secret, author, object, header_len, payload_end),
        }
    }

    /// The salt in front of a container's payload, if the suite has one.
    pub(crate) fn payload_salt(self, payload: &[u8]) -> Option<&[u8; 32]> {
        match self {
            Self::Suite1 => None,
            Self::Suite3 => payload.first_chunk(),
        }
    }

    /// How many requests may differ in what follows their address, and in nothing else.
    pub(crate) fn request_variants(self) -> usize {
        match self {
            Self::Suite1 => crate::persister::limits::VARIANTS_MAX,
            Self::Suite3 => 1,
        }
    }

    /// What follows the address of a request, where anyone can compute it.
    pub(crate) fn request_outer(self, ghid: &Ghid) -> Option<[u8; 64]> {
        match self {
            Self::Suite1 => None,
            Self::Suite3 => Some(suite3::request_authenticator(ghid)),
        }
    }

    /// Whether letters are padded with zeros to one length.
    pub(crate) fn pads_letters(self) -> bool {
        match self {
            Self::Suite1 => false,
            Self::Suite3 => true,
        }
    }

    /// Whether every frame of this suite ends with the target that proves its dynamic address; if
    /// not, only some do.
    pub(crate) fn proves_every_frame(self) -> bool {
        match self {
            Self::Suite1 => false,
            Self::Suite3 => true,
        }
    }
}

/// What is known of public keys that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Nothing: they are checked.
    Unknown,
    /// They were checked before, and their hash tells that they are the same.
    Checked,
}

/// The public keys of an identity; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKeys {
    Suite1(Arc<suite1::PublicKeys>),
    Suite3(Arc<suite3::PublicKeys>),
}

impl PublicKeys {
    pub(crate) fn decode(
        suite: Suite,
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8],
        known: Keys,
    ) -> Result<Self, DecodeError> {
        match suite {
            Suite::Suite1 => suite1::PublicKeys::decode(signature, encryption, exchange, known)
                .map(|keys| Self::Suite1(Arc::new(keys))),
            Suite::Suite3 => suite3::PublicKeys::decode(signature, encryption, exchange, known)
                .map(|keys| Self::Suite3(Arc::new(keys))),
        }
    }

    pub(crate) fn suite(&self) -> Suite {
        match self {
            Self::Suite1(_) => Suite::Suite1,
            Self::Suite3(_) => Suite::Suite3,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Suite1(keys) => keys.encode(out),
            Self::Suite3(keys) => keys.encode(out),
        }
    }

    pub(crate) fn verify(&self, ghid: &Ghid, signature: &[u8]) -> bool {
        match self {
            Self::Suite1(keys) => keys.verify(ghid, signature),
            Self::Suite3(keys) => keys.verify(ghid, signature),
        }
    }

    pub(crate) fn verify_statement(&self, statement: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Suite1(keys) => keys.verify_statement(statement, signature),
            Self::Suite3(keys) => keys.verify_statement(statement, signature),
        }
    }

    /// The X25519 key, which every suite has.
    fn exchange(&self) -> &ExchangeKey {
        match self {
            Self::Suite1(keys) => keys.exchange(),
            Self::Suite3(keys) => keys.exchange(),
        }
    }
}

/// The private keys of an identity.
pub(crate) enum PrivateKeys {
    Suite1(Box<suite1::PrivateKeys>),
    Suite3(Box<suite3::PrivateKeys>),
}

impl PrivateKeys {
    pub(crate) fn from_seeds(
        suite: Suite,
        signature: &[u8; 32],
        encryption: &[u8; 32],
        exchange: &[u8; 32],
    ) -> Self {
        match suite {
            Suite::Suite1 => Self::Suite1(Box::new(suite1::PrivateKeys::from_seeds(
                signature, encryption, exchange,
            ))),
            Suite::Suite3 => Self::Suite3(Box::new(suite3::PrivateKeys::from_seeds(
                signature, encryption, exchange,
            ))),
        }
    }

    /// Suite-1 keys of the original library; a fault comes with the field that has it.
    pub(crate) fn from_pkcs8(
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8; 32],
    ) -> Result<Self, (DecodeError, KeyFault)> {
        suite1::PrivateKeys::from_pkcs8(signature, encryption, exchange)
            .map(|keys| Self::Suite1(Box::new(keys)))
    }

    pub(crate) fn public(&self) -> PublicKeys {
        match self {
            Self::Suite1(keys) => PublicKeys::Suite1(Arc::new(keys.public())),
            Self::Suite3(keys) => PublicKeys::Suite3(Arc::new(keys.public())),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Suite1(keys) => keys.encode(out),
            Self::Suite3(keys) => keys.encode(out),
        }
    }

    /// Reads what [`PrivateKeys::encode`] wrote.
    pub(crate) fn decode(suite: Suite, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match suite {
            Suite::Suite1 => Self::Suite1(Box::new(suite1::PrivateKeys::decode(reader)?)),
            Suite::Suite3 => Self::Suite3(Box::new(suite3::PrivateKeys::decode(reader)?)),
        })
    }

    pub(crate) fn sign(&self, ghid: &Ghid, out: &mut Vec<u8>) {
        match self {
            Self::Suite1(keys) => keys.sign(ghid, out),
            Self::Suite3(keys) => keys.sign(ghid, out),
        }
    }

    /// As [`PrivateKeys::sign`]; suite 3 has no use for a salt.
    pub(crate) fn sign_salted(&self, ghid: &Ghid, salt: &[u8; 64], out: &mut Vec<u8>) {
        match self {
            Self::Suite1(keys) => keys.sign_salted(ghid, salt, out),
            Self::Suite3(keys) => keys.sign(ghid, out),
        }
    }

    pub(crate) fn sign_statement(&self, statement: &[u8]) -> Vec<u8> {
        match self {
            Self::Suite1(keys) => keys.sign_statement(statement),
            Self::Suite3(keys) => keys.sign_statement(statement).to_vec(),
        }
    }

    fn exchange(&self) -> &StaticSecret {
        match self {
            Self::Suite1(keys) => keys.exchange(),
            Self::Suite3(keys) => keys.exchange(),
        }
    }

    /// Appends the sealed box to a request that holds its header so far; the recipient's suite
    /// decides how.
    pub(crate) fn seal_request(
        &self,
        author: &Ghid,
        recipient: (&Ghid, &PublicKeys),
        letter: &[u8],
        randomness: &[u8; 64],
        object: &mut Vec<u8>,
    ) -> Result<Authenticator, MakeError> {
        let (ghid, keys) = recipient;
        match keys {
            PublicKeys::Suite1(keys) => {
                let to = (ghid, &**keys);
                suite1::seal_request(self.exchange(), author, to, letter, randomness, object)
                    .map(Authenticator::Suite1)
            }
            PublicKeys::Suite3(keys) => {
                let (ephemeral, _) = randomness.split_first_chunk().expect("32 of 64");
                let to = (ghid, &**keys);
                suite3::seal_request(self.exchange(), author, to, letter, ephemeral, object)
                    .map(|()| Authenticator::Suite3)
            }
        }
    }

    /// Opens the box of a request, which `object` has at `header_len`.
    pub(crate) fn open_request(
        &self,
        recipient: &Ghid,
        object: &[u8],
        header_len: usize,
    ) -> Result<OpenedBox, RequestFault> {
        match self {
            Self::Suite1(me) => suite1::open_request(me, object, header_len).map(OpenedBox::Suite1),
            Self::Suite3(me) => suite3::open_request(me, recipient, object, header_len)
                .map(|opened| OpenedBox::Suite3(Box::new(opened))),
        }
    }
}

/// What has to follow the address of a request being made.
pub(crate) enum Authenticator {
    /// The author's MAC with this key.
    Suite1(Zeroizing<[u8; 64]>),
    /// What anyone can compute; the MAC is in the box.
    Suite3,
}

impl Authenticator {
    pub(crate) fn of(&self, ghid: &Ghid) -> [u8; 64] {
        match self {
            Self::Suite1(key) => suite1::request_mac(key, &ghid.address()),
            Self::Suite3 => suite3::request_authenticator(ghid),
        }
    }
}

/// A request's box, opened but not yet authenticated.
pub(crate) enum OpenedBox {
    Suite1(suite1::OpenedBox),
    Suite3(Box<suite3::OpenedBox>),
}

impl OpenedBox {
    /// Author, kind, length, payload and padding, none of it authenticated yet.
    pub(crate) fn letter(&self) -> &[u8] {
        match self {
            Self::Suite1(opened) => opened.letter(),
            Self::Suite3(opened) => opened.letter(),
        }
    }

    /// Whether the MAC is the author's, whose suite may be any.
    pub(crate) fn authenticate(
        &self,
        me: &PrivateKeys,
        recipient: &Ghid,
        author: (&Ghid, &PublicKeys),
    ) -> Result<(), RequestFault> {
        let author = (author.0, author.1.exchange());
        match (self, me) {
            (Self::Suite1(opened), PrivateKeys::Suite1(me)) => {
                opened.authenticate(me, recipient, author)
            }
            (Self::Suite3(opened), PrivateKeys::Suite3(me)) => {
                opened.authenticate(me, recipient, author)
            }
            // Opened by another identity than the one that authenticates.
            (
                Self::Suite1(_) | Self::Suite3(_),
                PrivateKeys::Suite1(_) | PrivateKeys::Suite3(_),
            ) => Err(RequestFault::Recipient),
        }
    }
}
