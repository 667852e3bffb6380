//! What the loader hands over: memory map, command line, boot module, ACPI root, in one form for both protocols.
//!
//! Everything is copied out, so that the loader's own memory may be given away afterwards.

use abi::address::HostPhys;
use arrayvec::{ArrayString, ArrayVec};
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};
use pvh::start_info::{
    MemmapType,
    reader::{IdentityMap, StartInfoReader},
};

/// First word of a PVH start-info structure; [`crate::entry`] passes it as magic for that protocol.
pub const PVH_MAGIC: u32 = 0x336e_c578;

/// The most regions of memory that are kept; firmware reports some twenty.
pub const MAX_REGIONS: usize = 64;

/// A range of host-physical addresses, `start` included, `end` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: HostPhys,
    /// First byte behind.
    pub end: HostPhys,
}

/// What the loader told us.
#[derive(Debug, Default)]
pub struct Handover {
    /// RAM that is free to use, as the memory map says; it includes where image and module lie.
    pub memory: ArrayVec<Range, MAX_REGIONS>,
    /// The boot archive.
    pub module: Option<Range>,
    /// The ACPI root system description pointer, in place or as the loader's copy.
    pub rsdp: Option<u64>,
    /// The command line, cut to what fits.
    pub command_line: ArrayString<256>,
}

/// What may be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Neither multiboot2's magic nor PVH's.
    UnknownLoader(u32),
    /// The information structure is damaged.
    Damaged,
}

/// Reads what the loader left at `information`.
///
/// # Safety
/// `magic` and `information` are the loader's own, memory below 4 GiB is identity-mapped, and nothing was overwritten.
pub unsafe fn read(magic: u32, information: u32) -> Result<Handover, Unusable> {
    match magic {
        multiboot2::MAGIC => {
            // SAFETY: by the caller, a multiboot2 information structure lies there.
            let info = unsafe { BootInformation::load(information as usize as *const BootInformationHeader) };
            Ok(from_multiboot2(&info.map_err(|_| Unusable::Damaged)?))
        }
        PVH_MAGIC => {
            // SAFETY: by the caller, a PVH start info lies there, all of it below 4 GiB.
            let info = unsafe { StartInfoReader::from_paddr_identity(information) };
            Ok(from_pvh(&info.ok_or(Unusable::Damaged)?))
        }
        other => Err(Unusable::UnknownLoader(other)),
    }
}

fn from_multiboot2(info: &BootInformation) -> Handover {
    let mut handover = Handover::default();
    for area in info.memory_map_tag().map(|tag| tag.memory_areas()).unwrap_or_default() {
        if area.typ() == MemoryAreaType::Available {
            handover.add_memory(area.start_address(), area.size());
        }
    }
    if let Some(module) = info.module_tags().next() {
        let (start, end) = (module.start_address().into(), module.end_address().into());
        handover.module = Some(Range { start: HostPhys::new(start), end: HostPhys::new(end) });
    }
    // The tag holds a copy of the pointer structure, behind its own 8-byte header.
    handover.rsdp = info
        .rsdp_v2_tag()
        .map(|tag| core::ptr::from_ref(tag) as u64 + 8)
        .or_else(|| info.rsdp_v1_tag().map(|tag| core::ptr::from_ref(tag) as u64 + 8));
    if let Some(line) = info.command_line_tag().and_then(|tag| tag.cmdline().ok()) {
        handover.set_command_line(line);
    }
    handover
}

fn from_pvh(info: &StartInfoReader<'_, IdentityMap>) -> Handover {
    let mut handover = Handover::default();
    for entry in info.memmap() {
        if matches!(entry.ty(), MemmapType::Ram) {
            handover.add_memory(entry.addr, entry.size);
        }
    }
    let raw = info.raw();
    if let Some(module) = info.modlist().next() {
        let start = module.raw().paddr;
        let end = start.saturating_add(module.raw().size);
        handover.module = Some(Range { start: HostPhys::new(start), end: HostPhys::new(end) });
    }
    handover.rsdp = (raw.rsdp_paddr != 0).then_some(raw.rsdp_paddr);
    if let Some(line) = info.cmdline().and_then(|line| line.to_str().ok()) {
        handover.set_command_line(line);
    }
    handover
}

impl Handover {
    fn add_memory(&mut self, start: u64, bytes: u64) {
        let end = start.saturating_add(bytes);
        let range = Range { start: HostPhys::new(start), end: HostPhys::new(end) };
        // A map with more regions than we keep costs memory, never correctness.
        let _ = self.memory.try_push(range);
    }

    fn set_command_line(&mut self, line: &str) {
        let cut = line.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end <= 256).last();
        self.command_line = ArrayString::from(&line[..cut.unwrap_or(0)]).unwrap_or_default();
    }

    /// The value of `key=value` on the command line; the empty string where it stands without a value.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.command_line.split_ascii_whitespace().find_map(|word| match word.split_once('=') {
            Some((name, value)) if name == key => Some(value),
            None if word == key => Some(""),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let mut handover = Handover::default();
        handover.set_command_line("/boot/atoll exit=debug quiet");
        assert_eq!(handover.option("exit"), Some("debug"));
        assert_eq!(handover.option("quiet"), Some(""));
        assert_eq!(handover.option("exi"), None);
    }

    #[test]
    fn a_long_command_line_is_cut_at_a_character() {
        let mut handover = Handover::default();
        let line: std::string::String = core::iter::repeat_n('é', 200).collect();
        handover.set_command_line(&line);
        assert_eq!(handover.command_line.len(), 256);
    }
}
