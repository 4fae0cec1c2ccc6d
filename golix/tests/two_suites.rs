//! What differs between the suites, and what crosses from one to the other.

mod persister_cast;

use std::sync::Arc;

use golix::object::{
    Container, Debinding, DecodeError, DynamicBinding, MakeError, Object, OpenError, Request,
    RequestBody, RequestError, RequestFault, StaticBinding, Unverified, Verified, VerifyError,
    set_signature,
};
use golix::{Ghid, Identity, ImportError, KeyFault, PrivateIdentity, Secret, Signer, Suite};
use persister_cast::{SUITE1, SUITE3};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rsa::BoxedUint;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};

/// Alice and Bob of both suites.
fn people() -> [&'static PrivateIdentity; 4] {
    [&SUITE1.alice.0, &SUITE1.bob.0, &SUITE3.alice.0, &SUITE3.bob.0]
}

fn of_each_suite() -> [&'static PrivateIdentity; 2] {
    [&SUITE1.alice.0, &SUITE3.alice.0]
}

fn request(made: &Verified) -> &Request {
    let Object::Request(request) = made.object() else { panic!("a request") };
    request
}

// --- signatures ---------------------------------------------------------------------------------

/// One signed object of each kind.
fn signed(me: &dyn Signer) -> [Verified; 4] {
    let target = Ghid::of(b"target");
    let secret = Secret::new(me.identity().suite(), [1; 32], [2; 16]);
    [
        Container::seal(me, &secret, [3; 32], b"plaintext"),
        StaticBinding::make(me, target),
        DynamicBinding::first(me, target),
        Debinding::make(me, target),
    ]
}

#[test]
fn what_is_made_twice_is_the_same() {
    for me in of_each_suite() {
        assert_eq!(signed(me), signed(me), "there is no chance in this crate");
        assert_eq!(me.sign_statement("tests", b"x"), me.sign_statement("tests", b"x"));
    }
}

#[test]
fn salts_show_in_the_signatures_of_suite_1_alone() {
    for me in of_each_suite() {
        let salted = signed(&me.salted([7; 64]));
        for (salted, plain) in salted.iter().zip(signed(me)) {
            assert_eq!(salted.ghid(), plain.ghid(), "no part of the address");
            assert_eq!(salted == &plain, me.suite() == Suite::Suite3);
            for object in [salted, &plain] {
                let parsed = Unverified::parse(object.bytes()).unwrap();
                assert!(parsed.verify(Some(me.identity())).is_ok());
            }
        }
    }
    // No two objects have one salt: signatures of different objects have nothing in common.
    let me = &SUITE1.alice.0;
    let [a, b] = [b"a", b"b"].map(|name| StaticBinding::make(me, Ghid::of(name)));
    let again = StaticBinding::make(&me.salted([7; 64]), Ghid::of(b"a"));
    let signature = |object: &Verified| object.bytes()[204..].to_vec();
    assert_ne!(signature(&a), signature(&b));
    assert_ne!(signature(&a), signature(&again));
}

/// Leaves the place of a signature empty.
struct Later<'a>(&'a Identity);

impl Signer for Later<'_> {
    fn identity(&self) -> &Identity {
        self.0
    }

    fn sign_object(&self, _object: &Ghid, out: &mut Vec<u8>) {
        out.resize(out.len() + self.0.suite().signature_len(), 0);
    }
}

#[test]
fn a_signature_can_be_put_in_later() {
    for me in of_each_suite() {
        let later = Later(me.identity());
        for (unsigned, signed) in signed(&later).iter().zip(signed(me)) {
            assert_eq!(unsigned.ghid(), signed.ghid());
            let mut bytes = unsigned.bytes().to_vec();
            let parsed = Unverified::parse(&bytes).unwrap();
            assert_eq!(parsed.verify(Some(me.identity())).unwrap_err(), VerifyError::Signature);
            let mut signature = Vec::new();
            me.sign_object(&unsigned.ghid(), &mut signature);
            assert_eq!(signature.len(), me.suite().signature_len());
            set_signature(&mut bytes, &signature).unwrap();
            assert_eq!(bytes, signed.bytes());
            // Of another length, or where there is none: nothing changes.
            let before = bytes.clone();
            assert_eq!(set_signature(&mut bytes, &signature[1..]), Err(MakeError::Signature));
            assert_eq!(set_signature(&mut bytes[..60], &signature), Err(MakeError::Signature));
            assert_eq!(bytes, before);
        }
        let other = vec![0; me.suite().signature_len()];
        let body = RequestBody::Arbitrary(Vec::new());
        let request = Request::seal(me, me.identity(), &body, [1; 64]).unwrap();
        for unsigned in [me.identity().encode(), request.bytes().to_vec(), Vec::new()] {
            let mut bytes = unsigned.clone();
            assert_eq!(set_signature(&mut bytes, &other), Err(MakeError::Signature));
            assert_eq!(bytes, unsigned);
        }
    }
}

#[test]
#[should_panic(expected = "a signer appends one signature of its suite")]
fn a_signer_that_appends_something_else_is_noticed() {
    struct Short;
    impl Signer for Short {
        fn identity(&self) -> &Identity {
            SUITE1.alice.identity()
        }

        fn sign_object(&self, _object: &Ghid, out: &mut Vec<u8>) {
            out.resize(out.len() + Suite::Suite3.signature_len(), 0);
        }
    }
    let _ = StaticBinding::make(&Short, Ghid::of(b"target"));
}

#[test]
fn a_signer_may_be_shared() {
    let me = Arc::new(Later(SUITE3.alice.identity()));
    assert_eq!(StaticBinding::make(&me, Ghid::of(b"x")), StaticBinding::make(&*me, Ghid::of(b"x")));
    assert_eq!(
        StaticBinding::make(&me, Ghid::of(b"x")),
        StaticBinding::make(&&*me, Ghid::of(b"x"))
    );
}

#[test]
fn suites_do_not_mix_in_signed_objects() {
    let (one, three) = (&SUITE1.alice.0, &SUITE3.alice.0);
    for (me, other) in [(one, three), (three, one)] {
        for object in signed(me) {
            let parsed = || Unverified::parse(object.bytes()).unwrap();
            let error = parsed().verify(Some(other.identity())).unwrap_err();
            assert_eq!(error, VerifyError::AuthorOther(me.ghid()));
            assert_eq!(parsed().verify(None).unwrap_err(), VerifyError::AuthorUnknown(me.ghid()));
        }
    }
    // The author's name under the other suite byte: well-formed, and not his.
    let mut bytes = StaticBinding::make(one, Ghid::of(b"target")).bytes()[..140].to_vec();
    bytes[8] = 3;
    let hash = Ghid::of(&bytes).address();
    bytes.extend_from_slice(&hash);
    bytes.resize(bytes.len() + 64, 0);
    let error = Unverified::parse(&bytes).unwrap().verify(Some(one.identity())).unwrap_err();
    assert_eq!(error, VerifyError::SuiteMismatch);
}

#[test]
fn statements_are_signed_in_both_suites() {
    for me in of_each_suite() {
        let signature = me.sign_statement("tests hello", b"message");
        assert_eq!(signature.len(), me.suite().signature_len());
        let verify = |label, message: &[u8], signature: &[u8]| {
            me.identity().verify_statement(label, message, signature)
        };
        assert!(verify("tests hello", b"message", &signature));
        assert!(!verify("tests hell", b"o\0message", &signature));
        assert!(!verify("tests hello", b"massage", &signature));
        assert!(!verify("tests hello", b"message", &signature[1..]));
        assert!(!verify("tests hello", b"message", &[]));
        for other in people().into_iter().filter(|other| other.ghid() != me.ghid()) {
            assert!(!other.identity().verify_statement("tests hello", b"message", &signature));
        }
    }
}

#[test]
fn a_statement_is_never_the_signature_of_an_object() {
    let me = &SUITE1.alice.0;
    // In suite 1 the signature of an object is one over its bytes, whatever they are. What would read
    // them as a label begins with a magic, and is no statement.
    for object in signed(me) {
        let bytes = object.bytes();
        let signature = &bytes[bytes.len() - 512..];
        let covered = &bytes[..bytes.len() - 576];
        let zero = covered.iter().position(|byte| *byte == 0).unwrap();
        let label = std::str::from_utf8(&covered[..zero]).unwrap();
        let verified = me.identity().verify_statement(label, &covered[zero + 1..], signature);
        assert!(!verified, "{label}");
    }
    for label in ["GIDC", "GEOC", "GOBS", "GOBDs", "GDXX x", "GARQ", "golix-", "golix-3 sign"] {
        for me in of_each_suite() {
            assert!(!me.identity().verify_statement(label, b"", &[0; 64]));
            let signed = std::panic::catch_unwind(|| me.sign_statement(label, b""));
            assert!(signed.is_err(), "{label} is reserved");
        }
    }
    assert!(me.identity().verify_statement("GOB", b"", &me.sign_statement("GOB", b"")));
}

// --- containers ---------------------------------------------------------------------------------

#[test]
fn secrets_open_containers_of_their_suite() {
    for me in of_each_suite() {
        let secret = Secret::new(me.suite(), [1; 32], [2; 16]);
        for plaintext in [&b""[..], b"x", &[9; 1000]] {
            let made = Container::seal(me, &secret, [3; 32], plaintext);
            let parsed = Unverified::parse(made.bytes()).unwrap();
            let read = parsed.verify(Some(me.identity())).unwrap();
            let Object::Container(container) = read.object() else { panic!("a container") };
            assert_eq!(*container.open(&secret).unwrap(), plaintext);
            assert_eq!(container.plaintext_len(), plaintext.len());
            for other in Suite::ALL.into_iter().filter(|suite| *suite != me.suite()) {
                let other = Secret::new(other, [1; 32], [2; 16]);
                assert_eq!(container.open(&other).unwrap_err(), OpenError::SuiteMismatch);
            }
            let wrong = container.open(&Secret::new(me.suite(), [1; 32], [3; 16]));
            match me.suite() {
                // There is nothing to notice it by.
                Suite::Suite1 => {
                    let other = wrong.unwrap();
                    assert_eq!(other.len(), plaintext.len());
                    assert_eq!(*other == plaintext, plaintext.is_empty());
                }
                Suite::Suite3 => assert_eq!(wrong.unwrap_err(), OpenError::WrongSecret),
            }
        }
    }
}

// --- requests -----------------------------------------------------------------------------------

fn bodies() -> Vec<RequestBody> {
    let secret = |suite| Secret::new(suite, [4; 32], [5; 16]);
    let target = Ghid::of(b"shared");
    let mut bodies: Vec<_> = Suite::ALL
        .into_iter()
        .map(|suite| RequestBody::Handshake { target, secret: secret(suite) })
        .collect();
    bodies.push(RequestBody::Ack { request: target, status: 7 });
    bodies.push(RequestBody::Nak { request: target, status: u32::MAX });
    bodies.extend([0, 1, 298, 299].map(|len| RequestBody::Arbitrary(vec![6; len])));
    bodies
}

#[test]
fn requests_cross_suites() {
    for author in people() {
        for recipient in people() {
            for body in bodies() {
                let made = Request::seal(author, recipient.identity(), &body, [7; 64]).unwrap();
                assert_eq!(made.bytes().len(), 715);
                assert_eq!(made.object().suite(), recipient.suite());
                let parsed = Unverified::parse(made.bytes()).unwrap().verify(None).unwrap();
                let opened = request(&parsed).open(recipient).unwrap();
                assert_eq!(opened.author(), author.ghid());
                assert_eq!(opened.authenticate(recipient, author.identity()).unwrap(), body);
            }
        }
    }
}

#[test]
fn nobody_else_opens_or_writes_them() {
    let body = RequestBody::Arbitrary(b"for you alone".to_vec());
    for author in people() {
        for recipient in people() {
            let made = Request::seal(author, recipient.identity(), &body, [7; 64]).unwrap();
            for other in people().into_iter().filter(|other| other.ghid() != recipient.ghid()) {
                assert_eq!(request(&made).open(other).unwrap_err(), RequestError);
                let opened = request(&made).open(recipient).unwrap();
                let read = opened.authenticate(other, author.identity());
                assert_eq!(read.unwrap_err(), RequestError, "opened by one, read by another");
            }
            for other in people().into_iter().filter(|other| other.ghid() != author.ghid()) {
                let opened = request(&made).open(recipient).unwrap();
                let read = opened.authenticate(recipient, other.identity());
                assert_eq!(read.unwrap_err(), RequestError);
                let fault = request(&made).examine(recipient, |_| Some(other.identity().clone()));
                assert_eq!(fault.unwrap_err(), RequestFault::Author);
            }
            let fault = request(&made).examine(recipient, |_| None);
            assert_eq!(fault.unwrap_err(), RequestFault::Author);
        }
    }
}

#[test]
fn a_wrong_mac_of_suite_1_opens_and_is_nobodys() {
    let (alice, bob) = (&SUITE3.alice.0, &SUITE1.bob.0);
    let body = RequestBody::Arbitrary(b"x".to_vec());
    let made = Request::seal(alice, bob.identity(), &body, [7; 64]).unwrap();
    for at in [651, 714] {
        let mut bytes = made.bytes().to_vec();
        bytes[at] ^= 1;
        let parsed = Unverified::parse(&bytes).unwrap().verify(None).unwrap();
        assert_eq!(parsed.ghid(), made.ghid());
        let opened = request(&parsed).open(bob).unwrap();
        assert_eq!(opened.authenticate(bob, alice.identity()).unwrap_err(), RequestError);
        let fault = request(&parsed).examine(bob, |_| Some(alice.identity().clone()));
        assert_eq!(fault.unwrap_err(), RequestFault::Mac);
    }
}

#[test]
fn the_recipient_decides_how_much_fits() {
    for author in of_each_suite() {
        for recipient in of_each_suite() {
            let max = recipient.suite().request_payload_max();
            assert_eq!(max, if recipient.suite() == Suite::Suite1 { 313 } else { 299 });
            let seal = |len: usize| {
                let body = RequestBody::Arbitrary(vec![1; len]);
                Request::seal(author, recipient.identity(), &body, [7; 64])
            };
            assert!(seal(max).is_ok());
            assert_eq!(seal(max + 1).unwrap_err(), MakeError::PayloadTooLong(max + 1));
            assert_eq!(seal(70_000).unwrap_err(), MakeError::PayloadTooLong(70_000));
        }
    }
}

#[test]
fn randomness_makes_requests_differ() {
    let body = RequestBody::Arbitrary(b"the same".to_vec());
    for recipient in of_each_suite() {
        let seal = |seed| Request::seal(&SUITE3.bob.0, recipient.identity(), &body, seed).unwrap();
        assert_eq!(seal([7; 64]), seal([7; 64]));
        assert_ne!(seal([7; 64]).ghid(), seal([8; 64]).ghid());
    }
}

// --- identities ---------------------------------------------------------------------------------

/// The GIDC of suite 1 with some bytes replaced, and its hash made right.
fn gidc(changes: &[(usize, &[u8])]) -> Result<Identity, DecodeError> {
    let mut bytes = SUITE1.alice.identity().encode();
    for (at, with) in changes {
        bytes[*at..at + with.len()].copy_from_slice(with);
    }
    let hash = Ghid::of(&bytes[..1066]).address();
    bytes[1066..].copy_from_slice(&hash);
    Identity::from_bytes(&bytes)
}

#[test]
fn weak_keys_of_suite_1_are_none() {
    let good = SUITE1.alice.identity().encode();
    assert!(gidc(&[]).is_ok());
    for (at, error) in [(9, DecodeError::KeySig), (521, DecodeError::KeyEnc)] {
        let modulus = &good[at..at + 512];
        let even = [modulus[511] & 0xfe];
        let short = [modulus[0] & 0x7f];
        assert_eq!(gidc(&[(at + 511, &even)]).unwrap_err(), error, "even");
        assert_eq!(gidc(&[(at, &short)]).unwrap_err(), error, "4095 bits at most");
        assert_eq!(gidc(&[(at, &[0; 512])]).unwrap_err(), error, "zero");
        assert_eq!(gidc(&[(at, &[0; 256])]).unwrap_err(), error, "2048 bits");
        // 2^4096 - 1 is a multiple of 3, 5, 17, 257, 641, 65537, …
        assert_eq!(gidc(&[(at, &[0xff; 512])]).unwrap_err(), error, "small factors");
        // The next multiple of the largest prime that is tried, below the modulus.
        let mut smooth = modulus.to_vec();
        let remainder = smooth.iter().fold(0u64, |r, byte| (r * 256 + u64::from(*byte)) % 65521);
        // Twice at most: one of two neighbouring multiples is odd.
        for extra in [0, 65521] {
            let low = u64::from_be_bytes(smooth[504..].try_into().unwrap());
            let mut changed = smooth.clone();
            changed[504..].copy_from_slice(&(low - remainder - extra).to_be_bytes());
            if changed[511] % 2 == 1 {
                assert_eq!(gidc(&[(at, &changed)]).unwrap_err(), error, "a multiple of 65521");
            }
        }
        smooth[511] ^= 2;
    }
    let signature = good[9..521].to_vec();
    assert_eq!(gidc(&[(521, &signature)]).unwrap_err(), DecodeError::KeyEnc, "twice the same");
}

#[test]
fn exchange_keys_of_suite_1_have_any_spelling_but_some_order() {
    // RFC 7748: the top bit is ignored, and numbers above 2^255 - 19 are reduced.
    let mut key: [u8; 32] = SUITE1.alice.identity().encode()[1033..1065].try_into().unwrap();
    key[31] |= 0x80;
    assert!(gidc(&[(1033, &key)]).is_ok());
    let mut low_orders = vec![[0; 32], [1; 32], [0xff; 32], [0; 32]];
    low_orders[1][1..].fill(0);
    low_orders[2][0] = 0xec; // -1, with the top bit
    low_orders[3][31] = 0x80; // 0, with the top bit
    for (low, order) in [(0xed, true), (0xee, true), (0xef, false)] {
        // p, p + 1, p + 2
        let mut above = [0xff; 32];
        (above[0], above[31]) = (low, 0x7f);
        assert_eq!(gidc(&[(1033, &above)]).is_err(), order, "{low:x}");
    }
    for key in low_orders {
        assert_eq!(gidc(&[(1033, &key)]).unwrap_err(), DecodeError::KeyExc, "{key:x?}");
    }
}

#[test]
fn packed_private_identities_of_suite_1_are_exact() {
    let me = &SUITE1.alice.0;
    let good = me.to_bytes();
    assert_eq!(&good[..5], b"PI\x00\x01\x01");
    let back = PrivateIdentity::from_bytes(&good).unwrap();
    assert_eq!((back.identity(), back.to_bytes()), (me.identity(), me.to_bytes()));
    assert_eq!(signed(&back), signed(me), "salts follow from the keys");
    for len in [0, 1, 4, 5, 6, 7, 100, good.len() - 33, good.len() - 1] {
        let error = PrivateIdentity::from_bytes(&good[..len]).unwrap_err();
        assert_eq!(error, DecodeError::Truncated, "{len}");
    }
    let long = [&good[..], &[0]].concat();
    assert_eq!(PrivateIdentity::from_bytes(&long).unwrap_err(), DecodeError::Trailing);
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    assert_eq!(PrivateIdentity::from_bytes(&damaged).unwrap_err(), DecodeError::KeySig);
    let text = format!("{me:?} {back:?}");
    assert!(text.contains("Ghid('") && text.len() < 200, "{text}");
}

/// The two RSA keys and the exchange key of Alice, as the original saves them.
fn saved() -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let packed = SUITE1.alice.0.to_bytes();
    let document = |at: usize| {
        let len = usize::from(u16::from_be_bytes([packed[at], packed[at + 1]]));
        packed[at + 2..at + 2 + len].to_vec()
    };
    let signature = document(5);
    let encryption = document(7 + signature.len());
    (signature, encryption, *packed.last_chunk().unwrap())
}

#[test]
fn imports_say_which_key_is_bad_and_why() {
    let (signature, encryption, exchange) = saved();
    let good = PrivateIdentity::from_suite1_keys(&signature, &encryption, exchange).unwrap();
    assert_eq!(good.identity(), SUITE1.alice.identity());

    let key = rsa::PrivateKey::from_pkcs8_der(&signature).unwrap();
    let (p, q) = (key.primes()[0].as_ref(), key.primes()[1].as_ref());
    let exponent = |e: u64| {
        let key = rsa::PrivateKey::from_p_q(p.clone(), q.clone(), BoxedUint::from(e)).unwrap();
        key.to_pkcs8_der().unwrap().as_bytes().to_vec()
    };
    let mut small_factor = signature.clone();
    let modulus = key.n_bytes();
    let at = small_factor.windows(512).position(|bytes| bytes == &modulus[..]).unwrap();
    small_factor[at..at + 512].fill(0xff);
    let short = rsa::PrivateKey::new(&mut StdRng::seed_from_u64(1), 1024).unwrap();
    let short = short.to_pkcs8_der().unwrap().as_bytes().to_vec();
    let mut contradicts = signature.clone();
    let at = contradicts.len() - 900; // in a prime, before the three values that follow from the rest
    contradicts[at] ^= 1;
    let ed25519 = data_encoding::HEXLOWER
        .decode(b"302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842")
        .unwrap();
    let faults: [(Vec<u8>, KeyFault); 7] = [
        (Vec::new(), KeyFault::Encoding),
        (signature[..signature.len() - 1].to_vec(), KeyFault::Encoding),
        (ed25519, KeyFault::Algorithm),
        (short, KeyFault::Size(1024)),
        (exponent(17), KeyFault::Exponent),
        (small_factor, KeyFault::Factor),
        (contradicts, KeyFault::Inconsistent),
    ];
    for (bad, fault) in faults {
        let import = PrivateIdentity::from_suite1_keys(&bad, &encryption, exchange);
        assert_eq!(import.unwrap_err(), ImportError::Signature(fault));
        let import = PrivateIdentity::from_suite1_keys(&signature, &bad, exchange);
        assert_eq!(import.unwrap_err(), ImportError::Encryption(fault));
    }
    let twice = PrivateIdentity::from_suite1_keys(&signature, &signature, exchange).unwrap_err();
    assert_eq!(twice, ImportError::Encryption(KeyFault::Twice));
    assert_eq!(twice.to_string(), "the encryption key is the signature key again");
}

/// As [`PrivateIdentity::to_bytes`] packs these keys.
fn packed(signature: &[u8], encryption: &[u8], exchange: &[u8; 32]) -> Vec<u8> {
    let len = |document: &[u8]| u16::try_from(document.len()).unwrap().to_be_bytes();
    let signature = [&len(signature), signature].concat();
    let encryption = [&len(encryption), encryption].concat();
    [b"PI\x00\x01\x01", &signature[..], &encryption, exchange].concat()
}

/// `6m + 1`, `12m + 1` and `18m + 1` are primes of this `m`, and so their product, of 2048 bits, is a
/// Carmichael number (Chernick, 1939): whatever is raised to it stays what it is.
const CHERNICK: &[u8] = b"\
    0092fd8f77a3dcdc700baf7eb71132117e1af4c20dea1e10d2a2f82cda900aaeaa02ab1928f3b5a6a398cb\
    915c89652e1d2114efe03a615170d268419791412cd84239407ad08b22386f9e11d89c54122dc25e0a589b";

/// Found by review: such keys were taken, and the first signature panicked.
#[test]
fn composite_primes_are_refused() {
    let (signature, encryption, exchange) = saved();
    assert_eq!(packed(&signature, &encryption, &exchange), SUITE1.alice.0.to_bytes()[..]);
    let with = |p: BoxedUint| {
        let good = rsa::PrivateKey::from_pkcs8_der(&signature).unwrap();
        let (q, e) = (good.primes()[1].as_ref().clone(), BoxedUint::from(65537u64));
        let key = rsa::PrivateKey::from_p_q(p, q, e).ok()?;
        (key.n().bit_width() == 4096).then(|| key.to_pkcs8_der().unwrap().as_bytes().to_vec())
    };
    let two_primes = (1..)
        .find_map(|seed| {
            let product = rsa::PrivateKey::new(&mut StdRng::seed_from_u64(seed), 2048).unwrap();
            with(product.n().as_ref().clone())
        })
        .unwrap();
    let m = [&[0; 170][..], &data_encoding::HEXLOWER.decode(CHERNICK).unwrap()].concat();
    let m = BoxedUint::from_be_slice(&m, 2048).unwrap();
    let factor = |k: u64| m.wrapping_mul(BoxedUint::from(k)).wrapping_add(BoxedUint::one());
    let carmichael = with(factor(6).wrapping_mul(factor(12)).wrapping_mul(factor(18))).unwrap();

    for bad in [&two_primes, &carmichael] {
        let import = PrivateIdentity::from_suite1_keys(bad, &encryption, exchange);
        assert_eq!(import.unwrap_err(), ImportError::Signature(KeyFault::Inconsistent));
        let import = PrivateIdentity::from_suite1_keys(&signature, bad, exchange);
        assert_eq!(import.unwrap_err(), ImportError::Encryption(KeyFault::Inconsistent));
    }

    // What was imported before this was tested is still loaded where it works, and never panics.
    let load = |signature: &[u8], encryption: &[u8]| {
        PrivateIdentity::from_bytes(&packed(signature, encryption, &exchange))
    };
    assert_eq!(load(&two_primes, &encryption).unwrap_err(), DecodeError::KeySig);
    signed(&load(&carmichael, &encryption).unwrap());
    let cannot_open = load(&signature, &two_primes).unwrap();
    let body = RequestBody::Ack { request: cannot_open.ghid(), status: 1 };
    let made = Request::seal(&SUITE3.bob.0, cannot_open.identity(), &body, [7; 64]).unwrap();
    assert_eq!(request(&made).open(&cannot_open).unwrap_err(), RequestError);
}

#[test]
fn stored_identities_are_read_as_they_were() {
    for me in people() {
        let gidc = me.identity().encode();
        assert_eq!(&Identity::from_stored(&gidc).unwrap(), me.identity());
        for at in [0, 8, 20, gidc.len() - 1] {
            let mut damaged = gidc.clone();
            damaged[at] ^= 0x40;
            assert!(Identity::from_stored(&damaged).is_err(), "byte {at}");
        }
    }
}

#[test]
fn new_identities_of_either_suite_work() {
    let mut rng = StdRng::seed_from_u64(7);
    for suite in Suite::ALL {
        let me = PrivateIdentity::generate(suite, &mut rng);
        assert_eq!(me.suite(), suite);
        let back = PrivateIdentity::from_bytes(&me.to_bytes()).unwrap();
        assert_eq!(Identity::from_bytes(&me.identity().encode()).unwrap(), *me.identity());
        for object in signed(&back) {
            let parsed = Unverified::parse(object.bytes()).unwrap();
            assert!(parsed.verify(Some(me.identity())).is_ok());
        }
        let body = RequestBody::Ack { request: me.ghid(), status: 1 };
        let made = Request::seal(&SUITE3.bob.0, me.identity(), &body, [7; 64]).unwrap();
        let opened = request(&made).open(&back).unwrap();
        assert_eq!(opened.authenticate(&back, SUITE3.bob.0.identity()).unwrap(), body);
    }
}
