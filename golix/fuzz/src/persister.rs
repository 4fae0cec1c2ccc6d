//! The rules of a persister under any sequence of objects, and the rows that it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use golix::object::{
    Container, Debinding, DynamicBinding, Request, RequestBody, StaticBinding, Unverified, Verified,
};
use golix::persister::memory::MemoryView;
use golix::persister::{Head, Mark, Pending, Stored, limits};
use golix::{Ghid, Secret, Signer, Suite};

use super::cast::{Cast, Quick, cast};

/// Stored forms: the first byte says which.
pub fn rows(data: &[u8]) {
    let Some((&which, row)) = data.split_first() else { return };
    match which % 4 {
        0 => {
            if let Some(head) = Head::decode(row) {
                assert_eq!(head.encode(), row);
                assert!(head.forks.len() <= limits::FORKS_MAX);
                assert_eq!(head.mark().newest, head.order());
                assert_eq!(head.frames().count(), 1 + head.forks.len());
            }
        }
        1 => {
            if let Some(mark) = Mark::decode(row) {
                assert_eq!(mark.encode(), row);
            }
        }
        2 => {
            let (key_len, row) = row.split_first().map_or((0, row), |(len, row)| (*len, row));
            let (key, value) = row.split_at(row.len().min(key_len.into()));
            if let Some(pending) = Pending::decode(key, value) {
                assert_eq!((&pending.key()[..], &pending.value()[..]), (key, value));
                assert_eq!(pending.is_work(), key < &[Pending::UNPROVEN][..]);
            }
        }
        _ => {
            // Bytes that were never checked: no panic, and no kind that the magic does not name.
            if let Some(stored) = Stored::read(row) {
                assert!(row.starts_with(&stored.kind().magic()));
            }
        }
    }
}

/// Objects that have to do with one another, the identities first.
struct Pool {
    identities: Vec<Verified>,
    objects: Vec<Verified>,
}

static POOLS: LazyLock<[Pool; 3]> = LazyLock::new(|| {
    let [one, three] = Suite::ALL.map(cast);
    [
        pool(&[&one.alice, &one.bob, &one.mallory]),
        pool(&[&three.alice, &three.bob, &three.mallory]),
        {
            let (Cast { alice, .. }, Cast { bob, .. }) = (one, three);
            pool(&[alice, bob, &one.mallory])
        },
    ]
});

type Person = golix::PrivateIdentity;

fn pool(people: &[&'static Person; 3]) -> Pool {
    let quick = people.map(Quick);
    let identities: Vec<_> = people.iter().map(|person| gidc(person)).collect();
    let mut objects = identities.clone();
    let containers: Vec<_> = (0..4).map(|n| container(&quick[usize::from(n) % 2], n)).collect();
    let births = [containers[0].ghid(), Ghid::of(b"throw-away"), containers[3].ghid()];
    let dynamics: Vec<_> =
        quick.iter().zip(births).map(|(who, birth)| dynamic(who, birth)).collect();
    let targets: Vec<_> =
        containers.iter().map(Verified::ghid).chain(dynamics.iter().copied()).collect();
    objects.extend(containers);
    let mut bindings = Vec::new();
    for who in &quick {
        for target in &targets[..6] {
            bindings.push(StaticBinding::make(who, *target));
        }
        bindings.push(StaticBinding::make(who, people[0].ghid()));
    }
    let mut frames = Vec::new();
    for (at, who) in quick.iter().enumerate() {
        frames.push(DynamicBinding::first(who, births[at]));
        for counter in 1..4 {
            for target in &targets {
                let vector = [*target, births[at]];
                let frame = DynamicBinding::next(who, dynamics[at], counter, &vector);
                frames.push(frame.expect("a good frame"));
            }
        }
    }
    for who in quick.iter().filter(|who| who.0.suite() == Suite::Suite1) {
        for address in &dynamics {
            for counter in [1, 2, 5] {
                frames.push(unproven(who, *address, counter, targets[counter as usize % 4]));
                frames.push(unproven(who, *address, counter, dynamics[counter as usize % 3]));
            }
        }
    }
    let mut requests = Vec::new();
    for (from, to) in [(0, 1), (1, 0), (2, 0)] {
        let body = RequestBody::Arbitrary(vec![from as u8]);
        let request = Request::seal(people[from], people[to].identity(), &body, [from as u8; 64]);
        let request = request.expect("small");
        if people[to].suite() == Suite::Suite1 {
            requests.extend((1..6).map(|mac| with_mac(&request, mac)));
        }
        requests.push(request);
    }
    let mut debindings = Vec::new();
    let debindable = [&bindings[0], &bindings[4], &bindings[7], &requests[0], &frames[1]];
    let debindable: Vec<_> =
        debindable.into_iter().map(Verified::ghid).chain(dynamics).chain([targets[0]]).collect();
    for who in &quick {
        for target in &debindable {
            let one = Debinding::make(who, *target);
            let two = Debinding::make(who, one.ghid());
            debindings.extend([Debinding::make(who, two.ghid()), one, two]);
        }
    }
    debindings.push(Debinding::make(&quick[2], debindings[1].ghid()));
    objects.extend([bindings, frames, requests, debindings].concat());
    Pool { identities, objects }
}

fn gidc(person: &Person) -> Verified {
    let bytes = person.identity().encode();
    Unverified::parse(&bytes).expect("an identity").verify(None).expect("an identity")
}

fn container(author: &Quick, n: u8) -> Verified {
    let secret = Secret::new(author.0.suite(), [n; 32], [n; 16]);
    Container::seal(author, &secret, [n; 32], &[n; 20])
}

fn dynamic(binder: &Quick, birth: Ghid) -> Ghid {
    DynamicBinding::dynamic_address(binder.0.suite(), &binder.0.ghid(), &birth)
}

/// A later frame of suite 1 that proves nothing.
fn unproven(binder: &Quick, dynamic: Ghid, counter: u64, target: Ghid) -> Verified {
    let mut bytes = b"GOBD\0\0\0\x10\x01".to_vec();
    bytes.extend_from_slice(binder.0.ghid().as_bytes());
    bytes.extend_from_slice(&counter.to_be_bytes());
    bytes.extend_from_slice(&130u16.to_be_bytes());
    for ghid in [target, Ghid::of(b"lost"), dynamic] {
        bytes.extend_from_slice(ghid.as_bytes());
    }
    bytes.push(1);
    let hash = Ghid::of(&bytes);
    bytes.extend_from_slice(&hash.address());
    binder.sign_object(&hash, &mut bytes);
    Unverified::parse(&bytes).expect("well-formed").assume_verified()
}

fn with_mac(request: &Verified, mac: u8) -> Verified {
    let mut bytes = request.bytes().to_vec();
    bytes.last_chunk_mut::<64>().expect("715 bytes").fill(mac);
    Unverified::parse(&bytes).expect("well-formed").verify(None).expect("nobody can tell")
}

/// A sequence of steps: the first byte says of which suite, and each other byte is one object of the
/// pool, or (the last few values) work on what is left over, or a replay of everything to a fresh
/// store.
pub fn rules(data: &[u8]) {
    let Some((&which, steps)) = data.split_first() else { return };
    let pool = &POOLS[usize::from(which) % 3];
    let mut view = MemoryView::new();
    // Mostly everybody is known from the start; a sequence may bring them later.
    if which < 128 {
        for identity in &pool.identities {
            view.publish(identity).expect("anybody may be known");
        }
    }
    let steps = &steps[..steps.len().min(160)];
    for (at, &step) in steps.iter().enumerate() {
        if step >= 252 {
            view.collect_all(1 + usize::from(step - 252));
            continue;
        }
        let at_once = steps.get(at + 1).is_none_or(|next| next % 2 == 0);
        publish(&mut view, &pool.objects[usize::from(step) % pool.objects.len()]);
        if at_once {
            view.collect_all(64);
            holds(&view);
        }
    }
    view.collect_all(3);
    holds(&view);
    replay(&view, pool);
}

fn publish(view: &mut MemoryView, object: &Verified) {
    let before = view.clone();
    let outcome = view.publish(object);
    let address = object.ghid();
    match outcome {
        Ok(plan) if plan.already => {
            assert!(plan.changes.is_empty() && plan.notices.is_empty());
            assert!(*view == before);
        }
        Ok(plan) => {
            assert!(!plan.changes.is_empty(), "what is admitted changes something");
            let works = plan.changes.len();
            // Each step frees or disproves one address with a few rows; nothing grows with the store.
            assert!(works <= 16 * limits::STEPS_MAX, "{works} changes in one plan");
            if view.get(&address).is_some() {
                assert!(view.publish(object).is_ok_and(|again| again.already));
            }
        }
        Err(_) => assert!(*view == before, "a refusal changes nothing"),
    }
}

/// What is true of any state without work left over.
fn holds(view: &MemoryView) {
    let stored: BTreeMap<Ghid, Stored> = view
        .objects()
        .map(|(ghid, bytes)| (*ghid, Stored::read(bytes).expect("only objects are stored")))
        .collect();
    let heads: BTreeMap<Ghid, &Head> =
        view.heads().map(|(dynamic, head)| (*dynamic, head)).collect();
    let mut holders = BTreeSet::new();
    let mut debindings = BTreeSet::new();
    let mut waiting = BTreeSet::new();
    let mut frames = BTreeMap::<Ghid, BTreeSet<Ghid>>::new();
    for (ghid, object) in &stored {
        match object {
            Stored::Identity { .. } | Stored::Container { .. } => {}
            Stored::StaticBinding { target, .. } => {
                holders.insert((*target, *ghid));
            }
            Stored::Frame { binder, target, dynamic, counter } => {
                holders.insert((*target, *dynamic));
                frames.entry(*dynamic).or_default().insert(*ghid);
                let head = heads.get(dynamic).expect("no frame without its head");
                assert_eq!((head.binder, head.counter), (*binder, *counter));
            }
            Stored::Debinding { target, .. } => {
                debindings.insert((*target, *ghid));
            }
            Stored::Request { recipient, .. } => {
                waiting.insert((*recipient, *ghid));
            }
        }
    }
    let held: BTreeSet<Ghid> = holders.iter().map(|(target, _)| *target).collect();
    assert_eq!(
        view.holds().collect::<BTreeSet<_>>(),
        holders,
        "holders are those that stored bindings name"
    );
    assert_eq!(
        view.debound().collect::<BTreeSet<_>>(),
        debindings,
        "debindings are those that are stored"
    );
    assert_eq!(
        view.waiting().collect::<BTreeSet<_>>(),
        waiting,
        "requests are those that are stored"
    );
    let debound = |owner: Ghid, target: Ghid| {
        stored.values().any(|it| *it == Stored::Debinding { debinder: owner, target })
    };
    for (ghid, object) in &stored {
        let author = match object {
            Stored::Identity { .. } => *ghid,
            Stored::Container { author } => {
                assert!(held.contains(ghid), "a container lives while something holds it");
                *author
            }
            Stored::StaticBinding { binder, target } => {
                assert!(!debound(*binder, *ghid), "what is debound is gone");
                let fits = matches!(stored.get(target), None | Some(Stored::Container { .. }));
                // Bound first, published later, it may be of any kind.
                assert!(fits || !heads.contains_key(target));
                *binder
            }
            Stored::Frame { binder, .. } => *binder,
            Stored::Debinding { debinder, target } => {
                assert!(!debound(*debinder, *ghid), "what is debound is gone");
                match (heads.get(target), stored.get(target)) {
                    (Some(head), _) if head.proven => assert_eq!(head.binder, *debinder),
                    (None, Some(Stored::Debinding { .. } | Stored::StaticBinding { .. })) => {
                        panic!("a debinding and its target")
                    }
                    (None, Some(_)) => panic!("a debinding of what has no owner, or is gone"),
                    (Some(_) | None, _) => {}
                }
                *debinder
            }
            Stored::Request { recipient, .. } => *recipient,
        };
        assert!(matches!(stored.get(&author), Some(Stored::Identity { .. })), "nobody unknown");
    }
    for (dynamic, head) in &heads {
        let of = frames.remove(dynamic).expect("no head without its frame");
        assert!(
            head.frames().eq(head.frames().collect::<BTreeSet<_>>().into_iter().rev()),
            "largest first"
        );
        assert_eq!(head.frames().collect::<BTreeSet<_>>(), of, "all its frames and no others");
        assert!(
            matches!(&stored[&head.frame], Stored::Frame { target, .. } if *target == head.target)
        );
        assert_eq!(head.debound, debound(head.binder, *dynamic));
        assert!(!head.debound || held.contains(dynamic), "debound, it lives while it is held");
        assert!(head.proven || head.suite == Suite::Suite1);
        acyclic(*dynamic, &holders, &heads);
        assert_eq!(Head::decode(&head.encode()).as_ref(), Some(*head));
    }
    for row in view.pending_rows() {
        let Pending::Unproven { debinder, debinding } = row else { panic!("work is left over") };
        let its = matches!(stored.get(&debinding), Some(Stored::Debinding { debinder: by, .. }) if *by == debinder);
        assert!(its, "a row without its debinding");
    }
}

/// No way along dynamic bindings leads back.
fn acyclic(from: Ghid, holders: &BTreeSet<(Ghid, Ghid)>, heads: &BTreeMap<Ghid, &Head>) {
    let mut next: Vec<Ghid> = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(address) = next.pop() {
        for (target, holder) in holders {
            if *holder == address && heads.contains_key(target) && seen.insert(*target) {
                assert_ne!(*target, from, "a circle of dynamic bindings");
                next.push(*target);
            }
        }
    }
}

/// All that is stored, published to a fresh store in the order of the pool until nothing new is
/// taken: the same objects.
fn replay(view: &MemoryView, pool: &Pool) {
    let stored: BTreeSet<&[u8]> = view.objects().map(|(_, bytes)| &bytes[..]).collect();
    let objects: Vec<_> =
        pool.objects.iter().filter(|object| stored.contains(object.bytes())).collect();
    assert_eq!(objects.len(), stored.len());
    let mut fresh = MemoryView::new();
    loop {
        let mut news = false;
        for object in &objects {
            news |= fresh.publish(object).is_ok_and(|plan| !plan.already);
            fresh.collect_all(64);
        }
        if !news {
            break;
        }
    }
    holds(&fresh);
    // Requests of one address may have changed places.
    let again: BTreeSet<&[u8]> = fresh.objects().map(|(_, bytes)| &bytes[..]).collect();
    // A binding may come before its target, and keep standing when that turns out to be nothing that can
    // be bound; after its target it is refused.
    let misplaced = |bytes: &&&[u8]| {
        let Some(Stored::StaticBinding { target, .. }) = Stored::read(bytes) else { return false };
        pool.identities.iter().any(|identity| identity.ghid() == target)
    };
    let lost = stored.difference(&again).filter(|bytes| !misplaced(bytes));
    let lost: Vec<_> = lost.map(|bytes| Stored::read(bytes)).collect();
    assert!(lost.is_empty(), "a replay loses {lost:#?}");
    assert!(again.is_subset(&stored));
}
