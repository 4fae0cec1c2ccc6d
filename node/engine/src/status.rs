//! What `hypergolix status` shows of the engine, as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use golix::Ghid;
use serde_json::json;

use crate::control::Control;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::limits;
use crate::shelf;
use crate::sync::Feed;
use crate::turn::Turn;
use crate::view::ViewError;

impl Engine {
    /// What the user asks beside applications.
    pub(crate) fn control(
        &mut self,
        turn: &mut Turn<'_>,
        id: u64,
        control: Control,
    ) -> Result<(), ViewError> {
        let answer = match control {
            Control::Figures => Ok(self.status_json(turn)?),
            Control::Objects { after } => Ok(self.objects_json(turn, after)?),
            Control::Register { token } => {
                self.register(turn, id, token.as_deref());
                return Ok(());
            }
            Control::Publish { address } => self.publish(turn, &address)?,
            Control::Unpublish { address } => self.unpublish(turn, &address)?,
            Control::Published => Ok(self.published_json(turn)?),
            Control::Users { .. }
            | Control::Admit { .. }
            | Control::Invite
            | Control::Quota { .. }
            | Control::Ban { .. } => Err("that is for servers".to_owned()),
        };
        turn.effect(Effect::Controlled { id, answer });
        Ok(())
    }

    /// A page of what the user has and follows. What is here and cannot be opened (yet, or no longer)
    /// and what is not here are told apart from the rest by `state`.
    fn objects_json(
        &mut self,
        turn: &mut Turn<'_>,
        after: Option<Ghid>,
    ) -> Result<String, ViewError> {
        let mut addresses: BTreeSet<Ghid> =
            Feed::addresses_after(turn, after.as_ref(), limits::OBJECTS_PAGE)?
                .into_iter()
                .collect();
        addresses.extend(self.follows.addresses_after(after.as_ref()).take(limits::OBJECTS_PAGE));
        addresses.extend(Self::elsewhere_after(turn, after.as_ref(), limits::OBJECTS_PAGE)?);
        let mut page = Vec::new();
        for address in addresses.into_iter().take(limits::OBJECTS_PAGE) {
            let own =
                address == self.account.user_id() || self.pieces.bucket_of(&address).is_some();
            let resolved = if own { None } else { self.resolve(turn, &address)? };
            let about = match resolved {
                Some(object) => json!({
                    "address": address.to_string(),
                    "creator": object.binder.to_string(),
                    "mine": object.binder == self.me,
                    "dynamic": object.dynamic,
                    "private": object.content.private.is_some(),
                    "api": HEXLOWER.encode(&object.content.api.0),
                    "bytes": object.content.state.len(),
                    "state": "readable",
                }),
                None if own => json!({ "address": address.to_string(), "state": "account" }),
                None if shelf::is_object(turn, &address)? => {
                    json!({ "address": address.to_string(), "state": "unreadable" })
                }
                None if Self::is_elsewhere(turn, &address)? => {
                    json!({ "address": address.to_string(), "state": "absent", "mine": true })
                }
                None if shelf::was_dropped(turn, &address)? || !self.follows.contains(&address) => {
                    json!({ "address": address.to_string(), "state": "deleted" })
                }
                None => json!({ "address": address.to_string(), "state": "absent" }),
            };
            page.push(about);
        }
        Ok(serde_json::Value::Array(page).to_string())
    }

    /// An object of facts; the node adds its own. Only numbers and addresses, so nothing needs
    /// escaping.
    pub(crate) fn status_json(&self, turn: &Turn<'_>) -> Result<String, ViewError> {
        let mut json =
            format!("{{\"fingerprint\":\"{}\",\"user_id\":\"{}\"", self.me, self.account.user_id());
        for (name, figure) in self.figures(turn)? {
            write!(json, ",\"{name}\":{figure}").expect("a string takes everything");
        }
        let (persisters, others) = (self.persisters_json(turn)?, self.guests_json());
        write!(json, ",\"persisters\":{persisters},\"servers_of_others\":{others}}}")
            .expect("a string takes everything");
        Ok(json)
    }
}
