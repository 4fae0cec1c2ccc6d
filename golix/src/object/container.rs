//! GEOC: an encrypted container.
//!
//! ```text
//! GEOC 4 | version 4 | suite 1 | author 65 | N 8 | payload N
//!      | address algorithm 1 | file hash 64 | signature
//! ```
//!
//! 659 + N bytes in suite 1, where the payload is the ciphertext alone; 211 + N bytes in suite 3, where
//! it is `salt 32 | commitment 32 | ciphertext | tag 16`.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{DecodeError, Kind, Object, OpenError, Verified};
use crate::codec::{HEAD_LEN, Reader, Writer};
use crate::limits::PLAINTEXT_MAX;
use crate::{Ghid, Secret, Signer, Suite};

/// Bytes before the payload.
const HEADER_LEN: usize = HEAD_LEN + Ghid::LEN + 8;

/// An encrypted container: some plaintext, its author, and in suite 3 a commitment to the one secret
/// that opens it. Never changes. Golix wire reference, sections 4 and 16.3.
#[derive(Clone, PartialEq, Eq)]
pub struct Container {
    suite: Suite,
    author: Ghid,
    ghid: Ghid,
    payload_len: usize,
    bytes: Arc<[u8]>,
}

impl Container {
    /// Seals `plaintext` under `secret`.
    ///
    /// In suite 3 `salt` wants 32 random bytes for every container; it is what makes it harmless that
    /// one secret seals many of them. **Suite 1 has no salt**, and ignores it: there a secret (key and
    /// seed) may seal one container, ever. Two under one secret give away both, and nothing in the
    /// format prevents it.
    ///
    /// The original library can neither make nor read a container with an empty plaintext. This one
    /// can; do not make one for others to read.
    ///
    /// # Panics
    /// If the secret is for another suite than mine, or the plaintext longer than
    /// [`PLAINTEXT_MAX`].
    #[must_use]
    pub fn seal(me: &dyn Signer, secret: &Secret, salt: [u8; 32], plaintext: &[u8]) -> Verified {
        let (suite, author) = (me.identity().suite(), me.identity().ghid());
        assert_eq!(suite, secret.suite(), "a container has the suite of its author");
        assert!(plaintext.len() <= PLAINTEXT_MAX, "plaintext over limits::PLAINTEXT_MAX");
        let layout = suite.layout();
        let payload_len = plaintext.len() + layout.payload_overhead;
        let len = HEADER_LEN + payload_len + Ghid::LEN + layout.signature_len;
        let mut writer = Writer::object(Kind::Container, suite, len);
        writer.ghid(&author);
        writer.put(&(payload_len as u64).to_be_bytes());
        suite.seal_payload(secret, &author, &salt, plaintext, writer.bytes_mut());
        let (ghid, bytes) = writer.sign(me);
        let container = Self { suite, author, ghid, payload_len, bytes: Arc::clone(&bytes) };
        Verified::made(Object::Container(container), bytes)
    }

    pub(super) fn decode(
        bytes: &[u8],
        mut reader: Reader<'_>,
        suite: Suite,
    ) -> Result<Self, DecodeError> {
        let layout = suite.layout();
        let fixed_len = HEADER_LEN + Ghid::LEN + layout.signature_len;
        reader.expect_min(fixed_len)?;
        let author = reader.take(Ghid::LEN)?;
        let payload_len = usize::try_from(reader.u64()?).map_err(|_| DecodeError::Length)?;
        let plaintext_len =
            payload_len.checked_sub(layout.payload_overhead).ok_or(DecodeError::Length)?;
        if plaintext_len > PLAINTEXT_MAX {
            return Err(DecodeError::Length);
        }
        reader.expect_stated_len(fixed_len + payload_len)?;
        let author = Reader::new(author).ghid()?;
        reader.take(payload_len)?;
        let ghid = reader.own_ghid()?;
        Ok(Self { suite, author, ghid, payload_len, bytes: bytes.into() })
    }

    /// Opens it. In suite 1 a wrong secret is not noticed: it opens, to other bytes.
    ///
    /// # Errors
    /// [`OpenError::SuiteMismatch`] if the secret is for another suite;
    /// [`OpenError::WrongSecret`] if the commitment is to another secret; [`OpenError::Damaged`] if
    /// the author sealed it wrongly.
    pub fn open(&self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if secret.suite() != self.suite {
            return Err(OpenError::SuiteMismatch);
        }
        let payload_end = HEADER_LEN + self.payload_len;
        self.suite.open_payload(secret, &self.author, &self.bytes, HEADER_LEN, payload_end)
    }

    /// Who sealed and signed it.
    #[must_use]
    pub fn author(&self) -> Ghid {
        self.author
    }

    /// Its own address.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.ghid
    }

    /// Its suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Bytes of payload; the plaintext is as long in suite 1, and 80 shorter in suite 3.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Bytes of plaintext inside.
    #[must_use]
    pub fn plaintext_len(&self) -> usize {
        self.payload_len - self.suite.layout().payload_overhead
    }

    /// The salt it was sealed with; `None` in suite 1, which has none.
    #[must_use]
    pub fn salt(&self) -> Option<&[u8; 32]> {
        self.suite.payload_salt(&self.bytes[HEADER_LEN..HEADER_LEN + self.payload_len])
    }

    pub(super) fn shared_bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("ghid", &self.ghid)
            .field("author", &self.author)
            .field("payload_len", &self.payload_len)
            .finish_non_exhaustive()
    }
}
