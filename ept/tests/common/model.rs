//! What page tables mean, said in the plainest way: a map from pages to frames; and, for ranges too large to list,
//! runs of pages.

use std::collections::BTreeMap;

pub const PAGE: u64 = 4096;

/// Where one page goes, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    pub hpa: u64,
    pub permissions: u8,
    pub memory: u8,
}

impl Target {
    fn plus(self, bytes: u64) -> Self {
        Self { hpa: self.hpa + bytes, ..self }
    }
}

/// Bytes from `start` to before `end` that go to `target` and on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub start: u64,
    pub end: u64,
    pub target: Target,
}

/// Joins neighbours that continue each other.
pub fn coalesce(runs: impl IntoIterator<Item = Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.end == run.start && last.target.plus(last.end - last.start) == run.target => {
                last.end = run.end;
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// Ranges are whole pages below 2^48, `end` exclusive; `map` is only called where nothing is mapped.
pub trait Model: Clone {
    fn first_mapped(&self, start: u64, end: u64) -> Option<u64>;
    fn map(&mut self, start: u64, end: u64, target: Target);
    fn unmap(&mut self, start: u64, end: u64);
    fn protect(&mut self, start: u64, end: u64, permissions: u8);
    fn runs(&self) -> Vec<Run>;
}

/// The reference: one entry for each 4 KiB page.
#[derive(Clone, Default)]
pub struct Pages(BTreeMap<u64, Target>);

impl Model for Pages {
    fn first_mapped(&self, start: u64, end: u64) -> Option<u64> {
        self.0.range(start..end).next().map(|(&page, _)| page)
    }

    fn map(&mut self, start: u64, end: u64, target: Target) {
        for page in (start..end).step_by(PAGE as usize) {
            self.0.insert(page, target.plus(page - start));
        }
    }

    fn unmap(&mut self, start: u64, end: u64) {
        self.0.retain(|page, _| !(start..end).contains(page));
    }

    fn protect(&mut self, start: u64, end: u64, permissions: u8) {
        for (_, target) in self.0.range_mut(start..end) {
            target.permissions = permissions;
        }
    }

    fn runs(&self) -> Vec<Run> {
        coalesce(self.0.iter().map(|(&start, &target)| Run { start, end: start + PAGE, target }))
    }
}

/// The same for gigabytes: runs in ascending order.
#[derive(Clone, Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Makes sure that no run lies across `at`.
    fn cut(&mut self, at: u64) {
        if let Some(index) = self.0.iter().position(|run| run.start < at && at < run.end) {
            let whole = self.0[index];
            self.0[index].end = at;
            self.0.insert(index + 1, Run { start: at, target: whole.target.plus(at - whole.start), ..whole });
        }
    }

    fn cut_out(&mut self, start: u64, end: u64) -> impl FnMut(&Run) -> bool + use<> {
        self.cut(start);
        self.cut(end);
        move |run| start <= run.start && run.end <= end
    }
}

impl Model for Runs {
    fn first_mapped(&self, start: u64, end: u64) -> Option<u64> {
        let overlaps = |run: &&Run| start < end && run.start < end && start < run.end;
        self.0.iter().find(overlaps).map(|run| run.start.max(start))
    }

    fn map(&mut self, start: u64, end: u64, target: Target) {
        if start < end {
            let index = self.0.partition_point(|run| run.start < start);
            self.0.insert(index, Run { start, end, target });
        }
    }

    fn unmap(&mut self, start: u64, end: u64) {
        let mut inside = self.cut_out(start, end);
        self.0.retain(|run| !inside(run));
    }

    fn protect(&mut self, start: u64, end: u64, permissions: u8) {
        let mut inside = self.cut_out(start, end);
        for run in self.0.iter_mut().filter(|run| inside(run)) {
            run.target.permissions = permissions;
        }
    }

    fn runs(&self) -> Vec<Run> {
        coalesce(self.0.iter().copied())
    }
}
