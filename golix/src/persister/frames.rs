//! Rule: frames of a dynamic binding move forward.
//!
//! Order of frames: by counter, then by frame address as bytes, the larger one newer. It needs no
//! clock and no arrival order, so every persister that saw the same frames serves the same head.
//! Frames with the head's counter that lose are kept as a *fork set*, so that no update is lost
//! silently and everybody learns of the fork; a frame with a higher counter ends the fork.
//!
//! In suite 1 not every frame proves whose address it is (`DynamicBinding::is_proven`). Whoever shows
//! an unproven frame of an unknown address first has it, but only until a proven one comes: then the
//! rightful owner's frames displace all others, whatever their counters, and from then on only frames
//! of that owner are taken, with or without proof. Golix wire reference, section 15, 12; threat model,
//! 2.4 A1.

use std::collections::BTreeSet;

use crate::object::DynamicBinding;
use crate::{Ghid, Suite};

use super::limits;
use super::plan::Draft;
use super::rejection::Rejection;
use super::view::{HighWater, Mark, Owner, Stored, View};

/// Where a dynamic address points: its newest frame, and what the rules need to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Head {
    /// The binder's suite.
    pub suite: Suite,
    /// The frame address of the newest frame.
    pub frame: Ghid,
    /// The counter of the newest frame.
    pub counter: u64,
    /// Who binds; the same for every frame, unless an unproven binder is displaced.
    pub binder: Ghid,
    /// The current target: the first of the newest frame's target vector.
    pub target: Ghid,
    /// The first target ever: the proof of the address. While nothing is proven, the last of the
    /// newest frame's target vector.
    pub birth: Ghid,
    /// Some frame proved that the address is this binder's. If not, anybody may have made up this
    /// head: keep it and pass it on, but do not take it for the object.
    pub proven: bool,
    /// The binder debound it, and it lives only because another binding holds it.
    pub debound: bool,
    /// Frame addresses of stored frames with the same counter that lost, largest first, at most
    /// [`limits::FORKS_MAX`]. They hold their targets as the head does.
    pub forks: Vec<Ghid>,
}

impl Head {
    const VERSION: u8 = 1;
    const FIXED_LEN: usize = 11 + 4 * Ghid::LEN;
    const DEBOUND: u8 = 1;
    const UNPROVEN: u8 = 2;

    /// The stored form, 271 + 65·forks bytes, big-endian:
    ///
    /// | offset | length | field |
    /// |---|---|---|
    /// | 0 | 1 | layout version = 1 |
    /// | 1 | 1 | suite |
    /// | 2 | 1 | flags: 1 debound, 2 unproven |
    /// | 3 | 8 | counter |
    /// | 11 | 65 | frame |
    /// | 76 | 65 | binder |
    /// | 141 | 65 | target |
    /// | 206 | 65 | birth |
    /// | 271 | 65·n | forks |
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::FIXED_LEN + self.forks.len() * Ghid::LEN);
        let debound = if self.debound { Self::DEBOUND } else { 0 };
        let unproven = if self.proven { 0 } else { Self::UNPROVEN };
        bytes.extend_from_slice(&[Self::VERSION, self.suite.code(), debound | unproven]);
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
        let ([version, suite, flags], rest) = bytes.split_first_chunk::<3>()?;
        let (counter, ghids) = rest.split_first_chunk::<8>()?;
        let known = *version == Self::VERSION && *flags <= Self::DEBOUND | Self::UNPROVEN;
        if !known || ghids.len() % Ghid::LEN != 0 {
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
            proven: flags & Self::UNPROVEN == 0,
            debound: flags & Self::DEBOUND != 0,
            forks: ghids.collect::<Option<_>>()?,
        };
        (head.forks.len() <= limits::FORKS_MAX).then_some(head)
    }

    /// The head's place in the order of frames.
    #[must_use]
    pub fn order(&self) -> HighWater {
        HighWater { counter: self.counter, frame: self.frame }
    }

    /// What has to be remembered when the head goes.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let owner = if !self.proven {
            Owner::Unproven(self.binder)
        } else if self.suite.proves_every_frame() {
            Owner::Proven
        } else {
            Owner::Birth(self.birth)
        };
        Mark { newest: self.order(), owner }
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
    /// The rightful owner's: everything of a binder that proved nothing goes.
    Displaces,
    /// Too old to be kept, but it proves that the head is its binder's.
    Proves,
}

/// Whether `frame` may follow what is stored, and how.
pub(super) fn step(
    frame: &DynamicBinding,
    head: Option<&Head>,
    mark: Option<&Mark>,
) -> Result<Step, Rejection> {
    match (head, mark) {
        (Some(head), _) if head.binder != frame.binder() => {
            if frame.is_proven() && !head.proven {
                Ok(Step::Displaces)
            } else {
                Err(Rejection::Inconsistent(head.binder))
            }
        }
        (Some(head), _) => match follow(frame, head) {
            Err(_) if frame.is_proven() && !head.proven => Ok(Step::Proves),
            verdict => verdict,
        },
        (None, Some(mark)) => come_back(frame, mark),
        (None, None) => Ok(Step::First),
    }
}

/// Where a frame of the head's binder stands.
fn follow(frame: &DynamicBinding, head: &Head) -> Result<Step, Rejection> {
    let order = order(frame);
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

/// Whether a frame may bring a removed binding back.
fn come_back(frame: &DynamicBinding, mark: &Mark) -> Result<Step, Rejection> {
    let owners = match mark.owner {
        Owner::Proven => frame.is_proven(),
        Owner::Birth(birth) => frame.is_proven() || proves(frame, &birth),
        // Whoever that was has no more right to it than the next one.
        Owner::Unproven(binder) if binder != frame.binder() => return Ok(Step::First),
        Owner::Unproven(_) => true,
    };
    if !owners {
        Err(Rejection::Unproven)
    } else if order(frame) < mark.newest {
        Err(Rejection::Counter { newest: mark.newest.counter })
    } else {
        Ok(Step::First)
    }
}

fn order(frame: &DynamicBinding) -> HighWater {
    HighWater { counter: frame.counter(), frame: frame.ghid() }
}

/// Whether `birth` proves that the dynamic address is this frame's binder's.
fn proves(frame: &DynamicBinding, birth: &Ghid) -> bool {
    DynamicBinding::dynamic_address(frame.suite(), &frame.binder(), birth) == frame.dynamic()
}

/// The head after `frame`, and the frames that are no longer kept.
pub(super) fn advance(
    step: Step,
    frame: &DynamicBinding,
    head: Option<&Head>,
    mark: Option<&Mark>,
    debound: bool,
) -> (Head, Vec<Ghid>) {
    let known_birth = match (head, mark.map(|mark| mark.owner)) {
        _ if frame.is_proven() => Some(frame.birth()),
        (Some(head), _) => Some(head.birth).filter(|_| head.proven),
        (None, Some(Owner::Birth(birth))) => Some(birth).filter(|birth| proves(frame, birth)),
        (None, Some(Owner::Proven | Owner::Unproven(_)) | None) => None,
    };
    let proven = known_birth.is_some();
    let fresh = |forks| Head {
        suite: frame.suite(),
        frame: frame.ghid(),
        counter: frame.counter(),
        binder: frame.binder(),
        target: frame.target(),
        birth: known_birth.unwrap_or_else(|| frame.birth()),
        proven,
        debound,
        forks,
    };
    let Some(head) = head else {
        return (fresh(Vec::new()), Vec::new());
    };
    let stays = |forks| Head {
        birth: known_birth.unwrap_or(head.birth),
        proven,
        debound,
        forks,
        ..head.clone()
    };
    let mut forks = head.forks.clone();
    let mut next = match step {
        Step::First | Step::Newer | Step::Displaces => {
            return (fresh(Vec::new()), head.frames().collect());
        }
        Step::Proves => return (stays(forks), Vec::new()),
        Step::Wins => {
            forks.push(head.frame);
            fresh(forks)
        }
        Step::Loses => {
            forks.push(frame.ghid());
            stays(forks)
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
            proven: forks % 3 == 1,
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
        for (at, value) in [(0, 2), (1, 9), (2, 4), (11, 0), (271, 0)] {
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
