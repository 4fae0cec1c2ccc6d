//! Rule: what may point at what, and no circles among dynamic bindings.

use std::collections::{BTreeSet, VecDeque};

use crate::Ghid;

use super::frames::Head;
use super::limits;
use super::rejection::Rejection;
use super::view::{Stored, View};

/// What an address means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing (yet): checked by the rules of whatever arrives.
    Unknown,
    /// An object's own address. A frame address names the frame, not the binding.
    Object(Stored),
    /// A dynamic address.
    Dynamic(Box<Head>),
}

/// Looks an address up.
pub(super) fn find<V: View>(view: &V, ghid: &Ghid) -> Result<Target, V::Error> {
    if let Some(head) = view.head(ghid)? {
        return Ok(Target::Dynamic(Box::new(head)));
    }
    Ok(view.object(ghid)?.map_or(Target::Unknown, Target::Object))
}

/// A binding may target a container or a dynamic address, or something unknown.
pub(super) fn bindable(target: &Ghid, found: &Target) -> Option<Rejection> {
    match found {
        Target::Unknown | Target::Dynamic(_) | Target::Object(Stored::Container { .. }) => None,
        Target::Object(
            Stored::Identity { .. }
            | Stored::StaticBinding { .. }
            | Stored::Frame { .. }
            | Stored::Debinding { .. }
            | Stored::Request { .. },
        ) => Some(Rejection::TargetType(*target)),
    }
}

/// A debinding may target a static binding, a dynamic address, a debinding, a request, or something
/// unknown. A frame address would have no effect, so it is refused.
pub(super) fn debindable(target: &Ghid, found: &Target) -> Option<Rejection> {
    match found {
        Target::Unknown
        | Target::Dynamic(_)
        | Target::Object(
            Stored::StaticBinding { .. } | Stored::Debinding { .. } | Stored::Request { .. },
        ) => None,
        Target::Object(
            Stored::Identity { .. } | Stored::Container { .. } | Stored::Frame { .. },
        ) => Some(Rejection::TargetType(*target)),
    }
}

/// No path of dynamic bindings leads from `target` back to `dynamic`.
///
/// The edge that would close a circle is always the last one to arrive, and this walk then meets
/// all the others; where it would take more than [`limits::CHAIN_MAX`] bindings to be sure, the
/// frame is refused. Losing frames count too, as they hold their targets.
pub(super) fn acyclic<V: View>(
    view: &V,
    dynamic: &Ghid,
    target: &Ghid,
) -> Result<Option<Rejection>, V::Error> {
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::from([*target]);
    while let Some(address) = queue.pop_front() {
        if address == *dynamic {
            return Ok(Some(Rejection::Cycle(*target)));
        }
        let Some(head) = view.head(&address)? else {
            continue;
        };
        if !seen.insert(address) {
            continue;
        }
        if seen.len() > limits::CHAIN_MAX {
            return Ok(Some(Rejection::ChainTooLong(*target)));
        }
        queue.push_back(head.target);
        for fork in &head.forks {
            if let Some(Stored::Frame { target, .. }) = view.object(fork)? {
                queue.push_back(target);
            }
        }
    }
    Ok(None)
}
