//! Requests that wait to be opened.
//!
//! Opening one costs a private-key operation, and whoever knows an identity can send it requests.
//! So a request is put here, durably, and answered for before anybody has looked inside: neither
//! what the answer says nor when it leaves depends on what the box holds. Requests are then opened
//! one after the other outside of the loop, at a bounded rate for each device and in total.
//!
//! Row: number u64 → CBOR of [`Row`].

use std::collections::{BTreeMap, BTreeSet};

use golix::object::{Kind, OpenedRequest, Unverified};
use golix::{Ghid, Suite};
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::Packed;
use crate::pace::Pace;
use crate::shelf;
use crate::sync::Link;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::{Table, Time, ViewError};

/// What came in one message.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// The device that brought it.
    device: serde_bytes::ByteBuf,
    /// Whether that device had proved an identity that we look for.
    known: bool,
    /// The objects of the message, exactly one request among them.
    objects: Vec<Packed>,
}

/// A row, without its bytes.
struct Waiting {
    device: Vec<u8>,
    /// The link it came over, while it lasts.
    link: Option<LinkId>,
    known: bool,
    size: usize,
}

/// Requests that wait to be opened, oldest first.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    next: u64,
    /// Handed out to be opened.
    opening: BTreeSet<u64>,
    /// Opened, and their author is asked for at a persister.
    parked: BTreeMap<u64, (LinkId, Ghid)>,
    devices: BTreeMap<Vec<u8>, Pace>,
    total: Pace,
    due: Option<Time>,
}

impl Inbox {
    pub(crate) fn open(turn: &Turn<'_>) -> Result<Self, ViewError> {
        let mut inbox = Self::default();
        for (key, value) in turn.prefixed(Table::Inbox, &[], usize::MAX >> 1)? {
            let number = u64::from_be_bytes(key.try_into().map_err(|_| damaged_row())?);
            let row = decode(&value)?;
            inbox.add(number, row.device.into_vec(), None, row.known, value.len());
        }
        Ok(inbox)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn add(
        &mut self,
        number: u64,
        device: Vec<u8>,
        link: Option<LinkId>,
        known: bool,
        size: usize,
    ) {
        self.bytes += size;
        self.next = self.next.max(number + 1);
        self.waiting.insert(number, Waiting { device, link, known, size });
    }

    fn remove(&mut self, turn: &mut Turn<'_>, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.opening.remove(&number);
        self.parked.remove(&number);
        self.bytes -= waiting.size;
        turn.delete(Table::Inbox, number.to_be_bytes());
        Some(waiting)
    }

    /// Whether a request waits for its author's identity.
    pub(crate) fn awaits(&self, identity: &Ghid) -> bool {
        self.parked.values().any(|(_, author)| author == identity)
    }

    /// The authors that one link is asked for.
    pub(crate) fn awaited_at(&self, link: LinkId) -> BTreeSet<Ghid> {
        self.parked.values().filter(|(at, _)| *at == link).map(|(_, author)| *author).collect()
    }

    fn of_device(&self, device: &[u8]) -> usize {
        self.waiting.values().filter(|waiting| waiting.device == device).count()
    }

    fn is_full(&self, more: usize) -> bool {
        self.waiting.len() >= limits::INBOX_REQUESTS || self.bytes + more > limits::INBOX_BYTES
    }

    /// The oldest that a stranger brought and nobody opens yet.
    fn oldest_unknown(&self) -> Option<u64> {
        self.waiting
            .iter()
            .find(|(number, waiting)| !waiting.known && !self.opening.contains(number))
            .map(|(number, _)| *number)
    }

    /// The next one to open, those of known devices first; or when there will be one.
    fn next_to_open(&self, now: Time, suite: Suite) -> Result<u64, Option<Time>> {
        let total = self.total.next(limits::open_rate_total(suite));
        if total > now {
            return Err((self.waiting.len() > self.opening.len()).then_some(total));
        }
        let each = limits::open_rate_device(suite);
        let mut soonest = None;
        let mut best: Option<(bool, u64)> = None;
        let mut seen = BTreeSet::new();
        for (number, waiting) in &self.waiting {
            if self.parked.contains_key(number) {
                continue;
            }
            // The order of one device's requests is kept, so only its first one counts.
            if !seen.insert(&waiting.device) || self.opening.contains(number) {
                continue;
            }
            let at = self.devices.get(&waiting.device).copied().unwrap_or_default().next(each);
            if at > now {
                soonest = Some(soonest.map_or(at, |before: Time| before.min(at)));
            } else if best.is_none_or(|best| (!waiting.known, *number) < best) {
                best = Some((!waiting.known, *number));
            }
        }
        best.map(|(_, number)| number).ok_or(soonest)
    }

    fn spend(&mut self, number: u64, now: Time, suite: Suite) {
        let Some(waiting) = self.waiting.get(&number) else {
            return;
        };
        if self.devices.len() >= limits::INBOX_DEVICES {
            self.devices.retain(|_, pace| !pace.is_whole(now));
        }
        if self.devices.len() >= limits::INBOX_DEVICES {
            self.devices.pop_first();
        }
        let each = limits::open_rate_device(suite);
        self.devices.entry(waiting.device.clone()).or_default().spend(now, each);
        self.total.spend(now, limits::open_rate_total(suite));
        self.opening.insert(number);
    }
}

/// Whether a message brings a request.
pub(crate) fn brings_request(parsed: &[Result<Unverified, golix::object::DecodeError>]) -> bool {
    parsed.iter().flatten().any(|object| object.kind() == Kind::Request)
}

impl Engine {
    /// Keeps a message with a request until the request was opened; false if there is no room, so
    /// that the sender has to come again.
    pub(crate) fn keep_until_opened(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        objects: &[Packed],
    ) -> bool {
        let Some((device, known)) = self.links.device(link) else {
            return false;
        };
        let row = Row {
            device: serde_bytes::ByteBuf::from(device.clone()),
            known,
            objects: objects.to_vec(),
        };
        let value = cbor4ii::serde::to_vec(Vec::new(), &row).expect("a row is plain data");
        // A persister brings what many have left there.
        let is_persister = self.links.get(link).is_some_and(Link::is_persister);
        let most = if is_persister { limits::INBOX_REQUESTS } else { limits::INBOX_PER_DEVICE };
        if self.inbox.of_device(&device) >= most {
            return false;
        }
        while self.inbox.is_full(value.len()) {
            // Strangers make room for those we know, nobody else does.
            match self.inbox.oldest_unknown().filter(|_| known) {
                Some(oldest) => self.inbox.remove(turn, oldest),
                None => return false,
            };
        }
        let number = self.inbox.next;
        self.inbox.add(number, device, Some(link), known, value.len());
        turn.put(Table::Inbox, number.to_be_bytes(), value);
        true
    }

    /// Hands out what may be opened now.
    pub(crate) fn pump_inbox(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let suite = self.account.suite();
        let now = turn.now();
        while self.inbox.opening.len() < limits::OPENING_AT_ONCE {
            let number = match self.inbox.next_to_open(now, suite) {
                Ok(number) => number,
                Err(later) => {
                    if let Some(at) = later
                        && self.inbox.due.is_none_or(|due| due <= now || at < due)
                    {
                        self.inbox.due = Some(at);
                        turn.effect(Effect::SetTimer { timer: Timer::Inbox, at });
                    }
                    return Ok(());
                }
            };
            let Some(request) = self.request_of_row(turn, number)? else {
                // For somebody else, or known already: nothing has to be opened.
                self.finish_opening(turn, number, None)?;
                continue;
            };
            self.inbox.spend(number, now, suite);
            turn.effect(Effect::OpenRequest { number, request });
        }
        Ok(())
    }

    /// The request of a row, if it is worth opening.
    fn request_of_row(&self, turn: &Turn<'_>, number: u64) -> Result<Option<Packed>, ViewError> {
        let Some(value) = turn.get(Table::Inbox, &number.to_be_bytes())? else {
            return Ok(None);
        };
        for bytes in decode(&value)?.objects {
            let Ok(object) = Unverified::parse(&bytes) else {
                continue;
            };
            if object.kind() == Kind::Request {
                let waiting = self.inbox.waiting.get(&number);
                let state = waiting.and_then(|it| it.link).and_then(|link| self.links.get(link));
                let again =
                    state.is_some_and(Link::is_persister) || waiting.is_some_and(|it| it.known);
                let worth = self.is_worth_opening(turn, &object, again)?;
                return Ok(worth.then_some(bytes));
            }
        }
        Ok(None)
    }

    /// A request was opened, or cannot be: its message is taken now.
    pub(crate) fn finish_opening(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        opened: Option<OpenedRequest>,
    ) -> Result<(), ViewError> {
        let value = turn.get(Table::Inbox, &number.to_be_bytes())?;
        if let Some(opened) = &opened
            && self.park(turn, number, opened.author(), value.as_deref())?
        {
            return Ok(());
        }
        let Some(waiting) = self.inbox.remove(turn, number) else {
            return Ok(());
        };
        if let Some(value) = value {
            let objects = decode(&value)?.objects;
            self.receive_opened(turn, waiting.link, &objects, opened)?;
            self.release_mail(waiting.link, &objects);
        }
        Ok(())
    }

    /// A request from a mailbox comes without its author's identity: if that is unknown it is asked
    /// for, and the request is opened again when it is here.
    fn park(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        author: Ghid,
        value: Option<&[u8]>,
    ) -> Result<bool, ViewError> {
        let Some(link) = self.inbox.waiting.get(&number).and_then(|waiting| waiting.link) else {
            return Ok(false);
        };
        let persister = self.links.get(link).is_some_and(Link::is_persister);
        if !persister || shelf::bytes(turn, &author)?.is_some() {
            return Ok(false);
        }
        let objects = value.map(decode).transpose()?.map(|row| row.objects).unwrap_or_default();
        let is_author =
            |bytes: &Packed| Unverified::parse(bytes).is_ok_and(|object| object.ghid() == author);
        if objects.iter().any(is_author) {
            return Ok(false);
        }
        self.inbox.opening.remove(&number);
        self.inbox.parked.insert(number, (link, author));
        self.find_identity(turn, link, author)?;
        Ok(true)
    }

    /// A persister answered who somebody is. If it does not know either, the request stays in the
    /// mailbox there, and comes again with the next link.
    pub(crate) fn author_answered(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        identity: &Ghid,
    ) -> Result<(), ViewError> {
        let known = shelf::bytes(turn, identity)?.is_some();
        let answered: Vec<u64> = self
            .inbox
            .parked
            .iter()
            .filter(|(_, (at, author))| author == identity && (known || *at == link))
            .map(|(number, _)| *number)
            .collect();
        for number in answered {
            self.inbox.parked.remove(&number);
            if !known {
                self.inbox.remove(turn, number);
            }
        }
        Ok(())
    }

    /// A link is gone, and with it the answers; what is in the mailbox comes again.
    pub(crate) fn forget_parked(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let lost: Vec<u64> = self
            .inbox
            .parked
            .iter()
            .filter(|(_, (at, _))| *at == link)
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.inbox.remove(turn, number);
        }
    }
}

fn decode(value: &[u8]) -> Result<Row, ViewError> {
    cbor4ii::serde::from_slice(value).map_err(|_| damaged_row())
}

fn damaged_row() -> ViewError {
    ViewError("a row of the inbox is damaged".into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pace_allows_a_burst_and_then_its_rate() {
        let rate = limits::Rate { interval: Duration::from_millis(100), burst: 3 };
        let mut pace = Pace::default();
        let start = Time::from_origin(Duration::from_secs(10));
        for _ in 0..3 {
            assert!(pace.next(rate) <= start);
            pace.spend(start, rate);
        }
        assert_eq!(pace.next(rate), start + rate.interval);
        pace.spend(start + rate.interval, rate);
        assert_eq!(pace.next(rate), start + rate.interval * 2);
        let later = start + Duration::from_secs(9);
        pace.spend(later, rate);
        assert!(pace.next(rate) <= later, "a pause fills the budget again");
    }
}
