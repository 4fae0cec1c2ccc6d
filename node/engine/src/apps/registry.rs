//! Application tokens and startup objects, kept with the account.

use golix::Ghid;
use hypergolix_ipc::AppToken;

use crate::keyring::{Keyring, Record};
use crate::turn::Turn;
use crate::view::ViewError;

/// Draws a token that was never issued before (and is not the null token).
pub(super) fn issue(keyring: &Keyring, turn: &mut Turn<'_>) -> Result<AppToken, ViewError> {
    let mut token = AppToken(turn.random());
    while token == AppToken::NULL {
        token = AppToken(turn.random());
    }
    keyring.put(turn, Record::Token, &token.0, &[])?;
    Ok(token)
}

pub(super) fn is_issued(
    keyring: &Keyring,
    turn: &Turn<'_>,
    token: AppToken,
) -> Result<bool, ViewError> {
    Ok(keyring.get(turn, Record::Token, &token.0)?.is_some())
}

/// The startup object of a token, if it has one. It may be deleted since.
pub(super) fn startup(
    keyring: &Keyring,
    turn: &Turn<'_>,
    token: AppToken,
) -> Result<Option<Ghid>, ViewError> {
    let Some(body) = keyring.get(turn, Record::Token, &token.0)? else {
        return Ok(None);
    };
    if body.is_empty() {
        return Ok(None);
    }
    Ghid::from_bytes(&body)
        .map(Some)
        .map_err(|_| ViewError("the record of an application token is damaged".into()))
}

pub(super) fn set_startup(
    keyring: &Keyring,
    turn: &mut Turn<'_>,
    token: AppToken,
    object: Option<Ghid>,
) -> Result<(), ViewError> {
    let body = object.map(|ghid| ghid.as_bytes().to_vec()).unwrap_or_default();
    keyring.put(turn, Record::Token, &token.0, &body)
}
