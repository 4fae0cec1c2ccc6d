//! Who finds room in a mailbox that is full.
//!
//! A request does not say who sealed it, so nothing in it tells a friend from a flood. What counts is the
//! link that left it: nothing proved, an identity proved, or a registered one. A mailbox holds
//! [`REQUESTS_MAX`](golix::persister::limits::REQUESTS_MAX) requests. When it is full, a further one takes
//! the place of another, in this order:
//!
//! 1. of one that has waited for [`MAIL_KEPT_HOURS`](limits::MAIL_KEPT_HOURS), the oldest first;
//! 2. of one whose link had proved less, the oldest of the lowest kind first, as long as whoever leaves it
//!    has left few: nobody drives everybody else out;
//! 3. if nothing was proved, of the oldest of this kind;
//! 4. of the oldest one of whoever has left most, if that is at least two more.
//!
//! Otherwise it is refused as before. What gives way comes again: its sender still owes it, and leaves it
//! with the next connection, or beside one of the next comparisons.
//!
//! The value of a row of [`Table::Requests`], 18 bytes; empty in rows of earlier versions, which count as
//! left by an identity that nobody knows:
//!
//! | offset | length | |
//! |---|---|---|
//! | 0 | 1 | version 1 |
//! | 1 | 1 | 0 nothing proved, 1 an identity, 2 a registered one |
//! | 2 | 4 | hours that this server had run |
//! | 6 | 4 | which of the senders of this mailbox: a tag that says nothing to whoever does not know them |
//! | 10 | 8 | order of arrival |

use std::collections::BTreeMap;

use golix::Ghid;
use golix::persister::limits::REQUESTS_MAX;
use sha2::{Digest, Sha512};

use super::Persister;
use super::admission::From;
use super::users::User;
use crate::limits;
use crate::pace::Pace;
use crate::shelf;
use crate::turn::{Turn, key};
use crate::view::{Table, Time, ViewError};

/// Meta row: hours that this server has run, 4 bytes. An engine has no other clock that outlives it.
const META_HOURS: &[u8] = b"hours";

const VERSION: u8 = 1;
const LEN: usize = 18;

/// What the link proved that leaves a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Nothing = 0,
    Identity = 1,
    Registered = 2,
}

/// Who leaves a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    standing: Standing,
    /// None of those who proved nothing, who are all one.
    who: Option<Ghid>,
}

impl Sender {
    pub(super) fn is_registered(self) -> bool {
        self.standing == Standing::Registered
    }
}

/// One request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    request: Ghid,
    standing: Standing,
    hours: u32,
    tag: [u8; 4],
    order: u64,
}

/// What a persister remembers of how much mail came, and its clock.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Of all who proved nothing together: who leaves ten and comes again is not another.
    strangers: Pace,
    /// Of identities, over the ends of their links.
    senders: BTreeMap<Ghid, Pace>,
    next_hour: Option<Time>,
}

impl Mail {
    /// Whether a sender may leave one more now.
    fn may_leave(&mut self, sender: Sender, now: Time) -> bool {
        let Some(who) = sender.who else {
            return self.strangers.try_spend(now, limits::FROM_ALL_STRANGERS);
        };
        if self.senders.len() >= limits::MAIL_SENDERS && !self.senders.contains_key(&who) {
            self.senders.retain(|_, pace| !pace.is_whole(now));
            if self.senders.len() >= limits::MAIL_SENDERS {
                self.senders.pop_first();
            }
        }
        self.senders.entry(who).or_default().try_spend(now, limits::FROM_KNOWN)
    }
}

impl Persister {
    /// Who leaves requests over a link: of several identities the one that counts most.
    pub(super) fn sender(&self, turn: &Turn<'_>, from: From) -> Result<Sender, ViewError> {
        let link = match from {
            From::Link(link) | From::Gossip(link) => link,
            // It judged by itself who may leave something; here that counts as one identity.
            From::Mirror(link) => {
                let device = self.links.get(link).map(|state| Ghid::of(&state.device));
                return Ok(Sender { standing: Standing::Identity, who: device });
            }
        };
        let mut sender = Sender { standing: Standing::Nothing, who: None };
        for identity in self.links.get(link).iter().flat_map(|state| &state.proven) {
            let registered = User::load(turn, identity)?.registered;
            let standing = if registered { Standing::Registered } else { Standing::Identity };
            if standing > sender.standing {
                sender = Sender { standing, who: Some(*identity) };
            }
        }
        Ok(sender)
    }

    /// Whether somebody may leave one more request now.
    pub(super) fn may_leave_request(
        &mut self,
        turn: &Turn<'_>,
        from: From,
        sender: Sender,
    ) -> bool {
        let (From::Link(link) | From::Gossip(link)) = from else {
            return true;
        };
        let now = turn.now();
        let in_time = sender.who.is_some()
            || self
                .links
                .get_mut(link)
                .is_some_and(|state| state.paces.requests.try_spend(now, limits::FROM_STRANGERS));
        in_time && self.mail.may_leave(sender, now)
    }

    /// Makes room in a mailbox that is full; false if the sender may not have it.
    pub(super) fn make_room(
        &mut self,
        turn: &mut Turn<'_>,
        recipient: &Ghid,
        sender: Sender,
    ) -> Result<bool, ViewError> {
        let rows = turn.prefixed(Table::Requests, recipient.as_bytes(), REQUESTS_MAX)?;
        let waiting: Vec<Waiting> =
            rows.iter().filter_map(|it| Waiting::read(&it.0, &it.1)).collect();
        let tag = self.tag(recipient, sender);
        let Some(victim) = gives_way(&waiting, sender.standing, tag, hours(turn)?) else {
            return Ok(false);
        };
        turn.delete(Table::Objects, victim.as_bytes());
        turn.delete(Table::Requests, key(&[recipient.as_bytes(), victim.as_bytes()]));
        self.feed.touch_if_known(turn, &victim)?;
        Ok(true)
    }

    /// Writes down who left a request.
    pub(super) fn note_sender(
        &self,
        turn: &mut Turn<'_>,
        recipient: &Ghid,
        request: &Ghid,
        sender: Sender,
    ) -> Result<(), ViewError> {
        let row = key(&[recipient.as_bytes(), request.as_bytes()]);
        if turn.get(Table::Requests, &row)?.is_none_or(|value| !value.is_empty()) {
            // It was here before.
            return Ok(());
        }
        let mut value = Vec::with_capacity(LEN);
        value.extend_from_slice(&[VERSION, sender.standing as u8]);
        value.extend_from_slice(&hours(turn)?.to_be_bytes());
        value.extend_from_slice(&self.tag(recipient, sender));
        value.extend_from_slice(&self.feed.last().to_be_bytes());
        turn.put(Table::Requests, row, value);
        Ok(())
    }

    fn tag(&self, recipient: &Ghid, sender: Sender) -> [u8; 4] {
        let Some(who) = sender.who else {
            return [0; 4];
        };
        let digest = Sha512::new()
            .chain_update(b"hypergolix mailbox sender\0")
            .chain_update(self.feed.epoch().to_be_bytes())
            .chain_update(recipient)
            .chain_update(who)
            .finalize();
        digest[..4].try_into().expect("4 of 64 bytes")
    }

    /// Counts the hours. They are of running time, so what waits in a server that is down does not age.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let now = turn.now();
        let due = *self.mail.next_hour.get_or_insert(now + limits::HOUR);
        if now >= due {
            self.mail.next_hour = Some(now + limits::HOUR);
            let passed = 1 + now.since(due).as_secs() / limits::HOUR.as_secs();
            let hours = hours(turn)?.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
            turn.put(Table::Meta, META_HOURS, hours.to_be_bytes());
        }
        Ok(())
    }
}

impl Waiting {
    fn read(row: &[u8], value: &[u8]) -> Option<Self> {
        let request = Ghid::from_bytes(row.get(Ghid::LEN..)?).ok()?;
        let Ok([VERSION, standing, rest @ ..]) = <[u8; LEN]>::try_from(value) else {
            let (standing, tag) = (Standing::Identity, [0; 4]);
            return Some(Self { request, standing, hours: 0, tag, order: 0 });
        };
        let standing = match standing {
            0 => Standing::Nothing,
            1 => Standing::Identity,
            _ => Standing::Registered,
        };
        let (hours, rest) = rest.split_first_chunk::<4>()?;
        let (tag, order) = rest.split_first_chunk::<4>()?;
        let order = u64::from_be_bytes(order.try_into().ok()?);
        Some(Self { request, standing, hours: u32::from_be_bytes(*hours), tag: *tag, order })
    }
}

/// The request that gives way to a further one, in a full mailbox.
fn gives_way(waiting: &[Waiting], standing: Standing, tag: [u8; 4], now: u32) -> Option<Ghid> {
    let by = |it: &Waiting| (it.standing, it.tag);
    let oldest = |of: &dyn Fn(&Waiting) -> bool| {
        waiting.iter().filter(|it| of(it)).min_by_key(|it| it.order).map(|it| it.request)
    };
    let kept = limits::MAIL_KEPT_HOURS;
    if let Some(expired) = oldest(&|it| now.saturating_sub(it.hours) >= kept) {
        return Some(expired);
    }
    let own = waiting.iter().filter(|it| by(it) == (standing, tag)).count();
    let lowest = waiting.iter().map(|it| it.standing).min()?;
    if lowest < standing && own < limits::MAIL_DISPLACING {
        return oldest(&|it| it.standing == lowest);
    }
    if standing == Standing::Nothing {
        return oldest(&|it| it.standing == standing);
    }
    let mut counts: BTreeMap<[u8; 4], usize> = BTreeMap::new();
    for it in waiting.iter().filter(|it| it.standing == standing) {
        *counts.entry(it.tag).or_default() += 1;
    }
    let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    if count < own + 2 {
        return None;
    }
    oldest(&|it| by(it) == (standing, most))
}

/// Hours that this server has run.
fn hours(turn: &Turn<'_>) -> Result<u32, ViewError> {
    let row = turn.get(Table::Meta, META_HOURS)?;
    Ok(row.and_then(|row| Some(u32::from_be_bytes(row.try_into().ok()?))).unwrap_or_default())
}

/// The place of a request that was just stored, of several with one address the last.
pub(super) fn place_of(turn: &Turn<'_>, request: &Ghid, bytes: &[u8]) -> Result<Ghid, ViewError> {
    for n in 1..golix::persister::limits::VARIANTS_MAX as u8 {
        let variant = golix::persister::variant_address(request, n);
        if shelf::bytes(turn, &variant)?.as_deref() == Some(bytes) {
            return Ok(variant);
        }
    }
    Ok(*request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(standing: Standing, tag: u8, order: u64) -> Waiting {
        let request = Ghid::of(&order.to_be_bytes());
        Waiting { request, standing, hours: 10, tag: [tag; 4], order }
    }

    fn who(victim: Option<Ghid>, of: &[Waiting]) -> Option<u64> {
        of.iter().find(|it| Some(it.request) == victim).map(|it| it.order)
    }

    #[test]
    fn who_proved_less_gives_way_and_of_these_the_oldest() {
        let all = [
            waiting(Standing::Registered, 1, 1),
            waiting(Standing::Nothing, 0, 3),
            waiting(Standing::Nothing, 0, 2),
            waiting(Standing::Identity, 2, 4),
        ];
        let choose =
            |all: &[Waiting], standing, tag: u8| who(gives_way(all, standing, [tag; 4], 20), all);
        assert_eq!(choose(&all, Standing::Registered, 9), Some(2));
        assert_eq!(choose(&all, Standing::Identity, 9), Some(2));
        assert_eq!(choose(&all, Standing::Nothing, 0), Some(2));
        assert_eq!(choose(&[all[0], all[3]], Standing::Registered, 9), Some(4));
        assert_eq!(choose(&[all[0], all[3]], Standing::Nothing, 0), None);
        assert_eq!(choose(&[all[0], all[3]], Standing::Identity, 9), None);
    }

    #[test]
    fn shares_of_equals_become_equal_and_then_nothing_moves() {
        let mut all: Vec<Waiting> =
            (0..100).map(|order| waiting(Standing::Identity, 1, order)).collect();
        let mut moved = 0;
        for order in 100..1_000 {
            let tag = if order % 2 == 0 { 1 } else { 2 };
            if let Some(victim) = gives_way(&all, Standing::Identity, [tag; 4], 20) {
                all.retain(|it| it.request != victim);
                all.push(waiting(Standing::Identity, tag, order));
                moved += 1;
            }
        }
        assert_eq!(all.iter().filter(|it| it.tag == [1; 4]).count(), 50);
        assert_eq!(moved, 50);
    }

    #[test]
    fn nobody_drives_everybody_out_but_whoever_waited_too_long() {
        let mut all: Vec<Waiting> = (0..limits::MAIL_DISPLACING as u64)
            .map(|order| waiting(Standing::Registered, 1, 1_000 + order))
            .collect();
        all.extend((0..100).map(|order| waiting(Standing::Identity, 2, order)));
        assert_eq!(gives_way(&all, Standing::Registered, [1; 4], 20), None);
        assert!(gives_way(&all, Standing::Registered, [3; 4], 20).is_some());
        let late = 10 + limits::MAIL_KEPT_HOURS;
        assert_eq!(who(gives_way(&all, Standing::Nothing, [0; 4], late), &all), Some(0));
    }

    #[test]
    fn rows_are_read_as_they_were_written_and_old_ones_too() {
        let row = key(&[Ghid::of(b"recipient").as_bytes(), Ghid::of(b"request").as_bytes()]);
        let old = Waiting::read(&row, &[]).expect("an old one");
        assert_eq!((old.standing, old.order), (Standing::Identity, 0));
        let value = [1, 2, 0, 0, 0, 5, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 9];
        let new = Waiting::read(&row, &value).expect("a row");
        let expected = Waiting {
            request: Ghid::of(b"request"),
            standing: Standing::Registered,
            hours: 5,
            tag: [7; 4],
            order: 9,
        };
        assert_eq!(new, expected);
    }
}
