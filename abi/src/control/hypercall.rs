//! The control hypercalls: what domain 0 may ask of the hypervisor, and nobody else may.
//!
//! Number [`crate::xen::hypercall::ATOLL_CONTROL`] in RAX, operation in RDI, arguments in RSI, RDX, R10, R8, result
//! in RAX. Any other domain gets `EPERM`, but for [`HAND_OVER`] and [`TAKE_OVER`]. Pointers are linear addresses in the caller, structures are copied whole.
//! Unless it says otherwise an operation on a domain that does not exist returns `ESRCH`.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Fills a [`MachineInfo`]. (pointer)
pub const MACHINE_INFO: u64 = 0;
/// Fills a [`CoreInfo`]. (number, pointer) `ENODEV`: no core and no processor has that number.
pub const CORE_INFO: u64 = 1;
/// Makes a domain, without memory contents, on idle cores. (cores, pages, flags) → domain id. `cores` has a bit for each
/// core; virtual CPU n gets the n-th lowest of them, and virtual CPU 0's is the domain's home. Its memory is one range of
/// guest-physical addresses from 0, filled with zeroes. `flags`: see [`create`]. `ENODEV`: no such core; `EBUSY`: a core
/// has a domain, or is off; `ENOMEM`; `EINVAL`: no cores, more than [`MAX_VCPUS`], no pages, or flags that there are not.
pub const DOMAIN_CREATE: u64 = 2;
/// Copies into a domain that was never started, or into the memory that its successor will have. (domain, guest-physical
/// address, caller's linear address, bytes) `EBUSY`: it was started, and so was a successor, if there is one; `EFAULT`:
/// outside either side's memory.
pub const DOMAIN_WRITE: u64 = 3;
/// Shares the caller's own pages with a domain that was never started. (domain, guest-physical address there,
/// guest-physical address here, pages) `EEXIST`: something is mapped there; `EFAULT`: not memory of the caller's.
pub const DOMAIN_SHARE: u64 = 4;
/// Says where a domain starts, by the PVH protocol. (domain, entry, address of its `hvm_start_info`)
pub const DOMAIN_ENTRY: u64 = 5;
/// Lets a domain run: starts it, or goes on after a pause. (domain) `EBUSY`: a core of its is off.
pub const DOMAIN_UNPAUSE: u64 = 6;
/// Takes a domain off its core until it is unpaused; returns when it has stopped. (domain)
pub const DOMAIN_PAUSE: u64 = 7;
/// Ends a domain: its channels closed, its memory scrubbed and free, its core idle when the call returns. (domain)
pub const DOMAIN_DESTROY: u64 = 8;
/// Fills a [`DomainInfo`] about the domain with this id or the next higher one. (domain, pointer) `ESRCH`: none.
pub const DOMAIN_INFO: u64 = 9;
/// Fills a [`CrashRecord`]. (domain, pointer) `ENOENT`: it did not crash.
pub const DOMAIN_CRASH: u64 = 10;
/// Copies the hypervisor's log. (position, pointer, bytes) → bytes copied. Fills no struct; the position counts bytes
/// since start, and `ERANGE` says that it lies before what is still kept ([`MachineInfo::log_start`]).
pub const LOG_READ: u64 = 11;
/// Sends an interrupt, edge-triggered, straight to a vector of the caller. (line, vector) A line is a global system
/// interrupt or, below 16, an ISA interrupt. Vector 0 masks it.
pub const IRQ_ROUTE: u64 = 12;
/// Walks every EPT and fills an [`AuditReport`]. (pointer)
pub const AUDIT: u64 = 13;
/// Says in what state a domain's virtual CPU 0 starts, instead of [`DOMAIN_ENTRY`]. (domain, pointer to a
/// [`crate::xen::vcpu::HvmContext`]) `EINVAL`: a processor can not be in that state; `EBUSY`: it was started.
pub const DOMAIN_CONTEXT: u64 = 15;
/// Lets a domain go on that has suspended itself: its `SCHEDOP_shutdown` returns 1, as on Xen when a suspension was
/// cancelled, and all it had it has still. (domain) `EINVAL`: it has not suspended itself; `EBUSY`: a core of its is off.
pub const DOMAIN_RESUME: u64 = 16;
/// Takes a core off its processor, which leaves VMX and waits to be started. What the core has of a domain it keeps, in
/// memory. (core) → ticks that its own part took. `ENODEV`: no such core; `EPERM`: it is the caller's; `EEXIST`: it is
/// off; `EBUSY`: its domain runs.
pub const CORE_OFF: u64 = 17;
/// Puts a core that is off on a processor. (core, processor) `ENODEV`: no such core or processor; `EEXIST`: the core is
/// on; `EBUSY`: the processor has another; `EIO`: it does not start.
pub const CORE_ON: u64 = 18;
/// Ends the run with an exit code ([`crate::exit_code`]). (code) Does not return.
pub const MACHINE_STOP: u64 = 14;

/// Fills a [`super::topology::Topology`]. (pointer)
pub const TOPOLOGY: u64 = 32;
/// Makes pages of a full domain that was never started its firmware, and its virtual CPU 0 start as a processor after reset,
/// instead of [`DOMAIN_CONTEXT`]. (domain, first frame, pages) The pages leave their place, which is where the guest's memory
/// ends, and appear at the end of the first 4 GiB, where they can be read and executed. `EINVAL`: no pages, or more than
/// [`MAX_FIRMWARE_PAGES`], or a guest without real mode; `EEXIST`: something is mapped there; `EFAULT`: no such pages;
/// `EBUSY`: it was started.
pub const DOMAIN_FIRMWARE: u64 = 19;
/// Makes memory for a second kernel in a domain that runs, as much as the domain may have, filled with zeroes; see
/// [`super::succession`]. (domain) `EEXIST`: there is such memory already; `ENOMEM`; `EINVAL`: a domain with several virtual
/// CPUs, or a full one, or one that was never started.
pub const SUCCESSOR_CREATE: u64 = 20;
/// Starts the successor, by the PVH protocol, while the old kernel waits in [`HAND_OVER`]; the package is copied to where it
/// shall lie. (domain, entry, address of its `hvm_start_info`, address of the package) `EINVAL`: nobody waits there;
/// `EBUSY`: memory of the domain's is in use by the hypervisor or by a grant, so it cannot be exchanged; `EFAULT`: there is
/// no room for the package; `ENOMEM`.
pub const SUCCESSOR_START: u64 = 21;
/// Lets the old kernel go on, whose [`HAND_OVER`] returns why. (domain, [`super::succession::Failure`]) `EINVAL`: no kernel
/// waits, or the successor runs (pause it first), or it has taken over. The successor's memory is scrubbed and free.
pub const SUCCESSOR_FAILED: u64 = 22;
/// Frees the memory that is not in use any more: the old kernel's where the successor has taken over, the successor's where it
/// was never started. (domain) `ENOENT`: there is none; `EBUSY`: one kernel waits for the other.
pub const SUCCESSOR_END: u64 = 23;
/// How far the succession in a domain is. (domain) → [`super::succession::Succession`] as a word.
pub const SUCCESSION: u64 = 24;
/// Any domain's: hands this package to the successor, and waits. (linear address, bytes) → why it did not take over, a
/// [`super::succession::Failure`]. `ENOENT`: there is no successor; `EFAULT`: not the caller's memory; `EINVAL`: no bytes, or
/// more than [`super::succession::MAX_PACKAGE`].
pub const HAND_OVER: u64 = 25;
/// A successor's: it has taken over, and the old kernel is no more. `EINVAL`: the caller is no successor, or has done it. Until
/// then it has few hypercalls, none of which changes what the old kernel would come back to: `EPERM`.
pub const TAKE_OVER: u64 = 26;
/// The most pages of a firmware: 16 MiB, below which a PC has its APICs.
pub const MAX_FIRMWARE_PAGES: u64 = 1 << 12;

/// Flags of [`DOMAIN_CREATE`].
pub mod create {
    /// A fully virtualized domain: it finds a PC's devices, no Xen leaf and no hypercall.
    pub const FULL: u64 = 1 << 0;
    /// Beside [`FULL`]: its memory is translated by shadows of its page tables, without EPT. It has one virtual CPU, which
    /// never leaves protected mode.
    pub const SHADOW: u64 = 1 << 1;
    /// Beside [`FULL`]: its local APICs are emulated, also where processors could keep them up by themselves. Those of a
    /// domain with [`SHADOW`] are anyway.
    pub const EMULATED_APIC: u64 = 1 << 2;
}

/// The most virtual CPUs of one domain.
pub const MAX_VCPUS: usize = 8;

/// The machine, as the hypervisor found it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct MachineInfo {
    /// Cores the hypervisor has room for: those it runs on, and those whose processors may come yet.
    pub cores: u32,
    /// The time-stamp counter's rate.
    pub tsc_khz: u32,
    /// TSC at the hypervisor's first instruction.
    pub boot_tsc: u64,
    /// 4 KiB frames that guests may have.
    pub frames_total: u64,
    /// Of those, free.
    pub frames_free: u64,
    /// Position of the oldest byte of the log still kept.
    pub log_start: u64,
    /// Position behind the newest byte of the log.
    pub log_end: u64,
}

/// `CoreInfo::domain` of an idle core.
pub const NO_DOMAIN: u32 = u32::MAX;

/// `CoreInfo::processor` of a core that is off.
pub const NO_PROCESSOR: u32 = u32::MAX;

/// One core, and one processor. At boot each core is on the processor of its own number; a core that was taken off may be
/// put on another one, with the domain that it keeps.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CoreInfo {
    /// The domain on the core of this number, or [`NO_DOMAIN`].
    pub domain: u32,
    /// The processor that this core is on, or [`NO_PROCESSOR`].
    pub processor: u32,
    /// The local APIC id of the processor of this number.
    pub apic_id: u32,
    /// That processor's package, by the fields of its APIC id.
    pub package: u32,
    /// Its core within the package.
    pub core: u32,
    /// Its thread within the core.
    pub thread: u32,
    /// Whether it is there: one of [`presence`].
    pub presence: u32,
}

/// Whether a processor is there.
pub mod presence {
    /// There is a place for it in the machine, which is empty.
    pub const ABSENT: u32 = 0;
    /// It was put in while the machine runs, and no core has been on it yet.
    pub const NEW: u32 = 1;
    /// A core is on it, or was.
    pub const KNOWN: u32 = 2;
}

/// A domain's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DomainState {
    /// Created, never started.
    Building = 0,
    /// On its core.
    Running = 1,
    /// Off its core, on request.
    Paused = 2,
    /// It ended itself (`SCHEDOP_shutdown`); [`DomainInfo::reason`] says how.
    Shutdown = 3,
    /// The hypervisor stopped it; a [`CrashRecord`] says why.
    Crashed = 4,
}

impl DomainState {
    /// The state with this number.
    pub const fn from_u32(state: u32) -> Option<Self> {
        Some(match state {
            0 => Self::Building,
            1 => Self::Running,
            2 => Self::Paused,
            3 => Self::Shutdown,
            4 => Self::Crashed,
            _ => return None,
        })
    }
}

macro_rules! exit_kinds {
    ($($(#[$doc:meta])* $name:ident = $label:literal;)*) => {
        /// The families of VM exits that are counted apart; the index into [`DomainInfo::exits`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum ExitKind { $($(#[$doc])* $name,)* }

        impl ExitKind {
            /// Every kind, in order.
            pub const ALL: &'static [ExitKind] = &[$(ExitKind::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used in tables and in JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

exit_kinds! {
    /// VMCALL.
    Hypercall = "hypercall";
    /// CPUID.
    Cpuid = "cpuid";
    /// RDMSR of an MSR that is not passed through.
    Rdmsr = "rdmsr";
    /// WRMSR of an MSR that is not passed through.
    Wrmsr = "wrmsr";
    /// IN or OUT to a port the guest does not own.
    Io = "io";
    /// Access to CR0, CR4 or another control register that the hypervisor keeps bits of.
    ControlRegister = "control-register";
    /// An NMI: another core, or this one, asked for the hypervisor's attention.
    Kick = "kick";
    /// Access to guest-physical memory that is not mapped so.
    EptViolation = "ept-violation";
    /// Access to the local APIC that the processor does not carry out by itself, where it virtualizes one.
    Apic = "apic";
    /// An exception the hypervisor intercepts.
    Exception = "exception";
    /// An instruction no guest may use: VMX, XSETBV, INVD, ...
    Instruction = "instruction";
    /// Triple fault.
    TripleFault = "triple-fault";
    /// A timer of the guest's, or its watchdog.
    Timer = "timer";
    /// Any other.
    Other = "other";
}

/// One domain.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct DomainInfo {
    /// Its id.
    pub domain: u32,
    /// The core of its virtual CPU 0.
    pub core: u32,
    /// All its cores, a bit each.
    pub cores: u64,
    /// A [`DomainState`].
    pub state: u32,
    /// `SHUTDOWN_*` where it is shut down.
    pub reason: u32,
    /// Its memory in 4 KiB pages.
    pub pages: u64,
    /// VM exits by [`ExitKind`].
    pub exits: [u64; ExitKind::COUNT],
    /// TSC when it stopped last.
    pub stopped_tsc: u64,
    /// Events it was sent and it sent.
    pub events_in: u64,
    /// See `events_in`.
    pub events_out: u64,
}

/// Why the hypervisor stopped a domain, and where it was.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct CrashRecord {
    /// Basic exit reason (SDM 3D, "VMX Basic Exit Reasons").
    pub exit_reason: u32,
    /// VM-exit interruption information, where valid.
    pub interruption: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Guest-physical address, for EPT violations.
    pub guest_physical: u64,
    /// RIP, RSP, RFLAGS.
    pub rip: u64,
    /// See `rip`.
    pub rsp: u64,
    /// See `rip`.
    pub rflags: u64,
    /// Control registers.
    pub cr0: u64,
    /// See `cr0`.
    pub cr3: u64,
    /// See `cr0`.
    pub cr4: u64,
    /// RAX, RCX, RDX, RBX, (0), RBP, RSI, RDI, R8 to R15: the processor's own numbering.
    pub registers: [u64; 16],
    /// The instruction at RIP, as far as it could be read, and what is behind it.
    pub code: [u8; 15],
    /// How many bytes that are; 0: nothing could be read.
    pub code_bytes: u8,
    /// Width of the code segment: 16, 32 or 64.
    pub code_bits: u64,
}

/// What a walk of every EPT found. All of the last four are zero on a sound machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct AuditReport {
    /// Domains whose EPT was walked.
    pub domains: u64,
    /// 4 KiB mappings seen (a large page counts as its 4 KiB pages).
    pub mappings: u64,
    /// Of those, frames another domain owns and has shared with this one.
    pub shared: u64,
    /// Frames reachable from two domains without having been shared.
    pub leaked: u64,
    /// Frames of the hypervisor's that a guest can reach.
    pub hypervisor: u64,
    /// Frames that are free and yet reachable.
    pub free: u64,
    /// Frames whose owner or count of shares in the frame table does not agree with the EPTs, pages that a domain is
    /// counted to have and cannot reach, and frames that the hypervisor writes to for a domain that has them no more.
    pub miscounted: u64,
}
