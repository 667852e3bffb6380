//! The mesh's own workload: everybody asks everybody, all the time, and counts what does not come back in order.

use alloc::vec;
use alloc::vec::Vec;

use abi::mesh::{MAX_SLOTS, kind};
use io_rings::urpc::Message;

use super::token::Token;
use crate::kernel::{Kernel, Step};
use crate::platform::Platform;

/// Questions to one peer that may be without answer at a time: well below a channel's lines, so that two honest peers
/// never wait for room.
pub const WINDOW: u64 = 8;

/// How far the conversation with one peer is. A channel keeps order, so numbers come one by one.
#[derive(Clone, Copy, Default)]
struct Conversation {
    asked: u64,
    answered: u64,
    /// The number of the peer's next question.
    expected: u64,
}

/// The workload's state.
pub struct Exchange {
    conversations: Vec<Conversation>,
    token: Token,
    /// The slot to begin with next, so that all get their turn.
    first: usize,
}

impl Exchange {
    /// Nobody has been asked anything.
    pub fn new() -> Self {
        Self { conversations: vec![Conversation::default(); MAX_SLOTS], token: Token::new(), first: 0 }
    }

    /// Asks each peer that has room for a question.
    pub fn step<P: Platform>(&mut self, kernel: &mut Kernel<P>) -> Step {
        let Some(mesh) = &mut kernel.mesh else { return Step::Idle };
        let slots = mesh.slots();
        let mut asked = false;
        for offset in 0..slots {
            let slot = (self.first + offset) % slots;
            let Some(conversation) = self.conversations.get_mut(slot) else { continue };
            let waiting = conversation.asked - conversation.answered;
            if waiting >= WINDOW || slot == crate::mesh::CONTROL_SLOT || !mesh.is_live(slot) {
                continue;
            }
            if mesh.send(slot, &[kind::PING, conversation.asked, 0, 0, 0, 0, 0]).is_ok() {
                conversation.asked += 1;
                asked = true;
            }
        }
        self.first = (self.first + 1) % slots.max(1);
        let next_look = self.token.step(kernel);
        match (asked, next_look) {
            (true, _) => Step::Busy,
            (false, Some(tick)) => Step::IdleUntil(tick),
            (false, None) => Step::Idle,
        }
    }

    /// Answers a question, checks an answer's number, passes the token on.
    pub fn message<P: Platform>(&mut self, kernel: &mut Kernel<P>, slot: usize, message: &Message) {
        let Some(conversation) = self.conversations.get_mut(slot) else { return };
        let in_order = match message[0] {
            kind::PING => {
                let in_order = message[1] == conversation.expected;
                conversation.expected = message[1].wrapping_add(1);
                super::answer::pong(kernel, slot, message);
                in_order
            }
            kind::PONG => {
                let in_order =
                    message[1] == conversation.answered && conversation.answered < conversation.asked;
                // What came out of order opens no room for more: a peer that lies is asked no further.
                conversation.answered += u64::from(in_order);
                in_order
            }
            kind::TOKEN => {
                self.token.message(kernel, message);
                true
            }
            _ => true,
        };
        if !in_order && let Some(mesh) = &mut kernel.mesh {
            mesh.note_lost(slot);
        }
    }

    /// A slot has a new life, or none.
    pub fn peer(&mut self, slot: usize) {
        if let Some(conversation) = self.conversations.get_mut(slot) {
            *conversation = Conversation::default();
        }
        self.token.membership_changed();
    }

    /// Hops of the first lap since membership changed, once per change, when it is complete.
    pub fn take_lap(&mut self) -> Option<u64> {
        self.token.take_lap()
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Pace, Program};
    use crate::mesh::fixture::gather;
    use crate::platform::fake::Fake;

    #[derive(Default)]
    struct Member {
        exchange: Exchange,
        laps: u64,
    }

    impl Program<Fake> for Member {
        fn step(&mut self, kernel: &mut Kernel<Fake>) -> Step {
            self.laps += u64::from(self.exchange.take_lap().is_some());
            self.exchange.step(kernel)
        }

        fn message(&mut self, kernel: &mut Kernel<Fake>, slot: usize, message: &Message) {
            self.exchange.message(kernel, slot, message);
        }

        fn peer(&mut self, _: &mut Kernel<Fake>, slot: usize, _: bool) {
            self.exchange.peer(slot);
        }
    }

    fn machine(guests: usize) -> Vec<(Kernel<Fake>, Member)> {
        gather(guests)
            .into_iter()
            .map(|(platform, mesh)| (Kernel::new(platform, Some(mesh), Pace::Sleep(0)), Member::default()))
            .collect()
    }

    #[test]
    fn three_guests_lose_nothing_and_the_token_goes_round() {
        let mut machine = machine(3);
        for _ in 0..1000 {
            for (kernel, member) in &mut machine {
                kernel.round(member);
            }
        }
        for (kernel, _) in &machine {
            let counts = kernel.mesh.as_ref().unwrap().counts();
            assert!(counts.received > 4_000, "{counts:?}");
            assert_eq!((counts.lost, counts.liars), (0, 0));
        }
        assert_eq!(machine[0].1.laps, 1, "told once per change of membership");
    }

    #[test]
    fn a_guest_that_stands_still_stops_nobody_and_loses_nothing() {
        let mut machine = machine(3);
        for round in 0..3000 {
            for (index, (kernel, member)) in machine.iter_mut().enumerate() {
                if index != 1 || !(1000..2000).contains(&round) {
                    kernel.round(member);
                }
            }
        }
        for (kernel, _) in &machine {
            let counts = kernel.mesh.as_ref().unwrap().counts();
            assert!(counts.received > 10_000, "{counts:?}");
            assert_eq!((counts.lost, counts.liars), (0, 0));
        }
    }

    #[test]
    fn a_number_out_of_order_is_counted() {
        let mut machine = machine(2);
        let (kernel, member) = &mut machine[0];
        member.exchange.message(kernel, 2, &[kind::PING, 0, 0, 0, 0, 0, 0]);
        member.exchange.message(kernel, 2, &[kind::PING, 2, 0, 0, 0, 0, 0]);
        member.exchange.message(kernel, 2, &[kind::PONG, 0, 0, 0, 0, 0, 0]);
        member.exchange.message(kernel, 99, &[kind::PONG, 0, 0, 0, 0, 0, 0]);
        assert_eq!(kernel.mesh.as_ref().unwrap().counts().lost, 2);
    }
}
