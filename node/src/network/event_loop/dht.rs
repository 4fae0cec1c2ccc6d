//! The distributed hash table at work: who is in it, what is looked for, what is said of ourselves.
//!
//! Devices get into the routing table when they say in `identify` that they serve; so LAN peers,
//! configured peers and remotes are where it begins. Connections that lookups open carry no link.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use golix::Ghid;
use hypergolix_engine::route::{self, ENTRIES_MAX, Host, Route, Subject};
use libp2p::kad::{
    self, GetRecordOk, InboundRequest, QueryId, QueryResult, Quorum, Record, RecordKey,
};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use super::EventLoop;
use crate::network::address_book::{self, Source};
use crate::network::dht::{
    DhtConfig, DhtMode, DhtStatus, KAD_PROTOCOL, PRESENCES_MAX, Presence, has_room_for, keep, now,
};
use crate::network::limits::{ADDRESSES_PER_PEER, FINDS_MAX, PUTS_MAX};
use crate::network::{NetworkEvent, Order};

/// Pauses after a record was written: the network may still be growing around us, later it is only
/// kept alive. Shorter than `route::NEIGHBOUR_WRITTEN`, so that tomorrow's is there before midnight.
const WRITTEN: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(2 * 3600)];

/// Pauses after a record that nobody took: 5, 10, 20 s and so on up to this.
const FAILED_MAX: Duration = Duration::from_secs(600);

/// How long addresses have to stand still before they are written.
const MOVED: Duration = Duration::from_secs(2);

/// Pause between two published addresses, so that many of them are a trickle and no burst.
const SWEEP: Duration = Duration::from_millis(500);

/// Answers after which a lookup ends although more could come: one may be old or left out on purpose.
const ANSWERS: usize = 4;

/// How long after the first answer others are waited for: devices that are gone take seconds.
const GRACE: Duration = Duration::from_millis(200);

/// Addresses of one name that are said.
const NAME_MAX: usize = 2;

/// Lookups that wait for their turn.
const WAITING_MAX: usize = 256;

/// One subject that is to be found here.
struct Own {
    presence: Presence,
    next: Instant,
    /// Times that it was written without a failure or a move between them.
    written: usize,
    failures: u32,
    published: bool,
}

enum Query {
    /// A record of the subject is being written.
    Put(Subject),
    /// The record of an epoch is looked for.
    Get { find: u64, epoch: u32 },
}

/// One subject that is looked for.
struct Find {
    subject: Subject,
    routes: BTreeMap<Vec<u8>, Route>,
    /// Queries under way.
    queries: BTreeSet<u32>,
    answers: usize,
    /// When it ends because there was an answer.
    ends: Option<Instant>,
    /// Whom to tell; otherwise the devices are dialled and the node is told.
    answer: Option<oneshot::Sender<Vec<Route>>>,
}

impl Find {
    /// Takes note of the routes of one record. Returns where nobody was dialled yet.
    ///
    /// Records of published addresses are signed by nobody, and each of several answers may name
    /// others: beyond [`ENTRIES_MAX`] devices nobody is dialled for it.
    fn note(&mut self, routes: Vec<Route>, local: &[u8]) -> Vec<Host> {
        let mut fresh = Vec::new();
        for route in routes.into_iter().filter(|route| route.host.device != local) {
            let before = self.routes.get(&route.host.device);
            let news = match before {
                Some(before) => before.stamp < route.stamp,
                None => self.routes.len() < ENTRIES_MAX,
            };
            if news {
                fresh.push(route.host.clone());
                self.routes.insert(route.host.device.clone(), route);
            }
        }
        fresh
    }
}

/// What was prepared away from this task.
pub(super) enum Sealed {
    /// Records of ourselves, ready to be written.
    Records(Subject, Vec<(RecordKey, Vec<u8>)>),
    /// What we say of ourselves to whom we are linked.
    Here(Route),
}

/// The state of the DHT beside the library's.
pub(in crate::network) struct Dht {
    mode: DhtMode,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) sealing: JoinSet<Sealed>,
    own: Vec<Own>,
    queries: HashMap<QueryId, Query>,
    finds: HashMap<u64, Find>,
    waiting: VecDeque<(Subject, Option<oneshot::Sender<Vec<Route>>>)>,
    next_find: u64,
    /// Devices in the routing table.
    peers: usize,
    /// Where we were when our records were written last.
    here: Vec<Multiaddr>,
    /// And which persisters we used.
    persisters: Vec<Host>,
    port_file: Option<PathBuf>,
    port: u16,
    swept: Option<Instant>,
    /// Where we reached others ourselves.
    pub(super) dialled: HashMap<ConnectionId, Multiaddr>,
    keeping: Option<tokio::task::JoinHandle<()>>,
}

impl Dht {
    pub(in crate::network) fn new(config: DhtConfig, orders: mpsc::Receiver<Order>) -> Self {
        let mut new = Self {
            mode: config.mode,
            orders,
            sealing: JoinSet::new(),
            own: Vec::new(),
            queries: HashMap::new(),
            finds: HashMap::new(),
            waiting: VecDeque::new(),
            next_find: 0,
            peers: 0,
            here: Vec::new(),
            persisters: Vec::new(),
            port_file: config.port_file,
            port: 0,
            swept: None,
            dialled: HashMap::new(),
            keeping: None,
        };
        new.present(config.presences, Instant::now());
        new
    }

    fn present(&mut self, presences: Vec<Presence>, now: Instant) {
        let mut before: BTreeMap<Subject, Own> =
            self.own.drain(..).map(|own| (own.presence.subject, own)).collect();
        for presence in presences.into_iter().take(PRESENCES_MAX) {
            let kept = before.remove(&presence.subject);
            self.own.push(match kept {
                Some(own) => Own { presence, ..own },
                None => Own { presence, next: now, written: 0, failures: 0, published: false },
            });
        }
        // In the order of their places, so that neighbours are written one after the other.
        let epoch = route::epoch_of(crate::network::dht::now());
        self.own.sort_by_cached_key(|own| match own.presence.subject {
            Subject::Published(_) => Some(own.presence.subject.key(epoch)),
            Subject::Identity(_) | Subject::Root(_) => None,
        });
    }

    /// Other addresses are published from now on.
    fn publish(&mut self, addresses: Vec<Ghid>, now: Instant) {
        let published = |presence: &Presence| matches!(presence.subject, Subject::Published(_));
        let own = self.own.iter().map(|own| own.presence.clone());
        let mut presences: Vec<Presence> = own.filter(|presence| !published(presence)).collect();
        let subjects = addresses.into_iter().map(Subject::Published);
        presences.extend(subjects.map(|subject| Presence { subject, keys: None }));
        self.present(presences, now);
    }

    fn puts(&self) -> usize {
        let queries = self.queries.values().filter(|query| matches!(query, Query::Put(_)));
        queries.count() + self.sealing.len()
    }

    /// Whether something could be written now, if it was due.
    fn can_write(&self) -> bool {
        self.mode != DhtMode::Off
            && self.peers > 0
            && !self.here.is_empty()
            && self.puts() < PUTS_MAX
    }

    /// When that is: the sweep of published addresses goes slowly.
    fn due(&self, own: &Own) -> Instant {
        match (own.presence.subject, self.swept) {
            (Subject::Published(_), Some(swept)) => own.next.max(swept + SWEEP),
            _ => own.next,
        }
    }
}

/// Puts the addresses of a host's name into its place: readers dial no names that others give them.
/// Blocks as long as the system asks for a name.
fn resolve(host: &mut Host) {
    let mut addresses = Vec::new();
    for bytes in std::mem::take(&mut host.addresses) {
        let Ok(address) = Multiaddr::try_from(bytes.clone()) else { continue };
        let Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) =
            address.iter().next()
        else {
            addresses.push(bytes);
            continue;
        };
        // The port says nothing about where a name leads.
        for found in (name.as_ref(), 0).to_socket_addrs().into_iter().flatten().take(NAME_MAX) {
            let host = Multiaddr::from(found.ip());
            addresses
                .push(host.iter().chain(address.iter().skip(1)).collect::<Multiaddr>().to_vec());
        }
    }
    addresses.truncate(route::ADDRESSES_MAX);
    host.addresses = addresses;
}

impl EventLoop {
    pub(super) fn next_dht(&self) -> Option<Instant> {
        let dht = &self.dht;
        let writes = dht.own.iter().filter(|_| dht.can_write()).map(|own| dht.due(own));
        writes.chain(dht.finds.values().filter_map(|find| find.ends)).min()
    }

    pub(super) fn tick_dht(&mut self, now: Instant) {
        self.tick_finds(now);
        while self.dht.can_write() {
            let dht = &self.dht;
            let due = dht.own.iter().position(|own| dht.due(own) <= now);
            let Some(index) = due else { return };
            self.write(index, now);
        }
    }

    /// What we say of ourselves.
    fn route(&self) -> Route {
        Route {
            host: Host {
                device: self.local.to_bytes(),
                addresses: self.dht.here.iter().map(Multiaddr::to_vec).collect(),
            },
            persisters: self.dht.persisters.clone(),
            stamp: crate::network::dht::now(),
        }
    }

    /// Seals what is to be said of ourselves, away from this task: in suite 1 a signature takes 15 ms.
    fn write(&mut self, index: usize, now: Instant) {
        let route = self.route();
        let own = &mut self.dht.own[index];
        let pause = WRITTEN[own.written.min(WRITTEN.len() - 1)];
        // A little earlier or later each time, so that devices started together drift apart.
        let drift = f64::from(self.local.to_bytes().last().copied().unwrap_or_default()) / 1024.0;
        own.next = now + pause.mul_f64(1.0 - drift);
        own.written += 1;
        let Presence { subject, keys } = own.presence.clone();
        if matches!(subject, Subject::Published(_)) {
            self.dht.swept = Some(now);
        }
        self.dht.sealing.spawn_blocking(move || {
            let mut route = route;
            route.persisters.iter_mut().for_each(resolve);
            let seal = |epoch| {
                let mut nonce = [0; 12];
                getrandom::fill(&mut nonce).ok()?;
                let value = subject.seal(epoch, &route, keys.as_ref(), nonce);
                Some((RecordKey::new(&subject.key(epoch)), value))
            };
            let epochs = route::epochs_written(route.stamp);
            Sealed::Records(subject, epochs.into_iter().filter_map(seal).collect())
        });
    }

    pub(super) fn on_sealed(&mut self, sealed: Result<Sealed, JoinError>) {
        let (subject, records) = match sealed {
            Ok(Sealed::Records(subject, records)) => (subject, records),
            Ok(Sealed::Here(route)) => return self.outlet.hint(NetworkEvent::Here { route }),
            Err(_) => return,
        };
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        for (key, value) in records {
            let record = Record { key, value, publisher: None, expires: None };
            match kad.put_record(record, Quorum::One) {
                Ok(query) => drop(self.dht.queries.insert(query, Query::Put(subject))),
                Err(error) => tracing::debug!(%error, "a record of ours is not written"),
            }
        }
    }

    /// Persisters that whoever looks for us may ask as well.
    fn persisters(&self) -> Vec<Host> {
        let known = self.remotes.iter().filter_map(|remote| Some((remote.peer?, remote)));
        known
            .take(route::PERSISTERS_MAX)
            .map(|(peer, remote)| Host {
                device: peer.to_bytes(),
                addresses: remote.addresses().map(Multiaddr::to_vec).collect(),
            })
            .collect()
    }

    /// Where we listen: what others see of us first, loopback only if there is nothing else.
    pub(super) fn whereabouts(&self) -> Vec<Multiaddr> {
        let external = self.swarm.external_addresses();
        let all = external.chain(self.listening.addresses.keys());
        let mut here: Vec<Multiaddr> = Vec::new();
        for address in all.filter_map(address_book::dialable) {
            if !here.contains(&address) {
                here.push(address);
            }
        }
        let outside =
            |address: &Multiaddr| address_book::ip_of(address).is_none_or(|ip| !ip.is_loopback());
        if here.iter().any(outside) {
            here.retain(outside);
        }
        here.truncate(ADDRESSES_PER_PEER);
        here
    }

    /// Our addresses or remotes may have changed.
    pub(super) fn dht_moved(&mut self, now: Instant) {
        if self.dht.mode == DhtMode::Off {
            return;
        }
        self.keep_port();
        let (here, persisters) = (self.whereabouts(), self.persisters());
        if here == self.dht.here && persisters == self.dht.persisters {
            return;
        }
        (self.dht.here, self.dht.persisters) = (here, persisters);
        let mut route = self.route();
        self.dht.sealing.spawn_blocking(move || {
            route.persisters.iter_mut().for_each(resolve);
            Sealed::Here(route)
        });
        for own in &mut self.dht.own {
            own.written = 0;
            own.next = now + MOVED;
        }
    }

    /// Others remember where we listen: it is to be there after a restart.
    fn keep_port(&mut self) {
        let (port, _) = self.listening.ports();
        let Some(path) = self.dht.port_file.clone().filter(|_| ![0, self.dht.port].contains(&port))
        else {
            return;
        };
        self.dht.port = port;
        tokio::task::spawn_blocking(move || {
            if let Err(error) = keep(&path, format!("{port}\n").as_bytes()) {
                tracing::warn!(%error, "the port cannot be written down");
            }
        });
    }

    pub(super) fn on_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Present(presences) => self.dht.present(presences, now),
            Order::Publish(addresses) => {
                self.dht.publish(addresses, now);
                self.publish();
            }
            Order::Seek(subject) => self.look_for(subject, None),
            Order::Find(subject, answer) => self.look_for(subject, Some(answer)),
            Order::Visit(host) => self.visit(&host, now),
            Order::Leave(peer) => {
                let mut configured = self.configured.iter().map(|configured| configured.peer);
                let wanted = configured.any(|other| other == Some(peer))
                    || self.book.is_configured(&peer)
                    || self.is_remote(&peer);
                if !wanted {
                    self.book.forget(&peer);
                    self.disconnect(peer, now);
                }
            }
        }
    }

    /// Dials a device that was found. Whoever writes a record names addresses: no private ones of
    /// networks that are not ours.
    fn visit(&mut self, host: &Host, now: Instant) {
        let Ok(peer) = PeerId::from_bytes(&host.device) else { return };
        let addresses = host.addresses.iter().take(ADDRESSES_PER_PEER);
        for address in addresses.filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok()) {
            if self.nat.filter.passes(&address) {
                self.learn(peer, &address, Source::Found, now);
            } else {
                tracing::debug!(%peer, %address, "a record names a private address");
            }
        }
    }

    fn look_for(&mut self, subject: Subject, answer: Option<oneshot::Sender<Vec<Route>>>) {
        let known = self.dht.finds.values().any(|find| find.subject == subject)
            || self.dht.waiting.iter().any(|(other, _)| *other == subject);
        if answer.is_none() && known {
            return;
        }
        if self.dht.waiting.len() < WAITING_MAX {
            self.dht.waiting.push_back((subject, answer));
        }
        self.begin_finds();
    }

    fn begin_finds(&mut self) {
        while self.dht.finds.len() < FINDS_MAX
            && let Some((subject, answer)) = self.dht.waiting.pop_front()
        {
            let number = self.dht.next_find;
            self.dht.next_find += 1;
            let mut queries = BTreeSet::new();
            if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                for epoch in route::epochs_asked(now()) {
                    let query = kad.get_record(RecordKey::new(&subject.key(epoch)));
                    self.dht.queries.insert(query, Query::Get { find: number, epoch });
                    queries.insert(epoch);
                }
            }
            let find =
                Find { subject, routes: BTreeMap::new(), queries, answers: 0, ends: None, answer };
            self.dht.finds.insert(number, find);
            self.end_find_if_done(number);
        }
    }

    /// A device answered with a record.
    fn found(&mut self, query: QueryId, record: &[u8], at: Instant) {
        let Some(Query::Get { find: number, epoch }) = self.dht.queries.get(&query) else { return };
        let Some(find) = self.dht.finds.get_mut(number) else { return };
        let routes = find.subject.open(*epoch, record, now());
        if routes.is_empty() {
            return;
        }
        find.answers += 1;
        let ends = if find.answers >= ANSWERS { at } else { at + GRACE };
        find.ends = Some(find.ends.map_or(ends, |before| before.min(ends)));
        let fresh = find.note(routes, &self.local.to_bytes());
        if find.answer.is_none() {
            for host in fresh {
                self.visit(&host, at);
            }
        }
    }

    /// Ends lookups that have been answered.
    fn tick_finds(&mut self, now: Instant) {
        let is_due = |find: &mut Find| find.ends.take_if(|ends| *ends <= now).is_some();
        let finds = self.dht.finds.iter_mut();
        let due: Vec<u64> =
            finds.filter_map(|(number, find)| is_due(find).then_some(*number)).collect();
        if due.is_empty() {
            return;
        }
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        for (id, query) in &self.dht.queries {
            if matches!(query, Query::Get { find, .. } if due.contains(find))
                && let Some(mut query) = kad.query_mut(id)
            {
                query.finish();
            }
        }
    }

    fn get_ended(&mut self, query: QueryId) {
        if let Some(Query::Get { find, epoch }) = self.dht.queries.remove(&query) {
            if let Some(found) = self.dht.finds.get_mut(&find) {
                found.queries.remove(&epoch);
            }
            self.end_find_if_done(find);
            self.begin_finds();
        }
    }

    fn end_find_if_done(&mut self, number: u64) {
        if self.dht.finds.get(&number).is_none_or(|find| !find.queries.is_empty()) {
            return;
        }
        let Some(find) = self.dht.finds.remove(&number) else { return };
        let routes: Vec<Route> = find.routes.into_values().collect();
        tracing::debug!(subject = %find.subject.address().short(), found = routes.len(), "looked up");
        match find.answer {
            // Whoever asked may be gone.
            Some(answer) => drop(answer.send(routes)),
            None => self.outlet.hint(NetworkEvent::Found { subject: find.subject, routes }),
        }
    }

    fn put_ended(&mut self, query: QueryId, taken: bool, now: Instant) {
        let Some(Query::Put(subject)) = self.dht.queries.remove(&query) else { return };
        let own = self.dht.own.iter_mut().find(|own| own.presence.subject == subject);
        let Some(own) = own else { return };
        if taken {
            own.failures = 0;
            own.published = true;
            return;
        }
        own.written = 0;
        own.failures = own.failures.saturating_add(1);
        let pause = Duration::from_secs(5 << (own.failures - 1).min(7)).min(FAILED_MAX);
        own.next = now + pause;
    }

    pub(super) fn on_kad(&mut self, event: kad::Event, now: Instant) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, connection, record: Some(record) },
            } => self.take_record(&record, source, connection, now),
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                match result {
                    QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                        self.found(id, &found.record.value, now);
                    }
                    QueryResult::PutRecord(result) => self.put_ended(id, result.is_ok(), now),
                    QueryResult::Bootstrap(_) => self.count_peers(),
                    _ => {}
                }
                if step.last {
                    self.get_ended(id);
                }
            }
            kad::Event::RoutingUpdated { .. } => {
                let before = self.dht.peers;
                self.count_peers();
                if before == 0 && self.dht.peers > 0 {
                    self.dht_moved(now);
                }
            }
            // The rest is about peers that are not in the table, and the library's own business.
            _ => {}
        }
    }

    fn count_peers(&mut self) {
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
            self.dht.peers = kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        }
    }

    fn take_record(
        &mut self,
        record: &Record,
        source: PeerId,
        connection: ConnectionId,
        at: Instant,
    ) {
        let from = self.ip_of_connection(&source, connection);
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        let records = kad.store_mut();
        if !records.allows(source, from, at) {
            return;
        }
        if let Err(refusal) = records.admit(record, source, from, now()) {
            tracing::debug!(%source, %refusal, "a record is refused");
        }
    }

    fn ip_of_connection(&self, peer: &PeerId, connection: ConnectionId) -> Option<IpAddr> {
        let linkless = self.linkless.get(&connection).map(|(_, address)| address);
        let linked = || {
            self.peers.get(peer)?.connections.get(&connection).map(|connection| &connection.address)
        };
        address_book::ip_of(linkless.or_else(linked)?)
    }

    /// A device said what it speaks and where it listens.
    pub(super) fn dht_meets(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        protocols: &[StreamProtocol],
        listens: &[Multiaddr],
    ) {
        let dialled = self.dht.dialled.get(&connection).and_then(address_book::dialable);
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        if !protocols.contains(&KAD_PROTOCOL) {
            // It only asks, or no longer serves.
            kad.remove_peer(&id);
            self.count_peers();
            return;
        }
        let mut addresses: BTreeSet<Multiaddr> =
            listens.iter().filter_map(address_book::dialable).collect();
        addresses.extend(dialled);
        // A host that is gone refuses TCP at once; QUIC waits for seconds.
        if addresses.iter().any(address_book::is_tcp) {
            addresses.retain(address_book::is_tcp);
        }
        for address in addresses {
            // Many devices of one network may be one person's.
            let has_room = kad.kbucket(id).is_none_or(|bucket| {
                let others = bucket.iter().filter(|entry| *entry.node.key.preimage() != id);
                let others: Vec<Vec<Multiaddr>> =
                    others.map(|entry| entry.node.value.iter().cloned().collect()).collect();
                has_room_for(&address, others.iter())
            });
            if has_room {
                kad.add_address(&id, address);
            }
        }
    }

    // Records over a restart

    /// Writes the records of others into their file, if they changed.
    pub(super) fn keep_records(&mut self) {
        if self.dht.keeping.as_ref().is_some_and(|keeping| !keeping.is_finished()) {
            return;
        }
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        kad.store_mut().expire(now());
        if let Some((path, bytes)) = kad.store_mut().take_changed() {
            self.dht.keeping = Some(tokio::task::spawn_blocking(move || {
                if let Err(error) = keep(&path, &bytes) {
                    tracing::warn!(%error, "the records of the DHT cannot be written");
                }
            }));
        }
    }

    /// The same at the end.
    pub(super) async fn keep_records_now(&mut self) {
        if let Some(keeping) = self.dht.keeping.take() {
            // A defect in there was reported where it happened.
            let _ = keeping.await;
        }
        self.keep_records();
        if let Some(keeping) = self.dht.keeping.take() {
            let _ = keeping.await;
        }
    }

    pub(super) fn dht_status(&mut self) -> Option<DhtStatus> {
        let kad = self.swarm.behaviour_mut().kad.as_mut()?;
        let serves = kad.mode() == kad::Mode::Server;
        let store = kad.store_mut();
        let (records, bytes) = store.kept();
        Some(DhtStatus {
            mode: self.dht.mode,
            serves,
            peers: self.dht.peers,
            records,
            bytes,
            refused: store.refused(),
            checked: store.checked(),
            presences: self.dht.own.len(),
            published: self.dht.own.iter().filter(|own| own.published).count(),
            finds: self.dht.finds.len() + self.dht.waiting.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_name_more_and_more_devices_are_bounded() {
        let mut find = Find {
            subject: Subject::Published(Ghid::of(b"address")),
            routes: BTreeMap::new(),
            queries: BTreeSet::new(),
            answers: 0,
            ends: None,
            answer: None,
        };
        let route = |device: u8, stamp: u64| Route {
            host: Host { device: vec![device], addresses: Vec::new() },
            persisters: Vec::new(),
            stamp,
        };
        let us = 200;
        assert!(find.note(vec![route(us, 1)], &[us]).is_empty());
        let mut dialled = 0;
        for answer in 0..4 {
            let record = (0..8).map(|entry| route(answer * 8 + entry, 1)).collect();
            dialled += find.note(record, &[us]).len();
        }
        assert_eq!((dialled, find.routes.len()), (ENTRIES_MAX, ENTRIES_MAX));
        assert_eq!(find.note(vec![route(0, 2), route(1, 1)], &[us]).len(), 1, "it moved");
    }

    #[test]
    fn names_of_servers_give_way_to_addresses() {
        let address = |text: &str| text.parse::<Multiaddr>().expect("an address").to_vec();
        let plain = address("/ip4/8.8.8.8/tcp/7770");
        let mut host = Host {
            device: vec![1],
            addresses: vec![
                plain.clone(),
                address("/dns/localhost/tcp/443/tls/ws"),
                address("/dns/there.is.none.invalid/tcp/1"),
                vec![0xff; 4],
            ],
        };
        resolve(&mut host);
        assert_eq!(host.addresses[0], plain);
        assert!(host.addresses.len() > 1 && host.addresses.len() <= 1 + NAME_MAX);
        for bytes in &host.addresses[1..] {
            let found = Multiaddr::try_from(bytes.clone()).expect("an address").to_string();
            assert!(found.ends_with("/tcp/443/tls/ws"), "{found}");
            assert!(found.starts_with("/ip4/127.0.0.1/") || found.starts_with("/ip6/::1/"));
        }
    }
}
