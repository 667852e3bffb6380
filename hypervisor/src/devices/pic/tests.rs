use super::*;
use proptest::prelude::*;

const END: u8 = 0x20;

/// As a PC's kernel sets it up, with nothing masked.
fn ready(icw4: u8) -> Pic {
    let mut pic = Pic::new();
    for (port, base, wires) in [(0x20, 0x30, 4), (0xa0, 0x38, 2)] {
        pic.write(port, 0x11);
        for value in [base, wires, icw4, 0] {
            pic.write(port + 1, value);
        }
    }
    pic
}

fn pulse(pic: &mut Pic, line: u8) {
    pic.set(line, false);
    pic.set(line, true);
}

/// ISR, then IRR.
fn registers(pic: &mut Pic, port: u16) -> (u8, u8) {
    pic.write(port, 0x0b);
    let in_service = pic.read(port);
    pic.write(port, 0x0a);
    (in_service, pic.read(port))
}

#[test]
fn fully_nested() {
    let mut pic = ready(1);
    assert!(!pic.interrupts());
    pulse(&mut pic, 4);
    pulse(&mut pic, 0);
    pulse(&mut pic, 6);
    assert_eq!(pic.acknowledge(), 0x30);
    assert!(!pic.interrupts(), "lower ones wait");
    assert_eq!(registers(&mut pic, 0x20), (0x01, 0x50));
    pic.write(0x20, END);
    assert_eq!(pic.acknowledge(), 0x34);
    pulse(&mut pic, 1);
    assert_eq!(pic.acknowledge(), 0x31, "higher ones come through");
    pic.write(0x20, END);
    assert_eq!(registers(&mut pic, 0x20), (0x10, 0x40));
    pic.write(0x20, 0x64);
    assert_eq!(pic.acknowledge(), 0x36, "4 was ended by name");
}

#[test]
fn masks() {
    let mut pic = ready(1);
    pic.write(0x21, 0xef);
    assert_eq!(pic.read(0x21), 0xef);
    pulse(&mut pic, 3);
    assert!(!pic.interrupts());
    pic.write(0x21, 0);
    assert_eq!(pic.acknowledge(), 0x33, "it was latched");
}

#[test]
fn the_second_chip() {
    let mut pic = ready(1);
    pulse(&mut pic, 12);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x3c);
    assert_eq!((registers(&mut pic, 0x20).0, registers(&mut pic, 0xa0).0), (0x04, 0x10));
    pulse(&mut pic, 8);
    assert!(!pic.interrupts(), "its input is in service");
    pic.write(0xa0, END);
    pic.write(0x20, END);
    assert_eq!(pic.acknowledge(), 0x38);
    pic.write(0xa0, END);
    pic.write(0x20, END);
    assert_eq!(pic.acknowledge(), 0x33);
    pic.write(0xa1, 0xff);
    pulse(&mut pic, 14);
    pic.write(0x20, END);
    assert!(!pic.interrupts());
}

/// "The Special Fully Nested Mode".
#[test]
fn special_nesting() {
    let mut pic = ready(0x11);
    pulse(&mut pic, 12);
    assert_eq!(pic.acknowledge(), 0x3c);
    pulse(&mut pic, 8);
    assert_eq!(pic.acknowledge(), 0x38, "higher ones of the second chip come through");
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x33, "what is in service at the cascade holds back none but its own");
}

#[test]
fn spurious() {
    let mut pic = ready(1);
    pic.set(5, true);
    pic.set(5, false);
    assert!(!pic.interrupts());
    assert_eq!(pic.acknowledge(), 0x37);
    assert_eq!(registers(&mut pic, 0x20).0, 0, "which is not in service");
}

#[test]
fn edges_and_levels() {
    let mut pic = ready(1);
    pic.write(0x4d0, 0xff);
    pic.write(0x4d1, 0xff);
    assert_eq!((pic.read(0x4d0), pic.read(0x4d1)), (0xf8, 0xde));
    pic.set(5, true);
    pic.set(1, true);
    assert_eq!(pic.acknowledge(), 0x31);
    pic.write(0x20, END);
    assert_eq!(pic.acknowledge(), 0x35);
    pic.write(0x20, END);
    assert_eq!(pic.acknowledge(), 0x35, "the level is still there, the edge is not");
    pic.set(5, false);
    pic.write(0x20, END);
    assert!(!pic.interrupts());
    pic.set(9, true);
    assert_eq!(pic.acknowledge(), 0x39);
    for port in [0xa0, 0x20] {
        pic.write(port, END);
    }
    assert_eq!(pic.acknowledge(), 0x39);
}

/// "Automatic Rotation", "Specific Rotation".
#[test]
fn priorities_rotate() {
    let mut pic = ready(1);
    pulse(&mut pic, 0);
    pulse(&mut pic, 5);
    assert_eq!(pic.acknowledge(), 0x30);
    pic.write(0x20, 0xa0);
    pulse(&mut pic, 0);
    assert_eq!(pic.acknowledge(), 0x35, "0 is last now");
    pic.write(0x20, 0xe5);
    assert_eq!(pic.acknowledge(), 0x30);
    pic.write(0x20, 0x60);
    pic.write(0x20, 0xc3);
    for line in [1, 3, 4] {
        pulse(&mut pic, line);
    }
    assert_eq!(pic.acknowledge(), 0x34, "set by hand: 3 is last");
}

#[test]
fn automatic_end() {
    let mut pic = ready(3);
    pulse(&mut pic, 3);
    pulse(&mut pic, 4);
    assert_eq!((pic.acknowledge(), pic.acknowledge()), (0x33, 0x34));
    assert_eq!(registers(&mut pic, 0x20), (0, 0));
    pic.write(0x20, 0x80);
    pulse(&mut pic, 3);
    pic.acknowledge();
    pulse(&mut pic, 3);
    pulse(&mut pic, 4);
    assert_eq!(pic.acknowledge(), 0x34, "rotating");
    pic.write(0x20, 0x00);
}

/// "Special Mask Mode".
#[test]
fn special_mask() {
    let mut pic = ready(1);
    pulse(&mut pic, 2);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x33);
    pulse(&mut pic, 5);
    assert!(!pic.interrupts());
    pic.write(0x20, 0x68);
    pic.write(0x21, 1 << 3);
    assert_eq!(pic.acknowledge(), 0x35);
    pic.write(0x20, END);
    assert_eq!(registers(&mut pic, 0x20).0, 1 << 3, "what is masked has to be ended by name");
    pic.write(0x20, END);
    assert_eq!(registers(&mut pic, 0x20).0, 1 << 3);
    pic.write(0x20, 0x48);
    pulse(&mut pic, 6);
    assert!(!pic.interrupts());
}

#[test]
fn polling() {
    let mut pic = ready(1);
    pulse(&mut pic, 4);
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x20), 0x84);
    assert_eq!(registers(&mut pic, 0x20), (0x10, 0));
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x21), 0, "nothing");
    assert_eq!(pic.read(0x21), 0, "once");
}

/// "Initialization Command Words".
#[test]
fn initialization() {
    let mut pic = ready(1);
    pic.set(3, true);
    pic.write(0x21, 0xff);
    pic.write(0x20, 0x12);
    assert_eq!(pic.read(0x21), 0, "the mask is cleared");
    assert!(!pic.interrupts(), "edges are forgotten");
    pic.write(0x21, 0x57);
    pic.write(0x21, 0x55);
    assert_eq!(pic.read(0x21), 0x55, "single, and without ICW4");
    pic.write(0x21, 0);
    pulse(&mut pic, 3);
    assert_eq!(pic.acknowledge(), 0x53);
}

proptest! {
    /// One step does what the data sheet says of priorities, by a model that looks at all inputs in turn.
    #[test]
    fn nothing_breaks_it(steps: [(u8, u8, u8); 60]) {
        let mut pic = Pic::new();
        for (what, place, value) in steps {
            let port = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1][usize::from(place) % 6];
            match what % 5 {
                0 | 1 => pic.write(port, value),
                2 => { pic.read(port); }
                3 => pic.set(place % 20, value & 1 != 0),
                _ => {
                    let offered = pic.interrupts();
                    let before = pic.chips[0].in_service();
                    let vector = pic.acknowledge();
                    prop_assert!(offered || vector & 7 == SPURIOUS && pic.chips[0].in_service() == before);
                }
            }
            prop_assert_eq!(pic.chips[0].level_triggered() & !ELCR_WRITABLE[0], 0);
            prop_assert_eq!(pic.chips[1].level_triggered() & !ELCR_WRITABLE[1], 0);
        }
    }

    /// Every line that was pulsed is delivered once, in the order of priority, whatever the order of the pulses.
    #[test]
    fn all_come_in_order(lines: [u8; 12]) {
        let mut pic = ready(1);
        for line in lines {
            pulse(&mut pic, line % 16);
        }
        let order = [0u8, 1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7];
        for line in order.into_iter().filter(|line| lines.iter().any(|pulsed| pulsed % 16 == *line)) {
            prop_assert!(pic.interrupts());
            prop_assert_eq!(pic.acknowledge(), 0x30 + line);
            if line >= 8 {
                pic.write(0xa0, END);
            }
            pic.write(0x20, END);
        }
        prop_assert!(!pic.interrupts());
    }
}
