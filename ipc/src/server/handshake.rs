//! The HTTP upgrade: who may open a websocket, decided before any frame.
//!
//! A web page in the user's browser can reach the port, but cannot choose its `Origin`, its
//! `Sec-Fetch-*` or, after rebinding a name to 127.0.0.1, its `Host`. The Python client sends no
//! `Origin` and `Host: localhost:<port>`; nothing that it sends is refused.

use data_encoding::BASE64;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::limits::HTTP_HEADERS_MAX;

/// Why an upgrade is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not HTTP/1.1 as we read it.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// Not from a program that may connect, or not an upgrade.
    #[error("refused: {0}")]
    Forbidden(&'static str),
    /// Too many connections.
    #[error("refused: too many connections")]
    Busy,
}

impl Refusal {
    /// The HTTP response. No CORS header, no body that a page could read.
    pub(crate) fn response(self) -> &'static str {
        match self {
            Refusal::Malformed(_) => {
                "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Refusal::Forbidden(_) => {
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            Refusal::Busy => {
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
        }
    }
}

/// Judges the head of an upgrade request, up to and including the empty line, and returns the
/// response to send.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn judge(head: &[u8], port: u16, allowed_origins: &[String]) -> Result<String, Refusal> {
    let headers = Headers::parse(head)?;

    let host = headers.only("host").ok_or(Refusal::Forbidden("no single Host"))?;
    if !is_local_host(host, port) {
        return Err(Refusal::Forbidden("a Host that is not this daemon"));
    }
    let allowed = match headers.count("origin") {
        0 => false,
        1 => {
            let origin = headers.only("origin").unwrap_or_default();
            if origin == "null" || !allowed_origins.iter().any(|allowed| allowed == origin) {
                return Err(Refusal::Forbidden("an Origin that is not allowed"));
            }
            true
        }
        _ => return Err(Refusal::Forbidden("more than one Origin")),
    };
    if !allowed && headers.any_starts_with("sec-fetch-") {
        return Err(Refusal::Forbidden("a browser without an Origin"));
    }

    if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
        return Err(Refusal::Forbidden("not a websocket upgrade"));
    }
    if headers.only("sec-websocket-version") != Some("13") {
        return Err(Refusal::Forbidden("not version 13 of the websocket protocol"));
    }
    let key = headers
        .only("sec-websocket-key")
        .filter(|key| BASE64.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or(Refusal::Forbidden("no websocket key"))?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    ))
}

/// `localhost`, `127.0.0.1` or `[::1]` with our port, in any case.
fn is_local_host(host: &str, port: u16) -> bool {
    let Some((name, given)) = host.rsplit_once(':') else {
        return false;
    };
    given == port.to_string()
        && ["localhost", "127.0.0.1", "[::1]"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// The header lines of a request.
struct Headers<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Headers<'a> {
    fn parse(head: &'a [u8]) -> Result<Self, Refusal> {
        let head = std::str::from_utf8(head).map_err(|_| Refusal::Malformed("not text"))?;
        let head = head.strip_suffix("\r\n\r\n").ok_or(Refusal::Malformed("no end"))?;
        let mut lines = head.split("\r\n");
        let request = lines.next().unwrap_or_default();
        match request.split(' ').collect::<Vec<_>>()[..] {
            ["GET", "/", "HTTP/1.1"] => {}
            [_, _, "HTTP/1.1" | "HTTP/1.0"] => {
                return Err(Refusal::Forbidden("not GET / HTTP/1.1"));
            }
            _ => return Err(Refusal::Malformed("no request line")),
        }
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Refusal::Malformed("no colon"))?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(is_name) || value.contains(['\r', '\n', '\0']) {
                return Err(Refusal::Malformed("a bad header line"));
            }
            if headers.len() == HTTP_HEADERS_MAX {
                return Err(Refusal::Malformed("too many headers"));
            }
            headers.push((name, value.trim_matches([' ', '\t'])));
        }
        Ok(Self(headers))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// The value of a header that is there exactly once.
    fn only(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        let value = values.next();
        if values.next().is_some() { None } else { value }
    }

    fn any_starts_with(&self, prefix: &str) -> bool {
        self.0.iter().any(|(name, _)| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
    }

    /// Whether a comma-separated header lists `token`.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: chh8JQaagNjYqnfGbEVWRA==\r\nSec-WebSocket-Version: 13\r\n";

    fn verdict(request: &str) -> Result<String, Refusal> {
        judge(request.as_bytes(), 7772, &["https://ours.example".to_owned()])
    }

    #[test]
    fn the_python_client_passes() {
        let response = verdict(
            "GET / HTTP/1.1\r\nHost: localhost:7772\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: chh8JQaagNjYqnfGbEVWRA==\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate; \
             client_max_window_bits\r\nUser-Agent: Python/3.6 websockets/9.1\r\n\r\n",
        );
        // Key and answer as recorded.
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Accept: Mqhf57dy4jH3cdXy4oDKq1fga+0=\r\n\r\n";
        assert_eq!(response.as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_not_an_upgrade() {
        for request in [
            "GET / HTTP/1.1\r\nHost: localhost:7772\r\n\r\n".to_owned(),
            format!("POST / HTTP/1.1\r\nHost: localhost:7772\r\n{UPGRADE}\r\n"),
            format!("GET /x HTTP/1.1\r\nHost: localhost:7772\r\n{UPGRADE}\r\n"),
            format!("GET http://localhost:7772/ HTTP/1.1\r\nHost: localhost:7772\r\n{UPGRADE}\r\n"),
            format!("GET / HTTP/1.0\r\nHost: localhost:7772\r\n{UPGRADE}\r\n"),
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n"),
            format!("GET / HTTP/1.1\r\nHost: localhost:07772\r\n{UPGRADE}\r\n"),
        ] {
            assert!(matches!(verdict(&request), Err(Refusal::Forbidden(_))), "{request}");
        }
    }

    #[test]
    fn what_is_not_http() {
        for request in [
            "",
            "\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : localhost:7772\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost:7772\r\n Origin: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost:7772\nOrigin: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost:7772\r\n",
        ] {
            assert!(matches!(verdict(request), Err(Refusal::Malformed(_))), "{request:?}");
        }
        let many = "X: y\r\n".repeat(HTTP_HEADERS_MAX + 1);
        let request = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(verdict(&request), Err(Refusal::Malformed("too many headers")));
    }
}
