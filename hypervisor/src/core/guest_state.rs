//! Filling a core's VMCS for a virtual CPU that starts.

use core::arch::asm;

use abi::address::GuestVirt;
use vmx::capabilities::Capabilities;
use vmx::controls::Entry;
use vmx::crossing;
use vmx::field;
use vmx::vmcs::{Current, Failed};
use x86::msr;

use super::Core;
use crate::bits;
use crate::checks::start::Start;
use crate::domain::Domain;
use crate::msr_policy::RULES;
use crate::pc;

/// What the host fields of this core's VMCS hold.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Page tables.
    pub cr3: u64,
    /// GDTR, IDTR and TR bases.
    pub bases: boot::descriptors::Bases,
}

/// CR0 bits that a guest may not change: NE, CD, NW.
pub const CR0_OWNED: u64 = 1 << 5 | 1 << 29 | 1 << 30;
/// CR4 bits that a guest may set: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, SMEP,
/// SMAP.
pub const CR4_ALLOWED: u64 = bits([0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 16, 17, 20, 21]);

const UNUSABLE: u32 = 1 << 16;

/// CR0's CD and NW: a guest may think that it sets these.
pub const CR0_CACHE: u64 = 1 << 29 | 1 << 30;
const EFER_LMA: u64 = 1 << 10;

/// CR4.MCE: a guest may think that it sets this; machine checks are the hypervisor's, and always on.
pub const CR4_MCE: u64 = 1 << 6;

/// Fills every field that a VM entry looks at.
pub fn fill(core: &mut Core, domain: &Domain, start: &Start) -> Result<(), Failed> {
    let host = core.host;
    let frame_rsp = core.frame.host_rsp();
    let frame_address = &raw const core.frame as u64;
    controls(core, domain, start)?;
    host_state(&mut core.vmcs, host, frame_rsp, frame_address)?;
    guest_state(core, start)?;
    if domain.is_full && core.machine.virtualizes_apic && !domain.is_shadowed {
        pc::virtual_apic::begin(core, domain)?;
    }
    if domain.is_shadowed && !pc::shadow::registers::begin(core, start) {
        return Err(Failed { instruction: "a start in real mode without EPT", field: 0, error: 0 });
    }
    Ok(())
}

fn controls(core: &mut Core, domain: &Domain, start: &Start) -> Result<(), Failed> {
    let capabilities = core.capabilities;
    let (machine, vmcs) = (core.machine, &mut core.vmcs);
    let legal = |chosen: Result<u32, _>| {
        // `start` has made each choice once and stopped the machine where one is not there.
        chosen.map_err(|_: vmx::capabilities::Unsupported| Failed {
            instruction: "controls",
            field: 0,
            error: 7,
        })
    };
    vmcs.set(field::PIN_BASED_CONTROLS, legal(capabilities.pin_based())?)?;
    let primary = legal(capabilities.primary())?;
    let primary = if domain.is_full { Capabilities::with_task_priority(primary) } else { primary };
    let primary = if domain.is_shadowed { Capabilities::with_shadows(primary) } else { primary };
    vmcs.set(field::PRIMARY_CONTROLS, primary)?;
    let secondary = if domain.is_shadowed {
        let offered = ept::Capabilities::from_msr(capabilities.ept_vpid);
        legal(capabilities.secondary_for_shadows(offered.invvpid_type().is_some()))?
    } else {
        legal(capabilities.secondary())?
    };
    vmcs.set(field::SECONDARY_CONTROLS, secondary)?;
    vmcs.set(field::EXIT_CONTROLS, legal(capabilities.exit())?)?;
    let long = if start.efer & EFER_LMA != 0 { Entry::IA32E_MODE_GUEST.bits() } else { 0 };
    vmcs.set(field::ENTRY_CONTROLS, legal(capabilities.entry())? & !Entry::IA32E_MODE_GUEST.bits() | long)?;
    if vmx::controls::Secondary::from_bits_retain(secondary).contains(vmx::controls::Secondary::ENABLE_VPID) {
        vmcs.set(field::VPID, vpid(domain))?;
    }
    vmcs.set(field::EPT_POINTER, domain.eptp)?;
    let msrs = match (domain.is_full, domain.is_shadowed) {
        (_, true) => machine.msr_bitmap_shadow,
        (true, false) => machine.msr_bitmap_full,
        (false, false) => machine.msr_bitmap,
    };
    vmcs.set(field::MSR_BITMAPS, msrs.as_u64())?;
    let io = if domain.is_privileged { machine.io_control } else { machine.io_none };
    vmcs.set(field::IO_BITMAP_A, io.as_u64())?;
    vmcs.set(field::IO_BITMAP_B, machine.io_none.as_u64())?;
    // With mask and match 0 every page fault exits if any does.
    let page_faults = if domain.is_shadowed { 1 << pc::shadow::PAGE_FAULT } else { 0 };
    vmcs.set(field::EXCEPTION_BITMAP, crate::exits::exception::INTERCEPTED | page_faults)?;
    for zero in [
        field::PAGE_FAULT_MASK,
        field::PAGE_FAULT_MATCH,
        field::CR3_TARGET_COUNT,
        field::EXIT_MSR_STORE_COUNT,
        field::EXIT_MSR_LOAD_COUNT,
        field::ENTRY_MSR_LOAD_COUNT,
        field::ENTRY_INTERRUPTION_INFO,
        field::ENTRY_EXCEPTION_ERROR_CODE,
        field::ENTRY_INSTRUCTION_LENGTH,
    ] {
        vmcs.set(zero, 0)?;
    }
    Ok(())
}

fn host_state(vmcs: &mut Current, host: Host, rsp: u64, frame: u64) -> Result<(), Failed> {
    use boot::descriptors::{CODE, DATA, TSS};
    // SAFETY: reads of this core's own control registers and MSRs, which every x86-64 processor has.
    let (cr0, cr4, efer) = unsafe {
        let (cr0, cr4) = (x86::controlregs::cr0(), x86::controlregs::cr4());
        (cr0.bits() as u64, cr4.bits() as u64, msr::rdmsr(msr::IA32_EFER))
    };
    vmcs.set(field::HOST_CS_SELECTOR, CODE.bits())?;
    for selector in [field::HOST_SS_SELECTOR, field::HOST_DS_SELECTOR, field::HOST_ES_SELECTOR] {
        vmcs.set(selector, DATA.bits())?;
    }
    vmcs.set(field::HOST_FS_SELECTOR, 0)?;
    vmcs.set(field::HOST_GS_SELECTOR, 0)?;
    vmcs.set(field::HOST_TR_SELECTOR, TSS.bits())?;
    vmcs.set(field::HOST_CR0, cr0)?;
    vmcs.set(field::HOST_CR3, host.cr3)?;
    vmcs.set(field::HOST_CR4, cr4)?;
    vmcs.set(field::HOST_EFER, efer)?;
    vmcs.set(field::HOST_FS_BASE, 0)?;
    vmcs.set(field::HOST_GS_BASE, frame)?;
    vmcs.set(field::HOST_TR_BASE, host.bases.tss)?;
    vmcs.set(field::HOST_GDTR_BASE, host.bases.gdt)?;
    vmcs.set(field::HOST_IDTR_BASE, host.bases.idt)?;
    vmcs.set(field::HOST_SYSENTER_CS, 0)?;
    vmcs.set(field::HOST_SYSENTER_ESP, 0)?;
    vmcs.set(field::HOST_SYSENTER_EIP, 0)?;
    vmcs.set(field::HOST_RSP, rsp)?;
    vmcs.set(field::HOST_RIP, crossing::exit_address())
}

fn guest_state(core: &mut Core, start: &Start) -> Result<(), Failed> {
    let cr0 = core.capabilities.cr0(start.cr0 & !CR0_CACHE, true);
    let cr4 = core.capabilities.cr4(start.cr4 & CR4_ALLOWED | CR4_MCE);
    let vmcs = &mut core.vmcs;

    for (segment, selector, base, limit, rights) in [
        (
            start.cs,
            field::GUEST_CS_SELECTOR,
            field::GUEST_CS_BASE,
            field::GUEST_CS_LIMIT,
            field::GUEST_CS_ACCESS_RIGHTS,
        ),
        (
            start.ss,
            field::GUEST_SS_SELECTOR,
            field::GUEST_SS_BASE,
            field::GUEST_SS_LIMIT,
            field::GUEST_SS_ACCESS_RIGHTS,
        ),
        (
            start.ds,
            field::GUEST_DS_SELECTOR,
            field::GUEST_DS_BASE,
            field::GUEST_DS_LIMIT,
            field::GUEST_DS_ACCESS_RIGHTS,
        ),
        (
            start.es,
            field::GUEST_ES_SELECTOR,
            field::GUEST_ES_BASE,
            field::GUEST_ES_LIMIT,
            field::GUEST_ES_ACCESS_RIGHTS,
        ),
        (
            start.fs_gs,
            field::GUEST_FS_SELECTOR,
            field::GUEST_FS_BASE,
            field::GUEST_FS_LIMIT,
            field::GUEST_FS_ACCESS_RIGHTS,
        ),
        (
            start.fs_gs,
            field::GUEST_GS_SELECTOR,
            field::GUEST_GS_BASE,
            field::GUEST_GS_LIMIT,
            field::GUEST_GS_ACCESS_RIGHTS,
        ),
        (
            start.tr,
            field::GUEST_TR_SELECTOR,
            field::GUEST_TR_BASE,
            field::GUEST_TR_LIMIT,
            field::GUEST_TR_ACCESS_RIGHTS,
        ),
    ] {
        vmcs.set(selector, segment.selector)?;
        vmcs.set(base, segment.base)?;
        vmcs.set(limit, segment.limit)?;
        vmcs.set(rights, segment.rights)?;
    }
    vmcs.set(field::GUEST_LDTR_SELECTOR, 0)?;
    vmcs.set(field::GUEST_LDTR_BASE, 0)?;
    vmcs.set(field::GUEST_LDTR_LIMIT, 0)?;
    vmcs.set(field::GUEST_LDTR_ACCESS_RIGHTS, UNUSABLE)?;
    // In real mode the interrupt vectors are at 0.
    let limit = if start.is_real_mode() { 0xffff } else { 0 };
    vmcs.set(field::GUEST_GDTR_BASE, 0)?;
    vmcs.set(field::GUEST_GDTR_LIMIT, limit)?;
    vmcs.set(field::GUEST_IDTR_BASE, 0)?;
    vmcs.set(field::GUEST_IDTR_LIMIT, limit)?;

    vmcs.set(field::GUEST_CR0, cr0)?;
    vmcs.set(field::CR0_GUEST_HOST_MASK, CR0_OWNED)?;
    vmcs.set(field::CR0_READ_SHADOW, start.cr0)?;
    vmcs.set(field::GUEST_CR3, start.cr3)?;
    vmcs.set(field::GUEST_CR4, cr4)?;
    vmcs.set(field::CR4_GUEST_HOST_MASK, !CR4_ALLOWED)?;
    vmcs.set(field::CR4_READ_SHADOW, start.cr4)?;
    vmcs.set(field::GUEST_DR7, 0x400)?;
    vmcs.set(field::GUEST_RSP, start.rsp)?;
    vmcs.set(field::GUEST_RIP, start.rip)?;
    vmcs.set(field::GUEST_RFLAGS, start.rflags)?;
    vmcs.set(field::GUEST_INTERRUPTIBILITY, 0)?;
    vmcs.set(field::GUEST_ACTIVITY, 0)?;
    vmcs.set(field::GUEST_PENDING_DEBUG, 0)?;
    vmcs.set(field::GUEST_VMCS_LINK, u64::MAX)?;
    vmcs.set(field::GUEST_DEBUGCTL, 0)?;
    vmcs.set(field::GUEST_EFER, start.efer)?;
    vmcs.set(field::GUEST_SYSENTER_CS, 0)?;
    vmcs.set(field::GUEST_SYSENTER_ESP, 0)?;
    vmcs.set(field::GUEST_SYSENTER_EIP, 0)
}

/// Zeroes what a guest keeps in the processor and the VMCS does not hold, so that the next one finds none of it: the MSRs
/// that `msr_policy` marks, debug registers, CR2, and the x87 and vector registers.
pub fn zero_registers() {
    for number in RULES.iter().filter(|rule| rule.zeroed).map(|rule| rule.first) {
        // SAFETY: MSRs that belong to the guest; the host uses none of them.
        unsafe { msr::wrmsr(number, 0) };
    }
    // An x87 and SSE state of all zeroes but for the control words' reset values (FCW 0x37f, MXCSR 0x1f80).
    #[repr(C, align(16))]
    struct FxState([u32; 128]);
    let mut state = FxState([0; 128]);
    state.0[0] = 0x37f;
    state.0[6] = 0x1f80;
    // SAFETY: registers that belong to the guest, or to the compiler as scratch at this point; CR4.OSFXSR is on. The
    // upper halves of vector registers can not be reached by guests, who have no XSAVE.
    unsafe {
        asm!("fxrstor64 [{0}]", in(reg) &raw const state,
             out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
             out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _,
             out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nostack));
        asm!("mov dr0, {0}", "mov dr1, {0}", "mov dr2, {0}", "mov dr3, {0}", "mov cr2, {0}", in(reg) 0u64,
             options(nostack, nomem));
        asm!("mov dr6, {0}", in(reg) 0xffff_0ff0u64, options(nostack, nomem));
    }
}

/// The virtual-processor id of a domain's virtual CPUs: all have the same, since each core's TLB is its own.
fn vpid(domain: &Domain) -> u16 {
    ept::Vpid::for_domain(domain.id).map_or(u16::MAX, ept::Vpid::get)
}

/// Drops what this core's TLB holds of a domain's memory, by its EPT and by its VPID, and what it remembers itself.
pub fn forget_translations(core: &Core, domain: &Domain) {
    core.windows.forget();
    forget_in_tlb(core, domain);
}

/// The TLB's part of it.
pub fn forget_in_tlb(core: &Core, domain: &Domain) {
    let offered = ept::Capabilities::from_msr(core.capabilities.ept_vpid);
    // SAFETY: in VMX root operation; `main` checked that INVEPT is there, and `invvpid_type` says whether INVVPID is.
    let done = unsafe {
        let through_ept = vmx::vmcs::invept(offered.invept_type(), domain.eptp);
        let linear = offered.invvpid_type().is_none_or(|kind| vmx::vmcs::invvpid(kind, vpid(domain)));
        through_ept && linear
    };
    assert!(done, "core {}: INVEPT or INVVPID failed", core.index);
}

/// The same of linear addresses alone, one of them or all: what a guest on shadow page tables has flushed. Where there is
/// no INVVPID it runs without a VPID, and each VM entry sees to that.
#[inline]
pub fn forget_linear(core: &Core, address: Option<GuestVirt>) {
    const INDIVIDUAL_ADDRESS: u64 = 0;
    let Ok(domain) = core.domain() else { return };
    let offered = ept::Capabilities::from_msr(core.capabilities.ept_vpid);
    let Some(all) = offered.invvpid_type() else { return };
    let vpid = vpid(domain);
    if let Some(address) = address
        && offered.invvpid_addresses()
        // SAFETY: in VMX root operation, with INVVPID. It fails for an address that no translation can have.
        && unsafe { vmx::vmcs::invvpid_at(INDIVIDUAL_ADDRESS, vpid, address.as_u64()) }
    {
        return;
    }
    // SAFETY: as above.
    let done = unsafe { vmx::vmcs::invvpid(all, vpid) };
    assert!(done, "core {}: INVVPID failed", core.index);
}
