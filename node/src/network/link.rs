//! One link: its queue, and the task that reads, writes and reports.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::AsyncRead;
use futures::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use hypergolix_engine::input::LinkId;
use hypergolix_engine::message::{MESSAGE_MAX, Message};
use libp2p::PeerId;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::NetworkEvent;
use super::limits::{INBOX_BYTES, Ingest, QUEUE_BYTES, WRITE_BATCH};
use super::origin::{Holding, Origin, Pools};
use super::wire::{self, PREFIX_LEN, WireError};

/// Bytes buffered for reading small messages.
const READ_BUFFER: usize = 16 * 1024;

/// How long a link is still read after it can be written no more.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often a reader looks again whether the node caught up, once [`INBOX_BYTES`] wait.
const INBOX_RETRY: Duration = Duration::from_millis(2);

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The stream broke or the peer closed it.
    Lost,
    /// The node closed it.
    Closed,
    /// The peer sent what no honest peer sends, or the node says so.
    Misbehaved,
    /// More was queued than [`QUEUE_BYTES`], or too much together with other links.
    Overflow,
    /// The peer has a newer link.
    Replaced,
    /// The network stops.
    Shutdown,
}

/// One link, shared by its task, the swarm's task and the handle.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) peer: PeerId,
    queue: Mutex<Queue>,
    /// What of it all links share.
    queued: Holding,
    /// Of the message that arrives.
    reading: Holding,
    filled: Notify,
    /// The other side said that it refuses us: it ends the link.
    refused: AtomicBool,
    /// Cancelled when the link has to end.
    ending: CancellationToken,
    /// Cancelled when the connection under the link is gone.
    gone: CancellationToken,
    /// Cancelled when the task is done: `LinkDown` was reported.
    done: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    /// Of `frames` and of what is being written.
    bytes: usize,
    end: Option<End>,
}

impl Link {
    pub(super) fn new(id: LinkId, peer: PeerId, pools: &Pools, origin: Origin) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            queue: Mutex::default(),
            queued: pools.queued.hold(origin),
            reading: pools.reading.hold(origin),
            filled: Notify::new(),
            refused: AtomicBool::new(false),
            ending: CancellationToken::new(),
            gone: CancellationToken::new(),
            done: CancellationToken::new(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message. More than [`QUEUE_BYTES`] waiting ends the link.
    pub(super) fn send(&self, message: &Message) {
        let body = message.encode();
        if body.len() > MESSAGE_MAX {
            tracing::error!(len = body.len(), "a message of ours is too long and is not sent");
            return;
        }
        {
            let mut queue = self.queue();
            if queue.end.is_some() {
                return;
            }
            if queue.bytes + body.len() <= QUEUE_BYTES {
                queue.bytes += PREFIX_LEN + body.len();
                queue.frames.push_back(body);
                self.queued.set(queue.bytes);
                drop(queue);
                self.filled.notify_one();
                return;
            }
        }
        self.end(End::Overflow);
    }

    /// Ends the link; the first reason counts. An orderly stop still writes what is queued.
    pub(super) fn end(&self, reason: End) {
        self.queue().end.get_or_insert(reason);
        if reason == End::Shutdown {
            self.filled.notify_one();
        } else {
            self.ending.cancel();
        }
    }

    /// The connection is gone: what it brought before may still be read for a moment. A muxer
    /// that we closed does not say so to those who read from it.
    pub(super) fn connection_gone(&self) {
        self.gone.cancel();
    }

    /// Bytes waiting to be written.
    pub(super) fn queued(&self) -> usize {
        self.queue().bytes
    }

    /// Whether the other side said that it refuses us.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn reason(&self) -> Option<End> {
        self.queue().end
    }

    /// Fills `batch` with frames up to about [`WRITE_BATCH`]; a long body comes apart.
    /// Waits until there is something; `None` when an orderly stop wrote everything. Cancel-safe.
    async fn next_batch(&self, batch: &mut Vec<u8>) -> Option<Option<Vec<u8>>> {
        loop {
            {
                let mut queue = self.queue();
                while let Some(body) = queue.frames.pop_front() {
                    batch.extend_from_slice(&wire::prefix(&body));
                    if body.len() > WRITE_BATCH {
                        return Some(Some(body));
                    }
                    batch.extend_from_slice(&body);
                    if batch.len() >= WRITE_BATCH {
                        break;
                    }
                }
                if !batch.is_empty() {
                    return Some(None);
                }
                if queue.end == Some(End::Shutdown) {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Takes note of `len` bytes written; whether nothing is left.
    fn written(&self, len: usize) -> bool {
        let mut queue = self.queue();
        queue.bytes -= len;
        self.queued.set(queue.bytes);
        queue.frames.is_empty()
    }
}

/// The way of events to the node: bounded in number by its channel and in bytes by
/// [`INBOX_BYTES`]; full, it makes readers wait, which slows the peers.
#[derive(Debug)]
pub(super) struct Outlet {
    events: mpsc::Sender<NetworkEvent>,
    /// Sizes of the events in the channel, oldest first; possibly more in front.
    sizes: Mutex<VecDeque<usize>>,
}

impl Outlet {
    pub(super) fn new(events: mpsc::Sender<NetworkEvent>) -> Self {
        Self { events, sizes: Mutex::default() }
    }

    /// Passes on an event that nobody misses for ever; dropped when the node is behind.
    pub(super) fn hint(&self, event: NetworkEvent) {
        if let Ok(permit) = self.events.try_reserve() {
            self.sizes.lock().unwrap_or_else(PoisonError::into_inner).push_back(0);
            permit.send(event);
        }
    }

    /// Passes on one event of `size` bytes; `false` when the node is gone. Cancel-safe.
    pub(super) async fn send(&self, event: NetworkEvent, size: usize) -> bool {
        let Ok(mut permit) = self.events.reserve().await else { return false };
        loop {
            {
                let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
                // Slots in use hold older events, or are permits of others who wait here.
                let waiting = self.events.max_capacity() - self.events.capacity() - 1;
                let taken = sizes.len().saturating_sub(waiting);
                sizes.drain(..taken);
                let total: usize = sizes.iter().sum();
                if sizes.is_empty() || total + size <= INBOX_BYTES {
                    sizes.push_back(size);
                    permit.send(event);
                    return true;
                }
            }
            drop(permit);
            tokio::time::sleep(INBOX_RETRY).await;
            let Ok(again) = self.events.reserve().await else { return false };
            permit = again;
        }
    }
}

/// A link that ended.
pub(super) struct Ended {
    pub(super) link: Arc<Link>,
    pub(super) end: End,
    /// How long it was up.
    pub(super) lived: Duration,
    /// The substream, to be dropped after the connection was closed, if that is to be closed:
    /// otherwise the peer would open another one at once.
    #[expect(dead_code, reason = "held to be dropped later")]
    pub(super) stream: Option<Box<dyn Send>>,
}

/// Drives one link to its end.
///
/// `LinkUp` comes after the `LinkDown` of `previous`, messages between `LinkUp` and `LinkDown`.
#[tracing::instrument(name = "link", skip_all, fields(peer = %link.peer, link = link.id.0))]
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    link: Arc<Link>,
    stream: S,
    previous: Option<Arc<Link>>,
    outlet: Arc<Outlet>,
    remote: bool,
) -> Ended {
    let finished = link.done.clone().drop_guard();
    if let Some(previous) = previous {
        previous.done.cancelled().await;
    }
    let since = Instant::now();
    if link.reason().is_some() {
        drop(stream);
        let end = link.reason().unwrap_or(End::Lost);
        return Ended { link, end, lived: Duration::ZERO, stream: None };
    }
    let up = NetworkEvent::LinkUp { link: link.id, device: link.peer.to_bytes(), remote };
    let (mut reader, mut writer) = stream.split();
    if outlet.send(up, 0).await {
        let both = async {
            let written = {
                let mut read = pin!(read_loop(&link, &mut reader, &outlet));
                let written = tokio::select! {
                    end = &mut read => return end,
                    end = write_loop(&link, &mut writer, &outlet) => end,
                    () = link.gone.cancelled() => End::Lost,
                };
                if written == End::Lost {
                    // What the peer wrote before it went may still be read.
                    let _ = tokio::time::timeout(LAST_WORDS, read).await;
                }
                written
            };
            if written == End::Shutdown {
                // The peer closes its side when it has read ours. A connection that is closed
                // sooner, with bytes of the peer unread, is reset and loses what we wrote.
                let mut rest = [0; READ_BUFFER];
                while reader.read(&mut rest).await.is_ok_and(|len| len > 0) {}
            }
            written
        };
        let stream_end = tokio::select! {
            biased;
            () = link.ending.cancelled() => End::Closed,
            () = link.queued.evicted().cancelled() => End::Overflow,
            () = link.reading.evicted().cancelled() => End::Overflow,
            end = both => end,
        };
        link.queue().end.get_or_insert(stream_end);
        if link.reason() != Some(End::Shutdown) {
            outlet.send(NetworkEvent::LinkDown { link: link.id }, 0).await;
        }
    }
    let end = link.reason().unwrap_or(End::Shutdown);
    drop(finished);
    let keep = matches!(end, End::Closed | End::Misbehaved | End::Overflow);
    let stream = keep.then(|| Box::new((reader, writer)) as Box<dyn Send>);
    Ended { link, end, lived: since.elapsed(), stream }
}

async fn read_loop(link: &Link, reader: impl AsyncRead + Unpin, outlet: &Outlet) -> End {
    let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
    let mut ingest = Ingest::new(Instant::now());
    let mut body = Vec::new();
    loop {
        match wire::read(&mut reader, &mut body, Some(&link.reading)).await {
            Ok(Some((message, len))) => {
                let wait = ingest.take(&message, len, Instant::now());
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                if matches!(message, Message::Refused { .. }) {
                    link.refused.store(true, Ordering::Relaxed);
                }
                let event = NetworkEvent::Message { link: link.id, message };
                if !outlet.send(event, len).await {
                    return End::Shutdown;
                }
                link.reading.set(0);
            }
            Ok(None) => return End::Lost,
            Err(error @ WireError::Message(_)) => {
                tracing::warn!(%error, "a peer sent what is not a link message");
                return End::Misbehaved;
            }
            Err(error @ (WireError::Stream(_) | WireError::Stalled(_))) => {
                tracing::debug!(%error, "link lost");
                return End::Lost;
            }
        }
    }
}

async fn write_loop(link: &Link, mut writer: impl AsyncWrite + Unpin, outlet: &Outlet) -> End {
    let mut batch = Vec::with_capacity(PREFIX_LEN + 1_024);
    let mut drained = false;
    loop {
        batch.clear();
        let next = tokio::select! {
            biased;
            next = link.next_batch(&mut batch) => next,
            there = outlet.send(NetworkEvent::Drained { link: link.id }, 0), if drained => {
                if there {
                    drained = false;
                    continue;
                }
                None
            }
        };
        let Some(body) = next else {
            let _ = writer.close().await;
            return End::Shutdown;
        };
        let body = body.unwrap_or_default();
        let write = async {
            writer.write_all(&batch).await?;
            writer.write_all(&body).await?;
            writer.flush().await
        };
        if let Err(error) = write.await {
            tracing::debug!(%error, "link lost");
            return End::Lost;
        }
        drained = link.written(batch.len() + body.len());
    }
}
