//! Objects that break one named rule each, and some that break none, against what a persister or a
//! recipient has to answer.

use std::collections::BTreeMap;

use golix::object::{Object, RequestError, Unverified};
use golix::persister::memory::MemoryView;
use golix::{Ghid, GhidError, Identity, PrivateIdentity, Secret};
use serde::Deserialize;

use super::original::{self, IdentityVector};
use super::{Base64, Hex, Shape, counted, only_remarks, publish};

#[derive(Deserialize)]
struct File {
    identities: BTreeMap<String, Person>,
    library: BTreeMap<String, Base64>,
    vectors: Vec<Vector>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// An identity of suite 1 as the original's files have it, or of suite 3.
#[derive(Deserialize)]
#[serde(untagged)]
enum Person {
    Original(Box<IdentityVector>),
    Seeds { suite: u8, sign: Hex, encrypt: Hex, exchange: Hex },
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    role: Role,
    input_b64: Option<Base64>,
    input_str: Option<String>,
    #[serde(default)]
    preload: Vec<String>,
    recipient: Option<String>,
    #[serde(default)]
    known: Vec<String>,
    expect: Expect,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Role {
    GhidBytes,
    GhidStr,
    Secret,
    Publish,
    Receive,
}

#[derive(Deserialize)]
struct Expect {
    verdict: String,
    rule: Option<String>,
    /// The NAK code, four hex digits.
    nak: Option<String>,
}

/// The name of the broken rule, with the NAK code where one is sent.
type Verdict = Result<(), (&'static str, Option<u16>)>;

pub fn negatives() {
    super::for_each(&Shape::Negative, |vectors: &File| {
        only_remarks(&vectors.rest);
        counted("vectors", vectors.vectors.len());
        let people = vectors.identities.iter().map(|(name, it)| (name.as_str(), person(it)));
        let people: BTreeMap<_, _> = people.collect();
        let mut failures = Vec::new();
        for vector in &vectors.vectors {
            let verdict = verdict(vectors, &people, vector);
            if let Some(failure) = compare(vectors, vector, verdict) {
                failures.push(format!("{}: {failure}", vector.id));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

fn person(it: &Person) -> PrivateIdentity {
    match it {
        Person::Original(it) => original::person(it),
        Person::Seeds { suite, sign, encrypt, exchange } => {
            let suite = golix::Suite::from_code(*suite).expect("a suite we have");
            PrivateIdentity::from_seeds(suite, sign.array(), encrypt.array(), exchange.array())
        }
    }
}

fn compare(vectors: &File, vector: &Vector, verdict: Verdict) -> Option<String> {
    let Expect { verdict: expected, rule, nak } = &vector.expect;
    let accepts = match expected.as_str() {
        "accept" => true,
        "reject" => false,
        other => panic!("{}: {other}?", vector.id),
    };
    if newer_suite(vectors, vector) {
        // Files of the original are from a time before suite 3. A secret of suite 3 is one now; the
        // rest still must not pass, but for another reason.
        return (verdict.is_ok() != (vector.role == Role::Secret)).then(|| format!("{verdict:?}"));
    }
    if !accepts && proves_its_owner(vectors, vector) {
        // docs/decisions.md: the rightful owner gets back what somebody else had first.
        return verdict.err().map(|verdict| format!("{verdict:?}"));
    }
    match verdict {
        Ok(()) if accepts => None,
        Err((got, code)) if !accepts => {
            let right_rule = rule.as_deref() == Some(got);
            // The codes of requests never leave their recipient.
            let code =
                code.filter(|_| vector.role == Role::Publish).map(|code| format!("{code:04x}"));
            let right_code = code.is_none() || code == *nak;
            (!right_rule || !right_code)
                .then(|| format!("expected {rule:?} {nak:?}, got {got} {code:?}"))
        }
        verdict => Some(format!("expected {expected} {rule:?}, got {verdict:?}")),
    }
}

/// Whether the file knows suite 1 alone and the input says suite 3.
fn newer_suite(vectors: &File, vector: &Vector) -> bool {
    let of_original = vectors.identities.values().all(|it| matches!(it, Person::Original(_)));
    let at = match vector.role {
        Role::Secret => 4,
        Role::Publish | Role::Receive => 8,
        Role::GhidBytes | Role::GhidStr => return false,
    };
    let input = vector.input_b64.as_ref().map_or(&[][..], |input| &input.0);
    of_original && input.get(at) == Some(&3)
}

/// Whether the input is a frame that proves its owner, and what is stored of its address proves nothing
/// and is somebody else's.
fn proves_its_owner(vectors: &File, vector: &Vector) -> bool {
    if vector.role != Role::Publish {
        return false;
    }
    let input = vector.input_b64.as_ref().map_or(&[][..], |input| &input.0);
    let Ok(Object::DynamicBinding(frame)) =
        Unverified::parse(input).map(|parsed| parsed.assume_verified().object().clone())
    else {
        return false;
    };
    let view = preloaded(vectors, vector);
    let head = view.heads().find(|(dynamic, _)| **dynamic == frame.dynamic());
    frame.is_proven() && head.is_some_and(|(_, head)| !head.proven && head.binder != frame.binder())
}

fn preloaded(vectors: &File, vector: &Vector) -> MemoryView {
    let mut view = MemoryView::new();
    for name in &vector.preload {
        let answer = publish(&mut view, &vectors.library[name].0);
        assert_eq!(answer, Ok(false), "{}: {name}", vector.id);
    }
    view
}

fn verdict(vectors: &File, people: &BTreeMap<&str, PrivateIdentity>, vector: &Vector) -> Verdict {
    let input = || vector.input_b64.as_ref().expect("an input").0.as_slice();
    match vector.role {
        Role::GhidBytes => match Ghid::from_bytes(input()) {
            Ok(_) => Ok(()),
            Err(GhidError::Length(_)) => Err(("GHID_LENGTH", None)),
            Err(GhidError::Algorithm(_)) => Err(("GHID_ALGO", None)),
            Err(GhidError::Text) => Err(("GHID_STR", None)),
        },
        Role::GhidStr => {
            let text = vector.input_str.as_ref().expect("a text");
            text.parse::<Ghid>().map(|_| ()).map_err(|_| ("GHID_STR", None))
        }
        Role::Secret => Secret::from_bytes(input()).map(|_| ()).map_err(|_| ("SECRET", None)),
        Role::Publish => {
            let answer = publish(&mut preloaded(vectors, vector), input());
            answer.map(|_| ()).map_err(|(rule, code)| (rule, Some(code)))
        }
        Role::Receive => receive(vectors, &people[vector.recipient.as_deref().unwrap()], vector),
    }
}

fn receive(vectors: &File, me: &PrivateIdentity, vector: &Vector) -> Verdict {
    let input = vector.input_b64.as_ref().expect("an input").0.as_slice();
    let parsed = Unverified::parse(input).map_err(|error| (error.rule(), None))?;
    let verified = parsed.verify(None).map_err(|error| (error.rule(), None))?;
    let Object::Request(request) = verified.object() else { panic!("{}: a request", vector.id) };
    let known = |author: &Ghid| {
        let known = vector.known.iter().map(|name| &vectors.library[name].0);
        known.map(|gidc| Identity::from_bytes(gidc).unwrap()).find(|known| known.ghid() == *author)
    };
    let examined = request.examine(me, known);
    // What a node does gives the same verdict, without a reason.
    let opened = request.open(me).and_then(|opened| {
        let author = known(&opened.author()).ok_or(RequestError)?;
        opened.authenticate(me, &author)
    });
    assert_eq!(opened.as_ref().ok(), examined.as_ref().ok(), "{}", vector.id);
    examined.map(|_| ()).map_err(|fault| (fault.rule(), None))
}
