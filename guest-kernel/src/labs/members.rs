//! Whole members of the multikernel on threads of the host: mesh, kernel, monitor, program.

use alloc::rc::Rc;
use std::boxed::Box;
use std::format;
use std::time::{Duration, Instant};
use std::vec::Vec;

use abi::control::topology::MeshPlace;
use abi::mesh::{MAX_SLOTS, MESH_MAGIC, MeshPage, PeerInfo, kind};
use io_rings::urpc::Sender;

use crate::agreement::Topology;
use crate::kernel::{Kernel, Pace, Program, Round};
use crate::mesh::{Mesh, News, Window};
use crate::monitor::Monitor;
use crate::platform::threads::Thread;
use crate::programs::multikernel::Multikernel;
use crate::programs::multikernel::frames::ThinAir;

/// One who is to be a member. It goes where a thread takes it, and begins there: a kernel's tasks stay where they are.
pub struct Newcomer {
    platform: Thread,
    mesh: Mesh<'static>,
    topology: Topology,
}

/// A member, on its thread.
pub struct Member {
    kernel: Kernel<Thread>,
    program: Multikernel,
}

/// Members in the slots from 1 on, which know each other; the first founds the epoch. Their channels are given up to the
/// process: it ends when the lab does.
pub fn gather(count: usize, topology: &Topology) -> Option<Vec<Newcomer>> {
    let slots = count + 1;
    if slots > MAX_SLOTS {
        return None;
    }
    let window = || &*Box::leak(Box::<Window>::default());
    let windows: Vec<Vec<&'static Window>> =
        (0..slots).map(|high| (0..high).map(|_| window()).collect()).collect();
    let between = |a: usize, b: usize| windows[a.max(b)][a.min(b)];
    let mut members: Vec<(Thread, Mesh<'static>)> = Vec::new();
    let mut controls: Vec<Sender<'static>> = Vec::new();
    for slot in 1..slots {
        let mut peers = [PeerInfo { domain: 0xffff, reserved: 0, port: 0 }; MAX_SLOTS];
        for (older, peer) in peers.iter_mut().enumerate().take(slot + 1) {
            *peer = PeerInfo { domain: older as u16, reserved: 0, port: 0 };
        }
        let (own_slot, places) = (slot as u32, [MeshPlace::default(); MAX_SLOTS]);
        let page = MeshPage { magic: MESH_MAGIC, own_slot, slots: slots as u32, strangers: 0, peers, places };
        let platform = Thread::begin();
        let mut mesh = Mesh::new(&page, |peer| between(slot, peer))?;
        for (control, (platform, mesh)) in controls.iter_mut().zip(&mut members) {
            control.try_send(&[kind::PEER_UP, slot as u64, slot as u64, 0, 0, 0, 0]).ok()?;
            (mesh.poll(platform) == Some(News::Up(slot))).then_some(())?;
            mesh.flush(platform);
        }
        for _ in 1..slot {
            matches!(mesh.poll(&platform), Some(News::Up(_))).then_some(())?;
        }
        members.push((platform, mesh));
        controls.push(Sender::new(&between(0, slot).upwards));
    }
    let newcomer = |(platform, mesh)| Newcomer { platform, mesh, topology: topology.clone() };
    Some(members.into_iter().map(newcomer).collect())
}

impl Newcomer {
    /// Begins, on this thread; none where its program has no room.
    pub fn begin(self) -> Option<Member> {
        Member::new(self.platform, self.mesh, self.topology)
    }
}

impl Member {
    fn new(platform: Thread, mesh: Mesh<'static>, topology: Topology) -> Option<Self> {
        let (slot, slots) = (mesh.own_slot() as u8, mesh.slots());
        let make = if slot == 1 { Monitor::founder } else { Monitor::outside };
        let monitor = make(slot, slot.into(), slots, Multikernel::replica(slot), topology);
        let mut kernel = Kernel::new(platform, Some(mesh), Pace::Poll);
        kernel.reporting = false;
        let mut program =
            Multikernel::new(monitor, kernel.platform.clock(), Rc::<ThinAir>::default()).ok()?;
        // They have been introduced already.
        for peer in (1..slots).filter(|&peer| peer != usize::from(slot)) {
            program.peer(&mut kernel, peer, true);
        }
        Some(Self { kernel, program })
    }

    /// One turn of the kernel's loop.
    pub fn turn(&mut self) {
        if self.kernel.round(&mut self.program) != Round::Busy {
            core::hint::spin_loop();
        }
    }

    /// How many members there are, this one included; 0 where it is none.
    pub fn members(&self) -> u32 {
        self.program.look(Monitor::epoch).map_or(0, |(_, members)| members.len())
    }

    /// Suspends itself, and comes back at once: how long it took until it had left, and from then on until it was one of
    /// `members` again. The others have to go on meanwhile.
    pub fn go_and_come(&mut self, members: u32) -> (Duration, Duration) {
        let asked = Instant::now();
        self.kernel.suspend_soon();
        // A thread is not taken off its processor: it is back as soon as it has said that it may go.
        while !self.has_said("resumed") {
            self.turn();
        }
        let gone = Instant::now();
        while self.members() < members {
            self.turn();
        }
        (gone - asked, gone.elapsed())
    }

    /// Whether this was among what it has printed since it was asked the last time.
    fn has_said(&self, what: &str) -> bool {
        self.kernel.platform.printed.lock().is_ok_and(|mut printed| {
            let text = std::string::String::from_utf8_lossy(&printed).contains(what);
            printed.clear();
            text
        })
    }

    /// Does so many operations in one phase or two, `depth` of them at a time; false if one was refused.
    pub fn operate(&mut self, phases: u8, count: u64, depth: u64) -> bool {
        self.program.line(&mut self.kernel, &format!("bench {phases}pc {count} {depth}"));
        while self.program.is_measuring() {
            self.turn();
        }
        !self.has_said("refused")
    }
}
