//! From a host-physical address to a pointer: RAM is mapped at its own addresses.

use abi::address::{HostPhys, PAGE_SIZE};
use core::sync::atomic::{AtomicU64, Ordering};
use ept::{Frames, Tables};

/// The pointer to RAM at `address`.
pub fn pointer<T>(address: HostPhys) -> *mut T {
    address.as_u64() as *mut T
}

/// Fills `bytes` from `start` on with zeroes, eight at a time, and the rest singly.
///
/// # Safety
/// The range is RAM that nobody else uses now.
pub unsafe fn scrub(start: HostPhys, bytes: u64) {
    // SAFETY: by the caller; RAM is mapped writable at its own addresses.
    unsafe {
        core::arch::asm!(
            "rep stosq",
            "mov ecx, {rest:e}",
            "rep stosb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _,
            inout("rdi") pointer::<u8>(start) => _,
            in("rax") 0u64,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies eight bytes at a time, and the rest singly. Guests may write to either page meanwhile: then the copy is any
/// mixture.
///
/// # Safety
/// Both are memory, `bytes` long.
#[inline]
pub unsafe fn copy_bytes(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: by the caller.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            "mov ecx, {rest:e}",
            "rep movsb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// One word of a page table, as the processor shares it with us.
fn entry(table: HostPhys, index: usize) -> &'static AtomicU64 {
    let words: *mut AtomicU64 = pointer(table);
    // SAFETY: `ept` only names tables that came from a `Frames` below, which are whole frames of RAM, and indices below
    // 512. The frame may have gone back to the pool only if nobody walks it any more.
    unsafe { &*words.add(index % 512) }
}

/// Reads page tables where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

impl Tables for Identity {
    #[inline(always)]
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        entry(table, index).load(Ordering::Relaxed)
    }
}

/// Frames set aside for one domain's page tables, so that its own core can map without asking core 0.
#[derive(Debug, Default)]
pub struct Pool {
    frames: arrayvec::ArrayVec<HostPhys, { Pool::CAPACITY }>,
}

impl Pool {
    /// The most frames in a pool.
    pub const CAPACITY: usize = 64;

    /// An empty one.
    pub const fn new() -> Self {
        Self { frames: arrayvec::ArrayVec::new_const() }
    }

    /// How many are there.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// Adds one. Gives it back where the pool is full.
    pub fn add(&mut self, frame: HostPhys) -> Result<(), HostPhys> {
        self.frames.try_push(frame).map_err(|full| full.element())
    }

    /// Takes one out as it is.
    pub fn remove(&mut self) -> Option<HostPhys> {
        self.frames.pop()
    }
}

impl Tables for Pool {
    #[inline(always)]
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        Identity.read(table, index)
    }
}

impl Frames for Pool {
    fn allocate(&mut self) -> Option<HostPhys> {
        let frame = self.frames.pop()?;
        // SAFETY: frames in the pool are RAM of the hypervisor's that nobody uses.
        unsafe { scrub(frame, PAGE_SIZE) };
        Some(frame)
    }

    fn free(&mut self, frame: HostPhys) {
        // A pool that is full has had this frame from elsewhere; it then leaks until the domain ends, when the count
        // of tables shows it. `domain::build` fills a pool to an eighth.
        let _ = self.frames.try_push(frame);
    }

    fn write(&mut self, table: HostPhys, index: usize, value: u64) {
        entry(table, index).store(value, Ordering::Release);
    }

    fn swap(&mut self, table: HostPhys, index: usize, value: u64) -> u64 {
        entry(table, index).swap(value, Ordering::AcqRel)
    }
}
