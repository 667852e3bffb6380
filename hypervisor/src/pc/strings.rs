//! INS and OUTS: as many elements to an exit as lie on one page and the device has, until an interrupt is due.

use abi::address::GuestVirt;
use ept::Access;
use vmx::exit::{Exit, Io, ReadExit, Reason};
use vmx::field::{self, Field};
use vmx::injection::Injection;

use super::linear::{self, Found};
use super::mmio::{self, Refused};
use super::{interrupts, ports};
use crate::core::Core;
use crate::guest_memory::CS_LONG;

/// How many elements one exit moves; then the guest does the instruction again for what is left.
const PIECE: u64 = 512;
/// Bytes that are moved at once.
const BUFFER: usize = 512;

/// The elements of a string.
#[derive(Clone, Copy, Debug)]
struct Elements {
    /// Where the segment begins.
    base: u64,
    /// The index register: how it is now, and the bits of it that count.
    index: u64,
    mask: u64,
    /// Bytes of each.
    bytes: u64,
    is_down: bool,
    /// Limit and access rights of the segment; `None` in 64-bit mode, which has no limits.
    segment: Option<(u32, u32)>,
}

impl Elements {
    /// From the segment's start to an element.
    const fn offset(&self, number: u64) -> u64 {
        let way = number.wrapping_mul(self.bytes);
        let moved = if self.is_down { self.index.wrapping_sub(way) } else { self.index.wrapping_add(way) };
        moved & self.mask
    }

    const fn linear(&self, number: u64) -> GuestVirt {
        let linear = self.base.wrapping_add(self.offset(number));
        GuestVirt::new(if self.segment.is_some() { linear & 0xffff_ffff } else { linear })
    }

    /// Whether the segment has this element and allows the access (SDM 3A, "Limit Checking", "Type Checking").
    const fn is_allowed(&self, number: u64, is_write: bool) -> bool {
        const UNUSABLE: u32 = 1 << 16;
        const CODE: u32 = 1 << 3;
        const EXPANDS_DOWN: u32 = 1 << 2;
        /// Of data; of code, that it can be read.
        const WRITABLE: u32 = 1 << 1;
        const BITS_32: u32 = 1 << 14;
        let Some((limit, rights)) = self.segment else { return true };
        let (first, limit) = (self.offset(number), limit as u64);
        let last = first + self.bytes - 1;
        let is_code = rights & CODE != 0;
        let is_type =
            if is_write { !is_code && rights & WRITABLE != 0 } else { !is_code || rights & WRITABLE != 0 };
        let is_inside = if !is_code && rights & EXPANDS_DOWN != 0 {
            first > limit && last <= if rights & BITS_32 != 0 { 0xffff_ffff } else { 0xffff }
        } else {
            last <= limit
        };
        rights & UNUSABLE == 0 && is_type && is_inside
    }

    /// How many elements, from this one on, lie one behind the other within `left` bytes.
    fn together(&self, number: u64, left: u64) -> u64 {
        if self.is_down {
            return 1;
        }
        let until_wrap = ((self.mask - self.offset(number)) / self.bytes).saturating_add(1);
        (left / self.bytes).min(until_wrap)
    }
}

/// Carries out the instruction that exited.
pub(super) fn handle(core: &mut Core, access: Io) {
    const REP: u64 = 1 << 5;
    let is_repeated = core.vmcs.read(field::EXIT_QUALIFICATION) & REP != 0;
    let (elements, fault) = elements(core, access);
    let mask = elements.mask;
    let count = if is_repeated { core.frame.registers.rcx & mask } else { 1 };
    let (mut done, mut refused) = (0, None);
    while done < count.min(PIECE) && core.running {
        match run(core, access, &elements, done, count.min(PIECE) - done, fault) {
            Ok(moved) => done += moved,
            Err(why) => {
                refused = Some(why);
                break;
            }
        }
        if interrupts::is_due(core) {
            break;
        }
    }
    let registers = &mut core.frame.registers;
    let index = if access.is_in { &mut registers.rdi } else { &mut registers.rsi };
    *index = with(*index, mask, elements.offset(done));
    if is_repeated {
        registers.rcx = with(registers.rcx, mask, count - done);
    }
    match refused {
        Some(why) => mmio::refuse(core, why, Exit::Other(Reason::IO)),
        None if done == count => core.advance(),
        None => {}
    }
}

/// A register after its lower part was written: 32 bits clear those above them.
const fn with(register: u64, mask: u64, value: u64) -> u64 {
    if mask == 0xffff_ffff { value } else { register & !mask | value }
}

/// What the exit tells of the elements, and what is raised where the segment does not have one. INS is always to ES.
fn elements(core: &Core, access: Io) -> (Elements, Injection) {
    const DIRECTION: u64 = 1 << 10;
    const SS: u32 = 2;
    let vmcs = &core.vmcs;
    let information = vmcs.read(field::INSTRUCTION_INFO);
    // Address size of the instruction: 16, 32 or 64 bits.
    let mask = match information >> 7 & 7 {
        0 => 0xffff,
        1 => 0xffff_ffff,
        _ => u64::MAX,
    };
    let number = if access.is_in { 0 } else { information >> 15 & 7 };
    let (limit, rights): (Field<u32>, Field<u32>) = match number {
        0 => (field::GUEST_ES_LIMIT, field::GUEST_ES_ACCESS_RIGHTS),
        1 => (field::GUEST_CS_LIMIT, field::GUEST_CS_ACCESS_RIGHTS),
        SS => (field::GUEST_SS_LIMIT, field::GUEST_SS_ACCESS_RIGHTS),
        3 => (field::GUEST_DS_LIMIT, field::GUEST_DS_ACCESS_RIGHTS),
        4 => (field::GUEST_FS_LIMIT, field::GUEST_FS_ACCESS_RIGHTS),
        _ => (field::GUEST_GS_LIMIT, field::GUEST_GS_ACCESS_RIGHTS),
    };
    let is_long = vmcs.get(field::GUEST_CS_ACCESS_RIGHTS) & CS_LONG != 0;
    let registers = &core.frame.registers;
    let index = if access.is_in { registers.rdi } else { registers.rsi } & mask;
    let elements = Elements {
        base: vmcs.read(field::GUEST_LINEAR_ADDRESS).wrapping_sub(index),
        index,
        mask,
        bytes: access.bytes.into(),
        is_down: vmcs.get(field::GUEST_RFLAGS) & DIRECTION != 0,
        segment: (!is_long).then(|| (vmcs.get(limit), vmcs.get(rights))),
    };
    let fault = if number == SS { Injection::STACK_FAULT } else { Injection::GENERAL_PROTECTION };
    (elements, fault)
}

/// Moves what can be moved at once, `most` elements at most: how many those were.
fn run(
    core: &mut Core,
    access: Io,
    elements: &Elements,
    number: u64,
    most: u64,
    fault: Injection,
) -> Result<u64, Refused> {
    if !elements.is_allowed(number, access.is_in) {
        return Err(Refused::Raise(fault));
    }
    let at = elements.linear(number);
    let found = linear::find(core, at, if access.is_in { Access::Write } else { Access::Read })?;
    if found.left < elements.bytes {
        return astride(core, access, at, found).map(|()| 1);
    }
    let together = elements.together(number, found.left).min(most).min(BUFFER as u64 / elements.bytes).max(1);
    // Where the last of them is not allowed, the first is by itself.
    let count = if elements.is_allowed(number + together - 1, access.is_in) { together } else { 1 };
    let mut buffer = [0; BUFFER];
    let piece = &mut buffer[..(count * elements.bytes) as usize];
    let moved = if access.is_in {
        let moved = ports::read_run(core, access.port, access.bytes, piece);
        linear::put(core, &found, &piece[..moved * usize::from(access.bytes)]);
        moved
    } else {
        linear::take(&found, piece);
        ports::write_run(core, access.port, access.bytes, piece)
    };
    Ok(moved as u64)
}

/// One element that lies on two pages.
fn astride(core: &mut Core, access: Io, at: GuestVirt, first: Found) -> Result<(), Refused> {
    let mut value = [0; 4];
    let value = &mut value[..access.bytes.into()];
    if access.is_in {
        // What is read from a port is not read in vain.
        let beyond = at.checked_add(first.left).ok_or(Refused::Unknown)?;
        linear::find(core, beyond, Access::Write)?;
        ports::read_run(core, access.port, access.bytes, value);
        return linear::write(core, at, value);
    }
    linear::read(core, at, value, Access::Read)?;
    ports::write_run(core, access.port, access.bytes, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u32 = 0x93;
    const REAL: Elements = Elements {
        base: 0x1_2340,
        index: 0xfffc,
        mask: 0xffff,
        bytes: 2,
        is_down: false,
        segment: Some((0xffff, DATA)),
    };

    #[test]
    fn an_index_wraps_at_its_width() {
        let at = |elements: &Elements, number| elements.linear(number).as_u64();
        assert_eq!([0, 1, 2].map(|number| at(&REAL, number)), [0x2_233c, 0x2_233e, 0x1_2340]);
        assert_eq!((REAL.together(0, 4096), REAL.together(2, 4096), REAL.together(0, 3)), (2, 2048, 1));
        let down = Elements { index: 2, is_down: true, ..REAL };
        assert_eq!([0, 1, 2].map(|number| down.offset(number)), [2, 0, 0xfffe]);
        assert_eq!(down.together(0, 4096), 1);
        let long = Elements { base: u64::MAX - 7, index: 8, mask: u64::MAX, segment: None, ..REAL };
        assert_eq!((at(&long, 0), at(&long, 1)), (0, 2));
        assert_eq!(Elements { index: 0, bytes: 1, ..long }.together(0, 100), 100);
        assert_eq!(with(0x1_2345_6789, 0xffff, 1), 0x1_2345_0001);
        assert_eq!(with(0x1_2345_6789, 0xffff_ffff, 1), 1);
    }

    #[test]
    fn segments_have_limits_and_types() {
        let allowed = |index, limit, rights| {
            let elements = Elements { index, segment: Some((limit, rights)), ..REAL };
            [elements.is_allowed(0, false), elements.is_allowed(0, true)]
        };
        for (index, limit, rights, expected) in [
            (0xffe, 0xfff, DATA, [true, true]),
            (0xfff, 0xfff, DATA, [false, false]),
            (0, 0xfff, 0x91, [true, false]),
            (0, 0xfff, 0x9b, [true, false]),
            (0, 0xfff, 0x99, [false, false]),
            (0, u32::MAX, DATA | 1 << 16, [false, false]),
            // Expands down.
            (0xfff, 0xfff, 0x97, [false, false]),
            (0x1000, 0xfff, 0x97, [true, true]),
            (0xffff, 0xfff, 0x97, [false, false]),
            (0xffff, 0xfff, 0x4097, [true, true]),
        ] {
            assert_eq!(allowed(index, limit, rights), expected, "{index:#x} {limit:#x} {rights:#x}");
        }
    }
}
