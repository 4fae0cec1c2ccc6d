//! `Persister`: a server's decisions. It stores what the rules of Golix admit, for everybody, and
//! hands it to whoever asks; it has no keys and no applications.
//!
//! The same inputs, effects and tables as an [`Engine`](crate::Engine), and the same links: what
//! others may ask is in `sync`. In reading order: `users` (who may store how much), `admission`
//! (what is taken), `bare` (identities that nothing belongs to), `recent` (those that were verified lately), `mailboxes` (whose requests wait),
//! `mirror` (two persisters that hold the same), `gossip` (what servers tell one another), `operator`
//! (orders and figures).

mod admission;
mod bare;
mod gossip;
mod mailboxes;
mod mirror;
mod operator;
mod recent;
mod users;

use std::collections::BTreeSet;
use std::time::Duration;

use bare::Bare;
use recent::Recent;

use golix::{Ghid, Identity};

use crate::effect::{Effect, Outcome};
use crate::engine::NoEntropy;
use crate::input::{Input, LinkId};
use crate::limits;
use crate::message::{Address, Message, Packed, Role};
use crate::shelf;
use crate::sync::{Detail, Feed, Holdings, Links, Seekers};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::verdict;
use crate::view::{Entropy, Time, View, ViewError};
use gossip::Gossip;

/// Who may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Everybody; whoever registers may store more.
    #[default]
    Open,
    /// Whoever registers.
    Registered,
    /// Whoever registers with a token of the operator.
    Invited,
}

/// How much of one identity is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of its objects.
    pub bytes: u64,
    /// Their number.
    pub objects: u64,
}

impl Quota {
    /// Of those who are not registered: 10 MB, as documented.
    pub const UNREGISTERED: Self = Self { bytes: 10_000_000, objects: 10_000 };

    /// Of those who are (threats.md 2.5).
    pub const REGISTERED: Self = Self { bytes: 1 << 30, objects: 100_000 };
}

/// What a persister is told at its start.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PersisterConfig {
    /// Who may publish.
    pub policy: Policy,
    /// What a registered identity may store, unless the operator says otherwise.
    pub registered: Quota,
    /// What any other may.
    pub unregistered: Quota,
    /// Devices of the persisters that this one mirrors.
    pub mirrors: BTreeSet<Vec<u8>>,
    /// How often it compares what it holds with those.
    pub reconcile_interval: Duration,
}

impl Default for PersisterConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            registered: Quota::REGISTERED,
            unregistered: Quota::UNREGISTERED,
            mirrors: BTreeSet::new(),
            reconcile_interval: limits::RECONCILE_INTERVAL,
        }
    }
}

/// A server's decisions.
///
/// Everything in memory can be built again from the store with [`Persister::open`], except what
/// belongs to links.
pub struct Persister {
    device: Vec<u8>,
    config: PersisterConfig,
    feed: Feed,
    links: Links,
    seekers: Seekers,
    recent: Recent,
    bare: Bare,
    mail: mailboxes::Mail,
    gossip: Gossip,
    /// The disk is full: only deletions are taken.
    low_on_space: bool,
    entropy: Box<dyn Entropy>,
}

impl Persister {
    /// Starts on what the store holds. `device` is this server's own network key.
    ///
    /// # Errors
    /// The store failed or holds damaged rows.
    pub fn open(
        config: PersisterConfig,
        device: Vec<u8>,
        mut entropy: Box<dyn Entropy>,
        now: Time,
        view: &dyn View,
    ) -> Result<(Self, Outcome), ViewError> {
        let mut turn = Turn::new(view, &mut *entropy, now);
        let feed = Feed::open_anew(&mut turn)?;
        let gossip = Gossip::open(&mut turn);
        let mut links = Links::new(limits::SUBSCRIPTIONS_PER_LINK, limits::REMOTE_SILENCE_MAX);
        links.scrub.go_on(&mut turn);
        let bare = Bare::open(&turn)?;
        let outcome = turn.finish();
        let seekers = Seekers::default();
        let persister = Self {
            device,
            config,
            feed,
            links,
            seekers,
            gossip,
            recent: Recent::default(),
            bare,
            mail: mailboxes::Mail::default(),
            low_on_space: false,
            entropy,
        };
        Ok((persister, outcome))
    }

    /// Says whether the disk is full. While it is, everything that would make the store larger is
    /// refused with a clear result; reading and deleting go on.
    pub fn set_low_on_space(&mut self, is: bool) {
        self.low_on_space = is;
    }

    /// Decides what one input leads to; as [`Engine::handle`](crate::Engine::handle).
    ///
    /// # Errors
    /// The store failed or holds damaged rows.
    pub fn handle(
        &mut self,
        input: Input,
        now: Time,
        view: &dyn View,
    ) -> Result<Outcome, ViewError> {
        // The source of randomness lives outside of `self` for the time of the turn.
        let mut entropy = std::mem::replace(&mut self.entropy, Box::new(NoEntropy));
        let mut turn = Turn::new(view, &mut *entropy, now);
        let done = self.decide(&mut turn, input);
        let outcome = done.map(|()| turn.finish());
        self.entropy = entropy;
        outcome
    }

    /// Takes those effects out that need not wait for the commit: events of the feed, as long as
    /// nothing else that is said on their link waits.
    ///
    /// They say nothing of this server: their objects are others', signed and complete. If the commit
    /// fails or the server dies in it, the author was not answered and uploads again, and the
    /// number of the event is never used for anything else (`Feed::open_anew`).
    pub fn ahead_of_commit(effects: &mut Vec<Effect>) -> Vec<Effect> {
        let mut waits = BTreeSet::new();
        let mut ahead = Vec::new();
        effects.retain_mut(|effect| match effect {
            Effect::Send { link, message: Message::Event { cursor, .. } }
                if cursor.seq > 0 && !waits.contains(link) =>
            {
                ahead.push(effect.clone());
                false
            }
            Effect::Send { link, .. }
            | Effect::Prove { link, .. }
            | Effect::CloseLink { link, .. } => {
                waits.insert(*link);
                true
            }
            _ => true,
        });
        ahead
    }

    fn decide(&mut self, turn: &mut Turn<'_>, input: Input) -> Result<(), ViewError> {
        self.tick(turn)?;
        match input {
            Input::LinkUp { link, device, remote } => {
                let role = Role::Persister { epoch: self.feed.epoch() };
                self.links.greet(turn, link, device, remote, self.feed.last(), role);
            }
            Input::LinkMessage { link, message } => self.message(turn, link, message)?,
            Input::LinkDown { link } => {
                self.gossip.fetches.link_down(turn, &mut self.links, link);
                self.links.remove(link);
                self.seekers.remove(turn, link);
            }
            Input::Timer(Timer::LinkDeadline(link)) => self.links.deadline(turn, link),
            Input::Timer(Timer::Reconcile(link)) => self.compare_again(turn, link)?,
            Input::Announced { author, moved, host } => {
                self.announced(turn, author, &moved, &host)?;
            }
            Input::Timer(Timer::Announce) => self.gossip.announce(turn),
            Input::Timer(Timer::Scrub) => {
                self.links.scrub.due(turn, &mut self.feed, Holdings::Persister)?;
            }
            Input::Timer(Timer::Fetch) => self.gossip.fetches.due(turn, &mut self.links),
            Input::Control { id, control } => self.control(turn, id, control)?,
            // A server has no applications, and so nothing that waits for one.
            Input::Timer(
                Timer::Waiting
                | Timer::Inbox
                | Timer::Answers
                | Timer::Pieces
                | Timer::Manifest
                | Timer::Search
                | Timer::Lookups
                | Timer::Listen
                | Timer::TakeOver
                | Timer::Owed(_)
                | Timer::Uploads(_)
                | Timer::Mail(_)
                | Timer::Uploaded(_),
            )
            | Input::RequestOpened { .. }
            | Input::Found { .. }
            | Input::Here { .. }
            | Input::AppConnected { .. }
            | Input::AppRequest { .. }
            | Input::AppAcknowledged { .. }
            | Input::AppDisconnected { .. } => {}
        }
        self.links.pump(turn, &self.feed, Holdings::Persister)
    }

    /// One message of a link. What breaks the protocol ends the link.
    fn message(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        message: Message,
    ) -> Result<(), ViewError> {
        if !self.links.hears(turn, link, &message) || self.links.is_leaving(link) {
            return Ok(());
        }
        match message {
            Message::Hello { version, nonce, role } => {
                if self.links.greeted(turn, link, version, nonce, role) {
                    self.gossip.fetches.linked(turn, &mut self.links, link);
                    self.begin_mirroring(turn, link)?;
                }
            }
            Message::Proof { identity, signature } => {
                self.proof(turn, link, &identity, &signature)?;
            }
            Message::Publish { id, objects } => {
                let results = self.publish(turn, link, &objects)?;
                self.links.send(turn, link, Message::Published { id, results });
            }
            Message::Get { id, address: Address(address) } => {
                let objects = self.get(turn, link, &address)?;
                self.links.send(turn, link, Message::Object { id, objects });
            }
            Message::Subscribe { addresses, cursor } => {
                self.links.subscribe(turn, &self.feed, link, &addresses, cursor)?;
            }
            Message::Unsubscribe { addresses } => self.links.unsubscribe(link, &addresses),
            Message::Mirror { cursor } => self.mirrored(turn, link, cursor),
            Message::Own { cursor } => self.links.follow_own(turn, &self.feed, link, cursor),
            Message::Event { cursor, address: _, objects } => {
                self.mirror_event(turn, link, cursor, &objects)?;
            }
            Message::EventAck { seq } => self.links.event_acknowledged(link, seq),
            Message::Reconcile { body, subscriber } => {
                self.reconcile(turn, link, &body, subscriber)?;
            }
            Message::Need { ids } => {
                if self.is_compared_with(turn, link, true)? {
                    self.links.needed(turn, Holdings::Persister, link, &ids)?;
                }
            }
            Message::Seek { identities } => {
                self.seekers.sought(turn, &mut self.links, link, &identities);
            }
            Message::Ping { id } => self.links.send(turn, link, Message::Pong { id }),
            Message::Pong { id } => self.links.pong(link, id),
            Message::Register { id, token } => {
                let result = self.register(turn, link, token.as_deref())?;
                self.links.send(turn, link, Message::Registered { id, result });
            }
            Message::Subscriptions { .. }
            | Message::Bindings { .. }
            | Message::Debindings { .. }
            | Message::Owned { .. }
            | Message::Exists { .. }
            | Message::Disconnect { .. } => self.links.question(turn, link, message)?,
            Message::Object { id, objects } => self.fetched(turn, link, id, &objects)?,
            // A server looks for nobody, and these answer what it never asks.
            Message::Interests { .. }
            | Message::Route { .. }
            | Message::Located { .. }
            | Message::Following { .. }
            | Message::Published { .. }
            | Message::Addresses { .. }
            | Message::Existing { .. }
            | Message::Registered { .. }
            | Message::Refused { .. } => {}
        }
        self.links.watch(turn, link);
        Ok(())
    }

    /// The other side says who it is: its mail is handed over, and what it does is counted for it.
    fn proof(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        identity: &[u8],
        signature: &[u8],
    ) -> Result<(), ViewError> {
        let proven = Identity::from_bytes(identity)
            .ok()
            .filter(|identity| self.links.proves(link, &self.device, identity, signature));
        let Some(identity) = proven else {
            self.links.close(turn, link, "a proof that proves nothing", true);
            return Ok(());
        };
        let ghid = identity.ghid();
        if users::User::load(turn, &ghid)?.banned {
            self.links.refuse(turn, link, verdict::BANNED);
            return Ok(());
        }
        let Some(state) = self.links.get_mut(link) else {
            return Ok(());
        };
        if state.proven.len() >= limits::IDENTITIES_PER_LINK {
            self.links.close(turn, link, "too many identities", true);
            return Ok(());
        }
        if !state.proven.insert(ghid) {
            return Ok(());
        }
        if !self.low_on_space {
            self.keep_identity(turn, &identity)?;
        }
        self.seekers.came(turn, &mut self.links, link, &ghid);
        let asked = self.links.get_mut(link).and_then(|state| state.asks_for_own.take());
        if let Some(cursor) = asked {
            self.links.follow_own(turn, &self.feed, link, Some(cursor));
        }
        self.hand_over(turn, link, &ghid)
    }

    /// Everything that waits for an identity, over a link that proved it.
    fn hand_over(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        recipient: &Ghid,
    ) -> Result<(), ViewError> {
        let mut waiting = Vec::new();
        for request in shelf::requests(turn, recipient, golix::persister::limits::REQUESTS_MAX)? {
            waiting.push((Feed::place(turn, &request)?, request));
        }
        // In the order in which they came.
        waiting.sort_unstable();
        let now = turn.now();
        if let Some(state) = self.links.get_mut(link) {
            state.handed_over = now;
            state.mail.extend(waiting.into_iter().map(|(_, request)| (*recipient, request)));
        }
        Ok(())
    }

    /// The same again, for what got lost on the way: with the first comparison after a while.
    fn hand_over_again(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        let due = self.config.reconcile_interval / 2;
        let Some(state) = self.links.get(link) else {
            return Ok(());
        };
        if !state.mail.is_empty() || turn.now().since(state.handed_over) < due {
            return Ok(());
        }
        for identity in state.proven.clone() {
            self.hand_over(turn, link, &identity)?;
        }
        Ok(())
    }

    /// What makes an address readable, or the bare object. Requests only for their recipients.
    fn get(&self, turn: &Turn<'_>, link: LinkId, address: &Ghid) -> Result<Vec<Packed>, ViewError> {
        let bundle = Holdings::Persister.bundle(turn, address, Detail::Readable)?;
        if !bundle.is_empty() {
            return Ok(bundle);
        }
        let Some(bytes) = shelf::bytes(turn, address)? else {
            return Ok(Vec::new());
        };
        let recipient = match golix::persister::Stored::read(&bytes) {
            Some(golix::persister::Stored::Request { recipient, .. }) => Some(recipient),
            _ => None,
        };
        let theirs = recipient.is_none_or(|recipient| {
            self.links.get(link).is_some_and(|state| state.proven.contains(&recipient))
        });
        Ok(if theirs { vec![Packed::from(bytes)] } else { Vec::new() })
    }
}
