//! What only suite 1 has: addresses that nothing proves yet, and requests that differ in a MAC which
//! nobody can check.

mod persister_cast;

use std::collections::BTreeSet;

use golix::Ghid;
use golix::object::{DynamicBinding, Object, Request, Unverified, Verified};
use golix::persister::memory::MemoryView;
use golix::persister::{Head, Notice, Owner, Pending, Rejection, View, limits, variant_address};
use persister_cast::{
    Cast, Person, SUITE1, SUITE3, bind, container, debind, dynamic, first_frame, frame, identity,
    request, unproven, with_mac,
};

fn persister() -> MemoryView {
    let mut view = MemoryView::new();
    for person in SUITE1.people().into_iter().chain(SUITE3.people()) {
        view.publish(&identity(person)).expect("an identity");
    }
    view
}

#[track_caller]
fn accepted(view: &mut MemoryView, object: &Verified) -> Vec<Notice> {
    let plan = view.publish(object).expect("has to be accepted");
    assert!(!plan.already);
    plan.notices
}

#[track_caller]
fn refused(view: &mut MemoryView, object: &Verified) -> Rejection {
    let before = view.clone();
    let rejection = view.publish(object).expect_err("has to be refused");
    assert_eq!(*view, before, "a refusal changes nothing");
    rejection
}

#[track_caller]
fn head(view: &MemoryView, dynamic: Ghid) -> Head {
    view.head(&dynamic).expect("memory can be read").expect("a head")
}

/// The owner, a stranger, and the address that only the owner can prove.
struct Story {
    owner: &'static Person,
    stranger: &'static Person,
    birth: Ghid,
    address: Ghid,
}

/// Owners of either suite; the stranger is of suite 1, since in suite 3 nobody can make such frames.
fn stories() -> [Story; 2] {
    let birth = Ghid::of(b"birth");
    let story = |cast: &'static Cast| {
        let owner = &cast.alice;
        Story { owner, stranger: &SUITE1.mallory, birth, address: dynamic(owner, birth) }
    };
    [story(&SUITE1), story(&SUITE3)]
}

#[test]
fn the_first_who_proves_an_address_displaces_whoever_came_before() {
    for Story { owner, stranger, birth, address } in stories() {
        let loot = container(stranger, "loot");
        let hijack = unproven(stranger, address, u64::MAX, &[loot.ghid(), birth]);
        let mut clean = persister();
        let mut view = persister();
        accepted(&mut view, &hijack);
        accepted(&mut view, &loot);
        assert!(!head(&view, address).proven);
        assert_eq!(head(&view, address).mark().owner, Owner::Unproven(stranger.ghid()));

        let state = container(owner, "state");
        let right = frame(owner, birth, 1, &[state.ghid()]);
        accepted(&mut view, &right);
        assert!(!view.contains(&hijack.ghid()) && !view.contains(&loot.ghid()), "all of it goes");
        let told = accepted(&mut view, &state);
        assert_eq!(told, [Notice::Updated { dynamic: address, frame: right.ghid() }]);
        for object in [&right, &state] {
            accepted(&mut clean, object);
        }
        assert_eq!(view, clean, "nothing remembers that he was here");

        // And he does not come back, not even when the owner is gone.
        let no = Rejection::Inconsistent(owner.ghid());
        assert_eq!(refused(&mut view, &hijack), no);
        assert_eq!(refused(&mut view, &unproven(stranger, address, 2, &[loot.ghid(), birth])), no);
        accepted(&mut view, &debind(owner, address));
        assert!(view.heads().next().is_none());
        assert_eq!(refused(&mut view, &hijack), Rejection::Unproven);
    }
}

#[test]
fn a_first_frame_is_proof_enough_and_starts_the_order_again() {
    let Story { owner, stranger, birth, address } = &stories()[0];
    let mut view = persister();
    accepted(&mut view, &unproven(stranger, *address, u64::MAX, &[Ghid::of(b"loot"), *birth]));
    accepted(&mut view, &first_frame(*owner, *birth));
    assert_eq!((head(&view, *address).counter, head(&view, *address).proven), (0, true));
    // What the owner's writer has forgotten is taken on trust from now on.
    let trimmed = unproven(*owner, *address, 8, &[Ghid::of(b"8"), Ghid::of(b"7")]);
    accepted(&mut view, &trimmed);
    let now = head(&view, *address);
    assert_eq!((now.frame, now.proven, now.birth), (trimmed.ghid(), true, *birth));
    assert_eq!(now.mark().owner, Owner::Birth(*birth));
    let older = unproven(*owner, *address, 7, &[Ghid::of(b"7"), Ghid::of(b"6")]);
    assert_eq!(refused(&mut view, &older), Rejection::Counter { newest: 8 });
}

#[test]
fn unproven_addresses_belong_to_the_first_binder_and_move_forward() {
    let Story { owner, stranger, birth, address } = &stories()[0];
    let frames: Vec<_> = (5..8_u64)
        .map(|n| unproven(*owner, *address, n, &[Ghid::of(&n.to_be_bytes()), Ghid::of(b"old")]))
        .collect();
    let mut view = persister();
    accepted(&mut view, &frames[1]);
    assert_eq!(refused(&mut view, &frames[0]), Rejection::Counter { newest: 6 });
    let theirs = unproven(*stranger, *address, 9, &[Ghid::of(b"loot"), *birth]);
    assert_eq!(refused(&mut view, &theirs), Rejection::Inconsistent(owner.ghid()));
    accepted(&mut view, &frames[2]);
    assert!(view.publish(&frames[2]).expect("stored").already);
    assert!(!head(&view, *address).proven);

    // An old frame with the proof does not turn the clock back: the head stays, proven.
    let told = accepted(&mut view, &frame(*owner, *birth, 1, &[Ghid::of(b"1")]));
    assert_eq!(told, [], "the head's target is not here");
    let now = head(&view, *address);
    assert_eq!((now.frame, now.proven, now.birth), (frames[2].ghid(), true, *birth));
    assert!(!view.contains(&Ghid::of(b"1")));
    let again = frame(*owner, *birth, 1, &[Ghid::of(b"1")]);
    assert_eq!(refused(&mut view, &again), Rejection::Counter { newest: 7 });

    // The other way round it is the same state.
    let mut other = persister();
    accepted(&mut other, &frame(*owner, *birth, 1, &[Ghid::of(b"1")]));
    accepted(&mut other, &frames[2]);
    assert_eq!(other, view);
}

#[test]
fn subscribers_hear_of_the_proof() {
    let Story { owner, birth, address, .. } = &stories()[0];
    let state = container(*owner, "state");
    let late = unproven(*owner, *address, 9, &[state.ghid(), Ghid::of(b"old")]);
    let mut view = persister();
    accepted(&mut view, &late);
    accepted(&mut view, &state);
    let told = accepted(&mut view, &first_frame(*owner, *birth));
    assert_eq!(told, [Notice::Updated { dynamic: *address, frame: late.ghid() }]);
}

#[test]
fn a_fork_may_carry_the_proof() {
    let Story { owner, birth, address, .. } = &stories()[0];
    // Two frames of one counter, only one of which proves; either may win.
    for i in 0..8_u8 {
        let with = frame(*owner, *birth, 3, &[Ghid::of(&[i])]);
        let without = unproven(*owner, *address, 3, &[Ghid::of(&[i]), Ghid::of(b"old")]);
        let end = |objects: [&Verified; 2]| {
            let mut view = persister();
            for object in objects {
                accepted(&mut view, object);
            }
            view
        };
        let view = end([&with, &without]);
        assert_eq!(view, end([&without, &with]));
        assert!(head(&view, *address).proven);
        assert_eq!(head(&view, *address).birth, *birth);
    }
}

#[test]
fn a_removed_address_stays_its_owners() {
    for Story { owner, stranger, birth, address } in stories() {
        let mut view = persister();
        let newest = frame(owner, birth, 6, &[Ghid::of(b"6")]);
        accepted(&mut view, &newest);
        let removal = debind(owner, address);
        accepted(&mut view, &removal);
        let squat = unproven(stranger, address, u64::MAX, &[Ghid::of(b"loot"), birth]);
        assert_eq!(refused(&mut view, &squat), Rejection::Unproven);
        assert!(view.contains(&removal.ghid()));
        // Taken back, it goes on where it was; in suite 1 also without proof.
        accepted(&mut view, &debind(owner, removal.ghid()));
        assert_eq!(refused(&mut view, &squat), Rejection::Unproven);
        let older = frame(owner, birth, 5, &[Ghid::of(b"5")]);
        assert_eq!(refused(&mut view, &older), Rejection::Counter { newest: 6 });
        if owner.suite() == golix::Suite::Suite1 {
            let trimmed = unproven(owner, address, 9, &[Ghid::of(b"9"), Ghid::of(b"8")]);
            accepted(&mut view, &trimmed);
            assert_eq!((head(&view, address).proven, head(&view, address).birth), (true, birth));
        } else {
            accepted(&mut view, &newest);
        }
    }
}

#[test]
fn what_a_squatter_leaves_behind_locks_nobody_out() {
    let Story { owner, stranger, birth, address } = &stories()[0];
    let mut view = persister();
    accepted(&mut view, &unproven(*stranger, *address, u64::MAX, &[Ghid::of(b"loot"), *birth]));
    let removal = debind(*stranger, *address);
    accepted(&mut view, &removal);
    assert!(view.heads().next().is_none());
    // His own frames are subject to his own order and debinding.
    let again = unproven(*stranger, *address, 5, &[Ghid::of(b"loot"), *birth]);
    assert_eq!(refused(&mut view, &again), Rejection::Counter { newest: u64::MAX });
    // The owner's are not, proven or not.
    let mut proven = view.clone();
    accepted(&mut proven, &first_frame(*owner, *birth));
    assert!(!proven.contains(&removal.ghid()), "nor is his debinding of what is not his kept");
    accepted(&mut view, &unproven(*owner, *address, 9, &[Ghid::of(b"9"), Ghid::of(b"8")]));
    assert!(view.contains(&removal.ghid()), "as long as nothing is proven");
}

#[test]
fn a_deleted_object_is_not_resurrected_by_way_of_a_squatter() {
    for Story { owner, stranger, birth, address } in stories() {
        // The removal comes alone, to a persister that never saw the object.
        let mut view = persister();
        let removal = debind(owner, address);
        accepted(&mut view, &removal);
        let squat = unproven(stranger, address, 3, &[Ghid::of(b"loot"), birth]);
        accepted(&mut view, &squat);
        assert!(view.contains(&removal.ghid()), "who is the owner is open, so it is kept");
        // The owner's frame is not kept, but it shows who has no right to be there, for ever.
        let frame = frame(owner, birth, 2, &[Ghid::of(b"2")]);
        let told = accepted(&mut view, &frame);
        assert_eq!(told, [Notice::Gone { address, debinding: Some(removal.ghid()) }]);
        assert!(!view.contains(&address) && !view.contains(&squat.ghid()));
        assert_eq!(refused(&mut view, &frame), Rejection::Debound(removal.ghid()));
        assert_eq!(refused(&mut view, &squat), Rejection::Unproven);
        assert!(view.contains(&removal.ghid()));

        // Nor if the removal comes while the squatter is there.
        let mut view = persister();
        accepted(&mut view, &squat);
        accepted(&mut view, &removal);
        assert!(view.contains(&squat.ghid()));
        let counts = Pending::Unproven { debinder: owner.ghid(), debinding: removal.ghid() };
        assert!(view.pending_rows().any(|row| row == counts), "within the owner's quota");
        // Held by somebody, the address is the owner's again, debound.
        let hold = bind(&SUITE1.bob, address);
        accepted(&mut view, &hold);
        accepted(&mut view, &frame);
        let now = head(&view, address);
        assert!(now.proven && now.debound && now.binder == owner.ghid());
        assert_eq!(view.pending_rows().count(), 0);
        accepted(&mut view, &debind(&SUITE1.bob, hold.ghid()));
        assert!(!view.contains(&address));
    }
}

#[test]
fn ten_thousand_hijacks_do_not_matter() {
    let (owner, stranger) = (&SUITE1.alice, &SUITE1.mallory);
    let mut view = persister();
    let births: Vec<Ghid> = (0..10_000_u32).map(|i| Ghid::of(&i.to_be_bytes())).collect();
    for birth in &births {
        let address = dynamic(owner, *birth);
        accepted(&mut view, &unproven(stranger, address, u64::MAX, &[Ghid::of(b"loot"), *birth]));
    }
    assert!(view.heads().all(|(_, head)| !head.proven));
    for birth in &births {
        accepted(&mut view, &first_frame(owner, *birth));
    }
    assert_eq!(view.heads().count(), births.len());
    assert!(view.heads().all(|(_, head)| head.proven && head.binder == owner.ghid()));
    assert_eq!(view.objects().count(), 6 + births.len());
}

#[test]
fn a_request_cannot_be_kept_away_by_a_wrong_mac() {
    let (alice, bob) = (&SUITE1.alice, &SUITE1.bob);
    let mut view = persister();
    for i in 0..50 {
        let truth = request(alice, bob, &i.to_string());
        let poisoned = with_mac(&truth, 0);
        assert_eq!(poisoned.ghid(), truth.ghid());
        let first = accepted(&mut view, &poisoned);
        let (recipient, address) = (bob.ghid(), truth.ghid());
        assert_eq!(first, [Notice::Request { recipient, request: address }]);
        let second = accepted(&mut view, &truth);
        let place = variant_address(&address, 1);
        assert_eq!(second, [Notice::Request { recipient, request: place }]);
        assert!(view.publish(&truth).expect("stored").already);
        assert!(view.publish(&poisoned).expect("stored").already);
    }
    // The recipient is given both of each, and the true ones open.
    let waiting = view.requests(&bob.ghid(), None, usize::MAX).expect("memory");
    assert_eq!(waiting.len(), 100);
    let open = |key: &Ghid| {
        let parsed = Unverified::parse(view.get(key).expect("stored")).expect("well-formed");
        let verified = parsed.verify(None).expect("nobody can tell");
        let Object::Request(request) = verified.object().clone() else { panic!("a request") };
        opens(&request, bob, alice)
    };
    assert_eq!(waiting.iter().filter(|key| open(key)).count(), 50);
}

fn opens(request: &Request, recipient: &Person, author: &Person) -> bool {
    let opened = request.open(&recipient.0);
    opened.and_then(|opened| opened.authenticate(&recipient.0, author.0.identity())).is_ok()
}

#[test]
fn variants_are_few_and_go_together() {
    let (alice, bob) = (&SUITE1.alice, &SUITE1.bob);
    let truth = request(alice, bob, "truth");
    let mut view = persister();
    let before = view.clone();
    for mac in 1..=limits::VARIANTS_MAX as u8 {
        accepted(&mut view, &with_mac(&truth, mac));
    }
    assert_eq!(refused(&mut view, &truth), Rejection::VariantsFull);
    let other = request(alice, bob, "another");
    accepted(&mut view, &other);
    let removal = debind(bob, truth.ghid());
    let told = accepted(&mut view, &removal);
    let gone = Notice::RequestGone {
        recipient: bob.ghid(),
        request: truth.ghid(),
        debinding: removal.ghid(),
    };
    assert_eq!(told, [gone]);
    assert_eq!(view.waiting().count(), 1);
    assert_eq!(view.objects().count(), before.objects().count() + 2);
    for variant in [truth.clone(), with_mac(&truth, 1), with_mac(&truth, 77)] {
        assert_eq!(refused(&mut view, &variant), Rejection::Debound(removal.ghid()));
    }
    // The author cannot, as ever.
    assert_eq!(
        refused(&mut view, &debind(alice, other.ghid())),
        Rejection::Inconsistent(bob.ghid())
    );
}

#[test]
fn a_request_has_the_suite_of_its_recipient() {
    for (recipient, author) in [(&SUITE1.bob, &SUITE3.alice), (&SUITE3.bob, &SUITE1.alice)] {
        let ask = request(author, recipient, "across");
        let mut view = persister();
        accepted(&mut view, &ask);
        let removal = debind(recipient, ask.ghid());
        accepted(&mut view, &removal);
        assert_eq!(refused(&mut view, &ask), Rejection::Debound(removal.ghid()));
        // The same box under the other suite byte is nothing that anybody could open.
        let other = if recipient.suite().code() == 1 { 3 } else { 1 };
        let mut forged = ask.bytes().to_vec();
        forged[8] = other;
        let hash = Ghid::of(&forged[..587]).address();
        forged[587..651].copy_from_slice(&hash);
        let forged = Unverified::parse(&forged).expect("well-formed").assume_verified();
        assert_eq!(refused(&mut view, &forged), Rejection::SuiteMismatch(recipient.ghid()));
    }
}

#[test]
fn objects_of_both_suites_live_together() {
    // Either binds what the other made; each lets go of its own.
    let (one, three) = (&SUITE1.alice, &SUITE3.bob);
    for (author, binder) in [(one, three), (three, one)] {
        let mut view = persister();
        let thing = container(author, "thing");
        let own = first_frame(author, thing.ghid());
        let holds: Vec<_> =
            [thing.ghid(), dynamic(author, thing.ghid())].map(|target| bind(binder, target)).into();
        for object in holds.iter().chain([&own, &thing]) {
            accepted(&mut view, object);
        }
        accepted(&mut view, &debind(author, dynamic(author, thing.ghid())));
        assert!(view.contains(&own.ghid()), "held by the other");
        for hold in &holds {
            assert_eq!(
                refused(&mut view, &debind(author, hold.ghid())),
                Rejection::Inconsistent(binder.ghid())
            );
            accepted(&mut view, &debind(binder, hold.ghid()));
        }
        assert!(!view.contains(&own.ghid()) && !view.contains(&thing.ghid()));
    }
}

#[test]
fn frames_that_prove_nothing_differ_from_those_that_do() {
    let Story { owner, birth, address, .. } = &stories()[0];
    let proven = frame(*owner, *birth, 2, &[Ghid::of(b"2")]);
    let Object::DynamicBinding(proven) = proven.object() else { panic!("a frame") };
    assert!(proven.is_proven());
    assert_eq!(DynamicBinding::dynamic_address(proven.suite(), &owner.ghid(), birth), *address);
    let distinct: BTreeSet<Ghid> = (1..4).map(|n| variant_address(address, n)).collect();
    assert_eq!(distinct.len(), 3);
}
