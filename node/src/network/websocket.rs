//! Secure websockets: TLS over TCP, a websocket in it, and inside the same Noise and Yamux as on
//! plain TCP. For remotes behind networks that let only HTTPS out.
//!
//! `libp2p-websocket` 0.46 takes no verifier of our own. Here any certificate is accepted: as on
//! plain TCP the device is proved by Noise inside, which is bound to no host name, and everything
//! that matters is end-to-end encrypted under it (decision 77).

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt, Sink, Stream};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport, tcp};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error as WebsocketError, Message};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// Longest message of the websocket, bytes. Ours are as long as what Noise writes at once.
const MESSAGE_MAX: usize = 1024 * 1024;

/// Longest message that we write, bytes.
const WRITE_MAX: usize = 64 * 1024;

/// What a server proves itself with to TLS.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<ServerConfig>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A PEM file cannot be used.
    #[error("{path} is no PEM file with what is needed: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The two do not go together, or TLS does not take them.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(TlsError),
    /// None could be made.
    #[error("no certificate can be made: {0}")]
    Made(String),
}

impl Certificate {
    /// From PEM files: the chain, and the private key of its first certificate.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn load(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let wrong = |path: &Path, reason: String| CertificateError::File {
            path: path.display().to_string(),
            reason,
        };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(chain, error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong(chain, "there is no certificate in it".to_owned()));
        }
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
        Self::new(certificates, private)
    }

    /// A new one, signed by itself.
    ///
    /// # Errors
    /// [`CertificateError::Made`].
    pub fn self_signed() -> Result<Self, CertificateError> {
        let made = rcgen::generate_simple_self_signed(vec!["hypergolix".to_owned()])
            .map_err(|error| CertificateError::Made(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        Self::new(vec![made.cert.der().clone()], key.into())
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Pair)?;
        let config = config.with_no_client_auth();
        let config = config.with_single_cert(chain, key).map_err(CertificateError::Pair)?;
        Ok(Self { config: Arc::new(config) })
    }
}

/// Takes any certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Secure websockets over a TCP transport.
pub(super) struct Websocket {
    tcp: Boxed<tcp::tokio::TcpStream>,
    connector: TlsConnector,
    acceptor: Option<TlsAcceptor>,
}

impl Websocket {
    /// `certificate`: to listen with.
    pub(super) fn new(tcp: Boxed<tcp::tokio::TcpStream>, certificate: Option<Certificate>) -> Self {
        let provider = aws_lc_rs::default_provider();
        let client = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let acceptor = certificate.map(|certificate| TlsAcceptor::from(certificate.config));
        Self { tcp, connector: TlsConnector::from(Arc::new(client)), acceptor }
    }
}

/// The TCP part of the address of a secure websocket.
fn tcp_part(address: &Multiaddr) -> Option<Multiaddr> {
    let mut parts: Vec<_> = address.iter().collect();
    if matches!(parts.last(), Some(Protocol::P2p(_))) {
        parts.pop();
    }
    match parts.as_slice() {
        [host, port @ Protocol::Tcp(_), Protocol::Tls, Protocol::Ws(_)] => {
            Some([host.clone(), port.clone()].into_iter().collect())
        }
        _ => None,
    }
}

fn with_websocket(tcp: Multiaddr) -> Multiaddr {
    tcp.with(Protocol::Tls).with(Protocol::Ws("/".into()))
}

/// The name that the TLS handshake asks for.
fn server_name(address: &Multiaddr) -> Option<ServerName<'static>> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ServerName::from(std::net::IpAddr::from(ip))),
        Protocol::Ip6(ip) => Some(ServerName::from(std::net::IpAddr::from(ip))),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
            ServerName::try_from(name.into_owned()).ok()
        }
        _ => None,
    }
}

fn settings() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .max_write_buffer_size(MESSAGE_MAX)
}

type Tcp = Compat<tcp::tokio::TcpStream>;

async fn connect(
    connector: TlsConnector,
    name: ServerName<'static>,
    dial: impl Future<Output = io::Result<tcp::tokio::TcpStream>>,
) -> io::Result<ByteStream> {
    let stream = dial.await?.compat();
    let url = format!("wss://{}/", name.to_str());
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| io::Error::other(format!("the port does not speak TLS ({error})")))?;
    let stream = TlsStream::<Tcp>::from(stream);
    let (websocket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(settings()))
        .await
        .map_err(|error| {
            io::Error::other(format!(
                "the port speaks TLS, but is no websocket of a Hypergolix server ({error})"
            ))
        })?;
    Ok(ByteStream::new(websocket))
}

async fn accept(
    acceptor: TlsAcceptor,
    upgrade: impl Future<Output = io::Result<tcp::tokio::TcpStream>>,
) -> io::Result<ByteStream> {
    let stream = acceptor.accept(upgrade.await?.compat()).await?;
    let stream = TlsStream::<Tcp>::from(stream);
    let websocket = tokio_tungstenite::accept_async_with_config(stream, Some(settings()))
        .await
        .map_err(io::Error::other)?;
    Ok(ByteStream::new(websocket))
}

impl Transport for Websocket {
    type Output = ByteStream;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<ByteStream>>;
    type Dial = BoxFuture<'static, io::Result<ByteStream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        match tcp_part(&address) {
            Some(tcp) if self.acceptor.is_some() => self.tcp.listen_on(id, tcp),
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tcp.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let parts = tcp_part(&address).zip(server_name(&address));
        let Some((tcp, name)) = parts else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let dial = self.tcp.dial(tcp, opts)?;
        Ok(connect(self.connector.clone(), name, dial).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = self.get_mut();
        let event = ready!(Pin::new(&mut this.tcp).poll(cx));
        Poll::Ready(match event {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                TransportEvent::NewAddress { listener_id, listen_addr: with_websocket(listen_addr) }
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                TransportEvent::AddressExpired {
                    listener_id,
                    listen_addr: with_websocket(listen_addr),
                }
            }
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => {
                let upgrade = match this.acceptor.clone() {
                    Some(acceptor) => accept(acceptor, upgrade).boxed(),
                    // Without one nothing listens.
                    None => async { Err(io::ErrorKind::Unsupported.into()) }.boxed(),
                };
                TransportEvent::Incoming {
                    listener_id,
                    upgrade,
                    local_addr: with_websocket(local_addr),
                    send_back_addr: with_websocket(send_back_addr),
                }
            }
            TransportEvent::ListenerClosed { listener_id, reason } => {
                TransportEvent::ListenerClosed { listener_id, reason }
            }
            TransportEvent::ListenerError { listener_id, error } => {
                TransportEvent::ListenerError { listener_id, error }
            }
        })
    }
}

/// The bytes of a websocket's binary messages, as a stream.
pub(super) struct ByteStream {
    websocket: WebSocketStream<TlsStream<Tcp>>,
    unread: Bytes,
}

impl ByteStream {
    fn new(websocket: WebSocketStream<TlsStream<Tcp>>) -> Self {
        Self { websocket, unread: Bytes::new() }
    }
}

fn io_error(error: WebsocketError) -> io::Error {
    match error {
        WebsocketError::Io(error) => error,
        WebsocketError::ConnectionClosed | WebsocketError::AlreadyClosed => {
            io::ErrorKind::BrokenPipe.into()
        }
        other => io::Error::other(other),
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(Pin::new(&mut this.websocket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                // The library answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(0)),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(Err(WebsocketError::ConnectionClosed | WebsocketError::AlreadyClosed)) => {
                    return Poll::Ready(Ok(0));
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let len = into.len().min(this.unread.len());
        into[..len].copy_from_slice(&this.unread.split_to(len));
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.websocket).poll_ready(cx)).map_err(io_error)?;
        let len = bytes.len().min(WRITE_MAX);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..len]));
        Pin::new(&mut this.websocket).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().websocket).poll_flush(cx).map_err(io_error)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().websocket).poll_close(cx).map_err(io_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_websockets_have_a_tcp_part() {
        for (text, tcp) in [
            ("/ip4/8.8.8.8/tcp/443/tls/ws", Some("/ip4/8.8.8.8/tcp/443")),
            ("/dns/example.org/tcp/443/tls/ws", Some("/dns/example.org/tcp/443")),
            ("/ip4/8.8.8.8/tcp/443", None),
            ("/ip4/8.8.8.8/tcp/443/ws", None),
            ("/ip4/8.8.8.8/udp/443/quic-v1", None),
        ] {
            let address: Multiaddr = text.parse().expect("an address");
            let part = tcp_part(&address);
            assert_eq!(part.map(|part| part.to_string()).as_deref(), tcp, "{text}");
            assert!(server_name(&address).is_some());
        }
    }

    #[test]
    fn a_certificate_is_made_and_a_wrong_file_is_named() {
        Certificate::self_signed().expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("chain.pem");
        std::fs::write(&file, "nothing").expect("ours");
        let error = Certificate::load(&file, &file).expect_err("no certificate");
        assert!(error.to_string().contains("chain.pem"), "{error}");
    }
}
