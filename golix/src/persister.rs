//! The rules of a persister: what is stored, what it keeps alive, and who hears of it.
//!
//! Pure functions. [`admit`] asks a [`View`] of stored state about one verified object and answers
//! with a [`Plan`] to apply or a [`Rejection`] to send back; the caller applies the plan in one
//! transaction and speaks afterwards. The rules hold no state of their own, so memory and disk
//! cannot disagree. Golix wire reference, section 11.
//!
//! The same verified objects, in any order that the rules accept, lead to the same state: frames
//! have a total order, debindings are judged when their target arrives, and who holds what follows
//! from what is stored.

mod authors;
mod frames;
mod liveness;
pub mod memory;
mod plan;
mod rejection;
mod retention;
mod subscriptions;
mod targets;
mod view;

pub use frames::Head;
pub use plan::{Change, Notice, Pending, Plan};
pub use rejection::Rejection;
pub use view::{HighWater, Stored, View};

use std::collections::BTreeSet;

use crate::object::{
    Container, Debinding, DynamicBinding, Object, Request, StaticBinding, Verified,
};

use self::plan::Draft;

/// Maxima of the persister.
pub mod limits {
    /// Losing frames kept beside a head; a guess: more means a key in wrong hands, not devices.
    pub const FORKS_MAX: usize = 8;
    /// Debindings of unknown targets kept for one debinder. Threat model, 2.4 A1.
    pub const UNPROVEN_MAX: usize = 64;
    /// Requests that may wait for one recipient. Threat model, 2.4 A10.
    pub const REQUESTS_MAX: usize = 1_000;
    /// Dynamic bindings that a circle check may visit behind a target; a guess, far above what
    /// people build.
    pub const CHAIN_MAX: usize = 64;
    /// Addresses that one plan may collect, disprove or announce; the rest waits for
    /// [`collect_more`](super::collect_more). A guess: keeps one admission near a millisecond.
    pub const STEPS_MAX: usize = 64;
}

/// Judges one verified object.
///
/// The inner result is the verdict: a plan to apply, or the rule that said no, in which case
/// nothing changes. An object that is stored already is accepted with [`Plan::already`], before all
/// other rules. Afterwards, whenever [`View::pending`] is not empty, call [`collect_more`].
///
/// # Errors
/// The view cannot be read.
pub fn admit<V: View>(object: &Verified, view: &V) -> Result<Result<Plan, Rejection>, V::Error> {
    let mut draft = Draft::new(view);
    let verdict = match object.object() {
        Object::Identity(_) => identity(object, &mut draft)?,
        Object::Container(container) => self::container(object, container, &mut draft)?,
        Object::StaticBinding(binding) => static_binding(object, binding, &mut draft)?,
        Object::DynamicBinding(frame) => dynamic_binding(object, frame, &mut draft)?,
        Object::Debinding(debinding) => self::debinding(object, debinding, &mut draft)?,
        Object::Request(request) => self::request(object, request, &mut draft)?,
    };
    match verdict {
        Verdict::Known => Ok(Ok(Plan { already: true, ..Plan::default() })),
        Verdict::Refused(rejection) => Ok(Err(rejection)),
        Verdict::Admitted => {
            retention::collect(&mut draft, limits::STEPS_MAX)?;
            Ok(Ok(draft.finish()))
        }
    }
}

/// Does up to `limit` rows of the work that earlier plans left behind. An empty plan means that
/// there is none.
///
/// # Errors
/// The view cannot be read.
pub fn collect_more<V: View>(view: &V, limit: usize) -> Result<Plan, V::Error> {
    let limit = limit.max(1);
    let mut draft = Draft::new(view);
    for work in view.pending(limit)? {
        draft.change(Change::DropPending(work));
        match work {
            Pending::Collect { address } => draft.released.push_back(address),
            Pending::Disprove { target } => liveness::disprove(&mut draft, target)?,
            Pending::Announce { target, after } => {
                subscriptions::announce(&mut draft, target, Some(after))?;
            }
            Pending::Unproven { .. } => {}
        }
    }
    retention::collect(&mut draft, limit)?;
    Ok(draft.finish())
}

/// How the rules for one kind of object ended.
enum Verdict {
    /// Stored already.
    Known,
    /// A rule said no.
    Refused(Rejection),
    /// The draft holds the changes; what was released has to be collected.
    Admitted,
}

/// Leaves the function with a refusal if the rule has one.
macro_rules! rule {
    ($rejection:expr) => {
        if let Some(rejection) = $rejection {
            return Ok(Verdict::Refused(rejection));
        }
    };
}

fn identity<V: View>(object: &Verified, draft: &mut Draft<'_, V>) -> Result<Verdict, V::Error> {
    if draft.object(&object.ghid())?.is_some() {
        return Ok(Verdict::Known);
    }
    draft.put_object(object);
    liveness::disprove(draft, object.ghid())?;
    Ok(Verdict::Admitted)
}

fn container<V: View>(
    object: &Verified,
    container: &Container,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let (view, ghid) = (draft.view(), container.ghid());
    // A stored container that nothing holds only waits for its collection.
    let held = draft.is_held(&ghid)?;
    if held && view.object(&ghid)?.is_some() {
        return Ok(Verdict::Known);
    }
    rule!(authors::author(view, &container.author())?);
    rule!((!held).then_some(Rejection::Unbound));
    draft.put_object(object);
    liveness::disprove(draft, ghid)?;
    subscriptions::announce(draft, ghid, None)?;
    Ok(Verdict::Admitted)
}

fn static_binding<V: View>(
    object: &Verified,
    binding: &StaticBinding,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let (view, ghid, binder) = (draft.view(), binding.ghid(), binding.binder());
    if view.object(&ghid)?.is_some() {
        return Ok(Verdict::Known);
    }
    rule!(authors::author(view, &binder)?);
    rule!(targets::bindable(view, &binding.target())?);
    rule!(liveness::alive(view, object.object().suite(), &binder, &ghid)?);
    draft.put_object(object);
    draft.hold(binding.target(), ghid);
    liveness::disprove(draft, ghid)?;
    Ok(Verdict::Admitted)
}

fn dynamic_binding<V: View>(
    object: &Verified,
    frame: &DynamicBinding,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let (view, dynamic, binder) = (draft.view(), frame.dynamic(), frame.binder());
    let suite = object.object().suite();
    let head = view.head(&dynamic)?;
    // What a debinding says of a dynamic binding counts only once nobody holds it.
    let debinding = liveness::debinding_of(view, suite, &binder, &dynamic)?;
    let refused = match debinding {
        Some(debinding) if !draft.is_held(&dynamic)? => Some(Rejection::Debound(debinding)),
        Some(_) | None => None,
    };
    if refused.is_none() && view.object(&frame.ghid())?.is_some() {
        return Ok(Verdict::Known);
    }
    rule!(authors::author(view, &binder)?);
    rule!(targets::bindable(view, &frame.target())?);
    rule!(targets::acyclic(view, &dynamic, &frame.target())?);
    rule!(authors::binder(&binder, head.as_ref().map(|head| &head.binder)));
    let step = match frames::step(frame, head.as_ref(), view.high_water(&dynamic)?) {
        Ok(step) => step,
        Err(rejection) => return Ok(Verdict::Refused(rejection)),
    };
    rule!(refused);

    let held_before = match &head {
        Some(head) => frames::held_targets(draft, head)?,
        None => BTreeSet::new(),
    };
    let (next, dropped) = frames::advance(step, frame, suite, head.as_ref(), debinding.is_some());
    draft.put_object(object);
    let held_after = frames::held_targets(draft, &next)?;
    for target in held_after.difference(&held_before) {
        draft.hold(*target, dynamic);
    }
    for target in held_before.difference(&held_after) {
        draft.release(*target, dynamic);
    }
    for frame in dropped {
        draft.drop_object(frame);
    }
    let newest = next.order();
    draft.put_head(dynamic, next);
    liveness::disprove(draft, frame.ghid())?;
    match step {
        frames::Step::First => {
            draft.raise_high_water(dynamic, newest);
            liveness::disprove(draft, dynamic)?;
            subscriptions::updated(draft, dynamic)?;
            subscriptions::announce(draft, dynamic, None)?;
        }
        frames::Step::Newer | frames::Step::Wins => {
            draft.raise_high_water(dynamic, newest);
            subscriptions::updated(draft, dynamic)?;
        }
        frames::Step::Loses => {}
    }
    Ok(Verdict::Admitted)
}

fn debinding<V: View>(
    object: &Verified,
    debinding: &Debinding,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let (view, ghid, debinder) = (draft.view(), debinding.ghid(), debinding.debinder());
    if view.object(&ghid)?.is_some() {
        return Ok(Verdict::Known);
    }
    let target = debinding.target();
    let found = targets::find(view, &target)?;
    rule!(authors::author(view, &debinder)?);
    rule!(targets::debindable(&target, &found));
    rule!(authors::debinder(&debinder, &found));
    rule!(liveness::alive(view, object.object().suite(), &debinder, &ghid)?);
    if found == targets::Target::Unknown {
        let max = view.unproven_max(&debinder);
        rule!((view.unproven(&debinder, max)? >= max).then_some(Rejection::UnprovenFull));
    }

    draft.put_object(object);
    draft.change(Change::PutDebinding { target, debinding: ghid });
    liveness::disprove(draft, ghid)?;
    match found {
        targets::Target::Unknown => {
            draft.change(Change::PutPending(Pending::Unproven { debinder, debinding: ghid }));
        }
        targets::Target::Dynamic(head) => {
            draft.put_head(target, Head { debound: true, ..*head });
            draft.released.push_back(target);
        }
        targets::Target::Object(Stored::StaticBinding { target: held, .. }) => {
            retention::remove_static(draft, target, held, ghid);
        }
        targets::Target::Object(Stored::Debinding { .. }) => {
            liveness::drop_debinding(draft, target)?;
        }
        targets::Target::Object(Stored::Request { recipient }) => {
            draft.drop_object(target);
            draft.change(Change::DropRequest { recipient, request: target });
            let request = target;
            draft.notify(Notice::RequestGone { recipient, request, debinding: ghid });
        }
        // Refused above.
        targets::Target::Object(
            Stored::Identity | Stored::Container { .. } | Stored::Frame { .. },
        ) => {}
    }
    Ok(Verdict::Admitted)
}

fn request<V: View>(
    object: &Verified,
    request: &Request,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let (view, ghid, recipient) = (draft.view(), request.ghid(), request.recipient());
    if view.object(&ghid)?.is_some() {
        return Ok(Verdict::Known);
    }
    rule!(authors::recipient(view, &recipient)?);
    rule!(liveness::alive(view, object.object().suite(), &recipient, &ghid)?);
    let waiting = view.requests(&recipient, None, limits::REQUESTS_MAX)?.len();
    rule!((waiting >= limits::REQUESTS_MAX).then_some(Rejection::RequestsFull));
    draft.put_object(object);
    draft.change(Change::PutRequest { recipient, request: ghid });
    draft.notify(Notice::Request { recipient, request: ghid });
    liveness::disprove(draft, ghid)?;
    Ok(Verdict::Admitted)
}
