//! The transfer disk: a file of the host that an emulated machine has as a disk, the master of its second ATA channel.
//!
//! The toolstack writes a piece of an image into the file and says so over the line; the control domain reads it from
//! the disk, and never writes. A machine without one, as real machines are, gets its images over the line itself.

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// What the first sector begins with. Another disk is left alone.
pub const MAGIC: &[u8; 16] = b"Atoll transfer 1";
/// The most bytes that lie on the disk at a time, from its second sector on.
pub const MAX_BYTES: usize = 1 << 20;
/// Heads and sectors a track of the disk's geometry, which emulators want to be told; and its cylinders.
pub const GEOMETRY: (usize, usize, usize) = (16, 63, 3);

// Header and data fit.
const _: () = assert!(SECTOR + MAX_BYTES <= SECTOR * GEOMETRY.0 * GEOMETRY.1 * GEOMETRY.2);

/// First port of the second ATA channel.
pub const COMMAND_PORT: u16 = 0x170;
/// Its control port.
pub const CONTROL_PORT: u16 = 0x376;
