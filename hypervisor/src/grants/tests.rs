use std::boxed::Box;
use std::collections::HashMap;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use abi::xen::grant_table::{flag, status};
use proptest::prelude::*;

use super::access::{Granted, Memory, acquire, release};
use super::entry::Wish;
use super::maptrack::{MAPPINGS, Mapping};
use super::*;

fn zeroed<T>() -> &'static T {
    // SAFETY: for types that all zeroes are a value of.
    unsafe { Box::leak(Box::<T>::new_zeroed().assume_init()) }
}

#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

fn page() -> HostPhys {
    HostPhys::new(core::ptr::from_ref(zeroed::<Page>()) as u64)
}

/// A table of one frame of entries.
fn table(version: u32) -> &'static Grants {
    let grants: &Grants = zeroed();
    assert!(grants.shared(0).unwrap().put(page()) && grants.status(0).unwrap().put(page()));
    grants.has_frames(1);
    grants.has_status_frames(1);
    grants.version.store(version, Ordering::Relaxed);
    grants
}

/// Guest frames below 0x100 are the granter's; their host frames are a million higher.
#[derive(Default)]
struct Granter(Mutex<HashMap<u64, u32>>);

const FAR: u64 = 1_000_000;

impl Memory for Granter {
    fn frame(&self, gfn: u64, _write: bool) -> Option<HostPhys> {
        (gfn < 0x100).then(|| HostPhys::new((gfn + FAR) * PAGE_SIZE))
    }

    fn share(&self, frame: HostPhys) -> bool {
        *self.0.lock().unwrap().entry(frame.as_u64() / PAGE_SIZE - FAR).or_default() += 1;
        true
    }
}

fn grant(grants: &Grants, reference: u32, flags: u16, domid: DomId, frame: u32) {
    let (entry, _) = grants.entry(reference).unwrap();
    entry.set(&EntryV1 { flags, domid, frame });
}

fn flags_of(grants: &Grants, reference: u32) -> u16 {
    let (entry, _) = grants.entry(reference).unwrap();
    entry.as_v1().unwrap_or_default().flags
}

const fn wish(domain: DomId, write: bool, mapping: bool) -> Wish {
    Wish { domain, write, mapping }
}

const fn whole(gfn: u64) -> Granted {
    Granted::Bytes { frame: HostPhys::new((gfn + FAR) * PAGE_SIZE), start: 0, length: 4096 }
}

const USED: u16 = flag::PERMIT_ACCESS | flag::READING;

#[test]
fn a_use_shows_until_the_last_has_ended() {
    for version in [1, 2] {
        let (grants, memory) = (table(version), Granter::default());
        grant(grants, 9, flag::PERMIT_ACCESS, 3, 7);
        assert_eq!(acquire(grants, 9, wish(4, false, true), &memory), Err(status::GENERAL_ERROR));
        assert_eq!(acquire(grants, 9, wish(3, false, true), &memory), Ok(whole(7)));
        assert_eq!(flags_of(grants, 9), USED);
        grant(grants, 9, USED, 3, 8);
        assert_eq!(acquire(grants, 9, wish(3, true, true), &memory), Ok(whole(7)), "as it was when it began");
        assert_eq!(flags_of(grants, 9), USED | flag::WRITING);
        assert_eq!(acquire(grants, 9, wish(4, false, false), &memory), Err(status::GENERAL_ERROR));
        release(grants, 9, 4, true);
        release(grants, 9, 3, true);
        assert_eq!(flags_of(grants, 9), USED);
        release(grants, 9, 3, true);
        release(grants, 9, 3, false);
        release(grants, 9, 3, false);
        assert_eq!(flags_of(grants, 9), flag::PERMIT_ACCESS);
        assert!(!grants.is_in_use());
    }
}

#[test]
fn what_is_refused_as_on_xen() {
    for version in [1, 2] {
        let (grants, memory) = (table(version), Granter::default());
        let ask = |reference, write| acquire(grants, reference, wish(3, write, true), &memory);
        assert_eq!(ask(512, false), Err(status::BAD_GNTREF));
        assert_eq!(ask(grants.entries(), false), Err(status::BAD_GNTREF));
        assert_eq!(ask(0, false), Err(status::GENERAL_ERROR), "nothing is granted");
        grant(grants, 1, flag::PERMIT_ACCESS | flag::READONLY, 3, 5);
        assert_eq!(ask(1, true), Err(status::GENERAL_ERROR));
        assert_eq!(ask(1, false), Ok(whole(5)));
        assert_eq!(ask(1, true), Err(status::GENERAL_ERROR));
        grant(grants, 2, flag::PERMIT_ACCESS, 3, 0x100);
        assert_eq!(ask(2, true), Err(status::BAD_PAGE));
        assert_eq!(flags_of(grants, 2), flag::PERMIT_ACCESS, "nothing is left of it");
        grant(grants, 3, flag::ACCEPT_TRANSFER, 3, 5);
        assert_eq!(ask(3, false), Err(status::GENERAL_ERROR));
        grant(grants, 4, flag::PERMIT_ACCESS, 3, 5);
        for _ in 0..0x80 {
            assert_eq!(ask(4, false), Ok(whole(5)));
        }
        assert_eq!(ask(4, false), Err(status::GENERAL_ERROR), "Xen counts no further");
    }
}

#[test]
fn parts_and_what_others_grant_are_for_copies() {
    let (grants, memory) = (table(2), Granter::default());
    let raw = |reference: u32, entry: EntryV2| {
        let frame = grants.shared(0).unwrap().frame().unwrap().as_u64();
        // SAFETY: the test's own page.
        unsafe { (frame as *mut EntryV2).add(reference as usize).write(entry) };
    };
    let part = flag::PERMIT_ACCESS | flag::SUB_PAGE;
    raw(8, EntryV2 { flags: part, domid: 3, page_off: 16, length: 32, frame: 5 });
    assert_eq!(acquire(grants, 8, wish(3, false, true), &memory), Err(status::GENERAL_ERROR));
    let frame = HostPhys::new((5 + FAR) * PAGE_SIZE);
    let granted = Granted::Bytes { frame, start: 16, length: 32 };
    assert_eq!(acquire(grants, 8, wish(3, false, false), &memory), Ok(granted));
    raw(8, EntryV2 { flags: flag::PERMIT_ACCESS, domid: 3, frame: 5, ..EntryV2::default() });
    let refused = Err(status::GENERAL_ERROR);
    assert_eq!(acquire(grants, 8, wish(3, false, true), &memory), refused, "in use as a part");
    raw(9, EntryV2 { flags: flag::TRANSITIVE, domid: 3, page_off: 6, frame: 77, ..EntryV2::default() });
    assert_eq!(acquire(grants, 9, wish(3, true, true), &memory), refused);
    let through = Granted::Through { domain: 6, reference: 77 };
    assert_eq!(acquire(grants, 9, wish(3, true, false), &memory), Ok(through));
    raw(9, EntryV2 { flags: flag::PERMIT_ACCESS, domid: 3, frame: 5, ..EntryV2::default() });
    release(grants, 9, 3, true);
    release(grants, 8, 3, false);
    assert!(!grants.is_in_use());
}

#[test]
fn a_change_of_version_keeps_the_tools_entries() {
    let grants = table(1);
    grant(grants, 0, USED, 0, 40);
    grant(grants, 20, flag::PERMIT_ACCESS, 0, 41);
    grants.change_version(2).unwrap();
    assert_eq!((grants.version(), grants.entries()), (2, 256));
    assert_eq!((flags_of(grants, 0), flags_of(grants, 20)), (USED, 0));
    assert_eq!(grants.entry(0).unwrap().0.target(), entry::Target::Page { gfn: 40 });
    grants.change_version(1).unwrap();
    assert_eq!((grants.version(), grants.entries(), grants.status_frames()), (1, 512, 0));
    assert_eq!(grants.entry(0).unwrap().0.as_v1().unwrap().frame, 40);
    assert_eq!(flags_of(grants, 0), USED);
}

#[test]
fn entries_change_places() {
    for version in [1, 2] {
        let grants = table(version);
        grant(grants, 10, flag::PERMIT_ACCESS, 3, 40);
        grant(grants, 11, flag::PERMIT_ACCESS | flag::READONLY, 4, 41);
        grants.entry(10).unwrap().0.swap(&grants.entry(11).unwrap().0);
        let (a, b) =
            (grants.entry(10).unwrap().0.as_v1().unwrap(), grants.entry(11).unwrap().0.as_v1().unwrap());
        assert_eq!((a.domid, a.frame, b.domid, b.frame), (4, 41, 3, 40));
        assert_eq!(b.flags, flag::PERMIT_ACCESS);
    }
}

#[test]
fn handles_are_used_again() {
    let maptrack: &Maptrack = zeroed();
    let mapping = |gfn| Mapping {
        domain: 0x7fef,
        home: 255,
        reference: u32::MAX,
        readonly: gfn % 2 == 0,
        frame: HostPhys::new(0x5000),
        gfn,
    };
    for gfn in 0..MAPPINGS as u64 {
        let handle = maptrack.vacant().unwrap();
        assert_eq!(u64::from(handle), gfn);
        maptrack.set(handle, &mapping(gfn));
    }
    assert_eq!((maptrack.vacant(), maptrack.get(MAPPINGS as u32)), (None, None));
    maptrack.remove(5);
    maptrack.remove(6);
    assert_eq!((maptrack.get(5), maptrack.vacant()), (None, Some(6)));
    maptrack.set(6, &mapping(1));
    assert_eq!((maptrack.get(6), maptrack.vacant()), (Some(mapping(1)), Some(5)));
    assert_eq!(maptrack.all().count(), MAPPINGS - 1);
    maptrack.reset();
    assert_eq!((maptrack.vacant(), maptrack.all().count()), (Some(0), 0));
}

/// Any number of cores that use and give up the same entries leave nothing behind, and never see it used by two domains.
#[test]
fn cores_meet_at_an_entry() {
    for version in [1, 2] {
        let (grants, memory) = (table(version), Granter::default());
        for reference in 8..10 {
            grant(grants, reference, flag::PERMIT_ACCESS, 3, reference);
        }
        let rounds = |write: bool| {
            for round in 0..20_000u32 {
                let reference = 8 + round % 2;
                if acquire(grants, reference, wish(3, write, round % 3 == 0), &memory).is_ok() {
                    let used = flags_of(grants, reference);
                    assert!(used & flag::READING != 0 && (!write || used & flag::WRITING != 0));
                    release(grants, reference, 3, write);
                }
            }
        };
        std::thread::scope(|scope| {
            for core in 0..4 {
                scope.spawn(move || rounds(core % 2 == 0));
            }
        });
        assert!(!grants.is_in_use());
        assert_eq!((flags_of(grants, 8), flags_of(grants, 9)), (flag::PERMIT_ACCESS, flag::PERMIT_ACCESS));
    }
}

/// A granter that writes anything at any time: whatever is granted is its own memory, and all of it ends.
#[test]
fn a_granter_that_changes_every_word() {
    for version in [1, 2] {
        let (grants, memory) = (table(version), Granter::default());
        let frames = [grants.shared(0).unwrap(), grants.status(0).unwrap()].map(|lent| lent.frame().unwrap());
        let stop = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seed = 0x9e37_79b9_7f4a_7c15u64;
                while stop.load(Ordering::Relaxed) == 0 {
                    for frame in frames {
                        for word in 8..16 {
                            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            // Words that are right often enough.
                            let value = seed & 0x1f | u64::from(3u16) << 16 | (seed >> 40) << 32;
                            // SAFETY: the test's own page.
                            let words = unsafe { &*(frame.as_u64() as *const Page) };
                            words.0[word].store(value, Ordering::Relaxed);
                        }
                    }
                }
            });
            let mut used = Vec::new();
            for round in 0..100_000u32 {
                let (reference, write) = (4 + round % 12, round % 3 == 0);
                match acquire(grants, reference, wish(3, write, round % 2 == 0), &memory) {
                    Ok(Granted::Bytes { frame, length, .. }) => {
                        assert!(frame.as_u64() / PAGE_SIZE - FAR < 0x100 && length <= 0xffff);
                        used.push((reference, write));
                    }
                    Ok(Granted::Through { .. }) => used.push((reference, write)),
                    Err(_) => {}
                }
                if used.len() > 20 || round % 5 == 0 {
                    for (reference, write) in used.drain(..) {
                        release(grants, reference, 3, write);
                    }
                }
            }
            for (reference, write) in used {
                release(grants, reference, 3, write);
            }
            stop.store(1, Ordering::Relaxed);
        });
        assert!(!grants.pins.iter().any(Pin::is_used));
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Grant { reference: usize, domain: DomId, readonly: bool },
    Revoke { reference: usize },
    Acquire { reference: usize, domain: DomId, write: bool },
    Release { reference: usize, domain: DomId, write: bool },
}

fn act() -> impl Strategy<Value = Act> {
    let (reference, domain) = (0usize..3, 3u16..5);
    prop_oneof![
        (reference.clone(), domain.clone(), any::<bool>())
            .prop_map(|(reference, domain, readonly)| Act::Grant { reference, domain, readonly }),
        reference.clone().prop_map(|reference| Act::Revoke { reference }),
        (reference.clone(), domain.clone(), any::<bool>())
            .prop_map(|(reference, domain, write)| Act::Acquire { reference, domain, write }),
        (reference, domain, any::<bool>()).prop_map(|(reference, domain, write)| Act::Release {
            reference,
            domain,
            write
        }),
    ]
}

/// What a well-behaved granter and its peers know of an entry.
#[derive(Clone, Default)]
struct Known {
    granted: Option<(DomId, bool)>,
    uses: Vec<(DomId, bool)>,
}

proptest! {
    #[test]
    fn as_a_list_of_uses_would_have_it(version in 1u32..3, acts in prop::collection::vec(act(), 1..80)) {
        let (grants, memory) = (table(version), Granter::default());
        let mut known = vec![Known::default(); 3];
        for act in acts {
            match act {
                Act::Grant { reference, domain, readonly } => {
                    let entry = &mut known[reference];
                    if entry.granted.is_none() {
                        let mark = if readonly { flag::READONLY } else { 0 };
                        grant(grants, reference as u32, flag::PERMIT_ACCESS | mark, domain, reference as u32);
                        entry.granted = Some((domain, readonly));
                    }
                }
                Act::Revoke { reference } => {
                    let used = flags_of(grants, reference as u32) & (flag::READING | flag::WRITING) != 0;
                    prop_assert_eq!(used, !known[reference].uses.is_empty());
                    if !used {
                        grant(grants, reference as u32, 0, 0, 0);
                        known[reference].granted = None;
                    }
                }
                Act::Acquire { reference, domain, write } => {
                    let entry = &mut known[reference];
                    let may = entry.granted.is_some_and(|(to, readonly)| to == domain && !(write && readonly));
                    let got = acquire(grants, reference as u32, wish(domain, write, true), &memory);
                    prop_assert_eq!(got, if may { Ok(whole(reference as u64)) } else { Err(status::GENERAL_ERROR) });
                    if may {
                        entry.uses.push((domain, write));
                    }
                }
                Act::Release { reference, domain, write } => {
                    release(grants, reference as u32, domain, write);
                    let uses = &mut known[reference].uses;
                    if let Some(at) = uses.iter().position(|&found| found == (domain, write)) {
                        uses.swap_remove(at);
                    }
                }
            }
            for (reference, entry) in known.iter().enumerate() {
                let writing = entry.uses.iter().any(|&(_, write)| write);
                let now = flags_of(grants, reference as u32);
                prop_assert_eq!(now & flag::READING != 0, !entry.uses.is_empty());
                prop_assert_eq!(now & flag::WRITING != 0, writing);
            }
        }
    }
}
