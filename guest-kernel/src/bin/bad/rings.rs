//! Lies in shared memory: every word of every page that this guest shares may hold anything at any time.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::mesh::window;
use abi::xen::hvm::param;
use guest_kernel::mesh::Mesh;
use guest_kernel::platform::atoll::{console, hypercall};
use guest_kernel::programs::random::Random;
use guest_kernel::say;

/// Words in the two pages of a window.
const WINDOW_WORDS: usize = 1024;
/// Rounds of lies.
const ROUNDS: u64 = 300;
/// Words changed in one window in one round.
const WORDS_PER_ROUND: u64 = 64;
/// Ports that events are sent on, whether they are ours or not.
const PORTS: u32 = 64;

/// How long the console's keeper may take to read what was said.
const PATIENCE_TICKS: u64 = 100_000_000;

/// Scribbles over the channels with everybody, domain 0 included, and sends events to have them read.
pub fn lie_to_peers(mesh: &Mesh<'_>, random: &mut Random) {
    let slots = (0..mesh.slots()).filter(|&slot| slot != mesh.own_slot());
    for round in 0..ROUNDS {
        for slot in slots.clone() {
            // SAFETY: domain 0 has put two pages of words there for each slot but our own.
            let words = unsafe { &*(window(slot).as_u64() as *const [AtomicU64; WINDOW_WORDS]) };
            for _ in 0..WORDS_PER_ROUND {
                let word = &words[random.below(WINDOW_WORDS as u64) as usize];
                word.store(lie(random, round), Ordering::SeqCst);
            }
        }
        for port in 0..PORTS {
            // Most are refused.
            let _ = hypercall::send(port);
        }
    }
    say!("bad: {ROUNDS} rounds of lies told");
}

/// Numbers that might pass for a sequence number, an index or a kind of message, and some that never do.
fn lie(random: &mut Random, round: u64) -> u64 {
    match random.below(4) {
        0 => round,
        1 => random.below(128),
        2 => u64::MAX - random.below(64),
        _ => random.draw(),
    }
}

/// Scribbles over the console ring, indices first, so that its keeper reads lies.
pub fn lie_to_keeper(random: &mut Random) {
    let frame = hypercall::get_param(param::CONSOLE_PFN).unwrap_or(0);
    let port = hypercall::get_param(param::CONSOLE_EVTCHN).unwrap_or(0);
    if frame == 0 || port == 0 {
        return;
    }
    // What was said before is to be read before.
    console::drain(PATIENCE_TICKS);
    // SAFETY: the hypervisor named the page, and the kernel has mapped it; it is words to whoever wants them.
    let words = unsafe { &*((frame * 4096) as *const [AtomicU64; 512]) };
    for _ in 0..ROUNDS {
        // The indices lie behind both streams: 3072 bytes.
        for index in [384, 385, random.below(512) as usize] {
            words[index].store(random.draw(), Ordering::SeqCst);
        }
        let _ = hypercall::send(port as u32);
    }
}
