//! Identities that were verified lately. Whoever publishes sends his along with every object, and
//! finding out what its keys are good for costs as much as a signature.

use std::collections::{BTreeMap, VecDeque};

use golix::Identity;

use crate::limits;
use crate::message::Packed;

/// Verified and stored identities by their bytes, the newest [`limits::RECENT_IDENTITIES`].
#[derive(Default)]
pub(super) struct Recent {
    by_bytes: BTreeMap<Packed, Identity>,
    order: VecDeque<Packed>,
}

impl Recent {
    /// The identity that these bytes are, if they were verified lately.
    pub(super) fn get(&self, bytes: &Packed) -> Option<&Identity> {
        self.by_bytes.get(bytes)
    }

    /// Remembers verified bytes; the ones that came first go first.
    pub(super) fn put(&mut self, bytes: &Packed, identity: &Identity) {
        if self.by_bytes.insert(bytes.clone(), identity.clone()).is_some() {
            return;
        }
        self.order.push_back(bytes.clone());
        if self.order.len() > limits::RECENT_IDENTITIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_bytes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use golix::{PrivateIdentity, Suite};

    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let mut recent = Recent::default();
        let packed = |n: u64| {
            let mut seed = [1; 32];
            seed[..8].copy_from_slice(&n.to_be_bytes());
            let me = PrivateIdentity::from_seeds(Suite::Suite3, seed, [2; 32], [3; 32]);
            (Packed::from(me.identity().encode()), me.identity().clone())
        };
        let all = limits::RECENT_IDENTITIES as u64 + 2;
        for n in 0..all {
            let (bytes, identity) = packed(n);
            recent.put(&bytes, &identity);
            recent.put(&bytes, &identity);
            assert_eq!(recent.get(&bytes), Some(&identity));
        }
        assert_eq!(recent.by_bytes.len(), limits::RECENT_IDENTITIES);
        assert_eq!(recent.order.len(), limits::RECENT_IDENTITIES);
        assert!(recent.get(&packed(1).0).is_none());
        assert!(recent.get(&packed(2).0).is_some());
    }
}
