//! `Engine`: one node's decisions. Takes an input and the time, answers with an [`Outcome`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use golix::Ghid;
use hypergolix_ipc::ConnectionId;

use crate::account::{self, Account, Pieces};
use crate::apps::Apps;
use crate::caches::{Chains, Contents};
use crate::effect::Outcome;
use crate::input::Input;
use crate::keyring::Keyring;
use crate::route::Subject;
use crate::sharing::{Epoch, Inbox, Outbox, Shares};
use crate::shelf;
use crate::signer::Later;
use crate::sync::{
    Feed, Fetches, Follows, Guests, Links, Listening, Lookups, Published, Registering, Routes,
    Scrub, Searches,
};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::{Entropy, Time, View, ViewError};

/// What an engine can be told at its start.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The device slot in frame counters (counter = step * 256 + slot). Two devices of one account
    /// need different ones.
    pub slot: u8,
    /// How often both sides of a link compare what they hold.
    pub reconcile_interval: std::time::Duration,
    /// Whether identities that no link leads to are looked for.
    pub searches: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { slot: 1, reconcile_interval: crate::limits::RECONCILE_INTERVAL, searches: false }
    }
}

/// A node's decisions: applications, objects, shares and links of one account.
///
/// Everything in memory can be built again from the store with [`Engine::open`], except what
/// belongs to connections that end with the process.
pub struct Engine {
    pub(crate) account: Account,
    pub(crate) keyring: Keyring,
    pub(crate) pieces: Pieces,
    pub(crate) me: Ghid,
    pub(crate) device: Vec<u8>,
    pub(crate) config: EngineConfig,
    pub(crate) contents: Contents,
    pub(crate) chains: Chains,
    pub(crate) apps: Apps,
    pub(crate) shares: Shares,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) feed: Feed,
    pub(crate) follows: Follows,
    pub(crate) searches: Searches,
    pub(crate) guests: Guests,
    pub(crate) lookups: Lookups,
    pub(crate) published: Published,
    pub(crate) routes: Routes,
    pub(crate) listening: Listening,
    pub(crate) fetches: Fetches,
    pub(crate) links: Links,
    /// A registration under way.
    pub(crate) registering: Option<Registering>,
    /// Why persisters ended their links, by device.
    pub(crate) farewells: BTreeMap<Vec<u8>, u32>,
    /// What changed in this turn and has to be told, with the connection that knows already.
    pub(crate) news: Vec<News>,
    /// Addresses that became readable or changed in this turn.
    pub(crate) arrived: BTreeSet<Ghid>,
    /// Pieces of the account that another device changed in this turn.
    pub(crate) arrived_pieces: BTreeSet<u8>,
    /// Own objects that another device wrote, or whose epochs it changed.
    pub(crate) epochs_to_check: BTreeSet<Ghid>,
    /// Epochs of own objects that were found by their frames, before the account's records said so.
    pub(crate) early_epochs: BTreeMap<Ghid, Epoch>,
    /// Objects made in this turn that are not signed yet.
    unsigned: RefCell<Vec<Ghid>>,
    entropy: Box<dyn Entropy>,
}

/// A change of an address that applications and followers hear of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum News {
    /// A new state; the connection that pushed it is left out.
    Updated(Ghid, Option<ConnectionId>),
    /// Gone, for everybody except those who hold it.
    Gone(Ghid),
}

impl Engine {
    /// Starts on what the store holds. `device` is this node's own network key, as other nodes
    /// authenticate it.
    ///
    /// # Errors
    /// The store failed or holds damaged rows.
    pub fn open(
        account: Account,
        config: EngineConfig,
        device: Vec<u8>,
        mut entropy: Box<dyn Entropy>,
        now: Time,
        view: &dyn View,
    ) -> Result<(Self, Outcome), ViewError> {
        let mut turn = Turn::new(view, &mut *entropy, now);
        let slot = account::slot(&mut turn, config.slot)?;
        let config = EngineConfig { slot, ..config };
        let keyring = account.keyring(slot);
        let pieces = Pieces::new(&account);
        let feed = Feed::open(&mut turn)?;
        let follows = Follows::open(&turn)?;
        let shares = Shares::open(&turn, &keyring)?;
        let outbox = Outbox::open(&turn)?;
        let published = Published::open(&turn, &keyring)?;
        let routes = Routes::open(&turn, &keyring)?;
        let inbox = Inbox::open(&turn)?;
        let mut engine = Self {
            me: account.fingerprint(),
            account,
            keyring,
            pieces,
            device,
            config,
            contents: Contents::default(),
            chains: Chains::default(),
            apps: Apps::default(),
            shares,
            outbox,
            inbox,
            feed,
            follows,
            links: Links::default(),
            searches: Searches::default(),
            guests: Guests::default(),
            lookups: Lookups::default(),
            published,
            routes,
            listening: Listening::default(),
            fetches: Fetches::default(),
            registering: None,
            farewells: BTreeMap::new(),
            news: Vec::new(),
            arrived: BTreeSet::new(),
            arrived_pieces: BTreeSet::new(),
            epochs_to_check: BTreeSet::new(),
            early_epochs: BTreeMap::new(),
            unsigned: RefCell::default(),
            entropy: Box::new(NoEntropy),
        };
        engine.links.scrub = Scrub::of_account(engine.account.user_id());
        engine.check_pieces(&mut turn)?;
        engine.epochs_to_check = engine.unsettled_epochs(&turn)?;
        engine.adopt_promises(&mut turn)?;
        engine.links.scrub.go_on(&mut turn);
        engine.pump_inbox(&mut turn)?;
        engine.search_soon(&mut turn);
        engine.present(&mut turn);
        let outcome = Outcome { unsigned: engine.unsigned.take(), ..turn.finish() };
        engine.entropy = entropy;
        Ok((engine, outcome))
    }

    /// The fingerprint of the account, which never changes while the engine lives.
    pub fn fingerprint(&self) -> Ghid {
        self.me
    }

    /// Signs what this engine makes.
    pub(crate) fn signer(&self) -> Later<'_> {
        Later::new(self.account.identity(), &self.unsigned)
    }

    /// Decides what one input leads to.
    ///
    /// The writes of the outcome have to be visible to the next call, and durable before any
    /// effect is carried out. After an error, or when the writes cannot be committed, this engine
    /// no longer agrees with the store: open a new one.
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
        self.contents.end_turn();
        let outcome = done.map(|()| Outcome { unsigned: self.unsigned.take(), ..turn.finish() });
        self.entropy = entropy;
        outcome
    }

    fn decide(&mut self, turn: &mut Turn<'_>, input: Input) -> Result<(), ViewError> {
        match input {
            Input::AppConnected { connection } => self.apps.connected(connection),
            Input::AppRequest { connection, token, request } => {
                self.request(turn, connection, token, request)?;
            }
            Input::AppAcknowledged { connection, notice, accepted } => {
                self.acknowledged(turn, connection, notice, accepted)?;
            }
            Input::AppDisconnected { connection } => self.disconnected(connection),
            Input::LinkUp { link, device, remote } => self.link_up(turn, link, device, remote),
            Input::LinkMessage { link, message } => self.link_message(turn, link, message)?,
            Input::LinkDown { link } => self.link_down(turn, link)?,
            Input::Here { route } => self.is_at(turn, route),
            Input::Found { subject: Subject::Identity(identity), routes } => {
                self.found(turn, identity, routes)?;
            }
            Input::Found { subject: Subject::Published(address), routes } => {
                self.providers_found(turn, address, routes)?;
            }
            Input::Control { id, control } => self.control(turn, id, control)?,
            Input::Timer(Timer::LinkDeadline(link)) => self.link_deadline(turn, link),
            Input::Timer(Timer::Reconcile(link)) => self.reconcile_due(turn, link)?,
            Input::RequestOpened { number, opened } => {
                // Whoever cloned the input keeps the request closed: it is opened again.
                let opened = opened.and_then(Arc::into_inner);
                self.finish_opening(turn, number, opened)?;
            }
            Input::Timer(Timer::Waiting) => self.waited_long_enough(turn)?,
            Input::Announced { author, moved, host } => {
                self.announced(turn, author, &moved, &host)?;
            }
            // Only servers announce; and a root is looked for by a login, before there is an engine.
            Input::Timer(Timer::Inbox | Timer::Announce)
            | Input::Found { subject: Subject::Root(_), .. } => {}
            Input::Timer(Timer::Listen) => self.listen(turn),
            Input::Timer(Timer::Fetch) => self.fetches.due(turn, &mut self.links),
            Input::Timer(Timer::Pieces) => self.write_pieces(turn)?,
            Input::Timer(Timer::Manifest) => self.list_due(turn)?,
            Input::Timer(Timer::Search) => self.search_due(turn)?,
            Input::Timer(Timer::Lookups) => self.lookups_due(turn)?,
            Input::Timer(Timer::Answers) => self.release_answers(),
            Input::Timer(Timer::Scrub) => {
                let holdings = self.holdings();
                self.links.scrub.due(turn, &mut self.feed, holdings)?;
            }
            Input::Timer(Timer::TakeOver) => self.take_over(turn)?,
            Input::Timer(Timer::Owed(link)) => self.offer_again(turn, link)?,
            Input::Timer(Timer::Uploads(link)) => self.resume_uploads(link),
            Input::Timer(Timer::Mail(link)) => self.resume_mail(link),
            Input::Timer(Timer::Uploaded(link)) => self.write_position(turn, link, 1),
        }
        self.settle(turn)
    }

    /// Tells applications and followers what changed in this turn.
    pub(crate) fn settle(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        self.pump_inbox(turn)?;
        self.merge_pieces(turn)?;
        self.settle_epochs(turn)?;
        for news in std::mem::take(&mut self.news) {
            match news {
                News::Updated(address, except) => {
                    self.tell_update(&address, except);
                }
                News::Gone(address) => self.tell_gone(turn, &address)?,
            }
        }
        self.shares_became_ready(turn)?;
        self.pump_apps(turn)?;
        self.pump_links(turn)?;
        // Whatever of the above changed records.
        self.note_changed_records(turn);
        Ok(())
    }

    /// Figures for people: what `hypergolix status` shows of the engine.
    pub(crate) fn figures(
        &self,
        turn: &Turn<'_>,
    ) -> Result<BTreeMap<&'static str, u64>, ViewError> {
        use crate::view::Table;
        // The root and the pieces of the account are nobody's objects.
        let mut own = 1;
        for piece in self.pieces.addresses() {
            own += u64::from(shelf::head(turn, piece)?.is_some());
        }
        Ok(BTreeMap::from([
            ("objects", turn.len(Table::Heads)?.saturating_sub(own)),
            ("golix_objects", turn.len(Table::Objects)?),
            ("applications", self.apps.len() as u64),
            ("objects_tracked", self.apps.tracked() as u64),
            ("notices", self.apps.notices() as u64),
            ("requests_waiting", (self.links.waiting() + self.lookups.waiting()) as u64),
            ("elsewhere", turn.len(Table::Elsewhere)?),
            ("followed", self.follows.len() as u64),
            ("links", self.links.len() as u64),
            ("published", self.published.len() as u64),
            ("places_remembered", self.routes.len() as u64),
            ("shares_owed", self.outbox.len() as u64),
            ("shares_waiting", self.shares.len() as u64),
            ("requests_to_open", self.inbox.len() as u64),
            ("announced_fetched", self.fetches.fetched),
            ("lost_states", self.lost_states(turn)?.len() as u64),
        ]))
    }
}

/// Stands in while the real source is borrowed; never asked.
pub(crate) struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&mut self, _: &mut [u8]) {
        unreachable!("the engine's entropy is in use by the turn")
    }
}
