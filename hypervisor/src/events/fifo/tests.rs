//! A model guest that takes events as the rules say, and one that breaks them.

use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const PORTS: u32 = 40;
const VCPUS: usize = 2;

#[repr(C, align(4096))]
struct Page([AtomicU32; 1024]);

fn page(value: u32) -> &'static Page {
    Box::leak(Box::new(Page(core::array::from_fn(|_| AtomicU32::new(value)))))
}

/// The guest's side.
struct Guest {
    words: &'static Page,
    blocks: [&'static Page; VCPUS],
    /// By virtual CPU and priority: where it is in the queue.
    heads: [[u32; QUEUES]; VCPUS],
}

impl Guest {
    fn new(fifo: &Fifo) -> Self {
        let guest = Self { words: page(0), blocks: [page(0), page(0)], heads: [[0; QUEUES]; VCPUS] };
        let address = |page: &'static Page| HostPhys::new(page as *const Page as u64);
        assert!(fifo.switch_on() && !fifo.switch_on());
        for (vcpu, block) in guest.blocks.iter().enumerate() {
            fifo.set_control(vcpu, address(block)).unwrap();
        }
        assert_eq!(fifo.add_page(address(guest.words)).unwrap().count(), 0);
        guest
    }

    fn word(&self, port: u32) -> &AtomicU32 {
        &self.words.0[port as usize]
    }

    /// Takes all events of a virtual CPU, by priority.
    fn take(&mut self, vcpu: usize, mut each: impl FnMut(u32)) {
        let ready_word = &self.blocks[vcpu].0[READY / 4];
        let mut ready = ready_word.swap(0, Ordering::AcqRel);
        while ready != 0 {
            let queue = ready.trailing_zeros() as usize;
            let mut port = self.heads[vcpu][queue];
            if port == 0 {
                port = self.blocks[vcpu].0[CONTROL_BLOCK_HEADS / 4 + queue].load(Ordering::Acquire);
            }
            let before = self.word(port).fetch_and(!(LINKED | LINK_MASK), Ordering::AcqRel);
            self.heads[vcpu][queue] = before & LINK_MASK;
            if before & LINK_MASK == 0 {
                ready &= !(1 << queue);
            }
            let now = self.word(port).load(Ordering::Acquire);
            if now & PENDING != 0 && now & MASKED == 0 {
                self.word(port).fetch_and(!PENDING, Ordering::AcqRel);
                each(port);
            }
            ready |= ready_word.swap(0, Ordering::AcqRel);
        }
    }

    /// Takes the mask off as the rules say. `true`: the hypervisor is to be asked to do the rest.
    fn unmask(&self, port: u32) -> bool {
        let word = self.word(port);
        loop {
            let now = word.load(Ordering::Acquire) & !BUSY;
            if word.compare_exchange(now, now & !MASKED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return word.load(Ordering::Acquire) & PENDING != 0;
            }
            std::hint::spin_loop();
        }
    }
}

#[test]
fn first_in_first_out_by_priority() {
    let fifo = Fifo::new();
    let mut guest = Guest::new(&fifo);
    assert!(fifo.raise(5, 0, 7), "the first of a queue is told");
    assert!(!fifo.raise(3, 0, 7) && !fifo.raise(9, 0, 7) && !fifo.raise(5, 0, 7));
    assert!(fifo.raise(30, 0, 15) && fifo.raise(31, 0, 0) && fifo.raise(32, 1, 7));
    let mut taken = Vec::new();
    guest.take(0, |port| taken.push(port));
    assert_eq!(taken, [31, 5, 3, 9, 30]);
    guest.take(1, |port| taken.push(port));
    assert_eq!(taken.last(), Some(&32));
    assert!(fifo.raise(9, 0, 7), "the tail itself, when it was taken");
    guest.take(0, |port| taken.push(port));
    assert_eq!(taken.last(), Some(&9));
}

#[test]
fn masks_and_early_events() {
    let fifo = Fifo::new();
    let mut guest = Guest::new(&fifo);
    guest.word(4).store(MASKED, Ordering::Relaxed);
    assert!(!fifo.raise(4, 0, 7) && fifo.is_pending(4));
    assert!(guest.unmask(4) && fifo.unmask(4, 0, 7));
    let mut taken = Vec::new();
    guest.take(0, |port| taken.push(port));
    assert_eq!((taken.as_slice(), fifo.is_pending(4)), (&[4][..], false));
    // The second page is not there yet.
    assert!(!fifo.raise(1500, 0, 7));
    let more = HostPhys::new(page(0) as *const Page as u64);
    assert!(fifo.add_page(more).unwrap().eq([1500]));
    assert!(fifo.has_room());
    for _ in 2..PAGES {
        assert_eq!(fifo.add_page(more).unwrap().count(), 0);
    }
    assert!(!fifo.has_room() && fifo.add_page(more).is_err());
    assert_eq!(fifo.frames().count(), PAGES + VCPUS);
    assert_eq!(fifo.reset().len(), PAGES + VCPUS);
    assert_eq!(fifo.reset().len(), 0, "no frame is handed out twice");
    fifo.forget();
    assert!(!fifo.is_on() && fifo.frames().count() == 0 && !fifo.raise(4, 0, 7));
}

#[test]
fn no_event_is_lost_by_any_number_of_senders() {
    const SENDERS: u64 = 3;
    const EVENTS: u64 = 60_000;
    let fifo: &'static Fifo = Box::leak(Box::new(Fifo::new()));
    let mut guest = Guest::new(fifo);
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..PORTS).map(|_| AtomicU64::new(0)).collect());
    let told: Arc<[AtomicBool; VCPUS]> = Arc::default();
    let senders: Vec<_> = (1..=SENDERS)
        .map(|seed| {
            let (sent, told) = (sent.clone(), told.clone());
            std::thread::spawn(move || {
                let mut dice = seed * 0x9e37_79b9_7f4a_7c15;
                for _ in 0..EVENTS {
                    dice ^= dice << 13;
                    dice ^= dice >> 7;
                    dice ^= dice << 17;
                    let port = dice as u32 % (PORTS - 1) + 1;
                    // Most ports stay where they are; some move between queues and virtual CPUs all the time.
                    let (vcpu, priority) =
                        if port < 8 { (dice >> 8 & 1, dice >> 16 & 3) } else { (u64::from(port & 1), 7) };
                    sent[port as usize].fetch_add(1, Ordering::SeqCst);
                    if fifo.raise(port, vcpu as usize, priority as u8) {
                        told[vcpu as usize].store(true, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    let mut seen = [0; PORTS as usize];
    let mut dice = 77u64;
    loop {
        let done = senders.iter().all(|sender| sender.is_finished());
        for vcpu in 0..VCPUS {
            if told[vcpu].swap(false, Ordering::SeqCst) {
                guest.take(vcpu, |port| seen[port as usize] = sent[port as usize].load(Ordering::SeqCst));
            }
        }
        // Now and then a port is masked for a while.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let port = 8 + (dice >> 33) as u32 % (PORTS - 8);
        guest.word(port).fetch_or(MASKED, Ordering::AcqRel);
        let vcpu = (port & 1) as usize;
        if guest.unmask(port) && fifo.unmask(port, vcpu, 7) {
            told[vcpu].store(true, Ordering::SeqCst);
        }
        if done && told.iter().all(|told| !told.load(Ordering::SeqCst)) {
            break;
        }
    }
    for port in 1..PORTS as usize {
        assert_eq!(seen[port], sent[port].load(Ordering::SeqCst), "port {port}");
    }
}

#[test]
fn a_guest_that_breaks_the_rules_hurts_itself_alone() {
    let fifo: &'static Fifo = Box::leak(Box::new(Fifo::new()));
    let guest = Guest::new(fifo);
    let stop = Arc::new(AtomicBool::new(false));
    let hostile = {
        let (stop, words, blocks) = (stop.clone(), guest.words, guest.blocks);
        std::thread::spawn(move || {
            let mut dice = 99u64;
            while !stop.load(Ordering::Relaxed) {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (word, value) = ((dice >> 40) as usize, (dice >> 8) as u32);
                words.0[word % PORTS as usize].store(value, Ordering::Relaxed);
                blocks[word % VCPUS].0[word % 20].store(value, Ordering::Relaxed);
            }
        })
    };
    for count in 0..200_000u32 {
        let port = count % PORTS;
        fifo.raise(port, (count / 7) as usize % VCPUS, (count % 31) as u8);
        fifo.unmask(port, count as usize % 3, 7);
        fifo.clear(port / 2);
    }
    stop.store(true, Ordering::Relaxed);
    hostile.join().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Raise(u32, usize, u8),
    Take(usize),
    Mask(u32),
    Unmask(u32, usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..PORTS;
    prop_oneof![
        4 => (port.clone(), 0..VCPUS, 0u8..4).prop_map(|(port, vcpu, priority)| Step::Raise(port, vcpu, priority)),
        2 => (0..VCPUS).prop_map(Step::Take),
        1 => port.clone().prop_map(Step::Mask),
        1 => (port, 0..VCPUS, 0u8..4).prop_map(|(port, vcpu, priority)| Step::Unmask(port, vcpu, priority)),
    ]
}

proptest! {
    #[test]
    fn what_is_pending_comes_and_nothing_else(steps in prop::collection::vec(step(), 0..200)) {
        let fifo = Fifo::new();
        let mut guest = Guest::new(&fifo);
        let mut pending = [false; PORTS as usize];
        let mut told = [false; VCPUS];
        for step in steps {
            match step {
                Step::Raise(port, vcpu, priority) => {
                    pending[port as usize] = true;
                    told[vcpu] |= fifo.raise(port, vcpu, priority);
                }
                Step::Take(vcpu) => {
                    if core::mem::take(&mut told[vcpu]) {
                        guest.take(vcpu, |port| assert!(core::mem::take(&mut pending[port as usize])));
                    }
                }
                Step::Mask(port) => {
                    guest.word(port).fetch_or(MASKED, Ordering::Relaxed);
                }
                Step::Unmask(port, vcpu, priority) => {
                    if guest.unmask(port) {
                        told[vcpu] |= fifo.unmask(port, vcpu, priority);
                    }
                }
            }
        }
        for port in 1..PORTS {
            if guest.unmask(port) {
                told[0] |= fifo.unmask(port, 0, 7);
            }
        }
        for (vcpu, told) in told.into_iter().enumerate() {
            if told {
                guest.take(vcpu, |port| assert!(core::mem::take(&mut pending[port as usize])));
            }
        }
        prop_assert_eq!(pending, [false; PORTS as usize]);
    }

    #[test]
    fn any_words_are_harmless(words in prop::collection::vec(any::<u32>(), PORTS as usize), steps in prop::collection::vec(step(), 0..50)) {
        let fifo = Fifo::new();
        let guest = Guest::new(&fifo);
        for (port, &value) in words.iter().enumerate() {
            guest.words.0[port].store(value, Ordering::Relaxed);
        }
        for step in steps {
            match step {
                Step::Raise(port, vcpu, priority) => { fifo.raise(port, vcpu, priority); }
                Step::Take(vcpu) => { fifo.raise(vcpu as u32, vcpu, 255); }
                Step::Mask(port) => fifo.clear(port),
                Step::Unmask(port, vcpu, priority) => { fifo.unmask(port, vcpu, priority); }
            }
        }
    }
}
