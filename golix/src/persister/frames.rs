//! Rule: frames of a dynamic binding move forward.
//!
//! Order of frames: by counter, then by frame address as bytes, the larger one newer. It needs no
//! clock and no arrival order, so every persister that saw the same frames serves the same head.
//! Frames with the head's counter that lose are kept as a *fork set*, so that no update is lost
//! silently and everybody learns of the fork; a frame with a higher counter ends the fork.

use std::collections::BTreeSet;

use crate::object::DynamicBinding;
use crate::{Ghid, Suite};

use super::limits;
use super::plan::Draft;
use super::rejection::Rejection;
use super::view::{HighWater, Stored, View};

/// Where a dynamic address points: its newest frame, and what the rules need to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Head {
    /// The binder's suite.
    pub suite: Suite,
    /// The frame address of the newest frame.
    pub frame: Ghid,
    /// The counter of the newest frame.
    pub counter: u64,
    /// Who binds; the same for every frame.
    pub binder: Ghid,
    /// The current target: the first of the newest frame's target vector.
    pub target: Ghid,
    /// The first target ever: the proof of the address.
    pub birth: Ghid,
    /// The binder debound it, and it lives only because another binding holds it.
    pub debound: bool,
    /// Frame addresses of stored frames with the same counter that lost, largest first, at most
    /// [`limits::FORKS_MAX`]. They hold their targets as the head does.
    pub forks: Vec<Ghid>,
}

impl Head {
    const VERSION: u8 = 1;
    const FIXED_LEN: usize = 11 + 4 * Ghid::LEN;

    /// The stored form, 271 + 65·forks bytes, big-endian:
    ///
    /// | offset | length | field |
    /// |---|---|---|
    /// | 0 | 1 | layout version = 1 |
    /// | 1 | 1 | suite |
    /// | 2 | 1 | 1 if debound, else 0 |
    /// | 3 | 8 | counter |
    /// | 11 | 65 | frame |
    /// | 76 | 65 | binder |
    /// | 141 | 65 | target |
    /// | 206 | 65 | birth |
    /// | 271 | 65·n | forks |
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::FIXED_LEN + self.forks.len() * Ghid::LEN);
        bytes.extend_from_slice(&[Self::VERSION, self.suite.code(), u8::from(self.debound)]);
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        for ghid in [&self.frame, &self.binder, &self.target, &self.birth] {
            bytes.extend_from_slice(ghid.as_bytes());
        }
        for fork in &self.forks {
            bytes.extend_from_slice(fork.as_bytes());
        }
        bytes
    }

    /// Reads the stored form; `None` if it is not exactly one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([version, suite, debound], rest) = bytes.split_first_chunk::<3>()?;
        let (counter, ghids) = rest.split_first_chunk::<8>()?;
        if *version != Self::VERSION || *debound > 1 || ghids.len() % Ghid::LEN != 0 {
            return None;
        }
        let mut ghids = ghids.chunks_exact(Ghid::LEN).map(|chunk| Ghid::from_bytes(chunk).ok());
        let mut next = || ghids.next().flatten();
        let head = Self {
            suite: Suite::from_code(*suite)?,
            frame: next()?,
            counter: u64::from_be_bytes(*counter),
            binder: next()?,
            target: next()?,
            birth: next()?,
            debound: *debound == 1,
            forks: ghids.collect::<Option<_>>()?,
        };
        (head.forks.len() <= limits::FORKS_MAX).then_some(head)
    }

    /// The head's place in the order of frames.
    #[must_use]
    pub fn order(&self) -> HighWater {
        HighWater { counter: self.counter, frame: self.frame }
    }

    /// Every stored frame of the binding: the head, then the forks.
    pub fn frames(&self) -> impl Iterator<Item = Ghid> + '_ {
        std::iter::once(self.frame).chain(self.forks.iter().copied())
    }
}

/// What an acceptable frame does to its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// First sight here, or the return of a binding that was removed.
    First,
    /// A higher counter: everything stored before goes.
    Newer,
    /// The head's counter and a larger address: the old head joins the fork set.
    Wins,
    /// The head's counter and a smaller address: joins the fork set.
    Loses,
}

/// Whether `frame` may follow what is stored, and how.
pub(super) fn step(
    frame: &DynamicBinding,
    head: Option<&Head>,
    high_water: Option<HighWater>,
) -> Result<Step, Rejection> {
    if !frame.is_proven() {
        return Err(Rejection::Unproven);
    }
    let order = HighWater { counter: frame.counter(), frame: frame.ghid() };
    let Some(head) = head else {
        return match high_water {
            Some(newest) if order < newest => Err(Rejection::Counter { newest: newest.counter }),
            _ => Ok(Step::First),
        };
    };
    if order.counter < head.counter {
        Err(Rejection::Counter { newest: head.counter })
    } else if order.counter > head.counter {
        Ok(Step::Newer)
    } else if order > head.order() {
        Ok(Step::Wins)
    } else if head.forks.len() >= limits::FORKS_MAX
        && head.forks.iter().all(|fork| *fork > order.frame)
    {
        Err(Rejection::ForksFull)
    } else {
        Ok(Step::Loses)
    }
}

/// The head after `frame`, and the frames that are no longer kept.
pub(super) fn advance(
    step: Step,
    frame: &DynamicBinding,
    suite: Suite,
    head: Option<&Head>,
    debound: bool,
) -> (Head, Vec<Ghid>) {
    let fresh = |forks| Head {
        suite,
        frame: frame.ghid(),
        counter: frame.counter(),
        binder: frame.binder(),
        target: frame.target(),
        birth: frame.birth(),
        debound,
        forks,
    };
    let Some(head) = head else {
        return (fresh(Vec::new()), Vec::new());
    };
    let mut forks = head.forks.clone();
    let mut next = match step {
        Step::First | Step::Newer => return (fresh(Vec::new()), head.frames().collect()),
        Step::Wins => {
            forks.push(head.frame);
            fresh(forks)
        }
        Step::Loses => {
            forks.push(frame.ghid());
            Head { debound, forks, ..head.clone() }
        }
    };
    // The largest ones stay: the same set on every persister, whatever the order of arrival.
    next.forks.sort_unstable_by(|a, b| b.cmp(a));
    let dropped = next.forks.split_off(next.forks.len().min(limits::FORKS_MAX));
    (next, dropped)
}

/// What a head and its forks hold.
pub(super) fn held_targets<V: View>(
    draft: &Draft<'_, V>,
    head: &Head,
) -> Result<BTreeSet<Ghid>, V::Error> {
    let mut targets = BTreeSet::from([head.target]);
    for fork in &head.forks {
        if let Some(Stored::Frame { target, .. }) = draft.object(fork)? {
            targets.insert(target);
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(forks: usize) -> Head {
        Head {
            suite: Suite::Suite3,
            frame: Ghid::of(b"frame"),
            counter: u64::MAX - 1,
            binder: Ghid::of(b"binder"),
            target: Ghid::of(b"target"),
            birth: Ghid::of(b"birth"),
            debound: forks % 2 == 1,
            forks: (0..forks).map(|i| Ghid::of(&i.to_be_bytes())).collect(),
        }
    }

    #[test]
    fn heads_survive_their_stored_form() {
        for forks in 0..=limits::FORKS_MAX {
            let head = head(forks);
            let bytes = head.encode();
            assert_eq!(bytes.len(), 271 + 65 * forks);
            assert_eq!(Head::decode(&bytes), Some(head));
        }
    }

    #[test]
    fn other_bytes_are_no_head() {
        let bytes = head(2).encode();
        for (at, value) in [(0, 2), (1, 9), (2, 2), (11, 0), (271, 0)] {
            let mut broken = bytes.clone();
            broken[at] = value;
            assert_eq!(Head::decode(&broken), None, "byte {at} = {value}");
        }
        for length in (0..bytes.len()).filter(|n| *n < 271 || (n - 271) % 65 != 0) {
            assert_eq!(Head::decode(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(Head::decode(&head(limits::FORKS_MAX + 1).encode()), None);
    }
}
