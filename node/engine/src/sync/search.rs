//! Looking for identities that no link leads to.
//!
//! What the engine owes to somebody, or follows at somebody, needs a link to one of their devices; so does
//! what the other devices of the account have. While there is none, they are looked for in the
//! distributed hash table, ever less often.

use std::collections::BTreeMap;

use golix::Ghid;

use crate::account;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::limits::{
    CACHED_PAUSE, SEARCH_DELAY, SEARCH_PAUSE, SEARCH_PAUSE_MAX, SEARCHES_AT_ONCE,
    SEARCHES_FOR_ANSWER,
};
use crate::route::Subject;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::{Time, ViewError};

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

    /// Whether it may still be found out where an identity is.
    pub(crate) fn is_still_sought(&self, identity: &Ghid) -> bool {
        let attempts = self.searches.next.get(identity).map_or(0, |(_, attempts)| *attempts);
        self.config.searches && attempts < SEARCHES_FOR_ANSWER && !self.links.leads_to(identity)
    }

    /// Whether somebody has to be found: something is owed to them or followed at them, or they are our
    /// own other devices.
    pub(super) fn is_wanted(&self, turn: &Turn<'_>, identity: &Ghid) -> Result<bool, ViewError> {
        if *identity == self.me {
            return account::has_others(turn);
        }
        Ok(!self.follows.at(identity).is_empty() || self.outbox.recipients().contains(identity))
    }

    /// Looks for whom no link leads to.
    pub(crate) fn search_due(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let mut wanted: Vec<Ghid> = self.recipients_to_find(turn);
        wanted.extend(self.follows.all_sources());
        wanted.retain(|identity| *identity != self.me);
        if account::has_others(turn)? {
            wanted.push(self.me);
        }
        wanted.sort_unstable();
        wanted.dedup();
        self.forget_routes(turn, &wanted)?;
        wanted.retain(|identity| !self.links.leads_to(identity));
        self.visit_persisters(turn, &wanted)?;
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
        let mut in_vain = false;
        for (_, identity) in due.into_iter().take(SEARCHES_AT_ONCE) {
            let Some((next, attempts)) = self.searches.next.get_mut(&identity) else { continue };
            let pause = SEARCH_PAUSE.saturating_mul(1 << (*attempts).min(16)).min(SEARCH_PAUSE_MAX);
            let routes = if *attempts == 0 { self.routes.of(&identity) } else { Vec::new() };
            // First where they were last; only then everybody is asked.
            let pause = if routes.is_empty() { pause } else { CACHED_PAUSE };
            (*next, *attempts) = (now + pause, attempts.saturating_add(1));
            let attempts_made = *attempts;
            if !routes.is_empty() {
                for route in &routes {
                    turn.effect(Effect::Visit { host: route.host.clone() });
                }
                self.name_persisters(turn, identity, routes);
                continue;
            }
            turn.effect(Effect::Search { subject: Subject::Identity(identity) });
            in_vain |= attempts_made == SEARCHES_FOR_ANSWER;
            if attempts_made > 1 {
                self.look_up_absent(turn, &identity)?;
            }
        }
        if in_vain {
            self.settle_mailed(turn)?;
        }
        let search = self.searches.next.values().min().map(|(next, _)| *next);
        if let Some(next) = search.into_iter().chain(self.guests.next()).min() {
            let at = next.max(now + SEARCH_DELAY);
            turn.effect(Effect::SetTimer { timer: Timer::Search, at });
        }
        Ok(())
    }
}
