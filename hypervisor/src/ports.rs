//! A domain's event-channel ports: what each one is bound to. Pure; [`crate::events`] delivers.
//!
//! A port is one atomic word, so that any core may look at it at any time and change it by compare-exchange: no lock, no
//! message, and no core that a change would have to wait for. What takes two steps (a bind, a close) is arranged so that
//! between them an event is lost at most, as it would have been a moment earlier or later. The words are never unmapped:
//! who comes late reads what the next domain on that core has there, and finds that it does not point back.

use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use abi::control::hypercall::MAX_VCPUS;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::{Port as Number, virq};
use abi::xen::shared_info::EVTCHN_2L_PORTS;

/// How many ports a domain has, port 0 included, which is never used.
pub const COUNT: u32 = EVTCHN_2L_PORTS;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Port {
    /// Nothing.
    #[default]
    Closed,
    /// Waiting for this domain to bind.
    Unbound(DomId),
    /// The other end.
    Interdomain(End),
    /// A virtual interrupt.
    Virq(u8),
    /// The domain itself.
    Ipi,
}

/// One end of a channel between domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The domain.
    pub domain: DomId,
    /// Its home core, by which its ports are found.
    pub home: u8,
    /// Its port.
    pub port: u16,
}

/// The virtual CPU that a port's events go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Target {
    /// Its number.
    pub vcpu: u8,
    /// Its core.
    pub core: u8,
    /// The event's priority, for the FIFO ABI.
    pub priority: u8,
}

/// All there is to know of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Binding {
    /// What it is bound to.
    pub port: Port,
    /// Where its events go.
    pub target: Target,
}

const UNBOUND: u64 = 1;
const INTERDOMAIN: u64 = 2;
const VIRQ: u64 = 3;
const IPI: u64 = 4;

/// Kind in bits 0 to 3, priority 4 to 7, vCPU 8 to 15, its core 16 to 23; of the other end: domain 24 to 39, home 40 to
/// 47, port 48 to 63. Closed is 0, whatever it was bound to before.
const fn encode(binding: Binding) -> u64 {
    let Target { vcpu, core, priority } = binding.target;
    let target = (priority as u64 & 15) << 4 | (vcpu as u64) << 8 | (core as u64) << 16;
    target
        | match binding.port {
            Port::Closed => return 0,
            Port::Unbound(domain) => UNBOUND | (domain as u64) << 24,
            Port::Interdomain(End { domain, home, port }) => {
                INTERDOMAIN | (domain as u64) << 24 | (home as u64) << 40 | (port as u64) << 48
            }
            Port::Virq(number) => VIRQ | (number as u64) << 24,
            Port::Ipi => IPI,
        }
}

#[inline]
const fn decode(word: u64) -> Binding {
    let domain = (word >> 24) as DomId;
    let port = match word & 15 {
        UNBOUND => Port::Unbound(domain),
        INTERDOMAIN => Port::Interdomain(End { domain, home: (word >> 40) as u8, port: (word >> 48) as u16 }),
        VIRQ => Port::Virq(domain as u8),
        IPI => Port::Ipi,
        _ => Port::Closed,
    };
    let target =
        Target { priority: (word >> 4) as u8 & 15, vcpu: (word >> 8) as u8, core: (word >> 16) as u8 };
    Binding { port, target }
}

/// Whether a virtual interrupt is the domain's as a whole; the others each virtual CPU has for itself (`xen.h`).
pub const fn is_global(number: u32) -> bool {
    !matches!(number, virq::TIMER | virq::DEBUG | virq::XENOPROF)
}

/// All ports of one domain. All zeroes: all closed.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Ports {
    words: [AtomicU64; COUNT as usize],
    /// By virtual CPU: the port of each virtual interrupt, or 0. Global ones are virtual CPU 0's.
    virqs: [[AtomicU16; virq::COUNT as usize]; MAX_VCPUS],
}

impl Ports {
    /// All closed.
    pub const fn new() -> Self {
        Self {
            words: [const { AtomicU64::new(0) }; COUNT as usize],
            virqs: [const { [const { AtomicU16::new(0) }; virq::COUNT as usize] }; MAX_VCPUS],
        }
    }

    /// The word of a port. `EINVAL`: there is no such port.
    #[inline]
    fn word(&self, number: Number) -> Result<&AtomicU64, Errno> {
        self.words.get(number as usize).ok_or(Errno::EINVAL)
    }

    /// What `number` is bound to. Port 0 is closed. `EINVAL`: there is no such port.
    #[inline]
    pub fn get(&self, number: Number) -> Result<Binding, Errno> {
        Ok(decode(self.word(number)?.load(Ordering::Acquire)))
    }

    /// Binds the lowest closed port. `ENOSPC`: there is none.
    pub fn allocate(&self, binding: Binding) -> Result<Number, Errno> {
        let bound = encode(binding);
        let taken = |word: &AtomicU64| {
            word.load(Ordering::Relaxed) == 0
                && word.compare_exchange(0, bound, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let found = self.words.iter().skip(1).position(taken).ok_or(Errno::ENOSPC)?;
        Ok(found as Number + 1)
    }

    /// Changes a port for as long as `change` says how.
    fn change(
        &self,
        number: Number,
        change: impl Fn(Binding) -> Result<Binding, Errno>,
    ) -> Result<Binding, Errno> {
        let word = self.word(number)?;
        let mut now = word.load(Ordering::Acquire);
        loop {
            let new = encode(change(decode(now))?);
            match word.compare_exchange_weak(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(decode(now)),
                Err(other) => now = other,
            }
        }
    }

    /// Binds a virtual interrupt of a virtual CPU to a new port. `EEXIST`: it has one.
    pub fn bind_virq(&self, number: u32, target: Target) -> Result<Number, Errno> {
        let place = self.virq_place(number, target.vcpu.into()).ok_or(Errno::EINVAL)?;
        if place.load(Ordering::Acquire) != 0 {
            return Err(Errno::EEXIST);
        }
        let port = self.allocate(Binding { port: Port::Virq(number as u8), target })?;
        match place.compare_exchange(0, port as u16, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(port),
            Err(_) => {
                // A sibling was quicker.
                let _ = self.change(port, |_| Ok(Binding::default()));
                Err(Errno::EEXIST)
            }
        }
    }

    /// The port of a virtual interrupt of a virtual CPU.
    #[inline]
    pub fn virq(&self, number: u32, vcpu: usize) -> Option<Number> {
        let port = self.virq_place(number, vcpu)?.load(Ordering::Acquire);
        (port != 0).then_some(port.into())
    }

    fn virq_place(&self, number: u32, vcpu: usize) -> Option<&AtomicU16> {
        self.virqs.get(vcpu)?.get(number as usize)
    }

    /// Joins an unbound port to its peer, who must be the one it waits for. `EINVAL`: it is not waiting for that one.
    pub fn join(&self, number: Number, peer: End) -> Result<(), Errno> {
        let joined = |now: Binding| match now.port {
            Port::Unbound(domain) if domain == peer.domain => {
                Ok(Binding { port: Port::Interdomain(peer), ..now })
            }
            _ => Err(Errno::EINVAL),
        };
        self.change(number, joined).map(|_| ())
    }

    /// The peer has closed its end: the port waits for that domain again. Nothing happens where it was not bound to
    /// just that end.
    pub fn part(&self, number: Number, peer: End) {
        let parted = |now: Binding| match now.port {
            Port::Interdomain(end) if end == peer => Ok(Binding { port: Port::Unbound(peer.domain), ..now }),
            _ => Err(Errno::EINVAL),
        };
        // An error says that the port is bound to something else by now.
        let _ = self.change(number, parted);
    }

    /// Lets a port's events go to another virtual CPU. `EINVAL`: not those of this kind of port.
    pub fn retarget(&self, number: Number, vcpu: u8, core: u8) -> Result<(), Errno> {
        let retargeted = |now: Binding| {
            match now.port {
                Port::Unbound(_) | Port::Interdomain(_) => Ok(()),
                Port::Virq(virq) if is_global(virq.into()) => Ok(()),
                _ => Err(Errno::EINVAL),
            }
            .map(|()| Binding { target: Target { vcpu, core, ..now.target }, ..now })
        };
        self.change(number, retargeted).map(|_| ())
    }

    /// Sets the priority of a port's events.
    pub fn set_priority(&self, number: Number, priority: u8) -> Result<(), Errno> {
        let changed = |now: Binding| Ok(Binding { target: Target { priority, ..now.target }, ..now });
        self.change(number, changed).map(|_| ())
    }

    /// Closes a port, and tells what it was bound to. `EINVAL`: it was closed.
    pub fn close(&self, number: Number) -> Result<Port, Errno> {
        let closed = |now: Binding| match now.port {
            Port::Closed => Err(Errno::EINVAL),
            _ => Ok(Binding::default()),
        };
        let was = self.change(number, closed)?;
        if let Port::Virq(virq) = was.port
            && let Some(place) = self.virq_place(virq.into(), was.target_of_virq())
        {
            let _ = place.compare_exchange(number as u16, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        Ok(was.port)
    }

    /// The lowest port from `from` on that is not closed.
    pub fn next_open(&self, from: Number) -> Option<Number> {
        let open = |word: &AtomicU64| word.load(Ordering::Acquire) != 0;
        let found = self.words.get(from as usize..)?.iter().position(open)?;
        Some(from + found as Number)
    }
}

impl Binding {
    /// The virtual CPU in whose table a virtual interrupt's port stands: a global one's events may have been sent
    /// elsewhere since.
    fn target_of_virq(&self) -> usize {
        match self.port {
            Port::Virq(virq) if is_global(virq.into()) => 0,
            _ => self.target.vcpu.into(),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: Port) -> Binding {
        Binding { port, target: Target { vcpu: 0, core: 3, priority: 7 } }
    }

    fn end(domain: DomId, port: u16) -> End {
        End { domain, home: 2, port }
    }

    #[test]
    fn words_say_what_was_said() {
        let target = Target { vcpu: 7, core: 63, priority: 15 };
        for port in [
            Port::Unbound(0x7fef),
            Port::Interdomain(End { domain: 0x7fef, home: 63, port: u16::MAX }),
            Port::Virq(23),
            Port::Ipi,
        ] {
            let binding = Binding { port, target };
            assert_eq!(decode(encode(binding)), binding);
        }
        assert_eq!(encode(Binding { port: Port::Closed, target }), 0);
    }

    #[test]
    fn a_channel_lives_and_dies() {
        let ports = Ports::new();
        assert_eq!(ports.get(0), Ok(Binding::default()));
        assert_eq!(ports.get(COUNT), Err(Errno::EINVAL));
        let port = ports.allocate(to(Port::Unbound(7))).unwrap();
        assert_eq!(port, 1);
        assert_eq!(ports.join(port, end(8, 5)), Err(Errno::EINVAL));
        assert_eq!(ports.join(port, end(7, 5)), Ok(()));
        assert_eq!(ports.join(port, end(7, 5)), Err(Errno::EINVAL));
        assert_eq!(ports.get(port), Ok(to(Port::Interdomain(end(7, 5)))));
        ports.part(port, end(7, 6));
        assert_eq!(ports.get(port), Ok(to(Port::Interdomain(end(7, 5)))));
        ports.part(port, end(7, 5));
        assert_eq!(ports.get(port), Ok(to(Port::Unbound(7))));
        assert_eq!(ports.close(port), Ok(Port::Unbound(7)));
        assert_eq!(ports.close(port), Err(Errno::EINVAL));
        assert_eq!(ports.close(0), Err(Errno::EINVAL));
    }

    #[test]
    fn a_virq_has_one_port_or_one_a_virtual_cpu() {
        let ports = Ports::new();
        let on = |vcpu: u8| Target { vcpu, core: vcpu, priority: 7 };
        let port = ports.bind_virq(virq::DOM_EXC, on(0)).unwrap();
        assert_eq!(ports.bind_virq(virq::DOM_EXC, on(0)), Err(Errno::EEXIST));
        assert_eq!(ports.bind_virq(virq::COUNT, on(0)), Err(Errno::EINVAL));
        assert_eq!(ports.retarget(port, 1, 1), Ok(()));
        assert_eq!(ports.virq(virq::DOM_EXC, 0), Some(port));
        ports.close(port).unwrap();
        assert_eq!(ports.virq(virq::DOM_EXC, 0), None);

        let timers = [0, 1].map(|vcpu| ports.bind_virq(virq::TIMER, on(vcpu)).unwrap());
        assert_eq!(ports.virq(virq::TIMER, 1), Some(timers[1]));
        assert_eq!(ports.retarget(timers[1], 0, 0), Err(Errno::EINVAL));
        ports.close(timers[1]).unwrap();
        assert_eq!((ports.virq(virq::TIMER, 0), ports.virq(virq::TIMER, 1)), (Some(timers[0]), None));
    }

    #[test]
    fn events_go_where_they_are_bound() {
        let ports = Ports::new();
        let port = ports.allocate(to(Port::Unbound(7))).unwrap();
        ports.retarget(port, 1, 9).unwrap();
        ports.set_priority(port, 2).unwrap();
        ports.join(port, end(7, 5)).unwrap();
        assert_eq!(ports.get(port).unwrap().target, Target { vcpu: 1, core: 9, priority: 2 });
        let ipi = ports.allocate(to(Port::Ipi)).unwrap();
        assert_eq!(ports.retarget(ipi, 1, 9), Err(Errno::EINVAL));
        assert_eq!(ports.retarget(0, 1, 9), Err(Errno::EINVAL));
    }

    #[test]
    fn ports_run_out() {
        let ports = Ports::new();
        assert_eq!(ports.next_open(1), None);
        for _ in 1..COUNT {
            ports.allocate(to(Port::Ipi)).unwrap();
        }
        assert_eq!(ports.allocate(to(Port::Ipi)), Err(Errno::ENOSPC));
        assert_eq!((ports.next_open(1), ports.next_open(COUNT)), (Some(1), None));
    }
}
