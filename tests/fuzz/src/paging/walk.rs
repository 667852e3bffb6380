//! The walker of guests' page tables, held against the [reference](super::reference).

use abi::address::GuestVirt;
use ept::Access;
use ept::guest_walk::{
    EntryWidth, Features, Mode, Paging, Privilege, Refusal, Request, load_pdptes, look, walk,
};

use super::guest::GuestMemory;
use super::reference::{self, Way};

/// Guest memory: 16 frames, any of which may be a table of any level.
const MEMORY: u64 = 16 << 12;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In the place of an entry: it is the one that the address selects in a table of the level in bits 1:0.
const ON_THE_WAY: u32 = 1 << 11;

const PRIVILEGES: [Privilege; 4] = [
    Privilege::User,
    Privilege::Supervisor { alignment_check: false },
    Privilege::Supervisor { alignment_check: true },
    Privilege::Implicit,
];

/// What the bytes say.
struct Question {
    paging: Paging,
    linear: u64,
    entries: Vec<(u64, u64)>,
}

impl Question {
    fn from(bytes: &[u8]) -> Option<Self> {
        let (header, entries) = bytes.split_first_chunk::<24>()?;
        let &[flags, more, width, _, ref rest @ ..] = header;
        let (pkru, rest) = rest.split_first_chunk()?;
        let (linear, cr3) = rest.split_first_chunk()?;
        let cr3 = u64::from_le_bytes(*cr3.first_chunk()?);
        let bit = |from: u8, number: u32, to: u32| u64::from(from >> number & 1) << to;
        // Long mode has PAE.
        let pae = bit(flags, 2, 5) | bit(flags, 7, 5);
        let paging = Paging {
            cr0: 1 | bit(flags, 0, 31) | bit(flags, 1, 16),
            cr3: cr3 & !0xffff_f000 | cr3 & (MEMORY - 1),
            cr4: pae | bit(flags, 3, 4) | bit(flags, 4, 20) | bit(flags, 5, 21) | bit(flags, 6, 22),
            efer: bit(flags, 7, 10) | bit(more, 0, 11),
            pdptes: [0; 4],
            pkru: u32::from_le_bytes(*pkru),
            features: Features {
                address_bits: 32 + width % 21,
                gigabyte_pages: more & 2 != 0,
                pse36: more & 4 != 0,
            },
        };
        let linear = u64::from_le_bytes(*linear);
        let entries = entries.as_chunks::<12>().0.iter().map(|&[p0, p1, p2, p3, ref entry @ ..]| {
            let place = u32::from_le_bytes([p0, p1, p2, p3]);
            (slot(paging.mode(), linear, place), u64::from_le_bytes(*entry))
        });
        Some(Self { paging, linear, entries: entries.collect() })
    }

    fn memory(&self) -> GuestMemory {
        let memory = GuestMemory::new(MEMORY);
        let width = self.paging.mode().width();
        for &(at, entry) in &self.entries {
            memory.set(at, width, entry);
        }
        memory
    }
}

fn slot(mode: Mode, linear: u64, place: u32) -> u64 {
    let frame = u64::from(place) & (MEMORY - 1) & !0xfff;
    if place & ON_THE_WAY == 0 {
        return frame | u64::from(place) & 0x7f8;
    }
    let level = place & 3;
    match mode {
        Mode::TwoLevel => frame + (linear >> (12 + 10 * (level & 1)) & 1023) * 4,
        _ => frame + (linear >> (12 + 9 * level) & 511) * 8,
    }
}

/// What the tables mean: each access that can be made, whom it is allowed, which page fault it is else, and what is
/// marked in the tables.
pub fn guest_walk(bytes: &[u8]) {
    let Some(mut question) = Question::from(bytes) else { return };
    if question.paging.mode() == Mode::Pae && !load(&mut question) {
        return;
    }
    for access in [Access::Read, Access::Write, Access::Execute] {
        for privilege in PRIVILEGES {
            ask(&question, Request { access, privilege });
        }
    }
}

/// Loads the PDPTE registers, where that is no fault.
fn load(question: &mut Question) -> bool {
    let paging = &mut question.paging;
    let memory = GuestMemory::new(MEMORY);
    for &(at, entry) in &question.entries {
        memory.set(at, EntryWidth::Eight, entry);
    }
    let width = u32::from(paging.features.address_bits);
    let registers =
        [0, 8, 16, 24].map(|index| memory.get((paging.cr3 & 0xffff_ffe0) + index, EntryWidth::Eight));
    // "PAE Paging": bits 2:1, 8:5 and from MAXPHYADDR on.
    let bad = |entry: &u64| entry & 1 != 0 && (entry & 0x1e6 != 0 || entry >> width != 0);
    match load_pdptes(&memory, paging.cr3, paging.features) {
        Ok(loaded) => {
            assert_eq!(loaded, registers);
            assert!(!registers.iter().any(bad));
            paging.pdptes = loaded;
            true
        }
        Err(_) => {
            assert!(registers.iter().any(bad));
            false
        }
    }
}

fn ask(question: &Question, request: Request) {
    let Question { paging, linear, .. } = question;
    let memory = question.memory();
    let width = paging.mode().width();
    let read = |at: u64, width| (at < MEMORY).then(|| memory.get(at, width));
    let way = reference::way(read, paging, *linear, request);
    let refused = way.as_ref().ok().and_then(|way| reference::refused(way, paging, request));
    let seen = look(&memory, paging, GuestVirt::new(*linear));
    assert_eq!(seen.map(|found| found.gpa.as_u64()), way.as_ref().ok().map(|way| way.target));
    assert!(seen.is_none_or(|found| found.permits(request, paging).err() == refused));
    assert_eq!(memory.exchanges.get(), 0, "a look leaves no mark");

    let answer = walk(&memory, paging, GuestVirt::new(*linear), request);
    let marked = match (&way, refused) {
        (Err(refusal), _) => {
            assert_eq!(answer, Err(*refusal));
            None
        }
        (Ok(_), Some(code)) => {
            assert_eq!(answer, Err(Refusal::Fault(code)));
            None
        }
        (Ok(way), None) => {
            let found = answer.expect("what is allowed");
            assert_eq!((found.gpa.as_u64(), found.page_bytes), (way.target, way.page_bytes));
            Some(way)
        }
    };
    let before = question.memory();
    let touched = question.entries.iter().map(|&(at, _)| at);
    for at in touched.chain(marked.iter().flat_map(|way| way.entries.iter().map(|&(at, _)| at))) {
        let flags = marked.map_or(0, |way| marks(way, at, request.access));
        assert_eq!(memory.get(at, width), before.get(at, width) | flags, "{at:#x}");
    }
}

/// "Accessed and Dirty Flags": what is set in the entry at this place.
fn marks(way: &Way, at: u64, access: Access) -> u64 {
    let on_the_way = way.entries.iter().any(|&(entry, _)| entry == at);
    let page = way.entries.last().is_some_and(|&(entry, _)| entry == at);
    let accessed = if on_the_way { ACCESSED } else { 0 };
    accessed | if page && access == Access::Write { DIRTY } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_leads_somewhere() {
        let read =
            Request { access: Access::Read, privilege: Privilege::Supervisor { alignment_check: true } };
        for (name, bytes) in crate::seeds::guest_walk() {
            let mut question = Question::from(&bytes).unwrap();
            assert!(question.paging.mode() != Mode::Pae || load(&mut question));
            let answer = walk(&question.memory(), &question.paging, GuestVirt::new(question.linear), read);
            assert!(answer.is_ok(), "{name}: {answer:?}");
        }
    }
}
