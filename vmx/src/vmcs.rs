//! The VMX instructions, and the VMCS that is current on this core.
//!
//! One core has one VMXON region and one VMCS, both for good: a new guest on the core gets the old VMCS cleared and
//! filled anew. A core that leaves its processor clears its VMCS too, which writes it to memory (SDM 3C, "VMCLEAR");
//! [`take_up`] makes it current again, on that processor or on another, with all that was in it.

use core::arch::asm;

use abi::address::HostPhys;
use x86::bits64::vmx;
use x86::vmx::VmFail;

use crate::exit::{ReadExit, instruction_error};
use crate::field::{self, Field, ReadOnly, Width};

/// A VMX instruction that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which, and on what.
    pub instruction: &'static str,
    /// The field, for VMWRITE.
    pub field: u32,
    /// VM-instruction error number; 0 where there is no current VMCS to hold one.
    pub error: u32,
}

impl core::fmt::Display for Failed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { instruction, field, error } = *self;
        write!(f, "{instruction} (field {field:#x}): {} ({error})", instruction_error(error))
    }
}

fn check(instruction: &'static str, result: Result<(), VmFail>) -> Result<(), Failed> {
    result.map_err(|fail| Failed {
        instruction,
        field: 0,
        error: if matches!(fail, VmFail::VmFailValid) {
            Current::assume().read(field::INSTRUCTION_ERROR)
        } else {
            0
        },
    })
}

/// Enters VMX root operation.
///
/// # Safety
/// CR0, CR4 and IA32_FEATURE_CONTROL allow it; `region` is a page that begins with the revision and is nobody else's.
pub unsafe fn vmxon(region: HostPhys) -> Result<(), Failed> {
    // SAFETY: by the caller.
    check("VMXON", unsafe { vmx::vmxon(region.as_u64()) })
}

/// Makes the VMCS at `region` clear and current, ready to be filled and launched.
///
/// # Safety
/// In VMX root operation; `region` is a page that begins with the revision, and current on no other core.
pub unsafe fn make_current(region: HostPhys) -> Result<Current, Failed> {
    // SAFETY: by the caller.
    check("VMCLEAR", unsafe { vmx::vmclear(region.as_u64()) })?;
    // SAFETY: by the caller.
    check("VMPTRLD", unsafe { vmx::vmptrld(region.as_u64()) })?;
    Ok(Current::assume())
}

/// Makes a VMCS current that [`clear`] has left, as it was: the next entry is a VMLAUNCH.
///
/// # Safety
/// In VMX root operation; `region` is a VMCS of this revision, and current on no other core.
pub unsafe fn take_up(region: HostPhys) -> Result<Current, Failed> {
    // SAFETY: by the caller.
    check("VMPTRLD", unsafe { vmx::vmptrld(region.as_u64()) })?;
    Ok(Current::assume())
}

/// Leaves all of the VMCS at `region` in memory, and none of it in the processor.
///
/// # Safety
/// In VMX root operation; what a [`Current`] names is not used until it was taken up again.
pub unsafe fn clear(region: HostPhys) -> Result<(), Failed> {
    // SAFETY: by the caller.
    check("VMCLEAR", unsafe { vmx::vmclear(region.as_u64()) })
}

/// Leaves VMX operation.
///
/// # Safety
/// In VMX root operation, without a VMCS that is current; none is used before the next [`vmxon`].
pub unsafe fn vmxoff() -> Result<(), Failed> {
    // SAFETY: by the caller.
    check("VMXOFF", unsafe { vmx::vmxoff() })
}

/// The VMCS that is current on this core. Neither sent nor shared between cores.
#[derive(Debug)]
pub struct Current(core::marker::PhantomData<*mut ()>);

impl Current {
    const fn assume() -> Self {
        Self(core::marker::PhantomData)
    }

    /// Writes a field while the VMCS is being filled.
    pub fn set<W: Width>(&mut self, field: Field<W>, value: W) -> Result<(), Failed> {
        let failed: u8;
        // SAFETY: VMWRITE to a guest, host or control field changes what the next VM entry does and nothing before;
        // that the values keep the host sound is checked by the entry and by whoever fills the VMCS.
        unsafe {
            asm!("vmwrite {0}, {1}", "setbe {2}", in(reg) u64::from(field.encoding), in(reg) value.widen(),
                 out(reg_byte) failed, options(nostack, nomem));
        }
        if failed == 0 {
            return Ok(());
        }
        Err(Failed {
            instruction: "VMWRITE",
            field: field.encoding,
            error: self.read(field::INSTRUCTION_ERROR),
        })
    }

    /// Writes a field that is known to be there, since [`Current::set`] has filled it before. On the exit path.
    #[inline(always)]
    pub fn write<W: Width>(&mut self, field: Field<W>, value: W) {
        // SAFETY: as for `set`.
        unsafe {
            asm!("vmwrite {0}, {1}", in(reg) u64::from(field.encoding), in(reg) value.widen(), options(nostack, nomem));
        }
    }

    /// Reads a field of the guest, or a control.
    #[inline(always)]
    pub fn get<W: Width>(&self, field: Field<W>) -> W {
        vmread(field.encoding)
    }
}

impl ReadExit for Current {
    #[inline(always)]
    fn read<W: Width>(&self, field: ReadOnly<W>) -> W {
        vmread(field.encoding)
    }
}

#[inline(always)]
fn vmread<W: Width>(encoding: u32) -> W {
    let value: u64;
    // SAFETY: VMREAD has no effect but on its destination. Fields are read that `set` has filled, or that every VMCS has.
    unsafe {
        asm!("vmread {0}, {1}", out(reg) value, in(reg) u64::from(encoding), options(nostack, nomem));
    }
    W::narrow(value)
}

/// Forgets translations through EPT: those of `eptp` (type 1, single-context) or all (type 2). `false`: the processor has
/// no such type.
///
/// # Safety
/// In VMX root operation; the processor has INVEPT.
pub unsafe fn invept(kind: u64, eptp: u64) -> bool {
    let descriptor = [eptp, 0];
    let failed: u8;
    // SAFETY: by the caller; it only drops cached translations.
    unsafe {
        asm!("invept {0}, [{1}]", "setbe {2}", in(reg) kind, in(reg) &raw const descriptor, out(reg_byte) failed,
             options(nostack));
    }
    failed == 0
}

/// Forgets linear translations with a virtual-processor id: those with `vpid` (type 1, single-context) or with any (type
/// 2). `false`: the processor has no such type.
///
/// # Safety
/// In VMX root operation; the processor has INVVPID.
pub unsafe fn invvpid(kind: u64, vpid: u16) -> bool {
    // SAFETY: by the caller.
    unsafe { invvpid_at(kind, vpid, 0) }
}

/// The same for one linear address too (type 0, individual-address).
///
/// # Safety
/// In VMX root operation; the processor has INVVPID.
#[inline]
pub unsafe fn invvpid_at(kind: u64, vpid: u16, linear: u64) -> bool {
    let descriptor = [u64::from(vpid), linear];
    let failed: u8;
    // SAFETY: by the caller; it only drops cached translations.
    unsafe {
        asm!("invvpid {0}, [{1}]", "setbe {2}", in(reg) kind, in(reg) &raw const descriptor, out(reg_byte) failed,
             options(nostack));
    }
    failed == 0
}
