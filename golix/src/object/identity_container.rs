//! GIDC: the public keys of an identity.
//!
//! ```text
//! GIDC 4 | version 4 | suite 1 | signature key | encryption key | exchange key
//!      | address algorithm 1 | file hash 64
//! ```
//!
//! 1130 bytes in suite 1 (two moduli of 512, one key of 32), 170 in suite 3 (three keys of 32). Unsigned; its address is what others name.

use super::{DecodeError, Kind};
use crate::codec::{HEAD_LEN, Reader, Writer};
use crate::suite::{Keys, Layout, PublicKeys};
use crate::{Ghid, Identity};

fn len(layout: &Layout) -> usize {
    HEAD_LEN
        + layout.signature_key_len
        + layout.encryption_key_len
        + layout.exchange_key_len
        + Ghid::LEN
}

/// Reads a GIDC: sizes, then hash, then keys.
pub(crate) fn decode(bytes: &[u8], keys: Keys) -> Result<Identity, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (kind, suite) = reader.head()?;
    if kind != Kind::Identity {
        return Err(DecodeError::Magic);
    }
    let layout = suite.layout();
    reader.expect_len(len(layout))?;
    let signature = reader.take(layout.signature_key_len)?;
    let encryption = reader.take(layout.encryption_key_len)?;
    let exchange = reader.take(layout.exchange_key_len)?;
    let ghid = reader.own_ghid()?;
    reader.finish()?;
    let keys = PublicKeys::decode(suite, signature, encryption, exchange, keys)?;
    Ok(Identity::new(ghid, keys))
}

/// Writes a GIDC.
pub(crate) fn encode(keys: &PublicKeys) -> (Ghid, Vec<u8>) {
    let suite = keys.suite();
    let mut writer = Writer::object(Kind::Identity, suite, len(suite.layout()));
    keys.encode(writer.bytes_mut());
    let ghid = writer.own_ghid();
    (ghid, std::mem::take(writer.bytes_mut()))
}
