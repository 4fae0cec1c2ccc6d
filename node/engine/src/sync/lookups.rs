//! Objects that nobody in reach has, and that somebody may have published.
//!
//! An application asks for an object whose key this account has; it is not here, and neither the devices
//! nor the persisters that could have it do. Then the DHT is asked who publishes the address, and
//! those devices are asked for it. What they send passes the same rules as anybody's.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;
use hypergolix_ipc::{ConnectionId, RequestToken};

use crate::apps::answer;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits::{
    ABSENT_LOOKED_AT, ABSENT_LOOKED_UP, LOOKUP_PAUSE, LOOKUP_WAIT, LOOKUPS_AT_ONCE,
    LOOKUPS_REMEMBERED, PROVIDERS_MAX, WAITING_PER_LOOKUP,
};
use crate::message::{Address, Message};
use crate::route::{Route, Subject};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::{Time, ViewError};

/// One address that is looked for.
#[derive(Debug)]
struct Lookup {
    waiting: Vec<(ConnectionId, RequestToken)>,
    until: Time,
    /// Devices that publish it, and whether they were dialled for this alone; once the DHT answered.
    providers: BTreeMap<Vec<u8>, bool>,
    /// Questions under way.
    asked: BTreeMap<(LinkId, u32), Vec<u8>>,
}

/// Addresses that are looked for.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    open: BTreeMap<Ghid, Lookup>,
    /// When others were looked for in vain.
    in_vain: BTreeMap<Ghid, Time>,
}

impl Lookups {
    /// Forgets what a connection waits for.
    pub(crate) fn stop_waiting(&mut self, connection: ConnectionId) {
        for lookup in self.open.values_mut() {
            lookup.waiting.retain(|(waiting, _)| *waiting != connection);
        }
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.open.values().map(|lookup| lookup.waiting.len()).sum()
    }
}

impl Engine {
    /// Looks for an address on behalf of an application, which is answered later; false if that makes no
    /// sense. Only what this account has the key of is looked for: nobody learns of anything else.
    pub(super) fn look_up(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        token: RequestToken,
        address: Ghid,
    ) -> Result<bool, ViewError> {
        let known = self.follows.contains(&address) || Self::is_elsewhere(turn, &address)?;
        if !self.config.searches || !known {
            return Ok(false);
        }
        if let Some(lookup) = self.lookups.open.get_mut(&address) {
            let room = lookup.waiting.len() < WAITING_PER_LOOKUP;
            if room {
                lookup.waiting.push((connection, token));
            }
            return Ok(room);
        }
        Ok(self.begin_lookup(turn, address, vec![(connection, token)]))
    }

    fn begin_lookup(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        waiting: Vec<(ConnectionId, RequestToken)>,
    ) -> bool {
        let now = turn.now();
        self.lookups.in_vain.retain(|_, at| now.since(*at) < LOOKUP_PAUSE);
        let lookups = &mut self.lookups;
        if lookups.open.len() >= LOOKUPS_AT_ONCE || lookups.in_vain.contains_key(&address) {
            return false;
        }
        let (until, providers, asked) = (now + LOOKUP_WAIT, BTreeMap::new(), BTreeMap::new());
        lookups.open.insert(address, Lookup { waiting, until, providers, asked });
        turn.effect(Effect::Search { subject: Subject::Published(address) });
        self.wake_for_lookups(turn);
        true
    }

    /// An identity is looked for in vain: somebody else may publish what was shared by it and never
    /// came.
    pub(super) fn look_up_absent(
        &mut self,
        turn: &mut Turn<'_>,
        identity: &Ghid,
    ) -> Result<(), ViewError> {
        let mut begun = 0;
        for address in self.follows.at(identity).into_iter().take(ABSENT_LOOKED_AT) {
            let absent = !self.lookups.open.contains_key(&address)
                && !crate::shelf::is_object(turn, &address)?;
            if absent && begun < ABSENT_LOOKED_UP && self.begin_lookup(turn, address, Vec::new()) {
                begun += 1;
            }
        }
        Ok(())
    }

    fn wake_for_lookups(&self, turn: &mut Turn<'_>) {
        if let Some(at) = self.lookups.open.values().map(|lookup| lookup.until).min() {
            turn.effect(Effect::SetTimer { timer: Timer::Lookups, at });
        }
    }

    /// The DHT said who publishes an address; they are being dialled.
    pub(crate) fn providers_found(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        routes: Vec<Route>,
    ) -> Result<(), ViewError> {
        let Some(lookup) = self.lookups.open.get_mut(&address) else { return Ok(()) };
        for route in routes.into_iter().take(PROVIDERS_MAX) {
            let device = route.host.device;
            if device != self.device {
                let linked =
                    self.links.ids().into_iter().any(|link| self.links.is_to(link, &device));
                lookup.providers.insert(device, !linked);
            }
        }
        if lookup.providers.is_empty() {
            return self.end_lookup(turn, address);
        }
        for link in self.links.ids() {
            self.ask_provider(turn, link);
        }
        Ok(())
    }

    /// A link is ready: perhaps one of those who publish what is looked for is at its other end.
    pub(super) fn ask_provider(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let Some(state) = self.links.get(link).filter(|state| state.is_greeted()) else { return };
        let device = state.device.clone();
        let wanted: Vec<Ghid> = self
            .lookups
            .open
            .iter()
            .filter(|(_, lookup)| lookup.providers.contains_key(&device))
            .filter(|(_, lookup)| !lookup.asked.values().any(|other| *other == device))
            .map(|(address, _)| *address)
            .collect();
        for address in wanted {
            let Some(id) = self.links.number(link) else { continue };
            if let Some(lookup) = self.lookups.open.get_mut(&address) {
                lookup.asked.insert((link, id), device.clone());
            }
            self.links.send(turn, link, Message::Get { id, address: Address(address) });
        }
    }

    /// Whether an answer on a link is one to a lookup, and for which address.
    pub(super) fn is_looked_up(&mut self, link: LinkId, id: u32) -> Option<Ghid> {
        let mut open = self.lookups.open.iter_mut();
        open.find_map(|(address, lookup)| {
            let device = lookup.asked.remove(&(link, id))?;
            // It was asked, and is not asked again; whether to let go of it is seen at the end.
            lookup.asked.insert((link, u32::MAX), device);
            Some(*address)
        })
    }

    /// One who publishes an address sent what it has, which is stored by now if it was good.
    pub(super) fn provider_answered(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
    ) -> Result<(), ViewError> {
        if crate::shelf::is_object(turn, &address)? || self.is_hopeless(&address) {
            return self.end_lookup(turn, address);
        }
        Ok(())
    }

    /// Everybody who publishes it answered.
    fn is_hopeless(&self, address: &Ghid) -> bool {
        self.lookups.open.get(address).is_some_and(|lookup| {
            let answered = lookup.asked.keys().filter(|(_, id)| *id == u32::MAX).count();
            answered >= lookup.providers.len()
        })
    }

    /// Who was asked is gone.
    pub(super) fn provider_gone(&mut self, link: LinkId) {
        for lookup in self.lookups.open.values_mut() {
            // It may come back and be asked again.
            lookup.asked.retain(|(asked, _), _| *asked != link);
        }
    }

    /// Answers whoever waits for an address with what is here now.
    fn end_lookup(&mut self, turn: &mut Turn<'_>, address: Ghid) -> Result<(), ViewError> {
        let Some(lookup) = self.lookups.open.remove(&address) else { return Ok(()) };
        for (connection, token) in lookup.waiting {
            let reply = self.try_get(turn, connection, &address)?;
            answer(turn, connection, token, reply);
        }
        if !crate::shelf::is_object(turn, &address)?
            && self.lookups.in_vain.len() < LOOKUPS_REMEMBERED
        {
            self.lookups.in_vain.insert(address, turn.now());
        }
        let needed: BTreeSet<&Vec<u8>> =
            self.lookups.open.values().flat_map(|lookup| lookup.providers.keys()).collect();
        let strangers = lookup.providers.iter().filter(|(_, for_this)| **for_this);
        let strangers: Vec<Vec<u8>> = strangers
            .map(|(device, _)| device)
            .filter(|device| !needed.contains(device))
            .cloned()
            .collect();
        for device in strangers {
            let links =
                self.links.ids().into_iter().filter(|link| self.links.is_to(*link, &device));
            let knows_us = |link: LinkId| {
                self.links.get(link).is_some_and(|state| {
                    state.remote || !state.proven.is_empty() || !state.guest.is_empty()
                })
            };
            if !links.into_iter().any(knows_us) {
                turn.effect(Effect::Leave { device });
            }
        }
        self.wake_for_lookups(turn);
        Ok(())
    }

    /// What takes too long is given up.
    pub(crate) fn lookups_due(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let now = turn.now();
        let due = self.lookups.open.iter().filter(|(_, lookup)| lookup.until <= now);
        let due: Vec<Ghid> = due.map(|(address, _)| *address).collect();
        for address in due {
            self.end_lookup(turn, address)?;
        }
        self.wake_for_lookups(turn);
        Ok(())
    }
}
