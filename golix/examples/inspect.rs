//! Says what a file with a Golix object is, who made it, and whether it verifies.
//!
//! ```text
//! cargo run -p golix --example inspect FILE [IDENTITY...]
//! ```
//!
//! FILE holds any object, packed or as text (hexadecimal or base64), or the text of an address; `-` is
//! standard input. Each IDENTITY is such a file with a GIDC; the object is verified against the one it
//! names. A GIDC stands for itself.
//!
//! Exit status: 0 if it is what it says, 1 if a rule is broken (which is named) or a file cannot be
//! read, 2 if it is well-formed and the identity of its author was not given.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the world: files and arguments"
)]
#![expect(clippy::disallowed_macros, reason = "its output is the point")]

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;

use data_encoding::{
    BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE,
};
use golix::object::{Kind, Object, Unverified, VerifyError};
use golix::{ChainKey, Ghid, Identity, PrivateIdentity, Secret, Suite, limits};

/// Bytes that are read at most: the largest container as hexadecimal text, and some line ends.
const INPUT_MAX: u64 = 3 * limits::PLAINTEXT_MAX as u64;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(file) = arguments.next().filter(|file| file != "--help" && file != "-h") else {
        eprintln!("usage: inspect FILE [IDENTITY...]    (FILE may be -, for standard input)");
        return ExitCode::FAILURE;
    };
    match arguments
        .map(|file| identity(&file))
        .collect::<Answer<Vec<_>>>()
        .and_then(|known| inspect(&file, known))
    {
        Ok((text, verdict)) => {
            print!("{text}");
            match verdict {
                Verdict::Good => ExitCode::SUCCESS,
                Verdict::Open => ExitCode::from(2),
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

enum Verdict {
    Good,
    /// Nobody who could tell was asked.
    Open,
}

type Answer<T> = Result<T, String>;

fn read(file: &str) -> Answer<Vec<u8>> {
    let mut bytes = Vec::new();
    let result = if file == "-" {
        std::io::stdin().take(INPUT_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|it| it.take(INPUT_MAX + 1).read_to_end(&mut bytes))
    };
    result.map_err(|error| format!("{file}: {error}"))?;
    if bytes.len() as u64 > INPUT_MAX {
        return Err(format!("{file}: longer than any object"));
    }
    Ok(unpack(bytes))
}

/// Bytes that begin as nothing of ours, and are text in hexadecimal or base64, are what that says.
fn unpack(bytes: Vec<u8>) -> Vec<u8> {
    if kind(&bytes).is_some() || bytes.starts_with(b"SH\0") || bytes.starts_with(b"PI\0") {
        return bytes;
    }
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if std::str::from_utf8(&text).is_ok_and(|text| text.parse::<Ghid>().is_ok()) {
        return text;
    }
    [HEXLOWER_PERMISSIVE, BASE64, BASE64URL, BASE64_NOPAD, BASE64URL_NOPAD]
        .iter()
        .find_map(|encoding| encoding.decode(&text).ok())
        .filter(|decoded| !decoded.is_empty())
        .unwrap_or(bytes)
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    bytes.first_chunk().copied().and_then(Kind::from_magic)
}

fn identity(file: &str) -> Answer<Identity> {
    let bytes = read(file)?;
    Identity::from_bytes(&bytes)
        .map_err(|error| format!("{file}: no identity: {error} ({})", error.rule()))
}

fn inspect(file: &str, known: Vec<Identity>) -> Answer<(String, Verdict)> {
    let bytes = read(file)?;
    if bytes.is_empty() {
        return Err(broken(file, "there is nothing in it (MAGIC)"));
    }
    let mut out = String::new();
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    if let Ok(ghid) = text.parse::<Ghid>() {
        line(&mut out, "an address", format!("{} bytes, SHA-512", Ghid::LEN));
        line(&mut out, "address", ghid);
        line(&mut out, "short", ghid.short());
        return Ok((out, Verdict::Good));
    }
    if bytes.starts_with(b"SH\0") {
        return secret(&bytes).map(|text| (text, Verdict::Good)).map_err(|why| broken(file, &why));
    }
    if bytes.starts_with(b"PI\0") {
        return private(&bytes).map(|text| (text, Verdict::Good)).map_err(|why| broken(file, &why));
    }
    let parsed = Unverified::parse(&bytes).map_err(|error| {
        let what = kind(&bytes).map_or(String::new(), |kind| format!("{}: ", name(kind)));
        broken(file, &format!("{what}{error} ({})", error.rule()))
    })?;
    let kind = parsed.kind();
    let author = parsed.author().and_then(|ghid| known.into_iter().find(|it| it.ghid() == ghid));
    let object = parsed.clone().assume_verified();
    line(&mut out, magic(kind), format!("{}, {} bytes", name(kind), bytes.len()));
    line(&mut out, "suite", suite(object.object().suite()));
    line(&mut out, "address", object.ghid());
    fields(&mut out, object.object(), &bytes);

    match parsed.verify(author.as_ref()) {
        Ok(verified) => {
            line(&mut out, "verifies", proof(verified.object()));
            Ok((out, Verdict::Good))
        }
        Err(error @ VerifyError::AuthorUnknown(ghid)) => {
            let open = format!("cannot tell ({}): give the identity {ghid}", error.rule());
            line(&mut out, "verifies", open);
            Ok((out, Verdict::Open))
        }
        Err(error) => {
            line(&mut out, "verifies", "no");
            Err(out + &broken(file, &format!("{}: {error} ({})", name(kind), error.rule())))
        }
    }
}

fn broken(file: &str, why: &str) -> String {
    format!("{file}: {why}")
}

/// What was proven.
fn proof(object: &Object) -> &'static str {
    match object {
        Object::Identity(_) => "yes: its address is that of its keys",
        Object::Container(_) => "yes: its author signed it",
        Object::StaticBinding(_) | Object::DynamicBinding(_) => "yes: its binder signed it",
        Object::Debinding(_) => "yes: its debinder signed it",
        Object::Request(request) => match request.suite() {
            Suite::Suite1 => "as far as can be seen from outside; its MAC, only by the recipient",
            Suite::Suite3 => "yes, from outside; who wrote it, only the recipient sees",
        },
    }
}

fn fields(out: &mut String, object: &Object, bytes: &[u8]) {
    match object {
        Object::Identity(identity) => {
            let names = ["signature key", "encryption key", "exchange key"];
            let lens = match identity.suite() {
                Suite::Suite1 => [512, 512, 32],
                Suite::Suite3 => [32, 32, 32],
            };
            let mut rest = &bytes[9..];
            for (name, len) in names.into_iter().zip(lens) {
                let (key, after) = rest.split_at(len);
                rest = after;
                line(out, name, format!("{}... ({len} bytes)", HEXLOWER.encode(&key[..8])));
            }
        }
        Object::Container(container) => {
            line(out, "author", container.author());
            line(out, "payload", format!("{} bytes", container.payload_len()));
            line(out, "plaintext", format!("{} bytes", container.plaintext_len()));
            if let Some(salt) = container.salt() {
                line(out, "salt", HEXLOWER.encode(salt));
            }
        }
        Object::StaticBinding(binding) => {
            line(out, "binder", binding.binder());
            line(out, "target", binding.target());
        }
        Object::DynamicBinding(frame) => {
            line(out, "binder", frame.binder());
            line(out, "counter", frame.counter());
            let proof = if frame.is_proven() { "proven to be the binder's" } else { "not proven" };
            line(out, "dynamic", format!("{} ({proof})", frame.dynamic()));
            for (at, target) in frame.targets().iter().enumerate() {
                line(out, if at == 0 { "target" } else { "before" }, target);
            }
        }
        Object::Debinding(debinding) => {
            line(out, "debinder", debinding.debinder());
            line(out, "target", debinding.target());
        }
        Object::Request(request) => line(out, "recipient", request.recipient()),
    }
}

fn secret(bytes: &[u8]) -> Answer<String> {
    let secret =
        Secret::from_bytes(bytes).map_err(|error| format!("secret: {error} ({})", error.rule()))?;
    let mut out = String::new();
    line(&mut out, "SH", format!("secret, {} bytes, not shown", bytes.len()));
    line(&mut out, "suite", suite(secret.suite()));
    if let Some(key) = ChainKey::from_handshake(&secret).filter(|_| secret.suite() == Suite::Suite3)
    {
        let place = format!("perhaps: epoch {}, index {}", key.epoch(), key.index());
        line(&mut out, "chain key", place);
    }
    Ok(out)
}

fn private(bytes: &[u8]) -> Answer<String> {
    let me = PrivateIdentity::from_bytes(bytes)
        .map_err(|error| format!("private identity: {error} ({})", error.rule()))?;
    let mut out = String::new();
    line(&mut out, "PI", format!("private identity, {} bytes, not shown", bytes.len()));
    line(&mut out, "suite", suite(me.suite()));
    line(&mut out, "address", me.ghid());
    Ok(out)
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    writeln!(out, "{name:<14} {value}").expect("a string takes it");
}

fn suite(suite: Suite) -> &'static str {
    match suite {
        Suite::Suite1 => "1 (SHA-512, AES-256-CTR, RSA-4096, X25519)",
        Suite::Suite3 => "3 (SHA-512, AES-256-GCM, Ed25519, X25519)",
    }
}

fn magic(kind: Kind) -> &'static str {
    match kind {
        Kind::Identity => "GIDC",
        Kind::Container => "GEOC",
        Kind::StaticBinding => "GOBS",
        Kind::DynamicBinding => "GOBD",
        Kind::Debinding => "GDXX",
        Kind::Request => "GARQ",
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Identity => "identity",
        Kind::Container => "encrypted container",
        Kind::StaticBinding => "static binding",
        Kind::DynamicBinding => "frame of a dynamic binding",
        Kind::Debinding => "debinding",
        Kind::Request => "request",
    }
}
