//! Every maximum of the engine, with unit and reason.

use std::time::Duration;

/// Notices under way to one application at once. A bigger window buys nothing: the Python client
/// works on one at a time.
pub const NOTICES_IN_FLIGHT: usize = 16;

/// Shares that wait for an application, of one sender. More are refused, so that one stranger
/// cannot fill the store.
pub const SHARES_WAITING_PER_SENDER: usize = 1_000;

/// Shares that wait for an application, of all senders together.
pub const SHARES_WAITING: usize = 10_000;

/// Shares that were taken lately, of which it is remembered that another device may have them too.
pub(crate) const SHARES_TAKEN: usize = 4_096;

/// Bytes of events that may be under way to one follower before it confirms. Beyond it the feed
/// itself is the queue, and only the newest state of each object is sent.
pub const EVENTS_IN_FLIGHT_BYTES: usize = 1024 * 1024;

/// Events under way to one follower. A guess: enough to hide a round trip of 100 ms at 1,000
/// updates a second.
pub const EVENTS_IN_FLIGHT: usize = 128;

/// The last changes of the feed kept in memory, some 150 bytes each: every link looks at them.
pub const FEED_RECENT: usize = 1_024;

/// Own addresses elsewhere that one persister is asked for. As many as a link may subscribe to.
pub(crate) const ELSEWHERE_MAX: u64 = 100_000;

/// Rows of the feed read at once.
pub const FEED_BATCH: usize = 256;

/// Objects in one page of a list. Each is opened, 20 us and more, while everybody else waits.
pub const OBJECTS_PAGE: usize = 128;

/// Addresses one link may subscribe to. 100,000 tags are about 10 MB of memory.
pub const SUBSCRIPTIONS_PER_LINK: usize = 100_000;

/// Of these, addresses that nothing is known of here. A follower subscribes to what we shared, so
/// there are few; each costs look-ups in every comparison.
pub const SUBSCRIPTIONS_UNKNOWN: usize = 1_024;

/// How often one link may go back in our feed; beyond it a comparison finds what is missing. Every
/// time costs a walk through the feed. Enough for 100,000 addresses in messages of 1,024.
pub const REWINDS_PER_LINK: usize = 256;

/// Objects that do not verify before a link is closed. An honest node never sends one.
pub const INVALID_OBJECTS_MAX: u32 = 3;

/// A link that owes an answer and is silent for this long is given up. A LAN answers in
/// milliseconds; three seconds leave room for a busy disk.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(3);

/// The same between a persister and whoever uses it, whose way may be longer.
pub const REMOTE_SILENCE_MAX: Duration = Duration::from_secs(8);

/// It grows with what is under way: by a second for as many bytes. The slowest sender that the
/// network bears with.
pub const REMOTE_BYTES_PER_SECOND: usize = 16 * 1024;

/// A link without traffic is asked whether it lives. Fits the idle budget of 50 bytes a second.
pub const LINK_PING_INTERVAL: Duration = Duration::from_secs(20);

/// Both sides of a link compare what they hold this often (field.md 5.6, L3).
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(600);

/// Rows of the own store that are looked at together, so that what is missing there is noticed: soon after
/// the start until all were, then so many beside each comparison. 10 us a row.
pub const SCRUB_ROWS: usize = 1_024;

/// Of these, how many may be addresses that something was missing of before.
pub const SCRUB_AGAIN: usize = SCRUB_ROWS / 2;

/// Addresses of which it is remembered that something is missing: a megabyte.
pub const SCRUB_BROKEN: usize = 16_384;

/// Between two slices that do not wait for a comparison: a twenty-fifth of a core, and a million rows in
/// four minutes.
pub const SCRUB_INTERVAL: Duration = Duration::from_millis(250);

/// Bytes that may be read for it. A guess: less than what a comparison sends after an hour.
pub const SCRUB_BYTES: usize = 4 * 1024 * 1024;

/// Shortest time between two of these looks, however many links compare.
pub const SCRUB_PAUSE: Duration = Duration::from_secs(10);

/// Users in one answer to the operator: 300 bytes each.
pub const USERS_PAGE: usize = 10_000;

/// Largest message of one round of reconciliation, bytes (field.md 5.6: at least 4 KiB).
pub const RECONCILE_MESSAGE_MAX: u64 = 60_000;

/// How long `sync` and `get` wait for other devices.
pub const WAIT_FOR_LINKS: Duration = Duration::from_secs(2);

/// Unanswered `Publish` messages of one link. Shares beyond it wait in the outbox.
pub const PUBLISHES_IN_FLIGHT: usize = 32;

/// Bytes of unanswered `Publish` messages of one link; one message more may start below it.
pub const PUBLISHES_IN_FLIGHT_BYTES: usize = 1024 * 1024;

/// Unanswered `Get` messages of one link. A link that leaves so many open is asked no more.
pub const GETS_IN_FLIGHT: usize = 64;

/// Answers to shares that nobody has fetched yet. The oldest goes first: an answer is good to have,
/// and strangers must not fill the store with what we owe them.
pub const ANSWERS_OWED: usize = 10_000;

/// Shares that are owed and of which the other devices of the account know: 300 bytes each in what the
/// devices exchange, 5 kB a piece. What is promised beyond it is delivered by the device that did.
pub const OWED_RECORDS: usize = 4_096;

/// How long what another device of the account owes is left to it: the recipient answers within a second or
/// two, of which the others know a fifth of a second later. A guess that leaves room for a slow line.
pub const OWED_TAKEOVER: Duration = Duration::from_secs(10);

/// Devices that take over do so one after the other, by the last bits of their slots.
pub const OWED_STAGGER: Duration = Duration::from_secs(1);

/// How long after its record what was owed counts as taken: an object that was taken back or deleted shows
/// in other records and objects, which the same device sends at the same time.
pub const OWED_GONE: Duration = Duration::from_secs(1);

/// How long an answer may take to come after a server says that the request was handled. A guess: the recipient
/// is there, and leaves it within a second or two.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Answers to requests that are not known here yet: their record may be under way from another device.
pub(crate) const ANSWERS_HEARD: usize = 256;

/// Identities that one followed address is asked of: its author and those who shared it.
pub const SOURCES_PER_ADDRESS: usize = 16;

/// Opened contents kept in memory, bytes. A guess: thousands of small states.
pub const CONTENT_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Contents larger than this are read from the store each time.
pub const CONTENT_CACHE_ENTRY_MAX: usize = 1024 * 1024;

/// Chain keys kept in memory, entries of about 200 bytes.
pub const CHAIN_CACHE: usize = 4_096;

/// Steps of a chain between two sealed checkpoints: at 0.8 us a step, finding a key again takes
/// less than a millisecond.
pub const CHAIN_CHECKPOINT: u64 = 1_024;

/// Past frames that an object keeps unless the application asks otherwise (the documented value).
pub const LEGROOM_DEFAULT: u8 = 7;

/// Debindings of debindings followed when a binding comes back.
pub const DEBINDING_CHAIN_MAX: usize = 10_000;

/// A persister that had no room, or took no requests, is tried again after this.
pub const UPLOADS_PAUSE: Duration = Duration::from_secs(10);

/// Objects for which a persister had no room that are tried again when one was deleted there.
pub(crate) const TRIED_AGAIN: usize = 16;

/// Of what waits in mailboxes of a persister, how much is left there again beside each regular
/// comparison: about 45 kB.
pub const MAIL_LEFT_AGAIN: usize = 64;

/// Changes of its own, or told beside the feed, after which a device is told its place in a feed: as
/// many it may be told again after the next connection.
pub(crate) const PLACE_UNTOLD: u64 = 64;

/// Numbers that a persister's feed leaves out at each start: more than one commit can give out.
pub(crate) const FEED_LEAP: u64 = 1 << 20;

/// Confirmed uploads after which the place in the feed is written down at once.
pub(crate) const UPLOADS_UNWRITTEN: u64 = 64;

/// How long fewer of them wait: what the place costs is a commit, which the next push would wait for.
pub(crate) const UPLOADS_UNWRITTEN_FOR: Duration = Duration::from_secs(1);

/// Addresses of which it is remembered that a persister does not take them.
pub(crate) const REFUSED_MAX: usize = 10_000;

/// How long a persister may take to send what a comparison says it has. A guess: a full window over the
/// slowest line that the network bears with.
pub(crate) const CLAIM_PATIENCE: Duration = Duration::from_secs(60);

/// Times that the same state is uploaded because a comparison misses it, while one link is up.
pub(crate) const REFILLS_MAX: u32 = 3;

/// Persisters of which it is remembered which deletions they confirmed. A user has a few; those that
/// keep nothing are new ones at each of their starts.
pub(crate) const CONFIRMERS_MAX: usize = 16;

/// Deletions that `status` names because a persister has not confirmed them.
pub(crate) const UNCONFIRMED_SHOWN: usize = 16;

/// How long somebody who is refused has to read why.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// Identities that one link may prove to a persister. A device has one account, or a few.
pub(crate) const IDENTITIES_PER_LINK: usize = 16;

/// Identities that a persister remembers as verified, a few hundred bytes to a kilobyte each.
pub(crate) const RECENT_IDENTITIES: usize = 1_024;

/// Identities that one link may look for at a persister.
pub const SOUGHT_PER_LINK: usize = 256;

/// Before an identity that no link leads to is looked for: it may come by itself.
pub const SEARCH_DELAY: Duration = Duration::from_secs(2);

/// Between the first two searches for one identity; then twice as long each time.
pub const SEARCH_PAUSE: Duration = Duration::from_secs(10);

/// Longest pause between two searches for one identity. A route changes when a device moves, and
/// devices look for us as we do for them.
pub const SEARCH_PAUSE_MAX: Duration = Duration::from_secs(1_800);

/// How long it may take to reach somebody where they were last, before the DHT is asked.
pub const CACHED_PAUSE: Duration = Duration::from_secs(5);

/// Identities of which it is remembered where their devices were last.
pub const ROUTES_MAX: usize = 1_024;

/// Searches begun at once; the rest follows after [`SEARCH_DELAY`].
pub const SEARCHES_AT_ONCE: usize = 16;

/// Searches after which an answer to somebody who is not found counts as given, once it is in all
/// mailboxes that we reach: after half a minute.
pub const SEARCHES_FOR_ANSWER: u32 = 3;

/// How long the devices of an identity may take to come before its persisters are visited.
pub const GUEST_DELAY: Duration = Duration::from_secs(3);

/// Persisters of one identity that are visited.
pub const PERSISTERS_PER_IDENTITY: usize = 4;

/// Persisters of others that are visited at one time. A guess: each is a link.
pub const GUEST_AT_MAX: usize = 32;

/// Addresses that the user may publish: the DHT is told of each every two hours, two a second.
pub const PUBLISHED_MAX: usize = 1_000;

/// How long an application waits for an object that is looked for in the DHT: a lookup may take 10 s,
/// and so may reaching who publishes it. The shell waits for 30 s.
pub const LOOKUP_WAIT: Duration = Duration::from_secs(20);

/// Addresses looked for at one time.
pub const LOOKUPS_AT_ONCE: usize = 64;

/// Requests that wait for one of them.
pub const WAITING_PER_LOOKUP: usize = 64;

/// What was looked for in vain is not looked for again so soon.
pub const LOOKUP_PAUSE: Duration = Duration::from_secs(10);

/// Addresses of which that is remembered.
pub const LOOKUPS_REMEMBERED: usize = 1_024;

/// Objects of an identity that is looked for in vain: how many are looked at, and how many of those that
/// never came are looked for with each search.
pub(crate) const ABSENT_LOOKED_AT: usize = 256;
pub(crate) const ABSENT_LOOKED_UP: usize = 4;

/// Devices that are asked for one published address. A record names no more.
pub const PROVIDERS_MAX: usize = crate::route::ENTRIES_MAX;

/// Links that are told of the devices of one identity: each may connect to them, and a node takes
/// 128 connections. Whoever comes later has everything from the persister all the same.
pub const SEEKERS_MAX: usize = 64;

/// Between what moved first and its announcement: so much is announced together.
pub const ANNOUNCE_DELAY: Duration = Duration::from_millis(20);

/// Between two rounds of announcements.
pub const ANNOUNCE_PAUSE: Duration = Duration::from_millis(100);

/// Announcements of one round, one an author: a server makes forty a second at most.
pub const ANNOUNCEMENTS_AT_ONCE: usize = 4;

/// Authors whose objects wait to be announced. What more of them move is not announced.
pub const ANNOUNCED_AUTHORS: usize = 1_024;

/// Objects of one author that wait to be announced.
pub const ANNOUNCED_OBJECTS: usize = 64;

/// Authors that a server listens to: whose followers it has. Each is 200 bytes in the network.
pub const LISTENED_BY_SERVER: usize = 65_536;

/// Authors that a node listens to: those that nothing leads to.
pub const LISTENED_BY_NODE: usize = 1_024;

/// How long links have to come up before a node listens to announcements instead.
pub const LISTEN_DELAY: Duration = Duration::from_secs(2);

/// Announced objects that are being fetched; more are left to whoever announces them again.
pub const FETCHES_MAX: usize = 4_096;

/// Questions for announced objects under way on one link.
pub const FETCHES_PER_LINK: usize = 32;

/// Servers that one announced object may be fetched from, one after the other.
pub const FETCH_SOURCES: usize = 4;

/// How long a server has to answer, connecting to it included.
pub const FETCH_PATIENCE: Duration = Duration::from_secs(8);

/// Announcements of what was not there after which a server is not listened to.
pub const FAULTS_MAX: u32 = 3;

/// How long that is remembered.
pub const FAULTS_FORGOTTEN: Duration = Duration::from_secs(600);

/// Servers of which it is remembered.
pub const FAULTY_DEVICES: usize = 1_024;

/// Messages of comparisons that a persister answers on one link: each looks at every subscribed
/// address. A comparison of 100,000 addresses of which none is held takes about a hundred.
pub(crate) const COMPARISONS: Rate = Rate { interval: Duration::from_secs(1), burst: 256 };

/// Messages of one link that say what a comparison found missing: a comparison of 100,000 addresses takes
/// about a hundred.
pub(crate) const NEEDS: Rate = COMPARISONS;

/// Blocks of 1,024 subscribed addresses that are looked at for messages of comparisons, of all links
/// together that proved nothing, or nobody whom a persister knows. A block takes 5 to 10 ms.
pub(crate) const COMPARED_FOR_STRANGERS: Rate =
    Rate { interval: Duration::from_millis(64), burst: 256 };

/// Blocks that count for a link that mirrors everything.
pub(crate) const MIRRORED_BLOCKS: u32 = 64;

/// Requests and bare identities that a link which proved nothing may leave at a persister: ten a
/// minute (threats.md 2.4, A10).
pub(crate) const FROM_STRANGERS: Rate = Rate { interval: Duration::from_secs(6), burst: 10 };

/// The same of a link that proved an identity. A guess: a telemeter that shares with a crowd.
pub(crate) const FROM_KNOWN: Rate = Rate { interval: Duration::from_millis(100), burst: 1_000 };

/// Requests of all links together that proved nothing. A guess: nodes say who they are, so these are
/// other programs, or one that comes again under another name.
pub(crate) const FROM_ALL_STRANGERS: Rate =
    Rate { interval: Duration::from_millis(100), burst: 100 };

/// Identities that nothing else is stored of and nobody registered: how many a persister keeps
/// (threats.md 2.4, A2). 3 to 14 MB.
pub(crate) const IDENTITIES_BARE: usize = 10_000;

/// Of these, how many are looked at for each one too many. A guess: few enough to cost nothing.
pub(crate) const IDENTITIES_LOOKED_AT: usize = 8;

/// Bare identities of all links together that did not register. A guess: a server that lost everything
/// gets those of its thousand users at once.
pub(crate) const IDENTITIES_OF_STRANGERS: Rate =
    Rate { interval: Duration::from_millis(100), burst: 1_000 };

/// Places in feeds of others that are remembered: those of remotes, of devices of whom we follow. Beyond
/// it another one is forgotten, and everything compared with it.
pub(crate) const CURSORS_MAX: u64 = 4_096;

/// Identities of which a persister remembers how much mail they left. Beyond it those with a whole budget
/// are forgotten first.
pub(crate) const MAIL_SENDERS: usize = 4_096;

/// Requests in one mailbox that is full, up to which a sender takes the place of those who proved less.
pub(crate) const MAIL_DISPLACING: usize = 100;

/// Hours that a request may wait in a mailbox that is full before anybody's takes its place: 30 days of
/// the server's running.
pub(crate) const MAIL_KEPT_HOURS: u32 = 720;

/// What the persister counts in.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Places that one device says it is at, on one link: each is written down for who is followed. A
/// machine that moves about says some in a row.
pub(crate) const ROUTES: Rate = Rate { interval: Duration::from_secs(30), burst: 8 };

/// Attempts of one link to register: tokens cannot be guessed.
pub(crate) const REGISTRATIONS: Rate = Rate { interval: Duration::from_secs(6), burst: 10 };

/// Messages with requests that wait to be opened.
pub const INBOX_REQUESTS: usize = 1_000;

/// Their bytes. A share of 10 MiB fits six times.
pub const INBOX_BYTES: usize = 64 * 1024 * 1024;

/// Of one device. Twice the window of an honest one.
pub const INBOX_PER_DEVICE: usize = 2 * PUBLISHES_IN_FLIGHT;

/// Devices whose pace is remembered. Beyond it those with a whole budget are forgotten first.
pub const INBOX_DEVICES: usize = 1_024;

/// Requests being opened at once.
pub const OPENING_AT_ONCE: usize = 2;

/// Answers to requests leave at whole multiples of this.
pub const ANSWER_SCHEDULE: Duration = Duration::from_secs(1);

/// What the other side of a link had no room for is offered again after this.
pub const OWED_PAUSE: Duration = Duration::from_secs(1);

/// Account records that change within this time are written for the other devices together.
pub const PIECES_DELAY: Duration = Duration::from_millis(200);

/// How long after a push the other devices of the account know of it by the list of its own objects: a
/// push more for each minute of pushes. A guess.
pub const MANIFEST_DELAY: Duration = Duration::from_secs(60);

/// Pieces of the list written at once, and between two times: in suite 1 each takes two signatures, 3 ms
/// and more.
pub(crate) const MANIFEST_PIECES: usize = 4;
/// See [`MANIFEST_PIECES`].
pub(crate) const MANIFEST_PAUSE: Duration = Duration::from_millis(250);

/// How fast something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time for one, on average.
    pub interval: Duration,
    /// How many at once after a pause.
    pub burst: u32,
}

/// How fast requests that one device brings are opened. In suite 1 one costs 15 ms of a core
/// (threats.md 2.4, A10: 10 a second and source), in suite 3 a fifth of a millisecond.
pub(crate) fn open_rate_device(suite: golix::Suite) -> Rate {
    match suite {
        golix::Suite::Suite1 => Rate { interval: Duration::from_millis(100), burst: 32 },
        golix::Suite::Suite3 => Rate { interval: Duration::from_millis(1), burst: 1_000 },
    }
}

/// How fast requests are opened in all: less than half a core.
pub(crate) fn open_rate_total(suite: golix::Suite) -> Rate {
    match suite {
        golix::Suite::Suite1 => Rate { interval: Duration::from_millis(30), burst: 64 },
        golix::Suite::Suite3 => Rate { interval: Duration::from_micros(500), burst: 2_000 },
    }
}
