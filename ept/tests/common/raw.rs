//! A second reading of the tables, bit by bit from the SDM, which also refuses what a processor would call a
//! misconfiguration (SDM 3C, "EPT Misconfigurations").

use ept::ENTRIES;

use super::pool::Pool;

/// A page as the processor would use it. Accessed and dirty flags do not take part in comparisons of translations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Leaf {
    pub gpa: u64,
    pub hpa: u64,
    pub bytes: u64,
    pub permissions: u8,
    pub memory: u8,
    pub dirty: bool,
}

impl Leaf {
    pub fn end(&self) -> u64 {
        self.gpa + self.bytes
    }

    pub fn undirtied(self) -> Self {
        Self { dirty: false, ..self }
    }
}

/// All that hangs from a root.
#[derive(Default)]
pub struct Audit {
    pub leaves: Vec<Leaf>,
    pub tables: Vec<u64>,
}

impl Audit {
    pub fn of(pool: &Pool, root: u64) -> Self {
        let mut audit = Self::default();
        audit.visit(pool, root, 39, 0);
        audit.tables.sort_unstable();
        audit
    }

    /// The page that maps `address`.
    pub fn leaf(&self, address: u64) -> Option<&Leaf> {
        let after = self.leaves.partition_point(|leaf| leaf.gpa <= address);
        self.leaves[..after].last().filter(|leaf| address < leaf.end())
    }

    fn visit(&mut self, pool: &Pool, table: u64, shift: u32, base: u64) {
        self.tables.push(table);
        let mut present = 0;
        for (index, &entry) in pool.entries(table).iter().enumerate() {
            let gpa = base + ((index as u64) << shift);
            if entry & 7 == 0 {
                assert_eq!(entry, 0, "an entry that is not present is not clear");
                continue;
            }
            present += 1;
            assert_ne!(entry & 3, 2, "writes without reads at {gpa:#x}");
            assert_eq!(entry >> 52, 0, "bits 63:52 are in use at {gpa:#x}");
            let hpa = entry & 0x000f_ffff_ffff_f000;
            if shift == 12 || entry & 0x80 != 0 {
                assert!(shift <= 30, "a PML4 entry maps a page");
                assert_eq!(entry & 0x80 != 0, shift > 12, "bit 7 does not fit the level");
                assert_eq!(hpa % (1 << shift), 0, "reserved address bits are set at {gpa:#x}");
                let memory = (entry >> 3 & 7) as u8;
                assert!(memory == 0 || memory == 6, "memory type {memory}");
                let (permissions, dirty) = ((entry & 7) as u8, entry & 0x200 != 0);
                self.leaves.push(Leaf { gpa, hpa, bytes: 1 << shift, permissions, memory, dirty });
            } else {
                assert_eq!(entry & 0xfff, 7, "a reference to a table is more than that");
                self.visit(pool, hpa, shift - 9, gpa);
            }
        }
        assert!(present > 0 || shift == 39, "an empty table was kept");
    }
}

/// What the processor does to the page that maps `gpa` when the guest writes there: sets accessed and dirty.
pub fn dirty(pool: &mut Pool, root: u64, gpa: u64) -> bool {
    let (mut table, mut shift) = (root, 39);
    loop {
        let index = (gpa >> shift) as usize % ENTRIES;
        let entry = pool.entries(table)[index];
        if entry & 2 == 0 {
            return false;
        }
        if shift == 12 || entry & 0x80 != 0 {
            pool.entries_mut(table)[index] |= 0x300;
            return true;
        }
        table = entry & 0x000f_ffff_ffff_f000;
        shift -= 9;
    }
}
