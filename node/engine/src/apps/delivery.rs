//! A bounded queue an application, and what happens when it is slow.
//!
//! At most [`limits::NOTICES_IN_FLIGHT`] notices are under way to a connection. What waits behind
//! them is small: an update waits as the object's address and is read when its turn comes, so
//! intermediate states of a slow application's object are skipped and never go back; every share
//! and every deletion arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use golix::Ghid;
use hypergolix_ipc::{ApiId, ConnectionId, Notice, NoticeId};

use crate::effect::Effect;
use crate::engine::Engine;
use crate::limits;
use crate::sharing::Share;
use crate::shelf;
use crate::turn::Turn;
use crate::view::ViewError;

/// Something that waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The newest state of an object.
    Update(Ghid),
    /// A share, with its number in the account. Every application that it was given to gets it,
    /// also after the first one took it.
    Share { number: u64, object: Ghid, origin: Ghid, api: ApiId },
    /// Another application of the same user made an object.
    OwnObject { object: Ghid, api: ApiId },
    /// An object is gone.
    Deleted(Ghid),
    /// How a share of this application ended.
    ShareResult { object: Ghid, recipient: Ghid, taken: bool },
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Objects with an update in `waiting`.
    updates: BTreeSet<Ghid>,
    /// Notices under way, and the share that each carries.
    in_flight: BTreeMap<NoticeId, Option<u64>>,
    next: u64,
}

impl Queue {
    pub(super) fn push(&mut self, waiting: Waiting) {
        if let Waiting::Update(address) = waiting
            && !self.updates.insert(address)
        {
            return;
        }
        self.waiting.push_back(waiting);
    }

    pub(super) fn forget_update(&mut self, address: &Ghid) {
        if self.updates.remove(address) {
            self.waiting.retain(|waiting| *waiting != Waiting::Update(*address));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Shares queued or under way.
    pub(super) fn shares(&self) -> Vec<u64> {
        let queued = self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Share { number, .. } => Some(*number),
            _ => None,
        });
        self.in_flight.values().copied().flatten().chain(queued).collect()
    }

    fn pop(&mut self) -> Option<Waiting> {
        if self.in_flight.len() >= limits::NOTICES_IN_FLIGHT {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        if let Waiting::Update(address) = &waiting {
            self.updates.remove(address);
        }
        Some(waiting)
    }
}

impl Engine {
    fn queue(&mut self, connection: ConnectionId, waiting: Waiting) {
        if let Some(app) = self.apps.open.get_mut(&connection) {
            app.queue.push(waiting);
            self.apps.busy.insert(connection);
        }
    }

    /// Sends what the windows of busy applications have room for.
    pub(crate) fn pump_apps(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for connection in std::mem::take(&mut self.apps.busy) {
            while let Some(waiting) =
                self.apps.open.get_mut(&connection).and_then(|app| app.queue.pop())
            {
                let share = match &waiting {
                    Waiting::Share { number, .. } => Some(*number),
                    _ => None,
                };
                let Some(body) = self.notice(turn, connection, waiting)? else {
                    continue;
                };
                let Some(app) = self.apps.open.get_mut(&connection) else {
                    break;
                };
                let notice = NoticeId(app.queue.next);
                app.queue.next += 1;
                app.queue.in_flight.insert(notice, share);
                turn.effect(Effect::Notify { connection, notice, body });
            }
        }
        Ok(())
    }

    /// The notice for something that waited; `None` if it is no longer true.
    fn notice(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        waiting: Waiting,
    ) -> Result<Option<Notice>, ViewError> {
        Ok(match waiting {
            Waiting::Update(address) => {
                let tracked = self
                    .apps
                    .open
                    .get(&connection)
                    .is_some_and(|app| app.tracked.contains(&address));
                if !tracked {
                    return Ok(None);
                }
                self.visible(turn, connection, &address)?
                    .map(|resolved| Notice::Update(Self::record_of(resolved)))
            }
            Waiting::Share { number, object, origin, api } => {
                if !self.apps.takes(connection, api) {
                    // It deregistered meanwhile; the client would never answer (ipc-wire.md 8.4).
                    self.shares.put_back(number, connection);
                    return Ok(None);
                }
                shelf::is_object(turn, &object)?.then_some(Notice::Share { object, origin, api })
            }
            Waiting::OwnObject { object, api } => {
                let wanted = self.apps.takes(connection, api) && shelf::is_object(turn, &object)?;
                wanted.then_some(Notice::Share { object, origin: self.me, api })
            }
            Waiting::Deleted(address) => Some(Notice::Deleted(address)),
            Waiting::ShareResult { object, recipient, taken: true } => {
                Some(Notice::ShareSucceeded { object, recipient })
            }
            Waiting::ShareResult { object, recipient, taken: false } => {
                Some(Notice::ShareFailed { object, recipient })
            }
        })
    }

    pub(crate) fn acknowledged(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        notice: NoticeId,
        accepted: bool,
    ) -> Result<(), ViewError> {
        let Some(app) = self.apps.open.get_mut(&connection) else {
            return Ok(());
        };
        let Some(share) = app.queue.in_flight.remove(&notice) else {
            return Ok(());
        };
        self.apps.busy.insert(connection);
        if let Some(share) = share {
            if accepted {
                self.shares.delivered(turn, &self.keyring, share)?;
            } else {
                self.shares.put_back(share, connection);
            }
        }
        Ok(())
    }

    /// An address has a new state: everybody who tracks it hears, except who made it.
    pub(crate) fn tell_update(&mut self, address: &Ghid, except: Option<ConnectionId>) {
        for connection in self.apps.trackers(address) {
            if Some(connection) != except {
                self.queue(connection, Waiting::Update(*address));
            }
        }
    }

    /// An address is gone; unless it still resolves, because another binding keeps it.
    pub(crate) fn tell_gone(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<(), ViewError> {
        if shelf::is_object(turn, address)? {
            return Ok(());
        }
        for connection in self.apps.trackers(address) {
            self.apps.untrack(connection, address);
            self.queue(connection, Waiting::Deleted(*address));
        }
        self.give_up_owed_of(turn, address)?;
        self.forget_object(turn, address)
    }

    /// A public object of an application goes to the other applications that take its api id.
    pub(crate) fn announce_to_own_apps(&mut self, object: Ghid, api: ApiId, creator: ConnectionId) {
        for connection in self.apps.with_api(api) {
            if connection != creator {
                self.queue(connection, Waiting::OwnObject { object, api });
            }
        }
    }

    /// How a share ended, for the application that asked for it, if it is connected.
    pub(crate) fn tell_share_result(
        &mut self,
        token: hypergolix_ipc::AppToken,
        object: Ghid,
        recipient: Ghid,
        taken: bool,
    ) {
        if let Some(connection) = self.apps.with_token(token) {
            self.queue(connection, Waiting::ShareResult { object, recipient, taken });
        }
    }

    /// Registers an api id, and hands over what waited for it.
    pub(super) fn register_api(&mut self, connection: ConnectionId, api: ApiId) {
        if let Some(app) = self.apps.open.get_mut(&connection) {
            app.apis.insert(api);
        }
        self.deliver_waiting_shares();
    }

    /// Queues every share that waits, is readable, and has somebody to take it.
    pub(crate) fn deliver_waiting_shares(&mut self) {
        for (number, share) in self.shares.deliverable() {
            let Share { object, origin, api, .. } = share;
            let takers = self.apps.with_api(api);
            if takers.is_empty() {
                continue;
            }
            let fresh = self.shares.give_to(number, &takers);
            for connection in fresh {
                self.queue(connection, Waiting::Share { number, object, origin, api });
            }
        }
    }
}
