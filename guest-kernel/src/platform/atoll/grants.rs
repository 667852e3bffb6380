//! Grants as the hypervisor has them: where the table lies, and the calls.

use core::sync::atomic::AtomicU32;

use abi::address::PAGE_SIZE;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::grant_table::{
    self as op, Copy, GetVersion, MapGrantRef, QuerySize, SetVersion, UnmapGrantRef, status,
};
use abi::xen::hypercall::{GRANT_TABLE_OP, MEMORY_OP};
use abi::xen::memory::{ADD_TO_PHYSMAP, AddToPhysmap, space};
use abi::xen::{DOMID_SELF, DomId};

use super::hypercall;
use crate::grants::Hypervisor;

/// Words in a frame of entries.
const WORDS: usize = PAGE_SIZE as usize / size_of::<AtomicU32>();

/// The hypervisor that this guest runs on.
#[derive(Clone, Copy, Debug)]
pub struct Calls;

/// Puts a frame of this domain's table at a guest-physical address, where nothing is.
pub fn place(index: u64, address: u64) -> HypercallResult {
    let mut argument = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: space::GRANT_TABLE,
        idx: index,
        gpfn: address / PAGE_SIZE,
    };
    // SAFETY: the structure of that operation; its address names no memory in use.
    unsafe { hypercall::call(MEMORY_OP, [ADD_TO_PHYSMAP, (&raw mut argument) as u64, 0, 0, 0]) }
}

/// The first frame of the table, which is put at `address`, the address of a window that is mapped.
pub fn table(address: u64) -> Result<&'static [AtomicU32], Errno> {
    place(0, address)?;
    // SAFETY: the frame is there from now on, and is written by atomics alone.
    Ok(unsafe { core::slice::from_raw_parts(address as *const AtomicU32, WORDS) })
}

fn list<T>(operation: u64, list: &mut [T]) -> HypercallResult {
    let count = list.len() as u64;
    // SAFETY: structures of that operation, so many of them; what it does to memory is at addresses of windows, and to
    // frames that the caller names.
    unsafe { hypercall::call(GRANT_TABLE_OP, [operation, list.as_mut_ptr() as u64, count, 0, 0]) }
}

impl Hypervisor for Calls {
    fn map(&self, operations: &mut [MapGrantRef]) -> Result<(), Errno> {
        list(op::MAP_GRANT_REF, operations).map(drop)
    }

    fn unmap(&self, operations: &mut [UnmapGrantRef]) -> Result<(), Errno> {
        list(op::UNMAP_GRANT_REF, operations).map(drop)
    }

    fn copy(&self, operations: &mut [Copy]) -> Result<(), Errno> {
        list(op::COPY, operations).map(drop)
    }
}

/// How many frames a domain's table has, and how many it may have.
pub fn size(domain: DomId) -> Result<(u32, u32), i16> {
    let mut argument = [QuerySize { dom: domain, ..QuerySize::default() }];
    let [size] = match list(op::QUERY_SIZE, &mut argument) {
        Ok(_) => argument,
        Err(_) => return Err(status::GENERAL_ERROR),
    };
    if size.status == status::OKAY { Ok((size.nr_frames, size.max_nr_frames)) } else { Err(size.status) }
}

/// Changes the version of this domain's table; what it is then.
pub fn set_version(version: u32) -> (HypercallResult, u32) {
    let mut argument = [SetVersion { version }];
    let result = list(op::SET_VERSION, &mut argument);
    (result, argument[0].version)
}

/// The version of a domain's table.
pub fn version(domain: DomId) -> Result<u32, Errno> {
    let mut argument = [GetVersion { dom: domain, ..GetVersion::default() }];
    list(op::GET_VERSION, &mut argument)?;
    Ok(argument[0].version)
}
