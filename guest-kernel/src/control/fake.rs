//! A hypervisor for tests: domains as plain data, every call able to fail on demand.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::{format, vec, vec::Vec};

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::hypercall::{
    AuditReport, CoreInfo, CrashRecord, DomainInfo, DomainState, ExitKind, MachineInfo, NO_DOMAIN,
    NO_PROCESSOR, presence,
};
use abi::control::succession::{Failure, Stage, Succession};
use abi::control::topology::Topology;
use abi::xen::DomId;
use abi::xen::errno::Errno;
use abi::xen::event_channel::Port;
use abi::xen::sched::reason;
use abi::xen::vcpu::HvmContext;

use super::hypervisor::{Hypervisor, SharedRange};

/// A domain, as the fake keeps it.
pub struct Domain {
    pub cores: u64,
    pub memory: Vec<u8>,
    pub state: DomainState,
    pub reason: u32,
    /// When it stopped last.
    pub stopped_tsc: u64,
    pub shares: Vec<(GuestPhys, SharedRange)>,
    pub params: BTreeMap<u32, u64>,
    pub entry: Option<(GuestPhys, GuestPhys)>,
    pub context: Option<HvmContext>,
    /// What lies at the end of 4 GiB.
    pub firmware: Option<Vec<u8>>,
    pub exits: [u64; ExitKind::COUNT],
    /// How far its succession is, and the memory that is not in use.
    pub succession: Succession,
    pub other: Option<Vec<u8>>,
    /// Where its successor started: entry, start info, package.
    pub successor: Option<[GuestPhys; 3]>,
    /// What the old kernel was told.
    pub failed: Option<Failure>,
}

/// The state of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Unbound(DomId),
    Bound(DomId, Port),
}

/// The hypervisor.
pub struct Fake {
    pub cores: u32,
    /// By core: its processor.
    pub processors: Vec<u32>,
    /// By processor: whether it is there.
    pub presence: Vec<u32>,
    pub frames_free: u64,
    pub domains: BTreeMap<DomId, Domain>,
    next_domain: DomId,
    pub ports: BTreeMap<(DomId, Port), End>,
    pub sent: Vec<Port>,
    pub printed: String,
    pub log: Vec<u8>,
    pub log_start: u64,
    pub now: u64,
    pub stopped: Option<u8>,
    /// How many more calls succeed, where that is bounded.
    pub calls_left: Option<usize>,
}

impl Fake {
    /// A machine with this many cores and domain 0 on the first.
    pub fn new(cores: u32) -> Self {
        let mut fake = Self {
            cores,
            processors: (0..cores).collect(),
            presence: vec![presence::KNOWN; cores as usize],
            frames_free: 64 * 256,
            domains: BTreeMap::new(),
            next_domain: 0,
            ports: BTreeMap::new(),
            sent: Vec::new(),
            printed: String::new(),
            log: b"the hypervisor's log\n".to_vec(),
            log_start: 0,
            now: 0,
            stopped: None,
            calls_left: None,
        };
        fake.domain_create(1, 16, 0).unwrap();
        fake.domain_mut(0).unwrap().state = DomainState::Running;
        fake
    }

    fn call(&mut self) -> Result<(), Errno> {
        match &mut self.calls_left {
            Some(0) => Err(Errno::ENOMEM),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn domain_mut(&mut self, domain: DomId) -> Result<&mut Domain, Errno> {
        self.domains.get_mut(&domain).ok_or(Errno::ESRCH)
    }

    fn building(&mut self, domain: DomId) -> Result<&mut Domain, Errno> {
        let domain = self.domain_mut(domain)?;
        if domain.state == DomainState::Building { Ok(domain) } else { Err(Errno::EBUSY) }
    }

    fn new_port(&mut self, domain: DomId, end: End) -> Port {
        let port = (1..).find(|port| !self.ports.contains_key(&(domain, *port))).unwrap();
        self.ports.insert((domain, port), end);
        port
    }

    /// As a guest binds to a port that waits for it.
    pub fn bind_as(&mut self, own: DomId, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        if self.ports.get(&(remote, remote_port)) != Some(&End::Unbound(own)) {
            return Err(Errno::EINVAL);
        }
        let port = self.new_port(own, End::Bound(remote, remote_port));
        self.ports.insert((remote, remote_port), End::Bound(own, port));
        Ok(port)
    }

    /// What domain 0 has open.
    pub fn own_ports(&self) -> usize {
        self.ports.keys().filter(|(domain, _)| *domain == 0).count()
    }

    /// The state of a domain changes by itself.
    pub fn becomes(&mut self, domain: DomId, state: DomainState, reason: u32) {
        let now = self.now;
        let domain = self.domain_mut(domain).unwrap();
        (domain.state, domain.reason, domain.stopped_tsc) = (state, reason, now);
    }
}

impl Hypervisor for Fake {
    /// Two packages, cores one by one in each: even cores in one, odd ones in the other.
    fn topology(&mut self) -> Result<Topology, Errno> {
        let mut machine = Topology { cores: self.cores, nodes: 1, package_shift: 4, ..Topology::default() };
        for (index, core) in (0u32..self.cores).zip(&mut machine.core) {
            core.apic_id = index / 2 + index % 2 * 16;
        }
        Ok(machine)
    }

    fn machine_info(&mut self) -> Result<MachineInfo, Errno> {
        Ok(MachineInfo {
            cores: self.cores,
            tsc_khz: 1000,
            boot_tsc: 0,
            frames_total: 64 * 256,
            frames_free: self.frames_free,
            log_start: self.log_start,
            log_end: self.log_start + self.log.len() as u64,
        })
    }

    fn core_info(&mut self, core: u32) -> Result<CoreInfo, Errno> {
        if core >= self.cores {
            return Err(Errno::ENODEV);
        }
        let on = |(id, domain): (&DomId, &Domain)| (domain.cores & 1 << core != 0).then_some((*id).into());
        Ok(CoreInfo {
            domain: self.domains.iter().find_map(on).unwrap_or(NO_DOMAIN),
            processor: self.processors[core as usize],
            apic_id: core,
            package: 0,
            core,
            thread: 0,
            presence: self.presence[core as usize],
        })
    }

    fn domain_create(&mut self, cores: u64, pages: u64, _flags: u64) -> Result<DomId, Errno> {
        self.call()?;
        for core in (0..u64::BITS).filter(|core| cores & 1 << core != 0) {
            let info = self.core_info(core)?;
            if info.domain != NO_DOMAIN || info.processor == NO_PROCESSOR {
                return Err(Errno::EBUSY);
            }
        }
        self.frames_free = self.frames_free.checked_sub(pages).ok_or(Errno::ENOMEM)?;
        let id = self.next_domain;
        self.next_domain += 1;
        let domain = Domain {
            cores,
            memory: vec![0; (pages * PAGE_SIZE) as usize],
            state: DomainState::Building,
            reason: 0,
            stopped_tsc: 0,
            shares: Vec::new(),
            params: BTreeMap::new(),
            entry: None,
            context: None,
            firmware: None,
            exits: [0; ExitKind::COUNT],
            succession: Succession::default(),
            other: None,
            successor: None,
            failed: None,
        };
        self.domains.insert(id, domain);
        Ok(id)
    }

    fn domain_write(&mut self, domain: DomId, at: GuestPhys, bytes: &[u8]) -> Result<(), Errno> {
        self.call()?;
        let start = at.as_u64() as usize;
        let domain = self.domain_mut(domain)?;
        let memory = match (&mut domain.other, domain.state) {
            (Some(other), _) => other,
            (None, DomainState::Building) => &mut domain.memory,
            (None, _) => return Err(Errno::EBUSY),
        };
        memory.get_mut(start..start + bytes.len()).ok_or(Errno::EFAULT)?.copy_from_slice(bytes);
        Ok(())
    }

    fn domain_share(&mut self, domain: DomId, there: GuestPhys, here: SharedRange) -> Result<(), Errno> {
        self.call()?;
        let domain = self.building(domain)?;
        let range = |at: GuestPhys, pages| at.as_u64()..at.as_u64() + pages * PAGE_SIZE;
        let new = range(there, here.pages);
        let overlaps = |(at, old): &(GuestPhys, SharedRange)| {
            let old = range(*at, old.pages);
            old.start < new.end && new.start < old.end
        };
        if domain.shares.iter().any(overlaps) || new.start < domain.memory.len() as u64 {
            return Err(Errno::EEXIST);
        }
        domain.shares.push((there, here));
        Ok(())
    }

    fn domain_entry(&mut self, domain: DomId, entry: GuestPhys, start_info: GuestPhys) -> Result<(), Errno> {
        self.call()?;
        self.building(domain)?.entry = Some((entry, start_info));
        Ok(())
    }

    fn domain_context(&mut self, domain: DomId, start: &HvmContext) -> Result<(), Errno> {
        self.call()?;
        self.building(domain)?.context = Some(*start);
        Ok(())
    }

    fn domain_firmware(&mut self, domain: DomId, first_frame: u64, pages: u64) -> Result<(), Errno> {
        self.call()?;
        let domain = self.building(domain)?;
        let (start, bytes) = ((first_frame * PAGE_SIZE) as usize, (pages * PAGE_SIZE) as usize);
        domain.firmware = Some(domain.memory.get(start..start + bytes).ok_or(Errno::EFAULT)?.to_vec());
        Ok(())
    }

    fn domain_unpause(&mut self, domain: DomId) -> Result<(), Errno> {
        self.call()?;
        self.domain_mut(domain)?.state = DomainState::Running;
        Ok(())
    }

    fn domain_pause(&mut self, domain: DomId) -> Result<(), Errno> {
        self.call()?;
        self.domain_mut(domain)?.state = DomainState::Paused;
        Ok(())
    }

    fn domain_resume(&mut self, domain: DomId) -> Result<(), Errno> {
        self.call()?;
        let domain = self.domain_mut(domain)?;
        if (domain.state, domain.reason) != (DomainState::Shutdown, reason::SUSPEND) {
            return Err(Errno::EINVAL);
        }
        domain.state = DomainState::Running;
        Ok(())
    }

    fn core_off(&mut self, core: u32) -> Result<(), Errno> {
        self.call()?;
        let runs = |domain: &Domain| domain.cores & 1 << core != 0 && domain.state == DomainState::Running;
        let is_busy = self.domains.values().any(runs);
        let processor = self.processors.get_mut(core as usize).ok_or(Errno::ENODEV)?;
        match *processor {
            NO_PROCESSOR => Err(Errno::EEXIST),
            _ if is_busy => Err(Errno::EBUSY),
            _ => {
                *processor = NO_PROCESSOR;
                Ok(())
            }
        }
    }

    fn core_on(&mut self, core: u32, processor: u32) -> Result<(), Errno> {
        self.call()?;
        if self.presence.get(processor as usize).is_none_or(|&presence| presence == presence::ABSENT) {
            return Err(Errno::ENODEV);
        }
        if self.processors.contains(&processor) {
            return Err(Errno::EBUSY);
        }
        *self.processors.get_mut(core as usize).ok_or(Errno::ENODEV)? = processor;
        self.presence[processor as usize] = presence::KNOWN;
        Ok(())
    }

    fn successor_create(&mut self, domain: DomId) -> Result<(), Errno> {
        self.call()?;
        let bytes = self.domain_mut(domain)?.memory.len();
        let pages = bytes as u64 / PAGE_SIZE;
        self.frames_free = self.frames_free.checked_sub(pages).ok_or(Errno::ENOMEM)?;
        let domain = self.domain_mut(domain)?;
        domain.other = Some(vec![0; bytes]);
        domain.succession = Succession { stage: Stage::Prepared, bytes: 0 };
        Ok(())
    }

    fn successor_start(
        &mut self,
        domain: DomId,
        entry: GuestPhys,
        start_info: GuestPhys,
        package: GuestPhys,
    ) -> Result<(), Errno> {
        self.call()?;
        let now = self.now;
        let domain = self.domain_mut(domain)?;
        if domain.succession.stage != Stage::Offered {
            return Err(Errno::EINVAL);
        }
        let other = domain.other.as_mut().ok_or(Errno::EINVAL)?;
        core::mem::swap(other, &mut domain.memory);
        domain.successor = Some([entry, start_info, package]);
        domain.succession.stage = Stage::Trial;
        (domain.state, domain.stopped_tsc) = (DomainState::Running, now);
        Ok(())
    }

    fn successor_failed(&mut self, domain: DomId, why: Failure) -> Result<(), Errno> {
        let domain = self.domain_mut(domain)?;
        if domain.state == DomainState::Running {
            return Err(Errno::EINVAL);
        }
        let other = domain.other.take().ok_or(Errno::EINVAL)?;
        match domain.succession.stage {
            Stage::Trial => domain.memory = other,
            Stage::Offered => {}
            _ => return Err(Errno::EINVAL),
        }
        (domain.succession, domain.failed) = (Succession::default(), Some(why));
        domain.state = DomainState::Running;
        self.frames_free += domain.memory.len() as u64 / PAGE_SIZE;
        Ok(())
    }

    fn successor_end(&mut self, domain: DomId) -> Result<(), Errno> {
        let domain = self.domain_mut(domain)?;
        match domain.succession.stage {
            Stage::None => return Err(Errno::ENOENT),
            Stage::Offered | Stage::Trial => return Err(Errno::EBUSY),
            Stage::Prepared | Stage::Committed => {}
        }
        (domain.succession, domain.other) = (Succession::default(), None);
        self.frames_free += domain.memory.len() as u64 / PAGE_SIZE;
        Ok(())
    }

    fn succession(&mut self, domain: DomId) -> Result<Succession, Errno> {
        Ok(self.domain_mut(domain)?.succession)
    }

    fn domain_destroy(&mut self, domain: DomId) -> Result<(), Errno> {
        let gone = self.domains.remove(&domain).ok_or(Errno::ESRCH)?;
        self.frames_free += gone.other.map_or(0, |other| other.len() as u64 / PAGE_SIZE);
        self.frames_free += gone.memory.len() as u64 / PAGE_SIZE;
        self.ports.retain(|(owner, _), _| *owner != domain);
        Ok(())
    }

    fn domain_info(&mut self, from: DomId) -> Result<DomainInfo, Errno> {
        let (id, domain) = self.domains.range(from..).next().ok_or(Errno::ESRCH)?;
        Ok(DomainInfo {
            domain: (*id).into(),
            core: domain.cores.trailing_zeros(),
            cores: domain.cores,
            state: domain.state as u32,
            reason: domain.reason,
            pages: domain.memory.len() as u64 / PAGE_SIZE,
            exits: domain.exits,
            stopped_tsc: domain.stopped_tsc,
            events_in: 1,
            events_out: 2,
        })
    }

    fn domain_crash(&mut self, domain: DomId) -> Result<CrashRecord, Errno> {
        match self.domain_mut(domain)?.state {
            DomainState::Crashed => Ok(CrashRecord {
                exit_reason: 2,
                rip: 0x10_0000,
                code_bytes: 2,
                code_bits: 64,
                ..CrashRecord::default()
            }),
            _ => Err(Errno::ENOENT),
        }
    }

    fn log_read(&mut self, position: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let start = position.checked_sub(self.log_start).ok_or(Errno::ERANGE)? as usize;
        let log = self.log.get(start..).unwrap_or_default();
        let count = log.len().min(into.len());
        into[..count].copy_from_slice(&log[..count]);
        Ok(count)
    }

    fn audit(&mut self) -> Result<AuditReport, Errno> {
        Ok(AuditReport {
            domains: self.domains.len() as u64,
            mappings: 7,
            shared: 3,
            ..AuditReport::default()
        })
    }

    fn machine_stop(&mut self, code: u8) {
        self.stopped = Some(code);
    }

    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno> {
        self.call()?;
        self.domains.get(&remote).ok_or(Errno::ESRCH)?;
        self.building(domain)?;
        Ok(self.new_port(domain, End::Unbound(remote)))
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.call()?;
        self.bind_as(0, remote, remote_port)
    }

    fn close(&mut self, port: Port) {
        self.ports.remove(&(0, port));
    }

    fn send(&mut self, port: Port) {
        assert!(self.ports.contains_key(&(0, port)), "sent through a port that is not open");
        self.sent.push(port);
    }

    fn set_param(&mut self, domain: DomId, index: u32, value: u64) -> Result<(), Errno> {
        self.call()?;
        self.domain_mut(domain)?.params.insert(index, value);
        Ok(())
    }

    fn console_write(&mut self, bytes: &[u8]) {
        self.printed.push_str(core::str::from_utf8(bytes).unwrap());
    }

    fn ticks(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn features(&mut self) -> Vec<String> {
        vec![format!("a fake with {} cores", self.cores)]
    }
}
