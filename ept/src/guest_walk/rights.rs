//! What a page allows, and whether that covers a request (SDM 3A, "Determination of Access Rights").

use bitflags::bitflags;

use super::registers::Paging;
use super::request::{PageFaultCode, Privilege, Request};
use crate::translate::Access;

bitflags! {
    /// What all entries on the way to a page grant together.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct Rights: u8 {
        /// A user-mode address: U/S is set in each entry.
        const USER = 1 << 0;
        /// R/W is set in each entry.
        const WRITE = 1 << 1;
        /// XD is set in none.
        const EXECUTE = 1 << 2;
    }
}

impl Rights {
    /// Whether a page with these rights and this protection key allows `request`; if not, the error code.
    pub(crate) fn permit(self, key: u8, request: Request, paging: &Paging) -> Result<(), PageFaultCode> {
        let user_page = self.contains(Self::USER);
        let user = request.privilege == Privilege::User;
        let write = request.access == Access::Write;
        let by_tables = match request.access {
            Access::Execute => {
                let smep = !user && user_page && paging.smep();
                self.contains(Self::EXECUTE) && !smep
            }
            Access::Read | Access::Write => {
                let lifted = matches!(request.privilege, Privilege::Supervisor { alignment_check: true });
                let smap = !user && user_page && paging.smap() && !lifted;
                let writable = self.contains(Self::WRITE) || !user && !paging.write_protect();
                !smap && (!write || writable)
            }
        };
        let by_key = !self.key_forbids(key, request, paging);
        if by_tables && by_key && (user_page || !user) {
            return Ok(());
        }
        let mut code = request.code(paging) | PageFaultCode::PRESENT;
        code.set(PageFaultCode::KEY, !by_key);
        Err(code)
    }

    /// Protection keys govern data accesses to user-mode addresses.
    fn key_forbids(self, key: u8, request: Request, paging: &Paging) -> bool {
        if !paging.protection_keys() || !self.contains(Self::USER) || request.access == Access::Execute {
            return false;
        }
        let rights = paging.pkru >> (u32::from(key & 15) * 2);
        let (access_disable, write_disable) = (rights & 1 != 0, rights & 2 != 0);
        let obeys = request.privilege == Privilege::User || paging.write_protect();
        access_disable || write_disable && obeys && request.access == Access::Write
    }
}
