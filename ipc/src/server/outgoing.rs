//! The one outgoing queue of a connection.
//!
//! Answers and notices leave in the order in which they were queued: an answer first, and then
//! what the connection is told because of it. Wire reference, section 3, “order on one connection”.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use golix::Ghid;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::error::IpcError;
use crate::ids::{ConnectionId, NoticeId, RequestToken};
use crate::limits::{
    MESSAGE_MAX_OUT, OUTGOING_BYTES_MAX, OUTGOING_LAG, OUTGOING_LAG_BYTES, OUTGOING_MAX,
};
use crate::message::{Notice, Reply};

/// The way back to one application. Cheap to clone; never blocks.
///
/// Everything queued through it, by any clone, leaves in that order. The queue is bounded: an
/// application that does not read loses its connection at [`OUTGOING_MAX`] messages or
/// [`OUTGOING_BYTES_MAX`] bytes. Before that, from [`OUTGOING_LAG`] messages or
/// [`OUTGOING_LAG_BYTES`] bytes on, a newer update of an object takes the place of older ones that
/// did not leave yet; the acknowledgement of the newer one then settles the older ones too.
#[derive(Clone)]
pub struct Outgoing(Arc<Connection>);

/// What the tasks of a connection and its [`Outgoing`]s share.
struct Connection {
    id: ConnectionId,
    state: Mutex<State>,
    /// Something was queued.
    wake: Notify,
    /// The connection is to end.
    close: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Item>,
    bytes: usize,
    in_flight: HashMap<RequestToken, Vec<InFlight>>,
    undeliverable: Vec<NoticeId>,
    closing: Option<&'static str>,
}

/// Room that a request takes until it is answered.
pub(crate) struct InFlight {
    pub(crate) _bytes: OwnedSemaphorePermit,
    pub(crate) _request: OwnedSemaphorePermit,
}

/// Something to write.
pub(crate) enum Item {
    /// The answer to a request.
    Answer(RequestToken, Result<Reply, IpcError>),
    /// A notice, and the ids that its acknowledgement settles.
    Notice(Vec<NoticeId>, Notice),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Item::Answer(_, Ok(reply)) => reply.encoded_len(),
            Item::Answer(_, Err(error)) => 8 + error.text.len(),
            Item::Notice(_, notice) => notice.encoded_len(),
        }
    }

    /// The object of which this is an update.
    fn updates(&self) -> Option<Ghid> {
        match self {
            Item::Notice(_, Notice::Update(record)) => record.address,
            Item::Notice(..) | Item::Answer(..) => None,
        }
    }
}

impl Outgoing {
    pub(crate) fn new(id: ConnectionId) -> Self {
        Self(Arc::new(Connection {
            id,
            state: Mutex::default(),
            wake: Notify::new(),
            close: Notify::new(),
        }))
    }

    /// The connection this leads to.
    pub fn connection(&self) -> ConnectionId {
        self.0.id
    }

    /// Queues the answer to a request. Each request is answered once.
    pub fn answer(&self, token: RequestToken, answer: Result<Reply, IpcError>) {
        let mut state = self.state();
        if let Some(requests) = state.in_flight.get_mut(&token) {
            requests.pop();
            if requests.is_empty() {
                state.in_flight.remove(&token);
            }
        } else {
            tracing::debug!(?token, "an answer to a request that is not open");
        }
        self.push(state, Item::Answer(token, answer));
    }

    /// Queues a notice. [`Service::acknowledged`](super::Service::acknowledged) reports what the
    /// application said to it, unless the connection ends first.
    pub fn notify(&self, notice: NoticeId, body: Notice) {
        let mut state = self.state();
        if body.encoded_len() > MESSAGE_MAX_OUT {
            tracing::error!(len = body.encoded_len(), "a notice is too long for the application");
            state.undeliverable.push(notice);
            drop(state);
            self.0.wake.notify_one();
            return;
        }
        self.push(state, Item::Notice(vec![notice], body));
    }

    /// Ends the connection. What is queued is not written any more.
    pub fn close(&self, reason: &'static str) {
        self.state().close(reason);
        self.0.close.notify_one();
    }

    /// Waits until the connection is to end, and tells why. Cancel-safe.
    pub(crate) async fn closing(&self) -> &'static str {
        loop {
            if let Some(reason) = self.state().closing {
                return reason;
            }
            self.0.close.notified().await;
        }
    }

    /// Counts a request as in flight until it is answered.
    pub(crate) fn begin(&self, token: RequestToken, room: InFlight) {
        self.state().in_flight.entry(token).or_default().push(room);
    }

    /// Waits for something to write: at least one item, and more as long as they are short.
    ///
    /// None at all if there are only undeliverable notices to report. Cancel-safe: nothing is
    /// taken before it returns.
    pub(crate) async fn next(&self, batch_bytes: usize) -> Vec<Item> {
        loop {
            {
                let mut state = self.state();
                let mut items = Vec::new();
                let mut bytes = 0;
                while let Some(item) = state.queue.front() {
                    bytes += item.len();
                    if !items.is_empty() && bytes > batch_bytes {
                        break;
                    }
                    state.bytes -= item.len();
                    items.extend(state.queue.pop_front());
                }
                if !items.is_empty() || !state.undeliverable.is_empty() {
                    return items;
                }
            }
            self.0.wake.notified().await;
        }
    }

    /// Notices that could not be sent at all since the last call.
    pub(crate) fn take_undeliverable(&self) -> Vec<NoticeId> {
        std::mem::take(&mut self.state().undeliverable)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held cannot leave it half changed: nothing in here panics midway.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, mut item: Item) {
        if state.closing.is_some() {
            return;
        }
        let lags = state.queue.len() >= OUTGOING_LAG || state.bytes >= OUTGOING_LAG_BYTES;
        if lags && let Some(object) = item.updates() {
            let older = state.take_updates(object);
            if let Item::Notice(notices, _) = &mut item {
                notices.splice(0..0, older);
            }
        }
        let len = item.len();
        let full = state.queue.len() >= OUTGOING_MAX
            || (!state.queue.is_empty() && state.bytes + len > OUTGOING_BYTES_MAX);
        if full {
            state.close("the application does not read what it is sent");
            drop(state);
            self.0.close.notify_one();
        } else {
            state.bytes += len;
            state.queue.push_back(item);
            drop(state);
            self.0.wake.notify_one();
        }
    }
}

impl State {
    /// The first reason stands; nothing is written any more.
    fn close(&mut self, reason: &'static str) {
        self.closing.get_or_insert(reason);
        self.queue.clear();
        self.bytes = 0;
    }

    /// Removes the queued updates of an object and returns their ids, oldest first.
    fn take_updates(&mut self, object: Ghid) -> Vec<NoticeId> {
        let mut notices = Vec::new();
        let mut bytes = 0;
        self.queue.retain_mut(|item| {
            if item.updates() != Some(object) {
                return true;
            }
            bytes += item.len();
            if let Item::Notice(ids, _) = item {
                notices.append(ids);
            }
            false
        });
        self.bytes -= bytes;
        notices
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outgoing").field(&self.0.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ApiId;
    use crate::object_record::ObjectRecord;

    fn update(name: &[u8], state: Vec<u8>) -> Notice {
        Notice::Update(ObjectRecord {
            address: Some(Ghid::of(name)),
            author: None,
            private: false,
            dynamic: true,
            legroom: 7,
            api: ApiId::OBJ,
            link: false,
            state: state.into(),
        })
    }

    async fn all(outgoing: &Outgoing) -> Vec<Item> {
        outgoing.next(usize::MAX).await
    }

    #[tokio::test]
    async fn keeps_the_order() {
        let outgoing = Outgoing::new(ConnectionId(1));
        outgoing.answer(RequestToken(5), Ok(Reply::Done));
        outgoing.notify(NoticeId(1), update(b"a", vec![1]));
        outgoing.clone().notify(NoticeId(2), update(b"a", vec![2]));
        let items = all(&outgoing).await;
        assert!(matches!(items[0], Item::Answer(RequestToken(5), Ok(Reply::Done))));
        assert!(matches!(&items[1], Item::Notice(ids, _) if *ids == [NoticeId(1)]));
        assert!(matches!(&items[2], Item::Notice(ids, _) if *ids == [NoticeId(2)]));
    }

    #[tokio::test]
    async fn a_lagging_connection_gets_the_newest_state_last() {
        let outgoing = Outgoing::new(ConnectionId(1));
        for number in 0..OUTGOING_LAG as u64 {
            outgoing.notify(NoticeId(number), update(b"a", vec![0]));
        }
        outgoing.answer(RequestToken(1), Ok(Reply::Done));
        outgoing.notify(NoticeId(1_000), update(b"a", vec![1]));
        let items = all(&outgoing).await;
        assert_eq!(items.len(), 2);
        assert!(matches!(items[0], Item::Answer(..)));
        let Item::Notice(ids, Notice::Update(record)) = &items[1] else { panic!("an update") };
        assert_eq!(ids.len(), OUTGOING_LAG + 1);
        assert!(ids.is_sorted());
        assert_eq!(*record.state, [1]);
    }

    #[tokio::test]
    async fn overflow_closes() {
        for (count, size) in [(OUTGOING_MAX + 1, 1), (70, 1 << 20)] {
            let outgoing = Outgoing::new(ConnectionId(1));
            for number in 0..count {
                let name = number.to_be_bytes();
                outgoing.notify(NoticeId(number as u64), update(&name, vec![0; size]));
            }
            assert!(outgoing.closing().await.contains("does not read"));
        }
    }

    #[tokio::test]
    async fn batches_are_bounded() {
        let outgoing = Outgoing::new(ConnectionId(1));
        for number in 0..10 {
            outgoing.notify(NoticeId(number), update(b"a", vec![0; 1_000]));
        }
        assert_eq!(outgoing.next(3_000).await.len(), 2);
    }
}
