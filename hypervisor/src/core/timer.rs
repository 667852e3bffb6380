//! Time on a core: the guest's timers, its clock's words, and the account of when it ran.
//!
//! A guest has its core's local APIC for itself, so the hypervisor keeps time by the VMX-preemption timer, which counts
//! down while the guest runs or halts and then exits, whatever the guest's interrupt flag says. It is switched on by the
//! first timer a guest sets, so that others never pay for it. What is left of it is saved by every exit and counted on
//! from by the next entry: no handler sees to it, and a timer fires late by the time the core spent in the hypervisor
//! since it was set, never early.

use core::sync::atomic::{Ordering, fence};

use abi::address::{GuestVirt, HostPhys};
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::event_channel::virq;
use abi::xen::hypercall::assist::RUNSTATE_UPDATE_FLAG;
use abi::xen::shared_info::{WALL_CLOCK, vcpu_info};
use abi::xen::vcpu_time::{RUNSTATE_UPDATE, RunstateInfo, SetSingleshotTimer, TimeInfo};
use vmx::capabilities::Capabilities;
use vmx::field;

use super::Core;
use crate::guest_memory::GuestMemory;
use crate::machine::{self, Machine};
use crate::memory::physical::pointer;
use crate::time::pvclock::publish;
use crate::time::runstate::Runstate;
use crate::time::timers::{Timers, countdown};
use crate::{events, time};

/// What a virtual CPU's core keeps of its time.
#[derive(Debug)]
pub struct Time {
    /// Its timers.
    pub timers: Timers,
    /// When it ran.
    pub runstate: Runstate,
    /// Where the guest wants that.
    pub area: Option<GuestVirt>,
    /// There was no memory to write it to, as its page tables were then.
    behind: bool,
    countdown: Countdown,
}

/// The VMX-preemption timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Countdown {
    /// Not switched on.
    Off,
    /// It counts, as far as it can, and nothing is due: most guests that had a timer soon set it again.
    Idle,
    /// It counts down to what is due next.
    Set,
}

impl Time {
    /// Of a virtual CPU that is made now.
    pub const fn new(now: u64) -> Self {
        Self {
            timers: Timers::new(),
            runstate: Runstate::new(now),
            area: None,
            behind: false,
            countdown: Countdown::Off,
        }
    }

    /// Its VMCS is about to be filled anew.
    pub const fn forget_countdown(&mut self) {
        self.countdown = Countdown::Off;
    }
}

impl Core {
    /// Whether guests can have timers.
    pub const fn has_timers(&self) -> bool {
        self.capabilities.preemption_rate.is_some()
    }

    /// Lets what is due by now happen, and the guest's turn end when the next is. To be called after any change of what
    /// there is; where the guest does not run it is done when it does.
    pub fn arm(&mut self) {
        self.arm_at(machine::now());
    }

    /// Sets the guest's single-shot timer at the count `tsc`, which it mostly does for a time to come and while it has no
    /// other: then the countdown is all that changes.
    #[inline]
    pub fn set_singleshot(&mut self, set: SetSingleshotTimer, tsc: u64) -> Result<(), Errno> {
        let now = self.machine.clock.at(tsc);
        let time = &mut self.own_vcpu()?.time;
        let at = time.timers.set_singleshot(set, now)?;
        let is_alone = at > now && time.timers.is_singleshot_alone() && time.countdown != Countdown::Off;
        let watched = self.home.as_ref().is_some_and(|home| home.watchdogs.next().is_some());
        if is_alone && !watched && self.running {
            self.count_down(Some(self.machine.clock.scale.ticks(at - now)));
        } else {
            self.arm_at(tsc);
        }
        Ok(())
    }

    /// As [`Self::arm`], at a count that was just read.
    #[inline(never)]
    fn arm_at(&mut self, tsc: u64) {
        let Some(vcpu) = self.vcpu.as_mut().filter(|vcpu| self.running && vcpu.local.is_none()) else {
            return;
        };
        let watchdog = self.home.as_ref().and_then(|home| home.watchdogs.next());
        let time = &mut vcpu.time;
        if time.countdown == Countdown::Off && time.timers.next().is_none() && watchdog.is_none() {
            return;
        }
        let clock = &self.machine.clock;
        let now = clock.at(tsc);
        let is_due = time.timers.expire(now);
        let next = time.timers.next().map(|next| clock.scale.ticks(next.saturating_sub(now)));
        let watchdog = watchdog.map(|due| due.saturating_sub(tsc));
        self.count_down(match (next, watchdog) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        });
        if is_due {
            self.send_timer_event();
        }
    }

    fn send_timer_event(&mut self) {
        let Some(vcpu) = &self.vcpu else { return };
        let (home, id) = (vcpu.domain.home(), vcpu.id);
        events::raise_virq(self, home, virq::TIMER, id);
    }

    /// Lets the timer end in so many ticks of the time-stamp counter.
    #[inline]
    pub fn count_down(&mut self, ticks: Option<u64>) {
        let Some(rate) = self.capabilities.preemption_rate else { return };
        let Some(vcpu) = self.vcpu.as_mut() else { return };
        let before = vcpu.time.countdown;
        let value = match ticks {
            Some(ticks) => countdown(ticks, rate),
            None if before == Countdown::Set => u32::MAX,
            None => return,
        };
        vcpu.time.countdown = if ticks.is_some() { Countdown::Set } else { Countdown::Idle };
        if before == Countdown::Off {
            self.switch_countdown(true);
        }
        self.vmcs.write(field::PREEMPTION_TIMER_VALUE, value);
    }

    #[cold]
    fn switch_countdown(&mut self, on: bool) {
        let vmcs = &mut self.vmcs;
        let (pin_based, exit) = (vmcs.get(field::PIN_BASED_CONTROLS), vmcs.get(field::EXIT_CONTROLS));
        let (pin_based, exit) = Capabilities::with_preemption_timer(pin_based, exit, on);
        vmcs.write(field::PIN_BASED_CONTROLS, pin_based);
        vmcs.write(field::EXIT_CONTROLS, exit);
    }

    /// The VMX-preemption timer has come to 0.
    pub fn timer_expired(&mut self) {
        self.look_at_watchdogs();
        if let Some(vcpu) = self.vcpu.as_mut()
            && vcpu.time.countdown == Countdown::Idle
        {
            vcpu.time.countdown = Countdown::Off;
            self.switch_countdown(false);
        }
        self.catch_up();
        self.arm();
    }

    /// `VCPUOP_set_periodic_timer`; 0: `VCPUOP_stop_periodic_timer`.
    pub(super) fn set_periodic(&mut self, period: u64) -> HypercallResult {
        let now = self.machine.system_time();
        self.own_vcpu()?.time.timers.set_periodic(period, now);
        self.arm();
        Ok(0)
    }

    /// `VCPUOP_get_runstate_info`.
    pub(super) fn runstate(&mut self) -> Result<RunstateInfo, Errno> {
        let now = self.machine.system_time();
        Ok(self.own_vcpu()?.time.runstate.at(now))
    }

    /// `VCPUOP_register_runstate_memory_area`: from now on the account is written there. Who asks for it writes it once.
    pub(super) fn watch_runstate(&mut self, area: GuestVirt) -> Result<RunstateInfo, Errno> {
        let time = &mut self.own_vcpu()?.time;
        (time.area, time.behind) = (Some(area), false);
        Ok(time.runstate.at_last_change())
    }

    /// Takes note of whether the guest runs from now on: where it does not, its watchdogs wait.
    pub(super) fn account(&mut self, runs: bool) {
        if let Some(home) = self.home.as_deref_mut() {
            home.watchdogs.runs(runs, machine::now());
        }
        let now = self.machine.system_time();
        if let Some(vcpu) = self.vcpu.as_mut()
            && vcpu.time.runstate.change(runs, now)
        {
            vcpu.time.behind = true;
        }
        self.catch_up();
    }

    /// Writes the guest's own copy of that account where it is behind. That nothing is mapped there is the guest's affair.
    fn catch_up(&mut self) {
        let Some(vcpu) = self.vcpu.as_mut().filter(|vcpu| vcpu.time.behind) else { return };
        let Some(area) = vcpu.time.area else { return };
        let info = vcpu.time.runstate.at_last_change();
        let flagged = vcpu.domain.assists.load(Ordering::Relaxed) & 1 << RUNSTATE_UPDATE_FLAG != 0;
        let memory = GuestMemory::new(vcpu.domain.view, self.windows, &self.vmcs);
        vcpu.time.behind = write_runstate(&memory, area, info, flagged).is_err();
    }

    /// Writes the clock's words to where this core's virtual CPU has its `vcpu_info`, and home the time of day.
    pub(super) fn publish_clock(&self) {
        let Some(vcpu) = &self.vcpu else { return };
        write_clock(self.machine, self.face.vcpu_info.load(Ordering::Relaxed));
        if self.home.is_some() {
            let place = pointer::<u8>(vcpu.domain.shared_info).wrapping_add(WALL_CLOCK).cast();
            // SAFETY: within the domain's `shared_info` page, at its wall clock's place.
            unsafe { publish(place, |version| self.machine.clock.wall_words(version)) };
        }
    }
}

/// Writes the clock's words to the `vcpu_info` at this host-physical address; 0: there is none.
pub fn write_clock(machine: &Machine, info: u64) {
    if info != 0 {
        let place = pointer::<u8>(HostPhys::new(info)).wrapping_add(vcpu_info::TIME).cast();
        let words = |version| -> [u32; size_of::<TimeInfo>() / 4] {
            zerocopy::transmute!(machine.clock.info(version))
        };
        // SAFETY: `info` is what a face says: memory of the domain's, and a `vcpu_info`'s place in it.
        unsafe { publish(place, words) };
    }
}

/// Writes an account for the guest. `flagged`: its entry time's upper bit is set meanwhile.
pub fn write_runstate(
    memory: &GuestMemory,
    area: GuestVirt,
    mut info: RunstateInfo,
    flagged: bool,
) -> Result<(), Errno> {
    if !flagged {
        return memory.write(area, &info);
    }
    let entry_time = GuestVirt::new(area.as_u64().wrapping_add(time::runstate::ENTRY_TIME));
    let last = info.state_entry_time;
    info.state_entry_time |= RUNSTATE_UPDATE;
    memory.write(entry_time, &info.state_entry_time)?;
    fence(Ordering::Release);
    memory.write(area, &info)?;
    fence(Ordering::Release);
    memory.write(entry_time, &last)
}
