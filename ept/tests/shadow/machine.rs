//! A machine for shadows to run on: guest memory, shadow frames, and a processor with a TLB that keeps whatever it is
//! not told to forget.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use abi::address::{GuestPhys, GuestVirt, HostPhys};
use ept::guest_walk::{
    EntryWidth, Exchange, Features, Found, GuestTables, PageFaultCode, Paging, Refusal, Request, load_pdptes,
    walk,
};
use ept::shadow::{Backing, Flush, GuestSpace, Processor, ShadowTables};
use ept::{ENTRIES, Permissions, Tables};

/// Frames of guest memory. All of it fits into one large page, from its beginning.
pub const FRAMES: u32 = 24;
/// Guest-physical frames without memory.
pub const HOLES: [u32; 2] = [13, 22];
/// A guest-physical frame that cannot be written.
pub const ROM: u32 = 17;
pub const FEATURES: Features = Features { address_bits: 40, gigabyte_pages: true, pse36: true };

/// Where a guest frame really is.
pub fn host_frame(gfn: u32) -> u64 {
    0x7_0000_0000 + u64::from(gfn * 5 % FRAMES) * 0x1000
}

#[derive(Default)]
pub struct Touches {
    pub guest: Cell<usize>,
    pub shadow: Cell<usize>,
    pub map: Cell<usize>,
}

impl Touches {
    pub fn take(&self) -> [usize; 3] {
        [self.guest.take(), self.shadow.take(), self.map.take()]
    }
}

pub fn count(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

/// The guest's memory, and a journal of what was written to it.
pub struct GuestRam {
    words: RefCell<Vec<u32>>,
    pub journal: RefCell<Vec<(u64, u32)>>,
    pub revoked: Cell<u32>,
    pub touches: std::rc::Rc<Touches>,
}

impl GuestRam {
    pub fn new(touches: std::rc::Rc<Touches>) -> Self {
        let words = RefCell::new(vec![0; FRAMES as usize * 1024]);
        Self { words, journal: RefCell::default(), revoked: Cell::new(u32::MAX), touches }
    }

    pub fn has(&self, gfn: u64) -> bool {
        gfn < u64::from(FRAMES) && !HOLES.contains(&(gfn as u32)) && gfn as u32 != self.revoked.get()
    }

    pub fn get(&self, at: u64, width: EntryWidth) -> Option<u64> {
        if !self.has(at >> 12) {
            return None;
        }
        let words = self.words.borrow();
        let word = |at: u64| u64::from(words[at as usize / 4]);
        Some(match width {
            EntryWidth::Four => word(at),
            EntryWidth::Eight => word(at) | word(at + 4) << 32,
        })
    }

    pub fn set(&self, at: u64, width: EntryWidth, value: u64) {
        for offset in (0..width.bytes()).step_by(4) {
            let place = &mut self.words.borrow_mut()[(at + offset) as usize / 4];
            self.journal.borrow_mut().push((at + offset, *place));
            *place = (value >> (offset * 8)) as u32;
        }
    }

    /// Takes back everything that the journal holds from `since` on, lets `look` see each state on the way, and puts
    /// it all back. `true` as soon as one look says so.
    pub fn any_state_since(&self, since: usize, mut look: impl FnMut() -> bool) -> bool {
        let undone = self.journal.borrow()[since..].to_vec();
        let mut redo = Vec::new();
        let mut found = look();
        for &(at, old) in undone.iter().rev() {
            if found {
                break;
            }
            let now = std::mem::replace(&mut self.words.borrow_mut()[at as usize / 4], old);
            redo.push((at, now));
            found = look();
        }
        for &(at, now) in redo.iter().rev() {
            self.words.borrow_mut()[at as usize / 4] = now;
        }
        found
    }
}

impl GuestTables for GuestRam {
    fn read(&self, at: GuestPhys, width: EntryWidth) -> Option<u64> {
        count(&self.touches.guest);
        self.get(at.as_u64(), width)
    }

    fn compare_exchange(&self, at: GuestPhys, width: EntryWidth, current: u64, new: u64) -> Exchange {
        count(&self.touches.guest);
        if (at.as_u64() >> 12) as u32 == ROM {
            return Exchange::NotWritable;
        }
        // One entry may be used at two levels of a walk; then its first mark comes before the second.
        if self.get(at.as_u64(), width) != Some(current) {
            return Exchange::Changed;
        }
        self.set(at.as_u64(), width, new);
        Exchange::Stored
    }
}

impl GuestSpace for GuestRam {
    fn frame(&self, gfn: u32) -> Option<Backing> {
        count(&self.touches.map);
        let permissions =
            if gfn == ROM { Permissions::READ_EXECUTE } else { Permissions::READ_WRITE_EXECUTE };
        self.has(u64::from(gfn)).then(|| Backing { hpa: HostPhys::new(host_frame(gfn)), permissions })
    }
}

/// The frames that hold the shadows.
#[derive(Clone)]
pub struct ShadowRam {
    frames: std::rc::Rc<RefCell<HashMap<u64, Box<[u64; ENTRIES]>>>>,
    touches: std::rc::Rc<Touches>,
}

impl ShadowRam {
    pub fn new(touches: std::rc::Rc<Touches>) -> Self {
        Self { frames: Default::default(), touches }
    }

    pub fn add(&self, frame: u64) {
        self.frames.borrow_mut().insert(frame, Box::new([0; ENTRIES]));
    }
}

impl Tables for ShadowRam {
    fn read(&self, table: HostPhys, index: usize) -> u64 {
        count(&self.touches.shadow);
        self.frames.borrow()[&table.as_u64()][index]
    }
}

impl ShadowTables for ShadowRam {
    fn write(&mut self, table: HostPhys, index: usize, entry: u64) {
        count(&self.touches.shadow);
        self.frames.borrow_mut().get_mut(&table.as_u64()).unwrap()[index] = entry;
    }
}

/// The processor reads shadows as any other tables. It never has a flag to set.
impl GuestTables for ShadowRam {
    fn read(&self, at: GuestPhys, width: EntryWidth) -> Option<u64> {
        assert_eq!(width, EntryWidth::Eight, "the processor never runs on 32-bit paging");
        let at = at.as_u64();
        self.frames.borrow().get(&(at & !0xfff)).map(|frame| frame[(at & 0xfff) as usize / 8])
    }

    fn compare_exchange(&self, _: GuestPhys, _: EntryWidth, _: u64, _: u64) -> Exchange {
        panic!("an entry of a shadow lacks an accessed or dirty flag");
    }
}

/// The processor in the guest.
pub struct Cpu {
    pub tables: ShadowRam,
    tlb: HashMap<u64, Found>,
    /// As VM entry loads them.
    pub registers: Paging,
}

impl Cpu {
    pub fn new(tables: ShadowRam) -> Self {
        let registers = Paging { cr0: 1, cr3: 0, cr4: 0, efer: 0, pdptes: [0; 4], pkru: 0, features: HOST };
        Self { tables, tlb: HashMap::new(), registers }
    }

    /// VM entry.
    pub fn enter(&mut self, guest: &Paging, root: HostPhys, flush: Flush) {
        let runs = Processor::for_guest(guest).expect("not in real mode");
        assert_eq!(runs.long_mode, runs.efer >> 10 & 1 != 0);
        assert_eq!(runs.efer >> 8 & 1, runs.efer >> 10 & 1, "LME and LMA agree while CR0.PG is set");
        assert!(runs.cr0 & 0x8000_0001 == 0x8000_0001 && runs.cr4 & 1 << 5 != 0);
        let mut pdptes = [0; 4];
        if !runs.long_mode {
            assert_eq!(root.as_u64() >> 32, 0, "a PAE root lies below 4 GiB");
            pdptes = load_pdptes(&self.tables, root.as_u64(), HOST).expect("VM entry checks PDPTEs");
        }
        self.registers = Paging {
            cr0: runs.cr0,
            cr3: root.as_u64(),
            cr4: runs.cr4,
            efer: runs.efer,
            pdptes,
            pkru: guest.pkru,
            features: HOST,
        };
        match flush {
            Flush::None => {}
            Flush::Address(at) => {
                self.tlb.remove(&(at.as_u64() >> 12));
            }
            Flush::All => self.tlb.clear(),
        }
    }

    /// An access: where it goes, or the error code of the fault. What is cached is used, right or wrong.
    pub fn access(&mut self, at: GuestVirt, request: Request) -> Result<u64, PageFaultCode> {
        let page = at.as_u64() >> 12;
        let offset = at.as_u64() & 0xfff;
        if let Some(cached) = self.tlb.get(&page) {
            return cached.permits(request, &self.registers).map(|()| cached.gpa.as_u64() & !0xfff | offset);
        }
        match walk(&self.tables, &self.registers, at, request) {
            Ok(found) => {
                self.tlb.insert(page, found);
                Ok(found.gpa.as_u64())
            }
            Err(Refusal::Fault(code)) => {
                assert!(!code.contains(PageFaultCode::RESERVED), "a shadow has a reserved bit set");
                Err(code)
            }
            Err(other) => panic!("the processor cannot walk a shadow: {other}"),
        }
    }
}

const HOST: Features = Features { address_bits: 46, gigabyte_pages: true, pse36: true };
