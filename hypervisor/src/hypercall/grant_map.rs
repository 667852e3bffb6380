//! `GNTTABOP_map_grant_ref` and `unmap_grant_ref`: other domains' pages among the guest's own.
//!
//! The work is home's ([`crate::core::grants`]), as home alone changes a domain's page tables. On home, which is where most
//! of it is asked for, a mapping is one walk for the argument, one for the place, and three locked instructions; a sibling
//! asks home. Where a page table is missing, or memory of the guest's own is in the way, that is seen to first, and the
//! mapping is tried again.

use abi::address::{GuestVirt, PAGE_SIZE};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::grant_table::{MapGrantRef, UnmapGrantRef, status};

use super::grant_table::{again, element};
use super::places;
use crate::core::Core;
use crate::core::grants::{UNMAPS, Unmap, Unmaps};
use crate::core::message::{Gone, Request};

const BYTES: usize = size_of::<MapGrantRef>();
const UNMAP_BYTES: usize = size_of::<UnmapGrantRef>();

pub(super) fn map(core: &mut Core, list: GuestVirt, count: u32) -> HypercallResult {
    for index in 0..count {
        if index > 0 && core.frame.is_kicked() {
            return again(core, index, BYTES);
        }
        map_one(core, element(list, index, BYTES))?;
    }
    Ok(0)
}

#[inline]
fn map_one(core: &mut Core, at: GuestVirt) -> Result<(), Errno> {
    let memory = core.guest_memory()?;
    if core.home.is_some() {
        let mapped = memory.update(at, |op: &mut MapGrantRef| {
            op.status = core.map_grant(op)?;
            Ok(())
        });
        if !matches!(mapped, Err(Errno::EEXIST | Errno::ENOMEM)) {
            return mapped;
        }
    }
    map_with_help(core, at)
}

/// The same for a sibling, and where something is to be done before.
#[cold]
fn map_with_help(core: &mut Core, at: GuestVirt) -> Result<(), Errno> {
    let domain = core.domain()?;
    let mut op: MapGrantRef = core.guest_memory()?.read(at)?;
    for _ in 0..3 {
        let request = Request::MapGrant { op: (&raw mut op) as u64 };
        let helped = match core.ask(domain.home(), request) {
            Ok(_) => break,
            Err(Errno::EEXIST) => places::clear(core, domain, op.host_addr / PAGE_SIZE),
            Err(Errno::ENOMEM) => places::add_tables(core, domain),
            Err(error) => return Err(error),
        };
        op.status = status::GENERAL_ERROR;
        if helped.is_err() {
            break;
        }
    }
    core.guest_memory()?.write(at, &op)
}

pub(super) fn unmap(core: &mut Core, list: GuestVirt, count: u32) -> HypercallResult {
    let mut done = 0;
    while done < count {
        if done > 0 && core.frame.is_kicked() {
            return again(core, done, UNMAP_BYTES);
        }
        let some = (count - done).min(UNMAPS as u32);
        unmap_some(core, list, done..done + some)?;
        done += some;
    }
    Ok(0)
}

#[inline]
fn unmap_some(core: &mut Core, list: GuestVirt, range: core::ops::Range<u32>) -> Result<(), Errno> {
    let memory = core.guest_memory()?;
    let place = |index| element(list, index, UNMAP_BYTES);
    let mut unmaps = Unmaps::default();
    let mut read = Ok(());
    for index in range.clone() {
        match memory.read::<UnmapGrantRef>(place(index)) {
            // There are no more than fit.
            Ok(UnmapGrantRef { host_addr, dev_bus_addr, handle, .. }) => {
                let order = Unmap { host_addr, dev_bus_addr, handle, status: status::OKAY, done: None };
                let _ = unmaps.each.try_push(order);
            }
            Err(error) => {
                read = Err(error);
                break;
            }
        }
    }
    if core.home.is_some() {
        core.unmap_grants(&mut unmaps)?;
    } else {
        let home = core.domain()?.home();
        core.ask(home, Request::UnmapGrants { unmaps: (&raw mut unmaps) as u64 })?;
    }
    if unmaps.stale {
        core.forget_everywhere(Gone::Grants);
    } else if unmaps.each.iter().any(|unmap| unmap.done.is_some()) {
        // No processor has a translation. But a sibling may be in a call that has found the page by its own walk, which
        // leaves no accessed flag behind.
        core.ask_awake_siblings(Request::Fence);
    }
    let user = core.domain()?.id;
    for mapping in unmaps.each.iter().filter_map(|unmap| unmap.done.as_ref()) {
        core.end_mapping(user, mapping);
    }
    for (index, unmap) in range.zip(&unmaps.each) {
        memory.update(place(index), |op: &mut UnmapGrantRef| {
            op.status = unmap.status;
            Ok(())
        })?;
    }
    read
}
