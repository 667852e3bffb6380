//! Lies in the words of FIFO events, and more timers than anybody needs.

use core::cell::UnsafeCell;

use abi::address::PAGE_SIZE;
use abi::xen::event_channel::{
    BIND_IPI, BindIpi, EXPAND_ARRAY, INIT_CONTROL, InitControl, OnePort, SEND, SET_PRIORITY, SetPriority,
    UNMASK,
};
use abi::xen::hypercall::vcpu::{SET_PERIODIC_TIMER, SET_SINGLESHOT_TIMER, STOP_PERIODIC_TIMER};
use abi::xen::hypercall::{EVENT_CHANNEL_OP, VCPU_OP};
use abi::xen::vcpu_time::{SetPeriodicTimer, SetSingleshotTimer};
use guest_kernel::platform::atoll::{cpu, hypercall};
use guest_kernel::programs::random::Random;
use guest_kernel::say;

/// Lies told, and timers set.
const LIES: u64 = 50_000;
const TIMERS: u64 = 20_000;
/// Ports that lies are told of.
const PORTS: usize = 16;
const PRIORITIES: u64 = 16;

/// A control block and a page of words.
#[repr(C, align(4096))]
struct Pages(UnsafeCell<[[u32; 1024]; 2]>);

// SAFETY: one core, one thread, and no references.
unsafe impl Sync for Pages {}

static PAGES: Pages = Pages(UnsafeCell::new([[0; 1024]; 2]));

fn event<T>(operation: u64, argument: &mut T) -> u64 {
    let arguments = [operation, core::ptr::from_mut(argument) as u64, 0, 0, 0];
    // SAFETY: the structure of that operation; the frames it names are those above, which are reached by raw pointers.
    unsafe { hypercall::raw(EVENT_CHANNEL_OP, arguments) }
}

fn timer<T>(operation: u64, argument: &mut T) -> u64 {
    let arguments = [operation, 0, core::ptr::from_mut(argument) as u64, 0, 0];
    // SAFETY: the structure of that operation, without addresses.
    unsafe { hypercall::raw(VCPU_OP, arguments) }
}

/// Writes anything to the words by which events are delivered, while they are.
pub fn lie(random: &mut Random) {
    let frame = PAGES.0.get() as u64 / PAGE_SIZE;
    let switched = event(INIT_CONTROL, &mut InitControl { control_gfn: frame, ..InitControl::default() });
    let expanded = event(EXPAND_ARRAY, &mut [frame + 1]);
    let mut ports = [0; PORTS];
    for port in &mut ports {
        let mut bind = BindIpi { vcpu: 0, port: 0 };
        event(BIND_IPI, &mut bind);
        *port = bind.port;
    }
    for _ in 0..LIES {
        let (page, word) = (random.below(2) as usize, random.below(64) as usize);
        // SAFETY: this program's own pages, and within them.
        unsafe { PAGES.0.get().cast::<u32>().add(page * 1024 + word).write_volatile(random.draw() as u32) };
        let port = ports[random.below(PORTS as u64) as usize];
        match random.below(4) {
            0 => event(UNMASK, &mut OnePort { port }),
            1 => event(SET_PRIORITY, &mut SetPriority { port, priority: random.below(PRIORITIES) as u32 }),
            _ => event(SEND, &mut OnePort { port }),
        };
    }
    say!("bad: {LIES} lies, of {:?}", (switched, expanded));
}

/// Sets timers to any time, the past and the end of time among them, and a beat as fast as there is one.
pub fn timers(random: &mut Random) {
    let mut accepted = 0u64;
    for _ in 0..TIMERS {
        let timeout_abs_ns = random.draw() >> random.below(64);
        let mut once = SetSingleshotTimer { timeout_abs_ns, flags: random.below(4) as u32, pad: 0 };
        accepted += u64::from(timer(SET_SINGLESHOT_TIMER, &mut once) == 0);
        let mut again = SetPeriodicTimer { period_ns: (random.draw() >> random.below(64)).max(1_000_000) };
        let operation = if random.below(3) == 0 { STOP_PERIODIC_TIMER } else { SET_PERIODIC_TIMER };
        timer(operation, &mut again);
        cpu::interrupt_window();
    }
    say!("bad: {TIMERS} timers set, {accepted} accepted");
}
