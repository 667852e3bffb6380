//! Frames on the heap. Every misuse is a failed assertion: a foreign frame, a second free, a dirty reuse.

use std::collections::BTreeSet;

use abi::address::HostPhys;
use ept::{ENTRIES, Frames, Tables};

#[derive(Clone, Default)]
pub struct Pool {
    frames: Vec<Frame>,
    /// Allocations left before the pool says no; `None` for any number.
    pub budget: Option<usize>,
    /// Whether it has said no since this was last cleared.
    pub refused: bool,
    /// The frames that were written since this was last cleared.
    pub written: BTreeSet<u64>,
}

#[derive(Clone, PartialEq, Eq)]
struct Frame {
    live: bool,
    entries: Box<[u64; ENTRIES]>,
}

impl Pool {
    pub fn new() -> Self {
        Self::default()
    }

    /// The addresses of the frames that are handed out, ascending.
    pub fn live(&self) -> Vec<u64> {
        let numbered = self.frames.iter().enumerate();
        numbered.filter(|(_, frame)| frame.live).map(|(number, _)| number as u64 * 4096).collect()
    }

    /// Whether both pools hand out the same frames with the same contents.
    pub fn same_contents(&self, other: &Self) -> bool {
        let live = self.live();
        live == other.live() && live.iter().all(|&address| self.entries(address) == other.entries(address))
    }

    pub fn entries(&self, table: u64) -> &[u64; ENTRIES] {
        assert_eq!(table % 4096, 0);
        let frame = &self.frames[(table / 4096) as usize];
        assert!(frame.live, "frame {table:#x} is used after it was freed");
        &frame.entries
    }

    pub fn entries_mut(&mut self, table: u64) -> &mut [u64; ENTRIES] {
        self.entries(table);
        &mut self.frames[(table / 4096) as usize].entries
    }
}

impl Tables for Pool {
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        self.entries(table.as_u64())[index]
    }
}

impl Frames for Pool {
    fn allocate(&mut self) -> Option<HostPhys> {
        if self.budget == Some(0) {
            self.refused = true;
            return None;
        }
        self.budget = self.budget.map(|budget| budget - 1);
        let number = self.frames.iter().position(|frame| !frame.live).unwrap_or_else(|| {
            self.frames.push(Frame { live: false, entries: Box::new([0; ENTRIES]) });
            self.frames.len() - 1
        });
        self.frames[number] = Frame { live: true, entries: Box::new([0; ENTRIES]) };
        Some(HostPhys::new(number as u64 * 4096))
    }

    fn free(&mut self, frame: HostPhys) {
        self.entries_mut(frame.as_u64()).fill(0x5a5a_5a5a_5a5a_5a5a);
        self.frames[(frame.as_u64() / 4096) as usize].live = false;
    }

    fn write(&mut self, table: HostPhys, index: usize, entry: u64) {
        self.written.insert(table.as_u64());
        self.entries_mut(table.as_u64())[index] = entry;
    }

    fn swap(&mut self, table: HostPhys, index: usize, entry: u64) -> u64 {
        let was = self.read(table, index);
        self.write(table, index, entry);
        was
    }
}
