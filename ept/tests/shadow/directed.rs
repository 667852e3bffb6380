//! Single things a shadow must do, and what they cost.

use abi::address::{GuestPhys, GuestVirt, HostPhys};
use ept::Access;
use ept::guest_walk::{EntryWidth, PageFaultCode, Paging, Privilege, Request};
use ept::shadow::{Flush, Frame, Link, Memory, MemoryError, Outcome, Page, Processor, Shadow};

use super::life::{Got, Guest, KERNEL, KERNEL_AC, Store};
use super::machine::{FEATURES, FRAMES, ShadowRam, host_frame};

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const EIGHT: EntryWidth = EntryWidth::Eight;
const LONG: Paging = Paging {
    cr0: 1 << 31 | 1 << 16 | 1,
    cr3: 0x1000,
    cr4: 1 << 5,
    efer: 1 << 8 | 1 << 10 | 1 << 11,
    pdptes: [0; 4],
    pkru: 0,
    features: FEATURES,
};
const READ: Request = Request { access: Access::Read, privilege: KERNEL };
const WRITE: Request = Request { access: Access::Write, privilege: KERNEL };
const USER_READ: Request = Request { access: Access::Read, privilege: Privilege::User };

/// Where the table of level 1 in frame 4 is mapped, by itself.
const TABLE: u64 = 4 << 12;

/// Tables in frames 1 to 4; page `n` of the first 2 MiB is frame `n`, for the supervisor, neither accessed nor dirty.
/// The second 2 MiB have the same table.
fn flat(store: &mut Store) -> Guest<'_> {
    let mut guest = Guest::new(store, Paging { cr0: 1, ..LONG });
    for level in 1..4u64 {
        guest.dma(level << 12, (level + 1) << 12 | P | W | U);
    }
    guest.dma(0x3008, 0x4000 | P | W | U);
    for page in 0..u64::from(FRAMES) {
        guest.dma(TABLE + page * 8, page << 12 | P | W);
    }
    guest.load(LONG);
    guest
}

/// What one fault touches: guest memory, shadows, the map of guest memory.
fn fault_touches(guest: &mut Guest, at: u64, request: Request) -> [usize; 3] {
    assert!(guest.cpu.access(GuestVirt::new(at), request).is_err());
    guest.touches.take();
    let answer = guest.shadow.fault(&guest.ram, GuestVirt::new(at), request, 0);
    let touches = guest.touches.take();
    assert_eq!(answer.outcome, Outcome::Fixed);
    guest.cpu.enter(&guest.paging, guest.shadow.root(), answer.flush);
    assert!(guest.cpu.access(GuestVirt::new(at), request).is_ok());
    touches
}

#[test]
fn what_hidden_faults_and_writes_to_tables_touch() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.access(0, READ, None);
    let hidden = fault_touches(&mut guest, 0x5000, READ);
    guest.access(TABLE, READ, None);
    let opened = fault_touches(&mut guest, TABLE + 40, WRITE);
    // What the guest writes now is written without a fault.
    guest.ram.set(TABLE + 40, EIGHT, 0x6000 | P | A);
    guest.touches.take();
    let flush = guest.shadow.invalidate(&guest.ram, GuestVirt::new(0x5000));
    let flushed = guest.touches.take();
    guest.cpu.enter(&guest.paging, guest.shadow.root(), flush);
    assert_eq!(guest.cpu.access(GuestVirt::new(0x5000), READ), Ok(host_frame(6)), "INVLPG filled it again");
    println!("touches of guest memory, shadows, memory map:");
    println!("hidden fault {hidden:?}, first write to a table {opened:?}, INVLPG after a write {flushed:?}");
    assert!(hidden[0] <= 5 && hidden[1] <= 5 && hidden[2] == 1, "{hidden:?}");
    assert!(opened[0] <= 5 && opened[1] <= 6 && opened[2] == 1, "{opened:?}");
    assert!(flushed[0] <= 4 && flushed[1] <= 7 && flushed[2] == 1, "{flushed:?}");
}

#[test]
fn a_table_that_is_open_is_followed_at_the_next_load() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.access(0x5000, READ, None);
    guest.access(TABLE + 40, WRITE, Some((EIGHT, 0x6000 | P | A)));
    assert_eq!(guest.access(0x5000, READ, None), Got::Memory(host_frame(5)), "not flushed yet");
    guest.load(LONG);
    assert_eq!(guest.access(0x5000, READ, None), Got::Memory(host_frame(6)));
    assert!(guest.shadow.is_table(GuestPhys::new(TABLE)), "and protected again");
}

#[test]
fn a_load_of_cr3_finds_its_shadows_again() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.dma(0x8000, 0x2000 | P | W | U);
    for cr3 in [0x1000, 0x8000] {
        guest.load(Paging { cr3, ..LONG });
        guest.access(0x5000, WRITE, None);
    }
    for cr3 in [0x1000, 0x8000, 0x1000, 0x8000] {
        guest.load(Paging { cr3, ..LONG });
        let before = guest.faults;
        guest.access(0x5000, WRITE, None);
        assert_eq!(guest.faults, before);
    }
}

#[test]
fn upper_tables_follow_at_once_and_a_flood_of_writes_lets_them_go() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.access(0x5000, READ, None);
    guest.access(0x3000, READ, None);
    assert_eq!(guest.access(0x3000, WRITE, Some((EIGHT, 0))), Got::Emulated(GuestPhys::new(0x3000)));
    assert_eq!(guest.access(0x20_5000, READ, None), Got::Memory(host_frame(5)), "the second entry leads on");
    let Got::Fault(code) = guest.access(0x5000, READ, None) else { panic!() };
    assert_eq!(code, PageFaultCode::empty());
    // Elsewhere it is still mapped; no walk of the guest comes by while it is filled as data.
    guest.dma(0x9000, 0xa000 | P | W | U);
    guest.dma(0xa000, 0xb000 | P | W | U);
    guest.dma(0xb000, 0x4000 | P | W | U);
    guest.load(Paging { cr3: 0x9000, ..LONG });
    let write = |guest: &mut Guest, n: u64| guest.access(0x3000 + n * 8, WRITE, Some((EIGHT, n)));
    let emulated = (2..100).take_while(|&n| matches!(write(&mut guest, n), Got::Emulated(_))).count();
    assert!((10..40).contains(&emulated), "{emulated}");
    assert!(!guest.shadow.is_table(GuestPhys::new(0x3000)));
}

#[test]
fn what_cannot_be_emulated_lets_the_shadows_go() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.access(0x5000, READ, None);
    assert!(guest.shadow.is_table(GuestPhys::new(0x2000)));
    assert_eq!(guest.shadow.unshadow(&guest.ram, GuestPhys::new(0x2000)), Flush::All);
    assert!(!guest.shadow.is_table(GuestPhys::new(0x2000)));
    // The root in use stays.
    let _ = guest.shadow.unshadow(&guest.ram, GuestPhys::new(0x1000));
    assert!(guest.shadow.is_table(GuestPhys::new(0x1000)));
}

#[test]
fn dirty_flags_come_with_the_first_write_and_again_after_they_were_cleared() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    let entry = |guest: &Guest| guest.entry(TABLE + 40, EIGHT).unwrap() & (A | D);
    guest.access(0x5000, READ, None);
    assert_eq!(entry(&guest), A);
    guest.access(0x5000, WRITE, None);
    assert_eq!(entry(&guest), A | D);
    guest.access(TABLE + 40, WRITE, Some((EIGHT, 0x5000 | P | W)));
    guest.invlpg(0x5000);
    guest.access(0x5000, READ, None);
    assert_eq!(entry(&guest), A);
    guest.access(0x5000, WRITE, None);
    assert_eq!(entry(&guest), A | D);
}

#[test]
fn a_page_that_only_the_supervisor_may_write_takes_turns() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.dma(TABLE + 40, 0x5000 | P | U);
    guest.load(Paging { cr0: 1 << 31 | 1, ..LONG });
    for _ in 0..3 {
        assert_eq!(guest.access(0x5000, WRITE, None), Got::Memory(host_frame(5)));
        assert_eq!(guest.access(0x5000, USER_READ, None), Got::Memory(host_frame(5)));
        let user_write = Request { privilege: Privilege::User, ..WRITE };
        assert!(matches!(guest.access(0x5000, user_write, None), Got::Fault(_)));
    }
    // In its supervisor turn the page is no place for a supervisor's fetch, with SMEP.
    guest.load(Paging { cr0: 1 << 31 | 1, cr4: 1 << 5 | 1 << 20, ..LONG });
    guest.access(0x5000, WRITE, None);
    let fetch = Request { access: Access::Execute, privilege: KERNEL };
    assert!(matches!(guest.access(0x5000, fetch, None), Got::Fault(_)));
}

#[test]
fn an_implicit_access_at_cpl_0_is_told_by_its_persistence() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.dma(TABLE + 40, 0x5000 | P | U);
    guest.load(Paging { cr4: 1 << 5 | 1 << 21, ..LONG });
    let explicit = Request { access: Access::Read, privilege: KERNEL_AC };
    assert_eq!(guest.access(0x5000, explicit, None), Got::Memory(host_frame(5)));
    // The processor loads a descriptor from there, at CPL 0 with RFLAGS.AC set.
    let implicit = Request { privilege: Privilege::Implicit, ..explicit };
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        assert_eq!(guest.cpu.access(GuestVirt::new(0x5000), implicit), Err(PageFaultCode::PRESENT));
        outcomes.push(guest.shadow.fault(&guest.ram, GuestVirt::new(0x5000), explicit, 0));
    }
    assert_eq!(
        (outcomes[0].outcome, outcomes[0].flush),
        (Outcome::Fixed, Flush::Address(GuestVirt::new(0x5000)))
    );
    assert_eq!(outcomes[1].outcome, Outcome::Inject(PageFaultCode::PRESENT));
}

#[test]
fn a_frame_that_is_taken_away_is_out_of_reach_at_once() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    guest.access(0x5000, WRITE, None);
    guest.access(0x20_5000, WRITE, None);
    guest.revoke(5);
    assert_eq!(guest.access(0x5000, READ, None), Got::Mmio(GuestPhys::new(0x5000)));
    assert_eq!(guest.access(0x20_5000, READ, None), Got::Mmio(GuestPhys::new(0x20_5000 & 0xf_ffff)));
    guest.revoke(1);
    assert_eq!(guest.access(0x6000, READ, None), Got::Stopped, "its root is gone");
}

#[test]
fn forgetting_everything_gives_all_pages_back() {
    let mut store = Store::new(12);
    let mut guest = flat(&mut store);
    for _ in 0..20 {
        for page in [0, 5, 6, 7] {
            guest.access(page << 12, READ, None);
        }
        assert_eq!(guest.shadow.revoke_all(), Flush::All);
        assert!((0..u64::from(FRAMES)).all(|gfn| !guest.shadow.is_table(GuestPhys::new(gfn << 12))));
        guest.load(LONG);
    }
}

#[test]
fn one_frame_may_be_mapped_everywhere() {
    let mut store = Store::new(16);
    let mut guest = flat(&mut store);
    // Five tables full of the same frame: more mappings than are kept.
    for table in 0..5u64 {
        guest.dma(0x3000 + table * 8, (5 + table) << 12 | P | W | U);
        for index in 0..512 {
            guest.dma(((5 + table) << 12) + index * 8, 0xc000 | P | W);
        }
    }
    guest.load(LONG);
    for _ in 0..2 {
        for at in (0..5 << 21).step_by(0x1000) {
            assert_eq!(guest.access(at, WRITE, None), Got::Memory(host_frame(12)));
        }
    }
    guest.revoke(12);
    for at in (0..5 << 21).step_by(0x1000) {
        assert_eq!(guest.access(at, READ, None), Got::Mmio(GuestPhys::new(0xc000)));
    }
}

#[test]
fn a_guest_without_paging_has_all_its_memory() {
    let mut store = Store::new(16);
    let mut guest = Guest::new(&mut store, Paging { cr0: 1, ..LONG });
    guest.load(Paging { cr0: 1, cr4: 1 << 20 | 1 << 21, efer: 1 << 8, ..LONG });
    for request in [READ, WRITE, USER_READ, Request { access: Access::Execute, ..READ }] {
        assert_eq!(guest.access(0x5008, request, None), Got::Memory(host_frame(5) | 8));
    }
    assert_eq!(guest.access(0xfec0_0000, READ, None), Got::Mmio(GuestPhys::new(0xfec0_0000)));
}

#[test]
fn real_mode_has_no_shadow() {
    assert_eq!(Processor::for_guest(&Paging { cr0: 0, ..LONG }), None);
    assert!(Processor::for_guest(&Paging { cr0: 1, ..LONG }).is_some());
}

#[test]
fn memory_that_does_not_do_is_refused() {
    let make = |pages: usize, links: usize, frame: u64| {
        let memory = Memory {
            pages: vec![Page::new(HostPhys::new(frame)); pages].leak(),
            links: vec![Link::UNUSED; links].leak(),
            frames: vec![Frame::UNUSED; 4].leak(),
        };
        Shadow::new(ShadowRam::new(Default::default()), memory, FEATURES).map(|_| ())
    };
    assert_eq!(make(8, 8 * 512, 0x1000), Ok(()));
    assert_eq!(make(7, 8 * 512, 0x1000), Err(MemoryError::Pages));
    assert_eq!(make(8, 8 * 512 - 1, 0x1000), Err(MemoryError::Links));
    assert_eq!(make(8, 8 * 512, 1 << 32), Err(MemoryError::HighRoot));
}
