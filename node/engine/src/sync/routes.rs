//! Where the devices of others were last: what the DHT said, and what they said themselves on a link.
//!
//! It is kept on this device, sealed like every fact of the account, for whom this account follows or owes
//! something and for its own devices. So after a restart nobody has to be looked up: the DHT is asked
//! when nobody comes from where they were.

use std::collections::BTreeMap;

use golix::Ghid;

use crate::engine::Engine;
use crate::input::LinkId;
use crate::keyring::{Keyring, Record};
use crate::limits::{ROUTES, ROUTES_MAX};
use crate::message::{Message, Packed, Role};
use crate::route::{ENTRIES_MAX, Route};
use crate::sync::Link;
use crate::turn::Turn;
use crate::view::ViewError;

/// Where devices were, by identity and device; and where we are.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    known: BTreeMap<Ghid, BTreeMap<Vec<u8>, Route>>,
    here: Option<Route>,
}

impl Routes {
    pub(crate) fn open(turn: &Turn<'_>, keyring: &Keyring) -> Result<Self, ViewError> {
        let damaged = || ViewError("the record of a route is damaged".into());
        let mut known = BTreeMap::new();
        for (name, body) in keyring.all(turn, Record::Route)? {
            let identity = Ghid::from_bytes(&name).map_err(|_| damaged())?;
            known.insert(identity, read(&body).ok_or_else(damaged)?);
        }
        Ok(Self { known, here: None })
    }

    /// Identities of which it is remembered.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Where the devices of an identity were, those that said so last first.
    pub(super) fn of(&self, identity: &Ghid) -> Vec<Route> {
        let mut routes: Vec<Route> = self
            .known
            .get(identity)
            .into_iter()
            .flat_map(|routes| routes.values().cloned())
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.stamp));
        routes
    }
}

fn read(mut body: &[u8]) -> Option<BTreeMap<Vec<u8>, Route>> {
    let mut routes = BTreeMap::new();
    while let Some((len, rest)) = body.split_first_chunk::<2>() {
        let (route, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let route = Route::decode(route)?;
        routes.insert(route.host.device.clone(), route);
        body = rest;
    }
    body.is_empty().then_some(routes)
}

fn write(routes: &BTreeMap<Vec<u8>, Route>) -> Vec<u8> {
    let mut body = Vec::new();
    for route in routes.values().map(Route::encode) {
        body.extend_from_slice(&(route.len() as u16).to_be_bytes());
        body.extend_from_slice(&route);
    }
    body
}

impl Engine {
    /// Remembers where devices of an identity are, if that is news and worth it.
    pub(super) fn learn_routes(
        &mut self,
        turn: &mut Turn<'_>,
        identity: Ghid,
        routes: &[Route],
    ) -> Result<(), ViewError> {
        let full = self.routes.known.len() >= ROUTES_MAX;
        if full && !self.routes.known.contains_key(&identity) {
            return Ok(());
        }
        let known = self.routes.known.entry(identity).or_default();
        let mut news = false;
        for route in routes.iter().filter(|route| route.host.device != self.device) {
            let before = known.get(&route.host.device);
            if before.is_some_and(|before| before.stamp >= route.stamp) {
                continue;
            }
            news |= before.is_none_or(|before| !before.says_the_same_as(route));
            known.insert(route.host.device.clone(), route.clone());
        }
        while known.len() > ENTRIES_MAX {
            let oldest = known.iter().min_by_key(|(_, route)| route.stamp);
            let Some(oldest) = oldest.map(|(device, _)| device.clone()) else { break };
            known.remove(&oldest);
        }
        // What is only said again is no reason to write.
        if news {
            self.keyring.put(turn, Record::Route, identity.as_bytes(), &write(known))?;
        } else if known.is_empty() {
            self.routes.known.remove(&identity);
        }
        Ok(())
    }

    /// Forgets where those were who are not wanted any longer.
    pub(super) fn forget_routes(
        &mut self,
        turn: &mut Turn<'_>,
        wanted: &[Ghid],
    ) -> Result<(), ViewError> {
        let unwanted = self.routes.known.keys();
        let unwanted: Vec<Ghid> =
            unwanted.filter(|identity| wanted.binary_search(identity).is_err()).copied().collect();
        for identity in unwanted {
            self.routes.known.remove(&identity);
            self.keyring.forget(turn, Record::Route, identity.as_bytes())?;
        }
        Ok(())
    }

    /// This device is somewhere else, or uses other persisters: those who look for us hear of it.
    pub(crate) fn is_at(&mut self, turn: &mut Turn<'_>, route: Route) {
        self.routes.here = Some(route);
        for link in self.links.ids() {
            self.say_where(turn, link);
        }
    }

    /// Says on a link where this device is, if the other side looked for us.
    pub(super) fn say_where(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let looked_for = self.links.get(link).is_some_and(Link::is_proved_to);
        if let Some(here) = self.routes.here.as_ref().filter(|_| looked_for) {
            let route = Packed::from(here.encode());
            self.links.send(turn, link, Message::Route { route });
        }
    }

    /// A device says where it is: it counts for the identities that it proves.
    pub(super) fn said_where(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        route: &[u8],
    ) -> Result<(), ViewError> {
        let Some(state) = self.links.get_mut(link).filter(|state| state.role == Role::Node) else {
            return Ok(());
        };
        let Some(route) = Route::decode(route).filter(|route| route.host.device == state.device)
        else {
            self.links.close(turn, link, "a route of somebody else", true);
            return Ok(());
        };
        if !state.paces.routes.try_spend(turn.now(), ROUTES) {
            return Ok(());
        }
        state.route = Some(route);
        self.keep_route_of(turn, link)
    }

    /// What a device said of itself is kept for the identities that it has proved.
    pub(super) fn keep_route_of(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
    ) -> Result<(), ViewError> {
        let Some(state) = self.links.get(link) else { return Ok(()) };
        let Some(route) = state.route.clone().filter(|_| self.config.searches) else {
            return Ok(());
        };
        for identity in state.proven.clone() {
            if self.is_wanted(turn, &identity)? {
                self.learn_routes(turn, identity, std::slice::from_ref(&route))?;
            }
        }
        Ok(())
    }
}
