//! The one crossing from guest to hypervisor, and a typed function for each call this kernel makes.

use core::arch::asm;

use abi::control::hypercall as control;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::event_channel::{
    self as evtchn, AllocUnbound, BindInterdomain, BindIpi, BindVirq, OnePort, Port,
};
use abi::xen::hvm::{self, Param, UpcallVector};
use abi::xen::hypercall::{self as number, console_io, version};
use abi::xen::memory::{self, AddToPhysmap, E820Entry, MemoryMap};
use abi::xen::sched::{self, Shutdown};
use abi::xen::{DOMID_SELF, DomId};

/// Calls the hypervisor: the number, up to five arguments, and what it left in RAX.
///
/// # Safety
/// Where an argument is an address, the memory there must be the caller's to give, as the call's definition says.
#[inline(always)]
pub unsafe fn raw(number: u64, arguments: [u64; 5]) -> u64 {
    let result;
    // SAFETY: the caller vouches for the addresses; registers are kept but RAX, and the argument registers in case a
    // hypervisor's debug build spoils them.
    unsafe {
        asm!(
            "vmcall",
            inlateout("rax") number => result,
            inlateout("rdi") arguments[0] => _,
            inlateout("rsi") arguments[1] => _,
            inlateout("rdx") arguments[2] => _,
            inlateout("r10") arguments[3] => _,
            inlateout("r8") arguments[4] => _,
            options(nostack),
        );
    }
    result
}

/// As [`raw`], for calls of two arguments, which are most: three registers less to fill.
///
/// # Safety
/// As [`raw`].
#[inline(always)]
unsafe fn raw_two(number: u64, first: u64, second: u64) -> u64 {
    let result;
    // SAFETY: as in `raw`.
    unsafe {
        asm!(
            "vmcall",
            inlateout("rax") number => result,
            inlateout("rdi") first => _,
            inlateout("rsi") second => _,
            options(nostack),
        );
    }
    result
}

/// Results from -4095 to -1 are errors, listed or not.
#[inline]
fn outcome(rax: u64) -> HypercallResult {
    if rax < (-4095i64) as u64 { Ok(rax) } else { Err(Errno::from_rax(rax).unwrap_or(Errno::EINVAL)) }
}

/// As [`raw`], with the result told apart.
///
/// # Safety
/// As [`raw`].
#[inline]
pub unsafe fn call(number: u64, arguments: [u64; 5]) -> HypercallResult {
    // SAFETY: the caller's promise is the same.
    outcome(unsafe { raw(number, arguments) })
}

/// A call of the form (operation, argument's address), where the hypervisor may write to the argument.
///
/// # Safety
/// `argument` must be the structure that `operation` takes, and no address in it may reach memory in use otherwise.
#[inline]
unsafe fn with<T>(number: u64, operation: u64, argument: &mut T) -> HypercallResult {
    // SAFETY: the reference is exclusive for as long as the call lasts; the rest is the caller's promise.
    outcome(unsafe { raw_two(number, operation, core::ptr::from_mut(argument) as u64) })
}

/// `XENVER_version`: major << 16 | minor. The cheapest call there is.
#[inline]
pub fn xen_version() -> u64 {
    // SAFETY: no address.
    unsafe { raw_two(number::XEN_VERSION, version::VERSION, 0) }
}

/// `CONSOLEIO_write`: to the hypervisor's own console.
pub fn console_io_write(bytes: &[u8]) -> HypercallResult {
    let arguments = [console_io::WRITE, bytes.len() as u64, bytes.as_ptr() as u64, 0, 0];
    // SAFETY: the hypervisor reads the bytes and no more.
    unsafe { call(number::CONSOLE_IO, arguments) }
}

/// `HVMOP_get_param` for this domain.
#[inline]
pub fn get_param(index: u32) -> HypercallResult {
    let mut param = Param { domid: DOMID_SELF, pad: 0, index, value: 0 };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::HVM_OP, hvm::GET_PARAM, &mut param) }?;
    Ok(param.value)
}

/// `HVMOP_set_evtchn_upcall_vector`.
pub fn set_upcall_vector(vcpu: u32, vector: u8) -> HypercallResult {
    let mut argument = UpcallVector { vcpu, vector, pad: [0; 3] };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::HVM_OP, hvm::SET_EVTCHN_UPCALL_VECTOR, &mut argument) }
}

/// `XENMEM_add_to_physmap` of the shared-info page.
///
/// # Safety
/// The frame must not be one that the kernel uses for anything.
pub unsafe fn map_shared_info(frame: u64) -> HypercallResult {
    let mut argument =
        AddToPhysmap { domid: DOMID_SELF, size: 0, space: memory::space::SHARED_INFO, idx: 0, gpfn: frame };
    // SAFETY: the structure of that operation; the caller vouches for the frame.
    unsafe { with(number::MEMORY_OP, memory::ADD_TO_PHYSMAP, &mut argument) }
}

/// `XENMEM_memory_map`: how many of `entries` were filled.
pub fn memory_map(entries: &mut [E820Entry]) -> Result<usize, Errno> {
    let buffer = entries.as_mut_ptr() as u64;
    let mut argument = MemoryMap { nr_entries: entries.len() as u32, pad: 0, buffer };
    // SAFETY: the structure of that operation; its buffer has as many entries as it says.
    unsafe { with(number::MEMORY_OP, memory::MEMORY_MAP, &mut argument) }?;
    Ok((argument.nr_entries as usize).min(entries.len()))
}

/// `EVTCHNOP_send`.
#[inline]
pub fn send(port: Port) -> Result<(), Errno> {
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::SEND, &mut OnePort { port }) }.map(drop)
}

/// `EVTCHNOP_close`.
pub fn close(port: Port) -> Result<(), Errno> {
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::CLOSE, &mut OnePort { port }) }.map(drop)
}

/// `EVTCHNOP_alloc_unbound` for this domain.
pub fn alloc_unbound(remote_dom: DomId) -> Result<Port, Errno> {
    let mut argument = AllocUnbound { dom: DOMID_SELF, remote_dom, port: 0 };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::ALLOC_UNBOUND, &mut argument) }?;
    Ok(argument.port)
}

/// `EVTCHNOP_alloc_unbound` in another domain: for the privileged.
pub fn alloc_unbound_in(dom: DomId, remote_dom: DomId) -> Result<Port, Errno> {
    let mut argument = AllocUnbound { dom, remote_dom, port: 0 };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::ALLOC_UNBOUND, &mut argument) }?;
    Ok(argument.port)
}

/// `EVTCHNOP_bind_interdomain`.
pub fn bind_interdomain(remote_dom: DomId, remote_port: Port) -> Result<Port, Errno> {
    let mut argument = BindInterdomain { remote_dom, pad: 0, remote_port, local_port: 0 };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::BIND_INTERDOMAIN, &mut argument) }?;
    Ok(argument.local_port)
}

/// `EVTCHNOP_bind_ipi` on a virtual CPU.
pub fn bind_ipi(vcpu: u32) -> Result<Port, Errno> {
    let mut argument = BindIpi { vcpu, port: 0 };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::BIND_IPI, &mut argument) }?;
    Ok(argument.port)
}

/// `EVTCHNOP_bind_virq` on vCPU 0.
pub fn bind_virq(virq: u32) -> Result<Port, Errno> {
    let mut argument = BindVirq { virq, vcpu: 0, port: 0 };
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::EVENT_CHANNEL_OP, evtchn::BIND_VIRQ, &mut argument) }?;
    Ok(argument.port)
}

/// `SCHEDOP_watchdog`.
pub fn watchdog(id: u32, timeout: u32) -> Result<u32, Errno> {
    // SAFETY: the structure of that operation, without addresses.
    let given = unsafe { with(number::SCHED_OP, sched::WATCHDOG, &mut sched::Watchdog { id, timeout }) }?;
    // A new one where there is no more: Xen computes that error in 32 bits.
    u32::try_from(given).ok().filter(|given| *given <= sched::WATCHDOGS as u32).ok_or(Errno::ENOSPC)
}

/// `SCHEDOP_shutdown` for a suspension. 1: it is over, and all that was there is there; 0: in a new domain.
pub fn suspend() -> HypercallResult {
    // SAFETY: the structure of that operation, without addresses.
    unsafe { with(number::SCHED_OP, sched::SHUTDOWN, &mut Shutdown { reason: sched::reason::SUSPEND }) }
}

/// Atoll's `HAND_OVER`: why no other kernel has taken over.
pub fn hand_over(package: &[u8]) -> HypercallResult {
    let (address, bytes) = (package.as_ptr() as u64, package.len() as u64);
    // SAFETY: the hypervisor reads these bytes and no others.
    unsafe { call(number::ATOLL_CONTROL, [control::HAND_OVER, address, bytes, 0, 0]) }
}

/// Atoll's `TAKE_OVER`: the kernel before this one is no more.
pub fn take_over() -> Result<(), Errno> {
    // SAFETY: no address is among the arguments.
    unsafe { call(number::ATOLL_CONTROL, [control::TAKE_OVER, 0, 0, 0, 0]) }.map(drop)
}

/// `SCHEDOP_shutdown`; halts for good should the hypervisor refuse.
pub fn shutdown(reason: u32) -> ! {
    // SAFETY: the structure of that operation, without addresses.
    let _ = unsafe { with(number::SCHED_OP, sched::SHUTDOWN, &mut Shutdown { reason }) };
    super::cpu::halt_for_ever()
}
