//! Maxima of the application interface, each with its unit and its reason.

use std::time::Duration;

/// Version, code and token in front of every body, bytes. Wire reference, section 2.
pub const FRAME_HEADER_LEN: usize = 6;

/// Everything of an object definition in front of its state, bytes. Section 5.
pub const RECORD_HEADER_LEN: usize = 200;

/// Longest message to an application, bytes (10 MiB). One byte more and the Python client closes
/// the connection. Section 1.
pub const MESSAGE_MAX_OUT: usize = 10 * 1024 * 1024;

/// Largest state of an object, bytes: what fits into a message of [`MESSAGE_MAX_OUT`].
pub const STATE_MAX: usize = MESSAGE_MAX_OUT - FRAME_HEADER_LEN - RECORD_HEADER_LEN;

/// Longest message that is read from an application, bytes (12 MiB). Between
/// [`MESSAGE_MAX_OUT`] and this it is refused and the connection kept (section 9, rule 8).
pub const MESSAGE_MAX_IN: usize = 12 * 1024 * 1024;

/// Requests of one connection that wait for their answer. The next ones wait in the queue of
/// [`REQUESTS_QUEUED_MAX`].
pub const IN_FLIGHT_MAX: usize = 256;

/// Requests of one connection that were read and wait for their turn. Beyond that the connection
/// is not read until an answer goes out: acknowledgements and pings still get through while a
/// busy node works on [`IN_FLIGHT_MAX`] requests.
pub const REQUESTS_QUEUED_MAX: usize = 256;

/// Bytes of one connection's requests, queued or in flight (64 MiB; a guess).
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Messages that wait to be written to one connection; one more closes it.
pub const OUTGOING_MAX: usize = 4_096;

/// Bytes that wait to be written to one connection (64 MiB; a guess); more closes it.
pub const OUTGOING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// From this many bytes in the outgoing queue on (4 MiB), a newer update of an object replaces an
/// older one that was not sent yet.
pub const OUTGOING_LAG_BYTES: usize = 4 * 1024 * 1024;

/// From this many messages in the outgoing queue on, a newer update of an object replaces an older
/// one that was not sent yet.
pub const OUTGOING_LAG: usize = 256;

/// Notices of one connection without acknowledgement. Half of the numbers there are.
pub const NOTICES_OPEN_MAX: usize = 32_768;

/// How long an application may take to acknowledge the oldest notice. Section 9, rule 11.
pub const NOTICE_DEADLINE: Duration = Duration::from_secs(30);

/// How long an application may take after it let go of an object that a notice is about. Section
/// 8.4, “a few seconds”.
pub const LET_GO_DEADLINE: Duration = Duration::from_secs(5);

/// How long one message may take to be written.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// From connecting to the end of the websocket handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How long the other side may take to answer a close frame before TCP ends without it.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Head of the HTTP upgrade request, bytes.
pub const HTTP_HEAD_MAX: usize = 8 * 1024;

/// Header lines of the HTTP upgrade request.
pub const HTTP_HEADERS_MAX: usize = 64;

/// Connections of applications at the same time; the next one gets HTTP 503.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connections that are being refused at the same time; beyond that they are dropped unanswered.
pub const REFUSALS_MAX: usize = 64;

/// Read buffer of a websocket, bytes. The library's 128 KiB are allocated per connection.
pub const READ_BUFFER: usize = 8 * 1024;

/// Messages longer than this are written in fragments of this size, bytes, so that a connection
/// that once carried a large object does not keep a buffer of that size.
pub const FRAGMENT: usize = 256 * 1024;

/// Bytes of lost states in one answer: as long as the largest state, so that every one fits.
pub const LOST_STATES_MAX: usize = STATE_MAX;

/// Longest text in a refusal, bytes; longer ones are cut.
pub const ERROR_TEXT_MAX: usize = 4 * 1024;

/// Keys an object's record keeps behind its current frame, unless told otherwise. Section 7.7.
pub const LEGROOM_DEFAULT: u8 = 7;
