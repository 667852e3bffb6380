//! Debian's Linux, fetched and packed: the kernel of its cloud images, and file systems in memory for it.
//!
//! The kernel is Debian's own package, unpacked and otherwise untouched ([`package`]). With busybox it makes a guest
//! to try ([`guest`]); with KVM and QEMU, the Linux that the nested machine has in its middle
//! (`machine::nested`).

pub mod guest;
pub(crate) mod package;
