//! Reader and Writer: bounded big-endian fields; nothing may be left over.
//!
//! Every object has the same skeleton (Golix wire reference, section 0):
//!
//! ```text
//! magic 4 | version 4 | suite 1 | body | address algorithm 1 | file hash 64 | authenticator
//! ```
//!
//! The file hash is SHA-512 over everything before it; algorithm byte and hash together are the
//! object's own [`Ghid`]. The authenticator lies outside of it.

use std::sync::Arc;

use crate::object::{DecodeError, Kind};
use crate::{Ghid, Signer, Suite};

/// Bytes of magic, version and suite.
pub(crate) const HEAD_LEN: usize = 9;

/// Reads fields front to back from bytes somebody else wrote.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads magic, version and suite.
    pub(crate) fn head(&mut self) -> Result<(Kind, Suite), DecodeError> {
        let kind = self.array().ok().and_then(Kind::from_magic).ok_or(DecodeError::Magic)?;
        let version = self.u32()?;
        if version != kind.version() {
            return Err(DecodeError::Version(version));
        }
        let code = self.u8()?;
        let suite = Suite::from_code(code).ok_or(DecodeError::Suite(code))?;
        Ok((kind, suite))
    }

    /// The object must be `len` bytes long, all of it fixed.
    pub(crate) fn expect_len(&self, len: usize) -> Result<(), DecodeError> {
        match self.bytes.len().cmp(&len) {
            std::cmp::Ordering::Less => Err(DecodeError::Truncated),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(DecodeError::Trailing),
        }
    }

    /// The object must be `len` bytes long, where one of its own length fields says so.
    pub(crate) fn expect_stated_len(&self, len: usize) -> Result<(), DecodeError> {
        self.expect_len(len).map_err(|error| match error {
            DecodeError::Truncated => DecodeError::Length,
            other => other,
        })
    }

    /// The object must be at least `len` bytes long.
    pub(crate) fn expect_min(&self, len: usize) -> Result<(), DecodeError> {
        if self.bytes.len() < len { Err(DecodeError::Truncated) } else { Ok(()) }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(len).ok_or(DecodeError::Truncated)?;
        let field = self.bytes.get(self.at..end).ok_or(DecodeError::Truncated)?;
        self.at = end;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let field = self.take(N)?;
        Ok(field.try_into().expect("take returned N bytes"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// An address of something else.
    pub(crate) fn ghid(&mut self) -> Result<Ghid, DecodeError> {
        let field = self.take(Ghid::LEN)?;
        Ghid::from_bytes(field).map_err(|_| DecodeError::GhidAlgo(field[0]))
    }

    /// The object's own address: algorithm byte and file hash over all that was read so far.
    ///
    /// Call it last, when every size has been checked: it is the one expensive step of decoding.
    pub(crate) fn own_ghid(&mut self) -> Result<Ghid, DecodeError> {
        let algorithm = self.u8()?;
        if algorithm != 1 {
            return Err(DecodeError::AddrAlgo(algorithm));
        }
        let ghid = Ghid::of(&self.bytes[..self.at]);
        if ghid.as_bytes()[1..] == *self.take(64)? { Ok(ghid) } else { Err(DecodeError::Hash) }
    }

    /// Nothing may be left over.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Writes one object front to back.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts an object of `len` bytes with magic, version and suite.
    pub(crate) fn object(kind: Kind, suite: Suite, len: usize) -> Self {
        let mut writer = Self { bytes: Vec::with_capacity(len) };
        writer.put(&kind.magic());
        writer.put(&kind.version().to_be_bytes());
        writer.put(&[suite.code()]);
        writer
    }

    pub(crate) fn put(&mut self, field: &[u8]) {
        self.bytes.extend_from_slice(field);
    }

    pub(crate) fn ghid(&mut self, ghid: &Ghid) {
        self.put(ghid.as_bytes());
    }

    /// What was written so far, for steps that work in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends algorithm byte and file hash; returns the object's address.
    pub(crate) fn own_ghid(&mut self) -> Ghid {
        self.bytes.push(1);
        let ghid = Ghid::of(&self.bytes);
        self.put(&ghid.as_bytes()[1..]);
        ghid
    }

    /// Appends address and signature: the end of every signed object.
    pub(crate) fn sign(mut self, me: &dyn Signer) -> (Ghid, Arc<[u8]>) {
        let ghid = self.own_ghid();
        let signed_len = self.bytes.len();
        me.sign_object(&ghid, &mut self.bytes);
        let expected = signed_len + me.identity().suite().signature_len();
        assert_eq!(self.bytes.len(), expected, "a signer appends one signature of its suite");
        (ghid, self.finish())
    }

    pub(crate) fn finish(self) -> Arc<[u8]> {
        self.bytes.into()
    }
}
