//! A guest's memory, as its hypercalls name it: by linear address.
//!
//! Whatever a guest passes is an allegation. Each access walks the guest's own page tables and then its EPT, page by
//! page, or what this core remembers of the latter ([`windows`](crate::memory::windows)), and copies; no reference into
//! guest memory is ever made, since the guest may change it meanwhile. Guests that make hypercalls with pointers run in
//! 64-bit mode with 4-level paging, or without paging.

use abi::address::{GuestPhys, GuestVirt, HostPhys, PAGE_SIZE};
use abi::xen::errno::Errno;
use ept::{Access, Translation, View};
use vmx::field;
use vmx::vmcs::Current;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::memory::physical::{Identity, pointer};
use crate::memory::windows::{self as window, Window, Windows};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// CR0: paging is on.
pub const CR0_PAGING: u64 = 1 << 31;
/// Access rights of CS: 64-bit code (SDM 3D, "Guest Register State").
pub const CS_LONG: u32 = 1 << 13;

/// The memory of the guest whose VMCS is current.
#[derive(Clone, Copy, Debug)]
pub struct GuestMemory {
    ept: View,
    windows: &'static Windows,
    paging: Paging,
}

/// Where something is, in two words, which come back in registers. No bytes: nowhere.
#[derive(Clone, Copy)]
struct Located {
    host: u64,
    left: u64,
}

impl Located {
    const NOWHERE: Self = Self { host: 0, left: 0 };
}

#[derive(Clone, Copy, Debug)]
enum Paging {
    Off,
    FourLevel {
        root: u64,
    },
    /// 32-bit or PAE paging.
    Other,
}

impl GuestMemory {
    /// Looks at how the guest pages now. `windows` are this core's.
    #[inline]
    pub fn new(ept: View, windows: &'static Windows, vmcs: &Current) -> Self {
        let paging = if vmcs.get(field::GUEST_CS_ACCESS_RIGHTS) & CS_LONG != 0 {
            Paging::FourLevel { root: vmcs.get(field::GUEST_CR3) & ADDRESS }
        } else if vmcs.get(field::GUEST_CR0) & CR0_PAGING == 0 {
            Paging::Off
        } else {
            Paging::Other
        };
        Self { ept, windows, paging }
    }

    /// Reads a value.
    #[inline(always)]
    pub fn read<T: FromBytes + IntoBytes>(&self, from: GuestVirt) -> Result<T, Errno> {
        match self.translate(from, Access::Read) {
            Some((host, left)) if left >= size_of::<T>() as u64 => {
                // SAFETY: by its EPT the guest's memory, all of it in one page. The guest may write there at the same
                // time: then the value is any mixture, and `T` takes any bytes.
                // `black_box`: what was read once is not read again after it was checked.
                Ok(core::hint::black_box(unsafe { pointer::<T>(host).read_unaligned() }))
            }
            _ => self.read_apart(from),
        }
    }

    /// The same where it is not in one page, or nowhere.
    #[cold]
    #[inline(never)]
    fn read_apart<T: FromBytes + IntoBytes>(&self, from: GuestVirt) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(from, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a value.
    #[inline]
    pub fn write<T: IntoBytes + Immutable>(&self, to: GuestVirt, value: &T) -> Result<(), Errno> {
        self.write_bytes(to, value.as_bytes())
    }

    /// Reads a value, lets `work` change it, and writes it back: one walk for both.
    #[inline(always)]
    pub fn update<T: FromBytes + IntoBytes + Immutable>(
        &self,
        at: GuestVirt,
        work: impl FnOnce(&mut T) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        match self.translate(at, Access::Write) {
            Some((host, left)) if left >= size_of::<T>() as u64 => {
                let place = pointer::<T>(host);
                // SAFETY: as in `read`; and the guest may be written to.
                let mut value = core::hint::black_box(unsafe { place.read_unaligned() });
                work(&mut value)?;
                // SAFETY: as above; this core alone changes the EPT, and `work` does not have it.
                unsafe { place.write_unaligned(value) };
                Ok(())
            }
            _ => {
                let mut value = self.read(at)?;
                work(&mut value)?;
                self.write(at, &value)
            }
        }
    }

    /// Reads bytes.
    pub fn read_bytes(&self, from: GuestVirt, into: &mut [u8]) -> Result<(), Errno> {
        self.copy(from, into.as_mut_ptr(), into.len() as u64, Access::Read)
    }

    /// Writes bytes.
    pub fn write_bytes(&self, to: GuestVirt, from: &[u8]) -> Result<(), Errno> {
        // `copy` only reads from the buffer when it writes to the guest.
        self.copy(to, from.as_ptr().cast_mut(), from.len() as u64, Access::Write)
    }

    /// Where a linear address really is, and how many bytes from there lie together.
    #[inline(always)]
    pub fn translate(&self, address: GuestVirt, access: Access) -> Option<(HostPhys, u64)> {
        let address = address.as_u64();
        let located = match (self.paging, access) {
            (Paging::FourLevel { root }, Access::Write) => self.locate::<true>(root, address),
            (Paging::FourLevel { root }, _) => self.locate::<false>(root, address),
            _ => Located::NOWHERE,
        };
        let located = if located.left == 0 { self.locate_slowly(address, access) } else { located };
        (located.left != 0).then(|| (HostPhys::new(located.host), located.left))
    }

    /// The usual case: the guest's own page tables (SDM 3A, "4-Level Paging") and what they lead to all lie in large pages.
    /// A kernel's tables mostly lie together, and so do they and what a small kernel passes.
    #[inline(never)]
    fn locate<const WRITE: bool>(&self, root: u64, linear: u64) -> Located {
        if (linear as i64) << 16 >> 16 != linear as i64 {
            return Located::NOWHERE;
        }
        let (mut table, mut shift, mut window) = (root, 39, Window::EMPTY);
        loop {
            let slot = table | (linear >> (shift - 3) & 0xff8);
            let Some(place) = self.windows.at(&mut window, slot) else { return Located::NOWHERE };
            // SAFETY: the window says that this is the guest's memory; a word that is aligned does not cross its page.
            let entry = unsafe { pointer::<u64>(place).read_volatile() };
            if entry & PRESENT == 0 || WRITE && entry & WRITABLE == 0 {
                return Located::NOWHERE;
            }
            if shift == 12 || entry & LARGE != 0 && shift < 39 {
                let within = (1u64 << shift) - 1;
                let offset = linear & within;
                let physical = entry & ADDRESS & !within | offset;
                let Some(place) = self.windows.at(&mut window, physical) else { return Located::NOWHERE };
                // A page that is larger than a window ends with it.
                let left = (within + 1 - offset).min(window::BYTES - physical % window::BYTES);
                return Located { host: place.as_u64(), left };
            }
            table = entry & ADDRESS;
            shift -= 9;
        }
    }

    /// Any case, and any refusal.
    #[cold]
    #[inline(never)]
    fn locate_slowly(&self, address: u64, access: Access) -> Located {
        let physical = match self.paging {
            Paging::FourLevel { root } => self.walk(root, address, access),
            Paging::Off => Some((address, PAGE_SIZE - address % PAGE_SIZE)),
            Paging::Other => None,
        };
        physical.map_or(Located::NOWHERE, |(physical, left)| match self.find(physical, access) {
            Some(found) => Located { host: found.hpa.as_u64(), left: left.min(found.bytes_left) },
            None => Located::NOWHERE,
        })
    }

    /// Where guest-physical memory is.
    fn find(&self, physical: u64, access: Access) -> Option<Translation> {
        self.windows.note(&self.ept, physical);
        self.ept.translate(&Identity, GuestPhys::new(physical), access)
    }

    /// What the guest's page tables say: a guest-physical address, and how much is left of its page.
    fn walk(&self, root: u64, linear: u64, access: Access) -> Option<(u64, u64)> {
        if (linear as i64) << 16 >> 16 != linear as i64 {
            return None;
        }
        let need = if matches!(access, Access::Write) { PRESENT | WRITABLE } else { PRESENT };
        let (mut table, mut shift) = (root, 39);
        loop {
            let slot = table | (linear >> (shift - 3) & 0xff8);
            let found = self.find(slot, Access::Read)?;
            // SAFETY: the EPT says that this is the guest's memory; a word that is aligned does not cross its page.
            let entry = unsafe { pointer::<u64>(found.hpa).read_volatile() };
            if entry & need != need {
                return None;
            }
            if shift == 12 || entry & LARGE != 0 && shift < 39 {
                let within = (1u64 << shift) - 1;
                let offset = linear & within;
                return Some((entry & ADDRESS & !within | offset, within + 1 - offset));
            }
            table = entry & ADDRESS;
            shift -= 9;
        }
    }

    /// Copies between guest memory and `buffer`, which has `count` bytes. What was copied before a page that is not
    /// there stays copied.
    fn copy(&self, guest: GuestVirt, buffer: *mut u8, count: u64, access: Access) -> Result<(), Errno> {
        let mut done = 0;
        while done < count {
            let at = guest.checked_add(done).ok_or(Errno::EFAULT)?;
            let (host, left) = self.translate(at, access).ok_or(Errno::EFAULT)?;
            let bytes = left.min(count - done) as usize;
            let (guest, own) = (pointer::<u8>(host), buffer.wrapping_add(done as usize));
            // SAFETY: `bytes` from `host` on are the guest's memory by its EPT, and from `own` on are the buffer's. The
            // guest may write there at the same time: then the copy is any mixture, which is checked after it.
            unsafe {
                match access {
                    Access::Write => core::ptr::copy_nonoverlapping(own, guest, bytes),
                    _ => core::ptr::copy_nonoverlapping(guest, own, bytes),
                }
            }
            done += bytes as u64;
        }
        Ok(())
    }
}
