use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const PORT: u16 = COMMAND_BLOCK;
const LBA: u8 = 0xe0;

/// A medium, and the drive in front of it.
struct Disk {
    ata: Ata,
    medium: Vec<[u8; SECTOR]>,
}

impl Disk {
    fn new(sectors: u16) -> Self {
        let medium = (0..sectors).map(|number| [number as u8; SECTOR]).collect();
        Self { ata: Ata::new(sectors.into()), medium }
    }

    fn serve(&mut self) {
        match self.ata.request() {
            Some(Request::Fetch(lba)) => self.ata.fetched(self.medium.get(lba as usize).ok_or(MediumError)),
            Some(Request::Store(lba)) => {
                self.medium[lba as usize] = *self.ata.sector();
                self.ata.stored(Ok(()));
            }
            Some(Request::Flush) => self.ata.stored(Ok(())),
            None => {}
        }
    }

    fn issue(&mut self, parts: &[(u16, u8)], command: u8) {
        for &(register, value) in parts {
            self.ata.write(PORT + register, 1, value.into());
        }
        self.ata.write(PORT + STATUS, 1, command.into());
    }

    fn status(&mut self) -> u8 {
        self.ata.read(PORT + STATUS, 1) as u8
    }

    fn take(&mut self, bytes: u8) -> Vec<u8> {
        (0..SECTOR / usize::from(bytes))
            .flat_map(|_| self.ata.read(PORT, bytes).to_le_bytes()[..usize::from(bytes)].to_vec())
            .collect()
    }
}

/// "Device 0 only configurations", "Signature and persistence".
#[test]
fn what_firmware_looks_for() {
    let mut disk = Disk::new(10);
    assert_eq!([2, 3, 4, 5].map(|register| disk.ata.read(PORT + register, 1)), [1, 1, 0, 0]);
    assert_eq!((disk.status(), disk.ata.read(PORT + 1, 1)), (0x50, 1), "diagnosed well");
    disk.issue(&[(2, 0x55), (3, 0xaa)], 0);
    assert_eq!((disk.ata.read(PORT + 2, 1), disk.ata.read(PORT + 3, 1)), (0x55, 0xaa));
    disk.ata.write(PORT + 6, 1, 0xb0);
    assert_eq!((disk.status(), disk.ata.read(CONTROL, 1), disk.ata.read(PORT + 6, 1)), (0, 0, 0xb0));
    disk.issue(&[], 0xec);
    assert!(disk.ata.request().is_none() && !disk.ata.interrupts(), "a command for nobody");
    let mut none = Ata::new(0);
    assert_eq!(none.read(PORT + STATUS, 1) as u8, 0xff);
    none.write(PORT + STATUS, 1, 0xec);
    assert!(none.request().is_none() && !none.interrupts());
}

#[test]
fn identify() {
    let mut disk = Disk::new(2_016);
    disk.issue(&[(6, LBA)], 0xec);
    assert!(disk.ata.interrupts());
    assert_eq!((disk.status(), disk.ata.interrupts()), (0x58, false), "reading the status acknowledges");
    let data = disk.take(2);
    let word = |number: usize| u16::from_le_bytes([data[2 * number], data[2 * number + 1]]);
    assert_eq!((word(0), word(1), word(3), word(6)), (0x40, 2, 16, 63));
    assert_eq!((word(60), word(61), word(100), word(103)), (2_016, 0, 2_016, 0));
    assert_eq!((word(47), word(49) & 1 << 8, word(63), word(88)), (0, 0, 0, 0), "no multiples, no DMA");
    let model: Vec<u8> = (27..47).flat_map(|number| word(number).to_be_bytes()).collect();
    assert!(model.starts_with(b"Atoll disk  ") && model.len() == 40);
    assert_eq!(disk.status(), 0x50);
}

#[test]
fn sectors_are_read() {
    let mut disk = Disk::new(100);
    disk.issue(&[(6, LBA), (2, 3), (3, 7), (4, 0), (5, 0)], 0x20);
    for number in 7..10 {
        assert_eq!((disk.status(), disk.ata.interrupts()), (0x80, false), "busy");
        assert_eq!(disk.ata.request(), Some(Request::Fetch(number)));
        disk.serve();
        assert!(disk.ata.interrupts());
        assert_eq!(
            (disk.ata.read(CONTROL, 1), disk.ata.interrupts()),
            (0x58, true),
            "this acknowledges nothing"
        );
        disk.status();
        assert_eq!(disk.take(if number == 8 { 4 } else { 2 }), [number as u8; SECTOR]);
    }
    assert_eq!((disk.status(), disk.ata.interrupts(), disk.ata.request()), (0x50, false, None));
    assert_eq!(disk.ata.read(PORT, 2), 0, "nothing left");
}

#[test]
fn sectors_are_written() {
    let mut disk = Disk::new(100);
    disk.issue(&[(6, LBA), (2, 2), (3, 50)], 0x30);
    assert_eq!((disk.status(), disk.ata.interrupts()), (0x58, false));
    for number in 0..2u32 {
        for word in 0..SECTOR as u32 / 2 {
            disk.ata.write(PORT, 2, word + number);
        }
        assert_eq!(disk.status(), 0x80);
        disk.serve();
        assert!(disk.ata.interrupts());
        assert_eq!(disk.status(), if number == 0 { 0x58 } else { 0x50 });
    }
    assert_eq!(disk.medium[50][..6], [0, 0, 1, 0, 2, 0]);
    assert_eq!(disk.medium[51][508..], [255, 0, 0, 1]);
    disk.issue(&[], 0xe7);
    assert_eq!(disk.ata.request(), Some(Request::Flush));
    disk.serve();
    assert_eq!((disk.ata.interrupts(), disk.status()), (true, 0x50));
}

#[test]
fn wide_addresses() {
    let mut ata = Ata::new(1 << 40);
    for (register, value) in
        [(6, 0x40), (2, 0), (3, 0x12), (4, 0), (5, 0), (2, 2), (3, 0x78), (4, 0x56), (5, 0x34)]
    {
        ata.write(PORT + register, 1, value);
    }
    ata.write(PORT + STATUS, 1, 0x24);
    assert_eq!((ata.request(), ata.left), (Some(Request::Fetch(0x1234_5678)), 2));
    let mut ata = Ata::new(1 << 40);
    for value in [0xaa, 0xbb] {
        ata.write(PORT + 3, 1, value);
    }
    ata.write(CONTROL, 1, SHOW_PREVIOUS.into());
    assert_eq!(ata.read(PORT + 3, 1), 0xaa);
    ata.write(PORT + 2, 1, 0);
    assert_eq!(ata.read(PORT + 3, 1), 0xbb, "a write ends it");
    ata.write(PORT + 6, 1, LBA.into());
    ata.write(PORT + STATUS, 1, 0x20);
    assert_eq!(ata.left, 256);
    ata.fetched(Err(MediumError));
    for register in [2, 2] {
        ata.write(PORT + register, 1, 0);
    }
    ata.write(PORT + STATUS, 1, 0x24);
    assert_eq!(ata.left, 0x1_0000);
}

#[test]
fn cylinders_heads_and_sectors() {
    let mut ata = Ata::new(100_000);
    for (register, value) in [(6, 0xa3), (2, 1), (3, 5), (4, 7), (5, 0)] {
        ata.write(PORT + register, 1, value);
    }
    ata.write(PORT + STATUS, 1, 0x20);
    assert_eq!(ata.request(), Some(Request::Fetch((7 * 16 + 3) * 63 + 4)));
    ata.fetched(Err(MediumError));
    ata.write(PORT + 3, 1, 0);
    ata.write(PORT + STATUS, 1, 0x20);
    assert_eq!(ata.read(PORT + 1, 1), u32::from(error::NOT_FOUND), "sectors count from 1");
}

#[test]
fn errors() {
    let mut disk = Disk::new(100);
    for (parts, command, error) in [
        (&[(6, LBA), (2, 1), (3, 100)][..], 0x20, error::NOT_FOUND),
        (&[(2, 2), (3, 99)], 0x30, error::NOT_FOUND),
        (&[(2, 2), (3, 99)], 0x40, error::NOT_FOUND),
        (&[], 0xc4, error::ABORTED),
        (&[], 0xa1, error::ABORTED),
        (&[(1, 3), (2, 0x40)], 0xef, error::ABORTED),
    ] {
        disk.issue(parts, command);
        assert!(disk.ata.interrupts());
        assert_eq!((disk.status(), disk.ata.read(PORT + 1, 1) as u8), (0x51, error), "{command:#x}");
    }
    disk.issue(&[(2, 1), (3, 99)], 0x20);
    disk.ata.fetched(Err(MediumError));
    assert_eq!((disk.status(), disk.ata.read(PORT + 1, 1) as u8), (0x51, error::UNCORRECTABLE));
    for command in [0x10, 0x40, 0x91, 0xe5, 0xe0] {
        disk.issue(&[], command);
        assert_eq!(disk.status(), 0x50, "{command:#x}");
    }
    disk.issue(&[(1, 3), (2, 0x0c)], 0xef);
    assert_eq!(disk.status(), 0x50, "a PIO mode");
}

#[test]
fn reset_and_interrupt_enable() {
    let mut disk = Disk::new(100);
    disk.issue(&[(6, LBA), (2, 1)], 0x20);
    disk.ata.write(CONTROL, 1, (SOFT_RESET | NO_INTERRUPT).into());
    assert_eq!((disk.status(), disk.ata.request()), (0x80, None));
    disk.ata.fetched(Ok(&[0; SECTOR]));
    disk.ata.write(CONTROL, 1, NO_INTERRUPT.into());
    assert_eq!((disk.status(), disk.ata.read(PORT + 6, 1)), (0x50, 0xa0));
    disk.issue(&[], 0xec);
    assert!(!disk.ata.interrupts());
    disk.ata.write(CONTROL, 1, 0);
    assert!(disk.ata.interrupts(), "it was only kept off");
}

proptest! {
    #[test]
    fn nothing_breaks_it(steps: Vec<(u8, u8, u32)>) {
        let mut disk = Disk::new(16);
        for (what, place, value) in steps {
            let port = if place % 9 == 8 { CONTROL } else { PORT + u16::from(place % 9) };
            match what % 8 {
                0 => { disk.ata.read(port, 1 << (value % 3)); }
                1 | 2 => disk.ata.write(port, 1, value),
                3 => { disk.take(2); }
                4 => (0..SECTOR / 2).for_each(|_| disk.ata.write(PORT, 2, value)),
                5 => disk.issue(&[(6, LBA), (2, 1), (3, value as u8 % 20)], [0x20, 0x30, 0xec, 0x24][usize::from(place) % 4]),
                _ => disk.serve(),
            }
            // A request is for a sector that there is.
            if let Some(Request::Fetch(lba) | Request::Store(lba)) = disk.ata.request() {
                prop_assert!(lba < 16);
            }
            if let State::Moves(_, at) = disk.ata.state {
                prop_assert!(at < SECTOR);
            }
        }
    }

    #[test]
    fn what_is_written_is_read(lba in 0u8..16, bytes in proptest::collection::vec(any::<u8>(), SECTOR), wide: bool) {
        let mut disk = Disk::new(16);
        disk.issue(&[(6, LBA), (2, 1), (3, lba)], 0x30);
        let unit = if wide { 4 } else { 2 };
        for chunk in bytes.chunks(unit) {
            let mut value = [0; 4];
            value[..unit].copy_from_slice(chunk);
            disk.ata.write(PORT, unit as u8, u32::from_le_bytes(value));
        }
        disk.serve();
        disk.issue(&[], 0x20);
        disk.serve();
        prop_assert_eq!(disk.take(unit as u8), bytes);
    }
}

proptest! {
    /// Moved in runs of any length, the same bytes come and go, and the drive ends where it would have.
    #[test]
    fn runs_are_single_accesses(writes: bool, lengths: [u16; 12], wide: bool, skipped in 0..600usize, value: u8) {
        let (bytes, command) = (if wide { 4 } else { 2 }, if writes { 0x30 } else { 0x20 });
        let start = || {
            let mut disk = Disk::new(4);
            disk.issue(&[(2, 3), (3, 0), (4, 0), (5, 0), (6, LBA)], command);
            disk.serve();
            // So that runs begin anywhere, words of 16 bits within double words too.
            for _ in 0..skipped {
                if writes { disk.ata.write(PORT, 2, 0x5aa5) } else { disk.ata.read(PORT, 2); }
                disk.serve();
            }
            disk
        };
        let (mut by_run, mut singly) = (start(), start());
        for length in lengths {
            let elements = usize::from(length % 300) + 1;
            let mut run = std::vec![value; elements * usize::from(bytes)];
            let moved =
                if writes { by_run.ata.write_run(bytes, &run) } else { by_run.ata.read_run(bytes, &mut run) };
            prop_assert!((1..=elements).contains(&moved));
            by_run.serve();
            for element in run.chunks_exact(bytes.into()).take(moved) {
                if writes {
                    singly.ata.write(PORT, bytes, u32::from_le_bytes([value; 4]));
                } else {
                    let read = singly.ata.read(PORT, bytes).to_le_bytes();
                    prop_assert_eq!(element, &read[..bytes.into()]);
                }
                singly.serve();
            }
            prop_assert_eq!(by_run.status(), singly.status());
            prop_assert_eq!(&by_run.medium, &singly.medium);
        }
    }
}
