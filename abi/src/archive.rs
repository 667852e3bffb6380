//! The boot archive: one file with all that domain 0 needs, loaded as the boot module.
//!
//! It is a plain `newc` cpio archive (`cpio -itv < FILE` lists it). Its first entry is domain 0's image, so that the
//! hypervisor reads one header and no more; the rest is for domain 0 alone.

/// First entry: domain 0's ELF image.
pub const CONTROL_IMAGE: &str = "control";
/// Second entry: the machine's configuration, a [`crate::control::wire::MachineConfig`] in postcard.
pub const CONFIG: &str = "config";
/// Guest images lie under this prefix: `images/hello`.
pub const IMAGES: &str = "images/";
