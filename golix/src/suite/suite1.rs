//! Suite 1: SHA-512, AES-256-CTR, RSA-4096 (PSS and OAEP), X25519, HKDF- and HMAC-SHA-512.
//!
//! As golix 0.1.6 runs it, byte for byte: Golix wire reference, section 10.1. What is stricter than
//! the original there is stricter here too: moduli have exactly 4096 bits and no small factor, and an
//! exchange that gives zero is none.
//!
//! The original draws the salt of a signature and the blinding of a private operation at random. This
//! crate has no randomness of its own, so both follow from the private keys and from what is signed or
//! opened, by HMAC-SHA-512. Nobody without the keys can foresee either; and an object that is signed
//! twice has one signature.

mod oaep;
mod small_factors;

use std::convert::Infallible;
use std::fmt;

use aes::Aes256;
use crypto_primes::{Flavor, is_prime};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rsa::pkcs8::{EncodePrivateKey, ObjectIdentifier, PrivateKeyInfoRef};
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, pkcs1};
use sha2::Sha512;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey as ExchangeKey, StaticSecret};
use zeroize::Zeroizing;

use super::primitives::{hkdf_expand_sha512, hkdf_sha512, hmac_sha512, sha512, x25519};
use super::{Keys, Layout};
use crate::codec::Reader;
use crate::identity::KeyFault;
use crate::object::{DecodeError, MakeError, RequestFault};
use crate::{Ghid, Secret};

const FRAME: &[u8] = b"golix-1 frame\0";

const CHANCE: &[u8] = b"golix-1 chance\0";
const SALT: &[u8] = b"golix-1 pss salt\0";
const STATEMENT_SALT: &[u8] = b"golix-1 statement salt\0";
const BLINDING: &[u8] = b"golix-1 blinding\0";
const GENERATE: &[u8] = b"golix-1 generate\0";

/// What is sealed and opened to try a key.
const TRIAL: &[u8] = b"golix-1 trial";

/// Bits of a modulus.
const MODULUS_BITS: u32 = 4096;
/// Bytes of a modulus, a signature and an OAEP ciphertext.
const MODULUS_LEN: usize = 512;
/// The public exponent. It is not part of an identity.
const EXPONENT: u64 = 65537;
/// Bytes of a PSS salt, of an OAEP seed, and of the hash in both.
const SALT_LEN: usize = 64;
/// What OAEP with SHA-512 leaves of 512 bytes.
const LETTER_LEN: usize = MODULUS_LEN - 2 * SALT_LEN - 2;

/// Widths of suite 1.
pub(super) static LAYOUT: Layout = Layout {
    signature_key_len: MODULUS_LEN,
    encryption_key_len: MODULUS_LEN,
    exchange_key_len: 32,
    signature_len: MODULUS_LEN,
    payload_overhead: 0,
    sealed_len: MODULUS_LEN,
    letter_len: LETTER_LEN,
    request_authenticator_len: 64,
};

// --- keys ---------------------------------------------------------------------------------------

/// The three public keys of a suite-1 identity, all checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKeys {
    signature: rsa::PublicKey,
    encryption: rsa::PublicKey,
    exchange: ExchangeKey,
}

impl PublicKeys {
    /// Checks and keeps the keys: two different moduli, odd, of exactly 4096 bits, without a prime
    /// factor below 2^16; and an exchange key that is not of low order.
    ///
    /// Any spelling of an exchange key is taken, as the original does: its top bit is ignored, and it
    /// may be above 2^255 - 19. One key may so have two identities, but no two keys one.
    pub(super) fn decode(
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8],
        known: Keys,
    ) -> Result<Self, DecodeError> {
        let keys = Self {
            signature: public_key(signature, known).ok_or(DecodeError::KeySig)?,
            encryption: public_key(encryption, known).ok_or(DecodeError::KeyEnc)?,
            exchange: <[u8; 32]>::try_from(exchange).map_err(|_| DecodeError::KeyExc)?.into(),
        };
        if known == Keys::Checked {
            return Ok(keys);
        }
        if signature == encryption {
            return Err(DecodeError::KeyEnc);
        }
        // Any scalar shows it: X25519 multiplies by 8 whatever the scalar, and so ends low orders.
        x25519(&[9; 32].into(), &keys.exchange).ok_or(DecodeError::KeyExc)?;
        Ok(keys)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signature.n_bytes());
        out.extend_from_slice(&self.encryption.n_bytes());
        out.extend_from_slice(self.exchange.as_bytes());
    }

    pub(super) fn exchange(&self) -> &ExchangeKey {
        &self.exchange
    }

    /// Whether `signature` is this identity's over the object `ghid`: RSASSA-PSS with MGF1, all with
    /// SHA-512, a salt of exactly 64 bytes, and the file hash itself as the message's hash.
    pub(super) fn verify(&self, ghid: &Ghid, signature: &[u8]) -> bool {
        self.verify_hash(&ghid.address(), signature)
    }

    /// Whether `signature` is this identity's over `statement`, label included.
    pub(super) fn verify_statement(&self, statement: &[u8], signature: &[u8]) -> bool {
        self.verify_hash(&sha512(&[statement]), signature)
    }

    fn verify_hash(&self, hash: &[u8; 64], signature: &[u8]) -> bool {
        self.signature.pss_verify_prehash::<Sha512>(hash, signature).is_ok()
    }
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKeys(suite 1)")
    }
}

/// A modulus, with the exponent that all have.
fn public_key(modulus: &[u8], known: Keys) -> Option<rsa::PublicKey> {
    let full = modulus.len() == MODULUS_LEN && modulus[0] >= 0x80;
    let odd = modulus.last().is_some_and(|last| last % 2 == 1);
    if !full || !odd || known == Keys::Unknown && small_factors::divides_any(modulus) {
        return None;
    }
    let n = BoxedUint::from_be_slice(modulus, MODULUS_BITS).ok()?;
    rsa::PublicKey::new(n, BoxedUint::from(EXPONENT)).ok()
}

/// The three private keys of a suite-1 identity. Zeroized on drop, no `Clone`.
pub(crate) struct PrivateKeys {
    signature: rsa::PrivateKey,
    encryption: rsa::PrivateKey,
    exchange: StaticSecret,
    /// Where salts and blinding come from.
    chance: Zeroizing<[u8; 64]>,
}

impl PrivateKeys {
    /// Generates the keys; about two seconds. The same seeds give the same keys only with the same
    /// version of the generator, so it is the keys that have to be kept.
    pub(super) fn from_seeds(
        signature: &[u8; 32],
        encryption: &[u8; 32],
        exchange: &[u8; 32],
    ) -> Self {
        let generate = |seed: &[u8; 32]| {
            let mut chance = Chance::new(Zeroizing::new(hmac_sha512(seed, &[GENERATE])));
            rsa::PrivateKey::new(&mut chance, MODULUS_BITS as usize)
                .expect("the size is a good one, and our generator does not fail")
        };
        Self::new(generate(signature), generate(encryption), exchange)
    }

    /// The keys of an identity of the original library: two PKCS#8 documents (DER) and a raw X25519
    /// key. The fault is told with the field that has it.
    ///
    /// All four primes are tested, and each key is tried once: 0.13 seconds.
    pub(super) fn from_pkcs8(
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8; 32],
    ) -> Result<Self, (DecodeError, KeyFault)> {
        let keys = Self::read(signature, encryption, exchange)?;
        let sound = |key: &rsa::PrivateKey| {
            key.primes().iter().all(|prime| is_prime(Flavor::Any, prime.as_ref()))
        };
        if !sound(&keys.signature) || !keys.signs() {
            return Err((DecodeError::KeySig, KeyFault::Inconsistent));
        }
        if !sound(&keys.encryption) || !keys.opens() {
            return Err((DecodeError::KeyEnc, KeyFault::Inconsistent));
        }
        Ok(keys)
    }

    fn read(
        signature: &[u8],
        encryption: &[u8],
        exchange: &[u8; 32],
    ) -> Result<Self, (DecodeError, KeyFault)> {
        let signature = private_key(signature).map_err(|fault| (DecodeError::KeySig, fault))?;
        let encryption = private_key(encryption).map_err(|fault| (DecodeError::KeyEnc, fault))?;
        if signature.n() == encryption.n() {
            return Err((DecodeError::KeyEnc, KeyFault::Twice));
        }
        Ok(Self::new(signature, encryption, exchange))
    }

    fn new(signature: rsa::PrivateKey, encryption: rsa::PrivateKey, exchange: &[u8; 32]) -> Self {
        let secret = Zeroizing::new(signature.d().to_be_bytes());
        let chance = Zeroizing::new(hmac_sha512(&secret, &[CHANCE, exchange]));
        Self { signature, encryption, exchange: (*exchange).into(), chance }
    }

    /// Whether the signature key signs: its private operation checks itself.
    fn signs(&self) -> bool {
        self.try_sign_hash(&[0; 64], &[0; SALT_LEN]).is_ok()
    }

    /// Whether the encryption key opens what is sealed to it.
    fn opens(&self) -> bool {
        let sealed = seal(&self.encryption.to_public_key(), &[0; SALT_LEN], TRIAL);
        let opened = sealed.first_chunk().and_then(|sealed| self.open(sealed));
        opened.is_some_and(|opened| opened[..] == *TRIAL)
    }

    /// `signature length 2 | signature PKCS#8 | encryption length 2 | encryption PKCS#8 | exchange 32`
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for key in [&self.signature, &self.encryption] {
            let document = key.to_pkcs8_der().expect("a checked key can be written");
            let len = u16::try_from(document.as_bytes().len()).expect("some 2400 bytes");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(document.as_bytes());
        }
        out.extend_from_slice(self.exchange.as_bytes());
    }

    /// Reads what [`PrivateKeys::encode`] wrote. The primes were tested when the keys were made or
    /// imported; here one signature is tried, so that none of the later ones fails: 13 milliseconds.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut document = || {
            let len = reader.u16()?;
            reader.take(len.into())
        };
        let (signature, encryption) = (document()?, document()?);
        let exchange = Zeroizing::new(reader.array()?);
        let keys = Self::read(signature, encryption, &exchange).map_err(|(field, _)| field)?;
        if keys.signs() { Ok(keys) } else { Err(DecodeError::KeySig) }
    }

    pub(super) fn public(&self) -> PublicKeys {
        PublicKeys {
            signature: self.signature.to_public_key(),
            encryption: self.encryption.to_public_key(),
            exchange: (&self.exchange).into(),
        }
    }

    pub(super) fn exchange(&self) -> &StaticSecret {
        &self.exchange
    }

    /// `salt = HMAC-SHA-512(chance, "golix-1 pss salt" 00 | GHID)`
    pub(super) fn sign(&self, ghid: &Ghid, out: &mut Vec<u8>) {
        let salt = hmac_sha512(&*self.chance, &[SALT, ghid.as_bytes()]);
        self.sign_salted(ghid, &salt, out);
    }

    /// As [`PrivateKeys::sign`], with a salt of the caller's.
    pub(super) fn sign_salted(&self, ghid: &Ghid, salt: &[u8; SALT_LEN], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sign_hash(&ghid.address(), salt));
    }

    pub(super) fn sign_statement(&self, statement: &[u8]) -> Vec<u8> {
        let hash = sha512(&[statement]);
        self.sign_hash(&hash, &hmac_sha512(&*self.chance, &[STATEMENT_SALT, &hash]))
    }

    fn sign_hash(&self, hash: &[u8; 64], salt: &[u8; SALT_LEN]) -> Vec<u8> {
        self.try_sign_hash(hash, salt)
            .expect("the key has signed before, and a computer that errs must not go on")
    }

    fn try_sign_hash(
        &self,
        hash: &[u8; 64],
        salt: &[u8; SALT_LEN],
    ) -> rsa::errors::Result<Vec<u8>> {
        let mut chance = self.blinding(&[hash, salt]).after(salt);
        self.signature.pss_sign_prehash_with_rng::<Sha512, _>(&mut chance, hash)
    }

    /// Opens a box.
    fn open(&self, sealed: &[u8; MODULUS_LEN]) -> Option<Zeroizing<Vec<u8>>> {
        oaep::decrypt(&self.encryption, &mut self.blinding(&[sealed]), sealed)
    }

    fn blinding(&self, context: &[&[u8]]) -> Chance {
        let context = sha512(context);
        Chance::new(Zeroizing::new(hmac_sha512(&*self.chance, &[BLINDING, &context])))
    }
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Reads an unencrypted PKCS#8 document (DER) of an RSA key, and checks it as an identity is checked.
fn private_key(document: &[u8]) -> Result<rsa::PrivateKey, KeyFault> {
    let info = PrivateKeyInfoRef::try_from(document).map_err(|_| KeyFault::Encoding)?;
    if info.algorithm.oid != RSA_ENCRYPTION {
        return Err(KeyFault::Algorithm);
    }
    let parts = pkcs1::RsaPrivateKeyRef::try_from(info.private_key.as_bytes())
        .map_err(|_| KeyFault::Encoding)?;
    let (modulus, exponent) = (parts.modulus.as_bytes(), parts.public_exponent.as_bytes());
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |top| top.leading_zeros() as usize);
    if bits != MODULUS_BITS as usize {
        return Err(KeyFault::Size(bits));
    }
    if exponent != [1, 0, 1] {
        return Err(KeyFault::Exponent);
    }
    public_key(modulus, Keys::Unknown).ok_or(KeyFault::Factor)?;
    rsa::PrivateKey::try_from(parts).map_err(|_| KeyFault::Inconsistent)
}

/// A generator of pseudo-random bytes: some given bytes first, then HMAC-SHA-512(key, counter 8).
struct Chance {
    key: Zeroizing<[u8; 64]>,
    counter: u64,
    block: Zeroizing<[u8; 64]>,
    used: usize,
}

impl Chance {
    fn new(key: Zeroizing<[u8; 64]>) -> Self {
        Self { key, counter: 0, block: Zeroizing::new([0; 64]), used: 64 }
    }

    fn after(mut self, given: &[u8; 64]) -> Self {
        *self.block = *given;
        self.used = 0;
        self
    }
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = Zeroizing::new([0; 4]);
        self.try_fill_bytes(&mut *bytes)?;
        Ok(u32::from_be_bytes(*bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = Zeroizing::new([0; 8]);
        self.try_fill_bytes(&mut *bytes)?;
        Ok(u64::from_be_bytes(*bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            if self.used == self.block.len() {
                *self.block = hmac_sha512(&*self.key, &[&self.counter.to_be_bytes()]);
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Chance {}

// --- containers ---------------------------------------------------------------------------------

/// `S = HKDF-Expand(CK_i, "golix-1 frame" 00 | dynamic GHID | i | salt GHID, 48)`.
pub(crate) fn chain_secret(
    key: &[u8; 32],
    dynamic: &Ghid,
    index: u64,
    salt: &Ghid,
) -> Zeroizing<[u8; 48]> {
    let index = index.to_be_bytes();
    hkdf_expand_sha512(key, &[FRAME, dynamic.as_bytes(), &index, salt.as_bytes()])
}

/// Appends the encrypted payload to `object`: AES-256-CTR, where the seed is the whole first counter
/// block, counted up as one big-endian number.
pub(super) fn seal_payload(secret: &Secret, plaintext: &[u8], object: &mut Vec<u8>) {
    let at = object.len();
    object.extend_from_slice(plaintext);
    apply_keystream(secret, &mut object[at..]);
}

/// Decrypts `payload`. A wrong secret is not noticed: it gives other bytes.
pub(super) fn open_payload(secret: &Secret, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plaintext = Zeroizing::new(payload.to_vec());
    apply_keystream(secret, &mut plaintext);
    plaintext
}

fn apply_keystream(secret: &Secret, buffer: &mut [u8]) {
    Ctr128BE::<Aes256>::new(secret.key().into(), secret.seed().into()).apply_keystream(buffer);
}

// --- requests -----------------------------------------------------------------------------------

/// A request opened but not yet authenticated.
pub(crate) struct OpenedBox {
    letter: Zeroizing<Vec<u8>>,
    /// What the MAC is over.
    file_hash: [u8; 64],
    mac: [u8; 64],
}

/// Appends RSAES-OAEP(SHA-512, MGF1-SHA-512, no label) of the letter to `object`; returns the key of
/// the MAC that follows the address.
pub(super) fn seal_request(
    me: &StaticSecret,
    author: &Ghid,
    recipient: (&Ghid, &PublicKeys),
    letter: &[u8],
    seed: &[u8; SALT_LEN],
    object: &mut Vec<u8>,
) -> Result<Zeroizing<[u8; 64]>, MakeError> {
    let (recipient, keys) = recipient;
    if letter.len() > LETTER_LEN {
        return Err(MakeError::PayloadTooLong(letter.len()));
    }
    let shared = x25519(me, &keys.exchange).ok_or(MakeError::KeyAgreement)?;
    object.extend_from_slice(&seal(&keys.encryption, seed, letter));
    Ok(request_mac_key(&shared, author, recipient))
}

/// RSAES-OAEP of at most [`LETTER_LEN`] bytes.
fn seal(key: &rsa::PublicKey, seed: &[u8; SALT_LEN], letter: &[u8]) -> Vec<u8> {
    // OAEP draws its seed and nothing else.
    let mut chance = Chance::new(Zeroizing::new([0; 64])).after(seed);
    key.oaep_encrypt_with_rng::<Sha512, _>(&mut chance, letter)
        .expect("the key is checked and the letter fits")
}

/// `MAC = HMAC-SHA-512(K, file hash)`
pub(super) fn request_mac(key: &[u8; 64], file_hash: &[u8; 64]) -> [u8; 64] {
    hmac_sha512(key, &[file_hash])
}

/// Opens the box that `object`, a whole request, has at `header_len`.
pub(super) fn open_request(
    me: &PrivateKeys,
    object: &[u8],
    header_len: usize,
) -> Result<OpenedBox, RequestFault> {
    let sealed: &[u8; MODULUS_LEN] =
        object.get(header_len..).and_then(<[u8]>::first_chunk).ok_or(RequestFault::Decrypt)?;
    let tail: &[u8; 128] = object.last_chunk().ok_or(RequestFault::Decrypt)?;
    let (file_hash, mac) = tail.split_at(64);
    Ok(OpenedBox {
        letter: me.open(sealed).ok_or(RequestFault::Decrypt)?,
        file_hash: file_hash.try_into().expect("64 of 128"),
        mac: mac.try_into().expect("64 of 128"),
    })
}

impl OpenedBox {
    /// The letter, which has no padding: nothing in it is authenticated yet.
    pub(super) fn letter(&self) -> &[u8] {
        &self.letter
    }

    /// Whether the MAC is of the author with this exchange key.
    pub(super) fn authenticate(
        &self,
        me: &PrivateKeys,
        recipient: &Ghid,
        author: (&Ghid, &ExchangeKey),
    ) -> Result<(), RequestFault> {
        let shared = x25519(&me.exchange, author.1).ok_or(RequestFault::Exchange)?;
        let key = request_mac_key(&shared, author.0, recipient);
        let mac = request_mac(&key, &self.file_hash);
        if bool::from(mac.ct_eq(&self.mac)) { Ok(()) } else { Err(RequestFault::Mac) }
    }
}

/// `K = HKDF-SHA-512(ikm = shared, salt = addr(author) XOR addr(recipient), no info, L = 64)`
fn request_mac_key(shared: &[u8; 32], author: &Ghid, recipient: &Ghid) -> Zeroizing<[u8; 64]> {
    let mut salt = author.address();
    salt.iter_mut().zip(recipient.address()).for_each(|(salt, other)| *salt ^= other);
    hkdf_sha512(shared, &salt, &[])
}
