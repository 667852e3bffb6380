//! Where the large pages of a guest's memory lie: the last few that its core looked up, so that a pointer in a hypercall
//! costs a comparison and not a walk through the EPT.
//!
//! It is a TLB kept by software, and is to be forgotten when the processor's is, which happens at the same place
//! (`core::guest_state::forget_translations`): when the core's domain changes, and before a frame that was taken out of the
//! domain's memory is used for anything else. Small pages are not kept, so those that come and go by grants do not matter
//! here. Nor are pages that the guest may not write.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::address::{GuestPhys, HostPhys};
use boot::cores::MAX_CORES;
use ept::{Access, View};

use super::physical::Identity;

/// The size of a large page. Larger ones are kept piece by piece.
pub const BYTES: u64 = 1 << SHIFT;
const SHIFT: u32 = 21;
/// Pages that are kept: page tables, stack and data of a kernel often lie in different ones.
const SLOTS: usize = 16;

/// A large page that was looked up: its number, plus one, and what is added to an address in it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    number: u64,
    offset: u64,
}

impl Window {
    /// None.
    pub const EMPTY: Self = Self { number: 0, offset: 0 };
}

/// The windows of one core, which alone uses them.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Windows {
    slots: [Slot; SLOTS],
}

#[derive(Debug)]
struct Slot {
    /// The large page's number, plus one; 0: none.
    number: AtomicU64,
    /// From an address in it to where that is.
    offset: AtomicU64,
}

/// All cores' windows.
pub static WINDOWS: [Windows; MAX_CORES] = [const { Windows::new() }; MAX_CORES];

impl Windows {
    const fn new() -> Self {
        Self { slots: [const { Slot { number: AtomicU64::new(0), offset: AtomicU64::new(0) } }; SLOTS] }
    }

    /// Where an address is, if it is in a large page that is known; `window` is the last that was looked at.
    #[inline(always)]
    pub fn at(&self, window: &mut Window, address: u64) -> Option<HostPhys> {
        let number = (address >> SHIFT) + 1;
        if window.number != number {
            let slot = &self.slots[number as usize % SLOTS];
            if slot.number.load(Relaxed) != number {
                return None;
            }
            *window = Window { number, offset: slot.offset.load(Relaxed) };
        }
        Some(HostPhys::new(address.wrapping_add(window.offset)))
    }

    /// Keeps the large page that an address is in, if it is in one that the guest may read and write.
    pub fn note(&self, view: &View, address: u64) {
        let start = address & !(BYTES - 1);
        let whole = |access| {
            let page = view.translate(&Identity, GuestPhys::new(start), access)?;
            (page.bytes_left >= BYTES).then_some(page.hpa.as_u64())
        };
        if let (Some(host), Some(_)) = (whole(Access::Write), whole(Access::Read)) {
            let number = (address >> SHIFT) + 1;
            let slot = &self.slots[number as usize % SLOTS];
            slot.number.store(number, Relaxed);
            slot.offset.store(host.wrapping_sub(start), Relaxed);
        }
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        for slot in &self.slots {
            slot.number.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::address::PageCount;
    use ept::{Ept, Invalidation, MemoryType, PageSize, Permissions, Settings};
    use std::boxed::Box;

    use crate::memory::physical::Pool;

    const LARGE: u64 = BYTES;
    /// Where the memory of these tests is said to lie. Nobody looks there.
    const HOST: u64 = 0x4000_0000;

    fn guest() -> (Pool, Ept) {
        #[repr(align(4096))]
        struct Frame([u64; 512]);
        let mut pool = Pool::new();
        for _ in 0..16 {
            let frame: &Frame = Box::leak(Box::new(Frame([0; 512])));
            pool.add(HostPhys::new(frame.0.as_ptr() as u64)).unwrap();
        }
        let settings = Settings {
            largest_page: PageSize::Size1GiB,
            execute_only: false,
            accessed_dirty: false,
            host_address_bits: 48,
        };
        let ept = Ept::new(&mut pool, settings).unwrap();
        (pool, ept)
    }

    fn map(pool: &mut Pool, ept: &mut Ept, gpa: u64, bytes: u64, rights: Permissions) {
        let (at, to) = (GuestPhys::new(gpa), HostPhys::new(HOST + gpa));
        ept.map(pool, at, to, PageCount::covering(bytes), rights, MemoryType::WriteBack).unwrap();
    }

    /// Where an address is as far as is known, once it has been looked up.
    fn place(windows: &Windows, ept: &Ept, gpa: u64) -> Option<u64> {
        windows.note(&ept.view(), gpa);
        windows.at(&mut Window::EMPTY.clone(), gpa).map(HostPhys::as_u64)
    }

    #[test]
    fn large_pages_are_kept_until_they_are_forgotten() {
        let (mut pool, mut ept) = guest();
        let windows = Windows::new();
        map(&mut pool, &mut ept, LARGE, 8 * LARGE, Permissions::READ_WRITE);
        for gpa in [LARGE, LARGE + 5, 5 * LARGE - 1, LARGE + 7] {
            assert_eq!(place(&windows, &ept, gpa), Some(HOST + gpa));
        }
        let gone = ept.unmap(&mut pool, GuestPhys::new(LARGE), PageCount::covering(LARGE));
        assert_eq!(gone, Ok(Invalidation::Needed));
        assert!(place(&windows, &ept, LARGE).is_some(), "nobody has said so yet");
        windows.forget();
        assert_eq!((place(&windows, &ept, LARGE), place(&windows, &ept, 0)), (None, None));
        assert_eq!(place(&windows, &ept, 2 * LARGE), Some(HOST + 2 * LARGE));
    }

    #[test]
    fn the_last_one_is_good_for_its_own_addresses_alone() {
        let (mut pool, mut ept) = guest();
        let windows = Windows::new();
        map(&mut pool, &mut ept, 0, 2 * LARGE, Permissions::READ_WRITE);
        windows.note(&ept.view(), 0);
        let mut last = Window::EMPTY;
        let mut at = |gpa| windows.at(&mut last, gpa).map(HostPhys::as_u64);
        assert_eq!(
            [0, LARGE - 1, LARGE, 16 * LARGE].map(&mut at),
            [Some(HOST), Some(HOST + LARGE - 1), None, None]
        );
    }

    #[test]
    fn what_is_small_or_not_writable_is_not_kept() {
        let (mut pool, mut ept) = guest();
        let windows = Windows::new();
        map(&mut pool, &mut ept, 0, 2 * 4096, Permissions::READ_WRITE);
        map(&mut pool, &mut ept, LARGE, LARGE, Permissions::READ);
        map(&mut pool, &mut ept, 2 * LARGE, LARGE - 4096, Permissions::READ_WRITE);
        for gpa in [0, 4096 + 8, LARGE, 2 * LARGE, 3 * LARGE, 1 << 48, u64::MAX] {
            assert_eq!(place(&windows, &ept, gpa), None, "{gpa:#x}");
        }
    }
}
