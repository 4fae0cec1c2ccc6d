//! GOBS: a binder holds a target.
//!
//! ```text
//! GOBS 4 | version 4 | suite 1 | binder 65 | target 65
//!      | address algorithm 1 | file hash 64 | signature
//! ```
//!
//! 716 bytes in suite 1, 268 in suite 3.

use super::{DecodeError, Kind, Object, Verified, pair_address};
use crate::codec::{HEAD_LEN, Reader, Writer};
use crate::suite::Layout;
use crate::{Ghid, Signer, Suite};

/// A static binding: as long as it stands, its target is kept.
///
/// There is no nonce: the same binder and target always give the same address. Golix wire reference,
/// section 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticBinding {
    suite: Suite,
    binder: Ghid,
    target: Ghid,
    ghid: Ghid,
}

impl StaticBinding {
    /// Binds `target`.
    #[must_use]
    pub fn make(me: &dyn Signer, target: Ghid) -> Verified {
        let (suite, binder) = (me.identity().suite(), me.identity().ghid());
        let mut writer = Writer::object(Kind::StaticBinding, suite, Self::len(suite.layout()));
        writer.ghid(&binder);
        writer.ghid(&target);
        let (ghid, bytes) = writer.sign(me);
        Verified::made(Object::StaticBinding(Self { suite, binder, target, ghid }), bytes)
    }

    /// The address of `binder`'s binding of `target`; there is only one.
    #[must_use]
    pub fn address_of(suite: Suite, binder: &Ghid, target: &Ghid) -> Ghid {
        pair_address(Kind::StaticBinding, suite, binder, target)
    }

    fn len(layout: &Layout) -> usize {
        HEAD_LEN + 3 * Ghid::LEN + layout.signature_len
    }

    pub(super) fn decode(mut reader: Reader<'_>, suite: Suite) -> Result<Self, DecodeError> {
        reader.expect_len(Self::len(suite.layout()))?;
        let binder = reader.ghid()?;
        let target = reader.ghid()?;
        let ghid = reader.own_ghid()?;
        Ok(Self { suite, binder, target, ghid })
    }

    /// Who binds, and alone may debind it.
    #[must_use]
    pub fn binder(&self) -> Ghid {
        self.binder
    }

    /// What it holds: a container, or the dynamic address of a binding.
    #[must_use]
    pub fn target(&self) -> Ghid {
        self.target
    }

    /// Its own address.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.ghid
    }

    /// Its suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }
}
