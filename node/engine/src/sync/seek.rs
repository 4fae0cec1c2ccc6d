//! Finding each other's devices at a persister that both use.
//!
//! A node names there the identities that it looks for; a persister answers with the devices that
//! proved one of them on links of their own, now and as more come. So only who knows an
//! identity's address learns its devices, and the persister learns nothing that subscriptions
//! and mailboxes do not tell it. Of an identity that very many look for, only the first are told:
//! the others have everything from the persister.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::input::LinkId;
use crate::limits::{LISTENED_BY_SERVER, SEEKERS_MAX, SOUGHT_PER_LINK};
use crate::message::{Address, LIST_MAX, Message, OBJECTS_MAX, Packed};
use crate::sync::Links;
use crate::turn::Turn;

/// Who looks for whom at a persister.
#[derive(Debug, Default)]
pub(crate) struct Seekers {
    by_identity: BTreeMap<Ghid, BTreeSet<LinkId>>,
    /// Whether the link counts among those in `listened`.
    by_link: BTreeMap<LinkId, BTreeMap<Ghid, bool>>,
    /// Identities whose announcements are listened to: how many links look for each.
    listened: BTreeMap<Ghid, usize>,
}

impl Seekers {
    /// Notes that a link looks for an identity; whether it is to be told of its devices.
    fn add(&mut self, turn: &mut Turn<'_>, link: LinkId, identity: Ghid) -> bool {
        let sought = self.by_link.entry(link).or_default();
        if sought.len() >= SOUGHT_PER_LINK || sought.contains_key(&identity) {
            return false;
        }
        // What others announce of it is for those who look for it.
        let mut counts = true;
        if let Some(links) = self.listened.get_mut(&identity) {
            *links += 1;
        } else if self.listened.len() < LISTENED_BY_SERVER {
            self.listened.insert(identity, 1);
            turn.effect(Effect::Listen { author: identity, listens: true });
        } else {
            counts = false;
        }
        sought.insert(identity, counts);
        let seekers = self.by_identity.entry(identity).or_default();
        if seekers.len() < SEEKERS_MAX {
            seekers.insert(link);
        }
        seekers.contains(&link)
    }

    /// A link is gone.
    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        for (identity, counts) in self.by_link.remove(&link).unwrap_or_default() {
            if let Some(seekers) = self.by_identity.get_mut(&identity) {
                seekers.remove(&link);
                if seekers.is_empty() {
                    self.by_identity.remove(&identity);
                }
            }
            if counts && let Some(links) = self.listened.get_mut(&identity) {
                *links = links.saturating_sub(1);
                if *links == 0 {
                    self.listened.remove(&identity);
                    turn.effect(Effect::Listen { author: identity, listens: false });
                }
            }
        }
    }

    /// A link looks for identities: tells it of the devices that are here.
    pub(crate) fn sought(
        &mut self,
        turn: &mut Turn<'_>,
        links: &mut Links,
        link: LinkId,
        identities: &[Address],
    ) {
        let identities: BTreeSet<Ghid> = identities
            .iter()
            .map(|address| address.0)
            .filter(|identity| self.add(turn, link, *identity))
            .collect();
        let own = links.device(link).map(|(device, _)| device);
        let devices: BTreeSet<Vec<u8>> = links
            .proven_any(&identities)
            .into_iter()
            .filter_map(|other| links.device(other).map(|(device, _)| device))
            .filter(|device| own.as_ref() != Some(device))
            .collect();
        let devices: Vec<Packed> = devices.into_iter().map(Packed::from).collect();
        for devices in devices.chunks(OBJECTS_MAX) {
            links.send(turn, link, Message::Located { devices: devices.to_vec() });
        }
    }

    /// A link proved an identity: tells those who look for it.
    pub(crate) fn came(
        &self,
        turn: &mut Turn<'_>,
        links: &mut Links,
        link: LinkId,
        identity: &Ghid,
    ) {
        let Some((device, _)) = links.device(link) else { return };
        for seeker in self.by_identity.get(identity).into_iter().flatten() {
            if links.device(*seeker).is_some_and(|(other, _)| other != device) {
                let devices = vec![Packed::from(device.clone())];
                links.send(turn, *seeker, Message::Located { devices });
            }
        }
    }
}

impl Engine {
    /// Names identities that we look for to a persister, once each.
    pub(super) fn seek(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        identities: impl IntoIterator<Item = Ghid>,
    ) {
        let Some(state) = self.links.get_mut(link) else { return };
        let mut wanted = Vec::new();
        for identity in identities {
            if state.interests.len() >= SOUGHT_PER_LINK {
                break;
            }
            if state.interests.insert(identity) {
                wanted.push(Address(identity));
            }
        }
        for identities in wanted.chunks(LIST_MAX) {
            let identities = identities.to_vec();
            self.links.send(turn, link, Message::Seek { identities });
        }
    }

    /// A persister says which devices may be reached through it.
    pub(super) fn located(&mut self, turn: &mut Turn<'_>, link: LinkId, devices: Vec<Packed>) {
        if !self.links.get(link).is_some_and(super::Link::is_persister) {
            return;
        }
        for device in devices {
            if device.as_slice() != self.device.as_slice() {
                turn.effect(Effect::Reach { via: link, device: device.into_vec() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Nothing;
    use crate::engine::NoEntropy;
    use crate::view::Time;

    /// Who came when nobody else was listened to any more takes nobody else's away when it goes.
    #[test]
    fn only_who_was_counted_counts_when_it_goes() {
        let (view, mut entropy) = (Nothing, NoEntropy);
        let mut turn = Turn::new(&view, &mut entropy, Time::default());
        let mut seekers = Seekers::default();
        let number = |number: usize| Ghid::of(&number.to_be_bytes());
        for identity in 0..LISTENED_BY_SERVER {
            let link = LinkId((identity / SOUGHT_PER_LINK) as u64);
            seekers.add(&mut turn, link, number(identity));
        }
        let (late, first, other) = (LinkId(1_000_001), LinkId(0), LinkId(1_000_002));
        let wanted = number(LISTENED_BY_SERVER);
        seekers.add(&mut turn, late, wanted);
        assert!(!seekers.listened.contains_key(&wanted), "there is no room");
        seekers.remove(&mut turn, first);
        seekers.add(&mut turn, other, wanted);
        assert_eq!(seekers.listened.get(&wanted), Some(&1));
        seekers.remove(&mut turn, late);
        assert_eq!(seekers.listened.get(&wanted), Some(&1), "the other one still looks for it");
        seekers.remove(&mut turn, other);
        assert!(!seekers.listened.contains_key(&wanted));
    }
}
