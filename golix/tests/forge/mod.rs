//! Repairs what an edit broke, as a forger would: the address, and with the key the signature.

#![allow(dead_code, reason = "every test file uses another part of it")]

use ed25519_dalek::{Signer, SigningKey};
use golix::Ghid;
use sha2::{Digest, Sha512};

/// Bytes of address and signature (or a request's outer field) at the end of an object.
pub const TAIL_LEN: usize = Ghid::LEN + 64;

/// Makes the file hash right; `tail_len` is how far from the end the address begins.
pub fn rehash(object: &mut [u8], tail_len: usize) {
    let at = object.len() - tail_len + 1;
    let hash = Sha512::digest(&object[..at]);
    object[at..at + 64].copy_from_slice(&hash);
}

/// Makes the signature right, with the author's signing seed.
pub fn resign(object: &mut [u8], sign: &[u8; 32]) {
    let at = object.len() - 64;
    let message = [b"golix-3 sign\0", &object[at - Ghid::LEN..at]].concat();
    let signature = SigningKey::from_bytes(sign).sign(&message);
    object[at..].copy_from_slice(&signature.to_bytes());
}

/// Makes a request's outer field right, which needs no key.
pub fn outer(object: &mut [u8]) {
    let at = object.len() - 64;
    let outer = Sha512::digest([b"golix-3 garq outer\0", &object[at - Ghid::LEN..at]].concat());
    object[at..].copy_from_slice(&outer);
}
