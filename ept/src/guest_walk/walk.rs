//! The walk.

use core::fmt;

use abi::address::{GuestPhys, GuestVirt};

use super::entry::{ACCESSED, DIRTY, Format, Kind, PRESENT};
use super::memory::{EntryWidth, Exchange, GuestTables};
use super::registers::{Mode, Paging};
use super::request::{PageFaultCode, Request};
use super::rights::Rights;
use crate::translate::Access;

/// How often a walk begins anew because others changed what it was about to mark.
const ATTEMPTS: u32 = 16;
/// Bits 51:12.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry that the walk went through.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Step {
    /// Where it is.
    pub at: GuestPhys,
    /// What it was when it was read.
    pub entry: u64,
}

/// What a linear address means to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The guest-physical address.
    pub gpa: GuestPhys,
    /// The bytes in the page that maps it.
    pub page_bytes: u64,
    /// What the entries allow. Registers may allow more (CR0.WP) or less (SMEP, SMAP, protection keys).
    pub rights: Rights,
    /// The page's protection key.
    pub key: u8,
    /// Whether the page is marked dirty.
    pub dirty: bool,
    /// Whether its translation may outlive a load of CR3 (with CR4.PGE).
    pub global: bool,
    /// The level of the entry that maps the page, counted from 1; 0 where paging is off.
    pub level: u8,
    /// The entries on the way: `steps[n]` is that of level n + 1. Those that were not used are zero.
    pub steps: [Step; 4],
}

impl Found {
    /// The bytes from `gpa` to the end of the page; never 0.
    pub const fn bytes_left(&self) -> u64 {
        self.page_bytes - self.gpa.page_offset(self.page_bytes)
    }

    /// Whether `paging`'s registers let `request` through to this page; if not, the error code of the page fault.
    pub fn permits(&self, request: Request, paging: &Paging) -> Result<(), PageFaultCode> {
        if self.level == 0 { Ok(()) } else { self.rights.permit(self.key, request, paging) }
    }
}

/// Why there is no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The guest gets this page fault; CR2 is the linear address.
    Fault(PageFaultCode),
    /// The address is no linear address of 4-level paging: #GP, or #SS for stack accesses.
    NotCanonical,
    /// The guest's tables lie where it has no memory.
    OutsideMemory(GuestPhys),
    /// Others kept changing the tables while this walk marked them. Nothing is wrong: let the guest try again.
    Contended,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(code) => write!(f, "page fault, error code {:#x}", code.bits()),
            Self::NotCanonical => f.write_str("address is not canonical"),
            Self::OutsideMemory(at) => write!(f, "the page tables at {at} are outside of memory"),
            Self::Contended => f.write_str("the page tables change too fast"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Translates `address` for `request` and sets accessed and dirty flags, as the processor would.
#[inline]
pub fn walk<T: GuestTables>(
    tables: &T,
    paging: &Paging,
    address: GuestVirt,
    request: Request,
) -> Result<Found, Refusal> {
    if paging.mode() == Mode::Off {
        return Ok(unpaged(address.as_u64()));
    }
    for _ in 0..ATTEMPTS {
        let (mut found, flags) =
            locate(tables, paging, address).map_err(|stop| stop.refusal(request, paging))?;
        found.permits(request, paging).map_err(Refusal::Fault)?;
        if flags & ACCESSED != 0 && (found.dirty || request.access != Access::Write) {
            return Ok(found);
        }
        if mark(tables, paging, &mut found, request.access) {
            return Ok(found);
        }
    }
    Err(Refusal::Contended)
}

/// What `address` means, without regard to rights and without a mark: `None` where nothing is mapped.
pub fn look<T: GuestTables>(tables: &T, paging: &Paging, address: GuestVirt) -> Option<Found> {
    locate(tables, paging, address).ok().map(|(found, _)| found)
}

/// Why a walk ended early.
enum Stop {
    NotPresent,
    Reserved,
    NotCanonical,
    OutsideMemory(GuestPhys),
}

impl Stop {
    fn refusal(self, request: Request, paging: &Paging) -> Refusal {
        let code = request.code(paging);
        match self {
            Self::NotPresent => Refusal::Fault(code),
            Self::Reserved => Refusal::Fault(code | PageFaultCode::PRESENT | PageFaultCode::RESERVED),
            Self::NotCanonical => Refusal::NotCanonical,
            Self::OutsideMemory(at) => Refusal::OutsideMemory(at),
        }
    }
}

/// What is found, and the flags that all entries on the way have.
#[inline]
fn locate<T: GuestTables>(tables: &T, paging: &Paging, address: GuestVirt) -> Result<(Found, u64), Stop> {
    let linear = address.as_u64();
    let low = linear & 0xffff_ffff;
    match paging.mode() {
        Mode::Off => Ok((unpaged(linear), u64::MAX)),
        Mode::TwoLevel => locate_narrow(tables, paging, low),
        Mode::Pae => {
            // Their reserved bits were checked when they were loaded.
            let pdpte = paging.pdptes[low as usize >> 30 & 3];
            if pdpte & PRESENT == 0 {
                return Err(Stop::NotPresent);
            }
            locate_wide(tables, paging, low, pdpte & ADDRESS, 2)
        }
        Mode::FourLevel if (linear as i64) << 16 >> 16 != linear as i64 => Err(Stop::NotCanonical),
        Mode::FourLevel => {
            let root = paging.cr3 & paging.features.address_mask() & ADDRESS;
            locate_wide(tables, paging, linear, root, 4)
        }
    }
}

/// Through tables of 64-bit entries, from `level` on. Each page fault of a guest with shadow page tables comes here.
#[inline]
fn locate_wide<T: GuestTables>(
    tables: &T,
    paging: &Paging,
    linear: u64,
    mut table: u64,
    mut level: u8,
) -> Result<(Found, u64), Stop> {
    let format = Format::new(paging);
    let mut shift = format.shift(level);
    let (mut all, mut any) = (u64::MAX, 0);
    let mut steps = [Step::default(); 4];
    loop {
        let at = GuestPhys::new(table + (linear >> shift & 511) * 8);
        let entry = tables.read(at, EntryWidth::Eight).ok_or(Stop::OutsideMemory(at))?;
        if let Some(below) = format.plain_table(entry, level) {
            table = below;
        } else {
            match format.kind(entry, level) {
                Kind::NotPresent => return Err(Stop::NotPresent),
                Kind::Reserved => return Err(Stop::Reserved),
                Kind::Table(below) => table = below,
                Kind::Page(start) => {
                    steps[usize::from(level - 1) & 3] = Step { at, entry };
                    let rights = format.product(all & entry, any | entry);
                    let found = page(&format, rights, start, linear, level, steps);
                    return Ok((found, all & entry));
                }
            }
        }
        steps[usize::from(level - 1) & 3] = Step { at, entry };
        (all, any) = (all & entry, any | entry);
        level -= 1;
        shift -= 9;
    }
}

/// Through the tables of 32-bit paging.
fn locate_narrow<T: GuestTables>(tables: &T, paging: &Paging, linear: u64) -> Result<(Found, u64), Stop> {
    let format = Format::new(paging);
    let (mut table, mut level) = (paging.cr3 & 0xffff_f000, 2);
    let mut all = u64::MAX;
    let mut steps = [Step::default(); 4];
    loop {
        let at = GuestPhys::new(table + (linear >> format.shift(level) & 1023) * 4);
        let entry = tables.read(at, EntryWidth::Four).ok_or(Stop::OutsideMemory(at))?;
        let kind = format.kind(entry, level);
        steps[usize::from(level - 1) & 3] = Step { at, entry };
        all &= entry;
        match kind {
            Kind::NotPresent => return Err(Stop::NotPresent),
            Kind::Reserved => return Err(Stop::Reserved),
            Kind::Table(below) => table = below,
            Kind::Page(start) => {
                let rights = format.product(all, 0);
                return Ok((page(&format, rights, start, linear, level, steps), all));
            }
        }
        level -= 1;
    }
}

/// The end of a walk, at an entry that maps a page.
#[inline]
fn page(format: &Format, rights: Rights, start: u64, linear: u64, level: u8, steps: [Step; 4]) -> Found {
    let page_bytes = 1u64 << format.shift(level);
    let entry = steps[usize::from(level - 1) & 3].entry;
    Found {
        gpa: GuestPhys::new(start | linear & (page_bytes - 1)),
        page_bytes,
        rights,
        key: format.key(entry),
        dirty: entry & DIRTY != 0,
        global: Format::is_global(entry),
        level,
        steps,
    }
}

/// Without paging everything is allowed.
fn unpaged(linear: u64) -> Found {
    Found {
        gpa: GuestPhys::new(linear & 0xffff_ffff),
        page_bytes: 4096,
        rights: Rights::all(),
        key: 0,
        dirty: true,
        global: false,
        level: 0,
        steps: [Step::default(); 4],
    }
}

/// Sets the flags that an access sets, from the uppermost entry down, in memory and in `found`. `false`: an entry is
/// no more what was read.
fn mark<T: GuestTables>(tables: &T, paging: &Paging, found: &mut Found, access: Access) -> bool {
    let width = paging.mode().width();
    let write = access == Access::Write;
    let page = usize::from(found.level.max(1)) - 1;
    for (index, step) in found.steps.iter_mut().enumerate().rev() {
        if step.entry & PRESENT == 0 {
            continue;
        }
        let dirty = if write && index == page { DIRTY } else { 0 };
        let marked = step.entry | ACCESSED | dirty;
        if marked != step.entry {
            if tables.compare_exchange(step.at, width, step.entry, marked) == Exchange::Changed {
                return false;
            }
            step.entry = marked;
        }
    }
    found.dirty |= write;
    true
}
