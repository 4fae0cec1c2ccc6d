//! The end of a run: everything heals, everybody comes to rest, and everything is asked once more.

use golix::Ghid;
use hypergolix_ipc::{ConnectionId, Request};

use crate::Micros;
use crate::check::{Answers, Checker};
use crate::session::{Heard, Op};
use crate::world::World;

/// How often the world is looked at while it settles.
const LOOK_EVERY: Micros = 250_000;

/// How long the questions at the end may take: twice the engine's wait for other devices.
const ANSWERS_MAX: Micros = 5_000_000;

/// Messages of one pair of nodes while nothing changes, for each second: comparisons and pings.
const IDLE_MESSAGES: u64 = 4;

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
                let pairs = self.pairs().len() as u64;
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
        let linked = self.pairs().iter().all(|pair| self.network.current(*pair).is_some());
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
        let asking: Vec<(usize, ConnectionId)> = (0..self.users)
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
}
