//! Substreams over TCP: Yamux, with a count of what arrived and nobody read.
//!
//! Yamux bounds the bytes that wait, not what they take: a byte that comes in a frame of its own takes
//! a hundred. So frames are counted as they pass, and a connection that holds too many of them ends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures::future::{Ready, ready as done};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::limits::{FRAME_OVERHEAD, STREAMS_MAX, UNREAD_BYTES, YAMUX_WINDOW};
use super::origin::{Holding, Origin, Pool};

/// Bytes of a frame's header: version, kind, flags, substream, length.
const HEADER_LEN: usize = 12;
/// The kind of frames with data.
const DATA: u8 = 0;
/// The flag of frames that open a substream.
const OPENS: u8 = 1;
/// The flag of frames that reset one: Yamux opens none by them, whatever else they say.
const RESETS: u8 = 8;
/// Substreams that are counted at one time. Yamux ends a connection that has more than [`STREAMS_MAX`];
/// some of those that were dropped may still be counted.
const COUNTED_MAX: usize = 2 * STREAMS_MAX;

/// Makes a [`Muxer`] of a connection.
#[derive(Debug, Clone)]
pub(super) struct Upgrade;

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        done(Ok(Muxer::new(io, yamux::Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<Result<Muxer<C>, io::Error>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        done(Ok(Muxer::new(io, yamux::Mode::Client)))
    }
}

/// A connection with substreams.
pub(super) struct Muxer<C> {
    connection: yamux::Connection<Counted<C>>,
    unread: Arc<Unread>,
    /// Completes when the connection has to end.
    evicted: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Substreams that came while nobody asked for any. Yamux has at most [`STREAMS_MAX`].
    inbound: VecDeque<Substream>,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(io: C, mode: yamux::Mode) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        config.set_max_connection_receive_window(Some(YAMUX_WINDOW));
        let unread = Arc::new(Unread::default());
        let io =
            Counted { io, unread: Arc::clone(&unread), header: [0; HEADER_LEN], at: 0, data: 0 };
        Self {
            connection: yamux::Connection::new(io, config, mode),
            unread,
            evicted: None,
            inbound: VecDeque::new(),
            waker: None,
        }
    }

    /// Counts what it holds in a pool.
    pub(super) fn charge(mut self, pool: &Arc<Pool>, origin: Origin) -> Self {
        let holding = pool.hold(origin);
        self.evicted = Some(Box::pin(holding.evicted().clone().cancelled_owned()));
        // It is set once, here.
        let _ = self.unread.holding.set(holding);
        self
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let stream = match ready!(self.connection.poll_next_inbound(cx)) {
            Some(stream) => stream.map_err(into_io)?,
            None => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        };
        Poll::Ready(Ok(self.substream(stream)))
    }

    fn substream(&self, stream: yamux::Stream) -> Substream {
        Substream { id: stream.id().val(), stream, unread: Arc::clone(&self.unread) }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Substream;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let this = self.get_mut();
        if let Some(stream) = this.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        if let Poll::Ready(stream) = this.poll_next(cx) {
            return Poll::Ready(stream);
        }
        this.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let this = self.get_mut();
        let stream = ready!(this.connection.poll_new_outbound(cx)).map_err(into_io)?;
        this.unread.open(stream.id().val())?;
        Poll::Ready(Ok(this.substream(stream)))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().connection.poll_close(cx).map_err(into_io)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        let this = self.get_mut();
        if let Some(evicted) = &mut this.evicted
            && evicted.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::other("more is unread than there is room for")));
        }
        let stream = ready!(this.poll_next(cx))?;
        this.inbound.push_back(stream);
        if let Some(waker) = this.waker.take() {
            waker.wake();
        }
        // There may be more.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn into_io(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// One substream; what is read of it is unread no more.
pub(super) struct Substream {
    id: u32,
    stream: yamux::Stream,
    unread: Arc<Unread>,
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.unread.read(self.id, len);
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        self.unread.close(self.id);
    }
}

/// What arrived on a connection and was not read.
#[derive(Default)]
struct Unread {
    streams: Mutex<Streams>,
    holding: OnceLock<Holding>,
}

#[derive(Default)]
struct Streams {
    /// Of each open substream: the lengths of its frames, and how much of the first one was read.
    frames: HashMap<u32, (VecDeque<u32>, usize)>,
    /// What they take.
    bytes: usize,
}

impl Unread {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, stream: u32) -> io::Result<()> {
        let mut streams = self.streams();
        streams.frames.entry(stream).or_default();
        if streams.frames.len() > COUNTED_MAX {
            return Err(io::Error::other("more substreams than a connection may have"));
        }
        Ok(())
    }

    /// A frame begins. Those of substreams that are not there are dropped by Yamux.
    fn arrive(&self, stream: u32, len: u32) -> io::Result<()> {
        let mut streams = self.streams();
        let Some((frames, _)) = streams.frames.get_mut(&stream) else { return Ok(()) };
        if len == 0 {
            return Ok(());
        }
        frames.push_back(len);
        streams.bytes += len as usize + FRAME_OVERHEAD;
        if streams.bytes > UNREAD_BYTES {
            return Err(io::Error::other("more is unread than a connection may have"));
        }
        self.count(&streams);
        Ok(())
    }

    fn read(&self, stream: u32, len: usize) {
        let mut guard = self.streams();
        let streams = &mut *guard;
        let Some((frames, read)) = streams.frames.get_mut(&stream) else { return };
        *read += len;
        while let Some(first) = frames.front().map(|len| *len as usize)
            && first <= *read
        {
            frames.pop_front();
            *read -= first;
            streams.bytes -= first + FRAME_OVERHEAD;
        }
        self.count(streams);
    }

    fn close(&self, stream: u32) {
        let mut streams = self.streams();
        if let Some((frames, _)) = streams.frames.remove(&stream) {
            streams.bytes -= frames.iter().map(|len| *len as usize + FRAME_OVERHEAD).sum::<usize>();
            self.count(&streams);
        }
    }

    fn count(&self, streams: &Streams) {
        if let Some(holding) = self.holding.get() {
            holding.set(streams.bytes);
        }
    }
}

/// What is under Yamux: it looks at the headers of frames as they arrive.
struct Counted<C> {
    io: C,
    unread: Arc<Unread>,
    header: [u8; HEADER_LEN],
    /// Bytes of the header that are there.
    at: usize,
    /// Bytes of data that follow.
    data: usize,
}

impl<C> Counted<C> {
    fn see(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = self.data.min(bytes.len());
            self.data -= skipped;
            bytes = &bytes[skipped..];
            let len = (HEADER_LEN - self.at).min(bytes.len());
            self.header[self.at..self.at + len].copy_from_slice(&bytes[..len]);
            self.at += len;
            bytes = &bytes[len..];
            if self.at == HEADER_LEN {
                self.at = 0;
                let [_, kind, _, flags, s0, s1, s2, s3, l0, l1, l2, l3] = self.header;
                let stream = u32::from_be_bytes([s0, s1, s2, s3]);
                if flags & OPENS != 0 && flags & RESETS == 0 && kind <= 1 {
                    self.unread.open(stream)?;
                }
                if kind == DATA {
                    let len = u32::from_be_bytes([l0, l1, l2, l3]);
                    self.data = len as usize;
                    self.unread.arrive(stream, len)?;
                }
            }
        }
        Ok(())
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len = ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        this.see(&buffer[..len])?;
        Poll::Ready(Ok(len))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, stream: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, DATA, 0, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_is_read_or_closed_counts_no_more_wherever_frames_are_cut() {
        let bytes =
            [frame(OPENS, 1, b"abc"), frame(0, 1, b""), frame(0, 1, b"de"), frame(0, 3, b"f")];
        let bytes = bytes.concat();
        for part in 1..bytes.len() {
            let unread = Arc::new(Unread::default());
            let mut io =
                Counted { io: (), unread: Arc::clone(&unread), header: [0; 12], at: 0, data: 0 };
            for bytes in bytes.chunks(part) {
                io.see(bytes).expect("little");
            }
            assert_eq!(unread.streams().bytes, 5 + 2 * FRAME_OVERHEAD, "3 was never opened");
            unread.read(1, 4);
            assert_eq!(unread.streams().bytes, 2 + FRAME_OVERHEAD);
            unread.close(1);
            assert_eq!(unread.streams().bytes, 0);
        }
    }

    #[test]
    fn a_crumb_counts_for_what_it_takes() {
        let unread = Unread::default();
        unread.open(1).expect("the first");
        let most = UNREAD_BYTES / (1 + FRAME_OVERHEAD);
        assert!((0..most).all(|_| unread.arrive(1, 1).is_ok()));
        assert!(unread.arrive(1, 1).is_err());
    }

    #[test]
    fn substreams_that_yamux_never_has_are_not_counted_without_end() {
        let unread = Arc::new(Unread::default());
        let mut io =
            Counted { io: (), unread: Arc::clone(&unread), header: [0; 12], at: 0, data: 0 };
        for number in 0..10_000 {
            io.see(&frame(OPENS | RESETS, 2 * number + 1, b"")).expect("Yamux opens none");
        }
        assert!(unread.streams().frames.is_empty());
        let open = (0..10_000).filter(|number| io.see(&frame(OPENS, 2 * number + 1, b"")).is_ok());
        assert_eq!(open.count(), COUNTED_MAX);
    }
}
