//! What happens to an object from outside, as a bounded stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// States that wait for a reader who lags; beyond that the oldest is dropped.
const QUEUE_MAX: usize = 64;

/// Bytes of states that wait for a reader who lags (1 MiB; a guess). The newest is always kept.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Something that happened to an object, not through this handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<S = Arc<[u8]>> {
    /// It has a new state; the object has it already.
    State(S),
    /// It was deleted; the object is dead. The last of its updates.
    Deleted,
}

/// The updates of one object, in order. Ends when the object is deleted, discarded or dropped.
///
/// A reader who lags misses older states, never the newest, and never sees an older one after a
/// newer one: at most 64 states or 1 MiB wait. Also a [`futures::Stream`].
#[derive(Debug)]
pub struct Updates(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Update>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

/// Every reader of one object's updates.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<Vec<Weak<Queue>>>);

impl Updates {
    /// The next update; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        let mut state = self.0.state();
        if let Some(update) = state.waiting.pop_front() {
            state.bytes -= size(&update);
            return Poll::Ready(Some(update));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl futures::Stream for Updates {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.get_mut().poll(cx)
    }
}

impl Readers {
    /// A new reader, from now on.
    pub(super) fn subscribe(&self) -> Updates {
        let queue = Arc::new(Queue::default());
        let mut readers = self.readers();
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&queue));
        Updates(queue)
    }

    /// Tells every reader.
    pub(super) fn send(&self, update: &Update) {
        self.each(|state| {
            state.bytes += size(update);
            state.waiting.push_back(update.clone());
            while state.waiting.len() > 1
                && (state.waiting.len() > QUEUE_MAX || state.bytes > QUEUE_BYTES_MAX)
            {
                if let Some(oldest) = state.waiting.pop_front() {
                    state.bytes -= size(&oldest);
                }
            }
        });
    }

    /// There will be no more.
    pub(super) fn close(&self) {
        self.each(|state| state.closed = true);
    }

    fn each(&self, change: impl Fn(&mut State)) {
        for queue in self.readers().iter().filter_map(Weak::upgrade) {
            let waker = {
                let mut state = queue.state();
                change(&mut state);
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(update: &Update) -> usize {
    match update {
        Update::State(state) => state.len(),
        Update::Deleted => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(byte: u8, len: usize) -> Update {
        Update::State(vec![byte; len].into())
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_sees_everything() {
        let readers = Readers::default();
        let mut updates = readers.subscribe();
        for byte in 0..10 {
            readers.send(&state(byte, 1));
            assert_eq!(updates.next().await, Some(state(byte, 1)));
        }
        readers.send(&Update::Deleted);
        readers.close();
        assert_eq!(updates.next().await, Some(Update::Deleted));
        assert_eq!(updates.next().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_lags_ends_with_the_newest() {
        let readers = Readers::default();
        let mut updates = readers.subscribe();
        for byte in 0..200 {
            readers.send(&state(byte, 1));
        }
        for byte in 136..200 {
            assert_eq!(updates.next().await, Some(state(byte, 1)));
        }
        for byte in 0..3 {
            readers.send(&state(byte, QUEUE_BYTES_MAX));
        }
        readers.close();
        assert_eq!(updates.next().await, Some(state(2, QUEUE_BYTES_MAX)));
        assert_eq!(updates.next().await, None);
    }
}
