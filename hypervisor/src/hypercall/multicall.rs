//! `multicall`: a list of calls, each with its result written back.
//!
//! The list may be long. Where another core wants this one, or one of the calls goes on later itself, the rest of the
//! list is a new call: the registers name it, and the guest makes it without knowing.

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::{MULTICALL, MulticallEntry};
use vmx::crossing::Registers;

use super::{arguments, dispatch_one};
use crate::core::Core;

const ENTRY_BYTES: u64 = size_of::<MulticallEntry>() as u64;
const RESULT: u64 = core::mem::offset_of!(MulticallEntry, result) as u64;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [list, count, ..] = arguments(core);
    let own = core.frame.registers;
    let (done, result) = each(core, list, u64::from(count as u32));
    core.frame.registers = own;
    if result == Err(Errno::ERESTART) {
        core.frame.registers.rdi = list.wrapping_add(done * ENTRY_BYTES);
        core.frame.registers.rsi = u64::from(count as u32) - done;
    }
    result
}

/// How many entries are done, and what the whole call comes to.
fn each(core: &mut Core, list: u64, count: u64) -> (u64, HypercallResult) {
    for index in 0..count {
        if index > 0 && (core.frame.is_kicked() || !core.running) {
            return (index, Err(Errno::ERESTART));
        }
        match one(core, GuestVirt::new(list.wrapping_add(index * ENTRY_BYTES))) {
            Ok(()) => {}
            Err(error) => return (index, Err(error)),
        }
    }
    (count, Ok(0))
}

fn one(core: &mut Core, at: GuestVirt) -> Result<(), Errno> {
    // No sub-call changes how the guest pages, or where its page tables are.
    let memory = core.guest_memory()?;
    let mut entry: MulticallEntry = memory.read(at)?;
    let [rdi, rsi, rdx, r10, r8, _] = entry.args;
    core.frame.registers = Registers { rax: entry.op, rdi, rsi, rdx, r10, r8, ..core.frame.registers };
    let result = if entry.op == MULTICALL { Err(Errno::EINVAL) } else { dispatch_one(core) };
    let rax = match result {
        Ok(value) => value,
        Err(Errno::ERESTART) => {
            let now = &core.frame.registers;
            entry.args[..5].copy_from_slice(&[now.rdi, now.rsi, now.rdx, now.r10, now.r8]);
            memory.write(at, &entry)?;
            return Err(Errno::ERESTART);
        }
        Err(error) => error.as_rax(),
    };
    memory.write(at.checked_add(RESULT).ok_or(Errno::EFAULT)?, &rax)
}
