//! What a node does at a persister of its configuration.
//!
//! It says who it is, subscribes to everything that it has or follows, and uploads what is its own:
//! first what its feed has after the place that the persister confirmed, then whatever a comparison
//! finds missing there, whoever made it. So a persister that lost everything is filled again by
//! those who hold. Requests that are owed go into the recipients' mailboxes, as one way beside the
//! direct one; requests from the own mailbox are debound once they are handled durably.
//!
//! `mail` has what concerns mailboxes, `returned` what owners get back.

mod mail;
mod returned;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use golix::object::{Debinding, Object, StaticBinding, Unverified};
use golix::{Ghid, Identity};

use crate::account::has_others;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Cursor, Message, NOWHERE, Packed, Role};
use crate::shelf;
use crate::sync::compare::Items;
use crate::sync::conduct::{Conduct, Missed};
use crate::sync::deletions::own_debindings;
use crate::sync::{Detail, Feed, Link};
use crate::timer::Timer;
use crate::turn::{Turn, key};
use crate::verdict;
use crate::view::{Table, ViewError};

/// Distinguishes rows about what was uploaded from those about what was seen.
const UPLOADED: &[u8] = b"u";

/// Something that was sent to a persister to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parcel {
    /// The newest state of an address, with its number if it is the next one of our feed.
    State {
        address: Ghid,
        seq: Option<u64>,
        /// Places of our debindings in the message.
        debindings: Vec<usize>,
    },
    /// What is owed to somebody.
    Mail { recipient: Ghid, number: u64 },
    /// The end of a request from our mailbox.
    Release,
    /// What its author has lost, which follows us or is followed by us.
    Returned,
}

/// A node's side of a link to a persister.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Addresses that were subscribed to.
    listed: BTreeSet<Ghid>,
    /// Bindings of addresses of which nothing was known there, and these.
    bindings: BTreeMap<Ghid, Ghid>,
    /// The last change of our feed that was considered.
    position: u64,
    /// The place in our feed that is written down.
    written: u64,
    /// What a comparison found missing there.
    missing: BTreeSet<Ghid>,
    /// Whether a comparison has ended on this link.
    met: bool,
    /// What is being compared.
    compared: Items,
    /// What the last comparison with its owner found missing there.
    missed: Items,
    /// The same of the one under way.
    missed_now: Items,
    /// Debts to put into mailboxes there.
    to_mail: BTreeSet<(Ghid, u64)>,
    /// Ends of requests from our mailbox.
    to_release: VecDeque<Ghid>,
    under_way: BTreeMap<u32, (Parcel, usize)>,
    under_way_bytes: usize,
    /// Debts that wait in their recipients' mailboxes there.
    mailed: BTreeSet<(Ghid, u64)>,
    /// The last of these that was left there again, if not all were.
    left_again: Option<(Ghid, u64)>,
    /// Debts that it does not take, and why.
    unmailable: BTreeMap<(Ghid, u64), u32>,
    /// Identities asked for.
    asked: BTreeMap<u32, Ghid>,
    /// Shares that it says were handled, whose recipient's word for it was asked for.
    proofs: BTreeMap<u32, (Ghid, u64)>,
    /// Addresses that it does not take, and why.
    refused: BTreeMap<Ghid, u32>,
    /// Uploads that it confirmed.
    confirmed: u64,
    /// What it sent us, by the number that it got in our feed: it need not have it back.
    pub(super) sent: BTreeMap<u64, Ghid>,
    /// The question under way for what it has of our account, and behind which address.
    pub(super) listing: Option<(u32, Option<Ghid>)>,
    /// What is noticed of it.
    pub(super) conduct: Conduct,
    /// It has no room now.
    is_paused: bool,
    /// It takes no requests now: they came too fast, or its mailboxes are full.
    mail_is_paused: bool,
    /// It said so before it ended the link.
    pub(crate) farewell: Option<u32>,
}

impl Client {
    fn has_room(&self) -> bool {
        !self.is_paused
            && self.under_way.len() < limits::PUBLISHES_IN_FLIGHT
            && self.under_way_bytes < limits::PUBLISHES_IN_FLIGHT_BYTES
    }

    pub(super) fn bytes_under_way(&self) -> usize {
        self.under_way_bytes
    }

    pub(super) fn is_owed(&self) -> bool {
        !self.under_way.is_empty()
            || !self.asked.is_empty()
            || !self.proofs.is_empty()
            || self.listing.is_some()
            || self.conduct.is_owed()
    }

    pub(super) fn upload_again(&mut self, address: Ghid) {
        self.missing.insert(address);
    }

    /// Addresses subscribed to, and debts in mailboxes there.
    pub(super) fn figures(&self) -> (usize, usize) {
        (self.listed.len(), self.mailed.len())
    }

    /// Whether a debt waits in its recipient's mailbox there.
    pub(super) fn has_mailed(&self, debt: &(Ghid, u64)) -> bool {
        self.mailed.contains(debt)
    }

    /// Something was deleted there: a part of what did not fit is tried again.
    fn room_was_made(&mut self) {
        let too_much = self.refused.iter().filter(|(_, result)| **result == verdict::QUOTA);
        let again: Vec<Ghid> =
            too_much.map(|(address, _)| *address).take(limits::TRIED_AGAIN).collect();
        for address in again {
            self.refused.remove(&address);
            self.missing.insert(address);
        }
    }

    fn refuse(&mut self, address: Ghid, result: u32) {
        if self.refused.len() < limits::REFUSED_MAX {
            self.refused.insert(address, result);
        }
    }
}

/// A registration at every linked persister.
#[derive(Debug)]
pub(crate) struct Registering {
    /// Whom to tell.
    control: u64,
    /// Answers by device; `None` while it is out.
    answers: BTreeMap<LinkId, (Vec<u8>, Option<u32>)>,
}

impl Engine {
    /// The other side is a persister that we may use.
    pub(super) fn persister_up(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        epoch: u64,
    ) -> Result<(), ViewError> {
        self.prove(turn, link);
        let device = self.links.get(link).map(|state| state.device.clone());
        self.farewells.retain(|other, _| Some(other) != device.as_ref());
        if let Some(device) = &device {
            self.confirmer_up(turn, device, epoch)?;
        }
        let Some(state) = self.links.get(link) else {
            return Ok(());
        };
        let row = turn.get(Table::Cursors, &key(&[UPLOADED, &state.device]))?;
        // Another epoch: it lost what it had.
        let written = row.and_then(|row| {
            let (theirs, ours) = row.split_at_checked(8)?;
            (theirs == epoch.to_be_bytes()).then(|| ours.try_into().ok().map(u64::from_be_bytes))?
        });
        if let Some(state) = self.links.get_mut(link) {
            state.client.position = written.unwrap_or(0).min(self.feed.last());
            state.client.written = written.unwrap_or(0);
        }
        let mut addresses: BTreeSet<Ghid> = Feed::addresses(turn)?.into_iter().collect();
        addresses.extend(self.follows.addresses());
        addresses.insert(self.account.user_id());
        addresses.extend(self.pieces.addresses());
        let cursor = self.links.cursor(turn, link)?.unwrap_or(NOWHERE);
        // One way back in the feed for all of it: each tells again of everything since then.
        self.list(turn, link, addresses, Some(NOWHERE));
        self.links.send(turn, link, Message::Own { cursor: Some(cursor) });
        let recipients = self.outbox.recipients();
        let mut sought = vec![self.me];
        sought.extend(&recipients);
        sought.extend(self.follows.all_sources());
        self.seek(turn, link, sought);
        self.owed_at(turn, link, &recipients)?;
        self.compare(turn, link)?;
        self.compare_regularly(turn, link);
        Ok(())
    }

    /// Subscribes to addresses, once each.
    pub(super) fn list(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        addresses: impl IntoIterator<Item = Ghid>,
        cursor: Option<Cursor>,
    ) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        let room = limits::SUBSCRIPTIONS_PER_LINK.saturating_sub(state.client.listed.len());
        let new: Vec<Address> = addresses
            .into_iter()
            .filter(|address| state.client.listed.insert(*address))
            .map(Address)
            .take(room)
            .collect();
        self.links.send_subscriptions(turn, link, &new, cursor);
    }

    /// Something is followed from now on, or no longer.
    pub(super) fn follow_at_persisters(
        &mut self,
        turn: &mut Turn<'_>,
        follows: &BTreeMap<Ghid, BTreeSet<Ghid>>,
    ) {
        for link in self.links.stores() {
            let Some(state) = self.links.get(link) else { continue };
            let (everything, guest) = (state.is_persister(), state.guest.clone());
            let here = follows.iter().filter(|(source, _)| everything || guest.contains(source));
            let addresses: BTreeSet<Ghid> = here.flat_map(|(_, at)| at).copied().collect();
            // No cursor: the state as it is now, then every change.
            self.list(turn, link, addresses, None);
        }
    }

    pub(super) fn unfollow_at_persisters(&mut self, turn: &mut Turn<'_>, address: Ghid) {
        for link in self.links.stores() {
            if let Some(state) = self.links.get_mut(link)
                && state.client.listed.remove(&address)
            {
                let addresses = vec![Address(address)];
                self.links.send(turn, link, Message::Unsubscribe { addresses });
            }
        }
    }

    /// What is compared with a persister: everything that we subscribed to there.
    pub(super) fn items_at_persister(
        &self,
        turn: &Turn<'_>,
        link: LinkId,
    ) -> Result<Items, ViewError> {
        let Some(state) = self.links.get(link) else {
            return Ok(Items::new());
        };
        let sound = |address: &Ghid| !self.links.scrub.is_broken(address);
        self.holdings().items(turn, state.client.listed.iter().copied().filter(sound))
    }

    pub(super) fn compares_with(&mut self, link: LinkId, items: Items) {
        if let Some(state) = self.links.get_mut(link) {
            state.client.compared = items;
        }
    }

    /// A comparison found that these items are missing there; `present` are those of this moment.
    pub(super) fn missing_there(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        items: &[[u8; 32]],
        present: &Items,
        done: bool,
    ) -> Result<(), ViewError> {
        for item in items {
            let Some(state) = self.links.get(link) else {
                return Ok(());
            };
            let client = &state.client;
            let Some(address) = client.compared.get(item).copied() else {
                continue;
            };
            let is_state = |parcel: &Parcel| matches!(parcel, Parcel::State { address: other, .. } if *other == address);
            let under_way = client.under_way.values().any(|(parcel, _)| is_state(parcel));
            let comes = Feed::place(turn, &address)?.is_some_and(|seq| seq > client.position)
                && self.is_ours(turn, &address)?;
            // Where we are guests it is others' business.
            if present.contains_key(item)
                && !under_way
                && !comes
                && self.links.get(link).is_some_and(Link::is_persister)
                && let Some(state) = self.links.get_mut(link)
            {
                match state.client.conduct.misses(address, *item) {
                    Missed::Upload => drop(state.client.missing.insert(address)),
                    Missed::Ask => self.ask_for_acknowledged(turn, link, address),
                    Missed::Leave => {}
                }
            }
            if let Some(state) = self.links.get_mut(link) {
                state.client.compared.remove(item);
            }
        }
        if done && let Some(state) = self.links.get_mut(link) {
            state.client.met = true;
            let same = std::mem::take(&mut state.client.compared);
            if state.is_persister() {
                self.deletions_compared(turn, link, &same)?;
            }
        }
        Ok(())
    }

    /// Uploads what is missing at persisters, as far as their windows go.
    pub(super) fn pump_uploads(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for link in self.links.ids() {
            match self.links.get(link) {
                Some(state) if state.is_usable_persister() => {
                    self.upload(turn, link)?;
                    self.mail(turn, link)?;
                }
                Some(state) if state.is_guest() && state.is_greeted() => self.mail(turn, link)?,
                Some(state) if !state.is_persister() && !state.is_guest() => {
                    self.give_back(turn, link)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn upload(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        loop {
            let Some(state) = self.links.get_mut(link) else {
                return Ok(());
            };
            if !state.client.has_room() {
                return Ok(());
            }
            if let Some(request) = state.client.to_release.pop_front() {
                let objects = self.released(turn, request)?;
                self.send_parcel(turn, link, Parcel::Release, objects);
                continue;
            }
            // What other devices left there is asked for before something of this one takes its place.
            if !state.client.met && has_others(turn)? {
                return Ok(());
            }
            let Some(state) = self.links.get_mut(link) else {
                return Ok(());
            };
            if let Some(address) = state.client.missing.pop_first() {
                self.upload_one(turn, link, address, None)?;
                continue;
            }
            let position = state.client.position;
            if position >= self.feed.last() {
                return Ok(());
            }
            let changes = self.feed.after(turn, position, limits::FEED_BATCH)?;
            if changes.is_empty() {
                state.client.position = self.feed.last();
                return Ok(());
            }
            for (seq, address, _) in changes {
                let Some(state) = self.links.get_mut(link) else {
                    return Ok(());
                };
                if !state.client.has_room() {
                    return Ok(());
                }
                state.client.position = seq;
                let came = state.client.sent.remove(&seq) == Some(address);
                while state.client.sent.first_key_value().is_some_and(|(first, _)| *first < seq) {
                    state.client.sent.pop_first();
                }
                if came {
                    // To hear of it from now on, and to compare it.
                    self.list(turn, link, [address], Some(NOWHERE));
                    continue;
                }
                if self.is_ours(turn, &address)? {
                    self.upload_one(turn, link, address, Some(seq))?;
                }
            }
        }
    }

    fn upload_one(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        address: Ghid,
        seq: Option<u64>,
    ) -> Result<(), ViewError> {
        let objects = self.holdings().bundle(turn, &address, Detail::Everything)?;
        if objects.is_empty() {
            return Ok(());
        }
        // No cursor to go back to: we have the newest state, or hear of a newer one.
        self.list(turn, link, [address], Some(NOWHERE));
        let debindings = own_debindings(&self.me, &objects);
        self.send_parcel(turn, link, Parcel::State { address, seq, debindings }, objects);
        Ok(())
    }

    fn send_parcel(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        parcel: Parcel,
        objects: Vec<Packed>,
    ) {
        let size: usize = objects.iter().map(|object| object.len()).sum();
        let Some(id) = self.links.number(link) else {
            return;
        };
        if let Some(state) = self.links.get_mut(link) {
            state.client.under_way.insert(id, (parcel, size));
            state.client.under_way_bytes += size;
        }
        self.links.send(turn, link, Message::Publish { id, objects });
        self.links.watch(turn, link);
    }

    /// Whether this account made, holds, deleted or let go of an address: then it sees to it that
    /// persisters know.
    fn is_ours(&self, turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
        if shelf::head(turn, address)?.is_some_and(|head| head.binder == self.me) {
            return Ok(true);
        }
        let suite = self.account.identity().identity().suite();
        let binding = StaticBinding::address_of(suite, &self.me, address);
        for ours in [
            binding,
            Debinding::address_of(suite, &self.me, address),
            Debinding::address_of(suite, &self.me, &binding),
        ] {
            if shelf::bytes(turn, &ours)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A persister answered for a parcel; false if this was none.
    pub(super) fn parcel_arrived(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        id: u32,
        results: &[u32],
    ) -> Result<bool, ViewError> {
        let Some(state) = self.links.get_mut(link) else {
            return Ok(false);
        };
        let Some((parcel, size)) = state.client.under_way.remove(&id) else {
            return Ok(false);
        };
        state.client.under_way_bytes -= size;
        let device = state.device.clone();
        // Of others' objects their authors hear; it is their quota.
        let ours = match &parcel {
            Parcel::State { address, .. } => self.is_ours(turn, address)?,
            _ => false,
        };
        let Some(state) = self.links.get_mut(link) else {
            return Ok(false);
        };
        let client = &mut state.client;
        match parcel {
            Parcel::State { address, seq, debindings } => match worst(results) {
                verdict::STORED => {
                    client.refused.remove(&address);
                    client.confirmed += 1;
                    match seq {
                        Some(seq) => Self::confirmed(turn, seq)?,
                        None => client.conduct.acknowledged(&address),
                    }
                    if !debindings.is_empty() {
                        client.room_was_made();
                    }
                    Self::deletion_answered(turn, &device, &address, &debindings, results)?;
                }
                // Only this one: it stays until something of the owner's is known there, or goes.
                verdict::FULL => {
                    client.refuse(address, verdict::FULL);
                    Self::deletion_missing(turn, &device, &address)?;
                }
                result if verdict::is_temporary(result) => {
                    Self::deletion_missing(turn, &device, &address)?;
                    client.refuse(address, result);
                    client.missing.insert(address);
                    self.pause_uploads(turn, link);
                }
                result if is_somebodys_fault(result) => {
                    if ours {
                        client.refuse(address, result);
                    }
                    Self::deletion_missing(turn, &device, &address)?;
                }
                // It knows better: a newer state, or a deletion that comes to us as an event.
                _ => Self::deletion_answered(turn, &device, &address, &debindings, results)?,
            },
            Parcel::Mail { recipient, number } => {
                // Our identity, the recipient's, the request.
                match results.get(2).copied().unwrap_or(verdict::MALFORMED) {
                    verdict::STORED | verdict::DEBOUND => {
                        client.mailed.insert((recipient, number));
                        client.confirmed += 1;
                        let handled = results.get(2) == Some(&verdict::DEBOUND);
                        self.mailed(turn, recipient, number, handled)?;
                        if handled {
                            self.ask_for_proof(turn, link, (recipient, number))?;
                        }
                    }
                    result if verdict::is_temporary(result) => {
                        client.to_mail.insert((recipient, number));
                        if !std::mem::replace(&mut client.mail_is_paused, true) {
                            let at = turn.now() + limits::UPLOADS_PAUSE;
                            turn.effect(Effect::SetTimer { timer: Timer::Mail(link), at });
                        }
                    }
                    result => {
                        client.unmailable.insert((recipient, number), result);
                        turn.log("a server does not take a request", verdict::describe(result));
                    }
                }
            }
            Parcel::Release | Parcel::Returned => {}
        }
        self.write_position(turn, link, limits::UPLOADS_UNWRITTEN);
        Ok(true)
    }

    /// Remembers how far the persister has our feed, if that is `due` numbers further than it is
    /// written, and soon otherwise: what it gets twice costs little.
    pub(crate) fn write_position(&mut self, turn: &mut Turn<'_>, link: LinkId, due: u64) {
        let Some(state) = self.links.get_mut(link) else {
            return;
        };
        let Role::Persister { epoch } = state.role else {
            return;
        };
        let first = state.client.under_way.values().filter_map(|(parcel, _)| match parcel {
            Parcel::State { seq, .. } => *seq,
            Parcel::Mail { .. } | Parcel::Release | Parcel::Returned => None,
        });
        let reached = first.min().map_or(state.client.position, |seq| seq - 1);
        let unwritten = reached.saturating_sub(state.client.written);
        if unwritten >= due {
            state.client.written = reached;
            let row = [epoch.to_be_bytes(), reached.to_be_bytes()].concat();
            turn.put(Table::Cursors, key(&[UPLOADED, &state.device]), row);
        } else if unwritten > 0 {
            let at = turn.now() + limits::UPLOADS_UNWRITTEN_FOR;
            turn.effect(Effect::SetTimer { timer: Timer::Uploaded(link), at });
        }
    }

    fn pause_uploads(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        if let Some(state) = self.links.get_mut(link)
            && !std::mem::replace(&mut state.client.is_paused, true)
        {
            let at = turn.now() + limits::UPLOADS_PAUSE;
            turn.effect(Effect::SetTimer { timer: Timer::Uploads(link), at });
        }
    }

    /// The pause is over.
    pub(crate) fn resume_uploads(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link) {
            state.client.is_paused = false;
        }
    }

    /// The same of requests.
    pub(crate) fn resume_mail(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link) {
            state.client.mail_is_paused = false;
        }
    }

    /// An object that was shared through a mailbox is gone before it was ever seen here: a persister
    /// has nothing of it but its owner's debinding.
    pub(super) fn gone_before_seen(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        address: &Ghid,
        objects: &[Packed],
    ) -> Result<(), ViewError> {
        let stores = |state: &&Link| state.is_persister() || state.is_guest();
        let Some(state) = self.links.get(link).filter(stores) else {
            return Ok(());
        };
        let address = state.client.bindings.get(address).unwrap_or(address);
        let address = &address.clone();
        if !self.follows.contains(address)
            || shelf::head(turn, address)?.is_some()
            || shelf::is_object(turn, address)?
        {
            return Ok(());
        }
        let sources = self.follows.sources(address);
        if objects.is_empty() {
            return self.watch_bindings(turn, link, address, &sources);
        }
        for bytes in objects {
            let Ok(object) = Unverified::parse(bytes) else { continue };
            let Some(debinder) = object.author().filter(|author| sources.contains(author)) else {
                continue;
            };
            let identity = match find(&debinder, objects) {
                Some(identity) => Some(identity),
                None => shelf::identity(turn, &debinder)?,
            };
            let Some(identity) = identity else { continue };
            let Ok(verified) = object.verify(Some(&identity)) else { continue };
            let Object::Debinding(debinding) = verified.object() else { continue };
            let binding = StaticBinding::address_of(identity.suite(), &debinder, address);
            if [*address, binding].contains(&debinding.target()) {
                for source in &sources {
                    self.withdraw_unreadable(turn, address, source)?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Nothing is known of an address there. If it is a static object that was deleted before the
    /// persister had it, the debinding is known by the address of the binding.
    fn watch_bindings(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        address: &Ghid,
        sources: &BTreeSet<Ghid>,
    ) -> Result<(), ViewError> {
        for source in sources {
            let Some(identity) = shelf::identity(turn, source)? else { continue };
            let binding = StaticBinding::address_of(identity.suite(), source, address);
            if let Some(state) = self.links.get_mut(link) {
                state.client.bindings.insert(binding, *address);
            }
            self.list(turn, link, [binding], None);
        }
        Ok(())
    }

    // Registration.

    /// Asks every linked persister to register us.
    pub(crate) fn register(&mut self, turn: &mut Turn<'_>, control: u64, token: Option<&str>) {
        let links = self.links.persisters();
        if links.is_empty() {
            let answer = Err("no server is connected; 'hypergolix status' shows the remotes and \
                              why they are not reached, 'hypergolix config --addhost' adds one"
                .to_owned());
            turn.effect(Effect::Controlled { id: control, answer });
            return;
        }
        let mut answers = BTreeMap::new();
        for link in links {
            let Some(id) = self.links.number(link) else { continue };
            let device = self.links.get(link).map(|state| state.device.clone());
            answers.insert(link, (device.unwrap_or_default(), None));
            let token = token.map(str::to_owned);
            self.links.send(turn, link, Message::Register { id, token });
        }
        if let Some(before) = self.registering.replace(Registering { control, answers }) {
            turn.effect(Effect::Controlled { id: before.control, answer: Ok(before.json()) });
        }
    }

    /// A persister answered, or is gone; or its operator gave this account more room, unasked.
    pub(super) fn registered(&mut self, turn: &mut Turn<'_>, link: LinkId, result: u32) {
        if let Some(registering) = &mut self.registering
            && let Some((_, answer)) = registering.answers.get_mut(&link)
        {
            answer.get_or_insert(result);
            if registering.answers.values().all(|(_, answer)| answer.is_some())
                && let Some(done) = self.registering.take()
            {
                let answer = Ok(done.json());
                turn.effect(Effect::Controlled { id: done.control, answer });
            }
        }
        if result == verdict::STORED
            && let Some(state) = self.links.get_mut(link)
        {
            // What was too much may fit now.
            let refused = std::mem::take(&mut state.client.refused);
            state.client.missing.extend(refused.into_keys());
            let unmailable = std::mem::take(&mut state.client.unmailable);
            state.client.to_mail.extend(unmailable.into_keys());
        }
    }

    /// A persister says why it is about to end the link.
    pub(super) fn refused_by(&mut self, turn: &mut Turn<'_>, link: LinkId, result: u32) {
        turn.log("a server refuses this account", verdict::describe(result));
        if let Some(state) = self.links.get_mut(link) {
            self.farewells.insert(state.device.clone(), result);
            state.client.farewell = Some(result);
        }
    }

    /// Persisters, for people: JSON objects.
    pub(crate) fn persisters_json(&self, turn: &Turn<'_>) -> Result<String, ViewError> {
        let mut lines = Vec::new();
        for link in self.links.persisters() {
            let Some(state) = self.links.get(link) else { continue };
            let client = &state.client;
            let mut pending = client.missing.len() + client.under_way.len();
            let left = self.feed.after(turn, client.position, limits::FEED_BATCH)?;
            for (_, address, _) in left {
                pending += usize::from(self.is_ours(turn, &address)?);
            }
            let refused = client.refused.values().chain(client.unmailable.values());
            let refusal = refused.copied().max();
            let refusal = client.farewell.or(refusal).map(verdict::describe);
            let deletions = Self::confirmations(turn, &state.device)?.json();
            lines.push(format!(
                "{{\"device\":\"{}\",{deletions},\"pending\":{pending},\"confirmed\":{},\
                 \"refused\":{},\"refusal\":{},\"mailed\":{},\"mail_refused\":{},{}}}",
                hex(&state.device),
                client.confirmed,
                client.refused.len(),
                refusal.map_or_else(|| "null".to_owned(), |text| format!("\"{text}\"")),
                client.mailed.len(),
                client.unmailable.len(),
                client.conduct.json(),
            ));
        }
        // Those that are not here now.
        let here: BTreeSet<&Vec<u8>> = self
            .links
            .persisters()
            .into_iter()
            .filter_map(|link| self.links.get(link).map(|state| &state.device))
            .collect();
        let mut away = Self::confirmers(turn)?;
        let farewells = self.farewells.keys().filter(|device| !away.contains(device));
        away.extend(farewells.cloned().collect::<Vec<_>>());
        for device in away.iter().filter(|device| !here.contains(device)) {
            let deletions = Self::confirmations(turn, device)?.json();
            let refusal = self.farewells.get(device).map(|result| verdict::describe(*result));
            let refusal =
                refusal.map_or_else(String::new, |text| format!(",\"refusal\":\"{text}\""));
            lines.push(format!("{{\"device\":\"{}\",{deletions}{refusal}}}", hex(device)));
        }
        Ok(format!("[{}]", lines.join(",")))
    }
}

impl Registering {
    fn json(&self) -> String {
        let answers: Vec<String> = self
            .answers
            .values()
            .map(|(device, answer)| {
                let text = match answer {
                    Some(verdict::STORED) => "registered",
                    Some(result) => verdict::describe(*result),
                    None => "it did not answer",
                };
                let done = *answer == Some(verdict::STORED);
                format!(
                    "{{\"device\":\"{}\",\"registered\":{done},\"answer\":\"{text}\"}}",
                    hex(device)
                )
            })
            .collect();
        format!("[{}]", answers.join(","))
    }
}

/// The first result that is not "stored", those that somebody has to do something about first.
fn worst(results: &[u32]) -> u32 {
    let find = |test: fn(u32) -> bool| results.iter().copied().find(|result| test(*result));
    find(is_somebodys_fault)
        .or_else(|| find(verdict::is_temporary))
        .or_else(|| find(|result| result != verdict::STORED))
        .unwrap_or(verdict::STORED)
}

fn is_somebodys_fault(result: u32) -> bool {
    matches!(result, verdict::QUOTA | verdict::NOT_REGISTERED | verdict::BANNED)
}

fn find(identity: &Ghid, objects: &[Packed]) -> Option<Identity> {
    objects.iter().find_map(|bytes| {
        let verified = Unverified::parse(bytes).ok()?.verify(None).ok()?;
        match verified.object() {
            Object::Identity(found) if found.ghid() == *identity => Some(found.clone()),
            _ => None,
        }
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
