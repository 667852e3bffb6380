//! The side that uses what the other grants.

use core::hint;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use abi::xen::errno::Errno;
use abi::xen::grant_table::{
    Copy, CopySide, MapGrantRef, UnmapGrantRef, copy_flag as side, flag as entry_flag, map_flag as flag,
    status,
};
use abi::xen::{DOMID_SELF, DomId};
use guest_kernel::grants::{Access, Hypervisor, Mapped, Reference, Refused, Window, copy};
use guest_kernel::platform::atoll::cpu;
use guest_kernel::platform::atoll::grants::{self, Calls};
use guest_kernel::say;

use super::Tally;
use super::pages::{
    ASK, CONSTANT, DATA, DONE, HELLO, LOAN, Page, RESULT, REVOKE_LOAN, REVOKE_TALK, TALK, WINDOW,
    WINDOW_PAGES, at, fill, is_filled,
};

static OWN: [Page; 2] = [const { Page::new() }; 2];

const NO: Refused = Refused::Status(status::GENERAL_ERROR);
/// How often an operation is measured.
const ROUNDS: usize = 101;

pub fn run(own: DomId, peer: DomId) {
    let mut tally = Tally::default();
    // The last pages are for lists of mappings.
    let mut window = Window::new(WINDOW, WINDOW_PAGES / 2);
    table(&mut tally, own, peer);
    refusals(&mut tally, &mut window, peer);
    let talk = window.map(&Calls, peer, Reference(TALK), Access::Write);
    let Ok(talk) = talk else { return say!("grants: WRONG: nothing is mapped: {talk:?}") };
    // SAFETY: mapped until the end.
    let words = unsafe { at(talk.address) };
    words.0[ASK].store(HELLO, Release);
    tally.note("the page is there", is_filled(words, TALK.into()));
    constant(&mut tally, &mut window, peer);
    copies(&mut tally, peer);
    loan(&mut tally, &mut window, peer, words);
    tally.same("what is in use stays", ask(words, REVOKE_TALK), 1);
    lists(&mut tally, peer);
    tally.same("a version while nothing is granted", grants::set_version(2), (Ok(0), 2));
    through(&mut tally, &mut window, own, peer);
    tally.same("and back", grants::set_version(1), (Ok(0), 1));
    tally.same("no version 3", grants::set_version(3), (Err(Errno::EINVAL), 1));
    costs(&mut tally, &mut window, peer);
    say!("grants: {} right, {} wrong", tally.right, tally.wrong);
    stay(&talk);
}

fn table(tally: &mut Tally, own: DomId, peer: DomId) {
    tally.same("a table of one frame", grants::size(DOMID_SELF), Ok((1, 64)));
    tally.same("the same by number", grants::size(own), Ok((1, 64)));
    tally.same("another's size", grants::size(peer), Err(status::PERMISSION_DENIED));
    tally.same("nobody's size", grants::size(0x7000), Err(status::BAD_DOMAIN));
    tally.same("version 1", grants::version(DOMID_SELF), Ok(1));
    tally.same("another's version", grants::version(peer), Err(Errno::EPERM));
    tally.same("nobody's version", grants::version(0x7000), Err(Errno::ESRCH));
    tally.same("no frame 64", grants::place(64, super::pages::TABLE), Err(Errno::EINVAL));
    tally.same("frame 2", grants::place(2, super::pages::TABLE), Ok(0));
    tally.same("so it has grown", grants::size(DOMID_SELF), Ok((3, 64)));
}

fn refusals(tally: &mut Tally, window: &mut Window, peer: DomId) {
    let mut refused = |what, domain, reference, access, why| {
        let mapped = window.map(&Calls, domain, Reference(reference), access);
        tally.same(what, mapped, Err(why));
    };
    refused("nobody's page", 0x7000, TALK, Access::Read, Refused::Status(status::BAD_DOMAIN));
    refused("no such entry", peer, 512, Access::Read, Refused::Status(status::BAD_GNTREF));
    refused("an entry that says nothing", peer, 0, Access::Read, NO);
    refused("not for writing", peer, CONSTANT, Access::Write, NO);
    let mut raw = |what, flags, address, wanted| {
        let mut list =
            [MapGrantRef { host_addr: address, flags, reference: TALK, dom: peer, ..MapGrantRef::default() }];
        let called = Calls.map(&mut list);
        tally.same(what, (called, list[0].status), (Ok(()), wanted));
    };
    raw("for nobody", 0, WINDOW, status::BAD_GNTREF);
    raw("for devices", flag::DEVICE_MAP | flag::HOST_MAP, WINDOW, status::GENERAL_ERROR);
    raw("for unknown ends", flag::HOST_MAP | 1 << 9, WINDOW, status::GENERAL_ERROR);
    raw("at no address", flag::HOST_MAP, 1 << 60, status::GENERAL_ERROR);
    let mut list = [UnmapGrantRef { host_addr: WINDOW, handle: 5000, ..UnmapGrantRef::default() }];
    let called = Calls.unmap(&mut list);
    tally.same("no such mapping", (called, list[0].status), (Ok(()), status::BAD_HANDLE));
}

fn constant(tally: &mut Tally, window: &mut Window, peer: DomId) {
    match window.map(&Calls, peer, Reference(CONSTANT), Access::Read) {
        Ok(mapped) => {
            // SAFETY: mapped until it is unmapped below.
            let page = unsafe { at(mapped.address) };
            tally.note("the constant page is there", is_filled(page, CONSTANT.into()));
            let mut list =
                [UnmapGrantRef { host_addr: mapped.address + 4096, handle: 0, ..UnmapGrantRef::default() }];
            let called = Calls.unmap(&mut list);
            tally.same("unmapped elsewhere", (called, list[0].status), (Ok(()), status::GENERAL_ERROR));
            tally.same("unmapped", window.unmap(&Calls, mapped), Ok(()));
        }
        Err(refused) => tally.same("the constant page", Err(refused), Ok(())),
    }
}

/// A copy of `len` bytes from a grant of the peer's to a page of ours.
fn from_grant(peer: DomId, reference: u32, offset: u16, len: u16) -> Copy {
    Copy {
        source: CopySide { page: reference.into(), domid: peer, offset, pad: 0 },
        dest: CopySide { page: OWN[0].frame(), domid: DOMID_SELF, offset, pad: 0 },
        len,
        flags: side::SOURCE_GREF,
        ..Copy::default()
    }
}

/// The same the other way.
fn to_grant(peer: DomId, reference: u32, offset: u16, len: u16) -> Copy {
    let there = from_grant(peer, reference, offset, len);
    let mine = CopySide { page: OWN[1].frame(), ..there.dest };
    Copy { source: mine, dest: there.source, flags: side::DEST_GREF, ..there }
}

fn copies(tally: &mut Tally, peer: DomId) {
    tally.same("a page copied", copy(&Calls, from_grant(peer, CONSTANT, 0, 4096)), Ok(()));
    tally.note("all of it", is_filled(&OWN[0], CONSTANT.into()));
    fill(&OWN[1], 99);
    tally.same("a copy to it", copy(&Calls, to_grant(peer, LOAN, 64, 4032)), Ok(()));
    tally.same("and back", copy(&Calls, from_grant(peer, LOAN, 64, 4032)), Ok(()));
    tally.note("it was there", is_filled(&OWN[0], 99));
    tally.same("to what is not for writing", copy(&Calls, to_grant(peer, CONSTANT, 0, 8)), Err(NO));
    let crossing = Err(Refused::Status(status::BAD_COPY_ARG));
    tally.same("beyond the page", copy(&Calls, from_grant(peer, CONSTANT, 8, 4090)), crossing);
    let mut wrong = from_grant(peer, CONSTANT, 0, 8);
    wrong.flags = 0;
    let denied = Err(Refused::Status(status::PERMISSION_DENIED));
    tally.same("another's frame by number", copy(&Calls, wrong), denied);
    let mut nowhere = from_grant(peer, CONSTANT, 0, 8);
    nowhere.dest.page = 0xd_0000;
    tally.same("to no memory", copy(&Calls, nowhere), Err(Refused::Status(status::BAD_PAGE)));
    nowhere.dest.page = WINDOW / 4096;
    tally.same("to another's page", copy(&Calls, nowhere), Err(Refused::Status(status::BAD_PAGE)));
}

/// Asks the granter for something and waits for the answer.
fn ask(talk: &Page, what: u64) -> u64 {
    let before = talk.0[DONE].load(Relaxed);
    talk.0[ASK].store(what, Release);
    while talk.0[DONE].load(Acquire) == before {
        hint::spin_loop();
    }
    talk.0[RESULT].load(Relaxed)
}

fn loan(tally: &mut Tally, window: &mut Window, peer: DomId, talk: &Page) {
    let Ok(mapped) = window.map(&Calls, peer, Reference(LOAN), Access::Write) else {
        return tally.note("the loan", false);
    };
    tally.same("the loan is in use", ask(talk, REVOKE_LOAN), 1);
    // SAFETY: mapped until it is unmapped below.
    let page = unsafe { at(mapped.address) };
    fill(page, 5);
    tally.same("unmapped", window.unmap(&Calls, mapped), Ok(()));
    tally.same("the loan is taken back", ask(talk, REVOKE_LOAN), 0);
    tally.same("it is over", window.map(&Calls, peer, Reference(LOAN), Access::Write), Err(NO));
    tally.same("for copies too", copy(&Calls, from_grant(peer, LOAN, 0, 8)), Err(NO));
}

/// What another grants to us is granted on, here to ourselves: for copies, and with no more rights than there are.
fn through(tally: &mut Tally, window: &mut Window, own: DomId, peer: DomId) {
    const ENTRY: u32 = 9;
    let Ok(words) = grants::table(super::pages::TABLE) else { return tally.note("the table", false) };
    // An entry of version 2 is four words: flags and domain, the domain that it leads to, the entry there.
    let lead_to = |domain: DomId, reference: u32| {
        let entry = &words[ENTRY as usize * 4..];
        entry[1].store(domain.into(), Relaxed);
        entry[2].store(reference, Relaxed);
        entry[3].store(0, Relaxed);
        entry[0].store(u32::from(entry_flag::TRANSITIVE) | u32::from(own) << 16, Release);
    };
    lead_to(peer, CONSTANT);
    fill(&OWN[0], 1);
    tally.same("a page granted on", copy(&Calls, from_grant(DOMID_SELF, ENTRY, 0, 4096)), Ok(()));
    tally.note("all of it", is_filled(&OWN[0], CONSTANT.into()));
    tally.same("not for writing", copy(&Calls, to_grant(DOMID_SELF, ENTRY, 0, 8)), Err(NO));
    let mapped = window.map(&Calls, own, Reference(ENTRY), Access::Read);
    tally.same("not to be mapped", mapped, Err(NO));
    lead_to(peer, TALK + 400);
    tally.same("to what is not granted", copy(&Calls, from_grant(DOMID_SELF, ENTRY, 0, 8)), Err(NO));
    lead_to(own, ENTRY);
    tally.same("in a circle", copy(&Calls, from_grant(DOMID_SELF, ENTRY, 0, 8)), Err(NO));
    words[ENTRY as usize * 4].store(0, Release);
}

/// Long lists, some of whose elements are wrong.
fn lists(tally: &mut Tally, peer: DomId) {
    const COUNT: u64 = 60;
    let first = WINDOW + WINDOW_PAGES / 2 * 4096;
    let mut maps: alloc::vec::Vec<MapGrantRef> = (0..COUNT)
        .map(|index| MapGrantRef {
            host_addr: first + index * 4096,
            flags: flag::HOST_MAP | flag::READONLY,
            reference: if index % 10 == 9 { 0 } else { TALK },
            dom: peer,
            ..MapGrantRef::default()
        })
        .collect();
    tally.same("a list", Calls.map(&mut maps), Ok(()));
    let right = maps.iter().filter(|op| op.status == status::OKAY).count();
    tally.same("its right ones", right, 54);
    let all = maps.iter().filter(|op| op.status == status::OKAY).all(|op| {
        // SAFETY: mapped until they are unmapped below.
        is_filled(unsafe { at(op.host_addr) }, TALK.into())
    });
    tally.note("each is there", all);
    let mut unmaps: alloc::vec::Vec<UnmapGrantRef> = maps
        .iter()
        .map(|op| UnmapGrantRef {
            host_addr: op.host_addr,
            handle: if op.status == status::OKAY { op.handle } else { u32::MAX },
            ..UnmapGrantRef::default()
        })
        .collect();
    tally.same("a list back", Calls.unmap(&mut unmaps), Ok(()));
    let right = unmaps.iter().filter(|op| op.status == status::OKAY).count();
    tally.same("the same ones", right, 54);
}

/// Instructions, where the time-stamp counter counts them: the median of some rounds.
fn median(mut work: impl FnMut()) -> u64 {
    let mut costs = [0; ROUNDS];
    for cost in &mut costs {
        let before = cpu::tsc();
        work();
        *cost = cpu::tsc() - before;
    }
    costs.sort_unstable();
    costs[ROUNDS / 2]
}

fn costs(tally: &mut Tally, window: &mut Window, peer: DomId) {
    let mut failed = 0;
    let mut round = |touch: bool| {
        median(|| match window.map(&Calls, peer, Reference(CONSTANT), Access::Read) {
            Ok(mapped) => {
                if touch {
                    // SAFETY: mapped until it is unmapped below.
                    hint::black_box(unsafe { at(mapped.address) }.0[DATA].load(Relaxed));
                }
                failed += u32::from(window.unmap(&Calls, mapped).is_err());
            }
            Err(_) => failed += 1,
        })
    };
    let (mapped, touched) = (round(false), round(true));
    let page = from_grant(peer, CONSTANT, 0, 4096);
    let some = from_grant(peer, CONSTANT, 0, 64);
    let copied = median(|| failed += u32::from(copy(&Calls, page).is_err()));
    let few = median(|| failed += u32::from(copy(&Calls, some).is_err()));
    tally.same("each time", failed, 0);
    say!("grants: map and unmap {mapped}, touched {touched}; copy of 4096 bytes {copied}, of 64 {few}");
}

/// Looks at the page for ever, whoever is still there.
fn stay(talk: &Mapped) {
    // SAFETY: mapped, and never unmapped.
    let page = unsafe { at(talk.address) };
    let mut beat = 0u64;
    loop {
        if !is_filled(page, TALK.into()) {
            return say!("grants: WRONG: the page has changed");
        }
        beat += 1;
        if beat.is_multiple_of(20_000) {
            say!("grants: its page went by");
        }
    }
}
