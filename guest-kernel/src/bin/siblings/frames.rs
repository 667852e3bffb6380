//! Frames that come and go at the second virtual CPU's calls, while the first has their translations in its TLB: it must
//! find what is there now.

use core::cell::UnsafeCell;

use abi::xen::DOMID_SELF;
use abi::xen::errno::HypercallResult;
use abi::xen::hypercall::MEMORY_OP;
use abi::xen::memory::{self as op, AddToPhysmap, Reservation, space};
use guest_kernel::platform::atoll::hypercall;

const PAGE_BYTES: u64 = 4096;
/// A guest frame above all RAM, and below the windows.
const HOLE: u64 = 0xd000_0000 / PAGE_BYTES;

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u64; 512]>);

// SAFETY: reached by raw pointers alone; the two virtual CPUs take turns.
unsafe impl Sync for Page {}

static PAGE: Page = Page(UnsafeCell::new([0; 512]));

fn frame() -> u64 {
    PAGE.0.get() as u64 / PAGE_BYTES
}

/// The page's first word.
pub fn word() -> u64 {
    // SAFETY: a page of this program's; there is memory behind it whenever this is called.
    unsafe { PAGE.0.get().cast::<u64>().read_volatile() }
}

/// Writes it.
pub fn set_word(value: u64) {
    // SAFETY: as for `word`.
    unsafe { PAGE.0.get().cast::<u64>().write_volatile(value) }
}

fn call<T>(operation: u64, argument: &mut T) -> HypercallResult {
    let address = core::ptr::from_mut(argument) as u64;
    // SAFETY: the structure of that operation; the frames it names are those of the page above.
    unsafe { hypercall::call(MEMORY_OP, [operation, address, 0, 0, 0]) }
}

fn reserve(operation: u64) -> HypercallResult {
    let mut frames = [frame()];
    let extent_start = frames.as_mut_ptr() as u64;
    let mut list = Reservation {
        extent_start,
        nr_extents: 1,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        pad: [0; 3],
    };
    call(operation, &mut list)
}

fn put(idx: u64, gpfn: u64) -> HypercallResult {
    call(op::ADD_TO_PHYSMAP, &mut AddToPhysmap { domid: DOMID_SELF, size: 0, space: space::GMFN, idx, gpfn })
}

/// The page goes and comes again, as another frame; it moves away and back. Whether each step was done, a bit each.
pub fn go_and_come() -> u64 {
    let steps = [
        reserve(op::DECREASE_RESERVATION) == Ok(1),
        reserve(op::DECREASE_RESERVATION) == Ok(0),
        reserve(op::POPULATE_PHYSMAP) == Ok(1),
        word() == 0,
        put(frame(), HOLE) == Ok(0),
        put(HOLE, frame()) == Ok(0),
    ];
    steps.iter().enumerate().map(|(step, done)| u64::from(*done) << step).sum()
}

/// All of them.
pub const ALL_STEPS: u64 = (1 << 6) - 1;
