//! Members on thin air, with the mesh between them.

use std::string::String;
use std::vec::Vec;

use super::frames::ThinAir;
use super::*;
use crate::agreement::Replica;
use crate::kernel::{Pace, Round};
use crate::mesh::fixture::gather;
use crate::platform::fake::Fake;

struct Members(Vec<(Kernel<Fake>, Multikernel)>);

impl Members {
    fn new(count: usize) -> Self {
        let member = |(platform, mesh): (Fake, Mesh<'static>)| {
            let (slot, cores) = (mesh.own_slot() as u8, mesh.slots());
            // All are there already, so none is the first by itself.
            let make = if slot == 1 { Monitor::founder } else { Monitor::outside };
            let replica = Multikernel::replica(slot);
            let monitor = make(slot, u32::from(slot), cores, replica, Topology::flat());
            let program = Multikernel::new(monitor, platform.clock(), Rc::<ThinAir>::default()).unwrap();
            let mut kernel = Kernel::new(platform, Some(mesh), Pace::Poll);
            kernel.reporting = false;
            (kernel, program)
        };
        let mut members: Vec<_> = gather(count).into_iter().map(member).collect();
        // Those of the fixture have met already.
        for (index, (kernel, program)) in members.iter_mut().enumerate() {
            for slot in (1..=count).filter(|&slot| slot != index + 1) {
                program.peer(kernel, slot, true);
            }
        }
        let mut members = Self(members);
        members.settle();
        members
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let busy = self
                .0
                .iter_mut()
                .fold(false, |busy, (kernel, program)| busy | (kernel.round(program) == Round::Busy));
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    fn tell(&mut self, slot: usize, line: &str) {
        let (kernel, program) = &mut self.0[slot - 1];
        program.line(kernel, line);
    }

    /// What a member has printed since it was last asked.
    fn printed(&self, slot: usize) -> String {
        let printed = self.0[slot - 1].0.platform.printed.take();
        String::from_utf8(printed).unwrap()
    }
}

#[test]
fn the_first_founds_and_the_others_come_in() {
    let members = Members::new(4);
    for slot in 1..=4 {
        let epoch = members.0[slot - 1].1.look(Monitor::epoch);
        assert_eq!(epoch, Some((4, (1..=4).collect())), "slot {slot}");
    }
}

#[test]
fn lines_of_the_console_are_agreed_on() {
    let mut members = Members::new(3);
    members.tell(2, "register service/disk");
    members.settle();
    assert!(members.printed(2).contains("register service/disk: done"));
    for slot in [1, 3] {
        assert!(members.printed(slot).contains("service/disk is on core 2"));
    }
    members.tell(3, "register service/disk");
    members.tell(1, "copy 3");
    members.settle();
    assert!(members.printed(3).contains("service/disk: refused"));
    members.tell(1, "retype 4096 8192");
    members.tell(3, "retype 8192 8192");
    members.settle();
    let said = [members.printed(1), members.printed(3)];
    assert!(said[0].contains("retype 4096 8192: done"), "{said:?}");
    assert!(said[1].contains("refused: State(5)"), "{said:?}");
}

#[test]
fn a_frame_is_in_no_page_tables_when_its_unmapping_is_done() {
    let mut members = Members::new(3);
    for (slot, line) in [
        (1, "retype 65536 8192"),
        (1, "copy 2 65536"),
        (1, "map 65536"),
        (2, "map 65536"),
        (2, "poke 65536 7"),
        (2, "peek 65536"),
        (1, "peek 65536"),
        (3, "map 65536"),
        (3, "unmap 65536"),
    ] {
        members.tell(slot, line);
        members.settle();
    }
    let said = [1, 2, 3].map(|slot| members.printed(slot));
    assert!(said[1].contains("peek 65536: 7") && said[0].contains("peek 65536: 0"), "{said:?}");
    assert!(said[2].contains("map 65536: refused: this core does not hold it"), "{said:?}");
    assert!(said[2].contains("unmap 65536: done"), "{said:?}");
    for member in &members.0[..2] {
        let pages = member.1.app.pages.clone();
        let looks =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pages.read(frames::WINDOW + 65536)));
        assert!(looks.is_err(), "it is mapped still");
    }
    // Whoever may not have it any more has not mapped it either.
    for line in ["map 65536", "revoke", "frames"] {
        members.tell(1, line);
        members.settle();
    }
    assert!(members.printed(1).ends_with("frames: 0+1073741824@{1};\n"));
}

#[test]
fn messages_of_an_operation_grow_with_the_members() {
    const OPERATIONS: u64 = 20;
    for members in 2..=4_u64 {
        for (phases, expected) in [("1pc", 2), ("2pc", 4)] {
            let mut cluster = Members::new(members as usize);
            let said = |cluster: &Members| -> u64 {
                cluster.0.iter().map(|(_, program)| program.look(Monitor::counts).lines_out).sum()
            };
            let before = said(&cluster);
            cluster.tell(1, &std::format!("bench {phases} {OPERATIONS}"));
            cluster.settle();
            assert!(cluster.printed(1).contains("20 operations"));
            assert_eq!(
                said(&cluster) - before,
                OPERATIONS * expected * (members - 1),
                "{phases}, {members} members"
            );
        }
    }
}

#[test]
fn who_suspends_itself_leaves_the_others_first_and_comes_back() {
    let mut members = Members::new(3);
    members.tell(2, "register service/disk");
    members.settle();
    members.printed(1);
    members.0[1].0.suspend_soon();
    members.settle();
    assert_eq!(members.0[1].0.platform.suspended.get(), 1);
    let (heard, said) = (members.printed(1), members.printed(2));
    assert!(heard.contains("epoch 4: {1, 3}") && heard.contains("service/disk is gone"), "{heard}");
    assert!(said.contains("resumed") && heard.ends_with("epoch 5: {1, 2, 3}\n"), "{said}, {heard}");
}

#[test]
fn the_last_member_suspends_itself_as_one() {
    let mut members = Members::new(1);
    members.0[0].0.suspend_soon();
    members.settle();
    assert_eq!(members.0[0].0.platform.suspended.get(), 1);
    members.tell(1, "register service/disk");
    members.settle();
    assert!(members.printed(1).contains("register service/disk: done"));
}

#[test]
fn calls_are_answered_by_a_server_here_or_there() {
    let mut members = Members::new(3);
    members.tell(2, "serve service/sum");
    members.settle();
    assert!(members.printed(2).contains("serve service/sum: done"));
    for slot in 1..=3 {
        for depth in [1, 16, 99] {
            members.tell(slot, &std::format!("call service/sum 500 {depth}"));
            members.settle();
            assert!(
                members.printed(slot).contains("call service/sum: 500 calls, 0 wrong,"),
                "{slot} {depth}"
            );
        }
    }
    members.tell(1, "call service/none 1 1");
    members.tell(3, "serve service/sum");
    members.settle();
    assert!(members.printed(1).contains("call service/none: NoSuchName"));
    assert!(members.printed(3).contains("serve service/sum: refused"));
    members.tell(2, "tasks");
    members.settle();
    let tasks = members.printed(2);
    assert!(tasks.contains(" monitor0 worked 0") && tasks.contains("sent 500 received 500"), "{tasks}");
}

/// As often as a seed says, in an order that it decides: members leave, are suspended, resumed and come back, while the
/// first one asks for operations all the time. Each is done once, none is refused, and in the end all know the same.
#[test]
fn a_thousand_times_members_go_and_come_while_one_asks() {
    const CYCLES: u64 = 1000;
    const BENCHES: [&str; 2] = ["bench 2pc 4", "bench 1pc 4"];
    let mut members = Members::new(4);
    let mut random = crate::programs::random::Random::new(0x5eed);
    let (mut begun, mut cycles) = (0, 0);
    for step in 0_u64.. {
        let slot = random.below(4) as usize + 1;
        let (kernel, program) = &mut members.0[slot - 1];
        kernel.round(program);
        if slot == 1 && program.is_done() {
            program.line(kernel, BENCHES[begun % 2]);
            begun += 1;
        } else if slot != 1 && program.look(Monitor::epoch).is_some() && random.below(20) == 0 {
            kernel.suspend_soon();
        }
        cycles = members.0.iter().map(|(kernel, _)| kernel.platform.suspended.get()).sum();
        if cycles >= CYCLES {
            break;
        }
        assert!(step < 4000 * (cycles + 10), "{cycles} cycles after {step} steps: nothing moves any more");
    }
    members.settle();
    for (_, program) in &members.0 {
        let told =
            |program: &Multikernel| program.look(|monitor| (monitor.epoch(), monitor.system().state()));
        assert!(program.look(Monitor::is_quiet) && told(program) == told(&members.0[0].1));
    }
    let done = members.printed(1).matches(": 4 operations").count();
    assert!(done == begun && begun > 50, "{done} of {begun} done, {cycles} cycles");
}
