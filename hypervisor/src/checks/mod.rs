//! What Xen says to a call's arguments before anything is done: which error comes first, and what is left to do.
//!
//! Pure functions of the words a guest has passed, copied out of its memory by the caller (`hypercall`). The order of
//! the checks is the interface: a guest that probes gets the same answer as on Xen 4.17 (`xen/common/memory.c`,
//! `sched/core.c`, `arch/x86/hvm/hvm.c`).

pub mod batch;
pub mod hvm;
pub mod memory;
pub mod sched;
pub mod start;
pub mod tools;

use abi::xen::errno::Errno;
use abi::xen::{DOMID_SELF, DomId};

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Its number.
    pub id: DomId,
    /// Domain 0.
    pub is_privileged: bool,
}

impl Caller {
    /// The domain that a call is about, by number or as "myself"; the privileged may name others.
    pub fn subject(self, named: DomId, exists: impl Fn(DomId) -> bool) -> Result<DomId, Errno> {
        if named == DOMID_SELF || named == self.id {
            return Ok(self.id);
        }
        if !exists(named) {
            return Err(Errno::ESRCH);
        }
        if self.is_privileged { Ok(named) } else { Err(Errno::EPERM) }
    }

    /// As [`Self::subject`], for calls that must be about another domain. "Myself" is no number there.
    pub fn other(self, named: DomId, exists: impl Fn(DomId) -> bool) -> Result<DomId, Errno> {
        if named != self.id && !exists(named) {
            return Err(Errno::ESRCH);
        }
        if named != self.id && self.is_privileged { Ok(named) } else { Err(Errno::EPERM) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const GUEST: Caller = Caller { id: 5, is_privileged: false };
    pub const CONTROL: Caller = Caller { id: 0, is_privileged: true };

    /// Domains 0, 5 and 7.
    pub fn exists(id: DomId) -> bool {
        [0, 5, 7].contains(&id)
    }

    #[test]
    fn whom_a_call_is_about() {
        assert_eq!(GUEST.subject(DOMID_SELF, exists), Ok(5));
        assert_eq!(GUEST.subject(5, exists), Ok(5));
        assert_eq!(GUEST.subject(7, exists), Err(Errno::EPERM));
        assert_eq!(GUEST.subject(8, exists), Err(Errno::ESRCH));
        assert_eq!(CONTROL.subject(7, exists), Ok(7));
        assert_eq!(CONTROL.subject(8, exists), Err(Errno::ESRCH));
        assert_eq!(GUEST.other(DOMID_SELF, exists), Err(Errno::ESRCH));
        assert_eq!(GUEST.other(5, exists), Err(Errno::EPERM));
        assert_eq!(GUEST.other(7, exists), Err(Errno::EPERM));
        assert_eq!(CONTROL.other(7, exists), Ok(7));
        assert_eq!(CONTROL.other(0, exists), Err(Errno::EPERM));
    }
}
