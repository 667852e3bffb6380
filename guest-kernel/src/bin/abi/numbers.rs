//! Which calls there are, and those that a guest hears one thing of.

use abi::xen::DOMID_SELF;
use abi::xen::hypercall::*;

use crate::call::{NOBODY, NOWHERE, address, call};
use crate::tally::{Error, Tally};

/// What a guest with page tables of its own can call at all.
const THERE: [u64; 22] = [
    PLATFORM_OP,
    MEMORY_OP,
    MULTICALL,
    SET_TIMER_OP,
    XEN_VERSION,
    CONSOLE_IO,
    GRANT_TABLE_OP,
    VM_ASSIST,
    VCPU_OP,
    MMUEXT_OP,
    XSM_OP,
    SCHED_OP,
    EVENT_CHANNEL_OP,
    PHYSDEV_OP,
    HVM_OP,
    SYSCTL,
    DOMCTL,
    XENPMU_OP,
    DM_OP,
    HYPFS_OP,
    PAGING_DOMCTL_CONT,
    // Atoll's own; on Xen nothing is there.
    ATOLL_CONTROL,
];

pub fn check(tally: &mut Tally) {
    let beyond = [64, 1000, 1 << 31, 1 << 32 | XEN_VERSION, 1 << 63, u64::MAX];
    for number in (0..64).chain(beyond).filter(|number| !THERE.contains(number)) {
        let answer = call(number, [0; 5]);
        if answer != Error::ENOSYS.as_rax() {
            tally.equal("a call that is not there", number, u64::MAX);
        }
    }
    tally.check("calls that are not there", call(beyond[0], [0; 5]), Err(Error::ENOSYS));
    let control = call(ATOLL_CONTROL, [u64::MAX; 5]);
    tally.either("the architecture's seventh call", control, [Error::EPERM, Error::ENOSYS]);

    tally.check("xsm_op", call(XSM_OP, [0; 5]), Err(Error::ENOSYS));
    tally.check("xenpmu_op", call(XENPMU_OP, [0; 5]), Err(Error::EOPNOTSUPP));
    for operation in [0, 4, 5, 6, 12, 13, 14, 15, 21, 23, 28] {
        let answer = call(PHYSDEV_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("physdev_op", answer, Err(Error::ENOSYS));
    }
    console_io(tally);
    mmuext(tally);
    set_timer(tally);
    tools(tally);
    registers(tally);
}

fn console_io(tally: &mut Tally) {
    let write = |count, at| call(CONSOLE_IO, [console_io::WRITE, count, at, 0, 0]);
    tally.refused("console_io write", || write(1, NOWHERE), Error::EPERM);
    tally.refused("console_io read", || call(CONSOLE_IO, [console_io::READ, 1, NOWHERE, 0, 0]), Error::EPERM);
    tally.refused("console_io, no such operation", || call(CONSOLE_IO, [9, 0, 0, 0, 0]), Error::EPERM);
    if tally.privileged {
        tally.check("console_io write from nowhere", write(1, NOWHERE), Err(Error::EFAULT));
        tally.check("console_io write of nothing", write(0, NOWHERE), Ok(0));
        let read = |count| call(CONSOLE_IO, [console_io::READ, count, NOWHERE, 0, 0]);
        tally.check("console_io read of too much", read(1 << 31), Err(Error::E2BIG));
        tally.check("console_io read of nothing", read(0), Ok(0));
        tally.check("console_io, no such operation", call(CONSOLE_IO, [9, 0, 0, 0, 0]), Err(Error::ENOSYS));
    }
}

fn mmuext(tally: &mut Tally) {
    let of = |domain: u16| call(MMUEXT_OP, [NOWHERE, 1, 0, domain.into(), 0]);
    tally.check("mmuext_op", of(DOMID_SELF), Err(Error::EINVAL));
    tally.check("mmuext_op for nobody", of(NOBODY), Err(Error::ESRCH));
    tally.check("mmuext_op for oneself by number", of(tally.own), Err(Error::ESRCH));
}

fn set_timer(tally: &mut Tally) {
    tally.check("set_timer_op in the past", call(SET_TIMER_OP, [1, 0, 0, 0, 0]), Ok(0));
    tally.check("set_timer_op for never", call(SET_TIMER_OP, [1 << 63, 0, 0, 0, 0]), Ok(0));
    tally.check("set_timer_op to stop", call(SET_TIMER_OP, [0; 5]), Ok(0));
}

/// `xen_sysctl`, `xen_domctl`, `xen_platform_op`: operation, version, domain; and then some.
fn tools(tally: &mut Tally) {
    const SYSCTL_VERSION: u32 = 0x15;
    const PLATFORM_VERSION: u32 = 0x0300_0001;
    const GET_VCPU_INFO: u32 = 14;
    let mut words = [0u32; 256];
    let mut of = |number, operation: u32, version: u32, domain: u16| {
        words[..3].copy_from_slice(&[operation, version, domain.into()]);
        call(number, [address(&mut words), 0, 0, 0, 0])
    };
    tally.check("sysctl of another version", of(SYSCTL, 1, 1, 0), Err(Error::EACCES));
    tally.check("domctl of another version", of(DOMCTL, GET_VCPU_INFO, 1, 0), Err(Error::EACCES));
    tally.check("platform_op of another version", of(PLATFORM_OP, 1, 1, 0), Err(Error::EACCES));
    tally.check("domctl's other half", of(PAGING_DOMCTL_CONT, 1, 1, 0), Err(Error::EOPNOTSUPP));
    // These two versions change with Xen's own; where they are not known, that is the answer.
    let sysctl = of(SYSCTL, 99, SYSCTL_VERSION, 0);
    let domctl = of(DOMCTL, GET_VCPU_INFO, SYSCTL_VERSION, NOBODY);
    if !tally.privileged {
        tally.either("sysctl", sysctl, [Error::EPERM, Error::EACCES]);
        let platform = of(PLATFORM_OP, 99, PLATFORM_VERSION, 0);
        tally.check("platform_op", platform, Err(Error::EPERM));
        let own = of(DOMCTL, GET_VCPU_INFO, SYSCTL_VERSION, tally.own);
        tally.either("domctl for oneself", own, [Error::EPERM, Error::EACCES]);
    }
    tally.either("domctl for nobody", domctl, [Error::ESRCH, Error::EACCES]);
    for number in [SYSCTL, DOMCTL, PLATFORM_OP, PAGING_DOMCTL_CONT] {
        tally.check("a tool's call from nowhere", call(number, [NOWHERE, 0, 0, 0, 0]), Err(Error::EFAULT));
    }

    let dm_op = |domain: u16, buffers| call(DM_OP, [domain.into(), buffers, NOWHERE, 0, 0]);
    let mut buffer = [0u64; 2];
    let buffer = address(&mut buffer);
    let with_buffer = |domain: u16| call(DM_OP, [domain.into(), 1, buffer, 0, 0]);
    tally.check("dm_op with many buffers", dm_op(NOBODY, 3), Err(Error::E2BIG));
    tally.check("dm_op from nowhere", dm_op(NOBODY, 1), Err(Error::EFAULT));
    tally.check("dm_op for nobody", with_buffer(NOBODY), Err(Error::ESRCH));
    tally.check("dm_op for oneself", with_buffer(tally.own), Err(Error::EPERM));
    tally.refused("hypfs_op", || call(HYPFS_OP, [0; 5]), Error::EPERM);
}

/// A call leaves all registers as they were, but RAX. (Debug builds of Xen spoil the arguments on purpose.)
fn registers(tally: &mut Tally) {
    let before = [0x1111u64, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666];
    let mut after = before;
    // SAFETY: the call takes no address; the registers it may spoil are named.
    unsafe {
        core::arch::asm!(
            "vmcall",
            inlateout("rax") XEN_VERSION => _,
            in("rdi") 0u64,
            in("rsi") 0u64,
            inlateout("rcx") before[0] => after[0],
            inlateout("rdx") before[1] => after[1],
            inlateout("r9") before[2] => after[2],
            inlateout("r10") before[3] => after[3],
            inlateout("r11") before[4] => after[4],
            inlateout("r8") before[5] => after[5],
            options(nostack),
        );
    }
    tally.that("registers after a call", after[0], after == before);
}
