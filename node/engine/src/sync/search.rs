//! Looking for identities that no link leads to.
//!
//! What the engine owes to somebody, or follows at somebody, needs a link to one of their devices. While
//! there is none, they are looked for in the distributed hash table, ever less often.

use std::collections::BTreeMap;

use golix::Ghid;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::limits::{SEARCH_DELAY, SEARCH_PAUSE, SEARCH_PAUSE_MAX, SEARCHES_AT_ONCE};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::Time;

/// When each identity is looked for next.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    next: BTreeMap<Ghid, (Time, u32)>,
}

impl Searches {
    /// A link leads to an identity.
    pub(super) fn found(&mut self, identity: &Ghid) {
        self.next.remove(identity);
    }
}

impl Engine {
    /// Somebody may have to be looked for, in a moment: they may come by themselves.
    pub(crate) fn search_soon(&self, turn: &mut Turn<'_>) {
        if self.config.searches {
            let at = turn.now() + SEARCH_DELAY;
            turn.effect(Effect::SetTimer { timer: Timer::Search, at });
        }
    }

    /// Looks for whom no link leads to.
    pub(crate) fn search_due(&mut self, turn: &mut Turn<'_>) {
        let mut wanted: Vec<Ghid> = self.outbox.recipients();
        wanted.extend(self.follows.all_sources());
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|identity| *identity != self.me && !self.links.leads_to(identity));
        self.searches.next.retain(|identity, _| wanted.binary_search(identity).is_ok());
        let now = turn.now();
        for identity in wanted {
            self.searches.next.entry(identity).or_insert((now, 0));
        }
        let mut due: Vec<(Time, Ghid)> = self
            .searches
            .next
            .iter()
            .filter(|(_, (next, _))| *next <= now)
            .map(|(identity, (next, _))| (*next, *identity))
            .collect();
        // Whoever waits longest comes first: nobody is forgotten for the sake of many others.
        due.sort_unstable();
        for (_, identity) in due.into_iter().take(SEARCHES_AT_ONCE) {
            let Some((next, attempts)) = self.searches.next.get_mut(&identity) else { continue };
            let pause = SEARCH_PAUSE.saturating_mul(1 << (*attempts).min(16)).min(SEARCH_PAUSE_MAX);
            (*next, *attempts) = (now + pause, attempts.saturating_add(1));
            turn.effect(Effect::Search { identity });
        }
        if let Some((next, _)) = self.searches.next.values().min() {
            let at = (*next).max(now + SEARCH_DELAY);
            turn.effect(Effect::SetTimer { timer: Timer::Search, at });
        }
    }
}
