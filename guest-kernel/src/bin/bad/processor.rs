//! Instructions and register bits that no guest may have.

use guest_kernel::say;

use crate::attempt::{attempt, take_faults};
use crate::msrs;

/// IA32_EFER.
const EFER: u32 = 0xc000_0080;

/// Tries each instruction on its own line of the list, counts them, and says how many were refused.
macro_rules! try_each {
    ($what:literal: $($line:literal ($($operands:tt)*);)+) => {{
        let mut tried = 0u64;
        $(
            // SAFETY: operands lead to this program's own scratch memory or to nowhere, every register that changes is
            // named, and an instruction that is let through has no lasting effect on what the program uses.
            unsafe { attempt!($line; $($operands)*) };
            tried += 1;
        )+
        say!("bad: {tried} {} tried, {} refused with a fault", $what, take_faults());
    }};
}

/// VMX's instructions, as if this guest were a hypervisor, and others that reach below the guest.
pub fn vmx_instructions() {
    let mut scratch = [0u64; 4];
    let memory = scratch.as_mut_ptr();
    try_each!("instructions":
        "vmxon [{a}]" (a = in(reg) memory);
        "vmclear [{a}]" (a = in(reg) memory);
        "vmptrld [{a}]" (a = in(reg) memory);
        "vmptrst [{a}]" (a = in(reg) memory);
        "vmread {a}, {b}" (a = inout(reg) 0u64 => _, b = in(reg) 0x681eu64);
        "vmwrite {a}, {b}" (a = in(reg) 0x681eu64, b = in(reg) 0u64);
        "vmlaunch" ();
        "vmresume" ();
        "invept {a}, [{b}]" (a = in(reg) 2u64, b = in(reg) memory);
        "invvpid {a}, [{b}]" (a = in(reg) 2u64, b = in(reg) memory);
        "vmxoff" ();
        "vmfunc" (in("eax") 0, in("ecx") 1);
        "getsec" (inout("eax") 0 => _, out("ecx") _, out("edx") _);
        "rsm" ();
        "invd" ();
        "wbinvd" ();
        "monitor" (in("rax") memory, in("ecx") 0, in("edx") 0);
        "vmmcall" (inout("rax") u64::MAX => _);
        "vmrun rax" (in("rax") memory);
        "clgi" ();
        "xsetbv" (in("ecx") 0, in("eax") 0, in("edx") 0);
        "xsetbv" (in("ecx") 0, in("eax") u32::MAX, in("edx") u32::MAX);
        "xsetbv" (in("ecx") 7, in("eax") 1, in("edx") 0);
        "ltr {a:x}" (a = in(reg) 0xfff8u16);
        "rdpmc" (in("ecx") 0x4000_0000, out("eax") _, out("edx") _);
    );
}

/// Bits of CR0, CR4 and EFER, one by one against what they are, each put back at once; CR3 and CR8 with bits that do not
/// exist; debug registers.
pub fn control_registers() {
    let (cr0, cr4, cr3): (u64, u64, u64);
    // SAFETY: reads.
    unsafe {
        core::arch::asm!("mov {0}, cr0", "mov {1}, cr4", "mov {2}, cr3", out(reg) cr0, out(reg) cr4, out(reg) cr3);
    }
    take_faults();
    let mut tried = 0u64;
    for bit in 0..64 {
        let flipped = 1u64 << bit;
        // SAFETY: the old value follows at once. Where a bit is let through, no instruction between the two depends on
        // it: the code is identity-mapped and touches no memory. Paging and protection themselves are left alone below.
        unsafe {
            if !matches!(bit, 0 | 31) {
                attempt!("mov cr0, {a}", "mov cr0, {b}"; a = in(reg) cr0 ^ flipped, b = in(reg) cr0);
            }
            if bit != 5 {
                attempt!("mov cr4, {a}", "mov cr4, {b}"; a = in(reg) cr4 ^ flipped, b = in(reg) cr4);
            }
        }
        tried += 2;
    }
    // SAFETY: the processor refuses each of these in long mode: paging off, protection off, PAE off, reserved bits.
    unsafe {
        attempt!("mov cr0, {a}"; a = in(reg) cr0 & !(1 << 31));
        attempt!("mov cr0, {a}"; a = in(reg) cr0 & !1);
        attempt!("mov cr4, {a}"; a = in(reg) cr4 & !(1 << 5));
        attempt!("mov cr4, {a}"; a = in(reg) cr4 | 1 << 13);
        attempt!("mov cr3, {a}", "mov cr3, {b}"; a = in(reg) cr3 | 1 << 62, b = in(reg) cr3);
        attempt!("mov cr8, {a}", "mov cr8, {b}"; a = in(reg) u64::MAX, b = in(reg) 0u64);
        attempt!("mov dr7, {a}", "mov dr7, {b}"; a = in(reg) u64::MAX, b = in(reg) 0x400u64);
    }
    tried += 7;
    let faults = take_faults();
    let efer = msrs::read(EFER);
    for bit in 0..64 {
        // Long mode and no-execute are what this program stands on.
        if !matches!(bit, 8 | 10 | 11) {
            msrs::write(EFER, efer ^ 1 << bit);
            msrs::write(EFER, efer);
            tried += 1;
        }
    }
    say!("bad: {tried} register values tried, {} refused with a fault", faults + take_faults());
}
