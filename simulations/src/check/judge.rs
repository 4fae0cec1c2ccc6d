//! What must hold when everything is healed and at rest.

use std::collections::BTreeMap;

use golix::Ghid;
use hypergolix_engine::view::{Table, View as _};
use hypergolix_ipc::{ErrorCode, IpcError};

use super::Checker;
use super::oracle::{Copied, Hold, Object, Oracle};
use crate::session::State;
use crate::world::World;

/// What each node answered about each address.
pub(crate) type Answers = BTreeMap<(usize, Ghid), Result<State, IpcError>>;

/// Kinds of account records (docs/store.md): a key, and a share that no application took yet.
const RECORD_SECRET: u8 = 1;
const RECORD_SHARE: u8 = 4;

impl World<'_> {
    pub(crate) fn judge(&mut self, answers: &Answers) {
        if self.oracle.violation.is_some() {
            return;
        }
        self.oracle.now_is(self.now);
        let ends = self.oracle.judge_objects(answers, self.users);
        self.oracle.judge_copies(answers);
        self.judge_applications(&ends);
        self.judge_shares(&ends);
        self.judge_rows(answers);
    }

    /// At rest, with everybody reachable, nothing is owed, and rows for things that are no more are
    /// gone. The only rule that looks into the stores.
    fn judge_rows(&mut self, answers: &Answers) {
        for number in 0..self.users {
            if let Some(text) = self.superfluous_rows(number, answers) {
                self.violation(Checker::Bounded, format!("n{number} {text}"));
            }
        }
    }

    fn superfluous_rows(&self, number: usize, answers: &Answers) -> Option<String> {
        let disk = &self.nodes[number].disk;
        let owed = disk.len(Table::Outbox).unwrap_or_default();
        if owed > 0 {
            return Some(format!("still owes {owed} shares or answers"));
        }
        let follows = disk.range(Table::Follows, &[], &[u8::MAX], usize::MAX).unwrap_or_default();
        let mut orphans = std::collections::BTreeSet::new();
        for (row, _) in follows {
            let address = row.get(..Ghid::LEN).and_then(|row| Ghid::from_bytes(row).ok())?;
            // Through a mailbox somebody else's object can be shared that is gone meanwhile, and
            // nothing but its owner's word would prove that.
            let source = row.get(Ghid::LEN..).and_then(|row| Ghid::from_bytes(row).ok())?;
            let owner = self.oracle.objects.get(&address).map(|object| object.making.owner);
            let by_owner = owner.is_some_and(|owner| self.oracle.is_fingerprint(owner, &source));
            if self.scenario.servers[1] > 0 && !by_owner {
                if matches!(answers.get(&(number, address)), Some(Err(_))) {
                    orphans.insert(address);
                }
                continue;
            }
            // Of others nobody was ever told.
            if matches!(answers.get(&(number, address)), Some(Err(_))) {
                return Some(format!("follows {}, which it cannot read", address.short()));
            }
        }
        let records = |kind: u8| {
            disk.range(Table::Account, &[kind], &[kind + 1], usize::MAX)
                .map_or(0, |rows| rows.len())
        };
        let nobodys = self.oracle.offers.iter().filter(|((_, to, object), offer)| {
            *to == number && !offer.refused && self.takers(number, object) == 0
        });
        let (waiting, nobodys) = (records(RECORD_SHARE), nobodys.count());
        if waiting > nobodys + orphans.len() {
            return Some(format!("keeps {waiting} shares, {nobodys} of them for nobody"));
        }
        let readable =
            answers.iter().filter(|((node, _), answer)| *node == number && answer.is_ok()).count();
        let unseen = self.oracle.copies.values().filter(|copied| copied.private).count();
        let keys = records(RECORD_SECRET);
        if keys > readable + unseen + self.oracle.unheard() + orphans.len() {
            return Some(format!("keeps {keys} keys for {readable} objects"));
        }
        None
    }

    /// How many applications of a node take shares of an object.
    fn takers(&self, number: usize, object: &Ghid) -> usize {
        let api = self.oracle.api(object);
        self.apps.iter().filter(|app| app.node == number && Some(app.api) == api).count()
    }

    /// Who follows an object was told how it ended.
    fn judge_applications(&mut self, ends: &BTreeMap<Ghid, Option<u64>>) {
        let mut deaf = None;
        for ((node, connection), session) in &self.sessions {
            if !session.is_open || session.app.is_none() {
                continue;
            }
            for (address, seen) in &session.tracked {
                let wrong = match (ends.get(address), self.oracle.objects.get(address)) {
                    (Some(Some(last)), _) => *last != seen.number,
                    (Some(None), Some(object)) if object.making.dynamic => {
                        !self.oracle.holds.contains_key(&(*node, *address))
                    }
                    _ => false,
                };
                if wrong {
                    deaf = Some(format!(
                        "n{node} app {} was last shown {} at {}; it ended as {:?}",
                        connection.0,
                        address.short(),
                        seen.number,
                        ends.get(address)
                    ));
                }
            }
        }
        if let Some(text) = deaf {
            self.violation(Checker::Heard, text);
        }
    }

    fn judge_shares(&mut self, ends: &BTreeMap<Ghid, Option<u64>>) {
        let mut wrong = None;
        // Of each sender, recipient and api id, the acknowledged shares as (acknowledged, given).
        let mut in_order: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
        for ((sender, recipient, object), offer) in &self.oracle.offers {
            let Some(order) = offer.order else {
                continue;
            };
            let known = self.oracle.objects.get(object);
            let copied = self.oracle.copies.get(object);
            let lives = known.is_some_and(|known| known.deletes_asked == 0)
                && ends.get(object).is_some_and(Option::is_some)
                || copied.is_some_and(|copied| copied.binders.get(sender) == Some(&false))
                    && !self.oracle.unwanted.contains(&(*recipient, *object));
            let api = self.oracle.api(object);
            let takers = self.takers(*recipient, object);
            let short = object.short();
            if let Some(given) = offer.given {
                // Among several, a slow application does not hold up the others.
                if takers == 1 {
                    in_order.entry((*sender, *recipient, api)).or_default().push((order, given));
                }
                let name = (*sender, *object);
                let left_out = self.sessions.iter().find(|((node, _), session)| {
                    let registered = api.and_then(|api| session.apis.get(&api));
                    node == recipient
                        && session.is_open
                        && registered.is_some_and(|at| *at < offer.asked_at)
                        && !session.shares.contains(&name)
                        && !session.refused.contains(&name)
                });
                if let Some(((node, connection), _)) = left_out
                    && lives
                {
                    wrong = Some(format!(
                        "n{sender}'s share of {short} went to others than n{node}'s app {}",
                        connection.0
                    ));
                }
            }
            if lives && takers > 0 && offer.taken.is_none() {
                wrong = Some(format!(
                    "n{sender}'s share of {short} with n{recipient} did not arrive; given: {}",
                    offer.given.is_some()
                ));
            }
        }
        if self.scenario.servers[1] > 0 {
            // Two mailboxes have no order among them.
            in_order.clear();
        }
        for ((sender, recipient, _), mut shares) in in_order {
            shares.sort_unstable();
            if !shares.is_sorted_by_key(|(_, given)| given) {
                wrong = Some(format!("shares of n{sender} with n{recipient} change their order"));
            }
        }
        if let Some(text) = wrong {
            self.violation(Checker::Shares, text);
        }
    }
}

impl Oracle {
    /// Judges what nodes say of objects; returns how each ended: its last state, or gone.
    fn judge_objects(&mut self, answers: &Answers, nodes: usize) -> BTreeMap<Ghid, Option<u64>> {
        let objects: Vec<(Ghid, Object)> =
            self.objects.iter().map(|(address, object)| (*address, object.clone())).collect();
        let mut ends = BTreeMap::new();
        for (address, object) in objects {
            if object.making.private {
                continue;
            }
            let owner = object.making.owner;
            let short = address.short();
            let end = match answers.get(&(owner, address)) {
                Some(Ok(state)) => {
                    if object.deleted && object.making.dynamic {
                        let text = format!("n{owner} still has {short}, which it deleted");
                        self.fail(Checker::Acknowledged, text);
                    }
                    Some(state.number)
                }
                Some(Err(error)) if error.code == ErrorCode::DoesNotExist => {
                    if object.deletes_asked == 0 {
                        self.fail(Checker::Acknowledged, format!("n{owner} has lost {short}"));
                    }
                    None
                }
                other => {
                    self.fail(Checker::Answers, format!("n{owner} on {short}: {other:?}"));
                    None
                }
            };
            ends.insert(address, end);
            for node in (0..nodes).filter(|node| *node != owner) {
                self.judge_replica(answers, &address, &object, node, end);
            }
        }
        ends
    }

    fn judge_replica(
        &mut self,
        answers: &Answers,
        address: &Ghid,
        object: &Object,
        node: usize,
        end: Option<u64>,
    ) {
        let short = address.short();
        let number = match answers.get(&(node, *address)) {
            Some(Ok(state)) => Some(state.number),
            _ => None,
        };
        let offers = self.offers.iter().filter(|((_, to, of), _)| *to == node && of == address);
        let (mut offered, mut acknowledged) = (false, false);
        for (_, offer) in offers {
            offered |= !offer.refused;
            acknowledged |= offer.order.is_some();
        }
        match (end, number) {
            (_, Some(_)) if !offered => {
                let text = format!("n{node} can read {short}, which nobody shared with it");
                self.fail(Checker::Agree, text);
            }
            (Some(end), Some(number)) if end != number => {
                let text = format!("n{node} has {short} at {number}, its owner at {end}");
                self.fail(Checker::Agree, text);
            }
            // A static object that its owner deleted comes back to it when others share it.
            (Some(end), None)
                if acknowledged && (object.making.dynamic || object.deletes_asked == 0) =>
            {
                let text = format!("n{node} does not have {short}, its owner at {end}");
                self.fail(Checker::Agree, text);
            }
            (None, Some(number)) => {
                let held = self.holds.contains_key(&(node, *address));
                // Who holds a static object may share it on; then it is theirs.
                let others = self.holds.keys().any(|(_, held)| held == address);
                if !held && (object.making.dynamic || !others) {
                    let text = format!("n{node} has {short} at {number}, which was deleted");
                    self.fail(Checker::Agree, text);
                }
            }
            (None, None) if self.holds.get(&(node, *address)) == Some(&Hold::Held) => {
                self.fail(Checker::Acknowledged, format!("n{node} held {short} and lost it"));
            }
            _ => {}
        }
    }

    /// Copies stay where they were made and where they were shared.
    fn judge_copies(&mut self, answers: &Answers) {
        let copies: Vec<(Ghid, Copied)> =
            self.copies.iter().map(|(address, copied)| (*address, copied.clone())).collect();
        for (address, copied) in copies {
            if copied.private {
                continue;
            }
            let short = address.short();
            for (binder, leaving) in &copied.binders {
                if *leaving {
                    continue;
                }
                if !matches!(answers.get(&(*binder, address)), Some(Ok(_))) {
                    let text = format!("n{binder} made the copy {short} and lost it");
                    self.fail(Checker::Acknowledged, text);
                }
                let readers: Vec<usize> = self
                    .offers
                    .iter()
                    .filter(|((from, _, of), offer)| {
                        from == binder && *of == address && offer.order.is_some()
                    })
                    .map(|((_, to, _), _)| *to)
                    .collect();
                for reader in readers {
                    // Deleted and made again is not shared again.
                    let unwanted = self.unwanted.contains(&(reader, address))
                        || self.unwanted.contains(&(*binder, address));
                    if !unwanted && !matches!(answers.get(&(reader, address)), Some(Ok(_))) {
                        let text = format!("n{reader} does not have n{binder}'s copy {short}");
                        self.fail(Checker::Agree, text);
                    }
                }
            }
        }
    }
}
