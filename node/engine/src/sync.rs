//! Replication with other devices: who is reachable, what they want, what we want.

mod compare;
mod conduct;
mod deletions;
mod elsewhere;
mod feed;
mod follows;
mod gossip;
mod guests;
mod hello;
mod holdings;
mod links;
mod lookups;
mod own;
mod published;
mod questions;
mod receive;
mod remotes;
mod routes;
mod scrub;
mod search;
mod seek;
mod serve;

use golix::Ghid;
use hypergolix_ipc::{ConnectionId, Reply, RequestToken};

use crate::account;
use crate::apps::answer;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::{Address, Message};
use crate::shelf;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::verdict;
use crate::view::ViewError;

pub(crate) use feed::{Feed, META_EPOCH};
pub(crate) use follows::Follows;
pub(crate) use gossip::{Fetches, Listening, is_news};
pub(crate) use guests::Guests;
pub(crate) use hello::proof;
pub(crate) use holdings::{Detail, Holdings, bury};
pub(crate) use links::{Link, Links};
pub(crate) use lookups::Lookups;
pub(crate) use published::Published;
pub(crate) use receive::{Parsed, Stash};
pub(crate) use remotes::Registering;
pub(crate) use routes::Routes;
pub(crate) use scrub::Scrub;
pub(crate) use search::Searches;
pub(crate) use seek::Seekers;

use links::Asked;

impl Engine {
    /// One message of a link. What breaks the protocol ends the link.
    pub(crate) fn link_message(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        message: Message,
    ) -> Result<(), ViewError> {
        if !self.links.hears(turn, link, &message) {
            return Ok(());
        }
        match message {
            Message::Hello { version, nonce, role } => {
                self.hello(turn, link, version, nonce, role)?;
            }
            Message::Interests { tags } => self.interests(turn, link, &tags),
            Message::Proof { identity, signature } => {
                self.proof(turn, link, &identity, &signature)?;
            }
            Message::Publish { id, objects } => {
                let results = self.receive(turn, link, &objects)?;
                self.links.send(turn, link, Message::Published { id, results });
            }
            Message::Published { id, results } => {
                if self.parcel_arrived(turn, link, id, &results)? {
                    // It was for a persister.
                } else if let Some((recipient, number)) = self.links.end_publish(link, id) {
                    self.published(turn, link, recipient, number, &results)?;
                    self.send_owed(turn, link, recipient)?;
                }
            }
            Message::Get { id, address: Address(address) } => {
                let objects = self.holdings().bundle(turn, &address, Detail::Readable)?;
                self.links.send(turn, link, Message::Object { id, objects });
            }
            Message::Object { id, objects } => {
                if self.identity_answered(turn, link, id, &objects)?
                    || self.acknowledged_answered(turn, link, id, &objects)?
                    || self.proof_answered(turn, link, id, &objects)?
                {
                    // It was about an identity, or whether something is there.
                } else if self.fetched(turn, link, id, &objects)? {
                    // It was announced.
                } else if let Some(address) = self.is_looked_up(link, id) {
                    self.receive(turn, link, &objects)?;
                    self.settle(turn)?;
                    self.provider_answered(turn, address)?;
                } else if let Some(asked) = self.links.end_get(link, id) {
                    let before = self.feed.last();
                    if let Some(address) = self.links.asked_for(asked) {
                        if !self.is_foreign(link, &address, &objects) {
                            let was_here = shelf::head(turn, &address)?.is_some();
                            let results = self.receive(turn, link, &objects)?;
                            self.note_conduct(link, &address, &objects, &results);
                            self.note_old_state(turn, link, &address, was_here)?;
                            self.has_what_it_sent(turn, link, &address, &objects, before)?;
                        }
                    } else {
                        self.receive(turn, link, &objects)?;
                    }
                    // Applications hear of the news before `~O` is answered (ipc-wire.md 7.10).
                    self.settle(turn)?;
                    self.answer_waiting(turn, asked)?;
                }
            }
            Message::Subscribe { addresses, cursor } => {
                self.links.subscribe(turn, &self.feed, link, &addresses, cursor)?;
            }
            Message::Unsubscribe { addresses } => self.links.unsubscribe(link, &addresses),
            Message::Event { cursor, address: Address(address), objects } => {
                if !self.is_foreign(link, &address, &objects) {
                    self.look_at_identities(turn, &address, &objects)?;
                    let before = self.feed.last();
                    let was_here = shelf::head(turn, &address)?.is_some();
                    let results = self.receive(turn, link, &objects)?;
                    self.note_conduct(link, &address, &objects, &results);
                    self.note_old_state(turn, link, &address, was_here)?;
                    self.say_what_is_gone(turn, link, &objects, &results)?;
                    self.gone_before_seen(turn, link, &address, &objects)?;
                    self.gone_elsewhere(turn, &address)?;
                    self.has_what_it_sent(turn, link, &address, &objects, before)?;
                }
                if cursor.seq > 0 {
                    self.links.remember_cursor(turn, link, cursor)?;
                }
                self.links.send(turn, link, Message::EventAck { seq: cursor.seq });
            }
            Message::EventAck { seq } => {
                self.links.event_acknowledged(link, seq);
                if self.links.get(link).is_some_and(|state| state.mirrors) {
                    Self::confirmed(turn, seq)?;
                }
            }
            Message::Reconcile { body, subscriber } => {
                self.reconcile(turn, link, &body, subscriber)?;
            }
            Message::Need { ids } => {
                if self.is_compared_with(turn, link, true) {
                    let holdings = self.holdings();
                    self.links.needed(turn, holdings, link, &ids)?;
                }
            }
            Message::Route { route } => self.said_where(turn, link, &route)?,
            Message::Located { devices } => self.located(turn, link, devices),
            Message::Ping { id } => self.links.send(turn, link, Message::Pong { id }),
            Message::Pong { id } => self.links.pong(link, id),
            Message::Register { id, .. } => {
                let result = verdict::NOT_HERE;
                self.links.send(turn, link, Message::Registered { id, result });
            }
            Message::Subscriptions { .. }
            | Message::Bindings { .. }
            | Message::Debindings { .. }
            | Message::Owned { .. }
            | Message::Exists { .. }
            | Message::Disconnect { .. } => self.links.question(turn, link, message)?,
            Message::Following { cursor } => self.own_is_followed(turn, link, cursor)?,
            Message::Addresses { id, addresses, more } => {
                self.owned_elsewhere(turn, link, id, &addresses, more)?;
            }
            // An answer to what this node never asks, and what only persisters do.
            Message::Existing { .. } | Message::Own { .. } | Message::Seek { .. } => {}
            Message::Mirror { cursor } => self.mirrored(link, cursor),
            Message::Registered { id: _, result } => self.registered(turn, link, result),
            Message::Refused { result } => self.refused_by(turn, link, result),
        }
        self.links.watch(turn, link);
        Ok(())
    }

    /// Answers `>O`, if need be after asking the devices that could have the object.
    pub(crate) fn get_or_wait(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        token: RequestToken,
        address: Ghid,
    ) -> Result<(), ViewError> {
        let reply = self.try_get(turn, connection, &address)?;
        // What another device of the account made comes when somebody wants it.
        let worth_asking =
            reply.is_err() && (self.follows.contains(&address) || account::has_others(turn)?);
        if !worth_asking
            || !(self.ask(turn, connection, token, address, false)
                || self.look_up(turn, connection, token, address)?)
        {
            answer(turn, connection, token, reply);
        }
        Ok(())
    }

    /// Answers `~O` after asking the devices that could know a newer state.
    pub(crate) fn sync_or_wait(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        token: RequestToken,
        address: Ghid,
    ) {
        if !self.ask(turn, connection, token, address, true) {
            answer(turn, connection, token, Ok(Reply::Done));
        }
    }

    /// Asks every linked source of an address; false if there is none.
    fn ask(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        token: RequestToken,
        address: Ghid,
        sync: bool,
    ) -> bool {
        let mut sources = self.follows.sources(&address);
        sources.insert(self.me);
        let mut links = self.links.proven_any(&sources);
        links.extend(self.links.persisters());
        links.extend(self.links.guests_of(&sources));
        let links = self.links.with_room_for_gets(links);
        if links.is_empty() {
            return false;
        }
        let until = turn.now() + limits::WAIT_FOR_LINKS;
        let number = self.links.begin_waiting(connection, token, address, sync, links.len(), until);
        for link in links {
            if let Some(id) = self.links.begin_get(turn, link, number) {
                self.links.send(turn, link, Message::Get { id, address: Address(address) });
            }
        }
        // The timer belongs to the oldest request: a newer one does not move it.
        let at = self.links.next_due().unwrap_or(until);
        turn.effect(Effect::SetTimer { timer: Timer::Waiting, at });
        true
    }

    fn answer_waiting(&mut self, turn: &mut Turn<'_>, number: u64) -> Result<(), ViewError> {
        let Some(asked) = self.links.one_answered(number) else {
            return Ok(());
        };
        self.finish_waiting(turn, asked)
    }

    fn finish_waiting(&mut self, turn: &mut Turn<'_>, asked: Asked) -> Result<(), ViewError> {
        let reply = if asked.sync {
            Ok(Reply::Done)
        } else {
            self.try_get(turn, asked.connection, &asked.address)?
        };
        if !asked.sync
            && reply.is_err()
            && self.look_up(turn, asked.connection, asked.token, asked.address)?
        {
            return Ok(());
        }
        answer(turn, asked.connection, asked.token, reply);
        Ok(())
    }

    /// Other devices had their time: requests that still wait are answered with what is here.
    pub(crate) fn waited_long_enough(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let (due, next) = self.links.due(turn.now());
        for asked in due {
            self.finish_waiting(turn, asked)?;
        }
        if let Some(at) = next {
            turn.effect(Effect::SetTimer { timer: Timer::Waiting, at });
        }
        Ok(())
    }

    pub(crate) fn link_deadline(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        self.links.deadline(turn, link);
    }

    pub(crate) fn link_down(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Result<(), ViewError> {
        self.registered(turn, link, verdict::NOT_HERE);
        self.write_position(turn, link, 1);
        self.forget_parked(turn, link);
        self.provider_gone(link);
        self.fetches.link_down(turn, &mut self.links, link);
        for number in self.links.remove(link) {
            self.answer_waiting(turn, number)?;
        }
        self.settle_mailed(turn)?;
        self.search_soon(turn);
        self.listen_soon(turn);
        Ok(())
    }
}
