//! Who hears of what.
//!
//! A subscription to a dynamic address delivers each new frame, once its current target is stored
//! too, and the debinding that ends it. A subscription to an identity delivers the requests for it
//! and the debindings that end them. Golix wire reference, section 11.1.

use crate::Ghid;

use super::limits;
use super::plan::{Change, Draft, Notice, Pending};
use super::view::{Stored, View};

impl Notice {
    /// The address whose subscribers hear of it: dynamic, static binding, container or recipient;
    /// for `Bound` the target.
    #[must_use]
    pub fn topic(&self) -> Ghid {
        match self {
            Self::Updated { dynamic, .. } => *dynamic,
            Self::Gone { address, .. } => *address,
            Self::Request { recipient, .. } | Self::RequestGone { recipient, .. } => *recipient,
            Self::Bound { target, .. } => *target,
        }
    }

    /// The object that a subscriber is sent; `None` where the original protocol sends nothing.
    #[must_use]
    pub fn object(&self) -> Option<Ghid> {
        match self {
            Self::Updated { frame, .. } => Some(*frame),
            Self::Gone { debinding, .. } => *debinding,
            Self::Request { request, .. } => Some(*request),
            Self::RequestGone { debinding, .. } => Some(*debinding),
            Self::Bound { .. } => None,
        }
    }
}

/// Tells of a new head, if its target is stored. If not, [`announce`] does when the target comes.
pub(super) fn updated<V: View>(draft: &mut Draft<'_, V>, dynamic: Ghid) -> Result<(), V::Error> {
    let Some(head) = draft.head(&dynamic)? else {
        return Ok(());
    };
    let stored = draft.head(&head.target)?.is_some()
        || matches!(draft.object(&head.target)?, Some(Stored::Container { .. }));
    if stored {
        draft.notify(Notice::Updated { dynamic, frame: head.frame });
    }
    Ok(())
}

/// Tells of the heads that waited for `target`, which is stored now. A batch at a time; the rest is
/// left as [`Pending::Announce`].
pub(super) fn announce<V: View>(
    draft: &mut Draft<'_, V>,
    target: Ghid,
    after: Option<Ghid>,
) -> Result<(), V::Error> {
    let holders = draft.view().holders(&target, after.as_ref(), limits::STEPS_MAX)?;
    for holder in &holders {
        if draft.head(holder)?.is_some_and(|head| head.target == target) {
            updated(draft, *holder)?;
        }
    }
    match holders.last() {
        Some(last) if holders.len() >= limits::STEPS_MAX => {
            draft.change(Change::PutPending(Pending::Announce { target, after: *last }));
        }
        Some(_) | None => {}
    }
    Ok(())
}
