//! Who may store how much, and who stores how much.
//!
//! Rows: `0 | identity 65` → CBOR of [`User`]; `1 | SHA-512(token)[..32]` → empty, a token that was
//! given out and not used yet. What an identity stores is counted in the transaction that stores
//! it, and given back when it is collected.

use golix::Ghid;
use golix::persister::{Change, Stored};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::{Persister, PersisterConfig, Policy, Quota};
use crate::input::LinkId;
use crate::limits;
use crate::shelf;
use crate::turn::{Turn, after_prefix, key};
use crate::verdict;
use crate::view::{Table, ViewError};

const USER: u8 = 0;
const TOKEN: u8 = 1;

/// What is known of one identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) registered: bool,
    pub(super) banned: bool,
    /// Of its objects that are stored.
    pub(super) bytes: u64,
    pub(super) objects: u64,
    /// What the operator allows, if not the usual figures.
    pub(super) bytes_max: Option<u64>,
    pub(super) objects_max: Option<u64>,
}

impl User {
    pub(super) fn load(turn: &Turn<'_>, identity: &Ghid) -> Result<Self, ViewError> {
        match turn.get(Table::Users, &row(identity))? {
            Some(value) => decode(&value),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn save(&self, turn: &mut Turn<'_>, identity: &Ghid) {
        if *self == Self::default() {
            turn.delete(Table::Users, row(identity));
        } else {
            let value = cbor4ii::serde::to_vec(Vec::new(), self).expect("a row is plain data");
            turn.put(Table::Users, row(identity), value);
        }
    }

    /// Up to `limit` identities after another one, ascending.
    pub(super) fn after(
        turn: &Turn<'_>,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<(Ghid, Self)>, ViewError> {
        let start = after.map_or_else(|| vec![USER], |after| key(&[&row(after), &[0]]));
        turn.range(Table::Users, &start, &after_prefix(&[USER]), limit)?
            .into_iter()
            .map(|(row, value)| {
                let identity = row.get(1..).and_then(|ghid| Ghid::from_bytes(ghid).ok());
                Ok((identity.ok_or_else(damaged)?, decode(&value)?))
            })
            .collect()
    }

    pub(super) fn quota(&self, config: &PersisterConfig) -> Quota {
        let usual = if self.registered { config.registered } else { config.unregistered };
        Quota {
            bytes: self.bytes_max.unwrap_or(usual.bytes),
            objects: self.objects_max.unwrap_or(usual.objects),
        }
    }

    /// Whether requests to it are taken. A server that is not open to everybody is no mailbox between two
    /// who are not registered: it would be filled by those whom it does not know.
    pub(super) fn may_have_mail(&self, config: &PersisterConfig, from_registered: bool) -> bool {
        match config.policy {
            Policy::Open => true,
            Policy::Registered | Policy::Invited => self.registered || from_registered,
        }
    }

    /// Whether it may store anything.
    pub(super) fn may_publish(&self, config: &PersisterConfig) -> Result<(), u32> {
        if self.banned {
            return Err(verdict::BANNED);
        }
        match config.policy {
            Policy::Open => Ok(()),
            Policy::Registered | Policy::Invited if self.registered => Ok(()),
            Policy::Registered | Policy::Invited => Err(verdict::NOT_REGISTERED),
        }
    }
}

/// Who pays for stored bytes, and for how many objects: their author or binder. What is left of a deletion
/// is no object, but takes its space for good. Identities and requests are bounded by other means.
fn payer(bytes: &[u8]) -> Option<(Ghid, u64)> {
    match Stored::read(bytes)? {
        Stored::Container { author } => Some((author, 1)),
        Stored::StaticBinding { binder, .. } | Stored::Frame { binder, .. } => Some((binder, 1)),
        Stored::Debinding { debinder, .. } => Some((debinder, 0)),
        Stored::Identity { .. } | Stored::Request { .. } => None,
    }
}

/// Whether this ends a request in its recipient's mailbox. That is no choice of the recipient's: whoever
/// leaves requests would use up somebody else's quota.
fn ends_a_request(turn: &Turn<'_>, bytes: &[u8]) -> Result<bool, ViewError> {
    let Some(Stored::Debinding { target, .. }) = Stored::read(bytes) else {
        return Ok(false);
    };
    let target = shelf::bytes(turn, &target)?;
    Ok(matches!(target.as_deref().and_then(Stored::read), Some(Stored::Request { .. })))
}

/// Counts what a change adds or takes away.
pub(super) fn account(turn: &mut Turn<'_>, change: &Change) -> Result<(), ViewError> {
    match change {
        Change::PutObject { bytes, .. } => {
            if let Some((identity, objects)) = payer(bytes)
                && !ends_a_request(turn, bytes)?
            {
                let mut user = User::load(turn, &identity)?;
                user.bytes = user.bytes.saturating_add(bytes.len() as u64);
                user.objects = user.objects.saturating_add(objects);
                user.save(turn, &identity);
            }
        }
        Change::DropObject { ghid } => {
            if let Some(bytes) = shelf::bytes(turn, ghid)?
                && let Some((identity, objects)) = payer(&bytes)
            {
                let mut user = User::load(turn, &identity)?;
                user.bytes = user.bytes.saturating_sub(bytes.len() as u64);
                user.objects = user.objects.saturating_sub(objects);
                user.save(turn, &identity);
            }
        }
        _ => {}
    }
    Ok(())
}

impl Persister {
    /// Registers what a link proved; the result for `Registered`.
    pub(super) fn register(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        token: Option<&str>,
    ) -> Result<u32, ViewError> {
        let now = turn.now();
        let Some(state) = self.links.get_mut(link) else {
            return Ok(verdict::NOT_HERE);
        };
        if !state.paces.registrations.try_spend(now, limits::REGISTRATIONS) {
            return Ok(verdict::TOO_FAST);
        }
        let proven: Vec<Ghid> = state.proven.iter().copied().collect();
        if proven.is_empty() {
            return Ok(verdict::NOT_PROVED);
        }
        if self.low_on_space {
            return Ok(verdict::DISK_FULL);
        }
        let mut new = Vec::new();
        for identity in proven {
            let user = User::load(turn, &identity)?;
            if user.banned {
                return Ok(verdict::BANNED);
            }
            if !user.registered {
                new.push((identity, user));
            }
        }
        if new.is_empty() {
            return Ok(verdict::STORED);
        }
        match token {
            Some(token) => {
                let row = token_row(token);
                if turn.get(Table::Users, &row)?.is_none() {
                    return Ok(verdict::TOKEN_WRONG);
                }
                turn.delete(Table::Users, row);
            }
            None if self.config.policy == Policy::Invited => return Ok(verdict::TOKEN_NEEDED),
            None => {}
        }
        for (identity, mut user) in new {
            user.registered = true;
            user.save(turn, &identity);
            turn.log("an identity registered", identity.short());
        }
        Ok(verdict::STORED)
    }
}

fn row(identity: &Ghid) -> Vec<u8> {
    key(&[&[USER], identity.as_bytes()])
}

/// The row of a token that was given out; the token itself is not stored.
pub(super) fn token_row(token: &str) -> Vec<u8> {
    key(&[&[TOKEN], &Sha512::digest(token.as_bytes())[..32]])
}

fn decode(value: &[u8]) -> Result<User, ViewError> {
    cbor4ii::serde::from_slice(value).map_err(|_| damaged())
}

fn damaged() -> ViewError {
    ViewError("what is known of a user is damaged".into())
}
