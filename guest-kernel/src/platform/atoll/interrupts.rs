//! The interrupt handler, of all vectors but the upcall's: an interrupt leaves a note and ends; an exception ends the kernel, unless the program
//! said that it expects it.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use boot::descriptors::{DescriptorTables, IST_COUNT, IST_INTERRUPT, InterruptFrame};

use super::{apic, memory, upcall};

/// Events wait in the shared-info page: see [`upcall`].
pub const UPCALL_VECTOR: u8 = 0xe0;
/// The deadline has come.
pub const TIMER_VECTOR: u8 = 0xe1;
/// The local APIC had an interrupt and lost it again; it wants no end of interrupt.
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// Bytes of each interrupt stack. A panic formats text on one.
const STACK_BYTES: usize = 16 * 1024;

#[repr(C, align(16))]
struct Stacks([[u8; STACK_BYTES]; IST_COUNT]);

static mut STACKS: Stacks = Stacks([[0; STACK_BYTES]; IST_COUNT]);
static mut TABLES: DescriptorTables = DescriptorTables::new();

/// Vectors that came and were not taken yet, a bit each.
static NOTED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// Whether any bit of `NOTED` is set.
static ANY_NOTED: AtomicBool = AtomicBool::new(false);
/// The program's own answer to exceptions.
static EXCEPTION_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Mends what an exception found, and says whether the code may go on.
pub type ExceptionHook = fn(&mut InterruptFrame) -> bool;

/// Loads the descriptor tables with the handler below. Once.
pub(super) fn load() {
    static LOADED: AtomicBool = AtomicBool::new(false);
    if LOADED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: this code runs once, so the reference to the tables is the only one; only the address of the stacks is
    // taken, and only interrupts use them.
    unsafe {
        let stacks = &raw const STACKS as u64;
        let tables: &'static mut DescriptorTables = &mut *core::ptr::addr_of_mut!(TABLES);
        tables.prepare(&core::array::from_fn(|ist| stacks + ((ist + 1) * STACK_BYTES) as u64));
        tables.override_gate(UPCALL_VECTOR, upcall::enter as *const () as u64, IST_INTERRUPT);
        tables.load(handle);
    }
}

/// Lets `hook` see exceptions before they end the kernel.
pub fn on_exception(hook: ExceptionHook) {
    EXCEPTION_HOOK.store(hook as *mut (), Ordering::Relaxed);
}

/// Whether [`take_noted`] would name a vector.
pub(super) fn any_noted() -> bool {
    ANY_NOTED.load(Ordering::Relaxed)
}

/// Names each vector that came since the last call, those of upcall and deadline excepted.
pub(super) fn take_noted(each: &mut dyn FnMut(u8)) {
    if !ANY_NOTED.swap(false, Ordering::Relaxed) {
        return;
    }
    for (group, noted) in (0u8..).zip(&NOTED) {
        let mut vectors = noted.swap(0, Ordering::Relaxed);
        while vectors != 0 {
            each(group * 64 + vectors.trailing_zeros() as u8);
            vectors &= vectors - 1;
        }
    }
}

pub(super) extern "C" fn handle(frame: &mut InterruptFrame) {
    match frame.vector as u8 {
        TIMER_VECTOR => apic::end_of_interrupt(),
        SPURIOUS_VECTOR => {}
        vector @ 32.. => {
            NOTED[usize::from(vector / 64)].fetch_or(1 << (vector % 64), Ordering::Relaxed);
            ANY_NOTED.store(true, Ordering::Relaxed);
            apic::end_of_interrupt();
        }
        _ => exception(frame),
    }
}

#[cold]
fn exception(frame: &mut InterruptFrame) {
    let hook = EXCEPTION_HOOK.load(Ordering::Relaxed);
    if !hook.is_null() {
        // SAFETY: only `on_exception` stores here, and it stores such a function.
        let hook = unsafe { core::mem::transmute::<*mut (), ExceptionHook>(hook) };
        if hook(frame) {
            return;
        }
    }
    let fault_address = memory::fault_address();
    panic!(
        "exception {} (error code {:#x}) at rip {:#x}, cr2 {fault_address:#x}, rsp {:#x}, rflags {:#x}",
        frame.vector, frame.error_code, frame.rip, frame.rsp, frame.rflags
    );
}
