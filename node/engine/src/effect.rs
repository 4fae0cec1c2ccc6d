//! Everything a node can do.

use golix::Ghid;
use hypergolix_ipc::{ConnectionId, IpcError, Notice, NoticeId, Reply, RequestToken};

use crate::announcement::Moved;
use crate::input::LinkId;
use crate::message::{Message, Packed};
use crate::route::{Host, Subject};
use crate::timer::Timer;
use crate::view::{Time, Write};

/// What to do after the writes are durable, in order. Closed.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Answer a request of an application.
    Answer {
        /// The connection that asked.
        connection: ConnectionId,
        /// The number it asked under.
        token: RequestToken,
        /// The answer.
        answer: Result<Reply, IpcError>,
    },
    /// Tell an application; it answers with `Input::AppAcknowledged`.
    Notify {
        /// The connection.
        connection: ConnectionId,
        /// The number of this notice on this connection.
        notice: NoticeId,
        /// What to tell.
        body: Notice,
    },
    /// End an application's connection.
    CloseApp {
        /// The connection.
        connection: ConnectionId,
        /// Why, for the log.
        reason: &'static str,
    },
    /// Send over a link. Messages of one link arrive in this order or the link goes down.
    Send {
        /// The link.
        link: LinkId,
        /// The message.
        message: Message,
    },
    /// Open a request, away from the loop and with low priority, and hand the result back as
    /// `Input::RequestOpened`. In suite 1 it takes 15 ms of a core, and strangers ask for it.
    OpenRequest {
        /// Names the result.
        number: u64,
        /// The packed GARQ.
        request: Packed,
    },
    /// Sign `statement` with the identity's key, away from the loop, and send it over the link as
    /// `Message::Proof`. In suite 3 the engine does so itself.
    Prove {
        /// The link.
        link: LinkId,
        /// What the proof signs.
        statement: Vec<u8>,
    },
    /// Say in the distributed hash table that these addresses are served here, and no others.
    Present {
        /// All of them.
        addresses: Vec<Ghid>,
    },
    /// Connect to a persister that somebody whom we look for uses.
    Visit {
        /// The persister, and where it is.
        host: Host,
    },
    /// End such a connection; the persister is not needed any longer.
    Leave {
        /// The persister's network key.
        device: Vec<u8>,
    },
    /// Connect to another device: it uses the same persister.
    Reach {
        /// The link to that persister.
        via: LinkId,
        /// The device, by its network key (a libp2p PeerId's bytes).
        device: Vec<u8>,
    },
    /// Look in the distributed hash table for the devices that serve a subject, and connect to those that
    /// are found; answered with `Input::Found`.
    Search {
        /// An identity, or an address that somebody may publish.
        subject: Subject,
    },
    /// Hand over what servers announce about an author (`Input::Announced`), or no longer.
    Listen {
        /// Whose objects.
        author: Ghid,
        /// Whether from now on, or no longer.
        listens: bool,
    },
    /// Pass on announcements of these shards, beside those of the authors that are listened to.
    JoinShards {
        /// One bit each.
        shards: u64,
    },
    /// Announce that objects moved. Whoever does not hear of it finds out otherwise, or never.
    Announce {
        /// The author.
        author: Ghid,
        /// At most [`MOVED_MAX`](crate::announcement::MOVED_MAX) objects.
        moved: Vec<Moved>,
    },
    /// Connect for a while to a server that announced something.
    VisitAnnouncer {
        /// Where it says it is.
        host: Host,
    },
    /// End a link: the other side broke the protocol, or does not answer.
    CloseLink {
        /// The link.
        link: LinkId,
        /// Why, for the log.
        reason: &'static str,
        /// Whether the device misbehaved, so that the network keeps it away for a while.
        misbehaved: bool,
    },
    /// Answer the user or the operator.
    Controlled {
        /// The number of `Input::Control`.
        id: u64,
        /// JSON, or a sentence saying why not.
        answer: Result<String, String>,
    },
    /// Hand `timer` back at `at`.
    SetTimer {
        /// Which timer.
        timer: Timer,
        /// When.
        at: Time,
    },
    /// Something worth a line in the log.
    Log {
        /// A constant sentence.
        event: &'static str,
        /// What it is about; no secrets, no state, addresses in short form.
        about: String,
    },
}

/// What one input leads to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Rows, to be written before any effect happens.
    pub writes: Vec<Write>,
    /// Objects in `writes` and `effects` whose signatures are missing; see
    /// [`Signatures`](crate::Signatures). Always empty for an account of suite 3.
    pub unsigned: Vec<Ghid>,
    /// What to do once they are durable.
    pub effects: Vec<Effect>,
}
