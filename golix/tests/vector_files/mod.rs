//! The files under `vectors/`, by their shapes, and what they are written in.

pub mod negative;
pub mod original;
pub mod own;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use golix::object::Unverified;
use golix::persister::memory::MemoryView;
use golix::{Ghid, Identity, Secret};
use serde::{Deserialize, Deserializer};

/// What a file is.
pub enum Shape {
    /// Ours: `golix objects 1`.
    Own,
    /// Valid objects, and publish sequences, of the original library: `golix-vectors/1`.
    Original,
    /// Objects that break one named rule each, in the same format.
    Negative,
}

/// Every file, with its shape and text.
///
/// # Panics
/// On a file of an unknown shape: it would not be checked.
#[expect(clippy::disallowed_methods, reason = "vectors are files")]
pub fn files() -> Vec<(PathBuf, Shape, String)> {
    #[derive(Deserialize)]
    struct Outline {
        format: String,
        #[serde(flatten)]
        lists: BTreeMap<String, serde_json::Value>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let outline: Outline = serde_json::from_str(&text).unwrap();
        let has = |list| outline.lists.contains_key(list);
        let shape = match outline.format.as_str() {
            "golix objects 1" => Shape::Own,
            "golix-vectors/1" if has("vectors") => Shape::Negative,
            "golix-vectors/1" if original::LISTS.into_iter().any(has) => Shape::Original,
            format => panic!("{}: unknown shape of {format}", path.display()),
        };
        files.push((path, shape, text));
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// Runs `check` over every file of one shape, at least one.
pub fn for_each<T: for<'de> Deserialize<'de>>(wanted: &Shape, check: impl Fn(&T)) {
    let mut found = 0;
    for (path, shape, text) in files() {
        if std::mem::discriminant(&shape) == std::mem::discriminant(wanted) {
            let vectors = serde_json::from_str(&text);
            check(&vectors.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            found += 1;
        }
    }
    assert!(found > 0, "there are no such files");
}

/// Parts of a file that nothing looks at may be remarks, but no lists.
pub fn only_remarks(rest: &BTreeMap<String, serde_json::Value>) {
    for (name, value) in rest {
        let list = value.as_array().is_some_and(|list| !list.is_empty());
        assert!(!list, "{name} is not checked by anything");
    }
}

/// Says how much was checked, and that it was not nothing.
#[expect(clippy::disallowed_macros, reason = "tests may say what they did")]
pub fn counted(list: &str, count: usize) {
    assert!(count > 0, "{list} is empty");
    println!("{list}: {count}");
}

/// Publishes bytes as somebody unknown would: `Ok(true)` if they were there already, or the name and
/// NAK code of the rule that says no.
pub fn publish(view: &mut MemoryView, bytes: &[u8]) -> Result<bool, (&'static str, u16)> {
    let parsed = Unverified::parse(bytes).map_err(|error| (error.rule(), error.code()))?;
    let author = parsed.author().and_then(|author| view.get(&author).cloned());
    let author = author.and_then(|bytes| Identity::from_bytes(&bytes).ok());
    let object = if parsed.author().is_some() && author.is_none() {
        // The rules have to notice that nobody known signed it.
        parsed.assume_verified()
    } else {
        parsed.verify(author.as_ref()).map_err(|error| (error.rule(), error.code()))?
    };
    let plan = view.publish(&object).map_err(|rejection| (rejection.rule(), rejection.code()))?;
    assert!(author.is_some() || object.author().is_none(), "nothing unsigned is admitted");
    Ok(plan.already)
}

/// Bytes as lowercase hex.
pub struct Hex(pub Vec<u8>);

/// Bytes as standard base64.
pub struct Base64(pub Vec<u8>);

/// A number that may be too large for JSON, as a string.
pub struct Number(pub u64);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        HEXLOWER.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Hex {
    pub fn array<const N: usize>(&self) -> [u8; N] {
        self.0.as_slice().try_into().expect("the right number of bytes")
    }

    pub fn ghid(&self) -> Ghid {
        Ghid::from_bytes(&self.0).expect("an address")
    }

    pub fn secret(&self) -> Secret {
        Secret::from_bytes(&self.0).expect("a secret")
    }
}
