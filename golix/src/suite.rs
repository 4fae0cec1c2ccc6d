//! Suite: the closed enum of cipher suites. This file alone decides which code a suite runs.

pub(crate) mod primitives;
pub(crate) mod suite3;

use zeroize::Zeroizing;

use crate::object::{DecodeError, MakeError, OpenError, RequestError};
use crate::{Ghid, Secret};

/// A cipher suite: which algorithms an identity and all its objects use.
///
/// There is no negotiation: a recipient's suite stands in its identity, and an object's suite is its
/// author's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
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

impl Suite {
    /// The byte that stands for this suite in objects.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The suite of a byte; `None` if there is no such suite here.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            3 => Some(Self::Suite3),
            _ => None,
        }
    }

    pub(crate) fn layout(self) -> &'static Layout {
        match self {
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
            Self::Suite3 => suite3::open_payload(secret, author, object, header_len, payload_end),
        }
    }

    /// What follows the address of a request, if anyone can compute it.
    pub(crate) fn request_authenticator(self, ghid: &Ghid) -> [u8; 64] {
        match self {
            Self::Suite3 => suite3::request_authenticator(ghid),
        }
    }
}

/// The public keys of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKeys {
    Suite3(suite3::PublicKeys),
}

impl PublicKeys {
    pub(crate) fn decode(
        suite: Suite,
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8],
    ) -> Result<Self, DecodeError> {
        match suite {
            Suite::Suite3 => {
                suite3::PublicKeys::decode(signature, encryption, exchange).map(Self::Suite3)
            }
        }
    }

    pub(crate) fn suite(&self) -> Suite {
        match self {
            Self::Suite3(_) => Suite::Suite3,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Suite3(keys) => keys.encode(out),
        }
    }

    pub(crate) fn verify(&self, ghid: &Ghid, signature: &[u8]) -> bool {
        match self {
            Self::Suite3(keys) => keys.verify(ghid, signature),
        }
    }

    pub(crate) fn verify_statement(&self, statement: &[u8], signature: &[u8; 64]) -> bool {
        match self {
            Self::Suite3(keys) => keys.verify_statement(statement, signature),
        }
    }
}

/// The private keys of an identity.
pub(crate) enum PrivateKeys {
    Suite3(suite3::PrivateKeys),
}

impl PrivateKeys {
    pub(crate) fn from_seeds(
        suite: Suite,
        signature: &[u8; 32],
        encryption: [u8; 32],
        exchange: [u8; 32],
    ) -> Self {
        match suite {
            Suite::Suite3 => {
                Self::Suite3(suite3::PrivateKeys::from_seeds(signature, encryption, exchange))
            }
        }
    }

    pub(crate) fn public(&self) -> PublicKeys {
        match self {
            Self::Suite3(keys) => PublicKeys::Suite3(keys.public()),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Suite3(keys) => keys.encode(out),
        }
    }

    pub(crate) fn sign(&self, ghid: &Ghid, out: &mut Vec<u8>) {
        match self {
            Self::Suite3(keys) => keys.sign(ghid, out),
        }
    }

    pub(crate) fn sign_statement(&self, statement: &[u8]) -> [u8; 64] {
        match self {
            Self::Suite3(keys) => keys.sign_statement(statement),
        }
    }

    /// Appends the sealed box to a request that holds its header so far.
    pub(crate) fn seal_request(
        &self,
        author: &Ghid,
        recipient: (&Ghid, &PublicKeys),
        letter: &[u8],
        ephemeral: [u8; 32],
        object: &mut Vec<u8>,
    ) -> Result<(), MakeError> {
        match (self, recipient.1) {
            (Self::Suite3(me), PublicKeys::Suite3(keys)) => {
                suite3::seal_request(me, author, (recipient.0, keys), letter, ephemeral, object)
            }
        }
    }

    /// Opens the box of a request, `object[header_len..]`.
    pub(crate) fn open_request(
        &self,
        recipient: &Ghid,
        object: &[u8],
        header_len: usize,
    ) -> Result<OpenedBox, RequestError> {
        match self {
            Self::Suite3(me) => {
                suite3::open_request(me, recipient, object, header_len).map(OpenedBox::Suite3)
            }
        }
    }
}

/// A request's box, opened but not yet authenticated.
pub(crate) enum OpenedBox {
    Suite3(suite3::OpenedBox),
}

impl OpenedBox {
    /// Author, kind, length, payload and padding, none of it authenticated yet.
    pub(crate) fn letter(&self) -> &[u8] {
        match self {
            Self::Suite3(opened) => opened.letter(),
        }
    }

    pub(crate) fn authenticate(
        &self,
        me: &PrivateKeys,
        recipient: &Ghid,
        author: (&Ghid, &PublicKeys),
    ) -> Result<(), RequestError> {
        match (self, me, author.1) {
            (Self::Suite3(opened), PrivateKeys::Suite3(me), PublicKeys::Suite3(keys)) => {
                opened.authenticate(me, recipient, (author.0, keys))
            }
        }
    }
}
