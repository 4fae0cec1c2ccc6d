//! Handshakes between identities: what we offered and what was offered to us.
//!
//! A share travels as one bundle: the sender's identity, the sealed request, and the object as it
//! is now, so that the recipient takes all of it in one transaction. The request is made once and
//! kept until it is answered; a retry sends the same bytes.

mod inbox;
mod incoming;
mod outgoing;
mod promises;
mod revocation;

pub(crate) use inbox::{Inbox, brings_request};
pub(crate) use incoming::{Share, Shares};
pub(crate) use outgoing::Outbox;
pub(crate) use revocation::Epoch;
