//! A domain's other virtual CPUs as a crew: each computes what all are given, with interrupts off, on the page tables of the
//! first and a stack of its own. They poll for work, so that it begins on all of them at once.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::xen::errno::Errno;

use super::second;

/// Of each stack.
const STACK_BYTES: usize = 64 * 1024;

#[repr(C, align(16))]
struct Stack([u8; STACK_BYTES]);

/// What all do; each is told its number, from 0 on.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// The work of a round, and for how many.
struct Given(UnsafeCell<Option<(usize, Work<'static>)>>);

// SAFETY: written by the first virtual CPU while no other reads, between rounds: see `Crew::together`.
unsafe impl Sync for Given {}

static GIVEN: Given = Given(UnsafeCell::new(None));
/// Rises with each round.
static ROUND: AtomicUsize = AtomicUsize::new(0);
/// Who has come to the end of this one.
static ENDED: AtomicUsize = AtomicUsize::new(0);
/// Who has begun to live, the first one included.
static ALIVE: AtomicUsize = AtomicUsize::new(1);

/// All virtual CPUs of this domain.
pub struct Crew {
    size: usize,
}

impl Crew {
    /// Starts so many but the first, which runs already. Done once: the hypervisor refuses to start them again.
    pub fn start(size: usize) -> Result<Self, Errno> {
        // SAFETY: reads a register.
        let tables = unsafe { x86::controlregs::cr3() };
        for number in 1..size {
            let stack = Box::leak(Box::new(Stack([0; STACK_BYTES])));
            let end = core::ptr::from_mut(stack) as u64 + STACK_BYTES as u64;
            let context = second::context(begin as *const () as u64, end, tables);
            second::initialise(number as u64, &context)?;
            second::up(number as u64)?;
            // One after the other: they number themselves.
            while ALIVE.load(Ordering::Acquire) <= number {
                hint::spin_loop();
            }
        }
        Ok(Self { size })
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Has the first `cores` of them do this, the caller's own among them, and waits until all have.
    pub fn together(&mut self, cores: usize, work: Work<'_>) {
        // SAFETY: only the lifetime differs, and nobody uses it any more when all have ended, below.
        let work = unsafe { core::mem::transmute::<Work<'_>, Work<'static>>(work) };
        ENDED.store(0, Ordering::Relaxed);
        // SAFETY: all others have ended the round before and read nothing until the next begins.
        unsafe { *GIVEN.0.get() = Some((cores, work)) };
        ROUND.fetch_add(1, Ordering::Release);
        work(0);
        while ENDED.load(Ordering::Acquire) < self.size - 1 {
            hint::spin_loop();
        }
    }
}

/// The life of each but the first.
extern "sysv64" fn begin() -> ! {
    let number = ALIVE.fetch_add(1, Ordering::AcqRel);
    let mut round = 0;
    loop {
        while ROUND.load(Ordering::Acquire) == round {
            hint::spin_loop();
        }
        round += 1;
        // SAFETY: the first one wrote it before it began the round, and writes it again only when this one has ended.
        let given = unsafe { *GIVEN.0.get() };
        if let Some((cores, work)) = given
            && number < cores
        {
            work(number);
        }
        ENDED.fetch_add(1, Ordering::Release);
    }
}
