//! Two persisters that hold the same: each follows the whole feed of the other.

use super::Persister;
use super::admission::From;
use super::users::User;
use crate::effect::Effect;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Cursor, Message, Packed, Role};
use crate::sync::{Feed, Holdings};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::verdict;
use crate::view::ViewError;

impl Persister {
    fn is_mirrored(&self, link: LinkId) -> bool {
        self.links.get(link).is_some_and(|state| {
            matches!(state.role, Role::Persister { .. })
                && self.config.mirrors.contains(&state.device)
        })
    }

    /// Follows everything of a persister that the operator named.
    pub(super) fn begin_mirroring(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        if !self.is_mirrored(link) {
            return Ok(());
        }
        let cursor = self.links.cursor(turn, link)?.unwrap_or(Cursor { epoch: 0, seq: 0 });
        self.links.send(turn, link, Message::Mirror { cursor: Some(cursor) });
        self.compare_again(turn, link)
    }

    /// The other side wants to follow everything. What is here is open to whoever asks for it by
    /// address; the list of all addresses is not, except where everybody may publish.
    pub(super) fn mirrored(&mut self, turn: &mut Turn<'_>, link: LinkId, cursor: Option<Cursor>) {
        let open = self.config.policy == super::Policy::Open;
        let allowed = self.links.get(link).is_some_and(|state| {
            matches!(state.role, Role::Persister { .. })
                && (open || self.config.mirrors.contains(&state.device))
        });
        if !allowed {
            self.links.refuse(turn, link, verdict::NOT_HERE);
            return;
        }
        if let Some(state) = self.links.get_mut(link) {
            state.mirrors = true;
        }
        self.links.rewind(&self.feed, link, cursor);
    }

    /// Something changed at a persister that this one mirrors.
    pub(super) fn mirror_event(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        cursor: Cursor,
        objects: &[Packed],
    ) -> Result<(), ViewError> {
        if !self.is_mirrored(link) {
            self.links.close(turn, link, "an event that nobody asked for", true);
            return Ok(());
        }
        let results = self.take(turn, From::Mirror(link), objects)?;
        if results.contains(&verdict::DISK_FULL) {
            // Not acknowledged: it comes again after the next comparison.
            return Ok(());
        }
        if cursor.seq > 0 {
            self.links.write_cursor(turn, link, cursor)?;
        }
        self.links.send(turn, link, Message::EventAck { seq: cursor.seq });
        Ok(())
    }

    /// Compares everything with a persister that this one mirrors, now and regularly.
    pub(super) fn compare_again(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        if !self.is_mirrored(link) {
            return Ok(());
        }
        self.compare(turn, link)?;
        turn.effect(Effect::SetTimer {
            timer: Timer::Reconcile(link),
            at: turn.now() + self.config.reconcile_interval,
        });
        Ok(())
    }

    fn compare(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        if self.links.may_compare(link) {
            self.links.scrub.look(turn, &mut self.feed, Holdings::Persister)?;
            let addresses = Feed::addresses(turn)?.into_iter();
            let sound = addresses.filter(|address| !self.links.scrub.is_broken(address));
            let items = Holdings::Persister.items(turn, sound)?;
            self.links.begin_comparison(turn, link, &items);
        }
        Ok(())
    }

    /// Whether a message of the other side's comparison is looked at. Registered users and named mirrors
    /// wait for nobody.
    pub(super) fn is_compared_with(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        needs: bool,
    ) -> Result<bool, ViewError> {
        let Some(state) = self.links.get(link) else {
            return Ok(false);
        };
        let mut known = self.config.mirrors.contains(&state.device);
        for identity in &state.proven {
            known |= User::load(turn, identity)?.registered;
        }
        Ok(self.links.may_be_compared(turn, link, needs, known))
    }

    /// One message of a comparison, from either side.
    pub(super) fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        body: &[u8],
        from_subscriber: bool,
    ) -> Result<(), ViewError> {
        if body.len() as u64 > limits::RECONCILE_MESSAGE_MAX {
            self.links.close(turn, link, "a comparison that is too long", true);
            return Ok(());
        }
        if !from_subscriber {
            let compared = self.links.comparison_answered(turn, link, body);
            self.links.need(turn, link, &compared.need);
            return if compared.again { self.compare(turn, link) } else { Ok(()) };
        }
        if !self.is_compared_with(turn, link, false)? {
            return Ok(());
        }
        self.hand_over_again(turn, link)?;
        self.links.scrub.look(turn, &mut self.feed, Holdings::Persister)?;
        self.links.answer_comparison(turn, Holdings::Persister, link, body)
    }
}
