//! What admission costs when much is stored already: a frame over 1,000,000 objects to one over 1,000.
//!
//! The rules look up a bounded number of rows, so admitting a frame, from its bytes to the rows applied,
//! may take twice as long at most. Of the parts, verification does not depend on what is stored; the
//! rules and the plan do, as far as a map does: a large one lies in memory where the small one fits into
//! a cache.
//!
//! `cargo bench -p golix --bench persister`; needs about 3 GiB of memory. Signing the frames of suite 1
//! takes half a minute before.

mod common;

use std::hint::black_box;

use common::alice;
use golix::object::{DynamicBinding, StaticBinding, Unverified, Verified};
use golix::persister::memory::MemoryView;
use golix::persister::{Plan, admit};
use golix::{Ghid, Identity, Signer, Suite};

/// Dynamic bindings, of which every one gets its next frame.
const BINDINGS: usize = 500;

/// Leaves the place of the signature empty: the rules do not look at it.
struct Unsigned(Identity);

impl Signer for Unsigned {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn sign_object(&self, _object: &Ghid, out: &mut Vec<u8>) {
        out.resize(out.len() + self.0.suite().signature_len(), 0);
    }
}

/// The n-th frame of the i-th binding.
fn frame(me: &dyn Signer, i: usize, counter: u64) -> Verified {
    let (suite, binder) = (me.identity().suite(), me.identity().ghid());
    let birth = Ghid::of(&i.to_be_bytes());
    let dynamic = DynamicBinding::dynamic_address(suite, &binder, &birth);
    let target = Ghid::of(&(i as u64 + counter * 1_000_000).to_be_bytes());
    DynamicBinding::next(me, dynamic, counter, &[target, birth]).expect("a good frame")
}

/// A persister with the bindings, and static bindings up to `objects` in all.
fn filled(me: &Unsigned, objects: usize) -> MemoryView {
    let mut view = MemoryView::new();
    let gidc = Unverified::parse(&me.0.encode()).expect("ours").assume_verified();
    view.publish(&gidc).expect("an identity");
    for i in 0..BINDINGS {
        view.publish(&frame(me, i, 1)).expect("a new binding");
    }
    for i in 0..objects - 1 - BINDINGS {
        let binding = StaticBinding::make(me, Ghid::of(&(i as u64 + (1 << 40)).to_be_bytes()));
        view.publish(&binding).expect("a new binding");
    }
    assert_eq!(view.objects().count(), objects);
    view
}

/// Times of the steps of one admission, in seconds.
#[derive(Clone, Copy)]
struct Times {
    verify: f64,
    judge: f64,
    apply: f64,
}

#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "benches measure time")]
fn measure(view: &mut MemoryView, frame: &[u8], author: &Identity) -> Times {
    let start = std::time::Instant::now();
    let parsed = Unverified::parse(black_box(frame)).expect("a frame");
    let frame = parsed.verify(Some(author)).expect("its author's");
    let verify = start.elapsed().as_secs_f64();
    let plan: Plan = match admit(&frame, view) {
        Ok(verdict) => verdict.expect("the next frame"),
        Err(never) => match never {},
    };
    let judge = start.elapsed().as_secs_f64() - verify;
    view.apply(&plan);
    Times { verify, judge, apply: start.elapsed().as_secs_f64() - verify - judge }
}

fn main() {
    of_suite(Suite::Suite3, 7);
    of_suite(Suite::Suite1, 4);
}

/// Prints what admission costs: medians of `rounds` frames of every binding.
#[expect(clippy::disallowed_macros, reason = "benches say what they found")]
fn of_suite(suite: Suite, rounds: u64) {
    let me = alice(suite);
    let unsigned = Unsigned(me.identity().clone());
    let (mut small, mut large) = (filled(&unsigned, 1_000), filled(&unsigned, 1_000_000));
    let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
    for round in 2..2 + rounds {
        let frames: Vec<_> = (0..BINDINGS).map(|i| frame(&me, i, round)).collect();
        for (view, times) in [(&mut small, &mut of_small), (&mut large, &mut of_large)] {
            times.extend(frames.iter().map(|it| measure(view, it.bytes(), me.identity())));
        }
    }
    let median = |times: &[Times], which: fn(&Times) -> f64| {
        let mut times: Vec<f64> = times.iter().map(which).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2] * 1e6
    };
    println!("suite {}", suite.code());
    let whole: fn(&Times) -> f64 = |times| times.verify + times.judge + times.apply;
    for (what, goal, which) in [
        ("admit a frame", " (goal: at most 2)", whole),
        ("  verify", "", |times: &Times| times.verify),
        ("  rules", " (goal: at most 2)", |times: &Times| times.judge + times.apply),
        ("    judge", "", |times: &Times| times.judge),
        ("    apply", "", |times: &Times| times.apply),
    ] {
        let (large, small) = (median(&of_large, which), median(&of_small, which));
        let ratio = large / small;
        println!(
            "{what:<14} {large:6.2} us over 1,000,000 objects, {small:6.2} us over 1,000: \
             {ratio:.2}{goal}"
        );
    }
}
