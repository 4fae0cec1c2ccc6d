//! Kind: magic and current version number of the six kinds of object.

/// The six kinds of object; closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// GIDC: an identity's public keys.
    Identity,
    /// GEOC: an encrypted container.
    Container,
    /// GOBS: keeps a target alive.
    StaticBinding,
    /// GOBD: a frame of a dynamic address.
    DynamicBinding,
    /// GDXX: takes back a binding, debinding or request.
    Debinding,
    /// GARQ: a sealed message to a recipient.
    Request,
}

impl Kind {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Container,
        Self::StaticBinding,
        Self::DynamicBinding,
        Self::Debinding,
        Self::Request,
    ];

    /// The four bytes every object of this kind begins with.
    #[must_use]
    pub fn magic(self) -> [u8; 4] {
        match self {
            Self::Identity => *b"GIDC",
            Self::Container => *b"GEOC",
            Self::StaticBinding => *b"GOBS",
            Self::DynamicBinding => *b"GOBD",
            Self::Debinding => *b"GDXX",
            Self::Request => *b"GARQ",
        }
    }

    /// The one version that is read and written.
    #[must_use]
    pub fn version(self) -> u32 {
        match self {
            Self::Identity => 2,
            Self::Container => 14,
            Self::StaticBinding => 6,
            Self::DynamicBinding => 16,
            Self::Debinding => 9,
            Self::Request => 12,
        }
    }

    /// The kind that begins with these four bytes.
    #[must_use]
    pub fn from_magic(magic: [u8; 4]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.magic() == magic)
    }
}
