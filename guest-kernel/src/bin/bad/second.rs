//! The second virtual CPU, which does what the first does, to the same pages, at the same time; and writes to the
//! arguments of its calls while the hypervisor reads them.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use abi::xen::DomId;
use abi::xen::hypercall::{EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, MULTICALL, VCPU_OP, vcpu};
use abi::xen::vcpu::{Hvm64, HvmContext};
use boot::trampoline::{CR0_BOOT, CR4_BOOT, EFER};
use guest_kernel::programs::random::Random;
use guest_kernel::say;

use crate::calls::call;
use crate::pages;

/// Calls that the first makes meanwhile.
const CALLS: u64 = 10_000;
/// Words that arguments lie in.
const WORDS: usize = 64;

static ARGUMENTS: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
static OVER: AtomicBool = AtomicBool::new(false);
static OWN: AtomicU64 = AtomicU64::new(0);
/// Calls of the second's.
static MADE: AtomicU64 = AtomicU64::new(0);

#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; 65536]>);

// SAFETY: the second virtual CPU's alone.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 65536]));

fn cr3() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Lets the two race.
pub fn race(own: DomId, random: &mut Random) {
    OWN.store(own.into(), SeqCst);
    let mut context = HvmContext::new64(Hvm64 {
        // As after a call.
        rsp: STACK.0.get() as u64 + size_of::<Stack>() as u64 - 8,
        rip: live as *const () as u64,
        rflags: 2,
        cr0: CR0_BOOT.into(),
        cr3: cr3(),
        cr4: CR4_BOOT.into(),
        efer: EFER.into(),
        ..Hvm64::default()
    });
    let made = call(VCPU_OP, [vcpu::INITIALISE, 1, (&raw mut context) as u64, 0, 0]);
    let up = call(VCPU_OP, [vcpu::UP, 1, 0, 0, 0]);
    if (made, up) != (0, 0) {
        return say!("bad: no second virtual CPU: {made:x}, {up:x}");
    }
    while MADE.load(SeqCst) == 0 {
        core::hint::spin_loop();
    }
    (0..CALLS).for_each(|_| step(own, random));
    OVER.store(true, SeqCst);
    while call(VCPU_OP, [vcpu::IS_UP, 1, 0, 0, 0]) == 1 {
        core::hint::spin_loop();
    }
    say!("bad: two virtual CPUs made {CALLS} and {} calls at the same time", MADE.load(SeqCst));
}

extern "sysv64" fn live() -> ! {
    let mut random = Random::new(77);
    let own = OWN.load(SeqCst) as DomId;
    while !OVER.load(SeqCst) {
        step(own, &mut random);
        MADE.fetch_add(1, SeqCst);
    }
    loop {
        call(VCPU_OP, [vcpu::DOWN, 1, 0, 0, 0]);
    }
}

/// Some words of the arguments change, whosever call they are for, and one call is made.
fn step(own: DomId, random: &mut Random) {
    for _ in 0..4 {
        let any = random_word(random);
        let word = random.choose(&[0, 1, 2, 7, u64::from(own), 0x7ff0, 0x7ff0 << 32, any]);
        ARGUMENTS[random.below(WORDS as u64) as usize].store(word, SeqCst);
    }
    match random.below(4) {
        0 => drop(pages::churn(random)),
        1 => drop(pages::use_grant(own, random)),
        _ => {
            let at = ARGUMENTS.as_ptr() as u64 + random.below(16) * 8;
            // What closes the console's port, or takes the page that events come by, is left out.
            let (number, operation) = random.choose(&[
                (MEMORY_OP, 0),
                (MEMORY_OP, 1),
                (MEMORY_OP, 6),
                (MEMORY_OP, 9),
                (MEMORY_OP, 23),
                (GRANT_TABLE_OP, 0),
                (GRANT_TABLE_OP, 1),
                (GRANT_TABLE_OP, 2),
                (GRANT_TABLE_OP, 5),
                (GRANT_TABLE_OP, 8),
                (EVENT_CHANNEL_OP, 4),
                (EVENT_CHANNEL_OP, 5),
                (EVENT_CHANNEL_OP, 6),
                (EVENT_CHANNEL_OP, 7),
                (HVM_OP, 1),
                (MULTICALL, at),
            ]);
            let count = 1 + random.below(3);
            call(number, [operation, if number == MULTICALL { count } else { at }, count, 0, 0]);
        }
    }
}

/// A word that names the arguments themselves, or nothing.
fn random_word(random: &mut Random) -> u64 {
    if random.below(2) == 0 {
        ARGUMENTS.as_ptr() as u64 + random.below(64) * 8
    } else {
        random.draw() | 1 << 40
    }
}
