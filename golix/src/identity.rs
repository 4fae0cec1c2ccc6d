//! Identity (three public keys), Signer (who signs objects) and PrivateIdentity (signs, opens, agrees).

use std::fmt;
use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::object::{DecodeError, Kind, identity_container};
use crate::suite::{Keys, PrivateKeys, PublicKeys};
use crate::{Ghid, Suite};

/// Statements may not begin like anything that Golix itself signs or derives.
const RESERVED_LABEL: &str = "golix-";

/// Magic and version of a packed private identity.
const PRIVATE_MAGIC: [u8; 2] = *b"PI";
const PRIVATE_VERSION: u16 = 1;

/// Who signs and receives: the public keys of one identity, all checked, and its address.
///
/// Packed it is a GIDC, 1130 bytes in suite 1 and 170 in suite 3. Golix wire reference, sections 3 and
/// 16. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    ghid: Ghid,
    keys: PublicKeys,
}

impl Identity {
    pub(crate) fn new(ghid: Ghid, keys: PublicKeys) -> Self {
        Self { ghid, keys }
    }

    /// Reads a packed GIDC, all of it.
    ///
    /// # Errors
    /// The first check that fails; [`DecodeError`] names them all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        identity_container::decode(bytes, Keys::Unknown)
    }

    /// Reads a packed GIDC that went through [`Identity::from_bytes`] before it was stored: the hash
    /// is checked again, so damage does not pass, but what the keys are good for is not. That is four
    /// fifths of the work: in suite 1 trial division, in suite 3 the order of a point.
    ///
    /// Never use it on bytes from outside.
    ///
    /// # Errors
    /// As [`Identity::from_bytes`], for bytes that are no GIDC at all.
    pub fn from_stored(bytes: &[u8]) -> Result<Self, DecodeError> {
        identity_container::decode(bytes, Keys::Checked)
    }

    /// The packed GIDC.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        identity_container::encode(&self.keys).1
    }

    /// Its address: what other objects name as author, binder, debinder or recipient.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.ghid
    }

    /// The suite of this identity and of everything it signs.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.keys.suite()
    }

    pub(crate) fn keys(&self) -> &PublicKeys {
        &self.keys
    }

    /// Whether `signature` is this identity's over the object at the address `object`.
    pub(crate) fn verify(&self, object: &Ghid, signature: &[u8]) -> bool {
        self.keys.verify(object, signature)
    }

    /// Whether `signature` is this identity's over `label | 00 | message`, for protocols above Golix:
    /// Ed25519 over these bytes in suite 3; RSASSA-PSS over their SHA-512 in suite 1, where signatures
    /// of objects are over a hash that carries no label.
    ///
    /// False for labels that are reserved: empty ones, those with a zero byte, and all that begin with
    /// `golix-` or with the magic of an object. So a statement is never an object's signature.
    #[must_use]
    pub fn verify_statement(&self, label: &str, message: &[u8], signature: &[u8]) -> bool {
        statement(label, message)
            .is_some_and(|statement| self.keys.verify_statement(&statement, signature))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("ghid", &self.ghid)
            .field("suite", &self.suite())
            .finish_non_exhaustive()
    }
}

/// `label | 00 | message`, or `None` for a reserved label.
fn statement(label: &str, message: &[u8]) -> Option<Vec<u8>> {
    let magic = |kind: Kind| label.as_bytes().starts_with(&kind.magic());
    let reserved = label.starts_with(RESERVED_LABEL) || Kind::ALL.into_iter().any(magic);
    let free = !label.is_empty() && !label.contains('\0') && !reserved;
    free.then(|| [label.as_bytes(), &[0], message].concat())
}

/// Who signs objects: an identity, and a way to its signature key.
///
/// [`PrivateIdentity`] signs at once. A signature is the last field of an object and no part of its
/// address, so another signer may append any bytes of the right number, and the true signature is put
/// in later: [`object::set_signature`](crate::object::set_signature).
pub trait Signer {
    /// Whose signatures these are.
    fn identity(&self) -> &Identity;

    /// Appends the signature of the object at the address `object`: exactly
    /// [`Suite::signature_len`] bytes, or the maker of the object panics.
    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>);
}

impl<S: Signer + ?Sized> Signer for &S {
    fn identity(&self) -> &Identity {
        (**self).identity()
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        (**self).sign_object(object, out);
    }
}

impl<S: Signer + ?Sized> Signer for Arc<S> {
    fn identity(&self) -> &Identity {
        (**self).identity()
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        (**self).sign_object(object, out);
    }
}

/// Why keys of the original library are not taken: which one, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The signature key.
    #[error("the signature key {0}")]
    Signature(#[source] KeyFault),
    /// The encryption key.
    #[error("the encryption key {0}")]
    Encryption(#[source] KeyFault),
}

/// What is wrong with an RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// Not an unencrypted PKCS#8 document in DER.
    #[error("is not an unencrypted PKCS#8 document (DER)")]
    Encoding,
    /// The document holds another kind of key.
    #[error("is not an RSA key")]
    Algorithm,
    /// The modulus has this many bits instead of 4096.
    #[error("has {0} bits instead of 4096")]
    Size(usize),
    /// The public exponent is not 65537.
    #[error("has another public exponent than 65537")]
    Exponent,
    /// The modulus is even, or a prime below 2^16 divides it.
    #[error("has a modulus with a small factor")]
    Factor,
    /// Modulus, exponents and primes do not belong together, or a prime is none. (What a document says
    /// of the Chinese remainder is not looked at; it follows from these.)
    #[error("contradicts itself")]
    Inconsistent,
    /// It is the signature key again.
    #[error("is the signature key again")]
    Twice,
}

/// The private half of an [`Identity`]. Zeroized on drop, redacted in `Debug`, and not to be copied:
///
/// ```compile_fail
/// fn copy(me: &golix::PrivateIdentity) -> golix::PrivateIdentity {
///     me.clone()
/// }
/// ```
pub struct PrivateIdentity {
    identity: Identity,
    keys: PrivateKeys,
}

impl PrivateIdentity {
    /// A new identity. In suite 1 this searches for primes and takes about two seconds.
    ///
    /// # Panics
    /// If `rng` gives the same bytes twice.
    #[must_use]
    pub fn generate<R: CryptoRng + ?Sized>(suite: Suite, rng: &mut R) -> Self {
        let mut seeds = Zeroizing::new([[0; 32]; 3]);
        seeds.iter_mut().for_each(|seed| rng.fill_bytes(seed));
        let [sign, encrypt, exchange] = &*seeds;
        Self::from_parts(suite, sign, encrypt, exchange)
    }

    /// An identity from 32 random bytes for each of its three keys: signature, encryption, exchange.
    ///
    /// In suite 3 the seeds are the keys. In suite 1 a search for primes begins with them, about two
    /// seconds long, which a later version of this crate may do differently: keep the identity
    /// ([`PrivateIdentity::to_bytes`]), not the seeds.
    ///
    /// # Panics
    /// If encryption seed and another one give the same key, which random bytes never do.
    #[must_use]
    pub fn from_seeds(suite: Suite, sign: [u8; 32], encrypt: [u8; 32], exchange: [u8; 32]) -> Self {
        let [sign, encrypt, exchange] = [sign, encrypt, exchange].map(Zeroizing::new);
        Self::from_parts(suite, &sign, &encrypt, &exchange)
    }

    fn from_parts(suite: Suite, sign: &[u8; 32], encrypt: &[u8; 32], exchange: &[u8; 32]) -> Self {
        Self::checked(PrivateKeys::from_seeds(suite, sign, encrypt, exchange))
            .expect("no two keys may be the same")
    }

    /// The identity that the original library (golix 0.1.6, suite 1) saved: signature and encryption
    /// key as unencrypted PKCS#8 (DER), and the 32 raw bytes of the exchange key. Golix wire
    /// reference, section 3.
    ///
    /// The primes are tested (Miller and Rabin with base 2, and Lucas: Baillie-PSW), and each RSA key is
    /// tried; that takes about 0.13 seconds.
    ///
    /// # Errors
    /// [`ImportError`] says which key is unusable, and why. Any 32 bytes are a good exchange key.
    pub fn from_suite1_keys(
        signature_pkcs8: &[u8],
        encryption_pkcs8: &[u8],
        exchange: [u8; 32],
    ) -> Result<Self, ImportError> {
        let exchange = Zeroizing::new(exchange);
        let keys = PrivateKeys::from_pkcs8(signature_pkcs8, encryption_pkcs8, &exchange).map_err(
            |(field, fault)| match field {
                DecodeError::KeySig => ImportError::Signature(fault),
                _ => ImportError::Encryption(fault),
            },
        )?;
        Ok(Self::checked(keys).expect("every key was checked, and X25519 gives no low order"))
    }

    /// The keys with the identity that they make, checked as any identity is.
    fn checked(keys: PrivateKeys) -> Result<Self, DecodeError> {
        let (ghid, gidc) = identity_container::encode(&keys.public());
        let identity = Identity::from_bytes(&gidc)?;
        debug_assert_eq!(identity.ghid(), ghid, "encode and decode agree");
        Ok(Self { identity, keys })
    }

    /// Packed: `PI | version 2 | suite 1 | keys`, all lengths big-endian, where the keys are
    ///
    /// ```text
    /// suite 1: signature length 2 | signature PKCS#8 | encryption length 2 | encryption PKCS#8 | exchange 32
    /// suite 3: signature 32 | encryption 32 | exchange 32
    /// ```
    ///
    /// 101 bytes in suite 3, some 4,800 in suite 1.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // As long as it may get, so that no copy is left behind when it grows.
        let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
        bytes.extend_from_slice(&PRIVATE_MAGIC);
        bytes.extend_from_slice(&PRIVATE_VERSION.to_be_bytes());
        bytes.push(self.identity.suite().code());
        self.keys.encode(&mut bytes);
        bytes
    }

    /// Reads what [`PrivateIdentity::to_bytes`] wrote, all of it. In suite 1 one signature is tried,
    /// about 13 milliseconds; that its primes are prime was tested when it was made or imported, and
    /// is not again.
    ///
    /// # Errors
    /// [`DecodeError`]: `Magic`, `Version`, `Suite`, `Truncated`, `Trailing`; `KeySig` or `KeyEnc` if
    /// that key is unusable; `KeyExc` if the exchange key is the encryption key again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != PRIVATE_MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = reader.u16()?;
        if version != PRIVATE_VERSION {
            return Err(DecodeError::Version(version.into()));
        }
        let code = reader.u8()?;
        let suite = Suite::from_code(code).ok_or(DecodeError::Suite(code))?;
        let keys = PrivateKeys::decode(suite, &mut reader)?;
        reader.finish()?;
        Self::checked(keys)
    }

    /// The public half.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The address of the public half.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.identity.ghid
    }

    /// The suite of this identity and of everything it signs.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.identity.suite()
    }

    pub(crate) fn keys(&self) -> &PrivateKeys {
        &self.keys
    }

    /// Signs with a given salt. Suite 1 draws 64 bytes for every signature; by itself this crate
    /// derives them from the private keys and the object. Suite 3 has no salt, and ignores it.
    #[must_use]
    pub fn salted(&self, salt: [u8; 64]) -> SaltedSigner<'_> {
        SaltedSigner { me: self, salt }
    }

    /// Signs `label | 00 | message`, for protocols above Golix; [`Suite::signature_len`] bytes.
    ///
    /// # Panics
    /// If the label is reserved ([`Identity::verify_statement`]); labels are constants of a protocol.
    #[must_use]
    pub fn sign_statement(&self, label: &str, message: &[u8]) -> Vec<u8> {
        let statement = statement(label, message).expect("the label is not a reserved one");
        self.keys.sign_statement(&statement)
    }
}

impl Signer for PrivateIdentity {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        self.keys.sign(object, out);
    }
}

impl fmt::Debug for PrivateIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateIdentity").field("ghid", &self.ghid()).finish_non_exhaustive()
    }
}

/// A [`PrivateIdentity`] that signs with a given salt: [`PrivateIdentity::salted`].
#[derive(Debug)]
pub struct SaltedSigner<'a> {
    me: &'a PrivateIdentity,
    salt: [u8; 64],
}

impl Signer for SaltedSigner<'_> {
    fn identity(&self) -> &Identity {
        self.me.identity()
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        self.me.keys.sign_salted(object, &self.salt, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> PrivateIdentity {
        PrivateIdentity::from_seeds(Suite::Suite3, [1; 32], [2; 32], [3; 32])
    }

    #[test]
    fn private_identity_round_trips() {
        let bytes = me().to_bytes();
        assert_eq!(&bytes[..5], b"PI\x00\x01\x03");
        assert_eq!(bytes.len(), 101);
        let back = PrivateIdentity::from_bytes(&bytes).unwrap();
        assert_eq!(back.identity(), me().identity());
        assert_eq!(back.to_bytes(), bytes);
    }

    #[test]
    fn packed_private_identities_are_exact() {
        let good = me().to_bytes();
        for len in 0..good.len() {
            let error = PrivateIdentity::from_bytes(&good[..len]).unwrap_err();
            assert_eq!(error, DecodeError::Truncated);
        }
        let long = [&good[..], &[0]].concat();
        assert_eq!(PrivateIdentity::from_bytes(&long).unwrap_err(), DecodeError::Trailing);
        let mut twin = good.clone();
        twin.copy_within(37..69, 69);
        assert_eq!(PrivateIdentity::from_bytes(&twin).unwrap_err(), DecodeError::KeyExc);
    }

    #[test]
    fn statements_keep_label_and_message_apart() {
        let me = me();
        let signature = me.sign_statement("tests hello", b"message");
        let verify =
            |label, message: &[u8]| me.identity().verify_statement(label, message, &signature);
        assert!(verify("tests hello", b"message"));
        assert!(!verify("tests hell", b"o\0message"));
        assert!(!verify("tests hello", b"massage"));
        assert!(!verify("tests hello\0message", b""));
    }

    #[test]
    fn a_statement_is_never_an_object_signature() {
        let me = me();
        let mut signature = Vec::new();
        let object = Ghid::of(b"object");
        me.sign_object(&object, &mut signature);
        assert!(me.identity().verify(&object, &signature));
        assert!(!me.identity().verify_statement("golix-3 sign", object.as_bytes(), &signature));
        assert!(!me.identity().verify_statement("", object.as_bytes(), &signature));
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?} {:?}", me(), me().identity());
        assert!(text.contains("Ghid('") && !text.contains("keys"), "{text}");
    }
}
