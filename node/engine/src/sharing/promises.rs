//! What is owed to somebody, on all devices of the account.
//!
//! A share that is owed is an account record as well as a row of the outbox, so that the other devices
//! hear of it. The record holds what the request is made of, and the randomness comes from its name: so
//! every device seals the very same request, also one that met the recipient's identity first, and a
//! recipient to whom two devices deliver sees one. Whoever hears the end of it forgets the record; the
//! others see that it is gone.
//!
//! The device that made a share delivers it at once. The others take over when it is still owed after the
//! time that it needs to tell them.
//!
//! ```text
//! version 1 | refused 1 | object 65 | recipient 65 | secret 53
//! ```

use std::time::Duration;

use golix::object::{MakeError, Request, RequestBody, Verified};
use golix::{ChainKey, Ghid, Identity, Secret};
use hypergolix_ipc::AppToken;
use zeroize::Zeroizing;

use super::outgoing::Owed;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::keyring::Record;
use crate::limits;
use crate::message::{Address, Packed};
use crate::shelf;
use crate::timer::Timer;
use crate::turn::{Turn, key};
use crate::view::ViewError;

const VERSION: u8 = 1;

/// The name of a record of what is owed.
pub(super) type Name = [u8; 16];

/// What such a record says.
pub(super) struct Promise {
    /// The recipient did not take it: the device that made it has yet to tell its application.
    refused: bool,
    object: Ghid,
    recipient: Ghid,
    /// What opens the object from the state on that it had.
    secret: Secret,
}

impl Promise {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let secret = Zeroizing::new(self.secret.to_bytes());
        let mut bytes = Zeroizing::new(vec![VERSION, u8::from(self.refused)]);
        bytes.extend_from_slice(self.object.as_bytes());
        bytes.extend_from_slice(self.recipient.as_bytes());
        bytes.extend_from_slice(&secret[..]);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, refused], rest) = bytes.split_first_chunk()?;
        let (object, rest) = rest.split_at_checked(Ghid::LEN)?;
        let (recipient, secret) = rest.split_at_checked(Ghid::LEN)?;
        (version == VERSION && refused <= 1).then_some(())?;
        Some(Self {
            refused: refused == 1,
            object: Ghid::from_bytes(object).ok()?,
            recipient: Ghid::from_bytes(recipient).ok()?,
            secret: Secret::from_bytes(secret).ok()?,
        })
    }
}

impl Engine {
    /// Owes an object to somebody from now on, on all devices.
    pub(super) fn promise(
        &mut self,
        turn: &mut Turn<'_>,
        object: Ghid,
        recipient: Ghid,
        token: Option<[u8; 16]>,
        secret: Secret,
    ) -> Result<(), ViewError> {
        let mut record = None;
        if self.outbox.records() < limits::OWED_RECORDS {
            let name: Name = turn.random();
            let promise = Promise { refused: false, object, recipient, secret };
            self.keyring.put(turn, Record::Owed, &name, &promise.encode())?;
            record = Some(name);
        }
        let owed = Owed { token, record, ..Owed::share(object) };
        self.owe(turn, recipient, &owed);
        Ok(())
    }

    fn promise_of(&self, turn: &Turn<'_>, name: &Name) -> Result<Option<Promise>, ViewError> {
        let body = self.keyring.get(turn, Record::Owed, name)?;
        Ok(body.and_then(|body| Promise::decode(&body)))
    }

    /// The request of a promise: the same bytes on every device.
    fn seal_promise(
        &self,
        name: &Name,
        promise: &Promise,
        recipient: &Identity,
    ) -> Result<Verified, MakeError> {
        let (target, secret) = (promise.object, promise.secret.clone());
        let randomness = self.keyring.randomness_of_a_request(&[
            name,
            target.as_bytes(),
            promise.recipient.as_bytes(),
            &*Zeroizing::new(secret.to_bytes()),
        ]);
        let body = RequestBody::Handshake { target, secret };
        Request::seal(self.account.identity(), recipient, &body, randomness)
    }

    /// The request of a debt that has a record, sealed now if it was not before. `None` if it had to be
    /// given up, or cannot be sealed yet.
    pub(super) fn promised_request(
        &mut self,
        turn: &mut Turn<'_>,
        (recipient, number): (Ghid, u64),
        owed: &mut Owed,
        name: &Name,
    ) -> Result<Option<Packed>, ViewError> {
        let Some(promise) = self.promise_of(turn, name)? else {
            return Ok(None);
        };
        if self.is_of_a_past_epoch(turn, &promise)? {
            return self.promise_anew(turn, (recipient, number), owed, &promise);
        }
        if let Some(request) = owed.request.clone() {
            return Ok(Some(request));
        }
        let Some(identity) = shelf::identity(turn, &recipient)? else {
            return Ok(None);
        };
        let Ok(sealed) = self.seal_promise(name, &promise, &identity) else {
            // A recipient without usable keys.
            self.end_debt(turn, recipient, number, owed, false)?;
            return Ok(None);
        };
        Ok(Some(self.keep_sealed(turn, (recipient, number), owed, &sealed)))
    }

    /// Whether another device began an epoch of the object before it heard of the promise.
    fn is_of_a_past_epoch(&self, turn: &Turn<'_>, promise: &Promise) -> Result<bool, ViewError> {
        let last = self.last_epoch(turn, &promise.object)?;
        let epoch = ChainKey::from_handshake(&promise.secret).map(|chain| chain.epoch());
        Ok(last > 0 && epoch.is_some_and(|epoch| epoch < last))
    }

    /// Its key opens nothing that comes: the one of the last epoch is owed instead.
    fn promise_anew(
        &mut self,
        turn: &mut Turn<'_>,
        (recipient, number): (Ghid, u64),
        owed: &Owed,
        promise: &Promise,
    ) -> Result<Option<Packed>, ViewError> {
        let resolved = self.resolve(turn, &promise.object)?;
        if let Some(chain) = resolved.and_then(|resolved| resolved.chain) {
            self.settle_debt(turn, recipient, number, owed)?;
            let secret = chain.to_handshake();
            self.promise(turn, promise.object, recipient, owed.token, secret)?;
        }
        Ok(None)
    }

    /// Whatever was owed of an object that is gone, as every device sees. What was delivered is still to
    /// be answered.
    pub(crate) fn give_up_owed_of(
        &mut self,
        turn: &mut Turn<'_>,
        object: &Ghid,
    ) -> Result<(), ViewError> {
        for (recipient, number) in self.outbox.undelivered_of(object) {
            if let Some(owed) = Self::read_owed(turn, &recipient, number)? {
                self.settle_record(turn, &owed, false)?;
                self.end_debt(turn, recipient, number, &owed, false)?;
            }
        }
        Ok(())
    }

    // What other devices say.

    /// Another device wrote down what is owed, or that it no longer is.
    pub(crate) fn promise_arrived(
        &mut self,
        turn: &mut Turn<'_>,
        name: &[u8],
        body: Option<&[u8]>,
    ) -> Result<(), ViewError> {
        let Ok(name) = Name::try_from(name) else {
            return Ok(());
        };
        let debt = self.outbox.of_record(&name);
        let Some(body) = body else {
            if let Some(debt) = debt {
                // Another device heard the end of it. Which end shows from what comes with that.
                self.ends_soon(turn, debt, limits::OWED_GONE);
            }
            return Ok(());
        };
        match (debt, Promise::decode(body)) {
            (Some((recipient, number)), Some(promise)) if promise.refused => {
                if let Some(owed) = Self::read_owed(turn, &recipient, number)? {
                    self.end_debt(turn, recipient, number, &owed, false)?;
                }
                Ok(())
            }
            (None, Some(promise)) if !promise.refused => self.adopt(turn, name, &promise),
            (_, Some(_) | None) => Ok(()),
        }
    }

    /// Rows whose record went before a stop, and records that no row is about: a backup was restored.
    pub(crate) fn adopt_promises(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for (name, debt) in self.outbox.recorded() {
            if self.promise_of(turn, &name)?.is_none() {
                self.ends_soon(turn, debt, limits::OWED_GONE);
            }
        }
        for (name, body) in self.keyring.all(turn, Record::Owed)? {
            if let Ok(name) = Name::try_from(&name[..])
                && self.outbox.of_record(&name).is_none()
                && let Some(promise) = Promise::decode(&body).filter(|promise| !promise.refused)
            {
                self.adopt(turn, name, &promise)?;
            }
        }
        self.take_over_later(turn);
        Ok(())
    }

    fn adopt(
        &mut self,
        turn: &mut Turn<'_>,
        name: Name,
        promise: &Promise,
    ) -> Result<(), ViewError> {
        let recipient = promise.recipient;
        let owed = Owed { record: Some(name), adopted: true, ..Owed::share(promise.object) };
        self.owe(turn, recipient, &owed);
        let at = turn.now() + self.patience();
        self.wake_for_owed(turn, at);
        // The answer may have been faster.
        for (author, request, taken) in self.outbox.take_heard(&recipient) {
            self.share_answered(turn, &author, request, taken)?;
        }
        Ok(())
    }

    /// A debt is at its end, of which more may be heard for a while.
    pub(crate) fn ends_soon(&mut self, turn: &mut Turn<'_>, debt: (Ghid, u64), patience: Duration) {
        let at = turn.now() + patience;
        self.outbox.ends(at, debt);
        self.wake_for_owed(turn, at);
    }

    /// Unless the object was taken back or deleted, the recipient took it: a refusal is written down.
    fn promise_ended(
        &mut self,
        turn: &mut Turn<'_>,
        (recipient, number): (Ghid, u64),
    ) -> Result<(), ViewError> {
        let Some(owed) = Self::read_owed(turn, &recipient, number)? else {
            return Ok(());
        };
        self.settle_debt(turn, recipient, number, &owed)?;
        if let (Some(Address(object)), Some(token)) = (owed.object, owed.token) {
            let name = key(&[object.as_bytes(), recipient.as_bytes()]);
            let ours = shelf::head(turn, &object)?.is_some_and(|head| head.binder == self.me);
            if !ours || self.keyring.get(turn, Record::Recipient, &name)?.is_some() {
                let taken = shelf::is_object(turn, &object)?;
                self.tell_share_result(AppToken(token), object, recipient, taken);
            }
        }
        Ok(())
    }

    /// Seals what is owed to somebody whose identity was unknown here until now, so that an answer finds
    /// what it is about.
    pub(super) fn seal_owed_to(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: &Identity,
    ) -> Result<(), ViewError> {
        for number in self.outbox.all_of(&recipient.ghid()) {
            let Some(mut owed) = Self::read_owed(turn, &recipient.ghid(), number)? else {
                continue;
            };
            let Some(name) = owed.record.filter(|_| owed.request.is_none()) else {
                continue;
            };
            if let Some(promise) = self.promise_of(turn, &name)?
                && let Ok(sealed) = self.seal_promise(&name, &promise, recipient)
            {
                self.keep_sealed(turn, (recipient.ghid(), number), &mut owed, &sealed);
            }
        }
        Ok(())
    }

    /// A debt has come to its end: the record goes, or tells the device that made it of a refusal.
    pub(super) fn settle_record(
        &mut self,
        turn: &mut Turn<'_>,
        owed: &Owed,
        refused: bool,
    ) -> Result<(), ViewError> {
        let Some(name) = owed.record else {
            return Ok(());
        };
        if refused && owed.adopted {
            match self.promise_of(turn, &name)? {
                Some(promise) if !promise.refused => {
                    let body = Promise { refused, ..promise }.encode();
                    return self.keyring.put(turn, Record::Owed, &name, &body);
                }
                Some(_) => return Ok(()),
                None => {}
            }
        }
        self.keyring.forget(turn, Record::Owed, &name)
    }

    // When this device takes over.

    /// How long another device's debt is left to that device. Those who take over do so one after the
    /// other.
    fn patience(&self) -> Duration {
        limits::OWED_TAKEOVER + limits::OWED_STAGGER * u32::from(self.config.slot % 8)
    }

    /// What may leave for somebody over a link now. What another device made waits for a while, counted
    /// from when it was heard of and from when the link came up: that device may have such a link too.
    pub(crate) fn due_at(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        recipient: &Ghid,
    ) -> Vec<u64> {
        let Some(since) = self.links.get(link).map(|state| state.since) else {
            return Vec::new();
        };
        let (now, patience) = (turn.now(), self.patience());
        let mut due = Vec::new();
        for (number, heard) in self.outbox.undelivered_since(recipient) {
            match heard.map(|heard| heard.max(since) + patience).filter(|at| *at > now) {
                None => due.push(number),
                Some(at) => self.wake_for_owed(turn, at),
            }
        }
        due
    }

    /// Those to whom something is owed, and who are to be looked for: what another device made is that
    /// device's to begin with.
    pub(crate) fn recipients_to_find(&self, turn: &Turn<'_>) -> Vec<Ghid> {
        let (now, patience) = (turn.now(), self.patience());
        let is_due = |recipient: &Ghid| {
            let mut all = self.outbox.undelivered_since(recipient).into_iter();
            all.any(|(_, heard)| heard.is_none_or(|heard| heard + patience <= now))
        };
        self.outbox.recipients().into_iter().filter(is_due).collect()
    }

    fn take_over_later(&mut self, turn: &mut Turn<'_>) {
        let (now, patience) = (turn.now(), self.patience());
        let times = self.outbox.adopted().into_iter().map(|(_, heard)| heard + patience);
        if let Some(at) = times.filter(|at| *at > now).min() {
            self.wake_for_owed(turn, at);
        }
    }

    pub(super) fn wake_for_owed(&mut self, turn: &mut Turn<'_>, at: crate::view::Time) {
        if self.outbox.wakes(turn.now(), at) {
            turn.effect(Effect::SetTimer { timer: Timer::TakeOver, at });
        }
    }

    /// What other devices did not deliver meanwhile is tried here.
    pub(crate) fn take_over(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        self.outbox.woke();
        let (ended, later) = self.outbox.take_ended(turn.now());
        for debt in ended {
            self.promise_ended(turn, debt)?;
        }
        if let Some(at) = later {
            self.wake_for_owed(turn, at);
        }
        for (recipient, _) in self.outbox.adopted() {
            self.links.interesting(recipient);
        }
        self.take_over_later(turn);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use golix::Suite;

    #[test]
    fn a_promise_reads_back_and_half_of_one_does_not() {
        let promise = Promise {
            refused: true,
            object: Ghid::of(b"object"),
            recipient: Ghid::of(b"recipient"),
            secret: Secret::new(Suite::Suite3, [7; 32], [8; 16]),
        };
        let bytes = promise.encode();
        let back = Promise::decode(&bytes).expect("whole");
        assert!(back.refused);
        assert_eq!((back.object, back.recipient), (promise.object, promise.recipient));
        assert_eq!(back.encode(), bytes);
        for len in 0..bytes.len() {
            assert!(Promise::decode(&bytes[..len]).is_none(), "{len}");
        }
        for at in [0, 1] {
            let mut wrong = bytes.clone();
            wrong[at] = 9;
            assert!(Promise::decode(&wrong).is_none());
        }
    }
}
