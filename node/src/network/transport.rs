//! Transports: TCP with Noise and Yamux, QUIC, names resolved when the system can.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, noise, quic, relay, tcp};

use super::dial_filter::{DialFilter, Filtered};
use super::limits::{DIAL_WAN, QUIC_WINDOW, STREAMS_MAX};
use super::muxer::{self, Muxer};
use super::origin::{Origin, Pool};
use super::websocket::{Certificate, Websocket};

/// How long an orderly goodbye may take. A connection whose path is down never finishes it, and
/// would count as open for a quarter of an hour.
const GOODBYE: Duration = Duration::from_millis(500);

/// QUIC: silence after which a connection is dead. The link's own pings notice earlier.
const QUIC_IDLE: Duration = Duration::from_secs(90);

/// QUIC: time between packets that keep a path open; the default of 5 s drains laptops.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Everything a swarm dials and listens with.
///
/// # Errors
/// Noise refuses the key.
pub(super) fn build(
    key: &Keypair,
    relayed: Option<relay::client::Transport>,
    filter: DialFilter,
    certificate: Option<Certificate>,
    unread: &Arc<Pool>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let named = match dns::tokio::Transport::system(base(key, unread)?) {
        Ok(transport) => transport.boxed(),
        Err(error) => {
            tracing::warn!(%error, "names in peer addresses cannot be resolved here");
            base(key, unread)?
        }
    };
    let tcp = || tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    // It resolves names itself, because TLS wants to know them.
    let below = match dns::tokio::Transport::system(tcp()) {
        Ok(transport) => transport.boxed(),
        Err(_) => tcp().boxed(),
    };
    let websocket = Websocket::new(below, certificate)
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer::Upgrade)
        .timeout(DIAL_WAN)
        .map(boxed(unread));
    let direct = websocket.or_transport(named).map(|either, _| either.into_inner()).boxed();
    let direct = Filtered::new(direct, filter);
    let Some(relayed) = relayed else { return Ok(direct.boxed()) };
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer::Upgrade)
        .timeout(DIAL_WAN)
        .map(boxed(unread));
    Ok(relayed.or_transport(direct).map(|either, _| either.into_inner()).boxed())
}

/// Counts what a connection over TCP holds.
fn boxed<C: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    unread: &Arc<Pool>,
) -> impl FnOnce((PeerId, Muxer<C>), ConnectedPoint) -> (PeerId, StreamMuxerBox) + Clone + use<C> {
    let unread = Arc::clone(unread);
    move |(peer, muxer), point| {
        let muxer = muxer.charge(&unread, Origin::of(&point));
        (peer, StreamMuxerBox::new(ShortGoodbye::new(muxer)))
    }
}

fn base(
    key: &Keypair,
    unread: &Arc<Pool>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer::Upgrade)
        .timeout(DIAL_WAN)
        .map(boxed(unread));

    let mut config = quic::Config::new(key);
    config.handshake_timeout = DIAL_WAN;
    config.max_idle_timeout = QUIC_IDLE.as_millis() as u32;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = STREAMS_MAX as u32;
    config.max_connection_data = QUIC_WINDOW;
    config.max_stream_data = QUIC_WINDOW;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(ShortGoodbye::new(muxer))));

    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

/// A muxer that gives its orderly goodbye [`GOODBYE`] and is then dropped.
struct ShortGoodbye<M> {
    muxer: M,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<M> ShortGoodbye<M> {
    fn new(muxer: M) -> Self {
        Self { muxer, deadline: None }
    }
}

impl<M> StreamMuxer for ShortGoodbye<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_inbound(cx).map_err(io::Error::other)
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_outbound(cx).map_err(io::Error::other)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        if let Poll::Ready(done) = Pin::new(&mut this.muxer).poll_close(cx) {
            return Poll::Ready(done.map_err(io::Error::other));
        }
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(GOODBYE)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll(cx).map_err(io::Error::other)
    }
}
