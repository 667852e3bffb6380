//! What was tried, and what of it was accepted: a run that tries too little shows nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::control::hypercall::{HAND_OVER, TAKE_OVER};
use abi::xen::hypercall as number;
use hypervisor::core::Core;

use crate::heir::may_on_trial;
use crate::replace::HELD;

/// Numbers of calls, and of operations of one, that are told apart.
const CALLS: usize = 64;
const OPERATIONS: usize = 32;
/// Bits of an operation that say how far it has come.
const OPERATION: u64 = 0x3f;

/// Calls that were left before their end and made again.
pub static LEFT: AtomicU64 = AtomicU64::new(0);

struct Cell {
    made: AtomicU64,
    accepted: AtomicU64,
}

static CELLS: [[Cell; OPERATIONS]; CALLS] =
    [const { [const { Cell { made: AtomicU64::new(0), accepted: AtomicU64::new(0) } }; OPERATIONS] }; CALLS];

/// A call that is made.
pub struct Call {
    number: u64,
    operation: u64,
    on_trial: bool,
}

impl Call {
    /// The one in this core's registers.
    pub fn of(core: &Core) -> Self {
        let registers = &core.frame.registers;
        let operation = match registers.rax {
            number::MEMORY_OP => registers.rdi & OPERATION,
            number::MULTICALL | number::SET_TIMER_OP => 0,
            _ => registers.rdi,
        };
        Self { number: registers.rax, operation, on_trial: core.on_trial }
    }

    /// Its answer.
    pub fn note(&self, answer: u64) {
        if self.on_trial {
            let Self { number, operation, .. } = *self;
            let is_held = !may_on_trial(number, operation);
            assert!(!is_held || (answer as i64) < 0, "accepted on trial: {operation} of {number}");
            HELD.fetch_add(is_held.into(), Relaxed);
        }
        let cell = CELLS.get(self.number as usize).and_then(|call| call.get(self.operation as usize));
        if let Some(cell) = cell {
            cell.made.fetch_add(1, Relaxed);
            cell.accepted.fetch_add(u64::from(answer as i64 >= 0), Relaxed);
        }
    }
}

/// Hypercalls, and those of their operations that a guest may have accepted.
const ACCEPTED: &[(u64, &[u64])] = &[
    (number::MEMORY_OP, &[0, 1, 2, 3, 4, 6, 7, 9, 13, 14, 15, 18, 19, 23, 27]),
    (number::MULTICALL, &[0]),
    (number::SET_TIMER_OP, &[0]),
    (number::XEN_VERSION, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (number::GRANT_TABLE_OP, &[0, 1, 2, 5, 6, 8, 9, 10, 11]),
    (number::VM_ASSIST, &[0, 1]),
    (number::VCPU_OP, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]),
    (number::SCHED_OP, &[0, 1, 2, 3, 5, 6]),
    (number::EVENT_CHANNEL_OP, &[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
    (number::HVM_OP, &[0, 1, 5, 10, 11, 15, 23, 24]),
    (number::ATOLL_CONTROL, &[HAND_OVER, TAKE_OVER]),
];

/// What takes a structure that chance does not make, and an exchange of nothing.
const TRIED: &[(u64, &[u64])] = &[(number::VCPU_OP, &[0]), (number::MEMORY_OP, &[11])];

/// Those that are refused whatever the arguments.
const REFUSED: &[(u64, &[u64])] = &[
    (number::MEMORY_OP, &[5, 10, 12, 16, 17, 20, 21, 22, 24, 25, 26, 28]),
    (number::CONSOLE_IO, &[0, 1]),
    (number::XEN_VERSION, &[10]),
    (number::GRANT_TABLE_OP, &[3, 4, 7, 12]),
    (number::SCHED_OP, &[4, 7]),
    (number::EVENT_CHANNEL_OP, &[2]),
    (number::PHYSDEV_OP, &[0, 1, 13]),
    (number::HVM_OP, &[9, 25]),
    (number::VCPU_OP, &[12]),
    (
        number::ATOLL_CONTROL,
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24],
    ),
];

fn cells(of: &'static [(u64, &'static [u64])]) -> impl Iterator<Item = (u64, u64, u64, u64)> {
    of.iter().flat_map(|&(call, operations)| {
        operations.iter().map(move |&operation| {
            let cell = &CELLS[call as usize][operation as usize];
            (call, operation, cell.made.load(Relaxed), cell.accepted.load(Relaxed))
        })
    })
}

/// Operations, as call and number, that were not made yet, or never accepted though they may be.
pub fn missing() -> Vec<(u64, u64)> {
    let not_accepted = cells(ACCEPTED).filter(|&(.., accepted)| accepted == 0);
    let not_made = cells(REFUSED).chain(cells(TRIED)).filter(|&(.., made, _)| made == 0);
    not_accepted.chain(not_made).map(|(call, operation, ..)| (call, operation)).collect()
}

/// Operations that were accepted though no arguments are good for them.
pub fn accepted_by_mistake() -> Vec<(u64, u64)> {
    let accepted = cells(REFUSED).filter(|&(.., accepted)| accepted != 0);
    accepted.map(|(call, operation, ..)| (call, operation)).collect()
}
