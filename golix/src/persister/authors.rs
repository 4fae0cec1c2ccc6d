//! Rule: author and recipient are known identities, and only the owner lets go.

use crate::Ghid;
use crate::object::Request;

use super::rejection::Rejection;
use super::targets::Target;
use super::view::{Stored, View};

/// The author, binder or debinder has to be a stored identity.
pub(super) fn author<V: View>(view: &V, author: &Ghid) -> Result<Option<Rejection>, V::Error> {
    Ok(match view.object(author)? {
        Some(Stored::Identity { .. }) => None,
        Some(_) => Some(Rejection::AuthorNotIdentity(*author)),
        None => Some(Rejection::AuthorUnknown(*author)),
    })
}

/// The recipient of a request has to be a stored identity, of the request's suite: no other could
/// open it.
pub(super) fn recipient<V: View>(
    view: &V,
    request: &Request,
) -> Result<Option<Rejection>, V::Error> {
    let recipient = request.recipient();
    Ok(match view.object(&recipient)? {
        Some(Stored::Identity { suite }) if suite == request.suite() => None,
        Some(Stored::Identity { .. }) => Some(Rejection::SuiteMismatch(recipient)),
        Some(_) => Some(Rejection::RecipientNotIdentity(recipient)),
        None => Some(Rejection::RecipientUnknown(recipient)),
    })
}

/// Who may debind `target`: the binder of a binding, the debinder of a debinding, the recipient of
/// a request. `None` for what cannot be debound, or is not stored.
pub(super) fn owner(target: &Target) -> Option<Ghid> {
    match target {
        Target::Dynamic(head) => Some(head.binder),
        Target::Object(Stored::StaticBinding { binder, .. }) => Some(*binder),
        Target::Object(Stored::Debinding { debinder, .. }) => Some(*debinder),
        Target::Object(Stored::Request { recipient, .. }) => Some(*recipient),
        Target::Object(
            Stored::Identity { .. } | Stored::Container { .. } | Stored::Frame { .. },
        )
        | Target::Unknown => None,
    }
}

/// Only the owner debinds.
pub(super) fn debinder(debinder: &Ghid, target: &Target) -> Option<Rejection> {
    match owner(target) {
        Some(owner) if owner != *debinder => Some(Rejection::Inconsistent(owner)),
        Some(_) | None => None,
    }
}
