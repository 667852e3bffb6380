//! `console_io`: the machine's log, for domain 0.

use core::fmt::Write;

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::console_io::{READ, WRITE};

use super::arguments;
use crate::console;
use crate::core::Core;

/// Bytes that are written before a look whether another core wants this one.
const CHUNK: usize = 128;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, count, at, ..] = arguments(core);
    if !core.domain()?.is_privileged {
        return Err(Errno::EPERM);
    }
    match (u64::from(operation as u32), count as u32) {
        (WRITE, count) => write(core, count, at),
        (READ, count) if count > i32::MAX as u32 => Err(Errno::E2BIG),
        // Nobody ever types there: the line is the hypervisor's to write to.
        (READ, _) => Ok(0),
        _ => Err(Errno::ENOSYS),
    }
}

fn write(core: &mut Core, mut count: u32, mut at: u64) -> HypercallResult {
    let memory = core.guest_memory()?;
    let mut chunk = [0; CHUNK];
    while count > 0 {
        let bytes = (count as usize).min(CHUNK);
        memory.read_bytes(GuestVirt::new(at), &mut chunk[..bytes])?;
        put(&chunk[..bytes]);
        (count, at) = (count - bytes as u32, at.wrapping_add(bytes as u64));
        if count > 0 && core.frame.is_kicked() {
            (core.frame.registers.rsi, core.frame.registers.rdx) = (count.into(), at);
            return Err(Errno::ERESTART);
        }
    }
    Ok(0)
}

fn put(bytes: &[u8]) {
    let mut console = console::lock();
    for part in bytes.utf8_chunks() {
        // The console's own writing can not fail.
        let _ = console.write_str(part.valid());
        console.write_bytes(part.invalid());
    }
}
