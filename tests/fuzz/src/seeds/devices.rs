//! What the devices' targets begin with: accesses as kernels and firmware make them.

use super::Seeds;
use crate::step::Step;

/// Steps as bytes: what, place, value, and how long after the last.
fn steps(steps: &[(u8, u16, u32, u8)]) -> Vec<u8> {
    steps.iter().flat_map(|&(what, place, value, wait)| Step { what, place, value, wait }.bytes()).collect()
}

/// What most targets take for reading.
const READ: u8 = 0;
const WRITE: u8 = 1;

/// Of the target of this name.
pub fn uart() -> Seeds {
    // A driver finds the chip, turns FIFOs and interrupts on, sends and receives.
    let probe = [
        (WRITE, 1, 0),
        (READ, 1, 0),
        (WRITE, 4, 0x1a),
        (READ, 6, 0),
        (WRITE, 2, 1),
        (READ, 2, 0),
        (WRITE, 3, 0x80),
        (WRITE, 0, 1),
        (WRITE, 1, 0),
        (WRITE, 3, 3),
    ];
    let run = [
        (WRITE, 2, 0xc7),
        (WRITE, 4, 0x0b),
        (WRITE, 1, 0x0f),
        (READ, 2, 0),
        (WRITE, 0, 0x41),
        (3, 0, 0),
        (READ, 2, 0),
        (2, 0, 0x42),
        (READ, 5, 0),
        (READ, 0, 0),
        (2, 0, 0x43),
        (READ, 6, 0),
    ];
    vec![
        ("probe", untimed(&probe)),
        ("run", untimed(&run)),
        ("both", untimed(&[probe.as_slice(), &run].concat())),
    ]
}

/// A seed with its name.
fn timed((name, accesses): (&'static str, &[(u8, u16, u32, u8)])) -> (&'static str, Vec<u8>) {
    (name, steps(accesses))
}

fn untimed(accesses: &[(u8, u16, u32)]) -> Vec<u8> {
    steps(&accesses.iter().map(|&(what, place, value)| (what, place, value, 0)).collect::<Vec<_>>())
}

/// Of the target of this name.
pub fn local_apic() -> Seeds {
    let enable = [(WRITE, 0xf0, 0x1ff, 0), (WRITE, 0x80, 0, 0), (WRITE, 0x370, 0xfe, 0)];
    let periodic = [
        (WRITE, 0x3e0, 3, 1),
        (WRITE, 0x320, 0x2_00ec, 1),
        (WRITE, 0x380, 1_000, 1),
        (7, 0, 0, 15),
        (WRITE, 0xb0, 0, 1),
    ];
    let deadline = [(WRITE, 0x320, 0x4_00ec, 1), (6, 0, 500, 1), (7, 0, 0, 12), (WRITE, 0xb0, 0, 1)];
    let ipis = [
        (WRITE, 0x310, 1 << 24, 0),
        (WRITE, 0x300, 0xc_4500, 0),
        (WRITE, 0x300, 0x4_0050, 0),
        (4, 1, 0x61, 0),
        (7, 0, 0, 0),
        (WRITE, 0xb0, 0, 0),
        (READ, 0x100, 0, 0),
    ];
    let x2apic = [
        (5, 0, 0xc00, 0),
        (3, 0x0f, 0x1ff, 0),
        (3, 0x3f, 0x61, 0),
        (7, 0, 0, 0),
        (3, 0x0b, 0, 0),
        (2, 0x02, 0, 0),
        (5, 0, 0, 0),
        (5, 0, 0x800, 0),
    ];
    [("periodic", &periodic[..]), ("deadline", &deadline), ("ipis", &ipis), ("x2apic", &x2apic)]
        .map(|(name, part)| (name, steps(&[&enable, part].concat())))
        .into()
}

/// Of the target of this name.
pub fn pic() -> Seeds {
    let initialize = [
        (WRITE, 0, 0x11),
        (WRITE, 1, 0x30),
        (WRITE, 1, 4),
        (WRITE, 1, 1),
        (WRITE, 2, 0x11),
        (WRITE, 3, 0x38),
        (WRITE, 3, 2),
        (WRITE, 3, 1),
        (WRITE, 1, 0),
        (WRITE, 3, 0),
    ];
    let interrupt = [
        (2, 1, 0),
        (3, 0, 0),
        (WRITE, 0, 0x60),
        (2, 1, 12),
        (3, 0, 0),
        (WRITE, 2, 0x20),
        (WRITE, 0, 0x20),
        (WRITE, 0, 0x0b),
        (READ, 0, 0),
    ];
    let special = [
        (WRITE, 4, 0xf8),
        (WRITE, 0, 0x68),
        (2, 1, 5),
        (3, 0, 0),
        (WRITE, 0, 0x0c),
        (READ, 0, 0),
        (WRITE, 0, 0xa0),
        (WRITE, 0, 0xc3),
    ];
    [("interrupt", &interrupt[..]), ("special", &special)]
        .map(|(name, part)| (name, untimed(&[&initialize, part].concat())))
        .into()
}

/// Of the target of this name.
pub fn pit() -> Seeds {
    // Place 3 is the control word, 4 is port 61h.
    let tick = [
        (WRITE, 3, 0x34, 1),
        (WRITE, 0, 0xa9, 1),
        (WRITE, 0, 4, 1),
        (2, 0, 0, 12),
        (2, 0, 0, 12),
        (READ, 0, 0, 3),
    ];
    let calibrate = [
        (WRITE, 4, 1, 1),
        (WRITE, 3, 0xb0, 1),
        (WRITE, 2, 0xff, 1),
        (WRITE, 2, 0xff, 1),
        (READ, 2, 0, 9),
        (READ, 2, 0, 9),
        (READ, 4, 0, 17),
    ];
    let square = [
        (WRITE, 3, 0x36, 1),
        (WRITE, 0, 5, 1),
        (WRITE, 0, 0, 1),
        (2, 0, 0, 2),
        (WRITE, 0, 4, 1),
        (WRITE, 0, 0, 1),
        (2, 0, 0, 3),
        (WRITE, 3, 0xc2, 1),
        (READ, 0, 0, 1),
    ];
    let shots = [
        (WRITE, 3, 0x38, 1),
        (WRITE, 0, 9, 1),
        (WRITE, 0, 0, 1),
        (2, 0, 0, 5),
        (WRITE, 3, 0x31, 1),
        (WRITE, 0, 0x99, 1),
        (WRITE, 0, 0, 2),
        (2, 0, 0, 9),
    ];
    [("tick", &tick[..]), ("calibrate", &calibrate), ("square", &square), ("shots", &shots)].map(timed).into()
}

/// Of the target of this name.
pub fn io_apic() -> Seeds {
    let level = [
        (0, 0x23, 0),
        (1, 0, 0),
        (0, 0x22, 0),
        (1, 0, 0x8050),
        (2, 9, 1),
        (3, 0, 0x50),
        (2, 9, 0),
        (3, 0, 0x50),
        (1, 0, 0x1_0050),
        (1, 0, 0x50),
    ];
    let edge =
        [(0, 0x14, 0), (1, 0, 0x31), (2, 2, 1), (2, 2, 0), (2, 2, 1), (1, 0, 0x931), (2, 2, 0), (2, 2, 1)];
    vec![("level", untimed(&level)), ("edge", untimed(&edge))]
}

/// Of the target of this name.
pub fn cmos() -> Seeds {
    let read = [
        (READ, 10, 0, 1),
        (READ, 0, 0, 1),
        (READ, 2, 0, 1),
        (READ, 4, 0, 1),
        (READ, 11, 0, 1),
        (READ, 0x32, 0, 31),
    ];
    let set = [
        (WRITE, 11, 0x82, 1),
        (WRITE, 4, 0x23, 1),
        (WRITE, 9, 0x28, 1),
        (WRITE, 8, 2, 1),
        (WRITE, 7, 0x29, 1),
        (WRITE, 11, 2, 1),
        (READ, 7, 0, 43),
    ];
    let interrupt = [
        (WRITE, 10, 0x26, 1),
        (WRITE, 11, 0x72, 1),
        (2, 0, 0, 21),
        (READ, 12, 0, 1),
        (WRITE, 1, 0x30, 1),
        (WRITE, 3, 0xff, 1),
        (WRITE, 5, 0xff, 1),
        (2, 0, 0, 36),
        (READ, 12, 0, 1),
    ];
    [("read", &read[..]), ("set", &set), ("interrupt", &interrupt)].map(timed).into()
}

/// Of the target of this name.
pub fn pm() -> Seeds {
    vec![(
        "power_off",
        steps(&[
            (READ, 8, 0, 1),
            (WRITE, 2, 1, 1),
            (3, 0, 0, 33),
            (WRITE, 0, 1, 1),
            (2, 0, 0, 1),
            (WRITE, 3, 1, 1),
            (3, 0, 0, 1),
            (WRITE, 5, 0x24, 1),
            (WRITE, 5, 0x34, 1),
        ]),
    )]
}

/// Of the target of this name.
pub fn i8042() -> Seeds {
    vec![(
        "probe",
        untimed(&[
            (WRITE, 1, 0xaa),
            (READ, 0, 0),
            (WRITE, 1, 0x60),
            (WRITE, 0, 0x41),
            (WRITE, 0, 0xff),
            (READ, 1, 0),
            (READ, 0, 0),
            (WRITE, 1, 0xd1),
            (WRITE, 0, 0xdf),
            (WRITE, 2, 2),
            (WRITE, 1, 0xfe),
        ]),
    )]
}

/// Of the target of this name.
pub fn pci() -> Seeds {
    let scan: Vec<(u8, u16, u32)> =
        (0..32).flat_map(|device| [(0, 0, 1 << 31 | device << 11), (2, 0, 0), (2, 1, 0)]).collect();
    let pam = [(0, 0, 0x8000_0058), (2, 1, 0), (1, 1, 0x30), (0, 0, 0x8000_0b40), (1, 0, 0xff)];
    vec![("scan", untimed(&scan)), ("pam", untimed(&pam))]
}

/// Of the target of this name.
pub fn fw_cfg() -> Seeds {
    vec![(
        "files",
        untimed(&[
            (0, 20, 1),
            (0, 400, 2),
            (0, 35, 3),
            (0, 9_000, 4),
            (0, 0, 4),
            (0, 0x19, 300),
            (0, 0x21, 500),
            (0, 0x20, 30),
        ]),
    )]
}

/// Of the target of this name.
pub fn ata() -> Seeds {
    let lba =
        |lba, count| [(WRITE, 6, 0xe0), (WRITE, 2, count), (WRITE, 3, lba), (WRITE, 4, 0), (WRITE, 5, 0)];
    let identify = [(WRITE, 6, 0xa0), (WRITE, 7, 0xec), (READ, 7, 0), (2, 0, 0)];
    let read =
        [&lba(7, 2)[..], &[(WRITE, 7, 0x20), (5, 0, 1), (READ, 7, 0), (2, 0, 0), (5, 0, 2), (2, 0, 0)]]
            .concat();
    let write = [
        &lba(9, 2)[..],
        &[(WRITE, 7, 0x30), (3, 0, 7), (5, 0, 0), (3, 0, 8), (5, 0, 0), (WRITE, 7, 0xe7), (5, 0, 0)],
    ]
    .concat();
    let reset =
        [&lba(9, 1)[..], &[(WRITE, 7, 0x24), (WRITE, 8, 4), (4, 0, 0), (WRITE, 8, 0), (READ, 7, 0)]].concat();
    vec![
        ("identify", untimed(&identify)),
        ("read", untimed(&read)),
        ("write", untimed(&write)),
        ("reset", untimed(&reset)),
    ]
}

/// Of the target of this name.
pub fn board() -> Seeds {
    // 0x10 in what is done is 16 bits, 0x20 is 32.
    const WRITE_32: u8 = 0x20 | 1;
    let tick = [
        (WRITE, 0x20, 0x11, 1),
        (WRITE, 0x21, 0x30, 1),
        (WRITE, 0x21, 4, 1),
        (WRITE, 0x21, 1, 1),
        (WRITE, 0x21, 0, 1),
        (WRITE, 0x43, 0x34, 1),
        (WRITE, 0x40, 0xa9, 1),
        (WRITE, 0x40, 4, 1),
        (4, 0, 0, 22),
        (WRITE, 0x20, 0x20, 1),
        (2, 0, 0x14, 1),
        (2, 0x10, 0x31, 1),
        (READ, 0x61, 0, 21),
    ];
    let serial = [
        (WRITE, 0x3fa, 0xc7, 1),
        (WRITE, 0x3fc, 0x0b, 1),
        (WRITE, 0x3f9, 0x0f, 1),
        (WRITE, 0x3f8, 0x41, 1),
        (READ, 0x3fa, 0, 1),
        (WRITE, 0xe9, 0x42, 1),
    ];
    let clock = [
        (WRITE, 0x70, 11, 1),
        (WRITE, 0x71, 0x72, 1),
        (READ, 0x70, 0, 31),
        (WRITE, 0x70, 12, 1),
        (READ, 0x71, 0, 1),
        (WRITE, 0x602, 1, 1),
        (READ, 0x20 | 0x608, 0, 43),
    ];
    let bridges = [
        (WRITE_32, 0xcf8, 0x8000_0000, 1),
        (0x24, 0xcfc, 0, 1),
        (WRITE, 0x64, 0xaa, 1),
        (READ, 0x60, 0, 1),
        (WRITE, 0x604, 0x3401, 1),
    ];
    [("tick", &tick[..]), ("serial", &serial), ("clock", &clock), ("bridges", &bridges)].map(timed).into()
}

/// Three processors turn their local APICs on; then a level goes through the I/O APIC, and processors interrupt others.
pub fn interrupts() -> Seeds {
    // In what is done, the processor is in bits 7:4.
    const PAGE: u8 = 0;
    const MSR: u8 = 1;
    const BASE: u8 = 2;
    const IO_APIC: u8 = 3;
    const PIN: u8 = 4;
    const TAKE: u8 = 5;
    const END: u8 = 6;
    const ONE: u8 = 0x10;
    const TWO: u8 = 0x20;
    let enable = [PAGE, ONE, TWO].map(|at| [(at, 0xf0, 0x1ff), (at, 0xd0, 1 << 24), (at, 0x80, 0)]).concat();
    let level = [
        (IO_APIC, 0x23, 0),
        (IO_APIC, 0x22, 0x8050),
        (PIN, 9, 1),
        (TAKE, 0, 0),
        (END, 0, 0),
        (TAKE, 0, 0),
        (PIN, 9, 0),
        (END, 0, 0),
    ];
    let between = [
        (ONE, 0x310, 2 << 24),
        (ONE, 0x300, 0x61),
        (TWO | TAKE, 0, 0),
        (TWO, 0x300, 0xc_0041),
        (TAKE, 0, 0),
        (TWO | END, 0, 0),
        (END, 0, 0),
        (PAGE, 0x300, 0xc_4500),
    ];
    let x2apic = [
        (BASE, 0, 0xd00),
        (ONE | BASE, 0, 0xc00),
        (ONE | MSR, 0x0f, 0x1ff),
        (ONE | MSR, 0x30, 0xc_0045),
        (TAKE, 0, 0),
        (ONE | MSR, 0x3f, 0x46),
        (ONE | TAKE, 0, 0),
        (ONE | END, 0, 0),
        (END, 0, 0),
    ];
    [("level", &level[..]), ("between", &between), ("x2apic", &x2apic)]
        .map(|(name, part)| (name, untimed(&[&enable, part].concat())))
        .into()
}
