//! Accesses to guest-physical memory where there is none: a device's registers, or nothing.

use abi::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use abi::xen::errno::{Errno, HypercallResult};
use ept::guest_walk::PageFaultCode;
use vmx::exit::{Exit, ReadExit};
use vmx::field;
use vmx::injection::Injection;

use super::posted::POSTED;
use super::{Local, at_board, attend, interrupts, linear, shadow, virtual_apic};
use crate::core::Core;
use crate::core::message::Request;
use crate::devices::decode::execute::Registers;
use crate::devices::decode::{self, Access, LONGEST, Operation, Way};
use crate::devices::io_apic;
use crate::devices::local_apic::{self, Effect};
use crate::guest_memory::CS_LONG;
use crate::machine;

/// An access to the I/O APIC, which is home's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoApicAccess {
    /// Reads the register at this offset.
    Read(u32),
    /// Writes it.
    Write(u32, u32),
    /// A level-triggered interrupt with this vector has ended.
    End(u8),
}

/// An EPT violation: no guest memory is there, or none that allows the access.
pub(super) fn handle(core: &mut Core, qualification: u64, address: GuestPhys, exit: Exit) {
    const WRITE: u64 = 1 << 1;
    const LINEAR_VALID: u64 = 1 << 7;
    const TO_LINEAR: u64 = 1 << 8;
    const EVENT_DELIVERED: u32 = 1 << 31;
    // What is no access by an instruction of the guest's can not be carried out: a walk of its page tables, the delivery
    // of an event.
    let by_instruction = qualification & LINEAR_VALID != 0
        && qualification & TO_LINEAR != 0
        && core.vmcs.read(field::IDT_VECTORING_INFO) & EVENT_DELIVERED == 0;
    let is_write = qualification & WRITE != 0;
    let done =
        if by_instruction { emulate(core, address, is_write, Place::Device) } else { Err(Refused::Unknown) };
    if let Err(why) = done {
        refuse(core, why, exit);
    }
}

/// What follows for the guest where an instruction was not carried out.
#[cold]
#[inline(never)]
pub(super) fn refuse(core: &mut Core, why: Refused, exit: Exit) {
    match why {
        Refused::Fault(at, code) => shadow::inject(core, at, code),
        Refused::Raise(event) => core.inject(event),
        Refused::Unknown => core.crash(exit),
    }
}

/// What lies at the address that an instruction is carried out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A device, or nothing.
    Device,
    /// Memory that the guest can not have without an exit: see [`shadow`].
    Memory,
    /// The registers of a local APIC that the processor keeps up, of which it does not carry out this access.
    KeptApic,
}

/// Why an instruction was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its other operand raises this page fault, at this address.
    Fault(GuestVirt, PageFaultCode),
    /// It raises this exception.
    Raise(Injection),
    /// It is none that is known, or its operands lie where none can be.
    Unknown,
}

impl Registers for Core {
    fn get(&self, number: u8) -> u64 {
        self.register(number)
    }

    fn set(&mut self, number: u8, value: u64) {
        self.set_register(number, value);
    }
}

/// Carries out the instruction that touched this address. In line in both of its callers, which are exits: the answer of a
/// call would go through memory.
#[inline(always)]
pub(super) fn emulate(
    core: &mut Core,
    address: GuestPhys,
    is_write: bool,
    place: Place,
) -> Result<(), Refused> {
    let mut bytes = [0; LONGEST];
    let (count, bits) = fetch(core, &mut bytes)?;
    let bytes = bytes.get(..count).ok_or(Refused::Unknown)?;
    let memo = &mut core.local().ok_or(Refused::Unknown)?.memo;
    let access = match bytes.try_into() {
        Ok(whole) => memo.decode(whole, bits),
        Err(_) => decode::decode(bytes, bits),
    };
    let access = access.map_err(|_| Refused::Unknown)?;
    if place == Place::Memory && !is_in_one_page(core, address, bytes, bits, &access) {
        return Err(Refused::Unknown);
    }
    if matches!(access.operation, Operation::Element(element) if element.way == Way::Copy) {
        copy(core, address, &access, is_write, place)?;
    } else {
        let value = if access.reads() { place.read(core, address, access.bytes) } else { 0 };
        if let Some(value) = apply(core, &access, value) {
            place.write(core, address, access.bytes, value);
        }
    }
    if access.is_done(core) {
        core.advance_by(access.length);
    }
    Ok(())
}

/// Whether all that an instruction touches in memory lies in the page that it faulted in. The address of a fault is that of
/// the first byte in the page; where that page begins, the instruction's own operand may have begun in the one before.
fn is_in_one_page(core: &Core, address: GuestPhys, bytes: &[u8], bits: u32, access: &Access) -> bool {
    let offset = address.page_offset(PAGE_SIZE);
    if offset != 0 {
        return offset + u64::from(access.bytes) <= PAGE_SIZE;
    }
    let first = decode::operand(bytes, bits, core, |segment| base(core, segment));
    first.is_some_and(|first| first % PAGE_SIZE == 0)
}

impl Place {
    fn read(self, core: &mut Core, address: GuestPhys, bytes: u8) -> u64 {
        match self {
            Self::Device => read(core, address, bytes),
            Self::Memory => shadow::read_physical(core, address, bytes),
            Self::KeptApic => virtual_apic::read(core, address.page_offset(PAGE_SIZE) as u32, bytes),
        }
    }

    fn write(self, core: &mut Core, address: GuestPhys, bytes: u8, value: u64) {
        match self {
            Self::Device => write(core, address, bytes, value),
            Self::Memory => {
                shadow::write_physical(core, address, &value.to_le_bytes()[..usize::from(bytes & 15).min(8)])
            }
            Self::KeptApic => virtual_apic::write(core, address.page_offset(PAGE_SIZE) as u32, bytes, value),
        }
    }
}

fn apply(core: &mut Core, access: &Access, value: u64) -> Option<u64> {
    let before = core.vmcs.get(field::GUEST_RFLAGS);
    let mut flags = before;
    let written = access.apply(core, &mut flags, value);
    if flags != before {
        core.vmcs.write(field::GUEST_RFLAGS, flags);
    }
    written
}

/// MOVS: of its two operands one is the device's, the other memory.
fn copy(
    core: &mut Core,
    address: GuestPhys,
    access: &Access,
    is_write: bool,
    place: Place,
) -> Result<(), Refused> {
    let Operation::Element(element) = access.operation else { return Err(Refused::Unknown) };
    let bytes = usize::from(access.bytes);
    let is_long = core.vmcs.get(field::GUEST_CS_ACCESS_RIGHTS) & CS_LONG != 0;
    let linear = |base: u64, offset: u64| {
        let linear = base.wrapping_add(offset);
        GuestVirt::new(if is_long { linear } else { linear & 0xffff_ffff })
    };
    let from = linear(base(core, element.segment), element.source(core));
    let to = linear(base(core, 0), element.destination(core));
    let mut value = [0; 8];
    if is_write {
        linear::read(core, from, &mut value[..bytes], ept::Access::Read)?;
        apply(core, access, u64::from_le_bytes(value));
        place.write(core, address, access.bytes, u64::from_le_bytes(value));
    } else {
        linear::find(core, to, ept::Access::Write)?;
        value = place.read(core, address, access.bytes).to_le_bytes();
        linear::write(core, to, &value[..bytes])?;
        apply(core, access, u64::from_le_bytes(value));
    }
    Ok(())
}

/// The base of a segment: ES, CS, SS, DS, FS, GS from 0.
fn base(core: &Core, segment: u8) -> u64 {
    let vmcs = &core.vmcs;
    match segment {
        4 => vmcs.get(field::GUEST_FS_BASE),
        5 => vmcs.get(field::GUEST_GS_BASE),
        _ if vmcs.get(field::GUEST_CS_ACCESS_RIGHTS) & CS_LONG != 0 => 0,
        0 => vmcs.get(field::GUEST_ES_BASE),
        1 => vmcs.get(field::GUEST_CS_BASE),
        2 => vmcs.get(field::GUEST_SS_BASE),
        _ => vmcs.get(field::GUEST_DS_BASE),
    }
}

/// The bytes of the instruction at RIP: how many there are, and the code segment's width.
///
/// By itself in each of its two callers, or each exit of registers in memory would pay for the call that a crash makes.
#[inline(always)]
fn fetch(core: &mut Core, bytes: &mut [u8; LONGEST]) -> Result<(usize, u32), Refused> {
    const DEFAULT_32: u32 = 1 << 14;
    let vmcs = &core.vmcs;
    let rights = vmcs.get(field::GUEST_CS_ACCESS_RIGHTS);
    let rip = vmcs.get(field::GUEST_RIP);
    let (bits, start) = if rights & CS_LONG != 0 {
        (64, rip)
    } else {
        let bits = if rights & DEFAULT_32 != 0 { 32 } else { 16 };
        (bits, vmcs.get(field::GUEST_CS_BASE).wrapping_add(rip) & 0xffff_ffff)
    };
    let in_page = (PAGE_SIZE - start % PAGE_SIZE).min(LONGEST as u64) as usize;
    if in_page == LONGEST {
        match whole_code(core, GuestVirt::new(start)) {
            Some(whole) => *bytes = whole,
            None => linear::read(core, GuestVirt::new(start), bytes, ept::Access::Execute)?,
        }
        return Ok((LONGEST, bits));
    }
    linear::read(core, GuestVirt::new(start), &mut bytes[..in_page], ept::Access::Execute)?;
    // The next page need not be there, unless the instruction reaches into it.
    let rest = GuestVirt::new(start.wrapping_add(in_page as u64));
    let whole = linear::read(core, rest, &mut bytes[in_page..], ept::Access::Execute).is_ok();
    Ok((if whole { LONGEST } else { in_page }, bits))
}

/// What a guest with EPT has there, where that is found as the pointers of hypercalls are, which is the quickest way: the
/// processor has just fetched it, so no rights are to be asked for.
#[inline(always)]
fn whole_code(core: &mut Core, at: GuestVirt) -> Option<[u8; LONGEST]> {
    if shadow::shadows(core).is_some() {
        return None;
    }
    core.guest_memory().and_then(|memory| memory.read(at)).ok()
}

/// The same for a crash's record; no bytes where they can not be read.
#[cold]
#[inline(never)]
pub fn code(core: &mut Core, bytes: &mut [u8; LONGEST]) -> (usize, u32) {
    fetch(core, bytes).unwrap_or_default()
}

/// What has this core's local APIC, where the address is in its page and it is in xAPIC mode.
#[inline(always)]
fn local_apic_at(core: &mut Core, address: GuestPhys) -> Option<&mut Local> {
    if address.as_u64() & !(PAGE_SIZE - 1) != local_apic::ADDRESS {
        return None;
    }
    core.local().filter(|local| local.apic.is_on() && !local.apic.is_x2apic())
}

fn is_io_apic(address: GuestPhys) -> bool {
    address.as_u64() & !(PAGE_SIZE - 1) == io_apic::ADDRESS
}

fn read(core: &mut Core, address: GuestPhys, bytes: u8) -> u64 {
    let offset = address.page_offset(PAGE_SIZE) as u32;
    let now = machine::now();
    // Registers are 32 bits at multiples of 16; what else is read of them is a part of those.
    let (register, part) = (offset & !3, 8 * (offset & 3));
    let value = if let Some(local) = local_apic_at(core, address) {
        local.apic.read_page(register, now)
    } else if is_io_apic(address) {
        ask_home(core, IoApicAccess::Read(register)).unwrap_or(0) as u32
    } else {
        return u64::MAX;
    };
    part_of(value, part, bytes)
}

/// So many bytes of a register, from this bit of it on.
#[inline(always)]
pub(super) fn part_of(register: u32, part: u32, bytes: u8) -> u64 {
    let value = u64::from(register >> part);
    if bytes < 4 { value & ((1 << (8 * bytes)) - 1) } else { value }
}

fn write(core: &mut Core, address: GuestPhys, bytes: u8, value: u64) {
    let offset = address.page_offset(PAGE_SIZE) as u32;
    // Software has to write all 32 bits of a register at once (SDM 3A, "Local APIC Registers"); nothing else has an
    // effect here.
    if bytes < 4 || offset & 3 != 0 {
        return;
    }
    if let Some(local) = local_apic_at(core, address) {
        let effect = local.apic.write_page(offset, value as u32, machine::now());
        local.note(effect);
        follow(core, effect);
    } else if is_io_apic(address) {
        // Its own home is there.
        let _ = ask_home(core, IoApicAccess::Write(offset, value as u32));
    }
}

/// Does what a write of the local APIC asks of the world.
pub(super) fn follow(core: &mut Core, effect: Effect) {
    match effect {
        Effect::None | Effect::EndOfEdge => {}
        Effect::Send(message) => {
            interrupts::send(core, message, true);
            attend(core);
        }
        Effect::EndOfLevel(vector) => {
            // Its own home is there.
            let _ = ask_home(core, IoApicAccess::End(vector));
        }
        Effect::Addressed => {
            if let Some(local) = core.local() {
                let address = local.apic.address();
                POSTED[core.index].set_address(address);
            }
        }
    }
}

fn ask_home(core: &mut Core, access: IoApicAccess) -> HypercallResult {
    if core.home.is_some() {
        return at_home(core, access);
    }
    let home = core.domain()?.home();
    core.ask(home, Request::IoApic { access })
}

/// The access, at the board.
pub fn at_home(core: &mut Core, access: IoApicAccess) -> HypercallResult {
    let done = at_board(core, |board, _| match access {
        IoApicAccess::Read(offset) => board.read_io_apic(offset).into(),
        IoApicAccess::Write(offset, value) => {
            board.write_io_apic(offset, value);
            0
        }
        IoApicAccess::End(vector) => {
            board.end_of_interrupt(vector);
            0
        }
    });
    done.ok_or(Errno::ESRCH)
}
