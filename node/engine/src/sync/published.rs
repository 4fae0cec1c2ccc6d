//! Addresses that the user publishes: whoever knows one of them finds this device in the DHT, and gets
//! what makes the address readable to those who have its key.
//!
//! A record of the account a published address, which stays on this device: another one may not have the
//! object. It ends when the user says so, or with the object.

use std::collections::BTreeSet;

use golix::Ghid;
use serde_json::json;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::keyring::{Keyring, Record};
use crate::limits::PUBLISHED_MAX;
use crate::shelf;
use crate::turn::Turn;
use crate::view::ViewError;

/// What is published.
#[derive(Debug, Default)]
pub(crate) struct Published(BTreeSet<Ghid>);

impl Published {
    pub(crate) fn open(turn: &Turn<'_>, keyring: &Keyring) -> Result<Self, ViewError> {
        let damaged = |_| ViewError("the record of a published address is damaged".into());
        let names = keyring.all(turn, Record::Published)?.into_iter();
        names
            .map(|(name, _)| Ghid::from_bytes(&name).map_err(damaged))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Engine {
    /// Says in the DHT what is published, and nothing else.
    pub(crate) fn present(&self, turn: &mut Turn<'_>) {
        if self.config.searches {
            let addresses = self.published.0.iter().copied().collect();
            turn.effect(Effect::Present { addresses });
        }
    }

    /// Publishes an address; whether that is news.
    pub(crate) fn publish(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<Result<String, String>, ViewError> {
        if !self.config.searches {
            return Ok(Err("the distributed hash table is switched off; switch it on with \
                           'hypergolix config --dht', then stop Hypergolix and start it again"
                .to_owned()));
        }
        let Some(object) = self.resolve(turn, address)? else {
            return Ok(Err(format!(
                "there is no object {address} on this device that can be read; 'hypergolix ls' shows \
                 those that there are"
            )));
        };
        if object.content.private.is_some() {
            return Ok(Err("a private object cannot be published".to_owned()));
        }
        let new = !self.published.0.contains(address);
        if new {
            if self.published.len() >= PUBLISHED_MAX {
                return Ok(Err(format!(
                    "{PUBLISHED_MAX} addresses are published, which is the most; take one back with \
                     'hypergolix publish --remove'"
                )));
            }
            self.keyring.put(turn, Record::Published, address.as_bytes(), &[])?;
            self.published.0.insert(*address);
            self.present(turn);
        }
        Ok(Ok(json!({ "address": address.to_string(), "new": new }).to_string()))
    }

    /// Publishes an address no longer. What was said of it in the DHT ends within a day.
    pub(crate) fn unpublish(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<Result<String, String>, ViewError> {
        if !self.published.0.remove(address) {
            return Ok(Err(format!(
                "{address} is not published; 'hypergolix publish --list' shows what is"
            )));
        }
        self.keyring.forget(turn, Record::Published, address.as_bytes())?;
        self.present(turn);
        Ok(Ok(json!({ "address": address.to_string() }).to_string()))
    }

    /// An object is gone, and so is what was said of it.
    pub(crate) fn unpublish_gone(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<(), ViewError> {
        if self.published.0.contains(address) {
            turn.log("a published object is gone", address.short());
            self.unpublish(turn, address)?.ok();
        }
        Ok(())
    }

    /// What is published, and whether it is here: a JSON array.
    pub(crate) fn published_json(&self, turn: &Turn<'_>) -> Result<String, ViewError> {
        let mut list = Vec::new();
        for address in &self.published.0 {
            let held = shelf::is_object(turn, address)?;
            list.push(json!({ "address": address.to_string(), "here": held }));
        }
        Ok(serde_json::Value::Array(list).to_string())
    }
}
