//! Lives made of numbers: tables that lead to each other, and steps that mostly mean something.

use abi::address::GuestVirt;
use ept::Access;
use ept::guest_walk::{EntryWidth, Mode, Paging, Privilege, Request, look};

use super::life::{Guest, KERNEL, KERNEL_AC, Store};
use super::machine::{FEATURES, FRAMES, ROM};

/// The slots of each table that are used, so that tables often lead to each other.
const SLOTS: [u64; 4] = [0, 1, 5, 511];
const SLOTS_32: [u64; 4] = [0, 1, 517, 1023];

/// The linear addresses that matter in a mode.
fn addresses(mode: Mode) -> Vec<u64> {
    let mut all = Vec::new();
    let mut pick = |shifts: &[(u32, &[u64])]| {
        let mut list = vec![0u64];
        for (shift, slots) in shifts {
            list = list.iter().flat_map(|base| slots.iter().map(move |slot| base | slot << shift)).collect();
        }
        all = list;
    };
    match mode {
        Mode::FourLevel => pick(&[(39, &SLOTS), (30, &SLOTS), (21, &SLOTS), (12, &SLOTS)]),
        Mode::Pae => pick(&[(30, &[0, 1, 3]), (21, &SLOTS), (12, &SLOTS)]),
        Mode::TwoLevel => pick(&[(22, &SLOTS_32), (12, &SLOTS_32)]),
        Mode::Off => pick(&[(12, &[0, 1, 5, 13, 17, 23, 24, 0xf_ffff])]),
    }
    all.into_iter().map(|address| ((address as i64) << 16 >> 16) as u64).collect()
}

/// Frames that most entries in frame `gfn` lead to: mostly each frame is a table of one level.
fn usual_targets(mode: Mode, gfn: u64) -> (u64, u64) {
    let levels: &[(u64, u64)] = match mode {
        Mode::FourLevel => &[(1, 3), (3, 6), (6, 10), (10, 17)],
        Mode::Pae => &[(1, 3), (3, 7), (7, 17)],
        Mode::TwoLevel => &[(1, 6), (6, 17)],
        Mode::Off => &[],
    };
    let mut below = levels.iter().skip_while(|(_, end)| gfn >= *end).skip(1);
    below.next().copied().unwrap_or((0, u64::from(FRAMES)))
}

/// An entry in frame `gfn`, of a kind that random bits would seldom be.
fn entry(mode: Mode, gfn: u64, seed: u64) -> u64 {
    let chance = |shift: u32, percent: u64| (seed >> shift & 0x7f) * 100 / 128 < percent;
    let bit = |set: bool, bit: u32| u64::from(set) << bit;
    let (first, end) = if chance(50, 88) { usual_targets(mode, gfn) } else { (0, u64::from(FRAMES)) };
    let frame = if chance(57, 3) { seed & 0xf_ffff } else { first + seed % (end - first) };
    let large = chance(8, 12);
    let wide = mode != Mode::TwoLevel;
    (if large { 0 } else { frame << 12 })
        | bit(chance(15, 92), 0)
        | bit(chance(18, 75), 1)
        | bit(chance(21, 65), 2)
        | bit(chance(24, 50), 5)
        | bit(chance(27, 50), 6)
        | bit(large, 7)
        | bit(chance(30, 30), 8)
        | bit(wide && chance(33, 12), 63)
        | if mode == Mode::FourLevel { (seed >> 37 & 1) << 59 } else { 0 }
        | if chance(43, 2) && wide { 1 << 51 } else { 0 }
}

/// Something that a guest does, or its devices, or its owner.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub kind: u8,
    pub a: u64,
    pub b: u64,
}

fn request(seed: u64) -> Request {
    let access = [Access::Read, Access::Write, Access::Execute][seed as usize % 3];
    let privilege = match seed / 3 % 8 {
        0..3 => Privilege::User,
        3..5 => KERNEL,
        5..7 => KERNEL_AC,
        _ if access == Access::Execute => KERNEL,
        _ => Privilege::Implicit,
    };
    Request { access, privilege }
}

/// A guest that lives by random numbers.
pub struct Run<'a> {
    pub guest: Guest<'a>,
    addresses: Vec<u64>,
    lately: [u64; 4],
}

impl<'a> Run<'a> {
    /// Begins in this mode, with tables made of a seed, but for the entries (frame, slot, seed) in `fill`.
    pub fn start(store: &'a mut Store, mode: Mode, seed: u64, fill: &[(u8, u8, u64)]) -> Self {
        let paging = Paging {
            cr0: if mode == Mode::Off { 1 } else { 1 << 31 | 1 << 16 | 1 },
            cr3: 0x1000,
            cr4: match mode {
                Mode::TwoLevel | Mode::Off => 1 << 4,
                _ => 1 << 5,
            },
            efer: match mode {
                Mode::FourLevel => 1 << 8 | 1 << 10 | 1 << 11,
                Mode::Pae => 1 << 11,
                _ => 0,
            },
            pdptes: [0; 4],
            pkru: seed as u32 & 0xf,
            features: FEATURES,
        };
        let mut run = Self {
            guest: Guest::new(store, Paging { cr0: 1, ..paging }),
            addresses: addresses(mode),
            lately: [u64::MAX; 4],
        };
        for frame in 1..FRAMES {
            if run.guest.backed(frame) {
                run.fill(mode, frame, fill, seed);
            }
        }
        run.guest.load(paging);
        run
    }

    /// A table in each frame; some entries by the random list, all others by the seed.
    fn fill(&mut self, mode: Mode, frame: u32, fill: &[(u8, u8, u64)], seed: u64) {
        let width = mode.width();
        let slots = if width == EntryWidth::Four { SLOTS_32 } else { SLOTS };
        for (at, slot) in slots.into_iter().enumerate() {
            let own =
                fill.iter().find(|(f, s, _)| u32::from(*f) % FRAMES == frame && usize::from(*s) % 4 == at);
            let mix = (seed ^ u64::from(frame) << 20 ^ (at as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let value = entry(mode, u64::from(frame), own.map_or(mix ^ mix >> 29, |own| own.2));
            self.guest.ram.set((u64::from(frame) << 12) + slot * width.bytes(), width, value);
        }
        if mode == Mode::Pae && frame < 3 {
            for slot in [0, 1, 3u64] {
                let table = 3 + seed.rotate_left(frame * 16 + slot as u32 * 5) % 4;
                self.guest.ram.set((u64::from(frame) << 12) + slot * 8, width, table << 12 | 1);
            }
        }
    }

    /// One of the addresses; most often one that leads somewhere, or was used lately.
    fn address(&mut self, seed: u64) -> u64 {
        let lately = &mut self.lately[seed as usize / 16 % 4];
        if seed >> 56 & 3 != 0 && *lately != u64::MAX {
            return *lately;
        }
        let at = self.new_address(seed);
        self.lately[seed as usize / 16 % 4] = at;
        at
    }

    fn new_address(&self, seed: u64) -> u64 {
        let count = self.addresses.len();
        let at = |n: usize| self.addresses[((seed >> 8) as usize + n) % count];
        let leads = |at: &u64| look(&self.guest.ram, &self.guest.paging, GuestVirt::new(*at)).is_some();
        let tries = if seed >> 60 < 11 { count } else { 0 };
        (0..tries).map(at).find(leads).unwrap_or(at(0))
    }

    pub fn step(&mut self, Step { kind, a, b }: Step) {
        let at = self.address(a);
        let guest = &mut self.guest;
        match kind {
            0..90 => {
                let offset = b & 0xff8;
                guest.access(at | offset, request(a & 0xff), None);
            }
            90..150 => {
                self.store(a, b);
                // Without a flush: whether what was just changed is still the old.
                let at = self.lately[(a >> 5) as usize & 3];
                if b >> 62 != 0 && at != u64::MAX {
                    self.guest.access(at, request(b >> 48 & 0xff), None);
                }
            }
            150..180 => guest.invlpg(at),
            180..200 => {
                let cr3 = [0x1000, 0x2000, 0x1000, 0x2000, 0xd000, a & 0x1_f000][b as usize % 6];
                guest.load(Paging { cr3, ..guest.paging });
            }
            200..225 => self.change_registers(b),
            225..235 => guest.write_pkru(b as u32),
            235..243 => self.dma(a, b),
            _ => {
                let gfn = if b & 1 == 0 { u32::MAX } else { a as u32 % FRAMES };
                self.revoke(gfn);
            }
        }
    }

    /// The guest writes to one of its tables, through whatever address leads there.
    fn store(&mut self, a: u64, b: u64) {
        let mode = self.guest.paging.mode();
        let width = mode.width();
        let slots = if width == EntryWidth::Four { SLOTS_32 } else { SLOTS };
        let start = (a >> 16) as usize;
        let paging = self.guest.paging;
        // An entry that an address uses that was used lately, or any.
        let lately = look(&self.guest.ram, &paging, GuestVirt::new(self.lately[(a >> 5) as usize & 3]));
        let (wanted, offset) = match lately {
            Some(found) if a & 7 < 5 && found.level > 0 => {
                let at = found.steps[if a & 1 == 0 { usize::from(found.level) - 1 } else { 1 }].at.as_u64();
                (at >> 12, at & 0xfff)
            }
            _ => (a >> 40 & 31, slots[(a >> 3) as usize & 3] * width.bytes()),
        };
        let count = self.addresses.len();
        let request = Request { access: Access::Write, privilege: KERNEL_AC };
        let leads = |at: u64, any: bool| {
            look(&self.guest.ram, &paging, GuestVirt::new(at)).is_some_and(|found| {
                let gfn = found.gpa.as_u64() >> 12;
                (any || gfn == wanted) && self.guest.ram.has(gfn) && found.permits(request, &paging).is_ok()
            })
        };
        let place = |any| (0..count).map(|n| self.addresses[(start + n) % count]).find(|&at| leads(at, any));
        let Some(at) = place(false).or_else(|| place(true)) else { return };
        let near = self.guest.entry(u64::from(wanted as u32 % FRAMES) << 12 | offset, width).unwrap_or(0);
        // Half of the writes change a flag or two of what is there.
        let value = if b & 1 == 0 {
            near ^ [2, 4, 0x20, 0x40, 0x60, 1][(b >> 1) as usize % 6]
        } else {
            entry(mode, wanted, b)
        };
        self.guest.access(at | offset, request, Some((width, value)));
    }

    fn dma(&mut self, a: u64, b: u64) {
        let gfn = a as u32 % FRAMES;
        if self.guest.backed(gfn) && gfn != ROM {
            let at = (u64::from(gfn) << 12) + SLOTS[(a >> 32) as usize & 3] * 8;
            self.guest.dma(at, entry(self.guest.paging.mode(), u64::from(gfn), b));
        }
    }

    fn change_registers(&mut self, b: u64) {
        let mut paging = self.guest.paging;
        let bit = |n: u32| b >> n & 1 != 0;
        match b % 5 {
            0 => paging.cr0 ^= 1 << 16,
            1 => paging.cr4 ^= 1 << 20,
            2 => paging.cr4 ^= 1 << 21,
            3 if paging.mode() == Mode::FourLevel => paging.cr4 ^= 1 << 22,
            3 => paging.cr4 ^= 1 << 4,
            _ if paging.mode() != Mode::TwoLevel => paging.efer ^= 1 << 11,
            _ => paging.cr0 ^= u64::from(bit(9)) << 31,
        }
        self.guest.load(paging);
    }

    fn revoke(&mut self, gfn: u32) {
        self.guest.revoke(gfn);
        // What is gone for good has no history.
        self.guest.load(self.guest.paging);
    }
}
