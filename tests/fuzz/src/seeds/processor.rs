//! What the targets of the processor begin with.

use super::Seeds;

/// Instructions.
pub fn decoder() -> Seeds {
    vec![
        // mov, movzx, or, lock or, and, bt, xchg, cmpxchg, stos, movs, as compilers make them.
        (
            "moves",
            vec![
                0x8b, 0x04, 0x25, 0x20, 0, 0xe0, 0xfe, 0x89, 0x87, 0x80, 0, 0, 0, 0x0f, 0xb6, 0x07, 0x83,
                0x0f, 0x10,
            ],
        ),
        (
            "locked",
            vec![
                0xf0, 0x81, 0x0f, 0, 1, 0, 0, 0x23, 0x47, 0x10, 0x0f, 0xba, 0x27, 12, 0x87, 0x07, 0xf0, 0x0f,
                0xb1, 0x0f,
            ],
        ),
        (
            "strings",
            vec![
                0xf3, 0xab, 0xf3, 0x48, 0xa5, 0x67, 0x66, 0xa3, 0xb0, 0, 0xe0, 0xfe, 0x64, 0x8a, 0x26, 0x40,
                0x80, 0x3f, 0x7f,
            ],
        ),
    ]
}

/// An entry and its place: a frame, and the slot there that the address selects at a level, counted from 0.
const fn on_the_way(frame: u32, level: u32, entry: u64) -> (u32, u64) {
    (frame << 12 | 1 << 11 | level, entry)
}

/// Registers, an address, and tables.
fn tables(flags: u8, pkru: u32, linear: u64, cr3: u64, entries: &[(u32, u64)]) -> Vec<u8> {
    // NXE, 1 GiB pages and PSE-36; 40 bits of address.
    let mut bytes = vec![flags, 7, 8, 0];
    bytes.extend(pkru.to_le_bytes());
    bytes.extend(linear.to_le_bytes());
    bytes.extend(cr3.to_le_bytes());
    for (place, entry) in entries {
        bytes.extend(place.to_le_bytes());
        bytes.extend(entry.to_le_bytes());
    }
    bytes
}

/// Tables of each mode.
pub fn guest_walk() -> Seeds {
    const LONG: u8 = 0x87;
    const KEYS: u8 = 1 << 6;
    const SMEP_SMAP: u8 = 3 << 4;
    const PAE: u8 = 7;
    const TWO_LEVEL: u8 = 0x0b;
    const ADDRESS: u64 = 0x7654_3210_0abc;
    let upper = [on_the_way(1, 3, 0x2007), on_the_way(2, 2, 0x3007), on_the_way(3, 1, 0x4007)];
    let four = |leaf: u64| [&upper[..], &[on_the_way(4, 0, leaf)]].concat();
    let pae = [(0x1030, 0x2001), on_the_way(2, 1, 0x3007), on_the_way(3, 0, 1 << 63 | 0x5005)];
    vec![
        ("four_levels", tables(LONG, 0, ADDRESS, 0x1000, &four(0x12_3456_7003))),
        ("keys", tables(LONG | KEYS, 0x800, ADDRESS, 0x1000, &four(0x2800_0000_0000_5007))),
        ("smap", tables(LONG | SMEP_SMAP, 0, ADDRESS, 0x1000, &four(0x5067))),
        ("2_mib", tables(LONG, 0, ADDRESS, 0x1000, &[upper[0], upper[1], on_the_way(3, 1, 0x12_3460_0083)])),
        ("1_gib", tables(LONG, 0, ADDRESS, 0x1000, &[upper[0], on_the_way(2, 2, 0x12_0000_0083)])),
        ("self", tables(LONG, 0, u64::MAX << 12, 0x1000, &[on_the_way(1, 3, 0x1003)])),
        ("pae", tables(PAE, 0, 0x8040_3123, 0x1020, &pae)),
        (
            "two_levels",
            tables(
                TWO_LEVEL,
                0,
                0xc123_4567,
                0x1000,
                &[on_the_way(1, 1, 0x2007), on_the_way(2, 0, 0xffff_f003)],
            ),
        ),
        ("4_mib", tables(TWO_LEVEL, 0, 0xc123_4567, 0x1000, &[on_the_way(1, 1, 0x400b_4083)])),
        ("no_paging", tables(2, 0, ADDRESS, 0x1000, &[])),
    ]
}

/// Lives of a guest in each mode, by numbers that look random.
pub fn shadow() -> Seeds {
    const STEPS: usize = 60;
    let life = |mode: u8| {
        let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ u64::from(mode) << 7;
        let mut bytes = vec![mode, 5 * mode, 2, 0];
        // A seed, two entries of ten bytes, and the steps.
        while bytes.len() < 4 + 8 + 2 * 10 + STEPS * 17 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push((state >> 32) as u8);
        }
        bytes
    };
    vec![("four_levels", life(0)), ("pae", life(1)), ("two_levels", life(2)), ("no_paging", life(3))]
}
