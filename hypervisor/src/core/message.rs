//! What cores say to each other: requests over a URPC channel per pair and direction, each with one reply.
//!
//! A request is announced by an NMI, so that its target need not poll. Two kinds differ in when they are served.
//! *Leaf* requests are answered at once, even by a core that itself waits for an answer, and ask nobody; hence no two
//! cores ever wait for each other. Since a core answers only where it holds no pointer into a guest's memory and is in
//! the middle of no change, a leaf's answer also says that what it was doing before is done ([`Request::Fence`]). The
//! others, which take a domain off its core or put it there, wait until the target is back in its loop. A core has at
//! most one request under way.

use abi::xen::errno::{Errno, HypercallResult};
use io_rings::urpc::Message;

use crate::pc::mmio::IoApicAccess;
use crate::pc::ports::Access;

/// What went out of a domain's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Anything.
    Memory,
    /// Pages that were mapped by grants, which are small pages each.
    Grants,
}

/// A request to another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Take this domain as its virtual CPU `vcpu`.
    Run {
        /// Address of its `Domain`.
        domain: u64,
        /// Address of its `Home`, for the home core; else 0.
        home: u64,
        /// Which virtual CPU.
        vcpu: u64,
    },
    /// The domain's state has changed: run or halt by it. When the answer is there no handler is under way.
    Follow,
    /// Leave nothing of the domain on the core, and give it back.
    Release,
    /// Leave the processor. After the answer the core says nothing more and is not to be asked.
    Off,
    /// To home: exchange one kernel for another.
    Exchange {
        /// Address of the [`super::succession::Exchange`], in the hypervisor's own memory; good until the answer.
        order: u64,
    },
    /// Leaf: the domain's state says that it does not run any more.
    Stop,
    /// Leaf: nothing. The answer comes when what was under way is done.
    Fence,
    /// Leaf: drop what this core holds of the domain's memory.
    Forget {
        /// What went.
        gone: Gone,
    },
    /// Leaf, to home: let the `shared_info` page appear at this frame. 1: translations are to be forgotten.
    PlaceSharedInfo {
        /// Guest frame number.
        gfn: u64,
    },
    /// Leaf, to home: let this frame of the domain's appear at a place where nothing is.
    Place {
        /// Guest frame number.
        gfn: u64,
        /// The frame's host-physical address.
        frame: u64,
    },
    /// Leaf, to home: let nothing be at this place, where this frame is now. `EAGAIN`: it is not. 1: translations are to
    /// be forgotten.
    Displace {
        /// Guest frame number.
        gfn: u64,
        /// The frame's host-physical address.
        frame: u64,
    },
    /// Leaf, to home: one more frame for page tables. `ENOMEM`: the domain has had as many as it may.
    AddTable {
        /// The frame's host-physical address.
        frame: u64,
    },
    /// Leaf, to home: `SCHEDOP_watchdog`.
    Watchdog {
        /// Which, or 0.
        id: u32,
        /// Seconds.
        timeout: u32,
    },
    /// Leaf, to core 0: a frame of memory for this domain, or for page tables where it is `DOMID_XEN`. Its host-physical
    /// address; bit 0 is set where it holds zeroes.
    TakeFrame {
        /// The domain.
        domain: u64,
    },
    /// Leaf, to core 0: the same, for the domain's grant table.
    LendFrame {
        /// The domain.
        domain: u64,
    },
    /// Leaf, to home: `GNTTABOP_map_grant_ref`. Where it answers with an error, nothing was done.
    MapGrant {
        /// Address of the `MapGrantRef`, in the hypervisor's own memory; good until the answer.
        op: u64,
    },
    /// Leaf, to home: the first part of `GNTTABOP_unmap_grant_ref`.
    UnmapGrants {
        /// Address of the `Unmaps`, in the hypervisor's own memory; good until the answer.
        unmaps: u64,
    },
    /// Leaf, to core 0: nobody uses this frame any more.
    GiveBack {
        /// The frame's host-physical address.
        frame: u64,
    },
    /// Leaf, to home: this frame, which is at this place, stays: the hypervisor writes there itself. `EINVAL`: it is not
    /// there; `ENOMEM`: there are too many such.
    Pin {
        /// Guest frame number.
        gfn: u64,
        /// The frame's host-physical address.
        frame: u64,
    },
    /// Leaf, to home: the end of one such [`Request::Pin`].
    Unpin {
        /// The frame's host-physical address.
        frame: u64,
    },
    /// Leaf: the virtual CPU's periodic timer has this period from now on; 0: there is none.
    SetPeriodic {
        /// Nanoseconds.
        period: u64,
    },
    /// Leaf: write the virtual CPU's runstate to this address in the hypervisor's own memory.
    Runstate {
        /// That address; good until the answer.
        into: u64,
    },
    /// Leaf: the same as it was at the last change; from now on it is written to the guest's memory too.
    WatchRunstate {
        /// That address; good until the answer.
        into: u64,
        /// Linear address in the guest.
        area: u64,
    },
    /// Leaf: INIT, from a sibling's ICR.
    Init,
    /// Leaf: a start-up IPI, from a sibling's ICR.
    StartUp {
        /// The page it starts at.
        page: u8,
    },
    /// Leaf: an NMI, from a sibling's ICR or `VCPUOP_send_nmi`.
    Nmi,
    /// Leaf, to home: an access to a port of a full guest's PC. What was read, and what became of the PC.
    Port {
        /// The access.
        access: Access,
    },
    /// Leaf, to home: an access to the I/O APIC of a full guest's PC. What was read.
    IoApic {
        /// The access.
        access: IoApicAccess,
    },
    /// Leaf: `VCPUOP_initialise`, with the address of its `Start`, in the hypervisor's own memory.
    Initialise {
        /// That address; good until the answer.
        start: u64,
    },
    /// Leaf: `VCPUOP_up`.
    Up,
    /// Leaf: `VCPUOP_down`.
    Down,
}

const RUN: u64 = 1;
const FOLLOW: u64 = 2;
const RELEASE: u64 = 3;
const STOP: u64 = 4;
const FENCE: u64 = 5;
const FORGET: u64 = 6;
const PLACE_SHARED_INFO: u64 = 7;
const INIT: u64 = 8;
const START_UP: u64 = 9;
const INITIALISE: u64 = 10;
const UP: u64 = 11;
const DOWN: u64 = 12;
const NMI: u64 = 13;
const OFF: u64 = 14;
const EXCHANGE: u64 = 15;
const PLACE: u64 = 32;
const DISPLACE: u64 = 33;
const ADD_TABLE: u64 = 34;
const WATCHDOG: u64 = 35;
const TAKE_FRAME: u64 = 36;
const GIVE_BACK: u64 = 37;
const LEND_FRAME: u64 = 38;
const MAP_GRANT: u64 = 39;
const UNMAP_GRANTS: u64 = 40;
const FORGET_GRANTS: u64 = 41;
const PIN: u64 = 48;
const UNPIN: u64 = 49;
const SET_PERIODIC: u64 = 50;
const RUNSTATE: u64 = 51;
const WATCH_RUNSTATE: u64 = 52;
const PORT_READ: u64 = 64;
const PORT_WRITE: u64 = 65;
const IO_APIC_READ: u64 = 66;
const IO_APIC_WRITE: u64 = 67;
const IO_APIC_END: u64 = 68;
const REPLY: u64 = 255;

/// What arrives on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A request to serve.
    Request(Request),
    /// The answer to ours.
    Reply(HypercallResult),
}

impl Request {
    /// Whether it is answered at once.
    pub const fn is_leaf(self) -> bool {
        !matches!(self, Self::Run { .. } | Self::Follow | Self::Release | Self::Off | Self::Exchange { .. })
    }

    /// As a message.
    pub const fn encode(self) -> Message {
        let (kind, a, b, c) = match self {
            Self::Run { domain, home, vcpu } => (RUN, domain, home, vcpu),
            Self::Follow => (FOLLOW, 0, 0, 0),
            Self::Release => (RELEASE, 0, 0, 0),
            Self::Off => (OFF, 0, 0, 0),
            Self::Exchange { order } => (EXCHANGE, order, 0, 0),
            Self::Stop => (STOP, 0, 0, 0),
            Self::Fence => (FENCE, 0, 0, 0),
            Self::Forget { gone: Gone::Memory } => (FORGET, 0, 0, 0),
            Self::Forget { gone: Gone::Grants } => (FORGET_GRANTS, 0, 0, 0),
            Self::PlaceSharedInfo { gfn } => (PLACE_SHARED_INFO, gfn, 0, 0),
            Self::Place { gfn, frame } => (PLACE, gfn, frame, 0),
            Self::Displace { gfn, frame } => (DISPLACE, gfn, frame, 0),
            Self::AddTable { frame } => (ADD_TABLE, frame, 0, 0),
            Self::Watchdog { id, timeout } => (WATCHDOG, id as u64, timeout as u64, 0),
            Self::TakeFrame { domain } => (TAKE_FRAME, domain, 0, 0),
            Self::LendFrame { domain } => (LEND_FRAME, domain, 0, 0),
            Self::MapGrant { op } => (MAP_GRANT, op, 0, 0),
            Self::UnmapGrants { unmaps } => (UNMAP_GRANTS, unmaps, 0, 0),
            Self::GiveBack { frame } => (GIVE_BACK, frame, 0, 0),
            Self::Pin { gfn, frame } => (PIN, gfn, frame, 0),
            Self::Unpin { frame } => (UNPIN, frame, 0, 0),
            Self::SetPeriodic { period } => (SET_PERIODIC, period, 0, 0),
            Self::Runstate { into } => (RUNSTATE, into, 0, 0),
            Self::WatchRunstate { into, area } => (WATCH_RUNSTATE, into, area, 0),
            Self::Init => (INIT, 0, 0, 0),
            Self::StartUp { page } => (START_UP, page as u64, 0, 0),
            Self::Initialise { start } => (INITIALISE, start, 0, 0),
            Self::Nmi => (NMI, 0, 0, 0),
            Self::Port { access: Access { port, bytes, out: None } } => {
                (PORT_READ, port as u64, bytes as u64, 0)
            }
            Self::Port { access: Access { port, bytes, out: Some(value) } } => {
                (PORT_WRITE, port as u64, bytes as u64, value as u64)
            }
            Self::IoApic { access: IoApicAccess::Read(offset) } => (IO_APIC_READ, offset as u64, 0, 0),
            Self::IoApic { access: IoApicAccess::Write(offset, value) } => {
                (IO_APIC_WRITE, offset as u64, value as u64, 0)
            }
            Self::IoApic { access: IoApicAccess::End(vector) } => (IO_APIC_END, vector as u64, 0, 0),
            Self::Up => (UP, 0, 0, 0),
            Self::Down => (DOWN, 0, 0, 0),
        };
        [kind, a, b, c, 0, 0, 0]
    }
}

/// A reply as a message.
pub const fn reply(result: HypercallResult) -> Message {
    let rax = match result {
        Ok(value) => value,
        Err(error) => error.as_rax(),
    };
    [REPLY, rax, 0, 0, 0, 0, 0]
}

/// A message as what it says. Only hypervisors write these channels, so an unknown kind is a bug: `None`.
pub fn decode(message: Message) -> Option<Incoming> {
    let [kind, a, b, c, ..] = message;
    Some(Incoming::Request(match kind {
        RUN => Request::Run { domain: a, home: b, vcpu: c },
        FOLLOW => Request::Follow,
        RELEASE => Request::Release,
        OFF => Request::Off,
        EXCHANGE => Request::Exchange { order: a },
        STOP => Request::Stop,
        FENCE => Request::Fence,
        FORGET => Request::Forget { gone: Gone::Memory },
        FORGET_GRANTS => Request::Forget { gone: Gone::Grants },
        PLACE_SHARED_INFO => Request::PlaceSharedInfo { gfn: a },
        PLACE => Request::Place { gfn: a, frame: b },
        DISPLACE => Request::Displace { gfn: a, frame: b },
        ADD_TABLE => Request::AddTable { frame: a },
        WATCHDOG => Request::Watchdog { id: a as u32, timeout: b as u32 },
        TAKE_FRAME => Request::TakeFrame { domain: a },
        LEND_FRAME => Request::LendFrame { domain: a },
        MAP_GRANT => Request::MapGrant { op: a },
        UNMAP_GRANTS => Request::UnmapGrants { unmaps: a },
        GIVE_BACK => Request::GiveBack { frame: a },
        PIN => Request::Pin { gfn: a, frame: b },
        UNPIN => Request::Unpin { frame: a },
        SET_PERIODIC => Request::SetPeriodic { period: a },
        RUNSTATE => Request::Runstate { into: a },
        WATCH_RUNSTATE => Request::WatchRunstate { into: a, area: b },
        INIT => Request::Init,
        START_UP => Request::StartUp { page: a as u8 },
        INITIALISE => Request::Initialise { start: a },
        NMI => Request::Nmi,
        PORT_READ => Request::Port { access: Access { port: a as u16, bytes: b as u8, out: None } },
        PORT_WRITE => {
            Request::Port { access: Access { port: a as u16, bytes: b as u8, out: Some(c as u32) } }
        }
        IO_APIC_READ => Request::IoApic { access: IoApicAccess::Read(a as u32) },
        IO_APIC_WRITE => Request::IoApic { access: IoApicAccess::Write(a as u32, b as u32) },
        IO_APIC_END => Request::IoApic { access: IoApicAccess::End(a as u8) },
        UP => Request::Up,
        DOWN => Request::Down,
        REPLY => return Some(Incoming::Reply(Errno::from_rax(a).map_or(Ok(a), Err))),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, with values that would not fit if a field were cut or swapped.
    const ALL: &[Request] = &[
        Request::Run { domain: u64::MAX, home: 1 << 40, vcpu: 7 },
        Request::Follow,
        Request::Exchange { order: u64::MAX },
        Request::Release,
        Request::Stop,
        Request::Fence,
        Request::Forget { gone: Gone::Memory },
        Request::Forget { gone: Gone::Grants },
        Request::PlaceSharedInfo { gfn: u64::MAX },
        Request::Place { gfn: 1 << 39, frame: 1 << 51 },
        Request::Displace { gfn: 1 << 38, frame: 1 << 50 },
        Request::AddTable { frame: 1 << 49 },
        Request::Watchdog { id: u32::MAX, timeout: 1 << 31 },
        Request::TakeFrame { domain: 0x7ff2 },
        Request::LendFrame { domain: 0x7fef },
        Request::MapGrant { op: 1 << 48 },
        Request::UnmapGrants { unmaps: 1 << 44 },
        Request::GiveBack { frame: 1 << 47 },
        Request::Pin { gfn: 1 << 37, frame: 1 << 46 },
        Request::Unpin { frame: 1 << 45 },
        Request::SetPeriodic { period: u64::MAX },
        Request::Runstate { into: 1 << 31 },
        Request::WatchRunstate { into: 1 << 30, area: u64::MAX },
        Request::Init,
        Request::StartUp { page: 0xff },
        Request::Nmi,
        Request::Port { access: Access { port: u16::MAX, bytes: 4, out: None } },
        Request::Port { access: Access { port: 0x3f8, bytes: 1, out: Some(u32::MAX) } },
        Request::IoApic { access: IoApicAccess::Read(0x10) },
        Request::IoApic { access: IoApicAccess::Write(0x10, u32::MAX) },
        Request::IoApic { access: IoApicAccess::End(0xfe) },
        Request::Initialise { start: 1 << 29 },
        Request::Up,
        Request::Down,
    ];

    #[test]
    fn what_is_asked_is_what_is_heard() {
        for &request in ALL {
            assert_eq!(decode(request.encode()), Some(Incoming::Request(request)));
        }
    }

    #[test]
    fn each_kind_has_a_number_of_its_own() {
        let mut numbers: std::vec::Vec<u64> = ALL.iter().map(|request| request.encode()[0]).collect();
        numbers.push(REPLY);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ALL.len() + 1);
    }

    #[test]
    fn only_what_moves_a_domain_waits_for_the_loop() {
        let waits = ALL.iter().filter(|request| !request.is_leaf());
        let exchange = Request::Exchange { order: u64::MAX };
        assert!(waits.eq(&[ALL[0], Request::Follow, exchange, Request::Release]));
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        for result in [Ok(0), Ok(1 << 51), Err(Errno::EINVAL), Err(Errno::ESRCH)] {
            assert_eq!(decode(reply(result)), Some(Incoming::Reply(result)));
        }
        assert_eq!(decode([0; 7]), None);
    }
}
