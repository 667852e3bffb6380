//! Shadow page tables: a guest's memory without EPT.
//!
//! The processor walks one set of tables, so this room keeps for each of the guest's own a *shadow*, which maps the same
//! linear addresses straight to host frames. It is filled by faults: an entry appears when the guest makes an access that
//! its own tables allow ([`crate::guest_walk`] decides), and goes when they no longer do and the guest has flushed, as
//! with a TLB. [`processor`](Processor) says with which registers the guest then runs, and which modes can.
//!
//! # Who calls what, at which exit
//!
//! | exit                               | call                                                   | then |
//! |------------------------------------|--------------------------------------------------------|------|
//! | #PF (all: error-code mask and match 0) | [`Shadow::fault`] with [`Request::from_fault`](crate::guest_walk::Request::from_fault) | as the [`Outcome`] says |
//! | MOV to CR3                         | check reserved bits; with PAE [`load_pdptes`](crate::guest_walk::load_pdptes) (its error is #GP); [`Shadow::load`] | CR3 := [`Shadow::root`] |
//! | MOV to CR0/CR4, WRMSR IA32_EFER that change PG, WP, PSE, PAE, PGE, SMEP, SMAP, PKE, LME, NXE | the checks of the SDM; PDPTEs as above where PAE paging begins; [`Shadow::load`] | CR3 := root; CR0, CR4, EFER and "IA-32e mode guest" := [`Processor::for_guest`] |
//! | INVLPG                             | [`Shadow::invalidate`]                                 |      |
//! | an emulated write, DMA, a hypercall's answer | where [`Shadow::is_table`]: [`Shadow::written`] | |
//! | a frame is taken away              | change the map, then [`Shadow::revoke`]                | CR3 := root |
//!
//! Each returns what to [flush](Flush) before the guest goes on. With [`Outcome::Inject`] CR2 is the exit qualification;
//! an event that the fault interrupted is delivered again or merged into a double fault by the SDM's rules. The VMCS has:
//! CR3-load and CR3-store exiting (a read of CR3 is answered with the guest's), INVLPG exiting, exceptions bit 14, writes
//! to IA32_PAT intercepted (leaves choose PAT entry 0, which stays write-back), no INVPCID, no EPT. CPUID hides PCID,
//! INVPCID, LA57, CET, PKS.
//!
//! # How it stays true
//!
//! - A guest frame with a shadow of its own is mapped read-only wherever it is mapped. Upper levels follow each write
//!   ([`Outcome::WriteToTable`]); a table of level 1 is opened for writing and followed at the next flush (`sync`).
//! - An entry is present only if the guest's entries are marked accessed; it is writable only if the page is marked
//!   dirty. The walk of the fault sets both marks.
//! - Upper entries allow everything; a leaf has the product of the guest's rights, so a table that is reached with
//!   different rights has several shadows (`role`).
//! - Global pages need no care: shadows of any CR3 stay in the cache, and the processor's entries are never global.
//!
//! # What it costs, and who can make it cost more
//!
//! Memory is given once ([`Memory`]) and never grows; when the pages run out the one that no walk came by for long goes
//! (second chance). No call recurses. A fault reads at most 4 guest entries and makes at most 3 pages; each page that goes, or is
//! brought in sync, is 512 steps; a frame has at most 1,024 mappings and a few shadows; 32 shadows are out of sync at most.
//!
//! One virtual CPU runs on one `Shadow`: nothing here expects another core to write the same guest tables meanwhile.
//!
//! Where to read on: `fault`, then `role` and `leaf` (what a shadow stands for), `sync` and `written` (how it follows),
//! `root`; below them `pages` (the cache), `entries` (the reverse map) and `store` (the lists).

mod entries;
mod fault;
mod leaf;
mod outcome;
mod pages;
mod processor;
mod role;
mod root;
mod store;
mod sync;
mod traits;
mod written;

use core::fmt;

use abi::address::GuestVirt;

pub use outcome::{Answer, Flush, Outcome};
pub use processor::Processor;
pub use store::{Frame, Link, Memory, Page};
pub use traits::{Backing, GuestSpace, ShadowTables};

use crate::frames::ENTRIES;
use crate::guest_walk::{Features, Paging, Rights};
use role::Role;
use store::NO_SLOT;
use sync::MOST_UNSYNC;

/// The page that is the root for all but 4-level paging. Its frame lies below 4 GiB.
const LOW_ROOT: u16 = 0;
/// The page that is the root while there is nothing to map: always empty.
const NOTHING: u16 = 1;
/// The two above, a root, and what one fault may need besides.
const FEWEST_PAGES: usize = 8;

/// The shadows of one guest.
#[derive(Debug)]
pub struct Shadow<'a, T> {
    tables: T,
    memory: Memory<'a>,
    paging: Paging,
    /// What all shadows in use share.
    role: Role,
    root: u16,
    free: u16,
    free_count: u16,
    newest: u16,
    oldest: u16,
    unsync: [u16; MOST_UNSYNC],
    unsync_count: usize,
    /// The pages below the root that the last fault went through.
    path: [u16; 3],
    /// Whether it made one.
    made: bool,
    /// Whether the current fault changed any entry.
    changed: bool,
    /// Where the last fault was, if it changed nothing.
    suspect: Option<GuestVirt>,
    flush: Flush,
}

/// Why the memory does not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryError {
    /// Fewer than 8 pages, or more than can be numbered.
    Pages,
    /// Not 512 links for each page.
    Links,
    /// More frames than can be numbered.
    Frames,
    /// The first page does not lie below 4 GiB, where a PAE root must.
    HighRoot,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pages => "shadow paging needs 8 to 65,000 pages",
            Self::Links => "shadow paging needs 512 links for each page",
            Self::Frames => "shadow paging ends at 2^31 guest frames",
            Self::HighRoot => "the first page for shadows lies above 4 GiB",
        })
    }
}

impl core::error::Error for MemoryError {}

impl<'a, T: ShadowTables> Shadow<'a, T> {
    /// Shadows for a guest that has loaded nothing yet: [`Shadow::load`] comes first. All pages are free and zero.
    pub fn new(tables: T, memory: Memory<'a>, features: Features) -> Result<Self, MemoryError> {
        let count = memory.pages.len();
        if !(FEWEST_PAGES..=65_000).contains(&count) {
            return Err(MemoryError::Pages);
        }
        if memory.links.len() < count * ENTRIES {
            return Err(MemoryError::Links);
        }
        if memory.frames.len() > 1 << 31 {
            return Err(MemoryError::Frames);
        }
        if memory.pages[0].frame.as_u64() >> 32 != 0 {
            return Err(MemoryError::HighRoot);
        }
        let paging = Paging { cr0: 1, cr3: 0, cr4: 0, efer: 0, pdptes: [0; 4], pkru: 0, features };
        let role = Role::of(&paging);
        memory.pages[usize::from(LOW_ROOT)].role = role.table(3, Rights::all(), 0);
        memory.pages[usize::from(NOTHING)].role = role.table(4, Rights::all(), 0);
        let first = NOTHING + 1;
        for (slot, page) in (first..).zip(&mut memory.pages[usize::from(first)..]) {
            page.next = slot + 1;
        }
        if let Some(last) = memory.pages.last_mut() {
            last.next = NO_SLOT;
        }
        Ok(Self {
            tables,
            paging,
            role,
            root: NOTHING,
            free: first,
            free_count: count as u16 - first,
            newest: NO_SLOT,
            oldest: NO_SLOT,
            unsync: [NO_SLOT; MOST_UNSYNC],
            unsync_count: 0,
            path: [NOTHING; 3],
            made: false,
            changed: false,
            suspect: None,
            flush: Flush::None,
            memory,
        })
    }
}
