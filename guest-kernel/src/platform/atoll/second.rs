//! A domain's other virtual CPUs: the calls about them, and a second one to work with, on the page tables of the first,
//! with descriptor tables and stacks of its own.
//!
//! The kernel itself stays on one core. What runs here shares nothing with it but what the program gives it.

use core::sync::atomic::{AtomicPtr, Ordering};

use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::{VCPU_OP, vcpu};
use abi::xen::vcpu::{Hvm64, HvmContext};
use boot::descriptors::{DescriptorTables, IST_COUNT, IST_INTERRUPT};
use boot::trampoline::{CR0_BOOT, CR4_BOOT, EFER};

use super::{apic, cpu, hypercall, interrupts, upcall};

/// Its number.
pub const VCPU: u32 = 1;
/// Bytes of its stack, and of each of its interrupt stacks.
const STACK_BYTES: usize = 64 * 1024;
const INTERRUPT_STACK_BYTES: usize = 16 * 1024;

#[repr(C, align(16))]
struct Stacks {
    main: [u8; STACK_BYTES],
    interrupts: [[u8; INTERRUPT_STACK_BYTES]; IST_COUNT],
}

static mut STACKS: Stacks =
    Stacks { main: [0; STACK_BYTES], interrupts: [[0; INTERRUPT_STACK_BYTES]; IST_COUNT] };
static mut TABLES: DescriptorTables = DescriptorTables::new();
static LIFE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// What it does. It begins with interrupts off, its local APIC on, and [`interrupts::UPCALL_VECTOR`] as its upcall.
pub type Life = fn() -> !;

/// Starts it, once: the hypervisor refuses to start it again.
pub fn start(life: Life) -> Result<(), Errno> {
    hypercall::set_upcall_vector(VCPU, interrupts::UPCALL_VECTOR)?;
    LIFE.store(life as *mut (), Ordering::SeqCst);
    let stack = &raw const STACKS as u64 + STACK_BYTES as u64;
    // SAFETY: reads a register.
    let tables = unsafe { x86::controlregs::cr3() };
    initialise(VCPU.into(), &context(begin as *const () as u64, stack, tables))?;
    up(VCPU.into()).map(drop)
}

/// The state of a virtual CPU that begins at `entry` in long mode, as if called, with a stack that ends at `stack`.
pub fn context(entry: u64, stack: u64, tables: u64) -> HvmContext {
    HvmContext::new64(Hvm64 {
        // The stack is aligned before the return address.
        rsp: stack - 8,
        rip: entry,
        rflags: 2,
        cr0: CR0_BOOT.into(),
        cr3: tables,
        cr4: CR4_BOOT.into(),
        efer: EFER.into(),
        ..Hvm64::default()
    })
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

fn vcpu_op(operation: u64, number: u64, argument: u64) -> HypercallResult {
    // SAFETY: the argument is 0, or the address of what the operation takes, which is only read.
    unsafe { hypercall::call(VCPU_OP, [operation, number, argument, 0, 0]) }
}

extern "sysv64" fn begin() -> ! {
    // SAFETY: the hypervisor starts this once, on this processor alone, which alone uses these tables and stacks.
    unsafe {
        let stacks = &raw const STACKS as u64 + STACK_BYTES as u64;
        let tables: &'static mut DescriptorTables = &mut *core::ptr::addr_of_mut!(TABLES);
        tables.prepare(&core::array::from_fn(|ist| stacks + ((ist + 1) * INTERRUPT_STACK_BYTES) as u64));
        let upcall = upcall::enter_on_second as *const () as u64;
        tables.override_gate(interrupts::UPCALL_VECTOR, upcall, IST_INTERRUPT);
        tables.load(interrupts::handle);
    }
    apic::enable(interrupts::SPURIOUS_VECTOR, interrupts::TIMER_VECTOR);
    let life = LIFE.load(Ordering::SeqCst);
    if life.is_null() {
        cpu::halt_for_ever();
    }
    // SAFETY: `start` stored such a function.
    let life = unsafe { core::mem::transmute::<*mut (), Life>(life) };
    life()
}
