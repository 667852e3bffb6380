//! The control hypercalls (`abi::control::hypercall`): domain 0's, and so core 0's.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, GuestVirt, PageCount};
use abi::control::hypercall::{self as op, CoreInfo, DomainInfo, DomainState, ExitKind, MachineInfo};
use abi::control::succession::Stage;
use abi::exit_code::ExitCode;
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hvm::param;
use abi::xen::vcpu::HvmContext;
use ept::{Access, View};

use super::{arguments, audit, succession};
use crate::checks::start::Start;
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::guest_state::CR4_ALLOWED;
use crate::domain::{Domain, Home, NO_CODE, build, physmap};
use crate::memory::physical::pointer;
use crate::registry::{Registry, events_from, events_to};
use crate::{console, interrupts, machine, stop};

#[inline(never)]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, a, b, c, d] = arguments(core);
    match operation {
        op::HAND_OVER => return core.hand_over(GuestVirt::new(a), b),
        op::TAKE_OVER => return core.take_over(),
        _ if !core.domain()?.is_privileged => return Err(Errno::EPERM),
        _ => {}
    }
    match operation {
        op::MACHINE_INFO => machine_info(core, GuestVirt::new(a)),
        op::TOPOLOGY => {
            let topology = core.machine.topology;
            core.guest_memory()?.write(GuestVirt::new(a), &topology)?;
            Ok(0)
        }
        op::CORE_INFO => core_info(core, a, GuestVirt::new(b)),
        op::DOMAIN_CREATE => {
            let places = &core.machine.places;
            build::create(registry(core)?, places, a, PageCount::new(b), build::Kind::from_flags(c)?)
                .map(u64::from)
        }
        op::DOMAIN_WRITE => domain_write(core, id(a)?, GuestPhys::new(b), GuestVirt::new(c), d),
        op::DOMAIN_SHARE => {
            domain_share(core, id(a)?, GuestPhys::new(b), GuestPhys::new(c), PageCount::new(d))
        }
        op::DOMAIN_ENTRY => {
            building(core, id(a)?)?.1.start = Some(Start::pvh(b, c));
            Ok(0)
        }
        op::DOMAIN_UNPAUSE => unpause(core, id(a)?),
        op::DOMAIN_PAUSE => {
            let domain = find(core, id(a)?)?;
            domain.face().change_state(&[DomainState::Running], DomainState::Paused, 0);
            core.let_follow(domain).map(|()| 0)
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
        op::DOMAIN_CONTEXT => {
            let (domain, home) = building(core, id(a)?)?;
            let context: HvmContext = core.guest_memory()?.read(GuestVirt::new(b))?;
            let start = Start::from_guest(&context, CR4_ALLOWED)?;
            if domain.is_shadowed && start.is_real_mode() {
                return Err(Errno::EINVAL);
            }
            home.start = Some(start);
            Ok(0)
        }
        op::DOMAIN_RESUME => resume(core, id(a)?),
        op::CORE_OFF => core.switch_off(number(a)?),
        op::CORE_ON => core.switch_on(number(a)?, number(b)?),
        op::DOMAIN_FIRMWARE => domain_firmware(core, id(a)?, b, PageCount::new(c)),
        op::SUCCESSOR_CREATE => {
            let domain = find(core, id(a)?)?;
            succession::create(core, domain)
        }
        op::SUCCESSOR_START => {
            let domain = find(core, id(a)?)?;
            succession::start(core, domain, b, c, GuestPhys::new(d))
        }
        op::SUCCESSOR_FAILED => {
            let domain = find(core, id(a)?)?;
            succession::failed(core, domain, b)
        }
        op::SUCCESSOR_END => {
            let domain = find(core, id(a)?)?;
            succession::end(core, domain)
        }
        op::SUCCESSION => succession::look(find(core, id(a)?)?),
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

fn number(argument: u64) -> Result<usize, Errno> {
    usize::try_from(argument).map_err(|_| Errno::ENODEV)
}

/// Only core 0 has the books, and only domain 0 is privileged.
fn registry(core: &mut Core) -> Result<&mut Registry, Errno> {
    core.registry.as_deref_mut().ok_or(Errno::EPERM)
}

/// A domain; domain 0 itself is not to be had.
fn find(core: &mut Core, id: DomId) -> Result<&'static Domain, Errno> {
    let registry = registry(core)?;
    let domain = registry.core_of(id).and_then(|on| registry.domain(on)).ok_or(Errno::ESRCH)?;
    if domain.is_privileged { Err(Errno::EINVAL) } else { Ok(domain) }
}

/// A domain that is being built, with what is its home's later. `EBUSY`: it was started.
fn building(core: &mut Core, id: DomId) -> Result<(&'static Domain, &'static mut Home), Errno> {
    let domain = find(core, id)?;
    let home = registry(core)?.building(domain.home()).ok_or(Errno::EBUSY)?;
    Ok((domain, home))
}

/// The memory that domain 0 may write to: that of a domain that was never started, or of a successor.
fn writable(core: &mut Core, id: DomId) -> Result<View, Errno> {
    let domain = find(core, id)?;
    if matches!(domain.succession().stage, Stage::Prepared | Stage::Offered) {
        let successor = registry(core)?.successors.get(domain.home()).and_then(Option::as_ref);
        return successor.map(|successor| successor.ept.view()).ok_or(Errno::EBUSY);
    }
    building(core, id).map(|(domain, _)| domain.view)
}

fn machine_info(core: &mut Core, at: GuestVirt) -> HypercallResult {
    let machine = core.machine;
    let frames = &mut registry(core)?.frames;
    frames.collect();
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
    let index = number(index)?;
    let presence = core.presence(index)?;
    let apic_id = *core.machine.apic_ids.get(index).ok_or(Errno::ENODEV)?;
    let (thread, package) = machine::apic_id_fields();
    let info = CoreInfo {
        domain: FACES[index].domain.load(Relaxed),
        processor: FACES[index].processor.load(Relaxed),
        apic_id,
        package: apic_id >> package,
        core: (apic_id & !(u32::MAX << package)) >> thread,
        thread: apic_id & !(u32::MAX << thread),
        presence,
    };
    core.guest_memory()?.write(at, &info)?;
    Ok(0)
}

fn domain_write(core: &mut Core, id: DomId, to: GuestPhys, from: GuestVirt, bytes: u64) -> HypercallResult {
    let into = writable(core, id)?;
    let memory = core.guest_memory()?;
    let mut done = 0;
    while done < bytes {
        let (from, to) = (from.checked_add(done), to.checked_add(done));
        let from = from.ok_or(Errno::EFAULT)?;
        let (host, left) = memory.translate(from, Access::Read).ok_or(Errno::EFAULT)?;
        let now = left.min(bytes - done);
        // SAFETY: so much from there on is the caller's memory, by its EPT, and nobody uses the other.
        unsafe { build::write_from(into, to.ok_or(Errno::EFAULT)?, pointer(host), now as usize)? };
        done += now;
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
    let (_, home) = building(core, id)?;
    let own = core.domain()?;
    build::share(&mut registry(core)?.frames, own, from, home, to, pages)?;
    Ok(0)
}

fn domain_firmware(core: &mut Core, id: DomId, first: u64, pages: PageCount) -> HypercallResult {
    let (domain, home) = building(core, id)?;
    let is_sized = (1..=op::MAX_FIRMWARE_PAGES).contains(&pages.get());
    if !is_sized || !domain.is_full || domain.is_shadowed {
        return Err(Errno::EINVAL);
    }
    build::move_firmware(&mut registry(core)?.frames, home, physmap::address(first)?, pages)?;
    domain.params[param::MEMORY_END_PFN as usize].store(first, Relaxed);
    home.start = Some(Start::reset(core.machine.cpuid.signature()));
    Ok(0)
}

fn unpause(core: &mut Core, id: DomId) -> HypercallResult {
    let domain = find(core, id)?;
    if domain.state() == DomainState::Building {
        return core.start_domain(domain.home());
    }
    if !Core::has_processors(domain) {
        return Err(Errno::EBUSY);
    }
    domain.face().change_state(&[DomainState::Paused], DomainState::Running, 0);
    core.let_follow(domain).map(|()| 0)
}

fn resume(core: &mut Core, id: DomId) -> HypercallResult {
    let domain = find(core, id)?;
    if !Core::has_processors(domain) {
        return Err(Errno::EBUSY);
    }
    domain.shutdown_code.store(NO_CODE, Relaxed);
    if !domain.face().resume() {
        return Err(Errno::EINVAL);
    }
    core.let_follow(domain).map(|()| 0)
}

fn destroy(core: &mut Core, id: DomId) -> HypercallResult {
    let domain = find(core, id)?;
    core.recall_domain(domain)?;
    build::destroy(registry(core)?, domain.home());
    Ok(0)
}

fn domain_info(core: &mut Core, from: u64, at: GuestVirt) -> HypercallResult {
    let registry = registry(core)?;
    let found =
        registry.records.iter().enumerate().filter_map(|(on, record)| record.map(|record| (on, record)));
    let next = found.filter(|(_, record)| u64::from(record.id) >= from).min_by_key(|(_, record)| record.id);
    let (on, record) = next.ok_or(Errno::ESRCH)?;
    let domain = registry.domain(on).ok_or(Errno::ESRCH)?;
    let faces = || domain.cores.iter().map(|&core| &FACES[usize::from(core)]);
    let exits = |kind: usize| faces().map(|face| face.exits[kind].load(Relaxed)).sum();
    let all = |count: fn(usize) -> u64| domain.cores.iter().map(|&core| count(core.into())).sum::<u64>();
    let info = DomainInfo {
        domain: record.id.into(),
        core: on as u32,
        cores: domain.face().cores.load(Relaxed),
        state: domain.state() as u32,
        reason: domain.face().reason(),
        pages: domain.pages.load(Relaxed),
        exits: core::array::from_fn::<_, { ExitKind::COUNT }, _>(exits),
        stopped_tsc: domain.face().stopped_at.load(Relaxed),
        events_in: all(events_to).wrapping_sub(record.events_in_before),
        events_out: all(events_from).wrapping_sub(record.events_out_before),
    };
    core.guest_memory()?.write(at, &info)?;
    Ok(0)
}

fn crash_record(core: &mut Core, id: DomId, at: GuestVirt) -> HypercallResult {
    let domain = find(core, id)?;
    if domain.state() != DomainState::Crashed {
        return Err(Errno::ENOENT);
    }
    let record = (*domain.crash.lock()).ok_or(Errno::ENOENT)?;
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
