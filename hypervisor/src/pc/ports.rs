//! IN, OUT, INS and OUTS.

use abi::address::GuestVirt;
use abi::xen::errno::{Errno, HypercallResult};
use vmx::exit::{Exit, Io, ReadExit, Reason};
use vmx::field;

use super::board::Power;
use super::mmio::{self, Refused};
use super::{at_board, power, shadow};
use crate::core::Core;
use crate::core::message::Request;

/// How many elements of a string one exit moves; then the guest does the instruction again for what is left.
const PIECE: u64 = 512;

/// An access to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The port.
    pub port: u16,
    /// Bytes.
    pub bytes: u8,
    /// What is written; `None`: it is read.
    pub out: Option<u32>,
}

/// In an answer, above the value that was read: what became of the PC.
const RESET: u64 = 1 << 32;
const OFF: u64 = 1 << 33;

pub(super) fn handle(core: &mut Core, access: Io) {
    if access.is_string {
        return string(core, access);
    }
    let rax = core.frame.registers.rax;
    let out = (!access.is_in).then_some(rax as u32);
    let value = perform(core, Access { port: access.port, bytes: access.bytes, out });
    if access.is_in {
        let value = u64::from(value);
        core.frame.registers.rax = match access.bytes {
            1 => rax & !0xff | value & 0xff,
            2 => rax & !0xffff | value & 0xffff,
            _ => value,
        };
    }
    core.advance();
}

/// Does it here, where the board is, or lets home do it.
#[inline]
fn perform(core: &mut Core, access: Access) -> u32 {
    let answer = if core.home.is_some() {
        at_home(core, access)
    } else {
        let home = core.vcpu.as_ref().map_or(core.index, |vcpu| vcpu.domain.home());
        core.ask(home, Request::Port { access })
    };
    let answer = answer.unwrap_or(u64::from(u32::MAX));
    if answer & (RESET | OFF) != 0 {
        power(core, if answer & OFF != 0 { Power::Off } else { Power::Reset });
    }
    answer as u32
}

/// The access, at the board.
pub fn at_home(core: &mut Core, access: Access) -> HypercallResult {
    let Access { port, bytes, out } = access;
    let answer = match out {
        None => at_board(core, |board, now| u64::from(board.read_port(port, bytes, now))),
        Some(value) => at_board(core, |board, now| match board.write_port(port, bytes, value, now) {
            Power::Stays => 0,
            Power::Reset => RESET,
            Power::Off => OFF,
        }),
    };
    answer.ok_or(Errno::ESRCH)
}

/// INS and OUTS: the exit tells the linear address of the first element.
fn string(core: &mut Core, access: Io) {
    const REP: u64 = 1 << 5;
    const DIRECTION: u64 = 1 << 10;
    let qualification = core.vmcs.read(field::EXIT_QUALIFICATION);
    let is_repeated = qualification & REP != 0;
    // Address size of the instruction: 16, 32 or 64 bits.
    let mask = match core.vmcs.read(field::INSTRUCTION_INFO) >> 7 & 7 {
        0 => 0xffff,
        1 => 0xffff_ffff,
        _ => u64::MAX,
    };
    let linear = core.vmcs.read(field::GUEST_LINEAR_ADDRESS);
    let bytes = u64::from(access.bytes);
    let step = if core.vmcs.get(field::GUEST_RFLAGS) & DIRECTION != 0 { bytes.wrapping_neg() } else { bytes };
    let count = if is_repeated { core.frame.registers.rcx & mask } else { 1 };
    let (mut done, mut fault) = (0, None);
    while done < count.min(PIECE) && core.running {
        let at = GuestVirt::new(linear.wrapping_add(step.wrapping_mul(done)));
        match element(core, access, at) {
            Ok(()) => done += 1,
            Err(Refused::Fault(at, code)) => {
                fault = Some((at, code));
                break;
            }
            // The processor would have raised a fault for most of what may be wrong here; what is left is memory that
            // is a device's.
            Err(Refused::Unknown) => return core.crash(Exit::Other(Reason::IO)),
        }
    }
    let registers = &mut core.frame.registers;
    let index = if access.is_in { &mut registers.rdi } else { &mut registers.rsi };
    let moved = index.wrapping_add(step.wrapping_mul(done)) & mask;
    *index = if mask == 0xffff_ffff { moved } else { *index & !mask | moved };
    if is_repeated {
        let left = (count - done) & mask;
        registers.rcx = if mask == 0xffff_ffff { left } else { registers.rcx & !mask | left };
    }
    match fault {
        Some((at, code)) => shadow::inject(core, at, code),
        None if done == count => core.advance(),
        None => {}
    }
}

/// One element of a string.
fn element(core: &mut Core, access: Io, at: GuestVirt) -> Result<(), Refused> {
    let (port, bytes) = (access.port, usize::from(access.bytes));
    if access.is_in {
        mmio::check_writable(core, at)?;
        let value = perform(core, Access { port, bytes: access.bytes, out: None });
        return mmio::write_linear(core, at, &value.to_le_bytes()[..bytes]);
    }
    let mut value = [0; 4];
    mmio::read_linear(core, at, &mut value[..bytes])?;
    perform(core, Access { port, bytes: access.bytes, out: Some(u32::from_le_bytes(value)) });
    Ok(())
}
