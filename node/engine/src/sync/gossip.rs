//! What servers announce: whose announcements are listened to, and fetching what was announced.
//!
//! An announcement says that an object has a newer state and who has it. Nothing in it is believed: the
//! state is fetched over a link and passes the rules. It is the fast way to hear of something, never the
//! only one, so what cannot be fetched is given up after a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use golix::Ghid;

use crate::announcement::{GONE, Moved};
use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits::{
    FAULTS_FORGOTTEN, FAULTS_MAX, FAULTY_DEVICES, FETCH_PATIENCE, FETCH_SOURCES, FETCHES_MAX,
    FETCHES_PER_LINK, LISTEN_DELAY, LISTENED_BY_NODE,
};
use crate::message::{Address, Message, Packed};
use crate::route::Host;
use crate::shelf;
use crate::sync::{Feed, Links};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::verdict;
use crate::view::{Time, ViewError};

/// Something announced that is not here yet.
#[derive(Debug)]
struct Wanted {
    /// The newest state heard of.
    counter: u64,
    /// Who says to have it, and which state, first those that said so first.
    sources: VecDeque<(Host, u64)>,
    /// The question under way.
    asked: Option<(LinkId, u32)>,
    /// Whether the first source is being connected to.
    visiting: bool,
    /// When the source that is asked or visited is given up.
    until: Time,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// What was announced is here.
    Here,
    /// It came, and is not taken here.
    NotTaken,
    /// Whoever was asked does not have it.
    Lacking,
}

impl Fetched {
    fn of(lacks: bool, results: &[u32]) -> Self {
        let refused = |result: &u32| {
            matches!(
                *result,
                verdict::QUOTA
                    | verdict::NOT_REGISTERED
                    | verdict::BANNED
                    | verdict::DISK_FULL
                    | verdict::TOO_FAST
                    | verdict::FULL
                    | verdict::UNWANTED
            )
        };
        match lacks {
            false => Self::Here,
            true if results.iter().any(refused) => Self::NotTaken,
            true => Self::Lacking,
        }
    }
}

/// What was announced and is being fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    wanted: BTreeMap<Ghid, Wanted>,
    asked: BTreeMap<(LinkId, u32), Ghid>,
    /// Devices that announced what they did not have: how often, and when last.
    faults: BTreeMap<Vec<u8>, (u32, Time)>,
    /// Whether the timer runs.
    timed: bool,
    /// How many were fetched.
    pub(crate) fetched: u64,
}

impl Fetches {
    /// An object has a newer state than the one here, at `hosts`.
    pub(crate) fn want(
        &mut self,
        turn: &mut Turn<'_>,
        links: &mut Links,
        address: Ghid,
        counter: u64,
        hosts: impl IntoIterator<Item = Host>,
    ) {
        let now = turn.now();
        if !self.wanted.contains_key(&address) && self.wanted.len() >= FETCHES_MAX {
            return;
        }
        let hosts = hosts.into_iter().filter(|host| !self.is_faulty(&host.device, now));
        let hosts: Vec<Host> = hosts.collect();
        if hosts.is_empty() {
            return;
        }
        let wanted = self.wanted.entry(address).or_insert_with(|| Wanted {
            counter,
            sources: VecDeque::new(),
            asked: None,
            visiting: false,
            until: now + FETCH_PATIENCE,
        });
        wanted.counter = wanted.counter.max(counter);
        for host in hosts {
            let known = wanted.sources.iter_mut().find(|(other, _)| other.device == host.device);
            if let Some((_, announced)) = known {
                *announced = counter.max(*announced);
            } else if wanted.sources.len() < FETCH_SOURCES {
                wanted.sources.push_back((host, counter));
            }
        }
        self.ask(turn, links, address);
    }

    fn is_faulty(&self, device: &[u8], now: Time) -> bool {
        self.faults.get(device).is_some_and(|(faults, last)| {
            *faults >= FAULTS_MAX && now.since(*last) < FAULTS_FORGOTTEN
        })
    }

    fn fault(&mut self, device: Vec<u8>, now: Time) {
        self.faults.retain(|_, (_, last)| now.since(*last) < FAULTS_FORGOTTEN);
        if self.faults.len() < FAULTY_DEVICES || self.faults.contains_key(&device) {
            let (faults, last) = self.faults.entry(device).or_insert((0, now));
            (*faults, *last) = (faults.saturating_add(1), now);
        }
    }

    fn under_way(&self, link: LinkId) -> usize {
        self.asked.range((link, 0)..=(link, u32::MAX)).count()
    }

    /// Asks a source that is linked, or has the first one visited.
    fn ask(&mut self, turn: &mut Turn<'_>, links: &mut Links, address: Ghid) {
        let Some(wanted) = self.wanted.get(&address).filter(|wanted| wanted.asked.is_none()) else {
            return;
        };
        let linked: Vec<LinkId> =
            wanted.sources.iter().filter_map(|(host, _)| links.to_device(&host.device)).collect();
        let link = linked.iter().find(|link| self.under_way(**link) < FETCHES_PER_LINK).copied();
        let Some(wanted) = self.wanted.get_mut(&address) else { return };
        let until = turn.now() + FETCH_PATIENCE;
        if let Some(link) = link
            && let Some(id) = links.number(link)
        {
            (wanted.asked, wanted.until) = (Some((link, id)), until);
            self.asked.insert((link, id), address);
            links.send(turn, link, Message::Get { id, address: Address(address) });
        } else if linked.is_empty()
            && !wanted.visiting
            && let Some((host, _)) = wanted.sources.front().cloned()
        {
            (wanted.visiting, wanted.until) = (true, until);
            turn.effect(Effect::VisitAnnouncer { host });
        }
        if !std::mem::replace(&mut self.timed, true) {
            turn.effect(Effect::SetTimer { timer: Timer::Fetch, at: until });
        }
    }

    /// A link may be asked: it is new, or has answered something else.
    pub(crate) fn linked(&mut self, turn: &mut Turn<'_>, links: &mut Links, link: LinkId) {
        let Some((device, _)) = links.device(link) else { return };
        let has = |wanted: &Wanted| wanted.sources.iter().any(|(host, _)| host.device == device);
        let waiting =
            self.wanted.iter().filter(|(_, wanted)| wanted.asked.is_none() && has(wanted));
        let room = FETCHES_PER_LINK.saturating_sub(self.under_way(link));
        for address in waiting.map(|(address, _)| *address).take(room).collect::<Vec<_>>() {
            self.ask(turn, links, address);
        }
    }

    /// The address that an answer is about, and the state of it that was announced; `None` if it
    /// answers no question of ours.
    pub(crate) fn answered(&mut self, link: LinkId, id: u32) -> Option<(Ghid, u64)> {
        let address = self.asked.remove(&(link, id))?;
        let wanted = self.wanted.get_mut(&address)?;
        wanted.asked = None;
        Some((address, wanted.counter))
    }

    /// An answer was taken, with these results.
    pub(crate) fn settled(
        &mut self,
        turn: &mut Turn<'_>,
        links: &mut Links,
        link: LinkId,
        (address, counter): (Ghid, u64),
        results: &[u32],
    ) -> Result<(), ViewError> {
        match Fetched::of(lacks(turn, &address, counter)?, results) {
            Fetched::Here => {
                self.fetched += 1;
                self.wanted.remove(&address);
            }
            Fetched::NotTaken => drop(self.wanted.remove(&address)),
            Fetched::Lacking => {
                if let Some((device, _)) = links.device(link) {
                    // Another one may have announced a newer state meanwhile, or lied about one.
                    let announced = self.announced_by(&address, &device).unwrap_or(counter);
                    self.give_up(turn, links, address, &device);
                    if lacks(turn, &address, announced)? {
                        self.fault(device, turn.now());
                    }
                }
            }
        }
        self.linked(turn, links, link);
        Ok(())
    }

    /// The newest state that a device says to have.
    fn announced_by(&self, address: &Ghid, device: &[u8]) -> Option<u64> {
        let sources = &self.wanted.get(address)?.sources;
        sources.iter().find(|(host, _)| host.device == device).map(|(_, announced)| *announced)
    }

    /// A source is no good: the next one is asked.
    fn give_up(&mut self, turn: &mut Turn<'_>, links: &mut Links, address: Ghid, device: &[u8]) {
        let Some(wanted) = self.wanted.get_mut(&address) else { return };
        wanted.sources.retain(|(host, _)| host.device != device);
        (wanted.asked, wanted.visiting) = (None, false);
        if wanted.sources.is_empty() {
            self.wanted.remove(&address);
        } else {
            self.ask(turn, links, address);
        }
    }

    /// A link is about to be forgotten.
    pub(crate) fn link_down(&mut self, turn: &mut Turn<'_>, links: &mut Links, link: LinkId) {
        let Some((device, _)) = links.device(link) else { return };
        let lost: Vec<(LinkId, u32)> =
            self.asked.range((link, 0)..=(link, u32::MAX)).map(|(question, _)| *question).collect();
        for question in lost {
            if let Some(address) = self.asked.remove(&question) {
                self.give_up(turn, links, address, &device);
            }
        }
    }

    /// Gives up sources that took too long.
    pub(crate) fn due(&mut self, turn: &mut Turn<'_>, links: &mut Links) {
        self.timed = false;
        let now = turn.now();
        let late: Vec<Ghid> = self
            .wanted
            .iter()
            .filter(|(_, wanted)| wanted.until <= now)
            .map(|(address, _)| *address)
            .collect();
        for address in late {
            let Some(wanted) = self.wanted.get(&address) else { continue };
            let asked = wanted.asked;
            let device = asked.and_then(|(link, _)| links.device(link)).map(|(device, _)| device);
            let first = || wanted.sources.front().map(|(host, _)| host.device.clone());
            let device = device.or_else(first).unwrap_or_default();
            if let Some(question) = asked {
                self.asked.remove(&question);
            }
            self.give_up(turn, links, address, &device);
        }
        let next = self.wanted.values().map(|wanted| wanted.until).min();
        if let Some(at) = next.filter(|_| !self.timed) {
            self.timed = true;
            turn.effect(Effect::SetTimer { timer: Timer::Fetch, at });
        }
    }
}

/// Whether an announced state is newer than what is here. `author` is who is said to have made it.
pub(crate) fn is_news(
    turn: &Turn<'_>,
    author: &Ghid,
    address: &Ghid,
    counter: u64,
) -> Result<bool, ViewError> {
    if let Some(head) = shelf::head(turn, address)? {
        let theirs = head.binder == *author || !head.proven;
        return Ok(theirs && !head.debound && counter > head.counter);
    }
    let is_object = shelf::is_object(turn, address)?;
    let was_here = !is_object && Feed::knows(turn, address)?;
    Ok(if counter == GONE { !was_here } else { !is_object && !was_here })
}

/// Whose announcements a node listens to.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    authors: BTreeSet<Ghid>,
    /// Whether the timer runs.
    timed: bool,
}

impl Engine {
    /// Who is listened to may have changed: looked at in a moment, when links had time to come up.
    pub(crate) fn listen_soon(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::replace(&mut self.listening.timed, true) {
            let at = turn.now() + LISTEN_DELAY;
            turn.effect(Effect::SetTimer { timer: Timer::Listen, at });
        }
    }

    /// Listens to the authors that are followed and that nothing leads to: no link to a device of
    /// theirs or to a persister that they use, and no persister of ours that listens for us.
    pub(crate) fn listen(&mut self, turn: &mut Turn<'_>) {
        self.listening.timed = false;
        let mut wanted = BTreeSet::new();
        if self.links.len() > 0 {
            let unserved = |author: &Ghid| {
                *author != self.me
                    && !self.links.leads_to(author)
                    && !self.links.is_sought(author)
                    && self.links.guests_of(&BTreeSet::from([*author])).is_empty()
            };
            wanted.extend(self.follows.all_sources().filter(unserved).take(LISTENED_BY_NODE));
        }
        let before = std::mem::take(&mut self.listening.authors);
        for author in before.difference(&wanted) {
            turn.effect(Effect::Listen { author: *author, listens: false });
        }
        for author in wanted.difference(&before) {
            turn.effect(Effect::Listen { author: *author, listens: true });
        }
        self.listening.authors = wanted;
    }

    /// A server says that objects of an author moved.
    pub(crate) fn announced(
        &mut self,
        turn: &mut Turn<'_>,
        author: Ghid,
        moved: &[Moved],
        host: &Host,
    ) -> Result<(), ViewError> {
        for Moved { name, counter } in moved {
            let Some(address) = self.follows.named(*name, &author) else { continue };
            if !is_news(turn, &author, &address, *counter)? {
                continue;
            }
            // It has it; our own persisters may by then, too.
            let ours = self.links.persisters().into_iter().filter_map(|link| {
                let (device, _) = self.links.device(link)?;
                Some(Host { device, addresses: Vec::new() })
            });
            let hosts: Vec<Host> = std::iter::once(host.clone()).chain(ours).collect();
            self.fetches.want(turn, &mut self.links, address, *counter, hosts);
        }
        Ok(())
    }

    /// The answer to a question, if it is about something announced.
    pub(crate) fn fetched(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        id: u32,
        objects: &[Packed],
    ) -> Result<bool, ViewError> {
        let Some(asked) = self.fetches.answered(link, id) else {
            return Ok(false);
        };
        let (address, _) = asked;
        let mut results = Vec::new();
        if !self.is_foreign(link, &address, objects) {
            let before = self.feed.last();
            results = self.receive(turn, link, objects)?;
            self.note_conduct(link, &address, objects, &results);
            self.say_what_is_gone(turn, link, objects, &results)?;
            self.gone_elsewhere(turn, &address)?;
            self.has_what_it_sent(turn, link, &address, objects, before)?;
        }
        self.fetches.settled(turn, &mut self.links, link, asked, &results)?;
        Ok(true)
    }
}

/// Whether the announced state of an address, or a newer one, is still missing.
fn lacks(turn: &Turn<'_>, address: &Ghid, counter: u64) -> Result<bool, ViewError> {
    Ok(match shelf::head(turn, address)? {
        Some(head) => !head.debound && counter > head.counter,
        None => !shelf::is_object(turn, address)? && !Feed::knows(turn, address)?,
    })
}
