//! `vcpu_op` about time, and `set_timer_op`: timers, accounts, and where a guest wants its `vcpu_info`.
//!
//! The checks and their order are Xen's (`common/domain.c`, `arch/x86/domain.c`). As there without the option
//! `dom0_vcpus_pin`, nobody learns which processor he is on.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use abi::address::{GuestVirt, HostPhys, PAGE_SIZE};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::assist::RUNSTATE_UPDATE_FLAG;
use abi::xen::hypercall::vcpu as op;
use abi::xen::shared_info::{VCPU_INFO, VCPU_INFO_SIZE, vcpu_info};
use abi::xen::vcpu_time::{
    RegisterArea, RegisterVcpuInfo, RunstateInfo, SetPeriodicTimer, SetSingleshotTimer,
};

use super::{arguments, places};
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Request;
use crate::core::timer::{write_clock, write_runstate};
use crate::events;
use crate::machine;
use crate::memory::physical::pointer;
use crate::time::timers::check_period;

/// `set_timer_op`, which is older than `VCPUOP_set_singleshot_timer`, and the same timer.
#[inline(never)]
pub(super) fn set_timer(core: &mut Core) -> HypercallResult {
    let [timeout, ..] = arguments(core);
    if !core.has_timers() {
        return Err(Errno::ENOSYS);
    }
    let now = core.machine.system_time();
    core.own_vcpu()?.time.timers.set_by_old_call(timeout, now);
    core.arm();
    Ok(0)
}

/// `VCPUOP_set_singleshot_timer`, of which a guest makes many.
#[inline(never)]
pub(super) fn set_singleshot(core: &mut Core, on: usize, argument: u64) -> HypercallResult {
    if !core.has_timers() {
        return Err(Errno::ENOSYS);
    }
    if on != core.index {
        return Err(Errno::EINVAL);
    }
    let set: SetSingleshotTimer = core.guest_memory()?.read(GuestVirt::new(argument))?;
    core.set_singleshot(set, machine::now())?;
    Ok(0)
}

/// The rest. `on`: the core of the virtual CPU it is about, `vcpu`.
pub(super) fn handle(
    core: &mut Core,
    operation: u64,
    vcpu: usize,
    on: usize,
    argument: u64,
) -> HypercallResult {
    let at = GuestVirt::new(argument);
    match operation {
        op::GET_RUNSTATE_INFO => {
            let info = runstate(core, on, Runstate::Now)?;
            core.guest_memory()?.write(at, &info)?;
            Ok(0)
        }
        op::REGISTER_RUNSTATE_MEMORY_AREA => {
            let RegisterArea { address } = core.guest_memory()?.read(at)?;
            let info = runstate(core, on, Runstate::Watch(address))?;
            let flagged = core.domain()?.assists.load(Ordering::Relaxed) & 1 << RUNSTATE_UPDATE_FLAG != 0;
            // As on Xen, an address that leads nowhere is no error.
            let _ = write_runstate(&core.guest_memory()?, GuestVirt::new(address), info, flagged);
            Ok(0)
        }
        op::SET_PERIODIC_TIMER | op::STOP_PERIODIC_TIMER if !core.has_timers() => Err(Errno::ENOSYS),
        op::SET_PERIODIC_TIMER => {
            let SetPeriodicTimer { period_ns } = core.guest_memory()?.read(at)?;
            core.ask(on, Request::SetPeriodic { period: check_period(period_ns)? })
        }
        op::STOP_PERIODIC_TIMER => core.ask(on, Request::SetPeriodic { period: 0 }),
        op::STOP_SINGLESHOT_TIMER if !core.has_timers() => Err(Errno::ENOSYS),
        op::STOP_SINGLESHOT_TIMER if on != core.index => Err(Errno::EINVAL),
        op::STOP_SINGLESHOT_TIMER => {
            core.own_vcpu()?.time.timers.stop_singleshot();
            core.arm();
            Ok(0)
        }
        op::REGISTER_VCPU_INFO => {
            let place: RegisterVcpuInfo = core.guest_memory()?.read(at)?;
            register_vcpu_info(core, vcpu, on, place)
        }
        op::GET_PHYSID => Err(Errno::EINVAL),
        op::REGISTER_VCPU_TIME_MEMORY_AREA => {
            let RegisterArea { address } = core.guest_memory()?.read(at)?;
            // The words are the same for all virtual CPUs and at all times, so this is all there is to it. As on Xen, an
            // address that leads nowhere is no error.
            let _ = core.guest_memory()?.write(GuestVirt::new(address), &core.machine.clock.info(2));
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// What is asked about a runstate.
enum Runstate {
    /// How it is now.
    Now,
    /// How it was at the last change, and that it be written here from now on.
    Watch(u64),
}

fn runstate(core: &mut Core, on: usize, asked: Runstate) -> Result<RunstateInfo, Errno> {
    let mut info = RunstateInfo::default();
    let into = &raw mut info as u64;
    core.ask(
        on,
        match asked {
            Runstate::Now => Request::Runstate { into },
            Runstate::Watch(area) => Request::WatchRunstate { into, area },
        },
    )?;
    // Another core has written it meanwhile, at the address in the request.
    // SAFETY: our own, and any bytes are a value of it.
    Ok(unsafe { (into as *const RunstateInfo).read_volatile() })
}

/// Moves a virtual CPU's `vcpu_info` out of the `shared_info` page, once.
fn register_vcpu_info(core: &mut Core, vcpu: usize, on: usize, place: RegisterVcpuInfo) -> HypercallResult {
    let domain = core.domain()?;
    if u64::from(place.offset) > PAGE_SIZE - VCPU_INFO_SIZE as u64 || !place.offset.is_multiple_of(8) {
        return Err(Errno::ENXIO);
    }
    let before = domain.shared_info.as_u64() + (VCPU_INFO + vcpu * VCPU_INFO_SIZE) as u64;
    let face = &FACES[on];
    let is_another_up = on != core.index && face.up.load(Ordering::Relaxed) != 0;
    if face.vcpu_info.load(Ordering::Relaxed) != before || is_another_up {
        return Err(Errno::EINVAL);
    }
    let frame = places::pin(core, domain, place.mfn)?;
    let info = frame.as_u64() + u64::from(place.offset);
    // SAFETY: two places of a `vcpu_info`, both in memory of the domain's; the guest may write there at the same time,
    // which is its affair.
    unsafe {
        let (from, to) = (pointer::<u8>(HostPhys::new(before)), pointer::<u8>(HostPhys::new(info)));
        core::ptr::copy(from, to, VCPU_INFO_SIZE);
    }
    if face.vcpu_info.compare_exchange(before, info, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        // A sibling was quicker.
        places::unpin(core, domain, frame);
        return Err(Errno::EINVAL);
    }
    write_clock(core.machine, info);
    // Who was about to mark an event in the old place has marked its port before: so let the guest look at all of them.
    let words = pointer::<u8>(HostPhys::new(info));
    // SAFETY: words of the new `vcpu_info`, aligned, which stays the domain's as long as it lives.
    let (selector, upcall) = unsafe {
        (
            AtomicU64::from_ptr(words.add(vcpu_info::PENDING_SEL).cast()),
            AtomicU8::from_ptr(words.add(vcpu_info::UPCALL_PENDING)),
        )
    };
    selector.swap(u64::MAX, Ordering::AcqRel);
    upcall.swap(1, Ordering::AcqRel);
    events::interrupt(core, on);
    Ok(0)
}
