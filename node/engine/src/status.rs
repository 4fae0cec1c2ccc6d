//! What `hypergolix status` shows of the engine, as JSON.

use std::fmt::Write as _;

use crate::control::Control;
use crate::effect::Effect;
use crate::engine::Engine;
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
            Control::Register { token } => {
                self.register(turn, id, token.as_deref());
                return Ok(());
            }
            Control::Users
            | Control::Admit { .. }
            | Control::Invite
            | Control::Quota { .. }
            | Control::Ban { .. } => Err("that is for servers".to_owned()),
        };
        turn.effect(Effect::Controlled { id, answer });
        Ok(())
    }

    /// An object of facts; the node adds its own. Only numbers and addresses, so nothing needs
    /// escaping.
    pub(crate) fn status_json(&self, turn: &Turn<'_>) -> Result<String, ViewError> {
        let mut json =
            format!("{{\"fingerprint\":\"{}\",\"user_id\":\"{}\"", self.me, self.account.user_id());
        for (name, figure) in self.figures(turn)? {
            write!(json, ",\"{name}\":{figure}").expect("a string takes everything");
        }
        write!(json, ",\"persisters\":{}}}", self.persisters_json(turn)?)
            .expect("a string takes everything");
        Ok(json)
    }
}
