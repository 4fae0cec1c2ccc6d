//! Debindings: the spec's chain step by step, early debindings, and what survives deletion.

mod persister_cast;

use golix::Ghid;
use golix::object::Verified;
use golix::persister::memory::MemoryView;
use golix::persister::{Notice, Pending, Rejection, limits};
use persister_cast::{
    Cast, bind, both_suites, container, debind, dynamic, first_frame, frame, identity, request,
};

both_suites!(
    the_chain_grows_by_one_debinding_a_cycle,
    an_address_of_a_debinding_is_the_one_that_is_looked_up,
    early_debindings_are_judged_when_the_target_arrives,
    a_debinder_has_a_quota_of_unknown_targets,
    a_flood_of_foreign_debindings_neither_blocks_nor_outlives_its_target,
    replay_after_deletion_is_refused,
    a_losing_frame_does_not_return_after_deletion,
    a_debinding_taken_back_in_time_keeps_a_held_binding_alive,
    an_early_debinding_of_a_held_binding_becomes_proven,
);

/// A persister that knows everybody.
fn persister(cast: &Cast) -> MemoryView {
    let mut view = MemoryView::new();
    for person in cast.people() {
        view.publish(&identity(person)).expect("an identity");
    }
    view
}

#[track_caller]
fn refused(view: &mut MemoryView, object: &Verified) -> Rejection {
    let before = view.clone();
    let rejection = view.publish(object).expect_err("has to be refused");
    assert_eq!(*view, before, "a refusal changes nothing");
    rejection
}

#[track_caller]
fn accepted(view: &mut MemoryView, object: &Verified) -> Vec<Notice> {
    let plan = view.publish(object).expect("has to be accepted");
    assert!(!plan.already);
    plan.notices
}

/// Golix wire reference, 11.4: each cycle of removal and return adds one debinding.
fn the_chain_grows_by_one_debinding_a_cycle(cast: &Cast) {
    let mut view = persister(cast);
    let object = container(&cast.alice, "the object");
    let binding = bind(&cast.alice, object.ghid());
    let mut chain = vec![binding.clone()];
    for i in 0..8 {
        chain.push(debind(&cast.alice, chain[i].ghid()));
    }
    // Publishing link n removes link n-1, and so frees n-2, n-4, … to be published again.
    for newest in 0..chain.len() {
        accepted(&mut view, &chain[newest]);
        for link in (0..newest).rev() {
            if (newest - link) % 2 == 1 {
                assert!(!view.contains(&chain[link].ghid()), "{newest}: {link} went");
                assert_eq!(
                    refused(&mut view, &chain[link]),
                    Rejection::Debound(chain[link + 1].ghid()),
                    "{newest}: {link} stays away"
                );
            } else {
                accepted(&mut view, &chain[link]);
            }
        }
        assert_eq!(view.contains(&binding.ghid()), newest % 2 == 0);
        assert_eq!(view.publish(&object).is_ok(), newest % 2 == 0, "the container follows");
    }
}

fn an_address_of_a_debinding_is_the_one_that_is_looked_up(cast: &Cast) {
    // alive() computes it; a debinding that it misses would be one that has no effect.
    let mut view = persister(cast);
    let binding = bind(&cast.alice, Ghid::of(b"anything"));
    let debinding = debind(&cast.alice, binding.ghid());
    accepted(&mut view, &debinding);
    assert_eq!(refused(&mut view, &binding), Rejection::Debound(debinding.ghid()));
}

fn early_debindings_are_judged_when_the_target_arrives(cast: &Cast) {
    let (alice, bob) = (&cast.alice, &cast.bob);
    let binding = bind(alice, Ghid::of(b"x"));
    let birth = Ghid::of(b"birth");
    let container = container(alice, "c");
    let targets = [
        (binding.clone(), binding.ghid()),
        (debind(alice, Ghid::of(b"y")), debind(alice, Ghid::of(b"y")).ghid()),
        (request(bob, alice, "r"), request(bob, alice, "r").ghid()),
        (first_frame(alice, birth), dynamic(alice, birth)),
    ];
    for (target, address) in targets {
        let mut view = persister(cast);
        let foreign = debind(bob, address);
        accepted(&mut view, &foreign);
        accepted(&mut view, &target);
        assert!(view.contains(&address));
        assert!(!view.contains(&foreign.ghid()), "a stranger's debinding is dropped");
        assert_eq!(refused(&mut view, &foreign), Rejection::Inconsistent(alice.ghid()));
        let counted = Pending::Unproven { debinder: bob.ghid(), debinding: foreign.ghid() };
        assert!(view.pending_rows().all(|row| row != counted));

        let mut view = persister(cast);
        let own = debind(alice, address);
        accepted(&mut view, &foreign);
        accepted(&mut view, &own);
        assert_eq!(refused(&mut view, &target), Rejection::Debound(own.ghid()));
        assert!(!view.contains(&address));
    }
    // What cannot be debound: the debinding goes, whoever made it.
    let frame = first_frame(alice, birth);
    accepted(&mut persister(cast), &frame);
    for (target, holder) in [(frame, None), (container.clone(), Some(bind(bob, container.ghid())))]
    {
        let mut view = persister(cast);
        let early = debind(alice, target.ghid());
        accepted(&mut view, &early);
        if let Some(holder) = holder {
            accepted(&mut view, &holder);
        }
        accepted(&mut view, &target);
        assert!(!view.contains(&early.ghid()));
        assert_eq!(refused(&mut view, &early), Rejection::TargetType(target.ghid()));
    }
    assert_eq!(
        refused(&mut persister(cast), &debind(alice, alice.ghid())),
        Rejection::TargetType(alice.ghid())
    );
}

fn a_debinder_has_a_quota_of_unknown_targets(cast: &Cast) {
    let mut view = persister(cast);
    let early: Vec<_> = (0..=limits::UNPROVEN_MAX)
        .map(|i| debind(&cast.mallory, Ghid::of(&i.to_be_bytes())))
        .collect();
    for debinding in &early[..limits::UNPROVEN_MAX] {
        accepted(&mut view, debinding);
    }
    assert_eq!(refused(&mut view, &early[limits::UNPROVEN_MAX]), Rejection::UnprovenFull);
    // Others, and debindings of known targets, are not affected.
    accepted(&mut view, &debind(&cast.alice, Ghid::of(b"unknown")));
    let binding = bind(&cast.mallory, Ghid::of(b"x"));
    accepted(&mut view, &binding);
    accepted(&mut view, &debind(&cast.mallory, binding.ghid()));
    // Letting go of one makes room for one.
    accepted(&mut view, &debind(&cast.mallory, early[0].ghid()));
    accepted(&mut view, &early[limits::UNPROVEN_MAX]);
}

fn a_flood_of_foreign_debindings_neither_blocks_nor_outlives_its_target(cast: &Cast) {
    let mut view = persister(cast);
    let binding = bind(&cast.alice, Ghid::of(b"x"));
    let strangers = 3 * limits::STEPS_MAX + 5;
    for i in 0..strangers {
        let seed = |n: u8| {
            let mut seed = [n; 32];
            seed[..8].copy_from_slice(&i.to_be_bytes());
            seed
        };
        let stranger =
            golix::PrivateIdentity::from_seeds(golix::Suite::Suite3, seed(11), seed(12), seed(13));
        accepted(&mut view, &identity(&stranger));
        accepted(&mut view, &debind(&stranger, binding.ghid()));
    }
    assert_eq!(view.debound().count(), strangers);
    accepted(&mut view, &binding);
    assert_eq!(view.debound().count(), strangers - limits::STEPS_MAX, "one batch in one plan");
    let plans = view.collect_all(8);
    assert_eq!(view.debound().count(), 0);
    assert!(plans.iter().all(|plan| plan.changes.len() <= 8 + 8 * 3 * limits::STEPS_MAX));
    assert!(view.contains(&binding.ghid()));
    assert_eq!(view.pending_rows().count(), 0);
}

fn replay_after_deletion_is_refused(cast: &Cast) {
    let (alice, birth) = (&cast.alice, Ghid::of(b"birth"));
    let the_dyn = dynamic(alice, birth);
    let mut frames = vec![first_frame(alice, birth)];
    frames.extend((1..5).map(|i| frame(alice, birth, i, &[Ghid::of(&i.to_be_bytes())])));
    let mut view = persister(cast);
    for frame in &frames {
        accepted(&mut view, frame);
    }
    let removal = debind(alice, the_dyn);
    let notices = accepted(&mut view, &removal);
    assert_eq!(
        notices,
        [Notice::Gone { address: the_dyn, debinding: Some(removal.ghid()) }],
        "subscribers hear which debinding ended it"
    );
    for (i, frame) in frames.iter().enumerate() {
        let newest = 4;
        let expected =
            if i < 4 { Rejection::Counter { newest } } else { Rejection::Debound(removal.ghid()) };
        assert_eq!(refused(&mut view, frame), expected, "frame {i}");
    }
    // The binder takes it back: the newest frame may return, older ones may not.
    accepted(&mut view, &debind(alice, removal.ghid()));
    for frame in &frames[..4] {
        assert_eq!(refused(&mut view, frame), Rejection::Counter { newest: 4 });
    }
    accepted(&mut view, &frames[4]);
    accepted(&mut view, &frame(alice, birth, 5, &[Ghid::of(b"later")]));
}

fn a_losing_frame_does_not_return_after_deletion(cast: &Cast) {
    let (alice, birth) = (&cast.alice, Ghid::of(b"birth"));
    let mut pair = [Ghid::of(b"a"), Ghid::of(b"b")].map(|t| frame(alice, birth, 9, &[t]));
    pair.sort_by_key(Verified::ghid);
    let mut view = persister(cast);
    accepted(&mut view, &pair[1]);
    let removal = debind(alice, dynamic(alice, birth));
    accepted(&mut view, &removal);
    accepted(&mut view, &debind(alice, removal.ghid()));
    assert_eq!(refused(&mut view, &pair[0]), Rejection::Counter { newest: 9 });
    accepted(&mut view, &pair[1]);
    accepted(&mut view, &pair[0]);
}

fn a_debinding_taken_back_in_time_keeps_a_held_binding_alive(cast: &Cast) {
    let (alice, bob, birth) = (&cast.alice, &cast.bob, Ghid::of(b"birth"));
    let the_dyn = dynamic(alice, birth);
    let mut view = persister(cast);
    let holder = bind(bob, the_dyn);
    let removal = debind(alice, the_dyn);
    accepted(&mut view, &first_frame(alice, birth));
    accepted(&mut view, &holder);
    assert_eq!(accepted(&mut view, &removal), [], "held: nothing is gone yet");
    assert!(view.heads().all(|(_, head)| head.debound));
    accepted(&mut view, &debind(alice, removal.ghid()));
    assert!(view.heads().all(|(_, head)| !head.debound));
    accepted(&mut view, &debind(bob, holder.ghid()));
    assert!(view.contains(&the_dyn), "its binder holds it again");
}

fn an_early_debinding_of_a_held_binding_becomes_proven(cast: &Cast) {
    let (alice, bob, birth) = (&cast.alice, &cast.bob, Ghid::of(b"birth"));
    let the_dyn = dynamic(alice, birth);
    let mut view = persister(cast);
    accepted(&mut view, &debind(alice, the_dyn));
    assert!(view.pending_rows().any(|row| matches!(row, Pending::Unproven { .. })));
    assert!(matches!(refused(&mut view, &first_frame(alice, birth)), Rejection::Debound(_)));
    let holder = bind(bob, the_dyn);
    accepted(&mut view, &holder);
    accepted(&mut view, &first_frame(alice, birth));
    assert_eq!(view.pending_rows().count(), 0);
    accepted(&mut view, &debind(bob, holder.ghid()));
    assert!(!view.contains(&the_dyn), "gone with its last holder");
}
