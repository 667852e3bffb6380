use super::*;
use core::cell::RefCell;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

fn words(entries: usize) -> Vec<AtomicU32> {
    (0..entries * 2).map(|_| AtomicU32::new(0)).collect()
}

/// A hypervisor that lets domain 3 be used as its table says.
struct Fake<'a> {
    table: &'a [AtomicU32],
    mapped: RefCell<BTreeMap<u32, (u32, u64)>>,
}

impl Hypervisor for Fake<'_> {
    fn map(&self, operations: &mut [MapGrantRef]) -> Result<(), Errno> {
        for op in operations {
            let Some(header) = self.table.get(op.reference as usize * 2).filter(|_| op.dom == 3) else {
                op.status = status::BAD_GNTREF;
                continue;
            };
            let says = header.load(Ordering::Relaxed) as u16;
            let write = op.flags & map_flag::READONLY == 0;
            if says & flag::TYPE != flag::PERMIT_ACCESS || write && says & flag::READONLY != 0 {
                op.status = status::GENERAL_ERROR;
                continue;
            }
            header.fetch_or(flag::READING.into(), Ordering::Relaxed);
            op.handle = self.mapped.borrow().len() as u32 + 7;
            op.status = status::OKAY;
            self.mapped.borrow_mut().insert(op.handle, (op.reference, op.host_addr));
        }
        Ok(())
    }

    fn unmap(&self, operations: &mut [UnmapGrantRef]) -> Result<(), Errno> {
        for op in operations {
            op.status = status::BAD_HANDLE;
            if let Some((reference, address)) = self.mapped.borrow_mut().remove(&op.handle) {
                assert_eq!(address, op.host_addr);
                let header = &self.table[reference as usize * 2];
                header.fetch_and(!u32::from(flag::READING), Ordering::Relaxed);
                op.status = status::OKAY;
            }
        }
        Ok(())
    }

    fn copy(&self, _: &mut [Copy]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
}

#[test]
fn entries_are_used_again() {
    let words = words(RESERVED_ENTRIES as usize + 2);
    let mut table = Table::new(&words);
    let first = table.grant(3, 0x77, Access::Write).unwrap();
    assert_eq!(first, Reference(RESERVED_ENTRIES));
    assert_eq!(words[first.0 as usize * 2].load(Ordering::Relaxed), 0x0003_0001);
    assert_eq!(words[first.0 as usize * 2 + 1].load(Ordering::Relaxed), 0x77);
    let second = table.grant(4, 1, Access::Read).unwrap();
    assert_eq!(table.grant(5, 1, Access::Read), None);
    assert_eq!(table.revoke(first), Ok(()));
    assert_eq!(table.revoke(first), Ok(()), "once is enough");
    assert_eq!(table.grant(5, 1, Access::Read), Some(first));
    assert_eq!(table.grant(5, 1, Access::Read), None);
    assert_eq!((table.revoke(second), table.revoke(Reference(u32::MAX))), (Ok(()), Ok(())));
}

#[test]
fn what_is_mapped_cannot_be_taken_back() {
    let words = words(16);
    let mut table = Table::new(&words);
    let fake = Fake { table: &words, mapped: RefCell::default() };
    let mut window = Window::new(0x10_0000, 2);
    let reference = table.grant(9, 5, Access::Read).unwrap();
    assert_eq!(window.map(&fake, 3, reference, Access::Write), Err(Refused::Status(status::GENERAL_ERROR)));
    assert_eq!(window.map(&fake, 4, reference, Access::Read), Err(Refused::Status(status::BAD_GNTREF)));
    let mapped = window.map(&fake, 3, reference, Access::Read).unwrap();
    assert_eq!(mapped.address, 0x10_0000);
    assert!(table.is_used(reference));
    assert_eq!(table.revoke(reference), Err(InUse));
    let more: Vec<_> = vec![window.map(&fake, 3, reference, Access::Read).unwrap().address];
    assert_eq!(more, [0x10_1000]);
    assert_eq!(window.map(&fake, 3, reference, Access::Read), Err(Refused::NoRoom));
    window.unmap(&fake, mapped).unwrap();
    assert_eq!((table.is_used(reference), table.revoke(reference)), (false, Ok(())));
    assert_eq!(copy(&fake, Copy::default()), Err(Refused::Call(Errno::EFAULT)));
}
