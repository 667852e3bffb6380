//! What this processor's VMX can do, read once a core from the capability MSRs (SDM 3D, "VMX Capability Reporting
//! Facility").
//!
//! A [`Controls`] answers two questions of one 32-bit field: *may* a control be 1, *must* it be 1. Asking for a
//! combination either gives a legal value or names the control that is missing. No value is ever assumed: Bochs,
//! KVM and silicon all differ.

use x86::msr;

use crate::controls::{Entry, Exit, PinBased, Primary, Secondary};

/// Reads an MSR; the host's, or a test's.
pub trait ReadMsr {
    /// The value of `msr`. Only called for MSRs whose presence an earlier one has promised.
    fn read(&self, msr: u32) -> u64;
}

/// Why Atoll can not run on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// CPUID says there is no VMX.
    NoVmx,
    /// IA32_FEATURE_CONTROL is locked with VMX off.
    LockedByFirmware,
    /// No extended page tables.
    NoEpt,
    /// No unrestricted guest.
    NoUnrestrictedGuest,
    /// Another control is missing: field and bits.
    MissingControl(&'static str, u32),
}

/// IA32_FEATURE_CONTROL: set until reset.
const LOCK: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMXON may run outside SMX.
const VMX_OUTSIDE_SMX: u64 = 1 << 2;

/// What IA32_FEATURE_CONTROL asks of us before VMXON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureControl {
    /// VMXON will work.
    Ready,
    /// Firmware left it open: write this value first.
    Write(u64),
}

/// Judges the value of IA32_FEATURE_CONTROL.
pub const fn feature_control(value: u64) -> Result<FeatureControl, Unsupported> {
    match (value & LOCK != 0, value & VMX_OUTSIDE_SMX != 0) {
        (true, true) => Ok(FeatureControl::Ready),
        (true, false) => Err(Unsupported::LockedByFirmware),
        (false, _) => Ok(FeatureControl::Write(value | LOCK | VMX_OUTSIDE_SMX)),
    }
}

/// The controls of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    name: &'static str,
    /// Bits that have to be 1.
    must: u32,
    /// Bits that may be 1.
    may: u32,
}

impl Controls {
    const fn from_msr(name: &'static str, value: u64) -> Self {
        Self { name, must: value as u32, may: (value >> 32) as u32 }
    }

    /// Whether all of `bits` may be 1.
    pub const fn may(&self, bits: u32) -> bool {
        self.may & bits == bits
    }

    /// The value with all of `required`, those of `wanted` that are there, what must be, and nothing else.
    pub const fn choose(&self, required: u32, wanted: u32) -> Result<u32, Unsupported> {
        let missing = required & !self.may;
        if missing != 0 {
            return Err(Unsupported::MissingControl(self.name, missing));
        }
        Ok(self.must | required | (wanted & self.may))
    }
}

/// Modes of a virtual local APIC that the processor keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicMode {
    /// It is not there: each access to its page exits.
    Off,
    /// Its registers are a page.
    XApic,
    /// Its registers are MSRs.
    X2Apic,
}

/// All that the capability MSRs say, as far as Atoll asks.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// First word of a VMXON region and of a VMCS.
    pub revision: u32,
    /// Pin-based controls.
    pub pin_based: Controls,
    /// Primary processor-based controls.
    pub primary: Controls,
    /// Secondary processor-based controls.
    pub secondary: Controls,
    /// VM-exit controls.
    pub exit: Controls,
    /// VM-entry controls.
    pub entry: Controls,
    /// IA32_VMX_EPT_VPID_CAP as read; `ept` decodes it. 0 where there is no EPT.
    pub ept_vpid: u64,
    /// The VMX-preemption timer counts down when this bit of the time-stamp counter changes; `None`: there is no timer
    /// whose rest is saved.
    pub preemption_rate: Option<u8>,
    cr0_fixed: [u64; 2],
    cr4_fixed: [u64; 2],
}

impl Capabilities {
    /// Reads the MSRs. The processor has VMX: CPUID.1:ECX bit 5.
    pub fn read(msrs: &impl ReadMsr) -> Self {
        let basic = msrs.read(msr::IA32_VMX_BASIC);
        // The "true" MSRs drop controls that old software had to set (SDM 3D, "Primary ... Controls", bit 55).
        let has_true = basic & 1 << 55 != 0;
        let pick = |legacy, modern| msrs.read(if has_true { modern } else { legacy });
        let primary = Controls::from_msr(
            "primary",
            pick(msr::IA32_VMX_PROCBASED_CTLS, msr::IA32_VMX_TRUE_PROCBASED_CTLS),
        );
        let has_secondary = primary.may(Primary::ACTIVATE_SECONDARY.bits());
        let secondary = if has_secondary { msrs.read(msr::IA32_VMX_PROCBASED_CTLS2) } else { 0 };
        let secondary = Controls::from_msr("secondary", secondary);
        let has_ept_msr =
            secondary.may(Secondary::ENABLE_EPT.bits()) || secondary.may(Secondary::ENABLE_VPID.bits());
        let pin_based = Controls::from_msr(
            "pin-based",
            pick(msr::IA32_VMX_PINBASED_CTLS, msr::IA32_VMX_TRUE_PINBASED_CTLS),
        );
        let exit = Controls::from_msr("exit", pick(msr::IA32_VMX_EXIT_CTLS, msr::IA32_VMX_TRUE_EXIT_CTLS));
        let has_timer = pin_based.may(PinBased::ACTIVATE_PREEMPTION_TIMER.bits())
            && exit.may(Exit::SAVE_PREEMPTION_TIMER.bits());
        Self {
            revision: basic as u32 & 0x7fff_ffff,
            pin_based,
            primary,
            secondary,
            exit,
            entry: Controls::from_msr("entry", pick(msr::IA32_VMX_ENTRY_CTLS, msr::IA32_VMX_TRUE_ENTRY_CTLS)),
            ept_vpid: if has_ept_msr { msrs.read(msr::IA32_VMX_EPT_VPID_CAP) } else { 0 },
            preemption_rate: has_timer.then(|| msrs.read(msr::IA32_VMX_MISC) as u8 & 31),
            cr0_fixed: [msrs.read(msr::IA32_VMX_CR0_FIXED0), msrs.read(msr::IA32_VMX_CR0_FIXED1)],
            cr4_fixed: [msrs.read(msr::IA32_VMX_CR4_FIXED0), msrs.read(msr::IA32_VMX_CR4_FIXED1)],
        }
    }

    /// Whether all is there that Atoll can not do without.
    pub const fn check(&self) -> Result<(), Unsupported> {
        if !self.secondary.may(Secondary::ENABLE_EPT.bits()) {
            return Err(Unsupported::NoEpt);
        }
        if !self.secondary.may(Secondary::UNRESTRICTED_GUEST.bits()) {
            return Err(Unsupported::NoUnrestrictedGuest);
        }
        Ok(())
    }

    /// `value` with the bits of CR0 that VMX operation fixes. In an unrestricted guest PE and PG are the guest's own.
    pub const fn cr0(&self, value: u64, unrestricted: bool) -> u64 {
        let own = if unrestricted { 1 << 31 | 1 } else { 0 };
        (value | (self.cr0_fixed[0] & !own)) & self.cr0_fixed[1]
    }

    /// `value` with the bits of CR4 that VMX operation fixes.
    pub const fn cr4(&self, value: u64) -> u64 {
        (value | self.cr4_fixed[0]) & self.cr4_fixed[1]
    }

    /// The bits of CR4 that may be 1 in VMX operation.
    pub const fn cr4_may(&self) -> u64 {
        self.cr4_fixed[1]
    }

    /// The pin-based controls of a guest that owns its core: NMIs are the hypervisor's, all else the guest's.
    pub const fn pin_based(&self) -> Result<u32, Unsupported> {
        self.pin_based.choose(PinBased::NMI_EXITING.bits(), PinBased::VIRTUAL_NMIS.bits())
    }

    /// The primary controls. Debug registers exit until the guest uses them: see [`Capabilities::with_debug_registers`].
    pub const fn primary(&self) -> Result<u32, Unsupported> {
        let required = Primary::USE_IO_BITMAPS
            .union(Primary::USE_MSR_BITMAPS)
            .union(Primary::ACTIVATE_SECONDARY)
            .union(Primary::MOV_DR_EXITING);
        let wanted = Primary::MONITOR_EXITING.union(Primary::MWAIT_EXITING).union(Primary::RDPMC_EXITING);
        self.primary.choose(required.bits(), wanted.bits())
    }

    /// The secondary controls.
    pub const fn secondary(&self) -> Result<u32, Unsupported> {
        let required = Secondary::ENABLE_EPT.union(Secondary::UNRESTRICTED_GUEST);
        let wanted = Secondary::ENABLE_VPID
            .union(Secondary::ENABLE_RDTSCP)
            .union(Secondary::ENABLE_INVPCID)
            .union(Secondary::WBINVD_EXITING);
        self.secondary.choose(required.bits(), wanted.bits())
    }

    /// The secondary controls of a guest whose memory is translated by shadow page tables: no EPT, and so none of what
    /// demands it. `vpid`: its translations may outlive an exit, since they can be taken back one by one.
    pub const fn secondary_for_shadows(&self, vpid: bool) -> Result<u32, Unsupported> {
        let wanted = Secondary::ENABLE_RDTSCP.union(Secondary::WBINVD_EXITING).bits();
        let vpid = if vpid { Secondary::ENABLE_VPID.bits() } else { 0 };
        self.secondary.choose(0, wanted | vpid)
    }

    /// Primary controls of such a guest: what it does to its page tables' root, and INVLPG, exit. Every processor can do
    /// that.
    pub const fn with_shadows(primary: u32) -> u32 {
        primary
            | Primary::CR3_LOAD_EXITING
                .union(Primary::CR3_STORE_EXITING)
                .union(Primary::INVLPG_EXITING)
                .bits()
    }

    /// The VM-exit controls.
    pub const fn exit(&self) -> Result<u32, Unsupported> {
        let required = Exit::HOST_ADDRESS_SPACE_SIZE.union(Exit::SAVE_EFER).union(Exit::LOAD_EFER);
        self.exit.choose(required.bits(), 0)
    }

    /// The VM-entry controls of a guest that starts in 32-bit protected mode.
    pub const fn entry(&self) -> Result<u32, Unsupported> {
        self.entry.choose(Entry::LOAD_EFER.bits(), 0)
    }

    /// Whether the processor can keep up a virtual local APIC by itself: its registers, and the delivery of interrupts.
    pub const fn virtualizes_apic(&self) -> bool {
        let secondary = Secondary::VIRTUALIZE_APIC_ACCESSES
            .union(Secondary::VIRTUALIZE_X2APIC_MODE)
            .union(Secondary::APIC_REGISTER_VIRTUALIZATION)
            .union(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        self.secondary.may(secondary.bits())
            && self.primary.may(Primary::USE_TPR_SHADOW.bits())
            && self.pin_based.may(PinBased::EXTERNAL_INTERRUPT_EXITING.bits())
            && self.exit.may(Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT.bits())
    }

    /// What pin-based, primary and exit controls become with such a virtual local APIC. It demands that external interrupts
    /// exit; none of them is the guest's.
    pub const fn with_virtual_apic(pin_based: u32, primary: u32, exit: u32) -> (u32, u32, u32) {
        let own = Primary::CR8_LOAD_EXITING.union(Primary::CR8_STORE_EXITING).bits();
        (
            pin_based | PinBased::EXTERNAL_INTERRUPT_EXITING.bits(),
            primary & !own | Primary::USE_TPR_SHADOW.bits(),
            exit | Exit::ACKNOWLEDGE_INTERRUPT_ON_EXIT.bits(),
        )
    }

    /// Secondary controls while the virtual local APIC is in this mode.
    pub const fn with_apic_mode(secondary: u32, mode: ApicMode) -> u32 {
        let (page, msrs) = (Secondary::VIRTUALIZE_APIC_ACCESSES, Secondary::VIRTUALIZE_X2APIC_MODE);
        let kept_up = Secondary::APIC_REGISTER_VIRTUALIZATION.union(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        let none = secondary & !page.union(msrs).union(kept_up).bits();
        match mode {
            ApicMode::Off => none | page.bits(),
            ApicMode::XApic => none | page.union(kept_up).bits(),
            ApicMode::X2Apic => none | msrs.union(kept_up).bits(),
        }
    }

    /// Primary controls with HLT exiting, or without. Every processor can do both.
    pub const fn with_halts(primary: u32, exit: bool) -> u32 {
        let halts = Primary::HLT_EXITING.bits();
        if exit { primary | halts } else { primary & !halts }
    }

    /// Primary controls of a guest whose task priority is kept for it: CR8 exits. Every processor can do that.
    pub const fn with_task_priority(primary: u32) -> u32 {
        primary | Primary::CR8_LOAD_EXITING.union(Primary::CR8_STORE_EXITING).bits()
    }

    /// Primary controls with an exit as soon as the guest can take an interrupt, or without. Every processor can do both.
    pub const fn with_interrupt_window(primary: u32, open: bool) -> u32 {
        let window = Primary::INTERRUPT_WINDOW_EXITING.bits();
        if open { primary | window } else { primary & !window }
    }

    /// Primary controls with an exit as soon as the guest can take an NMI, or without. `None`: the processor can not tell.
    pub const fn with_nmi_window(&self, primary: u32, open: bool) -> Option<u32> {
        let window = Primary::NMI_WINDOW_EXITING.bits();
        if !self.primary.may(window) || !self.pin_based.may(PinBased::VIRTUAL_NMIS.bits()) {
            return None;
        }
        Some(if open { primary | window } else { primary & !window })
    }

    /// What exit and entry controls become when the guest's EFER is to be switched on every crossing, or is not: where it
    /// is the hypervisor's own but for LMA, which follows the mode by itself, there is nothing to switch. An outer
    /// hypervisor checks what is loaded each time, at a price (docs/decisions: few VMCS fields).
    pub const fn with_efer_switched(exit: u32, entry: u32, switched: bool) -> (u32, u32) {
        let (exit_bits, entry_bits) =
            (Exit::SAVE_EFER.union(Exit::LOAD_EFER).bits(), Entry::LOAD_EFER.bits());
        if switched {
            (exit | exit_bits, entry | entry_bits)
        } else {
            (exit & !exit_bits, entry & !entry_bits)
        }
    }

    /// What pin-based and exit controls become while the VMX-preemption timer is to count down in the guest. What is left
    /// of it is saved on every exit, so that it goes on counting at the next entry and no exit's handler sees to it.
    pub const fn with_preemption_timer(pin_based: u32, exit: u32, counts: bool) -> (u32, u32) {
        let (pin_bits, exit_bits) =
            (PinBased::ACTIVATE_PREEMPTION_TIMER.bits(), Exit::SAVE_PREEMPTION_TIMER.bits());
        if counts {
            (pin_based | pin_bits, exit | exit_bits)
        } else {
            (pin_based & !pin_bits, exit & !exit_bits)
        }
    }

    /// What primary, exit and entry controls become when the guest first touches a debug register: from then on it has
    /// them, and DR7 is switched on every crossing. Guests that have no debugger never pay for that.
    pub const fn with_debug_registers(primary: u32, exit: u32, entry: u32) -> (u32, u32, u32) {
        (
            primary & !Primary::MOV_DR_EXITING.bits(),
            exit | Exit::SAVE_DEBUG_CONTROLS.bits(),
            entry | Entry::LOAD_DEBUG_CONTROLS.bits(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The MSRs of Bochs 2.7's corei7_skylake_x, with changes.
    struct Msrs(u64);

    impl ReadMsr for Msrs {
        fn read(&self, number: u32) -> u64 {
            match number {
                msr::IA32_VMX_BASIC => 0x00d8_1000_0000_002b | 1 << 55,
                msr::IA32_VMX_TRUE_PINBASED_CTLS => 0x7f_0000_0016,
                msr::IA32_VMX_TRUE_PROCBASED_CTLS => 0xfff9_fffe_0400_6172,
                msr::IA32_VMX_PROCBASED_CTLS2 => self.0,
                msr::IA32_VMX_TRUE_EXIT_CTLS => 0x007f_ffff_0003_6dfb,
                msr::IA32_VMX_TRUE_ENTRY_CTLS => 0x0000_ffff_0000_11fb,
                msr::IA32_VMX_MISC => 0x2004_0405,
                msr::IA32_VMX_CR0_FIXED0 => 0x8000_0021,
                msr::IA32_VMX_CR0_FIXED1 => 0xffff_ffff,
                msr::IA32_VMX_CR4_FIXED0 => 0x2000,
                msr::IA32_VMX_CR4_FIXED1 => 0x0037_67ff,
                _ => 0,
            }
        }
    }

    const SKYLAKE: u64 = 0x0217_7fff << 32;

    #[test]
    fn skylake_will_do() {
        let capabilities = Capabilities::read(&Msrs(SKYLAKE));
        assert_eq!(capabilities.check(), Ok(()));
        let pin = capabilities.pin_based().unwrap();
        assert_eq!(pin & PinBased::EXTERNAL_INTERRUPT_EXITING.bits(), 0);
        assert_ne!(pin & PinBased::NMI_EXITING.bits(), 0);
        assert!(capabilities.primary().is_ok() && capabilities.secondary().is_ok());
        assert!(capabilities.exit().is_ok() && capabilities.entry().is_ok());
        assert!(capabilities.virtualizes_apic());
        assert!(!Capabilities::read(&Msrs(SKYLAKE & !(1 << (32 + 9)))).virtualizes_apic());
    }

    /// SDM 3C, "VM-Execution Control Fields" of "Checks on VMX Controls".
    #[test]
    fn a_virtual_apic_has_one_mode_at_a_time() {
        let all = Capabilities::with_apic_mode(0, ApicMode::XApic);
        let (page, msrs) =
            (Secondary::VIRTUALIZE_APIC_ACCESSES.bits(), Secondary::VIRTUALIZE_X2APIC_MODE.bits());
        assert_eq!(all & (page | msrs), page);
        let other = Capabilities::with_apic_mode(all | 1 << 1, ApicMode::X2Apic);
        assert_eq!(other & (page | msrs | 2), msrs | 2);
        assert_eq!(Capabilities::with_apic_mode(other, ApicMode::Off), page | 2);
    }

    #[test]
    fn what_is_missing_is_named() {
        let without =
            |control: Secondary| Capabilities::read(&Msrs(SKYLAKE & !(u64::from(control.bits()) << 32)));
        assert_eq!(without(Secondary::ENABLE_EPT).check(), Err(Unsupported::NoEpt));
        assert_eq!(without(Secondary::UNRESTRICTED_GUEST).check(), Err(Unsupported::NoUnrestrictedGuest));
        let controls = Controls::from_msr("pin-based", 0x16_0000_0016);
        assert_eq!(controls.choose(1 << 3, 0), Err(Unsupported::MissingControl("pin-based", 1 << 3)));
    }

    #[test]
    fn the_timer() {
        assert_eq!(Capabilities::read(&Msrs(SKYLAKE)).preemption_rate, Some(5));
        let (pin, exit) = Capabilities::with_preemption_timer(0x16, 0x3_6dfb, true);
        assert_eq!((pin, exit), (0x56, 0x43_6dfb));
        assert_eq!(Capabilities::with_preemption_timer(pin, exit, false), (0x16, 0x3_6dfb));
    }

    #[test]
    fn shadows_need_no_ept() {
        let capabilities = Capabilities::read(&Msrs(SKYLAKE));
        let secondary = capabilities.secondary_for_shadows(true).unwrap();
        let without = Secondary::ENABLE_EPT | Secondary::UNRESTRICTED_GUEST | Secondary::ENABLE_INVPCID;
        assert_eq!(secondary & without.bits(), 0);
        assert_ne!(secondary & Secondary::ENABLE_VPID.bits(), 0);
        let vpid = Secondary::ENABLE_VPID.bits();
        assert_eq!(capabilities.secondary_for_shadows(false), Ok(secondary & !vpid));
        assert_eq!(Capabilities::with_shadows(0), 1 << 9 | 1 << 15 | 1 << 16);
    }

    #[test]
    fn firmware_decides() {
        assert_eq!(feature_control(LOCK), Err(Unsupported::LockedByFirmware));
        assert_eq!(feature_control(LOCK | VMX_OUTSIDE_SMX), Ok(FeatureControl::Ready));
        assert_eq!(feature_control(0), Ok(FeatureControl::Write(5)));
    }

    #[test]
    fn an_unrestricted_guest_keeps_paging_to_itself() {
        let capabilities = Capabilities::read(&Msrs(SKYLAKE));
        assert_eq!(capabilities.cr0(0x11, true), 0x31);
        assert_eq!(capabilities.cr0(0, false), 0x8000_0021);
        assert_eq!(capabilities.cr4(0), 0x2000);
    }
}
