//! `memory_op`: reservations, maps, and what is not a guest's.

use abi::xen::hypercall::MEMORY_OP;
use abi::xen::memory::{
    self as op, AccessOp, E820_RAM, E820Entry, EXTENT_SHIFT, Exchange, ForeignMemoryMap, MemoryMap,
    PodTarget, Reservation, ReservedDeviceMemoryMap, VnumaTopology,
};
use abi::xen::{DOMID_SELF, DomId};

use crate::call::{HOLE, NOBODY, NOWHERE, address, call, frame, set_word, with, word};
use crate::tally::{Error, Tally};

fn list(frames: &mut [u64], extent_order: u32, domid: DomId) -> Reservation {
    Reservation {
        extent_start: if frames.is_empty() { NOWHERE } else { address(frames) },
        nr_extents: frames.len() as u64,
        extent_order,
        mem_flags: 0,
        domid,
        pad: [0; 3],
    }
}

/// Increase, decrease or populate. How many extents it did.
fn reserve(operation: u64, frames: &mut [u64], order: u32, domid: DomId) -> u64 {
    with(MEMORY_OP, operation, &mut list(frames, order, domid))
}

fn number(operation: u64, domid: DomId) -> u64 {
    with(MEMORY_OP, operation, &mut [domid; 4])
}

pub fn check(tally: &mut Tally) {
    let absent = [8, 20, 22, 29, 30, 45, 63];
    for operation in absent.into_iter().chain([op::MACHPHYS_MAPPING]) {
        let answer = call(MEMORY_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("memory_op, no such operation", answer, Err(Error::ENOSYS));
    }
    let taking = [
        op::CURRENT_RESERVATION,
        op::MAXIMUM_RESERVATION,
        op::MAXIMUM_GPFN,
        op::ADD_TO_PHYSMAP,
        op::ADD_TO_PHYSMAP_BATCH,
        op::REMOVE_FROM_PHYSMAP,
        op::MEMORY_MAP,
        op::SET_MEMORY_MAP,
        op::EXCHANGE,
        op::SET_POD_TARGET,
        op::GET_POD_TARGET,
        op::ACCESS_OP,
        op::CLAIM_PAGES,
        op::GET_VNUMAINFO,
        op::RESERVED_DEVICE_MEMORY_MAP,
    ];
    for operation in taking {
        let answer = call(MEMORY_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("memory_op from nowhere", answer, Err(Error::EFAULT));
    }
    for operation in [
        op::CURRENT_RESERVATION,
        op::MAXIMUM_RESERVATION,
        op::MAXIMUM_GPFN,
        op::MAXIMUM_RAM_PAGE,
        op::REMOVE_FROM_PHYSMAP,
        op::EXCHANGE,
        op::CLAIM_PAGES,
        op::GET_VNUMAINFO,
        op::RESERVED_DEVICE_MEMORY_MAP,
    ] {
        let answer = call(MEMORY_OP, [operation | 1 << EXTENT_SHIFT, NOWHERE, 0, 0, 0]);
        tally.check("memory_op that cannot go on", answer, Err(Error::EINVAL));
    }
    numbers(tally);
    maps(tally);
    reservations(tally);
    not_a_guests(tally);
}

fn numbers(tally: &mut Tally) {
    let machine = call(MEMORY_OP, [op::MAXIMUM_RAM_PAGE, 0, 0, 0, 0]);
    tally.that("maximum_ram_page", machine, (1..1 << 40).contains(&machine));
    let [current, maximum, highest] = [op::CURRENT_RESERVATION, op::MAXIMUM_RESERVATION, op::MAXIMUM_GPFN]
        .map(|operation| {
            tally.check("a reservation of nobody", number(operation, NOBODY), Err(Error::ESRCH));
            tally.refused("a reservation of domain 0", || number(operation, 0), Error::EPERM);
            let own = number(operation, DOMID_SELF);
            tally.equal("a reservation by number", number(operation, tally.own), own);
            own
        });
    tally.that("current_reservation", current, (1..=maximum).contains(&current));
    tally.that("maximum_reservation", maximum, maximum < 1 << 40);
    tally.that("maximum_gpfn", highest, highest >= frame(7));
}

fn maps(tally: &mut Tally) {
    let mut entries = [E820Entry::default(); 64];
    let mut map = MemoryMap { nr_entries: 64, pad: 0, buffer: address(&mut entries) };
    tally.check("memory_map", with(MEMORY_OP, op::MEMORY_MAP, &mut map), Ok(0));
    tally.that("its entries", map.nr_entries.into(), (1..64).contains(&map.nr_entries));
    let own = frame(0) * 4096;
    let holds_us = entries.iter().take(map.nr_entries as usize).any(|entry| {
        let (address, size, kind) = (entry.address, entry.size, entry.kind);
        kind == E820_RAM && address <= own && own < address + size
    });
    tally.that("RAM in it", own, holds_us);
    let mut none = MemoryMap { nr_entries: 0, pad: 0, buffer: NOWHERE };
    tally.check("memory_map without room", with(MEMORY_OP, op::MEMORY_MAP, &mut none), Ok(0));
    let mut bad = MemoryMap { nr_entries: 1, pad: 0, buffer: NOWHERE };
    tally.check("memory_map to nowhere", with(MEMORY_OP, op::MEMORY_MAP, &mut bad), Err(Error::EFAULT));

    let set = |domid, nr_entries| {
        let map = MemoryMap { nr_entries, pad: 0, buffer: NOWHERE };
        with(MEMORY_OP, op::SET_MEMORY_MAP, &mut ForeignMemoryMap { domid, pad: [0; 3], map })
    };
    tally.check("set_memory_map, too long", set(NOBODY, 1 << 20), Err(Error::EINVAL));
    tally.check("set_memory_map of nobody", set(NOBODY, 1), Err(Error::ESRCH));
    tally.refused("set_memory_map of domain 0", || set(0, 1), Error::EPERM);
    tally.check("set_memory_map from nowhere", set(DOMID_SELF, 1), Err(Error::EFAULT));
}

fn reservations(tally: &mut Tally) {
    for operation in [op::INCREASE_RESERVATION, op::DECREASE_RESERVATION, op::POPULATE_PHYSMAP] {
        let nowhere = |done: u64| call(MEMORY_OP, [operation | done << EXTENT_SHIFT, NOWHERE, 0, 0, 0]);
        tally.check("a reservation from nowhere", nowhere(0), Ok(0));
        tally.check("a reservation from nowhere, later", nowhere(5), Ok(5));
        tally.check("a reservation for nobody", reserve(operation, &mut [HOLE], 0, NOBODY), Ok(0));
        tally.check("a reservation of too much", reserve(operation, &mut [HOLE], 30, DOMID_SELF), Ok(0));
        if !tally.privileged {
            tally.check("a reservation for domain 0", reserve(operation, &mut [HOLE], 0, 0), Ok(0));
        }
    }
    for operation in [op::DECREASE_RESERVATION, op::POPULATE_PHYSMAP] {
        let mut from_nowhere = Reservation { nr_extents: 1, ..list(&mut [], 0, DOMID_SELF) };
        tally.check("frames from nowhere", with(MEMORY_OP, operation, &mut from_nowhere), Ok(0));
    }
    let reserved = || number(op::CURRENT_RESERVATION, DOMID_SELF);
    let before = reserved();
    if !tally.privileged {
        // It has all that it may have.
        tally.check(
            "increase_reservation",
            reserve(op::INCREASE_RESERVATION, &mut [0], 0, DOMID_SELF),
            Ok(0),
        );
        tally.check("populate_physmap", reserve(op::POPULATE_PHYSMAP, &mut [HOLE], 0, DOMID_SELF), Ok(0));
    }
    set_word(1, 0x1234_5678);
    let gone = reserve(op::DECREASE_RESERVATION, &mut [frame(1)], 0, DOMID_SELF);
    tally.check("decrease_reservation", gone, Ok(1));
    tally.equal("one page less", reserved(), before - 1);
    let again = reserve(op::DECREASE_RESERVATION, &mut [frame(1)], 0, DOMID_SELF);
    tally.check("decrease_reservation of a hole", again, Ok(0));
    let in_hole = with_argument_in_page(1);
    tally.check("a call whose argument is gone", in_hole, Err(Error::EFAULT));
    let back = reserve(op::POPULATE_PHYSMAP, &mut [frame(1)], 0, DOMID_SELF);
    tally.check("populate_physmap", back, Ok(1));
    tally.equal("as many pages as before", reserved(), before);
    set_word(1, 5);
    tally.equal("to be written", word(1), 5);

    let mut three = [frame(1), HOLE, frame(2)];
    let some = reserve(op::DECREASE_RESERVATION, &mut three, 0, DOMID_SELF);
    tally.check("decrease_reservation as far as it goes", some, Ok(1));
    let mut four = [frame(2), frame(3), frame(4), frame(5)];
    let four_gone = reserve(op::DECREASE_RESERVATION, &mut four, 0, DOMID_SELF);
    tally.check("decrease_reservation of four", four_gone, Ok(4));
    let mut five = [frame(1), frame(2), frame(3), frame(4), frame(5)];
    let rest = {
        let mut list = list(&mut five, 0, DOMID_SELF);
        call(MEMORY_OP, [op::POPULATE_PHYSMAP | 2 << EXTENT_SHIFT, address(&mut list), 0, 0, 0])
    };
    tally.check("populate_physmap from the third on", rest, Ok(5));
    let rest = reserve(op::POPULATE_PHYSMAP, &mut five[..2], 0, DOMID_SELF);
    tally.check("populate_physmap of the others", rest, Ok(2));
    tally.equal("all pages are back", reserved(), before);
    for page in 1..6 {
        set_word(page, 7);
        tally.equal("one of them", word(page), 7);
    }
}

/// A call whose structure lies in a page.
fn with_argument_in_page(page: usize) -> u64 {
    call(MEMORY_OP, [op::CURRENT_RESERVATION, frame(page) * 4096, 0, 0, 0])
}

fn not_a_guests(tally: &mut Tally) {
    // Older versions do not have it for such guests, newer ones have it for domain 0.
    if !tally.privileged {
        let answer = call(MEMORY_OP, [op::MACHINE_MEMORY_MAP, NOWHERE, 0, 0, 0]);
        tally.either("machine_memory_map", answer, [Error::ENOSYS, Error::EPERM]);
        let answer = call(MEMORY_OP, [op::ACQUIRE_RESOURCE, NOWHERE, 0, 0, 0]);
        tally.check("acquire_resource", answer, Err(Error::EACCES));
    }
    for operation in [op::GET_SHARING_FREED_PAGES, op::GET_SHARING_SHARED_PAGES] {
        tally.check("pages saved by sharing", call(MEMORY_OP, [operation, NOWHERE, 0, 0, 0]), Ok(0));
    }
    let exchange = |given: Reservation, taken: Reservation, nr_exchanged| {
        with(MEMORY_OP, op::EXCHANGE, &mut Exchange { given, taken, nr_exchanged })
    };
    let of =
        |nr_extents, extent_order, domid| Reservation { nr_extents, ..list(&mut [], extent_order, domid) };
    let own = |nr, order| of(nr, order, DOMID_SELF);
    tally.check("exchange of too much", exchange(own(1, 30), own(1, 30), 0), Err(Error::EPERM));
    tally.check("exchange of more than there is", exchange(own(1, 0), own(1, 0), 2), Err(Error::EINVAL));
    tally.check("exchange of one for two", exchange(own(1, 0), own(2, 0), 0), Err(Error::EINVAL));
    tally.check("exchange between domains", exchange(own(1, 0), of(1, 0, 0), 0), Err(Error::EINVAL));
    tally.check("exchange that is done", exchange(own(2, 0), own(2, 0), 2), Ok(0));
    let nobody = of(1, 0, NOBODY);
    tally.check("exchange of nobody", exchange(nobody, nobody, 0), Err(Error::ESRCH));
    tally.refused("exchange of domain 0", || exchange(of(1, 0, 0), of(1, 0, 0), 0), Error::EPERM);

    for operation in [op::SET_POD_TARGET, op::GET_POD_TARGET] {
        let pod = |domid| {
            let mut target = PodTarget {
                target_pages: 1,
                tot_pages: 0,
                pod_cache_pages: 0,
                pod_entries: 0,
                domid,
                pad: [0; 3],
            };
            with(MEMORY_OP, operation, &mut target)
        };
        tally.check("pod_target of nobody", pod(NOBODY), Err(Error::ESRCH));
        tally.refused("pod_target", || pod(DOMID_SELF), Error::EPERM);
    }
    let mut access =
        AccessOp { op: 0, access: 0, domid: DOMID_SELF, nr: 0, pfn: 0, pfn_list: 0, access_list: 0 };
    tally.check("access_op for oneself", with(MEMORY_OP, op::ACCESS_OP, &mut access), Err(Error::ESRCH));
    access.domid = NOBODY;
    tally.check("access_op for nobody", with(MEMORY_OP, op::ACCESS_OP, &mut access), Err(Error::ESRCH));

    let claim = |extent_start, order, domid| {
        let mut list = Reservation { extent_start, ..list(&mut [], order, domid) };
        with(MEMORY_OP, op::CLAIM_PAGES, &mut list)
    };
    tally.check("claim_pages with a list", claim(8, 0, DOMID_SELF), Err(Error::EINVAL));
    tally.check("claim_pages of an order", claim(0, 1, DOMID_SELF), Err(Error::EINVAL));
    tally.check("claim_pages for oneself", claim(0, 0, DOMID_SELF), Err(Error::EINVAL));
    tally.check("claim_pages for nobody", claim(0, 0, NOBODY), Err(Error::EINVAL));
    tally.refused("claim_pages for domain 0", || claim(0, 0, 0), Error::EPERM);

    let nodes = |domid, pad| {
        let mut topology = VnumaTopology {
            domid,
            pad,
            nr_vnodes: 9,
            nr_vcpus: 999,
            nr_vmemranges: 9,
            buffers: [NOWHERE; 3],
        };
        with(MEMORY_OP, op::GET_VNUMAINFO, &mut topology)
    };
    tally.check("get_vnumainfo", nodes(DOMID_SELF, 0), Err(Error::EOPNOTSUPP));
    tally.check("get_vnumainfo, padding", nodes(NOBODY, 1), Err(Error::EINVAL));
    tally.check("get_vnumainfo of nobody", nodes(NOBODY, 0), Err(Error::ESRCH));
    let mut devices = ReservedDeviceMemoryMap { flags: 2, nr_entries: 3, buffer: NOWHERE, device: [0; 2] };
    let answer = with(MEMORY_OP, op::RESERVED_DEVICE_MEMORY_MAP, &mut devices);
    tally.check("reserved_device_memory_map, no such flag", answer, Err(Error::EINVAL));
    devices.flags = 1;
    let answer = with(MEMORY_OP, op::RESERVED_DEVICE_MEMORY_MAP, &mut devices);
    tally.check("reserved_device_memory_map", answer, Ok(0));
    tally.equal("its entries", devices.nr_entries.into(), 0);
}
