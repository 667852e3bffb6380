//! Calls whose arguments may well be good, about a handful of pages and ports: most of them are accepted, so that both
//! virtual CPUs of a domain change the same things at the same time. Their arguments lie in one place, which the sibling
//! writes to as well, while the hypervisor reads there.

use abi::address::PAGE_SIZE;
use abi::xen::event_channel as event;
use abi::xen::hypercall::{self as number, vcpu};
use abi::xen::memory::{self as op, space};
use abi::xen::vcpu_time::RegisterVcpuInfo;
use abi::xen::{DOMID_SELF, grant_table};
use hypervisor::core::Core;
use hypervisor::grants::Lent;
use hypervisor::memory::physical::pointer;
use zerocopy::{Immutable, IntoBytes};

use crate::guest::{Guest, store};

/// Where arguments lie, and a list that some of them name.
const AT: u64 = PAGE_SIZE * 20;
const LIST: u64 = AT + 0x400;
/// Pages that come and go: of the guest's memory from the fourth on, and as many behind its end.
const FIRST: u64 = 4;
const PAGES: u64 = 6;

/// Writes an argument, and tells where.
fn argument(core: &Core, argument: &(impl IntoBytes + Immutable)) -> u64 {
    store(core, AT, argument.as_bytes());
    AT
}

impl Guest {
    /// A frame number of the handful.
    fn place(&mut self) -> u64 {
        let base = if self.dice.below(2) == 0 { FIRST } else { self.memory / PAGE_SIZE };
        base + self.dice.below(PAGES)
    }

    /// One of those calls, in the registers.
    pub fn sound_call(&mut self, core: &mut Core) {
        if self.dice.below(2) == 0 {
            self.grant(core);
        }
        let (number, first, second, third) = match self.dice.below(9) {
            0..3 => self.about_memory(core),
            3..5 => self.about_events(core),
            5 => self.about_vcpus(core),
            6 => self.list(core),
            7 => self.about_the_rest(core),
            _ => self.about_grants(core),
        };
        let registers = &mut core.frame.registers;
        (registers.rax, registers.rdi, registers.rsi, registers.rdx) = (number, first, second, third);
    }

    fn about_memory(&mut self, core: &Core) -> (u64, u64, u64, u64) {
        let (from, to) = (self.place(), self.place());
        let (operation, at) = match self.dice.below(8) {
            0..4 => {
                for index in 0..4 {
                    store(core, LIST + index * 8, &self.place().to_le_bytes());
                }
                let nr_extents = 1 + self.dice.below(4);
                let reservation = op::Reservation {
                    extent_start: LIST,
                    nr_extents,
                    extent_order: 0,
                    mem_flags: 0,
                    domid: DOMID_SELF,
                    pad: [0; 3],
                };
                let operation = self.dice.pick(&[op::DECREASE_RESERVATION, op::POPULATE_PHYSMAP]);
                (operation, argument(core, &reservation))
            }
            4 => {
                let remove = op::RemoveFromPhysmap { domid: DOMID_SELF, pad: [0; 3], gpfn: from };
                (op::REMOVE_FROM_PHYSMAP, argument(core, &remove))
            }
            choice => {
                let (space, idx) = match choice {
                    5 => self.dice.pick(&[
                        (space::SHARED_INFO, 0),
                        (space::GRANT_TABLE, 0),
                        (space::GRANT_TABLE, 2),
                        (space::GRANT_TABLE, grant_table::STATUS_INDEX),
                    ]),
                    6 => (space::GMFN_RANGE, from),
                    _ => (space::GMFN, from),
                };
                let size = 1 + self.dice.below(3) as u16;
                let add = op::AddToPhysmap { domid: DOMID_SELF, size, space, idx, gpfn: to };
                (op::ADD_TO_PHYSMAP, argument(core, &add))
            }
        };
        (number::MEMORY_OP, operation, at, 0)
    }

    fn about_events(&mut self, core: &Core) -> (u64, u64, u64, u64) {
        let (page, port) = (self.place(), self.dice.below(12) as u32);
        let vcpu = self.dice.below(2) as u32;
        let (operation, at) = match self.dice.below(12) {
            0 => {
                let offset = self.dice.pick(&[0, 64, 2048, 4096 - 72]);
                let init = event::InitControl { control_gfn: page, offset, vcpu, link_bits: 0, pad: [0; 7] };
                (event::INIT_CONTROL, argument(core, &init))
            }
            1 => (event::EXPAND_ARRAY, argument(core, &event::ExpandArray { array_gfn: page })),
            2 => (event::RESET, argument(core, &event::Reset { dom: DOMID_SELF })),
            3 => (event::BIND_IPI, argument(core, &event::BindIpi { vcpu, port: 0 })),
            4 => (event::BIND_VIRQ, argument(core, &event::BindVirq { virq: 0, vcpu, port: 0 })),
            5 => (event::CLOSE, argument(core, &event::OnePort { port })),
            6 => {
                let priority = self.dice.below(16) as u32;
                (event::SET_PRIORITY, argument(core, &event::SetPriority { port, priority }))
            }
            7 => {
                let remote_dom = self.living() as u16;
                let alloc = event::AllocUnbound { dom: DOMID_SELF, remote_dom, port: 0 };
                (event::ALLOC_UNBOUND, argument(core, &alloc))
            }
            8 => {
                let remote_dom = self.living() as u16;
                let bind = event::BindInterdomain { remote_dom, pad: 0, remote_port: port, local_port: 0 };
                (event::BIND_INTERDOMAIN, argument(core, &bind))
            }
            9 => (event::BIND_VCPU, argument(core, &event::BindVcpu { port, vcpu })),
            _ => {
                let operation = self.dice.pick(&[event::SEND, event::SEND, event::UNMASK]);
                (operation, argument(core, &event::OnePort { port }))
            }
        };
        (number::EVENT_CHANNEL_OP, operation, at, 0)
    }

    /// Its own and its sibling's, and one that it does not have.
    fn about_vcpus(&mut self, core: &Core) -> (u64, u64, u64, u64) {
        let which = self.dice.below(3);
        let operation = match self.dice.below(16) {
            // One that ends the domain is rare, else nothing would last.
            0 => self.dice.pick(&[vcpu::UP, vcpu::UP, vcpu::DOWN]),
            1..4 => vcpu::REGISTER_VCPU_INFO,
            4 | 5 => self.dice.pick(&[vcpu::SET_PERIODIC_TIMER, vcpu::SET_SINGLESHOT_TIMER]),
            _ => vcpu::IS_UP + self.dice.below(11),
        };
        let at = match operation {
            vcpu::REGISTER_VCPU_INFO => {
                let offset = self.dice.pick(&[0, 64, 4096 - 64]);
                argument(core, &RegisterVcpuInfo { mfn: self.place(), offset, rsvd: 0 })
            }
            vcpu::SEND_NMI => 0,
            // Times, and addresses of anything.
            _ => {
                let word = self.word();
                argument(core, &[word, self.dice.below(2)])
            }
        };
        (number::VCPU_OP, operation, which, at)
    }

    /// A list of calls, each with what may be good arguments or bad; one may be a list itself.
    fn list(&mut self, core: &mut Core) -> (u64, u64, u64, u64) {
        let count = 1 + self.dice.below(6);
        for index in 0..count {
            let (number, first, second, third) = match self.dice.below(4) {
                0 => self.about_memory(core),
                1 => self.about_events(core),
                2 => self.about_grants(core),
                _ => (self.dice.pick(&[number::MULTICALL, number::XEN_VERSION, 63]), LIST + 0x100, 3, 0),
            };
            let entry = [number, 0, first, second, third, 0, 0, 0];
            store(core, LIST + 0x100 + index * 64, entry.as_bytes());
        }
        (number::MULTICALL, LIST + 0x100, count, 0)
    }

    /// Writes an entry that is as it should be into its grant table, or takes one back.
    fn grant(&mut self, core: &Core) {
        let Ok(domain) = core.domain() else { return };
        let Some(frame) = domain.place.grants.shared(0).and_then(Lent::frame) else { return };
        let (flags, gfn) = (self.dice.pick(&[0, 1, 1, 5, 0x101]), self.place());
        let owner = if self.dice.below(3) == 0 { domain.id.into() } else { self.living() };
        let at = self.dice.below(8);
        let (width, gfn_at) = if domain.place.grants.version() == 2 { (16, 8) } else { (8, 4) };
        // SAFETY: the guest's own table, which it may write at any time.
        unsafe {
            let entry = pointer::<u8>(frame).add((at * width) as usize);
            entry.add(gfn_at).cast::<u32>().write_volatile(gfn as u32);
            entry.cast::<u32>().write_volatile((flags | owner << 16) as u32);
        }
    }

    /// What takes few words, and is the domain's own.
    fn about_the_rest(&mut self, core: &Core) -> (u64, u64, u64, u64) {
        const SELF: u64 = DOMID_SELF as u64;
        let (which, page) = (self.dice.below(2), self.place());
        let (about_xen, about_pages) = (self.dice.below(11), self.dice.pick(&[5, 10, 24]));
        let (number, operation, word) = self.dice.pick(&[
            (number::MEMORY_OP, op::CURRENT_RESERVATION, SELF),
            (number::MEMORY_OP, op::MAXIMUM_RESERVATION, SELF),
            (number::MEMORY_OP, op::MAXIMUM_GPFN, SELF),
            (number::MEMORY_OP, op::SET_MEMORY_MAP, SELF),
            (number::MEMORY_OP, op::RESERVED_DEVICE_MEMORY_MAP, which),
            (number::XEN_VERSION, 6, 0),
            (number::XEN_VERSION, about_xen, 0),
            (number::VM_ASSIST, which, 5),
            (number::SCHED_OP, 5, 0),
            (number::SCHED_OP, 6, 100 << 32 | which),
            (number::HVM_OP, 0, SELF | 15 << 32),
            (number::HVM_OP, 1, SELF | (17 + which) << 32),
            (number::HVM_OP, 15, SELF),
            (number::HVM_OP, 23, which | 0xf3 << 32),
            (number::HVM_OP, about_pages, 0),
            (number::GRANT_TABLE_OP, grant_table::GET_VERSION, SELF),
            (number::GRANT_TABLE_OP, grant_table::QUERY_SIZE, SELF),
            (number::GRANT_TABLE_OP, grant_table::GET_STATUS_FRAMES, SELF << 32),
        ]);
        let at = argument(core, &[word, page, 0, 0]);
        match (number, operation) {
            (number::VM_ASSIST, _) => (number, operation, word, 0),
            // The size of a page, and the translations of all, have no argument.
            (number::XEN_VERSION, 7) | (number::HVM_OP, 5 | 24) => (number, operation, 0, 0),
            _ => (number, operation, at, 1),
        }
    }

    fn about_grants(&mut self, core: &Core) -> (u64, u64, u64, u64) {
        let (reference, owner) = (self.dice.below(8), self.living());
        let (place, handle) = (self.place() * PAGE_SIZE, self.dice.below(16));
        let (operation, words) = match self.dice.below(8) {
            0 | 1 => (0, [place, reference << 32 | self.dice.pick(&[2, 2, 6]), owner, 0, 0]),
            2 | 3 => (1, [place, 0, handle, 0, 0]),
            4 => (5, [reference, owner, self.place(), 0x7ff0, 1 << 16 | self.dice.below(100)]),
            5 => (2, [0x7ff0 | self.dice.below(4) << 32, 0, AT + 64, 0, 0]),
            6 => (11, [reference | self.dice.below(8) << 32, 0, 0, 0, 0]),
            _ => (8, [1 + self.dice.below(2), 0, 0, 0, 0]),
        };
        (number::GRANT_TABLE_OP, operation, argument(core, &words), 1)
    }
}
