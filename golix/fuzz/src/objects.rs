//! The six kinds of object: what is read is written again, byte for byte; and nobody's signature is
//! accepted but the one that he makes.

use golix::object::{Kind, Object, Unverified, set_signature};
use golix::persister::Stored;
use golix::{Ghid, Identity, Signer, Suite};

use super::{cast, forge};

/// GIDC.
pub fn identity(data: &[u8]) {
    kind(Kind::Identity, data);
    let cooked = forge::cook(Kind::Identity, data);
    let parsed = Unverified::parse(&cooked).ok().filter(|it| it.kind() == Kind::Identity);
    match Identity::from_bytes(&cooked) {
        Ok(identity) => {
            assert_eq!(identity.encode(), cooked);
            assert_eq!(parsed.expect("the same reader").ghid(), identity.ghid());
            // Any signature is either refused or made with the private key, which nobody has.
            assert!(!identity.verify_statement(
                "fuzz",
                b"",
                &cooked[..identity.suite().signature_len().min(cooked.len())]
            ));
        }
        Err(_) => assert!(parsed.is_none()),
    }
}

/// GEOC.
pub fn container(data: &[u8]) {
    kind(Kind::Container, data);
}

/// GOBS.
pub fn static_binding(data: &[u8]) {
    kind(Kind::StaticBinding, data);
}

/// GOBD.
pub fn dynamic_binding(data: &[u8]) {
    kind(Kind::DynamicBinding, data);
}

/// GDXX.
pub fn debinding(data: &[u8]) {
    kind(Kind::Debinding, data);
}

/// GARQ, from outside.
pub fn request(data: &[u8]) {
    kind(Kind::Request, data);
}

/// Any object: the first byte says of which kind, the second is the recipe.
pub fn verify(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    kind(Kind::ALL[usize::from(first) % Kind::ALL.len()], rest);
}

fn kind(kind: Kind, data: &[u8]) {
    check(&forge::cook(kind, data));
    check(data.get(1..).unwrap_or_default());
}

/// Reads bytes as an object; everything that follows from its having been read must hold.
fn check(bytes: &[u8]) {
    let _ = Stored::read(bytes);
    let Ok(parsed) = Unverified::parse(bytes) else { return };
    assert_eq!(parsed.bytes(), bytes);
    let (ghid, kind) = (parsed.ghid(), parsed.kind());
    let stored = Stored::read(bytes).expect("what is an object can be stored");
    assert_eq!(stored.kind(), kind);
    let author = parsed.author().and_then(|author| cast::person(&author));
    assert!(
        parsed.author().is_none() || parsed.clone().verify(None).is_err(),
        "not without its author"
    );
    let verified = parsed.clone().verify(author.map(Signer::identity));
    let taken = parsed.assume_verified();
    let object = taken.object();
    let suite = object.suite();
    let end_at = bytes.len() - forge::end_len(kind, suite);
    assert_eq!(ghid, Ghid::of(&bytes[..end_at - 64]));
    assert_eq!(rewrite(object, bytes), bytes);

    if let (Ok(verified), Some(author)) = (&verified, author) {
        assert_eq!(verified.bytes(), bytes);
        // Signatures of both suites are deterministic here, so there is one of each object.
        let mut signature = Vec::new();
        author.sign_object(&ghid, &mut signature);
        assert_eq!(signature, bytes[end_at..], "a signature that its author did not make");
        let mut again = bytes.to_vec();
        set_signature(&mut again, &signature).expect("a signed object");
        assert_eq!(again, bytes);
    }
    match object {
        Object::Container(container) => {
            for suite in Suite::ALL {
                if let Ok(plaintext) = container.open(&cast::secret(suite)) {
                    assert_eq!(plaintext.len(), container.plaintext_len());
                }
            }
        }
        Object::Request(request) => {
            // RSA is slow: one in sixteen.
            let slow = suite == Suite::Suite1 && !bytes[end_at - 1].is_multiple_of(16);
            let bob = &cast::cast(suite).bob;
            if !slow && request.recipient() == bob.ghid() {
                let known =
                    |ghid: &Ghid| cast::person(ghid).map(|person| person.identity().clone());
                let examined = request.examine(bob, known);
                let opened = request.open(bob).ok().and_then(|opened| {
                    let author = cast::person(&opened.author())?;
                    opened.authenticate(bob, author.identity()).ok()
                });
                assert_eq!(examined.ok(), opened, "one verdict, however it is asked for");
            }
        }
        Object::DynamicBinding(frame) => {
            assert!(frame.is_proven() || suite == Suite::Suite1);
            assert_eq!(frame.counter() == 0, frame.targets().len() == 1);
        }
        Object::Identity(_) | Object::StaticBinding(_) | Object::Debinding(_) => {}
    }
}

/// Writes an object from what was read, and only what nobody interprets from the bytes.
fn rewrite(object: &Object, bytes: &[u8]) -> Vec<u8> {
    let (kind, suite) = (object.kind(), object.suite());
    let mut out = Vec::new();
    out.extend_from_slice(&kind.magic());
    out.extend_from_slice(&kind.version().to_be_bytes());
    out.push(suite.code());
    let put = |out: &mut Vec<u8>, ghid: Ghid| out.extend_from_slice(ghid.as_bytes());
    match object {
        Object::Identity(identity) => return identity.encode(),
        Object::Container(container) => {
            put(&mut out, container.author());
            out.extend_from_slice(&(container.payload_len() as u64).to_be_bytes());
            out.extend_from_slice(&bytes[82..82 + container.payload_len()]);
        }
        Object::StaticBinding(binding) => {
            put(&mut out, binding.binder());
            put(&mut out, binding.target());
        }
        Object::DynamicBinding(frame) => {
            put(&mut out, frame.binder());
            out.extend_from_slice(&frame.counter().to_be_bytes());
            let len = u16::try_from(frame.targets().len() * Ghid::LEN).expect("fits its field");
            out.extend_from_slice(&len.to_be_bytes());
            frame.targets().iter().for_each(|target| put(&mut out, *target));
            put(&mut out, frame.dynamic());
        }
        Object::Debinding(debinding) => {
            put(&mut out, debinding.debinder());
            put(&mut out, debinding.target());
        }
        Object::Request(request) => {
            put(&mut out, request.recipient());
            out.extend_from_slice(&bytes[74..586]);
        }
    }
    put(&mut out, object.ghid());
    let end_len = forge::end_len(kind, suite);
    out.extend_from_slice(&bytes[bytes.len() - end_len..]);
    out
}
