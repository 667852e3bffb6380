//! `memory_op`: the checks of the operations that are about one page, or none.

use abi::xen::errno::Errno;
use abi::xen::memory::{
    AccessOp, AddToPhysmap, AddToPhysmapBatch, EXTENT_SHIFT, Exchange, INVALID_GFN, PodTarget, Reservation,
    ReservedDeviceMemoryMap, VnumaTopology, space,
};
use abi::xen::{DOMID_SELF, DomId};

use super::Caller;

/// Pages to be put somewhere: `count` of them, from page `index` of the space on, at `at` and behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Whose memory changes.
    pub domain: DomId,
    /// A [`space`], but for ranges, which are of `GMFN`.
    pub space: u32,
    /// The first page in that space.
    pub index: u64,
    /// The frame number it shall appear at.
    pub at: u64,
    /// How many.
    pub count: u64,
}

/// How much of a call is done already, where that has to fit in 16 bits.
pub fn done(operation: u64) -> Result<u16, Errno> {
    u16::try_from(operation >> EXTENT_SHIFT).map_err(|_| Errno::EDOM)
}

/// No operation that is done in one go is ever continued.
pub fn in_one_go(operation: u64) -> Result<(), Errno> {
    if operation >> EXTENT_SHIFT == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `add_to_physmap`, of which `done` pages are done.
pub fn add(
    caller: Caller,
    add: &AddToPhysmap,
    done: u16,
    exists: impl Fn(DomId) -> bool,
) -> Result<Places, Errno> {
    if add.space == space::GMFN_FOREIGN {
        return Err(Errno::ENOSYS);
    }
    let domain = permitted(caller, add.domid, add.space, exists)?;
    if add.gpfn == INVALID_GFN {
        return Err(Errno::EINVAL);
    }
    if add.space != space::GMFN_RANGE {
        return Ok(Places { domain, space: add.space, index: add.idx, at: add.gpfn, count: 1 });
    }
    let count = add.size.checked_sub(done).ok_or(Errno::EILSEQ)?;
    let size = u64::from(add.size);
    if add.gpfn.checked_add(size).is_none() || add.idx.checked_add(size).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    let skip = u64::from(done);
    Ok(Places { domain, space: space::GMFN, index: add.idx + skip, at: add.gpfn + skip, count: count.into() })
}

/// `add_to_physmap_batch`, of which `done` pages are done: the domain, and how many there are; none is no error.
pub fn add_batch(
    caller: Caller,
    batch: &AddToPhysmapBatch,
    done: u16,
    exists: impl Fn(DomId) -> bool,
) -> Result<(DomId, u16), Errno> {
    if u32::from(batch.space) == space::GMFN_RANGE {
        return Err(Errno::EOPNOTSUPP);
    }
    let domain = permitted(caller, batch.domid, batch.space.into(), exists)?;
    if batch.size < done || batch.size == done && done != 0 {
        return Err(Errno::EILSEQ);
    }
    Ok((domain, batch.size))
}

/// No guest has a device's registers to map.
fn permitted(
    caller: Caller,
    named: DomId,
    space: u32,
    exists: impl Fn(DomId) -> bool,
) -> Result<DomId, Errno> {
    let is_own = named == DOMID_SELF || named == caller.id;
    if !is_own && !exists(named) {
        return Err(Errno::ESRCH);
    }
    if space == self::space::DEV_MMIO {
        return Err(Errno::EACCES);
    }
    caller.subject(named, |_| true)
}

/// `exchange`: frames for other frames. A guest whose frame numbers are its own has nothing to gain by it.
pub fn exchange(caller: Caller, exchange: &Exchange, exists: impl Fn(DomId) -> bool) -> Result<u64, Errno> {
    let Exchange { given, taken, nr_exchanged } = exchange;
    let max_order = if caller.is_privileged { 18 } else { 9 };
    if given.extent_order.max(taken.extent_order) > max_order {
        return Err(Errno::EPERM);
    }
    let pages = |nr: u64, order: u32| nr.checked_shl(order).filter(|pages| pages >> order == nr);
    let (gives, takes) =
        (pages(given.nr_extents, given.extent_order), pages(taken.nr_extents, taken.extent_order));
    if *nr_exchanged > given.nr_extents || given.domid != taken.domid || gives.is_none() || gives != takes {
        return Err(Errno::EINVAL);
    }
    if *nr_exchanged == given.nr_extents {
        return Ok(0);
    }
    caller.subject(given.domid, exists)?;
    Err(Errno::EOPNOTSUPP)
}

/// `claim_pages`: memory is given at once or not at all, so there is nothing to be claimed. "Myself" is no number there.
pub fn claim(caller: Caller, claim: &Reservation, exists: impl Fn(DomId) -> bool) -> Result<u64, Errno> {
    if claim.extent_start != 0 || claim.extent_order != 0 || claim.mem_flags != 0 {
        return Err(Errno::EINVAL);
    }
    if claim.domid != caller.id && !exists(claim.domid) {
        return Err(Errno::EINVAL);
    }
    Err(if caller.is_privileged { Errno::ENOSYS } else { Errno::EPERM })
}

/// `set_pod_target` and `get_pod_target`: all memory is populated.
pub fn pod(caller: Caller, target: &PodTarget, exists: impl Fn(DomId) -> bool) -> Result<u64, Errno> {
    let own = target.domid == DOMID_SELF || target.domid == caller.id;
    if !own && !exists(target.domid) {
        return Err(Errno::ESRCH);
    }
    Err(if caller.is_privileged { Errno::ENOSYS } else { Errno::EPERM })
}

/// `get_vnumainfo`: no domain has virtual nodes.
pub fn vnuma(caller: Caller, topology: &VnumaTopology, exists: impl Fn(DomId) -> bool) -> Result<u64, Errno> {
    if topology.pad != 0 {
        return Err(Errno::EINVAL);
    }
    caller.subject(topology.domid, exists)?;
    Err(Errno::EOPNOTSUPP)
}

/// `access_op`: nobody watches another's memory.
pub fn access(caller: Caller, access: &AccessOp, exists: impl Fn(DomId) -> bool) -> Result<u64, Errno> {
    caller.other(access.domid, exists)?;
    Err(Errno::ENODEV)
}

/// `reserved_device_memory_map`: no device reserves any.
pub fn reserved_by_devices(map: &mut ReservedDeviceMemoryMap) -> Result<(), Errno> {
    if map.flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    map.nr_entries = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CONTROL, GUEST, exists};
    use super::*;
    use proptest::prelude::*;

    fn request(domid: DomId, space: u32, size: u16, idx: u64, gpfn: u64) -> AddToPhysmap {
        AddToPhysmap { domid, size, space, idx, gpfn }
    }

    fn added(caller: Caller, request: AddToPhysmap, done: u16) -> Result<Places, Errno> {
        add(caller, &request, done, exists)
    }

    #[test]
    fn one_page() {
        let found = added(GUEST, request(DOMID_SELF, space::SHARED_INFO, 9, 0, 0x1ff), 0);
        assert_eq!(found, Ok(Places { domain: 5, space: 0, index: 0, at: 0x1ff, count: 1 }));
        let error = |domid, space, gpfn| added(GUEST, request(domid, space, 0, 0, gpfn), 0).unwrap_err();
        assert_eq!(error(99, space::GMFN_FOREIGN, INVALID_GFN), Errno::ENOSYS);
        assert_eq!(error(99, space::DEV_MMIO, INVALID_GFN), Errno::ESRCH);
        assert_eq!(error(7, space::DEV_MMIO, INVALID_GFN), Errno::EACCES);
        assert_eq!(error(7, space::SHARED_INFO, INVALID_GFN), Errno::EPERM);
        assert_eq!(error(DOMID_SELF, space::SHARED_INFO, INVALID_GFN), Errno::EINVAL);
        assert_eq!(added(CONTROL, request(7, space::GMFN, 0, 3, 4), 0).unwrap().domain, 7);
    }

    #[test]
    fn a_range() {
        let range = |size, idx, gpfn| request(DOMID_SELF, space::GMFN_RANGE, size, idx, gpfn);
        let found = added(GUEST, range(9, 100, 200), 4);
        assert_eq!(found, Ok(Places { domain: 5, space: space::GMFN, index: 104, at: 204, count: 5 }));
        assert_eq!(added(GUEST, range(3, 0, 0), 4), Err(Errno::EILSEQ));
        assert_eq!(added(GUEST, range(3, u64::MAX - 1, 0), 0), Err(Errno::EOVERFLOW));
        assert_eq!(added(GUEST, range(3, 0, u64::MAX - 1), 0), Err(Errno::EOVERFLOW));
        assert_eq!(done(7 | 0xffff << 6), Ok(0xffff));
        assert_eq!(done(7 | 0x1_0000 << 6), Err(Errno::EDOM));
        assert_eq!((in_one_go(63), in_one_go(64)), (Ok(()), Err(Errno::EINVAL)));
    }

    #[test]
    fn a_batch() {
        let of = |domid, space: u32, size, done| {
            let batch = AddToPhysmapBatch {
                domid,
                space: space as u16,
                size,
                foreign_domid: 0,
                idxs: 0,
                gpfns: 0,
                errs: 0,
            };
            add_batch(GUEST, &batch, done, exists)
        };
        assert_eq!(of(99, space::GMFN_RANGE, 0, 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(of(99, space::GMFN, 0, 0), Err(Errno::ESRCH));
        assert_eq!(of(7, space::GMFN, 0, 0), Err(Errno::EPERM));
        assert_eq!(of(5, space::DEV_MMIO, 0, 0), Err(Errno::EACCES));
        assert_eq!(of(5, space::GMFN, 0, 0), Ok((5, 0)));
        assert_eq!(of(5, space::GMFN, 3, 3), Err(Errno::EILSEQ));
        assert_eq!(of(5, space::GMFN, 2, 3), Err(Errno::EILSEQ));
        assert_eq!(of(5, space::GMFN_FOREIGN, 4, 3), Ok((5, 4)));
    }

    #[test]
    fn an_exchange() {
        let list = |nr_extents, extent_order, domid| Reservation {
            extent_start: 0,
            nr_extents,
            extent_order,
            mem_flags: 0,
            domid,
            pad: [0; 3],
        };
        let of =
            |given, taken, nr_exchanged| exchange(GUEST, &Exchange { given, taken, nr_exchanged }, exists);
        let own = |nr, order| list(nr, order, DOMID_SELF);
        assert_eq!(of(own(1, 10), own(1, 10), 0), Err(Errno::EPERM));
        assert_eq!(of(own(1, 0), own(1, 0), 2), Err(Errno::EINVAL));
        assert_eq!(of(own(1, 0), list(1, 0, 7), 0), Err(Errno::EINVAL));
        assert_eq!(of(own(1, 0), own(2, 0), 0), Err(Errno::EINVAL));
        assert_eq!(of(own(1 << 60, 4), own(1 << 60, 4), 0), Err(Errno::EINVAL));
        assert_eq!(of(own(8, 0), own(1, 3), 8), Ok(0));
        assert_eq!(of(list(8, 0, 99), list(1, 3, 99), 0), Err(Errno::ESRCH));
        assert_eq!(of(list(8, 0, 7), list(1, 3, 7), 0), Err(Errno::EPERM));
        assert_eq!(of(own(8, 0), own(1, 3), 0), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn what_is_not_there() {
        let topology = |domid, pad| VnumaTopology {
            domid,
            pad,
            nr_vnodes: 0,
            nr_vcpus: 0,
            nr_vmemranges: 0,
            buffers: [0; 3],
        };
        assert_eq!(vnuma(GUEST, &topology(99, 1), exists), Err(Errno::EINVAL));
        assert_eq!(vnuma(GUEST, &topology(99, 0), exists), Err(Errno::ESRCH));
        assert_eq!(vnuma(GUEST, &topology(7, 0), exists), Err(Errno::EPERM));
        assert_eq!(vnuma(GUEST, &topology(5, 0), exists), Err(Errno::EOPNOTSUPP));
        let op = |domid| AccessOp { op: 0, access: 0, domid, nr: 0, pfn: 0, pfn_list: 0, access_list: 0 };
        assert_eq!(access(GUEST, &op(DOMID_SELF), exists), Err(Errno::ESRCH));
        assert_eq!(access(GUEST, &op(5), exists), Err(Errno::EPERM));
        assert_eq!(access(GUEST, &op(7), exists), Err(Errno::EPERM));
        assert_eq!(access(CONTROL, &op(7), exists), Err(Errno::ENODEV));
        let claimed = |extent_start, extent_order, mem_flags, domid| {
            let list =
                Reservation { extent_start, nr_extents: 1, extent_order, mem_flags, domid, pad: [0; 3] };
            claim(GUEST, &list, exists).unwrap_err()
        };
        assert_eq!([claimed(8, 0, 0, 5), claimed(0, 1, 0, 5), claimed(0, 0, 1, 5)], [Errno::EINVAL; 3]);
        assert_eq!([claimed(0, 0, 0, DOMID_SELF), claimed(0, 0, 0, 99)], [Errno::EINVAL; 2]);
        assert_eq!([claimed(0, 0, 0, 5), claimed(0, 0, 0, 7)], [Errno::EPERM; 2]);
        let target = |domid| PodTarget {
            target_pages: 0,
            tot_pages: 0,
            pod_cache_pages: 0,
            pod_entries: 0,
            domid,
            pad: [0; 3],
        };
        assert_eq!(pod(GUEST, &target(99), exists), Err(Errno::ESRCH));
        assert_eq!(pod(GUEST, &target(DOMID_SELF), exists), Err(Errno::EPERM));
        assert_eq!(pod(CONTROL, &target(7), exists), Err(Errno::ENOSYS));
        let mut map = ReservedDeviceMemoryMap { flags: 2, nr_entries: 7, buffer: 0, device: [0; 2] };
        assert_eq!(reserved_by_devices(&mut map), Err(Errno::EINVAL));
        map.flags = 1;
        assert_eq!((reserved_by_devices(&mut map), map.nr_entries), (Ok(()), 0));
    }

    proptest! {
        #[test]
        fn any_words_are_harmless(domid: u16, size: u16, space in 0u32..8, idx: u64, gpfn: u64, done: u16) {
            let request = request(domid, space, size, idx, gpfn);
            if let Ok(places) = added(GUEST, request, done) {
                prop_assert_eq!(places.domain, 5);
                prop_assert!(places.at.checked_add(places.count).is_some() || places.count == 1);
            }
        }

        #[test]
        fn any_exchange_is_harmless(nr: [u64; 3], orders: [u32; 2]) {
            let list = |nr_extents, extent_order| Reservation {
                extent_start: 0, nr_extents, extent_order, mem_flags: 0, domid: 5, pad: [0; 3],
            };
            let given = Exchange { given: list(nr[0], orders[0]), taken: list(nr[1], orders[1]), nr_exchanged: nr[2] };
            let _ = exchange(GUEST, &given, exists);
        }
    }
}
