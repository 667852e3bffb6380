//! Every hypercall with arguments from nowhere.

use abi::xen::event_channel::{CLOSE, RESET};
use abi::xen::hypercall::{EVENT_CHANNEL_OP, SCHED_OP, VCPU_OP, vcpu};
use abi::xen::sched::{BLOCK, POLL, SHUTDOWN};
use guest_kernel::platform::atoll::hypercall;
use guest_kernel::programs::random::Random;
use guest_kernel::say;

/// Calls made.
const CALLS: u64 = 50_000;
/// Words of memory of our own that arguments may point to.
const SCRATCH_WORDS: usize = 512;

/// Addresses that lead nowhere, or where they should not.
const WILD: [u64; 12] = [
    0,
    1,
    0xfff,
    0xd000_0000,
    0xefff_ffff,
    0xffff_fff8,
    0x1_0000_0000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_ffff_f000,
    u64::MAX,
];

/// Calls and calls.
pub fn fuzz(random: &mut Random) {
    let mut scratch = alloc::vec![0u64; SCRATCH_WORDS];
    let mut accepted = 0u64;
    for _ in 0..CALLS {
        for word in scratch.iter_mut().take(8) {
            *word = argument(random);
        }
        let number = if random.below(8) == 0 { random.draw() } else { random.below(64) };
        let operation = if random.below(8) == 0 { random.draw() } else { random.below(40) };
        // These are allowed, and would end the act: the guest's own end, a sleep that nobody may end, and the end of its
        // console's event channel.
        let ends = number == SCHED_OP && matches!(operation, SHUTDOWN | BLOCK | POLL)
            || number == VCPU_OP && operation == vcpu::DOWN
            || number == EVENT_CHANNEL_OP && (operation == CLOSE || operation == RESET);
        if ends {
            continue;
        }
        let base = scratch.as_mut_ptr() as u64;
        let mut pointer = || match random.below(3) {
            0 => base + random.below(4) * 8,
            _ => argument(random),
        };
        let arguments = [operation, pointer(), pointer(), pointer(), pointer()];
        // SAFETY: addresses are of the scratch memory, with room behind for any argument, or of nothing that this
        // program has: numbers below a mebibyte or above all RAM that it uses.
        let result = unsafe { hypercall::raw(number, arguments) };
        accepted += u64::from((result as i64) >= 0);
    }
    say!("bad: {CALLS} hypercalls made, {accepted} accepted");
}

/// A small number, an address that leads nowhere, or any number above all RAM.
fn argument(random: &mut Random) -> u64 {
    match random.below(3) {
        0 => random.below(0x1_0000),
        1 => random.choose(&WILD),
        _ => random.draw() | 1 << 40,
    }
}
