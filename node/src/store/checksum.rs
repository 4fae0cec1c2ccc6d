//! The checksum every stored row carries.
//!
//! redb checks the pages of a file when it is opened; this checks each row when it is read, so that
//! a page that rots while the node runs, or one that passes redb's check with the wrong content, is
//! noticed before anything is decided upon it.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// SipHash-1-3 over `table | key length | key | value` under a key that belongs to one store.
///
/// The key is random, so that nobody who chooses objects can choose two with the same checksum. It
/// lies in the same file and protects against rot, not against somebody who writes to the file.
#[derive(Clone)]
pub(super) struct Checksum(SipHasher13);

impl Checksum {
    /// Bytes of a checksum in front of every value.
    pub(super) const LEN: usize = 8;
    /// Bytes of the key.
    pub(super) const KEY_LEN: usize = 16;

    /// The checksum of a store with this key.
    pub(super) fn new(key: &[u8; Self::KEY_LEN]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// The checksum of the rows that must be readable before the store's own key is known.
    pub(super) fn unkeyed() -> Self {
        Self::new(&[0; Self::KEY_LEN])
    }

    /// `checksum | value`, as it is stored.
    pub(super) fn seal(&self, table: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut stored = vec![0; Self::LEN + value.len()];
        self.seal_into(table, key, value, &mut stored);
        stored
    }

    /// As [`Checksum::seal`], into a place of exactly that length.
    pub(super) fn seal_into(&self, table: u8, key: &[u8], value: &[u8], stored: &mut [u8]) {
        let (checksum, rest) = stored.split_at_mut(Self::LEN);
        checksum.copy_from_slice(&self.of(table, key, value));
        rest.copy_from_slice(value);
    }

    /// The value inside `stored`, or `None` if it is not what was sealed for this row.
    pub(super) fn open<'v>(&self, table: u8, key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
        let (checksum, value) = stored.split_first_chunk::<{ Self::LEN }>()?;
        (*checksum == self.of(table, key, value)).then_some(value)
    }

    fn of(&self, table: u8, key: &[u8], value: &[u8]) -> [u8; Self::LEN] {
        let mut hasher = self.0;
        hasher.write(&[table]);
        hasher.write(&(key.len() as u64).to_be_bytes());
        hasher.write(key);
        hasher.write(value);
        hasher.finish().to_be_bytes()
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checksum")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens() {
        let checksum = Checksum::new(&[7; 16]);
        for value in [&b""[..], b"x", &[0xA5; 5000]] {
            let stored = checksum.seal(3, b"key", value);
            assert_eq!(stored.len(), value.len() + Checksum::LEN);
            assert_eq!(checksum.open(3, b"key", &stored), Some(value));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let checksum = Checksum::new(&[7; 16]);
        let stored = checksum.seal(3, b"key", b"value");
        for bit in 0..stored.len() * 8 {
            let mut rotten = stored.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(checksum.open(3, b"key", &rotten), None, "bit {bit}");
        }
    }

    #[test]
    fn a_value_belongs_to_its_row() {
        let checksum = Checksum::new(&[7; 16]);
        let stored = checksum.seal(3, b"key", b"value");
        assert_eq!(checksum.open(4, b"key", &stored), None, "other table");
        assert_eq!(checksum.open(3, b"kez", &stored), None, "other key");
        assert_eq!(checksum.open(3, b"ke", &stored), None, "key and value do not run together");
        assert_eq!(Checksum::new(&[8; 16]).open(3, b"key", &stored), None, "other store");
        assert_eq!(checksum.open(3, b"key", &stored[..7]), None, "too short");
    }

    /// The layout is part of the disk format: SipHash-1-3 by the reference implementation.
    #[test]
    fn the_layout_does_not_change() {
        let stored = Checksum::unkeyed().seal(255, b"format", &1u32.to_be_bytes());
        let mut hasher = SipHasher13::new_with_key(&[0; 16]);
        hasher.write(b"\xff\0\0\0\0\0\0\0\x06format\0\0\0\x01");
        assert_eq!(stored[..8], hasher.finish().to_be_bytes());
    }
}
