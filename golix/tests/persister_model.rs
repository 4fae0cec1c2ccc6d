//! Random publish sequences against a model that is as plain as the spec's table: it keeps a set of
//! objects and finds everything out by looking at all of them.

mod persister_cast;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use golix::Ghid;
use golix::object::{Object, Verified};
use golix::persister::memory::MemoryView;
use golix::persister::{Pending, Stored, limits};
use persister_cast::{
    ALICE, BOB, bind, container, debind, dynamic, first_frame, frame, identity, request,
};
use proptest::prelude::*;

/// Everything that may be published: small enough that sequences meet each other.
static POOL: LazyLock<Vec<Verified>> = LazyLock::new(|| {
    let people = [&*ALICE, &*BOB];
    let containers: Vec<_> = ["c0", "c1", "c2"].map(|name| container(&ALICE, name)).into();
    let births = [containers[0].ghid(), Ghid::of(b"throw-away")];
    let dynamics = [dynamic(&ALICE, births[0]), dynamic(&BOB, births[1])];
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
    let requests = vec![request(&ALICE, &BOB, "1"), request(&BOB, &ALICE, "2")];

    let mut debindable: Vec<_> = bindings[..4].iter().map(Verified::ghid).collect();
    debindable.extend(dynamics);
    debindable.extend(requests.iter().map(Verified::ghid));
    debindable.extend([containers[0].ghid(), ALICE.ghid(), frames[1].ghid()]);
    let mut debindings = Vec::new();
    for person in people {
        for target in &debindable {
            debindings.push(debind(person, *target));
        }
    }
    // Chains: what undoes a debinding, and what undoes that; and a stranger's attempt.
    for i in 0..6 {
        let undo = debind(&ALICE, debindings[i].ghid());
        debindings.push(debind(&BOB, debindings[i].ghid()));
        debindings.push(debind(&ALICE, undo.ghid()));
        debindings.push(undo);
    }
    let mut pool: Vec<_> = people.into_iter().map(identity).collect();
    for part in [containers, bindings, frames, requests, debindings] {
        pool.extend(part);
    }
    pool
});

/// The model: what is stored, and the newest frame ever taken of each dynamic address.
#[derive(Default)]
struct Model {
    stored: BTreeMap<Ghid, Stored>,
    newest: BTreeMap<Ghid, (u64, Ghid)>,
}

/// Who may debind an address.
#[derive(PartialEq, Eq)]
enum Owner {
    /// Nothing is stored there.
    Unknown,
    /// It cannot be debound.
    Nobody,
    Is(Ghid),
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
        for object in self.stored.values() {
            if let Stored::Frame { dynamic, binder, .. } = object
                && dynamic == address
            {
                return Owner::Is(*binder);
            }
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

    fn rules(&self, ghid: &Ghid, object: &Stored) -> Result<(), &'static str> {
        match object {
            Stored::Identity { .. } => Ok(()),
            Stored::Container { author } => {
                self.author(author)?;
                if self.holders(ghid).is_empty() { Err("UNBOUND") } else { Ok(()) }
            }
            Stored::StaticBinding { binder, target } => {
                self.author(binder)?;
                self.bindable(target)?;
                if self.debound(ghid, binder) { Err("DEBOUND") } else { Ok(()) }
            }
            Stored::Frame { binder, counter, target, dynamic } => {
                self.author(binder)?;
                self.bindable(target)?;
                if self.leads_to(target, dynamic) {
                    return Err("CYCLE");
                }
                let newest = self.newest.get(dynamic).copied();
                let older = match (newest, self.frames(dynamic).is_empty()) {
                    (None, _) => false,
                    (Some(newest), true) => (*counter, *ghid) < newest,
                    (Some((newest, _)), false) => *counter < newest,
                };
                if older {
                    return Err("COUNTER");
                }
                if self.debound(dynamic, binder) && self.holders(dynamic).is_empty() {
                    return Err("DEBOUND");
                }
                Ok(())
            }
            Stored::Debinding { debinder, target } => {
                self.author(debinder)?;
                match self.owner(target) {
                    Owner::Nobody => return Err("TARGET_TYPE"),
                    Owner::Is(owner) if owner != *debinder => return Err("INCONSISTENT"),
                    Owner::Is(_) | Owner::Unknown => {}
                }
                if self.debound(ghid, debinder) { Err("DEBOUND") } else { Ok(()) }
            }
            Stored::Request { recipient, .. } => {
                self.author(recipient).map_err(|_| "RECIPIENT_UNKNOWN")?;
                if self.debound(ghid, recipient) { Err("DEBOUND") } else { Ok(()) }
            }
        }
    }

    fn publish(&mut self, ghid: Ghid, object: Stored) -> Result<bool, &'static str> {
        if self.stored.contains_key(&ghid) {
            return Ok(false);
        }
        self.rules(&ghid, &object)?;
        self.stored.insert(ghid, object);
        if let Stored::Frame { dynamic, counter, .. } = object {
            let newest = self.newest.entry(dynamic).or_insert((counter, ghid));
            *newest = (counter, ghid).max(*newest);
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
                counter < self.newest[&dynamic].0
                    || self.debound(&dynamic, &binder) && self.holders(&dynamic).is_empty()
            }
            Stored::Debinding { debinder, target } => {
                self.debound(ghid, &debinder)
                    || !matches!(self.owner(&target), Owner::Unknown)
                        && self.owner(&target) != Owner::Is(debinder)
            }
            Stored::Request { recipient, .. } => self.debound(ghid, &recipient),
        }
    }
}

fn facts(object: &Verified) -> Stored {
    match object.object() {
        Object::Identity(it) => Stored::Identity { suite: it.suite() },
        Object::Container(it) => Stored::Container { author: it.author() },
        Object::StaticBinding(it) => {
            Stored::StaticBinding { binder: it.binder(), target: it.target() }
        }
        Object::DynamicBinding(it) => Stored::Frame {
            binder: it.binder(),
            counter: it.counter(),
            target: it.target(),
            dynamic: it.dynamic(),
        },
        Object::Debinding(it) => Stored::Debinding { debinder: it.debinder(), target: it.target() },
        Object::Request(it) => {
            let authenticator = *object.bytes().last_chunk().expect("715 bytes");
            Stored::Request { recipient: it.recipient(), authenticator }
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
    prop_assert_eq!(&holds, &view.holds().copied().collect::<BTreeSet<_>>());
    prop_assert_eq!(&debindings, &view.debound().copied().collect::<BTreeSet<_>>());
    prop_assert_eq!(&requests, &view.waiting().copied().collect::<BTreeSet<_>>());
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
        prop_assert!(!view.contains(target));
    }
    Ok(())
}

fn run(steps: &[usize]) -> Result<(), TestCaseError> {
    let mut view = MemoryView::new();
    let mut model = Model::default();
    for step in steps {
        let object = &POOL[*step];
        let expected = model.publish(object.ghid(), facts(object));
        let answer = view.publish(object);
        match &answer {
            Ok(plan) => prop_assert_eq!(Ok(!plan.already), expected),
            Err(rejection) => prop_assert_eq!(Err(rejection.rule()), expected),
        }
        let stored: BTreeSet<_> = view.objects().map(|(ghid, _)| *ghid).collect();
        prop_assert_eq!(stored, model.stored.keys().copied().collect::<BTreeSet<_>>());
        check_rows(&view)?;

        // Once more: the same answer, and nothing changes.
        let before = view.clone();
        let again = view.publish(object);
        match (&answer, &again) {
            (Ok(_), Ok(plan)) => {
                prop_assert!(plan.already && plan.changes.is_empty() && plan.notices.is_empty());
            }
            (Err(first), Err(second)) => prop_assert_eq!(first, second),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => prop_assert!(false, "{:?}, {:?}", answer, again),
        }
        prop_assert_eq!(&view, &before);
    }
    Ok(())
}

#[test]
fn the_pool_fits_the_quotas() {
    let debindings = POOL.iter().filter(|o| matches!(facts(o), Stored::Debinding { .. })).count();
    assert!(debindings < limits::UNPROVEN_MAX, "{debindings}: the model knows no quota");
    for object in POOL.iter() {
        assert_eq!(Stored::read(object.bytes()), Some(facts(object)), "fixed offsets are right");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn admission_agrees_with_the_model(
        steps in proptest::collection::vec(0..POOL.len(), 1..120),
        everybody_known in proptest::bool::weighted(0.9),
    ) {
        let mut all = if everybody_known { vec![0, 1] } else { Vec::new() };
        all.extend(steps);
        run(&all)?;
    }
}
