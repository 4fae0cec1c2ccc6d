//! `JsonObj`: an object whose state is any JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::error::LinkError;
use super::typed::TypedObj;

/// An object whose state is a [`serde_json::Value`], as the Python `JsonObj` and `JsonProxy`.
///
/// ```no_run
/// # async fn example() -> Result<(), hypergolix_ipc::client::LinkError> {
/// use hypergolix_ipc::client::{HgxLink, JsonObj, NewOptions};
///
/// let link = HgxLink::connect(7772).await?;
/// let obj: JsonObj = link.new(&"Hello world!".into(), NewOptions::default()).await?;
/// let again: JsonObj = link.get(obj.ghid()).await?;
/// assert_eq!(again.value()?, "Hello world!");
/// # Ok(()) }
/// ```
pub type JsonObj = TypedObj<serde_json::Value>;

/// Packs as the Python client does: compact, and ASCII only.
pub(super) fn pack(value: &impl Serialize) -> Result<Vec<u8>, LinkError> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Ascii))?;
    Ok(out)
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                writer.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_writes_it() {
        let value = serde_json::json!({"a": [1, null], "ä": "😀\n\u{7f}"});
        let text = String::from_utf8(pack(&value).expect("json")).expect("ascii");
        assert_eq!(text, "{\"a\":[1,null],\"\\u00e4\":\"\\ud83d\\ude00\\n\u{7f}\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("json"), value);
    }
}
