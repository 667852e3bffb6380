//! What the shadows answer.

use abi::address::{GuestPhys, GuestVirt};

use crate::guest_walk::{PageFaultCode, Refusal};

/// What to do about a page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The guest did nothing wrong and the shadow has it now: resume at the same instruction.
    Fixed,
    /// The fault is the guest's own: inject it with this error code. CR2 is the address of the access.
    Inject(PageFaultCode),
    /// There is no memory that would take this access: a device's registers, or a write to ROM. Emulate the instruction.
    Mmio(GuestPhys),
    /// A write to a table whose shadow must follow at once. Emulate the instruction, then call
    /// [`Shadow::written`](super::Shadow::written).
    WriteToTable(GuestPhys),
    /// The guest may do this, but no shadow entry can say so without allowing too much. Emulate the instruction.
    Emulate(GuestPhys),
    /// The guest's tables are nothing to walk on: stop it.
    Stop(Refusal),
}

/// What the processor may still hold that the shadows no longer say. It is to be gone before the guest goes on; where
/// the guest runs without a VPID every VM entry sees to that.
#[must_use = "stale translations reach memory that the shadows no longer map"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Nothing.
    None,
    /// One linear address: INVVPID, individual address.
    Address(GuestVirt),
    /// All: INVVPID, single context.
    All,
}

impl Flush {
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, flush) | (flush, Self::None) => flush,
            (Self::Address(one), Self::Address(two)) if one == two => self,
            _ => Self::All,
        }
    }
}

/// An outcome, and what to flush for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What to do.
    pub outcome: Outcome,
    /// What to flush first.
    pub flush: Flush,
}
