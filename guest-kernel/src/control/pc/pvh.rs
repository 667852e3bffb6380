//! ELF files with a PVH note, which other hypervisors start without being Xen: the start info is a boot protocol like
//! another, and what it says is a PC's memory map and where its ACPI tables are.

use alloc::{borrow::Cow, vec::Vec};

use abi::control::wire::Refusal;

use super::{Facts, Layout, flat_start};
use crate::control::image::Image;
use crate::control::start_info::{self, StartInfo};

/// Lays out such a file, or says why it is none.
pub(super) fn layout<'a>(facts: &Facts<'a>) -> Result<Layout<'a>, Refusal> {
    let image = Image::parse(facts.kernel, facts.memory)?;
    let told = start_info::Facts {
        memory: facts.memory,
        command_line: facts.command_line,
        ramdisk: facts.ramdisk.len() as u64,
        acpi: Some(facts.vcpus),
    };
    let info = StartInfo::new(&image, &told)?;
    let mut pieces: Vec<_> =
        image.segments.iter().map(|segment| (segment.address, Cow::Borrowed(segment.bytes))).collect();
    pieces.push((info.ramdisk, Cow::Borrowed(facts.ramdisk)));
    let at = info.address.as_u64() as u32;
    // The tables among them are a para guest's, and a PC's own are laid over them.
    pieces.extend(info.pieces.into_iter().map(|(address, bytes)| (address, Cow::Owned(bytes))));
    let start = flat_start(image.entry.as_u64() as u32, |registers| registers.ebx = at);
    Ok(Layout { pieces, start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    #[test]
    fn a_guest_kernel_starts_as_on_other_hypervisors() {
        let kernel = sample::elf();
        let facts = Facts { kernel: &kernel, ramdisk: &[], command_line: "a", memory: 4 << 20, vcpus: 1 };
        let layout = layout(&facts).unwrap();
        let start = layout.start.regs32();
        assert_eq!(u64::from(start.eip), sample::ENTRY);
        let info = layout.pieces.iter().find(|(at, _)| at.as_u64() == u64::from(start.ebx)).unwrap();
        assert_eq!(info.1[..4], 0x336e_c578u32.to_le_bytes());
        assert!(super::layout(&Facts { kernel: b"no kernel", ..facts }).is_err());
    }
}
