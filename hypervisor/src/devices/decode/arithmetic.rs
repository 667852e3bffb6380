//! What the processor's arithmetic makes of two values, and of the flags (SDM 2, the instructions' "Flags Affected").

/// Flags of RFLAGS that arithmetic sets, and the one that strings go by.
#[allow(missing_docs, reason = "they are named as in the SDM")]
pub mod flag {
    pub const CARRY: u64 = 1 << 0;
    pub const PARITY: u64 = 1 << 2;
    pub const ADJUST: u64 = 1 << 4;
    pub const ZERO: u64 = 1 << 6;
    pub const SIGN: u64 = 1 << 7;
    pub const DIRECTION: u64 = 1 << 10;
    pub const OVERFLOW: u64 = 1 << 11;
    /// All that arithmetic sets.
    pub const ARITHMETIC: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;
}

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Arithmetic {
    Add,
    AddWithCarry,
    Subtract,
    SubtractWithBorrow,
    Compare,
    And,
    Test,
    Or,
    Xor,
}

/// An operation on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Unary {
    Increment,
    Decrement,
    Negate,
    Not,
}

/// What becomes of a bit that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bit {
    Test,
    Set,
    Reset,
    Complement,
}

/// The bits of a value of so many bytes: 1, 2, 4 or 8.
pub const fn mask(bytes: u8) -> u64 {
    u64::MAX >> (64 - 8 * bytes as u32)
}

const fn sign(bytes: u8) -> u64 {
    1 << (8 * bytes as u32 - 1)
}

/// Zero, sign and parity of a result.
const fn of_result(result: u64, bytes: u8) -> u64 {
    let zero = if result == 0 { flag::ZERO } else { 0 };
    let negative = if result & sign(bytes) != 0 { flag::SIGN } else { 0 };
    let even = if (result as u8).count_ones() & 1 == 0 { flag::PARITY } else { 0 };
    zero | negative | even
}

const fn when(condition: bool, flag: u64) -> u64 {
    if condition { flag } else { 0 }
}

impl Arithmetic {
    /// Whether there is no result but the flags.
    pub const fn only_compares(self) -> bool {
        matches!(self, Self::Compare | Self::Test)
    }

    /// The result for values of so many bytes, and the flags after it.
    pub const fn apply(self, left: u64, right: u64, bytes: u8, flags: u64) -> (u64, u64) {
        let mask = mask(bytes);
        let (left, right) = (left & mask, right & mask);
        let carried = flags & flag::CARRY;
        let (result, changed) = match self {
            Self::Add => add(left, right, 0, bytes),
            Self::AddWithCarry => add(left, right, carried, bytes),
            Self::Subtract | Self::Compare => subtract(left, right, 0, bytes),
            Self::SubtractWithBorrow => subtract(left, right, carried, bytes),
            // Carry and overflow are cleared; the adjust flag is undefined, and cleared, too.
            Self::And | Self::Test => (left & right, 0),
            Self::Or => (left | right, 0),
            Self::Xor => (left ^ right, 0),
        };
        (result, flags & !flag::ARITHMETIC | changed | of_result(result, bytes))
    }
}

const fn add(left: u64, right: u64, carry: u64, bytes: u8) -> (u64, u64) {
    let sum = left as u128 + right as u128 + carry as u128;
    let result = sum as u64 & mask(bytes);
    let flags = when(sum > mask(bytes) as u128, flag::CARRY)
        | when((left ^ right ^ result) & 0x10 != 0, flag::ADJUST)
        | when((left ^ result) & (right ^ result) & sign(bytes) != 0, flag::OVERFLOW);
    (result, flags)
}

const fn subtract(left: u64, right: u64, borrow: u64, bytes: u8) -> (u64, u64) {
    let result = left.wrapping_sub(right).wrapping_sub(borrow) & mask(bytes);
    let flags = when((left as u128) < right as u128 + borrow as u128, flag::CARRY)
        | when((left ^ right ^ result) & 0x10 != 0, flag::ADJUST)
        | when((left ^ right) & (left ^ result) & sign(bytes) != 0, flag::OVERFLOW);
    (result, flags)
}

impl Unary {
    /// The result, and the flags after it.
    pub const fn apply(self, value: u64, bytes: u8, flags: u64) -> (u64, u64) {
        match self {
            Self::Increment => with_carry_of(Arithmetic::Add.apply(value, 1, bytes, flags), flags),
            Self::Decrement => with_carry_of(Arithmetic::Subtract.apply(value, 1, bytes, flags), flags),
            Self::Negate => Arithmetic::Subtract.apply(0, value, bytes, flags),
            Self::Not => (!value & mask(bytes), flags),
        }
    }
}

/// INC and DEC leave the carry as it was.
const fn with_carry_of((result, after): (u64, u64), before: u64) -> (u64, u64) {
    (result, after & !flag::CARRY | before & flag::CARRY)
}

impl Bit {
    /// What becomes of the value, and the flags after it: the carry is the bit as it was. The index counts in the
    /// operand's width.
    pub const fn apply(self, value: u64, index: u64, bytes: u8, flags: u64) -> (u64, u64) {
        let bit = 1 << (index & (8 * bytes as u64 - 1));
        let result = match self {
            Self::Test => value,
            Self::Set => value | bit,
            Self::Reset => value & !bit,
            Self::Complement => value ^ bit,
        };
        (result, flags & !flag::CARRY | when(value & bit != 0, flag::CARRY))
    }
}
