//! The state of each link, and what is under way on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use golix::Ghid;
use hypergolix_ipc::{ConnectionId, RequestToken};
use negentropy::{Negentropy, NegentropyStorageVector};

use crate::announcement::Name;
use crate::effect::Effect;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Cursor, Message, Role};
use crate::pace::Pace;
use crate::route::Route;
use crate::sync::Scrub;
use crate::sync::remotes::Client;
use crate::timer::Timer;
use crate::turn::{Turn, after_prefix, key};
use crate::view::{Table, Time, ViewError};

/// Bytes of a device's name that say what kind of key it is: the same for all of a kind.
const DEVICE_KIND: usize = 6;

/// One link. Everything here ends with it.
pub(crate) struct Link {
    pub(crate) device: Vec<u8>,
    /// When it came up.
    pub(crate) since: Time,
    pub(super) our_nonce: [u8; 32],
    pub(super) their_nonce: Option<[u8; 32]>,
    /// What the other side is; as it says, so it counts only for `remote`s and mirrors.
    pub(crate) role: Role,
    /// Whether it is a remote of the configuration.
    pub(crate) remote: bool,
    /// Identities that use this persister, which we do not: for their sake we are there.
    pub(crate) guest: BTreeSet<Ghid>,
    /// Identities that the other side proved.
    pub(crate) proven: BTreeSet<Ghid>,
    /// Identities whose tags we sent.
    pub(super) interests: BTreeSet<Ghid>,
    /// Whether we proved ours to the other side.
    pub(super) proved: bool,
    /// Where the other side says that it is to be found.
    pub(super) route: Option<Route>,
    /// It is being ended: nothing is read from it or sent over it any more.
    closing: bool,
    /// It ends with the next deadline: the other side is reading why.
    leaving: bool,

    /// What the other side follows here.
    pub(super) subscribed: BTreeSet<Ghid>,
    /// It follows everything: a mirror.
    pub(crate) mirrors: bool,
    /// It follows whatever the identities change that it proved.
    pub(super) follows_own: bool,
    /// It asked for that before it proved one, from this place on.
    pub(crate) asks_for_own: Option<Cursor>,
    /// It asked for everything before it proved who it is.
    pub(super) asks_to_mirror: Option<Cursor>,
    /// It began a comparison meanwhile, whose answer waits for its proof too.
    pub(super) asks_to_compare: Option<Vec<u8>>,
    /// What the other side published itself, until the feed is past it.
    pub(super) own: BTreeMap<Ghid, u64>,
    /// Requests to hand over: recipient, request.
    pub(crate) mail: VecDeque<(Ghid, Ghid)>,
    /// When all that waits was handed over last.
    pub(crate) handed_over: Time,
    /// How much of what costs us something came.
    pub(crate) paces: Paces,
    /// What we do there, if it is a persister.
    pub(crate) client: Client,
    /// The last change of our feed that was considered for the other side.
    pub(super) position: u64,
    /// The last change that the other side knows to be considered.
    pub(super) told: u64,
    /// How often it was moved back.
    pub(super) rewinds: usize,
    /// Of the subscribed addresses those that nothing was known of, where there is a maximum of these.
    pub(super) unknown: BTreeSet<Ghid>,
    /// Addresses to send outside of the feed's order; each is subscribed.
    pub(super) needed: BTreeSet<Ghid>,
    /// Events under way: sequence number and size.
    events: VecDeque<(u64, usize)>,
    events_bytes: usize,

    next_id: u32,
    /// Debts under way, and their sizes.
    publishes: BTreeMap<u32, ((Ghid, u64), usize)>,
    gets: BTreeMap<u32, u64>,
    ping: Option<u32>,
    /// The other side had no room for a debt; nothing owed is sent until a timer says so.
    paused: bool,
    pub(super) comparing: Option<Box<Negentropy<'static, NegentropyStorageVector>>>,
    /// Something more to compare came up meanwhile.
    pub(super) compare_again: bool,
    /// Whether its timer for comparisons runs.
    pub(super) compares: bool,

    pub(super) invalid: u32,
    pub(super) last_heard: Time,
    /// Since when the other side owes us something.
    owed_since: Option<Time>,
}

/// What was spent of the rates of a link.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    pub(crate) comparisons: Pace,
    pub(crate) needs: Pace,
    pub(crate) identities: Pace,
    pub(crate) requests: Pace,
    pub(crate) registrations: Pace,
    pub(crate) routes: Pace,
}

impl Link {
    /// Whether the other side stores for everybody, and this device may use it.
    pub(crate) fn is_persister(&self) -> bool {
        self.remote && matches!(self.role, Role::Persister { .. })
    }

    /// The same, once it has said hello.
    pub(super) fn is_usable_persister(&self) -> bool {
        self.is_persister() && self.is_greeted()
    }

    /// Whether we are a guest there: we fetch what some identities serve, and leave mail for them.
    pub(crate) fn is_guest(&self) -> bool {
        !self.remote && !self.guest.is_empty() && matches!(self.role, Role::Persister { .. })
    }

    /// Whether the other side looked for us, and is a node.
    pub(super) fn is_proved_to(&self) -> bool {
        self.proved && self.role == Role::Node
    }

    /// Whether both sides said hello.
    pub(super) fn is_greeted(&self) -> bool {
        !self.closing && self.their_nonce.is_some()
    }

    fn is_owed(&self) -> bool {
        self.their_nonce.is_none()
            || !self.events.is_empty()
            || !self.publishes.is_empty()
            || !self.gets.is_empty()
            || self.ping.is_some()
            || self.comparing.is_some()
            || self.client.is_owed()
    }

    pub(super) fn has_room_for_events(&self) -> bool {
        self.events_bytes < limits::EVENTS_IN_FLIGHT_BYTES
            && self.events.len() < limits::EVENTS_IN_FLIGHT
    }
}

/// An application's request that waits for other devices.
pub(super) struct Asked {
    pub(super) connection: ConnectionId,
    pub(super) token: RequestToken,
    pub(super) address: Ghid,
    pub(super) sync: bool,
    left: usize,
    /// When it is answered with what is here.
    until: Time,
}

/// All links, and what is to be told to all of them.
pub(crate) struct Links {
    open: BTreeMap<LinkId, Link>,
    /// Addresses unknown here that one link may subscribe to.
    pub(super) unknown_max: usize,
    /// How long the other side of a link that is no remote's may be silent.
    silence_max: Duration,
    waiting: BTreeMap<u64, Asked>,
    next_waiting: u64,
    /// What is known of rows that are missing here.
    pub(crate) scrub: Scrub,
    /// What was looked at for comparisons of those whom nobody knows here.
    pub(super) strangers: Pace,
    /// Identities that became interesting in this turn.
    new_interests: BTreeSet<Ghid>,
    /// Addresses followed since this turn began, by source.
    new_follows: BTreeMap<Ghid, BTreeSet<Ghid>>,
}

impl Default for Links {
    fn default() -> Self {
        Self::new(limits::SUBSCRIPTIONS_UNKNOWN, limits::LINK_SILENCE_MAX)
    }
}

impl Links {
    pub(crate) fn new(unknown_max: usize, silence_max: Duration) -> Self {
        Self {
            open: BTreeMap::new(),
            unknown_max,
            silence_max,
            waiting: BTreeMap::new(),
            next_waiting: 0,
            scrub: Scrub::default(),
            strangers: Pace::default(),
            new_interests: BTreeSet::new(),
            new_follows: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Requests of applications that wait for other devices.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.open.get_mut(&link)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.open.get(&link)
    }

    /// Whether a link proved an identity.
    pub(crate) fn proved_by_somebody(&self, identity: &Ghid) -> bool {
        self.open.values().any(|state| state.proven.contains(identity))
    }

    /// The links that are not being ended.
    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.open.iter().filter(|(_, state)| !state.closing).map(|(link, _)| *link).collect()
    }

    /// The links with something to send: the feed went on since, or it was asked for.
    pub(crate) fn behind(&self, last: u64) -> Vec<LinkId> {
        let is_behind = |state: &Link| {
            !state.closing
                && (state.position < last || !state.mail.is_empty() || !state.needed.is_empty())
        };
        self.open.iter().filter(|(_, state)| is_behind(state)).map(|(link, _)| *link).collect()
    }

    /// Whether a message of this link is still read.
    pub(crate) fn is_read(&self, link: LinkId) -> bool {
        self.open.get(&link).is_some_and(|state| !state.closing)
    }

    pub(crate) fn add(
        &mut self,
        link: LinkId,
        device: Vec<u8>,
        remote: bool,
        nonce: [u8; 32],
        now: Time,
        position: u64,
    ) {
        self.open.insert(
            link,
            Link {
                device,
                since: now,
                our_nonce: nonce,
                their_nonce: None,
                role: Role::Node,
                remote,
                guest: BTreeSet::new(),
                proven: BTreeSet::new(),
                interests: BTreeSet::new(),
                proved: false,
                route: None,
                closing: false,
                leaving: false,
                subscribed: BTreeSet::new(),
                mirrors: false,
                follows_own: false,
                asks_for_own: None,
                asks_to_mirror: None,
                asks_to_compare: None,
                own: BTreeMap::new(),
                mail: VecDeque::new(),
                handed_over: now,
                paces: Paces::default(),
                client: Client::default(),
                unknown: BTreeSet::new(),
                position,
                told: position,
                rewinds: 0,
                needed: BTreeSet::new(),
                events: VecDeque::new(),
                events_bytes: 0,
                next_id: 0,
                publishes: BTreeMap::new(),
                gets: BTreeMap::new(),
                ping: None,
                paused: false,
                comparing: None,
                compare_again: false,
                compares: false,
                invalid: 0,
                last_heard: now,
                owed_since: None,
            },
        );
    }

    /// Forgets a link; returns the waiting requests that it owed an answer.
    pub(crate) fn remove(&mut self, link: LinkId) -> Vec<u64> {
        self.open.remove(&link).map(|state| state.gets.into_values().collect()).unwrap_or_default()
    }

    pub(crate) fn send(&mut self, turn: &mut Turn<'_>, link: LinkId, message: Message) {
        if self.is_read(link) {
            turn.effect(Effect::Send { link, message });
        }
    }

    /// Ends a link: from now on it is neither read nor written. `LinkDown` follows from the network
    /// and cleans up.
    pub(crate) fn close(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        reason: &'static str,
        misbehaved: bool,
    ) {
        if let Some(state) = self.open.get_mut(&link)
            && !std::mem::replace(&mut state.closing, true)
        {
            turn.effect(Effect::CloseLink { link, reason, misbehaved });
        }
    }

    /// What we do at a persister; none if the other side is no persister that we may use.
    pub(super) fn persister_mut(&mut self, link: LinkId) -> Option<&mut Client> {
        self.open.get_mut(&link).filter(|state| state.is_persister()).map(|it| &mut it.client)
    }

    /// Links to persisters that we may use and that have said hello.
    pub(crate) fn persisters(&self) -> Vec<LinkId> {
        let usable = self.open.iter().filter(|(_, state)| state.is_usable_persister());
        usable.map(|(link, _)| *link).collect()
    }

    /// The next number of a question on a link.
    pub(super) fn number(&mut self, link: LinkId) -> Option<u32> {
        self.open.get_mut(&link).map(next_id)
    }

    /// Takes note of a message; whether it is to be read.
    pub(crate) fn hears(&mut self, turn: &mut Turn<'_>, link: LinkId, message: &Message) -> bool {
        let now = turn.now();
        let Some(state) = self.open.get_mut(&link) else {
            return false;
        };
        state.last_heard = now;
        let greeted = state.their_nonce.is_some() || matches!(message, Message::Hello { .. });
        if state.closing {
            return false;
        }
        if !greeted {
            self.close(turn, link, "a message before hello", true);
        }
        greeted
    }

    /// The other side sent an object that does not verify.
    pub(crate) fn invalid_object(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let Some(state) = self.open.get_mut(&link) else {
            return;
        };
        state.invalid += 1;
        if state.invalid >= limits::INVALID_OBJECTS_MAX {
            self.close(turn, link, "objects that do not verify", true);
        }
    }

    /// Says why, and ends a link a moment later.
    pub(crate) fn refuse(&mut self, turn: &mut Turn<'_>, link: LinkId, result: u32) {
        self.send(turn, link, Message::Refused { result });
        let now = turn.now();
        if let Some(state) = self.open.get_mut(&link) {
            state.leaving = true;
            set_deadline(turn, link, now + limits::FAREWELL);
        }
    }

    /// Whether a link is about to end because it was refused.
    pub(crate) fn is_leaving(&self, link: LinkId) -> bool {
        self.open.get(&link).is_some_and(|state| state.leaving)
    }

    /// The other side published an address that has this number now: it needs no event for it.
    pub(crate) fn published_by(&mut self, link: LinkId, address: Ghid, seq: u64) {
        if let Some(state) = self.open.get_mut(&link)
            && (state.mirrors || state.follows_own || state.subscribed.contains(&address))
        {
            state.own.insert(address, seq);
        }
    }

    /// Puts a request into the mail of every link that proved its recipient.
    pub(crate) fn deliver(&mut self, recipient: Ghid, request: Ghid) {
        for state in self.open.values_mut() {
            if state.proven.contains(&recipient) {
                state.mail.push_back((recipient, request));
            }
        }
    }

    /// Links whose other side proved one of `identities`.
    pub(super) fn proven_any(&self, identities: &BTreeSet<Ghid>) -> Vec<LinkId> {
        self.open
            .iter()
            .filter(|(_, state)| !state.closing && !state.proven.is_disjoint(identities))
            .map(|(link, _)| *link)
            .collect()
    }

    /// Whether the other side of any link proved an identity.
    pub(super) fn leads_to(&self, identity: &Ghid) -> bool {
        self.open.values().any(|state| !state.closing && state.proven.contains(identity))
    }

    /// The link to a device, once it has said hello.
    pub(super) fn to_device(&self, device: &[u8]) -> Option<LinkId> {
        let there =
            |state: &Link| !state.closing && state.their_nonce.is_some() && state.device == device;
        self.open.iter().find(|(_, state)| there(state)).map(|(link, _)| *link)
    }

    /// Whether a persister was asked to look for an identity: it listens for us.
    pub(super) fn is_sought(&self, identity: &Ghid) -> bool {
        let asked = |link: &LinkId| {
            self.open.get(link).is_some_and(|state| state.interests.contains(identity))
        };
        self.persisters().iter().any(asked)
    }

    /// An address of this name that the other side of some link follows.
    pub(crate) fn subscribed_like(&self, name: Name) -> Option<Ghid> {
        let (first, alike) = (name.first(), |address: &&Ghid| Name::of(address) == name);
        let open = self.open.values().filter(|state| !state.closing);
        let mut found =
            open.filter_map(|state| state.subscribed.range(first..).next().filter(alike));
        found.next().copied()
    }

    // What is new for all links of a turn.

    pub(crate) fn interesting(&mut self, identity: Ghid) {
        self.new_interests.insert(identity);
    }

    pub(super) fn follow_at(&mut self, source: Ghid, address: Ghid) {
        self.new_follows.entry(source).or_default().insert(address);
    }

    pub(super) fn take_new_interests(&mut self) -> BTreeSet<Ghid> {
        std::mem::take(&mut self.new_interests)
    }

    pub(super) fn take_new_follows(&mut self) -> BTreeMap<Ghid, BTreeSet<Ghid>> {
        std::mem::take(&mut self.new_follows)
    }

    pub(super) fn unfollow_at(&mut self, turn: &mut Turn<'_>, source: &Ghid, address: Ghid) {
        for link in self.proven_any(&BTreeSet::from([*source])) {
            let addresses = vec![Address(address)];
            self.send(turn, link, Message::Unsubscribe { addresses });
        }
    }

    // Publishing what is owed.

    /// Whether a debt is under way on a link; `None` if its window is full or the link is gone.
    pub(crate) fn publishes(&self, link: LinkId, debt: (Ghid, u64)) -> Option<bool> {
        let state = self.open.get(&link)?;
        if state.paused {
            return None;
        }
        if state.publishes.values().any(|(under_way, _)| *under_way == debt) {
            return Some(true);
        }
        let bytes: usize = state.publishes.values().map(|(_, size)| size).sum();
        (state.publishes.len() < limits::PUBLISHES_IN_FLIGHT
            && bytes < limits::PUBLISHES_IN_FLIGHT_BYTES)
            .then_some(false)
    }

    pub(crate) fn begin_publish(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        debt: (Ghid, u64),
        size: usize,
    ) -> Option<u32> {
        let state = self.open.get_mut(&link)?;
        let id = next_id(state);
        state.publishes.insert(id, (debt, size));
        self.watch(turn, link);
        Some(id)
    }

    pub(super) fn end_publish(&mut self, link: LinkId, id: u32) -> Option<(Ghid, u64)> {
        self.open.get_mut(&link)?.publishes.remove(&id).map(|(debt, _)| debt)
    }

    /// The other side has no room: what is owed is offered again later.
    pub(crate) fn pause(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        if let Some(state) = self.open.get_mut(&link)
            && !std::mem::replace(&mut state.paused, true)
        {
            let at = turn.now() + limits::OWED_PAUSE;
            turn.effect(Effect::SetTimer { timer: Timer::Owed(link), at });
        }
    }

    /// Ends a pause; the identities to whom something may be owed over this link.
    pub(crate) fn resume(&mut self, link: LinkId) -> BTreeSet<Ghid> {
        let Some(state) = self.open.get_mut(&link) else {
            return BTreeSet::new();
        };
        state.paused = false;
        state.proven.clone()
    }

    /// The device of a link, and whether it proved an identity that we look for.
    pub(crate) fn device(&self, link: LinkId) -> Option<(Vec<u8>, bool)> {
        self.open.get(&link).map(|state| (state.device.clone(), !state.proven.is_empty()))
    }

    // Requests of applications that wait.

    pub(super) fn begin_waiting(
        &mut self,
        connection: ConnectionId,
        token: RequestToken,
        address: Ghid,
        sync: bool,
        left: usize,
        until: Time,
    ) -> u64 {
        let number = self.next_waiting;
        self.next_waiting += 1;
        self.waiting.insert(number, Asked { connection, token, address, sync, left, until });
        number
    }

    /// Those of `links` that may be asked for something more.
    pub(super) fn with_room_for_gets(&self, links: Vec<LinkId>) -> Vec<LinkId> {
        let has_room =
            |link| self.get(link).is_some_and(|state| state.gets.len() < limits::GETS_IN_FLIGHT);
        links.into_iter().filter(|link| has_room(*link)).collect()
    }

    pub(super) fn begin_get(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        number: u64,
    ) -> Option<u32> {
        let state = self.open.get_mut(&link)?;
        let id = next_id(state);
        state.gets.insert(id, number);
        self.watch(turn, link);
        Some(id)
    }

    pub(super) fn end_get(&mut self, link: LinkId, id: u32) -> Option<u64> {
        self.open.get_mut(&link)?.gets.remove(&id)
    }

    /// One of the devices asked has answered (or is gone); the request, if it was the last.
    pub(super) fn one_answered(&mut self, number: u64) -> Option<Asked> {
        let asked = self.waiting.get_mut(&number)?;
        asked.left = asked.left.saturating_sub(1);
        if asked.left == 0 { self.waiting.remove(&number) } else { None }
    }

    /// What a request that waits asks for.
    pub(super) fn asked_for(&self, number: u64) -> Option<Ghid> {
        self.waiting.get(&number).map(|asked| asked.address)
    }

    /// The requests whose time has come, oldest first, and when the next one is due.
    pub(super) fn due(&mut self, now: Time) -> (Vec<Asked>, Option<Time>) {
        let mut due = Vec::new();
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.get().until <= now
        {
            due.push(oldest.remove());
        }
        (due, self.next_due())
    }

    /// When the first request that waits has waited long enough.
    pub(super) fn next_due(&self) -> Option<Time> {
        // All wait equally long, so the oldest is the first.
        self.waiting.values().next().map(|asked| asked.until)
    }

    pub(crate) fn stop_waiting(&mut self, connection: ConnectionId) {
        self.waiting.retain(|_, asked| asked.connection != connection);
    }

    // Events.

    pub(super) fn event_sent(&mut self, link: LinkId, seq: u64, size: usize) {
        if let Some(state) = self.open.get_mut(&link) {
            state.events.push_back((seq, size));
            state.events_bytes += size;
            state.told = state.told.max(seq);
        }
    }

    /// Events are acknowledged in the order in which they were sent. Those before one that is
    /// acknowledged are lost, or were refused without a word: a comparison finds them.
    pub(crate) fn event_acknowledged(&mut self, link: LinkId, seq: u64) {
        if let Some(state) = self.open.get_mut(&link)
            && let Some(last) = state.events.iter().position(|(sent, _)| *sent == seq)
        {
            let done: usize = state.events.drain(..=last).map(|(_, size)| size).sum();
            state.events_bytes -= done;
        }
    }

    /// Where we stand in the other device's feed: a row, written with what the event brought. Only
    /// for devices where we follow something: others have no cursor to tell us.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn remember_cursor(
        &self,
        turn: &mut Turn<'_>,
        link: LinkId,
        cursor: Cursor,
    ) -> Result<(), ViewError> {
        let Some(state) = self.open.get(&link) else {
            return Ok(());
        };
        if state.proven.is_empty() && !state.remote && !state.is_guest() {
            return Ok(());
        }
        self.write_cursor(turn, link, cursor)
    }

    /// The same for a device that the caller knows to be followed.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn write_cursor(
        &self,
        turn: &mut Turn<'_>,
        link: LinkId,
        cursor: Cursor,
    ) -> Result<(), ViewError> {
        let Some(state) = self.open.get(&link) else {
            return Ok(());
        };
        let new = turn.get(Table::Cursors, &state.device)?.is_none();
        if new && turn.len(Table::Cursors)? >= limits::CURSORS_MAX {
            self.forget_a_cursor(turn, &state.device)?;
        }
        let row = [cursor.epoch.to_be_bytes(), cursor.seq.to_be_bytes()].concat();
        turn.put(Table::Cursors, state.device.as_slice(), row);
        Ok(())
    }

    /// Of a device that is not linked: the next one after a place that is drawn.
    fn forget_a_cursor(&self, turn: &mut Turn<'_>, device: &[u8]) -> Result<(), ViewError> {
        let linked: BTreeSet<&[u8]> =
            self.open.values().map(|state| state.device.as_slice()).collect();
        // Keys of devices begin alike, with their kind, and are random behind that.
        let kind = device.get(..DEVICE_KIND).unwrap_or(device);
        let drawn = key(&[kind, &turn.random::<8>()]);
        let (first, end) = (kind.to_vec(), after_prefix(kind));
        for (start, end) in [(&drawn, &end), (&first, &drawn)] {
            let rows = turn.range(Table::Cursors, start, end, linked.len() + 1)?;
            let victim = rows.into_iter().find(|(row, _)| !linked.contains(&row[..]));
            if let Some((victim, _)) = victim {
                turn.delete(Table::Cursors, victim);
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn cursor(
        &self,
        turn: &Turn<'_>,
        link: LinkId,
    ) -> Result<Option<Cursor>, ViewError> {
        let Some(state) = self.open.get(&link) else {
            return Ok(None);
        };
        let Some(row) = turn.get(Table::Cursors, &state.device)? else {
            return Ok(None);
        };
        let Ok(row) = <[u8; 16]>::try_from(row) else {
            return Err(ViewError("a cursor is damaged".into()));
        };
        let (epoch, seq) = row.split_at(8);
        Ok(Some(Cursor {
            epoch: u64::from_be_bytes(epoch.try_into().expect("8 bytes")),
            seq: u64::from_be_bytes(seq.try_into().expect("8 bytes")),
        }))
    }

    // Is anybody there?

    pub(super) fn ping(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let Some(state) = self.open.get_mut(&link) else {
            return;
        };
        let id = next_id(state);
        state.ping = Some(id);
        self.send(turn, link, Message::Ping { id });
        self.watch(turn, link);
    }

    pub(crate) fn pong(&mut self, link: LinkId, id: u32) {
        if let Some(state) = self.open.get_mut(&link)
            && state.ping == Some(id)
        {
            state.ping = None;
        }
    }

    /// How long the other side may owe us something in silence.
    fn patience(&self, link: LinkId) -> Duration {
        let Some(state) = self.open.get(&link) else {
            return self.silence_max;
        };
        if !state.remote && !state.is_guest() && self.silence_max != limits::REMOTE_SILENCE_MAX {
            return self.silence_max;
        }
        let bytes = state.events_bytes + state.client.bytes_under_way();
        limits::REMOTE_SILENCE_MAX
            + Duration::from_secs((bytes / limits::REMOTE_BYTES_PER_SECOND) as u64)
    }

    /// Keeps the deadline in step with what the other side owes.
    pub(crate) fn watch(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let now = turn.now();
        let Some(state) = self.open.get_mut(&link) else {
            return;
        };
        if state.leaving {
            return;
        }
        match (state.is_owed(), state.owed_since) {
            (true, None) => {
                state.owed_since = Some(now);
                let patience = self.patience(link);
                set_deadline(turn, link, now + patience);
            }
            (false, Some(_)) => {
                state.owed_since = None;
                set_deadline(turn, link, now + limits::LINK_PING_INTERVAL);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// The deadline came: give the link up, ask whether it lives, or wait on.
    pub(crate) fn deadline(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let now = turn.now();
        let Some(state) = self.open.get(&link) else {
            return;
        };
        if state.leaving {
            // It may come again: whoever is banned today may be admitted tomorrow.
            self.close(turn, link, "refused", false);
            return;
        }
        if let Some(since) = state.owed_since {
            let silent_since = since.max(state.last_heard);
            let patience = self.patience(link);
            if now.since(silent_since) >= patience {
                self.close(turn, link, "no answer", false);
            } else {
                set_deadline(turn, link, silent_since + patience);
            }
        } else if now.since(state.last_heard) >= limits::LINK_PING_INTERVAL {
            self.ping(turn, link);
        } else {
            set_deadline(turn, link, state.last_heard + limits::LINK_PING_INTERVAL);
        }
    }
}

fn next_id(state: &mut Link) -> u32 {
    state.next_id = state.next_id.wrapping_add(1);
    state.next_id
}

fn set_deadline(turn: &mut Turn<'_>, link: LinkId, at: Time) {
    turn.effect(Effect::SetTimer { timer: Timer::LinkDeadline(link), at });
}
