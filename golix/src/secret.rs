//! Secret: what opens one container, or carries a chain key; SH serialization.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Suite;
use crate::codec::Reader;
use crate::object::DecodeError;

/// Version of the SH layout.
const VERSION: u16 = 2;

/// A symmetric secret: 32 bytes of key and 16 of seed, for containers of one suite.
///
/// Zeroized on drop, compared in constant time, redacted in `Debug`. Serialized (`SH`, version 2) in
/// 53 bytes: `SH | version 2 | suite 1 | key 32 | seed 16`. Golix wire reference, section 9.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret {
    #[zeroize(skip)]
    suite: Suite,
    key: [u8; 32],
    seed: [u8; 16],
}

impl Secret {
    /// Bytes of the serialized form.
    pub const LEN: usize = 53;

    /// A secret from its parts. Fresh secrets want 48 random bytes.
    #[must_use]
    pub fn new(suite: Suite, key: [u8; 32], seed: [u8; 16]) -> Self {
        Self { suite, key, seed }
    }

    /// Reads the serialized form, all of it.
    ///
    /// # Errors
    /// [`DecodeError`]: `Magic`, `Version`, `Suite`, `Truncated` or `Trailing`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != *b"SH" {
            return Err(DecodeError::Magic);
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(DecodeError::Version(version.into()));
        }
        let code = reader.u8()?;
        let suite = Suite::from_code(code).ok_or(DecodeError::Suite(code))?;
        let secret = Self { suite, key: reader.array()?, seed: reader.array()? };
        reader.finish()?;
        Ok(secret)
    }

    /// The serialized form. The caller looks after these bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(b"SH");
        bytes[2..4].copy_from_slice(&VERSION.to_be_bytes());
        bytes[4] = self.suite.code();
        bytes[5..37].copy_from_slice(&self.key);
        bytes[37..].copy_from_slice(&self.seed);
        bytes
    }

    /// The suite whose containers it opens.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The key, 32 bytes.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The seed, 16 bytes.
    #[must_use]
    pub fn seed(&self) -> &[u8; 16] {
        &self.seed
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let same = self.key.ct_eq(&other.key) & self.seed.ct_eq(&other.seed);
        self.suite == other.suite && bool::from(same)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Secret {
        Secret::new(Suite::Suite3, [0xab; 32], [0xcd; 16])
    }

    #[test]
    fn serialized_form_is_as_documented() {
        let bytes = sample().to_bytes();
        assert_eq!(&bytes[..5], b"SH\x00\x02\x03");
        assert_eq!(bytes[5..37], [0xab; 32]);
        assert_eq!(bytes[37..], [0xcd; 16]);
        assert_eq!(Secret::from_bytes(&bytes), Ok(sample()));
    }

    #[test]
    fn each_wrong_field_has_its_name() {
        let good = sample().to_bytes();
        for (at, value, error) in [
            (0, b'X', DecodeError::Magic),
            (1, b'X', DecodeError::Magic),
            (3, 3, DecodeError::Version(3)),
            (4, 0, DecodeError::Suite(0)),
            (4, 2, DecodeError::Suite(2)),
        ] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Secret::from_bytes(&bad), Err(error));
        }
        for len in 0..good.len() {
            assert_eq!(Secret::from_bytes(&good[..len]), Err(DecodeError::Truncated));
        }
        let long = [&good[..], &[0]].concat();
        assert_eq!(Secret::from_bytes(&long), Err(DecodeError::Trailing));
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?}", sample());
        assert!(!text.contains("ab") && !text.contains("171") && !text.contains("205"), "{text}");
    }

    #[test]
    fn any_differing_part_makes_secrets_differ() {
        assert_ne!(sample(), Secret::new(Suite::Suite3, [0xaa; 32], [0xcd; 16]));
        assert_ne!(sample(), Secret::new(Suite::Suite3, [0xab; 32], [0xcc; 16]));
    }
}
