//! Names that cross the socket, and the numbers of connections, requests and notices.

use std::fmt;

use data_encoding::HEXLOWER;

/// The type of an object, as far as applications agree on one: 64 bytes.
///
/// On the wire 65 bytes: a zero and the 64. Wire reference, section 5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiId(pub [u8; 64]);

impl ApiId {
    /// Bytes on the wire.
    pub const WIRE_LEN: usize = 65;

    /// Plain bytes: the default of `Obj` and `Proxy`.
    pub const OBJ: ApiId = ApiId::numbered(1);
    /// A Python pickle: the default of `PickleObj`. We never unpack one.
    pub const PICKLE: ApiId = ApiId::numbered(2);
    /// Compact JSON: the default of `JsonObj`.
    pub const JSON: ApiId = ApiId::numbered(3);
    /// All zeros: what a client's update carries instead of an api id.
    pub const ZERO: ApiId = ApiId::numbered(0);

    const fn numbered(number: u8) -> Self {
        let mut bytes = [0; 64];
        bytes[63] = number;
        Self(bytes)
    }

    /// The 65 bytes of the wire form.
    pub fn to_wire(self) -> [u8; Self::WIRE_LEN] {
        let mut bytes = [0; Self::WIRE_LEN];
        bytes[1..].copy_from_slice(&self.0);
        bytes
    }

    /// Reads the wire form; `None` unless it is a zero byte and 64 more.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((0, rest)) => Some(Self(rest.try_into().ok()?)),
            _ => None,
        }
    }
}

impl fmt::Debug for ApiId {
    /// The last four bytes in hex, which tell the default ids apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiId(..{})", HEXLOWER.encode(&self.0[60..]))
    }
}

/// An application's name towards its daemon: 16 random bytes, unique per user.
///
/// Anyone who knows it can act as that application, so `Debug` shows two bytes of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppToken(pub [u8; 16]);

impl AppToken {
    /// Bytes on the wire.
    pub const LEN: usize = 16;

    /// All zeros: “give me a new one”.
    pub const NULL: AppToken = AppToken([0; 16]);
}

impl fmt::Debug for AppToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppToken({}..)", HEXLOWER.encode(&self.0[..2]))
    }
}

/// The number under which one side of a connection asked; the answer carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(pub u16);

/// One connection of an application. Never used twice while a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// One notice to an application, numbered by whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_id_wire_form() {
        let wire = ApiId::JSON.to_wire();
        assert_eq!(wire[..64], [0; 64]);
        assert_eq!(wire[64], 3);
        assert_eq!(ApiId::from_wire(&wire), Some(ApiId::JSON));
        assert_eq!(ApiId::from_wire(&wire[..64]), None);
        let mut other = wire;
        other[0] = 1;
        assert_eq!(ApiId::from_wire(&other), None);
    }

    #[test]
    fn tokens_are_not_printed() {
        assert_eq!(format!("{:?}", AppToken([0xab; 16])), "AppToken(abab..)");
    }
}
