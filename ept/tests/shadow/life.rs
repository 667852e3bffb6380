//! One life of a guest on shadows, held against the reference walker at every access.
//!
//! The rule is that of a TLB. What an access gets must be what the guest's tables say now, or said at some time since
//! the guest last flushed that address. What they allow now must become possible within a few faults. What they forbid
//! and no stale translation allows must fault with the walker's own error code.

use std::collections::HashMap;
use std::rc::Rc;

use abi::address::{GuestPhys, GuestVirt, HostPhys};
use ept::guest_walk::{
    EntryWidth, Found, GuestTables, Mode, PageFaultCode, Paging, Privilege, Refusal, Request, load_pdptes,
    look,
};
use ept::shadow::{Answer, Flush, Frame, GuestSpace, Link, Memory, Outcome, Page, Shadow};
use ept::{Access, ENTRIES};

use super::machine::{Cpu, FEATURES, FRAMES, GuestRam, ROM, ShadowRam, Touches, host_frame};

pub const KERNEL: Privilege = Privilege::Supervisor { alignment_check: false };
pub const KERNEL_AC: Privilege = Privilege::Supervisor { alignment_check: true };

/// The host frame of a store's first page.
const FIRST_PAGE: u64 = 0x10_0000;
/// Faults that one access may take: one fills the shadow, one finds that the TLB is behind it.
const MOST_FAULTS: usize = 2;

/// What came of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    Memory(u64),
    Fault(PageFaultCode),
    Mmio(GuestPhys),
    Emulated(GuestPhys),
    Stopped,
}

/// The memory that a guest's shadows live in.
pub struct Store {
    pages: Vec<Page>,
    links: Vec<Link>,
    frames: Vec<Frame>,
}

impl Store {
    pub fn new(pages: usize) -> Self {
        Self {
            pages: (0..pages as u64).map(|at| Page::new(HostPhys::new(FIRST_PAGE + at * 0x1000))).collect(),
            links: vec![Link::UNUSED; pages * ENTRIES],
            frames: vec![Frame::UNUSED; FRAMES as usize],
        }
    }
}

pub struct Guest<'a> {
    pub ram: GuestRam,
    pub touches: Rc<Touches>,
    pub shadow: Shadow<'a, ShadowRam>,
    pub cpu: Cpu,
    pub paging: Paging,
    /// Where in the journal the last flush of everything was, and the last of each page.
    flushed: usize,
    flushed_page: HashMap<u64, usize>,
    /// Where in the journal the guest's last own write ended; the marks that walks set are no writes.
    stored: usize,
    pub faults: usize,
    /// How often each thing happened, so that a test can see that it did.
    pub seen: HashMap<&'static str, usize>,
}

impl<'a> Guest<'a> {
    pub fn new(store: &'a mut Store, paging: Paging) -> Self {
        let touches = Rc::new(Touches::default());
        let tables = ShadowRam::new(touches.clone());
        for at in 0..store.pages.len() as u64 {
            tables.add(FIRST_PAGE + at * 0x1000);
        }
        let memory = Memory { pages: &mut store.pages, links: &mut store.links, frames: &mut store.frames };
        let mut guest = Self {
            ram: GuestRam::new(touches.clone()),
            touches,
            shadow: Shadow::new(tables.clone(), memory, FEATURES).unwrap(),
            cpu: Cpu::new(tables),
            paging,
            flushed: 0,
            flushed_page: HashMap::new(),
            stored: 0,
            faults: 0,
            seen: HashMap::new(),
        };
        guest.load(paging);
        guest
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn now(&self) -> usize {
        self.ram.journal.borrow().len()
    }

    fn enter(&mut self, flush: Flush) {
        self.cpu.enter(&self.paging, self.shadow.root(), flush);
    }

    /// MOV to a control register.
    pub fn load(&mut self, mut paging: Paging) {
        if paging.mode() == Mode::Pae {
            match load_pdptes(&self.ram, paging.cr3, FEATURES) {
                Ok(pdptes) => paging.pdptes = pdptes,
                Err(_) => return self.saw("PDPTEs refused"),
            }
        }
        self.paging = paging;
        let flush = self.shadow.load(&self.ram, &paging);
        assert_eq!(flush, Flush::All);
        self.flushed = self.now();
        self.enter(flush);
    }

    pub fn invlpg(&mut self, at: u64) {
        let flush = self.shadow.invalidate(&self.ram, GuestVirt::new(at));
        assert_ne!(flush, Flush::None);
        self.flushed_page.insert(at >> 12, self.now());
        self.enter(flush);
    }

    fn told(&mut self, gpa: GuestPhys, bytes: u64) {
        if self.shadow.is_table(gpa) {
            let flush = self.shadow.written(&self.ram, gpa, bytes);
            self.enter(flush);
        }
    }

    /// WRPKRU, which never exits.
    pub fn write_pkru(&mut self, pkru: u32) {
        self.paging.pkru = pkru;
        self.cpu.registers.pkru = pkru;
    }

    fn store(&mut self, at: u64, width: EntryWidth, value: u64) {
        self.ram.set(at, width, value);
        self.stored = self.now();
    }

    /// A write that a device makes.
    pub fn dma(&mut self, at: u64, value: u64) {
        self.store(at, EntryWidth::Eight, value);
        self.told(GuestPhys::new(at), 8);
    }

    pub fn revoke(&mut self, gfn: u32) {
        self.ram.revoked.set(gfn);
        let flush = self.shadow.revoke(GuestPhys::new(u64::from(gfn) << 12));
        self.enter(flush);
    }

    /// What the guest's tables say now, without a mark.
    pub fn reference(&self, at: u64, request: Request) -> Result<Found, Option<PageFaultCode>> {
        // To see a refusal, walk a page that is not there to mark.
        match look(&self.ram, &self.paging, GuestVirt::new(at)) {
            Some(found) => found.permits(request, &self.paging).map(|()| found).map_err(Some),
            None => Err(None),
        }
    }

    /// Whether the reference would give `target` now, or would have at some time since the last flush.
    fn allowed_since_flush(&self, at: u64, request: Request, target: u64) -> bool {
        let page = self.flushed_page.get(&(at >> 12)).copied().unwrap_or(0);
        self.ram.any_state_since(self.flushed.max(page), || {
            self.reference(at, request).is_ok_and(|found| self.host(found.gpa) == Some(target))
        })
    }

    fn host(&self, gpa: GuestPhys) -> Option<u64> {
        let gfn = gpa.as_u64() >> 12;
        self.ram.has(gfn).then(|| host_frame(gfn as u32) | gpa.page_offset(4096))
    }

    /// Whether nothing was written since the guest last flushed this address.
    fn fresh(&self, at: u64) -> bool {
        let page = self.flushed_page.get(&(at >> 12)).copied().unwrap_or(0);
        self.flushed.max(page) >= self.stored
    }

    /// An access, with all that follows from it. A write stores `value`.
    pub fn access(&mut self, at: u64, request: Request, value: Option<(EntryWidth, u64)>) -> Got {
        let address = GuestVirt::new(at);
        let fresh = self.fresh(at);
        for _ in 0..=MOST_FAULTS {
            let before = self.reference(at, request);
            let was_table = before.is_ok_and(|found| self.shadow.is_table(found.gpa));
            let code = match self.cpu.access(address, request) {
                Ok(target) => return self.got_memory(at, request, target, fresh, value),
                Err(code) => code,
            };
            self.faults += 1;
            let user = matches!(request.privilege, Privilege::User);
            let ac = request.privilege == KERNEL_AC;
            // An implicit access comes at CPL 3 here, where it can be told.
            let cpl3 = user || request.privilege == Privilege::Implicit;
            let request_seen = Request::from_fault(code, cpl3, ac);
            assert_eq!(request_seen, request);
            let Answer { outcome, flush } =
                self.shadow.fault(&self.ram, address, request_seen, self.paging.pkru);
            self.enter(flush);
            match outcome {
                Outcome::Fixed => {
                    let Ok(found) = before else {
                        panic!("fixed what the tables forbid: {request:?} at {at:#x}")
                    };
                    if was_table && !self.shadow.is_table(found.gpa) {
                        self.saw("table opened");
                    }
                }
                Outcome::Inject(code) => return self.got_fault(at, request, before, code),
                Outcome::Mmio(gpa) => {
                    assert_eq!(before.unwrap().gpa, gpa);
                    let rom = gpa.as_u64() >> 12 == u64::from(ROM) && request.access == Access::Write;
                    assert!(rom || !self.ram.has(gpa.as_u64() >> 12));
                    self.saw("mmio");
                    return Got::Mmio(gpa);
                }
                Outcome::WriteToTable(gpa) => {
                    assert_eq!(request.access, Access::Write);
                    assert!(self.shadow.is_table(gpa));
                    self.saw("write to table");
                    return self.emulate(before, gpa, value);
                }
                Outcome::Emulate(gpa) => {
                    let strict = self.paging.cr4 & (1 << 21 | 1 << 22) != 0;
                    assert!(!self.paging.write_protect() && strict && request.access == Access::Write);
                    self.saw("emulate");
                    return self.emulate(before, gpa, value);
                }
                Outcome::Stop(refusal) => {
                    assert!(matches!(refusal, Refusal::OutsideMemory(_)), "{refusal:?}");
                    assert_eq!(before, Err(None));
                    self.saw("stopped");
                    return Got::Stopped;
                }
            }
        }
        panic!("{request:?} at {at:#x} is still refused after {MOST_FAULTS} faults: {:?}", self.paging);
    }

    fn got_memory(
        &mut self,
        at: u64,
        request: Request,
        target: u64,
        fresh: bool,
        value: Option<(EntryWidth, u64)>,
    ) -> Got {
        assert!(
            self.allowed_since_flush(at, request, target),
            "{request:?} at {at:#x} reaches {target:#x} against the tables: {:x?}",
            self.reference(at, request)
        );
        if fresh && self.paging.mode() != Mode::Off {
            let found = self.reference(at, request).expect("nothing was written since the flush");
            let rom = |step: &ept::guest_walk::Step| step.at.as_u64() >> 12 == u64::from(ROM);
            for step in found.steps.iter().filter(|step| step.entry != 0 && !rom(step)) {
                assert_ne!(step.entry & 1 << 5, 0, "an entry on the way is not marked accessed");
            }
            let leaf = &found.steps[usize::from(found.level) - 1];
            assert!(found.dirty || request.access != Access::Write || rom(leaf), "not marked dirty");
        }
        self.saw(if fresh { "fresh access" } else { "access that may be stale" });
        let now = self.reference(at, request);
        if now.is_err() || now.is_ok_and(|found| self.host(found.gpa) != Some(target)) {
            self.saw("stale access");
        }
        if let Some((width, value)) = value {
            let gfn = (0..FRAMES).find(|&gfn| host_frame(gfn) == target & !0xfff).unwrap();
            let gpa = u64::from(gfn) << 12 | target & 0xfff;
            assert!(!self.shadow.is_table(GuestPhys::new(gpa)), "a table that is protected was written");
            self.store(gpa, width, value);
        }
        Got::Memory(target)
    }

    fn got_fault(
        &mut self,
        at: u64,
        request: Request,
        before: Result<Found, Option<PageFaultCode>>,
        code: PageFaultCode,
    ) -> Got {
        let expected = match before {
            Ok(_) => panic!("{request:?} at {at:#x} is allowed, but got {code:?}"),
            Err(Some(code)) => code,
            Err(None) => {
                let answer = ept::guest_walk::walk(&self.ram, &self.paging, GuestVirt::new(at), request);
                let Err(Refusal::Fault(code)) = answer else { panic!("{answer:?}") };
                code
            }
        };
        assert_eq!(code, expected, "{request:?} at {at:#x}");
        self.saw("injected");
        Got::Fault(code)
    }

    /// The instruction emulator.
    fn emulate(
        &mut self,
        before: Result<Found, Option<PageFaultCode>>,
        gpa: GuestPhys,
        value: Option<(EntryWidth, u64)>,
    ) -> Got {
        assert_eq!(before.unwrap().gpa, gpa);
        if let Some((width, value)) = value {
            self.store(gpa.as_u64(), width, value);
            self.told(gpa, width.bytes());
        }
        Got::Emulated(gpa)
    }

    /// Whether guest memory is backed at this address.
    pub fn backed(&self, gfn: u32) -> bool {
        self.ram.frame(gfn).is_some()
    }

    pub fn entry(&self, at: u64, width: EntryWidth) -> Option<u64> {
        self.ram.read(GuestPhys::new(at), width)
    }
}
