//! Every maximum of the format, with its unit and its reason.

use crate::Ghid;

/// Bytes of plaintext in one container: 1 GiB.
///
/// AES-GCM ends at 2^36 - 32 bytes; a container is handled whole, so ours ends where an object stops
/// being something a node wants to hold in memory. Larger things are trees of containers.
pub const PLAINTEXT_MAX: usize = 1 << 30;

/// Targets a frame may carry when read: 65,520 bytes of 65, the most a 16-bit byte count holds.
pub const TARGETS_MAX: usize = (u16::MAX as usize) / Ghid::LEN;

/// Targets a frame may carry when made here.
///
/// A writer emits current, previous and birth target; the rest is room for a writer that wants
/// to name more of its history. Every target costs 65 bytes in every frame.
pub const TARGETS_MADE_MAX: usize = 16;

/// Steps a reader follows a chain forward in one go: 2^20, about one second of work.
///
/// At one chain step per 256 frames and a frame every five seconds this is over forty years.
pub const CHAIN_STEPS_MAX: u64 = 1 << 20;

/// Bytes of payload that fit into a request of every suite: 432 of suite 3's box, less author 65,
/// kind 2, length 2, MAC 64. Suite 1 has room for 313: [`Suite::request_payload_max`](crate::Suite).
pub const REQUEST_PAYLOAD_MAX: usize = 299;

const _: () = assert!(TARGETS_MAX == 1008);
