//! The devices of a full guest's PC: any bytes are a sequence of accesses ([`Step`](crate::step::Step)).

use hypervisor::devices::ata::{self, Ata, Request};
use hypervisor::devices::cmos::Cmos;
use hypervisor::devices::fw_cfg::FwCfg;
use hypervisor::devices::i8042::I8042;
use hypervisor::devices::io_apic::{IoApic, PINS};
use hypervisor::devices::local_apic::{self, Effect, LocalApic};
use hypervisor::devices::pci::Pci;
use hypervisor::devices::pic::Pic;
use hypervisor::devices::pit::Pit;
use hypervisor::devices::pm::{self, Pm};
use hypervisor::devices::uart::{FIFO, Uart};
use hypervisor::pc::board::Board;

use crate::step::steps;

/// 16550A.
pub fn uart(bytes: &[u8]) {
    let mut uart = Uart::new();
    for (step, _) in steps(bytes) {
        match step.what % 4 {
            0 => _ = uart.read(step.place),
            1 => {
                let transmits = uart.write(step.place, step.byte());
                assert!(!transmits || uart.outgoing().is_some());
            }
            2 => {
                let room = uart.has_room();
                uart.receive(step.byte());
                assert!(!room || uart.read(5) & 1 != 0, "what there was room for is there");
            }
            _ => {
                let taken = std::iter::from_fn(|| uart.outgoing().inspect(|_| uart.sent())).count();
                assert!(taken <= FIFO);
                assert_eq!(uart.read(5) & 0x60, 0x60, "the transmitter is empty");
            }
        }
    }
}

/// Local APIC, by its page and by MSRs.
pub fn local_apic(bytes: &[u8]) {
    let mut apic = LocalApic::new(1, true);
    let mut serving: Vec<u8> = Vec::new();
    for (step, now) in steps(bytes) {
        let offset = u32::from(step.place) & 0xfff;
        let mut effect = Effect::None;
        match step.what % 8 {
            0 => _ = apic.read_page(offset, now),
            1 => effect = apic.write_page(offset & !0xf, step.value, now),
            2 => _ = apic.read_msr(offset & 0xff, now),
            3 => effect = apic.write_msr(offset & 0x3f, step.value.into(), now).unwrap_or(Effect::None),
            4 => apic.request(step.byte(), step.place & 1 != 0),
            5 => _ = apic.set_base(local_apic::ADDRESS | u64::from(step.value) & 0xd00),
            6 => apic.set_tsc_deadline(now + u64::from(step.value)),
            _ => {
                if let Some(vector) = apic.pending() {
                    assert!(vector >= 16 && vector >> 4 > apic.task_class());
                    apic.accept(vector);
                    serving.push(vector);
                    assert!(apic.pending().is_none_or(|next| next >> 4 > vector >> 4), "classes nest");
                }
            }
        }
        if let Effect::EndOfLevel(vector) = effect {
            assert!(serving.contains(&vector), "what ends was taken");
        }
        apic.advance(now);
        assert!(apic.deadline().is_none_or(|due| due > now), "no deadline stands still");
        assert!(apic.is_on() || apic.pending().is_none());
    }
}

/// Pair of 8259As.
pub fn pic(bytes: &[u8]) {
    const PORTS: [u16; 6] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
    let mut pic = Pic::new();
    for (step, _) in steps(bytes) {
        let port = PORTS[usize::from(step.place) % PORTS.len()];
        match step.what % 4 {
            0 => _ = pic.read(port),
            1 => pic.write(port, step.byte()),
            2 => pic.set(step.byte() % 16, step.place & 1 != 0),
            _ => {
                let offered = pic.interrupts();
                let vector = pic.acknowledge();
                assert!(offered || vector & 7 == 7, "what is not offered is spurious");
            }
        }
    }
}

/// 8254.
pub fn pit(bytes: &[u8]) {
    let mut pit = Pit::new();
    for (step, now) in steps(bytes) {
        let port = if step.place % 5 == 4 { 0x61 } else { 0x40 + step.place % 5 };
        match step.what % 3 {
            0 => _ = pit.read(port, now),
            1 => pit.write(port, step.byte(), now),
            _ => {
                let due = pit.deadline();
                assert_eq!(pit.expire(now), due.is_some_and(|due| due <= now), "it rises when it said");
                assert!(pit.deadline().is_none_or(|due| due > now));
                if let Some(due) = pit.deadline() {
                    assert!(pit.output(due) && !pit.output(due - 1), "it rises there");
                }
            }
        }
    }
}

/// I/O APIC.
pub fn io_apic(bytes: &[u8]) {
    let mut apic = IoApic::new(2);
    let mut awaited = [false; PINS];
    for (step, _) in steps(bytes) {
        let sent = match step.what % 4 {
            0 => apic.write(0, (step.place % 0x44).into()),
            1 => apic.write(0x10, step.value),
            2 => apic.set(usize::from(step.place) % (PINS + 2), step.value & 1 != 0).into_iter().collect(),
            _ => apic.end(step.byte()),
        };
        let before = awaited;
        for (pin, awaited) in awaited.iter_mut().enumerate() {
            apic.write(0, 0x10 + 2 * pin as u32);
            *awaited = apic.read(0x10) & 1 << 14 != 0;
        }
        let levels = sent.iter().filter(|message| message.is_level).count();
        let begun = awaited.iter().zip(before).filter(|&(&now, before)| now && !before).count();
        assert!(begun <= levels, "an end is awaited only of what was sent");
    }
}

/// MC146818.
pub fn cmos(bytes: &[u8]) {
    const START: u64 = 1_792_566_429_000_000_000;
    let mut cmos = Cmos::new(START);
    for (step, waited) in steps(bytes) {
        let now = START + waited;
        match step.what % 3 {
            0 => {
                cmos.write(0x70, step.place as u8, now);
                cmos.read(0x71, now);
            }
            1 => {
                cmos.write(0x70, step.place as u8, now);
                cmos.write(0x71, step.byte(), now);
            }
            _ => {
                let (was_up, due) = (cmos.clone().interrupts(now - 1), cmos.deadline());
                let up = cmos.interrupts(now);
                assert!(was_up || up == due.is_some_and(|due| due <= now), "it interrupts when it said");
                assert!(cmos.deadline().is_none_or(|due| due > now));
            }
        }
    }
}

/// ACPI power management.
pub fn pm(bytes: &[u8]) {
    let mut pm = Pm::new();
    for (step, now) in steps(bytes) {
        let port = pm::EVENT + step.place % 16;
        match step.what % 4 {
            0 => _ = pm.read(port, now),
            1 => _ = pm.write(port, step.byte(), now),
            2 => pm.press_power_button(),
            _ => {
                let due = pm.deadline();
                let up = pm.interrupts(now);
                assert!(up || due.is_none_or(|due| due > now));
                assert!(pm.deadline().is_none_or(|due| due > now));
            }
        }
    }
}

/// Keyboard controller.
pub fn i8042(bytes: &[u8]) {
    let mut controller = I8042::new();
    for (step, _) in steps(bytes) {
        let port = [0x60, 0x64, 0x92][usize::from(step.place) % 3];
        if step.what & 1 == 0 {
            controller.read(port);
        } else if controller.write(port, step.byte()) {
            controller = I8042::new();
        }
        assert!(!controller.interrupts() || controller.read(0x64) & 1 != 0);
    }
}

/// Host bridge and its configuration space.
pub fn pci(bytes: &[u8]) {
    let mut pci = Pci::new();
    let id = |pci: &mut Pci| {
        pci.set_address(1 << 31);
        [0, 1, 2, 3].map(|byte| pci.read(0xcfc + byte))
    };
    for (step, _) in steps(bytes) {
        match step.what % 3 {
            0 => pci.set_address(step.value),
            1 => pci.write(0xcfc + step.place % 4, step.byte()),
            _ => _ = pci.read(0xcfc + step.place % 4),
        }
    }
    assert_eq!(id(&mut pci), [0x86, 0x80, 0x37, 0x12], "who it is stays");
}

/// QEMU's firmware configuration.
pub fn fw_cfg(bytes: &[u8]) {
    let mut device = FwCfg::new();
    // The first half is what is offered, the second what the guest asks.
    let (offers, asks) = bytes.split_at((bytes.len() / 2) & !7);
    let mut offered = 0;
    for (step, _) in steps(offers) {
        let contents = vec![step.byte() | 1; usize::from(step.place)];
        if device.add_file("file", &contents).is_ok() {
            offered += contents.len();
        }
    }
    for (step, _) in steps(asks) {
        device.select(step.place % 0x60);
        let read = (0..step.value % 2_048).filter(|_| device.read() != 0).count();
        assert!(step.place % 0x60 == 0x19 || read <= offered);
    }
}

/// ATA drive.
pub fn ata(bytes: &[u8]) {
    const SECTORS: u64 = 300;
    let mut drive = Ata::new(SECTORS);
    for (step, _) in steps(bytes) {
        let port = if step.place % 9 == 8 { ata::CONTROL } else { ata::COMMAND_BLOCK + step.place % 9 };
        match step.what % 6 {
            0 => _ = drive.read(port, 1 << (step.value % 3)),
            1 => drive.write(port, 1, step.value),
            2 => (0..256).for_each(|_| _ = drive.read(ata::COMMAND_BLOCK, 2)),
            3 => (0..256).for_each(|_| drive.write(ata::COMMAND_BLOCK, 2, step.value)),
            4 => drive.fetched(Err(ata::MediumError)),
            _ => match drive.request() {
                Some(Request::Fetch(_)) => drive.fetched(Ok(&[step.byte(); ata::SECTOR])),
                _ => drive.stored(Ok(())),
            },
        }
        if let Some(Request::Fetch(lba) | Request::Store(lba)) = drive.request() {
            assert!(lba < SECTORS, "a sector that there is");
            assert_eq!(drive.read(ata::CONTROL, 1), 0x80, "busy until it is answered");
        }
    }
}

/// All devices together, as a guest reaches them: ports, the I/O APIC, time.
pub fn board(bytes: &[u8]) {
    let mut board = Board::new(1_792_566_429_000_000_000);
    for (step, now) in steps(bytes) {
        let width = 1 << (step.what >> 4 & 3).min(2);
        match step.what % 6 {
            0 => _ = board.read_port(step.place, width, now),
            1 => _ = board.write_port(step.place, width, step.value, now),
            2 => board.write_io_apic(u32::from(step.place) & 0x50, step.value),
            3 => board.end_of_interrupt(step.byte()),
            4 => {
                if board.offers_external() {
                    board.acknowledge_external();
                }
            }
            _ => board.pump(),
        }
        board.outbox.clear();
        board.advance(now);
        assert!(board.deadline().is_none_or(|due| due > now), "what is due is done");
        board.outbox.clear();
    }
}
