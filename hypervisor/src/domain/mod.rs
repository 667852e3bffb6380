//! A domain: an id, memory, ports, parameters. While it is built it is core 0's; once it runs it is its core's.

pub mod build;
pub mod control;

use abi::address::{GuestPhys, HostPhys, PageCount};
use abi::control::hypercall::CrashRecord;
use abi::xen::DomId;
use abi::xen::hvm::param;
use ept::Ept;

use crate::memory::physical::Pool;
use crate::ports::Ports;

/// One domain.
#[derive(Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Domain 0: may make control hypercalls, and has the second serial port.
    pub is_privileged: bool,
    /// Its memory as it sees it.
    pub ept: Ept,
    /// Frames for changes of that while it runs.
    pub pool: Pool,
    /// How much memory it has.
    pub pages: PageCount,
    /// Its `shared_info` page.
    pub shared_info: HostPhys,
    /// Where the guest has put that page.
    pub shared_info_at: Option<GuestPhys>,
    /// Its event-channel ports; too large to be moved about.
    pub ports: &'static mut Ports,
    /// `HVM_PARAM_*`.
    pub params: [u64; param::COUNT as usize],
    /// Where it starts.
    pub entry: GuestPhys,
    /// Its PVH start info.
    pub start_info: GuestPhys,
    /// Why the hypervisor stopped it.
    pub crash: Option<CrashRecord>,
    /// IA32_APIC_BASE as the guest sees it.
    pub apic_base: u64,
    /// IA32_PAT as the guest sees it: EPT decides how its memory is cached, so the register has no effect.
    pub pat: u64,
}

/// Reset value of IA32_PAT: WB, WT, UC-, UC, twice (SDM 3A, "Programming the PAT").
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// IA32_APIC_BASE at a domain's start: at its usual place, enabled, in x2APIC mode, the boot processor's.
pub const APIC_BASE_RESET: u64 = 0xfee0_0000 | 1 << 11 | 1 << 10 | 1 << 8;
