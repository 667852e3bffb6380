//! What this program asks of its hypervisor and its local APIC, beyond what every guest kernel does.

use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::event_channel::{self as op, BindIpi, BindVcpu, Port};
use abi::xen::hypercall::{EVENT_CHANNEL_OP, VCPU_OP, vcpu};
use abi::xen::shared_info::{EVTCHN_PENDING, VCPU_INFO, VCPU_INFO_SIZE, vcpu_info};
use abi::xen::vcpu::HvmContext;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use guest_kernel::platform::atoll::{hypercall, memory::SHARED_INFO_ADDRESS};
use x86::msr::{rdmsr, wrmsr};

/// The interrupt command register.
const ICR: u32 = 0x830;
/// First of the interrupt request registers.
const IRR: u32 = 0x820;

/// An INIT that is asserted.
pub const INIT: u64 = 5 << 8 | 1 << 14;
/// A start-up IPI; the page comes in the lowest byte.
pub const START_UP: u64 = 6 << 8 | 1 << 14;

/// Sends what `command` says to the APIC with this id.
pub fn interrupt(id: u64, command: u64) {
    // SAFETY: this guest's own processors, which this program alone uses.
    unsafe { wrmsr(ICR, id << 32 | command) };
}

/// Whether a vector has been requested of this processor and not been taken.
pub fn requested(vector: u8) -> bool {
    // SAFETY: a register of every local APIC.
    unsafe { rdmsr(IRR + u32::from(vector) / 32) & 1 << (vector % 32) != 0 }
}

fn vcpu_op(operation: u64, number: u64, argument: u64) -> HypercallResult {
    // SAFETY: the argument is 0, or the address of what the operation takes, which is only read.
    unsafe { hypercall::call(VCPU_OP, [operation, number, argument, 0, 0]) }
}

/// `VCPUOP_is_up`
pub fn is_up(number: u64) -> HypercallResult {
    vcpu_op(vcpu::IS_UP, number, 0)
}

/// `VCPUOP_up`
pub fn up(number: u64) -> HypercallResult {
    vcpu_op(vcpu::UP, number, 0)
}

/// `VCPUOP_down`
pub fn down(number: u64) -> HypercallResult {
    vcpu_op(vcpu::DOWN, number, 0)
}

/// `VCPUOP_initialise`
pub fn initialise(number: u64, context: &HvmContext) -> HypercallResult {
    vcpu_op(vcpu::INITIALISE, number, core::ptr::from_ref(context) as u64)
}

/// `EVTCHNOP_bind_ipi` on a virtual CPU.
pub fn bind_ipi(number: u32) -> Result<Port, Errno> {
    let mut argument = BindIpi { vcpu: number, port: 0 };
    let address = core::ptr::from_mut(&mut argument) as u64;
    // SAFETY: the structure of that operation, without addresses.
    unsafe { hypercall::call(EVENT_CHANNEL_OP, [op::BIND_IPI, address, 0, 0, 0]) }?;
    Ok(argument.port)
}

/// `EVTCHNOP_bind_vcpu`
pub fn bind_vcpu(port: Port, number: u32) -> HypercallResult {
    let argument = BindVcpu { port, vcpu: number };
    let address = core::ptr::from_ref(&argument) as u64;
    // SAFETY: the structure of that operation, without addresses.
    unsafe { hypercall::call(EVENT_CHANNEL_OP, [op::BIND_VCPU, address, 0, 0, 0]) }
}

fn word(offset: usize) -> &'static AtomicU64 {
    // SAFETY: the platform has mapped the shared-info page there; offsets are those of its words.
    unsafe { &*((SHARED_INFO_ADDRESS as usize + offset) as *const AtomicU64) }
}

/// Whether a port is pending.
pub fn pending(port: Port) -> bool {
    word(EVTCHN_PENDING + port as usize / 64 * 8).load(SeqCst) & 1 << (port % 64) != 0
}

/// Whether a port was pending; it is not any more.
pub fn taken(port: Port) -> bool {
    let bit = 1 << (port % 64);
    word(EVTCHN_PENDING + port as usize / 64 * 8).fetch_and(!bit, SeqCst) & bit != 0
}

/// Takes a virtual CPU's news: the ports in the first word of those that are pending.
pub fn take_news(number: usize) -> u64 {
    let info = VCPU_INFO + number * VCPU_INFO_SIZE;
    let upcall = (SHARED_INFO_ADDRESS as usize + info + vcpu_info::UPCALL_PENDING) as *const AtomicU8;
    // SAFETY: as in `word`.
    if unsafe { (*upcall).swap(0, SeqCst) } == 0 {
        return 0;
    }
    let selected = word(info + vcpu_info::PENDING_SEL).swap(0, SeqCst);
    if selected & 1 != 0 { word(EVTCHN_PENDING).load(SeqCst) } else { 0 }
}
