//! Object: one variant a kind; bytes become [`Unverified`], and that [`Verified`].

mod container;
mod debinding;
mod dynamic_binding;
mod error;
mod handshake;
pub(crate) mod identity_container;
mod kind;
mod request;
mod static_binding;

use std::fmt;
use std::sync::Arc;

pub use container::Container;
pub use debinding::Debinding;
pub use dynamic_binding::DynamicBinding;
pub use error::{DecodeError, MakeError, OpenError, RequestError, RequestFault, VerifyError};
pub use handshake::RequestBody;
pub use kind::Kind;
pub use request::{OpenedRequest, Request};
pub use static_binding::StaticBinding;

use crate::codec::Reader;
use crate::suite::Keys;
use crate::{Ghid, Identity, Suite};

/// The address of a static binding or debinding: the hash of its head up to the file hash. Neither
/// carries a nonce, so it follows from who and what.
fn pair_address(kind: Kind, suite: Suite, who: &Ghid, what: &Ghid) -> Ghid {
    let mut bytes = Vec::with_capacity(10 + 2 * Ghid::LEN);
    bytes.extend_from_slice(&kind.magic());
    bytes.extend_from_slice(&kind.version().to_be_bytes());
    bytes.push(suite.code());
    bytes.extend_from_slice(who.as_bytes());
    bytes.extend_from_slice(what.as_bytes());
    bytes.push(1); // address algorithm: SHA-512
    Ghid::of(&bytes)
}

/// Any object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// GIDC.
    Identity(Identity),
    /// GEOC.
    Container(Container),
    /// GOBS.
    StaticBinding(StaticBinding),
    /// GOBD.
    DynamicBinding(DynamicBinding),
    /// GDXX.
    Debinding(Debinding),
    /// GARQ.
    Request(Request),
}

impl Object {
    /// Reads front to back: magic, version, suite; all sizes; the algorithm of every address; the
    /// shape of a frame; the file hash; the proof of a frame; the keys of an identity.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (kind, suite) = reader.head()?;
        Ok(match kind {
            Kind::Identity => Self::Identity(identity_container::decode(bytes, Keys::Unknown)?),
            Kind::Container => Self::Container(Container::decode(bytes, reader, suite)?),
            Kind::StaticBinding => Self::StaticBinding(StaticBinding::decode(reader, suite)?),
            Kind::DynamicBinding => Self::DynamicBinding(DynamicBinding::decode(reader, suite)?),
            Kind::Debinding => Self::Debinding(Debinding::decode(reader, suite)?),
            Kind::Request => Self::Request(Request::decode(bytes, reader, suite)?),
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Identity(_) => Kind::Identity,
            Self::Container(_) => Kind::Container,
            Self::StaticBinding(_) => Kind::StaticBinding,
            Self::DynamicBinding(_) => Kind::DynamicBinding,
            Self::Debinding(_) => Kind::Debinding,
            Self::Request(_) => Kind::Request,
        }
    }

    /// Its own address; of a GOBD, the frame's.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        match self {
            Self::Identity(identity) => identity.ghid(),
            Self::Container(container) => container.ghid(),
            Self::StaticBinding(binding) => binding.ghid(),
            Self::DynamicBinding(frame) => frame.ghid(),
            Self::Debinding(debinding) => debinding.ghid(),
            Self::Request(request) => request.ghid(),
        }
    }

    /// Who signed it: author, binder or debinder. `None` for GIDC and GARQ, which nobody signs.
    #[must_use]
    pub fn author(&self) -> Option<Ghid> {
        match self {
            Self::Identity(_) | Self::Request(_) => None,
            Self::Container(container) => Some(container.author()),
            Self::StaticBinding(binding) => Some(binding.binder()),
            Self::DynamicBinding(frame) => Some(frame.binder()),
            Self::Debinding(debinding) => Some(debinding.debinder()),
        }
    }

    /// Its suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        match self {
            Self::Identity(identity) => identity.suite(),
            Self::Container(container) => container.suite(),
            Self::StaticBinding(binding) => binding.suite(),
            Self::DynamicBinding(frame) => frame.suite(),
            Self::Debinding(debinding) => debinding.suite(),
            Self::Request(request) => request.suite(),
        }
    }
}

/// Puts `signature` in the place of the one that a signed object has: its last
/// [`Suite::signature_len`] bytes. Nothing else of it changes, and its address stays.
///
/// For a [`Signer`](crate::Signer) that leaves the place empty at first, because the key is elsewhere
/// or slow. Until the true signature is in, the object is not what the type [`Verified`] says; do not
/// let it leave your hands.
///
/// # Errors
/// [`MakeError::Signature`] if `object` is not a GEOC, GOBS, GOBD or GDXX, or if `signature` does not
/// have the length of its suite; nothing is changed then.
pub fn set_signature(object: &mut [u8], signature: &[u8]) -> Result<(), MakeError> {
    let (kind, suite) = Reader::new(object).head().map_err(|_| MakeError::Signature)?;
    let signed = match kind {
        Kind::Container | Kind::StaticBinding | Kind::DynamicBinding | Kind::Debinding => true,
        Kind::Identity | Kind::Request => false,
    };
    let len = suite.signature_len();
    match object.len().checked_sub(len).and_then(|at| object.get_mut(at..)) {
        Some(place) if signed && signature.len() == len => {
            place.copy_from_slice(signature);
            Ok(())
        }
        Some(_) | None => Err(MakeError::Signature),
    }
}

/// A well-formed object whose address is that of its bytes; who made it is not proven yet.
#[derive(Clone)]
pub struct Unverified {
    object: Object,
    bytes: Arc<[u8]>,
}

impl Unverified {
    /// Reads one object, all of it: exact sizes, then the hash, then what a frame proves or an
    /// identity's keys. Sizes are checked before anything is hashed or allocated.
    ///
    /// # Errors
    /// The first check that fails; [`DecodeError`] names them all.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let object = Object::decode(bytes)?;
        let bytes = match &object {
            Object::Container(container) => container.shared_bytes(),
            Object::Request(request) => request.shared_bytes(),
            Object::Identity(_)
            | Object::StaticBinding(_)
            | Object::DynamicBinding(_)
            | Object::Debinding(_) => bytes.into(),
        };
        Ok(Self { object, bytes })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.object.kind()
    }

    /// Its own address; of a GOBD, the frame's.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.object.ghid()
    }

    /// Whose identity [`Unverified::verify`] needs; `None` for GIDC and GARQ.
    #[must_use]
    pub fn author(&self) -> Option<Ghid> {
        self.object.author()
    }

    /// The packed object.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Proves who made it: the author's signature over its address. A GIDC stands for itself, and a
    /// GARQ shows its author to its recipient alone; both take `None` (and ignore an identity).
    ///
    /// # Errors
    /// [`VerifyError::AuthorUnknown`] without the identity it needs, then
    /// [`AuthorOther`](VerifyError::AuthorOther), [`SuiteMismatch`](VerifyError::SuiteMismatch),
    /// [`Signature`](VerifyError::Signature); for a GARQ [`Outer`](VerifyError::Outer).
    pub fn verify(self, author: Option<&Identity>) -> Result<Verified, VerifyError> {
        if let Some(named) = self.object.author() {
            let author = author.ok_or(VerifyError::AuthorUnknown(named))?;
            if author.ghid() != named {
                return Err(VerifyError::AuthorOther(named));
            }
            if author.suite() != self.object.suite() {
                return Err(VerifyError::SuiteMismatch);
            }
            let signed_len = self.bytes.len() - author.suite().layout().signature_len;
            if !author.verify(&self.object.ghid(), &self.bytes[signed_len..]) {
                return Err(VerifyError::Signature);
            }
        } else if let Object::Request(request) = &self.object
            && !request.verify_outer()
        {
            return Err(VerifyError::Outer);
        }
        Ok(self.assume_verified())
    }

    /// Takes it as verified, without looking at its signature.
    ///
    /// Only for bytes that come from the caller's own store and were [`Verified`] when they went in:
    /// the hash has just been checked again, so damage does not pass, but a forgery would.
    #[must_use]
    pub fn assume_verified(self) -> Verified {
        Verified { object: self.object, bytes: self.bytes }
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unverified").field(&self.object).finish()
    }
}

/// An object whose maker is proven (a GARQ: whose every byte follows from its address).
///
/// Only [`Unverified::verify`] and the makers of this crate produce one; the persister's rules accept
/// nothing else. Cheap to clone.
#[derive(Clone)]
pub struct Verified {
    object: Object,
    bytes: Arc<[u8]>,
}

impl Verified {
    pub(crate) fn made(object: Object, bytes: Arc<[u8]>) -> Self {
        debug_assert!(
            Unverified::parse(&bytes).is_ok_and(|parsed| parsed.object == object),
            "what is made here reads back as itself"
        );
        Self { object, bytes }
    }

    /// What it says.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The packed object.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packed object, shared.
    #[must_use]
    pub fn shared_bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }

    /// Its own address; of a GOBD, the frame's.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.object.ghid()
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.object.kind()
    }

    /// Who signed it; `None` for GIDC and GARQ.
    #[must_use]
    pub fn author(&self) -> Option<Ghid> {
        self.object.author()
    }
}

impl PartialEq for Verified {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Verified {}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verified").field(&self.object).finish()
    }
}
