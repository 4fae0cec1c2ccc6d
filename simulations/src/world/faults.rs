//! What breaks: processes, links, and the network between groups of nodes.

use super::{Event, World};
use crate::network::pair;
use crate::node::CrashPoint;

impl World<'_> {
    pub(super) fn fault_comes_again(&mut self, event: Event) {
        let faults = &self.scenario.faults;
        let every = match event {
            Event::CrashDue => faults.crash_every,
            Event::BreakDue => faults.break_every,
            Event::ReplaceDue => faults.replace_every,
            Event::WipeDue => faults.wipe_every,
            _ => faults.part_every,
        };
        if every > 0 {
            let wait = self.chance.faults.wait(every * 1_000);
            self.after(wait, event);
        }
    }

    pub(super) fn fault(&mut self, event: &Event) {
        match event {
            Event::CrashDue => {
                let number = self.chance.faults.below(self.nodes.len() as u64) as usize;
                let point = match self.chance.faults.below(4) {
                    0 => CrashPoint::Now,
                    1 => CrashPoint::BeforeCommit,
                    2 => CrashPoint::AfterCommit,
                    _ => CrashPoint::InEffects,
                };
                self.trace(|| format!("fault: n{number} will die {point:?}"));
                if point == CrashPoint::Now {
                    let down = self.chance.faults.between(self.scenario.faults.down) * 1_000;
                    self.crash(number, down);
                } else if self.nodes[number].is_up() {
                    self.nodes[number].crash_at = Some(point);
                }
            }
            Event::BreakDue => {
                let living = self.network.living();
                if let Some(key) = self.chance.faults.pick(&living).copied() {
                    self.break_link(key);
                }
            }
            Event::ReplaceDue => {
                let living = self.network.living();
                if let Some(key) = self.chance.faults.pick(&living).copied()
                    && let Some(link) = self.network.get_mut(key)
                {
                    let nodes = pair(link.ends[0].node, link.ends[1].node);
                    if self.network.reach(nodes) {
                        self.open_link(nodes);
                        self.break_link(key);
                    }
                }
            }
            Event::WipeDue => self.wipe(),
            _ => self.part(),
        }
    }

    /// A server loses everything except its device key.
    fn wipe(&mut self) {
        let servers = self.nodes.len() - self.users;
        if servers == 0 {
            return;
        }
        let number = self.users + self.chance.faults.below(servers as u64) as usize;
        self.trace(|| format!("fault: n{number} loses everything"));
        let down = self.chance.faults.between(self.scenario.faults.down) * 1_000;
        self.crash(number, down);
        self.nodes[number].disk = crate::disk::Disk::default();
    }

    fn part(&mut self) {
        if self.network.is_parted() || self.nodes.len() < 2 {
            return;
        }
        let groups: Vec<bool> = if self.scenario.faults.shifts {
            let there = self.chance.faults.below(self.users as u64) as usize;
            (0..self.nodes.len()).map(|node| node == there || node >= self.users).collect()
        } else {
            self.nodes.iter().map(|_| self.chance.faults.happens(0.5)).collect()
        };
        self.trace(|| format!("fault: partition {groups:?}"));
        self.stats.partitions += 1;
        self.network.part(groups);
        for key in self.network.living() {
            let Some(link) = self.network.get_mut(key) else {
                continue;
            };
            let nodes = pair(link.ends[0].node, link.ends[1].node);
            if self.network.reach(nodes) {
                continue;
            }
            if self.chance.faults.happens(self.scenario.faults.black_hole) {
                self.network.stall(key);
            } else {
                self.break_link(key);
            }
        }
        let lasts = self.chance.faults.between(self.scenario.faults.parted) * 1_000;
        self.after(lasts, Event::PartEnds);
    }

    pub(crate) fn join(&mut self) {
        if !self.network.is_parted() {
            return;
        }
        self.trace(|| "the partition is over".into());
        self.network.part(Vec::new());
        for key in self.network.living() {
            for (to, bytes) in self.network.resume(key) {
                self.send(key, to, bytes);
            }
        }
        self.dial_all();
    }
}
