//! Who wants what of a linear address, and the error code of a page fault that may answer.

use bitflags::bitflags;

use super::registers::Paging;
use crate::translate::Access;

/// On whose behalf an access is made (SDM 3A, "Determination of Access Rights").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// An instruction at CPL 3.
    User,
    /// An instruction at CPL 0 to 2.
    Supervisor {
        /// RFLAGS.AC, which lifts SMAP.
        alignment_check: bool,
    },
    /// The processor itself reads or writes a system structure (descriptor table, TSS), at whatever CPL.
    Implicit,
}

/// One access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is to be done. [`Access::Execute`] is an instruction fetch.
    pub access: Access,
    /// For whom.
    pub privilege: Privilege,
}

bitflags! {
    /// The error code of a page fault.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct PageFaultCode: u32 {
        /// A translation is there, but does not allow the access; clear: there is none.
        const PRESENT = 1 << 0;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The access was a user-mode one.
        const USER = 1 << 2;
        /// A reserved bit is set in an entry.
        const RESERVED = 1 << 3;
        /// The access was an instruction fetch.
        const FETCH = 1 << 4;
        /// A protection key forbids the access.
        const KEY = 1 << 5;
    }
}

impl Request {
    /// The request behind a page fault of the processor itself. `user`: CPL is 3. RFLAGS.AC is the guest's.
    ///
    /// A supervisor access at CPL 3 is an implicit one. At other CPLs implicit accesses look like explicit ones.
    pub const fn from_fault(code: PageFaultCode, user: bool, alignment_check: bool) -> Self {
        let access = if code.contains(PageFaultCode::FETCH) {
            Access::Execute
        } else if code.contains(PageFaultCode::WRITE) {
            Access::Write
        } else {
            Access::Read
        };
        let privilege = if code.contains(PageFaultCode::USER) {
            Privilege::User
        } else if user {
            Privilege::Implicit
        } else {
            Privilege::Supervisor { alignment_check }
        };
        Self { access, privilege }
    }

    /// The flags of an error code that tell of the access alone.
    pub(crate) fn code(self, paging: &Paging) -> PageFaultCode {
        let mut code = match self.access {
            Access::Read => PageFaultCode::empty(),
            Access::Write => PageFaultCode::WRITE,
            Access::Execute if paging.faults_tell_fetches() => PageFaultCode::FETCH,
            Access::Execute => PageFaultCode::empty(),
        };
        code.set(PageFaultCode::USER, self.privilege == Privilege::User);
        code
    }
}
