//! What the calls promise, one example each.

mod common;

use abi::address::{GuestPhys, HostPhys, PageCount};
use common::pool::Pool;
use common::raw::{Audit, dirty};
use ept::{Access, Ept, Invalidation, MapError, MemoryType, NoPlace, PageSize, Permissions, Settings};

const RWX: Permissions = Permissions::READ_WRITE_EXECUTE;
const GIB: u64 = 1 << 30;
const MIB_2: u64 = 1 << 21;
const BEST: Settings = Settings {
    largest_page: PageSize::Size1GiB,
    execute_only: true,
    accessed_dirty: false,
    host_address_bits: 40,
};

struct Guest {
    pool: Pool,
    ept: Ept,
}

impl Guest {
    fn new(settings: Settings) -> Self {
        let mut pool = Pool::new();
        let ept = Ept::new(&mut pool, settings).unwrap();
        Self { pool, ept }
    }

    fn map(&mut self, gpa: u64, hpa: u64, bytes: u64) -> Result<(), MapError> {
        let (gpa, hpa, pages) = (GuestPhys::new(gpa), HostPhys::new(hpa), PageCount::covering(bytes));
        self.ept.map(&mut self.pool, gpa, hpa, pages, RWX, MemoryType::WriteBack)
    }

    fn unmap(&mut self, gpa: u64, bytes: u64) -> Result<Invalidation, MapError> {
        self.ept.unmap(&mut self.pool, GuestPhys::new(gpa), PageCount::covering(bytes))
    }

    fn protect(&mut self, gpa: u64, bytes: u64, permissions: Permissions) -> Result<Invalidation, MapError> {
        self.ept.protect(&mut self.pool, GuestPhys::new(gpa), PageCount::covering(bytes), permissions)
    }

    fn page_sizes(&self) -> Vec<u64> {
        Audit::of(&self.pool, self.ept.root().as_u64()).leaves.iter().map(|leaf| leaf.bytes).collect()
    }

    fn tables(&self) -> usize {
        self.pool.live().len()
    }
}

#[test]
fn the_highest_page_is_found_behind_empty_tables() {
    let mut guest = Guest::new(BEST);
    let highest = |guest: &Guest| guest.ept.view().highest(&guest.pool).map(GuestPhys::as_u64);
    assert_eq!(highest(&guest), None);
    guest.map(0x3000, 0x3000, 0x2000).unwrap();
    assert_eq!(highest(&guest), Some(0x4000));
    guest.map(GIB, GIB, MIB_2).unwrap();
    assert_eq!(highest(&guest), Some(GIB + MIB_2 - 0x1000));
    guest.map(3 * GIB, 3 * GIB, 0x1000).unwrap();
    let _ = guest.ept.clear(&mut guest.pool, GuestPhys::new(3 * GIB), PageCount::new(1)).unwrap();
    assert_eq!(highest(&guest), Some(GIB + MIB_2 - 0x1000));
}

#[test]
fn the_pointer_names_root_walk_and_flags() {
    let mut pool = Pool::new();
    let plain = Ept::new(&mut pool, BEST).unwrap();
    assert_eq!(plain.eptp(), plain.root().as_u64() | 0x1e);
    let flagged = Ept::new(&mut pool, Settings { accessed_dirty: true, ..BEST }).unwrap();
    assert_eq!(flagged.eptp(), 0x1000 | 0x5e);
}

#[test]
fn memory_is_mapped_in_the_largest_pages_that_fit() {
    let mut guest = Guest::new(BEST);
    guest.map(GIB - MIB_2 - 4096, 3 * GIB - MIB_2 - 4096, GIB + 2 * MIB_2 + 8192).unwrap();
    assert_eq!(guest.page_sizes(), [4096, MIB_2, GIB, MIB_2, 4096]);

    let mut guest = Guest::new(Settings { largest_page: PageSize::Size2MiB, ..BEST });
    guest.map(0, 0, GIB).unwrap();
    assert_eq!(guest.page_sizes(), [MIB_2; 512]);
    assert_eq!(guest.tables(), 3);

    let mut guest = Guest::new(BEST);
    guest.map(0, 4096, MIB_2).unwrap();
    assert_eq!(guest.page_sizes(), [4096; 512], "unlike alignment leaves small pages");
}

#[test]
fn what_is_mapped_stays_until_unmapped() {
    let mut guest = Guest::new(BEST);
    guest.map(MIB_2, 0, MIB_2).unwrap();
    let before = guest.pool.clone();
    assert_eq!(guest.map(0, 8 * MIB_2, GIB), Err(MapError::AlreadyMapped(GuestPhys::new(MIB_2))));
    assert_eq!(guest.map(MIB_2 + 4096, 0, 4096), Err(MapError::AlreadyMapped(GuestPhys::new(MIB_2 + 4096))));
    assert!(guest.pool.same_contents(&before));
    assert_eq!(guest.unmap(MIB_2, MIB_2), Ok(Invalidation::Needed));
    assert_eq!(guest.tables(), 1);
    guest.map(0, 8 * MIB_2, GIB).unwrap();
}

#[test]
fn a_failed_call_has_written_nothing_to_the_tables_in_use() {
    let mut guest = Guest::new(BEST);
    guest.map(0, 0, GIB).unwrap();
    let before = guest.pool.clone();
    for budget in 0..2 {
        guest.pool.budget = Some(budget);
        assert_eq!(guest.unmap(4096, 4096), Err(MapError::OutOfFrames));
        guest.pool.budget = Some(budget);
        assert_eq!(guest.protect(4096, 4096, Permissions::READ), Err(MapError::OutOfFrames));
        guest.pool.budget = Some(budget);
        assert_eq!(guest.map(1 << 40, 0, 4096), Err(MapError::OutOfFrames));
        assert!(guest.pool.same_contents(&before));
    }
    guest.pool.budget = Some(2);
    assert_eq!(guest.unmap(4096, 4096), Ok(Invalidation::Needed));
}

#[test]
fn a_hole_splits_and_merge_heals() {
    let mut guest = Guest::new(BEST);
    guest.map(0, GIB, GIB).unwrap();
    assert_eq!(guest.unmap(5 * MIB_2 + 4096, 4096), Ok(Invalidation::Needed));
    assert_eq!(guest.page_sizes().len(), 511 + 511);
    assert_eq!(guest.ept.merge(&mut guest.pool), Invalidation::None);
    guest.map(5 * MIB_2 + 4096, GIB + 5 * MIB_2 + 4096, 4096).unwrap();
    assert_eq!(guest.ept.merge(&mut guest.pool), Invalidation::Needed);
    assert_eq!(guest.page_sizes(), [GIB]);
    assert_eq!(guest.tables(), 2);
}

#[test]
fn only_contiguous_memory_merges() {
    let mut guest = Guest::new(BEST);
    guest.map(0, MIB_2, 4096).unwrap();
    guest.map(4096, 0, 4096).unwrap();
    guest.map(8192, MIB_2 + 8192, MIB_2 - 8192).unwrap();
    assert_eq!(guest.ept.merge(&mut guest.pool), Invalidation::None);
    assert_eq!(guest.page_sizes(), [4096; 512]);
}

#[test]
fn what_the_guest_wrote_stays_dirty_through_split_and_merge() {
    let mut guest = Guest::new(Settings { accessed_dirty: true, ..BEST });
    let dirty_pages = |guest: &Guest| {
        let audit = Audit::of(&guest.pool, guest.ept.root().as_u64());
        audit.leaves.iter().filter(|leaf| leaf.dirty).map(|leaf| leaf.bytes).collect::<Vec<_>>()
    };
    guest.map(0, 4096, 4096).unwrap();
    guest.map(MIB_2, 0, MIB_2).unwrap();
    assert_eq!(guest.protect(MIB_2, 4096, Permissions::READ_WRITE), Ok(Invalidation::Needed));
    assert!(dirty(&mut guest.pool, guest.ept.root().as_u64(), MIB_2 + 4096));
    assert_eq!(dirty_pages(&guest), [4096]);
    assert_eq!(guest.protect(MIB_2, 4096, RWX), Ok(Invalidation::Needed));
    assert_eq!(guest.ept.merge(&mut guest.pool), Invalidation::Needed);
    assert_eq!(dirty_pages(&guest), [MIB_2]);
    assert_eq!(guest.unmap(MIB_2, 4096), Ok(Invalidation::Needed));
    assert_eq!(dirty_pages(&guest), [4096; 511]);
}

#[test]
fn invalidation_is_asked_for_when_a_translation_changes() {
    let mut guest = Guest::new(BEST);
    guest.map(0, 0, MIB_2).unwrap();
    assert_eq!(guest.unmap(MIB_2, GIB), Ok(Invalidation::None), "nothing was there");
    guest.pool.budget = Some(0);
    assert_eq!(guest.protect(0, 4096, RWX), Ok(Invalidation::None), "nothing is new");
    guest.pool.budget = None;
    assert_eq!(guest.page_sizes(), [MIB_2], "and nothing was split for it");
    assert_eq!(guest.protect(0, 4096, Permissions::READ), Ok(Invalidation::Needed));
    assert_eq!(guest.protect(0, 4096, RWX), Ok(Invalidation::Needed));
    assert_eq!(Invalidation::None.and(Invalidation::Needed), Invalidation::Needed);
}

#[test]
fn permissions_that_no_entry_can_hold_are_refused() {
    let mut guest = Guest::new(Settings { execute_only: false, ..BEST });
    guest.map(0, 0, 4096).unwrap();
    let refused = [Permissions::empty(), Permissions::WRITE, Permissions::EXECUTE];
    for permissions in refused {
        assert_eq!(guest.protect(0, 4096, permissions), Err(MapError::Permissions(permissions)));
    }
    let mut guest = Guest::new(BEST);
    guest.map(0, 0, 4096).unwrap();
    assert_eq!(guest.protect(0, 4096, Permissions::EXECUTE), Ok(Invalidation::Needed));
    let gpa = GuestPhys::new(12);
    assert!(guest.ept.translate(&guest.pool, gpa, Access::Execute).is_some());
    assert_eq!(guest.ept.translate(&guest.pool, gpa, Access::Read), None);
}

#[test]
fn a_pointer_into_a_device_is_not_memory() {
    let mut guest = Guest::new(BEST);
    let (gpa, hpa) = (GuestPhys::new(0xfee0_0000), HostPhys::new(0xfee0_0000));
    let uncacheable = MemoryType::Uncacheable;
    guest
        .ept
        .map(&mut guest.pool, gpa, hpa, PageCount::new(1), Permissions::READ_WRITE, uncacheable)
        .unwrap();
    assert_eq!(guest.ept.translate(&guest.pool, gpa, Access::Read), None);
    let mapping = guest.ept.lookup(&guest.pool, GuestPhys::new(0xfee0_0123)).unwrap();
    assert_eq!((mapping.gpa, mapping.hpa, mapping.memory), (gpa, hpa, uncacheable));
}

#[test]
fn a_translation_says_how_far_it_reaches() {
    let mut guest = Guest::new(BEST);
    guest.map(0, 2 * GIB, GIB + 4096).unwrap();
    let translation = guest.ept.translate(&guest.pool, GuestPhys::new(GIB - 16), Access::Write).unwrap();
    assert_eq!((translation.hpa, translation.bytes_left), (HostPhys::new(3 * GIB - 16), 16));
    let translation = guest.ept.translate(&guest.pool, GuestPhys::new(GIB + 4095), Access::Read).unwrap();
    assert_eq!((translation.hpa, translation.bytes_left), (HostPhys::new(3 * GIB + 4095), 1));
    assert_eq!(guest.ept.translate(&guest.pool, GuestPhys::new(GIB + 4096), Access::Read), None);
}

#[test]
fn the_whole_address_space_and_no_more() {
    let mut guest = Guest::new(Settings { host_address_bits: 52, ..BEST });
    let all = PageCount::new(1 << 36);
    let zero = GuestPhys::new(0);
    guest.ept.map(&mut guest.pool, zero, HostPhys::new(0), all, RWX, MemoryType::WriteBack).unwrap();
    assert_eq!(guest.tables(), 513);
    assert_eq!(guest.unmap((1 << 48) - 4096, 8192), Err(MapError::OutOfRange));
    assert_eq!(guest.ept.unmap(&mut guest.pool, zero, all), Ok(Invalidation::Needed));
    assert_eq!(guest.tables(), 1);

    let mut guest = Guest::new(BEST);
    assert_eq!(guest.map(0, (1 << 40) - 4096, 8192), Err(MapError::OutOfRange));
    assert_eq!(guest.map(0, u64::MAX - 4095, 4096), Err(MapError::OutOfRange));
    let mut guest = Guest::new(Settings { host_address_bits: u8::MAX, ..BEST });
    assert_eq!(guest.map(0, 1 << 52, 4096), Err(MapError::OutOfRange));
}

#[test]
fn no_root_without_a_frame() {
    let mut pool = Pool::new();
    pool.budget = Some(0);
    assert_eq!(Ept::new(&mut pool, BEST).err(), Some(MapError::OutOfFrames));
}

#[test]
fn what_is_cleared_leaves_its_tables_and_can_be_mapped_again() {
    let mut guest = Guest::new(BEST);
    guest.map(0, 0, 2 * MIB_2).unwrap();
    let before = guest.tables();
    let clear = |guest: &mut Guest, gpa: u64, bytes: u64| {
        guest.ept.clear(&mut guest.pool, GuestPhys::new(gpa), PageCount::covering(bytes)).unwrap()
    };
    assert_eq!(clear(&mut guest, 0, 4096), Invalidation::Needed);
    assert_eq!(guest.tables(), before + 1, "the large page was split");
    assert_eq!(clear(&mut guest, 0, MIB_2), Invalidation::Needed);
    assert_eq!(clear(&mut guest, 0, MIB_2), Invalidation::None);
    assert_eq!(guest.tables(), before + 1);
    let view = guest.ept.view();
    assert!(view.translate(&guest.pool, GuestPhys::new(0), Access::Read).is_none());
    guest.map(0, 8 * MIB_2, MIB_2).unwrap();
    assert_eq!(guest.page_sizes().len(), 513, "the empty table gets the pages");
    let found = view.translate(&guest.pool, GuestPhys::new(4096), Access::Read).unwrap();
    assert_eq!(found.hpa, HostPhys::new(8 * MIB_2 + 4096));
    assert_eq!(guest.unmap(0, 2 * MIB_2), Ok(Invalidation::Needed));
    assert_eq!(guest.tables(), 1);
}

#[test]
fn single_pages_come_and_go() {
    for accessed_dirty in [false, true] {
        let mut guest = Guest::new(Settings { accessed_dirty, ..BEST });
        guest.map(MIB_2, MIB_2, MIB_2).unwrap();
        let at = |gpa: u64| GuestPhys::new(gpa);
        assert_eq!(guest.ept.vacancy(&guest.pool, at(0x5000)), Err(NoPlace::NoTable));
        assert_eq!(guest.ept.vacancy(&guest.pool, at(MIB_2 + 0x5000)), Err(NoPlace::Taken));
        assert_eq!(guest.ept.vacancy(&guest.pool, at(u64::MAX)), Err(NoPlace::OutOfRange));
        assert_eq!(guest.ept.occupant(&guest.pool, at(MIB_2)), None, "a larger page");
        guest.map(0x4000, 0x9000, 0x1000).unwrap();
        let place = guest.ept.vacancy(&guest.pool, at(0x5fff)).unwrap();
        assert!(!guest.ept.fill(&mut guest.pool, place, HostPhys::new(0x7000), Permissions::WRITE));
        assert!(guest.ept.fill(&mut guest.pool, place, HostPhys::new(0x7000), Permissions::READ));
        assert_eq!(guest.ept.vacancy(&guest.pool, at(0x5000)), Err(NoPlace::Taken));
        let found = guest.ept.translate(&guest.pool, at(0x5123), Access::Read).unwrap();
        assert_eq!(found.hpa, HostPhys::new(0x7123));
        assert_eq!(guest.ept.translate(&guest.pool, at(0x5000), Access::Write), None);
        assert_eq!(guest.ept.occupant(&guest.pool, at(0x5000)), Some((place, HostPhys::new(0x7000))));
        let unused = if accessed_dirty { Invalidation::None } else { Invalidation::Needed };
        assert_eq!(guest.ept.vacate(&mut guest.pool, place), unused);
        assert_eq!(guest.ept.occupant(&guest.pool, at(0x5000)), None);
        assert_eq!(guest.ept.vacancy(&guest.pool, at(0x5000)), Ok(place));
    }
}

/// Two sets of one guest: what is below the end changes places, large pages and small, and what is above stays.
#[test]
fn two_sets_exchange_a_range() {
    let mut guest = Guest::new(Settings { largest_page: PageSize::Size2MiB, ..BEST });
    let mut other = Ept::new(&mut guest.pool, guest.ept.settings()).unwrap();
    guest.map(0, 8 * MIB_2, MIB_2).unwrap();
    guest.map(GIB + 0x1000, 0x5000, 0x2000).unwrap();
    guest.map(2 * GIB, 0x9000, 0x1000).unwrap();
    let (at, pages) = (GuestPhys::new(0x3000), PageCount::new(1));
    other.map(&mut guest.pool, at, HostPhys::new(0x7000), pages, RWX, MemoryType::WriteBack).unwrap();
    let seen = |pool: &Pool, ept: &Ept, at: u64| {
        ept.view().translate(pool, GuestPhys::new(at), Access::Read).map(|found| found.hpa.as_u64())
    };
    let end = GuestPhys::new(GIB + MIB_2);
    let Guest { pool, ept } = &mut guest;
    for _ in 0..3 {
        assert_eq!([0, 0x3000, GIB + 0x1000].map(|at| seen(pool, &other, at)), [None, Some(0x7000), None]);
        assert_eq!(ept.exchange(&mut other, pool, end), Ok(Invalidation::Needed));
        assert_eq!([0x3000, 2 * GIB].map(|at| seen(pool, ept, at)), [Some(0x7000), Some(0x9000)]);
        assert_eq!(
            [0x3000, GIB + 0x2000, 2 * GIB].map(|at| seen(pool, &other, at)),
            [Some(8 * MIB_2 + 0x3000), Some(0x6000), None]
        );
        assert_eq!(seen(pool, ept, GIB + 0x2000), None);
        assert_eq!(other.exchange(ept, pool, end), Ok(Invalidation::Needed));
    }
    assert_eq!(ept.exchange(&mut other, pool, GuestPhys::new(0x1000)), Err(MapError::Misaligned));
    assert_eq!(ept.exchange(&mut other, pool, GuestPhys::new(1 << 49)), Err(MapError::OutOfRange));
    let _ = (other.destroy(pool), guest.ept.destroy(&mut guest.pool));
    assert_eq!(guest.pool.live(), []);
}

/// Where a set has no table for the range, and there is no frame for one, nothing is exchanged.
#[test]
fn an_exchange_without_frames_changes_nothing() {
    let mut guest = Guest::new(BEST);
    guest.map(0, 8 * MIB_2, MIB_2).unwrap();
    for budget in 0..2 {
        let mut other = Ept::new(&mut guest.pool, BEST).unwrap();
        guest.pool.budget = Some(budget);
        let end = GuestPhys::new(MIB_2);
        assert_eq!(guest.ept.exchange(&mut other, &mut guest.pool, end), Err(MapError::OutOfFrames));
        guest.pool.budget = None;
        assert_eq!(guest.page_sizes(), [MIB_2]);
        let _ = other.destroy(&mut guest.pool);
    }
    guest.map(GIB, GIB, GIB).unwrap();
    let mut other = Ept::new(&mut guest.pool, BEST).unwrap();
    let end = GuestPhys::new(2 * GIB);
    let exchanged = guest.ept.exchange(&mut other, &mut guest.pool, end);
    assert_eq!(exchanged, Err(MapError::AlreadyMapped(GuestPhys::new(GIB))));
    assert_eq!(guest.page_sizes(), [MIB_2, GIB]);
}
