//! Port I/O to ports that the guest does not own: nothing is there. Reads give all ones, writes go nowhere, as on a bus
//! without a device.

use vmx::exit::Io;

use crate::core::Core;

pub(super) fn handle(core: &mut Core, access: Io) {
    if access.is_in && !access.is_string {
        let rax = &mut core.frame.registers.rax;
        *rax = match access.bytes {
            1 => *rax | 0xff,
            2 => *rax | 0xffff,
            _ => 0xffff_ffff,
        };
    }
    core.advance();
}
