//! Every call that takes a pointer, with pointers that lead nowhere.

use abi::address::PAGE_SIZE;
use abi::xen::DOMID_SELF;
use abi::xen::grant_table::{MapGrantRef, map_flag};
use abi::xen::hypercall::{self as number, MULTICALL, MulticallEntry};
use abi::xen::memory::{DECREASE_RESERVATION, POPULATE_PHYSMAP, Reservation};
use guest_kernel::grants::Hypervisor;
use guest_kernel::platform::atoll::{grants, memory};
use guest_kernel::say;

use crate::calls::{HOLE, call, frame, is_accepted, with};

/// Calls of the form (operation, pointer), and how many operations each has.
const CALLS: [(u64, u64); 8] = [
    (number::MEMORY_OP, 30),
    (number::XEN_VERSION, 12),
    (number::EVENT_CHANNEL_OP, 15),
    (number::HVM_OP, 28),
    (number::GRANT_TABLE_OP, 14),
    (number::SCHED_OP, 9),
    (number::PLATFORM_OP, 4),
    (number::DOMCTL, 4),
];
/// Operations of `vcpu_op`, which has its pointer third.
const VCPU_OPERATIONS: u64 = 15;
/// What ends the guest, lets it wait, or takes its console, whatever the pointer: block, shutdown, poll, watchdog and the
/// like. One of the pointers leads to memory, if only for reading, and what is there means something to them.
const LEFT_OUT: [(u64, u64); 6] = [
    (number::SCHED_OP, 1),
    (number::SCHED_OP, 2),
    (number::SCHED_OP, 3),
    (number::SCHED_OP, 6),
    (number::XEN_VERSION, 7),
    (number::VCPU_OP, number::vcpu::DOWN),
];

/// Entries of a list of calls.
const ENTRIES: usize = 4096;

fn reserve(operation: u64, mut frame: u64) -> u64 {
    let mut list = Reservation {
        extent_start: (&raw mut frame) as u64,
        nr_extents: 1,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        pad: [0; 3],
    };
    with(number::MEMORY_OP, operation, &mut list)
}

/// Addresses that are not canonical, not mapped, mapped to no memory, of devices, at the end of a page behind which
/// nothing is, and of a page that is for reading.
fn wild() -> [u64; 12] {
    let (last, readonly) = ((HOLE + 1) * PAGE_SIZE, (HOLE + 4) * PAGE_SIZE);
    for window in [HOLE * PAGE_SIZE, 0xfee0_0000, 0xfec0_0000] {
        if memory::map_window(window..window + 8 * PAGE_SIZE).is_err() {
            say!("bad: no window at {window:#x}");
        }
    }
    if reserve(POPULATE_PHYSMAP, HOLE) != 1 {
        // It has all the memory it may have: one page less elsewhere.
        reserve(DECREASE_RESERVATION, frame(0));
        reserve(POPULATE_PHYSMAP, HOLE);
    }
    [
        0x8000_0000_0000,
        0xffff_7fff_ffff_fff8,
        0x7fff_ffff_f000,
        u64::MAX,
        u64::MAX - 7,
        (HOLE + 2) * PAGE_SIZE,
        0xfee0_0000,
        0xfec0_0000,
        last - 1,
        last - 2,
        last - 8 + 7,
        readonly,
    ]
}

/// A page of this guest's own that it may only read: granted to itself.
fn read_only(own: abi::xen::DomId) -> bool {
    const TABLE: u64 = 0xe800_0000;
    const REFERENCE: u32 = 20;
    if memory::map_window(TABLE..TABLE + PAGE_SIZE).is_err() || grants::place(0, TABLE).is_err() {
        return false;
    }
    let entry = 1 | 1 << 2 | u64::from(own) << 16 | frame(1) << 32;
    // SAFETY: an entry of the table that was just put there.
    unsafe { ((TABLE + u64::from(REFERENCE) * 8) as *mut u64).write_volatile(entry) };
    let mut map = [MapGrantRef {
        host_addr: (HOLE + 4) * PAGE_SIZE,
        flags: map_flag::HOST_MAP | map_flag::READONLY,
        reference: REFERENCE,
        dom: own,
        ..MapGrantRef::default()
    }];
    grants::Calls.map(&mut map).is_ok() && map[0].status == 0
}

/// Calls with pointers from nowhere.
pub fn wild_pointers(own: abi::xen::DomId) {
    let wild = wild();
    let has_read_only = read_only(own);
    let (mut made, mut accepted) = (0u64, 0u64);
    let mut note = |rax: u64| {
        made += 1;
        accepted += u64::from(is_accepted(rax));
    };
    for pointer in wild {
        for (number, operations) in CALLS {
            for operation in (0..operations).filter(|&operation| !LEFT_OUT.contains(&(number, operation))) {
                note(call(number, [operation, pointer, 1, pointer, pointer]));
            }
        }
        for operation in
            (0..VCPU_OPERATIONS).filter(|&operation| !LEFT_OUT.contains(&(number::VCPU_OP, operation)))
        {
            for vcpu in [0, 1, 127, u64::MAX] {
                note(call(number::VCPU_OP, [operation, vcpu, pointer, 0, 0]));
            }
        }
        note(call(MULTICALL, [pointer, 3, 0, 0, 0]));
        note(call(number::CONSOLE_IO, [0, 16, pointer, 0, 0]));
    }
    let pages = if has_read_only { "one of them for reading" } else { "none for reading" };
    say!("bad: {made} calls with wild pointers, {pages}, {accepted} needed none");
}

/// Lists of calls: longer than their memory, of lists, over each other.
pub fn lists() {
    let mut entries = alloc::vec![MulticallEntry::default(); ENTRIES];
    let at = entries.as_mut_ptr() as u64;
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.op =
            [number::XEN_VERSION, MULTICALL, 63, number::EVENT_CHANNEL_OP, number::MEMORY_OP][index % 5];
        // Each may have the list itself for its structure, from anywhere on.
        entry.args = [index as u64 % 7, at + index as u64 * 24, 3, 0, 0, 0];
        if entry.op == number::EVENT_CHANNEL_OP {
            // No port of the console's is closed.
            entry.args[0] = 5;
        }
    }
    let answers = [ENTRIES as u64, 1 << 20, u64::from(u32::MAX), u64::MAX, 0]
        .map(|count| call(MULTICALL, [at, count, 0, 0, 0]));
    let overlapping = call(MULTICALL, [at + 8, 512, 0, 0, 0]);
    say!("bad: lists of calls came to {answers:x?} and {overlapping:x}");
}
