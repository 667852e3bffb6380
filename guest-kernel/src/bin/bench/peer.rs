//! The other side: answers, awake or asleep as it is told, and says how long a wake-up took it.

use abi::mesh::kind;
use abi::xen::sched::reason;
use guest_kernel::kernel::{Kernel, Pace, Program, Step};
use guest_kernel::platform::atoll::{Atoll, cpu, upcall};
use guest_kernel::programs::answer;
use io_rings::urpc::Message;

/// To the peer: poll from now on. Answered with the same.
pub const POLL: u64 = kind::PROGRAM;
/// To the peer: sleep from now on. Answered with the same.
pub const SLEEP: u64 = kind::PROGRAM + 1;
/// To the peer: read this, and say nothing.
pub const SILENT: u64 = kind::PROGRAM + 2;
/// To the peer: wake up. Answered with the same and, in word 1, ticks from the upcall handler's first instruction to
/// the message in hand; 0 where no upcall came.
pub const WAKE: u64 = kind::PROGRAM + 3;
/// To the peer: power off. Not answered.
pub const QUIT: u64 = kind::PROGRAM + 4;

/// The peer's state.
#[derive(Default)]
pub struct Peer {
    /// Upcalls that came before the last message.
    upcalls: u64,
    quit: bool,
}

impl Program<Atoll> for Peer {
    fn step(&mut self, _: &mut Kernel<Atoll>) -> Step {
        if self.quit { Step::Stop(reason::POWEROFF) } else { Step::Idle }
    }

    fn message(&mut self, kernel: &mut Kernel<Atoll>, slot: usize, message: &Message) {
        let in_hand = cpu::tsc();
        let (began, upcalls) = upcall::last();
        let woken = core::mem::replace(&mut self.upcalls, upcalls) != upcalls;
        let ticks = match message[0] {
            POLL => {
                kernel.pace = Pace::Poll;
                0
            }
            SLEEP => {
                kernel.pace = Pace::Sleep(0);
                0
            }
            WAKE if woken => in_hand.wrapping_sub(began),
            WAKE => 0,
            QUIT => {
                self.quit = true;
                return;
            }
            SILENT => return,
            _ => {
                answer::pong(kernel, slot, message);
                return;
            }
        };
        // The channel has room: the other side waits for this answer.
        let _ = kernel.send(slot, &[message[0], ticks, 0, 0, 0, 0, 0]);
    }
}
