//! Three people of each suite, and what they made.

use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use golix::object::{
    Container, Debinding, DynamicBinding, Request, RequestBody, StaticBinding, Verified,
};
use golix::{Ghid, Identity, PrivateIdentity, Secret, Signer, Suite};

/// Three people of one suite: the author of most things, her friend, and a stranger.
pub struct Cast {
    pub alice: PrivateIdentity,
    pub bob: PrivateIdentity,
    pub mallory: PrivateIdentity,
}

/// By suite. RSA keys take long to make, so they come from a file of vectors.
pub static CASTS: LazyLock<[Cast; 2]> = LazyLock::new(|| {
    let text = include_str!("../../tests/vectors/golix-negative.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("a file of vectors");
    let identities = vectors["identities"].as_object().expect("identities by name");
    let mut people = identities.values().map(|it| {
        let text = |key: &str, field: &str| it[key][field].as_str().expect("a text").as_bytes();
        let rsa = |key| BASE64.decode(text(key, "pkcs8_der_b64")).expect("base64");
        let exchange = HEXLOWER.decode(text("exchange", "private")).expect("hex");
        let exchange = exchange.try_into().expect("32 bytes");
        PrivateIdentity::from_suite1_keys(&rsa("signature"), &rsa("encryption"), exchange)
            .expect("good keys")
    });
    let mut one = || people.next().expect("three identities");
    let seeded = |seed: u8| {
        let [a, b, c] = [seed, seed + 100, seed + 200].map(|seed| [seed; 32]);
        PrivateIdentity::from_seeds(Suite::Suite3, a, b, c)
    };
    [
        Cast { alice: one(), bob: one(), mallory: one() },
        Cast { alice: seeded(1), bob: seeded(2), mallory: seeded(3) },
    ]
});

pub fn cast(suite: Suite) -> &'static Cast {
    match suite {
        Suite::Suite1 => &CASTS[0],
        Suite::Suite3 => &CASTS[1],
    }
}

/// Everybody.
pub fn people() -> impl Iterator<Item = &'static PrivateIdentity> {
    CASTS.iter().flat_map(|cast| [&cast.alice, &cast.bob, &cast.mallory])
}

pub fn person(ghid: &Ghid) -> Option<&'static PrivateIdentity> {
    people().find(|person| person.ghid() == *ghid)
}

/// Signs at once in suite 3, and leaves the place of a signature empty in suite 1: where nobody looks
/// at signatures, RSA would only take long.
pub struct Quick(pub &'static PrivateIdentity);

impl Signer for Quick {
    fn identity(&self) -> &Identity {
        self.0.identity()
    }

    fn sign_object(&self, object: &Ghid, out: &mut Vec<u8>) {
        match self.0.suite() {
            Suite::Suite1 => out.resize(out.len() + Suite::Suite1.signature_len(), 0),
            Suite::Suite3 => self.0.sign_object(object, out),
        }
    }
}

pub fn secret(suite: Suite) -> Secret {
    Secret::new(suite, [7; 32], [8; 16])
}

/// One of each kind by alice, truly signed; what the first inputs are made of.
pub fn objects(suite: Suite) -> Vec<Verified> {
    let Cast { alice, bob, .. } = cast(suite);
    let secret = secret(suite);
    let container = Container::seal(alice, &secret, [9; 32], b"attack at dawn");
    let birth = Ghid::of(b"birth");
    let dynamic = DynamicBinding::dynamic_address(suite, &alice.ghid(), &birth);
    let targets = [container.ghid(), Ghid::of(b"previous"), birth];
    let seal = |body, n| Request::seal(alice, bob.identity(), body, [n; 64]).expect("small");
    let shared = if suite == Suite::Suite3 { dynamic } else { container.ghid() };
    vec![
        StaticBinding::make(alice, container.ghid()),
        DynamicBinding::first(alice, birth),
        DynamicBinding::next(alice, dynamic, 7, &targets).expect("a good frame"),
        Debinding::make(alice, container.ghid()),
        seal(&RequestBody::Handshake { target: shared, secret: secret.clone() }, 10),
        seal(&RequestBody::Ack { request: birth, status: 1 }, 11),
        seal(&RequestBody::Nak { request: birth, status: 0 }, 12),
        seal(&RequestBody::Arbitrary(b"hello".to_vec()), 13),
        container,
    ]
}
