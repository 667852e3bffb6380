//! The VM-execution, VM-exit and VM-entry controls that Atoll asks for, by the SDM's names ("VM-Execution Control
//! Fields", "VM-Exit Control Fields", "VM-Entry Control Fields").

use bitflags::bitflags;

bitflags! {
    /// Pin-based VM-execution controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PinBased: u32 {
        /// External interrupts exit instead of going to the guest.
        const EXTERNAL_INTERRUPT_EXITING = 1 << 0;
        /// NMIs exit.
        const NMI_EXITING = 1 << 3;
        /// NMI blocking is kept per guest.
        const VIRTUAL_NMIS = 1 << 5;
        /// The VMX-preemption timer counts down in the guest.
        const ACTIVATE_PREEMPTION_TIMER = 1 << 6;
    }

    /// Primary processor-based VM-execution controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Primary: u32 {
        /// An exit as soon as the guest can take an interrupt.
        const INTERRUPT_WINDOW_EXITING = 1 << 2;
        /// HLT exits.
        const HLT_EXITING = 1 << 7;
        /// INVLPG exits.
        const INVLPG_EXITING = 1 << 9;
        /// MWAIT exits.
        const MWAIT_EXITING = 1 << 10;
        /// RDPMC exits.
        const RDPMC_EXITING = 1 << 11;
        /// RDTSC exits.
        const RDTSC_EXITING = 1 << 12;
        /// Writes of CR3 exit.
        const CR3_LOAD_EXITING = 1 << 15;
        /// Reads of CR3 exit.
        const CR3_STORE_EXITING = 1 << 16;
        /// Writes of CR8 exit.
        const CR8_LOAD_EXITING = 1 << 19;
        /// Reads of CR8 exit.
        const CR8_STORE_EXITING = 1 << 20;
        /// CR8 is the virtual-APIC page's task priority.
        const USE_TPR_SHADOW = 1 << 21;
        /// An exit as soon as the guest can take an NMI.
        const NMI_WINDOW_EXITING = 1 << 22;
        /// Accesses to debug registers exit.
        const MOV_DR_EXITING = 1 << 23;
        /// Every access to an I/O port exits.
        const UNCONDITIONAL_IO_EXITING = 1 << 24;
        /// The I/O bitmaps say which ports exit.
        const USE_IO_BITMAPS = 1 << 25;
        /// The MSR bitmaps say which MSRs exit.
        const USE_MSR_BITMAPS = 1 << 28;
        /// MONITOR exits.
        const MONITOR_EXITING = 1 << 29;
        /// The secondary controls are there.
        const ACTIVATE_SECONDARY = 1 << 31;
    }

    /// Secondary processor-based VM-execution controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Secondary: u32 {
        /// Accesses to the APIC-access page are the processor's to carry out, or exit.
        const VIRTUALIZE_APIC_ACCESSES = 1 << 0;
        /// Extended page tables.
        const ENABLE_EPT = 1 << 1;
        /// RDTSCP and RDPID work in the guest.
        const ENABLE_RDTSCP = 1 << 3;
        /// The x2APIC's MSRs that the MSR bitmaps let through are the virtual-APIC page's.
        const VIRTUALIZE_X2APIC_MODE = 1 << 4;
        /// TLB entries carry a virtual-processor id.
        const ENABLE_VPID = 1 << 5;
        /// WBINVD exits.
        const WBINVD_EXITING = 1 << 6;
        /// The guest may run without paging and in real mode.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// Registers of the local APIC are read from the virtual-APIC page, and written there before an exit.
        const APIC_REGISTER_VIRTUALIZATION = 1 << 8;
        /// Interrupts that the virtual-APIC page has pending are delivered without the hypervisor.
        const VIRTUAL_INTERRUPT_DELIVERY = 1 << 9;
        /// INVPCID works in the guest.
        const ENABLE_INVPCID = 1 << 12;
        /// XSAVES and XRSTORS work in the guest.
        const ENABLE_XSAVES = 1 << 20;
    }

    /// VM-exit controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Exit: u32 {
        /// DR7 and IA32_DEBUGCTL of the guest are saved.
        const SAVE_DEBUG_CONTROLS = 1 << 2;
        /// The host runs in 64-bit mode.
        const HOST_ADDRESS_SPACE_SIZE = 1 << 9;
        /// An external interrupt that exits is acknowledged, and its vector told.
        const ACKNOWLEDGE_INTERRUPT_ON_EXIT = 1 << 15;
        /// IA32_PAT of the guest is saved.
        const SAVE_PAT = 1 << 18;
        /// IA32_PAT of the host is loaded.
        const LOAD_PAT = 1 << 19;
        /// IA32_EFER of the guest is saved.
        const SAVE_EFER = 1 << 20;
        /// IA32_EFER of the host is loaded.
        const LOAD_EFER = 1 << 21;
        /// What is left of the VMX-preemption timer is saved.
        const SAVE_PREEMPTION_TIMER = 1 << 22;
    }

    /// VM-entry controls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Entry: u32 {
        /// DR7 and IA32_DEBUGCTL of the guest are loaded.
        const LOAD_DEBUG_CONTROLS = 1 << 2;
        /// The guest is in IA-32e mode. The processor keeps this up to date for unrestricted guests.
        const IA32E_MODE_GUEST = 1 << 9;
        /// IA32_PAT of the guest is loaded.
        const LOAD_PAT = 1 << 14;
        /// IA32_EFER of the guest is loaded.
        const LOAD_EFER = 1 << 15;
    }
}
