//! Announcements between servers: gossipsub's settings, and what is passed on.
//!
//! There are 64 topics, one for each shard of authors, and nothing else can be subscribed to. Each message
//! is judged before it is passed on: its form by everybody, the rest as far as one knows. What
//! any device can see to be wrong counts against whoever passed it on; what only some can see, or
//! comes too late or too often, is dropped without blame, except at its source. The format is
//! `hypergolix_engine::announcement`; the network's side is in docs/network.md, “Gossip”.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use golix::Ghid;
use hypergolix_engine::announcement::{
    self, AGE_MAX, ANNOUNCEMENT_MAX, Announcement, Moved, SHARDS, SKEW_MAX, Tag,
};
use hypergolix_engine::route::{Host, epoch_of};
use libp2p::PeerId;
use libp2p::gossipsub::{
    self, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, PeerScoreParams,
    PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
    score_parameter_decay,
};
use libp2p::identity::Keypair;
use tokio::sync::Notify;

use super::limits::{
    FORWARDER_BURST, FORWARDER_RATE, FORWARDERS_MAX, SOURCE_BURST, SOURCE_RATE, SOURCES_MAX,
    TAGS_PER_SOURCE, TokenBucket,
};

/// gossipsub for our topics alone.
pub(super) type Gossipsub = gossipsub::Behaviour<
    IdentityTransform,
    MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>,
>;

/// Begins the protocol's name; the library adds its version.
const PROTOCOL: &str = "/hgx/gossip";

/// Longest packet: the subscriptions of all topics take a kilobyte, and lists of message ids are cut
/// to what fits.
const PACKET_MAX: usize = 16 * 1024;

/// Message ids in one list, of 46 bytes each.
const IDS_MAX: usize = 256;

/// An announcement, its source, number, topic and signature.
const MESSAGE_MAX: usize = ANNOUNCEMENT_MAX + 192;

/// How long a message may wait for a slow connection.
const QUEUE_TIME: Duration = Duration::from_secs(5);

/// How long a bad score is remembered after a device left.
const RETAIN_SCORE: Duration = Duration::from_secs(3_600);

/// How long it takes until a fault is forgotten.
const SCORE_DECAY: Duration = Duration::from_secs(600);

/// Announcements that wait for the network's task; older ones give way.
const ANNOUNCEMENTS_MAX: usize = 256;

/// Visits that wait for it.
const VISITS_QUEUED: usize = 256;

/// The topic of a shard.
pub(super) fn topic(shard: u8) -> TopicHash {
    TopicHash::from_raw(format!("hgx/1/{shard}"))
}

/// The shard of a topic.
pub(super) fn shard_of(topic: &TopicHash) -> Option<u8> {
    let shard = topic.as_str().strip_prefix("hgx/1/")?.parse().ok()?;
    (shard < SHARDS && self::topic(shard) == *topic).then_some(shard)
}

/// gossipsub with scoring, and every message judged by us before it is passed on. `None`, with a line
/// in the log, where the library does not take its settings.
pub(super) fn behaviour(key: &Keypair) -> Option<Gossipsub> {
    let made = try_behaviour(key);
    made.inspect_err(|error| tracing::error!(%error, "no gossip")).ok()
}

fn try_behaviour(key: &Keypair) -> Result<Gossipsub, String> {
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .protocol_id_prefix(PROTOCOL)
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(PACKET_MAX)
        .max_control_messages_sent(IDS_MAX)
        .forward_queue_duration(QUEUE_TIME);
    for shard in 0..SHARDS {
        config.max_transmit_size_for_topic(MESSAGE_MAX, topic(shard));
    }
    let config = config.build().map_err(|error| error.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter((0..SHARDS).map(topic).collect()),
        max_subscribed_topics: usize::from(SHARDS),
        max_subscriptions_per_request: 2 * usize::from(SHARDS),
    };
    let signed = MessageAuthenticity::Signed(key.clone());
    let mut gossip = Gossipsub::new_with_subscription_filter(signed, config, filter)?;
    gossip.with_peer_score(score(), thresholds())?;
    Ok(gossip)
}

/// Scores for few and small messages: silence is no fault, so nothing is expected of a mesh peer. What
/// is earned in all topics together (12.8) is less than one invalid message costs, so nobody can save
/// up for them; the second one ends gossip with a device, and it is heard again after minutes.
fn score() -> PeerScoreParams {
    let decay = score_parameter_decay(SCORE_DECAY);
    let topic_params = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.001,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 100.0,
        first_message_deliveries_weight: 0.01,
        first_message_deliveries_decay: decay,
        first_message_deliveries_cap: 10.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -25.0,
        invalid_message_deliveries_decay: decay,
        ..TopicScoreParams::default()
    };
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    PeerScoreParams {
        topics: (0..SHARDS).map(|shard| (topic(shard), topic_params.clone())).collect(),
        topic_score_cap: 12.8,
        // Households share an address: it takes some twenty devices behind one to count as much as
        // an invalid message.
        ip_colocation_factor_weight: -0.1,
        ip_colocation_factor_threshold: 4.0,
        ip_colocation_factor_whitelist: HashSet::from(loopback),
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: decay,
        retain_score: RETAIN_SCORE,
        ..PeerScoreParams::default()
    }
}

fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -50.0,
        graylist_threshold: -80.0,
        accept_px_threshold: 100.0,
        opportunistic_graft_threshold: 1.0,
    }
}

/// What the node wants of gossip, until the network's task takes it up.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pending: Mutex<Pending>,
    pub(super) changed: Notify,
}

/// What was ordered since the last time.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Everything before is forgotten: a new engine begins.
    pub(super) reset: bool,
    pub(super) listens: BTreeMap<Ghid, bool>,
    pub(super) shards: Option<u64>,
    pub(super) announcements: VecDeque<(Ghid, Vec<Moved>)>,
    pub(super) visits: VecDeque<Host>,
}

impl Orders {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: impl FnOnce(&mut Pending)) {
        order(&mut self.pending());
        self.changed.notify_one();
    }

    pub(super) fn reset(&self) {
        self.order(|pending| *pending = Pending { reset: true, ..Pending::default() });
    }

    pub(super) fn listen(&self, author: Ghid, listens: bool) {
        self.order(|pending| {
            pending.listens.insert(author, listens);
        });
    }

    pub(super) fn join(&self, shards: u64) {
        self.order(|pending| pending.shards = Some(shards));
    }

    pub(super) fn announce(&self, author: Ghid, moved: Vec<Moved>) {
        self.order(|pending| {
            pending.announcements.push_back((author, moved));
            if pending.announcements.len() > ANNOUNCEMENTS_MAX {
                pending.announcements.pop_front();
            }
        });
    }

    pub(super) fn visit(&self, host: Host) {
        self.order(|pending| {
            pending.visits.push_back(host);
            if pending.visits.len() > VISITS_QUEUED {
                pending.visits.pop_front();
            }
        });
    }

    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut self.pending())
    }
}

/// An announcement about somebody who is listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) author: Ghid,
    pub(super) moved: Vec<Moved>,
    /// The server that announced it.
    pub(super) host: Host,
}

/// What is done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is passed on, and told if it is about somebody who is listened to.
    Good(Option<Heard>),
    /// It is dropped.
    Useless(&'static str),
    /// It is dropped, and counts against whoever passed it on.
    Wrong(&'static str),
}

/// One message as gossipsub hands it over: its signature holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub(super) shard: Option<u8>,
    pub(super) data: &'a [u8],
    /// Who made it.
    pub(super) source: PeerId,
    /// Who passed it on to us.
    pub(super) from: PeerId,
}

/// What is remembered of one announcing device.
#[derive(Debug)]
struct Source {
    pace: TokenBucket,
    /// The last counter of each author.
    counters: BTreeMap<Tag, u64>,
    /// Counters up to here were forgotten.
    floor: u64,
    last: u64,
}

/// Judges announcements. Pure: time comes in.
#[derive(Debug, Default)]
pub(super) struct Judge {
    listened: BTreeSet<Ghid>,
    /// How many of them each shard has.
    by_shard: BTreeMap<u8, usize>,
    /// The days whose tags may come.
    epochs: BTreeSet<u32>,
    tags: HashMap<Tag, Ghid>,
    sources: HashMap<PeerId, Source>,
    forwarders: HashMap<PeerId, TokenBucket>,
}

fn epochs(now: u64) -> BTreeSet<u32> {
    BTreeSet::from([epoch_of(now.saturating_sub(AGE_MAX)), epoch_of(now + SKEW_MAX)])
}

impl Judge {
    /// Listens to an author from now on, or no longer.
    pub(super) fn listen(&mut self, author: Ghid, listens: bool, now: u64) {
        self.keep_epochs(now);
        for epoch in &self.epochs {
            let tag = announcement::tag(&author, *epoch);
            if listens {
                self.tags.insert(tag, author);
            } else {
                self.tags.remove(&tag);
            }
        }
        let of_shard = self.by_shard.entry(announcement::shard(&author)).or_default();
        if listens {
            *of_shard += usize::from(self.listened.insert(author));
        } else {
            *of_shard -= usize::from(self.listened.remove(&author));
        }
    }

    /// How many authors are listened to.
    pub(super) fn listens(&self) -> usize {
        self.listened.len()
    }

    /// The shards of those who are listened to, one bit each.
    pub(super) fn shards(&self) -> u64 {
        let listened = self.by_shard.iter().filter(|(_, authors)| **authors > 0);
        listened.fold(0, |shards, (shard, _)| shards | 1 << shard)
    }

    /// Listens to nobody.
    pub(super) fn deafen(&mut self) {
        self.listened.clear();
        self.by_shard.clear();
        self.tags.clear();
    }

    /// Learns the tags of a day that is near.
    fn keep_epochs(&mut self, now: u64) {
        let epochs = epochs(now);
        if self.epochs != epochs {
            let tags = |author: &Ghid| {
                let author = *author;
                epochs.iter().map(move |epoch| (announcement::tag(&author, *epoch), author))
            };
            self.tags = self.listened.iter().flat_map(tags).collect();
            self.epochs.clone_from(&epochs);
        }
    }

    /// Forgets devices that announced nothing for so long that all of it is too old anyway.
    pub(super) fn expire(&mut self, now: u64, at: Instant) {
        self.keep_epochs(now);
        self.sources.retain(|_, source| source.last.saturating_add(AGE_MAX) > now);
        self.forwarders.retain(|_, pace| !pace.is_full(at));
    }

    /// Judges one message: form, time, pace, counter, and what is inside, in this order of cost.
    /// `now` is milliseconds since 1970.
    pub(super) fn judge(&mut self, delivery: Delivery<'_>, now: u64, at: Instant) -> Judgement {
        use Judgement::{Good, Useless, Wrong};
        let Delivery { shard, data, source, from } = delivery;
        // Only the source itself can be blamed for what not everybody sees.
        let blame = |reason| if source == from { Wrong(reason) } else { Useless(reason) };
        let Some(shard) = shard else { return Wrong("not one of our topics") };
        let Ok(announcement) = Announcement::parse(data) else { return Wrong("malformed") };
        if announcement.counter > now.saturating_add(SKEW_MAX)
            || announcement.counter.saturating_add(AGE_MAX) <= now
        {
            return Useless("not of this time");
        }
        if !self.may_forward(from, at) {
            return Useless("passed on too fast");
        }
        let Some(known) = self.source(source, at) else { return Useless("too many sources") };
        if !known.pace.try_take(at) {
            return blame("announced too fast");
        }
        let before = known.counters.get(&announcement.tag).copied().unwrap_or(known.floor);
        if announcement.counter <= before {
            return Useless("not newer");
        }
        self.keep_epochs(now);
        let mut heard = None;
        if let Some(author) = self.tags.get(&announcement.tag).copied() {
            let Some(moved) = announcement.open(&author, &source.to_bytes()) else {
                return blame("made up");
            };
            if announcement::shard(&author) != shard {
                return blame("in another's topic");
            }
            let addresses = announcement.addresses.clone();
            let host = Host { device: source.to_bytes(), addresses };
            heard = Some(Heard { author, moved, host });
        }
        if let Some(known) = self.sources.get_mut(&source) {
            known.note(announcement.tag, announcement.counter);
        }
        Good(heard)
    }

    fn may_forward(&mut self, from: PeerId, at: Instant) -> bool {
        if !self.forwarders.contains_key(&from) && self.forwarders.len() >= FORWARDERS_MAX {
            self.forwarders.retain(|_, pace| !pace.is_full(at));
            if self.forwarders.len() >= FORWARDERS_MAX {
                return false;
            }
        }
        self.forwarders
            .entry(from)
            .or_insert_with(|| TokenBucket::new(FORWARDER_BURST, FORWARDER_RATE, at))
            .try_take(at)
    }

    /// What is known of a source; the one that is silent for longest gives way to a new one.
    fn source(&mut self, source: PeerId, at: Instant) -> Option<&mut Source> {
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES_MAX {
            let oldest = self.sources.iter().min_by_key(|(_, known)| known.last)?;
            let oldest = *oldest.0;
            self.sources.remove(&oldest);
        }
        Some(self.sources.entry(source).or_insert_with(|| Source {
            pace: TokenBucket::new(SOURCE_BURST, SOURCE_RATE, at),
            counters: BTreeMap::new(),
            floor: 0,
            last: 0,
        }))
    }
}

impl Source {
    fn note(&mut self, tag: Tag, counter: u64) {
        self.counters.insert(tag, counter);
        self.last = self.last.max(counter);
        if self.counters.len() > TAGS_PER_SOURCE {
            let oldest = self.counters.iter().min_by_key(|(_, counter)| **counter);
            if let Some((tag, counter)) = oldest.map(|(tag, counter)| (*tag, *counter)) {
                self.floor = self.floor.max(counter);
                self.counters.remove(&tag);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use hypergolix_engine::announcement::{Name, seal};
    use hypergolix_engine::route::EPOCH;
    use libp2p::core::transport::MemoryTransport;
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::{self, SwarmEvent};
    use libp2p::{Swarm, Transport, noise, yamux};

    use super::*;

    const NOW: u64 = 20_000 * EPOCH + 12 * 3600 * 1000;

    struct Bench {
        judge: Judge,
        source: PeerId,
        other: PeerId,
        at: Instant,
    }

    fn author() -> Ghid {
        Ghid::of(b"author")
    }

    fn moved() -> Moved {
        Moved { name: Name::of(&Ghid::of(b"object")), counter: 257 }
    }

    impl Bench {
        fn new() -> Self {
            let mut judge = Judge::default();
            judge.listen(author(), true, NOW);
            let (source, other) = (PeerId::random(), PeerId::random());
            Self { judge, source, other, at: Instant::now() }
        }

        fn announcement(&self, author: &Ghid, counter: u64) -> Vec<u8> {
            let address = "/ip4/10.0.0.1/tcp/7770".parse::<libp2p::Multiaddr>().unwrap().to_vec();
            seal(author, counter, &self.source.to_bytes(), &[address], &[moved()])
        }

        fn judge(&mut self, data: &[u8], from: PeerId, now: u64) -> Judgement {
            let shard = Some(announcement::shard(&author()));
            let delivery = Delivery { shard, data, source: self.source, from };
            self.judge.judge(delivery, now, self.at)
        }
    }

    #[test]
    fn a_good_one_is_told_and_passed_on_once() {
        let mut bench = Bench::new();
        let (source, other) = (bench.source, bench.other);
        let data = bench.announcement(&author(), NOW);
        let Judgement::Good(Some(heard)) = bench.judge(&data, other, NOW) else { panic!() };
        assert_eq!((heard.author, heard.moved), (author(), vec![moved()]));
        assert_eq!(heard.host.device, source.to_bytes());
        assert_eq!(heard.host.addresses.len(), 1);
        // Replayed, also by its source, and also within another message.
        assert_eq!(bench.judge(&data, other, NOW), Judgement::Useless("not newer"));
        assert_eq!(bench.judge(&data, source, NOW + 5), Judgement::Useless("not newer"));
        let older = bench.announcement(&author(), NOW - 1);
        assert_eq!(bench.judge(&older, other, NOW), Judgement::Useless("not newer"));
        // Of somebody who is not listened to: passed on.
        let data = bench.announcement(&Ghid::of(b"another"), NOW);
        assert_eq!(bench.judge(&data, other, NOW), Judgement::Good(None));
        assert_eq!(bench.judge.shards(), 1 << announcement::shard(&author()));
        for listens in [true, false, false] {
            bench.judge.listen(author(), listens, NOW);
        }
        assert_eq!((bench.judge.shards(), bench.judge.listens()), (0, 0));
        let data = bench.announcement(&author(), NOW + 1);
        assert_eq!(bench.judge(&data, other, NOW), Judgement::Good(None));
    }

    #[test]
    fn what_anybody_can_see_to_be_wrong_counts_against_all_who_passed_it_on() {
        let mut bench = Bench::new();
        let other = bench.other;
        let data = bench.announcement(&author(), NOW);
        let oversized = vec![1; ANNOUNCEMENT_MAX + 1];
        for bad in [&data[..data.len() - 1], &[], &[9; 60], &oversized] {
            assert_eq!(bench.judge(bad, other, NOW), Judgement::Wrong("malformed"));
        }
        let delivery = Delivery { shard: None, data: &data, source: bench.source, from: other };
        let judged = bench.judge.judge(delivery, NOW, bench.at);
        assert_eq!(judged, Judgement::Wrong("not one of our topics"));
    }

    #[test]
    fn what_is_of_another_day_is_dropped() {
        let mut bench = Bench::new();
        let other = bench.other;
        for counter in [NOW - 2 * EPOCH, NOW - AGE_MAX, NOW + SKEW_MAX + 1, NOW + 2 * EPOCH, 0] {
            let data = bench.announcement(&author(), counter);
            assert_eq!(bench.judge(&data, other, NOW), Judgement::Useless("not of this time"));
        }
        // Around midnight the neighbour's tags are known, on both sides of it.
        let midnight = 20_001 * EPOCH;
        for (counter, now) in [
            (midnight - 1_000, midnight + 1_000),
            (midnight + 5_000, midnight - 1_000),
            (midnight + 6_000, midnight + 1_000),
        ] {
            let data = bench.announcement(&author(), counter);
            let judged = bench.judge(&data, other, now);
            assert!(matches!(judged, Judgement::Good(Some(_))), "{counter} {now} {judged:?}");
        }
        // And in the afternoon after it.
        let now = midnight + EPOCH / 2;
        let data = bench.announcement(&author(), now);
        assert!(matches!(bench.judge(&data, other, now), Judgement::Good(Some(_))));
        bench.judge.deafen();
        let data = bench.announcement(&author(), now + 1);
        assert_eq!(bench.judge(&data, other, now), Judgement::Good(None));
    }

    #[test]
    fn what_is_made_up_counts_against_its_source_alone() {
        let mut bench = Bench::new();
        let (source, other) = (bench.source, bench.other);
        // Under the tag of an author that the source does not know.
        let mut data = bench.announcement(&author(), NOW);
        *data.last_mut().unwrap() ^= 1;
        assert_eq!(bench.judge(&data, other, NOW), Judgement::Useless("made up"));
        assert_eq!(bench.judge(&data, source, NOW), Judgement::Wrong("made up"));
        // What another device announced, as if it were one's own.
        let theirs = seal(&author(), NOW, &other.to_bytes(), &[], &[moved()]);
        assert_eq!(bench.judge(&theirs, source, NOW), Judgement::Wrong("made up"));
        // In the wrong topic.
        let data = bench.announcement(&author(), NOW);
        let shard = Some((announcement::shard(&author()) + 1) % SHARDS);
        let delivery = Delivery { shard, data: &data, source, from: other };
        let judged = bench.judge.judge(delivery, NOW, bench.at);
        assert_eq!(judged, Judgement::Useless("in another's topic"));
        // None of it hides the real one.
        assert!(matches!(bench.judge(&data, other, NOW), Judgement::Good(Some(_))));
    }

    #[test]
    fn a_flood_is_dropped_and_the_tables_stay_small() {
        let mut bench = Bench::new();
        let (source, other) = (bench.source, bench.other);
        let mut good = 0;
        let mut wrong = 0;
        for number in 0..1_000 {
            let data = bench.announcement(&author(), NOW + number);
            match bench.judge(&data, source, NOW) {
                Judgement::Good(_) => good += 1,
                Judgement::Wrong("announced too fast") => wrong += 1,
                Judgement::Useless("passed on too fast") => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(good, SOURCE_BURST);
        assert!(wrong > 0);
        // From sources that are made up as it goes on, through one device.
        let shard = Some(announcement::shard(&author()));
        let mut good = 0;
        for number in 0..5_000_u64 {
            let source = PeerId::random();
            let data = seal(&author(), NOW + number, &source.to_bytes(), &[], &[moved()]);
            let delivery = Delivery { shard, data: &data, source, from: other };
            good +=
                u32::from(matches!(bench.judge.judge(delivery, NOW, bench.at), Judgement::Good(_)));
        }
        assert_eq!(good, FORWARDER_BURST);
        // Through many devices, about many authors.
        for number in 0..3_000_u64 {
            let source = PeerId::random();
            let data = seal(&author(), NOW + number, &source.to_bytes(), &[], &[moved()]);
            let delivery = Delivery { shard, data: &data, source, from: source };
            let _ = bench.judge.judge(delivery, NOW, bench.at);
        }
        assert!(bench.judge.sources.len() <= SOURCES_MAX);
        assert!(bench.judge.forwarders.len() <= FORWARDERS_MAX);
        let mut known = Source {
            pace: TokenBucket::new(1, 1, bench.at),
            counters: BTreeMap::new(),
            floor: 0,
            last: 0,
        };
        for number in 0..1_000_u64 {
            known.note(announcement::tag(&Ghid::of(&number.to_be_bytes()), 1), NOW + number);
        }
        assert_eq!(known.counters.len(), TAGS_PER_SOURCE);
        assert_eq!(known.floor, NOW + 999 - TAGS_PER_SOURCE as u64, "none of those comes again");
        bench.judge.expire(NOW + 2 * AGE_MAX, bench.at + Duration::from_secs(60));
        assert!(bench.judge.sources.is_empty() && bench.judge.forwarders.is_empty());
    }

    fn swarm() -> Swarm<Gossipsub> {
        let key = Keypair::generate_ed25519();
        let transport = MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let settings = swarm::Config::with_tokio_executor();
        let id = key.public().to_peer_id();
        Swarm::new(transport, try_behaviour(&key).unwrap(), id, settings)
    }

    /// Drives two swarms until one of them says what is waited for.
    async fn until(
        (a, b): (&mut Swarm<Gossipsub>, &mut Swarm<Gossipsub>),
        mut done: impl FnMut(&mut Swarm<Gossipsub>, Option<gossipsub::Event>) -> bool,
    ) {
        let run = async {
            loop {
                let event = tokio::select! {
                    _ = a.select_next_some() => None,
                    event = b.select_next_some() => Some(event),
                };
                let Some(event) = event else { continue };
                let event =
                    if let SwarmEvent::Behaviour(event) = event { Some(event) } else { None };
                if done(b, event) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), run).await.expect("it happens");
    }

    #[tokio::test]
    async fn a_neighbour_that_sends_what_is_wrong_is_not_heard_any_more() {
        let (mut bad, mut good) = (swarm(), swarm());
        let ours = gossipsub::IdentTopic::new("hgx/1/7");
        let other = gossipsub::IdentTopic::new("hgx/2/7");
        good.behaviour_mut().subscribe(&ours).unwrap();
        assert!(good.behaviour_mut().subscribe(&other).is_err(), "there are no other topics");
        bad.behaviour_mut().subscribe(&ours).unwrap();
        let address = "/memory/7707".parse::<libp2p::Multiaddr>().unwrap();
        good.listen_on(address.clone()).unwrap();
        bad.dial(address).unwrap();
        let id = *bad.local_peer_id();
        let mut known = false;
        until((&mut bad, &mut good), |_, event| {
            known |= matches!(event, Some(gossipsub::Event::Subscribed { .. }));
            known
        })
        .await;
        let mut judge = Judge::default();
        let before = good.behaviour().peer_score(&id).unwrap();
        assert!(before >= 0.0);
        for junk in [vec![1; 60], vec![2; ANNOUNCEMENT_MAX + 1]] {
            // The other side has to hear that we joined as well.
            let heard = async {
                while bad.behaviour_mut().publish(ours.hash(), junk.clone()).is_err() {
                    tokio::select! {
                        _ = bad.select_next_some() => {}
                        _ = good.select_next_some() => {}
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), heard).await.expect("it is heard");
            until((&mut bad, &mut good), |good, event| {
                let Some(gossipsub::Event::Message { propagation_source, message_id, message }) =
                    event
                else {
                    return false;
                };
                let delivery = Delivery {
                    shard: shard_of(&message.topic),
                    data: &message.data,
                    source: message.source.unwrap(),
                    from: propagation_source,
                };
                let judged = judge.judge(delivery, NOW, Instant::now());
                assert_eq!(judged, Judgement::Wrong("malformed"));
                let (id, from) = (&message_id, &propagation_source);
                good.behaviour_mut().report_message_validation_result(
                    id,
                    from,
                    gossipsub::MessageAcceptance::Reject,
                )
            })
            .await;
        }
        let score = good.behaviour().peer_score(&id).unwrap();
        assert!(score < thresholds().graylist_threshold, "{score}");
    }

    #[test]
    fn there_are_64_topics_and_the_library_takes_the_settings() {
        for shard in 0..SHARDS {
            assert_eq!(shard_of(&topic(shard)), Some(shard));
        }
        for other in ["hgx/1/64", "hgx/1/01", "hgx/1/", "hgx/2/1", "hgx/1/1x"] {
            assert_eq!(shard_of(&TopicHash::from_raw(other)), None);
        }
        assert!(try_behaviour(&Keypair::generate_ed25519()).is_ok());
    }
}
