//! Carries out a decoded access. The caller reads the device's register first, if the access reads, and writes it
//! afterwards, if there is something to write.

use super::arithmetic::{Arithmetic, Bit, flag, mask};
use super::{Access, Element, Operation, Place, Source, Way};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// General registers by their number.
pub trait Registers {
    /// All 64 bits of one.
    fn get(&self, number: u8) -> u64;
    /// Sets them.
    fn set(&mut self, number: u8, value: u64);
}

impl Registers for [u64; 16] {
    fn get(&self, number: u8) -> u64 {
        self[usize::from(number & 15)]
    }

    fn set(&mut self, number: u8, value: u64) {
        self[usize::from(number & 15)] = value;
    }
}

impl Place {
    /// What `register` is after `value` was written to this part of it: 32 bits clear the upper half.
    pub const fn set(self, register: u64, value: u64) -> u64 {
        match self.bytes {
            1 if self.is_high => register & !0xff00 | (value & 0xff) << 8,
            1 => register & !0xff | value & 0xff,
            2 => register & !0xffff | value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        }
    }

    /// This part of `register`.
    pub const fn get(self, register: u64) -> u64 {
        (if self.is_high { register >> 8 } else { register }) & mask(self.bytes)
    }

    fn read(self, registers: &impl Registers) -> u64 {
        self.get(registers.get(self.number))
    }

    fn write(self, registers: &mut impl Registers, value: u64) {
        registers.set(self.number, self.set(registers.get(self.number), value));
    }
}

impl Source {
    fn read(self, registers: &impl Registers) -> u64 {
        match self {
            Self::Register(place) => place.read(registers),
            Self::Number(number) => number,
        }
    }
}

/// The sign of a value of so many bytes, copied upwards.
const fn sign_extend(value: u64, bytes: u8) -> u64 {
    let unused = 64 - 8 * bytes as u32;
    ((value << unused) as i64 >> unused) as u64
}

impl Access {
    /// Whether the device's register is read first. Not known of a MOVS: it may be what is read, or what is written.
    #[inline]
    pub const fn reads(&self) -> bool {
        !matches!(self.operation, Operation::Store(_) | Operation::Element(Element { way: Way::Fill, .. }))
    }

    /// Carries it out. `value` is what was read, if anything was. What is to be written comes back.
    #[inline]
    pub fn apply(&self, registers: &mut impl Registers, flags: &mut u64, value: u64) -> Option<u64> {
        let bytes = self.bytes;
        let value = value & mask(bytes);
        let written = match self.operation {
            Operation::Load { to, is_signed } => {
                to.write(registers, if is_signed { sign_extend(value, bytes) } else { value });
                return None;
            }
            Operation::Store(from) => from.read(registers),
            Operation::Modify(how, with) => {
                let (result, after) = how.apply(value, with.read(registers), bytes, *flags);
                *flags = after;
                if how.only_compares() {
                    return None;
                }
                result
            }
            Operation::Compute(how, to) => {
                let (result, after) = how.apply(to.read(registers), value, bytes, *flags);
                *flags = after;
                if !how.only_compares() {
                    to.write(registers, result);
                }
                return None;
            }
            Operation::Unary(how) => {
                let (result, after) = how.apply(value, bytes, *flags);
                *flags = after;
                result
            }
            Operation::Exchange(with) => {
                let old = with.read(registers);
                with.write(registers, value);
                old
            }
            Operation::ExchangeAdd(with) => {
                let (sum, after) = Arithmetic::Add.apply(value, with.read(registers), bytes, *flags);
                *flags = after;
                with.write(registers, value);
                sum
            }
            Operation::CompareExchange(with) => {
                let accumulator = Place { number: RAX, bytes, is_high: false };
                let wanted = accumulator.read(registers);
                *flags = Arithmetic::Compare.apply(wanted, value, bytes, *flags).1;
                if *flags & flag::ZERO != 0 {
                    with.read(registers)
                } else {
                    accumulator.write(registers, value);
                    // The processor writes back what it has read.
                    value
                }
            }
            Operation::Bit(how, index) => {
                let (result, after) = how.apply(value, index.read(registers), bytes, *flags);
                *flags = after;
                if how == Bit::Test {
                    return None;
                }
                result
            }
            Operation::Element(element) => {
                return element.apply(bytes, registers, *flags, value);
            }
        };
        Some(written & mask(bytes))
    }

    /// Whether the instruction is done with, after it was applied: a repeated one is while its count is not 0.
    #[inline]
    pub fn is_done(&self, registers: &impl Registers) -> bool {
        match self.operation {
            Operation::Element(element) if element.repeats => element.address(RCX).read(registers) == 0,
            _ => true,
        }
    }
}

impl Element {
    /// A register as far as addresses of this width have it.
    const fn address(self, number: u8) -> Place {
        Place { number, bytes: self.address_bytes, is_high: false }
    }

    /// Where the element is read from, in its segment.
    pub fn source(self, registers: &impl Registers) -> u64 {
        self.address(RSI).read(registers)
    }

    /// Where the element is written to, in ES.
    pub fn destination(self, registers: &impl Registers) -> u64 {
        self.address(RDI).read(registers)
    }

    fn apply(self, bytes: u8, registers: &mut impl Registers, flags: u64, value: u64) -> Option<u64> {
        let step = if flags & flag::DIRECTION != 0 { u64::from(bytes).wrapping_neg() } else { bytes.into() };
        let mut advance = |number: u8, by: u64| {
            let place = self.address(number);
            let next = place.read(registers).wrapping_add(by);
            place.write(registers, next);
        };
        if self.way != Way::Fill {
            advance(RSI, step);
        }
        if self.way != Way::Load {
            advance(RDI, step);
        }
        if self.repeats {
            advance(RCX, u64::MAX);
        }
        let accumulator = Place { number: RAX, bytes, is_high: false };
        match self.way {
            Way::Copy => Some(value),
            Way::Fill => Some(accumulator.read(registers)),
            Way::Load => {
                accumulator.write(registers, value);
                None
            }
        }
    }
}
