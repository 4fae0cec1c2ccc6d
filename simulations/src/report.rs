//! What a run counts, and the table at its end.

use std::fmt;

use crate::Micros;

/// What happened in one seed, or in many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Seeds.
    pub seeds: u64,
    /// Events of the world: inputs, arrivals, timers, acts.
    pub events: u64,
    /// Requests of applications.
    pub requests: u64,
    /// Pushes among them.
    pub pushes: u64,
    /// Shares among them.
    pub shares: u64,
    /// Commits that wrote something.
    pub commits: u64,
    /// Messages between nodes.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Processes killed.
    pub crashes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Links that broke, partitions and crashes included.
    pub breaks: u64,
    /// From the moment of healing to the last change, summed over the seeds.
    pub agreed_in: Micros,
    /// The longest of these, and its seed.
    pub agreed_in_max: (Micros, u64),
}

impl Stats {
    /// Adds another seed's, or many seeds', figures.
    pub fn add(&mut self, other: &Stats) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.requests += other.requests;
        self.pushes += other.pushes;
        self.shares += other.shares;
        self.commits += other.commits;
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.crashes += other.crashes;
        self.partitions += other.partitions;
        self.breaks += other.breaks;
        self.agreed_in += other.agreed_in;
        self.agreed_in_max = self.agreed_in_max.max(other.agreed_in_max);
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds.max(1);
        writeln!(f, "{:<22} {:>14} {:>12}", "", "total", "a seed")?;
        for (name, figure) in [
            ("seeds", self.seeds),
            ("events", self.events),
            ("requests", self.requests),
            ("  pushes", self.pushes),
            ("  shares", self.shares),
            ("commits", self.commits),
            ("messages", self.messages),
            ("bytes", self.bytes),
            ("crashes", self.crashes),
            ("partitions", self.partitions),
            ("broken links", self.breaks),
        ] {
            let tenths = figure * 10 / seeds;
            writeln!(f, "{name:<22} {figure:>14} {:>10}.{}", tenths / 10, tenths % 10)?;
        }
        writeln!(f, "{:<22} {:>14}", "time to agree, mean", Ms(self.agreed_in / seeds))?;
        let (longest, seed) = self.agreed_in_max;
        write!(f, "{:<22} {:>14}   (seed {seed})", "time to agree, max", Ms(longest))
    }
}

/// Virtual time for people.
#[derive(Debug, Clone, Copy)]
pub struct Ms(pub Micros);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03} s", self.0 / 1_000_000, self.0 / 1_000 % 1_000))
    }
}
