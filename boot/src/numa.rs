//! NUMA nodes, as ACPI's System Resource Affinity Table and System Locality Information Table tell of them
//! (ACPI specification, "System Resource Affinity Table" and "System Locality Information Table").
//!
//! The firmware's numbers of nodes ("proximity domains") may be any; here they are counted from 0 in the order in which
//! they are met.

use abi::control::topology::MAX_NODES;
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiTable, AcpiTables};
use arrayvec::ArrayVec;

use crate::cores::{IdentityMapped, MAX_CORES};

/// Who is near what.
#[derive(Clone, Debug, Default)]
pub struct Numa {
    /// The firmware's numbers of the nodes; empty where it tells of none.
    domains: ArrayVec<u32, MAX_NODES>,
    /// APIC ids, and the node of each by its place in `domains`.
    cores: ArrayVec<(u32, u8), MAX_CORES>,
    /// From node to node.
    distances: [[u8; MAX_NODES]; MAX_NODES],
}

/// A node is this far from itself.
const LOCAL: u8 = 10;
/// As far as another is where no table says.
const REMOTE: u8 = 20;
/// Bytes of a table's header, which both share.
const HEADER: usize = size_of::<SdtHeader>();

macro_rules! table {
    ($name:ident, $signature:ident) => {
        #[repr(transparent)]
        struct $name(SdtHeader);

        // SAFETY: the type is a table's header, which every table has.
        unsafe impl AcpiTable for $name {
            const SIGNATURE: Signature = Signature::$signature;

            fn header(&self) -> &SdtHeader {
                &self.0
            }
        }
    };
}

table!(Srat, SRAT);
table!(Slit, SLIT);

/// Reads both tables, where they are.
pub(crate) fn find(tables: &AcpiTables<IdentityMapped>) -> Numa {
    let srat = tables.find_table::<Srat>().ok();
    let slit = tables.find_table::<Slit>().ok();
    // SAFETY: the crate has found the tables sound, summed over their whole length, and ACPI's tables are identity-mapped.
    let bytes = |header: *const SdtHeader, length: u32| unsafe {
        core::slice::from_raw_parts(header.cast::<u8>(), (length as usize).max(HEADER))
    };
    let srat = srat.as_ref().map_or(&[][..], |table| bytes(&table.0, table.0.length));
    let slit = slit.as_ref().map_or(&[][..], |table| bytes(&table.0, table.0.length));
    Numa::read(srat, slit)
}

impl Numa {
    /// From the tables' bytes, headers included; either may be empty.
    pub fn read(srat: &[u8], slit: &[u8]) -> Self {
        let mut numa = Self::default();
        // Behind the header: a revision and reserved words, twelve bytes.
        let mut rest = srat.get(HEADER + 12..).unwrap_or_default();
        while let [kind, length, ..] = *rest
            && let Some((entry, more)) = rest.split_at_checked(usize::from(length).max(2))
        {
            numa.affinity(kind, entry);
            rest = more;
        }
        let count = slit.get(HEADER..HEADER + 8).map_or(0, |bytes| word(bytes, 0) as usize);
        for (from, row) in numa.distances.iter_mut().enumerate() {
            for (to, distance) in row.iter_mut().enumerate() {
                let ends = numa.domains.get(from).zip(numa.domains.get(to));
                let told = ends.and_then(|(&from, &to)| {
                    let (from, to) = (from as usize, to as usize);
                    let at = from.checked_mul(count)?.checked_add(to)?.checked_add(HEADER + 8)?;
                    (from < count && to < count).then(|| slit.get(at).copied()).flatten()
                });
                *distance = told.unwrap_or(if from == to { LOCAL } else { REMOTE });
            }
        }
        numa
    }

    /// One entry of the SRAT: a core by its local APIC's id, or by its x2APIC's.
    fn affinity(&mut self, kind: u8, entry: &[u8]) {
        const ENABLED: u32 = 1;
        let (domain, apic_id, flags) = match (kind, entry.len()) {
            (0, 16..) => {
                let high = u32::from(entry[9]) | u32::from(entry[10]) << 8 | u32::from(entry[11]) << 16;
                (u32::from(entry[2]) | high << 8, u32::from(entry[3]), word(entry, 4))
            }
            (2, 24..) => (word(entry, 4), word(entry, 8), word(entry, 12)),
            _ => return,
        };
        if flags & ENABLED == 0 {
            return;
        }
        let known = self.domains.iter().position(|&known| known == domain);
        let node = known.or_else(|| self.domains.try_push(domain).is_ok().then(|| self.domains.len() - 1));
        if let Some(node) = node {
            let _ = self.cores.try_push((apic_id, node as u8));
        }
    }

    /// How many nodes; one where the firmware tells of none.
    pub fn nodes(&self) -> u32 {
        self.domains.len().max(1) as u32
    }

    /// The node of the core with this APIC id.
    pub fn node(&self, apic_id: u32) -> u32 {
        self.cores.iter().find(|(id, _)| *id == apic_id).map_or(0, |&(_, node)| node.into())
    }

    /// From node to node.
    pub fn distances(&self) -> [[u8; MAX_NODES]; MAX_NODES] {
        self.distances
    }
}

/// The little-endian word at `at`; nought beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Two cores on node 7, one on node 1, one that is switched off.
    fn srat() -> Vec<u8> {
        let mut table = vec![0; HEADER + 12];
        for (apic, domain, flags) in [(0u8, 7u8, 1u8), (1, 7, 1), (9, 3, 0)] {
            table.extend([0, 16, domain, apic, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        // Memory, which is not looked at.
        table.extend([1, 40]);
        table.extend([0; 38]);
        let mut entry = [0; 24];
        entry[0] = 2;
        entry[1] = 24;
        entry[4] = 1;
        entry[8..12].copy_from_slice(&300u32.to_le_bytes());
        entry[12] = 1;
        table.extend(entry);
        table
    }

    fn slit() -> Vec<u8> {
        let mut table = vec![0; HEADER];
        table.extend(8u64.to_le_bytes());
        for from in 0..8u8 {
            table.extend((0..8u8).map(|to| if from == to { 10 } else { 20 + from + to }));
        }
        table
    }

    #[test]
    fn nodes_are_counted_in_the_order_they_are_met() {
        let numa = Numa::read(&srat(), &slit());
        assert_eq!(numa.nodes(), 2);
        assert_eq!([0, 1, 300, 9].map(|id| numa.node(id)), [0, 0, 1, 0]);
        let [[a, b, ..], [c, d, ..], ..] = numa.distances();
        assert_eq!([a, b, c, d], [10, 28, 28, 10]);
    }

    #[test]
    fn without_tables_all_is_one_node() {
        let numa = Numa::read(&[], &[]);
        assert_eq!((numa.nodes(), numa.node(5)), (1, 0));
        assert_eq!(Numa::read(&srat(), &[]).distances()[0][..2], [LOCAL, REMOTE]);
    }

    /// Firmware writes what it likes: each table cut anywhere, and entries of no length.
    #[test]
    fn no_table_is_too_broken() {
        let (srat, slit) = (srat(), slit());
        for cut in 0..srat.len() {
            Numa::read(&srat[..cut], &slit[..cut.min(slit.len())]);
        }
        let mut broken = srat;
        broken[HEADER + 13] = 0;
        Numa::read(&broken, &slit);
        Numa::read(&broken, &[0xff; 60]);
    }
}
