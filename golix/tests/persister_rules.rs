//! Frames, forks, hijacks, circles, limits and notices: one test for each promise.

mod persister_cast;

use golix::Ghid;
use golix::object::{DynamicBinding, Unverified, Verified};
use golix::persister::memory::MemoryView;
use golix::persister::{Change, Notice, Rejection, limits};
use persister_cast::{
    Cast, SUITE1, SUITE3, address, bind, both_suites, container, debind, dynamic, first_frame,
    frame, identity, request,
};
use proptest::prelude::*;

both_suites!(
    the_larger_frame_of_one_counter_wins_whatever_comes_first,
    a_fork_set_keeps_the_eight_largest,
    a_history_holds_nothing,
    targets_have_to_be_of_the_right_kind,
    authors_and_recipients_have_to_be_known_identities,
    no_circles_of_dynamic_bindings,
    a_circle_check_is_bounded,
    collection_cascades_in_bounded_steps,
    a_container_that_waits_for_collection_counts_as_gone,
    updates_are_told_once_the_target_is_there,
    many_waiting_heads_are_told_in_batches,
    requests_come_and_go_with_notices_and_a_limit,
    plans_are_small_for_an_ordinary_update,
);

fn persister(cast: &Cast) -> MemoryView {
    let mut view = MemoryView::new();
    for person in cast.people() {
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

fn sorted(mut frames: Vec<Verified>) -> Vec<Verified> {
    frames.sort_by_key(Verified::ghid);
    frames
}

fn the_larger_frame_of_one_counter_wins_whatever_comes_first(cast: &Cast) {
    let (alice, birth) = (&cast.alice, Ghid::of(b"birth"));
    let the_dyn = dynamic(alice, birth);
    let targets = [container(alice, "a"), container(alice, "b")];
    let pair = sorted(targets.iter().map(|t| frame(alice, birth, 7, &[t.ghid()])).collect());
    let mut states = Vec::new();
    for order in [[0, 1], [1, 0]] {
        let mut view = persister(cast);
        for i in order {
            accepted(&mut view, &pair[i]);
        }
        for target in &targets {
            accepted(&mut view, target);
        }
        let (_, head) = view.heads().next().expect("a head");
        assert_eq!((head.frame, head.forks.as_slice()), (pair[1].ghid(), &[pair[0].ghid()][..]));
        assert!(view.contains(&pair[0].ghid()), "the loser is served");
        assert_eq!(view.get(&the_dyn).map(|bytes| &**bytes), Some(pair[1].bytes()));
        assert!(targets.iter().all(|t| view.contains(&t.ghid())), "both states can be had");
        states.push(view);
    }
    assert_eq!(states[0], states[1]);
    // The next frame ends the fork and releases both.
    let mut view = states.remove(0);
    accepted(&mut view, &frame(alice, birth, 8, &[Ghid::of(b"merged")]));
    assert!(pair.iter().chain(&targets).all(|object| !view.contains(&object.ghid())));
    assert_eq!(view.publish(&pair[0]), Err(Rejection::Counter { newest: 8 }));
}

fn a_fork_set_keeps_the_eight_largest(cast: &Cast) {
    let (alice, birth) = (&cast.alice, Ghid::of(b"birth"));
    let many = limits::FORKS_MAX + 5;
    let frames: Vec<_> =
        (0..many).map(|i| frame(alice, birth, 1, &[Ghid::of(&i.to_be_bytes())])).collect();
    let frames = sorted(frames);
    let ghids: Vec<_> = frames.iter().rev().map(Verified::ghid).collect();
    for order in [(0..many).collect::<Vec<_>>(), (0..many).rev().collect()] {
        let mut view = persister(cast);
        for i in order {
            match view.publish(&frames[i]) {
                Ok(_) | Err(Rejection::ForksFull) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let (_, head) = view.heads().next().expect("a head");
        assert_eq!(head.frames().collect::<Vec<_>>(), ghids[..=limits::FORKS_MAX]);
        assert_eq!(view.holds().count(), 1 + limits::FORKS_MAX);
        assert_eq!(view.objects().count(), 3 + 1 + limits::FORKS_MAX);
    }
}

/// Frames with counters 1 to 3, several each, and the container of each.
fn forked_history(cast: &Cast) -> (Vec<Verified>, Vec<Verified>) {
    let (alice, birth) = (&cast.alice, Ghid::of(b"birth"));
    let mut frames = vec![first_frame(alice, birth)];
    let mut containers = Vec::new();
    for counter in 1..4_u64 {
        for variant in 0..4 {
            let target = container(alice, &format!("{counter}.{variant}"));
            frames.push(frame(alice, birth, counter, &[target.ghid()]));
            containers.push(target);
        }
    }
    (frames, containers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_arrival_leads_to_the_same_state(
        order in Just((0..13_usize).collect::<Vec<_>>()).prop_shuffle()
    ) {
        for cast in [&*SUITE1, &*SUITE3] {
        let (frames, containers) = forked_history(cast);
        let end = |order: &[usize]| {
            let mut view = persister(cast);
            for i in order {
                let _ = view.publish(&frames[*i]);
            }
            for target in &containers {
                let _ = view.publish(target);
            }
            view
        };
        let expected = end(&(0..13).collect::<Vec<_>>());
        prop_assert_eq!(end(&order), expected);
        }
    }
}

/// In suite 3; what suite 1 does instead is in `persister_suite1.rs`.
#[test]
fn nobody_seizes_an_address_he_did_not_make() {
    let cast = &*SUITE3;
    let (alice, mallory, birth) = (&cast.alice, &cast.mallory, Ghid::of(b"birth"));
    let the_dyn = dynamic(alice, birth);
    // He cannot make such a frame…
    let vector = [Ghid::of(b"evil"), birth];
    assert!(DynamicBinding::next(mallory, the_dyn, u64::MAX, &vector).is_err());
    assert_ne!(dynamic(mallory, birth), the_dyn);
    // … and a forged one does not parse, with any birth target, so it never reaches the rules.
    let real = frame(alice, birth, 1, &[Ghid::of(b"new")]);
    for (at, with) in [(9, mallory.ghid()), (149, Ghid::of(b"another birth"))] {
        let mut forged = real.bytes().to_vec();
        forged[at..at + 65].copy_from_slice(with.as_bytes());
        let hashed = forged.len() - 128;
        let hash = Ghid::of(&forged[..hashed]).address();
        forged[hashed..hashed + 64].copy_from_slice(&hash);
        assert!(Unverified::parse(&forged).is_err());
    }
    assert!(Unverified::parse(real.bytes()).is_ok());
}

fn a_history_holds_nothing(cast: &Cast) {
    let (alice, birth) = (&cast.alice, container(&cast.alice, "birth"));
    let old = container(alice, "old");
    let mut view = persister(cast);
    accepted(&mut view, &frame(alice, birth.ghid(), 3, &[Ghid::of(b"new"), old.ghid()]));
    assert_eq!(view.publish(&old), Err(Rejection::Unbound));
    assert_eq!(view.publish(&birth), Err(Rejection::Unbound));
}

fn targets_have_to_be_of_the_right_kind(cast: &Cast) {
    let (alice, bob, birth) = (&cast.alice, &cast.bob, Ghid::of(b"birth"));
    let mut view = persister(cast);
    let held = container(alice, "held");
    let binding = bind(alice, held.ghid());
    let the_frame = first_frame(alice, birth);
    let wait = request(alice, bob, "r");
    let early = debind(alice, Ghid::of(b"unknown"));
    for object in [&binding, &held, &the_frame, &wait, &early] {
        accepted(&mut view, object);
    }
    let wrong = [alice.ghid(), binding.ghid(), the_frame.ghid(), wait.ghid(), early.ghid()];
    for target in wrong {
        let no = Err(Rejection::TargetType(target));
        assert_eq!(view.publish(&bind(bob, target)), no);
        assert_eq!(view.publish(&first_frame(bob, target)), no);
        assert_eq!(view.publish(&frame(alice, birth, 1, &[target])), no);
    }
    for target in [held.ghid(), address(&the_frame), Ghid::of(b"unknown")] {
        accepted(&mut view, &bind(bob, target));
        accepted(&mut view, &first_frame(bob, target));
    }
    for target in [alice.ghid(), held.ghid(), the_frame.ghid()] {
        assert_eq!(view.publish(&debind(alice, target)), Err(Rejection::TargetType(target)));
    }
}

fn authors_and_recipients_have_to_be_known_identities(cast: &Cast) {
    let (alice, bob) = (&cast.alice, &cast.bob);
    let mut view = MemoryView::new();
    let unknown = Err(Rejection::AuthorUnknown(alice.ghid()));
    let x = Ghid::of(b"x");
    let objects = [bind(alice, x), first_frame(alice, x), debind(alice, x), container(alice, "c")];
    for object in objects {
        assert_eq!(view.publish(&object), unknown);
    }
    accepted(&mut view, &identity(alice));
    let ask = request(alice, bob, "r");
    assert_eq!(view.publish(&ask), Err(Rejection::RecipientUnknown(bob.ghid())));
}

fn no_circles_of_dynamic_bindings(cast: &Cast) {
    let alice = &cast.alice;
    let births = ["a", "b", "c"].map(|name| Ghid::of(name.as_bytes()));
    let [a, b, c] = births.map(|birth| dynamic(alice, birth));
    let mut view = persister(cast);
    accepted(&mut view, &frame(alice, births[0], 1, &[b]));
    accepted(&mut view, &frame(alice, births[1], 1, &[c]));
    assert_eq!(view.publish(&frame(alice, births[2], 1, &[a])), Err(Rejection::Cycle(a)));
    accepted(&mut view, &first_frame(alice, births[2]));
    assert_eq!(view.publish(&frame(alice, births[2], 1, &[a])), Err(Rejection::Cycle(a)));
    assert_eq!(view.publish(&frame(alice, births[2], 1, &[c])), Err(Rejection::Cycle(c)));
    // A losing frame holds its target, so it may not close a circle either.
    let mut view = persister(cast);
    let pair = sorted(vec![
        frame(alice, births[0], 1, &[b]),
        frame(alice, births[0], 1, &[Ghid::of(b"elsewhere")]),
    ]);
    for frame in &pair {
        accepted(&mut view, frame);
    }
    assert_eq!(view.publish(&frame(alice, births[1], 1, &[a])), Err(Rejection::Cycle(a)));
    accepted(&mut view, &frame(alice, births[0], 2, &[Ghid::of(b"elsewhere")]));
    accepted(&mut view, &frame(alice, births[1], 1, &[a]));
}

/// `links` dynamic bindings, each the target of the one before; built from the front, so that no
/// walk is long.
fn chain(cast: &Cast, view: &mut MemoryView, links: usize) -> Vec<Ghid> {
    let births: Vec<_> = (0..links).map(|i| Ghid::of(format!("link {i}").as_bytes())).collect();
    let addresses: Vec<_> = births.iter().map(|birth| dynamic(&cast.alice, *birth)).collect();
    for (i, birth) in births.into_iter().enumerate() {
        let next = addresses.get(i + 1).copied().unwrap_or_else(|| Ghid::of(b"end"));
        accepted(view, &frame(&cast.alice, birth, 1, &[next]));
    }
    addresses
}

fn a_circle_check_is_bounded(cast: &Cast) {
    let mut view = persister(cast);
    let addresses = chain(cast, &mut view, limits::CHAIN_MAX + 1);
    let first = addresses[0];
    assert_eq!(view.publish(&first_frame(&cast.bob, first)), Err(Rejection::ChainTooLong(first)));
    accepted(&mut view, &first_frame(&cast.bob, addresses[1]));
}

fn collection_cascades_in_bounded_steps(cast: &Cast) {
    let links = limits::STEPS_MAX + limits::CHAIN_MAX - 4;
    let mut view = persister(cast);
    let addresses = chain(cast, &mut view, links);
    let end = container(&cast.alice, "the end");
    let end_birth = Ghid::of(format!("link {}", links - 1).as_bytes());
    accepted(&mut view, &frame(&cast.alice, end_birth, 2, &[end.ghid()]));
    accepted(&mut view, &end);
    for address in addresses.iter().skip(1) {
        assert_eq!(
            accepted(&mut view, &debind(&cast.alice, *address)),
            [],
            "held by the one before"
        );
    }
    let plan = view.publish(&debind(&cast.alice, addresses[0])).expect("its own");
    assert_eq!(plan.notices.len(), limits::STEPS_MAX);
    assert_eq!(view.heads().count(), links - limits::STEPS_MAX);
    // What waits for collection is no longer there for those who publish it…
    let waiting = addresses[limits::STEPS_MAX];
    let birth = Ghid::of(format!("link {}", limits::STEPS_MAX).as_bytes());
    let again = frame(&cast.alice, birth, 1, &[addresses[limits::STEPS_MAX + 1]]);
    assert!(view.contains(&waiting));
    assert!(matches!(view.publish(&again), Err(Rejection::Debound(_))));
    // … unless somebody binds it in time.
    let mut rescued = view.clone();
    accepted(&mut rescued, &bind(&cast.bob, waiting));
    rescued.collect_all(5);
    assert!(rescued.contains(&waiting) && rescued.contains(&end.ghid()));

    let plans = view.collect_all(7);
    assert!(plans.len() >= (links - limits::STEPS_MAX) / 7);
    let gone = plans.iter().flat_map(|plan| &plan.notices).count();
    assert_eq!(gone, links - limits::STEPS_MAX + 1, "every binding and the container");
    assert_eq!(view.heads().count(), 0);
    assert_eq!(view.holds().count(), 0);
    assert!(!view.contains(&end.ghid()));
    assert_eq!(view.pending_rows().count(), 0);
}

fn a_container_that_waits_for_collection_counts_as_gone(cast: &Cast) {
    let mut view = persister(cast);
    let addresses = chain(cast, &mut view, limits::STEPS_MAX);
    let (end, last) = (container(&cast.alice, "the end"), limits::STEPS_MAX - 1);
    let last_birth = Ghid::of(format!("link {last}").as_bytes());
    accepted(&mut view, &frame(&cast.alice, last_birth, 2, &[end.ghid()]));
    accepted(&mut view, &end);
    for address in addresses.iter().rev() {
        accepted(&mut view, &debind(&cast.alice, *address));
    }
    assert_eq!(view.heads().count(), 0);
    assert!(view.contains(&end.ghid()), "one step too far for one plan");
    assert_eq!(view.publish(&end), Err(Rejection::Unbound));
    let mut bound = view.clone();
    accepted(&mut bound, &bind(&cast.bob, end.ghid()));
    assert!(bound.publish(&end).expect("bound").already);
    bound.collect_all(1);
    assert!(bound.contains(&end.ghid()));
    view.collect_all(1);
    assert!(!view.contains(&end.ghid()));
}

fn updates_are_told_once_the_target_is_there(cast: &Cast) {
    let (alice, birth) = (&cast.alice, container(&cast.alice, "birth"));
    let the_dyn = dynamic(alice, birth.ghid());
    let updates = |notices: Vec<Notice>| -> Vec<(Ghid, Ghid)> {
        notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Updated { dynamic, frame } => Some((*dynamic, *frame)),
                _ => None,
            })
            .collect()
    };
    let mut view = persister(cast);
    let first = first_frame(alice, birth.ghid());
    assert_eq!(updates(accepted(&mut view, &first)), []);
    assert_eq!(updates(accepted(&mut view, &birth)), [(the_dyn, first.ghid())]);
    // The target is stored already: at once.
    let second = container(alice, "second");
    accepted(&mut view, &bind(&cast.bob, second.ghid()));
    assert_eq!(updates(accepted(&mut view, &second)), [], "a static binding is not updated");
    let next = frame(alice, birth.ghid(), 1, &[second.ghid()]);
    assert_eq!(updates(accepted(&mut view, &next)), [(the_dyn, next.ghid())]);
    // The target is a dynamic binding that comes later.
    let inner_birth = Ghid::of(b"inner");
    let inner = dynamic(alice, inner_birth);
    let outer = frame(alice, birth.ghid(), 2, &[inner]);
    assert_eq!(updates(accepted(&mut view, &outer)), []);
    let inner_first = first_frame(alice, inner_birth);
    assert_eq!(updates(accepted(&mut view, &inner_first)), [(the_dyn, outer.ghid())]);
    // A loser moves nothing; its target neither, not even when the winner's is there.
    let (a, b) = (container(alice, "a"), container(alice, "b"));
    let pair = sorted(vec![
        frame(alice, birth.ghid(), 3, &[a.ghid()]),
        frame(alice, birth.ghid(), 3, &[b.ghid()]),
    ]);
    assert_eq!(updates(accepted(&mut view, &pair[1])), []);
    assert_eq!(updates(accepted(&mut view, &pair[0])), []);
    let (_, head) = view.heads().find(|(dynamic, _)| **dynamic == the_dyn).expect("a head");
    let (winner, loser) = if head.target == a.ghid() { (a, b) } else { (b, a) };
    assert_eq!(updates(accepted(&mut view, &winner)), [(the_dyn, pair[1].ghid())]);
    assert_eq!(updates(accepted(&mut view, &loser)), []);
}

fn many_waiting_heads_are_told_in_batches(cast: &Cast) {
    let target = container(&cast.alice, "popular");
    let bindings = 3 * limits::STEPS_MAX + 7;
    let mut view = persister(cast);
    for i in 0..bindings {
        accepted(&mut view, &frame(&cast.alice, Ghid::of(&i.to_be_bytes()), 1, &[target.ghid()]));
    }
    let mut notices = accepted(&mut view, &target);
    assert_eq!(notices.len(), limits::STEPS_MAX);
    notices.extend(view.collect_all(3).into_iter().flat_map(|plan| plan.notices));
    let mut told: Vec<_> = notices.iter().map(Notice::topic).collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), bindings);
    assert_eq!(notices.len(), bindings, "each once");
}

fn requests_come_and_go_with_notices_and_a_limit(cast: &Cast) {
    let (alice, bob) = (&cast.alice, &cast.bob);
    let mut view = persister(cast);
    let requests: Vec<_> =
        (0..=limits::REQUESTS_MAX).map(|i| request(alice, bob, &i.to_string())).collect();
    for ask in &requests[..limits::REQUESTS_MAX] {
        let notices = accepted(&mut view, ask);
        assert_eq!(notices, [Notice::Request { recipient: bob.ghid(), request: ask.ghid() }]);
    }
    let last = &requests[limits::REQUESTS_MAX];
    assert_eq!(view.publish(last), Err(Rejection::RequestsFull));
    accepted(&mut view, &request(bob, alice, "the other way"));
    let done = debind(bob, requests[0].ghid());
    let notices = accepted(&mut view, &done);
    let (recipient, request) = (bob.ghid(), requests[0].ghid());
    assert_eq!(notices, [Notice::RequestGone { recipient, request, debinding: done.ghid() }]);
    accepted(&mut view, last);
    assert_eq!(view.publish(&requests[0]), Err(Rejection::Debound(done.ghid())));
}

fn plans_are_small_for_an_ordinary_update(cast: &Cast) {
    let (alice, birth) = (&cast.alice, container(&cast.alice, "birth"));
    let mut view = persister(cast);
    accepted(&mut view, &first_frame(alice, birth.ghid()));
    accepted(&mut view, &birth);
    let next = container(alice, "next");
    let plan = view.publish(&frame(alice, birth.ghid(), 1, &[next.ghid()])).expect("the owner's");
    // Frame in, new target held, old target released, old frame out, head, high water, container.
    assert_eq!(plan.changes.len(), 7, "{:?}", plan.changes);
    let puts = |change: &&Change| matches!(change, Change::PutObject { .. });
    assert_eq!(plan.changes.iter().filter(puts).count(), 1);
}
