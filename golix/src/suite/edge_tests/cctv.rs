//! The edge cases of Ed25519 that the Community Cryptography Test Vectors (C2SP/CCTV, `ed25519`)
//! describe, re-made from that description, with our verdict on each.
//!
//! A public key A, and the R of a signature, may be one of the eight points of low order, in one of
//! their fourteen encodings, or the sum of a point of prime order and one of low order: 22 of each.
//! Every pair, each with the low-order parts of R and `[k]A` cancelling out and not (as far as the pair
//! allows either), and where one of the two is not canonical and the other has a part of prime order,
//! also with a k that is computed from the canonical encodings: 914 cases, as many as there. Keys and
//! messages differ from the originals, which are random; the classes are the same, and so are the
//! numbers of those that `verify_strict` takes (43) and that are left for us (1).

use std::fmt::Write as _;

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::{ED25519_BASEPOINT_TABLE, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use data_encoding::HEXLOWER;

use crate::suite::Keys;
use crate::suite::primitives::sha512;
use crate::suite::suite3::PublicKeys;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cctv-ed25519.txt");

const HEADER: &str = "\
# Edge cases of Ed25519, re-made from the description of C2SP/CCTV, ed25519.
# golix/src/suite/edge_tests/cctv.rs makes and runs them: GOLIX_WRITE=1 cargo test -p golix cctv
# key | signature | message (text) | ours: accept or reject | flags
";

/// A point that a vector gives as key or as R.
#[derive(Clone)]
struct Given {
    point: EdwardsPoint,
    encoding: [u8; 32],
    /// Its part of prime order is this times the base point; zero for points of low order.
    scalar: Scalar,
    /// Its part of low order.
    torsion: EdwardsPoint,
}

impl Given {
    fn is_canonical(&self) -> bool {
        self.point.compress().0 == self.encoding
    }

    fn has_prime_part(&self) -> bool {
        self.scalar != Scalar::ZERO
    }
}

/// All that decodes to a point of low order, by its place among [`EIGHT_TORSION`]: the canonical
/// encoding, and the others, where y is not below p or the sign of x = 0 is set.
fn encodings(point: &EdwardsPoint) -> Vec<[u8; 32]> {
    let canonical = point.compress().0;
    let mut all = vec![canonical];
    let mut y = canonical;
    y[31] &= 0x7f;
    let x_is_zero = (point + point).compress() == EdwardsPoint::identity().compress();
    let mut spellings = vec![y];
    // y + p fits into 255 bits for y below 19: of the eight, for 0 and 1.
    if y[0] <= 1 && y[1..].iter().all(|&byte| byte == 0) {
        let mut over = [0xff; 32];
        (over[0], over[31]) = (0xed + y[0], 0x7f);
        spellings.push(over);
    }
    for spelling in spellings {
        for sign in [0, 0x80] {
            let mut encoding = spelling;
            encoding[31] |= sign;
            let fits = x_is_zero || sign == canonical[31] & 0x80;
            if fits && encoding != canonical {
                all.push(encoding);
            }
        }
    }
    all
}

/// The 22 points of one role; `label` makes their secret scalars.
fn given(label: &str) -> Vec<Given> {
    let mut all = Vec::new();
    for (at, torsion) in EIGHT_TORSION.into_iter().enumerate() {
        for encoding in encodings(&torsion) {
            all.push(Given { point: torsion, encoding, scalar: Scalar::ZERO, torsion });
        }
        let seed = sha512(&[label.as_bytes(), &[at as u8]]);
        let scalar = Scalar::from_bytes_mod_order_wide(&seed);
        let point = ED25519_BASEPOINT_TABLE * &scalar + torsion;
        all.push(Given { point, encoding: point.compress().0, scalar, torsion });
    }
    all
}

fn challenge(r: &[u8; 32], a: &[u8; 32], message: &str) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&sha512(&[r, a, message.as_bytes()]))
}

struct Vector {
    key: [u8; 32],
    signature: [u8; 64],
    message: String,
    flags: Vec<&'static str>,
}

/// One vector of a class, or `None` if the class is empty: some message among a few will do.
fn vector(a: &Given, r: &Given, residue: bool, reencoded: bool) -> Option<Vector> {
    let identity = EdwardsPoint::identity();
    for n in 0..128 {
        let message = format!("ed25519 edge case {n}");
        let k = challenge(&r.encoding, &a.encoding, &message);
        let left = r.torsion + a.torsion * k;
        if (left != identity) != residue {
            continue;
        }
        let k = if reencoded {
            challenge(&r.point.compress().0, &a.point.compress().0, &message)
        } else {
            k
        };
        let s = r.scalar + k * a.scalar;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r.encoding);
        signature[32..].copy_from_slice(s.as_bytes());
        let flags = [
            (!a.has_prime_part(), "low_order_A"),
            (!r.has_prime_part(), "low_order_R"),
            (!a.is_canonical(), "non_canonical_A"),
            (!r.is_canonical(), "non_canonical_R"),
            (a.torsion != identity, "low_order_component_A"),
            (r.torsion != identity, "low_order_component_R"),
            (residue, "low_order_residue"),
            (reencoded, "reencoded_k"),
        ];
        let flags = flags.into_iter().filter_map(|(is, flag)| is.then_some(flag)).collect();
        return Some(Vector { key: a.encoding, signature, message, flags });
    }
    None
}

fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for a in given("A") {
        for r in given("R") {
            let odd = !a.is_canonical() || !r.is_canonical();
            let prime = a.has_prime_part() || r.has_prime_part();
            for reencoded in [false, true] {
                if reencoded && !(odd && prime) {
                    continue;
                }
                for residue in [false, true] {
                    all.extend(vector(&a, &r, residue, reencoded));
                }
            }
        }
    }
    all
}

fn ours(vector: &Vector) -> bool {
    PublicKeys::decode(&vector.key, &[9; 32], &[10; 32], Keys::Unknown)
        .is_ok_and(|keys| keys.verify_statement(vector.message.as_bytes(), &vector.signature))
}

fn strict(vector: &Vector) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&vector.signature);
    ed25519_dalek::VerifyingKey::from_bytes(&vector.key)
        .is_ok_and(|key| key.verify_strict(vector.message.as_bytes(), &signature).is_ok())
}

#[test]
fn there_are_fourteen_encodings_of_eight_points() {
    let all: Vec<_> = EIGHT_TORSION.iter().flat_map(encodings).collect();
    assert_eq!(all.len(), 14);
    for (point, encoding) in EIGHT_TORSION
        .iter()
        .flat_map(|point| encodings(point).into_iter().map(move |encoding| (point, encoding)))
    {
        let compressed = curve25519_dalek::edwards::CompressedEdwardsY(encoding);
        assert_eq!(compressed.decompress().as_ref(), Some(point), "{encoding:02x?}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "vectors are files, and a test's own setting")]
fn our_profile_takes_one_of_the_edge_cases() {
    let vectors = vectors();
    let mut text = HEADER.to_owned();
    for vector in &vectors {
        let Vector { key, signature, message, flags } = vector;
        let (key, signature) = (HEXLOWER.encode(key), HEXLOWER.encode(signature));
        let verdict = if ours(vector) { "accept" } else { "reject" };
        let flags = flags.join(",");
        writeln!(text, "{key}|{signature}|{message}|{verdict}|{flags}").unwrap();
    }
    if std::env::var_os("GOLIX_WRITE").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    assert!(std::fs::read_to_string(FILE).unwrap() == text, "{FILE} says the same");

    assert_eq!(vectors.len(), 914);
    assert_eq!(vectors.iter().filter(|vector| strict(vector)).count(), 43);
    let accepted: Vec<_> = vectors.iter().filter(|vector| ours(vector)).collect();
    assert_eq!(accepted.len(), 1);
    assert!(accepted[0].flags.is_empty(), "and that one has nothing odd about it");
}

/// S + L is S to those who do not look; a signature has one spelling.
#[test]
fn s_is_below_the_order() {
    let vectors = vectors();
    let good = vectors.iter().find(|vector| ours(vector)).unwrap();
    let keys = PublicKeys::decode(&good.key, &[9; 32], &[10; 32], Keys::Unknown).unwrap();
    // L = 2^252 + 27742317777372353535851937790883648493, little-endian.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = good.signature;
    for times in 1..15 {
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(carry, 0);
        assert!(!keys.verify_statement(good.message.as_bytes(), &signature), "S + {times} L");
    }
}
