//! `grant_table_op`: grants of this domain's to itself.

use abi::xen::grant_table::{
    self as op, Copy, CopySide, GetVersion, MapGrantRef, QuerySize, SetVersion, SetupTable, UnmapGrantRef,
    copy_flag, map_flag, status,
};
use abi::xen::hypercall::{GRANT_TABLE_OP, MEMORY_OP};
use abi::xen::memory::{ADD_TO_PHYSMAP, AddToPhysmap, space};
use abi::xen::{DOMID_SELF, DomId};

use crate::call::{HOLE, NOBODY, NOWHERE, address, call, frame, set_word, with, word};
use crate::tally::{Error, Tally};

/// The reference that is used here: the first eight are reserved, and others may be in use already.
const REFERENCE: u32 = 20;
/// Bits of an entry of version 1.
const PERMIT_ACCESS: u64 = 1;

fn of<T>(operation: u64, argument: &mut T, count: u64) -> u64 {
    call(GRANT_TABLE_OP, [operation, address(argument), count, 0, 0])
}

fn size(dom: DomId) -> (u64, QuerySize) {
    let mut query = QuerySize { dom, ..QuerySize::default() };
    (of(op::QUERY_SIZE, &mut query, 1), query)
}

fn map(dom: DomId, reference: u32, flags: u32, at: u64) -> MapGrantRef {
    let mut map = MapGrantRef { host_addr: at * 4096, flags, reference, dom, ..MapGrantRef::default() };
    of(op::MAP_GRANT_REF, &mut map, 1);
    map
}

fn unmap(handle: u32, at: u64) -> i16 {
    let mut unmap = UnmapGrantRef { host_addr: at * 4096, handle, ..UnmapGrantRef::default() };
    of(op::UNMAP_GRANT_REF, &mut unmap, 1);
    unmap.status
}

/// Copies 8 bytes from a grant to a page of one's own.
fn copy(dom: DomId, reference: u32, to: u64, offset: u16) -> i16 {
    let mut copy = Copy {
        source: CopySide { page: reference.into(), domid: dom, offset, pad: 0 },
        dest: CopySide { page: to, domid: DOMID_SELF, offset: 0, pad: 0 },
        len: 8,
        flags: copy_flag::SOURCE_GREF,
        status: 1,
        pad: 0,
    };
    of(op::COPY, &mut copy, 1);
    copy.status
}

fn same(tally: &mut Tally, what: &str, seen: i16, wanted: i16) {
    tally.equal(what, seen as u16 as u64, wanted as u16 as u64);
}

pub fn check(tally: &mut Tally) {
    for operation in [op::DUMP_TABLE, op::TRANSFER, op::UNMAP_AND_REPLACE, op::CACHE_FLUSH, 13, 99] {
        let answer = call(GRANT_TABLE_OP, [operation, NOWHERE, 1, 0, 0]);
        tally.check("grant_table_op, no such operation", answer, Err(Error::ENOSYS));
    }
    let taking = [op::MAP_GRANT_REF, op::UNMAP_GRANT_REF, op::COPY, op::QUERY_SIZE, op::SETUP_TABLE];
    for operation in taking.into_iter().chain([op::SET_VERSION, op::GET_VERSION, op::SWAP_GRANT_REF]) {
        let answer = call(GRANT_TABLE_OP, [operation, NOWHERE, 1, 0, 0]);
        tally.check("grant_table_op from nowhere", answer, Err(Error::EFAULT));
    }
    let negative = call(GRANT_TABLE_OP, [op::COPY, NOWHERE, 1 << 31, 0, 0]);
    tally.check("grant_table_op of less than nothing", negative, Err(Error::EINVAL));
    for operation in [op::QUERY_SIZE, op::SETUP_TABLE] {
        let two = call(GRANT_TABLE_OP, [operation, NOWHERE, 2, 0, 0]);
        tally.check("grant_table_op of two at once", two, Err(Error::EINVAL));
    }
    tables(tally);
    versions(tally);
    uses(tally);
}

fn tables(tally: &mut Tally) {
    let (answer, own) = size(DOMID_SELF);
    tally.check("query_size", answer, Ok(0));
    same(tally, "its status", own.status, status::OKAY);
    tally.that("frames", own.max_nr_frames.into(), own.max_nr_frames >= own.nr_frames.max(1));
    same(tally, "query_size of nobody", size(NOBODY).1.status, status::BAD_DOMAIN);
    if !tally.privileged {
        same(tally, "query_size of domain 0", size(0).1.status, status::PERMISSION_DENIED);
    }
    let mut table = SetupTable { dom: DOMID_SELF, nr_frames: 1 << 20, ..SetupTable::default() };
    tally.check("setup_table", of(op::SETUP_TABLE, &mut table, 1), Ok(0));
    same(tally, "of too many frames", table.status, status::GENERAL_ERROR);
}

fn versions(tally: &mut Tally) {
    let version = |dom| {
        let mut get = GetVersion { dom, ..GetVersion::default() };
        (of(op::GET_VERSION, &mut get, 1), get.version)
    };
    tally.check("get_version", version(DOMID_SELF).0, Ok(0));
    tally.equal("it is", version(DOMID_SELF).1.into(), 1);
    tally.check("get_version of nobody", version(NOBODY).0, Err(Error::ESRCH));
    let set = |version| of(op::SET_VERSION, &mut SetVersion { version }, 1);
    tally.check("set_version 3", set(3), Err(Error::EINVAL));
    tally.check("set_version 1", set(1), Ok(0));
}

/// The first frame of the table is put in place of a page, which is then lost to this program.
fn uses(tally: &mut Tally) {
    const TABLE: usize = 3;
    let own = tally.own;
    let mut add =
        AddToPhysmap { domid: DOMID_SELF, size: 0, space: space::GRANT_TABLE, idx: 0, gpfn: frame(TABLE) };
    tally.check("the table's first frame", with(MEMORY_OP, ADD_TO_PHYSMAP, &mut add), Ok(0));
    // Flags, domain, frame.
    let entry = |flags: u64| flags | u64::from(own) << 16 | frame(1) << 32;
    let set_entry = |value: u64| {
        let at = (frame(TABLE) * 4096 + u64::from(REFERENCE) * 8) as *mut u64;
        // SAFETY: the frame of the table that was just put there.
        unsafe { at.write_volatile(value) }
    };
    let flags = || {
        let at = (frame(TABLE) * 4096 + u64::from(REFERENCE) * 8) as *const u64;
        // SAFETY: as above.
        unsafe { at.read_volatile() & 0xffff }
    };
    same(
        tally,
        "map of nobody's",
        map(NOBODY, REFERENCE, map_flag::HOST_MAP, HOLE).status,
        status::BAD_DOMAIN,
    );
    same(tally, "map of nothing", map(own, u32::MAX, map_flag::HOST_MAP, HOLE).status, status::BAD_GNTREF);
    same(tally, "unmap of nothing", unmap(u32::MAX, HOLE), status::BAD_HANDLE);
    same(tally, "copy of nobody's", copy(NOBODY, REFERENCE, frame(2), 0), status::BAD_DOMAIN);

    set_word(1, 0x1111);
    set_word(2, 0x2222);
    set_entry(entry(PERMIT_ACCESS));
    same(tally, "copy of a grant", copy(own, REFERENCE, frame(2), 0), status::OKAY);
    tally.equal("what came", word(2), 0x1111);
    same(tally, "copy beyond the page", copy(own, REFERENCE, frame(2), 4090), status::BAD_COPY_ARG);
    tally.equal("the grant is not in use", flags(), PERMIT_ACCESS);

    let mapped = map(own, REFERENCE, map_flag::HOST_MAP, HOLE);
    same(tally, "map", mapped.status, status::OKAY);
    const IN_USE: u64 = 3 << 3;
    tally.equal("the grant is in use", flags(), PERMIT_ACCESS | IN_USE);
    same(tally, "unmap", unmap(mapped.handle, HOLE), status::OKAY);
    tally.equal("and is not any more", flags(), PERMIT_ACCESS);
    same(tally, "unmap again", unmap(mapped.handle, HOLE), status::BAD_HANDLE);
    set_entry(0);
    let revoked = copy(own, REFERENCE, frame(2), 0);
    tally.that("copy of what is granted no more", revoked as u16 as u64, revoked != status::OKAY);
}
