//! The publish sequences of the suite-1 vectors, with suite-3 objects: same names, same steps, same
//! answers, same final state.

mod persister_cast;

use std::collections::BTreeMap;

use golix::Ghid;
use golix::object::Verified;
use golix::persister::Pending;
use golix::persister::memory::MemoryView;
use persister_cast::{
    Cast, bind, both_suites, container, debind, dynamic, first_frame, frame, identity, request,
};

both_suites!(every_scenario_of_the_vectors,);

/// A scenario: (object, expected answer) steps, then what is present and absent at the end.
///
/// Answers: `new`, `known`, or the name of the rule that says no.
struct Scenario {
    name: &'static str,
    steps: &'static [(&'static str, &'static str)],
    present: &'static [&'static str],
    absent: &'static [&'static str],
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bind-then-store",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("obj1", "UNBOUND"),
            ("bbb1", "new"),
            ("obj1", "new"),
            ("obj1", "known"),
            ("bbb1", "known"),
        ],
        present: &["obj1", "bbb1"],
        absent: &[],
    },
    Scenario {
        name: "debinding-chain",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("bbb1", "new"),
            ("obj1", "new"),
            ("xxx1", "new"),
            ("bbb1", "DEBOUND"),
            ("obj1", "UNBOUND"),
            ("xxx2", "new"),
            ("bbb1", "new"),
            ("obj1", "new"),
            ("xxx1", "DEBOUND"),
            ("xxx3", "new"),
            ("xxx2", "DEBOUND"),
            ("xxx1", "new"),
            ("bbb1", "DEBOUND"),
            ("xxx4", "new"),
            ("xxx2", "new"),
            ("bbb1", "new"),
            ("obj1", "new"),
        ],
        present: &["xxx4", "xxx2", "bbb1", "obj1"],
        absent: &["xxx1", "xxx3"],
    },
    Scenario {
        name: "two-binders",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("bbb1", "new"),
            ("bob1", "new"),
            ("obj1", "new"),
            ("xxx1", "new"),
        ],
        present: &["obj1", "bob1", "xxx1"],
        absent: &["bbb1"],
    },
    Scenario {
        name: "two-binders-both-released",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("bbb1", "new"),
            ("bob1", "new"),
            ("obj1", "new"),
            ("xxx1", "new"),
            ("xbob1", "new"),
        ],
        present: &["xxx1", "xbob1"],
        absent: &["obj1", "bbb1", "bob1"],
    },
    Scenario {
        name: "dynamic-update-releases-old-target",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("frame0", "new"),
            ("obj1", "new"),
            ("frame1", "new"),
            ("obj2", "new"),
            ("frame0", "COUNTER"),
            ("frame1", "known"),
        ],
        present: &["dyn", "frame1", "obj2"],
        absent: &["obj1", "frame0"],
    },
    Scenario {
        name: "dynamic-counter-may-jump",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("frame0", "new"),
            ("frame4", "new"),
            ("frame1", "COUNTER"),
        ],
        present: &["dyn", "frame4"],
        absent: &["frame0", "frame1"],
    },
    Scenario {
        name: "dynamic-first-seen-mid-life",
        steps: &[("gidc_a", "new"), ("gidc_b", "new"), ("frame1", "new")],
        present: &["dyn", "frame1"],
        absent: &[],
    },
    Scenario {
        name: "dynamic-update-keeps-statically-bound-target",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("bbb1", "new"),
            ("frame0", "new"),
            ("obj1", "new"),
            ("frame1", "new"),
        ],
        present: &["obj1"],
        absent: &["frame0"],
    },
    Scenario {
        name: "dynamic-debinding",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("frame0", "new"),
            ("obj1", "new"),
            ("xdyn", "new"),
            ("frame1", "DEBOUND"),
        ],
        present: &["xdyn"],
        absent: &["dyn", "obj1", "frame0"],
    },
    Scenario {
        name: "debound-dynamic-held-by-other-binding",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("frame0", "new"),
            ("obj1", "new"),
            ("hold_dyn", "new"),
            ("xdyn", "new"),
            ("frame1", "new"),
        ],
        present: &["dyn", "frame1", "xdyn"],
        absent: &["frame0"],
    },
    Scenario {
        name: "debound-dynamic-released-with-last-holder",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("frame0", "new"),
            ("obj1", "new"),
            ("hold_dyn", "new"),
            ("xdyn", "new"),
            ("xhold", "new"),
        ],
        present: &["xdyn", "xhold"],
        absent: &["dyn", "obj1", "hold_dyn"],
    },
    Scenario {
        name: "chained-dynamics-collect-in-order",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("frame0", "new"),
            ("obj1", "new"),
            ("outer0", "new"),
            ("xdyn", "new"),
            ("xouter", "new"),
        ],
        present: &["xdyn", "xouter"],
        absent: &["dyn", "outer_dyn", "obj1"],
    },
    Scenario {
        name: "request-life",
        steps: &[
            ("req", "RECIPIENT_UNKNOWN"),
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("req", "new"),
            ("xreq_by_author", "INCONSISTENT"),
            ("xreq", "new"),
            ("req", "DEBOUND"),
        ],
        present: &["xreq"],
        absent: &["req"],
    },
    Scenario {
        name: "early-debinding-waits-for-its-target",
        steps: &[("gidc_a", "new"), ("gidc_b", "new"), ("xxx1", "new"), ("bbb1", "DEBOUND")],
        present: &["xxx1"],
        absent: &["bbb1"],
    },
    Scenario {
        name: "early-foreign-debinding-is-dropped",
        steps: &[
            ("gidc_a", "new"),
            ("gidc_b", "new"),
            ("foreign_x_of_bbb1", "new"),
            ("bbb1", "new"),
        ],
        present: &["bbb1"],
        absent: &["foreign_x_of_bbb1"],
    },
];

/// The objects of the vectors' library, made anew in suite 3.
fn library(cast: &Cast) -> (BTreeMap<&'static str, Verified>, BTreeMap<&'static str, Ghid>) {
    let (alice, bob) = (&cast.alice, &cast.bob);
    let obj1 = container(alice, "obj1");
    let obj2 = container(alice, "obj2");
    let bbb1 = bind(alice, obj1.ghid());
    let bob1 = bind(bob, obj1.ghid());
    let xxx1 = debind(alice, bbb1.ghid());
    let xxx2 = debind(alice, xxx1.ghid());
    let xxx3 = debind(alice, xxx2.ghid());
    let xxx4 = debind(alice, xxx3.ghid());
    let birth = obj1.ghid();
    let the_dyn = dynamic(alice, birth);
    let hold_dyn = bind(bob, the_dyn);
    let outer_dyn = dynamic(bob, the_dyn);
    let req = request(alice, bob, "req");
    let objects = BTreeMap::from([
        ("gidc_a", identity(alice)),
        ("gidc_b", identity(bob)),
        ("frame0", first_frame(alice, birth)),
        ("frame1", frame(alice, birth, 1, &[obj2.ghid()])),
        ("frame4", frame(alice, birth, 4, &[obj1.ghid(), obj2.ghid()])),
        ("xdyn", debind(alice, the_dyn)),
        ("xhold", debind(bob, hold_dyn.ghid())),
        ("outer0", first_frame(bob, the_dyn)),
        ("xouter", debind(bob, outer_dyn)),
        ("xreq", debind(bob, req.ghid())),
        ("xreq_by_author", debind(alice, req.ghid())),
        ("foreign_x_of_bbb1", debind(bob, bbb1.ghid())),
        ("xbob1", debind(bob, bob1.ghid())),
        ("obj1", obj1),
        ("obj2", obj2),
        ("bbb1", bbb1),
        ("bob1", bob1),
        ("xxx1", xxx1),
        ("xxx2", xxx2),
        ("xxx3", xxx3),
        ("xxx4", xxx4),
        ("hold_dyn", hold_dyn),
        ("req", req),
    ]);
    let mut ghids: BTreeMap<_, _> = objects.iter().map(|(name, o)| (*name, o.ghid())).collect();
    ghids.insert("dyn", the_dyn);
    ghids.insert("outer_dyn", outer_dyn);
    (objects, ghids)
}

fn every_scenario_of_the_vectors(cast: &Cast) {
    let (objects, ghids) = library(cast);
    for Scenario { name, steps, present, absent } in SCENARIOS {
        let mut view = MemoryView::new();
        for (at, (object, expected)) in steps.iter().enumerate() {
            let before = view.clone();
            let answer = match view.publish(&objects[object]) {
                Ok(plan) if plan.already => "known",
                Ok(_) => "new",
                Err(rejection) => rejection.rule(),
            };
            assert_eq!(answer, *expected, "{name}, step {at}: {object}");
            assert_eq!(answer == "new", view != before, "{name}, step {at}: {object}");
            assert_eq!(view.pending_rows().filter(Pending::is_work).count(), 0, "{name}");
        }
        for held in *present {
            assert!(view.contains(&ghids[held]), "{name}: {held} is missing");
        }
        for gone in *absent {
            assert!(!view.contains(&ghids[gone]), "{name}: {gone} is still there");
        }
    }
}
