//! A domain: an id, memory, ports, parameters, and virtual CPUs, each pinned to a core of its own.
//!
//! Three values, by who may touch them:
//!
//! - [`Domain`], shared by its cores and by core 0: facts, and words that change by one atomic store.
//! - [`Home`], the home core's alone (that of virtual CPU 0): what takes more than one store to change. A sibling that
//!   wants a change asks home, by a leaf request. While the domain is built, core 0 has it.
//! - [`Vcpu`], each core's own.
//!
//! Cores outside of the domain use none of them, only its [`Place`] and its faces: memory of the hypervisor's own that
//! is never given up, so that who comes late finds an old word or a new one, but always a word.

pub mod build;
pub mod control;
pub mod physmap;
pub mod shadows;
pub mod successor;

use core::sync::atomic::{AtomicU32, AtomicU64};

use abi::address::{GuestPhys, HostPhys};
use abi::control::hypercall::{CrashRecord, DomainState, MAX_VCPUS};
use abi::xen::DomId;
use abi::xen::hvm::param;
use abi::xen::memory::E820Entry;
use arrayvec::ArrayVec;
use ept::{Ept, View};

use crate::checks::sched::Watchdogs;
use crate::checks::start::Start;
use crate::core::face::{FACES, Face};
use crate::core::succession::Handing;
use crate::core::timer::Time;
use crate::cpuid_policy::{self, Asker};
use crate::events::fifo::{self, Fifo};
use crate::grants::Grants;
use crate::memory::physical::Pool;
use crate::pc::Local;
use crate::pc::board::Board;
use crate::ports::Ports;
use shadows::Shadows;

/// What is there for a core whether it has a domain or not; for a domain, its home core's. All zeroes: unused.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Place {
    /// Event-channel ports of the domain whose home this is.
    pub ports: Ports,
    /// Its FIFO events, where it uses them.
    pub fifo: Fifo,
    /// What it grants, and what it has mapped of others.
    pub grants: Grants,
}

/// Entries that a domain's memory map may have.
pub const MAX_MAP_ENTRIES: usize = 32;
/// Frames that may be pinned: for each virtual CPU its `vcpu_info` and its control block of FIFO events, and their words.
pub const PINNED: usize = 2 * MAX_VCPUS + fifo::PAGES;
/// What is no reason for a shutdown.
pub const NO_CODE: u32 = u32::MAX;

/// One domain, for all its cores to read.
#[derive(Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Domain 0: may make control hypercalls, and has the second serial port.
    pub is_privileged: bool,
    /// A full guest: it believes that it owns a PC ([`crate::pc`]), and knows of no hypervisor.
    pub is_full: bool,
    /// Its memory is translated by shadow page tables, not by EPT: a full guest with one virtual CPU.
    pub is_shadowed: bool,
    /// Its cores, by virtual CPU. The first is its home.
    pub cores: ArrayVec<u8, MAX_VCPUS>,
    /// Its memory as it sees it.
    pub view: View,
    /// The value for the VMCS's EPT pointer.
    pub eptp: u64,
    /// How many 4 KiB pages of memory it has now.
    pub pages: AtomicU64,
    /// How many it may have.
    pub max_pages: AtomicU64,
    /// Its `shared_info` page.
    pub shared_info: HostPhys,
    /// Its ports and what else outlives it.
    pub place: &'static Place,
    /// `HVM_PARAM_*`.
    pub params: [AtomicU64; param::COUNT_WITH_OWN as usize],
    /// The reason that its next shutdown is to have, whatever it says itself; [`NO_CODE`]: none was set.
    pub shutdown_code: AtomicU32,
    /// How far its succession is, as `abi::control::succession::Succession::to_word`. Its home core writes it when the guest says
    /// something, core 0 while the guest says nothing.
    pub succession: AtomicU64,
    /// What it has switched on by `vm_assist`, a bit for each type.
    pub assists: AtomicU32,
    /// What `XENMEM_memory_map` tells; empty: that all its memory lies from 0 on. Locked by who asks and who sets it.
    pub memory_map: spin::Mutex<ArrayVec<E820Entry, MAX_MAP_ENTRIES>>,
    /// Why the hypervisor stopped it: the record of the virtual CPU that was first. Locked by who crashes, and by who
    /// asks about it.
    pub crash: spin::Mutex<Option<CrashRecord>>,
}

/// What of a domain only its home core changes.
#[derive(Debug)]
pub struct Home {
    /// Its page tables.
    pub ept: Ept,
    /// Frames for changes of those while it runs.
    pub pool: Pool,
    /// Where the guest has put its `shared_info` page.
    pub shared_info_at: Option<GuestPhys>,
    /// Frames that the hypervisor writes to itself, as often as it has a reason to: they stay where they are.
    pub pinned: ArrayVec<HostPhys, PINNED>,
    /// Frames that were added to the pool since the domain was made.
    pub tables_added: u64,
    /// Its watchdogs, in ticks of the TSC.
    pub watchdogs: Watchdogs,
    /// Where its virtual CPU 0 starts.
    pub start: Option<Start>,
    /// A kernel that hands over to another one.
    pub handing: Handing,
    /// A full guest's devices.
    pub board: Option<Board>,
    /// Its shadow page tables, where it has some.
    pub shadows: Option<Shadows>,
}

/// What a virtual CPU does when its domain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nothing, until it is told where to start: by a start-up IPI, or by `VCPUOP_initialise`.
    Waiting,
    /// Nothing, until `VCPUOP_up`: it has a state to start from.
    Down,
    /// It runs.
    Up,
}

/// One virtual CPU, on its core.
#[derive(Debug)]
pub struct Vcpu {
    /// Its number.
    pub id: usize,
    /// Its domain.
    pub domain: &'static Domain,
    /// What CPUID tells of it.
    pub asker: Asker,
    /// What it does.
    pub life: Life,
    /// What it starts with when it is up next; `None`: it goes on where it was.
    pub start: Option<Start>,
    /// Whether an NMI waits until it is back in the guest.
    pub nmi: bool,
    /// Its timers and accounts of time.
    pub time: Time,
    /// A full guest's local APIC.
    pub local: Option<Local>,
    /// IA32_APIC_BASE as a para guest sees it.
    pub apic_base: u64,
    /// IA32_PAT as the guest sees it: EPT decides how its memory is cached, so the register has no effect.
    pub pat: u64,
}

impl Domain {
    /// Its home core.
    pub fn home(&self) -> usize {
        self.cores.first().map_or(0, |&core| core.into())
    }

    /// The face of that.
    pub fn face(&self) -> &'static Face {
        &FACES[self.home()]
    }

    /// Its ports.
    #[inline(always)]
    pub fn ports(&self) -> &'static Ports {
        &self.place.ports
    }

    /// The core of a virtual CPU. `None`: it has no such one.
    #[inline]
    pub fn core_of(&self, vcpu: usize) -> Option<usize> {
        self.cores.get(vcpu).map(|&core| core.into())
    }

    /// What it is up to.
    pub fn state(&self) -> DomainState {
        self.face().state()
    }
}

impl Vcpu {
    /// A virtual CPU that was never started, made at this system time.
    pub fn new(id: usize, domain: &'static Domain, now: u64) -> Self {
        let boot_processor = if id == 0 { APIC_BASE_BOOT_PROCESSOR } else { 0 };
        let asker = Asker {
            domain: domain.id,
            vcpu: id as u32,
            vcpus: domain.cores.len() as u32,
            is_full: domain.is_full,
            is_shadowed: domain.is_shadowed,
        };
        Self {
            id,
            domain,
            asker,
            life: Life::Waiting,
            start: None,
            nmi: false,
            time: Time::new(now),
            local: domain.is_full.then(|| Local::new(asker.apic_id(), id == 0)),
            apic_base: APIC_BASE | boot_processor,
            pat: PAT_RESET,
        }
    }

    /// Its APIC id, which is two times its number, as on Xen.
    #[inline]
    pub const fn apic_id(&self) -> u32 {
        cpuid_policy::apic_id(self.id as u32)
    }
}

/// Reset value of IA32_PAT: WB, WT, UC-, UC, twice (SDM 3A, "Programming the PAT").
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// IA32_APIC_BASE at a virtual CPU's start: at its usual place, enabled, in x2APIC mode.
const APIC_BASE: u64 = 0xfee0_0000 | 1 << 11 | 1 << 10;
/// Its bit that tells the boot processor.
const APIC_BASE_BOOT_PROCESSOR: u64 = 1 << 8;
