//! A device that speaks the wire protocols by hand, so as to break what libraries keep.
//!
//! TCP, the handshake of Noise, and from there on frames of Yamux as bytes.

use std::io;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Kinds and flags of frames of Yamux.
const DATA: u8 = 0;
const WINDOW: u8 = 1;
const OPENS: u16 = 1;

/// What a substream may send before it is given more.
pub const WINDOW_LEN: usize = 256 * 1024;

/// A connection after its handshakes.
pub struct Connection {
    io: noise::Output<Compat<TcpStream>>,
    next: u32,
}

impl Connection {
    /// Connects to `host:port`, as a device with a smaller peer id than the server: it opens the link.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub async fn open(server: &str, server_id: PeerId) -> anyhow::Result<Self> {
        timeout(HANDSHAKE_MAX, Self::handshake(server, server_id)).await.context("no answer")?
    }

    async fn handshake(server: &str, server_id: PeerId) -> anyhow::Result<Self> {
        let key = std::iter::repeat_with(Keypair::generate_ed25519)
            .find(|key| key.public().to_peer_id() < server_id)
            .context("a key")?;
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut stream = stream.compat();
        negotiate(&mut stream, "/noise").await?;
        let (_, mut io) = noise::Config::new(&key)?.upgrade_outbound(stream, "/noise").await?;
        negotiate(&mut io, "/yamux/1.0.0").await?;
        Ok(Self { io, next: 1 })
    }

    /// Opens a substream for a protocol: its number, and the bytes that do it.
    pub fn substream(&mut self, protocol: &str) -> (u32, Vec<u8>) {
        let id = self.next;
        self.next += 2;
        let mut bytes = header(WINDOW, OPENS, id, 0);
        bytes.extend(frame(id, &proposal(protocol)));
        (id, bytes)
    }

    /// Writes frames.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Reads and forgets, until the connection ends or `period` is over; whether it ended.
    pub async fn ended_within(&mut self, period: Duration) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let reading = async { while self.io.read(&mut buffer).await.is_ok_and(|len| len > 0) {} };
        timeout(period, reading).await.is_ok()
    }
}

/// A frame with data for a substream.
pub fn frame(substream: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(DATA, 0, substream, data.len() as u32);
    bytes.extend(data);
    bytes
}

/// The same data, each byte in a frame of its own.
pub fn crumbs(substream: u32, data: &[u8]) -> Vec<u8> {
    data.chunks(1).flat_map(|byte| frame(substream, byte)).collect()
}

/// Version, kind, flags, substream, length of the data or more credit.
fn header(kind: u8, flags: u16, substream: u32, len: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(substream.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}

/// What proposes a protocol (multistream-select): lines, with their length before and their end.
fn proposal(protocol: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in ["/multistream/1.0.0", protocol] {
        bytes.push(line.len() as u8 + 1);
        bytes.extend(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

async fn negotiate(
    stream: &mut (impl futures::AsyncRead + futures::AsyncWrite + Unpin),
    protocol: &str,
) -> anyhow::Result<()> {
    let proposed = proposal(protocol);
    stream.write_all(&proposed).await?;
    stream.flush().await?;
    let mut answer = vec![0; proposed.len()];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == proposed, "{protocol} is not spoken");
    Ok(())
}
