//! Calls, and pages to make them with and about.

use core::cell::UnsafeCell;

use abi::address::PAGE_SIZE;
use abi::xen::errno::Errno;
use guest_kernel::platform::atoll::hypercall;

/// Pages of this program's own that no act needs to keep.
pub const PAGES: u64 = 32;
/// A guest frame above all RAM and below the windows, with as many behind it.
pub const HOLE: u64 = 0xd000_0000 / PAGE_SIZE;

#[repr(C, align(4096))]
struct Region(UnsafeCell<[[u64; 512]; PAGES as usize]>);

// SAFETY: reached by raw pointers and by the hypervisor; that any word may change at any time is what it is for.
unsafe impl Sync for Region {}

static REGION: Region = Region(UnsafeCell::new([[0; 512]; PAGES as usize]));

/// The guest frame number of one of those pages: RAM is mapped to itself.
pub fn frame(page: u64) -> u64 {
    REGION.0.get() as u64 / PAGE_SIZE + page
}

/// Makes a call. What it left in RAX.
pub fn call(number: u64, arguments: [u64; 5]) -> u64 {
    // SAFETY: in this program each argument is a number, an address where nothing is, the address of a structure of the
    // call's that nobody else has a reference to, or one in those pages, which are reached by raw pointers.
    unsafe { hypercall::raw(number, arguments) }
}

/// A call of the form (operation, address of its structure).
pub fn with<T>(number: u64, operation: u64, argument: &mut T) -> u64 {
    call(number, [operation, core::ptr::from_mut(argument) as u64, 0, 0, 0])
}

/// Whether a call was accepted.
pub fn is_accepted(rax: u64) -> bool {
    Errno::from_rax(rax).is_none()
}
