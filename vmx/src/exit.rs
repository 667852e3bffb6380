//! What a VM exit says, decoded: pure functions from VMCS fields to values.

use abi::address::GuestPhys;

use crate::field::{self, ReadOnly, Width};

/// Basic exit reasons (SDM 3D, "VMX Basic Exit Reasons"), as far as a guest of Atoll's can cause them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(u32);

macro_rules! reasons {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Reason {
            $(#[doc = $text]
            pub const $name: Self = Self($number);)*

            /// What happened, in a few words.
            pub const fn text(self) -> &'static str {
                match self.basic() { $($number => $text,)* _ => "an exit Atoll does not know" }
            }
        }
    };
}

reasons! {
    EXCEPTION_OR_NMI = 0, "exception or NMI";
    EXTERNAL_INTERRUPT = 1, "external interrupt";
    TRIPLE_FAULT = 2, "triple fault";
    INIT = 3, "INIT signal";
    SIPI = 4, "start-up IPI";
    INTERRUPT_WINDOW = 7, "interrupt window";
    NMI_WINDOW = 8, "NMI window";
    TASK_SWITCH = 9, "task switch";
    CPUID = 10, "CPUID";
    GETSEC = 11, "GETSEC";
    HLT = 12, "HLT";
    INVD = 13, "INVD";
    INVLPG = 14, "INVLPG";
    RDPMC = 15, "RDPMC";
    RDTSC = 16, "RDTSC";
    RSM = 17, "RSM";
    VMCALL = 18, "VMCALL";
    VMCLEAR = 19, "VMCLEAR";
    VMLAUNCH = 20, "VMLAUNCH";
    VMPTRLD = 21, "VMPTRLD";
    VMPTRST = 22, "VMPTRST";
    VMREAD = 23, "VMREAD";
    VMRESUME = 24, "VMRESUME";
    VMWRITE = 25, "VMWRITE";
    VMXOFF = 26, "VMXOFF";
    VMXON = 27, "VMXON";
    CONTROL_REGISTER = 28, "control-register access";
    DEBUG_REGISTER = 29, "debug-register access";
    IO = 30, "I/O instruction";
    RDMSR = 31, "RDMSR";
    WRMSR = 32, "WRMSR";
    INVALID_GUEST_STATE = 33, "VM entry failed: invalid guest state";
    MSR_LOADING = 34, "VM entry failed: MSR loading";
    MWAIT = 36, "MWAIT";
    MONITOR_TRAP = 37, "monitor trap flag";
    MONITOR = 39, "MONITOR";
    PAUSE = 40, "PAUSE";
    MACHINE_CHECK = 41, "VM entry failed: machine check";
    TPR_BELOW_THRESHOLD = 43, "TPR below threshold";
    APIC_ACCESS = 44, "APIC access";
    VIRTUALIZED_EOI = 45, "virtualized EOI";
    GDTR_IDTR = 46, "access to GDTR or IDTR";
    LDTR_TR = 47, "access to LDTR or TR";
    EPT_VIOLATION = 48, "EPT violation";
    EPT_MISCONFIGURATION = 49, "EPT misconfiguration";
    INVEPT = 50, "INVEPT";
    RDTSCP = 51, "RDTSCP";
    PREEMPTION_TIMER = 52, "VMX-preemption timer";
    INVVPID = 53, "INVVPID";
    WBINVD = 54, "WBINVD";
    XSETBV = 55, "XSETBV";
    APIC_WRITE = 56, "APIC write";
    RDRAND = 57, "RDRAND";
    INVPCID = 58, "INVPCID";
    VMFUNC = 59, "VMFUNC";
    ENCLS = 60, "ENCLS";
    RDSEED = 61, "RDSEED";
    PML_FULL = 62, "page-modification log full";
    XSAVES = 63, "XSAVES";
    XRSTORS = 64, "XRSTORS";
}

impl Reason {
    /// A machine check while the entry was under way: reason 41, with the bit that says the guest did not run.
    pub const MACHINE_CHECK_ON_ENTRY: Self = Self(1 << 31 | 41);

    /// From the exit-reason field.
    pub const fn new(field: u32) -> Self {
        Self(field)
    }

    /// The basic reason's number.
    pub const fn basic(self) -> u32 {
        self.0 & 0xffff
    }

    /// The whole field.
    pub const fn field(self) -> u32 {
        self.0
    }

    /// Whether the VM entry failed and the guest did not run at all.
    pub const fn entry_failed(self) -> bool {
        self.0 & 1 << 31 != 0
    }
}

/// Where exit-information fields are read: the current VMCS, or a test's.
pub trait ReadExit {
    /// The field's value.
    fn read<W: Width>(&self, field: ReadOnly<W>) -> W;
}

/// A VM exit. What a handler needs of the exit information comes with it, and no more is read: each field may cost an
/// exit of its own where the hypervisor itself is a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// VMCALL.
    Hypercall,
    /// CPUID.
    Cpuid,
    /// RDMSR.
    Rdmsr,
    /// WRMSR.
    Wrmsr,
    /// IN, OUT, INS, OUTS.
    Io(Io),
    /// Access to a control register.
    ControlRegister(ControlRegister),
    /// MOV to or from a debug register.
    DebugRegister,
    /// WBINVD.
    Wbinvd,
    /// An NMI: somebody wants the hypervisor.
    Nmi,
    /// An exception that is intercepted.
    Exception(Interruption),
    /// INVLPG of this linear address.
    Invlpg(u64),
    /// Access to guest-physical memory without a mapping that allows it: qualification and address.
    EptViolation(u64, GuestPhys),
    /// Access to the local APIC's page that the processor has not carried out.
    ApicAccess(ApicAccess),
    /// A register of the local APIC's, at this offset of the page, has been written. The instruction is done.
    ApicWrite(u32),
    /// The interrupt with this vector has ended, of those whose end exits. The instruction is done.
    VirtualizedEoi(u8),
    /// An interrupt of the processor's own, with this vector; it is acknowledged.
    ExternalInterrupt(u8),
    /// Triple fault.
    TripleFault,
    /// The VMX-preemption timer has come to 0.
    PreemptionTimer,
    /// An instruction that guests do not have.
    Instruction(Reason),
    /// The guest did not run: its state breaks a rule.
    EntryFailed(Reason),
    /// Anything else.
    Other(Reason),
}

impl Exit {
    /// Decodes the exit that the exit-information fields tell of.
    #[inline(always)]
    pub fn decode(fields: &impl ReadExit) -> Self {
        let reason = Reason::new(fields.read(field::EXIT_REASON));
        match reason {
            Reason::VMCALL => Self::Hypercall,
            Reason::CPUID => Self::Cpuid,
            Reason::RDMSR => Self::Rdmsr,
            Reason::WRMSR => Self::Wrmsr,
            Reason::IO => Self::Io(Io::new(fields.read(field::EXIT_QUALIFICATION))),
            Reason::EPT_VIOLATION => Self::EptViolation(
                fields.read(field::EXIT_QUALIFICATION),
                GuestPhys::new(fields.read(field::GUEST_PHYSICAL_ADDRESS)),
            ),
            Reason::APIC_WRITE => Self::ApicWrite(fields.read(field::EXIT_QUALIFICATION) as u32 & 0xfff),
            other => Self::decode_rare(other, fields),
        }
    }

    #[cold]
    fn decode_rare(reason: Reason, fields: &impl ReadExit) -> Self {
        if reason.entry_failed() {
            return Self::EntryFailed(reason);
        }
        match reason {
            Reason::EXCEPTION_OR_NMI => match Interruption(fields.read(field::EXIT_INTERRUPTION_INFO)) {
                nmi if nmi.is_nmi() => Self::Nmi,
                exception => Self::Exception(exception),
            },
            Reason::CONTROL_REGISTER => {
                Self::ControlRegister(ControlRegister::new(fields.read(field::EXIT_QUALIFICATION)))
            }
            Reason::INVLPG => Self::Invlpg(fields.read(field::EXIT_QUALIFICATION)),
            Reason::DEBUG_REGISTER => Self::DebugRegister,
            Reason::APIC_ACCESS => Self::ApicAccess(ApicAccess::new(fields.read(field::EXIT_QUALIFICATION))),
            Reason::VIRTUALIZED_EOI => Self::VirtualizedEoi(fields.read(field::EXIT_QUALIFICATION) as u8),
            Reason::EXTERNAL_INTERRUPT => {
                Self::ExternalInterrupt(Interruption(fields.read(field::EXIT_INTERRUPTION_INFO)).vector())
            }
            Reason::TRIPLE_FAULT => Self::TripleFault,
            Reason::PREEMPTION_TIMER => Self::PreemptionTimer,
            Reason::WBINVD | Reason::INVD => Self::Wbinvd,
            Reason::GETSEC
            | Reason::VMCLEAR
            | Reason::VMLAUNCH
            | Reason::VMPTRLD
            | Reason::VMPTRST
            | Reason::VMREAD
            | Reason::VMRESUME
            | Reason::VMWRITE
            | Reason::VMXOFF
            | Reason::VMXON
            | Reason::INVEPT
            | Reason::INVVPID
            | Reason::VMFUNC
            | Reason::MWAIT
            | Reason::MONITOR
            | Reason::RDPMC
            | Reason::ENCLS
            | Reason::XSETBV
            | Reason::XSAVES
            | Reason::XRSTORS => Self::Instruction(reason),
            other => Self::Other(other),
        }
    }
}

/// VM-exit interruption information, or IDT-vectoring information (SDM 3C, "Information for VM Exits Due to Vectored
/// Events").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption(pub u32);

impl Interruption {
    /// Whether there is anything to say.
    pub const fn is_valid(self) -> bool {
        self.0 & 1 << 31 != 0
    }

    /// The vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The vector of an exception that the processor itself raised.
    pub const fn hardware_exception(self) -> Option<u8> {
        if self.is_valid() && self.0 >> 8 & 7 == 3 { Some(self.vector()) } else { None }
    }

    /// Whether it is a fault of an IRET that had unblocked NMIs, which are to be blocked again if the IRET is done again.
    pub const fn by_iret(self) -> bool {
        const DOUBLE_FAULT: u8 = 8;
        self.0 & 1 << 12 != 0 && self.vector() != DOUBLE_FAULT
    }

    /// Whether it is an NMI.
    pub const fn is_nmi(self) -> bool {
        self.is_valid() && self.0 >> 8 & 7 == 2
    }
}

/// Exit qualification of an I/O instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// The port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub bytes: u8,
    /// IN rather than OUT.
    pub is_in: bool,
    /// INS or OUTS.
    pub is_string: bool,
}

impl Io {
    /// Decodes the qualification (SDM 3C, "Exit Qualification for I/O Instructions").
    pub const fn new(qualification: u64) -> Self {
        Self {
            port: (qualification >> 16) as u16,
            bytes: (qualification & 7) as u8 + 1,
            is_in: qualification & 1 << 3 != 0,
            is_string: qualification & 1 << 4 != 0,
        }
    }
}

/// Exit qualification of an access to the local APIC's page (SDM 3C, "Exit Qualification for APIC-Access VM Exits").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicAccess {
    /// Offset in the page.
    pub offset: u16,
    /// Whether it is a write; `None`: no instruction's read or write, but a fetch, or the delivery of an event.
    pub is_write: Option<bool>,
}

impl ApicAccess {
    /// Decodes the qualification.
    pub const fn new(qualification: u64) -> Self {
        let is_write = match qualification >> 12 & 0xf {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        Self { offset: (qualification & 0xfff) as u16, is_write }
    }
}

/// Exit qualification of a control-register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRegister {
    /// MOV to a control register: which, and the general register's number.
    Write(u8, u8),
    /// MOV from a control register.
    Read(u8, u8),
    /// CLTS.
    ClearTaskSwitched,
    /// LMSW with this source.
    LoadMachineStatus(u16),
}

impl ControlRegister {
    /// Decodes the qualification (SDM 3C, "Exit Qualification for Control-Register Accesses").
    pub const fn new(qualification: u64) -> Self {
        let (control, general) = ((qualification & 0xf) as u8, (qualification >> 8 & 0xf) as u8);
        match qualification >> 4 & 3 {
            0 => Self::Write(control, general),
            1 => Self::Read(control, general),
            2 => Self::ClearTaskSwitched,
            _ => Self::LoadMachineStatus((qualification >> 16) as u16),
        }
    }
}

/// What VM-instruction error numbers mean (SDM 3C, "VM Instruction Error Numbers").
pub const fn instruction_error(number: u32) -> &'static str {
    match number {
        1 => "VMCALL executed in VMX root operation",
        2 => "VMCLEAR with invalid physical address",
        3 => "VMCLEAR with VMXON pointer",
        4 => "VMLAUNCH with non-clear VMCS",
        5 => "VMRESUME with non-launched VMCS",
        6 => "VMRESUME after VMXOFF",
        7 => "VM entry with invalid control fields",
        8 => "VM entry with invalid host-state fields",
        9 => "VMPTRLD with invalid physical address",
        10 => "VMPTRLD with VMXON pointer",
        11 => "VMPTRLD with incorrect VMCS revision identifier",
        12 => "VMREAD or VMWRITE of unsupported VMCS component",
        13 => "VMWRITE to read-only VMCS component",
        15 => "VMXON executed in VMX root operation",
        26 => "VM entry with events blocked by MOV SS",
        28 => "invalid operand to INVEPT or INVVPID",
        _ => "unknown VM-instruction error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exit information: reason, qualification, interruption information, guest-physical address.
    struct Fields(u32, u64, u32, u64);

    impl ReadExit for Fields {
        fn read<W: Width>(&self, asked: ReadOnly<W>) -> W {
            W::narrow(match asked.encoding {
                e if e == field::EXIT_REASON.encoding => self.0.into(),
                e if e == field::EXIT_QUALIFICATION.encoding => self.1,
                e if e == field::EXIT_INTERRUPTION_INFO.encoding => self.2.into(),
                e if e == field::GUEST_PHYSICAL_ADDRESS.encoding => self.3,
                other => panic!("field {other:#x} is read without need"),
            })
        }
    }

    #[test]
    fn decoding() {
        let decode = |reason, qualification, interruption, address| {
            Exit::decode(&Fields(reason, qualification, interruption, address))
        };
        assert_eq!(decode(18, 0, 0, 0), Exit::Hypercall);
        assert_eq!(decode(0, 0, 0x8000_0202, 0), Exit::Nmi);
        assert_eq!(decode(0, 0, 0x8000_0306, 0), Exit::Exception(Interruption(0x8000_0306)));
        assert_eq!(decode(48, 0x182, 0, 0x5000), Exit::EptViolation(0x182, GuestPhys::new(0x5000)));
        assert_eq!(decode(14, 0x7000, 0, 0), Exit::Invlpg(0x7000));
        assert_eq!(decode(27, 0, 0, 0), Exit::Instruction(Reason::VMXON));
        assert_eq!(decode(56, 0x380, 0, 0), Exit::ApicWrite(0x380));
        assert_eq!(decode(45, 0x31, 0, 0), Exit::VirtualizedEoi(0x31));
        assert_eq!(decode(1, 0, 0x8000_00ef, 0), Exit::ExternalInterrupt(0xef));
        assert_eq!(decode(0x8000_0021, 0, 0, 0), Exit::EntryFailed(Reason::new(0x8000_0021)));
        assert_eq!(decode(999, 0, 0, 0), Exit::Other(Reason::new(999)));
    }

    proptest::proptest! {
        #[test]
        fn any_exit_decodes(reason: u32, qualification: u64, interruption: u32, address: u64) {
            let _ = Exit::decode(&Fields(reason, qualification, interruption, address));
        }
    }

    #[test]
    fn reasons() {
        let failed = Reason::new(0x8000_0021);
        assert!(failed.entry_failed());
        assert_eq!(failed.basic(), Reason::INVALID_GUEST_STATE.basic());
        assert_eq!(Reason::new(18).text(), "VMCALL");
    }

    #[test]
    fn io() {
        let out = Io::new(0x03f8_0000);
        assert_eq!(out, Io { port: 0x3f8, bytes: 1, is_in: false, is_string: false });
        let ins = Io::new(0x0040_001b);
        assert_eq!(ins, Io { port: 0x40, bytes: 4, is_in: true, is_string: true });
    }

    #[test]
    fn accesses_to_the_local_apic() {
        assert_eq!(ApicAccess::new(0x390), ApicAccess { offset: 0x390, is_write: Some(false) });
        assert_eq!(ApicAccess::new(0x1100), ApicAccess { offset: 0x100, is_write: Some(true) });
        assert_eq!(ApicAccess::new(0x2000).is_write, None);
    }

    #[test]
    fn control_registers() {
        assert_eq!(ControlRegister::new(0x0304), ControlRegister::Write(4, 3));
        assert_eq!(ControlRegister::new(0x0f10), ControlRegister::Read(0, 15));
        assert_eq!(ControlRegister::new(0x20), ControlRegister::ClearTaskSwitched);
        assert_eq!(ControlRegister::new(0xfff9_0030), ControlRegister::LoadMachineStatus(0xfff9));
    }

    #[test]
    fn interruption() {
        assert!(Interruption(0x8000_0202).is_nmi());
        assert!(!Interruption(0x202).is_nmi());
        assert_eq!(Interruption(0x8000_0b0e).vector(), 14);
        assert_eq!(Interruption(0x8000_0b0e).hardware_exception(), Some(14));
        assert!(Interruption(0x8000_1b0e).by_iret() && !Interruption(0x8000_1b08).by_iret());
        assert_eq!(Interruption(0x8000_0020).hardware_exception(), None);
    }
}
