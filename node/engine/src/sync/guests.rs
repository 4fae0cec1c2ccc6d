//! Persisters that others use, and this node does not.
//!
//! The route record of an identity names the persisters that its devices use. While none of those devices is
//! reached, what this node follows at that identity is fetched there, and what it owes to it is left
//! in its mailbox there; nothing else. A guest proves nothing (mail brings its sender's identity, which
//! the recipient needs), uploads nothing, and leaves when it is no longer needed. What our own devices
//! named is used like a remote of the configuration.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits::{GUEST_AT_MAX, GUEST_DELAY, PERSISTERS_PER_IDENTITY};
use crate::message::{Cursor, Role};
use crate::route::{Host, Route};
use crate::sync::remotes::hex;
use crate::sync::{Link, Links};
use crate::turn::Turn;
use crate::view::{Time, ViewError};

/// Which persisters were named, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// Where the persisters of an identity are, and when to visit them.
    named: BTreeMap<Ghid, (Option<Time>, Vec<Host>)>,
    /// Visited: device, and the identities for whose sake.
    at: BTreeMap<Vec<u8>, BTreeSet<Ghid>>,
}

impl Guests {
    /// Whether a persister was named by an identity.
    fn uses(&self, identity: &Ghid, device: &[u8]) -> bool {
        let named = self.named.get(identity);
        named.is_some_and(|(_, hosts)| hosts.iter().any(|host| host.device == device))
    }

    /// When persisters have to be visited next.
    pub(super) fn next(&self) -> Option<Time> {
        self.named.values().filter_map(|(at, _)| *at).min()
    }
}

impl Links {
    /// Links to persisters where we are guests, and to those that we may use.
    pub(super) fn stores(&self) -> Vec<LinkId> {
        let mut links = self.persisters();
        links.extend(
            self.ids().into_iter().filter(|link| self.get(*link).is_some_and(Link::is_guest)),
        );
        links
    }

    /// Whether a link leads to a device.
    pub(super) fn is_to(&self, link: LinkId, device: &[u8]) -> bool {
        self.get(link).is_some_and(|state| state.device == device)
    }

    /// Links to persisters that one of `identities` uses, where we are guests.
    pub(super) fn guests_of(&self, identities: &BTreeSet<Ghid>) -> Vec<LinkId> {
        let of = |link: &LinkId| {
            self.get(*link).is_some_and(|state| !state.guest.is_disjoint(identities))
        };
        self.ids().into_iter().filter(of).collect()
    }
}

impl Engine {
    /// The DHT said where an identity's devices are, and which persisters they use.
    pub(crate) fn found(
        &mut self,
        turn: &mut Turn<'_>,
        identity: Ghid,
        routes: Vec<Route>,
    ) -> Result<(), ViewError> {
        if !self.is_wanted(turn, &identity)? {
            return Ok(());
        }
        self.learn_routes(turn, identity, &routes)?;
        self.name_persisters(turn, identity, routes);
        Ok(())
    }

    /// Those whose devices are at `routes` use these persisters.
    pub(super) fn name_persisters(
        &mut self,
        turn: &mut Turn<'_>,
        identity: Ghid,
        mut routes: Vec<Route>,
    ) {
        // What was said last counts most.
        routes.sort_by_key(|route| std::cmp::Reverse(route.stamp));
        let mut hosts: Vec<Host> = Vec::new();
        for host in routes.into_iter().flat_map(|route| route.persisters) {
            let known = hosts.iter().any(|other| other.device == host.device);
            if !known && host.device != self.device && hosts.len() < PERSISTERS_PER_IDENTITY {
                hosts.push(host);
            }
        }
        if hosts.is_empty() {
            return;
        }
        let linked = |host: &Host| {
            let visits = self.guests.at.get(&host.device);
            visits.is_some_and(|visits| visits.contains(&identity))
                && self.links.ids().into_iter().any(|link| self.links.is_to(link, &host.device))
        };
        let before = self.guests.named.get(&identity).and_then(|(at, _)| *at);
        let at = before.unwrap_or(turn.now() + GUEST_DELAY);
        let at = (!hosts.iter().all(linked)).then_some(at);
        self.guests.named.insert(identity, (at, hosts));
        self.search_soon(turn);
    }

    /// Goes to the persisters of those whose devices did not come meanwhile, and leaves those that are
    /// not needed any longer.
    pub(super) fn visit_persisters(
        &mut self,
        turn: &mut Turn<'_>,
        wanted: &[Ghid],
    ) -> Result<(), ViewError> {
        let sought = |identity: &Ghid| wanted.binary_search(identity).is_ok();
        self.guests.named.retain(|identity, _| sought(identity));
        let mut left = Vec::new();
        self.guests.at.retain(|device, identities| {
            identities.retain(sought);
            if identities.is_empty() {
                left.push(device.clone());
            }
            !identities.is_empty()
        });
        for device in left {
            self.leave(turn, &device);
        }
        let now = turn.now();
        let mut due = Vec::new();
        for (identity, (at, hosts)) in &mut self.guests.named {
            if at.take_if(|at| *at <= now).is_some() {
                due.extend(hosts.iter().map(|host| (*identity, host.clone())));
            }
        }
        for (identity, host) in due {
            let full = self.guests.at.len() >= GUEST_AT_MAX;
            if full && !self.guests.at.contains_key(&host.device) {
                turn.log("too many servers of others at once", identity.short());
                continue;
            }
            self.guests.at.entry(host.device.clone()).or_default().insert(identity);
            let device = host.device.clone();
            turn.effect(Effect::Visit { host });
            for link in self.links.ids() {
                if self.links.is_to(link, &device) {
                    self.guest_up(turn, link)?;
                }
            }
        }
        Ok(())
    }

    /// Nobody's objects or mailbox are wanted at a persister any longer.
    fn leave(&mut self, turn: &mut Turn<'_>, device: &[u8]) {
        if self.links.persisters().into_iter().any(|link| self.links.is_to(link, device)) {
            return;
        }
        for link in self.links.ids() {
            if self.links.is_to(link, device)
                && let Some(state) = self.links.get_mut(link)
            {
                state.guest.clear();
            }
        }
        turn.effect(Effect::Leave { device: device.to_vec() });
    }

    /// The other side of a link is a persister that no configuration names: perhaps somebody else does.
    pub(super) fn guest_up(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        let Some(state) = self.links.get_mut(link) else { return Ok(()) };
        let Role::Persister { epoch } = state.role else { return Ok(()) };
        let Some(identities) = self.guests.at.get(&state.device).filter(|_| !state.remote) else {
            return Ok(());
        };
        if identities.contains(&self.me) {
            // Another device of the account uses it, and said so under our identity.
            state.remote = true;
            return self.persister_up(turn, link, epoch);
        }
        let new: BTreeSet<Ghid> = identities.difference(&state.guest).copied().collect();
        state.guest.extend(&new);
        let addresses: BTreeSet<Ghid> =
            new.iter().flat_map(|identity| self.follows.at(identity)).collect();
        let cursor = self.links.cursor(turn, link)?.unwrap_or(Cursor { epoch: 0, seq: 0 });
        self.list(turn, link, addresses, Some(cursor));
        let recipients = self.outbox.recipients();
        let recipients: Vec<Ghid> =
            recipients.into_iter().filter(|identity| new.contains(identity)).collect();
        self.owed_at(turn, link, &recipients)?;
        self.compare(turn, link)?;
        self.compare_regularly(turn, link);
        Ok(())
    }

    /// Persisters where we are guests, for people: JSON objects.
    pub(crate) fn guests_json(&self) -> String {
        let guests = self.links.ids().into_iter().filter_map(|link| self.links.get(link));
        let lines: Vec<String> = guests
            .filter(|state| state.is_guest())
            .map(|state| {
                let (subscribed, mailed) = state.client.figures();
                format!(
                    "{{\"device\":\"{}\",\"subscribed\":{subscribed},\"mailed\":{mailed}}}",
                    hex(&state.device)
                )
            })
            .collect();
        format!("[{}]", lines.join(","))
    }

    /// Whether it is known where an identity's mail belongs, and a debt is in a mailbox there.
    pub(crate) fn is_mailed_where_it_belongs(&self, recipient: Ghid, number: u64) -> bool {
        self.links.stores().into_iter().filter_map(|link| self.links.get(link)).any(|state| {
            state.client.has_mailed(&(recipient, number))
                && self.guests.uses(&recipient, &state.device)
        })
    }
}
