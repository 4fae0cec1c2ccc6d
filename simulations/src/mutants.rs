//! Engines broken on purpose: each has to be caught, or the checkers are blind.
//!
//! The engine that ships has no switches for this. A mutant is the same engine whose effects,
//! writes or rows are tampered with on their way through the world.

use std::collections::BTreeMap;

use golix::Ghid;
use hypergolix_engine::{Effect, Input, Message};
use hypergolix_ipc::{ConnectionId, ErrorCode, Notice, NoticeId, ObjectRecord, Reply};

use crate::check::Checker;
use crate::session::{Op, State};
use crate::world::World;

/// One way to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Mutant {
    /// Applications are answered before the commit.
    AckBeforeCommit,
    /// Messages leave before the commit.
    SendBeforeCommit,
    /// A crash in a commit leaves half of its rows.
    TornCommit,
    /// A third of the events is lost, and nothing is ever compared.
    EventsLostForEver,
    /// A third of the updates shows the first state that the node ever showed.
    OldState,
    /// Updates that come in soon after a link opened are not passed on.
    DeafAfterReconnect,
    /// A restart forgets what was deleted.
    ForgetsTombstones,
    /// A restart forgets which shares are still owed.
    ForgetsOutbox,
    /// A restart forgets the shares that no application has taken yet.
    ForgetsWaitingShares,
    /// A restart forgets what is followed.
    ForgetsFollows,
    /// Every twentieth answer is given twice.
    AnswersTwice,
    /// Every twentieth answer is never given.
    AnswersNever,
    /// Two shares change places on their way to the application.
    SwapsShares,
    /// Shares are delivered again and again.
    RepeatsShares,
    /// The node says that an application has read what it has not.
    NoWindow,
    /// What was deleted is still shown as it was.
    ShowsDeleted,
    /// Sends messages without end.
    Chatters,
    /// Takes every twentieth silence for an offence.
    Accuses,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Mutant; 18] = [
        Self::AckBeforeCommit,
        Self::SendBeforeCommit,
        Self::TornCommit,
        Self::EventsLostForEver,
        Self::OldState,
        Self::DeafAfterReconnect,
        Self::ForgetsTombstones,
        Self::ForgetsOutbox,
        Self::ForgetsWaitingShares,
        Self::ForgetsFollows,
        Self::AnswersTwice,
        Self::AnswersNever,
        Self::SwapsShares,
        Self::RepeatsShares,
        Self::NoWindow,
        Self::ShowsDeleted,
        Self::Chatters,
        Self::Accuses,
    ];

    /// The checkers that may be the first to catch it.
    pub fn caught_by(self) -> &'static [Checker] {
        match self {
            Self::AckBeforeCommit => &[Checker::Acknowledged],
            // Half a commit may be any rule's trouble, and so may a message that came too early.
            Self::TornCommit | Self::SendBeforeCommit => {
                &[Checker::Acknowledged, Checker::NeverBack, Checker::Agree, Checker::Shares]
            }
            Self::EventsLostForEver | Self::ForgetsFollows => &[Checker::Agree],
            Self::OldState | Self::ShowsDeleted => &[Checker::NeverBack],
            Self::DeafAfterReconnect => &[Checker::Heard],
            Self::ForgetsTombstones | Self::ForgetsOutbox => &[Checker::Agree, Checker::Shares],
            Self::AnswersTwice | Self::AnswersNever => &[Checker::Answers],
            Self::ForgetsWaitingShares | Self::SwapsShares | Self::RepeatsShares => {
                &[Checker::Shares]
            }
            Self::NoWindow | Self::Chatters => &[Checker::Bounded],
            Self::Accuses => &[Checker::Sound],
        }
    }
}

/// What a mutant remembers.
#[derive(Debug, Default)]
pub(crate) struct Mutation {
    /// The first record shown of an object, by node.
    first: BTreeMap<(usize, Ghid), ObjectRecord>,
    /// The newest one.
    shown: BTreeMap<(usize, Ghid), ObjectRecord>,
    /// A share held back.
    held: BTreeMap<(usize, ConnectionId), Effect>,
}

impl World<'_> {
    /// What a mutant makes of an effect; `None` if nothing is left of it.
    pub(crate) fn tamper(&mut self, node: usize, effect: Effect) -> Option<Effect> {
        let Some(mutant) = self.mutant else {
            return Some(effect);
        };
        match effect {
            Effect::Send { link, message } => {
                let answer = match (mutant, &message) {
                    (Mutant::EventsLostForEver, Message::Event { cursor, .. })
                        if self.chance.mutant.happens(0.3) =>
                    {
                        Some(Message::EventAck { seq: cursor.seq })
                    }
                    // What negentropy says when both sides are equal.
                    (Mutant::EventsLostForEver, Message::Reconcile { subscriber: true, .. }) => {
                        Some(Message::Reconcile { body: vec![0x61].into(), subscriber: false })
                    }
                    (Mutant::Chatters, Message::Hello { .. } | Message::Pong { .. }) => {
                        self.carry_out_as_it_is(node, Effect::Send { link, message });
                        let message = Message::Ping { id: 0 };
                        return Some(Effect::Send { link, message });
                    }
                    _ => None,
                };
                let Some(message) = answer else {
                    return Some(Effect::Send { link, message });
                };
                self.input(node, Input::LinkMessage { link, message });
                None
            }
            Effect::Answer { connection, token, mut answer } => {
                if let Ok(Reply::Record(record)) = &answer
                    && let Some(address) = record.address
                {
                    let first = self.mutation.first.entry((node, address));
                    first.or_insert_with(|| record.clone());
                    self.mutation.shown.insert((node, address), record.clone());
                }
                match mutant {
                    Mutant::AnswersNever if self.chance.mutant.happens(0.05) => return None,
                    Mutant::AnswersTwice if self.chance.mutant.happens(0.05) => {
                        let answer = answer.clone();
                        let again = Effect::Answer { connection, token, answer };
                        self.carry_out_as_it_is(node, again);
                    }
                    Mutant::ShowsDeleted => {
                        let asked = self.sessions.get(&(node, connection));
                        let op = asked.and_then(|session| session.pending.get(&token.0));
                        if let (Some(Op::Get(object)), Err(error)) = (op, &answer)
                            && error.code == ErrorCode::DoesNotExist
                            && let Some(record) = self.mutation.shown.get(&(node, *object))
                        {
                            answer = Ok(Reply::Record(record.clone()));
                        }
                    }
                    _ => {}
                }
                Some(Effect::Answer { connection, token, answer })
            }
            Effect::Notify { connection, notice, body } => {
                self.tamper_with_notice(mutant, node, connection, notice, body)
            }
            Effect::CloseLink { link, reason, misbehaved: false } if mutant == Mutant::Accuses => {
                let misbehaved = self.chance.mutant.happens(0.05);
                Some(Effect::CloseLink { link, reason, misbehaved })
            }
            other => Some(other),
        }
    }

    fn tamper_with_notice(
        &mut self,
        mutant: Mutant,
        node: usize,
        connection: ConnectionId,
        notice: NoticeId,
        mut body: Notice,
    ) -> Option<Effect> {
        let accepted = Input::AppAcknowledged { connection, notice, accepted: true };
        if mutant == Mutant::NoWindow {
            self.input(node, accepted.clone());
        }
        if let Notice::Update(record) = &mut body
            && let Some(address) = record.address
        {
            if mutant == Mutant::DeafAfterReconnect
                && self.link_up_at.get(&node).is_some_and(|at| self.now < at + 500_000)
            {
                self.input(node, accepted);
                return None;
            }
            let first =
                self.mutation.first.entry((node, address)).or_insert_with(|| record.clone());
            if mutant == Mutant::OldState
                && State::decode(&first.state) < State::decode(&record.state)
                && self.chance.mutant.happens(0.3)
            {
                *record = first.clone();
            }
            self.mutation.shown.insert((node, address), record.clone());
        }
        let share = matches!(body, Notice::Share { .. });
        let effect = Effect::Notify { connection, notice, body };
        match mutant {
            Mutant::RepeatsShares if share && self.chance.mutant.happens(0.1) => {
                self.carry_out_as_it_is(node, effect.clone());
            }
            Mutant::SwapsShares if share => {
                let Some(first) = self.mutation.held.remove(&(node, connection)) else {
                    if self.is_calm {
                        return Some(effect);
                    }
                    self.mutation.held.insert((node, connection), effect);
                    return None;
                };
                self.carry_out_as_it_is(node, effect);
                return Some(first);
            }
            _ => {}
        }
        Some(effect)
    }

    /// Shares that a mutant held back and that found no other to change places with.
    pub(crate) fn give_up_swapping(&mut self) {
        for ((node, _), effect) in std::mem::take(&mut self.mutation.held) {
            self.carry_out_as_it_is(node, effect);
        }
    }
}
