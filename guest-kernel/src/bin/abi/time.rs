//! Time: the clock that is read without a call, the date, timers, and the account of when a virtual CPU ran.

use core::cell::Cell;

use abi::xen::event_channel::{BIND_VIRQ, BindVirq, CLOSE, SEND, virq};
use abi::xen::hypercall::vcpu as op;
use abi::xen::hypercall::{EVENT_CHANNEL_OP, SET_TIMER_OP, VCPU_OP, VM_ASSIST, assist};
use abi::xen::shared_info::{VCPU_INFO, WALL_CLOCK, vcpu_info};
use abi::xen::vcpu_time::{RUNSTATE_UPDATE, RunstateInfo, SSHOTTMR_FUTURE, SetSingleshotTimer, TimeInfo};
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, memory::SHARED_INFO_ADDRESS};

use crate::call::{NOWHERE, address, call, frame, page_address, with};
use crate::events;
use crate::sched::now;
use crate::tally::{Error, Tally};

const MILLISECOND: u64 = 1_000_000;
/// What a timer may be late by: an emulator's time passes while other machines run on it.
const LATE: u64 = 50 * MILLISECOND;

fn of(operation: u64, argument: u64) -> u64 {
    call(VCPU_OP, [operation, 0, argument, 0, 0])
}

fn singleshot(timeout_abs_ns: u64, flags: u32) -> u64 {
    of(op::SET_SINGLESHOT_TIMER, address(&mut SetSingleshotTimer { timeout_abs_ns, flags, pad: 0 }))
}

/// A value that the hypervisor writes.
fn read<T>(at: u64) -> T {
    // SAFETY: the callers' addresses are of memory that is mapped, and of words for which any bits are fine.
    unsafe { (at as *const T).read_volatile() }
}

/// The clock's words at an address.
fn clock(at: u64) -> TimeInfo {
    loop {
        let info: TimeInfo = read(at);
        if info.version & 1 == 0 && read::<u32>(at) == info.version {
            return info;
        }
    }
}

/// System time by such words.
fn by(info: &TimeInfo, tsc: u64) -> u64 {
    let ticks = tsc.wrapping_sub(info.tsc_timestamp);
    let shifted = if info.tsc_shift < 0 { ticks >> -info.tsc_shift } else { ticks << info.tsc_shift };
    info.system_time + ((u128::from(shifted) * u128::from(info.tsc_to_system_mul)) >> 32) as u64
}

pub fn check(tally: &mut Tally, platform: &Atoll) {
    let own = SHARED_INFO_ADDRESS + (VCPU_INFO + vcpu_info::TIME) as u64;
    let info = clock(own);
    tally.that("the clock has words", info.tsc_to_system_mul.into(), info.tsc_to_system_mul != 0);
    let (before, read, after) = (now(), by(&info, platform.now()), now());
    tally.that("it tells what the hypervisor tells", read, before <= read && read <= after);
    let [version, seconds, nanoseconds, _]: [u32; 4] = self::read(SHARED_INFO_ADDRESS + WALL_CLOCK as u64);
    tally.that("the date", seconds.into(), version & 1 == 0 && seconds > 1_577_836_800);
    tally.that("its fraction", nanoseconds.into(), nanoseconds < 1_000_000_000);

    let mut area = TimeInfo::default();
    let at = address(&mut area);
    tally.check(
        "register_vcpu_time_memory_area",
        of(op::REGISTER_VCPU_TIME_MEMORY_AREA, address(&mut [at])),
        Ok(0),
    );
    let copy = clock(at);
    let (before, read, after) = (now(), by(&copy, platform.now()), now());
    tally.that("the copy tells the same", read, before <= read && read <= after);
    of(op::REGISTER_VCPU_TIME_MEMORY_AREA, address(&mut [NOWHERE]));

    let mut argument = BindVirq { virq: virq::TIMER, vcpu: 0, port: 0 };
    tally.check("bind_virq of the timer", with(EVENT_CHANNEL_OP, BIND_VIRQ, &mut argument), Ok(0));
    timers(tally, platform, argument.port);
    events::one(CLOSE, argument.port);
    runstate(tally, platform);
}

/// Waits for an event of the port, halted, or with interrupts off. The system time then; `None`: it did not come.
fn wait(platform: &Atoll, port: u32, halted: bool) -> Option<u64> {
    let end = platform.now() + 100 * platform.ticks_per_millisecond();
    let came = Cell::new(false);
    while !came.get() && platform.now() < end {
        if halted {
            platform.set_deadline(Some(end));
            platform.halt_if(&mut || true);
        }
        platform.take_events(&mut |event| came.set(came.get() || event == port));
    }
    platform.set_deadline(None);
    came.get().then(now)
}

fn timers(tally: &mut Tally, platform: &Atoll, port: u32) {
    of(op::STOP_PERIODIC_TIMER, 0);
    platform.take_events(&mut |_| {});
    for (what, halted) in [("a timer ends a halt", true), ("a timer with interrupts off", false)] {
        let due = now() + 2 * MILLISECOND;
        tally.check("set_singleshot_timer", singleshot(due, 0), Ok(0));
        let late = wait(platform, port, halted).map_or(u64::MAX, |came| came.wrapping_sub(due));
        tally.that(what, late, late < LATE);
    }
    tally.check("set_singleshot_timer, of the past", singleshot(now() - MILLISECOND, 0), Ok(0));
    tally.that("it is due at once", 0, wait(platform, port, false).is_some());
    tally.check("set_singleshot_timer, far ahead", singleshot(now() + (1 << 50), SSHOTTMR_FUTURE), Ok(0));
    let due = now() + MILLISECOND;
    tally.check("another takes its place", singleshot(due, SSHOTTMR_FUTURE), Ok(0));
    let late = wait(platform, port, true).map_or(u64::MAX, |came| came.wrapping_sub(due));
    tally.that("and comes", late, late < LATE);
    singleshot(now() + MILLISECOND, 0);
    tally.check("stop_singleshot_timer", of(op::STOP_SINGLESHOT_TIMER, 0), Ok(0));
    tally.that("then it does not come", 0, wait(platform, port, false).is_none());

    let start = now();
    let answer = of(op::SET_PERIODIC_TIMER, address(&mut [2 * MILLISECOND]));
    tally.check("set_periodic_timer", answer, Ok(0));
    let beats = (0..5).filter_map(|_| wait(platform, port, true)).count() as u64;
    let took = now() - start;
    tally.equal("beats", beats, 5);
    // At the latest when something else ends the halt: on Xen this timer stands still while the virtual CPU does.
    tally.that("they take their time", took, took >= 8 * MILLISECOND);
    tally.check("stop_periodic_timer", of(op::STOP_PERIODIC_TIMER, 0), Ok(0));
    platform.take_events(&mut |_| {});
    tally.that("then there are none", 0, wait(platform, port, false).is_none());

    let due = now() + MILLISECOND;
    tally.check("set_timer_op", call(SET_TIMER_OP, [due, 0, 0, 0, 0]), Ok(0));
    let late = wait(platform, port, true).map_or(u64::MAX, |came| came.wrapping_sub(due));
    tally.that("it comes too", late, late < LATE);
    tally.check("set_timer_op, none", call(SET_TIMER_OP, [0; 5]), Ok(0));
}

fn runstate(tally: &mut Tally, platform: &Atoll) {
    let flag = u64::from(assist::RUNSTATE_UPDATE_FLAG);
    call(VM_ASSIST, [assist::ENABLE.into(), flag, 0, 0, 0]);
    let mut area = RunstateInfo { state: 77, ..RunstateInfo::default() };
    let at = address(&mut area);
    let answer = of(op::REGISTER_RUNSTATE_MEMORY_AREA, address(&mut [at]));
    tally.check("register_runstate_memory_area", answer, Ok(0));
    let told: RunstateInfo = read(at);
    tally.equal("it runs", told.state.into(), 0);
    tally.that("since before now", told.state_entry_time, told.state_entry_time < now());
    tally.equal("nobody writes", told.state_entry_time & RUNSTATE_UPDATE, 0);
    let mut info = RunstateInfo::default();
    let ask = address(&mut info);
    of(op::GET_RUNSTATE_INFO, ask);
    let first: RunstateInfo = read(ask);
    let (start, end) = (now(), platform.now() + platform.ticks_per_millisecond());
    while platform.now() < end {
        core::hint::spin_loop();
    }
    of(op::GET_RUNSTATE_INFO, ask);
    let (second, passed): (RunstateInfo, u64) = (read(ask), now() - start);
    let ran = second.time[0] - first.time[0];
    tally.that("a millisecond later it has run a millisecond", ran, ran >= passed / 2 && ran <= passed * 2);
    // Not to this function's stack any more.
    of(op::REGISTER_RUNSTATE_MEMORY_AREA, address(&mut [NOWHERE]));
    call(VM_ASSIST, [assist::DISABLE.into(), flag, 0, 0, 0]);
}

/// Moves the `vcpu_info`, after which the platform does not find its events any more: the last of all checks.
pub fn move_vcpu_info(tally: &mut Tally, platform: &Atoll) {
    const OFFSET: u64 = 192;
    let (page, place) = (7, page_address(7) + OFFSET);
    let register = || of(op::REGISTER_VCPU_INFO, address(&mut [frame(page), OFFSET]));
    tally.check("register_vcpu_info", register(), Ok(0));
    tally.equal("events may wait there", read::<u8>(place).into(), 1);
    tally.equal("of any port", read(place + vcpu_info::PENDING_SEL as u64), u64::MAX);
    let info = clock(place + vcpu_info::TIME as u64);
    let (before, time, after) = (now(), by(&info, platform.now()), now());
    tally.that("the clock is there too", time, before <= time && time <= after);
    tally.check("register_vcpu_info, once more", register(), Err(Error::EINVAL));
    clear(place);
    let (_, port) = events::ipi(0);
    tally.equal("no event", read::<u8>(place).into(), 0);
    events::one(SEND, port);
    tally.equal("an event", read::<u8>(place).into(), 1);
    tally.equal("its word", read(place + vcpu_info::PENDING_SEL as u64), 1 << (port / 64));
    events::one(CLOSE, port);
}

/// No events wait at this `vcpu_info`.
fn clear(place: u64) {
    // SAFETY: a `vcpu_info` in a page of this program's.
    unsafe {
        (place as *mut u8).write_volatile(0);
        ((place + vcpu_info::PENDING_SEL as u64) as *mut u64).write_volatile(0);
    }
}
