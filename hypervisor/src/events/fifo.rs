//! FIFO event channels (`event_channel.h`): sixteen queues of events for each virtual CPU, one a priority.
//!
//! Each port has a word in pages of the guest's, which says whether its event is pending, masked, and in a queue; if it
//! is, the word's lower bits name the port behind it. The guest takes from a queue's head, which it finds in a control
//! block of its own; the hypervisor appends, and keeps the tails ([`Queue`]). A guest that switches to this ABI never
//! goes back but by a reset.
//!
//! The guest's words are allegations: no port and no address is ever taken from them, loops over them are bounded, and
//! what a guest does to them it does to its own events. Several cores may send to one queue: a queue's word has a bit
//! that is set while one of them appends (docs/decisions/0017-fifo-events.md says why there is such a lock at all). A
//! port may be in a queue only by who holds the queue that it was in last, and so the tail of a queue is never a port
//! that meanwhile went to another.
//!
//! [`super`] decides when to come here, and tells the virtual CPU.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use abi::address::{HostPhys, PAGE_SIZE};
use abi::control::hypercall::MAX_VCPUS;
use abi::xen::errno::Errno;
use abi::xen::event_channel::fifo::{
    BUSY, CONTROL_BLOCK_HEADS, LINK_MASK, LINKED, MASKED, PENDING, QUEUES, READY,
};
use arrayvec::ArrayVec;

use crate::machine::Patience;
use crate::memory::physical::pointer;
use crate::ports::COUNT;

/// Words in a page.
const WORDS_A_PAGE: u32 = (PAGE_SIZE / 4) as u32;
/// Pages that a guest may give for words: as many as there are ports.
pub const PAGES: usize = (COUNT / WORDS_A_PAGE) as usize;
/// Frames of a guest's that may be in use: those, and a control block for each virtual CPU.
pub const FRAMES: usize = PAGES + MAX_VCPUS;
/// What a guest does to a word while an event is appended to it changes it a few times, by the rules.
const TRIES: u32 = 16;

/// One queue: its last port, if any, and [`Queue::HELD`] while a core appends.
#[derive(Debug)]
struct Queue(AtomicU32);

impl Queue {
    const HELD: u32 = 1 << 31;

    /// Waits until no other core appends, and lets `work` change the tail. A few dozen instructions.
    fn with<T>(&self, work: impl FnOnce(&mut u32) -> T) -> T {
        let mut patience = Patience::default();
        let mut tail = loop {
            let tail = self.0.load(Ordering::Relaxed);
            let held = tail | Self::HELD;
            if tail != held
                && self.0.compare_exchange_weak(tail, held, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                break tail;
            }
            patience.wait();
        };
        let result = work(&mut tail);
        self.0.store(tail, Ordering::Release);
        result
    }
}

/// One virtual CPU's part.
#[derive(Debug)]
struct Queues {
    /// Host-physical address of its control block; 0: it has none.
    control: AtomicU64,
    queues: [Queue; QUEUES],
}

/// A domain's FIFO events. All zeroes: it uses the 2-level ABI.
#[derive(Debug)]
#[repr(C)]
pub struct Fifo {
    /// 1: the domain has switched.
    on: AtomicU32,
    /// Host-physical addresses of the pages with the ports' words; 0 from the first on that is not there.
    pages: [AtomicU64; PAGES],
    vcpus: [Queues; MAX_VCPUS],
    /// By port: the queue that it was in last, and one more; 0: none.
    last: [AtomicU16; COUNT as usize],
    /// Ports, a bit each, whose event came before there was a word for it.
    early: [AtomicU64; COUNT as usize / 64],
}

/// What an attempt to link came to.
enum Attempt {
    /// Another core has changed where the port belongs.
    Again,
    /// It is in a queue.
    Linked,
    /// It is the first in its queue: the guest has to be told.
    First,
}

impl Fifo {
    /// Of a domain that uses the 2-level ABI.
    pub const fn new() -> Self {
        Self {
            on: AtomicU32::new(0),
            pages: [const { AtomicU64::new(0) }; PAGES],
            vcpus: [const {
                Queues { control: AtomicU64::new(0), queues: [const { Queue(AtomicU32::new(0)) }; QUEUES] }
            }; MAX_VCPUS],
            last: [const { AtomicU16::new(0) }; COUNT as usize],
            early: [const { AtomicU64::new(0) }; COUNT as usize / 64],
        }
    }

    /// Whether the domain has switched.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire) != 0
    }

    /// Switches. `false`: it was done before.
    pub fn switch_on(&self) -> bool {
        self.on.swap(1, Ordering::AcqRel) == 0
    }

    /// The frames of the guest's that are in use.
    pub fn frames(&self) -> impl Iterator<Item = HostPhys> {
        let places = self.pages.iter().chain(self.vcpus.iter().map(|vcpu| &vcpu.control));
        let frames = places.map(|place| place.load(Ordering::Acquire) & !(PAGE_SIZE - 1));
        frames.filter(|&frame| frame != 0).map(HostPhys::new)
    }

    /// The 2-level ABI again, and the frames of the guest's that were in use: each of them is told to one caller, however
    /// many reset at a time. The caller sees to it that nobody is still at them before they may go.
    pub fn reset(&self) -> ArrayVec<HostPhys, FRAMES> {
        self.on.store(0, Ordering::Release);
        let places = self.pages.iter().chain(self.vcpus.iter().map(|vcpu| &vcpu.control));
        let frames = places.map(|place| place.swap(0, Ordering::AcqRel) & !(PAGE_SIZE - 1));
        frames.filter(|&frame| frame != 0).map(HostPhys::new).collect()
    }

    /// Forgets all queues, when nobody is at them any more.
    pub fn forget(&self) {
        for queue in self.vcpus.iter().flat_map(|vcpu| &vcpu.queues) {
            queue.0.store(0, Ordering::Relaxed);
        }
        self.last.iter().for_each(|last| last.store(0, Ordering::Relaxed));
        self.early.iter().for_each(|early| early.store(0, Ordering::Release));
    }

    /// Sets a virtual CPU's control block. `EINVAL`: it has one.
    pub fn set_control(&self, vcpu: usize, address: HostPhys) -> Result<(), Errno> {
        let control = &self.vcpus.get(vcpu).ok_or(Errno::ENOENT)?.control;
        let set = control.compare_exchange(0, address.as_u64(), Ordering::AcqRel, Ordering::Relaxed);
        set.map(drop).map_err(|_| Errno::EINVAL)
    }

    /// Whether there is room for words of more ports.
    pub fn has_room(&self) -> bool {
        self.pages.iter().any(|page| page.load(Ordering::Relaxed) == 0)
    }

    /// Adds a page of words, and names the ports whose events waited for it. `ENOSPC`: there are as many as there can be.
    pub fn add_page(&self, frame: HostPhys) -> Result<impl Iterator<Item = u32>, Errno> {
        let add = |page: &AtomicU64| {
            page.compare_exchange(0, frame.as_u64(), Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        let slot = self.pages.iter().position(add).ok_or(Errno::ENOSPC)? as u32;
        let ports = slot * WORDS_A_PAGE..(slot + 1) * WORDS_A_PAGE;
        Ok(ports.filter(|&port| self.take_early(port)))
    }

    /// The port's event comes before there is a word for it, or the switch.
    pub fn note_early(&self, port: u32) {
        if let Some(bits) = self.early.get(port as usize / 64) {
            bits.fetch_or(1 << (port % 64), Ordering::SeqCst);
        }
    }

    fn take_early(&self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        self.early
            .get(port as usize / 64)
            .is_some_and(|bits| bits.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }

    /// The word of a port, where it has one.
    fn word(&self, port: u32) -> Option<&AtomicU32> {
        let page = self.pages.get((port / WORDS_A_PAGE) as usize)?.load(Ordering::SeqCst);
        (page != 0).then(|| word(page, (port % WORDS_A_PAGE * 4) as usize))
    }

    /// Makes a port pending, for this virtual CPU and with this priority. `true`: the virtual CPU has to be told.
    pub fn raise(&self, port: u32, vcpu: usize, priority: u8) -> bool {
        let word = match self.word(port) {
            Some(word) => word,
            None => {
                self.note_early(port);
                // Unless the page came just now, and he who added it did not see the note.
                match self.word(port) {
                    Some(word) if self.take_early(port) => word,
                    _ => return false,
                }
            }
        };
        // Who is in a queue is looked at when the guest has taken it out; who is masked, when it is unmasked.
        if word.fetch_or(PENDING, Ordering::AcqRel) & (MASKED | LINKED) != 0 {
            return false;
        }
        self.link(port, word, vcpu, priority)
    }

    /// Takes the mask off. `true`: the virtual CPU has to be told.
    pub fn unmask(&self, port: u32, vcpu: usize, priority: u8) -> bool {
        let Some(word) = self.word(port) else { return false };
        let before = word.fetch_and(!MASKED, Ordering::AcqRel);
        before & PENDING != 0 && before & LINKED == 0 && self.link(port, word, vcpu, priority)
    }

    /// Whether the port is pending.
    pub fn is_pending(&self, port: u32) -> bool {
        self.word(port).is_some_and(|word| word.load(Ordering::Acquire) & PENDING != 0)
    }

    /// The port is not pending any more. The guest takes it out of its queue itself.
    pub fn clear(&self, port: u32) {
        self.take_early(port);
        if let Some(word) = self.word(port) {
            word.fetch_and(!PENDING, Ordering::AcqRel);
        }
    }

    fn link(&self, port: u32, word: &AtomicU32, vcpu: usize, priority: u8) -> bool {
        let Some(queues) = self.vcpus.get(vcpu) else { return false };
        let control = queues.control.load(Ordering::Acquire);
        if control == 0 {
            // A guest that has none unmasks nothing there.
            return false;
        }
        let priority = usize::from(priority) % QUEUES;
        for _ in 0..TRIES {
            match self.attempt(port, word, vcpu * QUEUES + priority, control) {
                Attempt::Again => {}
                Attempt::Linked => return false,
                Attempt::First => {
                    let ready: &AtomicU32 = self::word(control, READY);
                    let bit = 1 << priority;
                    return ready.fetch_or(bit, Ordering::AcqRel) & bit == 0;
                }
            }
        }
        // So often the guest's other virtual CPUs have moved it meanwhile, by as many calls: it is theirs to find it.
        false
    }

    fn attempt(&self, port: u32, word: &AtomicU32, wanted: usize, control: u64) -> Attempt {
        let (Some(last), Some(queue)) = (self.last.get(port as usize), self.queue(wanted)) else {
            return Attempt::Linked;
        };
        let wanted = wanted as u16 + 1;
        let before = last.load(Ordering::Acquire);
        if before != wanted
            && let Err(attempt) = self.leave(port, word, last, before, wanted)
        {
            return attempt;
        }
        queue.with(|tail| {
            if last.load(Ordering::Acquire) != wanted {
                return Attempt::Again;
            }
            if word.load(Ordering::Acquire) & MASKED != 0
                || word.fetch_or(LINKED, Ordering::AcqRel) & LINKED != 0
            {
                return Attempt::Linked;
            }
            // Where the port itself is the tail it was taken out since: there is nothing else in the queue.
            let behind = *tail != 0 && *tail != port && self.append(*tail, port);
            *tail = port;
            if behind {
                return Attempt::Linked;
            }
            let head: &AtomicU32 =
                self::word(control, CONTROL_BLOCK_HEADS + (wanted as usize - 1) % QUEUES * 4);
            head.store(port, Ordering::Release);
            Attempt::First
        })
    }

    /// Lets a port belong to the queue `wanted`. It must not be the tail of the one it belonged to.
    fn leave(
        &self,
        port: u32,
        word: &AtomicU32,
        last: &AtomicU16,
        before: u16,
        wanted: u16,
    ) -> Result<(), Attempt> {
        let Some(queue) = usize::from(before).checked_sub(1).and_then(|index| self.queue(index)) else {
            let taken = last.compare_exchange(before, wanted, Ordering::AcqRel, Ordering::Relaxed);
            return taken.map(drop).map_err(|_| Attempt::Again);
        };
        queue.with(|tail| {
            if last.load(Ordering::Acquire) != before {
                return Err(Attempt::Again);
            }
            if word.load(Ordering::Acquire) & LINKED != 0 {
                return Err(Attempt::Linked);
            }
            if *tail == port {
                *tail = 0;
            }
            last.store(wanted, Ordering::Release);
            Ok(())
        })
    }

    fn queue(&self, index: usize) -> Option<&Queue> {
        self.vcpus.get(index / QUEUES)?.queues.get(index % QUEUES)
    }

    /// Links `port` behind `tail` where that is still in its queue. `false`: the queue is empty.
    fn append(&self, tail: u32, port: u32) -> bool {
        let Some(word) = self.word(tail) else { return false };
        let mut now = word.load(Ordering::Acquire);
        for attempt in 0..TRIES {
            if now & LINKED == 0 {
                if now & BUSY != 0 {
                    word.fetch_and(!BUSY, Ordering::AcqRel);
                }
                return false;
            }
            let linked = now & !(BUSY | LINK_MASK) | port;
            match word.compare_exchange(now, linked, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                // The guest is at it. By the rules it waits with unmasking while this bit is set.
                Err(_) if attempt == 0 => now = word.fetch_or(BUSY, Ordering::AcqRel) | BUSY,
                Err(other) => now = other,
            }
        }
        // A guest that changes the word so often breaks the rules, and loses what was behind it.
        word.fetch_and(!BUSY, Ordering::AcqRel);
        true
    }
}

impl Default for Fifo {
    fn default() -> Self {
        Self::new()
    }
}

/// A word of the guest's.
fn word(start: u64, offset: usize) -> &'static AtomicU32 {
    // SAFETY: `start` is a page of words or a control block: pinned memory of the domain's that stays so until no core
    // can be about to send to it any more (see `Core::recall_domain` and `super::reset`). Both are aligned, and offsets lie
    // within them. The guest changes the words while we do.
    unsafe { &*pointer::<u8>(HostPhys::new(start)).add(offset).cast() }
}

#[cfg(test)]
mod tests;
