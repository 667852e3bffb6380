//! Rows of what a para guest asks for, that need nobody else: the same on Atoll and on Xen, to be set side by side.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use abi::address::PAGE_SIZE;
use abi::xen::DOMID_SELF;
use abi::xen::event_channel::virq;
use abi::xen::grant_table::{self as grant, Copy, CopySide, MapGrantRef, QuerySize, UnmapGrantRef};
use abi::xen::hypercall::{GRANT_TABLE_OP, MULTICALL, MulticallEntry, VCPU_OP, XEN_VERSION, vcpu, version};
use abi::xen::shared_info::{EVTCHN_MASK, EVTCHN_PENDING};
use abi::xen::vcpu_time::SetSingleshotTimer;
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, cpu, grants as table, hypercall, memory, upcall};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;

use crate::local::{Sampling, repeat};
use crate::print;

/// Calls in one list.
const LIST: usize = 32;
/// Where the grant table and what is granted appear: above all RAM, below the windows that others have.
const TABLE: u64 = memory::SHARED_INFO_ADDRESS - 15 * PAGE_SIZE;
const GRANTED: u64 = TABLE + PAGE_SIZE;
/// The entry that is granted with: behind those that are the toolstack's.
const REFERENCE: u32 = 9;

#[repr(align(4096))]
struct Page([u8; PAGE_SIZE as usize]);

/// Measures and prints all of them. `domain`: this one's number.
pub fn measure(platform: &Atoll, sampling: &Sampling, domain: u16) {
    multicall(sampling);
    event_masked(sampling);
    timers(platform, sampling);
    grants(sampling, domain);
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

/// A bit of the shared-info page.
fn word(offset: usize, port: u32) -> (&'static AtomicU64, u64) {
    let at = memory::SHARED_INFO_ADDRESS + offset as u64 + u64::from(port / 64) * 8;
    // SAFETY: the shared-info page is mapped for good, and both sides use atomic words.
    (unsafe { &*(at as *const AtomicU64) }, 1 << (port % 64))
}

/// An event to oneself that is only noted, and taken down again.
fn event_masked(sampling: &Sampling) {
    let Ok(port) = hypercall::bind_ipi() else { return };
    let ((mask, bit), (pending, _)) = (word(EVTCHN_MASK, port), word(EVTCHN_PENDING, port));
    mask.fetch_or(bit, SeqCst);
    print(repeat("event_self_masked", sampling, || {
        let _ = hypercall::send(port);
        pending.fetch_and(!bit, SeqCst);
    }));
    let _ = hypercall::close(port);
    // Whoever gets this port next wants to hear of it.
    mask.fetch_and(!bit, SeqCst);
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

/// A page granted to oneself: mapped and unmapped, and copied to.
fn grants(sampling: &Sampling, domain: u16) {
    print(repeat("grant_query_size", sampling, || {
        let mut query = QuerySize { dom: DOMID_SELF, ..QuerySize::default() };
        core::hint::black_box(call(GRANT_TABLE_OP, [grant::QUERY_SIZE, address(&mut query), 1, 0, 0]));
    }));
    if let Err(error) = table::place(0, TABLE) {
        say!("bench: grant_map_unmap: no grant table ({error:?})");
        return;
    }
    if memory::map_window(TABLE..TABLE + PAGE_SIZE).is_err() {
        say!("bench: grant_map_unmap: no window for the grant table");
        return;
    }
    let mut page = Page([7; PAGE_SIZE as usize]);
    let from = Page([9; PAGE_SIZE as usize]);
    let frame = address(&mut page) / PAGE_SIZE;
    let entry = (TABLE as usize + REFERENCE as usize * grant::V1_ENTRY) as *mut u32;
    // SAFETY: the grant table is mapped, and this entry is nobody else's; the page lives to the end of this function.
    unsafe {
        entry.add(1).write_volatile(frame as u32);
        entry.write_volatile(u32::from(grant::flag::PERMIT_ACCESS) | u32::from(domain) << 16);
    }
    let map = || {
        let mut map = MapGrantRef {
            host_addr: GRANTED,
            flags: grant::map_flag::HOST_MAP,
            reference: REFERENCE,
            dom: domain,
            ..MapGrantRef::default()
        };
        call(GRANT_TABLE_OP, [grant::MAP_GRANT_REF, address(&mut map), 1, 0, 0]);
        (map.status, map.handle)
    };
    let unmap = |handle| {
        let mut unmap = UnmapGrantRef { host_addr: GRANTED, handle, ..UnmapGrantRef::default() };
        call(GRANT_TABLE_OP, [grant::UNMAP_GRANT_REF, address(&mut unmap), 1, 0, 0]);
        unmap.status
    };
    let (status, handle) = map();
    if status != 0 || unmap(handle) != 0 {
        say!("bench: grant_map_unmap: {status}");
    } else {
        print(repeat("grant_map_unmap", sampling, || {
            let (_, handle) = map();
            core::hint::black_box(unmap(handle));
        }));
    }
    let copy = || {
        let mut copy = Copy {
            source: CopySide {
                page: &raw const from as u64 / PAGE_SIZE,
                domid: DOMID_SELF,
                offset: 0,
                pad: 0,
            },
            dest: CopySide { page: REFERENCE.into(), domid: domain, offset: 0, pad: 0 },
            len: PAGE_SIZE as u16,
            flags: grant::copy_flag::DEST_GREF,
            ..Copy::default()
        };
        call(GRANT_TABLE_OP, [grant::COPY, address(&mut copy), 1, 0, 0]);
        copy.status
    };
    let status = copy();
    if status != 0 || page.0[100] != from.0[100] {
        say!("bench: grant_copy_4k: {status}");
    } else {
        print(repeat("grant_copy_4k", sampling, || {
            core::hint::black_box(copy());
        }));
    }
    // SAFETY: as above.
    unsafe { entry.write_volatile(0) };
}
