//! GARQ, outside: a sealed message to a recipient.
//!
//! ```text
//! GARQ 4 | version 4 | suite 1 | recipient 65 | box 512
//!      | address algorithm 1 | file hash 64 | outer 64
//! ```
//!
//! 715 bytes in both suites. Nobody but the recipient sees who wrote it. In suite 1 the outer field is
//! the author's MAC, which nobody else can check, so there may be many requests of one address, and at
//! most one of them is true. In suite 3 the MAC lies inside the box, and the outer field follows from
//! the address, so that one request has exactly one byte string.
//!
//! A request has the suite of its recipient; its author may be of another one, since the MAC needs no
//! more than an X25519 key of each.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    DecodeError, Kind, MakeError, Object, RequestBody, RequestError, RequestFault, Verified,
    handshake,
};
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
    /// Seals `body` to `recipient`, in the suite of the recipient. `randomness` wants 64 random bytes
    /// for every request: the seed of OAEP in suite 1; in suite 3 the first 32 are the ephemeral key.
    ///
    /// # Errors
    /// [`MakeError::PayloadTooLong`], [`MakeError::KeyAgreement`].
    pub fn seal(
        me: &PrivateIdentity,
        recipient: &Identity,
        body: &RequestBody,
        randomness: [u8; 64],
    ) -> Result<Verified, MakeError> {
        let suite = recipient.suite();
        let author = me.ghid();
        let letter = handshake::encode(&author, body)
            .filter(|letter| letter.len() <= suite.layout().letter_len)
            .ok_or_else(|| MakeError::PayloadTooLong(body.payload_len()))?;
        let to = recipient.ghid();
        let mut writer = Writer::object(Kind::Request, suite, Self::len(suite.layout()));
        writer.ghid(&to);
        let parts = (&to, recipient.keys());
        let randomness = Zeroizing::new(randomness);
        let authenticator =
            me.keys().seal_request(&author, parts, &letter, &randomness, writer.bytes_mut())?;
        let ghid = writer.own_ghid();
        writer.put(&authenticator.of(&ghid));
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

    /// Whether the outer field is as far as anyone can tell the right one.
    pub(super) fn verify_outer(&self) -> bool {
        self.suite.request_outer(&self.ghid).is_none_or(|outer| self.bytes.ends_with(&outer))
    }

    /// Opens it, if it is to me. Whom it names as author is not proven yet.
    ///
    /// # Errors
    /// [`RequestError`], for every reason alike.
    pub fn open(&self, me: &PrivateIdentity) -> Result<OpenedRequest, RequestError> {
        self.try_open(me).map_err(|_| RequestError)
    }

    fn try_open(&self, me: &PrivateIdentity) -> Result<OpenedRequest, RequestFault> {
        if self.recipient != me.ghid() || self.suite != me.suite() {
            return Err(RequestFault::Recipient);
        }
        let opened = me.keys().open_request(&self.recipient, &self.bytes, HEADER_LEN)?;
        let author = handshake::author(opened.letter())?;
        Ok(OpenedRequest { suite: self.suite, recipient: self.recipient, author, opened })
    }

    /// Opens and authenticates in one, and says what is wrong. For tests, and for people who look for
    /// a fault of their own: what it says must not change anything that others can see.
    ///
    /// # Errors
    /// The first step of the specified order that fails; `known` looks an identity up.
    pub fn examine(
        &self,
        me: &PrivateIdentity,
        known: impl FnOnce(&Ghid) -> Option<Identity>,
    ) -> Result<RequestBody, RequestFault> {
        let opened = self.try_open(me)?;
        let body = handshake::decode(opened.opened.letter(), self.suite.pads_letters())?;
        let author = known(&opened.author).ok_or(RequestFault::Author)?;
        opened.prove(me, &author)?;
        Ok(body)
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

    /// What follows the address: the last 64 bytes.
    pub(crate) fn authenticator(&self) -> [u8; 64] {
        *self.bytes.last_chunk().expect("checked when read: 715 bytes")
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
        self.prove(me, author).map_err(|_| RequestError)?;
        handshake::decode(self.opened.letter(), self.suite.pads_letters()).map_err(|_| RequestError)
    }

    fn prove(&self, me: &PrivateIdentity, author: &Identity) -> Result<(), RequestFault> {
        if self.recipient != me.ghid() {
            return Err(RequestFault::Recipient);
        }
        if self.author != author.ghid() {
            return Err(RequestFault::Author);
        }
        self.opened.authenticate(me.keys(), &self.recipient, (&self.author, author.keys()))
    }
}

impl fmt::Debug for OpenedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedRequest").field("author", &self.author).finish_non_exhaustive()
    }
}
