//! Objects that others share, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use golix::Ghid;
use tokio::sync::mpsc;

use crate::ids::ApiId;

/// Shares that wait for a reader who lags; further ones are refused, so that the daemon knows.
pub(super) const SHARES_MAX: usize = 1_024;

/// Somebody shared an object with this user, or another application of the user made one.
///
/// Get it with [`HgxLink::get`](super::HgxLink::get).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Where the object is.
    pub ghid: Ghid,
    /// The fingerprint of who shared it.
    pub origin: Ghid,
    /// Its type.
    pub api_id: ApiId,
}

/// The shares of one api id, in the order in which they arrived. Also a [`futures::Stream`].
///
/// Ends when the link stops, or another handler takes the api id.
#[derive(Debug)]
pub struct Shares(pub(super) mpsc::Receiver<Share>);

impl Shares {
    /// The next share; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Share> {
        self.0.recv().await
    }
}

impl futures::Stream for Shares {
    type Item = Share;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Share>> {
        self.get_mut().0.poll_recv(cx)
    }
}
