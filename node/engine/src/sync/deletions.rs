//! What this account deleted, and which persisters have said that they know.
//!
//! Rows of [`Table::Deletions`], all about addresses that applications know:
//!
//! | key | value |
//! |---|---|
//! | `00`, address 65 | the debinding, 65: this account deleted the address, or let go of it |
//! | `01`, device | epoch of its feed 8, deletions it confirmed 8, order of its last visit 8 |
//! | `02`, length 1, device, address 65 | empty: this persister confirmed the deletion |
//! | `03` | number of rows of the first kind, 8 |
//!
//! A persister confirms by storing the debinding, or by having it when both sides are compared. One that
//! was wiped has another epoch, and has confirmed nothing; one that was restored from a backup shows in
//! a comparison what it lacks.

use std::fmt::Write as _;

use golix::Ghid;
use golix::object::{Object, Verified};
use golix::persister::Stored;

use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits;
use crate::message::Packed;
use crate::shelf;
use crate::sync::compare::Items;
use crate::sync::holdings::item;
use crate::turn::{Turn, key};
use crate::verdict;
use crate::view::{Table, ViewError};

const DELETED: u8 = 0;
const PERSISTER: u8 = 1;
const CONFIRMED: u8 = 2;
const TOTAL: u8 = 3;

/// What is known of one persister.
#[derive(Debug, Clone, Copy, Default)]
struct Confirmer {
    epoch: u64,
    confirmed: u64,
    met: u64,
}

impl Confirmer {
    fn load(turn: &Turn<'_>, device: &[u8]) -> Result<Option<Self>, ViewError> {
        turn.get(Table::Deletions, &key(&[&[PERSISTER], device]))?
            .map(|row| Self::decode(&row))
            .transpose()
    }

    fn decode(row: &[u8]) -> Result<Self, ViewError> {
        let mut numbers = row.chunks_exact(8).map(number);
        match (numbers.next(), numbers.next(), numbers.next(), row.len()) {
            (Some(epoch), Some(confirmed), Some(met), 24) => Ok(Self { epoch, confirmed, met }),
            _ => Err(damaged()),
        }
    }

    fn save(self, turn: &mut Turn<'_>, device: &[u8]) {
        let row = [self.epoch, self.confirmed, self.met].map(u64::to_be_bytes).concat();
        turn.put(Table::Deletions, key(&[&[PERSISTER], device]), row);
    }

    fn all(turn: &Turn<'_>) -> Result<Vec<(Vec<u8>, Self)>, ViewError> {
        turn.prefixed(Table::Deletions, &[PERSISTER], usize::MAX >> 1)?
            .into_iter()
            .map(|(row, value)| Ok((row[1..].to_vec(), Self::decode(&value)?)))
            .collect()
    }
}

/// What a status says of one persister.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    pub(super) confirmed: u64,
    pub(super) outstanding: u64,
    /// Some of these.
    pub(super) unconfirmed: Vec<Ghid>,
}

impl Confirmations {
    /// Members of a JSON object.
    pub(super) fn json(&self) -> String {
        let mut json = format!(
            "\"deletions_confirmed\":{},\"deletions_unconfirmed\":{},\"unconfirmed_deletions\":[",
            self.confirmed, self.outstanding
        );
        for (index, address) in self.unconfirmed.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // A string takes everything.
            let _ = write!(json, "{comma}\"{address}\"");
        }
        json.push(']');
        json
    }
}

/// The debindings of ours among objects that go to a persister, by their places.
pub(super) fn own_debindings(me: &Ghid, objects: &[Packed]) -> Vec<usize> {
    let ours = |bytes: &Packed| matches!(Stored::read(bytes), Some(Stored::Debinding { debinder, .. }) if debinder == *me);
    (0..objects.len()).filter(|place| ours(&objects[*place])).collect()
}

impl Engine {
    /// What an object of ours that is about to be stored deletes: an own binding, or a hold.
    pub(crate) fn deleted_by(
        &self,
        turn: &Turn<'_>,
        object: &Verified,
    ) -> Result<Option<(Ghid, Ghid)>, ViewError> {
        let Object::Debinding(debinding) = object.object() else {
            return Ok(None);
        };
        let target = debinding.target();
        if debinding.debinder() != self.me {
            return Ok(None);
        }
        if shelf::head(turn, &target)?.is_some_and(|head| head.binder == self.me) {
            return Ok(Some((target, object.ghid())));
        }
        Ok(match shelf::bytes(turn, &target)?.as_deref().and_then(Stored::read) {
            Some(Stored::StaticBinding { binder, target }) if binder == self.me => {
                Some((target, object.ghid()))
            }
            _ => None,
        })
    }

    /// This account deleted an address: every persister has to hear of it.
    pub(crate) fn note_deletion(
        turn: &mut Turn<'_>,
        address: &Ghid,
        debinding: &Ghid,
    ) -> Result<(), ViewError> {
        Self::forget_deletion(turn, address)?;
        turn.put(Table::Deletions, key(&[&[DELETED], address.as_bytes()]), debinding.as_bytes());
        let total = total(turn)? + 1;
        turn.put(Table::Deletions, [TOTAL], total.to_be_bytes());
        Ok(())
    }

    /// It is held again.
    pub(crate) fn forget_deletion(turn: &mut Turn<'_>, address: &Ghid) -> Result<(), ViewError> {
        let row = key(&[&[DELETED], address.as_bytes()]);
        if turn.get(Table::Deletions, &row)?.is_none() {
            return Ok(());
        }
        turn.delete(Table::Deletions, row);
        let total = total(turn)?.saturating_sub(1);
        turn.put(Table::Deletions, [TOTAL], total.to_be_bytes());
        for (device, _) in Confirmer::all(turn)? {
            Self::deletion_missing(turn, &device, address)?;
        }
        Ok(())
    }

    /// A persister is here. If it lost what it had, it has confirmed nothing.
    pub(super) fn confirmer_up(
        &self,
        turn: &mut Turn<'_>,
        device: &[u8],
        epoch: u64,
    ) -> Result<(), ViewError> {
        let before = Confirmer::load(turn, device)?;
        let confirmed = match before {
            Some(before) if before.epoch == epoch => before.confirmed,
            Some(_) => {
                Self::forget_confirmations(turn, device)?;
                0
            }
            None => 0,
        };
        Confirmer { epoch, confirmed, met: self.feed.last() }.save(turn, device);
        let mut known = Confirmer::all(turn)?;
        if known.len() > limits::CONFIRMERS_MAX {
            // Servers without a store are others each time they start.
            known.retain(|(other, _)| other != device);
            if let Some((oldest, _)) = known.into_iter().min_by_key(|(_, confirmer)| confirmer.met)
            {
                Self::forget_confirmations(turn, &oldest)?;
                turn.delete(Table::Deletions, key(&[&[PERSISTER], &oldest]));
            }
        }
        Ok(())
    }

    fn forget_confirmations(turn: &mut Turn<'_>, device: &[u8]) -> Result<(), ViewError> {
        for (row, _) in turn.prefixed(Table::Deletions, &of(device), usize::MAX >> 1)? {
            turn.delete(Table::Deletions, row);
        }
        Ok(())
    }

    /// A persister has stored a deletion, or has it already.
    fn deletion_confirmed(
        turn: &mut Turn<'_>,
        device: &[u8],
        address: &Ghid,
    ) -> Result<(), ViewError> {
        let row = key(&[&of(device), address.as_bytes()]);
        let is_one = turn.get(Table::Deletions, &key(&[&[DELETED], address.as_bytes()]))?.is_some();
        if is_one
            && turn.get(Table::Deletions, &row)?.is_none()
            && let Some(mut confirmer) = Confirmer::load(turn, device)?
        {
            turn.put(Table::Deletions, row, []);
            confirmer.confirmed += 1;
            confirmer.save(turn, device);
        }
        Ok(())
    }

    /// A persister does not take a deletion, whatever it said before. That a comparison misses it says
    /// less: somebody else may hold the object there. So it is uploaded again, and the answer counts.
    pub(super) fn deletion_missing(
        turn: &mut Turn<'_>,
        device: &[u8],
        address: &Ghid,
    ) -> Result<(), ViewError> {
        let row = key(&[&of(device), address.as_bytes()]);
        if turn.get(Table::Deletions, &row)?.is_some()
            && let Some(mut confirmer) = Confirmer::load(turn, device)?
        {
            turn.delete(Table::Deletions, row);
            confirmer.confirmed = confirmer.confirmed.saturating_sub(1);
            confirmer.save(turn, device);
        }
        Ok(())
    }

    /// A persister answered for what was sent of an address: whether it has the deletion.
    pub(super) fn deletion_answered(
        turn: &mut Turn<'_>,
        device: &[u8],
        address: &Ghid,
        debindings: &[usize],
        results: &[u32],
    ) -> Result<(), ViewError> {
        let stored = |place: &usize| results.get(*place) == Some(&verdict::STORED);
        if !debindings.is_empty() && debindings.iter().all(stored) {
            Self::deletion_confirmed(turn, device, address)?;
        }
        Ok(())
    }

    /// A comparison with a persister has ended: what was compared and not found missing is there.
    pub(super) fn deletions_compared(
        &self,
        turn: &mut Turn<'_>,
        link: LinkId,
        compared: &Items,
    ) -> Result<(), ViewError> {
        let Some(device) = self.links.get(link).map(|state| state.device.clone()) else {
            return Ok(());
        };
        let known = Confirmer::load(turn, &device)?.unwrap_or_default();
        if known.confirmed >= total(turn)? {
            return Ok(());
        }
        for (address, debinding) in deletions(turn)? {
            if compared.get(&item(&address, &debinding)) == Some(&address) {
                Self::deletion_confirmed(turn, &device, &address)?;
            }
        }
        Ok(())
    }

    /// What a persister confirmed; nothing for one that was never here.
    pub(super) fn confirmations(
        turn: &Turn<'_>,
        device: &[u8],
    ) -> Result<Confirmations, ViewError> {
        let confirmed = Confirmer::load(turn, device)?.unwrap_or_default().confirmed;
        let outstanding = total(turn)?.saturating_sub(confirmed);
        let mut unconfirmed = Vec::new();
        if outstanding > 0 {
            let confirmed = of(device);
            for (address, _) in deletions(turn)? {
                let row = key(&[&confirmed, address.as_bytes()]);
                if turn.get(Table::Deletions, &row)?.is_none() {
                    unconfirmed.push(address);
                }
                if unconfirmed.len() >= limits::UNCONFIRMED_SHOWN {
                    break;
                }
            }
        }
        Ok(Confirmations { confirmed, outstanding, unconfirmed })
    }

    /// Persisters that were here once, the last one first.
    pub(super) fn confirmers(turn: &Turn<'_>) -> Result<Vec<Vec<u8>>, ViewError> {
        let mut known = Confirmer::all(turn)?;
        known.sort_by_key(|(_, confirmer)| std::cmp::Reverse(confirmer.met));
        Ok(known.into_iter().map(|(device, _)| device).collect())
    }
}

fn deletions(turn: &Turn<'_>) -> Result<Vec<(Ghid, Ghid)>, ViewError> {
    turn.prefixed(Table::Deletions, &[DELETED], usize::MAX >> 1)?
        .into_iter()
        .map(|(row, debinding)| {
            let address = Ghid::from_bytes(&row[1..]).map_err(|_| damaged())?;
            Ok((address, Ghid::from_bytes(&debinding).map_err(|_| damaged())?))
        })
        .collect()
}

fn total(turn: &Turn<'_>) -> Result<u64, ViewError> {
    Ok(turn.get(Table::Deletions, &[TOTAL])?.map_or(0, |row| number(&row)))
}

/// The beginning of the rows of what a persister confirmed.
fn of(device: &[u8]) -> Vec<u8> {
    key(&[&[CONFIRMED, u8::try_from(device.len()).unwrap_or(u8::MAX)], device])
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn damaged() -> ViewError {
    ViewError("a row about deletions is damaged".into())
}
