//! Frames of the link protocol: `u32` big-endian length, then that many bytes of CBOR.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt};
use hypergolix_engine::message::{MESSAGE_MAX, Message, MessageError};
use libp2p::StreamProtocol;

use super::limits::{FRAME_GRACE, FRAME_RATE, READ_CHUNK};
use super::origin::Holding;

/// Name of the link protocol, version 1.
pub const LINK_PROTOCOL: StreamProtocol = StreamProtocol::new("/hypergolix/link/1");

/// Says on a connection that it is not for a link.
pub const NO_LINK_PROTOCOL: StreamProtocol = StreamProtocol::new("/hypergolix/no-link/1");

/// Bytes of the length prefix.
pub(super) const PREFIX_LEN: usize = 4;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum WireError {
    /// The stream broke. Nobody's fault.
    #[error("the stream broke: {0}")]
    Stream(#[from] std::io::Error),
    /// The sender stopped in the middle of a message.
    #[error("a message of {0} bytes came too slowly")]
    Stalled(usize),
    /// The sender is at fault: longer than any message, or not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The length prefix of an encoded message.
pub(super) fn prefix(body: &[u8]) -> [u8; PREFIX_LEN] {
    // At most MESSAGE_MAX; `Link::send` looked.
    (body.len() as u32).to_be_bytes()
}

/// Reads one message and the length of its encoding; `None` at the end of the stream.
///
/// Memory grows with what really arrives, never with what a prefix claims. Not cancel-safe.
///
/// # Errors
/// [`WireError`].
pub(super) async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
    holding: Option<&Holding>,
) -> Result<Option<(Message, usize)>, WireError> {
    let mut prefix = [0; PREFIX_LEN];
    if reader.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    within(FRAME_GRACE, 0, reader.read_exact(&mut prefix[1..])).await?;
    let len = u32::from_be_bytes(prefix) as usize;
    if len > MESSAGE_MAX {
        return Err(MessageError::TooLong(len).into());
    }
    let deadline = FRAME_GRACE + Duration::from_secs((len / FRAME_RATE) as u64);
    body.clear();
    within(deadline, len, async {
        let mut filled = 0;
        while filled < len {
            if filled == body.len() {
                let longer = len.min(filled + READ_CHUNK);
                if let Some(holding) = holding.filter(|_| longer > READ_CHUNK) {
                    holding.wait_and_set(longer).await;
                }
                body.resize(longer, 0);
            }
            match reader.read(&mut body[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    })
    .await?;
    scan(body)?;
    let message = Message::decode(body)?;
    if body.capacity() > 2 * READ_CHUNK {
        *body = Vec::new();
    }
    Ok(Some((message, len)))
}

/// CBOR items in one message: the longest list of 16-byte tags, each an array of 16 numbers, and
/// what is around it.
const ITEMS_MAX: u64 = 20_000;

/// Checks that `bytes` are one CBOR item of at most [`ITEMS_MAX`] parts with nothing after it, so
/// that decoding allocates little more than what was received: an empty object takes one byte
/// here and 24 in memory.
///
/// # Errors
/// [`MessageError::Malformed`], [`MessageError::TooMany`].
pub(super) fn scan(bytes: &[u8]) -> Result<(), MessageError> {
    let malformed = |what: &str| MessageError::Malformed(what.to_owned());
    let mut rest = bytes;
    let mut open: u64 = 1;
    let mut items: u64 = 0;
    while open > 0 {
        let (&head, after) = rest.split_first().ok_or_else(|| malformed("cut off"))?;
        let argument_len = match head & 0x1f {
            0..24 => 0,
            width @ 24..28 => 1 << (width - 24),
            _ => return Err(malformed("a length that is not given")),
        };
        let (argument, after) =
            after.split_at_checked(argument_len).ok_or_else(|| malformed("cut off"))?;
        let argument = if argument.is_empty() {
            u64::from(head & 0x1f)
        } else {
            argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        let (inner, skipped) = match head >> 5 {
            2 | 3 => (0, argument),
            4 => (argument, 0),
            5 => (argument.saturating_mul(2), 0),
            6 => (1, 0),
            _ => (0, 0),
        };
        items = items.saturating_add(inner);
        if items > ITEMS_MAX {
            return Err(MessageError::TooMany);
        }
        open = open - 1 + inner;
        let skipped = usize::try_from(skipped).map_err(|_| malformed("cut off"))?;
        rest = after.get(skipped..).ok_or_else(|| malformed("cut off"))?;
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed("something is left over")) }
}

async fn within<T>(
    deadline: Duration,
    len: usize,
    read: impl Future<Output = io::Result<T>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(deadline, read).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(WireError::Stalled(len)),
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use hypergolix_engine::message::{LIST_MAX, OBJECTS_MAX, Role, VERSION};

    use super::*;

    fn bytes(message: &Message) -> Vec<u8> {
        let body = message.encode();
        [&prefix(&body)[..], &body].concat()
    }

    #[tokio::test]
    async fn messages_come_back_one_after_the_other() {
        let sent = [
            Message::Ping { id: 7 },
            Message::Hello { version: VERSION, role: Role::Node, nonce: [3; 32] },
            Message::Object { id: 1, objects: vec![vec![5; 3 * READ_CHUNK + 1].into()] },
            Message::Pong { id: 7 },
        ];
        let mut stream = Cursor::new(sent.iter().flat_map(bytes).collect::<Vec<_>>());
        let mut body = Vec::new();
        for message in sent {
            let (read, _) = read(&mut stream, &mut body, None).await.unwrap().unwrap();
            assert_eq!(read, message);
        }
        assert!(read(&mut stream, &mut body, None).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_long_prefix_is_refused_before_anything_is_allocated() {
        for len in [MESSAGE_MAX as u32 + 1, u32::MAX] {
            let mut stream = Cursor::new([&len.to_be_bytes()[..], &[0; 100]].concat());
            let mut body = Vec::new();
            let refused = read(&mut stream, &mut body, None).await;
            assert!(matches!(refused, Err(WireError::Message(MessageError::TooLong(_)))));
            assert_eq!(body.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn a_prefix_alone_costs_one_chunk() {
        let mut stream = Cursor::new([&(MESSAGE_MAX as u32).to_be_bytes()[..], &[0; 9]].concat());
        let mut body = Vec::new();
        assert!(matches!(read(&mut stream, &mut body, None).await, Err(WireError::Stream(_))));
        assert!(body.capacity() <= READ_CHUNK);
    }

    #[tokio::test]
    async fn what_is_not_a_message_is_refused() {
        for body in [
            &b""[..],
            b"\xff",
            b"\x01",
            b"hello",
            &[&Message::Ping { id: 1 }.encode()[..], &[0]].concat(),
        ] {
            let mut stream = Cursor::new([&prefix(body)[..], body].concat());
            let refused = read(&mut stream, &mut Vec::new(), None).await;
            assert!(matches!(refused, Err(WireError::Message(_))), "{body:?}: {refused:?}");
        }
    }

    #[test]
    fn every_kind_of_message_passes_the_scan_and_bombs_do_not() {
        let packed = || hypergolix_engine::message::Packed::from(vec![1; 300]);
        for message in [
            Message::Interests { tags: vec![[9; 16]; LIST_MAX] },
            Message::Publish { id: u32::MAX, objects: vec![packed(); OBJECTS_MAX] },
            Message::Published { id: 1, results: vec![u32::MAX; OBJECTS_MAX] },
            Message::Need { ids: vec![[7; 32].into(); LIST_MAX] },
            Message::Subscribe { addresses: Vec::new(), cursor: None },
            Message::Reconcile { body: packed(), subscriber: true },
            Message::Route { route: packed() },
        ] {
            let body = message.encode();
            scan(&body).unwrap();
            assert_eq!(Message::decode(&body).unwrap(), message);
            for len in (0..body.len()).step_by(97) {
                assert!(scan(&body[..len]).is_err());
            }
        }
        // A million empty objects; nesting; lengths that overflow.
        let mut bomb = vec![0x9a, 0, 0x0f, 0x42, 0x40];
        bomb.resize(1_000_005, 0x40);
        assert!(matches!(scan(&bomb), Err(MessageError::TooMany)));
        assert!(matches!(scan(&vec![0x81; 100_000]), Err(MessageError::TooMany)));
        assert!(scan(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
        assert!(scan(&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
        assert!(scan(&[0x9f, 0xff]).is_err());
    }

    #[tokio::test]
    async fn a_sender_that_stalls_is_given_up() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut ours, &[0, 0, 1, 0, 9]).await.unwrap();
        let mut stream = tokio_util::compat::TokioAsyncReadCompatExt::compat(theirs);
        let stalled = read(&mut stream, &mut Vec::new(), None).await;
        assert!(matches!(stalled, Err(WireError::Stalled(256))));
    }
}
