//! GARQ, inside: handshake, acknowledgement, refusal, arbitrary.
//!
//! The letter that a request seals:
//!
//! ```text
//! author 65 | kind 2 | LA 2 | payload LA | in suite 3 zeros to the end
//!
//! HS  target 65 | LK 1 = 53 | secret 53      LA = 119
//! AK  request 65 | status 4                  LA = 69
//! NK  request 65 | status 4                  LA = 69
//! 00 00  any bytes                           LA <= 313 in suite 1, 299 in suite 3
//! ```

use std::fmt;

use zeroize::Zeroizing;

use super::{DecodeError, RequestFault};
use crate::codec::Reader;
use crate::{Ghid, Secret};

const HANDSHAKE: [u8; 2] = *b"HS";
const ACK: [u8; 2] = *b"AK";
const NAK: [u8; 2] = *b"NK";
const ARBITRARY: [u8; 2] = [0, 0];

/// What a request says.
#[derive(Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// Shares an object.
    Handshake {
        /// The object: a container, or a dynamic address.
        target: Ghid,
        /// Its secret: the container's own, or [`ChainKey::to_handshake`](crate::ChainKey).
        secret: Secret,
    },
    /// Accepts a request.
    Ack {
        /// The request answered (not what it was about).
        request: Ghid,
        /// Up to the applications; 0 if there is nothing to say.
        status: u32,
    },
    /// Refuses a request.
    Nak {
        /// The request answered (not what it was about).
        request: Ghid,
        /// Up to the applications; 0 if there is nothing to say.
        status: u32,
    },
    /// Anything else, at most
    /// [`request_payload_max`](crate::Suite::request_payload_max) bytes of the recipient's suite.
    Arbitrary(Vec<u8>),
}

impl RequestBody {
    /// Bytes of payload.
    pub(super) fn payload_len(&self) -> usize {
        match self {
            Self::Handshake { .. } => Ghid::LEN + 1 + Secret::LEN,
            Self::Ack { .. } | Self::Nak { .. } => Ghid::LEN + 4,
            Self::Arbitrary(payload) => payload.len(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake { target, .. } => {
                f.debug_struct("Handshake").field("target", target).finish_non_exhaustive()
            }
            Self::Ack { request, status } => {
                f.debug_struct("Ack").field("request", request).field("status", status).finish()
            }
            Self::Nak { request, status } => {
                f.debug_struct("Nak").field("request", request).field("status", status).finish()
            }
            Self::Arbitrary(payload) => write!(f, "Arbitrary({} bytes)", payload.len()),
        }
    }
}

/// The letter without its padding; `None` if the payload is longer than its length field can say.
pub(super) fn encode(author: &Ghid, body: &RequestBody) -> Option<Zeroizing<Vec<u8>>> {
    let payload_len = u16::try_from(body.payload_len()).ok()?;
    let mut letter = Zeroizing::new(Vec::with_capacity(69 + usize::from(payload_len)));
    letter.extend_from_slice(author.as_bytes());
    letter.extend_from_slice(match body {
        RequestBody::Handshake { .. } => &HANDSHAKE,
        RequestBody::Ack { .. } => &ACK,
        RequestBody::Nak { .. } => &NAK,
        RequestBody::Arbitrary(_) => &ARBITRARY,
    });
    letter.extend_from_slice(&payload_len.to_be_bytes());
    match body {
        RequestBody::Handshake { target, secret } => {
            letter.extend_from_slice(target.as_bytes());
            letter.push(Secret::LEN as u8);
            letter.extend_from_slice(&*Zeroizing::new(secret.to_bytes()));
        }
        RequestBody::Ack { request, status } | RequestBody::Nak { request, status } => {
            letter.extend_from_slice(request.as_bytes());
            letter.extend_from_slice(&status.to_be_bytes());
        }
        RequestBody::Arbitrary(payload) => letter.extend_from_slice(payload),
    }
    Some(letter)
}

/// Whom a letter names as its author.
pub(super) fn author(letter: &[u8]) -> Result<Ghid, RequestFault> {
    Reader::new(letter).ghid().map_err(fault)
}

/// Reads a letter: every length exact, all padding zero, and padding only where it is allowed.
pub(super) fn decode(letter: &[u8], padded: bool) -> Result<RequestBody, RequestFault> {
    let mut reader = Reader::new(letter);
    reader.ghid().map_err(fault)?;
    let kind: [u8; 2] = reader.array().map_err(fault)?;
    let payload_len = usize::from(reader.u16().map_err(fault)?);
    let payload = reader.take(payload_len).map_err(fault)?;
    let padding = &letter[69 + payload_len..];
    if padding.iter().any(|&byte| byte != 0) || !padded && !padding.is_empty() {
        return Err(RequestFault::InnerLength);
    }
    let mut reader = Reader::new(payload);
    match kind {
        HANDSHAKE => {
            let target = reader.ghid().map_err(fault)?;
            let secret_len = usize::from(reader.u8().map_err(fault)?);
            let secret = reader.take(secret_len).map_err(fault)?;
            reader.finish().map_err(fault)?;
            let secret = Secret::from_bytes(secret).map_err(|_| RequestFault::Secret)?;
            Ok(RequestBody::Handshake { target, secret })
        }
        ACK | NAK => {
            let request = reader.ghid().map_err(fault)?;
            let status = reader.u32().map_err(fault)?;
            reader.finish().map_err(fault)?;
            Ok(if kind == ACK {
                RequestBody::Ack { request, status }
            } else {
                RequestBody::Nak { request, status }
            })
        }
        ARBITRARY => Ok(RequestBody::Arbitrary(payload.to_vec())),
        _ => Err(RequestFault::InnerKind),
    }
}

/// What the reader did not like: an address, or else some length.
fn fault(error: DecodeError) -> RequestFault {
    match error {
        DecodeError::GhidAlgo(_) => RequestFault::InnerGhid,
        _ => RequestFault::InnerLength,
    }
}
