//! How fast something may happen.

use crate::limits::Rate;
use crate::view::Time;

/// What was spent of a [`Rate`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// When the budget is whole again.
    whole_at: Time,
}

impl Pace {
    /// Whether nothing of the budget is missing.
    pub(crate) fn is_whole(self, now: Time) -> bool {
        self.whole_at <= now
    }

    /// When the next one may happen.
    pub(crate) fn next(self, rate: Rate) -> Time {
        let slack = rate.interval * rate.burst.saturating_sub(1);
        Time::from_origin(self.whole_at.since_origin().saturating_sub(slack))
    }

    pub(crate) fn spend(&mut self, now: Time, rate: Rate) {
        self.whole_at = self.whole_at.max(now) + rate.interval;
    }

    /// Takes one, if there is one.
    pub(crate) fn try_spend(&mut self, now: Time, rate: Rate) -> bool {
        let may = self.next(rate) <= now;
        if may {
            self.spend(now, rate);
        }
        may
    }

    /// Takes several as soon as there is one, going into debt for the others.
    pub(crate) fn try_spend_many(&mut self, now: Time, rate: Rate, count: u32) -> bool {
        let may = self.next(rate) <= now;
        if may {
            self.whole_at = self.whole_at.max(now) + rate.interval * count;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_its_rate() {
        let rate = Rate { interval: Duration::from_secs(6), burst: 10 };
        let mut pace = Pace::default();
        let start = Time::from_origin(Duration::from_secs(100));
        assert_eq!((0..30).filter(|_| pace.try_spend(start, rate)).count(), 10);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..30).filter(|_| pace.try_spend(later, rate)).count(), 10);
    }

    #[test]
    fn who_takes_much_waits_long() {
        let rate = Rate { interval: Duration::from_secs(1), burst: 10 };
        let mut pace = Pace::default();
        let start = Time::from_origin(Duration::from_secs(100));
        assert!(pace.try_spend_many(start, rate, 30));
        assert!(!pace.try_spend_many(start + Duration::from_secs(19), rate, 30));
        assert!(pace.try_spend_many(start + Duration::from_secs(21), rate, 30));
    }
}
