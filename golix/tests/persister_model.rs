//! Random publish sequences against a model that is as plain as the spec's table: it keeps a set of
//! objects and finds everything out by looking at all of them. In each suite by itself, and in both
//! at once.

mod persister_cast;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use golix::Ghid;
use golix::object::{Object, Verified};
use golix::persister::memory::MemoryView;
use golix::persister::{Pending, Stored, limits, variant_address};
use persister_cast::{
    Cast, Person, SUITE1, SUITE3, bind, container, debind, dynamic, first_frame, frame, identity,
    request, unproven, with_mac,
};
use proptest::prelude::*;

/// Everything that may be published: small enough that sequences meet each other. The identities come
/// first.
struct Pool {
    identities: usize,
    objects: Vec<Verified>,
}

static POOL1: LazyLock<Pool> = LazyLock::new(|| pool(&SUITE1.alice, &SUITE1.bob, &SUITE1));
static POOL3: LazyLock<Pool> = LazyLock::new(|| pool(&SUITE3.alice, &SUITE3.bob, &SUITE1));
static BOTH: LazyLock<Pool> = LazyLock::new(|| pool(&SUITE1.alice, &SUITE3.bob, &SUITE1));

/// `strangers` are of suite 1, and take what nobody proves.
fn pool(alice: &Person, bob: &Person, strangers: &Cast) -> Pool {
    let (people, mallory) = ([alice, bob], &strangers.mallory);
    let containers: Vec<_> = ["c0", "c1", "c2"].map(|name| container(alice, name)).into();
    let births = [containers[0].ghid(), Ghid::of(b"throw-away")];
    let dynamics = [dynamic(alice, births[0]), dynamic(bob, births[1])];
    let bindables: Vec<_> = containers.iter().map(Verified::ghid).chain(dynamics).collect();

    let mut bindings = Vec::new();
    for person in people {
        // One of each kind, and one that is never a good target.
        for target in [bindables[0], bindables[1], dynamics[0], people[1].ghid()] {
            bindings.push(bind(person, target));
        }
    }
    let mut frames = Vec::new();
    for (i, owner) in people.into_iter().enumerate() {
        frames.push(first_frame(owner, births[i]));
        for counter in 1..3 {
            for target in &bindables {
                frames.push(frame(owner, births[i], counter, &[*target]));
            }
        }
    }
    // Without proof: by a stranger, and by the owner where his suite allows it.
    let forgetful = people.into_iter().chain([mallory]).filter(|who| who.suite().code() == 1);
    for binder in forgetful {
        for (address, counter) in [(dynamics[0], 1), (dynamics[0], 3), (dynamics[1], 2)] {
            for target in &bindables[1..3] {
                let own = dynamics.iter().position(|of| *of == address).map(|at| people[at].ghid());
                if own == Some(binder.ghid()) || binder.ghid() == mallory.ghid() {
                    frames.push(unproven(binder, address, counter, &[*target, Ghid::of(b"lost")]));
                }
            }
        }
    }
    let mut requests = vec![request(alice, bob, "1"), request(bob, alice, "2")];
    for at in 0..2 {
        // Where the MAC lies outside, there may be others.
        if people[1 - at].suite().code() == 1 {
            for mac in 1..=4 {
                requests.push(with_mac(&requests[at], mac));
            }
        }
    }

    let mut debindable: Vec<_> = bindings[..4].iter().map(Verified::ghid).collect();
    debindable.extend(dynamics);
    debindable.extend(requests[..2].iter().map(Verified::ghid));
    debindable.extend([containers[0].ghid(), alice.ghid(), frames[1].ghid()]);
    let mut debindings: Vec<_> = dynamics.map(|dynamic| debind(mallory, dynamic)).into();
    for person in people {
        for target in &debindable {
            debindings.push(debind(person, *target));
        }
    }
    // Chains: what undoes a debinding, and what undoes that; and a stranger's attempt.
    for i in 2..8 {
        let undo = debind(alice, debindings[i].ghid());
        debindings.push(debind(bob, debindings[i].ghid()));
        debindings.push(debind(alice, undo.ghid()));
        debindings.push(undo);
    }
    let known = [alice, bob, mallory];
    let mut objects: Vec<_> = known.into_iter().map(|person| identity(person)).collect();
    for part in [containers, bindings, frames, requests, debindings] {
        objects.extend(part);
    }
    Pool { identities: known.len(), objects }
}

/// What the model knows of a published object.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    stored: Stored,
    /// A frame that proves its address, with this birth target.
    birth: Option<Ghid>,
}

fn facts(object: &Verified) -> Facts {
    let mut birth = None;
    let stored = match object.object() {
        Object::Identity(it) => Stored::Identity { suite: it.suite() },
        Object::Container(it) => Stored::Container { author: it.author() },
        Object::StaticBinding(it) => {
            Stored::StaticBinding { binder: it.binder(), target: it.target() }
        }
        Object::DynamicBinding(it) => {
            birth = Some(it.birth()).filter(|_| it.is_proven());
            Stored::Frame {
                binder: it.binder(),
                counter: it.counter(),
                target: it.target(),
                dynamic: it.dynamic(),
            }
        }
        Object::Debinding(it) => Stored::Debinding { debinder: it.debinder(), target: it.target() },
        Object::Request(it) => {
            let authenticator = *object.bytes().last_chunk().expect("715 bytes");
            Stored::Request { recipient: it.recipient(), authenticator }
        }
    };
    Facts { stored, birth }
}

/// The model: what is stored; of each dynamic address the newest frame ever taken, and whose it is.
#[derive(Default)]
struct Model {
    stored: BTreeMap<Ghid, Stored>,
    newest: BTreeMap<Ghid, Newest>,
}

#[derive(Clone, Copy)]
struct Newest {
    order: (u64, Ghid),
    binder: Ghid,
    birth: Option<Ghid>,
}

/// Who may debind an address.
#[derive(PartialEq, Eq)]
enum Owner {
    /// Nothing is stored there.
    Unknown,
    /// It cannot be debound.
    Nobody,
    Is(Ghid),
    /// Somebody has it, and nothing shows that it is his.
    Claims(Ghid),
}

/// What becomes of an acceptable object.
enum Fate {
    Kept,
    /// A frame that displaces those of somebody who proved nothing.
    Displaces,
    /// A frame that is not kept: too old, but it proves whose the newer ones are; or debound, but it
    /// evicts somebody who proved nothing.
    Proof,
}

impl Model {
    /// Who holds `target`: static bindings, and dynamic addresses by any stored frame.
    fn holders(&self, target: &Ghid) -> BTreeSet<Ghid> {
        let mut holders = BTreeSet::new();
        for (ghid, object) in &self.stored {
            match object {
                Stored::StaticBinding { target: held, .. } if held == target => {
                    holders.insert(*ghid);
                }
                Stored::Frame { target: held, dynamic, .. } if held == target => {
                    holders.insert(*dynamic);
                }
                _ => {}
            }
        }
        holders
    }

    /// The stored frames of an address, by their order: targets.
    fn frames(&self, dynamic: &Ghid) -> BTreeMap<(u64, Ghid), Ghid> {
        let mut frames = BTreeMap::new();
        for (ghid, object) in &self.stored {
            if let Stored::Frame { dynamic: of, counter, target, .. } = object
                && of == dynamic
            {
                frames.insert((*counter, *ghid), *target);
            }
        }
        frames
    }

    fn debound(&self, target: &Ghid, owner: &Ghid) -> bool {
        self.stored
            .values()
            .any(|object| *object == Stored::Debinding { debinder: *owner, target: *target })
    }

    fn owner(&self, address: &Ghid) -> Owner {
        if let Some(newest) = self.newest.get(address)
            && self.stored.values().any(|object| {
                matches!(object, Stored::Frame { binder, dynamic, .. }
                    if dynamic == address && *binder == newest.binder)
            })
        {
            return match newest.birth {
                Some(_) => Owner::Is(newest.binder),
                None => Owner::Claims(newest.binder),
            };
        }
        match self.stored.get(address) {
            None => Owner::Unknown,
            Some(Stored::StaticBinding { binder, .. }) => Owner::Is(*binder),
            Some(Stored::Debinding { debinder, .. }) => Owner::Is(*debinder),
            Some(Stored::Request { recipient, .. }) => Owner::Is(*recipient),
            Some(Stored::Identity { .. } | Stored::Container { .. } | Stored::Frame { .. }) => {
                Owner::Nobody
            }
        }
    }

    fn leads_to(&self, from: &Ghid, to: &Ghid) -> bool {
        from == to || self.frames(from).values().any(|next| self.leads_to(next, to))
    }

    fn author(&self, author: &Ghid) -> Result<(), &'static str> {
        match self.stored.get(author) {
            Some(Stored::Identity { .. }) => Ok(()),
            Some(_) => Err("AUTHOR_NOT_IDENTITY"),
            None => Err("AUTHOR_UNKNOWN"),
        }
    }

    fn bindable(&self, target: &Ghid) -> Result<(), &'static str> {
        match self.stored.get(target) {
            None | Some(Stored::Container { .. }) => Ok(()),
            Some(_) => Err("TARGET_TYPE"),
        }
    }

    /// Whether a frame of this address may come from `binder`, and is new enough.
    fn may_follow(
        &self,
        dynamic: &Ghid,
        binder: &Ghid,
        order: (u64, Ghid),
        birth: Option<Ghid>,
    ) -> Result<Fate, &'static str> {
        let Some(newest) = self.newest.get(dynamic) else {
            return Ok(Fate::Kept);
        };
        let settled = newest.birth.is_some();
        if self.frames(dynamic).is_empty() {
            let owners = *binder == newest.binder || birth.is_some();
            return match (owners, settled) {
                (true, true) if order < newest.order => Err("COUNTER"),
                (true, false) if *binder == newest.binder && order < newest.order => Err("COUNTER"),
                (true, _) | (false, false) => Ok(Fate::Kept),
                (false, true) => Err("UNPROVEN"),
            };
        }
        if *binder != newest.binder {
            let displaces = birth.is_some() && !settled;
            return if displaces { Ok(Fate::Displaces) } else { Err("INCONSISTENT") };
        }
        match (order.0 < newest.order.0, birth.is_some() && !settled) {
            (true, true) => Ok(Fate::Proof),
            (true, false) => Err("COUNTER"),
            (false, _) => Ok(Fate::Kept),
        }
    }

    fn rules(&self, ghid: &Ghid, facts: &Facts) -> Result<Fate, &'static str> {
        match &facts.stored {
            Stored::Identity { .. } => {}
            Stored::Container { author } => {
                self.author(author)?;
                if self.holders(ghid).is_empty() {
                    return Err("UNBOUND");
                }
            }
            Stored::StaticBinding { binder, target } => {
                self.author(binder)?;
                self.bindable(target)?;
                if self.debound(ghid, binder) {
                    return Err("DEBOUND");
                }
            }
            Stored::Frame { binder, counter, target, dynamic } => {
                self.author(binder)?;
                let order = (*counter, *ghid);
                let fate = self.may_follow(dynamic, binder, order, facts.birth);
                let debound = self.debound(dynamic, binder) && self.holders(dynamic).is_empty();
                match fate {
                    Ok(Fate::Proof) => return Ok(Fate::Proof),
                    Ok(Fate::Displaces) if debound => return Ok(Fate::Proof),
                    Ok(Fate::Displaces | Fate::Kept) | Err(_) => {}
                }
                self.bindable(target)?;
                if self.leads_to(target, dynamic) {
                    return Err("CYCLE");
                }
                fate?;
                if debound {
                    return Err("DEBOUND");
                }
            }
            Stored::Debinding { debinder, target } => {
                self.author(debinder)?;
                match self.owner(target) {
                    Owner::Nobody => return Err("TARGET_TYPE"),
                    Owner::Is(owner) if owner != *debinder => return Err("INCONSISTENT"),
                    Owner::Is(_) | Owner::Claims(_) | Owner::Unknown => {}
                }
                if self.debound(ghid, debinder) {
                    return Err("DEBOUND");
                }
            }
            Stored::Request { recipient, .. } => {
                self.author(recipient).map_err(|_| "RECIPIENT_UNKNOWN")?;
                if self.debound(ghid, recipient) {
                    return Err("DEBOUND");
                }
            }
        }
        Ok(Fate::Kept)
    }

    /// Where this very object is, or would be, stored.
    fn place(&self, ghid: &Ghid, object: &Stored) -> Result<Ghid, Option<Ghid>> {
        let places = [*ghid].into_iter().chain((1..4).map(|n| variant_address(ghid, n)));
        let several = matches!(object, Stored::Request { .. });
        let mut free = None;
        for place in places.take(if several { 4 } else { 1 }) {
            match self.stored.get(&place) {
                Some(stored) if stored == object => return Ok(place),
                Some(_) => {}
                None => free = free.or(Some(place)),
            }
        }
        Err(free)
    }

    fn publish(&mut self, ghid: Ghid, facts: &Facts) -> Result<bool, &'static str> {
        let Err(free) = self.place(&ghid, &facts.stored) else {
            return Ok(false);
        };
        let fate = self.rules(&ghid, facts)?;
        let place = free.ok_or("VARIANTS_FULL")?;
        if let Stored::Frame { binder, counter, dynamic, .. } = facts.stored {
            let order = (counter, ghid);
            let before = self.newest.get(&dynamic).copied();
            let same = before.filter(|before| {
                before.binder == binder || facts.birth.is_none() && before.birth.is_some()
            });
            let birth = same.and_then(|before| before.birth).or(facts.birth);
            let order = same.map_or(order, |before| before.order.max(order));
            self.newest.insert(dynamic, Newest { order, binder, birth });
        }
        match fate {
            Fate::Kept | Fate::Displaces => {
                self.stored.insert(place, facts.stored);
            }
            Fate::Proof => {}
        }
        while let Some(gone) = self.stored.keys().copied().find(|ghid| self.may_not_stay(ghid)) {
            self.stored.remove(&gone);
        }
        Ok(true)
    }

    fn may_not_stay(&self, ghid: &Ghid) -> bool {
        match self.stored[ghid] {
            Stored::Identity { .. } => false,
            Stored::Container { .. } => self.holders(ghid).is_empty(),
            Stored::StaticBinding { binder, .. } => self.debound(ghid, &binder),
            Stored::Frame { binder, counter, dynamic, .. } => {
                let newest = &self.newest[&dynamic];
                binder != newest.binder
                    || counter < newest.order.0
                    || self.debound(&dynamic, &binder) && self.holders(&dynamic).is_empty()
            }
            Stored::Debinding { debinder, target } => {
                let others = match self.owner(&target) {
                    Owner::Unknown | Owner::Claims(_) => false,
                    Owner::Nobody => true,
                    Owner::Is(owner) => owner != debinder,
                };
                self.debound(ghid, &debinder) || others
            }
            Stored::Request { recipient, .. } => {
                let places = |of: &Ghid| (1..4).any(|n| variant_address(of, n) == *ghid);
                self.stored.values().any(|object| match object {
                    Stored::Debinding { debinder, target } => {
                        *debinder == recipient && (target == ghid || places(target))
                    }
                    _ => false,
                })
            }
        }
    }
}

/// What has to be true of the rows after every plan, found out from the stored objects alone.
fn check_rows(view: &MemoryView) -> Result<(), TestCaseError> {
    let objects: BTreeMap<_, _> = view
        .objects()
        .map(|(ghid, bytes)| (*ghid, Stored::read(bytes).expect("stored objects can be read")))
        .collect();
    let mut holds = BTreeSet::new();
    let mut debindings = BTreeSet::new();
    let mut requests = BTreeSet::new();
    let mut frames = BTreeSet::new();
    for (ghid, object) in &objects {
        match object {
            Stored::StaticBinding { target, .. } => {
                holds.insert((*target, *ghid));
            }
            Stored::Frame { target, dynamic, .. } => {
                holds.insert((*target, *dynamic));
                frames.insert((*dynamic, *ghid));
            }
            Stored::Debinding { target, .. } => {
                debindings.insert((*target, *ghid));
            }
            Stored::Request { recipient, .. } => {
                requests.insert((*recipient, *ghid));
            }
            Stored::Identity { .. } | Stored::Container { .. } => {}
        }
    }
    prop_assert_eq!(&holds, &view.holds().collect::<BTreeSet<_>>());
    prop_assert_eq!(&debindings, &view.debound().collect::<BTreeSet<_>>());
    prop_assert_eq!(&requests, &view.waiting().collect::<BTreeSet<_>>());
    let of_heads = |(dynamic, head): (&Ghid, &golix::persister::Head)| {
        head.frames().map(|frame| (*dynamic, frame)).collect::<Vec<_>>()
    };
    prop_assert_eq!(&frames, &view.heads().flat_map(of_heads).collect::<BTreeSet<_>>());
    for (dynamic, head) in view.heads() {
        let debound = debindings.iter().any(|(target, debinding)| {
            let by = objects[debinding];
            target == dynamic && by == Stored::Debinding { debinder: head.binder, target: *target }
        });
        prop_assert_eq!(head.debound, debound);
        let frame = objects[&head.frame];
        let Stored::Frame { binder, counter, target, dynamic: of } = frame else {
            return Err(TestCaseError::fail("a head names a frame"));
        };
        prop_assert_eq!((binder, counter, target), (head.binder, head.counter, head.target));
        prop_assert_eq!(of, *dynamic);
    }
    // Nothing that nobody holds.
    for (ghid, object) in &objects {
        if let Stored::Container { .. } = object {
            prop_assert!(holds.iter().any(|(target, _)| target == ghid), "{:?} is held", ghid);
        }
    }
    for (dynamic, head) in view.heads() {
        let held = holds.iter().any(|(target, _)| target == dynamic);
        prop_assert!(!head.debound || held);
    }
    // Unproven is a debinding whose target is not here.
    for row in view.pending_rows() {
        let Pending::Unproven { debinder, debinding } = row else {
            return Err(TestCaseError::fail("small plans leave no work"));
        };
        let Some(Stored::Debinding { debinder: by, target }) = objects.get(&debinding) else {
            return Err(TestCaseError::fail("an unproven debinding is stored"));
        };
        prop_assert_eq!(*by, debinder);
        let open = view.heads().any(|(dynamic, head)| dynamic == target && !head.proven);
        prop_assert!(open || !view.contains(target));
    }
    Ok(())
}

fn run(pool: &Pool, steps: &[usize]) -> Result<(), TestCaseError> {
    let mut view = MemoryView::new();
    let mut model = Model::default();
    for step in steps {
        let object = &pool.objects[*step];
        let expected = model.publish(object.ghid(), &facts(object));
        let answer = view.publish(object);
        match &answer {
            Ok(plan) => prop_assert_eq!(Ok(!plan.already), expected),
            Err(rejection) => prop_assert_eq!(Err(rejection.rule()), expected),
        }
        let stored: BTreeSet<_> = view.objects().map(|(ghid, _)| *ghid).collect();
        prop_assert_eq!(stored, model.stored.keys().copied().collect::<BTreeSet<_>>());
        for (dynamic, head) in view.heads() {
            let newest = model.newest[dynamic];
            prop_assert_eq!((head.counter, head.frame), newest.order);
            prop_assert_eq!((head.binder, head.proven), (newest.binder, newest.birth.is_some()));
            prop_assert_eq!(head.birth, newest.birth.unwrap_or(head.birth));
        }
        check_rows(&view)?;

        // Once more: the same answer, and nothing changes.
        let before = view.clone();
        let again = view.publish(object);
        match (&answer, &again) {
            (Ok(_), Ok(plan)) => {
                prop_assert!(plan.already && plan.changes.is_empty() && plan.notices.is_empty());
            }
            (Err(first), Err(second)) => prop_assert_eq!(first, second),
            // It was not kept, only what it proved.
            (Ok(_), Err(second)) if !view.contains(&object.ghid()) => {
                prop_assert!(matches!(
                    second.rule(),
                    "COUNTER" | "CYCLE" | "TARGET_TYPE" | "DEBOUND"
                ));
            }
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => prop_assert!(false, "{:?}, {:?}", answer, again),
        }
        prop_assert_eq!(&view, &before);
    }
    Ok(())
}

#[test]
fn the_pools_fit_the_quotas() {
    for pool in [&*POOL1, &*POOL3, &*BOTH] {
        let debinding =
            |object: &&Verified| matches!(facts(object).stored, Stored::Debinding { .. });
        let debindings = pool.objects.iter().filter(debinding).count();
        assert!(debindings < limits::UNPROVEN_MAX, "{debindings}: the model knows no quota");
        for object in &pool.objects {
            let stored = Stored::read(object.bytes());
            assert_eq!(stored, Some(facts(object).stored), "fixed offsets are right");
        }
    }
}

/// Publishes in this order again and again until nothing more is accepted.
fn replay(objects: &[&Verified]) -> MemoryView {
    let mut view = MemoryView::new();
    for _ in 0..objects.len() {
        let before = view.clone();
        for object in objects {
            let _ = view.publish(object);
        }
        if view == before {
            return view;
        }
    }
    panic!("it does not come to rest");
}

/// What two persisters have to agree on: objects (requests of one address in any places) and heads.
/// What is remembered of what went, and who waits for a proof, depends on the past.
fn state(view: &MemoryView) -> (BTreeSet<Ghid>, BTreeMap<Ghid, golix::persister::Head>) {
    let objects = view.objects().map(|(_, bytes)| Ghid::of(bytes)).collect();
    (objects, view.heads().map(|(dynamic, head)| (*dynamic, head.clone())).collect())
}

/// Objects that come to the same state in any order: without circles, of which any link may be the
/// one that is missing; and without bindings of what cannot be bound, which stay if they came first.
fn confluent(pool: &Pool) -> Vec<&Verified> {
    let dynamics: BTreeSet<Ghid> = pool
        .objects
        .iter()
        .filter_map(|object| match object.object() {
            Object::DynamicBinding(frame) => Some(frame.dynamic()),
            _ => None,
        })
        .collect();
    let straight = |object: &&Verified| match object.object() {
        Object::DynamicBinding(frame) => !dynamics.contains(&frame.target()),
        Object::StaticBinding(binding) => {
            !pool.objects[..pool.identities].iter().any(|it| it.ghid() == binding.target())
        }
        _ => true,
    };
    pool.objects.iter().filter(straight).collect()
}

/// Without it an address is the first binder's who comes.
fn is_proof(object: &Verified) -> bool {
    matches!(object.object(), Object::DynamicBinding(frame) if frame.counter() == 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn admission_agrees_with_the_model_in_suite_1(
        steps in proptest::collection::vec(0..POOL1.objects.len(), 1..120),
        everybody_known in proptest::bool::weighted(0.9),
    ) {
        admission_agrees(&POOL1, steps, everybody_known)?;
    }

    #[test]
    fn admission_agrees_with_the_model_in_suite_3(
        steps in proptest::collection::vec(0..POOL3.objects.len(), 1..120),
        everybody_known in proptest::bool::weighted(0.9),
    ) {
        admission_agrees(&POOL3, steps, everybody_known)?;
    }

    #[test]
    fn admission_agrees_with_the_model_across_suites(
        steps in proptest::collection::vec(0..BOTH.objects.len(), 1..120),
        everybody_known in proptest::bool::weighted(0.9),
    ) {
        admission_agrees(&BOTH, steps, everybody_known)?;
    }

    #[test]
    fn a_replay_in_any_order_comes_to_the_same_state(
        which in 0..3_usize,
        chosen in proptest::collection::vec(any::<proptest::sample::Index>(), 1..60),
        shuffle: u64,
    ) {
        let pool = [&*POOL1, &*POOL3, &*BOTH][which];
        let all = confluent(pool);
        let picked: BTreeSet<usize> = chosen.iter().map(|index| index.index(all.len())).collect();
        let wanted = |(at, object): (usize, &&'static Verified)| {
            (at < pool.identities || picked.contains(&at) || is_proof(object)).then_some(*object)
        };
        let mut objects: Vec<&Verified> = all.iter().enumerate().filter_map(wanted).collect();
        let expected = state(&replay(&objects));
        // Some other order, the same for the same number.
        objects.sort_by_key(|object| {
            Ghid::of(&[object.ghid().as_bytes(), &shuffle.to_be_bytes()[..]].concat())
        });
        let got = state(&replay(&objects));
        prop_assert_eq!(got, expected);
    }
}

fn admission_agrees(
    pool: &Pool,
    steps: Vec<usize>,
    everybody_known: bool,
) -> Result<(), TestCaseError> {
    let mut all: Vec<usize> = Vec::new();
    if everybody_known {
        all.extend(0..pool.identities);
    }
    all.extend(steps);
    run(pool, &all)
}
