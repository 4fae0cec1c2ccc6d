//! What an object's container holds: the plaintext inside the seal.

use std::sync::Arc;

use hypergolix_ipc::{ApiId, AppToken};

use crate::version_vector::VersionVector;

const VERSION: u8 = 1;
const DYNAMIC: u8 = 1;
const PRIVATE: u8 = 2;
const SEEN: u8 = 4;
const AGAIN: u8 = 8;
const HEAD: usize = 4 + 1 + 1 + 1 + 64;

/// The plaintext of an object's container:
/// `epoch u32 | version 1 | flags | legroom | api id 64 | [token 16 if private] | [version vector if other
/// devices wrote before] | state`.
///
/// The epoch comes first (threats.md 4.3), integers are big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) epoch: u32,
    pub(crate) dynamic: bool,
    /// The application whose private object this is.
    pub(crate) private: Option<AppToken>,
    pub(crate) legroom: u8,
    pub(crate) api: ApiId,
    /// What its writer had seen of other devices of the account.
    pub(crate) seen: VersionVector,
    /// It is the state before it once more, under another key: nobody wrote anything.
    pub(crate) again: bool,
    pub(crate) state: Arc<[u8]>,
}

impl Content {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + 16 + self.state.len());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.push(VERSION);
        let mut flags = 0;
        if self.dynamic {
            flags |= DYNAMIC;
        }
        if self.private.is_some() {
            flags |= PRIVATE;
        }
        if !self.seen.is_empty() {
            flags |= SEEN;
        }
        if self.again {
            flags |= AGAIN;
        }
        bytes.push(flags);
        bytes.push(self.legroom);
        bytes.extend_from_slice(&self.api.0);
        if let Some(token) = &self.private {
            bytes.extend_from_slice(&token.0);
        }
        if !self.seen.is_empty() {
            self.seen.encode(&mut bytes);
        }
        bytes.extend_from_slice(&self.state);
        bytes
    }

    /// `None` when the author sealed something that is not an object's content.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let epoch = u32::from_be_bytes(head[..4].try_into().ok()?);
        let (version, flags, legroom) = (head[4], head[5], head[6]);
        if version != VERSION || flags & !(DYNAMIC | PRIVATE | SEEN | AGAIN) != 0 {
            return None;
        }
        let api = ApiId(head[7..].try_into().ok()?);
        let (private, state) = if flags & PRIVATE == 0 {
            (None, rest)
        } else {
            let (token, state) = rest.split_at_checked(16)?;
            (Some(AppToken(token.try_into().ok()?)), state)
        };
        let (seen, state) = if flags & SEEN == 0 {
            (VersionVector::default(), state)
        } else {
            VersionVector::decode(state)?
        };
        if state.len() > hypergolix_ipc::limits::STATE_MAX {
            // No application could be sent it: its connection would end.
            return None;
        }
        Some(Self {
            epoch,
            dynamic: flags & DYNAMIC != 0,
            private,
            legroom,
            api,
            seen,
            again: flags & AGAIN != 0,
            state: Arc::from(state),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back() {
        let mut seen = VersionVector::default();
        seen.note(0x301);
        for (private, seen, again) in [
            (None, VersionVector::default(), false),
            (Some(AppToken([7; 16])), VersionVector::default(), true),
            (Some(AppToken([7; 16])), seen.clone(), false),
            (None, seen, true),
        ] {
            let content = Content {
                epoch: 3,
                dynamic: true,
                private,
                legroom: 7,
                api: ApiId([9; 64]),
                seen,
                again,
                state: Arc::from(&b"state"[..]),
            };
            assert_eq!(Content::decode(&content.encode()), Some(content));
        }
    }

    #[test]
    fn damaged_content_is_refused() {
        assert_eq!(Content::decode(&[]), None);
        assert_eq!(Content::decode(&[0; HEAD - 1]), None);
        let mut unknown_version = vec![0; HEAD];
        unknown_version[4] = 9;
        assert_eq!(Content::decode(&unknown_version), None);
        let mut private_without_token = vec![0; HEAD];
        private_without_token[4] = VERSION;
        private_without_token[5] = PRIVATE;
        assert_eq!(Content::decode(&private_without_token), None);
        let mut too_large = vec![0; HEAD + hypergolix_ipc::limits::STATE_MAX];
        too_large[4] = VERSION;
        assert!(Content::decode(&too_large).is_some());
        too_large.push(0);
        assert_eq!(Content::decode(&too_large), None);
    }
}
