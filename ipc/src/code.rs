//! `Code`: what a message is, two ASCII characters.

use std::fmt;

/// The code of a message. Closed; wire reference, sections 2 and 6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// `AK`: success; the token names the request it answers.
    Ack,
    /// `NK`: failure.
    Nak,
    /// `?I`: who is logged in?
    Whoami,
    /// `+T`: register an application token.
    Token,
    /// `+A`: this connection takes shares of an api id.
    RegisterApi,
    /// `-A`: it no longer does.
    DeregisterApi,
    /// `>$`: the startup object of this connection's token.
    Startup,
    /// `+$`: set it.
    SetStartup,
    /// `-$`: clear it.
    ClearStartup,
    /// `>O`: get an object.
    Get,
    /// `+O`: make an object.
    New,
    /// `!O`: a new state, in either direction.
    Update,
    /// `~O`: ask upstream for news.
    Sync,
    /// `@O`: share, or a share has arrived.
    Share,
    /// `^S`: the recipient's daemon took a share.
    ShareSucceeded,
    /// `^F`: it did not.
    ShareFailed,
    /// `*O`: make a static copy.
    Freeze,
    /// `#O`: bind an object so that it stays.
    Hold,
    /// `-O`: no more updates of an object.
    Discard,
    /// `XO`: delete, or an object was deleted.
    Delete,
    /// `?N`: the state of the node as JSON. Our extension: the Python client never sends it.
    Status,
    /// `-@`: no longer share an object with somebody. Our extension.
    Unshare,
    /// `?L`: states that lost against another device of the same user. Our extension.
    LostStates,
    /// `-L`: one of them was dealt with. Our extension.
    DismissLost,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 24] = [
        Code::Ack,
        Code::Nak,
        Code::Whoami,
        Code::Token,
        Code::RegisterApi,
        Code::DeregisterApi,
        Code::Startup,
        Code::SetStartup,
        Code::ClearStartup,
        Code::Get,
        Code::New,
        Code::Update,
        Code::Sync,
        Code::Share,
        Code::ShareSucceeded,
        Code::ShareFailed,
        Code::Freeze,
        Code::Hold,
        Code::Discard,
        Code::Delete,
        Code::Status,
        Code::Unshare,
        Code::LostStates,
        Code::DismissLost,
    ];

    /// The two characters.
    pub const fn bytes(self) -> [u8; 2] {
        *match self {
            Code::Ack => b"AK",
            Code::Nak => b"NK",
            Code::Whoami => b"?I",
            Code::Token => b"+T",
            Code::RegisterApi => b"+A",
            Code::DeregisterApi => b"-A",
            Code::Startup => b">$",
            Code::SetStartup => b"+$",
            Code::ClearStartup => b"-$",
            Code::Get => b">O",
            Code::New => b"+O",
            Code::Update => b"!O",
            Code::Sync => b"~O",
            Code::Share => b"@O",
            Code::ShareSucceeded => b"^S",
            Code::ShareFailed => b"^F",
            Code::Freeze => b"*O",
            Code::Hold => b"#O",
            Code::Discard => b"-O",
            Code::Delete => b"XO",
            Code::Status => b"?N",
            Code::Unshare => b"-@",
            Code::LostStates => b"?L",
            Code::DismissLost => b"-L",
        }
    }

    /// The code behind two characters.
    pub fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.bytes() == bytes)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python_notation(self.bytes()))
    }
}

/// Two bytes as Python writes them, `b'??'`: how both ends name a code they do not know.
pub fn python_notation(bytes: [u8; 2]) -> String {
    use std::fmt::Write as _;
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\'' if quote == '\'' => text.push_str("\\'"),
            0x20..0x7f => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail"),
        }
    }
    text.push(quote);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_bytes(code.bytes()), Some(code));
        }
        assert_eq!(Code::from_bytes(*b"??"), None);
    }

    #[test]
    fn notation() {
        for (bytes, text) in [
            (*b"??", r"b'??'"),
            ([0, 0xff], r"b'\x00\xff'"),
            (*b"'a", r#"b"'a""#),
            (*b"'\"", r#"b'\'"'"#),
            (*b"\\\n", r"b'\\\n'"),
        ] {
            assert_eq!(python_notation(bytes), text);
        }
    }
}
