//! What can be wrong: a variant for each step of the specified order.

use crate::Ghid;

/// Why bytes are not a Golix object (NAK 0001, whoever sent them). Golix wire reference, section 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first bytes name no kind of object.
    #[error("not a Golix object: unknown magic")]
    Magic,
    /// Not the current version of that kind.
    #[error("unknown version {0}")]
    Version(u32),
    /// A suite that does not exist here.
    #[error("unknown suite {0}")]
    Suite(u8),
    /// Shorter than the parts every such object has.
    #[error("truncated")]
    Truncated,
    /// Shorter than one of its length fields says, or that length is not a possible one.
    #[error("a length field does not fit the object")]
    Length,
    /// Longer than it says.
    #[error("trailing bytes")]
    Trailing,
    /// An address inside is not a SHA-512 address.
    #[error("unknown address algorithm {0} in an address")]
    GhidAlgo(u8),
    /// The object's own address is not a SHA-512 address.
    #[error("unknown address algorithm {0} of the object itself")]
    AddrAlgo(u8),
    /// The target vector is empty, or not a whole number of addresses.
    #[error("the target vector is not a whole number of addresses")]
    TargetVector,
    /// Counter 0 belongs to frames with one target, and only to them.
    #[error("a frame has counter 0 if and only if it has one target")]
    FrameShape,
    /// The file hash is not that of the bytes.
    #[error("the hash does not match the object")]
    Hash,
    /// The frame does not prove its dynamic address.
    #[error("the frame does not prove its dynamic address")]
    DynHash,
    /// The signature key is not one.
    #[error("unusable signature key")]
    KeySig,
    /// The encryption key is not one, or in suite 1 it is the signature key again.
    #[error("unusable encryption key")]
    KeyEnc,
    /// The exchange key is not one, or in suite 3 it is the encryption key again.
    #[error("unusable exchange key")]
    KeyExc,
}

impl DecodeError {
    /// The NAK code: not a Golix object.
    #[must_use]
    pub fn code(self) -> u16 {
        0x0001
    }

    /// The name of the broken rule, as in the test vectors.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Magic => "MAGIC",
            Self::Version(_) => "VERSION",
            Self::Suite(_) => "SUITE",
            Self::Truncated => "TRUNCATED",
            Self::Length => "LENGTH",
            Self::Trailing => "TRAILING",
            Self::GhidAlgo(_) => "GHID_ALGO",
            Self::AddrAlgo(_) => "ADDR_ALGO",
            Self::TargetVector => "TARGET_VECTOR",
            Self::FrameShape => "FRAME_SHAPE",
            Self::Hash => "HASH",
            Self::DynHash => "DYN_HASH",
            Self::KeySig => "KEY_SIG",
            Self::KeyEnc => "KEY_ENC",
            Self::KeyExc => "KEY_EXC",
        }
    }
}

/// Why a well-formed object is not its author's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The author's identity was not given, though the object needs one (NAK 0003).
    #[error("the author {0:?} is unknown")]
    AuthorUnknown(Ghid),
    /// The identity given is not the one the object names, which is this; the caller's mistake.
    #[error("the identity given is not that of the author {0:?}")]
    AuthorOther(Ghid),
    /// The object's suite is not its author's (NAK 0002).
    #[error("the object's suite is not that of its author")]
    SuiteMismatch,
    /// The signature is not the author's (NAK 0002).
    #[error("the signature does not verify")]
    Signature,
    /// The outer field of a request is not what follows from its address (NAK 0002).
    #[error("the outer field of the request does not follow from its address")]
    Outer,
}

impl VerifyError {
    /// The NAK code: 0003 if the author is not known, else 0002.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::AuthorUnknown(_) | Self::AuthorOther(_) => 0x0003,
            Self::SuiteMismatch | Self::Signature | Self::Outer => 0x0002,
        }
    }

    /// The name of the broken rule, as in the test vectors.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::AuthorUnknown(_) => "AUTHOR_UNKNOWN",
            Self::AuthorOther(_) => "AUTHOR",
            Self::SuiteMismatch => "SUITE_MISMATCH",
            Self::Signature => "SIGNATURE",
            Self::Outer => "OUTER",
        }
    }
}

/// Why an object cannot be made; always the maker's own mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// A later frame has counter 0.
    #[error("only the first frame has counter 0")]
    Counter,
    /// A later frame has fewer than two targets, or more than
    /// [`TARGETS_MADE_MAX`](crate::limits::TARGETS_MADE_MAX).
    #[error("a later frame has 2 to 16 targets, not {0}")]
    Targets(usize),
    /// The last target is not the one from which the dynamic address was born.
    #[error("the last target does not prove the dynamic address")]
    Proof,
    /// The payload, of this many bytes, does not fit into the request.
    #[error("{0} bytes are too many for a request (Suite::request_payload_max)")]
    PayloadTooLong(usize),
    /// The recipient's keys agree with nobody.
    #[error("the recipient's keys are unusable")]
    KeyAgreement,
    /// Not an object that anyone signs, or not the number of bytes of its signature.
    #[error("no signature of this length belongs there")]
    Signature,
}

/// Why a container does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The secret is for another suite.
    #[error("the secret is for another suite")]
    SuiteMismatch,
    /// The secret is not this container's.
    #[error("the secret is not the one of this container")]
    WrongSecret,
    /// The secret is right, but the author sealed it wrongly.
    #[error("the container was sealed wrongly by its author")]
    Damaged,
}

/// A request could not be opened, or is not from whom it says. One error for all reasons, so that
/// nothing about the reason can leak: tell the outside nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be used")]
pub struct RequestError;

/// What is wrong with a request: for [`Request::examine`](super::Request::examine) alone, since it must
/// not be told to anybody. Golix wire reference, section 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// It is not to me.
    #[error("the request is to somebody else")]
    Recipient,
    /// The box does not open with my keys.
    #[error("the box does not open")]
    Decrypt,
    /// An address inside is not a SHA-512 address.
    #[error("an address inside is not one")]
    InnerGhid,
    /// There is no such kind of letter.
    #[error("unknown kind of letter")]
    InnerKind,
    /// A length inside does not fit, or padding is not zero.
    #[error("a length inside does not fit")]
    InnerLength,
    /// A handshake carries something that is no secret.
    #[error("the secret inside is not one")]
    Secret,
    /// The author is not known, or not the one given.
    #[error("the author is unknown")]
    Author,
    /// My exchange key and the author's agree on nothing.
    #[error("the exchange keys agree on nothing")]
    Exchange,
    /// The MAC is not the author's.
    #[error("the MAC is not the author's")]
    Mac,
}

impl RequestFault {
    /// The name of the broken rule, as in the test vectors.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Recipient => "RECIPIENT",
            Self::Decrypt => "DECRYPT",
            Self::InnerGhid => "INNER_GHID",
            Self::InnerKind => "INNER_KIND",
            Self::InnerLength => "INNER_LENGTH",
            Self::Secret => "SECRET",
            Self::Author => "AUTHOR",
            Self::Exchange => "EXCHANGE",
            Self::Mac => "MAC",
        }
    }
}
