//! What the user of a node or the operator of a persister may ask beside everything else.

use golix::Ghid;

/// A question or an order that comes through the control socket of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// What it is doing, as JSON.
    Figures,
    /// Node: what the user has and follows, in the order of the addresses, as a JSON array of at
    /// most [`OBJECTS_PAGE`](crate::limits::OBJECTS_PAGE).
    Objects {
        /// Begin behind this address.
        after: Option<Ghid>,
    },
    /// Node: register at every linked persister.
    Register {
        /// What the operators gave out, if they did.
        token: Option<String>,
    },
    /// Node: says in the distributed hash table that an address is served here.
    Publish {
        /// Of an object that can be read here.
        address: Ghid,
    },
    /// Node: no longer.
    Unpublish {
        /// Which.
        address: Ghid,
    },
    /// Node: what is published.
    Published,
    /// Persister: who stores how much, in the order of the identities, as a JSON array of at most
    /// [`USERS_PAGE`](crate::limits::USERS_PAGE).
    Users {
        /// Begin behind this identity.
        after: Option<Ghid>,
    },
    /// Persister: registers an identity, or takes that back.
    Admit {
        /// Whom.
        identity: Ghid,
        /// Whether it is registered from now on.
        registered: bool,
    },
    /// Persister: makes a token with which one identity can register.
    Invite,
    /// Persister: what an identity may store; `None` takes the usual figure.
    Quota {
        /// Whose.
        identity: Ghid,
        /// Bytes of its objects.
        bytes: Option<u64>,
        /// Their number.
        objects: Option<u64>,
    },
    /// Persister: refuses whatever an identity publishes, and its links; or no longer.
    Ban {
        /// Whom.
        identity: Ghid,
        /// Whether it is banned from now on.
        banned: bool,
    },
}
