//! Valid objects of the original library, golix 0.1.6, and publish sequences that hypergolix 0.1.0
//! went through: read, proven, opened, and made again byte for byte with the same randomness.

use std::collections::BTreeMap;

use data_encoding::BASE64URL;
use golix::object::{
    Container, Debinding, DecodeError, DynamicBinding, Kind, Object, Request, RequestBody,
    StaticBinding, Unverified, Verified, set_signature,
};
use golix::persister::memory::MemoryView;
use golix::{Ghid, Identity, PrivateIdentity, SaltedSigner, Secret, Signer, Suite};
use serde::Deserialize;

use super::{Base64, Hex, Shape, counted, only_remarks, publish};

/// Any of these makes a file one of this shape; it need not have them all.
pub const LISTS: [&str; 10] = [
    "ghids",
    "secrets",
    "agreements",
    "geoc",
    "gobs",
    "gobd",
    "garq",
    "gdxx",
    "suite0",
    "scenarios",
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Vectors {
    identities: BTreeMap<String, IdentityVector>,
    ghids: Vec<GhidVector>,
    secrets: Vec<SecretVector>,
    agreements: Vec<AgreementVector>,
    geoc: Vec<ContainerVector>,
    gobs: Vec<BindingVector>,
    gobd: Vec<FrameVector>,
    garq: Vec<RequestVector>,
    gdxx: Vec<BindingVector>,
    suite0: Vec<Suite0Vector>,
    scenarios: Vec<Scenario>,
    library: BTreeMap<String, Base64>,
    library_ghids: BTreeMap<String, Hex>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
pub struct IdentityVector {
    suite: u8,
    ghid: Hex,
    ghid_str: String,
    ghid_short: String,
    pub gidc_b64: Base64,
    signature: RsaVector,
    encryption: RsaVector,
    exchange: ExchangeVector,
}

#[derive(Deserialize)]
struct RsaVector {
    n: String,
    pkcs8_der_b64: Base64,
}

#[derive(Deserialize)]
struct ExchangeVector {
    private: Hex,
    public: Hex,
}

#[derive(Deserialize)]
struct GhidVector {
    bytes: Hex,
    str: String,
    short: String,
}

#[derive(Deserialize)]
struct SecretVector {
    suite: u8,
    key: Hex,
    seed: Hex,
    packed: Hex,
    str: String,
}

#[derive(Deserialize)]
struct AgreementVector {
    a: String,
    b: String,
    shared: Hex,
    salt: Hex,
    prk: Hex,
    key: Hex,
}

/// What every object of the file says about itself.
#[derive(Deserialize)]
struct Common {
    name: String,
    suite: u8,
    version: u32,
    ghid: Hex,
    ghid_str: String,
    file_hash: Hex,
    packed_b64: Base64,
}

#[derive(Deserialize)]
struct ContainerVector {
    #[serde(flatten)]
    common: Common,
    author: String,
    secret: SecretVector,
    plaintext_len: usize,
    plaintext_b64: Base64,
    signature: Hex,
    pss_salt: Hex,
}

#[derive(Deserialize)]
struct BindingVector {
    #[serde(flatten)]
    common: Common,
    #[serde(alias = "debinder")]
    binder: String,
    target: Hex,
    signature: Hex,
    pss_salt: Hex,
}

#[derive(Deserialize)]
struct FrameVector {
    #[serde(flatten)]
    common: Common,
    binder: String,
    counter: u64,
    target_vector: Vec<Hex>,
    ghid_dynamic: Hex,
    first_frame: bool,
    signature: Hex,
    pss_salt: Hex,
}

#[derive(Deserialize)]
struct RequestVector {
    #[serde(flatten)]
    common: Common,
    author: String,
    recipient: String,
    kind: Hex,
    inner: Hex,
    oaep_seed: Hex,
    mac_key: Hex,
    mac: Hex,
    target: Option<Hex>,
    secret: Option<SecretVector>,
    status: Option<u32>,
    payload: Option<Hex>,
}

#[derive(Deserialize)]
struct Suite0Vector {
    address_algo: u8,
    secret: Hex,
    gidc_b64: Base64,
    geoc_b64: Base64,
    gobs_b64: Base64,
    gobd_b64: Base64,
    gdxx_b64: Base64,
    garq_b64: Base64,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    steps: Vec<Step>,
    present: Vec<String>,
    absent: Vec<String>,
}

#[derive(Deserialize)]
struct Step {
    publish: String,
    expect: String,
}

/// The private half of an identity in a file.
pub fn person(it: &IdentityVector) -> PrivateIdentity {
    let (signature, encryption) = (&it.signature.pkcs8_der_b64.0, &it.encryption.pkcs8_der_b64.0);
    PrivateIdentity::from_suite1_keys(signature, encryption, it.exchange.private.array())
        .expect("the original's keys are good ones")
}

struct Run<'a> {
    vectors: &'a Vectors,
    people: BTreeMap<&'a str, PrivateIdentity>,
}

impl Run<'_> {
    /// Who signs, with the salt that the original drew.
    fn signer(&self, name: &str, salt: &Hex) -> SaltedSigner<'_> {
        self.people[name].salted(salt.array())
    }
}

fn for_each_file(check: impl Fn(&Run<'_>)) {
    super::for_each(&Shape::Original, |vectors: &Vectors| {
        only_remarks(&vectors.rest);
        let people = &vectors.identities;
        let people = people.iter().map(|(name, it)| (name.as_str(), person(it))).collect();
        check(&Run { vectors, people });
    });
}

/// The object reads as the file says and is its author's; `made` is the same, made here.
fn same(
    common: &Common,
    kind: Kind,
    author: Option<&Identity>,
    made: Option<&Verified>,
) -> Verified {
    let name = &common.name;
    let verified = Unverified::parse(&common.packed_b64.0)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .verify(author)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(verified.kind(), kind, "{name}");
    assert_eq!(verified.object().suite().code(), common.suite, "{name}");
    assert_eq!(kind.version(), common.version, "{name}");
    assert_eq!(verified.ghid(), common.ghid.ghid(), "{name}");
    assert_eq!(verified.ghid().to_string(), common.ghid_str, "{name}");
    assert_eq!(verified.ghid().address()[..], common.file_hash.0, "{name}");
    if let Some(made) = made {
        assert_eq!(made.bytes(), common.packed_b64.0, "{name}: made here");
        assert_eq!(made.object(), verified.object(), "{name}: made here");
    }
    verified
}

fn secret(it: &SecretVector) -> Secret {
    let suite = Suite::from_code(it.suite).expect("a suite we have");
    let secret = Secret::new(suite, it.key.array(), it.seed.array());
    assert_eq!(secret.to_bytes()[..], it.packed.0);
    secret
}

pub fn identities() {
    count("identities", |vectors| vectors.identities.len());
    for_each_file(|run| {
        for (name, it) in &run.vectors.identities {
            let me = &run.people[name.as_str()];
            assert_eq!(me.suite().code(), it.suite, "{name}");
            assert_eq!(me.ghid(), it.ghid.ghid(), "{name}");
            assert_eq!(me.ghid().to_string(), it.ghid_str, "{name}");
            assert_eq!(me.ghid().short(), it.ghid_short, "{name}");
            let gidc = me.identity().encode();
            assert_eq!(gidc, it.gidc_b64.0, "{name}");
            let read = Unverified::parse(&gidc).unwrap().verify(None).unwrap();
            assert_eq!(read.object(), &Object::Identity(me.identity().clone()), "{name}");
            let [signature, encryption] = [&gidc[9..521], &gidc[521..1033]];
            assert_eq!(data_encoding::HEXLOWER.encode(signature), it.signature.n, "{name}");
            assert_eq!(data_encoding::HEXLOWER.encode(encryption), it.encryption.n, "{name}");
            assert_eq!(gidc[1033..1065], it.exchange.public.0, "{name}");

            let back = PrivateIdentity::from_bytes(&me.to_bytes()).unwrap();
            assert_eq!(back.identity(), me.identity(), "{name}");
            assert_eq!(back.to_bytes(), me.to_bytes(), "{name}");
        }
    });
}

pub fn addresses_and_secrets() {
    count("ghids", |vectors| vectors.ghids.len());
    count("secrets", |vectors| vectors.secrets.len());
    for_each_file(|run| {
        for it in &run.vectors.ghids {
            let Ok(ghid) = Ghid::from_bytes(&it.bytes.0) else {
                assert_eq!(it.bytes.0[0], 0, "only placeholders are no addresses here");
                continue;
            };
            assert_eq!(ghid.to_string(), it.str);
            assert_eq!(it.str.parse(), Ok(ghid));
            assert_eq!(ghid.short(), it.short);
        }
        for it in &run.vectors.secrets {
            assert_eq!(BASE64URL.encode(&it.packed.0), it.str);
            match Secret::from_bytes(&it.packed.0) {
                Ok(read) => assert_eq!(read, secret(it)),
                Err(error) => assert_eq!(error, DecodeError::Suite(it.suite)),
            }
            assert_eq!(Secret::from_bytes(&it.packed.0).is_ok(), it.suite == 1);
        }
    });
}

/// Not every file has to have every list, but one of them.
fn count(list: &str, len: impl Fn(&Vectors) -> usize) {
    let count = std::cell::Cell::new(0);
    super::for_each(&Shape::Original, |vectors: &Vectors| count.update(|sum| sum + len(vectors)));
    counted(list, count.get());
}

pub fn containers() {
    count("geoc", |vectors| vectors.geoc.len());
    for_each_file(|run| {
        for it in &run.vectors.geoc {
            let (me, name) = (&run.people[it.author.as_str()], &it.common.name);
            let (secret, plaintext) = (secret(&it.secret), &it.plaintext_b64.0);
            assert_eq!(plaintext.len(), it.plaintext_len, "{name}");
            let signer = run.signer(&it.author, &it.pss_salt);
            // There is no salt in a container of suite 1: whatever is given here changes nothing.
            let made = Container::seal(&signer, &secret, [9; 32], plaintext);
            let read = same(&it.common, Kind::Container, Some(me.identity()), Some(&made));
            assert!(read.bytes().ends_with(&it.signature.0), "{name}");
            let Object::Container(container) = read.object() else { panic!("a container") };
            assert_eq!(container.author(), me.ghid(), "{name}");
            assert_eq!(container.plaintext_len(), plaintext.len(), "{name}");
            assert_eq!(container.salt(), None, "{name}");
            assert_eq!(*container.open(&secret).unwrap(), *plaintext, "{name}");
        }
    });
}

pub fn bindings() {
    count("gobs", |vectors| vectors.gobs.len());
    count("gdxx", |vectors| vectors.gdxx.len());
    for_each_file(|run| {
        for it in &run.vectors.gobs {
            let me = &run.people[it.binder.as_str()];
            let made = StaticBinding::make(&run.signer(&it.binder, &it.pss_salt), it.target.ghid());
            let read = same(&it.common, Kind::StaticBinding, Some(me.identity()), Some(&made));
            assert!(read.bytes().ends_with(&it.signature.0));
            let Object::StaticBinding(binding) = read.object() else { panic!("a binding") };
            assert_eq!((binding.binder(), binding.target()), (me.ghid(), it.target.ghid()));
        }
        for it in &run.vectors.gdxx {
            let me = &run.people[it.binder.as_str()];
            let made = Debinding::make(&run.signer(&it.binder, &it.pss_salt), it.target.ghid());
            let read = same(&it.common, Kind::Debinding, Some(me.identity()), Some(&made));
            assert!(read.bytes().ends_with(&it.signature.0));
            let Object::Debinding(debinding) = read.object() else { panic!("a debinding") };
            assert_eq!((debinding.debinder(), debinding.target()), (me.ghid(), it.target.ghid()));
        }
    });
}

pub fn frames() {
    count("gobd", |vectors| vectors.gobd.len());
    for_each_file(|run| {
        for it in &run.vectors.gobd {
            let (me, name) = (&run.people[it.binder.as_str()], &it.common.name);
            let signer = run.signer(&it.binder, &it.pss_salt);
            let targets: Vec<Ghid> = it.target_vector.iter().map(Hex::ghid).collect();
            let dynamic = it.ghid_dynamic.ghid();
            // Frames that lost their proof, or carry more history than we would, are read but not made.
            let made = if it.first_frame {
                Some(DynamicBinding::first(&signer, targets[0]))
            } else {
                DynamicBinding::next(&signer, dynamic, it.counter, &targets).ok()
            };
            let read = same(&it.common, Kind::DynamicBinding, Some(me.identity()), made.as_ref());
            assert!(read.bytes().ends_with(&it.signature.0), "{name}");
            let Object::DynamicBinding(frame) = read.object() else { panic!("a frame") };
            assert_eq!(frame.binder(), me.ghid(), "{name}");
            assert_eq!((frame.counter(), frame.targets()), (it.counter, &targets[..]), "{name}");
            assert_eq!(frame.dynamic(), dynamic, "{name}");
            let proof = DynamicBinding::dynamic_address(frame.suite(), &me.ghid(), &frame.birth());
            assert_eq!(frame.is_proven(), proof == dynamic, "{name}");
            assert_eq!(made.is_some(), frame.is_proven() && targets.len() <= 16, "{name}");

            // The signature at least comes out the same, for all of them.
            let mut again = read.bytes().to_vec();
            set_signature(&mut again, &[0; 512]).unwrap();
            assert_ne!(again, read.bytes(), "{name}");
            let mut signature = Vec::new();
            signer.sign_object(&read.ghid(), &mut signature);
            set_signature(&mut again, &signature).unwrap();
            assert_eq!(again, read.bytes(), "{name}");
        }
    });
}

pub fn requests() {
    count("garq", |vectors| vectors.garq.len());
    for_each_file(|run| {
        for it in &run.vectors.garq {
            let name = &it.common.name;
            let [author, recipient] =
                [&it.author, &it.recipient].map(|who| &run.people[who.as_str()]);
            let body = body(it);
            let seed = it.oaep_seed.array();
            let made = Request::seal(author, recipient.identity(), &body, seed).unwrap();
            let read = same(&it.common, Kind::Request, None, Some(&made));
            assert!(read.bytes().ends_with(&it.mac.0), "{name}");
            assert_eq!(it.inner.0, inner(it, &author.ghid()), "{name}");
            let Object::Request(request) = read.object() else { panic!("a request") };
            assert_eq!(request.recipient(), recipient.ghid(), "{name}");
            let opened = request.open(recipient).unwrap();
            assert_eq!(opened.author(), author.ghid(), "{name}");
            assert_eq!(opened.authenticate(recipient, author.identity()).unwrap(), body, "{name}");
            let known = |_: &Ghid| Some(author.identity().clone());
            assert_eq!(request.examine(recipient, known).unwrap(), body, "{name}");
            assert_eq!(hmac(&it.mac_key.0, &it.common.file_hash.0), it.mac.0, "{name}");
        }
    });
}

fn body(it: &RequestVector) -> RequestBody {
    let target = || it.target.as_ref().expect("a target").ghid();
    let status = || it.status.expect("a status");
    match it.kind.0.as_slice() {
        b"HS" => {
            let secret = secret(it.secret.as_ref().expect("a secret"));
            RequestBody::Handshake { target: target(), secret }
        }
        b"AK" => RequestBody::Ack { request: target(), status: status() },
        b"NK" => RequestBody::Nak { request: target(), status: status() },
        [0, 0] => RequestBody::Arbitrary(it.payload.as_ref().expect("a payload").0.clone()),
        kind => panic!("{}: unknown kind {kind:?}", it.common.name),
    }
}

/// Author, kind, length and payload, put together from what the file says of them.
fn inner(it: &RequestVector, author: &Ghid) -> Vec<u8> {
    let target = it.target.iter().flat_map(|target| target.0.clone());
    let secret = it.secret.iter().flat_map(|secret| {
        let len = u8::try_from(secret.packed.0.len()).unwrap();
        [&[len], &secret.packed.0[..]].concat()
    });
    let status = it.status.iter().flat_map(|status| status.to_be_bytes());
    let arbitrary = it.payload.iter().flat_map(|payload| payload.0.clone());
    let payload: Vec<u8> = target.chain(secret).chain(status).chain(arbitrary).collect();
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [author.as_bytes(), &it.kind.0[..], &len, &payload].concat()
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha512>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// What two identities agree on shows in the MACs of their requests, both ways.
pub fn agreements() {
    count("agreements", |vectors| vectors.agreements.len());
    for_each_file(|run| {
        for it in &run.vectors.agreements {
            let [a, b] = [&it.a, &it.b].map(|who| run.people[who.as_str()].ghid().address());
            let salt: Vec<u8> = a.iter().zip(b).map(|(a, b)| a ^ b).collect();
            assert_eq!(it.salt.0, salt);
            assert_eq!(it.prk.0, hmac(&salt, &it.shared.0));
            assert_eq!(it.key.0, hmac(&it.prk.0, &[1]));
            for (author, recipient) in [(&it.a, &it.b), (&it.b, &it.a)] {
                let [author, recipient] = [author, recipient].map(|who| &run.people[who.as_str()]);
                let body = RequestBody::Arbitrary(Vec::new());
                let made = Request::seal(author, recipient.identity(), &body, [1; 64]).unwrap();
                let mac = hmac(&it.key.0, &made.ghid().address());
                assert!(made.bytes().ends_with(&mac));
            }
        }
    });
}

/// Nothing of suite 0 gets in.
pub fn suite0() {
    count("suite0", |vectors| vectors.suite0.len());
    for_each_file(|run| {
        for it in &run.vectors.suite0 {
            let objects = [
                &it.gidc_b64,
                &it.geoc_b64,
                &it.gobs_b64,
                &it.gobd_b64,
                &it.gdxx_b64,
                &it.garq_b64,
            ];
            for object in objects {
                let error = Unverified::parse(&object.0).unwrap_err();
                assert_eq!(error, DecodeError::Suite(0), "algorithm {}", it.address_algo);
            }
            assert_eq!(Secret::from_bytes(&it.secret.0), Err(DecodeError::Suite(0)));
        }
    });
}

pub fn scenarios() {
    count("scenarios", |vectors| vectors.scenarios.len());
    super::for_each(&Shape::Original, |vectors: &Vectors| {
        for scenario in &vectors.scenarios {
            let mut view = MemoryView::new();
            for (number, step) in scenario.steps.iter().enumerate() {
                let answer = match publish(&mut view, &vectors.library[&step.publish].0) {
                    Ok(false) => "new",
                    Ok(true) => "known",
                    Err((rule, _)) => rule,
                };
                let place = format!("{}, step {number}: {}", scenario.name, step.publish);
                assert_eq!(answer, step.expect, "{place}");
                assert_eq!(
                    view.pending_rows().filter(golix::persister::Pending::is_work).count(),
                    0
                );
            }
            for (names, expected) in [(&scenario.present, true), (&scenario.absent, false)] {
                for name in names {
                    let ghid = vectors.library_ghids[name].ghid();
                    assert_eq!(view.contains(&ghid), expected, "{}: {name}", scenario.name);
                }
            }
        }
    });
}
