//! Each kind fails at the step the specification names, and no later.
//!
//! For every kind there is the list of its steps, in order. An object that breaks step n and all steps
//! after it must be refused by step n; mended there, by step n+1; and so on to the end, where it is
//! accepted.

mod forge;
mod persister_cast;

use golix::object::{Container, Debinding, DynamicBinding, Request, RequestBody, StaticBinding};
use golix::object::{Kind, Unverified, VerifyError, set_signature};
use golix::{Ghid, PrivateIdentity, Secret, Signer, Suite};
use persister_cast::{SUITE1, SUITE3};

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

/// Alice and Bob, in each suite.
fn people() -> [[&'static PrivateIdentity; 2]; 2] {
    [[&SUITE1.alice.0, &SUITE1.bob.0], [&SUITE3.alice.0, &SUITE3.bob.0]]
}

fn check([alice, bob]: [&PrivateIdentity; 2], good: &[u8], steps: &[(&str, Fault)]) {
    let kind = Unverified::parse(good).expect("a good object").kind();
    let signed = kind != Kind::Identity && kind != Kind::Request;
    for from in 0..=steps.len() {
        let faults: Vec<Fault> = steps[from..].iter().map(|(_, fault)| *fault).collect();
        let object = build(alice, good, kind, &faults);
        let expected = steps.get(from).map_or("ACCEPTED", |(rule, _)| rule);
        let author = (signed && !faults.contains(&NoAuthor))
            .then(|| if faults.contains(&OtherAuthor) { bob.identity() } else { alice.identity() });
        let got = match Unverified::parse(&object) {
            Err(error) => error.rule(),
            Ok(parsed) => parsed.verify(author).map_or_else(VerifyError::rule, |_| "ACCEPTED"),
        };
        assert_eq!(got, expected, "{kind:?}, {:?}, broken from step {from} on", alice.suite());
    }
}

fn build(alice: &PrivateIdentity, good: &[u8], kind: Kind, faults: &[Fault]) -> Vec<u8> {
    let mut object = good.to_vec();
    for fault in faults {
        if let Byte(at, value) = *fault {
            assert_ne!(object[at], value, "the fault changes something");
            object[at] = value;
        }
    }
    let tail_len = match kind {
        Kind::Identity => Ghid::LEN,
        Kind::Request => Ghid::LEN + 64,
        _ => Ghid::LEN + alice.suite().signature_len(),
    };
    forge::rehash(&mut object, tail_len);
    let len = object.len();
    match kind {
        Kind::Identity => {}
        Kind::Request => forge::outer(&mut object),
        _ => {
            let hash = *object[len - tail_len + 1..].first_chunk().expect("a hash");
            let mut signature = Vec::new();
            alice.sign_object(&Ghid::from_address(hash), &mut signature);
            object[len - signature.len()..].copy_from_slice(&signature);
            assert!(set_signature(&mut good.to_vec(), &signature).is_ok());
        }
    }
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
    let [[one, _], [three, _]] = people();
    check(
        people()[0],
        &one.identity().encode(),
        &[
            ("MAGIC", Byte(0, b'X')),
            ("VERSION", Byte(7, 1)),
            ("SUITE", Byte(8, 2)),
            ("TRAILING", Trailing),
            ("ADDR_ALGO", Byte(1065, 0)),
            ("HASH", Hash),
            // Even moduli; an exchange key cannot be broken by one byte.
            ("KEY_SIG", Byte(520, 0)),
            ("KEY_ENC", Byte(1032, 0)),
        ],
    );
    check(
        people()[1],
        &three.identity().encode(),
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
    for people in people() {
        let suite = people[0].suite();
        let secret = Secret::new(suite, [1; 32], [2; 16]);
        let made = Container::seal(people[0], &secret, [3; 32], b"plaintext");
        let address = made.bytes().len() - suite.signature_len() - Ghid::LEN;
        check(
            people,
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
}

#[test]
fn bindings_and_debindings() {
    let target = Ghid::of(b"target");
    for people in people() {
        let me = people[0];
        for made in [StaticBinding::make(me, target), Debinding::make(me, target)] {
            check(
                people,
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
}

#[test]
fn frame() {
    let (birth, now) = (Ghid::of(b"birth"), Ghid::of(b"now"));
    for people in people() {
        let me = people[0];
        let dynamic = DynamicBinding::dynamic_address(me.suite(), &me.ghid(), &birth);
        let made = DynamicBinding::next(me, dynamic, 1, &[now, birth]).unwrap();
        let mut steps = vec![
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
        ];
        if me.suite() == Suite::Suite1 {
            // A later frame need not prove anything.
            steps.retain(|(rule, _)| *rule != "DYN_HASH");
        }
        check(people, made.bytes(), &steps);
        let first = DynamicBinding::first(me, birth);
        steps.retain(|(rule, _)| !matches!(*rule, "GHID_ALGO" | "ADDR_ALGO" | "DYN_HASH"));
        let proof = ("DYN_HASH", Byte(84 + 65 + 64, first.bytes()[84 + 65 + 64] ^ 1));
        let at = steps.iter().position(|(rule, _)| *rule == "AUTHOR_UNKNOWN").unwrap();
        steps.insert(at, proof);
        for (_, fault) in &mut steps {
            match fault {
                Byte(83, value) => *value = 66,
                Byte(81, value) => *value = 1,
                _ => {}
            }
        }
        check(people, first.bytes(), &steps);
    }
}

#[test]
fn request() {
    let body = RequestBody::Ack { request: Ghid::of(b"request"), status: 0 };
    for people in people() {
        let [alice, bob] = people;
        let made = Request::seal(bob, alice.identity(), &body, [9; 64]).unwrap();
        let mut steps = vec![
            ("MAGIC", Byte(2, 0)),
            ("VERSION", Byte(7, 11)),
            ("SUITE", Byte(8, 255)),
            ("TRAILING", Trailing),
            ("GHID_ALGO", Byte(9, 2)),
            ("ADDR_ALGO", Byte(586, 0)),
            ("HASH", Hash),
            ("OUTER", Authenticator),
        ];
        if alice.suite() == Suite::Suite1 {
            // Only the recipient can tell whether the MAC is right.
            steps.pop();
        }
        check(people, made.bytes(), &steps);
    }
}
