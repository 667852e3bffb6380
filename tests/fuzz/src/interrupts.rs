//! Interrupt controllers that send each other messages: three processors' local APICs and the I/O APIC.

use hypervisor::devices::io_apic::{IoApic, PINS};
use hypervisor::devices::local_apic::{self, Effect, LocalApic};
use hypervisor::devices::message::{Delivery, Message};

use crate::step::steps;

const PROCESSORS: usize = 3;

struct Board {
    locals: [LocalApic; PROCESSORS],
    io: IoApic,
    /// Vectors that each processor serves, the latest last.
    serving: [Vec<u8>; PROCESSORS],
}

impl Board {
    fn new() -> Self {
        let locals = std::array::from_fn(|id| LocalApic::new(id as u32, id == 0));
        Self { locals, io: IoApic::new(PROCESSORS as u8), serving: Default::default() }
    }

    /// Has a message reach whom it names. `from`: the local APIC that it came from, if it did.
    fn deliver(&mut self, message: Message, from: Option<usize>) {
        let Message { to, delivery, is_level } = message;
        for (index, local) in self.locals.iter_mut().enumerate() {
            if !local.address().is_named_by(to, from == Some(index)) {
                continue;
            }
            match delivery {
                Delivery::Fixed(vector) => local.request(vector, is_level),
                Delivery::LowestPriority(vector) => return local.request(vector, is_level),
                Delivery::Init => {
                    local.init();
                    self.serving[index].clear();
                }
                Delivery::Smi | Delivery::Nmi | Delivery::StartUp(_) | Delivery::External => {}
            }
        }
    }

    /// What follows from a write to a local APIC.
    fn follow(&mut self, effect: Effect, index: usize) {
        match effect {
            Effect::None | Effect::EndOfEdge | Effect::Addressed => {}
            Effect::Send(message) => self.deliver(message, Some(index)),
            Effect::EndOfLevel(vector) => {
                for message in self.io.end(vector) {
                    self.deliver(message, None);
                }
            }
        }
    }

    /// The processor takes the interrupt that is next, if there is one.
    fn take(&mut self, index: usize) {
        let (local, serving) = (&mut self.locals[index], &mut self.serving[index]);
        let Some(vector) = local.pending() else { return };
        assert!(vector >= 16 && serving.iter().all(|served| served >> 4 < vector >> 4), "classes nest");
        local.accept(vector);
        serving.push(vector);
    }

    /// The processor ends what it serves.
    fn end(&mut self, index: usize, now: u64) {
        const EOI: u32 = 0xb;
        let local = &mut self.locals[index];
        let effect = if local.is_x2apic() {
            local.write_msr(EOI, 0, now).expect("a write of 0 is no fault")
        } else {
            local.write_page(EOI << 4, 0, now)
        };
        let ended = if local.is_on() { self.serving[index].pop() } else { None };
        if let Effect::EndOfLevel(vector) = effect {
            assert_eq!(ended, Some(vector), "the latest ends first");
        }
        self.follow(effect, index);
    }
}

/// Any accesses by any of the processors, at any of the controllers, and interrupts that are taken and ended.
pub fn interrupts(bytes: &[u8]) {
    let mut board = Board::new();
    for (step, now) in steps(bytes) {
        let index = usize::from(step.what >> 4) % PROCESSORS;
        let local = &mut board.locals[index];
        match step.what & 7 {
            0 => {
                // An end of interrupt has a step of its own.
                let offset = u32::from(step.place) & 0xff0;
                if offset != 0xb0 {
                    let effect = local.write_page(offset, step.value, now);
                    board.follow(effect, index);
                }
            }
            1 => {
                let number = u32::from(step.place) & 0x3f;
                // The upper half of a command says whom it is for.
                let value = u64::from(step.place >> 6) << 32 | u64::from(step.value);
                if number != 0xb
                    && let Ok(effect) = local.write_msr(number, value, now)
                {
                    board.follow(effect, index);
                }
            }
            2 => {
                if local.set_base(local_apic::ADDRESS | u64::from(step.value) & 0xd00).is_ok()
                    && !local.is_on()
                {
                    board.serving[index].clear();
                }
            }
            3 => {
                board.io.write(0, (step.place % 0x44).into());
                for message in board.io.write(0x10, step.value) {
                    board.deliver(message, None);
                }
            }
            4 => {
                let message = board.io.set(usize::from(step.place) % PINS, step.value & 1 != 0);
                message.into_iter().for_each(|message| board.deliver(message, None));
            }
            5 => board.take(index),
            6 => board.end(index, now),
            _ => local.advance(now),
        }
    }
    settle(&mut board);
}

/// With all pins masked and each interrupt taken and ended, nothing is left to serve.
fn settle(board: &mut Board) {
    /// As many as there are vectors, and those that are being served.
    const MOST: usize = 256 + 16;
    const MASKED: u32 = 1 << 16;
    for pin in 0..PINS as u32 {
        board.io.write(0, 0x10 + 2 * pin);
        board.io.write(0x10, MASKED);
    }
    for index in 0..PROCESSORS {
        let mut taken = 0;
        while board.locals[index].pending().is_some() || !board.serving[index].is_empty() {
            taken += 1;
            assert!(taken < MOST, "it never ends");
            board.take(index);
            board.end(index, u64::MAX >> 1);
        }
    }
}
