//! Everything that can happen to a node.

use std::sync::Arc;

use golix::Ghid;
use golix::object::OpenedRequest;
use hypergolix_ipc::{ConnectionId, NoticeId, Request, RequestToken};

use crate::announcement::Moved;
use crate::control::Control;
use crate::message::Message;
use crate::route::{Host, Route, Subject};
use crate::timer::Timer;

/// One link to another device. Unique while the node runs; a new link to the same device gets a
/// new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Something that happened. Closed: the engine matches every variant.
#[derive(Debug, Clone)]
pub enum Input {
    /// An application connected.
    AppConnected {
        /// Its connection.
        connection: ConnectionId,
    },
    /// An application asks; exactly one `Effect::Answer` follows, now or later.
    AppRequest {
        /// The connection it came by.
        connection: ConnectionId,
        /// The number the answer has to carry.
        token: RequestToken,
        /// What it asks.
        request: Request,
    },
    /// An application answered a notice (or its time ran out and the connection is about to end).
    AppAcknowledged {
        /// The connection.
        connection: ConnectionId,
        /// Which notice.
        notice: NoticeId,
        /// Whether it took the notice.
        accepted: bool,
    },
    /// An application's connection is gone.
    AppDisconnected {
        /// The connection.
        connection: ConnectionId,
    },
    /// A link to another device is open in both directions.
    LinkUp {
        /// The link.
        link: LinkId,
        /// The other device, by its authenticated network key (a libp2p PeerId's bytes).
        device: Vec<u8>,
        /// Whether it is a remote of the configuration: a persister that this device may use.
        remote: bool,
    },
    /// A message came over a link.
    LinkMessage {
        /// The link.
        link: LinkId,
        /// The message, decoded and within the limits of `message`.
        message: Message,
    },
    /// A link ended.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// Where others may find this device from now on, and which persisters it uses.
    Here {
        /// That, and when it was said.
        route: Route,
    },
    /// The distributed hash table was asked for a subject (`Effect::Search`).
    Found {
        /// What was looked for.
        subject: Subject,
        /// Who serves it, verified; their devices are being dialled. There may be none.
        routes: Vec<Route>,
    },
    /// The user or the operator asks; exactly one `Effect::Controlled` follows, now or later.
    Control {
        /// Names the answer.
        id: u64,
        /// What they ask.
        control: Control,
    },
    /// A request was opened, as `Effect::OpenRequest` asked.
    RequestOpened {
        /// The effect's number.
        number: u64,
        /// `None` if it does not open. (Shared, because an input can be cloned and this cannot.)
        opened: Option<Arc<OpenedRequest>>,
    },
    /// A server announced that objects of an author moved, as `Effect::Listen` asked.
    Announced {
        /// The author: the announcement could only be made by somebody who knows it.
        author: Ghid,
        /// What moved.
        moved: Vec<Moved>,
        /// The server, and where it says it is.
        host: Host,
    },
    /// A timer that the engine had set is due.
    Timer(Timer),
}
