//! `memory_op`: what appears where.

use abi::xen::hypercall::MEMORY_OP;
use abi::xen::memory::{
    self as op, AddToPhysmap, AddToPhysmapBatch, EXTENT_SHIFT, INVALID_GFN, RemoveFromPhysmap, Reservation,
    space,
};
use abi::xen::shared_info::EVTCHN_MASK;
use abi::xen::{DOMID_SELF, DomId};
use guest_kernel::platform::atoll::memory::SHARED_INFO_ADDRESS;

use crate::call::{HOLE, NOBODY, NOWHERE, address, call, frame, set_word, with, word};
use crate::tally::{Error, Tally};

fn add_of(domid: DomId, space: u32, size: u16, idx: u64, gpfn: u64) -> u64 {
    with(MEMORY_OP, op::ADD_TO_PHYSMAP, &mut AddToPhysmap { domid, size, space, idx, gpfn })
}

fn add(space: u32, idx: u64, gpfn: u64) -> u64 {
    add_of(DOMID_SELF, space, 0, idx, gpfn)
}

fn remove(domid: DomId, gpfn: u64) -> u64 {
    with(MEMORY_OP, op::REMOVE_FROM_PHYSMAP, &mut RemoveFromPhysmap { domid, pad: [0; 3], gpfn })
}

fn reserved() -> u64 {
    with(MEMORY_OP, op::CURRENT_RESERVATION, &mut [DOMID_SELF; 4])
}

fn populate(frame: u64) -> u64 {
    let mut frames = [frame];
    let mut list = Reservation {
        extent_start: address(&mut frames),
        nr_extents: 1,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        pad: [0; 3],
    };
    with(MEMORY_OP, op::POPULATE_PHYSMAP, &mut list)
}

pub fn check(tally: &mut Tally) {
    refusals(tally);
    shared_info(tally);
    own_frames(tally);
    batches(tally);
}

fn refusals(tally: &mut Tally) {
    let foreign = add_of(NOBODY, space::GMFN_FOREIGN, 0, 0, INVALID_GFN);
    tally.check("add_to_physmap, foreign", foreign, Err(Error::ENOSYS));
    tally.check("add_to_physmap of nobody", add_of(NOBODY, 5, 0, 0, INVALID_GFN), Err(Error::ESRCH));
    tally.refused("add_to_physmap of domain 0", || add_of(0, 0, 0, 0, INVALID_GFN), Error::EPERM);
    tally.refused("add_to_physmap of a device", || add(space::DEV_MMIO, 0, HOLE), Error::EACCES);
    tally.check("add_to_physmap at no frame", add(space::SHARED_INFO, 0, INVALID_GFN), Err(Error::EINVAL));
    tally.check("add_to_physmap, no such page", add(space::SHARED_INFO, 1, HOLE), Err(Error::EINVAL));
    tally.check(
        "add_to_physmap, no such grant frame",
        add(space::GRANT_TABLE, 1 << 20, HOLE),
        Err(Error::EINVAL),
    );
    tally.check("add_to_physmap, no such space", add(9, 0, HOLE), Err(Error::EINVAL));
    tally.check("add_to_physmap of a hole", add(space::GMFN, HOLE, HOLE + 1), Err(Error::EINVAL));
    tally.check("add_to_physmap of a hole onto itself", add(space::GMFN, HOLE, HOLE), Err(Error::EINVAL));
    let range = |size, idx, gpfn| add_of(DOMID_SELF, space::GMFN_RANGE, size, idx, gpfn);
    tally.check("a range of nothing", range(0, HOLE, HOLE), Ok(0));
    tally.check("a range beyond all", range(2, u64::MAX, 0), Err(Error::EOVERFLOW));
    tally.check("a range to beyond all", range(2, 0, u64::MAX - 1), Err(Error::EOVERFLOW));
    let mut places =
        AddToPhysmap { domid: DOMID_SELF, size: 3, space: space::GMFN_RANGE, idx: HOLE, gpfn: HOLE };
    let mut later = |done: u64| {
        call(MEMORY_OP, [op::ADD_TO_PHYSMAP | done << EXTENT_SHIFT, address(&mut places), 0, 0, 0])
    };
    tally.check("a range that is more than done", later(4), Err(Error::EILSEQ));
    tally.check("a range that cannot be so long", later(1 << 16), Err(Error::EDOM));
    tally.check("remove_from_physmap of nobody", remove(NOBODY, HOLE), Err(Error::ESRCH));
    tally.refused("remove_from_physmap of domain 0", || remove(0, HOLE), Error::EPERM);
    tally.check("remove_from_physmap of a hole", remove(DOMID_SELF, HOLE), Err(Error::ENOENT));
}

/// The page goes over RAM, as Linux has it, and back to where this kernel wants it.
fn shared_info(tally: &mut Tally) {
    let home = SHARED_INFO_ADDRESS / 4096;
    // A mask bit of a port that is never used, to know the page by.
    let mark = |set: bool| {
        let words = (SHARED_INFO_ADDRESS + EVTCHN_MASK as u64 + 504) as *mut u64;
        // SAFETY: the page is mapped at home whenever this is called, and the word is its last mask word.
        unsafe { words.write_volatile(u64::from(set) << 63) }
    };
    let seen = |page: usize| {
        let words = (frame(page) * 4096 + EVTCHN_MASK as u64 + 504) as *const u64;
        // SAFETY: a page of this program's own.
        unsafe { words.read_volatile() }
    };
    let before = reserved();
    mark(true);
    tally.check("shared_info over RAM", add(space::SHARED_INFO, 0, frame(6)), Ok(0));
    tally.equal("what is there now", seen(6), 1 << 63);
    tally.equal("the RAM is given back", reserved(), before - 1);
    tally.check("shared_info again", add(space::SHARED_INFO, 0, frame(6)), Ok(0));
    tally.check("its old place is a hole", remove(DOMID_SELF, home), Err(Error::ENOENT));
    tally.check("shared_info back", add(space::SHARED_INFO, 0, home), Ok(0));
    tally.equal("the RAM is still given back", reserved(), before - 1);
    tally.check("RAM again", populate(frame(6)), Ok(1));
    tally.equal("as much as before", reserved(), before);
    tally.check("shared_info removed", remove(DOMID_SELF, home), Ok(0));
    tally.check("shared_info removed twice", remove(DOMID_SELF, home), Err(Error::ENOENT));
    tally.check("shared_info back", add(space::SHARED_INFO, 0, home), Ok(0));
    mark(false);
}

fn own_frames(tally: &mut Tally) {
    let before = reserved();
    set_word(1, 0x1111);
    set_word(2, 0x2222);
    set_word(3, 0x3333);
    tally.check("a frame of one's own to a hole", add(space::GMFN, frame(1), HOLE), Ok(0));
    tally.check("what it left is a hole", remove(DOMID_SELF, frame(1)), Err(Error::ENOENT));
    tally.check("and back", add(space::GMFN, HOLE, frame(1)), Ok(0));
    tally.equal("its contents", word(1), 0x1111);
    tally.check("a frame onto itself", add(space::GMFN, frame(1), frame(1)), Ok(0));
    tally.equal("its contents", word(1), 0x1111);
    tally.equal("no page less", reserved(), before);

    tally.check("a frame over another", add(space::GMFN, frame(2), frame(1)), Ok(0));
    tally.equal("its contents", word(1), 0x2222);
    tally.equal("the other is given back", reserved(), before - 1);
    tally.check("RAM again", populate(frame(2)), Ok(1));

    let range = |size, idx, gpfn| add_of(DOMID_SELF, space::GMFN_RANGE, size, idx, gpfn);
    set_word(2, 0x4444);
    tally.check("a range to holes", range(3, frame(1), HOLE), Ok(0));
    tally.check("and back", range(3, HOLE, frame(1)), Ok(0));
    let words = [word(1), word(2), word(3)];
    tally.that("its contents", words[0], words == [0x2222, 0x4444, 0x3333]);
    tally.check("a range with a hole in it", range(2, HOLE, frame(1)), Err(Error::EINVAL));
    tally.equal("all pages are there", reserved(), before);
}

fn batches(tally: &mut Tally) {
    let mut idxs = [frame(1), HOLE + 9, frame(2)];
    let mut gpfns = [HOLE, HOLE + 1, HOLE + 2];
    let mut errs = [99i32; 3];
    let whole = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: space::GMFN as u16,
        size: 3,
        foreign_domid: 0,
        idxs: address(&mut idxs),
        gpfns: address(&mut gpfns),
        errs: address(&mut errs),
    };
    let of = |done: u64, mut batch: AddToPhysmapBatch| {
        call(MEMORY_OP, [op::ADD_TO_PHYSMAP_BATCH | done << EXTENT_SHIFT, address(&mut batch), 0, 0, 0])
    };
    let range = AddToPhysmapBatch { space: space::GMFN_RANGE as u16, domid: NOBODY, ..whole };
    tally.check("a batch of ranges", of(0, range), Err(Error::EOPNOTSUPP));
    tally.check("a batch of nobody", of(0, AddToPhysmapBatch { domid: NOBODY, ..whole }), Err(Error::ESRCH));
    tally.refused("a batch of domain 0", || of(0, AddToPhysmapBatch { domid: 0, ..whole }), Error::EPERM);
    tally.check("a batch of nothing", of(0, AddToPhysmapBatch { size: 0, ..whole }), Ok(0));
    tally.check("a batch that is done", of(3, whole), Err(Error::EILSEQ));
    tally.check("a batch that is more than done", of(4, whole), Err(Error::EILSEQ));
    tally.check("a batch that cannot be so long", of(1 << 16, whole), Err(Error::EDOM));
    tally.check(
        "a batch from nowhere",
        of(0, AddToPhysmapBatch { idxs: NOWHERE, ..whole }),
        Err(Error::EFAULT),
    );
    tally.check(
        "a batch to nowhere",
        of(0, AddToPhysmapBatch { gpfns: NOWHERE, ..whole }),
        Err(Error::EFAULT),
    );

    set_word(1, 0x1111);
    set_word(2, 0x2222);
    tally.check("a batch", of(0, whole), Ok(0));
    let failed = -(Error::EINVAL as i32);
    // SAFETY: the hypervisor wrote them behind the compiler's back.
    let seen = unsafe { core::ptr::from_ref(&errs).read_volatile() };
    tally.that("its errors", seen[1] as u32 as u64, seen == [0, failed, 0]);
    tally.check("one back", add(space::GMFN, HOLE, frame(1)), Ok(0));
    tally.check("the other back", add(space::GMFN, HOLE + 2, frame(2)), Ok(0));
    tally.that("their contents", word(1), [word(1), word(2)] == [0x1111, 0x2222]);

    if !tally.privileged {
        let foreign = AddToPhysmapBatch { space: space::GMFN_FOREIGN as u16, size: 1, ..whole };
        tally.check("a batch of another's frames", of(0, foreign), Ok(0));
        // SAFETY: as above.
        let error = unsafe { core::ptr::from_ref(&errs[0]).read_volatile() };
        tally.check("its error", error as i64 as u64, Err(Error::EPERM));
    }
}
