//! Memory that comes and goes without end, and grants of it.

use abi::address::PAGE_SIZE;
use abi::xen::grant_table::{self as op, MapGrantRef, SwapGrantRef, UnmapGrantRef, map_flag};
use abi::xen::hypercall::{GRANT_TABLE_OP, MEMORY_OP};
use abi::xen::memory::{
    ADD_TO_PHYSMAP, AddToPhysmap, DECREASE_RESERVATION, POPULATE_PHYSMAP, REMOVE_FROM_PHYSMAP,
    RemoveFromPhysmap, Reservation, space,
};
use abi::xen::{DOMID_SELF, DomId};
use guest_kernel::grants::Hypervisor;
use guest_kernel::platform::atoll::{grants, memory};
use guest_kernel::programs::random::Random;
use guest_kernel::say;

use crate::calls::{HOLE, PAGES, call, frame, is_accepted, with};

/// Calls of a storm.
const STORM: u64 = 6_000;
/// Pages of one list.
const LIST: usize = 16;
/// Where this guest has its grant table: a window above all RAM, below those of the mesh.
const TABLE: u64 = 0xe800_0000;
/// Entries that are lied in.
const ENTRIES: u64 = 64;

/// A page of the handful, or a place where nothing is meant to be.
fn place(random: &mut Random) -> u64 {
    if random.below(2) == 0 { frame(random.below(PAGES)) } else { HOLE + random.below(PAGES) }
}

fn reserve(operation: u64, frames: &mut [u64], extent_order: u32) -> u64 {
    let mut list = Reservation {
        extent_start: frames.as_mut_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order,
        mem_flags: 0,
        domid: DOMID_SELF,
        pad: [0; 3],
    };
    with(MEMORY_OP, operation, &mut list)
}

fn add(space: u32, idx: u64, gpfn: u64) -> u64 {
    with(MEMORY_OP, ADD_TO_PHYSMAP, &mut AddToPhysmap { domid: DOMID_SELF, size: 1, space, idx, gpfn })
}

/// One call about where memory is. Whether anything came of it.
pub fn churn(random: &mut Random) -> bool {
    let mut list: [u64; LIST] = core::array::from_fn(|_| place(random));
    match random.below(8) {
        0..3 => reserve(DECREASE_RESERVATION, &mut list, 0) != 0,
        3..5 => reserve(POPULATE_PHYSMAP, &mut list, 0) != 0,
        // As much at a time as a guest may ask for, which is more than it has left.
        5 => reserve(POPULATE_PHYSMAP, &mut [HOLE & !511], 9) != 0,
        6 => is_accepted(add(space::GMFN, place(random), place(random))),
        _ => {
            let mut remove = RemoveFromPhysmap { domid: DOMID_SELF, pad: [0; 3], gpfn: place(random) };
            is_accepted(with(MEMORY_OP, REMOVE_FROM_PHYSMAP, &mut remove))
        }
    }
}

/// Page after page goes and comes.
pub fn reservations(random: &mut Random) {
    let accepted = (0..STORM).filter(|_| churn(random)).count();
    say!("bad: {STORM} calls about memory made, {accepted} accepted");
}

/// Entries that say anything, pages that are mapped, copied, revoked and given back in any order, and the table's own
/// frames put over memory and taken away.
pub fn grant_lies(own: DomId, random: &mut Random) {
    if memory::map_window(TABLE..TABLE + PAGE_SIZE).is_err() {
        return say!("bad: no room for a table");
    }
    let mut accepted = 0u64;
    for _ in 0..STORM {
        for _ in 0..2 {
            lie(own, random);
        }
        accepted += u64::from(use_grant(own, random));
    }
    say!("bad: {STORM} calls about grants made, {accepted} accepted");
}

/// Changes an entry: to one that is good, or to anything.
fn lie(own: DomId, random: &mut Random) {
    let kind = random.choose(&[0, 1, 1, 1, 5, 0x101, 3]);
    let user = random.choose(&[own, own, 0, 1, 2]);
    let good = kind | u64::from(user) << 16 | place(random) << 32;
    let word = if random.below(8) == 0 { random.draw() } else { good };
    let entry = (TABLE + random.below(ENTRIES) * 8) as *mut u64;
    if grants::place(0, TABLE).is_ok() {
        // SAFETY: the first frame of the table, which has just been put there.
        unsafe { entry.write_volatile(word) };
    }
}

/// One call about a grant. Whether it was accepted.
pub fn use_grant(own: DomId, random: &mut Random) -> bool {
    let (reference, dom) = (random.below(ENTRIES) as u32, random.choose(&[own, own, own, 0, 1, 2, 77]));
    let at = place(random) * PAGE_SIZE;
    match random.below(8) {
        0..2 => {
            let flags =
                random.choose(&[map_flag::HOST_MAP, map_flag::HOST_MAP | map_flag::READONLY, u32::MAX]);
            let mut map = [MapGrantRef { host_addr: at, flags, reference, dom, ..MapGrantRef::default() }];
            grants::Calls.map(&mut map).is_ok() && map[0].status == 0
        }
        2..4 => {
            let handle = random.below(32) as u32;
            let mut unmap = [UnmapGrantRef { host_addr: at, handle, ..UnmapGrantRef::default() }];
            grants::Calls.unmap(&mut unmap).is_ok() && unmap[0].status == 0
        }
        4 => copy(dom, reference, random),
        5 => {
            let mut swap = SwapGrantRef {
                ref_a: reference,
                ref_b: random.below(ENTRIES) as u32,
                ..SwapGrantRef::default()
            };
            is_accepted(call(GRANT_TABLE_OP, [op::SWAP_GRANT_REF, (&raw mut swap) as u64, 1, 0, 0]))
        }
        6 => grants::set_version(1 + random.below(2) as u32).0.is_ok(),
        _ => {
            let index = random.below(3) | random.choose(&[0, op::STATUS_INDEX]);
            is_accepted(add(space::GRANT_TABLE, index, place(random)))
        }
    }
}

fn copy(dom: DomId, reference: u32, random: &mut Random) -> bool {
    let granted =
        op::CopySide { page: reference.into(), domid: dom, offset: random.below(5000) as u16, pad: 0 };
    let own =
        op::CopySide { page: place(random), domid: DOMID_SELF, offset: random.below(5000) as u16, pad: 0 };
    let inwards = random.below(2) == 0;
    let (source, dest) = if inwards { (granted, own) } else { (own, granted) };
    let flags = if inwards { op::copy_flag::SOURCE_GREF } else { op::copy_flag::DEST_GREF };
    let mut copy = [op::Copy { source, dest, len: random.below(5000) as u16, flags, status: 1, pad: 0 }];
    grants::Calls.copy(&mut copy).is_ok() && copy[0].status == 0
}
