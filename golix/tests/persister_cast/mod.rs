//! Who and what the persister tests play with: three identities of either suite, and short ways to
//! make objects.

#![allow(dead_code, reason = "every test file uses another part of it")]

use std::path::Path;
use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use golix::object::{
    Container, Debinding, DynamicBinding, Object, Request, RequestBody, StaticBinding, Unverified,
    Verified,
};
use golix::{Ghid, Identity, PrivateIdentity, Secret, Signer, Suite};

/// Somebody who signs at once in suite 3, and leaves the place of a signature empty in suite 1: the
/// rules do not look at signatures, and RSA would take minutes.
pub struct Person(pub PrivateIdentity);

impl Person {
    pub fn ghid(&self) -> Ghid {
        self.0.ghid()
    }

    pub fn suite(&self) -> Suite {
        self.0.suite()
    }
}

impl Signer for Person {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        match self.suite() {
            Suite::Suite1 => out.resize(out.len() + self.suite().signature_len(), 0),
            Suite::Suite3 => self.0.sign_object(object, out),
        }
    }
}

/// Three people of one suite.
pub struct Cast {
    pub alice: Person,
    pub bob: Person,
    pub mallory: Person,
}

impl Cast {
    pub fn people(&self) -> [&Person; 3] {
        [&self.alice, &self.bob, &self.mallory]
    }
}

pub static SUITE3: LazyLock<Cast> = LazyLock::new(|| {
    let person = |seed: u8| {
        let seeds = [seed, seed.wrapping_add(100), seed.wrapping_add(200)];
        let [sign, encrypt, exchange] = seeds.map(|seed| [seed; 32]);
        Person(PrivateIdentity::from_seeds(Suite::Suite3, sign, encrypt, exchange))
    };
    Cast { alice: person(1), bob: person(2), mallory: person(3) }
});

/// The three identities of a vector file: RSA keys take long to make.
pub static SUITE1: LazyLock<Cast> = LazyLock::new(|| {
    let identities = suite1_identities();
    let person = |at: usize| Person(suite1_identity(&identities[at]));
    Cast { alice: person(0), bob: person(1), mallory: person(2) }
});

/// The identities of a vector file, with their private keys.
#[expect(clippy::disallowed_methods, reason = "vectors are files")]
fn suite1_identities() -> Vec<serde_json::Value> {
    let file = "tests/vectors/golix-negative.json";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    vectors["identities"].as_object().expect("identities by name").values().cloned().collect()
}

fn suite1_identity(it: &serde_json::Value) -> PrivateIdentity {
    let text = |key: &str, field: &str| it[key][field].as_str().expect("a text").as_bytes();
    let rsa = |key| BASE64.decode(text(key, "pkcs8_der_b64")).unwrap();
    let exchange = HEXLOWER.decode(text("exchange", "private")).unwrap();
    let (signature, encryption) = (rsa("signature"), rsa("encryption"));
    PrivateIdentity::from_suite1_keys(&signature, &encryption, exchange.try_into().unwrap())
        .unwrap()
}

/// Runs tests that take a cast with both.
#[allow(unused_macros, reason = "not every test file needs it")]
macro_rules! both_suites {
    ($($name:ident),+ $(,)?) => {
        mod suite1 {
            $(#[test]
            fn $name() {
                super::$name(&super::persister_cast::SUITE1);
            })+
        }

        mod suite3 {
            $(#[test]
            fn $name() {
                super::$name(&super::persister_cast::SUITE3);
            })+
        }
    };
}
#[allow(unused_imports, reason = "not every test file needs it")]
pub(crate) use both_suites;

/// The public identity, as an object to publish.
pub fn identity(of: &dyn Signer) -> Verified {
    let bytes = of.identity().encode();
    Unverified::parse(&bytes).expect("we packed it").verify(None).expect("an identity")
}

/// A container whose content, secret and salt follow from `name`.
pub fn container(author: &dyn Signer, name: &str) -> Verified {
    let digest = Ghid::of(name.as_bytes()).address();
    let (salt, key) = (digest.first_chunk::<32>().copied(), digest.last_chunk::<32>().copied());
    let secret = Secret::new(author.identity().suite(), key.expect("64 bytes"), [7; 16]);
    Container::seal(author, &secret, salt.expect("64 bytes"), name.as_bytes())
}

pub fn bind(binder: &dyn Signer, target: Ghid) -> Verified {
    StaticBinding::make(binder, target)
}

pub fn debind(debinder: &dyn Signer, target: Ghid) -> Verified {
    Debinding::make(debinder, target)
}

/// The first frame of the binding that `birth` proves.
pub fn first_frame(binder: &dyn Signer, birth: Ghid) -> Verified {
    DynamicBinding::first(binder, birth)
}

pub fn dynamic(binder: &dyn Signer, birth: Ghid) -> Ghid {
    let binder = binder.identity();
    DynamicBinding::dynamic_address(binder.suite(), &binder.ghid(), &birth)
}

/// A later frame: `targets` newest first, the birth target is added.
pub fn frame(binder: &dyn Signer, birth: Ghid, counter: u64, targets: &[Ghid]) -> Verified {
    let mut vector = targets.to_vec();
    vector.push(birth);
    DynamicBinding::next(binder, dynamic(binder, birth), counter, &vector).expect("a good frame")
}

/// A later frame of suite 1 that shows no proof, as anybody can make them of any address; `targets`
/// are all of its vector.
pub fn unproven(binder: &dyn Signer, dynamic: Ghid, counter: u64, targets: &[Ghid]) -> Verified {
    let identity = binder.identity();
    assert_eq!(identity.suite(), Suite::Suite1);
    let mut bytes = b"GOBD\0\0\0\x10\x01".to_vec();
    bytes.extend_from_slice(identity.ghid().as_bytes());
    bytes.extend_from_slice(&counter.to_be_bytes());
    bytes.extend_from_slice(&((targets.len() * Ghid::LEN) as u16).to_be_bytes());
    targets.iter().chain([&dynamic]).for_each(|ghid| bytes.extend_from_slice(ghid.as_bytes()));
    bytes.push(1);
    let ghid = Ghid::of(&bytes);
    bytes.extend_from_slice(&ghid.address());
    binder.sign_object(&ghid, &mut bytes);
    let made = Unverified::parse(&bytes).expect("well-formed").assume_verified();
    let Object::DynamicBinding(frame) = made.object() else { panic!("a frame") };
    assert!(!frame.is_proven());
    made
}

/// A request with `name` in it.
pub fn request(author: &Person, recipient: &Person, name: &str) -> Verified {
    let body = RequestBody::Arbitrary(name.as_bytes().to_vec());
    let digest = Ghid::of(name.as_bytes()).address();
    Request::seal(&author.0, recipient.identity(), &body, digest).expect("a small body")
}

/// The same request, of suite 1, with another MAC.
pub fn with_mac(request: &Verified, mac: u8) -> Verified {
    let mut bytes = request.bytes().to_vec();
    bytes.last_chunk_mut::<64>().expect("715 bytes").fill(mac);
    Unverified::parse(&bytes).expect("well-formed").verify(None).expect("nobody can tell")
}

/// The address that others use: the dynamic one of a frame, else the object's own.
pub fn address(object: &Verified) -> Ghid {
    match object.object() {
        Object::DynamicBinding(frame) => frame.dynamic(),
        Object::Identity(_)
        | Object::Container(_)
        | Object::StaticBinding(_)
        | Object::Debinding(_)
        | Object::Request(_) => object.ghid(),
    }
}
