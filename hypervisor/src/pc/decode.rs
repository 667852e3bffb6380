//! What an instruction that touched a device's registers in memory does: decoded, and then carried out on a value.
//!
//! The processor has done the translation: the exit says which guest-physical address the access is to. What is left is
//! the width, the direction, and what becomes of the value. `iced-x86` knows the encodings.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// An access to a device's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Bytes of the instruction.
    pub length: u8,
    /// Bytes of the access: 1, 2, 4 or 8.
    pub bytes: u8,
    /// What it does.
    pub kind: Kind,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads into a register.
    Load {
        /// Which.
        into: Place,
        /// Its upper bits are copies of the sign.
        signed: bool,
    },
    /// Writes a register.
    Store(Place),
    /// Writes a number.
    StoreNumber(u64),
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

/// Decodes an instruction. `bits`: 16, 32 or 64. `None`: none that is known to touch memory so.
pub fn decode(bytes: &[u8], bits: u32) -> Option<Access> {
    let mut decoder = Decoder::try_new(bits, bytes, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    let kind = match instruction.mnemonic() {
        Mnemonic::Mov => match (instruction.op0_kind(), instruction.op1_kind()) {
            (OpKind::Register, OpKind::Memory) => {
                Kind::Load { into: place(instruction.op0_register())?, signed: false }
            }
            (OpKind::Memory, OpKind::Register) => Kind::Store(place(instruction.op1_register())?),
            (OpKind::Memory, _) => Kind::StoreNumber(immediate(&instruction)?),
            _ => return None,
        },
        mnemonic @ (Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd)
            if instruction.op1_kind() == OpKind::Memory =>
        {
            Kind::Load { into: place(instruction.op0_register())?, signed: mnemonic != Mnemonic::Movzx }
        }
        _ => return None,
    };
    let bytes =
        u8::try_from(instruction.memory_size().size()).ok().filter(|bytes| matches!(bytes, 1 | 2 | 4 | 8))?;
    Some(Access { length: instruction.len() as u8, bytes, kind })
}

fn place(register: Register) -> Option<Place> {
    if !register.is_gpr() {
        return None;
    }
    let is_high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
    Some(Place { number: register.full_register().number() as u8, bytes: register.size() as u8, is_high })
}

fn immediate(instruction: &Instruction) -> Option<u64> {
    instruction.try_immediate(1).ok()
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
        if self.is_high { register >> 8 & 0xff } else { register }
    }
}

/// The sign of a value of so many bytes, copied upwards.
pub const fn sign_extend(value: u64, bytes: u8) -> u64 {
    let unused = 64 - 8 * bytes as u32;
    ((value << unused) as i64 >> unused) as u64
}

/// Lets the decoder make its tables, so that no exit has to wait for that.
pub fn prepare() {
    const MOV: [u8; 2] = [0x8b, 0x00];
    let known = decode(&MOV, 64).is_some();
    assert!(known, "the decoder does not know a MOV");
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAX: Place = Place { number: 0, bytes: 4, is_high: false };

    #[test]
    fn what_kernels_do_to_devices() {
        let of = |bytes: &[u8]| decode(bytes, 64);
        // mov eax, [0xfee00020]; mov [rdi+0x80], eax; mov dword ptr [rdi], 5; movzx eax, byte ptr [rdi]
        assert_eq!(
            of(&[0x8b, 0x04, 0x25, 0x20, 0, 0xe0, 0xfe]),
            Some(Access { length: 7, bytes: 4, kind: Kind::Load { into: EAX, signed: false } })
        );
        assert_eq!(
            of(&[0x89, 0x87, 0x80, 0, 0, 0]),
            Some(Access { length: 6, bytes: 4, kind: Kind::Store(EAX) })
        );
        assert_eq!(
            of(&[0xc7, 0x07, 5, 0, 0, 0]),
            Some(Access { length: 6, bytes: 4, kind: Kind::StoreNumber(5) })
        );
        assert_eq!(
            of(&[0x0f, 0xb6, 0x07]),
            Some(Access { length: 3, bytes: 1, kind: Kind::Load { into: EAX, signed: false } })
        );
        assert_eq!(of(&[0x90]), None);
        assert_eq!(of(&[0x8b]), None);
    }

    #[test]
    fn parts_of_registers() {
        let high = Place { number: 3, bytes: 1, is_high: true };
        assert_eq!(high.set(0x1111_1111, 0xab), 0x1111_ab11);
        assert_eq!(high.get(0xab11), 0xab);
        assert_eq!(EAX.set(u64::MAX, 0x8000_0000), 0x8000_0000);
        assert_eq!(sign_extend(0x80, 1), u64::MAX << 7);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes: [u8; 15], length in 0usize..=15) {
            for bits in [16, 32, 64] {
                if let Some(access) = decode(&bytes[..length], bits) {
                    assert!(usize::from(access.length) <= length);
                }
            }
        }
    }
}
