//! GARQ, outside: a sealed message to a recipient.
//!
//! ```text
//! GARQ 4 | version 4 | suite 1 | recipient 65 | box 512
//!      | address algorithm 1 | file hash 64 | outer 64
//! ```
//!
//! 715 bytes in suite 3. Nobody but the recipient sees who wrote it; in suite 3 the author's MAC lies
//! inside the box, and the outer field follows from the address, so that one request has exactly one
//! byte string.

use std::fmt;
use std::sync::Arc;

use super::{DecodeError, Kind, MakeError, Object, RequestBody, RequestError, Verified, handshake};
use crate::codec::{HEAD_LEN, Reader, Writer};
use crate::suite::{Layout, OpenedBox};
use crate::{Ghid, Identity, PrivateIdentity, Suite};

/// Bytes before the box.
const HEADER_LEN: usize = HEAD_LEN + Ghid::LEN;

/// A sealed message to a recipient. Golix wire reference, sections 8 and 16.4.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    suite: Suite,
    recipient: Ghid,
    ghid: Ghid,
    bytes: Arc<[u8]>,
}

impl Request {
    /// Seals `body` to `recipient`. `ephemeral` wants 32 random bytes for every request.
    ///
    /// # Errors
    /// [`MakeError::SuiteMismatch`], [`MakeError::PayloadTooLong`], [`MakeError::KeyAgreement`].
    pub fn seal(
        me: &PrivateIdentity,
        recipient: &Identity,
        body: &RequestBody,
        ephemeral: [u8; 32],
    ) -> Result<Verified, MakeError> {
        let suite = me.suite();
        if suite != recipient.suite() {
            return Err(MakeError::SuiteMismatch);
        }
        let author = me.ghid();
        let letter = handshake::encode(&author, body)
            .filter(|letter| letter.len() <= suite.layout().letter_len)
            .ok_or_else(|| MakeError::PayloadTooLong(body.payload_len()))?;
        let to = recipient.ghid();
        let mut writer = Writer::object(Kind::Request, suite, Self::len(suite.layout()));
        writer.ghid(&to);
        let parts = (&to, recipient.keys());
        me.keys().seal_request(&author, parts, &letter, ephemeral, writer.bytes_mut())?;
        let ghid = writer.own_ghid();
        writer.put(&suite.request_authenticator(&ghid));
        let bytes = writer.finish();
        let request = Self { suite, recipient: to, ghid, bytes: Arc::clone(&bytes) };
        Ok(Verified::made(Object::Request(request), bytes))
    }

    fn len(layout: &Layout) -> usize {
        HEADER_LEN + layout.sealed_len + Ghid::LEN + layout.request_authenticator_len
    }

    pub(super) fn decode(
        bytes: &[u8],
        mut reader: Reader<'_>,
        suite: Suite,
    ) -> Result<Self, DecodeError> {
        let layout = suite.layout();
        reader.expect_len(Self::len(layout))?;
        let recipient = reader.ghid()?;
        reader.take(layout.sealed_len)?;
        let ghid = reader.own_ghid()?;
        Ok(Self { suite, recipient, ghid, bytes: bytes.into() })
    }

    /// Whether the outer field follows from the address.
    pub(super) fn verify_outer(&self) -> bool {
        self.bytes.ends_with(&self.suite.request_authenticator(&self.ghid))
    }

    /// Opens it, if it is to me. Whom it names as author is not proven yet.
    ///
    /// # Errors
    /// [`RequestError`], for every reason alike.
    pub fn open(&self, me: &PrivateIdentity) -> Result<OpenedRequest, RequestError> {
        if self.recipient != me.ghid() || self.suite != me.suite() {
            return Err(RequestError);
        }
        let opened = me.keys().open_request(&self.recipient, &self.bytes, HEADER_LEN)?;
        let author = handshake::author(opened.letter()).ok_or(RequestError)?;
        Ok(OpenedRequest { suite: self.suite, recipient: self.recipient, author, opened })
    }

    /// To whom it is sealed.
    #[must_use]
    pub fn recipient(&self) -> Ghid {
        self.recipient
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

    pub(super) fn shared_bytes(&self) -> Arc<[u8]> {
        Arc::clone(&self.bytes)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("ghid", &self.ghid)
            .field("recipient", &self.recipient)
            .finish_non_exhaustive()
    }
}

/// A request opened by its recipient: it names an author, and its content waits for the proof.
pub struct OpenedRequest {
    suite: Suite,
    recipient: Ghid,
    author: Ghid,
    opened: OpenedBox,
}

impl OpenedRequest {
    /// Whom it names as author: look up that identity, then [`OpenedRequest::authenticate`].
    #[must_use]
    pub fn author(&self) -> Ghid {
        self.author
    }

    /// Proves the author and yields the content.
    ///
    /// # Errors
    /// [`RequestError`], for every reason alike.
    pub fn authenticate(
        self,
        me: &PrivateIdentity,
        author: &Identity,
    ) -> Result<RequestBody, RequestError> {
        let right = self.author == author.ghid()
            && self.recipient == me.ghid()
            && self.suite == author.suite();
        if !right {
            return Err(RequestError);
        }
        let parts = (&self.author, author.keys());
        self.opened.authenticate(me.keys(), &self.recipient, parts)?;
        handshake::decode(self.opened.letter()).ok_or(RequestError)
    }
}

impl fmt::Debug for OpenedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedRequest").field("author", &self.author).finish_non_exhaustive()
    }
}
