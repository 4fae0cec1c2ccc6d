//! `View`: the questions the rules may ask of stored state.

use crate::Ghid;
use crate::object::Kind;

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

    /// What is stored under an object's own address (a frame under its frame address).
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

    /// The newest frame ever accepted of a dynamic address, also after its deletion.
    ///
    /// # Errors
    /// The store cannot be read.
    fn high_water(&self, dynamic: &Ghid) -> Result<Option<HighWater>, Self::Error>;

    /// The requests that wait for `recipient`; ascending, the first `limit` of those larger than
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

/// The newest frame ever accepted of a dynamic address.
///
/// Ordered as frames are: by counter, then by frame address, the larger one newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HighWater {
    /// Its counter.
    pub counter: u64,
    /// Its frame address.
    pub frame: Ghid,
}

impl HighWater {
    /// Bytes of the stored form: counter (8, big-endian), frame address (65).
    pub const LEN: usize = 8 + Ghid::LEN;

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.counter.to_be_bytes());
        bytes[8..].copy_from_slice(self.frame.as_bytes());
        bytes
    }

    /// Reads the stored form; `None` if it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (counter, frame) = bytes.split_first_chunk::<8>()?;
        let frame = Ghid::from_bytes(frame).ok()?;
        Some(Self { counter: u64::from_be_bytes(*counter), frame })
    }
}

/// What the rules need to know of a stored object, without its payload, keys and signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    /// GIDC.
    Identity,
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
            b"GIDC" => Some(Self::Identity),
            b"GEOC" => Some(Self::Container { author: ghid_at(9)? }),
            b"GOBS" => Some(Self::StaticBinding { binder: ghid_at(9)?, target: ghid_at(74)? }),
            b"GDXX" => Some(Self::Debinding { debinder: ghid_at(9)?, target: ghid_at(74)? }),
            b"GARQ" => Some(Self::Request { recipient: ghid_at(9)? }),
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
            Self::Identity => Kind::Identity,
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
    fn high_water_survives_its_stored_form() {
        let newest = HighWater { counter: u64::MAX, frame: Ghid::of(b"frame") };
        let bytes = newest.encode();
        assert_eq!(HighWater::decode(&bytes), Some(newest));
        assert_eq!(HighWater::decode(&bytes[1..]), None);
        assert!(newest > HighWater { counter: 0, ..newest });
    }

    #[test]
    fn other_bytes_are_no_object() {
        for magic in [b"GEOC", b"GOBS", b"GOBD", b"GDXX", b"GARQ", b"XXXX"] {
            let mut bytes = magic.to_vec();
            assert_eq!(Stored::read(&bytes), None);
            bytes.resize(400, 0xff);
            assert_eq!(Stored::read(&bytes), None);
        }
        assert_eq!(Stored::read(&[]), None);
    }
}
