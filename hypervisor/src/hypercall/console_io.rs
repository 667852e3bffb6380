//! `console_io`: the machine's log, for domain 0.

use core::fmt::Write;

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::console_io::WRITE;

use super::arguments;
use crate::console;
use crate::core::Core;

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, count, at, ..] = arguments(core);
    let domain = core.domain()?;
    if !domain.is_privileged {
        return Err(Errno::EPERM);
    }
    if operation != WRITE {
        return Err(Errno::ENOSYS);
    }
    let memory = core.guest_memory()?;
    let mut console = console::lock();
    let mut chunk = [0; 256];
    let mut done = 0;
    while done < count {
        let bytes = (count - done).min(chunk.len() as u64) as usize;
        let from = GuestVirt::new(at).checked_add(done).ok_or(Errno::EFAULT)?;
        memory.read_bytes(from, &mut chunk[..bytes])?;
        for part in chunk[..bytes].utf8_chunks() {
            // The console's own writing can not fail.
            let _ = console.write_str(part.valid());
            console.write_bytes(part.invalid());
        }
        done += bytes as u64;
    }
    Ok(0)
}
