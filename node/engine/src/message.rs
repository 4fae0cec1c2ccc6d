//! The link protocol: what two devices say to each other, and its bytes (CBOR).

use cbor4ii::core::dec::Read as _;
use cbor4ii::core::utils::SliceReader;
use cbor4ii::serde::Deserializer;
use golix::Ghid;
use serde::{Deserialize, Serialize};

use crate::route::ROUTE_MAX;

/// Longest encoded message, bytes: the largest state (10 MiB) in its container, its frame, the
/// identity of its author and the envelope.
pub const MESSAGE_MAX: usize = 11 * 1024 * 1024;

/// Objects in one message.
pub const OBJECTS_MAX: usize = 64;

/// Addresses, tags or ids in one message.
pub const LIST_MAX: usize = 1_024;

/// Longest network key of a device, bytes.
pub const DEVICE_MAX: usize = 64;

/// A place in another device's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Drawn when the feed was begun; another epoch means that the numbers mean nothing.
    pub epoch: u64,
    /// The last change seen.
    pub seq: u64,
}

/// A place in no feed: nothing is told of what was before.
pub(crate) const NOWHERE: Cursor = Cursor { epoch: 0, seq: 0 };

/// The version of the link protocol.
pub const VERSION: u16 = 2;

/// Longest token of a registration, bytes.
pub const TOKEN_MAX: usize = 128;

/// What a device does for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It belongs to a user, and stores what they follow, made or hold.
    Node,
    /// It stores what the rules admit, for everybody.
    Persister {
        /// The epoch of its feed. Another one than before: it has lost what it held.
        epoch: u64,
    },
}

/// A packed Golix object.
pub type Packed = serde_bytes::ByteBuf;

/// One message of the link protocol. Closed; an unknown one is a decode error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// First message of each side.
    Hello {
        /// Version of this protocol: [`VERSION`].
        version: u16,
        /// Fresh random bytes; both nonces together blind everything that follows.
        nonce: [u8; 32],
        /// What the sender is.
        role: Role,
    },
    /// Identities that the sender would like to find, blinded with both nonces. Sent again as
    /// new ones come up.
    Interests {
        /// `SHA-512(label | nonces | address)[..16]` each.
        tags: Vec<[u8; 16]>,
    },
    /// "I am the identity that you asked for" (a persister asks for everybody): its GIDC, and its signature over both nonces and
    /// both device keys.
    Proof {
        /// The packed GIDC.
        identity: Packed,
        /// As long as its suite's signatures are.
        signature: Packed,
    },
    /// Objects for the receiver to store. Answered by `Published` once they are durable.
    Publish {
        /// Names the answer.
        id: u32,
        /// Packed objects, in the order in which they have to be admitted.
        objects: Vec<Packed>,
    },
    /// Answers `Publish`.
    Published {
        /// The request's number.
        id: u32,
        /// For each object 0 (stored, or known already), or 1 + the persister's NAK code; see
        /// [`verdict`](crate::verdict).
        results: Vec<u32>,
    },
    /// Asks for one object, or for everything that makes a dynamic address readable.
    Get {
        /// Names the answer.
        id: u32,
        /// Any address.
        address: Address,
    },
    /// Answers `Get`.
    Object {
        /// The request's number.
        id: u32,
        /// Empty: not here.
        objects: Vec<Packed>,
    },
    /// "Tell me of these addresses": first what changed after the cursor, then every change.
    Subscribe {
        /// Addresses to add.
        addresses: Vec<Address>,
        /// Where the subscriber stands in this device's feed, if it was here before.
        cursor: Option<Cursor>,
    },
    /// "No longer these."
    Unsubscribe {
        /// Addresses to remove.
        addresses: Vec<Address>,
    },
    /// "Tell me of everything": one persister mirrors another.
    Mirror {
        /// Where the mirror stands in this device's feed, if it was here before.
        cursor: Option<Cursor>,
    },
    /// "Tell me of whatever the identities change that this link proved": what another device of an
    /// account does. Answered by `Following`.
    Own {
        /// Where the sender stands in this device's feed, if it was here before.
        cursor: Option<Cursor>,
    },
    /// Answers `Own`; and again when the place moves on without events, because what changed was the
    /// receiver's own, or told already.
    Following {
        /// The place in the feed behind which every such change is told.
        cursor: Cursor,
    },
    /// Asks for the addresses that an identity binds, which this link proved; in ascending order.
    /// Answered by `Addresses`.
    Owned {
        /// Names the answer.
        id: u32,
        /// Whose.
        identity: Address,
        /// The last one of the answer before.
        after: Option<Address>,
    },
    /// Asks for the subscriptions of this link, in ascending order. Answered by `Addresses`.
    Subscriptions {
        /// Names the answer.
        id: u32,
        /// The last one of the answer before.
        after: Option<Address>,
    },
    /// Asks who holds an address. Answered by `Addresses`: static bindings by their own addresses,
    /// then dynamic ones by theirs; those of the target's author first in either group.
    Bindings {
        /// Names the answer.
        id: u32,
        /// What is held.
        address: Address,
    },
    /// Asks for the debindings of an address. Answered by `Addresses`.
    Debindings {
        /// Names the answer.
        id: u32,
        /// What is debound.
        address: Address,
    },
    /// Answers `Subscriptions`, `Bindings`, `Debindings` and `Owned`.
    Addresses {
        /// The request's number.
        id: u32,
        /// Addresses, at most [`LIST_MAX`].
        addresses: Vec<Address>,
        /// Whether there are more.
        more: bool,
    },
    /// Asks which addresses are known. Answered by `Existing`.
    Exists {
        /// Names the answer.
        id: u32,
        /// Any addresses.
        addresses: Vec<Address>,
    },
    /// Answers `Exists`.
    Existing {
        /// The request's number.
        id: u32,
        /// One answer an address, in their order.
        exist: Vec<bool>,
    },
    /// Ends all subscriptions of this link. Answered by an empty `Addresses`.
    Disconnect {
        /// Names the answer.
        id: u32,
    },
    /// Asks a persister to let the identities that this link proved publish more.
    Register {
        /// Names the answer.
        id: u32,
        /// What its operator gave out.
        token: Option<String>,
    },
    /// Answers `Register`.
    Registered {
        /// The request's number.
        id: u32,
        /// 0, or why not: see [`verdict`](crate::verdict).
        result: u32,
    },
    /// The link is about to be ended, and why: see [`verdict`](crate::verdict).
    Refused {
        /// The reason.
        result: u32,
    },
    /// A change of a subscribed address: its newest state, never an older one.
    Event {
        /// Place in the sender's feed.
        cursor: Cursor,
        /// The address.
        address: Address,
        /// Packed objects, in the order in which they have to be admitted.
        objects: Vec<Packed>,
    },
    /// Everything up to this event is durable at the subscriber.
    EventAck {
        /// The event's sequence number.
        seq: u64,
    },
    /// Range-based set reconciliation over the heads of the subscribed addresses.
    Reconcile {
        /// A message of the `negentropy` protocol.
        body: Packed,
        /// Whether the sender is the subscriber of this exchange.
        subscriber: bool,
    },
    /// Item ids found missing by reconciliation.
    Need {
        /// 32 bytes each.
        ids: Vec<serde_bytes::ByteArray<32>>,
    },
    /// Asks a persister which devices of these identities are linked to it, now and from now on.
    /// Answered by any number of `Located`.
    Seek {
        /// Identities, beside those named before on this link.
        identities: Vec<Address>,
    },
    /// Devices that proved an identity which the receiver looks for.
    Located {
        /// Network keys: the bytes of a libp2p PeerId each.
        devices: Vec<Packed>,
    },
    /// Where the sender is to be found in future, and which persisters it uses. Kept by those who look
    /// for an identity that it proved on this link.
    Route {
        /// [`Route::encode`](crate::route::Route::encode) of the sending device.
        route: Packed,
    },
    /// Is anybody there?
    Ping {
        /// Comes back in `Pong`.
        id: u32,
    },
    /// Answers `Ping`.
    Pong {
        /// The ping's number.
        id: u32,
    },
}

/// A [`Ghid`] as it crosses a link: 65 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub Ghid);

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteArray::<{ Ghid::LEN }>::deserialize(deserializer)?;
        Ghid::from_bytes(bytes.as_slice()).map(Address).map_err(serde::de::Error::custom)
    }
}

/// Why bytes are not a [`Message`].
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MESSAGE_MAX`].
    #[error("a link message of {0} bytes is too long")]
    TooLong(usize),
    /// Not CBOR of a known message, or something left over.
    #[error("not a link message: {0}")]
    Malformed(String),
    /// More objects or addresses than allowed.
    #[error("a list in a link message is too long")]
    TooMany,
}

impl Message {
    /// Encodes to CBOR.
    pub fn encode(&self) -> Vec<u8> {
        cbor4ii::serde::to_vec(Vec::new(), self).expect("a message is plain data")
    }

    /// Decodes from CBOR; nothing may be left over.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(MessageError::TooLong(bytes.len()));
        }
        let malformed = |error: String| MessageError::Malformed(error);
        let mut decoder = Deserializer::new(SliceReader::new(bytes));
        let message =
            Self::deserialize(&mut decoder).map_err(|error| malformed(error.to_string()))?;
        let mut rest = decoder.into_inner();
        let left = rest.fill(1).map_err(|error| malformed(error.to_string()))?;
        if !left.as_ref().is_empty() {
            return Err(malformed("bytes are left over".into()));
        }
        let fits = match &message {
            Message::Publish { objects, .. }
            | Message::Object { objects, .. }
            | Message::Event { objects, .. } => objects.len() <= OBJECTS_MAX,
            Message::Published { results, .. } => results.len() <= OBJECTS_MAX,
            Message::Interests { tags } => tags.len() <= LIST_MAX,
            Message::Seek { identities } => identities.len() <= LIST_MAX,
            Message::Located { devices } => {
                devices.len() <= OBJECTS_MAX
                    && devices.iter().all(|device| device.len() <= DEVICE_MAX)
            }
            Message::Subscribe { addresses, .. }
            | Message::Unsubscribe { addresses }
            | Message::Addresses { addresses, .. }
            | Message::Exists { addresses, .. } => addresses.len() <= LIST_MAX,
            Message::Existing { exist, .. } => exist.len() <= LIST_MAX,
            Message::Register { token, .. } => {
                token.as_ref().is_none_or(|token| token.len() <= TOKEN_MAX)
            }
            Message::Route { route } => route.len() <= ROUTE_MAX,
            Message::Need { ids } => ids.len() <= LIST_MAX,
            Message::Mirror { .. }
            | Message::Own { .. }
            | Message::Following { .. }
            | Message::Owned { .. }
            | Message::Subscriptions { .. }
            | Message::Bindings { .. }
            | Message::Debindings { .. }
            | Message::Disconnect { .. }
            | Message::Registered { .. }
            | Message::Refused { .. }
            | Message::Hello { .. }
            | Message::Proof { .. }
            | Message::Get { .. }
            | Message::EventAck { .. }
            | Message::Reconcile { .. }
            | Message::Ping { .. }
            | Message::Pong { .. } => true,
        };
        if fits { Ok(message) } else { Err(MessageError::TooMany) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_left_over() {
        let mut bytes = Message::Ping { id: 7 }.encode();
        assert_eq!(Message::decode(&bytes).expect("whole"), Message::Ping { id: 7 });
        bytes.push(0);
        assert!(matches!(Message::decode(&bytes), Err(MessageError::Malformed(_))));
        assert!(Message::decode(&[]).is_err());
        let too_long = vec![0; MESSAGE_MAX + 1];
        assert!(matches!(Message::decode(&too_long), Err(MessageError::TooLong(_))));
        let long = Message::Route { route: Packed::from(vec![0; ROUTE_MAX + 1]) }.encode();
        assert!(matches!(Message::decode(&long), Err(MessageError::TooMany)));
        let many = Message::Interests { tags: vec![[0; 16]; LIST_MAX + 1] }.encode();
        assert!(matches!(Message::decode(&many), Err(MessageError::TooMany)));
    }
}
