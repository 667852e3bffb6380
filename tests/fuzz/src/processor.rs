//! What the hypervisor does in a guest's processor's stead.

use hypervisor::devices::decode::memo::Memo;
use hypervisor::devices::decode::{self, LONGEST, decode};

/// The instruction emulator, at each byte and in each mode.
pub fn decoder(bytes: &[u8]) {
    let mut memo = Memo::new();
    for at in 0..bytes.len() {
        let rest = &bytes[at..];
        for bits in [16, 32, 64] {
            let decoded = decode(rest, bits);
            if let Some(whole) = rest.first_chunk::<LONGEST>() {
                assert_eq!(memo.decode(whole, bits), decoded, "remembered or not");
            }
            let Ok(access) = decoded else { continue };
            let (mut registers, mut flags) = ([u64::from(rest[0]) << 56 | at as u64; 16], at as u64);
            // What the device says is made of the bytes, too.
            let value = bytes.iter().fold(u64::MAX, |value, byte| value.rotate_left(8) ^ u64::from(*byte));
            let written = access.apply(&mut registers, &mut flags, value);
            let mask = decode::arithmetic::mask(access.bytes);
            assert!(written.is_none_or(|written| written & !mask == 0));
            assert_eq!((flags ^ at as u64) & !decode::arithmetic::flag::ARITHMETIC, 0);
        }
    }
}
