//! GOBD: one frame of a dynamic binding; where a dynamic address points.
//!
//! ```text
//! GOBD 4 | version 4 | suite 1 | binder 65 | counter 8 | LR 2 | targets LR
//!      | dynamic address algorithm 1 | dynamic hash 64
//!      | address algorithm 1 | file hash 64 | signature
//! ```
//!
//! 726 + LR bytes in suite 1, 278 + LR in suite 3; LR is 65 a target, newest first. The last target
//! is the birth target, the one of the first frame, and proves the dynamic address:
//!
//! ```text
//! dynamic hash = SHA-512(magic | version | suite | binder | 0^8 | 0x0041 | birth target | algorithm)
//! ```
//!
//! In suite 3 every frame has this proof. In suite 1 the first one has, and later ones as long as
//! their writer's history reaches back to it; the frames of the original that lost it are read, and
//! marked as unproven. The makers here always keep it.

use super::{DecodeError, Kind, MakeError, Object, Verified};
use crate::codec::{HEAD_LEN, Reader, Writer};
use crate::limits::TARGETS_MADE_MAX;
use crate::suite::Layout;
use crate::{Ghid, Signer, Suite};

/// Bytes before the target vector.
const HEADER_LEN: usize = HEAD_LEN + Ghid::LEN + 8 + 2;

/// One frame of a dynamic binding. Golix wire reference, sections 6 and 16.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicBinding {
    suite: Suite,
    binder: Ghid,
    counter: u64,
    targets: Vec<Ghid>,
    dynamic: Ghid,
    proven: bool,
    ghid: Ghid,
}

impl DynamicBinding {
    /// The first frame: counter 0, one target, a new dynamic address.
    ///
    /// The address follows from binder and target alone; a fresh container as target makes it new.
    #[must_use]
    pub fn first(me: &dyn Signer, target: Ghid) -> Verified {
        let me_public = me.identity();
        let dynamic = Self::dynamic_address(me_public.suite(), &me_public.ghid(), &target);
        Self::make(me, dynamic, 0, &[target])
    }

    /// A later frame of `dynamic`: a larger counter and at least two targets, newest first, the last
    /// one the birth target.
    ///
    /// # Errors
    /// [`MakeError::Counter`], [`MakeError::Targets`], [`MakeError::Proof`].
    pub fn next(
        me: &dyn Signer,
        dynamic: Ghid,
        counter: u64,
        targets: &[Ghid],
    ) -> Result<Verified, MakeError> {
        if counter == 0 {
            return Err(MakeError::Counter);
        }
        if !(2..=TARGETS_MADE_MAX).contains(&targets.len()) {
            return Err(MakeError::Targets(targets.len()));
        }
        let birth = targets.last().ok_or(MakeError::Targets(0))?;
        let (suite, binder) = (me.identity().suite(), me.identity().ghid());
        if Self::dynamic_address(suite, &binder, birth) != dynamic {
            return Err(MakeError::Proof);
        }
        Ok(Self::make(me, dynamic, counter, targets))
    }

    fn make(me: &dyn Signer, dynamic: Ghid, counter: u64, targets: &[Ghid]) -> Verified {
        let (suite, binder) = (me.identity().suite(), me.identity().ghid());
        let vector_len = targets.len() * Ghid::LEN;
        let len = Self::fixed_len(suite.layout()) + vector_len;
        let mut writer = Writer::object(Kind::DynamicBinding, suite, len);
        writer.ghid(&binder);
        writer.put(&counter.to_be_bytes());
        let vector_len = u16::try_from(vector_len).expect("at most TARGETS_MADE_MAX targets");
        writer.put(&vector_len.to_be_bytes());
        for target in targets {
            writer.ghid(target);
        }
        writer.ghid(&dynamic);
        let (ghid, bytes) = writer.sign(me);
        let targets = targets.to_vec();
        let frame = Self { suite, binder, counter, targets, dynamic, proven: true, ghid };
        Verified::made(Object::DynamicBinding(frame), bytes)
    }

    fn fixed_len(layout: &Layout) -> usize {
        HEADER_LEN + 2 * Ghid::LEN + layout.signature_len
    }

    pub(super) fn decode(mut reader: Reader<'_>, suite: Suite) -> Result<Self, DecodeError> {
        let fixed_len = Self::fixed_len(suite.layout());
        reader.expect_min(fixed_len)?;
        let binder = reader.take(Ghid::LEN)?;
        let counter = reader.u64()?;
        let vector_len = usize::from(reader.u16()?);
        if vector_len == 0 || vector_len % Ghid::LEN != 0 {
            return Err(DecodeError::TargetVector);
        }
        reader.expect_stated_len(fixed_len + vector_len)?;
        let binder = Reader::new(binder).ghid()?;
        let targets =
            (0..vector_len / Ghid::LEN).map(|_| reader.ghid()).collect::<Result<Vec<_>, _>>()?;
        let dynamic = reader.ghid()?;
        if (counter == 0) != (targets.len() == 1) {
            return Err(DecodeError::FrameShape);
        }
        let ghid = reader.own_ghid()?;
        let birth = targets.last().ok_or(DecodeError::TargetVector)?;
        let proven = Self::dynamic_address(suite, &binder, birth) == dynamic;
        // A first frame is its own proof, in every suite.
        if !proven && (counter == 0 || suite.proves_every_frame()) {
            return Err(DecodeError::DynHash);
        }
        Ok(Self { suite, binder, counter, targets, dynamic, proven, ghid })
    }

    /// The dynamic address that `binder` gets by binding `birth` first: the SHA-512 of that first
    /// frame up to and including the dynamic algorithm byte, 150 bytes.
    #[must_use]
    pub fn dynamic_address(suite: Suite, binder: &Ghid, birth: &Ghid) -> Ghid {
        let mut writer = Writer::object(Kind::DynamicBinding, suite, HEADER_LEN + Ghid::LEN + 1);
        writer.ghid(binder);
        writer.put(&0u64.to_be_bytes());
        writer.put(&(Ghid::LEN as u16).to_be_bytes());
        writer.ghid(birth);
        writer.put(&[1]);
        Ghid::of(writer.bytes_mut())
    }

    /// Who binds, and alone may move or debind it.
    #[must_use]
    pub fn binder(&self) -> Ghid {
        self.binder
    }

    /// Which frame: 0 is the first, later ones are larger.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// All targets, newest first; never empty.
    #[must_use]
    pub fn targets(&self) -> &[Ghid] {
        &self.targets
    }

    /// The current target.
    #[must_use]
    pub fn target(&self) -> Ghid {
        self.targets[0]
    }

    /// The last target of the vector: of a proven frame the birth target, the one of the first frame.
    #[must_use]
    pub fn birth(&self) -> Ghid {
        self.targets[self.targets.len() - 1]
    }

    /// The dynamic address: the same in all frames of this binding.
    #[must_use]
    pub fn dynamic(&self) -> Ghid {
        self.dynamic
    }

    /// The address of this very frame.
    #[must_use]
    pub fn ghid(&self) -> Ghid {
        self.ghid
    }

    /// Its suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether the frame itself proves that its binder owns the dynamic address. In suite 3 every
    /// frame does; one that does not is no frame. In suite 1 anyone can make unproven frames of any
    /// address, so one of them says nothing about whose address it is.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }
}
