//! Rule: what was debound stays so until the debinding is debound in turn.
//!
//! Debindings carry no nonce: an owner has exactly one possible debinding of a target, and its
//! address can be computed. So "is it debound?" is one look-up, however many debindings strangers
//! have sent ahead; theirs are dropped when the target arrives.

use crate::object::Debinding;
use crate::{Ghid, Suite};

use super::authors;
use super::limits;
use super::plan::{Change, Draft, Pending};
use super::rejection::Rejection;
use super::targets;
use super::view::{Stored, View};

/// The address of the one debinding by which `owner` lets go of `target`: the hash of a GDXX up to
/// its file hash (Golix wire reference, section 7).
pub(super) fn debinding_address(suite: Suite, owner: &Ghid, target: &Ghid) -> Ghid {
    Debinding::address_of(suite, owner, target)
}

/// The stored debinding of `target` by its owner.
pub(super) fn debinding_of<V: View>(
    view: &V,
    suite: Suite,
    owner: &Ghid,
    target: &Ghid,
) -> Result<Option<Ghid>, V::Error> {
    let debinding = debinding_address(suite, owner, target);
    Ok(view.object(&debinding)?.map(|_| debinding))
}

/// An object is refused while a debinding by its owner is stored.
pub(super) fn alive<V: View>(
    view: &V,
    suite: Suite,
    owner: &Ghid,
    target: &Ghid,
) -> Result<Option<Rejection>, V::Error> {
    Ok(debinding_of(view, suite, owner, target)?.map(Rejection::Debound))
}

/// Removes a stored debinding; what it removed may be published again.
pub(super) fn drop_debinding<V: View>(
    draft: &mut Draft<'_, V>,
    debinding: Ghid,
) -> Result<(), V::Error> {
    let Some(Stored::Debinding { debinder, target }) = draft.object(&debinding)? else {
        return Ok(());
    };
    draft.drop_object(debinding);
    draft.change(Change::DropDebinding { target, debinding });
    draft.change(Change::DropPending(Pending::Unproven { debinder, debinding }));
    if let Some(mut head) = draft.head(&target)?
        && head.debound
        && head.binder == debinder
    {
        head.debound = false;
        draft.put_head(target, head);
    }
    Ok(())
}

/// Looks up who owns `target` now, and drops the debindings that are not of that owner.
///
/// A dynamic address whose owner is not proven disproves nothing: the debinding may be the true
/// owner's, and what it keeps away must not come back because a stranger put a frame in its place.
pub(super) fn disprove<V: View>(draft: &mut Draft<'_, V>, target: Ghid) -> Result<(), V::Error> {
    let owner = match (draft.head(&target)?, draft.object(&target)?) {
        (Some(head), _) if !head.proven => return Ok(()),
        (Some(head), _) => Some(head.binder),
        (None, Some(object)) => authors::owner(&targets::Target::Object(object)),
        // The target went again meanwhile: then they are early debindings as before.
        (None, None) => return Ok(()),
    };
    drop_foreign(draft, target, owner)
}

/// Drops debindings of the stored `target` that are not its owner's: they came before it, from
/// strangers. `None` is nobody: what cannot be debound. A batch at a time; the rest is left as
/// [`Pending::Disprove`].
pub(super) fn drop_foreign<V: View>(
    draft: &mut Draft<'_, V>,
    target: Ghid,
    owner: Option<Ghid>,
) -> Result<(), V::Error> {
    let found = draft.view().debindings(&target, None, limits::STEPS_MAX + 2)?;
    let mut dropped = 0;
    for debinding in found {
        match draft.object(&debinding)? {
            Some(Stored::Debinding { debinder, .. }) if Some(debinder) == owner => {
                draft.change(Change::DropPending(Pending::Unproven { debinder, debinding }));
            }
            Some(_) if dropped == limits::STEPS_MAX => {
                draft.change(Change::PutPending(Pending::Disprove { target }));
                break;
            }
            Some(_) => {
                drop_debinding(draft, debinding)?;
                dropped += 1;
            }
            None => {}
        }
    }
    Ok(())
}
