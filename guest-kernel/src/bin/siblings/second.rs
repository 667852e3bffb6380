//! The second virtual CPU: what it starts with, and what it does, with interrupts off, until it is told otherwise.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use abi::xen::cpuid;
use abi::xen::event_channel::Port;
use abi::xen::shared_info::{VCPU_INFO, VCPU_INFO_SIZE, vcpu_info};
use abi::xen::vcpu::{Hvm32, HvmContext};
use boot::trampoline::{CoreWords, PageWords, WORDS_OFFSET};
use guest_kernel::platform::atoll::memory::SHARED_INFO_ADDRESS;
use guest_kernel::platform::atoll::{hypercall, memory, second};
use x86::msr::{rdmsr, wrmsr};

use crate::{TO_SECOND, calls, frames};

/// The page that it starts at in real mode: nobody uses memory below 1 MiB.
pub const TRAMPOLINE: u64 = 0x9000;
const PAGE: u64 = 4096;
/// What it writes to the page that went and came.
pub const WRITTEN: u64 = 0x2222;

/// What it is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Order {
    /// Answers.
    Answer = 0,
    /// Crashes.
    Crash = 1,
    /// Lets frames go and come, once, and answers again.
    Frames = 2,
    /// Lets interrupts in now and then, and is called.
    Listen = 3,
    /// Halts with interrupts on, and is called.
    Doze = 4,
    /// Lets interrupts in and halts when there is news already, and is called.
    Oversleep = 5,
}

/// What both share.
pub struct Second {
    /// How often it was started.
    pub lives: AtomicU64,
    /// Counts as long as it runs.
    pub beats: AtomicU64,
    /// Events taken.
    pub events: AtomicU64,
    /// Interrupts taken.
    pub interrupts: AtomicU64,
    /// The port it has events from.
    pub port: AtomicU64,
    /// The port to answer events through.
    pub reply_port: AtomicU64,
    /// The vector to answer interrupts with.
    pub reply_vector: AtomicU64,
    /// Its number by Xen's CPUID leaf.
    pub vcpu: AtomicU64,
    /// Its APIC id by leaf 1.
    pub initial_id: AtomicU64,
    /// Its APIC id by leaf 0xb.
    pub extended_id: AtomicU64,
    /// Its APIC id by MSR.
    pub apic_id: AtomicU64,
    /// Its logical id.
    pub logical_id: AtomicU64,
    /// Its IA32_APIC_BASE.
    pub apic_base: AtomicU64,
    /// What came of its calls about frames; 0: none yet.
    pub steps: AtomicU64,
    /// Whether it waits to be called: 1 or 0.
    pub listens: AtomicU64,
    order: AtomicU64,
}

/// That.
pub static SECOND: Second = Second {
    lives: AtomicU64::new(0),
    beats: AtomicU64::new(0),
    events: AtomicU64::new(0),
    interrupts: AtomicU64::new(0),
    port: AtomicU64::new(0),
    reply_port: AtomicU64::new(0),
    reply_vector: AtomicU64::new(0),
    vcpu: AtomicU64::new(0),
    initial_id: AtomicU64::new(0),
    extended_id: AtomicU64::new(0),
    apic_id: AtomicU64::new(0),
    logical_id: AtomicU64::new(0),
    apic_base: AtomicU64::new(0),
    steps: AtomicU64::new(0),
    listens: AtomicU64::new(0),
    order: AtomicU64::new(Order::Answer as u64),
};

/// Gives it another order.
pub fn order(order: Order) {
    SECOND.order.store(order as u64, SeqCst);
}

/// Memory that only the second one uses, once `prepare` is done.
#[repr(C, align(4096))]
struct Own<T>(UnsafeCell<T>);

// SAFETY: written by `prepare` before the second virtual CPU runs, and by that alone afterwards.
unsafe impl<T> Sync for Own<T> {}

impl<T> Own<T> {
    fn address(&self) -> u64 {
        self.0.get() as u64
    }
}

/// Page tables: the root, one of 1 GiB entries, and four of 2 MiB pages: 4 GiB at its own addresses.
static TABLES: Own<[[u64; 512]; 6]> = Own(UnsafeCell::new([[0; 512]; 6]));
static STACK: Own<[u8; 16384]> = Own(UnsafeCell::new([0; 16384]));
static WORDS: Own<CoreWords> = Own(UnsafeCell::new(CoreWords { stack: 0, entry: 0, argument: 0 }));

fn stack() -> u64 {
    STACK.address() + size_of_val(&STACK) as u64
}

/// Makes page tables, and the trampoline's page.
pub fn prepare() {
    const TABLE: u64 = 3;
    const LARGE_PAGE: u64 = 3 | 1 << 5 | 1 << 6 | 1 << 7;
    let tables = TABLES.0.get();
    let at = |table: u64| TABLES.address() + table * PAGE;
    // SAFETY: nobody else uses these yet.
    unsafe {
        (*tables)[0][0] = at(1) | TABLE;
        for gib in 0..4 {
            (*tables)[1][gib] = at(2 + gib as u64) | TABLE;
            for large in 0..512 {
                (*tables)[2 + gib][large] = (gib as u64) << 30 | (large as u64) << 21 | LARGE_PAGE;
            }
        }
        *WORDS.0.get() = CoreWords { stack: stack(), entry: live as *const () as u64, argument: 0 };
    }
    if memory::map_window(TRAMPOLINE..TRAMPOLINE + PAGE).is_err() {
        panic!("no page tables for the trampoline");
    }
    let code = boot::trampoline::code();
    let words = PageWords { cr3: at(0), core_words: WORDS.address() };
    // SAFETY: a page that was just mapped and that nobody uses; code and words fit.
    unsafe {
        core::ptr::copy_nonoverlapping(code.as_ptr(), TRAMPOLINE as *mut u8, code.len());
        ((TRAMPOLINE + WORDS_OFFSET as u64) as *mut PageWords).write_unaligned(words);
    }
}

/// The state of a virtual CPU that begins in `live`, in long mode.
pub fn context() -> HvmContext {
    second::context(live as *const () as u64, stack(), TABLES.address())
}

/// One whose code segment is data.
pub fn bad_context() -> HvmContext {
    HvmContext::new32(Hvm32 {
        cs_ar: 0xc93,
        ss_ar: 0xc93,
        tr_ar: 0x8b,
        cs_limit: u32::MAX,
        ss_limit: u32::MAX,
        tr_limit: 0x67,
        ..Hvm32::default()
    })
}

/// Its life.
extern "sysv64" fn live(_: u64) -> ! {
    const SPURIOUS_VECTOR: u32 = 0x80f;
    // SAFETY: registers of every local APIC; it takes interrupts, and holds them, since they are off here.
    let [apic_id, logical_id, apic_base] = unsafe {
        wrmsr(SPURIOUS_VECTOR, 1 << 8 | 0xff);
        [0x802, 0x80d, 0x1b].map(|msr| rdmsr(msr))
    };
    SECOND.vcpu.store(__cpuid_count(cpuid::HVM, 0).ebx.into(), SeqCst);
    SECOND.initial_id.store((__cpuid(1).ebx >> 24).into(), SeqCst);
    SECOND.extended_id.store(__cpuid_count(0xb, 0).edx.into(), SeqCst);
    SECOND.apic_id.store(apic_id, SeqCst);
    SECOND.logical_id.store(logical_id, SeqCst);
    SECOND.apic_base.store(apic_base, SeqCst);
    let shared = calls::shared();
    SECOND.lives.fetch_add(1, SeqCst);
    loop {
        SECOND.beats.fetch_add(1, SeqCst);
        if shared.take_port(1, SECOND.port.load(SeqCst) as Port) {
            SECOND.events.fetch_add(1, SeqCst);
            // A refusal is seen as an answer that does not come.
            let _ = hypercall::send(SECOND.reply_port.load(SeqCst) as Port);
        }
        if calls::requested(TO_SECOND) {
            take_interrupt();
            SECOND.interrupts.fetch_add(1, SeqCst);
            calls::interrupt(0, SECOND.reply_vector.load(SeqCst));
        }
        match SECOND.order.load(SeqCst) {
            order if order == Order::Crash as u64 => crash(),
            order if order == Order::Frames as u64 => {
                self::order(Order::Answer);
                let steps = frames::go_and_come();
                frames::set_word(WRITTEN);
                SECOND.steps.store(steps | 1 << 63, SeqCst);
            }
            order if order >= Order::Listen as u64 => listen(),
            _ => {}
        }
    }
}

/// Lets the interrupt in that waits, through a gate that does nothing.
fn take_interrupt() {
    const END_OF_INTERRUPT: u32 = 0x80b;
    let_all_lead_to(nothing as *const () as u64);
    // SAFETY: the gates are there, and the handler returns at once.
    unsafe {
        core::arch::asm!("sti", "nop", "nop", "cli", options(nostack));
        wrmsr(END_OF_INTERRUPT, 0);
    }
}

/// Lets all interrupts lead to this handler.
fn let_all_lead_to(handler: u64) {
    static GATES: Own<[[u64; 2]; 256]> = Own(UnsafeCell::new([[0; 2]; 256]));
    let code: u64;
    // SAFETY: reads a selector; the table is this processor's alone.
    unsafe {
        core::arch::asm!("mov {0:r}, cs", out(reg) code, options(nomem, nostack, preserves_flags));
        let low = handler & 0xffff | (code & 0xffff) << 16 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
        (*GATES.0.get()).fill([low, handler >> 32]);
        x86::dtables::lidt(&x86::dtables::DescriptorTablePointer::new_from_slice(&*GATES.0.get()));
    }
}

/// Waits to be called until it is told to answer.
fn listen() {
    let_all_lead_to(callback as *const () as u64);
    let order = || SECOND.order.load(SeqCst);
    SECOND.listens.store(1, SeqCst);
    while order() != Order::Answer as u64 {
        // SAFETY: the gates are there, and their handler keeps to the registers it saves. `sti` lets nothing in before the
        // instruction behind it.
        unsafe {
            match order() {
                order if order == Order::Listen as u64 => core::arch::asm!("sti", "nop", "nop", "cli"),
                order if order == Order::Oversleep as u64 && !has_news() => core::hint::spin_loop(),
                _ => core::arch::asm!("sti", "hlt", "cli"),
            }
        }
    }
    SECOND.listens.store(0, SeqCst);
}

/// The domain's callback vector: one that nobody else uses.
pub const CALLBACK: u8 = 0x83;
/// How often it came.
static CALLED: AtomicU64 = AtomicU64::new(0);
/// This virtual CPU's `vcpu_info`.
const INFO: u64 = SHARED_INFO_ADDRESS + (VCPU_INFO + VCPU_INFO_SIZE) as u64;

/// Whether there is what it is to be called for.
fn has_news() -> bool {
    // SAFETY: the platform has mapped the shared-info page there, and never looks at it but as atomics.
    unsafe { (*((INFO as usize + vcpu_info::UPCALL_PENDING) as *const AtomicU8)).load(SeqCst) != 0 }
}

/// How often the second was called.
pub fn called() -> u64 {
    CALLED.load(SeqCst)
}

/// Takes the news and counts. There is no interrupt for the local APIC to be told the end of.
#[unsafe(naked)]
extern "sysv64" fn callback() {
    core::arch::naked_asm!(
        "push rax",
        "mov rax, {info}",
        "mov byte ptr [rax + {upcall}], 0",
        "mov qword ptr [rax + {selector}], 0",
        "lock inc qword ptr [rip + {called}]",
        "pop rax",
        "iretq",
        info = const INFO,
        upcall = const vcpu_info::UPCALL_PENDING,
        selector = const vcpu_info::PENDING_SEL,
        called = sym CALLED,
    )
}

/// Returns from an interrupt.
#[unsafe(naked)]
extern "sysv64" fn nothing() {
    core::arch::naked_asm!("iretq")
}

/// A triple fault: an exception without a table of gates.
fn crash() -> ! {
    // Limit and base: nothing.
    let none = [0u16; 5];
    // SAFETY: this processor does not go on.
    unsafe { core::arch::asm!("lidt [{0}]", "ud2", in(reg) &raw const none, options(noreturn)) };
}
