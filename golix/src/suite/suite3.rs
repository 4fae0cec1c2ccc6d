//! Suite 3: SHA-512, AES-256-GCM, Ed25519, X25519, HKDF- and HMAC-SHA-512.
//!
//! Golix wire reference, section 16, with salted containers, the author's MAC inside the sealed
//! request, and one strict Ed25519 profile. Every derivation and signature starts with a label and one
//! zero byte; only parts of fixed width follow, so no two inputs coincide.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey as ExchangeKey, StaticSecret};
use zeroize::Zeroizing;

use super::primitives::{
    aes256_gcm_open, aes256_gcm_seal, hkdf_expand_sha512, hkdf_sha512, hmac_sha512, sha512, x25519,
};
use super::{Keys, Layout};
use crate::codec::Reader;
use crate::object::{DecodeError, MakeError, OpenError, RequestFault};
use crate::{Ghid, Secret};

const SIGN: &[u8] = b"golix-3 sign\0";
const CONTAINER: &[u8] = b"golix-3 geoc\0";
const REQUEST_BOX: &[u8] = b"golix-3 garq box\0";
const REQUEST_MAC: &[u8] = b"golix-3 garq mac\0";
const REQUEST_OUTER: &[u8] = b"golix-3 garq outer\0";
const CHAIN: &[u8] = b"golix-3 chain\0";
const FRAME: &[u8] = b"golix-3 frame\0";

const SALT_LEN: usize = 32;
const COMMITMENT_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// Bytes of the request box: ephemeral key 32, commitment 32, ciphertext 432, tag 16.
const BOX_LEN: usize = 512;
/// Bytes inside the box: letter, zeros, MAC.
const INNER_LEN: usize = BOX_LEN - 32 - COMMITMENT_LEN - TAG_LEN;
const MAC_LEN: usize = 64;
/// Bytes of the letter (author, kind, length, payload) and its padding.
const LETTER_LEN: usize = INNER_LEN - MAC_LEN;

/// Widths of suite 3.
pub(super) static LAYOUT: Layout = Layout {
    signature_key_len: 32,
    encryption_key_len: 32,
    exchange_key_len: 32,
    signature_len: 64,
    payload_overhead: SALT_LEN + COMMITMENT_LEN + TAG_LEN,
    sealed_len: BOX_LEN,
    letter_len: LETTER_LEN,
    request_authenticator_len: 64,
};

// --- keys ---------------------------------------------------------------------------------------

/// The three public keys of a suite-3 identity, all checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKeys {
    signature: VerifyingKey,
    encryption: ExchangeKey,
    exchange: ExchangeKey,
}

impl PublicKeys {
    /// Checks and keeps the keys.
    ///
    /// The Ed25519 key must be a canonical encoding of a point that is not of small order and lies in
    /// the prime-order subgroup (the canonical check follows from the other two; it costs little and
    /// says what is meant). The X25519 keys must be canonical (what X25519 puts out: one key, one
    /// address), not of low order, and must differ.
    pub(super) fn decode(
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8],
        known: Keys,
    ) -> Result<Self, DecodeError> {
        let signature = signature.try_into().map_err(|_| DecodeError::KeySig)?;
        if known == Keys::Unknown && !is_signature_key(signature) {
            return Err(DecodeError::KeySig);
        }
        let signature = VerifyingKey::from_bytes(&signature).map_err(|_| DecodeError::KeySig)?;
        let encryption = exchange_key(encryption).ok_or(DecodeError::KeyEnc)?;
        let exchange = exchange_key(exchange).ok_or(DecodeError::KeyExc)?;
        if encryption == exchange {
            return Err(DecodeError::KeyExc);
        }
        Ok(Self { signature, encryption, exchange })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.signature.as_bytes());
        out.extend_from_slice(self.encryption.as_bytes());
        out.extend_from_slice(self.exchange.as_bytes());
    }

    /// Whether `signature` is this identity's over the object `ghid`.
    pub(super) fn verify(&self, ghid: &Ghid, signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.verify_strict(&signed_bytes(ghid), &signature))
    }

    /// Whether `signature` is this identity's over `statement`, label included.
    pub(super) fn verify_statement(&self, statement: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.verify_strict(statement, &signature))
    }

    pub(super) fn exchange(&self) -> &ExchangeKey {
        &self.exchange
    }

    /// The one place where suite 3 verifies: canonical S and R, no small order, no cofactor.
    fn verify_strict(&self, message: &[u8], signature: &Signature) -> bool {
        self.signature.verify_strict(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKeys(suite 3)")
    }
}

/// A canonical encoding of a point of the prime-order subgroup that is not the identity.
fn is_signature_key(encoded: [u8; 32]) -> bool {
    CompressedEdwardsY(encoded).decompress().is_some_and(|point| {
        point.compress().0 == encoded && !point.is_small_order() && point.is_torsion_free()
    })
}

/// What a signature covers: `"golix-3 sign" 00 | GHID`, 78 bytes.
fn signed_bytes(ghid: &Ghid) -> [u8; SIGN.len() + Ghid::LEN] {
    let mut bytes = [0; SIGN.len() + Ghid::LEN];
    bytes[..SIGN.len()].copy_from_slice(SIGN);
    bytes[SIGN.len()..].copy_from_slice(ghid.as_bytes());
    bytes
}

/// The five X25519 public keys, in canonical form, whose agreement is zero for every private key.
const LOW_ORDER: [[u8; 32]; 5] = {
    let mut zero = [0; 32];
    zero[31] = 0;
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    [
        zero,
        one,
        minus_one,
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ],
        [
            0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
            0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
            0xd0, 0x9f, 0x11, 0x57,
        ],
    ]
};

/// Reads an X25519 key that is canonical (below 2^255 - 19) and not of low order.
fn exchange_key(bytes: &[u8]) -> Option<ExchangeKey> {
    let bytes: [u8; 32] = bytes.try_into().ok()?;
    let top = bytes[31];
    let over = top == 0x7f && bytes[0] >= 0xed && bytes[1..31].iter().all(|&byte| byte == 0xff);
    (top < 0x80 && !over && !LOW_ORDER.contains(&bytes)).then(|| bytes.into())
}

/// The three private keys of a suite-3 identity. Zeroized on drop, no `Clone`.
pub(crate) struct PrivateKeys {
    signature: SigningKey,
    encryption: StaticSecret,
    exchange: StaticSecret,
}

impl PrivateKeys {
    pub(super) fn from_seeds(
        signature: &[u8; 32],
        encryption: &[u8; 32],
        exchange: &[u8; 32],
    ) -> Self {
        Self {
            signature: SigningKey::from_bytes(signature),
            encryption: (*encryption).into(),
            exchange: (*exchange).into(),
        }
    }

    pub(super) fn public(&self) -> PublicKeys {
        PublicKeys {
            signature: self.signature.verifying_key(),
            encryption: (&self.encryption).into(),
            exchange: (&self.exchange).into(),
        }
    }

    /// `signature seed 32 | encryption 32 | exchange 32`
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.signature.as_bytes());
        out.extend_from_slice(self.encryption.as_bytes());
        out.extend_from_slice(self.exchange.as_bytes());
    }

    /// Reads what [`PrivateKeys::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let signature = Zeroizing::new(reader.array()?);
        let encryption = Zeroizing::new(reader.array()?);
        let exchange = Zeroizing::new(reader.array()?);
        Ok(Self::from_seeds(&signature, &encryption, &exchange))
    }

    pub(super) fn exchange(&self) -> &StaticSecret {
        &self.exchange
    }

    /// Ed25519 over `"golix-3 sign" 00 | GHID`.
    pub(super) fn sign(&self, ghid: &Ghid, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sign_statement(&signed_bytes(ghid)));
    }

    pub(super) fn sign_statement(&self, statement: &[u8]) -> [u8; 64] {
        self.signature.sign(statement).to_bytes()
    }
}

// --- containers ---------------------------------------------------------------------------------

/// Appends the sealed payload to `object`, which holds its header so far:
///
/// ```text
/// okm     = HKDF-SHA-512(ikm = key | seed, salt, info = "golix-3 geoc" 00 | author GHID, L = 76)
/// key 32, nonce 12, com 32 = okm
/// payload = salt 32 | com 32 | AES-256-GCM(key, nonce, aad = header | salt | com, plaintext) | tag 16
/// ```
pub(super) fn seal_payload(
    secret: &Secret,
    author: &Ghid,
    salt: &[u8; 32],
    plaintext: &[u8],
    object: &mut Vec<u8>,
) {
    let keys = ContainerKeys::derive(secret, author, salt);
    object.extend_from_slice(salt);
    object.extend_from_slice(&keys.0.commitment());
    let aad_len = object.len();
    object.extend_from_slice(plaintext);
    let (aad, ciphertext) = object.split_at_mut(aad_len);
    let tag = keys.0.seal(aad, ciphertext);
    object.extend_from_slice(&tag);
}

/// Opens the payload `object[header_len..payload_end]`. The commitment comes first, in constant time,
/// so that a wrong secret and damage are told apart.
pub(super) fn open_payload(
    secret: &Secret,
    author: &Ghid,
    object: &[u8],
    header_len: usize,
    payload_end: usize,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let payload = object.get(header_len..payload_end).ok_or(OpenError::Damaged)?;
    let (salt, payload) = payload.split_first_chunk().ok_or(OpenError::Damaged)?;
    let (commitment, payload) =
        payload.split_first_chunk::<COMMITMENT_LEN>().ok_or(OpenError::Damaged)?;
    let (ciphertext, tag) = payload.split_last_chunk().ok_or(OpenError::Damaged)?;
    let keys = ContainerKeys::derive(secret, author, salt);
    if !bool::from(keys.0.commitment().ct_eq(commitment)) {
        return Err(OpenError::WrongSecret);
    }
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    let aad = &object[..header_len + SALT_LEN + COMMITMENT_LEN];
    keys.0.open(aad, &mut plaintext, tag).ok_or(OpenError::Damaged)?;
    Ok(plaintext)
}

/// 76 bytes of key material, used once: key 32, nonce 12, commitment 32.
struct BoxKeys(Zeroizing<[u8; 76]>);

impl BoxKeys {
    fn key(&self) -> &[u8; 32] {
        self.0.first_chunk().expect("76 bytes")
    }

    fn nonce(&self) -> &[u8; 12] {
        self.0[32..].first_chunk().expect("76 bytes")
    }

    fn commitment(&self) -> [u8; COMMITMENT_LEN] {
        *self.0.last_chunk().expect("76 bytes")
    }

    fn seal(&self, aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        aes256_gcm_seal(self.key(), self.nonce(), aad, buffer)
    }

    fn open(&self, aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG_LEN]) -> Option<()> {
        aes256_gcm_open(self.key(), self.nonce(), aad, buffer, tag)
    }
}

struct ContainerKeys(BoxKeys);

impl ContainerKeys {
    fn derive(secret: &Secret, author: &Ghid, salt: &[u8; 32]) -> Self {
        let mut ikm = Zeroizing::new([0; 48]);
        ikm[..32].copy_from_slice(secret.key());
        ikm[32..].copy_from_slice(secret.seed());
        Self(BoxKeys(hkdf_sha512(&*ikm, salt, &[CONTAINER, author.as_bytes()])))
    }
}

// --- chains -------------------------------------------------------------------------------------

/// `CK[i+1] = HKDF-Expand(CK[i], "golix-3 chain" 00 | dynamic GHID | i+1, 32)`; `index` is `i+1`.
pub(crate) fn chain_step(key: &[u8; 32], dynamic: &Ghid, index: u64) -> Zeroizing<[u8; 32]> {
    hkdf_expand_sha512(key, &[CHAIN, dynamic.as_bytes(), &index.to_be_bytes()])
}

/// `S_i = HKDF-Expand(CK_i, "golix-3 frame" 00 | dynamic GHID | i, 48)`.
pub(crate) fn chain_secret(key: &[u8; 32], dynamic: &Ghid, index: u64) -> Zeroizing<[u8; 48]> {
    hkdf_expand_sha512(key, &[FRAME, dynamic.as_bytes(), &index.to_be_bytes()])
}

// --- requests -----------------------------------------------------------------------------------

/// A request opened but not yet authenticated.
pub(crate) struct OpenedBox {
    inner: Zeroizing<[u8; INNER_LEN]>,
    /// What X25519 gave with the recipient's encryption key.
    s1: Zeroizing<[u8; 32]>,
    ephemeral: [u8; 32],
    commitment: [u8; COMMITMENT_LEN],
}

/// Appends the box to `object`, which holds its header so far:
///
/// ```text
/// s1  = X25519(e, recipient encryption key)
/// okm = HKDF-SHA-512(ikm = s1, salt = 0 x 64,
///           info = "golix-3 garq box" 00 | recipient GHID | E | recipient encryption key, L = 76)
/// box = E 32 | com 32 | AES-256-GCM(key, nonce, aad = header | E | com, inner 432) | tag 16
/// inner = letter | zeros | MAC 64
/// ```
pub(super) fn seal_request(
    me: &StaticSecret,
    author: &Ghid,
    recipient: (&Ghid, &PublicKeys),
    letter: &[u8],
    ephemeral: &[u8; 32],
    object: &mut Vec<u8>,
) -> Result<(), MakeError> {
    let (recipient, keys) = recipient;
    if letter.len() > LETTER_LEN {
        return Err(MakeError::PayloadTooLong(letter.len()));
    }
    let ephemeral = StaticSecret::from(*ephemeral);
    let ephemeral_public = ExchangeKey::from(&ephemeral).to_bytes();
    let s1 = x25519(&ephemeral, &keys.encryption).ok_or(MakeError::KeyAgreement)?;
    let s2 = x25519(me, &keys.exchange).ok_or(MakeError::KeyAgreement)?;
    let box_keys = request_box_keys(&s1, recipient, &ephemeral_public, &keys.encryption);
    let commitment = box_keys.commitment();

    let mut inner = Zeroizing::new([0; INNER_LEN]);
    inner[..letter.len()].copy_from_slice(letter);
    let (padded, mac) = inner.split_at_mut(LETTER_LEN);
    let key = request_mac_key(&s2, &s1, author, recipient, &ephemeral_public);
    mac.copy_from_slice(&request_mac(&key, recipient, &ephemeral_public, &commitment, padded));

    object.extend_from_slice(&ephemeral_public);
    object.extend_from_slice(&commitment);
    let aad_len = object.len();
    let tag = box_keys.seal(&object[..aad_len], inner.as_mut());
    object.extend_from_slice(inner.as_ref());
    object.extend_from_slice(&tag);
    Ok(())
}

/// Opens the box at `object[header_len..]`.
pub(super) fn open_request(
    me: &PrivateKeys,
    recipient: &Ghid,
    object: &[u8],
    header_len: usize,
) -> Result<OpenedBox, RequestFault> {
    let sealed: &[u8; BOX_LEN] =
        object.get(header_len..).and_then(<[u8]>::first_chunk).ok_or(RequestFault::Decrypt)?;
    let ephemeral: [u8; 32] = *sealed.first_chunk().ok_or(RequestFault::Decrypt)?;
    let commitment: [u8; COMMITMENT_LEN] =
        *sealed[32..].first_chunk().ok_or(RequestFault::Decrypt)?;
    let tag: &[u8; TAG_LEN] = sealed.last_chunk().ok_or(RequestFault::Decrypt)?;
    let s1 = x25519(&me.encryption, &ephemeral.into()).ok_or(RequestFault::Decrypt)?;
    let keys = request_box_keys(&s1, recipient, &ephemeral, &(&me.encryption).into());
    if !bool::from(keys.commitment().ct_eq(&commitment)) {
        return Err(RequestFault::Decrypt);
    }
    let mut inner = Zeroizing::new([0; INNER_LEN]);
    inner.copy_from_slice(&sealed[32 + COMMITMENT_LEN..BOX_LEN - TAG_LEN]);
    let aad = &object[..header_len + 32 + COMMITMENT_LEN];
    keys.open(aad, inner.as_mut(), tag).ok_or(RequestFault::Decrypt)?;
    Ok(OpenedBox { inner, s1, ephemeral, commitment })
}

impl OpenedBox {
    /// Letter and padding, as the box says it: nothing in it is authenticated yet.
    pub(super) fn letter(&self) -> &[u8] {
        &self.inner[..LETTER_LEN]
    }

    /// Whether the MAC is `author`'s.
    pub(super) fn authenticate(
        &self,
        me: &PrivateKeys,
        recipient: &Ghid,
        author: (&Ghid, &ExchangeKey),
    ) -> Result<(), RequestFault> {
        let (author, theirs) = author;
        let s2 = x25519(&me.exchange, theirs).ok_or(RequestFault::Exchange)?;
        let key = request_mac_key(&s2, &self.s1, author, recipient, &self.ephemeral);
        let mac = request_mac(&key, recipient, &self.ephemeral, &self.commitment, self.letter());
        if bool::from(mac.ct_eq(&self.inner[LETTER_LEN..])) {
            Ok(())
        } else {
            Err(RequestFault::Mac)
        }
    }
}

/// The outer 64 bytes of a request: `SHA-512("golix-3 garq outer" 00 | GHID)`, which anyone can check,
/// so that one address has one byte string.
pub(super) fn request_authenticator(ghid: &Ghid) -> [u8; 64] {
    sha512(&[REQUEST_OUTER, ghid.as_bytes()])
}

fn request_box_keys(
    s1: &[u8; 32],
    recipient: &Ghid,
    ephemeral: &[u8; 32],
    encryption: &ExchangeKey,
) -> BoxKeys {
    let info: [&[u8]; 4] = [REQUEST_BOX, recipient.as_bytes(), ephemeral, encryption.as_bytes()];
    BoxKeys(hkdf_sha512(s1, &[0; 64], &info))
}

/// `K = HKDF-SHA-512(ikm = s2 | s1, salt = addr(author) XOR addr(recipient),
/// info = "golix-3 garq mac" 00 | author GHID | recipient GHID | E, L = 64)`.
fn request_mac_key(
    s2: &[u8; 32],
    s1: &[u8; 32],
    author: &Ghid,
    recipient: &Ghid,
    ephemeral: &[u8; 32],
) -> Zeroizing<[u8; 64]> {
    let mut ikm = Zeroizing::new([0; 64]);
    ikm[..32].copy_from_slice(s2);
    ikm[32..].copy_from_slice(s1);
    let mut salt = author.address();
    salt.iter_mut().zip(recipient.address()).for_each(|(salt, other)| *salt ^= other);
    let info: [&[u8]; 4] = [REQUEST_MAC, author.as_bytes(), recipient.as_bytes(), ephemeral];
    hkdf_sha512(&*ikm, &salt, &info)
}

/// `MAC = HMAC-SHA-512(K, "golix-3 garq mac" 00 | recipient GHID | E | com | letter and padding)`.
fn request_mac(
    key: &[u8; 64],
    recipient: &Ghid,
    ephemeral: &[u8; 32],
    commitment: &[u8; COMMITMENT_LEN],
    padded: &[u8],
) -> [u8; 64] {
    hmac_sha512(key, &[REQUEST_MAC, recipient.as_bytes(), ephemeral, commitment, padded])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_order_keys_are_exactly_those_that_give_zero() {
        for key in LOW_ORDER {
            assert!(x25519(&[9; 32].into(), &key.into()).is_none());
            assert!(exchange_key(&key).is_none());
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(exchange_key(&nine).is_some());
    }

    #[test]
    fn exchange_keys_have_one_spelling() {
        let mut key = [0xff; 32];
        key[31] = 0x7f;
        for low in 0..=255u8 {
            key[0] = low;
            // 2^255 - 19 begins with ed; ec is -1, of low order.
            assert_eq!(exchange_key(&key).is_some(), low < 0xec, "{low:02x}");
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        nine[31] = 0x80;
        assert!(exchange_key(&nine).is_none(), "the ignored top bit must be clear");
    }

    #[test]
    fn signature_keys_with_torsion_are_refused() {
        use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
        let (enc, exc) = ([9; 32], [10; 32]);
        for (at, torsion) in EIGHT_TORSION.iter().enumerate() {
            let small = torsion.compress().0;
            assert_eq!(
                PublicKeys::decode(&small, &enc, &exc, Keys::Unknown),
                Err(DecodeError::KeySig)
            );
            let mixed = (ED25519_BASEPOINT_POINT + torsion).compress().0;
            assert_eq!(PublicKeys::decode(&mixed, &enc, &exc, Keys::Unknown).is_ok(), at == 0);
        }
    }
}
