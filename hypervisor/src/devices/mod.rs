//! The devices of a full guest's PC: models of chips, each in a file, each pure. They know no time but what is passed in,
//! no processor but what they return to, and no memory. What a write asks of the world is its return value; what a chip
//! has on its interrupt line can be asked at any time. [`crate::pc`] wires them together.
//!
//! Chips of 8 bits are read and written a byte at a time, as the ISA bus does it whatever the instruction's width.

pub mod ata;
pub mod cmos;
pub mod debug;
pub mod decode;
pub mod fw_cfg;
pub mod i8042;
pub mod io_apic;
pub mod local_apic;
pub mod message;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod uart;
