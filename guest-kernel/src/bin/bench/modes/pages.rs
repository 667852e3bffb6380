//! Work on page tables: the guest's own, which it changes as it likes.
//!
//! Two address spaces, parent and child, have the kernel where it always is and a window of their own at [`WINDOW`],
//! which one page table maps.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use boot::descriptors::InterruptFrame;
use guest_kernel::platform::atoll::memory;

use super::Meter;

/// Where the windows are: in the second 512 GiB, where the kernel has nothing.
const WINDOW: u64 = 1 << 39;
/// Entries of a table, pages of a window.
const ENTRIES: usize = 512;
const PAGE: u64 = 4096;
/// Entries changed in one batch.
const BATCH: usize = 64;
/// Frames behind a window's pages, by turns.
const FRAMES: usize = 32;
/// Pages that a child shares with its parent; how many of those it writes to, and how many new ones it touches.
const SHARED: usize = 16;
const WRITTEN: usize = 4;
const NEW: usize = 4;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
/// Accessed and dirty: the processor has nothing to write.
const USED: u64 = ACCESSED | 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PAGE_FAULT: u64 = 14;

/// A page of words, also a page table.
#[repr(C, align(4096))]
struct Page([AtomicU64; ENTRIES]);

/// An address space: root, the two tables below it that lead to the window, and the window's own.
struct Space {
    root: &'static Page,
    upper: &'static Page,
    middle: &'static Page,
    table: &'static Page,
    frames: &'static [Page],
}

/// The table that maps the window, and the frames behind it, for the page-fault handler.
static TABLE: AtomicPtr<Page> = AtomicPtr::new(core::ptr::null_mut());
static FRAMES_AT: AtomicU64 = AtomicU64::new(0);

impl Page {
    /// Where it lies: the kernel is mapped where it is.
    fn address(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }

    fn copy(&self, from: &Page) {
        for (to, from) in self.0.iter().zip(&from.0) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

fn pages(count: usize) -> &'static [Page] {
    let mut pages = Vec::new();
    pages.resize_with(count, || Page([const { AtomicU64::new(0) }; ENTRIES]));
    pages.leak()
}

/// An entry that leads to a frame or a table.
const fn entry(address: u64) -> u64 {
    address | PRESENT | WRITABLE | USED
}

impl Space {
    fn new() -> Option<Self> {
        let [root, upper, middle, table] = pages(4) else { return None };
        // They come in pairs that differ in one bit of their addresses.
        let frames = pages(FRAMES + 1);
        let odd = (frames[0].address() / PAGE % 2) as usize;
        Some(Self { root, upper, middle, table, frames: &frames[odd..odd + FRAMES] })
    }

    /// Makes its tables: those of the kernel, and a window that is empty.
    fn make(&self) {
        self.root.copy(kernel());
        for table in [self.upper, self.middle, self.table] {
            table.clear();
        }
        self.root.0[(WINDOW >> 39) as usize].store(entry(self.upper.address()), Ordering::Relaxed);
        self.upper.0[0].store(entry(self.middle.address()), Ordering::Relaxed);
        self.middle.0[0].store(entry(self.table.address()), Ordering::Relaxed);
    }

    /// Runs on in it.
    #[inline(always)]
    fn enter(&self) {
        TABLE.store(core::ptr::from_ref(self.table).cast_mut(), Ordering::Relaxed);
        FRAMES_AT.store(self.frames[0].address(), Ordering::Relaxed);
        // SAFETY: all that the kernel has is mapped in it as it is in the kernel's own.
        unsafe { memory::load(self.root.address()) };
    }

    /// Maps a page of the window to one of its frames.
    fn map(&self, page: usize, frame: usize) {
        let frame = self.frames[frame % FRAMES].address();
        self.table.0[page].store(entry(frame) | NO_EXECUTE, Ordering::Relaxed);
    }
}

/// The root that the kernel came with.
fn kernel() -> &'static Page {
    static ROOT: AtomicU64 = AtomicU64::new(0);
    if ROOT.load(Ordering::Relaxed) == 0 {
        ROOT.store(memory::root(), Ordering::Relaxed);
    }
    // SAFETY: the kernel's own root, which is mapped where it lies and is there for good.
    unsafe { &*(ROOT.load(Ordering::Relaxed) as *const Page) }
}

/// Address of a page of the window.
const fn at(page: usize) -> u64 {
    WINDOW + page as u64 * PAGE
}

/// Reads the first word of a page of the window.
#[inline(always)]
fn read(page: usize) {
    // SAFETY: what is not mapped there is when the page-fault handler returns; only these rows write to it.
    let value = unsafe { (at(page) as *const u64).read_volatile() };
    core::hint::black_box(value);
}

/// Writes it.
#[inline(always)]
fn write(page: usize) {
    // SAFETY: as for `read`.
    unsafe { (at(page) as *mut u64).write_volatile(1) };
}

/// Measures and prints all rows.
pub fn measure(meter: &Meter<'_>) {
    let own = kernel();
    let (Some(parent), Some(child)) = (Space::new(), Space::new()) else { return };
    for space in [&parent, &child] {
        space.make();
        (0..BATCH).for_each(|page| space.map(page, page));
    }
    parent.enter();
    // A frame is exchanged for its neighbour, and the page is used.
    let change = |page: usize| {
        let word = &parent.table.0[page];
        word.store(word.load(Ordering::Relaxed) ^ PAGE, Ordering::Relaxed);
    };
    meter.row("page_table_update", || {
        change(0);
        memory::forget(at(0));
        read(0);
    });
    meter.batched("page_table_batch", BATCH as u64, || {
        (0..BATCH).for_each(change);
        memory::reload();
        (0..BATCH).for_each(read);
    });
    meter.row("page_fault", || {
        parent.table.0[1].store(0, Ordering::Relaxed);
        memory::forget(at(1));
        read(1);
    });
    // The processor sets the flag anew: by itself, or with a fault that the guest knows nothing of.
    meter.row("page_accessed", || {
        let word = &parent.table.0[1];
        word.store(word.load(Ordering::Relaxed) & !ACCESSED, Ordering::Relaxed);
        memory::forget(at(1));
        read(1);
    });
    meter.row("page_table_load", memory::reload);
    meter.batched("context_switch", 10, || {
        for _ in 0..5 {
            for space in [&child, &parent] {
                space.enter();
                (0..4).for_each(read);
            }
        }
    });
    (0..SHARED).for_each(|page| parent.map(page, page));
    meter.batched("process", 1, || process(&parent, &child));
    // SAFETY: the root that the kernel came with.
    unsafe { memory::load(own.address()) };
    TABLE.store(core::ptr::null_mut(), Ordering::Relaxed);
}

/// What a kernel does to make a process and end it: tables, a copy of the parent's entries without the right to write, a
/// switch, reads, writes that make copies of pages, pages that are new, a switch back, and all of it taken down.
fn process(parent: &Space, child: &Space) {
    child.make();
    for (to, from) in child.table.0.iter().zip(&parent.table.0).take(SHARED) {
        to.store(from.load(Ordering::Relaxed) & !WRITABLE, Ordering::Relaxed);
    }
    child.enter();
    (0..SHARED).for_each(read);
    (0..WRITTEN).for_each(write);
    (SHARED..SHARED + NEW).for_each(write);
    parent.enter();
    child.table.clear();
}

/// Maps the page of the window that a fault missed; one that was not to be written to becomes a copy.
pub fn mend(frame: &mut InterruptFrame) -> bool {
    const WAS_PRESENT: u64 = 1;
    let table = TABLE.load(Ordering::Relaxed);
    let page = memory::fault_address().wrapping_sub(WINDOW) / PAGE;
    if frame.vector != PAGE_FAULT || table.is_null() || page >= ENTRIES as u64 {
        return false;
    }
    let page = page as usize;
    // SAFETY: `Space::enter` stored its addresses, and spaces are there for good.
    let (table, frames) = unsafe {
        let frames = FRAMES_AT.load(Ordering::Relaxed) as *const Page;
        (&*table, core::slice::from_raw_parts(frames, FRAMES))
    };
    let (word, frame_of_page) = (&table.0[page], &frames[page % FRAMES]);
    if frame.error_code & WAS_PRESENT != 0 {
        // SAFETY: the entry leads to a frame of the parent's, which is mapped where it lies.
        let original = unsafe { &*((word.load(Ordering::Relaxed) & FRAME) as *const Page) };
        frame_of_page.copy(original);
    }
    word.store(entry(frame_of_page.address()) | NO_EXECUTE, Ordering::Relaxed);
    memory::forget(at(page));
    true
}
