//! What must hold. The oracle sees every request and everything that leaves an engine.
//!
//! It knows nothing of how an engine works: it compares what applications were told with what
//! applications had asked for. "Acknowledged" begins at the moment an answer leaves the engine,
//! which is earlier, and so stricter, than the moment the application has it.

mod judge;
mod oracle;

use std::fmt;

use crate::Micros;
use crate::report::Ms;

pub(crate) use judge::Answers;
pub use oracle::Oracle;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checker {
    /// What was answered with success is kept through every crash: objects, states, deletions,
    /// holds, tokens, startup objects.
    Acknowledged,
    /// No node ever shows an older state of an object than it showed before, and nothing that was
    /// deleted comes back.
    NeverBack,
    /// Once everything is healed, everybody who was given an object has its last state, what was
    /// deleted is gone except where it is held, and nobody else can read it.
    Agree,
    /// Every application that follows an object was told of its last state, or of its end.
    Heard,
    /// Every request is answered once, and refused only with a reason.
    Answers,
    /// Every share arrives, once, in the order of its sender.
    Shares,
    /// Queues, windows and traffic are bounded.
    Bounded,
    /// The engine does not panic, and honest nodes do not accuse each other.
    Sound,
}

impl Checker {
    /// Every rule.
    pub const ALL: [Checker; 8] = [
        Checker::Acknowledged,
        Checker::NeverBack,
        Checker::Agree,
        Checker::Heard,
        Checker::Answers,
        Checker::Shares,
        Checker::Bounded,
        Checker::Sound,
    ];
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Checker::Acknowledged => "acknowledged is kept",
            Checker::NeverBack => "nobody goes back",
            Checker::Agree => "replicas agree",
            Checker::Heard => "applications hear of the final state",
            Checker::Answers => "one answer for each request",
            Checker::Shares => "shares arrive once and in order",
            Checker::Bounded => "everything is bounded",
            Checker::Sound => "engines are sound",
        })
    }
}

/// A rule that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub checker: Checker,
    /// When.
    pub at: Micros,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] {}", Ms(self.at), self.checker, self.text)
    }
}
