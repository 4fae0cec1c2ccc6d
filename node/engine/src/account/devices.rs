//! The devices of an account: each has a slot of its own in frame counters and record stamps, so that
//! no two of them ever sign the same counter.

use crate::engine::Engine;
use crate::turn::Turn;
use crate::view::{Table, ViewError};

/// Meta row: the slot of this device, 1 byte.
const META_SLOT: &[u8] = b"device slot";

/// The slot of this device; `first` where none was drawn yet.
pub(crate) fn slot(turn: &mut Turn<'_>, first: u8) -> Result<u8, ViewError> {
    match turn.get(Table::Meta, META_SLOT)?.as_deref() {
        Some([slot]) => Ok(*slot),
        Some(_) => Err(ViewError("the slot of this device is damaged".into())),
        None => {
            set_slot(turn, first);
            Ok(first)
        }
    }
}

fn set_slot(turn: &mut Turn<'_>, slot: u8) {
    turn.put(Table::Meta, META_SLOT, [slot]);
}

/// Draws a slot for a device that joins an account: any but 0, which old writers use, and 1, which
/// the first device has. Who draws another's moves on as soon as they meet.
pub(crate) fn draw_slot(turn: &mut Turn<'_>) -> u8 {
    loop {
        let [slot] = turn.random();
        if slot > 1 {
            set_slot(turn, slot);
            return slot;
        }
    }
}

impl Engine {
    /// Another device signs with our slot: from now on we have another one.
    pub(crate) fn change_slot(&mut self, turn: &mut Turn<'_>) {
        let slot = draw_slot(turn);
        self.config.slot = slot;
        self.keyring = self.account.keyring(slot);
        turn.log("another device of this account had the same slot", format!("now {slot}"));
    }
}
