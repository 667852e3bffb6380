//! A PC's firmware, from the reset vector on: the image ends where the first 4 GiB do, and the last 128 KiB of it are in the
//! last of the first MiB, too, as a board has them (Intel's 82441FX data sheet, "System Address Map"). What it finds of
//! memory and of processors it asks the board, which is the hypervisor's; so a guest with firmware gets no tables from here.

use alloc::{borrow::Cow, format, vec};

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::control::hypercall::MAX_FIRMWARE_PAGES;
use abi::control::wire::Refusal;

use super::{Facts, HIGH, Layout, Start};
use crate::control::refusal::refuse;

/// Bytes that are below 1 MiB as well.
const LOW: usize = 128 << 10;
/// The least that a firmware can be: what a processor's code segment spans after a reset.
const LEAST: u64 = 64 << 10;

/// Lays out a firmware's image: whole behind the guest's memory, from where the hypervisor moves it to its place.
pub(super) fn layout<'a>(facts: &Facts<'a>) -> Result<Layout<'a>, Refusal> {
    let image = facts.kernel;
    let bytes = image.len() as u64;
    if !bytes.is_multiple_of(PAGE_SIZE) || !(LEAST..=MAX_FIRMWARE_PAGES * PAGE_SIZE).contains(&bytes) {
        return Err(refuse(
            format!("{bytes} bytes are no firmware's size"),
            "give an image of whole pages, 64 KiB to 16 MiB, such as SeaBIOS's bios-256k.bin",
        ));
    }
    let (_, low) = image.split_at(image.len().saturating_sub(LOW));
    Ok(Layout {
        pieces: vec![
            (GuestPhys::new(facts.memory), Cow::Borrowed(image)),
            (GuestPhys::new(HIGH - low.len() as u64), Cow::Borrowed(low)),
        ],
        start: Start::Reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn facts(image: &[u8]) -> Facts<'_> {
        Facts { kernel: image, ramdisk: &[], command_line: "", memory: 16 << 20, vcpus: 1 }
    }

    #[test]
    fn it_lies_in_two_places() {
        let image: Vec<u8> = (0..256 << 10).map(|at| (at >> 12) as u8).collect();
        let layout = layout(&facts(&image)).unwrap();
        assert!(matches!(layout.start, Start::Reset));
        let [(first, whole), (second, low)] = &layout.pieces[..] else { panic!("two pieces") };
        assert_eq!((first.as_u64(), whole.len()), (16 << 20, 256 << 10));
        assert_eq!((second.as_u64(), low.len(), low[0]), (0xe_0000, 128 << 10, 32));
        let small = super::layout(&facts(&image[..64 << 10])).unwrap();
        assert_eq!(small.pieces[1].0.as_u64(), 0xf_0000);
    }

    #[test]
    fn not_every_file_is_one() {
        for bytes in [0, 4096, (64 << 10) + 1, (16 << 20) + 4096] {
            assert!(layout(&facts(&vec![0; bytes])).is_err(), "{bytes}");
        }
    }
}
