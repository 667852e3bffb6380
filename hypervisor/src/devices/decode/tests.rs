use super::*;
use proptest::prelude::*;

const EAX: Place = Place { number: 0, bytes: 4, is_high: false };

fn access(length: u8, bytes: u8, operation: Operation) -> Result<Access, Undecoded> {
    Ok(Access { length, bytes, operation })
}

#[test]
fn what_kernels_do_to_devices() {
    use Operation::{Compute, Load, Modify, Store};
    let of = |bytes: &[u8]| decode(bytes, 64);
    // mov eax, [0xfee00020]
    let load = Load { to: EAX, is_signed: false };
    assert_eq!(of(&[0x8b, 0x04, 0x25, 0x20, 0, 0xe0, 0xfe]), access(7, 4, load));
    // mov [rdi+0x80], eax; mov dword ptr [rdi], 5; movabs eax, [...]
    assert_eq!(of(&[0x89, 0x87, 0x80, 0, 0, 0]), access(6, 4, Store(Source::Register(EAX))));
    assert_eq!(of(&[0xc7, 0x07, 5, 0, 0, 0]), access(6, 4, Store(Source::Number(5))));
    assert_eq!(of(&[0xa1, 0x20, 0, 0xe0, 0xfe, 0, 0, 0, 0]), access(9, 4, load));
    // mov qword ptr [rdi], -1: the number is extended
    assert_eq!(
        of(&[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff]),
        access(7, 8, Store(Source::Number(u64::MAX)))
    );
    // movzx eax, byte ptr [rdi]; movsx eax, word ptr [rdi]; movsxd r9, [rdi]
    assert_eq!(of(&[0x0f, 0xb6, 0x07]), access(3, 1, load));
    assert_eq!(of(&[0x0f, 0xbf, 0x07]), access(3, 2, Load { to: EAX, is_signed: true }));
    let r9 = Place { number: 9, bytes: 8, is_high: false };
    assert_eq!(of(&[0x4c, 0x63, 0x0f]), access(3, 4, Load { to: r9, is_signed: true }));
    // lock or dword ptr [rdi], 0x100; and eax, [rdi]; test byte ptr [rdi], 1; bt dword ptr [rdi], 12
    let or = Modify(Arithmetic::Or, Source::Number(0x100));
    assert_eq!(of(&[0xf0, 0x81, 0x0f, 0, 1, 0, 0]), access(7, 4, or));
    assert_eq!(of(&[0x23, 0x07]), access(2, 4, Compute(Arithmetic::And, EAX)));
    assert_eq!(of(&[0xf6, 0x07, 1]), access(3, 1, Modify(Arithmetic::Test, Source::Number(1))));
    let bt = Operation::Bit(Bit::Test, Source::Number(12));
    assert_eq!(of(&[0x0f, 0xba, 0x27, 12]), access(4, 4, bt));
    // mov [rdi], ch
    let ch = Place { number: 1, bytes: 1, is_high: true };
    assert_eq!(of(&[0x88, 0x2f]), access(2, 1, Store(Source::Register(ch))));
}

/// 32-bit code of boot loaders, 16-bit code of firmware.
#[test]
fn other_modes() {
    let store = Operation::Store(Source::Register(EAX));
    // mov [0xfee000b0], eax
    assert_eq!(decode(&[0xa3, 0xb0, 0, 0xe0, 0xfe], 32), access(5, 4, store));
    assert_eq!(decode(&[0x67, 0x66, 0xa3, 0xb0, 0, 0xe0, 0xfe], 16), access(7, 4, store));
    // inc word ptr [di], inc byte ptr [edi]
    let increment = Operation::Unary(Unary::Increment);
    assert_eq!(decode(&[0xff, 0x05], 16), access(2, 2, increment));
    assert_eq!(decode(&[0xfe, 0x07], 32), access(2, 1, increment));
    // 0x48 is DEC EAX there, and no prefix.
    assert_eq!(decode(&[0x48, 0x89, 0x07], 32), Err(Undecoded::Unknown));
}

#[test]
fn strings() {
    let element =
        |bytes: &[u8], bits| match decode(bytes, bits).map(|access| (access.bytes, access.operation)) {
            Ok((width, Operation::Element(element))) => Some((width, element)),
            _ => None,
        };
    let of = |way, segment, address_bytes, repeats| Element { way, segment, address_bytes, repeats };
    assert_eq!(element(&[0xf3, 0xa5], 64), Some((4, of(Way::Copy, 3, 8, true))));
    assert_eq!(element(&[0x65, 0x67, 0xa4], 64), Some((1, of(Way::Copy, 5, 4, false))));
    assert_eq!(element(&[0xf2, 0x48, 0xab], 64), Some((8, of(Way::Fill, 3, 8, true))));
    assert_eq!(element(&[0x26, 0xad], 16), Some((2, of(Way::Load, 0, 2, false))));
    // movsd xmm0, [rdi]
    assert_eq!(decode(&[0xf2, 0x0f, 0x10, 0x07], 64), Err(Undecoded::Unknown));
}

#[test]
fn what_is_no_access() {
    assert_eq!(decode(&[], 64), Err(Undecoded::Short));
    assert_eq!(decode(&[0x8b], 64), Err(Undecoded::Short));
    assert_eq!(decode(&[0x8b, 0x84], 64), Err(Undecoded::Short));
    assert_eq!(decode(&[0x66; 20], 64), Err(Undecoded::Invalid), "longer than any");
    assert_eq!(decode(&[0x06, 0, 0], 64), Err(Undecoded::Invalid), "push es");
    assert_eq!(decode(&[0x8b, 0xc0], 64), Err(Undecoded::Unknown), "between registers");
    assert_eq!(decode(&[0x90], 64), Err(Undecoded::Unknown));
    assert_eq!(decode(&[0xff, 0x17], 64), Err(Undecoded::Unknown), "call [rdi]");
    assert_eq!(decode(&[0x90], 63), Err(Undecoded::Unknown), "no such mode");
}

#[test]
fn a_repeated_one_goes_on() {
    let access = decode(&[0xf3, 0x66, 0xab], 64).unwrap();
    let (mut registers, mut flags) = ([0; 16], 0);
    (registers[0], registers[1], registers[7]) = (0x1_2345, 2, 0x1000);
    assert!(!access.reads());
    assert_eq!(access.apply(&mut registers, &mut flags, 0), Some(0x2345));
    assert_eq!((registers[1], registers[7], access.is_done(&registers)), (1, 0x1002, false));
    access.apply(&mut registers, &mut flags, 0);
    assert!(access.is_done(&registers));
    // 16-bit addresses wrap in 16 bits and leave the rest.
    let access = decode(&[0xf3, 0xa4], 16).unwrap();
    let Operation::Element(element) = access.operation else { panic!("{access:?}") };
    (registers[1], registers[6], registers[7], flags) = (0x5_0001, 0x5_ffff, 0x5_0000, 0);
    assert_eq!((element.source(&registers), element.destination(&registers)), (0xffff, 0));
    assert_eq!(access.apply(&mut registers, &mut flags, 0xab), Some(0xab));
    assert_eq!((registers[6], registers[7], access.is_done(&registers)), (0x5_0000, 0x5_0001, true));
}

proptest! {
    #[test]
    fn any_bytes(bytes: [u8; 20], length in 0usize..=20, mut registers: [u64; 16], mut flags: u64, value: u64) {
        for bits in [16, 32, 64] {
            if let Ok(access) = decode(&bytes[..length], bits) {
                prop_assert!(usize::from(access.length) <= length.min(LONGEST));
                prop_assert!(matches!(access.bytes, 1 | 2 | 4 | 8));
                let written = access.apply(&mut registers, &mut flags, value);
                prop_assert!(written.is_none_or(|written| written & !arithmetic::mask(access.bytes) == 0));
                prop_assert!(access.reads() || written.is_some());
                access.is_done(&registers);
            }
        }
    }
}
