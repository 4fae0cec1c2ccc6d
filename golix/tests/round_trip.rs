//! Every codec both ways: what is made reads back as itself, and what is read was written so.

use golix::object::{
    Container, Debinding, DynamicBinding, MakeError, Object, OpenError, Request, RequestBody,
    RequestError, StaticBinding, Unverified, Verified, VerifyError,
};
use golix::{ChainKey, Ghid, Identity, PrivateIdentity, Secret, Suite};
use proptest::prelude::*;

fn person(seed: u8) -> PrivateIdentity {
    PrivateIdentity::from_seeds(Suite::Suite3, [seed; 32], [seed ^ 0x40; 32], [seed ^ 0x80; 32])
}

fn reread(made: &Verified, author: Option<&Identity>) -> Verified {
    let parsed = Unverified::parse(made.bytes()).unwrap();
    assert_eq!(parsed.ghid(), made.ghid());
    assert_eq!(parsed.kind(), made.kind());
    assert_eq!(parsed.author(), author.map(Identity::ghid));
    let verified = parsed.verify(author).unwrap();
    assert_eq!(verified.object(), made.object());
    assert_eq!(verified.bytes(), made.bytes());
    verified
}

fn ghid() -> impl Strategy<Value = Ghid> {
    any::<[u8; 64]>().prop_map(Ghid::from_address)
}

fn secret() -> impl Strategy<Value = Secret> {
    any::<([u8; 32], [u8; 16])>().prop_map(|(key, seed)| Secret::new(Suite::Suite3, key, seed))
}

fn body() -> impl Strategy<Value = RequestBody> {
    prop_oneof![
        (ghid(), secret()).prop_map(|(target, secret)| RequestBody::Handshake { target, secret }),
        (ghid(), any::<u32>()).prop_map(|(request, status)| RequestBody::Ack { request, status }),
        (ghid(), any::<u32>()).prop_map(|(request, status)| RequestBody::Nak { request, status }),
        prop::collection::vec(any::<u8>(), 0..=299).prop_map(RequestBody::Arbitrary),
    ]
}

#[test]
fn sizes_are_those_of_the_specification() {
    let me = person(1);
    let target = Ghid::of(b"target");
    let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
    assert_eq!(me.identity().encode().len(), 170);
    assert_eq!(Container::seal(&me, &secret, [3; 32], b"").bytes().len(), 211 + 80);
    assert_eq!(Container::seal(&me, &secret, [3; 32], &[0; 1000]).bytes().len(), 211 + 80 + 1000);
    assert_eq!(StaticBinding::make(&me, target).bytes().len(), 268);
    assert_eq!(Debinding::make(&me, target).bytes().len(), 268);
    assert_eq!(DynamicBinding::first(&me, target).bytes().len(), 343);
    let body = RequestBody::Ack { request: target, status: 0 };
    let request = Request::seal(&me, me.identity(), &body, [4; 64]).unwrap();
    assert_eq!(request.bytes().len(), 715);
}

#[test]
fn a_frame_needs_counter_targets_and_proof() {
    let me = person(1);
    let (birth, now) = (Ghid::of(b"birth"), Ghid::of(b"now"));
    let dynamic = DynamicBinding::dynamic_address(me.suite(), &me.ghid(), &birth);
    let next = |counter, targets: &[Ghid]| DynamicBinding::next(&me, dynamic, counter, targets);
    assert!(next(1, &[now, birth]).is_ok());
    assert!(next(u64::MAX, &[now, now, birth]).is_ok());
    assert_eq!(next(0, &[now, birth]), Err(MakeError::Counter));
    assert_eq!(next(1, &[birth]), Err(MakeError::Targets(1)));
    assert_eq!(next(1, &[]), Err(MakeError::Targets(0)));
    assert_eq!(next(1, &[birth; 17]), Err(MakeError::Targets(17)));
    assert_eq!(next(1, &[birth, now]), Err(MakeError::Proof));
    // Another binder cannot take the address over.
    let other = DynamicBinding::next(&person(2), dynamic, 1, &[now, birth]);
    assert_eq!(other, Err(MakeError::Proof));
}

#[test]
fn the_first_frame_has_the_address_that_binder_and_target_give() {
    let (me, target) = (person(1), Ghid::of(b"target"));
    let made = DynamicBinding::first(&me, target);
    let Object::DynamicBinding(frame) = made.object() else { panic!("a frame") };
    assert_eq!(frame.dynamic(), Ghid::of(&made.bytes()[..150]));
    assert_eq!((frame.counter(), frame.target(), frame.birth()), (0, target, target));
    assert!(frame.is_proven());
}

#[test]
fn nobody_else_opens_or_claims() {
    let (alice, bob, eve) = (person(1), person(2), person(3));
    let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
    let wrong = Secret::new(Suite::Suite3, [1; 32], [3; 16]);
    let made = Container::seal(&alice, &secret, [7; 32], b"plaintext");
    let Object::Container(container) = made.object() else { panic!("a container") };
    assert_eq!(container.open(&secret).unwrap().as_slice(), b"plaintext");
    assert_eq!(container.open(&wrong).unwrap_err(), OpenError::WrongSecret);

    let parsed = Unverified::parse(made.bytes()).unwrap();
    let error = parsed.clone().verify(Some(eve.identity())).unwrap_err();
    assert_eq!(error, VerifyError::AuthorOther(alice.ghid()));
    let error = parsed.verify(None).unwrap_err();
    assert_eq!(error, VerifyError::AuthorUnknown(alice.ghid()));

    let body = RequestBody::Handshake { target: Ghid::of(b"target"), secret };
    let made = Request::seal(&alice, bob.identity(), &body, [8; 64]).unwrap();
    let Object::Request(request) = made.object() else { panic!("a request") };
    assert_eq!(request.open(&eve).unwrap_err(), RequestError);
    let opened = request.open(&bob).unwrap();
    assert_eq!(opened.author(), alice.ghid());
    assert_eq!(opened.authenticate(&bob, eve.identity()), Err(RequestError));
}

#[test]
fn too_long_a_payload_is_refused() {
    let me = person(1);
    let seal = |len: usize| {
        Request::seal(&me, me.identity(), &RequestBody::Arbitrary(vec![0; len]), [1; 64])
    };
    assert!(seal(299).is_ok());
    assert_eq!(seal(300), Err(MakeError::PayloadTooLong(300)));
    assert_eq!(seal(70_000), Err(MakeError::PayloadTooLong(70_000)));
}

#[test]
fn a_live_share_leads_forward() {
    let dynamic = Ghid::of(b"dynamic");
    let chain = ChainKey::new(1, 0, [5; 32]);
    let shared = ChainKey::from_handshake(&chain.advance_to(&dynamic, 4).unwrap().to_handshake());
    let theirs = shared.unwrap().advance_to(&dynamic, 9).unwrap().container_secret(&dynamic);
    assert_eq!(theirs, chain.advance_to(&dynamic, 9).unwrap().container_secret(&dynamic));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn identities(sign: [u8; 32], encrypt: [u8; 32], exchange: [u8; 32]) {
        prop_assume!(encrypt != exchange);
        let me = PrivateIdentity::from_seeds(Suite::Suite3, sign, encrypt, exchange);
        let bytes = me.identity().encode();
        let back = Identity::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&back, me.identity());
        prop_assert_eq!(back.encode(), &bytes[..]);
        let verified = Unverified::parse(&bytes).unwrap().verify(None).unwrap();
        prop_assert_eq!(verified.bytes(), &bytes[..]);
        prop_assert_eq!(verified.ghid(), me.ghid());
    }

    #[test]
    fn containers(secret in secret(), salt: [u8; 32], plaintext in prop::collection::vec(any::<u8>(), 0..3000)) {
        let me = person(1);
        let made = Container::seal(&me, &secret, salt, &plaintext);
        let verified = reread(&made, Some(me.identity()));
        let Object::Container(container) = verified.object() else { panic!("a container") };
        prop_assert_eq!(container.author(), me.ghid());
        prop_assert_eq!(container.salt(), Some(&salt));
        prop_assert_eq!(container.plaintext_len(), plaintext.len());
        let opened = container.open(&secret).unwrap();
        prop_assert_eq!(&opened[..], &plaintext[..]);
    }

    #[test]
    fn bindings(target in ghid()) {
        let me = person(1);
        let made = reread(&StaticBinding::make(&me, target), Some(me.identity()));
        let Object::StaticBinding(binding) = made.object() else { panic!("a binding") };
        prop_assert_eq!((binding.binder(), binding.target()), (me.ghid(), target));
        let made = reread(&Debinding::make(&me, target), Some(me.identity()));
        let Object::Debinding(debinding) = made.object() else { panic!("a debinding") };
        prop_assert_eq!((debinding.debinder(), debinding.target()), (me.ghid(), target));
    }

    #[test]
    fn frames(counter in 1u64.., mut targets in prop::collection::vec(ghid(), 1..16), birth in ghid()) {
        let me = person(1);
        let dynamic = DynamicBinding::dynamic_address(me.suite(), &me.ghid(), &birth);
        targets.push(birth);
        let made = DynamicBinding::next(&me, dynamic, counter, &targets).unwrap();
        let verified = reread(&made, Some(me.identity()));
        let Object::DynamicBinding(frame) = verified.object() else { panic!("a frame") };
        prop_assert_eq!(frame.counter(), counter);
        prop_assert_eq!(frame.targets(), &targets[..]);
        prop_assert_eq!((frame.target(), frame.birth()), (targets[0], birth));
        prop_assert_eq!(frame.dynamic(), dynamic);
    }

    #[test]
    fn requests(body in body(), half: [u8; 32]) {
        let mut randomness = [0; 64];
        randomness[..32].copy_from_slice(&half);
        let (alice, bob) = (person(1), person(2));
        for recipient in [&bob, &alice] {
            let made = Request::seal(&alice, recipient.identity(), &body, randomness).unwrap();
            let verified = reread(&made, None);
            let Object::Request(request) = verified.object() else { panic!("a request") };
            prop_assert_eq!(request.recipient(), recipient.ghid());
            let opened = request.open(recipient).unwrap();
            prop_assert_eq!(opened.author(), alice.ghid());
            prop_assert_eq!(&opened.authenticate(recipient, alice.identity()).unwrap(), &body);
        }
    }

    #[test]
    fn secrets(secret in secret()) {
        prop_assert_eq!(Secret::from_bytes(&secret.to_bytes()).unwrap(), secret);
    }

    #[test]
    fn addresses(ghid in ghid()) {
        prop_assert_eq!(Ghid::from_bytes(ghid.as_bytes()).unwrap(), ghid);
        prop_assert_eq!(ghid.to_string().parse::<Ghid>().unwrap(), ghid);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..900), kind in 0usize..7) {
        let heads: [&[u8]; 7] = [
            b"", b"GIDC\0\0\0\x02\x03", b"GEOC\0\0\0\x0e\x03", b"GOBS\0\0\0\x06\x03",
            b"GOBD\0\0\0\x10\x03", b"GDXX\0\0\0\x09\x03", b"GARQ\0\0\0\x0c\x03",
        ];
        prop_assert!(Unverified::parse(&[heads[kind], &bytes].concat()).is_err());
        prop_assert!(Secret::from_bytes(&bytes).is_err());
    }
}
