//! Refusals: the errors that travel, and what a damaged one is.

use std::fmt;

use crate::limits::ERROR_TEXT_MAX;

/// The kinds of refusal that have a code on the wire; each becomes one Python exception. Closed.
/// Wire reference, section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// `00 00`: a plain exception.
    Unspecified,
    /// `00 01`: not a Golix object.
    MalformedGolixPrimitive,
    /// `00 02`: a signature or hash does not hold.
    VerificationFailure,
    /// `00 03`: the author's identity is missing or wrong.
    InvalidIdentity,
    /// `00 04`: a container that nothing binds.
    UnboundContainer,
    /// `00 05`: deleted before.
    AlreadyDebound,
    /// `00 06`: a target of the wrong kind, or none.
    InvalidTarget,
    /// `00 07`: somebody else's object.
    InconsistentAuthor,
    /// `00 08`: unknown, deleted, not shared with this user, or another application's.
    DoesNotExist,
    /// `00 09`: a frame that may not follow the current one.
    IllegalDynamicFrame,
    /// `00 0A`: a remote refused for another reason.
    RemoteNak,
    /// `FF FF`: a mistake of the application.
    IpcError,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [ErrorCode; 12] = [
        ErrorCode::Unspecified,
        ErrorCode::MalformedGolixPrimitive,
        ErrorCode::VerificationFailure,
        ErrorCode::InvalidIdentity,
        ErrorCode::UnboundContainer,
        ErrorCode::AlreadyDebound,
        ErrorCode::InvalidTarget,
        ErrorCode::InconsistentAuthor,
        ErrorCode::DoesNotExist,
        ErrorCode::IllegalDynamicFrame,
        ErrorCode::RemoteNak,
        ErrorCode::IpcError,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            ErrorCode::Unspecified => 0x0000,
            ErrorCode::MalformedGolixPrimitive => 0x0001,
            ErrorCode::VerificationFailure => 0x0002,
            ErrorCode::InvalidIdentity => 0x0003,
            ErrorCode::UnboundContainer => 0x0004,
            ErrorCode::AlreadyDebound => 0x0005,
            ErrorCode::InvalidTarget => 0x0006,
            ErrorCode::InconsistentAuthor => 0x0007,
            ErrorCode::DoesNotExist => 0x0008,
            ErrorCode::IllegalDynamicFrame => 0x0009,
            ErrorCode::RemoteNak => 0x000A,
            ErrorCode::IpcError => 0xFFFF,
        }
    }

    /// The kind behind a number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// A refusal: what went wrong, and a sentence for the person who reads the exception.
///
/// Body of an `NK`: the code, 2 bytes big-endian, and UTF-8 text up to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpcError {
    /// The kind.
    pub code: ErrorCode,
    /// The text; becomes the only argument of the Python exception.
    pub text: String,
}

impl IpcError {
    /// A refusal of the given kind.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// A mistake of the application (`FF FF`).
    pub fn application(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::IpcError, text)
    }

    /// Nothing there, or nothing that this application may see (`00 08`).
    pub fn does_not_exist(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::DoesNotExist, text)
    }

    /// Writes the body of an `NK`. Text beyond [`ERROR_TEXT_MAX`] bytes is cut.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.code().to_be_bytes());
        let mut end = self.text.len().min(ERROR_TEXT_MAX);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        out.extend_from_slice(&self.text.as_bytes()[..end]);
    }

    /// Reads the body of an `NK`.
    ///
    /// # Errors
    /// [`NakError`]: what the Python client turns into a `RequestError`.
    pub fn from_body(body: &[u8]) -> Result<Self, NakError> {
        let Some((code, text)) = body.split_at_checked(2) else {
            return Err(if body.is_empty() { NakError::Empty } else { NakError::Short });
        };
        let code = u16::from_be_bytes([code[0], code[1]]);
        let code = ErrorCode::from_code(code).ok_or(NakError::UnknownCode(code))?;
        let text = std::str::from_utf8(text).map_err(|_| NakError::Text)?;
        Ok(Self { code, text: text.to_owned() })
    }
}

impl fmt::Display for IpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "refused ({:?})", self.code)
        } else {
            write!(f, "{} ({:?})", self.text, self.code)
        }
    }
}

impl std::error::Error for IpcError {}

/// Why the body of an `NK` says nothing that has a name. Section 4.1, second table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NakError {
    /// No body. Legal, and says only that the request failed.
    #[error("refused without a reason")]
    Empty,
    /// One byte.
    #[error("refused with half an error code")]
    Short,
    /// A code that is not in the table.
    #[error("refused with the unknown error code {0:04x}")]
    UnknownCode(u16),
    /// The text is not UTF-8.
    #[error("refused with a text that is not UTF-8")]
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
        }
        assert_eq!(ErrorCode::from_code(0x000B), None);
        assert_eq!(ErrorCode::from_code(0xFFFE), None);
    }

    #[test]
    fn damaged_bodies() {
        assert_eq!(IpcError::from_body(b""), Err(NakError::Empty));
        assert_eq!(IpcError::from_body(&[0]), Err(NakError::Short));
        assert_eq!(IpcError::from_body(&[0x12, 0x34, b'x']), Err(NakError::UnknownCode(0x1234)));
        assert_eq!(IpcError::from_body(&[0, 0, 0xff]), Err(NakError::Text));
        assert_eq!(IpcError::from_body(&[0, 8]), Ok(IpcError::does_not_exist("")));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let error = IpcError::application("ä".repeat(ERROR_TEXT_MAX));
        let mut body = Vec::new();
        error.write(&mut body);
        assert!(body.len() <= 2 + ERROR_TEXT_MAX);
        assert!(IpcError::from_body(&body).is_ok());
    }
}
