//! An object as it crosses the socket.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, `00` |
//! | 1 | 65 | address; 65 zeros mean none |
//! | 66 | 65 | author, the same way |
//! | 131 | 1 | private, 0 or 1 |
//! | 132 | 1 | dynamic, 0 or 1 |
//! | 133 | 1 | legroom; 0 means not given |
//! | 134 | 65 | api id: `00` and 64 bytes |
//! | 199 | 1 | link, 0 or 1 |
//! | 200 | rest | state |
//!
//! Wire reference, section 5, which also says who fills in what.

use std::fmt;
use std::sync::Arc;

use golix::Ghid;

use crate::ids::ApiId;
use crate::limits::{RECORD_HEADER_LEN, STATE_MAX};
use crate::message::BodyError;

/// An object as an application and its daemon name it to each other.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Where it is; none in a request for a new one.
    pub address: Option<Ghid>,
    /// The fingerprint of its creator; none in what a client sends.
    pub author: Option<Ghid>,
    /// Whether only the application that made it may see it.
    pub private: bool,
    /// Whether its state can change.
    pub dynamic: bool,
    /// Past frames its record keeps; 0 means not given.
    pub legroom: u8,
    /// Its type; zeros in a client's update.
    pub api: ApiId,
    /// Whether the state is the address of another object. Supported nowhere.
    pub link: bool,
    /// Its state, at most [`STATE_MAX`] bytes, opaque to the daemon.
    pub state: Arc<[u8]>,
}

impl ObjectRecord {
    /// Bytes of the encoded record.
    pub fn encoded_len(&self) -> usize {
        RECORD_HEADER_LEN + self.state.len()
    }

    /// Appends the encoded record.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.push(0);
        write_optional(out, self.address.as_ref());
        write_optional(out, self.author.as_ref());
        out.push(u8::from(self.private));
        out.push(u8::from(self.dynamic));
        out.push(self.legroom);
        out.extend_from_slice(&self.api.to_wire());
        out.push(u8::from(self.link));
        out.extend_from_slice(&self.state);
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// [`BodyError`] for a short record, a version other than 0, bad addresses, flags or api ids,
    /// and a state of more than [`STATE_MAX`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        let Some((header, state)) = bytes.split_first_chunk::<RECORD_HEADER_LEN>() else {
            return Err(BodyError::Short { needed: RECORD_HEADER_LEN, got: bytes.len() });
        };
        if header[0] != 0 {
            return Err(BodyError::RecordVersion(header[0]));
        }
        if state.len() > STATE_MAX {
            return Err(BodyError::StateTooLarge(state.len()));
        }
        Ok(Self {
            address: read_optional(&header[1..66])?,
            author: read_optional(&header[66..131])?,
            private: read_flag("private", header[131])?,
            dynamic: read_flag("dynamic", header[132])?,
            legroom: header[133],
            api: ApiId::from_wire(&header[134..199]).ok_or(BodyError::ApiId)?,
            link: read_flag("link", header[199])?,
            state: state.into(),
        })
    }
}

impl fmt::Debug for ObjectRecord {
    /// The length of the state instead of the state: it may be secret, and long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectRecord")
            .field("address", &self.address)
            .field("author", &self.author)
            .field("private", &self.private)
            .field("dynamic", &self.dynamic)
            .field("legroom", &self.legroom)
            .field("api", &self.api)
            .field("link", &self.link)
            .field("state_len", &self.state.len())
            .finish()
    }
}

fn write_optional(out: &mut Vec<u8>, ghid: Option<&Ghid>) {
    match ghid {
        Some(ghid) => out.extend_from_slice(ghid.as_bytes()),
        None => out.extend_from_slice(&[0; Ghid::LEN]),
    }
}

fn read_optional(bytes: &[u8]) -> Result<Option<Ghid>, BodyError> {
    if bytes.iter().all(|byte| *byte == 0) { Ok(None) } else { Ok(Some(Ghid::from_bytes(bytes)?)) }
}

fn read_flag(field: &'static str, byte: u8) -> Result<bool, BodyError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(BodyError::Flag { field, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ObjectRecord {
        ObjectRecord {
            address: Some(Ghid::of(b"address")),
            author: None,
            private: false,
            dynamic: true,
            legroom: 7,
            api: ApiId::OBJ,
            link: false,
            state: Arc::from(*b"state"),
        }
    }

    #[test]
    fn comes_back() {
        let mut bytes = Vec::new();
        record().write(&mut bytes);
        assert_eq!(bytes.len(), record().encoded_len());
        assert_eq!(ObjectRecord::decode(&bytes), Ok(record()));
    }

    #[test]
    fn damaged() {
        let mut bytes = Vec::new();
        record().write(&mut bytes);
        for len in 0..RECORD_HEADER_LEN {
            assert_eq!(
                ObjectRecord::decode(&bytes[..len]),
                Err(BodyError::Short { needed: 200, got: len })
            );
        }
        for (at, value, error) in [
            (0, 1, BodyError::RecordVersion(1)),
            (131, 2, BodyError::Flag { field: "private", value: 2 }),
            (132, 9, BodyError::Flag { field: "dynamic", value: 9 }),
            (134, 1, BodyError::ApiId),
            (199, 255, BodyError::Flag { field: "link", value: 255 }),
        ] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert_eq!(ObjectRecord::decode(&bytes), Err(error));
        }
        bytes[1] = 0;
        assert!(matches!(ObjectRecord::decode(&bytes), Err(BodyError::Address(_))));
    }

    #[test]
    fn largest_state() {
        let mut bytes = vec![0; RECORD_HEADER_LEN + STATE_MAX];
        assert!(ObjectRecord::decode(&bytes).is_ok());
        bytes.push(0);
        assert_eq!(ObjectRecord::decode(&bytes), Err(BodyError::StateTooLarge(STATE_MAX + 1)));
    }
}
