//! Who holds whom, and what goes when nobody holds it any more.
//!
//! | object | lives |
//! |---|---|
//! | identity | for ever |
//! | container | while a static binding or the current frame (or a losing one with the same counter) of a dynamic binding targets it |
//! | static binding | until its binder debinds it |
//! | dynamic binding | until its binder debinds it *and* nothing holds its dynamic address |
//! | debinding | until its debinder debinds it |
//! | request | until its recipient debinds it, or a server gives its place to another one |
//!
//! Golix wire reference, section 11.4. A removed binding releases its target, so collection
//! cascades. One plan takes a bounded number of steps and leaves the rest as [`Pending::Collect`].

use crate::Ghid;

use super::frames::{Head, held_targets};
use super::liveness::debinding_address;
use super::plan::{Change, Draft, Notice, Pending};
use super::view::{Stored, View};

/// Removes what lost its last holder, and what that held in turn, in at most `steps` steps.
pub(super) fn collect<V: View>(draft: &mut Draft<'_, V>, steps: usize) -> Result<(), V::Error> {
    let mut left = steps;
    while let Some(address) = draft.released.pop_front() {
        if left == 0 {
            draft.change(Change::PutPending(Pending::Collect { address }));
            continue;
        }
        left -= 1;
        if draft.is_held(&address)? {
            continue;
        }
        if let Some(head) = draft.head(&address)? {
            if head.debound {
                let debinding = debinding_address(head.suite, &head.binder, &address);
                remove_dynamic(draft, address, &head, debinding)?;
            }
        } else if let Some(Stored::Container { .. }) = draft.object(&address)? {
            draft.drop_object(address);
            draft.notify(Notice::Gone { address, debinding: None });
        }
    }
    Ok(())
}

/// Removes a static binding that its binder debound.
pub(super) fn remove_static<V: View>(
    draft: &mut Draft<'_, V>,
    binding: Ghid,
    target: Ghid,
    debinding: Ghid,
) {
    draft.drop_object(binding);
    draft.notify(Notice::Gone { address: binding, debinding: Some(debinding) });
    draft.release(target, binding);
}

/// Removes a debound dynamic binding that nothing holds: every frame, and the head.
pub(super) fn remove_dynamic<V: View>(
    draft: &mut Draft<'_, V>,
    dynamic: Ghid,
    head: &Head,
    debinding: Ghid,
) -> Result<(), V::Error> {
    let targets = held_targets(draft, head)?;
    for frame in head.frames() {
        draft.drop_object(frame);
    }
    draft.drop_head(dynamic);
    draft.notify(Notice::Gone { address: dynamic, debinding: Some(debinding) });
    for target in targets {
        draft.release(target, dynamic);
    }
    Ok(())
}
