//! ChainKey: from which the container secrets of a dynamic object follow, one after the other.
//!
//! A chain key lets its holder compute every later one and none earlier. A container secret leads
//! nowhere, so a frozen share gives one state and a live share all states from now on. A new epoch
//! starts a new, unrelated chain: that is how a reader is excluded.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::limits::CHAIN_STEPS_MAX;
use crate::suite::{suite1, suite3};
use crate::{Ghid, Secret, Suite};

/// A chain key at one index of one epoch. Zeroized on drop, redacted in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ChainKey {
    epoch: u32,
    index: u64,
    key: [u8; 32],
}

impl ChainKey {
    /// A chain key from its parts; the first of an epoch wants 32 random bytes and index 0 (or the
    /// index of the frame at which the epoch starts).
    #[must_use]
    pub fn new(epoch: u32, index: u64, key: [u8; 32]) -> Self {
        Self { epoch, index, key }
    }

    /// The epoch: which chain.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The index: how far along that chain.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The key, 32 bytes.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The chain key at `index`, for the object at the address `dynamic`.
    ///
    /// `CK[i+1] = HKDF-SHA-512-Expand(CK[i], "golix-3 chain" 00 | dynamic GHID | i+1, 32)`
    ///
    /// `None` if `index` lies behind, or more than [`CHAIN_STEPS_MAX`] ahead.
    #[must_use]
    pub fn advance_to(&self, dynamic: &Ghid, index: u64) -> Option<Self> {
        let steps = index.checked_sub(self.index)?;
        if steps > CHAIN_STEPS_MAX {
            return None;
        }
        let mut here = self.clone();
        while here.index < index {
            here.index += 1;
            here.key = *suite3::chain_step(&here.key, dynamic, here.index);
        }
        Some(here)
    }

    /// The secret of the containers at this index, for the object at the address `dynamic`.
    ///
    /// `S_i = HKDF-SHA-512-Expand(CK_i, "golix-3 frame" 00 | dynamic GHID | i, 48)`, key first.
    #[must_use]
    pub fn container_secret(&self, dynamic: &Ghid) -> Secret {
        let okm = suite3::chain_secret(&self.key, dynamic, self.index);
        let (key, seed) = okm.split_at(32);
        Secret::new(
            Suite::Suite3,
            key.try_into().expect("32 of 48"),
            seed.try_into().expect("16 of 48"),
        )
    }

    /// The secret of the container of one frame of suite 1, whose containers carry no salt of their own:
    /// `salt` is an address made of 64 random bytes, fresh for every frame, that stands in its target
    /// vector.
    ///
    /// `S = HKDF-SHA-512-Expand(CK_i, "golix-1 frame" 00 | dynamic GHID | i | salt GHID, 48)`, key first.
    #[must_use]
    pub fn salted_container_secret(&self, dynamic: &Ghid, salt: &Ghid) -> Secret {
        let okm = suite1::chain_secret(&self.key, dynamic, self.index, salt);
        let (key, seed) = okm.split_at(32);
        Secret::new(
            Suite::Suite1,
            key.try_into().expect("32 of 48"),
            seed.try_into().expect("16 of 48"),
        )
    }

    /// As it travels in a handshake for a dynamic target: key = CK_i, seed = epoch 4 | index 8 | 0 x 4.
    #[must_use]
    pub fn to_handshake(&self) -> Secret {
        let mut seed = [0; 16];
        seed[..4].copy_from_slice(&self.epoch.to_be_bytes());
        seed[4..12].copy_from_slice(&self.index.to_be_bytes());
        Secret::new(Suite::Suite3, self.key, seed)
    }

    /// Reads what [`ChainKey::to_handshake`] wrote; `None` if the last four bytes are not zero.
    #[must_use]
    pub fn from_handshake(secret: &Secret) -> Option<Self> {
        let (epoch, rest) = secret.seed().split_first_chunk()?;
        let (index, zeros) = rest.split_first_chunk()?;
        (zeros == [0; 4]).then(|| {
            Self::new(u32::from_be_bytes(*epoch), u64::from_be_bytes(*index), *secret.key())
        })
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainKey")
            .field("epoch", &self.epoch)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_compose_and_never_go_back() {
        let dynamic = Ghid::of(b"object");
        let start = ChainKey::new(7, 3, [1; 32]);
        let far = start.advance_to(&dynamic, 13).unwrap();
        let near = start.advance_to(&dynamic, 8).unwrap();
        assert_eq!(near.advance_to(&dynamic, 13).unwrap().key(), far.key());
        assert_eq!((far.epoch(), far.index()), (7, 13));
        assert!(far.advance_to(&dynamic, 12).is_none());
        assert_eq!(far.advance_to(&dynamic, 13).unwrap().key(), far.key());
        assert_ne!(start.advance_to(&Ghid::of(b"other"), 13).unwrap().key(), far.key());
        assert_ne!(far.container_secret(&dynamic), near.container_secret(&dynamic));
    }

    #[test]
    fn salted_secrets_are_of_their_frame_alone() {
        let dynamic = Ghid::of(b"object");
        let key = ChainKey::new(7, 3, [1; 32]);
        let secret = key.salted_container_secret(&dynamic, &Ghid::of(b"salt"));
        assert_eq!(secret.suite(), Suite::Suite1);
        assert_ne!(secret, key.salted_container_secret(&dynamic, &Ghid::of(b"other")));
        assert_ne!(secret, key.salted_container_secret(&Ghid::of(b"else"), &Ghid::of(b"salt")));
        let plain = key.container_secret(&dynamic);
        assert!(secret.key() != plain.key() && secret.seed() != plain.seed());
    }

    #[test]
    fn a_distant_index_costs_nothing() {
        let start = ChainKey::new(0, 0, [1; 32]);
        assert!(start.advance_to(&Ghid::of(b"object"), CHAIN_STEPS_MAX + 1).is_none());
        assert!(start.advance_to(&Ghid::of(b"object"), u64::MAX).is_none());
    }

    #[test]
    fn handshake_form_is_exact() {
        let secret = ChainKey::new(0x0102_0304, 0x0506_0708_090a_0b0c, [9; 32]).to_handshake();
        assert_eq!(secret.seed(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0]);
        let back = ChainKey::from_handshake(&secret).unwrap();
        assert_eq!((back.epoch(), back.index()), (0x0102_0304, 0x0506_0708_090a_0b0c));
        for at in 12..16 {
            let mut seed = *secret.seed();
            seed[at] = 1;
            assert!(ChainKey::from_handshake(&Secret::new(Suite::Suite3, [9; 32], seed)).is_none());
        }
    }
}
