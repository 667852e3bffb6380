//! Rows of what a para guest asks for, that need nobody else: the same on Atoll and on Xen, to be set side by side.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::address::PAGE_SIZE;
use abi::xen::DOMID_SELF;
use abi::xen::event_channel::virq;
use abi::xen::grant_table::{self as grant, Copy, CopySide, MapGrantRef, QuerySize, UnmapGrantRef};
use abi::xen::hypercall::{GRANT_TABLE_OP, MULTICALL, MulticallEntry, VCPU_OP, XEN_VERSION, vcpu, version};
use abi::xen::vcpu_time::SetSingleshotTimer;
use alloc::boxed::Box;
use guest_kernel::grants::{Access, Table};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu, grants, hypercall, memory, shared_info, upcall};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;

use crate::local::{Sampling, repeat};
use crate::second::Second;
use crate::{print, ring};

/// Calls in one list.
const LIST: usize = 32;
/// Where the grant table and what is granted appear: above all RAM, below the windows that others have.
const TABLE: u64 = memory::SHARED_INFO_ADDRESS - 15 * PAGE_SIZE;
const GRANTED: u64 = TABLE + PAGE_SIZE;
/// Where the ring's pages appear.
const WINDOW: u64 = GRANTED + PAGE_SIZE;

/// A page; whoever it is granted to may write it at any time.
#[repr(align(4096))]
struct Page([AtomicU64; WORDS]);
const WORDS: usize = PAGE_SIZE as usize / 8;

impl Page {
    fn of(word: u64) -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(word)))
    }

    fn frame(&self) -> u32 {
        (core::ptr::from_ref(self) as u64 / PAGE_SIZE) as u32
    }
}

/// Measures and prints all of them. `domain`: this one's number.
pub fn measure(platform: &Atoll, sampling: &Sampling, domain: u16) {
    multicall(sampling);
    event_masked(sampling);
    upcall_entered(platform, sampling);
    timers(platform, sampling);
    print(repeat("grant_query_size", sampling, || {
        let mut query = QuerySize { dom: DOMID_SELF, ..QuerySize::default() };
        core::hint::black_box(call(GRANT_TABLE_OP, [grant::QUERY_SIZE, address(&mut query), 1, 0, 0]));
    }));
    let table = memory::map_window(TABLE..WINDOW).ok().and_then(|()| grants::table(TABLE).ok());
    let Some(mut table) = table.map(Table::new) else {
        return say!("bench: there is no grant table: no row of grants, and no ring");
    };
    copied(&mut table, sampling, domain);
    mapped(&mut table, sampling, domain);
    if let Some(second) = Second::start(platform) {
        second.measure(sampling.empty);
        ring::measure(platform, &second, &mut table, domain, WINDOW, sampling.empty);
    }
}

/// A hypercall; what it takes is the caller's business.
fn call(number: u64, arguments: [u64; 5]) -> u64 {
    // SAFETY: the structures of these calls are locals of the callers', alive for as long as the call.
    unsafe { hypercall::raw(number, arguments) }
}

fn address<T>(of: &mut T) -> u64 {
    core::ptr::from_mut(of) as u64
}

fn multicall(sampling: &Sampling) {
    let mut row = Row::new("multicall_entry");
    while !row.is_complete() {
        let mut list =
            [MulticallEntry { op: XEN_VERSION, result: 0, args: [version::VERSION, 0, 0, 0, 0, 0] }; LIST];
        let before = cpu::tsc();
        call(MULTICALL, [address(&mut list), LIST as u64, 0, 0, 0]);
        row.add(cpu::tsc().wrapping_sub(before).saturating_sub(sampling.empty), LIST as u64);
    }
    print(row);
}

/// An event to oneself that is only noted, and taken down again.
fn event_masked(sampling: &Sampling) {
    let (Ok(port), Some(shared)) = (hypercall::bind_ipi(0), shared_info()) else { return };
    shared.mask(port);
    print(repeat("event_self_masked", sampling, || {
        let _ = hypercall::send(port);
        shared.clear(port);
    }));
    let _ = hypercall::close(port);
    // Whoever gets this port next wants to hear of it.
    shared.unmask(port);
}

/// From before the hypercall to the first instruction of the upcall's handler.
fn upcall_entered(platform: &Atoll, sampling: &Sampling) {
    let Ok(port) = hypercall::bind_ipi(0) else { return };
    let mut row = Row::new("upcall_entered");
    cpu::with_interrupts(|| {
        while !row.is_complete() {
            platform.take_events(&mut |_| ());
            let (_, upcalls) = upcall::last();
            let before = cpu::tsc();
            let _ = hypercall::send(port);
            while upcall::last().1 == upcalls {
                core::hint::spin_loop();
            }
            row.add(upcall::last().0.wrapping_sub(before).saturating_sub(sampling.empty), 1);
        }
    });
    platform.close(port);
    print(row);
}

fn set_timer(deadline: u64) -> u64 {
    let mut timer = SetSingleshotTimer { timeout_abs_ns: deadline, flags: 0, pad: 0 };
    call(VCPU_OP, [vcpu::SET_SINGLESHOT_TIMER, 0, address(&mut timer), 0, 0])
}

/// A timer that is far off; and one that is due at once, until its event has been taken.
fn timers(platform: &Atoll, sampling: &Sampling) {
    print(repeat("timer_set", sampling, || {
        core::hint::black_box(set_timer(u64::MAX / 4));
    }));
    let Ok(port) = hypercall::bind_virq(virq::TIMER) else {
        say!("bench: timer_fired: the timer has a port already");
        return;
    };
    let mut row = Row::new("timer_fired");
    cpu::with_interrupts(|| {
        while !row.is_complete() {
            platform.take_events(&mut |_| ());
            let (_, upcalls) = upcall::last();
            let before = cpu::tsc();
            set_timer(1);
            while upcall::last().1 == upcalls {
                core::hint::spin_loop();
            }
            row.add(cpu::tsc().wrapping_sub(before).saturating_sub(sampling.empty), 1);
        }
    });
    platform.close(port);
    print(row);
}

/// A page granted to oneself, copied to.
fn copied(table: &mut Table<'_>, sampling: &Sampling, domain: u16) {
    let page: &'static Page = Box::leak(Box::new(Page::of(7)));
    let from = Page::of(9);
    let Some(reference) = table.grant(domain, page.frame(), Access::Write) else { return };
    let copy = || {
        let mut copy = Copy {
            source: CopySide { page: from.frame().into(), domid: DOMID_SELF, offset: 0, pad: 0 },
            dest: CopySide { page: reference.0.into(), domid: domain, offset: 0, pad: 0 },
            len: PAGE_SIZE as u16,
            flags: grant::copy_flag::DEST_GREF,
            ..Copy::default()
        };
        call(GRANT_TABLE_OP, [grant::COPY, address(&mut copy), 1, 0, 0]);
        copy.status
    };
    let status = copy();
    if status != 0 || page.0[WORDS - 1].load(Relaxed) != 9 {
        say!("bench: grant_copy_4k: {status}");
    } else {
        print(repeat("grant_copy_4k", sampling, || {
            core::hint::black_box(copy());
        }));
    }
    let _ = table.revoke(reference);
}

/// A page granted to oneself, mapped and unmapped: another one each time, because Xen takes a page that is mapped from
/// where its owner had it.
fn mapped(table: &mut Table<'_>, sampling: &Sampling, domain: u16) {
    let mut row = Row::new("grant_map_unmap");
    while !row.is_complete() {
        let page: &'static Page = Box::leak(Box::new(Page::of(7)));
        let Some(reference) = table.grant(domain, page.frame(), Access::Write) else { return };
        let mut map = MapGrantRef {
            host_addr: GRANTED,
            flags: grant::map_flag::HOST_MAP,
            reference: reference.0,
            dom: domain,
            status: grant::status::GENERAL_ERROR,
            ..MapGrantRef::default()
        };
        let mut unmap = UnmapGrantRef {
            host_addr: GRANTED,
            status: grant::status::GENERAL_ERROR,
            ..UnmapGrantRef::default()
        };
        let before = cpu::tsc();
        call(GRANT_TABLE_OP, [grant::MAP_GRANT_REF, address(&mut map), 1, 0, 0]);
        unmap.handle = map.handle;
        call(GRANT_TABLE_OP, [grant::UNMAP_GRANT_REF, address(&mut unmap), 1, 0, 0]);
        row.add(cpu::tsc().wrapping_sub(before).saturating_sub(sampling.empty), 1);
        if map.status != 0 || unmap.status != 0 || table.revoke(reference).is_err() {
            return say!("bench: grant_map_unmap: {} and {}", map.status, unmap.status);
        }
    }
    print(row);
}
