//! The registers that paging depends on: what the guest believes is in them, and what it runs with instead
//! ([`Processor`]).
//!
//! The read shadows of CR0 and CR4 have all that the guest wrote; of its own are only the bits that paging does not depend
//! on. CR3 and IA32_EFER exit in both directions.

use ept::guest_walk::{Mode, Paging, load_pdptes};
use ept::shadow::Processor;
use vmx::capabilities::Capabilities;
use vmx::controls::Entry;
use vmx::exit::{ControlRegister, Exit, Reason};
use vmx::field;
use vmx::injection::Injection;

use super::{flush, shadows};
use crate::bits;
use crate::checks::start::Start;
use crate::core::Core;
use crate::core::guest_state::{CR0_CACHE, CR0_OWNED, CR4_ALLOWED, CR4_MCE};
use crate::domain::shadows::Shadows;
use crate::guest_memory::CS_LONG;

/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_DEFINED: u64 = bits([0, 1, 2, 3, 4, 5, 16, 18, 29, 30, 31]);
const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_WP: u64 = 1 << 16;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_SMEP: u64 = 1 << 20;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// SCE, LME, LMA, NXE.
const EFER_DEFINED: u64 = 1 | EFER_LME | EFER_LMA | 1 << 11;
/// Bits of CR0 that a guest writes with an exit.
const CR0_MASK: u64 = CR0_OWNED | Processor::CR0_OWNED;
/// Of CR4.
const CR4_MASK: u64 = !CR4_ALLOWED | Processor::CR4_OWNED;
/// Access rights: the type of a busy task other than a 16-bit one.
const BUSY_TASK: u32 = 11;

/// Why a register keeps its value.
enum Refused {
    /// #GP(0).
    GeneralProtection,
    /// The guest goes where it can not run without EPT.
    RealMode,
}
use Refused::{GeneralProtection, RealMode};

fn given(is_allowed: bool) -> Result<(), Refused> {
    if is_allowed { Ok(()) } else { Err(GeneralProtection) }
}

/// MOV to and from CR0, CR3 and CR4.
pub(in crate::pc) fn handle(core: &mut Core, access: ControlRegister) {
    let done = match access {
        ControlRegister::Read(3, register) => {
            let cr3 = shadows(core).map_or(0, |shadows| shadows.tables.paging().cr3);
            core.set_register(register, cr3);
            Ok(())
        }
        ControlRegister::Write(number, register) => {
            let value = core.register(register);
            let value = if is_64_bit(core) { value } else { value & 0xffff_ffff };
            match number {
                3 => write_cr3(core, value),
                0 => write_cr0(core, value),
                4 => write_cr4(core, value),
                _ => Err(GeneralProtection),
            }
        }
        // CLTS and LMSW touch no bit that is kept: PE is set already, and neither clears it. No other register exits.
        _ => Err(GeneralProtection),
    };
    match done {
        Ok(()) => core.advance(),
        Err(GeneralProtection) => core.inject(Injection::GENERAL_PROTECTION),
        Err(RealMode) => {
            log::warn!("core {}: a guest with shadow page tables can not run in real mode", core.index);
            core.crash(Exit::Other(Reason::CONTROL_REGISTER));
        }
    }
}

/// RDMSR of IA32_EFER.
pub(in crate::pc) fn efer(core: &mut Core) -> u64 {
    shadows(core).map_or(0, |shadows| shadows.tables.paging().efer)
}

/// WRMSR of IA32_EFER. `None`: #GP.
pub(in crate::pc) fn write_efer(core: &mut Core, value: u64) -> Option<()> {
    let before = paging(core).ok()?;
    let is_paging = before.cr0 & CR0_PG != 0;
    if value & !EFER_DEFINED != 0 || is_paging && (value ^ before.efer) & EFER_LME != 0 {
        return None;
    }
    let after = Paging { efer: value & !EFER_LMA | before.efer & EFER_LMA, ..before };
    run_with(core, &after);
    load(core, &after);
    Some(())
}

/// A guest starts: the VMCS has its first state as if it ran unrestricted. `false`: it can not start in real mode.
pub fn begin(core: &mut Core, start: &Start) -> bool {
    let Some(Shadows { tables, space, .. }) = shadows(core) else { return false };
    let features = tables.paging().features;
    let (cr0, cr3, cr4, efer) = (start.cr0, start.cr3, start.cr4, start.efer);
    let mut paging = Paging { cr0, cr3, cr4, efer, pdptes: [0; 4], pkru: 0, features };
    if paging.mode() == Mode::Pae {
        // Such as can not be loaded map nothing.
        paging.pdptes = load_pdptes(space, cr3, features).unwrap_or_default();
    }
    core.vmcs.write(field::CR0_GUEST_HOST_MASK, CR0_MASK);
    core.vmcs.write(field::CR4_GUEST_HOST_MASK, CR4_MASK);
    if !run_with(core, &paging) {
        return false;
    }
    load(core, &paging);
    true
}

fn is_64_bit(core: &Core) -> bool {
    core.vmcs.get(field::GUEST_CS_ACCESS_RIGHTS) & CS_LONG != 0
}

/// The registers as the guest sees them. Of CR0 and CR4 it writes some bits without an exit.
fn paging(core: &mut Core) -> Result<Paging, Refused> {
    let loaded = *shadows(core).ok_or(GeneralProtection)?.tables.paging();
    let vmcs = &core.vmcs;
    let seen = |real: u64, shadow: u64, owned: u64| real & !owned | shadow & owned;
    let (cr0, cr4) = (vmcs.get(field::GUEST_CR0), vmcs.get(field::GUEST_CR4));
    Ok(Paging {
        cr0: seen(cr0, vmcs.get(field::CR0_READ_SHADOW), CR0_MASK),
        cr4: seen(cr4, vmcs.get(field::CR4_READ_SHADOW), CR4_MASK),
        ..loaded
    })
}

fn write_cr3(core: &mut Core, value: u64) -> Result<(), Refused> {
    let mut after = *shadows(core).ok_or(GeneralProtection)?.tables.paging();
    after.cr3 = value;
    match after.mode() {
        Mode::FourLevel => {
            let widest = after.features.address_bits.min(52);
            given(value >> widest == 0)?;
        }
        Mode::Pae => reload_pdptes(core, &mut after)?,
        Mode::Off | Mode::TwoLevel => {}
    }
    load(core, &after);
    Ok(())
}

fn write_cr0(core: &mut Core, value: u64) -> Result<(), Refused> {
    let before = paging(core)?;
    let value = value | CR0_ET;
    given(value & !CR0_DEFINED == 0)?;
    given(value & CR0_PG == 0 || value & CR0_PE != 0)?;
    given(value & CR0_NW == 0 || value & CR0_CD != 0)?;
    let mut after = Paging { cr0: value, ..before };
    match (before.cr0 & CR0_PG != 0, value & CR0_PG != 0) {
        (false, true) if before.efer & EFER_LME != 0 => {
            let task = core.vmcs.get(field::GUEST_TR_ACCESS_RIGHTS) & 0xf;
            given(before.cr4 & CR4_PAE != 0 && !is_64_bit(core) && task == BUSY_TASK)?;
            after.efer |= EFER_LMA;
        }
        (true, false) => {
            given(!is_64_bit(core))?;
            after.efer &= !EFER_LMA;
        }
        _ => {}
    }
    if value & CR0_PE == 0 {
        return Err(RealMode);
    }
    let now = core.vmcs.get(field::CR0_READ_SHADOW);
    if after.mode() == Mode::Pae && (now ^ value) & (CR0_PG | CR0_CD | CR0_NW) != 0 {
        reload_pdptes(core, &mut after)?;
    }
    core.vmcs.write(field::CR0_READ_SHADOW, value);
    run_with(core, &after);
    if (before.cr0 ^ value) & (CR0_PG | CR0_WP) != 0 {
        load(core, &after);
    }
    Ok(())
}

fn write_cr4(core: &mut Core, value: u64) -> Result<(), Refused> {
    let before = paging(core)?;
    given(value & !(CR4_ALLOWED & !CR4_PCIDE | CR4_MCE) == 0)?;
    given(before.efer & EFER_LMA == 0 || value & CR4_PAE != 0)?;
    let mut after = Paging { cr4: value, ..before };
    if after.mode() == Mode::Pae && (before.cr4 ^ value) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) != 0 {
        reload_pdptes(core, &mut after)?;
    }
    core.vmcs.write(field::CR4_READ_SHADOW, value);
    run_with(core, &after);
    load(core, &after);
    Ok(())
}

fn reload_pdptes(core: &mut Core, after: &mut Paging) -> Result<(), Refused> {
    let Shadows { space, .. } = shadows(core).ok_or(GeneralProtection)?;
    after.pdptes = load_pdptes(space, after.cr3, after.features).map_err(|_| GeneralProtection)?;
    Ok(())
}

/// The guest goes on by these tables, and nothing that earlier ones said is left.
fn load(core: &mut Core, paging: &Paging) {
    let Some(Shadows { tables, space, .. }) = shadows(core) else { return };
    let dropped = tables.load(space, paging);
    let root = tables.root();
    core.vmcs.write(field::GUEST_CR3, root.as_u64());
    flush(core, dropped);
}

/// Lets the guest run with what stands for these registers. `false`: nothing does.
fn run_with(core: &mut Core, paging: &Paging) -> bool {
    const HOST_EFER: u64 = boot::trampoline::EFER as u64;
    let Some(processor) = Processor::for_guest(paging) else { return false };
    let cr0 = core.capabilities.cr0(processor.cr0 & !CR0_CACHE, false);
    let cr4 = core.capabilities.cr4(processor.cr4 & CR4_ALLOWED | CR4_MCE);
    let vmcs = &mut core.vmcs;
    vmcs.write(field::GUEST_CR0, cr0);
    vmcs.write(field::GUEST_CR4, cr4);
    vmcs.write(field::GUEST_EFER, processor.efer);
    // As where EPT translates: see `exits::msr`.
    let same = processor.long_mode && processor.efer & !EFER_LMA == HOST_EFER;
    let (exit, entry) = (vmcs.get(field::EXIT_CONTROLS), vmcs.get(field::ENTRY_CONTROLS));
    let (exit, entry) = Capabilities::with_efer_switched(exit, entry, !same);
    let long = Entry::IA32E_MODE_GUEST.bits();
    vmcs.write(field::EXIT_CONTROLS, exit);
    vmcs.write(field::ENTRY_CONTROLS, if processor.long_mode { entry | long } else { entry & !long });
    true
}
