//! Mailboxes: what is owed goes into those of the recipients, for which their identities are needed;
//! what came out of our own is released.

use std::collections::BTreeSet;
use std::ops::Bound;

use golix::Ghid;
use golix::object::{Debinding, Kind, Object, Unverified};

use super::{Parcel, find};
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Message, Packed};
use crate::shelf;
use crate::sync::Link;
use crate::turn::Turn;
use crate::view::ViewError;

impl Engine {
    /// Something is owed to these: it goes into their mailboxes, once we know their identities. A guest
    /// has no business with others than those for whose sake it is there.
    pub(in crate::sync) fn owed_at(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        recipients: &[Ghid],
    ) -> Result<(), ViewError> {
        for recipient in recipients {
            let at_home = |state: &Link| state.is_persister() || state.guest.contains(recipient);
            if !self.links.get(link).is_some_and(at_home) {
                continue;
            }
            if shelf::bytes(turn, recipient)?.is_none() {
                // We hear who that is, now or as soon as somebody knows.
                self.list(turn, link, [*recipient], None);
            }
            let owed = self.due_at(turn, link, recipient);
            if let Some(state) = self.links.get_mut(link) {
                state.client.to_mail.extend(owed.into_iter().map(|number| (*recipient, number)));
            }
        }
        Ok(())
    }

    /// Puts what is owed into the mailboxes of its recipients.
    pub(super) fn mail(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        while let Some(state) = self.links.get_mut(link)
            && state.client.has_room()
            && !state.client.mail_is_paused
            && let Some(debt) = state.client.to_mail.pop_first()
        {
            let client = &mut state.client;
            let (recipient, number) = debt;
            let parcel = Parcel::Mail { recipient, number };
            if client.mailed.contains(&debt)
                || client.unmailable.contains_key(&debt)
                || client.under_way.values().any(|(other, _)| *other == parcel)
            {
                continue;
            }
            let Some(gidc) = shelf::bytes(turn, &recipient)? else {
                // It is asked for; without it nothing can be sealed.
                continue;
            };
            let Some((object, mut objects)) = self.owed_request(turn, recipient, number)? else {
                continue;
            };
            objects.insert(1, Packed::from(gidc));
            if let Some(object) = object
                && !self.is_ours(turn, &object)?
                && self.links.get(link).is_some_and(Link::is_persister)
                && let Some(state) = self.links.get_mut(link)
            {
                // Somebody else's, shared on: its author may not use this persister.
                state.client.missing.insert(object);
            }
            self.send_parcel(turn, link, parcel, objects);
        }
        Ok(())
    }

    /// Some of what waits there is left there again. Requests give way to others in a full mailbox, and
    /// nobody tells their senders; what is still there costs the persister nothing.
    pub(in crate::sync) fn leave_again(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        let client = &mut state.client;
        let from = client.left_again.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = client.mailed.range((from, Bound::Unbounded)).copied();
        let debts: Vec<_> = waiting.take(limits::MAIL_LEFT_AGAIN).collect();
        client.left_again = debts.get(limits::MAIL_LEFT_AGAIN - 1).copied();
        for debt in debts {
            client.mailed.remove(&debt);
            client.to_mail.insert(debt);
        }
    }

    /// Whether a debt waits at every linked persister that takes it.
    pub(crate) fn is_mailed_everywhere(&self, recipient: Ghid, number: u64) -> bool {
        self.links.persisters().into_iter().all(|link| {
            self.links.get(link).is_none_or(|state| {
                let debt = (recipient, number);
                state.client.mailed.contains(&debt) || state.client.unmailable.contains_key(&debt)
            })
        })
    }

    /// A link is gone, or somebody is looked for in vain: what was only waited for there is at all others
    /// now.
    pub(in crate::sync) fn settle_mailed(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let mut mailed = BTreeSet::new();
        for link in self.links.stores() {
            mailed.extend(self.links.get(link).iter().flat_map(|state| &state.client.mailed));
        }
        for (recipient, number) in mailed {
            self.mailed(turn, recipient, number, false)?;
        }
        Ok(())
    }

    /// Asks a persister for an identity that is needed and not known.
    pub(crate) fn find_identity(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        identity: Ghid,
    ) -> Result<(), ViewError> {
        if shelf::bytes(turn, &identity)?.is_some() {
            return Ok(());
        }
        let Some(id) = self.links.number(link) else {
            return Ok(());
        };
        if let Some(state) = self.links.get_mut(link) {
            let asked = &mut state.client.asked;
            let known = asked.values().any(|other| *other == identity);
            if known || asked.len() >= limits::GETS_IN_FLIGHT {
                return Ok(());
            }
            asked.insert(id, identity);
        }
        self.links.send(turn, link, Message::Get { id, address: Address(identity) });
        self.links.watch(turn, link);
        Ok(())
    }

    /// An answer to that; false if it is one to something else.
    pub(in crate::sync) fn identity_answered(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        id: u32,
        objects: &[Packed],
    ) -> Result<bool, ViewError> {
        let Some(state) = self.links.get_mut(link) else {
            return Ok(false);
        };
        let Some(identity) = state.client.asked.remove(&id) else {
            return Ok(false);
        };
        self.look_at_identities(turn, &identity, objects)?;
        self.author_answered(turn, link, &identity)?;
        for author in self.inbox.awaited_at(link) {
            self.find_identity(turn, link, author)?;
        }
        Ok(true)
    }

    /// A persister says that a share was handled. It has to show its recipient's word for it: or it could
    /// make shares vanish that nobody ever saw.
    pub(super) fn ask_for_proof(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        debt: (Ghid, u64),
    ) -> Result<(), ViewError> {
        let Some(request) = Self::request_of_debt(turn, debt)? else {
            return Ok(());
        };
        let Some(id) = self.links.number(link) else {
            return Ok(());
        };
        if let Some(state) = self.links.get_mut(link)
            && state.client.proofs.len() < limits::GETS_IN_FLIGHT
        {
            state.client.proofs.insert(id, debt);
            self.links.send(turn, link, Message::Get { id, address: Address(request) });
            self.links.watch(turn, link);
        }
        Ok(())
    }

    /// An answer to that; false if it is one to something else.
    pub(in crate::sync) fn proof_answered(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        id: u32,
        objects: &[Packed],
    ) -> Result<bool, ViewError> {
        let Some(state) = self.links.get_mut(link) else {
            return Ok(false);
        };
        let Some(debt) = state.client.proofs.remove(&id) else {
            return Ok(false);
        };
        let (request, recipient) = (Self::request_of_debt(turn, debt)?, debt.0);
        let identity = shelf::identity(turn, &recipient)?;
        let (Some(request), Some(identity)) = (request, identity) else {
            return Ok(true);
        };
        let is_proof = |bytes: &Packed| {
            let verified = Unverified::parse(bytes)
                .ok()
                .filter(|object| object.kind() == Kind::Debinding)
                .and_then(|object| object.verify(Some(&identity)).ok());
            verified.is_some_and(|it| match it.object() {
                Object::Debinding(it) => it.debinder() == recipient && it.target() == request,
                _ => false,
            })
        };
        if objects.iter().any(is_proof) {
            // The answer is under way, or came to a device that did not know what it was about.
            self.ends_soon(turn, debt, limits::ANSWER_PATIENCE);
        } else {
            turn.log(
                "a server says that a share was handled, and does not show it",
                recipient.short(),
            );
            if let Some(client) = self.links.persister_mut(link) {
                client.conduct.withholds(request);
            }
        }
        Ok(true)
    }

    /// Keeps `identity` if it is among the objects and somebody waits for it.
    pub(in crate::sync) fn look_at_identities(
        &mut self,
        turn: &mut Turn<'_>,
        identity: &Ghid,
        objects: &[Packed],
    ) -> Result<(), ViewError> {
        let wanted = self.outbox.recipients().contains(identity) || self.inbox.awaits(identity);
        if !wanted || shelf::bytes(turn, identity)?.is_some() {
            return Ok(());
        }
        if let Some(found) = find(identity, objects) {
            self.keep_identity(turn, &found)?;
            for link in self.links.stores() {
                self.owed_at(turn, link, &[*identity])?;
            }
            for link in self.links.proven_any(&BTreeSet::from([*identity])) {
                self.send_owed(turn, link, *identity)?;
            }
        }
        Ok(())
    }

    /// A request that a persister handed over was handled: it need not keep it any longer. Said
    /// of every one, also of those that do not open, so that it tells nothing.
    pub(crate) fn release_mail(&mut self, link: Option<LinkId>, objects: &[Packed]) {
        let Some(link) = link.filter(|link| self.links.persisters().contains(link)) else {
            return;
        };
        for bytes in objects {
            if let Ok(request) = Unverified::parse(bytes)
                && request.kind() == Kind::Request
                && let Some(state) = self.links.get_mut(link)
            {
                state.client.to_release.push_back(request.ghid());
            }
        }
    }

    /// What ends a request: our debinding of it. It leaves in the turn that made it, with its
    /// signature.
    pub(super) fn released(
        &self,
        turn: &Turn<'_>,
        request: Ghid,
    ) -> Result<Vec<Packed>, ViewError> {
        let own = self.account.identity().identity();
        let address = Debinding::address_of(own.suite(), &self.me, &request);
        let debinding = match shelf::bytes(turn, &address)? {
            Some(bytes) => bytes,
            None => Debinding::make(&self.signer(), request).bytes().to_vec(),
        };
        Ok(vec![Packed::from(own.encode()), Packed::from(debinding)])
    }
}
