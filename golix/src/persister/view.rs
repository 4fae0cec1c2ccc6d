//! `View`: the questions the rules may ask of stored state.

use crate::object::Kind;
use crate::{Ghid, Suite};

use super::frames::Head;
use super::limits;
use super::plan::Pending;

/// Read access to a persister's state: a memory map, or a transaction of a store.
///
/// Every answer is of one moment, with all plans applied so far. A view holds the rows that
/// [`Change`](super::Change) writes and nothing else; it decides nothing.
pub trait View {
    /// The store cannot be read.
    type Error;

    /// What is stored under an object's own address (a frame under its frame address; of several
    /// requests with one address, all but the first under a [`variant_address`](super::variant_address)).
    ///
    /// # Errors
    /// The store cannot be read.
    fn object(&self, ghid: &Ghid) -> Result<Option<Stored>, Self::Error>;

    /// The head of a dynamic address.
    ///
    /// # Errors
    /// The store cannot be read.
    fn head(&self, dynamic: &Ghid) -> Result<Option<Head>, Self::Error>;

    /// Who holds `target`: static bindings by their own address, dynamic bindings by their dynamic
    /// address; ascending, the first `limit` of those larger than `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn holders(
        &self,
        target: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, Self::Error>;

    /// The stored debindings of `target`, proven and unproven; ascending, the first `limit` of
    /// those larger than `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn debindings(
        &self,
        target: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, Self::Error>;

    /// The newest frame ever accepted of a dynamic address, also after its deletion. While there is a
    /// head this is [`Head::mark`], so a row is needed only when the head goes.
    ///
    /// # Errors
    /// The store cannot be read.
    fn high_water(&self, dynamic: &Ghid) -> Result<Option<Mark>, Self::Error>;

    /// The requests that wait for `recipient`, by the keys of their rows; ascending, the first `limit` of those larger than
    /// `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn requests(
        &self,
        recipient: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, Self::Error>;

    /// How many unproven debindings ([`Pending::Unproven`]) of `debinder` are stored; counting may
    /// stop at `limit`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn unproven(&self, debinder: &Ghid, limit: usize) -> Result<usize, Self::Error>;

    /// Work left over by earlier plans ([`Pending::is_work`]), the first `limit` rows in key order.
    ///
    /// # Errors
    /// The store cannot be read.
    fn pending(&self, limit: usize) -> Result<Vec<Pending>, Self::Error>;

    /// How many unproven debindings `debinder` may have here. A node raises it for the identities it
    /// trusts, because their debindings arrive by replication long after the targets are gone.
    fn unproven_max(&self, debinder: &Ghid) -> usize {
        let _ = debinder;
        limits::UNPROVEN_MAX
    }
}

/// A place in the order of frames: by counter, then by frame address, the larger one newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HighWater {
    /// The frame's counter.
    pub counter: u64,
    /// The frame's address.
    pub frame: Ghid,
}

/// The newest frame ever accepted of a dynamic address, and what is known of who owns that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The newest frame ever accepted.
    pub newest: HighWater,
    /// Whose frames those were.
    pub owner: Owner,
}

/// What is known of the owner of a dynamic address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Every frame proves it (suite 3).
    Proven,
    /// It was proven by this birth target; not every frame repeats the proof (suite 1).
    Birth(Ghid),
    /// Nothing was ever proven: this binder came first (suite 1).
    Unproven(Ghid),
}

impl Mark {
    /// Bytes of the shortest stored form.
    const SHORT_LEN: usize = 8 + Ghid::LEN;
    const UNPROVEN: u8 = 0;
    const BIRTH: u8 = 1;

    /// The stored form: `counter 8 | frame 65`, big-endian, 73 bytes; unless every frame proves its
    /// owner, `00 | binder 65` (unproven) or `01 | birth target 65` follows, 139 bytes in all.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SHORT_LEN + 1 + Ghid::LEN);
        bytes.extend_from_slice(&self.newest.counter.to_be_bytes());
        bytes.extend_from_slice(self.newest.frame.as_bytes());
        let (kind, ghid) = match &self.owner {
            Owner::Proven => return bytes,
            Owner::Birth(birth) => (Self::BIRTH, birth),
            Owner::Unproven(binder) => (Self::UNPROVEN, binder),
        };
        bytes.push(kind);
        bytes.extend_from_slice(ghid.as_bytes());
        bytes
    }

    /// Reads the stored form; `None` if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (counter, rest) = bytes.split_first_chunk::<8>()?;
        let (frame, rest) = rest.split_first_chunk::<{ Ghid::LEN }>()?;
        let owner = match rest.split_first() {
            None => Owner::Proven,
            Some((&Self::BIRTH, birth)) => Owner::Birth(Ghid::from_bytes(birth).ok()?),
            Some((&Self::UNPROVEN, binder)) => Owner::Unproven(Ghid::from_bytes(binder).ok()?),
            Some(_) => return None,
        };
        let frame = Ghid::from_bytes(frame).ok()?;
        let newest = HighWater { counter: u64::from_be_bytes(*counter), frame };
        Some(Self { newest, owner })
    }
}

/// What the rules need to know of a stored object, without its payload, keys and signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// GIDC.
    Identity {
        /// Its suite: of all that it signs, and of requests to it.
        suite: Suite,
    },
    /// GEOC.
    Container {
        /// Who signed it.
        author: Ghid,
    },
    /// GOBS.
    StaticBinding {
        /// Who binds.
        binder: Ghid,
        /// What is bound: a container, or a dynamic address.
        target: Ghid,
    },
    /// GOBD, one frame.
    Frame {
        /// Who binds.
        binder: Ghid,
        /// Its counter.
        counter: u64,
        /// What it binds: the first of the target vector.
        target: Ghid,
        /// The binding's address.
        dynamic: Ghid,
    },
    /// GDXX.
    Debinding {
        /// Who lets go.
        debinder: Ghid,
        /// Of what.
        target: Ghid,
    },
    /// GARQ.
    Request {
        /// Whom it is for.
        recipient: Ghid,
        /// Its last 64 bytes, which are no part of its address: in suite 1 a MAC that only the
        /// recipient can check.
        authenticator: [u8; 64],
    },
}

impl Stored {
    /// Reads the outer fields of a packed object that was verified before it was stored; a few
    /// fixed offsets, the same in every suite (Golix wire reference, sections 3 to 8), no hashing.
    ///
    /// `None` if the bytes are no Golix object. Never use it on bytes from outside.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let magic = bytes.first_chunk::<4>()?;
        let ghid_at = |at: usize| {
            let end = at.checked_add(Ghid::LEN)?;
            Ghid::from_bytes(bytes.get(at..end)?).ok()
        };
        match magic {
            b"GIDC" => Some(Self::Identity { suite: Suite::from_code(*bytes.get(8)?)? }),
            b"GEOC" => Some(Self::Container { author: ghid_at(9)? }),
            b"GOBS" => Some(Self::StaticBinding { binder: ghid_at(9)?, target: ghid_at(74)? }),
            b"GDXX" => Some(Self::Debinding { debinder: ghid_at(9)?, target: ghid_at(74)? }),
            b"GARQ" => {
                let authenticator = *bytes.get(651..)?.first_chunk()?;
                Some(Self::Request { recipient: ghid_at(9)?, authenticator })
            }
            b"GOBD" => {
                let counter = u64::from_be_bytes(*bytes.get(74..)?.first_chunk()?);
                let length = u16::from_be_bytes(*bytes.get(82..)?.first_chunk()?);
                Some(Self::Frame {
                    binder: ghid_at(9)?,
                    counter,
                    target: ghid_at(84)?,
                    dynamic: ghid_at(84 + usize::from(length))?,
                })
            }
            _ => None,
        }
    }

    /// Which of the six objects it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Identity { .. } => Kind::Identity,
            Self::Container { .. } => Kind::Container,
            Self::StaticBinding { .. } => Kind::StaticBinding,
            Self::Frame { .. } => Kind::DynamicBinding,
            Self::Debinding { .. } => Kind::Debinding,
            Self::Request { .. } => Kind::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_their_stored_form() {
        let newest = HighWater { counter: u64::MAX, frame: Ghid::of(b"frame") };
        assert!(newest > HighWater { counter: 0, ..newest });
        let other = Ghid::of(b"other");
        for owner in [Owner::Proven, Owner::Birth(other), Owner::Unproven(other)] {
            let mark = Mark { newest, owner };
            let bytes = mark.encode();
            assert_eq!(bytes.len(), if owner == Owner::Proven { 73 } else { 139 });
            assert_eq!(Mark::decode(&bytes), Some(mark));
            for len in (0..bytes.len()).filter(|len| *len != 73) {
                assert_eq!(Mark::decode(&bytes[..len]), None, "{len} bytes");
            }
            let long = [&bytes[..], &[0]].concat();
            assert_eq!(Mark::decode(&long), None);
        }
        let mut unknown = Mark { newest, owner: Owner::Birth(other) }.encode();
        unknown[73] = 2;
        assert_eq!(Mark::decode(&unknown), None);
    }

    #[test]
    fn other_bytes_are_no_object() {
        for magic in [b"GIDC", b"GEOC", b"GOBS", b"GOBD", b"GDXX", b"GARQ", b"XXXX"] {
            let mut bytes = magic.to_vec();
            assert_eq!(Stored::read(&bytes), None);
            bytes.resize(400, 0xff);
            assert_eq!(Stored::read(&bytes), None);
        }
        assert_eq!(Stored::read(&[]), None);
    }
}
