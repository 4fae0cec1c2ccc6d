//! Each kind fails at the step the specification names, and no later.
//!
//! For every kind there is the list of its steps, in order. An object that breaks step n and all steps
//! after it must be refused by step n; mended there, by step n+1; and so on to the end, where it is
//! accepted.

mod forge;

use golix::object::{Container, Debinding, DynamicBinding, Request, RequestBody, StaticBinding};
use golix::object::{Kind, Unverified, VerifyError};
use golix::{Ghid, PrivateIdentity, Secret, Suite};

const SIGN: [u8; 32] = [1; 32];

/// One step of verification, broken.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The byte at this offset gets this value, before address and signature are made.
    Byte(usize, u8),
    /// A byte too many.
    Trailing,
    /// The file hash is wrong.
    Hash,
    /// The author's identity is not at hand.
    NoAuthor,
    /// Another identity is at hand.
    OtherAuthor,
    /// The authenticator is wrong.
    Authenticator,
}

use Fault::{Authenticator, Byte, Hash, NoAuthor, OtherAuthor, Trailing};

fn alice() -> PrivateIdentity {
    PrivateIdentity::from_seeds(Suite::Suite3, SIGN, [2; 32], [3; 32])
}

fn check(good: &[u8], steps: &[(&str, Fault)]) {
    let kind = Unverified::parse(good).expect("a good object").kind();
    let bob = PrivateIdentity::from_seeds(Suite::Suite3, [4; 32], [5; 32], [6; 32]);
    for from in 0..=steps.len() {
        let faults: Vec<Fault> = steps[from..].iter().map(|(_, fault)| *fault).collect();
        let object = build(good, kind, &faults);
        let expected = steps.get(from).map_or("ACCEPTED", |(rule, _)| rule);
        let (alice, identity);
        let author =
            if kind == Kind::Identity || kind == Kind::Request || faults.contains(&NoAuthor) {
                None
            } else {
                alice = self::alice();
                identity = if faults.contains(&OtherAuthor) { &bob } else { &alice };
                Some(identity.identity())
            };
        let got = match Unverified::parse(&object) {
            Err(error) => error.rule(),
            Ok(parsed) => parsed.verify(author).map_or_else(VerifyError::rule, |_| "ACCEPTED"),
        };
        assert_eq!(got, expected, "{kind:?}, broken from step {from} on");
    }
}

fn build(good: &[u8], kind: Kind, faults: &[Fault]) -> Vec<u8> {
    let mut object = good.to_vec();
    for fault in faults {
        if let Byte(at, value) = *fault {
            assert_ne!(object[at], value, "the fault changes something");
            object[at] = value;
        }
    }
    let tail_len = if kind == Kind::Identity { Ghid::LEN } else { forge::TAIL_LEN };
    forge::rehash(&mut object, tail_len);
    match kind {
        Kind::Identity => {}
        Kind::Request => forge::outer(&mut object),
        _ => forge::resign(&mut object, &SIGN),
    }
    let len = object.len();
    if faults.contains(&Hash) {
        object[len - tail_len + 1] ^= 1;
    }
    if faults.contains(&Authenticator) {
        object[len - 1] ^= 1;
    }
    if faults.contains(&Trailing) {
        object.push(0);
    }
    object
}

#[test]
fn identity() {
    check(
        &alice().identity().encode(),
        &[
            ("MAGIC", Byte(0, b'X')),
            ("VERSION", Byte(7, 1)),
            ("SUITE", Byte(8, 2)),
            ("TRAILING", Trailing),
            ("ADDR_ALGO", Byte(105, 0)),
            ("HASH", Hash),
            // 0xff.. twice over is above p: no canonical key.
            ("KEY_SIG", Byte(40, 0xff)),
            ("KEY_ENC", Byte(72, 0xff)),
            ("KEY_EXC", Byte(104, 0xff)),
        ],
    );
}

#[test]
fn container() {
    let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
    let made = Container::seal(&alice(), &secret, [3; 32], b"plaintext");
    let address = made.bytes().len() - forge::TAIL_LEN;
    check(
        made.bytes(),
        &[
            ("MAGIC", Byte(3, b'X')),
            ("VERSION", Byte(4, 1)),
            ("SUITE", Byte(8, 0)),
            ("LENGTH", Byte(74, 0x80)),
            ("TRAILING", Trailing),
            ("GHID_ALGO", Byte(9, 0)),
            ("ADDR_ALGO", Byte(address, 2)),
            ("HASH", Hash),
            ("AUTHOR_UNKNOWN", NoAuthor),
            ("AUTHOR", OtherAuthor),
            ("SIGNATURE", Authenticator),
        ],
    );
}

#[test]
fn bindings_and_debindings() {
    let target = Ghid::of(b"target");
    for made in [StaticBinding::make(&alice(), target), Debinding::make(&alice(), target)] {
        check(
            made.bytes(),
            &[
                ("MAGIC", Byte(0, 0)),
                ("VERSION", Byte(6, 1)),
                ("SUITE", Byte(8, 2)),
                ("TRAILING", Trailing),
                ("GHID_ALGO", Byte(74, 0)),
                ("ADDR_ALGO", Byte(139, 0)),
                ("HASH", Hash),
                ("AUTHOR_UNKNOWN", NoAuthor),
                ("AUTHOR", OtherAuthor),
                ("SIGNATURE", Authenticator),
            ],
        );
    }
}

#[test]
fn frame() {
    let (birth, now) = (Ghid::of(b"birth"), Ghid::of(b"now"));
    let dynamic = DynamicBinding::dynamic_address(Suite::Suite3, &alice().ghid(), &birth);
    let made = DynamicBinding::next(&alice(), dynamic, 1, &[now, birth]).unwrap();
    check(
        made.bytes(),
        &[
            ("MAGIC", Byte(0, 0)),
            ("VERSION", Byte(7, 15)),
            ("SUITE", Byte(8, 4)),
            ("TARGET_VECTOR", Byte(83, 131)),
            ("TRAILING", Trailing),
            ("GHID_ALGO", Byte(84 + 65, 0)),
            ("FRAME_SHAPE", Byte(81, 0)),
            ("ADDR_ALGO", Byte(84 + 130 + 65, 0)),
            ("HASH", Hash),
            ("DYN_HASH", Byte(84 + 130 + 64, made.bytes()[84 + 130 + 64] ^ 1)),
            ("AUTHOR_UNKNOWN", NoAuthor),
            ("AUTHOR", OtherAuthor),
            ("SIGNATURE", Authenticator),
        ],
    );
}

#[test]
fn request() {
    let body = RequestBody::Ack { request: Ghid::of(b"request"), status: 0 };
    let made = Request::seal(&alice(), alice().identity(), &body, [9; 64]).unwrap();
    check(
        made.bytes(),
        &[
            ("MAGIC", Byte(2, 0)),
            ("VERSION", Byte(7, 11)),
            ("SUITE", Byte(8, 255)),
            ("TRAILING", Trailing),
            ("GHID_ALGO", Byte(9, 2)),
            ("ADDR_ALGO", Byte(586, 0)),
            ("HASH", Hash),
            ("OUTER", Authenticator),
        ],
    );
}
