//! Calls, and memory to make them with.

use core::cell::UnsafeCell;

use abi::address::PAGE_SIZE;
use guest_kernel::platform::atoll::hypercall;

/// A linear address where nothing is mapped.
pub const NOWHERE: u64 = 0x7fff_ffff_f000;
/// A domain that does not exist.
pub const NOBODY: u16 = 0x6fff;
/// A guest frame above all RAM, and below the windows.
pub const HOLE: u64 = 0xd000_0000 / PAGE_SIZE;

/// Makes a call. What it left in RAX.
pub fn call(number: u64, arguments: [u64; 5]) -> u64 {
    // SAFETY: in this program each argument is a number, an address where nothing is mapped, or the address of a
    // structure of the call's, of which nobody else has a reference, or of [`PAGES`], which are reached by raw pointers.
    unsafe { hypercall::raw(number, arguments) }
}

/// A call of the form (operation, address of its structure).
pub fn with<T>(number: u64, operation: u64, argument: &mut T) -> u64 {
    call(number, [operation, core::ptr::from_mut(argument) as u64, 0, 0, 0])
}

/// The address of something that a call may read and write.
pub fn address<T: ?Sized>(of: &mut T) -> u64 {
    core::ptr::from_mut(of).cast::<u8>() as u64
}

/// Frames of this program's own, to be given away and taken back.
#[repr(C, align(4096))]
pub struct Pages(UnsafeCell<[[u64; 512]; 8]>);

// SAFETY: one core, one thread, and no references: see `word`.
unsafe impl Sync for Pages {}

/// Those.
pub static PAGES: Pages = Pages(UnsafeCell::new([[0; 512]; 8]));

/// The guest frame number of a page: RAM is mapped to itself.
pub fn frame(page: usize) -> u64 {
    PAGES.0.get() as u64 / PAGE_SIZE + page as u64
}

/// The address of a page.
pub fn page_address(page: usize) -> u64 {
    PAGES.0.get() as u64 + page as u64 * PAGE_SIZE
}

/// Reads a page's first word.
pub fn word(page: usize) -> u64 {
    // SAFETY: RAM of this program's; who calls this knows that there is memory behind it now.
    unsafe { PAGES.0.get().cast::<[u64; 512]>().add(page).cast::<u64>().read_volatile() }
}

/// Writes a page's first word.
pub fn set_word(page: usize, value: u64) {
    // SAFETY: as for `word`.
    unsafe { PAGES.0.get().cast::<[u64; 512]>().add(page).cast::<u64>().write_volatile(value) }
}
