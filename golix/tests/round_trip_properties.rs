//! Every codec, whatever its fields: what is written reads back as the same, and as the same bytes. Of
//! both suites, with a few fixed identities, because RSA keys take long to make.

use std::path::Path;
use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use golix::object::{
    Container, Debinding, DynamicBinding, Kind, Object, Request, RequestBody, StaticBinding,
    Unverified, Verified, set_signature,
};
use golix::persister::{Head, HighWater, Mark, Owner, Pending, Stored, limits};
use golix::{ChainKey, Ghid, Identity, PrivateIdentity, Secret, Suite};
use proptest::prelude::*;
use proptest::sample::Index;

/// Two of suite 1, two of suite 3.
static PEOPLE: LazyLock<Vec<PrivateIdentity>> = LazyLock::new(|| {
    let mut people = suite1_people();
    people.truncate(2);
    for seed in [1, 2] {
        let [a, b, c] = [seed, seed + 100, seed + 200].map(|seed| [seed; 32]);
        people.push(PrivateIdentity::from_seeds(Suite::Suite3, a, b, c));
    }
    people
});

#[expect(clippy::disallowed_methods, reason = "vectors are files")]
fn suite1_people() -> Vec<PrivateIdentity> {
    let file = "tests/vectors/golix-negative.json";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let person = |it: &serde_json::Value| {
        let text = |key: &str, field: &str| it[key][field].as_str().expect("a text").as_bytes();
        let rsa = |key| BASE64.decode(text(key, "pkcs8_der_b64")).unwrap();
        let exchange = HEXLOWER.decode(text("exchange", "private")).unwrap().try_into().unwrap();
        PrivateIdentity::from_suite1_keys(&rsa("signature"), &rsa("encryption"), exchange).unwrap()
    };
    vectors["identities"].as_object().expect("identities by name").values().map(person).collect()
}

fn person() -> impl Strategy<Value = &'static PrivateIdentity> {
    any::<Index>().prop_map(|at| at.get(&PEOPLE))
}

fn ghid() -> impl Strategy<Value = Ghid> {
    any::<[u8; 64]>().prop_map(Ghid::from_address)
}

fn suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(&Suite::ALL[..])
}

fn secret() -> impl Strategy<Value = Secret> {
    (suite(), any::<[u8; 32]>(), any::<[u8; 16]>())
        .prop_map(|(suite, key, seed)| Secret::new(suite, key, seed))
}

fn body() -> impl Strategy<Value = RequestBody> {
    prop_oneof![
        (ghid(), secret()).prop_map(|(target, secret)| RequestBody::Handshake { target, secret }),
        (ghid(), any::<u32>()).prop_map(|(request, status)| RequestBody::Ack { request, status }),
        (ghid(), any::<u32>()).prop_map(|(request, status)| RequestBody::Nak { request, status }),
        prop::collection::vec(any::<u8>(), 0..=299).prop_map(RequestBody::Arbitrary),
    ]
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

/// Reads, verifies and compares; an object of an author also with its signature taken out and put in
/// again.
fn reread(made: &Verified, author: Option<&Identity>) -> Verified {
    let parsed = Unverified::parse(made.bytes()).unwrap();
    assert_eq!((parsed.ghid(), parsed.kind()), (made.ghid(), made.kind()));
    assert_eq!(parsed.author(), author.map(Identity::ghid));
    assert_eq!(Stored::read(made.bytes()).unwrap().kind(), made.kind());
    let verified = parsed.verify(author).unwrap();
    assert_eq!(verified.object(), made.object());
    assert_eq!(verified.bytes(), made.bytes());
    if let Some(author) = author {
        let mut bytes = made.bytes().to_vec();
        let at = bytes.len() - author.suite().signature_len();
        let signature = bytes.split_off(at);
        bytes.resize(made.bytes().len(), 0);
        set_signature(&mut bytes, &signature).unwrap();
        assert_eq!(bytes, made.bytes());
    }
    verified
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn containers(
        me in person(), key: [u8; 32], seed: [u8; 16], salt: [u8; 32], pss_salt: [u8; 32],
        plaintext in bytes(3000),
    ) {
        let secret = Secret::new(me.suite(), key, seed);
        let pss_salt = [pss_salt, pss_salt].concat().try_into().unwrap();
        let made = Container::seal(&me.salted(pss_salt), &secret, salt, &plaintext);
        let verified = reread(&made, Some(me.identity()));
        let Object::Container(container) = verified.object() else { panic!("a container") };
        prop_assert_eq!((container.author(), container.suite()), (me.ghid(), me.suite()));
        prop_assert_eq!(container.salt(), Some(&salt).filter(|_| me.suite() == Suite::Suite3));
        prop_assert_eq!(container.plaintext_len(), plaintext.len());
        let opened = container.open(&secret).unwrap();
        prop_assert_eq!(&opened[..], &plaintext[..]);
    }

    #[test]
    fn bindings_and_debindings(me in person(), target in ghid()) {
        let made = reread(&StaticBinding::make(me, target), Some(me.identity()));
        let Object::StaticBinding(binding) = made.object() else { panic!("a binding") };
        prop_assert_eq!((binding.binder(), binding.target()), (me.ghid(), target));
        let made = reread(&Debinding::make(me, target), Some(me.identity()));
        let Object::Debinding(debinding) = made.object() else { panic!("a debinding") };
        prop_assert_eq!((debinding.debinder(), debinding.target()), (me.ghid(), target));
    }

    #[test]
    fn frames(
        me in person(), counter in 1u64.., birth in ghid(),
        mut targets in prop::collection::vec(ghid(), 1..16),
    ) {
        let first = reread(&DynamicBinding::first(me, birth), Some(me.identity()));
        let Object::DynamicBinding(frame) = first.object() else { panic!("a frame") };
        prop_assert_eq!((frame.counter(), frame.targets(), frame.is_proven()), (0, &[birth][..], true));
        let dynamic = frame.dynamic();
        targets.push(birth);
        let next = DynamicBinding::next(me, dynamic, counter, &targets).unwrap();
        let next = reread(&next, Some(me.identity()));
        let Object::DynamicBinding(frame) = next.object() else { panic!("a frame") };
        prop_assert_eq!((frame.counter(), frame.targets(), frame.is_proven()), (counter, &targets[..], true));
        prop_assert_eq!((frame.binder(), frame.dynamic()), (me.ghid(), dynamic));
    }

    #[test]
    fn requests(from in person(), to in person(), body in body(), half: [u8; 32]) {
        let randomness = [half, half].concat().try_into().unwrap();
        let made = Request::seal(from, to.identity(), &body, randomness).unwrap();
        let verified = reread(&made, None);
        let Object::Request(request) = verified.object() else { panic!("a request") };
        prop_assert_eq!((request.recipient(), request.suite()), (to.ghid(), to.suite()));
        let opened = request.open(to).unwrap();
        prop_assert_eq!(opened.author(), from.ghid());
        prop_assert_eq!(&opened.authenticate(to, from.identity()).unwrap(), &body);
    }
}

proptest! {
    #[test]
    fn identities_of_suite_3(sign: [u8; 32], encrypt: [u8; 32], exchange: [u8; 32]) {
        prop_assume!(encrypt != exchange);
        let me = PrivateIdentity::from_seeds(Suite::Suite3, sign, encrypt, exchange);
        identity(&me);
        prop_assert_eq!(&me.to_bytes()[5..], &[sign, encrypt, exchange].concat()[..]);
    }

    #[test]
    fn addresses(ghid in ghid()) {
        prop_assert_eq!(Ghid::from_bytes(ghid.as_bytes()), Ok(ghid));
        let text = ghid.to_string();
        prop_assert_eq!(text.len(), Ghid::TEXT_LEN);
        prop_assert_eq!(text.parse(), Ok(ghid));
        prop_assert_eq!(Ghid::from_address(ghid.address()), ghid);
        let short = ghid.short();
        prop_assert!(text[1..].starts_with(&short[6..11]));
    }

    #[test]
    fn other_texts_are_no_addresses(ghid in ghid(), at: Index, other: char) {
        let mut text: Vec<char> = ghid.to_string().chars().collect();
        let at = at.index(text.len());
        prop_assume!(text[at] != other);
        text[at] = other;
        let text: String = text.into_iter().collect();
        // Another character may make another address, but never this one.
        prop_assert_ne!(text.parse(), Ok(ghid));
        if let Ok(another) = text.parse::<Ghid>() {
            prop_assert_eq!(another.to_string(), text);
        }
    }

    #[test]
    fn secrets(secret in secret()) {
        let bytes = secret.to_bytes();
        prop_assert_eq!(Secret::from_bytes(&bytes), Ok(secret.clone()));
        prop_assert_eq!(Secret::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn chain_keys(epoch: u32, index: u64, key: [u8; 32]) {
        let shared = ChainKey::new(epoch, index, key).to_handshake();
        let back = ChainKey::from_handshake(&shared).unwrap();
        prop_assert_eq!((back.epoch(), back.index(), back.key()), (epoch, index, &key));
        prop_assert_eq!(back.to_handshake(), shared);
    }

    #[test]
    fn heads(
        suite in suite(), counter: u64, flags: (bool, bool), ghids in [ghid(), ghid(), ghid(), ghid()],
        forks in prop::collection::vec(ghid(), 0..=limits::FORKS_MAX),
    ) {
        let [frame, binder, target, birth] = ghids;
        let (proven, debound) = flags;
        let head = Head { suite, frame, counter, binder, target, birth, proven, debound, forks };
        let bytes = head.encode();
        prop_assert_eq!(bytes.len(), 271 + 65 * head.forks.len());
        prop_assert_eq!(Head::decode(&bytes), Some(head));
    }

    #[test]
    fn marks(counter: u64, frame in ghid(), other in ghid(), which in 0usize..3) {
        let owner = [Owner::Proven, Owner::Birth(other), Owner::Unproven(other)][which];
        let mark = Mark { newest: HighWater { counter, frame }, owner };
        prop_assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    }

    #[test]
    fn pending_rows(a in ghid(), b in ghid(), which in 0usize..4) {
        let row = [
            Pending::Collect { address: a },
            Pending::Disprove { target: a },
            Pending::Announce { target: a, after: b },
            Pending::Unproven { debinder: a, debinding: b },
        ][which];
        prop_assert_eq!(Pending::decode(&row.key(), &row.value()), Some(row));
    }

    #[test]
    fn statements(me in person(), message in bytes(200), label in "[a-z]{1,9} [a-z]{1,9}") {
        prop_assume!(me.suite() == Suite::Suite3);
        let signature = me.sign_statement(&label, &message);
        prop_assert!(me.identity().verify_statement(&label, &message, &signature));
        prop_assert!(!me.identity().verify_statement("other", &message, &signature));
    }

    /// Only what has the hash of its bytes is read; random bytes never have.
    #[test]
    fn arbitrary_bytes_are_nothing(bytes in bytes(1300), suite in suite(), kind: Index) {
        let kind: Kind = *kind.get(&Kind::ALL);
        let head = [&kind.magic()[..], &kind.version().to_be_bytes(), &[suite.code()]].concat();
        prop_assert!(Unverified::parse(&[head, bytes.clone()].concat()).is_err());
        prop_assert!(Unverified::parse(&bytes).is_err());
        prop_assert!(PrivateIdentity::from_bytes(&bytes).is_err());
        prop_assert!(Identity::from_bytes(&bytes).is_err());
    }
}

fn identity(me: &PrivateIdentity) {
    let bytes = me.identity().encode();
    assert_eq!(Identity::from_bytes(&bytes).as_ref(), Ok(me.identity()));
    let verified = Unverified::parse(&bytes).unwrap().verify(None).unwrap();
    assert_eq!((verified.bytes(), verified.ghid()), (&bytes[..], me.ghid()));
    assert_eq!(verified.object(), &Object::Identity(me.identity().clone()));
    let packed = me.to_bytes();
    let back = PrivateIdentity::from_bytes(&packed).unwrap();
    assert_eq!(back.identity(), me.identity());
    assert_eq!(back.to_bytes(), packed);
}

#[test]
fn identities() {
    PEOPLE.iter().for_each(identity);
}
