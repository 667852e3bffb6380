//! Kernels that follow one another, as they see it: what they say about it, and whether one that goes on after all is what it
//! was when it handed over.

use abi::control::hypercall::{HAND_OVER, TAKE_OVER};
use abi::control::succession::{Failure, HANDED_OVER, MAX_PACKAGE, Stage};
use abi::xen::DomId;
use abi::xen::hypercall as number;
use abi::xen::{event_channel, hvm, memory, sched};
use hypervisor::core::Core;
use std::sync::atomic::Ordering::Relaxed;

use crate::guest::{GUEST_CR0, GUEST_CR3, GUEST_RIP, Guest, store};
use crate::processor;
use crate::replace::{WENT_ON, WHY};

const GUEST_RSP: u32 = 0x681c;
const GUEST_RFLAGS: u32 = 0x6820;
/// Fields that are the kernel's own, and nobody else's to change.
const OWN: [u32; 5] = [GUEST_RIP, GUEST_RSP, GUEST_RFLAGS, GUEST_CR0, GUEST_CR3];
const RAX: u8 = 0;
const REGISTERS: usize = 16;

fn stage(core: &Core) -> Stage {
    core.domain().map_or(Stage::None, |domain| domain.succession().stage)
}

/// So often a kernel looks whether somebody is to follow it, before it does anything else.
const LOOKS: u32 = 1000;

impl Guest {
    /// A kernel begins, and may wait until it has a successor: later the hypervisor uses its memory, and it has to stay.
    pub fn begin(&mut self) {
        self.looks = self.dice.pick(&[0, LOOKS, LOOKS, LOOKS]);
    }

    /// Whether it does nothing yet.
    pub fn waits(&mut self, core: &Core) -> bool {
        let is_alone = core.domain().is_ok_and(|domain| domain.cores.len() == 1);
        self.looks = self.looks.saturating_sub(1);
        is_alone && self.looks > 0 && matches!(stage(core), Stage::None | Stage::Committed)
    }

    /// A call about who follows whom, mostly where it may be accepted; `false`: another call.
    pub fn succession_call(&mut self, core: &mut Core) -> bool {
        let operation = match stage(core) {
            Stage::Prepared if self.dice.below(2) == 0 => HAND_OVER,
            Stage::Trial => match self.dice.below(400) {
                0..3 => TAKE_OVER,
                3 => return self.give_up(core),
                _ => return false,
            },
            _ if self.dice.below(256) == 0 => self.dice.pick(&[HAND_OVER, TAKE_OVER]),
            _ => return false,
        };
        let package = self.dice.pick(&[0, 0, 1, self.memory - 4096, 4095]);
        let most = self.dice.pick(&[1, 9000, 9000, MAX_PACKAGE, MAX_PACKAGE + 2]);
        let bytes = 1 + self.dice.below(most);
        let registers = &mut core.frame.registers;
        (registers.rax, registers.rdi) = (number::ATOLL_CONTROL, operation);
        (registers.rsi, registers.rdx) = (package, bytes);
        true
    }

    /// A successor that says that it will not do, or something of the kind.
    fn give_up(&mut self, core: &mut Core) -> bool {
        const AT: u64 = 0x800;
        let reason = self.dice.pick(&[0, 3, HANDED_OVER, Failure::Damaged.as_reason()]);
        store(core, AT, &reason.to_le_bytes());
        let registers = &mut core.frame.registers;
        (registers.rax, registers.rdi, registers.rsi) = (number::SCHED_OP, sched::SHUTDOWN, AT);
        true
    }
}

/// A kernel that has handed over, when it did.
pub struct Waiting {
    domain: DomId,
    registers: [Option<u64>; REGISTERS],
    fields: [u64; OWN.len()],
}

impl Waiting {
    fn of(core: &Core, domain: DomId) -> Self {
        let registers = core::array::from_fn(|number| core.frame.registers.by_number(number as u8));
        Self { domain, registers, fields: OWN.map(processor::field) }
    }

    /// Looks after whoever waits on this core, before its kernel does anything more.
    pub fn look(this: &mut Option<Self>, core: &Core) {
        let Ok(domain) = core.domain() else { return };
        match this {
            None if stage(core) == Stage::Offered && !core.running => *this = Some(Self::of(core, domain.id)),
            Some(was) if was.domain != domain.id || stage(core) == Stage::Committed => *this = None,
            Some(was) if !core.on_trial && stage(core) != Stage::Offered => {
                let mut expected = was.registers;
                expected[usize::from(RAX)] = Some(WHY);
                let now = Self::of(core, domain.id);
                assert_eq!((expected, was.fields), (now.registers, now.fields), "the old kernel");
                WENT_ON.fetch_add(1, Relaxed);
                *this = None;
            }
            _ => {}
        }
    }
}

/// Whether a successor on trial may have this call accepted.
pub fn may_on_trial(call: u64, operation: u64) -> bool {
    match call {
        number::XEN_VERSION => true,
        number::HVM_OP => matches!(operation, hvm::GET_PARAM | hvm::SET_EVTCHN_UPCALL_VECTOR),
        number::EVENT_CHANNEL_OP => operation == event_channel::SEND,
        number::SCHED_OP => {
            matches!(u64::from(operation as u32), sched::YIELD | sched::BLOCK | sched::POLL | sched::SHUTDOWN)
        }
        number::MEMORY_OP => matches!(operation, memory::MEMORY_MAP | memory::ADD_TO_PHYSMAP),
        number::ATOLL_CONTROL => operation == TAKE_OVER,
        _ => false,
    }
}
