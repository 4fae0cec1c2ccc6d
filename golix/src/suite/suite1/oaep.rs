//! What RSAES-OAEP (RFC 8017, 7.1.2) makes of a box: SHA-512, MGF1 with SHA-512, no label.
//!
//! `rsa` 0.10 opens boxes too, but takes any first byte of the encoded message for a zero, so that one
//! letter would have boxes that other readers refuse. Here all four conditions are looked at together,
//! without a branch, and one bit comes out: which of them failed, nobody can tell (Manger's attack).

use rsa::BoxedUint;
use rsa::hazmat::rsa_decrypt_and_check;
use rsa::rand_core::TryCryptoRng;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::super::primitives::sha512;
use super::{MODULUS_BITS, MODULUS_LEN};

const HASH_LEN: usize = 64;

/// Opens a box: the private operation, blinded and checked, and what [`decode`] finds in its result.
pub(super) fn decrypt<R: TryCryptoRng>(
    key: &rsa::PrivateKey,
    chance: &mut R,
    sealed: &[u8; MODULUS_LEN],
) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = BoxedUint::from_be_slice(sealed, MODULUS_BITS).ok()?;
    let encoded = Zeroizing::new(rsa_decrypt_and_check(key, Some(chance), &sealed).ok()?);
    let encoded = Zeroizing::new(encoded.to_be_bytes());
    let mut bytes = Zeroizing::new([0; MODULUS_LEN]);
    bytes.copy_from_slice(encoded.get(..MODULUS_LEN)?);
    decode(&mut bytes)
}

/// The message of an encoded message, which is unmasked in place:
///
/// ```text
/// 00 | seed 64 XOR MGF1(masked DB) | DB 447 XOR MGF1(seed)
/// DB = SHA-512 of nothing 64 | 00 ... | 01 | message
/// ```
fn decode(encoded: &mut [u8; MODULUS_LEN]) -> Option<Zeroizing<Vec<u8>>> {
    let (first, masked) = encoded.split_at_mut(1);
    let (seed, data) = masked.split_at_mut(HASH_LEN);
    unmask(seed, data);
    unmask(data, seed);
    let (label, padded) = data.split_at(HASH_LEN);

    let mut valid = first.ct_eq(&[0]) & label.ct_eq(&sha512(&[]));
    let mut separator = 0u16;
    let mut looking = Choice::from(1);
    for (at, byte) in (0u16..).zip(padded) {
        let one = byte.ct_eq(&1);
        separator.conditional_assign(&at, looking & one);
        looking &= !one;
        valid &= !looking | byte.ct_eq(&0);
    }
    valid &= !looking;
    // From here on the branch is the answer itself.
    let message = padded.get(usize::from(separator) + 1..)?;
    bool::from(valid).then(|| Zeroizing::new(message.to_vec()))
}

/// `out XOR MGF1-SHA-512(seed)` (RFC 8017, B.2.1).
fn unmask(out: &mut [u8], seed: &[u8]) {
    for (counter, block) in (0u32..).zip(out.chunks_mut(HASH_LEN)) {
        let mask = Zeroizing::new(sha512(&[seed, &counter.to_be_bytes()]));
        block.iter_mut().zip(&*mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First byte, label's hash and the rest of DB, masked as a sender does.
    fn encode(first: u8, label: &[u8], padded: &[u8]) -> [u8; MODULUS_LEN] {
        let mut encoded = [0x5a; MODULUS_LEN];
        encoded[0] = first;
        encoded[65..129].copy_from_slice(label);
        encoded[129..].copy_from_slice(padded);
        let (seed, data) = encoded[1..].split_at_mut(HASH_LEN);
        unmask(data, seed);
        unmask(seed, data);
        encoded
    }

    /// Zeros, a separator and a message of `len` bytes.
    fn padded(len: usize) -> Vec<u8> {
        let mut padded = vec![0; 383];
        let at = padded.len() - len - 1;
        padded[at] = 1;
        padded[at + 1..].fill(0xc3);
        padded
    }

    #[test]
    fn every_length_is_opened() {
        let label = sha512(&[]);
        for len in 0..=382 {
            let message = decode(&mut encode(0, &label, &padded(len))).expect("a good one");
            assert_eq!(message[..], vec![0xc3; len]);
        }
    }

    #[test]
    fn each_condition_is_looked_at() {
        let label = sha512(&[]);
        let refused = |first, label: &[u8], padded: &[u8]| {
            assert!(decode(&mut encode(first, label, padded)).is_none());
        };
        for len in [0, 1, 200, 381, 382] {
            let good = padded(len);
            (1..=255).for_each(|first| refused(first, &label, &good));
            for at in 0..HASH_LEN {
                let mut label = label;
                label[at] ^= 0x10;
                refused(0, &label, &good);
            }
            for at in 0..382 - len {
                let mut bad = good.clone();
                bad[at] = 2;
                refused(0, &label, &bad);
            }
            let mut bad = good.clone();
            bad[382 - len] = 0x81;
            refused(0, &label, &bad);
        }
        refused(0, &label, &[0; 383]);
    }
}
