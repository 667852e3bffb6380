//! Hypercalls: one match on the number, a file per family.
//!
//! Numbers, arguments and errors are Xen's (`abi::xen`); what is not listed answers `ENOSYS`, as it does on Xen for a guest
//! with page tables of its own. Which error comes first is in `checks`.
//!
//! A call that is long, or waits, ends with `ERESTART`: the guest is left before its VMCALL, with registers that say
//! what is left to do, and makes the call again. So nothing a guest asks for keeps a core from the others.

mod assist;
mod audit;
mod console_io;
mod control;
mod event_channel;
mod event_fifo;
mod grant_copy;
mod grant_map;
mod grant_table;
mod hvm;
mod memory;
mod multicall;
mod places;
mod sched;
mod succession;
mod tools;
mod vcpu;
mod vcpu_time;
mod version;

use abi::address::PAGE_SIZE;
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall as number;
use vmx::field;

use crate::checks::Caller;
use crate::core::Core;
use crate::guest_memory::{CR0_PAGING, CS_LONG, GuestMemory};

/// The arguments: RDI, RSI, RDX, R10, R8. Each handler reads those it has.
#[inline(always)]
fn arguments(core: &Core) -> [u64; 5] {
    let registers = &core.frame.registers;
    [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8]
}

/// Carries out the hypercall that has just exited.
#[inline]
pub fn handle(core: &mut Core) {
    let rax = match call(core) {
        Ok(value) => value,
        Err(Errno::ERESTART) => return,
        Err(error) => error.as_rax(),
    };
    core.frame.registers.rax = rax;
    core.advance();
}

#[inline]
fn call(core: &mut Core) -> HypercallResult {
    // Descriptor privilege level of SS is the current privilege level (SDM 3C, "Guest Register State").
    const DPL: u32 = 3 << 5;
    if core.vmcs.get(field::GUEST_SS_ACCESS_RIGHTS) & DPL != 0 {
        return Err(Errno::EPERM);
    }
    // Code of 32 bits means other registers and other structures (`xen/arch/x86/hvm/hypercall.c`), which are not there.
    // Without paging all code is such, and what calls from there before it has page tables means these.
    if core.vmcs.get(field::GUEST_CS_ACCESS_RIGHTS) & CS_LONG == 0
        && core.vmcs.get(field::GUEST_CR0) & CR0_PAGING != 0
    {
        return Err(Errno::ENOSYS);
    }
    dispatch(core)
}

/// As [`dispatch`], for calls that have come past it: so that the other is a part of the loop, where most calls come by.
#[inline(never)]
fn dispatch_one(core: &mut Core) -> HypercallResult {
    dispatch_by_number(core)
}

#[inline(always)]
fn dispatch(core: &mut Core) -> HypercallResult {
    if core.on_trial { succession::on_trial(core) } else { dispatch_by_number(core) }
}

#[inline(always)]
fn dispatch_by_number(core: &mut Core) -> HypercallResult {
    match core.frame.registers.rax {
        number::XEN_VERSION => version::handle(core),
        number::EVENT_CHANNEL_OP => event_channel::handle(core),
        number::GRANT_TABLE_OP => grant_table::handle(core),
        number::HVM_OP => hvm::handle(core),
        number::SCHED_OP => sched::handle(core),
        number::MEMORY_OP => memory::handle(core),
        number::VCPU_OP => vcpu::handle(core),
        number::SET_TIMER_OP => vcpu_time::set_timer(core),
        number::MULTICALL => multicall::handle(core),
        number::VM_ASSIST => assist::handle(core),
        number::CONSOLE_IO => console_io::handle(core),
        number::SYSCTL | number::DOMCTL | number::PLATFORM_OP | number::PAGING_DOMCTL_CONT => {
            tools::handle(core)
        }
        number::MMUEXT_OP | number::XENPMU_OP | number::DM_OP | number::HYPFS_OP => tools::handle(core),
        number::ATOLL_CONTROL => control::handle(core),
        _ => Err(Errno::ENOSYS),
    }
}

/// Who calls.
fn caller(core: &Core) -> Result<Caller, Errno> {
    let domain = core.domain()?;
    Ok(Caller { id: domain.id, is_privileged: domain.is_privileged })
}

/// Whether there is such a domain.
fn exists(id: DomId) -> bool {
    crate::registry::core_of(id).is_some()
}

impl Core {
    /// The memory of the domain on this core.
    #[inline]
    pub fn guest_memory(&self) -> Result<GuestMemory, Errno> {
        Ok(GuestMemory::new(self.domain()?.view, self.windows, &self.vmcs))
    }
}

/// The hypercall page (`arch-x86/cpuid.h`, leaf 2): writes the stubs into the guest's page at the address in `value`.
/// `None`: there is no memory.
pub fn page(core: &Core, value: u64) -> Option<()> {
    const STUB: usize = 32;
    let domain = core.domain().ok()?;
    let mut page = [0xcc; PAGE_SIZE as usize];
    for (number, stub) in page.chunks_exact_mut(STUB).enumerate() {
        // mov eax, number; vmcall; ret
        let [a, b, c, d] = (number as u32).to_le_bytes();
        stub[..9].copy_from_slice(&[0xb8, a, b, c, d, 0x0f, 0x01, 0xc1, 0xc3]);
    }
    let at = abi::address::GuestPhys::new(value & !(PAGE_SIZE - 1));
    crate::domain::build::write(domain, at, &page).ok()
}
