//! `Rejection`: which rule said no, and the NAK code that tells a peer.

use crate::Ghid;

/// Why a verified object is refused. Every variant is one rule of the Golix wire reference,
/// section 14; [`Rejection::code`] is the number that goes over the wire (section 11.2).
///
/// Broken bytes (0001) and bad signatures (0002) never get this far: they are
/// [`DecodeError`](crate::object::DecodeError) and [`VerifyError`](crate::object::VerifyError).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// The author, binder or debinder is not stored here.
    #[error("the author {0:?} is unknown here")]
    AuthorUnknown(Ghid),
    /// The author, binder or debinder names something that is not an identity.
    #[error("the author {0:?} is not an identity")]
    AuthorNotIdentity(Ghid),
    /// The recipient of a request is not stored here.
    #[error("the recipient {0:?} is unknown here")]
    RecipientUnknown(Ghid),
    /// The recipient of a request names something that is not an identity.
    #[error("the recipient {0:?} is not an identity")]
    RecipientNotIdentity(Ghid),
    /// The request has another suite than its recipient.
    #[error("the recipient {0:?} is of another suite")]
    SuiteMismatch(Ghid),
    /// A container that no binding targets: bind first, then store.
    #[error("nothing binds this container")]
    Unbound,
    /// A debinding by the owner is stored.
    #[error("debound by {0:?}")]
    Debound(Ghid),
    /// A binding or debinding of something that cannot be bound or debound.
    #[error("{0:?} is not a possible target")]
    TargetType(Ghid),
    /// The frame would close a circle of dynamic bindings.
    #[error("the target {0:?} leads back to this binding")]
    Cycle(Ghid),
    /// More dynamic bindings lie behind the target than a circle check may visit.
    #[error("the chain of dynamic bindings behind {0:?} is too long")]
    ChainTooLong(Ghid),
    /// The debinder or the new binder is not the owner.
    #[error("this belongs to {0:?}")]
    Inconsistent(Ghid),
    /// The frame does not prove its dynamic address, which belonged to somebody who did.
    #[error("the frame does not prove its dynamic address")]
    Unproven,
    /// A frame older than the newest one ever accepted here.
    #[error("the frame is older than frame {newest} of this binding")]
    Counter {
        /// The highest counter ever accepted.
        newest: u64,
    },
    /// Eight losing frames with this counter are stored, all of them larger than this one.
    #[error("too many frames with this counter")]
    ForksFull,
    /// The recipient has as many pending requests as one recipient may have.
    #[error("too many requests wait for this recipient")]
    RequestsFull,
    /// As many requests with this address and other authenticators are stored as one address may have.
    #[error("too many requests with this address")]
    VariantsFull,
    /// The debinder has as many debindings of unknown targets as one debinder may have.
    #[error("too many debindings of unknown targets by this debinder")]
    UnprovenFull,
}

impl Rejection {
    /// The NAK code: 0002 to 0009, or 0000 (unspecified) when one of our own limits said no.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::RequestsFull | Self::VariantsFull | Self::UnprovenFull => 0x0000,
            Self::SuiteMismatch(_) => 0x0002,
            Self::AuthorUnknown(_)
            | Self::AuthorNotIdentity(_)
            | Self::RecipientUnknown(_)
            | Self::RecipientNotIdentity(_) => 0x0003,
            Self::Unbound => 0x0004,
            Self::Debound(_) => 0x0005,
            Self::TargetType(_) | Self::Cycle(_) | Self::ChainTooLong(_) => 0x0006,
            Self::Inconsistent(_) | Self::Unproven => 0x0007,
            Self::Counter { .. } | Self::ForksFull => 0x0009,
        }
    }

    /// The rule's name as the Golix wire reference (section 14) and its vectors spell it.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::AuthorUnknown(_) => "AUTHOR_UNKNOWN",
            Self::AuthorNotIdentity(_) => "AUTHOR_NOT_IDENTITY",
            Self::RecipientUnknown(_) => "RECIPIENT_UNKNOWN",
            Self::RecipientNotIdentity(_) => "RECIPIENT_NOT_IDENTITY",
            Self::SuiteMismatch(_) => "SUITE_MISMATCH",
            Self::Unbound => "UNBOUND",
            Self::Debound(_) => "DEBOUND",
            Self::TargetType(_) => "TARGET_TYPE",
            Self::Cycle(_) => "CYCLE",
            Self::ChainTooLong(_) => "CHAIN_TOO_LONG",
            Self::Inconsistent(_) => "INCONSISTENT",
            Self::Unproven => "UNPROVEN",
            Self::Counter { .. } => "COUNTER",
            Self::ForksFull => "FORKS_FULL",
            Self::RequestsFull => "REQUESTS_FULL",
            Self::VariantsFull => "VARIANTS_FULL",
            Self::UnprovenFull => "UNPROVEN_FULL",
        }
    }
}
