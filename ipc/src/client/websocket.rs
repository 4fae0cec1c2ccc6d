//! Connecting to the daemon.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use golix::Ghid;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::error::LinkError;
use crate::ids::AppToken;
use crate::limits::{HANDSHAKE_DEADLINE, MESSAGE_MAX_IN, MESSAGE_MAX_OUT, READ_BUFFER};
use crate::message::{Notice, Reply, Request};
use crate::peer;
use crate::session::{AppReceived, AppSession};

/// First pause between attempts to connect; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(10);

/// Longest pause between attempts to connect.
const RETRY_MAX: Duration = Duration::from_secs(1);

pub(super) type Websocket = WebSocketStream<TcpStream>;

/// The pause before the next attempt: none, 10 ms, 20 ms … 1 s.
#[derive(Debug, Default)]
pub(super) struct Backoff(Option<Duration>);

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let delay = self.0.unwrap_or_default();
        self.0 = Some(self.0.map_or(RETRY_MIN, |delay| (2 * delay).min(RETRY_MAX)));
        delay
    }
}

/// Connects and says hello: whoami, and the token if there is one. Nothing else is under way on
/// the new connection.
pub(super) async fn connect(
    port: u16,
    check_uid: bool,
    token: Option<AppToken>,
) -> Result<(Websocket, Ghid), LinkError> {
    let stream = open(port).await.map_err(|source| LinkError::NoDaemon { port, source })?;
    let foreign = |reason: String| LinkError::NotOurDaemon { port, reason };
    let addresses = stream.local_addr().ok().zip(stream.peer_addr().ok());

    let handshake = client_async_with_config(
        format!("ws://localhost:{port}/"),
        stream,
        Some(
            WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER)
                .write_buffer_size(READ_BUFFER)
                .max_write_buffer_size(2 * MESSAGE_MAX_OUT)
                .max_message_size(Some(MESSAGE_MAX_IN))
                .max_frame_size(Some(MESSAGE_MAX_IN)),
        ),
    );
    let mut websocket = match timeout(HANDSHAKE_DEADLINE, handshake).await {
        Ok(Ok((websocket, _))) => websocket,
        Ok(Err(tungstenite::Error::Http(response))) => {
            return Err(foreign(format!("it refused the connection ({})", response.status())));
        }
        Ok(Err(error)) => return Err(foreign(error.to_string())),
        Err(_) => return Err(foreign("it did not finish the handshake".to_owned())),
    };

    // Only now the other end of the socket surely belongs to the daemon's process.
    if check_uid && let (Some(own), Some((here, there))) = (peer::own_uid(), addresses) {
        let found = tokio::task::spawn_blocking(move || peer::uid_of_connection(there, here));
        let uid = found.await.ok().flatten();
        if let Some(uid) = uid.filter(|uid| *uid != own) {
            return Err(foreign(format!("it belongs to user {uid} of this machine")));
        }
    }

    // Without a time limit: the daemon answers once somebody is logged in.
    let Reply::Fingerprint(fingerprint) = ask(&mut websocket, port, Request::Whoami).await? else {
        return Err(foreign("it does not say who is logged in".to_owned()));
    };
    if token.is_some() {
        ask(&mut websocket, port, Request::RegisterToken(token)).await?;
    }
    Ok((websocket, fingerprint))
}

async fn open(port: u16) -> io::Result<TcpStream> {
    let v4: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let v6: SocketAddr = (Ipv6Addr::LOCALHOST, port).into();
    let stream = match TcpStream::connect(v4).await {
        Ok(stream) => stream,
        Err(error) => TcpStream::connect(v6).await.map_err(|_| error)?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its answer, on a connection where nothing else happens yet.
async fn ask(websocket: &mut Websocket, port: u16, request: Request) -> Result<Reply, LinkError> {
    let lost = |error: tungstenite::Error| LinkError::NotOurDaemon {
        port,
        reason: format!("the connection ended: {error}"),
    };
    let mut session = AppSession::new();
    let bytes = session.ask(request, ());
    websocket.send(Message::Binary(bytes.into())).await.map_err(lost)?;
    while let Some(message) = websocket.next().await {
        let Message::Binary(bytes) = message.map_err(lost)? else {
            continue;
        };
        let received = session
            .receive(&bytes)
            .map_err(|error| LinkError::NotOurDaemon { port, reason: error.to_string() })?;
        let out = match received {
            AppReceived::Answer { answer, .. } => return Ok(answer?),
            AppReceived::Notice { token, notice } => Notice::acknowledge(notice.code(), token),
            AppReceived::Refused(bytes) => bytes,
            AppReceived::Stray => continue,
        };
        websocket.send(Message::Binary(out.into())).await.map_err(lost)?;
    }
    Err(LinkError::NotOurDaemon { port, reason: "the connection ended".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_retry_at_once_then_at_most_a_second_apart() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(), Duration::ZERO);
        assert_eq!(backoff.next(), RETRY_MIN);
        assert_eq!(backoff.next(), 2 * RETRY_MIN);
        for _ in 0..100 {
            assert!(backoff.next() <= RETRY_MAX);
        }
        assert_eq!(backoff.next(), RETRY_MAX);
    }
}
