//! What an instruction that touched a device's registers in memory does: decoded here, carried out in [`execute`].
//!
//! The processor has done the translation: the exit says which guest-physical address the access is to. What is left is
//! the width, the direction, and what becomes of the value. `iced-x86` knows the encodings; what kernels and firmware
//! use on such registers is covered in all operand sizes, everything else is [`Undecoded`].

pub mod arithmetic;
pub mod execute;
pub mod memo;

#[cfg(test)]
mod tests;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use arithmetic::{Arithmetic, Bit, Unary};
use execute::Registers;

/// The longest instruction.
pub const LONGEST: usize = 15;

/// An access to a device's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Bytes of the instruction.
    pub length: u8,
    /// Bytes of the access: 1, 2, 4 or 8.
    pub bytes: u8,
    /// What it does.
    pub operation: Operation,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads into a register.
    Load {
        /// Which.
        to: Place,
        /// Where that is wider, its upper bits are copies of the sign.
        is_signed: bool,
    },
    /// Writes.
    Store(Source),
    /// Reads, computes, and writes, unless it only compares.
    Modify(Arithmetic, Source),
    /// Reads, and computes in a register, which is the left operand.
    Compute(Arithmetic, Place),
    /// Reads, computes, and writes.
    Unary(Unary),
    /// Swaps with a register.
    Exchange(Place),
    /// The sum goes to memory, what was there to a register.
    ExchangeAdd(Place),
    /// If memory is what RAX is, the register goes there; else memory goes to RAX.
    CompareExchange(Place),
    /// Tests a bit, and sets, clears or inverts it.
    Bit(Bit, Source),
    /// MOVS, STOS, LODS: one element of it.
    Element(Element),
}

/// A step of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Which way it goes.
    pub way: Way,
    /// Segment of what is read, if anything is: ES, CS, SS, DS, FS, GS from 0.
    pub segment: u8,
    /// Bytes of an address: 2, 4 or 8.
    pub address_bytes: u8,
    /// Whether RCX counts.
    pub repeats: bool,
}

/// What a string instruction moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// MOVS: from memory to memory, of which the caller knows where it is a device's.
    Copy,
    /// STOS: from RAX.
    Fill,
    /// LODS: to RAX.
    Load,
}

/// A general register, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, as instructions have it.
    pub number: u8,
    /// Bytes.
    pub bytes: u8,
    /// AH, CH, DH, BH: the second byte.
    pub is_high: bool,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A register.
    Register(Place),
    /// The instruction, its sign extended.
    Number(u64),
}

/// Why there is no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecoded {
    /// The instruction goes on behind these bytes.
    Short,
    /// There is no such instruction.
    Invalid,
    /// It is one that nobody uses on devices, or that does not access memory by an operand.
    Unknown,
}

/// Decodes the instruction that these bytes begin with. `bits`: 16, 32 or 64.
pub fn decode(bytes: &[u8], bits: u32) -> Result<Access, Undecoded> {
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let mut decoder = Decoder::try_new(bits, bytes, DecoderOptions::NONE).map_err(|_| Undecoded::Unknown)?;
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        return Err(match decoder.last_error() {
            DecoderError::NoMoreBytes if bytes.len() < LONGEST => Undecoded::Short,
            _ => Undecoded::Invalid,
        });
    }
    let operation = operation(&instruction).ok_or(Undecoded::Unknown)?;
    let bytes = instruction.memory_size().size();
    if !matches!(bytes, 1 | 2 | 4 | 8) {
        return Err(Undecoded::Unknown);
    }
    Ok(Access { length: instruction.len() as u8, bytes: bytes as u8, operation })
}

/// The linear address of the operand in memory: of the first one, which is what is written if anything is. `base`: that of
/// a segment, ES, CS, SS, DS, FS, GS from 0.
pub fn operand(bytes: &[u8], bits: u32, registers: &impl Registers, base: impl Fn(u8) -> u64) -> Option<u64> {
    let mut decoder = Decoder::try_new(bits, bytes, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    let mut operands = 0..instruction.op_count();
    let operand = operands.find(|&operand| {
        !matches!(instruction.op_kind(operand), OpKind::Register)
            && instruction.try_immediate(operand).is_err()
    })?;
    instruction.virtual_address(operand, 0, |register, _, _| {
        Some(match register {
            Register::ES => base(0),
            Register::CS => base(1),
            Register::SS => base(2),
            Register::DS => base(3),
            Register::FS => base(4),
            Register::GS => base(5),
            other => place(other)?.get(registers.get(other.full_register().number() as u8)),
        })
    })
}

fn operation(instruction: &Instruction) -> Option<Operation> {
    use Operation::{Compute, Element, Load, Modify, Store};
    let mnemonic = instruction.mnemonic();
    let in_memory = instruction.op0_kind() == OpKind::Memory;
    let reads_memory = instruction.op1_kind() == OpKind::Memory;
    if let Some(how) = arithmetic(mnemonic) {
        return match (in_memory, reads_memory) {
            (true, _) => Some(Modify(how, source(instruction)?)),
            (_, true) => Some(Compute(how, place(instruction.op0_register())?)),
            _ => None,
        };
    }
    if let Some(how) = unary(mnemonic) {
        return in_memory.then_some(Operation::Unary(how));
    }
    if let Some(how) = bit(mnemonic) {
        return in_memory.then_some(Operation::Bit(how, source(instruction)?));
    }
    match mnemonic {
        Mnemonic::Mov | Mnemonic::Movnti if in_memory => Some(Store(source(instruction)?)),
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd if reads_memory => {
            let is_signed = matches!(mnemonic, Mnemonic::Movsx | Mnemonic::Movsxd);
            Some(Load { to: place(instruction.op0_register())?, is_signed })
        }
        Mnemonic::Xchg if in_memory => Some(Operation::Exchange(place(instruction.op1_register())?)),
        Mnemonic::Xadd if in_memory => Some(Operation::ExchangeAdd(place(instruction.op1_register())?)),
        Mnemonic::Cmpxchg if in_memory => {
            Some(Operation::CompareExchange(place(instruction.op1_register())?))
        }
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => {
            Some(Element(element(instruction, Way::Copy, instruction.op0_kind())?))
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => {
            Some(Element(element(instruction, Way::Fill, instruction.op0_kind())?))
        }
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => {
            Some(Element(element(instruction, Way::Load, instruction.op1_kind())?))
        }
        _ => None,
    }
}

const fn arithmetic(mnemonic: Mnemonic) -> Option<Arithmetic> {
    Some(match mnemonic {
        Mnemonic::Add => Arithmetic::Add,
        Mnemonic::Adc => Arithmetic::AddWithCarry,
        Mnemonic::Sub => Arithmetic::Subtract,
        Mnemonic::Sbb => Arithmetic::SubtractWithBorrow,
        Mnemonic::Cmp => Arithmetic::Compare,
        Mnemonic::And => Arithmetic::And,
        Mnemonic::Test => Arithmetic::Test,
        Mnemonic::Or => Arithmetic::Or,
        Mnemonic::Xor => Arithmetic::Xor,
        _ => return None,
    })
}

const fn unary(mnemonic: Mnemonic) -> Option<Unary> {
    Some(match mnemonic {
        Mnemonic::Inc => Unary::Increment,
        Mnemonic::Dec => Unary::Decrement,
        Mnemonic::Neg => Unary::Negate,
        Mnemonic::Not => Unary::Not,
        _ => return None,
    })
}

const fn bit(mnemonic: Mnemonic) -> Option<Bit> {
    Some(match mnemonic {
        Mnemonic::Bt => Bit::Test,
        Mnemonic::Bts => Bit::Set,
        Mnemonic::Btr => Bit::Reset,
        Mnemonic::Btc => Bit::Complement,
        _ => return None,
    })
}

/// The MOVSD and CMPSD of the vector registers have the names of string instructions; their operands are others.
fn element(instruction: &Instruction, way: Way, address: OpKind) -> Option<Element> {
    let address_bytes = match address {
        OpKind::MemorySegSI | OpKind::MemoryESDI => 2,
        OpKind::MemorySegESI | OpKind::MemoryESEDI => 4,
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => 8,
        _ => return None,
    };
    let segment = match instruction.memory_segment() {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::FS => 4,
        Register::GS => 5,
        _ => 3,
    };
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    Some(Element { way, segment, address_bytes, repeats })
}

/// The second operand.
fn source(instruction: &Instruction) -> Option<Source> {
    if instruction.op1_kind() == OpKind::Register {
        return place(instruction.op1_register()).map(Source::Register);
    }
    instruction.try_immediate(1).ok().map(Source::Number)
}

fn place(register: Register) -> Option<Place> {
    if !register.is_gpr() {
        return None;
    }
    let is_high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
    Some(Place { number: register.full_register().number() as u8, bytes: register.size() as u8, is_high })
}

/// Lets the decoder make its tables, so that no exit has to wait for that.
pub fn prepare() {
    const MOV: [u8; 2] = [0x8b, 0x00];
    let is_known = decode(&MOV, 64).is_ok();
    assert!(is_known, "the decoder does not know a MOV");
}
