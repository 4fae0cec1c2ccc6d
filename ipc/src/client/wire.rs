//! The wire: what is asked on the current connection, and the half of the socket that is written.
//!
//! A caller writes its request itself if nothing is in front of it: the task that owns the
//! connection would only add a switch between threads. Everything else goes through that task.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures::Sink;
use futures::stream::SplitSink;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::driver::Waiter;
use super::websocket::Websocket;
use crate::message::Request;
use crate::session::AppSession;

/// Messages that may wait for the socket before the task reads on.
const OUT_MAX: usize = 1_024;

/// The wire of a link, with or without a connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    live: Mutex<Option<Live>>,
    /// Commands that were given to the task and are not on the wire yet. A request may overtake
    /// none of them.
    queued: AtomicUsize,
    /// There is something to write, or somebody else polled the socket.
    wake: Notify,
    /// Something was written.
    progress: Notify,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: AppSession<Waiter>,
    sink: SplitSink<Websocket, Message>,
    out: VecDeque<Vec<u8>>,
}

impl Wire {
    /// A new connection.
    pub(super) fn open(&self, sink: SplitSink<Websocket, Message>) {
        let live = Live { session: AppSession::new(), sink, out: VecDeque::new() };
        *self.lock() = Some(live);
    }

    /// The connection is gone.
    pub(super) fn close(&self) -> Option<Live> {
        self.lock().take()
    }

    /// Writes a request at once, if there is a connection and nothing in front of it. Otherwise it
    /// is counted and returned.
    pub(super) fn ask_at_once(&self, request: Request, waiter: Waiter) -> Option<Queue<'_>> {
        let mut lock = self.lock();
        match &mut *lock {
            // Asked under the lock: what is queued after this comes after the request.
            Some(live) if self.queued.load(Ordering::SeqCst) == 0 && live.session.has_room() => {
                live.ask(request, waiter);
                let written = live.poll_write(&mut Context::from_waker(Waker::noop()));
                drop(lock);
                if !matches!(written, Poll::Ready(Ok(()))) {
                    // The task finishes it, or finds the error.
                    self.wake.notify_one();
                }
                None
            }
            _ => {
                self.queue();
                Some(Queue { request, waiter, counted: Counted(self) })
            }
        }
    }

    /// Counts a command that will be given to the task.
    pub(super) fn queue(&self) {
        self.queued.fetch_add(1, Ordering::SeqCst);
    }

    /// A command is on the wire, or dropped.
    pub(super) fn dequeue(&self) {
        self.queued.fetch_sub(1, Ordering::SeqCst);
    }

    /// Looks at the connection, if there is one.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut Live) -> R) -> Option<R> {
        self.lock().as_mut().map(look)
    }

    /// Queues a message for the socket.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        self.with(|live| live.out.push_back(bytes));
        self.wake.notify_one();
    }

    /// Tells the writing half that there is something to write.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until not too much waits for the socket.
    pub(super) async fn has_room(&self) {
        while self.with(|live| live.out.len()).is_some_and(|len| len > OUT_MAX) {
            self.progress.notified().await;
        }
    }

    /// Writes whatever there is; returns when the connection broke off.
    pub(super) async fn write(&self) -> Error {
        loop {
            let broken = std::future::poll_fn(|cx| {
                let polled = self.with(|live| live.poll_write(cx));
                match polled {
                    Some(Poll::Ready(Err(error))) => Poll::Ready(error),
                    // All written, or blocked: a later wake or the socket comes back here.
                    Some(Poll::Ready(Ok(())) | Poll::Pending) => {
                        self.progress.notify_one();
                        Poll::Pending
                    }
                    None => Poll::Ready(Error::AlreadyClosed),
                }
            });
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                error = broken => return error,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has to go through the task.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    pub(super) request: Request,
    pub(super) waiter: Waiter,
    pub(super) counted: Counted<'a>,
}

/// A place in the queue, given back if the caller does not come to take it.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a Wire);

impl Counted<'_> {
    /// The task has the command, and counts it down.
    pub(super) fn handed_over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dequeue();
    }
}

impl Live {
    /// Numbers a request and puts it in front of the socket.
    pub(super) fn ask(&mut self, request: Request, waiter: Waiter) {
        let bytes = self.session.ask(request, waiter);
        self.out.push_back(bytes);
    }

    /// Takes the connection apart: what waits, and the half of the socket.
    pub(super) fn into_parts(self) -> (AppSession<Waiter>, SplitSink<Websocket, Message>) {
        (self.session, self.sink)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.out.is_empty() {
            ready!(Pin::new(&mut self.sink).poll_ready(cx))?;
            if let Some(bytes) = self.out.pop_front() {
                Pin::new(&mut self.sink).start_send(Message::Binary(bytes.into()))?;
            }
        }
        Pin::new(&mut self.sink).poll_flush(cx)
    }
}
