//! Runs operations on tables and model alike and, after each, compares everything that can be seen of them.

use std::collections::BTreeSet;

use abi::address::{GuestPhys, HostPhys, PageCount};
use ept::{Access, Ept, Invalidation, MapError, MemoryType, PageSize, Permissions, Settings};

use super::model::{Model, PAGE, Run, Target, coalesce};
use super::pool::Pool;
use super::raw::{Audit, Leaf, dirty};

#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Map {
        gpa: u64,
        hpa: u64,
        pages: u64,
        permissions: Permissions,
        memory: MemoryType,
    },
    Unmap {
        gpa: u64,
        pages: u64,
    },
    Protect {
        gpa: u64,
        pages: u64,
        permissions: Permissions,
    },
    Merge,
    /// The guest writes here.
    Dirty {
        gpa: u64,
    },
}

/// More frames than any request needs that a test means to succeed.
const PLENTY: usize = 3000;

pub struct Harness<M> {
    pub pool: Pool,
    pub ept: Ept,
    pub model: M,
    settings: Settings,
    dirty: BTreeSet<u64>,
}

impl<M: Model + Default> Harness<M> {
    pub fn new(settings: Settings) -> Self {
        let mut pool = Pool::new();
        let ept = Ept::new(&mut pool, settings).unwrap();
        Self { pool, ept, model: M::default(), settings, dirty: BTreeSet::new() }
    }

    pub fn audit(&self) -> Audit {
        Audit::of(&self.pool, self.ept.root().as_u64())
    }

    /// One operation, during which the pool gives at most `budget` frames, `PLENTY` where that is `None`. Then `probes` are looked up, too.
    pub fn step(&mut self, operation: Operation, budget: Option<usize>, probes: &[u64]) {
        let (pool_before, audit_before) = (self.pool.clone(), self.audit());
        (self.pool.budget, self.pool.refused) = (budget.or(Some(PLENTY)), false);
        self.pool.written.clear();
        let result = self.perform(operation);
        let left = self.pool.budget.take();
        let taken = budget.unwrap_or(PLENTY) - left.unwrap_or_default();

        let audit = self.audit();
        match result {
            Ok(invalidation) => {
                let plain =
                    |audit: &Audit| audit.leaves.iter().map(|leaf| leaf.undirtied()).collect::<BTreeSet<_>>();
                let (old, new) = (plain(&audit_before), plain(&audit));
                if !matches!(operation, Operation::Unmap { .. } | Operation::Merge) {
                    let grown = audit.tables.len() - audit_before.tables.len();
                    assert_eq!(taken, grown, "{operation:?} took frames it had no use for");
                }
                match invalidation {
                    Invalidation::None => {
                        assert!(old.is_subset(&new), "{operation:?} changed what may be cached")
                    }
                    Invalidation::Needed => assert_ne!(old, new, "{operation:?} invalidates for nothing"),
                }
            }
            Err(error) => {
                assert!(
                    self.pool.same_contents(&pool_before),
                    "{operation:?} failed ({error}) and left traces"
                );
            }
        }
        self.compare(&audit, probes);
    }

    /// Frees the tables and looks for what they left behind.
    pub fn destroy(mut self) {
        assert_eq!(self.ept.destroy(&mut self.pool), Invalidation::Needed);
        assert_eq!(self.pool.live(), Vec::<u64>::new());
    }

    fn perform(&mut self, operation: Operation) -> Result<Invalidation, MapError> {
        match operation {
            Operation::Map { gpa, hpa, pages, permissions, memory } => {
                let (at, to, count) = (GuestPhys::new(gpa), HostPhys::new(hpa), PageCount::new(pages));
                let result = self.ept.map(&mut self.pool, at, to, count, permissions, memory);
                let bytes = u128::from(pages) * u128::from(PAGE);
                let host_end = 1 << self.settings.host_address_bits.min(52);
                let host_error = (!hpa.is_multiple_of(PAGE))
                    .then_some(MapError::Misaligned)
                    .into_iter()
                    .chain((u128::from(hpa) + bytes > host_end).then_some(MapError::OutOfRange));
                let mut errors: Vec<_> =
                    self.range_errors(gpa, pages).into_iter().chain(host_error).collect();
                errors.extend(self.permission_error(permissions));
                if errors.is_empty() {
                    let mapped = self.model.first_mapped(gpa, gpa + pages * PAGE);
                    errors.extend(mapped.map(|page| MapError::AlreadyMapped(GuestPhys::new(page))));
                }
                self.judge(operation, result.err(), &errors);
                if result.is_ok() {
                    let memory = if memory == MemoryType::WriteBack { 6 } else { 0 };
                    self.model.map(
                        gpa,
                        gpa + pages * PAGE,
                        Target { hpa, permissions: permissions.bits(), memory },
                    );
                }
                result.map(|()| Invalidation::None)
            }
            Operation::Unmap { gpa, pages } => {
                let result = self.ept.unmap(&mut self.pool, GuestPhys::new(gpa), PageCount::new(pages));
                self.judge(operation, result.err(), &self.range_errors(gpa, pages));
                if result.is_ok() {
                    self.model.unmap(gpa, gpa + pages * PAGE);
                    self.dirty.retain(|page| !(gpa..gpa + pages * PAGE).contains(page));
                }
                result
            }
            Operation::Protect { gpa, pages, permissions } => {
                let (at, count) = (GuestPhys::new(gpa), PageCount::new(pages));
                let result = self.ept.protect(&mut self.pool, at, count, permissions);
                let mut errors = self.range_errors(gpa, pages);
                errors.extend(self.permission_error(permissions));
                self.judge(operation, result.err(), &errors);
                if result.is_ok() {
                    self.model.protect(gpa, gpa + pages * PAGE, permissions.bits());
                }
                result
            }
            Operation::Merge => {
                let invalidation = self.ept.merge(&mut self.pool);
                assert!(!self.pool.refused);
                self.nothing_left_to_merge();
                Ok(invalidation)
            }
            Operation::Dirty { gpa } => {
                if dirty(&mut self.pool, self.ept.root().as_u64(), gpa) {
                    self.dirty.insert(gpa / PAGE * PAGE);
                }
                Ok(Invalidation::None)
            }
        }
    }

    fn range_errors(&self, gpa: u64, pages: u64) -> Vec<MapError> {
        let misaligned = (!gpa.is_multiple_of(PAGE)).then_some(MapError::Misaligned);
        let end = u128::from(gpa) + u128::from(pages) * u128::from(PAGE);
        misaligned.into_iter().chain((end > 1 << 48).then_some(MapError::OutOfRange)).collect()
    }

    fn permission_error(&self, permissions: Permissions) -> Option<MapError> {
        let good = match permissions.bits() {
            1 | 3 | 5 | 7 => true,
            4 => self.settings.execute_only,
            _ => false,
        };
        (!good).then_some(MapError::Permissions(permissions))
    }

    /// An error must be true, and where one is due there must be one.
    fn judge(&self, operation: Operation, error: Option<MapError>, due: &[MapError]) {
        match error {
            Some(MapError::OutOfFrames) => {
                assert!(self.pool.refused, "{operation:?} gave up with frames to spare")
            }
            Some(error) => assert!(due.contains(&error), "{operation:?}: {error:?}, but due is {due:?}"),
            None => assert!(due.is_empty() && !self.pool.refused, "{operation:?} passed, but due is {due:?}"),
        }
    }

    fn compare(&self, audit: &Audit, probes: &[u64]) {
        assert_eq!(audit.tables, self.pool.live(), "frames leaked or lost");
        let mut tables = Vec::new();
        self.ept.for_each_table(&self.pool, |table| tables.push(table.as_u64()));
        tables.sort_unstable();
        assert_eq!(tables, audit.tables);

        let target =
            |leaf: &Leaf| Target { hpa: leaf.hpa, permissions: leaf.permissions, memory: leaf.memory };
        let as_run = |leaf: &Leaf| Run { start: leaf.gpa, end: leaf.end(), target: target(leaf) };
        let runs = self.model.runs();
        assert_eq!(coalesce(audit.leaves.iter().map(as_run)), runs, "tables and model disagree");

        let mut seen = audit.leaves.iter().map(|leaf| leaf.undirtied());
        self.ept.for_each_mapping(&self.pool, |mapping| assert_eq!(Some(as_leaf(mapping)), seen.next()));
        assert_eq!(seen.next(), None);
        assert!(audit.leaves.iter().all(|leaf| leaf.bytes <= self.settings.largest_page.bytes()));

        for page in &self.dirty {
            assert!(
                audit.leaf(*page).is_some_and(|leaf| leaf.dirty),
                "{page:#x} was written and looks clean"
            );
        }
        let borders =
            runs.iter().flat_map(|run| [run.start.wrapping_sub(1), run.start, run.end - 1, run.end]);
        let limits = [0, (1 << 48) - 1, 1 << 48, 1 << 63, u64::MAX];
        for probe in borders.chain(limits).chain(probes.iter().copied()) {
            self.probe(audit, probe);
        }
    }

    fn probe(&self, audit: &Audit, address: u64) {
        let (gpa, leaf) = (GuestPhys::new(address), audit.leaf(address));
        let found = self.ept.lookup(&self.pool, gpa).map(as_leaf);
        assert_eq!(found, leaf.map(|leaf| leaf.undirtied()));
        for (access, bit) in [(Access::Read, 1), (Access::Write, 2), (Access::Execute, 4)] {
            let expected = leaf.filter(|leaf| leaf.permissions & bit != 0 && leaf.memory == 6);
            let expected = expected.map(|leaf| (leaf.hpa + (address - leaf.gpa), leaf.end() - address));
            let translation = self.ept.translate(&self.pool, gpa, access);
            assert_eq!(
                translation.map(|to| (to.hpa.as_u64(), to.bytes_left)),
                expected,
                "{access:?} {address:#x}"
            );
        }
    }

    /// After a merge no page lies in an aligned stretch of a run that could be one larger page.
    fn nothing_left_to_merge(&self) {
        let runs = self.model.runs();
        for leaf in self.audit().leaves {
            let run = runs[..runs.partition_point(|run| run.start <= leaf.gpa)].last().unwrap();
            for size in [PageSize::Size2MiB, PageSize::Size1GiB] {
                let bytes = size.bytes();
                let start = leaf.gpa / bytes * bytes;
                let inside = run.start <= start && start + bytes <= run.end;
                let alike = run.target.hpa % bytes == run.start % bytes;
                if inside && alike && size <= self.settings.largest_page {
                    assert!(leaf.bytes >= bytes, "{start:#x} is still in pages of {:#x}", leaf.bytes);
                }
            }
        }
    }
}

fn as_leaf(mapping: ept::Mapping) -> Leaf {
    Leaf {
        gpa: mapping.gpa.as_u64(),
        hpa: mapping.hpa.as_u64(),
        bytes: mapping.size.bytes(),
        permissions: mapping.permissions.bits(),
        memory: if mapping.memory == MemoryType::WriteBack { 6 } else { 0 },
        dirty: false,
    }
}
