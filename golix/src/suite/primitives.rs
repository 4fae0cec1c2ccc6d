//! Hash, MAC, KDF, cipher as thin functions, each named after its standard.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha512};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// SHA-512 (FIPS 180-4) of the parts, one after the other.
pub(crate) fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// HMAC-SHA-512 (RFC 2104) of the parts, one after the other.
pub(crate) fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = <Hmac<Sha512> as hmac::KeyInit>::new_from_slice(key)
        .expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// HKDF-SHA-512 (RFC 5869), extract and expand, to `L` bytes; `info` is the parts joined.
pub(crate) fn hkdf_sha512<const L: usize>(
    ikm: &[u8],
    salt: &[u8],
    info: &[&[u8]],
) -> Zeroizing<[u8; L]> {
    let mut okm = Zeroizing::new([0; L]);
    Hkdf::<Sha512>::new(Some(salt), ikm)
        .expand_multi_info(info, okm.as_mut())
        .expect("every L here is below 255 * 64");
    okm
}

/// The first block of HKDF-Expand with SHA-512 (RFC 5869, section 2.3), cut to `L` <= 64 bytes.
///
/// The key is used as it is, without extracting first, because it is uniform already: a chain key of
/// 32 bytes. (The `hkdf` crate wants 64, the length that RFC 5869 asks of a PRK; HMAC pads either.)
pub(crate) fn hkdf_expand_sha512<const L: usize>(
    prk: &[u8; 32],
    info: &[&[u8]],
) -> Zeroizing<[u8; L]> {
    const { assert!(L <= 64, "one block") };
    let mut mac = <Hmac<Sha512> as hmac::KeyInit>::new_from_slice(prk)
        .expect("HMAC takes keys of any length");
    for part in info {
        mac.update(part);
    }
    mac.update(&[1]);
    let block: Zeroizing<[u8; 64]> = Zeroizing::new(mac.finalize().into_bytes().into());
    let mut okm = Zeroizing::new([0; L]);
    okm.copy_from_slice(&block[..L]);
    okm
}

/// AES-256-GCM (SP 800-38D): encrypts `buffer` in place, returns the tag.
pub(crate) fn aes256_gcm_seal(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> [u8; 16] {
    Aes256Gcm::new(key.into())
        .encrypt_inout_detached(nonce.into(), aad, buffer.into())
        .expect("limits::PLAINTEXT_MAX is below the limit of GCM")
        .into()
}

/// AES-256-GCM: decrypts `buffer` in place. `None` if the tag does not fit; `buffer` is then unchanged.
pub(crate) fn aes256_gcm_open(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; 16],
) -> Option<()> {
    Aes256Gcm::new(key.into())
        .decrypt_inout_detached(nonce.into(), aad, buffer.into(), tag.into())
        .ok()
}

/// X25519 (RFC 7748), or `None` if the result does not depend on my key.
pub(crate) fn x25519(mine: &StaticSecret, theirs: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
    let shared = mine.diffie_hellman(theirs);
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn hash_and_mac_give_published_values() {
        // FIPS 180-4 example "abc"; RFC 4231 test case 2.
        assert_eq!(
            HEXLOWER.encode(&sha512(&[b"a", b"bc"])),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        assert_eq!(
            HEXLOWER.encode(&hmac_sha512(b"Jefe", &[b"what do ya want ", b"for nothing?"])),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
    }

    #[test]
    fn expand_is_one_block_of_hkdf() {
        // HKDF = Expand(Extract(salt, ikm), info); with a 64-byte PRK both paths must agree, and
        // ours must equal HMAC(prk, info | 01).
        let block = hmac_sha512(&[7; 32], &[b"info", &[1]]);
        assert_eq!(*hkdf_expand_sha512::<48>(&[7; 32], &[b"in", b"fo"]), block[..48]);
        let prk = hmac_sha512(b"salt", &[b"ikm"]);
        assert_eq!(
            *hkdf_sha512::<64>(b"ikm", b"salt", &[b"info"]),
            hmac_sha512(&prk, &[b"info", &[1]])
        );
    }
}
