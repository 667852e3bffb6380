//! Rows with a peer: what it costs to send to one that looks by itself, and to wake one that sleeps.

use abi::mesh::kind;
use guest_kernel::kernel::{Kernel, Program};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu};
use guest_kernel::programs::measure::{Row, SAMPLES};
use guest_kernel::say;
use io_rings::urpc::Message;

use crate::peer::{POLL, QUIT, SILENT, SLEEP, WAKE};
use crate::{BenchKernel, phase, phase_ticks, print, rest, rest_ticks};

/// How long to wait for the peer to be there, and then for each answer.
const PATIENCE_MILLISECONDS: u64 = 10_000;
/// Messages in a row to a peer that polls: few enough that the channel always has room.
const BATCH: u64 = 50;
/// Conversations in a row for the time there and back.
const ROUND_TRIPS: u64 = 10;
/// An answer that takes longer comes from a peer that runs in turn with us: the machine below has too few processors.
const BESIDE_US_TICKS: u64 = 500_000;
/// From the moment the peer asks for an event until it has surely halted.
const FALLING_ASLEEP_TICKS: u64 = 2_000;

/// What the last rounds brought.
#[derive(Default)]
struct Inbox {
    last: Option<Message>,
}

impl Program<Atoll> for Inbox {
    fn message(&mut self, _: &mut Kernel<Atoll>, _: usize, message: &Message) {
        self.last = Some(*message);
    }
}

/// The conversation with the peer; `None` anywhere below means that it stopped answering.
struct Pair<'a> {
    kernel: &'a mut BenchKernel,
    slot: usize,
    inbox: Inbox,
    empty: u64,
}

/// Measures and prints all of them, then tells the peer to power off.
pub fn measure(kernel: &mut BenchKernel, empty: u64) {
    let Some(slot) = find_peer(kernel) else {
        say!("bench: no peer came: the rows with one are left out");
        return;
    };
    let mut pair = Pair { kernel, slot, inbox: Inbox::default(), empty };
    if pair.measure().is_none() {
        say!("bench: the peer stopped answering");
    }
    pair.tell(QUIT);
}

/// Measures and prints what it costs to tell another guest of a message, in two rows under this name: the sender's part, and
/// over a phase the exits of both. The peer then powers off.
pub fn notify(kernel: &mut BenchKernel, empty: u64, name: &'static str, pauses: [u64; 2]) {
    let Some(slot) = find_peer(kernel) else { return };
    let mut pair = Pair { kernel, slot, inbox: Inbox::default(), empty };
    if pair.notify(name, pauses).is_none() {
        say!("bench: the peer stopped answering");
    }
    pair.tell(QUIT);
}

fn find_peer(kernel: &mut BenchKernel) -> Option<usize> {
    let give_up = kernel.after(PATIENCE_MILLISECONDS);
    let mut inbox = Inbox::default();
    while kernel.platform.now() < give_up {
        if let Some(slot) = kernel.mesh.as_ref().and_then(|mesh| mesh.live().next()) {
            return Some(slot);
        }
        kernel.round(&mut inbox);
    }
    None
}

impl Pair<'_> {
    fn measure(&mut self) -> Option<()> {
        self.ask(POLL)?;
        let row = self.polling()?;
        print(row);
        if self.runs_beside_us()? {
            let row = self.one_way()?;
            print(row);
        } else {
            say!("bench: the peer runs in turn with us, not beside us: message_one_way is left out");
        }
        let pause = [rest_ticks(&self.kernel.platform); 2];
        phase("steady_exits_polling", pause, || self.exchange());
        self.ask(SLEEP)?;
        let (sender, receiver) = self.waking("event_wake_sender")?;
        print(sender);
        print(receiver);
        phase("event_wake_exits", pause, || self.wake_again_and_again());
        Some(())
    }

    fn notify(&mut self, name: &'static str, pauses: [u64; 2]) -> Option<()> {
        self.ask(SLEEP)?;
        let (sender, _) = self.waking(name)?;
        print(sender);
        crate::modes::announce(name, SAMPLES as u64);
        phase(name, pauses, || self.wake_again_and_again());
        Some(())
    }

    /// A thousand times: the peer sleeps, is woken, and answers. Each costs us one exit, the hypercall.
    fn wake_again_and_again(&mut self) {
        for _ in 0..SAMPLES {
            if self.wait_until_it_sleeps().is_none() {
                return;
            }
            self.tell(WAKE);
            if self.wait_for(WAKE).is_none() {
                return;
            }
        }
    }

    /// Sender's cost of a message to a peer that polls: push, and the look that finds no event is needed.
    fn polling(&mut self) -> Option<Row> {
        let mut row = Row::new("event_polling");
        while !row.is_complete() {
            // An answer says that everything before it was read.
            self.ask(POLL)?;
            for _ in 0..BATCH {
                let before = cpu::tsc();
                self.tell(SILENT);
                let after = cpu::tsc();
                row.add(after.wrapping_sub(before).saturating_sub(self.empty), 1);
            }
        }
        Some(row)
    }

    /// Whether both of us have a processor to ourselves: the best of a few answers says.
    fn runs_beside_us(&mut self) -> Option<bool> {
        for _ in 0..5 {
            let before = cpu::tsc();
            self.ask(POLL)?;
            if cpu::tsc().wrapping_sub(before) < BESIDE_US_TICKS {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Half of there and back, both sides polling.
    fn one_way(&mut self) -> Option<Row> {
        let mut row = Row::new("message_one_way");
        while !row.is_complete() {
            let before = cpu::tsc();
            for _ in 0..ROUND_TRIPS {
                self.ask_for(kind::PING, kind::PONG)?;
            }
            let after = cpu::tsc();
            row.add(after.wrapping_sub(before).saturating_sub(self.empty), 2 * ROUND_TRIPS);
        }
        Some(row)
    }

    /// Messages to and fro for the length of a phase.
    fn exchange(&mut self) {
        let start = cpu::tsc();
        let ticks = phase_ticks(&self.kernel.platform);
        while cpu::tsc().wrapping_sub(start) < ticks {
            if self.ask_for(kind::PING, kind::PONG).is_none() {
                return;
            }
        }
    }

    /// Both sides of waking a peer: the sender's push, look and hypercall; the receiver's way from its upcall handler
    /// to the message.
    fn waking(&mut self, sender: &'static str) -> Option<(Row, Row)> {
        let (mut sender, mut receiver) = (Row::new(sender), Row::new("event_wake_receiver"));
        while !sender.is_complete() || !receiver.is_complete() {
            self.wait_until_it_sleeps()?;
            let before = cpu::tsc();
            self.tell(WAKE);
            let after = cpu::tsc();
            sender.add(after.wrapping_sub(before).saturating_sub(self.empty), 1);
            let answer = self.wait_for(WAKE)?;
            if answer[1] != 0 {
                receiver.add(answer[1], 1);
            }
        }
        Some((sender, receiver))
    }

    fn wait_until_it_sleeps(&mut self) -> Option<()> {
        let give_up = self.kernel.after(PATIENCE_MILLISECONDS);
        while self.kernel.platform.now() < give_up {
            if self.kernel.mesh.as_mut()?.peer_sleeps(self.slot) {
                rest(FALLING_ASLEEP_TICKS);
                return Some(());
            }
            cpu::interrupt_window();
            core::hint::spin_loop();
        }
        None
    }

    /// Sends a message and wakes the peer if it sleeps.
    #[inline]
    fn tell(&mut self, what: u64) {
        if let Some(mesh) = &mut self.kernel.mesh {
            // Should the peer be gone, the next wait for an answer says so.
            let _ = mesh.send(self.slot, &[what, 0, 0, 0, 0, 0, 0]);
            mesh.flush(&self.kernel.platform);
        }
    }

    fn ask(&mut self, what: u64) -> Option<Message> {
        self.ask_for(what, what)
    }

    fn ask_for(&mut self, what: u64, answer: u64) -> Option<Message> {
        self.tell(what);
        self.wait_for(answer)
    }

    fn wait_for(&mut self, answer: u64) -> Option<Message> {
        let give_up = self.kernel.after(PATIENCE_MILLISECONDS);
        while self.kernel.platform.now() < give_up {
            self.kernel.round(&mut self.inbox);
            if let Some(message) = self.inbox.last.take_if(|message| message[0] == answer) {
                return Some(message);
            }
        }
        None
    }
}
