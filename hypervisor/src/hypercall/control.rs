//! The control hypercalls (`abi::control::hypercall`): domain 0's, and so core 0's.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, GuestVirt, PageCount};
use abi::control::hypercall::{
    self as op, CoreInfo, CrashRecord, DomainInfo, DomainState, ExitKind, MachineInfo,
};
use abi::exit_code::ExitCode;
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};

use super::{arguments, audit};
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Request;
use crate::domain::{Domain, build};
use crate::registry::{Record, Registry, events_to};
use crate::{console, interrupts, stop};

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, a, b, c, d] = arguments(core);
    if !core.domain.as_ref().is_some_and(|domain| domain.is_privileged) {
        return Err(Errno::EPERM);
    }
    match operation {
        op::MACHINE_INFO => machine_info(core, GuestVirt::new(a)),
        op::CORE_INFO => core_info(core, a, GuestVirt::new(b)),
        op::DOMAIN_CREATE => {
            let on = usize::try_from(a).map_err(|_| Errno::ENODEV)?;
            build::create(registry(core)?, on, PageCount::new(b), false).map(u64::from)
        }
        op::DOMAIN_WRITE => domain_write(core, id(a)?, GuestPhys::new(b), GuestVirt::new(c), d),
        op::DOMAIN_SHARE => {
            domain_share(core, id(a)?, GuestPhys::new(b), GuestPhys::new(c), PageCount::new(d))
        }
        op::DOMAIN_ENTRY => {
            let domain = building(core, id(a)?)?;
            (domain.entry, domain.start_info) = (GuestPhys::new(b), GuestPhys::new(c));
            Ok(0)
        }
        op::DOMAIN_UNPAUSE => unpause(core, id(a)?),
        op::DOMAIN_PAUSE => {
            let (on, _) = find(core, id(a)?)?;
            core.ask(on, Request::Pause)
        }
        op::DOMAIN_DESTROY => destroy(core, id(a)?),
        op::DOMAIN_INFO => domain_info(core, a, GuestVirt::new(b)),
        op::DOMAIN_CRASH => crash_record(core, id(a)?, GuestVirt::new(b)),
        op::LOG_READ => log_read(core, a, GuestVirt::new(b), c),
        op::IRQ_ROUTE => {
            let (line, vector) =
                (u32::try_from(a).map_err(|_| Errno::EINVAL)?, u8::try_from(b).map_err(|_| Errno::EINVAL)?);
            if (1..16).contains(&vector) {
                return Err(Errno::EINVAL);
            }
            let apic_id = core.face.apic_id.load(Relaxed);
            interrupts::route(core.machine, line, vector, apic_id).map(|()| 0).ok_or(Errno::ENODEV)
        }
        op::AUDIT => audit::handle(core, GuestVirt::new(a)),
        op::MACHINE_STOP => {
            let code = u8::try_from(a).ok().and_then(ExitCode::from_u8).ok_or(Errno::EINVAL)?;
            stop::stop(code)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn id(argument: u64) -> Result<DomId, Errno> {
    DomId::try_from(argument).map_err(|_| Errno::ESRCH)
}

/// Only core 0 has the books, and only domain 0 is privileged.
fn registry(core: &mut Core) -> Result<&mut Registry, Errno> {
    core.registry.as_deref_mut().ok_or(Errno::EPERM)
}

/// A domain's core and record; domain 0 itself is not to be had.
fn find(core: &mut Core, id: DomId) -> Result<(usize, Record), Errno> {
    let registry = registry(core)?;
    let on = registry.core_of(id).ok_or(Errno::ESRCH)?;
    let record = registry.records[on].ok_or(Errno::ESRCH)?;
    if on == 0 { Err(Errno::EINVAL) } else { Ok((on, record)) }
}

fn building(core: &mut Core, id: DomId) -> Result<&'static mut Domain, Errno> {
    let (on, _) = find(core, id)?;
    registry(core)?.building(on).ok_or(Errno::EBUSY)
}

fn machine_info(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let machine = core.machine;
    let frames = &registry(core)?.frames;
    let (frames_total, frames_free) = (frames.total(), frames.free());
    let (log_start, log_end) = console::lock().range();
    let info = MachineInfo {
        cores: machine.apic_ids.len() as u32,
        tsc_khz: machine.tsc_khz,
        boot_tsc: machine.boot_tsc,
        frames_total,
        frames_free,
        log_start,
        log_end,
    };
    core.guest_memory()?.write(at, &info)?;
    Ok(0)
}

fn core_info(core: &mut Core, index: u64, at: GuestVirt) -> HypercallResult {
    let index = usize::try_from(index).map_err(|_| Errno::ENODEV)?;
    let apic_id = *core.machine.apic_ids.get(index).ok_or(Errno::ENODEV)?;
    let info = CoreInfo { apic_id, domain: FACES[index].domain.load(Relaxed) };
    core.guest_memory()?.write(at, &info)?;
    Ok(0)
}

fn domain_write(core: &mut Core, id: DomId, to: GuestPhys, from: GuestVirt, bytes: u64) -> HypercallResult {
    let domain = building(core, id)?;
    let memory = core.guest_memory()?;
    let mut chunk = [0; 1024];
    let mut done = 0;
    while done < bytes {
        let now = (bytes - done).min(chunk.len() as u64) as usize;
        memory.read_bytes(from.checked_add(done).ok_or(Errno::EFAULT)?, &mut chunk[..now])?;
        build::write(domain, to.checked_add(done).ok_or(Errno::EFAULT)?, &chunk[..now])?;
        done += now as u64;
    }
    Ok(0)
}

fn domain_share(
    core: &mut Core,
    id: DomId,
    to: GuestPhys,
    from: GuestPhys,
    pages: PageCount,
) -> HypercallResult {
    let domain = building(core, id)?;
    let (Some(own), Some(registry)) = (core.domain.as_deref(), core.registry.as_deref_mut()) else {
        return Err(Errno::EPERM);
    };
    build::share(&mut registry.frames, own, from, domain, to, pages)?;
    Ok(0)
}

fn unpause(core: &mut Core, id: DomId) -> HypercallResult {
    let (on, record) = find(core, id)?;
    if record.started {
        return core.ask(on, Request::Unpause);
    }
    let registry = registry(core)?;
    let slot = registry.slots[on] as u64;
    set_started(registry, on, true);
    let running = core.ask(on, Request::Run(slot));
    if running.is_err() {
        // The core did not take it: it is ours again.
        set_started(self::registry(core)?, on, false);
    }
    running
}

fn set_started(registry: &mut Registry, on: usize, started: bool) {
    if let Some(record) = &mut registry.records[on] {
        record.started = started;
    }
}

fn destroy(core: &mut Core, id: DomId) -> HypercallResult {
    let (on, record) = find(core, id)?;
    if record.started {
        core.ask(on, Request::Release)?;
    } else {
        close_ports_of_unstarted(core, on)?;
    }
    build::destroy(registry(core)?, on);
    Ok(0)
}

/// A domain that was never started has no core to close its ports; peers may have bound to them already.
fn close_ports_of_unstarted(core: &mut Core, on: usize) -> Result<(), Errno> {
    while let Some(domain) = registry(core)?.building(on) {
        let Some(port) = domain.ports.first_open() else { break };
        let own = domain.id;
        if let crate::ports::Port::Interdomain { core: remote_core, port: remote, .. } =
            domain.ports.close(port)?
        {
            let part = Request::Part { port: remote.into(), domain: own, remote_port: port };
            core.ask(remote_core.into(), part)?;
        }
    }
    FACES[on].shared_info.store(0, Relaxed);
    FACES[on].domain.store(op::NO_DOMAIN, Relaxed);
    Ok(())
}

fn domain_info(core: &mut Core, from: u64, at: GuestVirt) -> HypercallResult {
    let registry = registry(core)?;
    let found =
        registry.records.iter().enumerate().filter_map(|(on, record)| record.map(|record| (on, record)));
    let next = found.filter(|(_, record)| u64::from(record.id) >= from).min_by_key(|(_, record)| record.id);
    let (on, record) = next.ok_or(Errno::ESRCH)?;
    let face = &FACES[on];
    let info = DomainInfo {
        domain: record.id.into(),
        core: on as u32,
        state: face.state.load(Relaxed),
        reason: face.reason.load(Relaxed),
        pages: record.pages.get(),
        exits: core::array::from_fn::<_, { ExitKind::COUNT }, _>(|kind| face.exits[kind].load(Relaxed)),
        events_in: events_to(on).wrapping_sub(record.events_in_before),
        events_out: face.sent.iter().map(|counter| counter.load(Relaxed)).sum(),
    };
    core.guest_memory()?.write(at, &info)?;
    Ok(0)
}

fn crash_record(core: &mut Core, id: DomId, at: GuestVirt) -> HypercallResult {
    let (on, _) = find(core, id)?;
    // A core that says Crashed has written the record before, and does not touch it again.
    if FACES[on].state.load(core::sync::atomic::Ordering::Acquire) != DomainState::Crashed as u32 {
        return Err(Errno::ENOENT);
    }
    let record: CrashRecord = registry(core)?.crash_record(on).ok_or(Errno::ENOENT)?;
    core.guest_memory()?.write(at, &record)?;
    Ok(0)
}

fn log_read(core: &mut Core, position: u64, at: GuestVirt, bytes: u64) -> HypercallResult {
    let mut chunk = [0; 1024];
    let want = (bytes as usize).min(chunk.len());
    let count = console::lock().read(position, &mut chunk[..want]).ok_or(Errno::ERANGE)?;
    core.guest_memory()?.write_bytes(at, &chunk[..count])?;
    Ok(count as u64)
}
