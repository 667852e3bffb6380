//! A second walker, which owes nothing to the first: SDM 3A, "Paging", table by table and sentence by sentence, and
//! without a thought of speed.

use ept::Access;
use ept::guest_walk::{EntryWidth, PageFaultCode, Paging, Privilege, Refusal, Request};

use abi::address::GuestPhys;

/// Where an address leads.
#[derive(Clone, Debug)]
pub struct Way {
    /// The guest-physical address.
    pub target: u64,
    /// The bytes of its page.
    pub page_bytes: u64,
    /// The entries, from the uppermost to that of the page: where each is, and what it is.
    pub entries: Vec<(u64, u64)>,
}

fn bit(value: u64, number: u32) -> bool {
    value >> number & 1 != 0
}

fn bits(value: u64, high: u32, low: u32) -> u64 {
    if high < low { 0 } else { value >> low & ((1u128 << (high - low + 1)) - 1) as u64 }
}

/// The registers, by the names of their flags.
struct Registers<'a> {
    paging: &'a Paging,
    /// MAXPHYADDR.
    width: u32,
}

impl Registers<'_> {
    fn wp(&self) -> bool {
        bit(self.paging.cr0, 16)
    }

    fn long(&self) -> bool {
        bit(self.paging.efer, 10)
    }

    fn pae(&self) -> bool {
        bit(self.paging.cr4, 5)
    }

    fn nxe(&self) -> bool {
        bit(self.paging.efer, 11)
    }

    /// The lowest address bit that each level's index has, from the uppermost level down.
    fn shifts(&self) -> &'static [u32] {
        match (self.long(), self.pae()) {
            (true, _) => &[39, 30, 21, 12],
            (false, true) => &[21, 12],
            (false, false) => &[22, 12],
        }
    }

    /// Whether a present entry whose index begins at `shift` maps a page.
    fn is_page(&self, entry: u64, shift: u32) -> bool {
        match shift {
            12 => true,
            22 => bit(entry, 7) && bit(self.paging.cr4, 4),
            21 | 30 => bit(entry, 7),
            _ => false,
        }
    }

    /// Tables "Format of a ... Entry": whether a bit is set that must be 0.
    fn has_reserved(&self, entry: u64, shift: u32) -> bool {
        let page = self.is_page(entry, shift);
        if !self.pae() {
            let widest = if self.paging.features.pse36 { self.width.min(40) } else { 32 };
            return shift == 22 && page && bits(entry, 21, widest - 19) != 0;
        }
        bits(entry, 51, self.width) != 0
            || bit(entry, 63) && !self.nxe()
            || !self.long() && bits(entry, 62, 52) != 0
            || shift == 39 && bit(entry, 7)
            || shift == 30 && page && (!self.paging.features.gigabyte_pages || bits(entry, 29, 13) != 0)
            || shift == 21 && page && bits(entry, 20, 13) != 0
    }

    /// "Page-Fault Exceptions": what the error code says of the access.
    fn code(&self, request: Request) -> PageFaultCode {
        let mut code = PageFaultCode::empty();
        code.set(PageFaultCode::WRITE, request.access == Access::Write);
        code.set(PageFaultCode::USER, request.privilege == Privilege::User);
        let tells = bit(self.paging.cr4, 20) || self.pae() && self.nxe();
        code.set(PageFaultCode::FETCH, request.access == Access::Execute && tells);
        code
    }
}

/// The way to `linear`, whoever asks; the error code is that of a read by the supervisor.
pub fn way(
    read: impl Fn(u64, EntryWidth) -> Option<u64>,
    paging: &Paging,
    linear: u64,
    request: Request,
) -> Result<Way, Refusal> {
    let registers = Registers { paging, width: u32::from(paging.features.address_bits) };
    let width = if registers.pae() { EntryWidth::Eight } else { EntryWidth::Four };
    let cut = if registers.long() { linear } else { linear & 0xffff_ffff };
    if !bit(paging.cr0, 31) {
        return Ok(Way { target: cut & 0xffff_ffff, page_bytes: 4096, entries: Vec::new() });
    }
    let code = registers.code(request);
    let mut table = if registers.long() {
        let sign = bits(linear, 63, 47);
        if sign != 0 && sign != 0x1_ffff {
            return Err(Refusal::NotCanonical);
        }
        bits(paging.cr3, registers.width - 1, 12) << 12
    } else if registers.pae() {
        let pdpte = paging.pdptes[bits(cut, 31, 30) as usize];
        if !bit(pdpte, 0) {
            return Err(Refusal::Fault(code));
        }
        bits(pdpte, 51, 12) << 12
    } else {
        bits(paging.cr3, 31, 12) << 12
    };
    let mut entries = Vec::new();
    for &shift in registers.shifts() {
        let index = bits(cut, if width == EntryWidth::Four { shift + 9 } else { shift + 8 }, shift);
        let at = table + index * width.bytes();
        let entry = read(at, width).ok_or(Refusal::OutsideMemory(GuestPhys::new(at)))?;
        if !bit(entry, 0) {
            return Err(Refusal::Fault(code));
        }
        if registers.has_reserved(entry, shift) {
            return Err(Refusal::Fault(code | PageFaultCode::PRESENT | PageFaultCode::RESERVED));
        }
        entries.push((at, entry));
        if registers.is_page(entry, shift) {
            let frame = match shift {
                22 => bits(entry, 20, 13) << 32 | bits(entry, 31, 22) << 22,
                _ => bits(entry, 51, shift) << shift,
            };
            let target = frame | bits(cut, shift - 1, 0);
            return Ok(Way { target, page_bytes: 1 << shift, entries });
        }
        table = if width == EntryWidth::Four { entry & 0xffff_f000 } else { bits(entry, 51, 12) << 12 };
    }
    unreachable!("the lowest level maps pages")
}

/// "Determination of Access Rights": the error code of the fault that `request` gets at the end of its way.
pub fn refused(way: &Way, paging: &Paging, request: Request) -> Option<PageFaultCode> {
    let registers = Registers { paging, width: 0 };
    let &(_, page) = way.entries.last()?;
    let every = |number: u32| way.entries.iter().all(|&(_, entry)| bit(entry, number));
    let user_page = every(2);
    let writable = every(1);
    let xd = registers.pae() && registers.nxe() && way.entries.iter().any(|&(_, entry)| bit(entry, 63));
    let (smep, smap, pke) = (bit(paging.cr4, 20), bit(paging.cr4, 21), bit(paging.cr4, 22));
    let key = bits(page, 62, 59) as u32 * 2;
    let keyed = registers.long() && pke && user_page;
    let (ad, wd) = (keyed && bit(paging.pkru.into(), key), keyed && bit(paging.pkru.into(), key + 1));
    let user = request.privilege == Privilege::User;
    let explicit_ac = request.privilege == Privilege::Supervisor { alignment_check: true };
    let data = !user_page || !smap || explicit_ac;
    let (allowed, by_key) = match (request.access, user) {
        (Access::Read, false) => (data, !ad),
        (Access::Write, false) => (data && (writable || !registers.wp()), !(ad || wd && registers.wp())),
        (Access::Execute, false) => (!(xd || user_page && smep), true),
        (Access::Read, true) => (user_page, !ad),
        (Access::Write, true) => (user_page && writable, !ad && !wd),
        (Access::Execute, true) => (user_page && !xd, true),
    };
    if allowed && by_key {
        return None;
    }
    let mut code = registers.code(request) | PageFaultCode::PRESENT;
    code.set(PageFaultCode::KEY, !by_key);
    Some(code)
}
