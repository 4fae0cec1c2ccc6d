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
//!
//! The rules are the same for both suites. Two weaknesses of suite 1 show in them: frames that prove
//! nothing ([`Head::proven`]), and requests that differ in a MAC outside of their address
//! ([`variant_address`]).

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
pub use view::{HighWater, Mark, Owner, Stored, View};

use std::collections::BTreeSet;

use crate::Ghid;
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
    /// Requests kept of one address, which differ in what the address does not cover: a true one and
    /// some by people who want to keep it away. Threat model, 2.4 A1.
    pub const VARIANTS_MAX: usize = 4;
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
/// other rules. A frame of suite 1 may be accepted and not be stored, because it is too old or debound
/// and only proves whose the address is ([`Head::proven`]). Afterwards, whenever [`View::pending`] is
/// not empty, call [`collect_more`].
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

/// The key of the row that keeps one more request of the address `request`.
///
/// The MAC of a suite-1 request is no part of its address and only its recipient can check it, so
/// anybody who sees a request can publish it first with another MAC. Therefore requests of one address
/// whose last 64 bytes differ are all kept, up to [`limits::VARIANTS_MAX`], and all delivered: the
/// first under its address, the `n`-th further one (1, 2, 3) under
///
/// ```text
/// SHA-512("golix-1 garq variant" 00 | address 65 | n 1)
/// ```
///
/// To a [`View`] these are objects and requests like others; it only must not expect that the address
/// of the bytes is the key of the row. One debinding of the address removes all of them.
#[must_use]
pub fn variant_address(request: &Ghid, n: u8) -> Ghid {
    let mut bytes = b"golix-1 garq variant\0".to_vec();
    bytes.extend_from_slice(request.as_bytes());
    bytes.push(n);
    Ghid::of(&bytes)
}

/// Where requests of one address may be stored.
fn variants(request: Ghid) -> impl Iterator<Item = Ghid> {
    let further = (1..limits::VARIANTS_MAX as u8).map(move |n| variant_address(&request, n));
    std::iter::once(request).chain(further)
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
    liveness::drop_foreign(draft, object.ghid(), None)?;
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
    liveness::drop_foreign(draft, ghid, None)?;
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
    rule!(targets::bindable(&binding.target(), &targets::find(view, &binding.target())?));
    rule!(liveness::alive(view, object.object().suite(), &binder, &ghid)?);
    draft.put_object(object);
    draft.hold(binding.target(), ghid);
    liveness::drop_foreign(draft, ghid, Some(binder))?;
    Ok(Verdict::Admitted)
}

fn dynamic_binding<V: View>(
    object: &Verified,
    frame: &DynamicBinding,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let (view, dynamic, binder) = (draft.view(), frame.dynamic(), frame.binder());
    let suite = frame.suite();
    let head = view.head(&dynamic)?;
    // What a debinding says of a dynamic binding counts only once nobody holds it.
    let debinding = liveness::debinding_of(view, suite, &binder, &dynamic)?;
    let refused = match debinding {
        Some(debinding) if !draft.is_held(&dynamic)? => Some(Rejection::Debound(debinding)),
        Some(_) | None => None,
    };
    let stored = head.as_ref().is_some_and(|head| head.frames().any(|it| it == frame.ghid()));
    if refused.is_none() && stored {
        return Ok(Verdict::Known);
    }
    rule!(authors::author(view, &binder)?);
    // A head is its own mark.
    let mark = if head.is_none() { view.high_water(&dynamic)? } else { None };
    let step = frames::step(frame, head.as_ref(), mark.as_ref());
    match (step, &head, debinding) {
        (Ok(frames::Step::Proves), Some(head), _) => return prove(frame, head, draft),
        (Ok(frames::Step::Displaces), Some(head), Some(debinding)) if refused.is_some() => {
            return evict(frame, head, debinding, draft);
        }
        _ => {}
    }
    let target = targets::find(view, &frame.target())?;
    rule!(targets::bindable(&frame.target(), &target));
    // From anything else no path leads on.
    if frame.target() == dynamic || matches!(target, targets::Target::Dynamic(_)) {
        rule!(targets::acyclic(view, &dynamic, &frame.target())?);
    }
    let step = match step {
        Ok(step) => step,
        Err(rejection) => return Ok(Verdict::Refused(rejection)),
    };
    rule!(refused);

    let held_before = match &head {
        Some(head) => frames::held_targets(draft, head)?,
        None => BTreeSet::new(),
    };
    let was_proven = head.as_ref().is_some_and(|head| head.proven);
    let (next, dropped) =
        frames::advance(step, frame, head.as_ref(), mark.as_ref(), debinding.is_some());
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
    let now_proven = next.proven && !was_proven;
    if step != frames::Step::Loses || now_proven {
        draft.set_high_water(dynamic, next.mark());
    }
    draft.put_head(dynamic, next);
    liveness::drop_foreign(draft, frame.ghid(), None)?;
    if now_proven {
        liveness::disprove(draft, dynamic)?;
    }
    if step != frames::Step::Loses || now_proven {
        subscriptions::updated(draft, dynamic)?;
    }
    if step == frames::Step::First {
        subscriptions::announce(draft, dynamic, None)?;
    }
    Ok(Verdict::Admitted)
}

/// A frame that is not worth keeping proves that the head is its binder's: the head stays, proven.
fn prove<V: View>(
    frame: &DynamicBinding,
    head: &Head,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let dynamic = frame.dynamic();
    let (next, _) = frames::advance(frames::Step::Proves, frame, Some(head), None, head.debound);
    draft.set_high_water(dynamic, next.mark());
    draft.put_head(dynamic, next);
    liveness::disprove(draft, dynamic)?;
    subscriptions::updated(draft, dynamic)?;
    Ok(Verdict::Admitted)
}

/// The rightful owner's frame, who has debound the address meanwhile: neither it nor what a stranger
/// put there stays, and it is remembered whose the address is.
fn evict<V: View>(
    frame: &DynamicBinding,
    head: &Head,
    debinding: Ghid,
    draft: &mut Draft<'_, V>,
) -> Result<Verdict, V::Error> {
    let dynamic = frame.dynamic();
    let (owners, _) = frames::advance(frames::Step::Displaces, frame, Some(head), None, true);
    retention::remove_dynamic(draft, dynamic, head, debinding)?;
    draft.set_high_water(dynamic, owners.mark());
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
    let found = match targets::find(view, &target)? {
        // Who owns it is open: this may be the true owner's, and wait for the proof.
        targets::Target::Dynamic(head) if !head.proven && head.binder != debinder => {
            targets::Target::Unknown
        }
        found => found,
    };
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
    liveness::drop_foreign(draft, ghid, Some(debinder))?;
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
        targets::Target::Object(Stored::Request { recipient, .. }) => {
            for request in variants(target) {
                if view.object(&request)?.is_some() {
                    draft.drop_object(request);
                    draft.change(Change::DropRequest { recipient, request });
                }
            }
            let request = target;
            draft.notify(Notice::RequestGone { recipient, request, debinding: ghid });
        }
        // Refused above.
        targets::Target::Object(
            Stored::Identity { .. } | Stored::Container { .. } | Stored::Frame { .. },
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
    let mut free = None;
    for place in variants(ghid).take(request.suite().request_variants()) {
        match view.object(&place)? {
            Some(Stored::Request { authenticator, .. })
                if authenticator == request.authenticator() =>
            {
                return Ok(Verdict::Known);
            }
            Some(_) => {}
            None => free = free.or(Some(place)),
        }
    }
    rule!(authors::recipient(view, request)?);
    rule!(liveness::alive(view, request.suite(), &recipient, &ghid)?);
    let waiting = view.requests(&recipient, None, limits::REQUESTS_MAX)?.len();
    rule!((waiting >= limits::REQUESTS_MAX).then_some(Rejection::RequestsFull));
    let Some(place) = free else {
        return Ok(Verdict::Refused(Rejection::VariantsFull));
    };
    draft.put_object_at(place, object);
    draft.change(Change::PutRequest { recipient, request: place });
    draft.notify(Notice::Request { recipient, request: place });
    liveness::drop_foreign(draft, ghid, Some(recipient))?;
    Ok(Verdict::Admitted)
}
