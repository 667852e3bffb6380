//! The token: one message that goes round the ring of the guests that take part, lap after lap.
//!
//! Who takes part is for the caller to say, as a set of slots with a bit each, its own not among them. The guest in the
//! lowest slot begins each lap and gives the token a number. One that comes back with another
//! number was held up somewhere while the lap had been given up for lost, and ends there. Everybody else passes on
//! whatever comes.

use abi::mesh::kind;
use io_rings::urpc::Message;

use crate::kernel::Kernel;
use crate::mesh::Mesh;
use crate::platform::Platform;

/// After so long without the token it is held to be lost: a guest died with it, or is paused.
const LOST_MILLISECONDS: u64 = 500;

/// What one guest knows of the token.
pub struct Token {
    /// The lap last begun or seen.
    lap: u64,
    /// The current token's, where we began the lap; 0: none.
    number: u64,
    /// When it is to be held lost.
    deadline: u64,
    fresh: bool,
    first_lap: Option<u64>,
}

impl Token {
    pub(super) const fn new() -> Self {
        Self { lap: 0, number: 0, deadline: 0, fresh: true, first_lap: None }
    }

    /// Begins a lap if there is none; the tick when to look again, for the one who began it.
    pub(super) fn step<P: Platform>(&mut self, kernel: &mut Kernel<P>, others: u32) -> Option<u64> {
        if others == 0 || !kernel.mesh.as_ref().is_some_and(|mesh| is_lowest(mesh, others)) {
            self.number = 0;
            return None;
        }
        if self.number == 0 || kernel.platform.now() >= self.deadline {
            self.number = kernel.platform.now() | 1;
            self.begin(kernel, others);
        }
        Some(self.deadline)
    }

    fn begin<P: Platform>(&mut self, kernel: &mut Kernel<P>, others: u32) {
        self.lap = self.lap.wrapping_add(1);
        self.deadline = kernel.after(LOST_MILLISECONDS);
        pass(kernel, others, [kind::TOKEN, self.lap, 1, self.number, 0, 0, 0]);
    }

    /// The token came.
    pub(super) fn message<P: Platform>(&mut self, kernel: &mut Kernel<P>, others: u32, message: &Message) {
        let [_, lap, hops, number, ..] = *message;
        if !kernel.mesh.as_ref().is_some_and(|mesh| is_lowest(mesh, others)) {
            self.lap = lap;
            pass(kernel, others, [kind::TOKEN, lap, hops.saturating_add(1), number, 0, 0, 0]);
        } else if number == self.number && self.number != 0 {
            if core::mem::take(&mut self.fresh) {
                self.first_lap = Some(hops);
            }
            self.begin(kernel, others);
        }
    }

    pub(super) fn membership_changed(&mut self) {
        self.fresh = true;
        self.first_lap = None;
    }

    pub(super) fn take_lap(&mut self) -> Option<u64> {
        self.first_lap.take()
    }
}

fn is_lowest(mesh: &Mesh<'_>, others: u32) -> bool {
    others.trailing_zeros() as usize > mesh.own_slot()
}

/// To the next slot above ours, or round to the lowest.
fn pass<P: Platform>(kernel: &mut Kernel<P>, others: u32, message: Message) {
    let Some(mesh) = &mut kernel.mesh else { return };
    let above = others & u32::MAX.checked_shl(mesh.own_slot() as u32).unwrap_or(0);
    let next = if above != 0 { above } else { others };
    // Should it not go, the one who began the lap begins another.
    let _ = mesh.send(next.trailing_zeros() as usize, &message);
}
