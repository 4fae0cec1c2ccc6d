//! Identity (three public keys) and PrivateIdentity (signs, opens, agrees).

use std::fmt;

use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::object::{DecodeError, identity_container};
use crate::suite::{PrivateKeys, PublicKeys};
use crate::{Ghid, Suite};

/// Statements may not begin like the signatures of Golix itself.
const RESERVED_LABEL: &str = "golix-3 sign";

/// Magic and version of a packed private identity.
const PRIVATE_MAGIC: [u8; 2] = *b"PI";
const PRIVATE_VERSION: u16 = 1;

/// Who signs and receives: the public keys of one identity, all checked, and its address.
///
/// Packed it is a GIDC, 170 bytes in suite 3. Golix wire reference, sections 3 and 16.
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
        identity_container::decode(bytes)
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

    /// Whether `signature` is this identity's over `label | 00 | message`, for protocols above Golix.
    ///
    /// False for labels that are reserved: empty ones, those with a zero byte, and all that begin with
    /// `golix-3 sign`.
    #[must_use]
    pub fn verify_statement(&self, label: &str, message: &[u8], signature: &[u8; 64]) -> bool {
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
    let free = !label.is_empty() && !label.contains('\0') && !label.starts_with(RESERVED_LABEL);
    free.then(|| [label.as_bytes(), &[0], message].concat())
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
    /// An identity from 32 random bytes for each of its three keys: signature, encryption, exchange.
    ///
    /// # Panics
    /// If encryption and exchange seed give the same key, which random bytes never do.
    #[must_use]
    pub fn from_seeds(suite: Suite, sign: [u8; 32], encrypt: [u8; 32], exchange: [u8; 32]) -> Self {
        Self::checked(suite, &Zeroizing::new(sign), encrypt, exchange)
            .expect("encryption and exchange key must differ")
    }

    fn checked(
        suite: Suite,
        sign: &[u8; 32],
        encrypt: [u8; 32],
        exchange: [u8; 32],
    ) -> Result<Self, DecodeError> {
        let keys = PrivateKeys::from_seeds(suite, sign, encrypt, exchange);
        let (ghid, gidc) = identity_container::encode(&keys.public());
        let identity = Identity::from_bytes(&gidc)?;
        debug_assert_eq!(identity.ghid(), ghid, "encode and decode agree");
        Ok(Self { identity, keys })
    }

    /// Packed, in 101 bytes: `PI | version 2 | suite 1 | signature 32 | encryption 32 | exchange 32`.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(101));
        bytes.extend_from_slice(&PRIVATE_MAGIC);
        bytes.extend_from_slice(&PRIVATE_VERSION.to_be_bytes());
        bytes.push(self.identity.suite().code());
        self.keys.encode(&mut bytes);
        bytes
    }

    /// Reads what [`PrivateIdentity::to_bytes`] wrote, all of it.
    ///
    /// # Errors
    /// [`DecodeError`]: `Magic`, `Version`, `Suite`, `Truncated`, `Trailing`, or `KeyExc` if the
    /// encryption and exchange keys are one.
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
        let sign = Zeroizing::new(reader.array()?);
        let (encrypt, exchange) = (reader.array()?, reader.array()?);
        reader.finish()?;
        Self::checked(suite, &sign, encrypt, exchange)
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

    /// Appends the signature of the object at the address `object`.
    pub(crate) fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        self.keys.sign(object, out);
    }

    /// Signs `label | 00 | message`, for protocols above Golix.
    ///
    /// # Panics
    /// If the label is reserved ([`Identity::verify_statement`]); labels are constants of a protocol.
    #[must_use]
    pub fn sign_statement(&self, label: &str, message: &[u8]) -> [u8; 64] {
        let statement = statement(label, message).expect("the label is not a reserved one");
        self.keys.sign_statement(&statement)
    }
}

impl fmt::Debug for PrivateIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateIdentity").field("ghid", &self.ghid()).finish_non_exhaustive()
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
        let signature: [u8; 64] = signature.try_into().unwrap();
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
