//! Good manners: a program that does nothing else still answers whoever asks.

use abi::mesh::kind;
use io_rings::urpc::Message;

use crate::kernel::{Kernel, Program};
use crate::platform::Platform;

/// Answers what every program answers: a peer's `PING`, and whatever is about measuring; true if `message` was of that
/// kind.
pub fn manners<P: Platform>(kernel: &mut Kernel<P>, slot: usize, message: &Message) -> bool {
    message[0] < kind::MONITOR && (pong(kernel, slot, message) || kernel.probed(slot, message))
}

/// Answers a `PING` with its `PONG`; true if `message` was one.
pub fn pong<P: Platform>(kernel: &mut Kernel<P>, slot: usize, message: &Message) -> bool {
    let [kind::PING, sequence, ..] = *message else { return false };
    // Where even the backlog is full the peer asks without reading answers, and misses one.
    let _ = kernel.send(slot, &[kind::PONG, sequence, 0, 0, 0, 0, 0]);
    true
}

/// What a program is that has nothing more to do: a guest that answers.
pub struct Ordinary;

impl<P: Platform> Program<P> for Ordinary {
    fn message(&mut self, kernel: &mut Kernel<P>, slot: usize, message: &Message) {
        pong(kernel, slot, message);
    }
}
