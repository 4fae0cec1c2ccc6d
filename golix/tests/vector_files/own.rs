//! Our own files: valid objects must come out byte for byte, broken ones must be refused for the one
//! reason they are named for. How the files are made: `vectors/generate.py`.

use std::collections::BTreeMap;

use golix::object::{
    Container, Debinding, DynamicBinding, Object, OpenError, Request, RequestBody, RequestError,
    StaticBinding, Unverified, Verified,
};
use golix::{ChainKey, Ghid, GhidError, Identity, PrivateIdentity, Secret, Suite};
use serde::Deserialize;

use super::{Base64, Hex, Number, Shape, counted};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[expect(dead_code, reason = "it was looked at when the file was found")]
    format: String,
    suite: u8,
    identities: BTreeMap<String, IdentityVector>,
    secrets: Vec<SecretVector>,
    chains: Vec<ChainVector>,
    geoc: Vec<ContainerVector>,
    gobs: Vec<BindingVector>,
    gdxx: Vec<BindingVector>,
    gobd: Vec<FrameVector>,
    garq: Vec<RequestVector>,
    negative: Vec<NegativeVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityVector {
    sign: Hex,
    encrypt: Hex,
    exchange: Hex,
    gidc: Base64,
    ghid: Hex,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretVector {
    name: String,
    key: Hex,
    seed: Hex,
    packed: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainVector {
    name: String,
    dynamic: Hex,
    epoch: u32,
    index: Number,
    key: Hex,
    to_index: Number,
    to_key: Hex,
    container_secret: Hex,
    handshake: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerVector {
    name: String,
    author: String,
    key: Hex,
    seed: Hex,
    salt: Hex,
    plaintext: Base64,
    packed: Base64,
    ghid: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingVector {
    name: String,
    binder: String,
    target: Hex,
    packed: Base64,
    ghid: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameVector {
    name: String,
    binder: String,
    counter: Number,
    targets: Vec<Hex>,
    dynamic: Hex,
    /// False for frames that are read but never made here.
    makeable: bool,
    packed: Base64,
    ghid: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestVector {
    name: String,
    author: String,
    recipient: String,
    ephemeral: Hex,
    kind: Hex,
    target: Option<Hex>,
    secret: Option<Hex>,
    request: Option<Hex>,
    status: Option<u32>,
    payload: Option<Base64>,
    packed: Base64,
    ghid: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NegativeVector {
    name: String,
    /// Where it must fail, having passed everything before.
    stage: Stage,
    rule: String,
    input: Base64,
    author: Option<String>,
    secret: Option<Hex>,
    recipient: Option<String>,
    known: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    Ghid,
    GhidText,
    Secret,
    Parse,
    Verify,
    Open,
    Receive,
}

struct Run<'a> {
    vectors: &'a Vectors,
    people: BTreeMap<String, PrivateIdentity>,
}

fn for_each_file(check: impl Fn(&Run<'_>)) {
    super::for_each(&Shape::Own, |vectors: &Vectors| {
        let suite = Suite::from_code(vectors.suite).expect("a suite we have");
        let people = vectors
            .identities
            .iter()
            .map(|(name, it)| {
                let (sign, encrypt) = (it.sign.array(), it.encrypt.array());
                let me = PrivateIdentity::from_seeds(suite, sign, encrypt, it.exchange.array());
                (name.clone(), me)
            })
            .collect();
        check(&Run { vectors, people });
    });
}

/// What was made equals the vector, and the vector reads, verifies and says the same.
fn same(name: &str, made: &Verified, packed: &Base64, ghid: &Hex, author: Option<&Identity>) {
    assert_eq!(made.bytes(), packed.0, "{name}");
    read(name, packed, ghid, author, made.object());
}

fn read(name: &str, packed: &Base64, ghid: &Hex, author: Option<&Identity>, object: &Object) {
    let verified = Unverified::parse(&packed.0)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .verify(author)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(verified.ghid(), ghid.ghid(), "{name}");
    assert_eq!(verified.object(), object, "{name}");
}

pub fn identities() {
    for_each_file(|run| {
        counted("identities", run.vectors.identities.len());
        for (name, it) in &run.vectors.identities {
            let me = &run.people[name];
            assert_eq!(me.identity().encode(), it.gidc.0, "{name}");
            assert_eq!(me.ghid().to_string(), it.text, "{name}");
            let object = Object::Identity(me.identity().clone());
            read(name, &it.gidc, &it.ghid, None, &object);
        }
    });
}

pub fn secrets_and_chains() {
    for_each_file(|run| {
        counted("secrets", run.vectors.secrets.len());
        counted("chains", run.vectors.chains.len());
        for it in &run.vectors.secrets {
            let secret = Secret::new(Suite::Suite3, it.key.array(), it.seed.array());
            assert_eq!(secret.to_bytes()[..], it.packed.0, "{}", it.name);
            assert_eq!(it.packed.secret(), secret, "{}", it.name);
        }
        for it in &run.vectors.chains {
            let dynamic = it.dynamic.ghid();
            let chain = ChainKey::new(it.epoch, it.index.0, it.key.array())
                .advance_to(&dynamic, it.to_index.0)
                .unwrap();
            assert_eq!(chain.key()[..], it.to_key.0, "{}", it.name);
            assert_eq!(chain.container_secret(&dynamic), it.container_secret.secret());
            assert_eq!(chain.to_handshake(), it.handshake.secret(), "{}", it.name);
            let back = ChainKey::from_handshake(&it.handshake.secret()).unwrap();
            assert_eq!((back.epoch(), back.index()), (it.epoch, it.to_index.0), "{}", it.name);
        }
    });
}

pub fn containers() {
    for_each_file(|run| {
        counted("geoc", run.vectors.geoc.len());
        for it in &run.vectors.geoc {
            let me = &run.people[&it.author];
            let secret = Secret::new(me.suite(), it.key.array(), it.seed.array());
            let made = Container::seal(me, &secret, it.salt.array(), &it.plaintext.0);
            same(&it.name, &made, &it.packed, &it.ghid, Some(me.identity()));
            let Object::Container(container) = made.object() else { panic!("a container") };
            assert_eq!(*container.open(&secret).unwrap(), it.plaintext.0, "{}", it.name);
        }
    });
}

pub fn bindings() {
    for_each_file(|run| {
        counted("gobs", run.vectors.gobs.len());
        counted("gdxx", run.vectors.gdxx.len());
        counted("gobd", run.vectors.gobd.len());
        for it in &run.vectors.gobs {
            let me = &run.people[&it.binder];
            let made = StaticBinding::make(me, it.target.ghid());
            same(&it.name, &made, &it.packed, &it.ghid, Some(me.identity()));
        }
        for it in &run.vectors.gdxx {
            let me = &run.people[&it.binder];
            let made = Debinding::make(me, it.target.ghid());
            same(&it.name, &made, &it.packed, &it.ghid, Some(me.identity()));
        }
        for it in &run.vectors.gobd {
            let me = &run.people[&it.binder];
            let targets: Vec<Ghid> = it.targets.iter().map(Hex::ghid).collect();
            if it.makeable {
                let made = if it.counter.0 == 0 {
                    DynamicBinding::first(me, targets[0])
                } else {
                    DynamicBinding::next(me, it.dynamic.ghid(), it.counter.0, &targets).unwrap()
                };
                same(&it.name, &made, &it.packed, &it.ghid, Some(me.identity()));
            }
            let parsed = Unverified::parse(&it.packed.0).unwrap();
            let verified = parsed.verify(Some(me.identity())).unwrap();
            assert_eq!(verified.ghid(), it.ghid.ghid(), "{}", it.name);
            let Object::DynamicBinding(frame) = verified.object() else { panic!("a frame") };
            assert_eq!(frame.targets(), targets, "{}", it.name);
            assert_eq!(frame.counter(), it.counter.0, "{}", it.name);
            assert_eq!(frame.dynamic(), it.dynamic.ghid(), "{}", it.name);
        }
    });
}

pub fn requests() {
    for_each_file(|run| {
        counted("garq", run.vectors.garq.len());
        for it in &run.vectors.garq {
            let (author, recipient) = (&run.people[&it.author], &run.people[&it.recipient]);
            let answered = || {
                let request = it.request.as_ref().unwrap().ghid();
                (request, it.status.unwrap())
            };
            let body = match it.kind.0.as_slice() {
                b"HS" => RequestBody::Handshake {
                    target: it.target.as_ref().unwrap().ghid(),
                    secret: it.secret.as_ref().unwrap().secret(),
                },
                b"AK" => {
                    let (request, status) = answered();
                    RequestBody::Ack { request, status }
                }
                b"NK" => {
                    let (request, status) = answered();
                    RequestBody::Nak { request, status }
                }
                _ => RequestBody::Arbitrary(it.payload.as_ref().unwrap().0.clone()),
            };
            let mut randomness = [0; 64];
            randomness[..32].copy_from_slice(&it.ephemeral.0);
            let made = Request::seal(author, recipient.identity(), &body, randomness).unwrap();
            same(&it.name, &made, &it.packed, &it.ghid, None);
            let Object::Request(request) = made.object() else { panic!("a request") };
            let opened = request.open(recipient).unwrap();
            assert_eq!(opened.author(), author.ghid(), "{}", it.name);
            let read = opened.authenticate(recipient, author.identity()).unwrap();
            assert_eq!(read, body, "{}", it.name);
        }
    });
}

pub fn negatives() {
    for_each_file(|run| {
        let mut failures = Vec::new();
        for it in &run.vectors.negative {
            let rule = broken_rule(run, it);
            let expected = match it.stage {
                // Nothing may tell these apart.
                Stage::Receive => "RECEIVE",
                _ => it.rule.as_str(),
            };
            if rule.as_deref() != Ok(expected) {
                failures.push(format!("{}: expected {expected}, got {rule:?}", it.name));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        counted("negative", run.vectors.negative.len());
    });
}

/// The rule that refuses the vector at its stage; `Err` if it fails elsewhere or not at all.
fn broken_rule(run: &Run<'_>, it: &NegativeVector) -> Result<String, String> {
    let input = it.input.0.as_slice();
    let parse = || Unverified::parse(input).map_err(|error| format!("parse: {error}"));
    let author = it.author.as_ref().map(|name| run.people[name].identity());
    let verify = || parse()?.verify(author).map_err(|error| format!("verify: {error}"));
    let accepted = Err("accepted".to_owned());
    match it.stage {
        Stage::Ghid => match Ghid::from_bytes(input) {
            Err(GhidError::Length(_)) => Ok("GHID_LENGTH".into()),
            Err(GhidError::Algorithm(_)) => Ok("GHID_ALGO".into()),
            Err(other) => Err(other.to_string()),
            Ok(_) => accepted,
        },
        Stage::GhidText => match std::str::from_utf8(input).unwrap().parse::<Ghid>() {
            Err(_) => Ok("GHID_STR".into()),
            Ok(_) => accepted,
        },
        Stage::Secret => match Secret::from_bytes(input) {
            Err(error) => Ok(error.rule().into()),
            Ok(_) => accepted,
        },
        Stage::Parse => match Unverified::parse(input) {
            Err(error) => Ok(error.rule().into()),
            Ok(_) => accepted,
        },
        Stage::Verify => match parse()?.verify(author) {
            Err(error) => Ok(error.rule().into()),
            Ok(_) => accepted,
        },
        Stage::Open => {
            let verified = verify()?;
            let Object::Container(container) = verified.object() else { panic!("a container") };
            match container.open(&it.secret.as_ref().unwrap().secret()) {
                Err(OpenError::WrongSecret) => Ok("WRONG_SECRET".into()),
                Err(OpenError::Damaged) => Ok("DAMAGED".into()),
                Err(other) => Err(other.to_string()),
                Ok(_) => accepted,
            }
        }
        Stage::Receive => {
            let verified = verify()?;
            let Object::Request(request) = verified.object() else { panic!("a request") };
            let me = &run.people[it.recipient.as_ref().unwrap()];
            let known = it.known.as_ref().unwrap();
            let read = request.open(me).and_then(|opened| {
                let author = known
                    .iter()
                    .map(|name| run.people[name].identity())
                    .find(|identity| identity.ghid() == opened.author())
                    .ok_or(RequestError)?;
                opened.authenticate(me, author)
            });
            match read {
                Err(RequestError) => Ok("RECEIVE".into()),
                Ok(_) => accepted,
            }
        }
    }
}
