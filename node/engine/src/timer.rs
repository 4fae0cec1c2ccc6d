//! What may be scheduled.

use crate::input::LinkId;

/// A timer's name. Setting a timer that is set already moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Both sides of a link compare what they hold.
    Reconcile(LinkId),
    /// A link that owes an answer is given up.
    LinkDeadline(LinkId),
    /// Requests of applications that wait for the network are answered.
    Waiting,
    /// The next request of the inbox may be opened.
    Inbox,
    /// Answers to requests leave: together, on a schedule, so that nobody learns when they were made.
    Answers,
    /// Account records that changed are written for the other devices of the account.
    Pieces,
    /// Own objects that moved are listed for the other devices of the account.
    Manifest,
    /// What the other side of a link had no room for is offered again.
    Owed(LinkId),
    /// What other devices of the account owe and have not delivered is taken over.
    TakeOver,
    /// More rows of the store are looked at.
    Scrub,
    /// Identities that no link leads to are looked for.
    Search,
    /// Addresses that are looked for in the DHT are given up.
    Lookups,
    /// What moved is announced.
    Announce,
    /// A server that announced something does not answer.
    Fetch,
    /// Which authors are listened to may have changed.
    Listen,
    /// A persister that had no room is tried again.
    Uploads(LinkId),
    /// A persister that took no requests is tried again.
    Mail(LinkId),
    /// How far a persister has the feed is written down.
    Uploaded(LinkId),
}
