//! `Ghid`: the hash address of everything in Golix.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL;
use sha2::{Digest, Sha512};

/// The only address algorithm there is: SHA-512.
const ALGORITHM_SHA512: u8 = 1;

/// A Golix address: one algorithm byte (always 1) and 64 bytes of SHA-512, 65 bytes in all.
///
/// Text form: URL-safe base64 with padding, 88 characters, canonical (`Display`, `FromStr`).
/// Short form for logs and people: [`Ghid::short`]. Golix wire reference, section 1. Algorithm 0
/// (placeholder, verifies anything) does not exist in this crate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ghid([u8; Ghid::LEN]);

/// Why bytes or text are not a [`Ghid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GhidError {
    /// Not exactly 65 bytes.
    #[error("an address is 65 bytes long, got {0}")]
    Length(usize),
    /// The algorithm byte is not 1.
    #[error("unknown address algorithm {0}; only 1 (SHA-512) exists")]
    Algorithm(u8),
    /// Not canonical URL-safe base64 with padding, 88 characters.
    #[error("not an address: expected 88 characters of URL-safe base64 ending in '='")]
    Text,
}

impl Ghid {
    /// Bytes of an address: algorithm and digest.
    pub const LEN: usize = 65;
    /// Characters of the text form.
    pub const TEXT_LEN: usize = 88;

    /// The address of `bytes`: their SHA-512.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_address(Sha512::digest(bytes).into())
    }

    /// An address from its 64 digest bytes.
    #[must_use]
    pub fn from_address(address: [u8; 64]) -> Self {
        let mut bytes = [ALGORITHM_SHA512; Self::LEN];
        bytes[1..].copy_from_slice(&address);
        Self(bytes)
    }

    /// Reads 65 bytes.
    ///
    /// # Errors
    /// [`GhidError::Length`], [`GhidError::Algorithm`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GhidError> {
        let bytes: [u8; Self::LEN] =
            bytes.try_into().map_err(|_| GhidError::Length(bytes.len()))?;
        if bytes[0] == ALGORITHM_SHA512 {
            Ok(Self(bytes))
        } else {
            Err(GhidError::Algorithm(bytes[0]))
        }
    }

    /// All 65 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The 64 digest bytes, without the algorithm.
    #[must_use]
    pub fn address(&self) -> [u8; 64] {
        let mut address = [0; 64];
        address.copy_from_slice(&self.0[1..]);
        address
    }

    /// `Ghid('TMcY-...')`: characters 2 to 6 of the text form, for logs and people.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.to_string();
        format!("Ghid('{}...')", &text[1..6])
    }
}

impl fmt::Display for Ghid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL.encode(&self.0))
    }
}

impl fmt::Debug for Ghid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for Ghid {
    type Err = GhidError;

    fn from_str(text: &str) -> Result<Self, GhidError> {
        // The decoder takes padding after any group of four characters: `AQ==` may stand in the middle.
        let padded_once = text.find('=') == Some(Self::TEXT_LEN - 1);
        if text.len() != Self::TEXT_LEN || !padded_once {
            return Err(GhidError::Text);
        }
        let bytes = BASE64URL.decode(text.as_bytes()).map_err(|_| GhidError::Text)?;
        Self::from_bytes(&bytes)
    }
}

impl AsRef<[u8]> for Ghid {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fuzzing found that `=` in the middle was taken, so that one address had 22 spellings.
    #[test]
    fn padding_belongs_at_the_end_alone() {
        let ghid = Ghid::of(b"object");
        assert_eq!(ghid.to_string().parse(), Ok(ghid));
        for group in 0..21 {
            let (head, tail) = ghid.as_bytes().split_at(2 + 3 * group);
            let text = BASE64URL.encode(head) + &BASE64URL.encode(tail);
            assert_eq!(text.len(), Ghid::TEXT_LEN);
            assert_eq!(text.parse::<Ghid>(), Err(GhidError::Text), "{text}");
        }
    }
}
