//! IN and OUT, and the ports' side of INS and OUTS ([`strings`]).

use abi::xen::errno::{Errno, HypercallResult};
use vmx::exit::Io;

use super::board::Power;
use super::{at_board, power, strings};
use crate::core::Core;
use crate::core::message::Request;

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
        return strings::handle(core, access);
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

/// Reads a port again and again, for as many elements as `into` has room for, or fewer: how many.
pub(super) fn read_run(core: &mut Core, port: u16, bytes: u8, into: &mut [u8]) -> usize {
    if core.home.is_some() {
        let moved = at_board(core, |board, now| board.read_run(port, bytes, into, now));
        return moved.unwrap_or(into.len() / usize::from(bytes));
    }
    for element in into.chunks_exact_mut(bytes.into()) {
        let value = perform(core, Access { port, bytes, out: None });
        element.copy_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
    }
    into.len() / usize::from(bytes)
}

/// Writes a port again and again, for as many elements as `from` has, or fewer: how many.
pub(super) fn write_run(core: &mut Core, port: u16, bytes: u8, from: &[u8]) -> usize {
    if core.home.is_some()
        && let Some(moved) =
            at_board(core, |board, _| board.write_run(port, bytes, from)).filter(|&moved| moved > 0)
    {
        return moved;
    }
    let mut value = [0; 4];
    if let Some(element) = from.get(..usize::from(bytes)) {
        value[..usize::from(bytes)].copy_from_slice(element);
    }
    perform(core, Access { port, bytes, out: Some(u32::from_le_bytes(value)) });
    1
}
