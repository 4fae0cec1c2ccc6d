//! Published edge cases through our own primitives, exactly as the suites call them.

mod cctv;
mod wycheproof;
