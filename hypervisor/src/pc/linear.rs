//! A full guest's memory by linear address, as its processor would access it for an instruction: by the guest's own page
//! tables in whatever mode of paging, with its own rights, and with accessed and dirty flags. Which of its tables those
//! are is the same with EPT and with shadow page tables; what lies behind them is not.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use abi::address::{GuestPhys, GuestVirt, HostPhys};
use ept::guest_walk::{EntryWidth, Exchange, GuestTables, Paging, Privilege, Refusal, Request, walk};
use ept::{Access, View};
use vmx::field;
use vmx::injection::Injection;

use super::mmio::Refused;
use super::shadow;
use crate::core::Core;
use crate::memory::physical::{Identity, pointer};

/// RFLAGS.AC.
const ALIGNMENT_CHECK: u64 = 1 << 18;

/// Where a linear address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// In the guest's memory.
    pub gpa: GuestPhys,
    /// Really.
    pub host: HostPhys,
    /// Bytes from there to the end of the page.
    pub left: u64,
}

/// A guest's page tables behind its EPT.
#[derive(Clone, Copy, Debug)]
pub struct BehindEpt(View);

impl GuestTables for BehindEpt {
    fn read(&self, at: GuestPhys, width: EntryWidth) -> Option<u64> {
        let host = self.0.translate(&Identity, at, Access::Read)?.hpa;
        // SAFETY: by its EPT the guest's own memory, and aligned by the trait's contract. The guest may write there
        // meanwhile.
        Some(unsafe {
            match width {
                EntryWidth::Four => (*pointer::<AtomicU32>(host)).load(Relaxed).into(),
                EntryWidth::Eight => (*pointer::<AtomicU64>(host)).load(Relaxed),
            }
        })
    }

    fn compare_exchange(&self, at: GuestPhys, width: EntryWidth, current: u64, new: u64) -> Exchange {
        let Some(found) = self.0.translate(&Identity, at, Access::Write) else {
            return Exchange::NotWritable;
        };
        // SAFETY: as for `read`, and the guest may write there.
        let is_stored = unsafe {
            match width {
                EntryWidth::Four => (*pointer::<AtomicU32>(found.hpa))
                    .compare_exchange(current as u32, new as u32, AcqRel, Relaxed)
                    .is_ok(),
                EntryWidth::Eight => {
                    (*pointer::<AtomicU64>(found.hpa)).compare_exchange(current, new, AcqRel, Relaxed).is_ok()
                }
            }
        };
        if is_stored { Exchange::Stored } else { Exchange::Changed }
    }
}

/// What became of a walk.
pub(super) fn refused(at: GuestVirt, refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Fault(code) => Refused::Fault(at, code),
        Refusal::NotCanonical => Refused::Raise(Injection::GENERAL_PROTECTION),
        Refusal::OutsideMemory(_) | Refusal::Contended => Refused::Unknown,
    }
}

/// Where an address is for a guest with EPT.
fn locate(view: View, paging: &Paging, at: GuestVirt, request: Request) -> Result<Found, Refused> {
    let found = walk(&BehindEpt(view), paging, at, request).map_err(|refusal| refused(at, refusal))?;
    // Nothing is said of where the guest has no memory, or a device.
    let memory = view.translate(&Identity, found.gpa, request.access).ok_or(Refused::Unknown)?;
    Ok(Found { gpa: found.gpa, host: memory.hpa, left: found.bytes_left().min(memory.bytes_left) })
}

/// The guest's registers, as a walk needs them. With EPT they are those that it runs with.
fn paging(core: &Core) -> Paging {
    let vmcs = &core.vmcs;
    Paging {
        cr0: vmcs.get(field::GUEST_CR0),
        cr3: vmcs.get(field::GUEST_CR3),
        cr4: vmcs.get(field::GUEST_CR4),
        efer: vmcs.get(field::GUEST_EFER),
        pdptes: [field::GUEST_PDPTE0, field::GUEST_PDPTE1, field::GUEST_PDPTE2, field::GUEST_PDPTE3]
            .map(|pdpte| vmcs.get(pdpte)),
        // There are no protection keys.
        pkru: 0,
        features: core.machine.cpuid.paging(),
    }
}

/// Where an address is, for an instruction of the guest's that wants this of it.
pub(super) fn find(core: &mut Core, at: GuestVirt, access: Access) -> Result<Found, Refused> {
    let privilege = if shadow::is_user(core) {
        Privilege::User
    } else {
        let alignment_check = core.vmcs.get(field::GUEST_RFLAGS) & ALIGNMENT_CHECK != 0;
        Privilege::Supervisor { alignment_check }
    };
    let request = Request { access, privilege };
    if shadow::shadows(core).is_some() {
        return shadow::find(core, at, request);
    }
    let view = core.domain().map_err(|_| Refused::Unknown)?.view;
    locate(view, &paging(core), at, request)
}

/// Reads: data, or instructions to carry out.
pub(super) fn read(core: &mut Core, from: GuestVirt, into: &mut [u8], access: Access) -> Result<(), Refused> {
    let mut done = 0;
    while done < into.len() {
        let found = find(core, from.checked_add(done as u64).ok_or(Refused::Unknown)?, access)?;
        let piece = &mut into[done..];
        let bytes = piece.len().min(found.left as usize);
        take(&found, &mut piece[..bytes]);
        done += bytes;
    }
    Ok(())
}

/// Writes, all of it or nothing.
pub(super) fn write(core: &mut Core, to: GuestVirt, from: &[u8]) -> Result<(), Refused> {
    let first = find(core, to, Access::Write)?;
    let (here, beyond) = from.split_at(from.len().min(first.left as usize));
    if !beyond.is_empty() {
        let at = to.checked_add(here.len() as u64).ok_or(Refused::Unknown)?;
        let second = find(core, at, Access::Write)?;
        put(core, &second, beyond);
    }
    put(core, &first, here);
    Ok(())
}

/// Reads what lies in one page.
pub(super) fn take(found: &Found, into: &mut [u8]) {
    let bytes = into.len().min(found.left as usize);
    // SAFETY: the guest's own memory, within one page. It may write there meanwhile: then this is any mixture.
    unsafe { core::ptr::copy_nonoverlapping(pointer::<u8>(found.host), into.as_mut_ptr(), bytes) };
}

/// Writes within one page that was found for writing.
pub(super) fn put(core: &mut Core, found: &Found, from: &[u8]) {
    if shadow::shadows(core).is_some() {
        return shadow::write_physical(core, found.gpa, from);
    }
    let bytes = from.len().min(found.left as usize);
    // SAFETY: by its EPT the guest's own memory, within one page. It may write there meanwhile: then this is any mixture.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), pointer::<u8>(found.host), bytes) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::address::{PAGE_SIZE, PageCount};
    use ept::guest_walk::{Features, PageFaultCode};
    use ept::{Ept, MemoryType, PageSize, Permissions, Settings};
    use std::boxed::Box;

    use crate::memory::physical::Pool;

    #[repr(align(4096))]
    struct Frame([u8; 4096]);

    fn frame() -> HostPhys {
        let frame: &'static mut Frame = Box::leak(Box::new(Frame([0; 4096])));
        HostPhys::new(&raw mut frame.0 as u64)
    }

    /// A guest with eight pages of memory from 0 on, of which the last can only be read.
    struct Guest {
        ept: Ept,
        frames: [HostPhys; 8],
    }

    impl Guest {
        fn new() -> Self {
            let mut pool = Pool::new();
            for _ in 0..8 {
                pool.add(frame()).unwrap();
            }
            let settings = Settings {
                largest_page: PageSize::Size4KiB,
                execute_only: false,
                accessed_dirty: false,
                host_address_bits: 48,
            };
            let mut ept = Ept::new(&mut pool, settings).unwrap();
            let frames = core::array::from_fn(|_| frame());
            for (page, &to) in frames.iter().enumerate() {
                let rights =
                    if page == 7 { Permissions::READ | Permissions::EXECUTE } else { Permissions::all() };
                let at = GuestPhys::new(page as u64 * PAGE_SIZE);
                ept.map(&mut pool, at, to, PageCount::new(1), rights, MemoryType::WriteBack).unwrap();
            }
            Self { ept, frames }
        }

        fn narrow(&self, at: usize, entry: u32) {
            let place = pointer::<u32>(self.frames[at / 4096]);
            // SAFETY: a frame of this test's.
            unsafe { place.add(at % 4096 / 4).write(entry) };
        }

        fn wide(&self, at: usize, entry: u64) {
            let place = pointer::<u64>(self.frames[at / 4096]);
            // SAFETY: as above.
            unsafe { place.add(at % 4096 / 8).write(entry) };
        }

        fn entry(&self, at: usize) -> u32 {
            // SAFETY: as above.
            unsafe { pointer::<u32>(self.frames[at / 4096]).add(at % 4096 / 4).read() }
        }

        fn find(&self, paging: &Paging, at: u64, request: Request) -> Result<(u64, u64), Refused> {
            let found = locate(self.ept.view(), paging, GuestVirt::new(at), request)?;
            let page = (found.gpa.as_u64() / PAGE_SIZE) as usize;
            let offset = found.gpa.as_u64() % PAGE_SIZE;
            assert_eq!(found.host.as_u64(), self.frames[page].as_u64() + offset);
            Ok((found.gpa.as_u64(), found.left))
        }
    }

    const PG: u64 = 1 << 31 | 1 << 16 | 1;
    const OFF: Paging = Paging {
        cr0: 0x10,
        cr3: 0x1000,
        cr4: 0,
        efer: 0,
        pdptes: [0; 4],
        pkru: 0,
        features: Features { address_bits: 40, gigabyte_pages: false, pse36: false },
    };
    const READ: Request =
        Request { access: Access::Read, privilege: Privilege::Supervisor { alignment_check: false } };
    const WRITE: Request = Request { access: Access::Write, ..READ };
    const USER: Request = Request { privilege: Privilege::User, ..WRITE };

    fn fault(at: u64, code: u32) -> Result<(u64, u64), Refused> {
        Err(Refused::Fault(GuestVirt::new(at), PageFaultCode::from_bits_retain(code)))
    }

    #[test]
    fn without_paging() {
        let guest = Guest::new();
        assert_eq!(guest.find(&OFF, 0x2ffe, WRITE), Ok((0x2ffe, 2)));
        assert_eq!(guest.find(&OFF, 0x7000, READ), Ok((0x7000, 4096)));
        assert_eq!(guest.find(&OFF, 0x7000, WRITE), Err(Refused::Unknown), "read-only memory");
        assert_eq!(guest.find(&OFF, 0x8000, READ), Err(Refused::Unknown), "no memory");
    }

    #[test]
    fn paging_with_32_bits() {
        let guest = Guest::new();
        let paging = Paging { cr0: PG, ..OFF };
        // Linear 0xffc05000: the last directory entry, table at 0x2000, its sixth entry. Then a page for reading alone.
        guest.narrow(0x1ffc, 0x2000 | 7);
        guest.narrow(0x2014, 0x3000 | 3);
        guest.narrow(0x2018, 0x4000 | 5);
        assert_eq!(guest.find(&paging, 0xffc0_5010, WRITE), Ok((0x3010, 4080)));
        assert_eq!(guest.entry(0x2014) & 0x60, 0x60, "accessed and dirty");
        assert_eq!(guest.entry(0x1ffc) & 0x60, 0x20, "accessed");
        assert_eq!(guest.find(&paging, 0xffc0_5010, USER), fault(0xffc0_5010, 7), "not the user's");
        assert_eq!(guest.find(&paging, 0xffc0_6000, WRITE), fault(0xffc0_6000, 3));
        assert_eq!(guest.find(&paging, 0xffc0_7000, READ), fault(0xffc0_7000, 0));
    }

    #[test]
    fn paging_by_pae() {
        let guest = Guest::new();
        let mut paging = Paging { cr0: PG, cr4: 1 << 5, efer: 1 << 11, ..OFF };
        paging.pdptes[3] = 0x2000 | 1;
        guest.wide(0x2ff8, 0x3000 | 7);
        guest.wide(0x3008, 0x5000 | 1 << 63 | 3);
        assert_eq!(guest.find(&paging, 0xffe0_1800, WRITE), Ok((0x5800, 2048)));
        let fetch = Request { access: Access::Execute, ..READ };
        assert_eq!(guest.find(&paging, 0xffe0_1800, fetch), fault(0xffe0_1800, 0x11), "no instructions");
        assert_eq!(guest.find(&paging, 0x1800, READ), fault(0x1800, 0), "no such directory");
    }

    #[test]
    fn paging_with_64_bits() {
        let guest = Guest::new();
        let paging = Paging { cr0: PG, cr4: 1 << 5, efer: 1 << 8 | 1 << 10, ..OFF };
        for (table, next) in [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000), (0x4000, 0x6000)] {
            guest.wide(table, next | 3);
        }
        assert_eq!(guest.find(&paging, 0x123, WRITE), Ok((0x6123, 4096 - 0x123)));
        assert_eq!(
            guest.find(&paging, 1 << 47, READ),
            Err(Refused::Raise(Injection::GENERAL_PROTECTION)),
            "not canonical"
        );
        guest.wide(0x2000, 0x9000 | 3);
        assert_eq!(guest.find(&paging, 0x123, READ), Err(Refused::Unknown), "tables outside of memory");
    }
}
