//! Page tables, heap, and the windows that are not RAM.

use core::alloc::Layout as Memory;
use core::ops::Range;

use abi::address::{HostPhys, PAGE_SIZE};
use abi::mesh::{MESH_BASE, MeshPage};
use abi::xen::memory::{E820_RAM, E820Entry};
use boot::handover::{self, Handover};
use boot::image::{self, Layout};
use spin::Mutex;
use talc::TalcLock;
use talc::source::Manual;

use super::hypercall;
use crate::events::SharedInfo;
use crate::memory_map::free_pages;
use crate::paging::{PageTables, Refused, Rights};
use crate::programs::multikernel::frames::{Pages, WINDOW};

/// Where the shared-info page goes: below the mesh, above all RAM that is used.
pub const SHARED_INFO_ADDRESS: u64 = MESH_BASE.as_u64() - PAGE_SIZE;
/// RAM from here on is not used: windows begin, and 32-bit devices.
const RAM_LIMIT: u64 = 0xe000_0000;
/// RAM below is not used: the first page keeps null pointers honest, the rest is the PC's.
const LOW_MEMORY: Range<u64> = 0..0x10_0000;

/// Four for 4 GiB in 2 MiB pages, and one for each large page that must be split: image, windows, ragged RAM.
const TABLES: usize = 40;

/// What a page is to the heap.
const PAGE: Memory = match Memory::from_size_align(PAGE_SIZE as usize, PAGE_SIZE as usize) {
    Ok(layout) => layout,
    Err(_) => panic!("a page has its own alignment"),
};

static PAGE_TABLES: Mutex<PageTables<TABLES>> = Mutex::new(PageTables::new());

#[cfg(not(test))]
#[global_allocator]
static HEAP: TalcLock<Mutex<()>, Manual> = TalcLock::new(Manual);

/// What went wrong with memory, for the one line before the end.
pub(super) type Outcome = Result<(), Refused>;

/// Asks the hypervisor which memory there is: Xen tells its domain 0 no other way.
pub(super) fn ask_for_map(handover: &mut Handover) {
    let mut entries = [E820Entry::default(); handover::MAX_REGIONS];
    // A hypervisor that does not know either leaves us without a heap, and the first allocation says so.
    let count = hypercall::memory_map(&mut entries).unwrap_or(0);
    for entry in entries.iter().take(count).filter(|entry| entry.kind == E820_RAM) {
        let (start, end) = (entry.address, entry.address.saturating_add(entry.size));
        let _ = handover
            .memory
            .try_push(handover::Range { start: HostPhys::new(start), end: HostPhys::new(end) });
    }
}

/// Replaces the boot page tables: the image's parts by their rights, all other RAM as data, nothing else.
pub(super) fn load_page_tables(handover: &Handover) -> Outcome {
    let layout = image::layout();
    let mut tables = PAGE_TABLES.lock();
    let address = core::ptr::from_ref(&*tables).cast::<u8>() as u64;
    tables.place(address);
    tables.map(layout.text..layout.rodata, Rights::Code)?;
    tables.map(layout.rodata..layout.data, Rights::Constants)?;
    tables.map(layout.data..layout.stack_guard, Rights::Data)?;
    tables.map(layout.stack_guard + PAGE_SIZE..layout.end, Rights::Data)?;
    for range in ram(handover, &[LOW_MEMORY, image_range(&layout)]) {
        tables.map(range, Rights::Data)?;
    }
    // SAFETY: the tables map the running image, its stack and all RAM where they were before; no-execute and
    // write-protect are on since boot.
    unsafe { x86::controlregs::cr3_write(tables.root()) };
    Ok(())
}

/// Maps pages that are not RAM: where the hypervisor or domain 0 has put something.
pub fn map_window(range: Range<u64>) -> Outcome {
    // Pages that were not present are not in the TLB, so nothing is to be flushed.
    PAGE_TABLES.lock().map(range, Rights::Data)
}

/// Frames in the page tables, of pages from the heap.
pub struct Frames;

impl Pages for Frames {
    fn map(&self, address: u64) -> bool {
        if address < WINDOW {
            return false;
        }
        // SAFETY: the layout has bytes.
        let page = unsafe { alloc::alloc::alloc_zeroed(PAGE) };
        if page.is_null() {
            return false;
        }
        let is_mapped = PAGE_TABLES.lock().map_page(address, page as u64).is_ok();
        if !is_mapped {
            // SAFETY: it has just been allocated, and is nowhere else.
            unsafe { alloc::alloc::dealloc(page, PAGE) };
        }
        is_mapped
    }

    fn unmap(&self, address: u64) {
        if address < WINDOW {
            return;
        }
        let Some(page) = PAGE_TABLES.lock().unmap_page(address) else { return };
        forget(address);
        // SAFETY: `map` allocated it, since nobody else maps anything above the window's first byte, and nobody can reach it
        // there any more.
        unsafe { alloc::alloc::dealloc(page as *mut u8, PAGE) };
    }

    fn read(&self, address: u64) -> u64 {
        assert!(address >= WINDOW && address.is_multiple_of(8), "no frame at {address:#x}");
        // SAFETY: nothing is there but what `map` has put there, for words; elsewhere it is a page fault, which ends the kernel.
        unsafe { (address as *const u64).read_volatile() }
    }

    fn write(&self, address: u64, word: u64) {
        assert!(address >= WINDOW && address.is_multiple_of(8), "no frame at {address:#x}");
        // SAFETY: as in `read`.
        unsafe { (address as *mut u64).write_volatile(word) };
    }
}

/// Lets the processor forget what it knows of a page.
#[inline(always)]
pub fn forget(address: u64) {
    // SAFETY: only drops a cached translation.
    unsafe { x86::tlb::flush(address as usize) };
}

/// Where the page tables in use begin.
pub fn root() -> u64 {
    // SAFETY: reads a register.
    unsafe { x86::controlregs::cr3() }
}

/// Loads other page tables.
///
/// # Safety
/// They map what the kernel has where the ones before did, for as long as they are in use.
#[inline(always)]
pub unsafe fn load(root: u64) {
    // SAFETY: by the caller.
    unsafe { x86::controlregs::cr3_write(root) };
}

/// The address that the last page fault was about.
pub fn fault_address() -> u64 {
    // SAFETY: reads a register.
    unsafe { x86::controlregs::cr2() as u64 }
}

/// Loads the page tables again, which are the same.
#[inline(always)]
pub fn reload() {
    // SAFETY: the tables that are in use.
    unsafe { x86::controlregs::cr3_write(x86::controlregs::cr3()) };
}

/// Gives all free RAM to the heap; how many bytes that is.
pub(super) fn fill_heap(handover: &Handover) -> u64 {
    let module = handover.module.map_or(0..0, |module| module.start.as_u64()..module.end.as_u64());
    let mut bytes = 0;
    for range in ram(handover, &[LOW_MEMORY, image_range(&image::layout()), module]) {
        let size = range.end - range.start;
        #[cfg(not(test))]
        // SAFETY: free RAM by the memory map, mapped as data, claimed here alone; the start info in it was copied.
        if unsafe { HEAP.lock().claim(range.start as *mut u8, size as usize) }.is_some() {
            bytes += size;
        }
    }
    bytes
}

fn ram(handover: &Handover, holes: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    let ranges = handover.memory.iter().map(|range| range.start.as_u64()..range.end.as_u64());
    free_pages(ranges, RAM_LIMIT, holes).into_iter()
}

fn image_range(layout: &Layout) -> Range<u64> {
    layout.text..layout.end
}

/// The shared-info page.
///
/// # Safety
/// The hypervisor has put it at [`SHARED_INFO_ADDRESS`], and that window is mapped.
pub(super) unsafe fn shared_info() -> &'static SharedInfo {
    // SAFETY: by the caller; every byte pattern is a valid page of atomics.
    unsafe { &*(SHARED_INFO_ADDRESS as *const SharedInfo) }
}

/// The mesh page, copied out.
///
/// # Safety
/// Domain 0 has put it at [`MESH_BASE`], and that window is mapped.
pub(super) unsafe fn mesh_page() -> MeshPage {
    // SAFETY: by the caller; domain 0 does not write to it any more.
    unsafe { (MESH_BASE.as_u64() as *const MeshPage).read_volatile() }
}
