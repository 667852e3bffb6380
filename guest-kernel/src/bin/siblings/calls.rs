//! What this program asks of its hypervisor and its local APIC, beyond what every guest kernel does.

use abi::xen::DOMID_SELF;
use abi::xen::errno::HypercallResult;
use abi::xen::event_channel::{self as op, BindVcpu, Port};
use abi::xen::hvm::{self, Param, callback, param};
use abi::xen::hypercall::{EVENT_CHANNEL_OP, HVM_OP};
use guest_kernel::events::SharedInfo;
use guest_kernel::platform::atoll::{hypercall, shared_info};
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

/// `HVM_PARAM_CALLBACK_IRQ`: this vector; 0: none.
pub fn set_callback(vector: u8) -> HypercallResult {
    let value = if vector == 0 { 0 } else { callback::VECTOR << callback::TYPE_SHIFT | u64::from(vector) };
    let argument = Param { domid: DOMID_SELF, pad: 0, index: param::CALLBACK_IRQ, value };
    let address = core::ptr::from_ref(&argument) as u64;
    // SAFETY: the structure of that operation, without addresses.
    unsafe { hypercall::call(HVM_OP, [hvm::SET_PARAM, address, 0, 0, 0]) }
}

/// `EVTCHNOP_bind_vcpu`
pub fn bind_vcpu(port: Port, number: u32) -> HypercallResult {
    let argument = BindVcpu { port, vcpu: number };
    let address = core::ptr::from_ref(&argument) as u64;
    // SAFETY: the structure of that operation, without addresses.
    unsafe { hypercall::call(EVENT_CHANNEL_OP, [op::BIND_VCPU, address, 0, 0, 0]) }
}

/// The shared-info page.
pub fn shared() -> &'static SharedInfo {
    match shared_info() {
        Some(page) => page,
        None => panic!("no shared-info page"),
    }
}
