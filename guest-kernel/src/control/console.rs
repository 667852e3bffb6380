//! A guest's console, seen from its keeper: its ring is emptied a bounded piece at a time, so a guest that prints
//! without end waits for us and not we for it; what it prints is kept, and its lines go to the machine's log.

use alloc::collections::VecDeque;

use abi::control::wire::Refusal;
use abi::xen::event_channel::Port;
use io_rings::bytes::{ConsolePage, Reader, Writer};

use super::hypervisor::Hypervisor;
use super::refusal::refuse;
use super::tail::{Lines, Tail};

/// Bytes taken from one guest in one turn.
pub const PIECE: usize = 1024;
/// Keys that may wait for a guest that does not read.
const MAX_INPUT: usize = 4096;

/// The keeper's end.
pub struct Console {
    printed: Reader<'static, 2048>,
    keys: Writer<'static, 1024>,
    port: Port,
    tail: Tail,
    /// Where in the tail this guest's own begins; before it is what it printed before it was restarted.
    start: u64,
    lines: Lines,
    input: VecDeque<u8>,
    lie_told: bool,
}

impl Console {
    /// The keeper of a fresh console. A guest whose indices lie later on is neither read nor typed to any more.
    pub fn new(page: &'static ConsolePage, port: Port) -> Self {
        let (printed, keys) = page.back();
        Self {
            printed,
            keys,
            port,
            tail: Tail::default(),
            start: 0,
            lines: Lines::default(),
            input: VecDeque::new(),
            lie_told: false,
        }
    }

    /// Goes on after what an earlier life of this guest has printed. Nothing was taken from this one yet.
    pub fn go_on_from(&mut self, old: Self) {
        self.tail = old.tail;
        self.start = self.tail.end();
    }

    /// Takes a piece of what was printed, and gives each line it completes to `each`. How many bytes it was.
    pub fn take<H: Hypervisor>(&mut self, hypervisor: &mut H, mut each: impl FnMut(&mut H, &str)) -> usize {
        let mut piece = [0; PIECE];
        let count = self.printed.read(&mut piece);
        let piece = &piece[..count];
        self.tail.push(piece);
        self.lines.push(piece, |line| each(hypervisor, line));
        if count == PIECE {
            // Half a ring is free again, and the guest may be waiting for it. Had it less to say it had room.
            hypervisor.send(self.port);
        }
        count
    }

    /// Takes the last words of a guest that runs no more.
    pub fn finish<H: Hypervisor>(&mut self, hypervisor: &mut H, mut each: impl FnMut(&mut H, &str)) {
        let mut piece = [0; PIECE];
        // The ring holds two pieces, and nobody fills it any more.
        for _ in 0..2 {
            let count = self.printed.read(&mut piece);
            self.tail.push(&piece[..count]);
            self.lines.push(&piece[..count], |line| each(hypervisor, line));
        }
        self.lines.finish(|line| each(hypervisor, line));
    }

    /// Types: all of it or nothing.
    pub fn type_in<H: Hypervisor>(&mut self, hypervisor: &mut H, keys: &[u8]) -> Result<(), Refusal> {
        if keys.len() > MAX_INPUT - self.input.len() {
            return Err(refuse(
                "the guest does not read its console, and its input is full",
                "wait until it does, or type less at once",
            ));
        }
        self.input.extend(keys);
        self.deliver(hypervisor);
        Ok(())
    }

    /// Moves on what was typed. True: some still waits for the guest to read.
    pub fn deliver<H: Hypervisor>(&mut self, hypervisor: &mut H) -> bool {
        if self.input.is_empty() {
            return false;
        }
        let moved = self.keys.write(self.input.make_contiguous());
        if moved > 0 {
            self.input.drain(..moved.min(self.input.len()));
            hypervisor.send(self.port);
        }
        !self.input.is_empty()
    }

    /// Whether the guest has broken the rules of its rings; true once.
    pub fn caught_lying(&mut self) -> bool {
        let lies = self.printed.broken() || self.keys.broken();
        lies && !core::mem::replace(&mut self.lie_told, true)
    }

    /// What was printed.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Where in it this life of the guest begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Our port.
    pub fn port(&self) -> Port {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn console(fake: &mut Fake) -> (Console, &'static ConsolePage) {
        let page: &'static ConsolePage = Box::leak(Box::new(ConsolePage::new()));
        fake.domain_create(1 << 1, 1, 0).unwrap();
        let theirs = fake.alloc_unbound(1, 0).unwrap();
        (Console::new(page, fake.bind_interdomain(1, theirs).unwrap()), page)
    }

    #[test]
    fn a_chatterbox_is_taken_in_pieces_and_woken_for_more() {
        let mut fake = Fake::new(2);
        let (mut console, page) = console(&mut fake);
        let mut screen = page.guest().1;
        let mut lines = Vec::new();
        let mut printed = 0;
        for _ in 0..10 {
            printed += screen.write(&[b"chatter\n"[..].as_ref(); 400].concat());
            assert_eq!(console.take(&mut fake, |_, line| lines.push(String::from(line))), PIECE);
        }
        assert_eq!(fake.sent.len(), 10);
        console.finish(&mut fake, |_, line| lines.push(line.into()));
        assert_eq!(lines.len(), printed / 8);
        assert_eq!(console.tail().end(), printed as u64);
        assert!(lines.iter().all(|line| line == "chatter"));
    }

    #[test]
    fn keys_wait_in_order_and_not_for_ever() {
        let mut fake = Fake::new(2);
        let (mut console, page) = console(&mut fake);
        let mut keys = page.guest().0;
        console.type_in(&mut fake, &[1; 1024]).unwrap();
        console.type_in(&mut fake, &[2; MAX_INPUT]).unwrap();
        assert!(console.type_in(&mut fake, &[3]).unwrap_err().what.contains("does not read"));
        let mut read = [0; 1024];
        for expected in [1, 2, 2, 2, 2] {
            assert_eq!(keys.read(&mut read), 1024);
            assert_eq!(read, [expected; 1024]);
            console.deliver(&mut fake);
        }
        assert_eq!(keys.read(&mut read), 0);
        assert_eq!(fake.sent.len(), 5, "an event for each piece that moved");
    }
}
