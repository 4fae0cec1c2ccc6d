//! GDXX: a binder lets go.
//!
//! ```text
//! GDXX 4 | version 4 | suite 1 | debinder 65 | target 65
//!      | address algorithm 1 | file hash 64 | signature
//! ```
//!
//! 716 bytes in suite 1, 268 in suite 3.

use super::{DecodeError, Kind, Object, Verified, pair_address};
use crate::codec::{HEAD_LEN, Reader, Writer};
use crate::suite::Layout;
use crate::{Ghid, Signer, Suite};

/// A debinding: takes back a binding, a debinding or a request, and keeps it from coming back.
///
/// There is no nonce: the same debinder and target always give the same address. Golix wire reference,
/// section 7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debinding {
    suite: Suite,
    debinder: Ghid,
    target: Ghid,
    ghid: Ghid,
}

impl Debinding {
    /// Takes back `target`, which must be mine (or a request to me) to have any effect.
    #[must_use]
    pub fn make(me: &dyn Signer, target: Ghid) -> Verified {
        let (suite, debinder) = (me.identity().suite(), me.identity().ghid());
        let mut writer = Writer::object(Kind::Debinding, suite, Self::len(suite.layout()));
        writer.ghid(&debinder);
        writer.ghid(&target);
        let (ghid, bytes) = writer.sign(me);
        Verified::made(Object::Debinding(Self { suite, debinder, target, ghid }), bytes)
    }

    /// The address of `debinder`'s debinding of `target`; there is only one.
    #[must_use]
    pub fn address_of(suite: Suite, debinder: &Ghid, target: &Ghid) -> Ghid {
        pair_address(Kind::Debinding, suite, debinder, target)
    }

    fn len(layout: &Layout) -> usize {
        HEAD_LEN + 3 * Ghid::LEN + layout.signature_len
    }

    pub(super) fn decode(mut reader: Reader<'_>, suite: Suite) -> Result<Self, DecodeError> {
        reader.expect_len(Self::len(suite.layout()))?;
        let debinder = reader.ghid()?;
        let target = reader.ghid()?;
        let ghid = reader.own_ghid()?;
        Ok(Self { suite, debinder, target, ghid })
    }

    /// Who takes it back.
    #[must_use]
    pub fn debinder(&self) -> Ghid {
        self.debinder
    }

    /// What it takes back: a GOBS, GDXX or GARQ by its address, a GOBD by its dynamic address.
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
