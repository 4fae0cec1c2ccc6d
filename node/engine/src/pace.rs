//! How fast something may happen.

use std::time::Duration;

use crate::view::Time;

/// One every `interval`, `burst` of them at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

/// What was spent of a [`Rate`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// When the budget is whole again.
    whole_at: Time,
}

impl Pace {
    /// Takes one, if there is one.
    pub(crate) fn try_spend(&mut self, now: Time, rate: &Rate) -> bool {
        let slack = rate.interval * rate.burst.saturating_sub(1);
        if self.whole_at > now + slack {
            return false;
        }
        self.whole_at = self.whole_at.max(now) + rate.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_its_rate() {
        let rate = Rate { interval: Duration::from_secs(6), burst: 10 };
        let mut pace = Pace::default();
        let start = Time::from_origin(Duration::from_secs(100));
        assert_eq!((0..30).filter(|_| pace.try_spend(start, &rate)).count(), 10);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..30).filter(|_| pace.try_spend(later, &rate)).count(), 10);
    }
}
