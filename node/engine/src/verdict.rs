//! The results of single objects and requests as they cross a link.
//!
//! 0 is "stored, or known already"; everything else is 1 + a NAK code. The codes up to 0x000A are
//! those of the Golix wire reference, 11.2; from 0x0100 on they are ours.

/// Stored, or known already.
pub const STORED: u32 = 0;
/// No room now: come again later.
pub const FULL: u32 = 1;
/// Not a Golix object.
pub const MALFORMED: u32 = 1 + 0x0001;
/// The signature does not fit.
pub const NOT_VERIFIED: u32 = 1 + 0x0002;
/// The author is unknown.
pub const UNKNOWN_AUTHOR: u32 = 1 + 0x0003;
/// A container that nothing binds, or a frame whose container is missing.
pub const UNBOUND: u32 = 1 + 0x0004;
/// Its owner debound it.
pub const DEBOUND: u32 = 1 + 0x0005;
/// A frame that is not newer than what is stored.
pub const OLD_FRAME: u32 = 1 + 0x0009;
/// A node stores what its user follows; this is nothing of it.
pub const UNWANTED: u32 = 1 + 0x000A;
/// The owner of the object has stored as much as it may.
pub const QUOTA: u32 = 1 + 0x0100;
/// Only registered identities may publish here.
pub const NOT_REGISTERED: u32 = 1 + 0x0101;
/// The operator does not want this identity here.
pub const BANNED: u32 = 1 + 0x0102;
/// The disk is full; only deletions are taken.
pub const DISK_FULL: u32 = 1 + 0x0103;
/// Too much of this in a short time.
pub const TOO_FAST: u32 = 1 + 0x0104;
/// Registration: the link proved no identity.
pub const NOT_PROVED: u32 = 1 + 0x0105;
/// Registration: it takes a token here.
pub const TOKEN_NEEDED: u32 = 1 + 0x0106;
/// Registration: this token is none, or was used before.
pub const TOKEN_WRONG: u32 = 1 + 0x0107;
/// What was asked is not done here.
pub const NOT_HERE: u32 = 1 + 0x0108;

/// Whether the same may succeed later without anything being done about it.
pub fn is_temporary(result: u32) -> bool {
    matches!(result, FULL | DISK_FULL | TOO_FAST)
}

/// A result in words, for people.
pub fn describe(result: u32) -> &'static str {
    match result {
        STORED => "stored",
        FULL => "no room now",
        MALFORMED => "not a Golix object",
        NOT_VERIFIED => "the signature does not fit",
        UNKNOWN_AUTHOR => "the author is unknown",
        UNBOUND => "nothing binds it",
        DEBOUND => "its owner deleted it",
        OLD_FRAME => "a newer state is stored",
        UNWANTED => "not wanted",
        QUOTA => "the quota is used up; delete something, or register to store more",
        NOT_REGISTERED => {
            "only registered users may publish there; register with 'hypergolix config --register'"
        }
        BANNED => "the operator has banned this user",
        DISK_FULL => "the server's disk is full",
        TOO_FAST => "too much in a short time",
        NOT_PROVED => "the link proved no identity",
        TOKEN_NEEDED => {
            "a token of the operator is needed: 'hypergolix config --register --token TOKEN'"
        }
        TOKEN_WRONG => "the token is wrong, or was used before",
        NOT_HERE => "that is not done there",
        _ => "refused by a rule of Golix",
    }
}
