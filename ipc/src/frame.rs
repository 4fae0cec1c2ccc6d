//! The envelope of every message: version, code, token, body.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | version, always `00 00` |
//! | 2 | 2 | code, two ASCII characters |
//! | 4 | 2 | token, unsigned, big-endian |
//! | 6 | rest | body |
//!
//! Wire reference, section 2.

use crate::ids::RequestToken;
use crate::limits::FRAME_HEADER_LEN;

/// One message, its body still undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The two characters of the code, known or not (see [`crate::Code::from_bytes`]).
    pub code: [u8; 2],
    /// The number of the request, or of the request that this answers.
    pub token: RequestToken,
    /// Everything behind the header.
    pub body: &'a [u8],
}

/// Why bytes are not a message. There is no answer to that: without header there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Less than the 6 bytes of the header.
    #[error("a message of {0} bytes is shorter than its header of 6 bytes")]
    TooShort(usize),
    /// A version other than `00 00`.
    #[error("unknown version {0:04x} of the protocol; only 0000 exists")]
    Version(u16),
}

/// Writes the header in front of a body that follows.
pub fn begin(code: [u8; 2], token: RequestToken, body_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEADER_LEN + body_len);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&code);
    out.extend_from_slice(&token.0.to_be_bytes());
    out
}

/// Encodes a message.
pub fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = begin(frame.code, frame.token, frame.body.len());
    out.extend_from_slice(frame.body);
    out
}

/// Decodes a message's header.
///
/// # Errors
/// [`FrameError`].
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let [v0, v1, c0, c1, t0, t1, body @ ..] = bytes else {
        return Err(FrameError::TooShort(bytes.len()));
    };
    match u16::from_be_bytes([*v0, *v1]) {
        0 => Ok(Frame {
            code: [*c0, *c1],
            token: RequestToken(u16::from_be_bytes([*t0, *t1])),
            body,
        }),
        version => Err(FrameError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header() {
        let frame = Frame { code: *b"?I", token: RequestToken(0xc877), body: b"" };
        let bytes = encode(&frame);
        assert_eq!(bytes, [0, 0, 0x3f, 0x49, 0xc8, 0x77]);
        assert_eq!(decode(&bytes), Ok(frame));
    }

    #[test]
    fn damaged() {
        for len in 0..6 {
            assert_eq!(decode(&[0; 6][..len]), Err(FrameError::TooShort(len)));
        }
        assert_eq!(decode(&[0, 1, b'A', b'K', 0, 0]), Err(FrameError::Version(1)));
    }
}
