//! `MemoryView`: a persister's state in memory, the reference for tests and simulations.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::BuildHasherDefault;
use std::ops::Bound;
use std::sync::Arc;

use crate::Ghid;
use crate::object::Verified;

use super::frames::Head;
use super::plan::{Change, Pending, Plan};
use super::rejection::Rejection;
use super::view::{Mark, Stored, View};
use super::{admit, collect_more};

/// Rows that are looked up one at a time: as many as there are, a look-up costs the same.
///
/// The hasher has no random keys, because Golix asks nobody for chance: whoever chooses addresses could
/// make look-ups slow. What holds the rows of strangers is a store, not this.
#[expect(clippy::disallowed_types, reason = "its order is not random, as the hasher has no keys")]
type Rows<V> = std::collections::HashMap<Ghid, V, BuildHasherDefault<DefaultHasher>>;

/// Rows of two addresses, by the first one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Pairs(Rows<BTreeSet<Ghid>>);

impl Pairs {
    fn insert(&mut self, first: Ghid, second: Ghid) {
        self.0.entry(first).or_default().insert(second);
    }

    fn remove(&mut self, first: &Ghid, second: &Ghid) {
        if let Some(seconds) = self.0.get_mut(first) {
            seconds.remove(second);
            if seconds.is_empty() {
                self.0.remove(first);
            }
        }
    }

    /// The second halves of the rows (`first`, x) with x > `after`.
    fn seconds(&self, first: &Ghid, after: Option<&Ghid>, limit: usize) -> Vec<Ghid> {
        let Some(seconds) = self.0.get(first) else {
            return Vec::new();
        };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        seconds.range((start, Bound::Unbounded)).take(limit).copied().collect()
    }

    fn iter(&self) -> impl Iterator<Item = (Ghid, Ghid)> + '_ {
        self.0.iter().flat_map(|(first, seconds)| seconds.iter().map(|second| (*first, *second)))
    }
}

/// The rows of a persister in maps: what a store keeps, key for key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryView {
    objects: Rows<Arc<[u8]>>,
    heads: Rows<Head>,
    holders: Pairs,
    debindings: Pairs,
    high_water: Rows<Mark>,
    requests: Pairs,
    pending: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryView {
    /// An empty persister.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the changes of a plan, in order.
    pub fn apply(&mut self, plan: &Plan) {
        for change in &plan.changes {
            self.change(change);
        }
    }

    /// Admits an object and applies the plan.
    ///
    /// # Errors
    /// The rule that said no; nothing changed then.
    pub fn publish(&mut self, object: &Verified) -> Result<Plan, Rejection> {
        let plan = match admit(object, self) {
            Ok(verdict) => verdict?,
            Err(never) => match never {},
        };
        self.apply(&plan);
        Ok(plan)
    }

    /// Does the work that earlier plans left, in batches of `limit`, until there is none; returns
    /// the plans.
    pub fn collect_all(&mut self, limit: usize) -> Vec<Plan> {
        let mut plans = Vec::new();
        while self.pending.keys().next().is_some_and(|key| key.first() < Some(&Pending::UNPROVEN)) {
            let plan = match collect_more(self, limit) {
                Ok(plan) => plan,
                Err(never) => match never {},
            };
            self.apply(&plan);
            plans.push(plan);
        }
        plans
    }

    /// The packed object under an address; for a dynamic address its current frame.
    #[must_use]
    pub fn get(&self, ghid: &Ghid) -> Option<&Arc<[u8]>> {
        let own = self.heads.get(ghid).map_or(ghid, |head| &head.frame);
        self.objects.get(own)
    }

    /// Whether anything is stored under an address, own or dynamic.
    #[must_use]
    pub fn contains(&self, ghid: &Ghid) -> bool {
        self.get(ghid).is_some()
    }

    /// Every stored object by its own address, in no order.
    pub fn objects(&self) -> impl Iterator<Item = (&Ghid, &Arc<[u8]>)> {
        self.objects.iter()
    }

    /// Every head by its dynamic address, in no order.
    pub fn heads(&self) -> impl Iterator<Item = (&Ghid, &Head)> {
        self.heads.iter()
    }

    /// Every (target, holder) row, in no order.
    pub fn holds(&self) -> impl Iterator<Item = (Ghid, Ghid)> + '_ {
        self.holders.iter()
    }

    /// Every (target, debinding) row, in no order.
    pub fn debound(&self) -> impl Iterator<Item = (Ghid, Ghid)> + '_ {
        self.debindings.iter()
    }

    /// Every (recipient, request) row, in no order.
    pub fn waiting(&self) -> impl Iterator<Item = (Ghid, Ghid)> + '_ {
        self.requests.iter()
    }

    /// Every pending row.
    pub fn pending_rows(&self) -> impl Iterator<Item = Pending> + '_ {
        self.pending.iter().filter_map(|(key, value)| Pending::decode(key, value))
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::PutObject { ghid, bytes } => {
                self.objects.insert(*ghid, Arc::clone(bytes));
            }
            Change::DropObject { ghid } => {
                self.objects.remove(ghid);
            }
            Change::PutHead { dynamic, head } => {
                self.heads.insert(*dynamic, head.clone());
            }
            Change::DropHead { dynamic } => {
                self.heads.remove(dynamic);
            }
            Change::Hold { target, holder } => {
                self.holders.insert(*target, *holder);
            }
            Change::Release { target, holder } => {
                self.holders.remove(target, holder);
            }
            Change::PutDebinding { target, debinding } => {
                self.debindings.insert(*target, *debinding);
            }
            Change::DropDebinding { target, debinding } => {
                self.debindings.remove(target, debinding);
            }
            Change::HighWater { dynamic, mark } => {
                self.high_water.insert(*dynamic, *mark);
            }
            Change::PutRequest { recipient, request } => {
                self.requests.insert(*recipient, *request);
            }
            Change::DropRequest { recipient, request } => {
                self.requests.remove(recipient, request);
            }
            Change::PutPending(pending) => {
                self.pending.insert(pending.key(), pending.value());
            }
            Change::DropPending(pending) => {
                self.pending.remove(&pending.key());
            }
        }
    }
}

impl View for MemoryView {
    type Error = Infallible;

    fn object(&self, ghid: &Ghid) -> Result<Option<Stored>, Infallible> {
        Ok(self.objects.get(ghid).and_then(|bytes| Stored::read(bytes)))
    }

    fn head(&self, dynamic: &Ghid) -> Result<Option<Head>, Infallible> {
        Ok(self.heads.get(dynamic).cloned())
    }

    fn holders(
        &self,
        target: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, Infallible> {
        Ok(self.holders.seconds(target, after, limit))
    }

    fn debindings(
        &self,
        target: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, Infallible> {
        Ok(self.debindings.seconds(target, after, limit))
    }

    fn high_water(&self, dynamic: &Ghid) -> Result<Option<Mark>, Infallible> {
        Ok(self.high_water.get(dynamic).copied())
    }

    fn requests(
        &self,
        recipient: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, Infallible> {
        Ok(self.requests.seconds(recipient, after, limit))
    }

    fn unproven(&self, debinder: &Ghid, limit: usize) -> Result<usize, Infallible> {
        let mut prefix = vec![Pending::UNPROVEN];
        prefix.extend_from_slice(debinder.as_bytes());
        let rows = self.pending.range(prefix.clone()..);
        Ok(rows.take_while(|(key, _)| key.starts_with(&prefix)).take(limit).count())
    }

    fn pending(&self, limit: usize) -> Result<Vec<Pending>, Infallible> {
        let work = self.pending.range(..vec![Pending::UNPROVEN]);
        Ok(work.filter_map(|(key, value)| Pending::decode(key, value)).take(limit).collect())
    }
}
