//! The end of a run: everything heals, everybody comes to rest, and everything is asked once more.

use std::collections::BTreeMap;

use golix::Ghid;
use hypergolix_engine::view::{Table, View as _};
use hypergolix_ipc::{ConnectionId, ErrorCode, IpcError, Request};

use crate::Micros;
use crate::app::{Heard, Op, State};
use crate::check::{Checker, Copied, Hold, Object, Oracle};
use crate::world::World;

/// How often the world is looked at while it settles.
const LOOK_EVERY: Micros = 250_000;

/// How long the questions at the end may take: twice the engine's wait for other devices.
const ANSWERS_MAX: Micros = 5_000_000;

/// Messages of one pair of nodes while nothing changes, for each second: comparisons and pings.
const IDLE_MESSAGES: u64 = 4;

/// What each node answered about each address.
type Answers = BTreeMap<(usize, Ghid), Result<State, IpcError>>;

impl World<'_> {
    pub(crate) fn finish(&mut self) {
        let healed_at = self.now;
        self.heal();
        self.settle();
        let agreed_in = self.last_change.saturating_sub(healed_at);
        self.stats.agreed_in = agreed_in;
        self.stats.agreed_in_max = (agreed_in, self.seed);
        let first = self.ask_everything();
        self.judge(&first);
        if self.oracle.violation.is_some() {
            return;
        }
        // The same again after every process was killed: nothing lived in memory alone.
        self.trace(|| "all nodes die and start again".into());
        for node in 0..self.nodes.len() {
            self.crash(node, 50_000);
            self.stats.crashes = self.stats.crashes.saturating_sub(1);
        }
        self.last_change = self.now;
        self.settle();
        let second = self.ask_everything();
        self.judge(&second);
        for ((node, object), answer) in &first {
            let again = second.get(&(*node, *object));
            if self.oracle.violation.is_none() && again.is_some_and(|again| again != answer) {
                let text =
                    format!("n{node}: {object} was {answer:?}, is {again:?} after a restart");
                self.violation(Checker::Acknowledged, text);
            }
        }
    }

    /// No more faults and acts; every node and application comes back.
    fn heal(&mut self) {
        self.trace(|| "healing".into());
        self.is_calm = true;
        self.last_change = self.now;
        self.join();
        self.give_up_swapping();
        for number in 0..self.nodes.len() {
            self.nodes[number].crash_at = None;
            self.start(number);
        }
        self.dial_all();
        for number in 0..self.apps.len() {
            let (node, api) = (self.apps[number].node, self.apps[number].api);
            // Those that are away come back by themselves.
            if let Some(connection) = self.apps[number].session {
                self.ask(node, connection, Op::Register(api), Request::RegisterApi(api));
            }
        }
    }

    /// Runs until nothing changes any more, or until the scenario's patience ends.
    fn settle(&mut self) {
        let deadline = self.now + self.scenario.settle_max * 1_000;
        let quiet = self.scenario.quiet * 1_000;
        // Since when everything is complete and nothing changed, and the messages sent by then.
        let mut since = self.now;
        let mut sent_before = self.stats.messages;
        while self.oracle.violation.is_none() {
            self.run_until(self.now + LOOK_EVERY);
            if !self.is_complete() || self.last_change > since {
                since = self.now;
                sent_before = self.stats.messages;
            }
            if self.now - since >= quiet {
                let sent = self.stats.messages - sent_before;
                let pairs = (self.nodes.len() * (self.nodes.len() - 1) / 2) as u64;
                if sent > IDLE_MESSAGES * pairs * quiet / 1_000_000 {
                    let text = format!("{sent} messages while nothing changes");
                    self.violation(Checker::Bounded, text);
                }
                return;
            }
            if self.now > deadline {
                let text = format!(
                    "no rest after {} ms without faults; complete: {}",
                    self.scenario.settle_max,
                    self.is_complete()
                );
                self.violation(Checker::Agree, text);
            }
        }
    }

    /// Every node runs and is idle, every pair is linked, every application is connected and has read.
    fn is_complete(&self) -> bool {
        let count = self.nodes.len();
        let linked =
            (0..count).all(|a| (a + 1..count).all(|b| self.network.current((a, b)).is_some()));
        let connected = self.apps.iter().all(|app| app.session.is_some());
        let read = self.sessions.values().all(|session| !session.is_open || session.unread == 0);
        self.nodes.iter().all(crate::node::Node::is_at_rest) && linked && connected && read
    }

    /// Asks every node for everything that was ever made.
    fn ask_everything(&mut self) -> Answers {
        let mut answers = Answers::new();
        if self.oracle.violation.is_some() {
            return answers;
        }
        // Private objects are their application's to ask for, and it does after each reconnect.
        let objects = self.oracle.objects.iter().filter(|(_, object)| !object.making.private);
        let copies = self.oracle.copies.iter().filter(|(_, copied)| !copied.private);
        let everything: Vec<Ghid> = objects
            .map(|(address, _)| *address)
            .chain(copies.map(|(address, _)| *address))
            .collect();
        let asking: Vec<(usize, ConnectionId)> = (0..self.nodes.len())
            .map(|node| {
                let connection = self.connect(node, None);
                for object in &everything {
                    self.ask(node, connection, Op::Get(*object), Request::Get(*object));
                }
                (node, connection)
            })
            .collect();
        self.run_until(self.now + ANSWERS_MAX);
        for (node, connection) in asking {
            let Some(session) = self.sessions.get_mut(&(node, connection)) else {
                continue;
            };
            let given = std::mem::take(&mut session.answers);
            answers.extend(given.into_iter().map(|(object, answer)| ((node, object), answer)));
        }
        self.unanswered_for_ever();
        answers
    }

    /// Nothing to do for somebody who only asks; a lost connection is noticed as a lost answer.
    #[expect(clippy::unused_self, reason = "the counterpart of what applications do")]
    pub(crate) fn asker_hears(&self, _: usize, _: ConnectionId, _: &Heard) {}

    fn unanswered_for_ever(&mut self) {
        let waits = self.sessions.iter().find_map(|((node, connection), session)| {
            let (_, op) = session.pending.first_key_value()?;
            session.is_open.then(|| format!("n{node} never answers app {}: {op:?}", connection.0))
        });
        if let Some(text) = waits {
            self.violation(Checker::Answers, text);
        }
    }

    fn judge(&mut self, answers: &Answers) {
        if self.oracle.violation.is_some() {
            return;
        }
        self.oracle.now_is(self.now);
        let ends = self.oracle.judge_objects(answers, self.nodes.len());
        self.oracle.judge_copies(answers);
        self.judge_applications(&ends);
        self.judge_shares(&ends);
        self.judge_rows();
    }

    /// With everybody reachable, nothing is owed any more.
    fn judge_rows(&mut self) {
        for number in 0..self.nodes.len() {
            let owed = self.nodes[number].disk.len(Table::Outbox).unwrap_or_default();
            if owed > 0 {
                let text = format!("n{number} still owes {owed} shares or answers");
                self.violation(Checker::Bounded, text);
            }
        }
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
                || copied.is_some_and(|copied| copied.binders.get(sender) == Some(&false));
            let api = known
                .map(|known| known.making.api)
                .or_else(|| copied.and_then(|copied| copied.api));
            let takers =
                self.apps.iter().filter(|app| app.node == *recipient && Some(app.api) == api);
            let takers = takers.count();
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
                        && registered.is_some_and(|(_, at)| *at < offer.asked_at)
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
                    let unwanted = self.unwanted.contains(&(reader, address));
                    if !unwanted && !matches!(answers.get(&(reader, address)), Some(Ok(_))) {
                        let text = format!("n{reader} does not have n{binder}'s copy {short}");
                        self.fail(Checker::Agree, text);
                    }
                }
            }
        }
    }
}
