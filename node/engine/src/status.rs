//! What `hypergolix status` shows of the engine, as JSON.

use std::fmt::Write as _;

use crate::engine::Engine;
use crate::turn::Turn;
use crate::view::ViewError;

impl Engine {
    /// An object of facts; the node adds its own. Only numbers and addresses, so nothing needs
    /// escaping.
    pub(crate) fn status_json(&self, turn: &Turn<'_>) -> Result<String, ViewError> {
        let mut json =
            format!("{{\"fingerprint\":\"{}\",\"user_id\":\"{}\"", self.me, self.account.user_id());
        for (name, figure) in self.figures(turn)? {
            write!(json, ",\"{name}\":{figure}").expect("a string takes everything");
        }
        json.push('}');
        Ok(json)
    }
}
